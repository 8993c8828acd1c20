//! Whether one test holds wherever another does: for advice on what is written twice.

use super::{Condition, Test};
use crate::workload::Claim;
use std::collections::HashSet;

/// Hexadecimal digits of a commit: of SHA-1 and of SHA-256.
const COMMIT_DIGITS: [usize; 2] = [40, 64];

/// Whether a text is a commit's, and so no name that a forge gives a branch or tag.
pub(crate) fn is_commit(text: &str) -> bool {
    COMMIT_DIGITS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Test {
    /// Whether a claim that this holds for is surely one that the other holds for. `false` says nothing.
    pub(crate) fn is_within(&self, other: &Test) -> bool {
        self.parts().iter().all(|part| other.parts().iter().any(|other| part_is_within(part, other)))
    }
}

fn part_is_within(part: &Test, other: &Test) -> bool {
    match (part, other) {
        (Test::Absent, _) | (_, Test::Absent) => part == other,
        (_, Test::Present) => true,
        (Test::Text(lang), Test::Text(wider)) => lang.is_subset(wider).unwrap_or(false),
        (Test::Repository(pairs), Test::Text(names)) => pairs.iter().all(|(name, _)| names.matches(name)),
        (Test::Repository(pairs), Test::Repository(wider)) | (Test::Owner(pairs), Test::Owner(wider)) => {
            pairs == wider || {
                let wider: HashSet<(&str, &str)> = wider.iter().map(|(name, id)| (&**name, &**id)).collect();
                pairs.iter().all(|(name, id)| wider.contains(&(&**name, &**id)) || wider.contains(&("", &**id)))
            }
        }
        _ => part == other,
    }
}

impl Condition {
    /// Whether a job that meets this one surely meets the other.
    pub(crate) fn is_within(&self, other: &Condition) -> bool {
        if self.claim == other.claim {
            return self.test.is_within(&other.test);
        }
        let prefix = match (self.claim.canonical(), other.claim.canonical()) {
            (Some(Claim::Branch), Some(Claim::Ref)) => "refs/heads/",
            (Some(Claim::Tag), Some(Claim::Ref)) => "refs/tags/",
            _ => return false,
        };
        let full = |part: &Test| match part {
            Test::Text(lang) => lang.after(prefix).is_ok_and(|refs| Test::Text(refs).is_within(&other.test)),
            _ => false,
        };
        self.test.parts().iter().all(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture::*,
        lang::pattern::{Lang, Segments},
    };
    use Claim as C;

    fn glob(claim: C, pattern: &str) -> Condition {
        condition(claim, Test::Text(Lang::glob(pattern, Segments::Path, false).unwrap()))
    }

    #[test]
    fn what_is_within_what() {
        let main = text(C::Branch, &["main"]);
        let any = condition(C::Branch, Test::Any([main.test.clone(), Test::Absent].into()));
        for (narrow, wide, within) in [
            (main.clone(), text(C::Branch, &["main", "dev"]), true),
            (text(C::Branch, &["main", "dev"]), main.clone(), false),
            (text(C::Branch, &["rel/1"]), glob(C::Branch, "rel/*"), true),
            (text(C::Branch, &["rel/1/2"]), glob(C::Branch, "rel/*"), false),
            (glob(C::Branch, "rel/{num}"), glob(C::Branch, "rel/**"), true),
            (main.clone(), condition(C::Branch, Test::Present), true),
            (condition(C::Branch, Test::Absent), condition(C::Branch, Test::Present), false),
            (main.clone(), any.clone(), true),
            (any, main.clone(), false),
            (main.clone(), glob(C::Ref, "refs/heads/**"), true),
            (text(C::Tag, &["v1"]), glob(C::Ref, "refs/heads/**"), false),
            (main.clone(), text(C::Environment, &["main"]), false),
            (repositories(&[("acme/a", "1")]), repositories(&[("acme/a", "1"), ("acme/b", "2")]), true),
            (repositories(&[("acme/a", "1")]), repositories(&[("acme/b", "1")]), false),
            (repositories(&[("acme/a", "1")]), repositories(&[("", "1")]), true),
            (repositories(&[("acme/a", "1")]), glob(C::Repository, "acme/*"), true),
            (repositories(&[("acme/a", "1")]), glob(C::Repository, "other/*"), false),
        ] {
            assert_eq!(narrow.is_within(&wide), within, "{narrow:?} in {wide:?}");
        }
    }

    #[test]
    fn a_commit_is_forty_or_sixty_four_hexadecimal_digits() {
        assert!(is_commit(&"a1".repeat(20)) && is_commit(&"0F".repeat(32)));
        assert!(!is_commit("main") && !is_commit(&"g".repeat(40)) && !is_commit(&"a".repeat(39)));
    }
}
