//! Alternatives of one mapping that change nothing, because another one of it holds all their jobs.

use crate::{
    diag::Diagnostic,
    mapping::{Condition, Mapping, MappingSet, Origin, codes},
};

pub(super) fn within_each_other(set: &MappingSet, found: &mut Vec<Diagnostic>) {
    let same = |a: &Mapping, b: &Mapping| a.alternative.is_some() && b.alternative.is_some() && a.name == b.name;
    for alternatives in set.mappings.chunk_by(same).filter(|alternatives| alternatives.len() > 1) {
        let told: Vec<Vec<&Condition>> = alternatives.iter().map(own).collect();
        for (at, own) in told.iter().enumerate() {
            // Of two that say the same, the later one is too much.
            let holds = |other: &usize| {
                *other != at && holds(&told[*other], own) && (*other < at || !holds(own, &told[*other]))
            };
            let Some(wider) = (0..told.len()).find(holds) else { continue };
            let (mapping, other) = (&alternatives[at], &alternatives[wider]);
            let place = |conditions: &[&Condition], mapping: &Mapping| {
                let written = conditions.iter().find(|condition| condition.origin == Origin::Any);
                written.map_or_else(|| mapping.span.clone(), |condition| condition.span.clone())
            };
            let number = |mapping: &Mapping| mapping.alternative.unwrap_or_default();
            let message = format!(
                "alternative {} of mapping `{}` changes nothing: alternative {} holds all of its jobs",
                number(mapping),
                mapping.name,
                number(other)
            );
            let help = "remove it; or narrow the wider one, if this one is what was meant";
            let finding = Diagnostic::error(codes::ALTERNATIVE_WITHIN, place(own, mapping), message, help);
            found.push(finding.and(place(&told[wider], other), "the wider one").warning());
        }
    }
}

/// What an alternative does not share with the others.
fn own(mapping: &Mapping) -> Vec<&Condition> {
    let own = [Origin::Any, Origin::DefaultEvents];
    mapping.conditions.iter().filter(|condition| own.contains(&condition.origin)).collect()
}

/// Whether every job of the one is a job of the other.
fn holds(wider: &[&Condition], narrower: &[&Condition]) -> bool {
    wider.iter().all(|wide| narrower.iter().any(|narrow| narrow.is_within(wide)))
}
