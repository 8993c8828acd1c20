//! What is different from what people claimed last about the same.

use crate::broker::Before;
use claimbound_core::ceremony::Shown;

/// The differences, a sentence each; not what they mean.
pub fn changes(before: &Before, now: &Shown) -> Vec<String> {
    let then = &before.shown;
    let none = || "none".to_owned();
    let list = |pairs: &[(String, String)]| {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name} {value}")).collect();
        if pairs.is_empty() { none() } else { pairs.join(", ") }
    };
    let seconds = |seconds: Option<u32>| seconds.map_or_else(none, |seconds| format!("{seconds} seconds"));
    let pairs = [
        ("The role", then.role.clone(), now.role.clone()),
        ("The role's description", then.description.clone(), now.description.clone()),
        ("The sensitivity", then.sensitivity.clone(), now.sensitivity.clone()),
        ("The target", then.target.clone().unwrap_or_else(none), now.target.clone().unwrap_or_else(none)),
        ("The mapping", then.mapping.clone(), now.mapping.clone()),
        ("The team", then.team.clone(), now.team.clone()),
        ("The credential's life", seconds(Some(then.duration)), seconds(Some(now.duration))),
        ("The scope", then.scope.clone().unwrap_or_else(none), now.scope.clone().unwrap_or_else(none)),
        ("What is remembered", list(&then.remembered), list(&now.remembered)),
        ("How long a claim stands", seconds(then.valid_for), seconds(now.valid_for)),
    ];
    let mut told: Vec<String> = pairs
        .into_iter()
        .filter(|(_, then, now)| then != now)
        .map(|(what, then, now)| format!("{what} was {then}, and is {now}."))
        .collect();
    if told.is_empty() {
        told.push(
            match before.other_rule {
                true => "Nothing that this page shows. The rule's conditions, its approvers or what stands behind the role are others: ask the team, or look at the folder's history.",
                false => "Nothing: the rule is the same.",
            }
            .to_owned(),
        );
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use claimbound_core::{ceremony::ShownParty, time::UnixSeconds};

    #[test]
    fn what_differs_is_said_and_what_cannot_be_seen_too() {
        let shown = Shown {
            role: "live".into(),
            description: "Deploys".into(),
            sensitivity: "production".into(),
            target: None,
            mapping: "m".into(),
            team: "payments".into(),
            contact: None,
            duration: 900,
            scope: None,
            principal: ShownParty { issuer: "github".into(), id: "7".into(), name: "acme/api".into() },
            actors: vec![],
            claims: vec![],
            remembered: vec![("repository_id".into(), "7".into())],
            valid_for: Some(3600),
            any_job_of_run: false,
            mappings_version: "00".into(),
        };
        let before = |other_rule| Before { at: UnixSeconds(1), claims: vec![], shown: shown.clone(), other_rule };
        assert_eq!(changes(&before(false), &shown), ["Nothing: the rule is the same."]);
        assert!(changes(&before(true), &shown)[0].starts_with("Nothing that this page shows."));
        let now = Shown { duration: 3600, target: Some("aws".into()), remembered: vec![], ..shown.clone() };
        assert_eq!(
            changes(&before(true), &now),
            [
                "The target was none, and is aws.",
                "The credential's life was 900 seconds, and is 3600 seconds.",
                "What is remembered was repository_id 7, and is none.",
            ]
        );
    }
}
