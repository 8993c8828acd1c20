//! Equal changes told once, with all roles and repositories that they concern.

use super::{Change, EXAMPLES_MAX, Example, Kind, Shape, Term, Unsure, group::Found};
use std::collections::{BTreeMap, BTreeSet};

type Repositories = BTreeSet<(String, String)>;

/// What makes two changes equal, beside role and repository.
type Alike = (Kind, String, Vec<Term>, Vec<Shape>);

/// What is told together.
#[derive(Default)]
struct Many {
    repositories: Repositories,
    mappings: [BTreeSet<String>; 2],
    examples: Vec<Example>,
}

#[derive(Default)]
pub(super) struct Fold {
    /// Changes of one role.
    changes: BTreeMap<(Alike, bool, String), Many>,
    /// By issuer and reason: roles and mappings.
    undecided: BTreeMap<(String, String), [BTreeSet<String>; 2]>,
}

impl Fold {
    pub(super) fn add(&mut self, issuer: &str, found: Found) {
        let alike = (found.kind, issuer.to_owned(), found.terms, found.shapes);
        let many = self.changes.entry((alike, found.repository.is_some(), found.role)).or_default();
        many.repositories.extend(found.repository);
        for (names, name) in many.mappings.iter_mut().zip(found.mappings) {
            names.extend(name);
        }
        if many.examples.len() < EXAMPLES_MAX {
            many.examples.push(found.example);
        }
    }

    pub(super) fn undecided(&mut self, issuer: &str, role: &str, mapping: Option<String>, why: String) {
        let [roles, mappings] = self.undecided.entry((issuer.to_owned(), why)).or_default();
        roles.insert(role.to_owned());
        mappings.extend(mapping);
    }

    pub(super) fn finish(self) -> (Vec<Change>, Vec<Unsure>) {
        // Roles meet only where they concern the same repositories, so that each role goes with each repository.
        let mut met: BTreeMap<(Alike, Repositories), (Vec<String>, Many)> = BTreeMap::new();
        for ((alike, _, role), many) in self.changes {
            let (roles, all) = met.entry((alike, many.repositories)).or_default();
            roles.push(role);
            for (names, more) in all.mappings.iter_mut().zip(many.mappings) {
                names.extend(more);
            }
            let room = EXAMPLES_MAX.saturating_sub(all.examples.len());
            all.examples.extend(many.examples.into_iter().take(room));
        }
        let changes = met.into_iter().map(|(((kind, issuer, terms, jobs), repositories), (roles, many))| Change {
            kind,
            issuer,
            roles,
            repositories: repositories.into_iter().collect(),
            jobs,
            mappings: many.mappings.map(|names| names.into_iter().collect()),
            terms,
            examples: many.examples,
        });
        let undecided = self.undecided.into_iter().map(|((issuer, why), [roles, mappings])| Unsure {
            issuer,
            roles: roles.into_iter().collect(),
            mappings: mappings.into_iter().collect(),
            why,
        });
        (changes.collect(), undecided.collect())
    }
}
