//! Where a role's `require` takes jobs that the mapping's own words promise it to.

use super::{Bound, reach::make_own};
use crate::{
    diag::Diagnostic,
    mapping::{Condition, IssuerId, RoleId, Test, codes},
    review::{
        Job, World,
        alike::Alike,
        boxes::{self, Undecided},
        overlap::example,
    },
    workload::{Claim, ClaimKey},
};
use std::collections::HashMap;

type Question = (IssuerId, RoleId, Vec<(ClaimKey, Test)>);

/// What was found for conditions that read the same.
#[derive(Default)]
pub(super) struct Cuts {
    known: HashMap<Question, Option<Job>>,
}

impl Cuts {
    pub(super) fn lint(&mut self, bound: &Bound<'_>, world: &World<'_>, found: &mut Vec<Diagnostic>) {
        for (role, named) in bound.roles() {
            let required = bound.set.required(role, bound.mapping.issuer);
            // A `require` on what the mapping does not mention is a rule for everybody.
            let crossing = |asked: &&Condition| required.iter().any(|required| crosses(asked, required));
            let Some(asked) = bound.mapping.conditions.iter().find(crossing) else { continue };
            let Alike { conditions, key } = Alike::of(world, bound.mapping.conditions.iter(), required);
            let key = (bound.mapping.issuer, role, key);
            let judge = || witness(world, &conditions, required).unwrap_or_default();
            let Some(mut witness) = self.known.entry(key).or_insert_with(judge).clone() else { continue };
            make_own(&mut witness, &conditions);
            let message = format!(
                "`require` of role `{}` refuses some jobs of mapping {}, for example {}",
                named.name,
                bound.name(),
                example(&witness)
            );
            let help = "nothing, if that is meant; else narrow the mapping so that it says so itself";
            let mut finding = Diagnostic::error(codes::CUT_BY_REQUIRE, asked.span.clone(), message, help);
            if let Some(required) = required.iter().find(|required| crosses(asked, required)) {
                finding = finding.and(required.span.clone(), "what the role requires");
            }
            found.push(finding.note());
        }
    }
}

/// Whether both speak of one thing, and the mapping lets more through.
fn crosses(asked: &Condition, required: &Condition) -> bool {
    use Claim as C;
    const OF_REFS: [Claim; 4] = [C::Branch, C::Tag, C::Ref, C::RefType];
    match (&asked.test, &required.test) {
        (Test::Repository(pairs), Test::Owner(owners)) => !pairs.iter().all(|(name, _)| {
            let owner = name.rsplit_once('/').map(|(owner, _)| owner);
            owner.is_some_and(|owner| owners.iter().any(|(listed, _)| listed.eq_ignore_ascii_case(owner)))
        }),
        _ if asked.claim == required.claim => !asked.is_within(required),
        _ => asked.claim.is_one_of(&OF_REFS) && required.claim.is_one_of(&OF_REFS) && !asked.is_within(required),
    }
}

/// A job that the mapping lets through and `require` does not. None where `require` refuses them all: then the mapping
/// gives the role to nobody, which is told by itself.
fn witness(world: &World<'_>, asked: &[Condition], required: &[Condition]) -> Result<Option<Job>, Undecided> {
    let (granted, required) = (world.granted(asked)?, world.granted(required)?);
    if world.first_witness(&boxes::meet(&granted, &required)?)?.is_none() {
        return Ok(None);
    }
    world.first_witness(&boxes::subtract(granted, &required)?)
}
