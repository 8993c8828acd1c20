//! Recorded jobs before another folder, and what a folder lets through: pure; records come in as what they hold.
//!
//! A record keeps a token's claims, so the rules of any folder can be asked about it again. What is not asked again is
//! what was true of the token then (its signature, times, audience, single use) and of the state (limits that are used up).

use super::{Given, GivenError};
use crate::{
    claims::Claims,
    delegation::{DelegationError, chain, onward, promised},
    mapping::{Ask, Condition, Decision, Deny, MappingId, MappingSet, RoleId, Test, decide, explain},
    reason::Reason,
    time::UnixSeconds,
    workload::{Case, Claim, Profiles, Workload, WorkloadError},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What a folder says of a recorded job.
#[derive(Clone, PartialEq, Debug)]
pub enum Told {
    /// The mappings were asked.
    Judged { case: Case<'static>, decision: Decision },
    /// Refused before any mapping is looked at: no issuer of the folder has the token's `iss`, or no job of ours is like
    /// this.
    Unheard(Reason),
}

/// What a record's details call the claims of the token of who acted.
pub const ACTOR_CLAIMS: &str = "actor_claims";
/// What a record's details call the token of ours that came in place of the job's: its `audience` and its `act`.
pub const DOWNSTREAM: &str = "downstream";
/// What a record's details call whom a handoff is for: `iss` and `sub`.
pub const HANDOFF: &str = "handoff";

/// Asks a folder about the claims that a record's details hold, as of a time. Issuers are the same where their URL is.
///
/// # Errors
/// What was recorded are no claims.
pub fn ask_again(
    set: &MappingSet,
    profiles: &Profiles,
    details: &Value,
    ask: &Ask<'_>,
    at: UnixSeconds,
) -> Result<Told, GivenError> {
    let case = match recorded(set, profiles, details)? {
        Ok(case) => case,
        Err(reason) => return Ok(Told::Unheard(reason)),
    };
    let decision = decide(set, &case, ask, at);
    Ok(Told::Judged { case, decision })
}

fn recorded(
    set: &MappingSet,
    profiles: &Profiles,
    details: &Value,
) -> Result<Result<Case<'static>, Reason>, GivenError> {
    let workload = |claims: &Value| -> Result<Result<_, Reason>, GivenError> {
        let known = set.issuers.iter().find(|issuer| claims["iss"].as_str() == Some(&issuer.url));
        let Some((id, issuer)) = known.and_then(|issuer| set.issuer_named(&issuer.name)) else {
            return Ok(Err(Reason::IssuerUnknown));
        };
        match Given::Claims(claims.clone()).workload(set, profiles, id) {
            Ok(workload) => Ok(Ok((issuer, workload))),
            Err(GivenError::Refused(error)) => Ok(Err(WorkloadError::reason(&error))),
            Err(error) => Err(error),
        }
    };
    let (issuer, principal) = match workload(&details["claims"])? {
        Ok(found) => found,
        Err(reason) => return Ok(Err(reason)),
    };
    let actor = match details.get(ACTOR_CLAIMS) {
        None => None,
        Some(claims) => match workload(claims)? {
            Ok((_, actor)) => Some(actor),
            Err(reason) => return Ok(Err(reason)),
        },
    };
    let chained = chained(principal, actor, details, issuer.trusts_act, |url| set.issuer_at(url));
    Ok(chained.map_err(|error| error.reason()))
}

/// The case of a record, of its principal and of who brought the actor token: as the details say, by the job's own token, by
/// one of ours ([`DOWNSTREAM`]), or for a handoff ([`HANDOFF`]).
///
/// # Errors
/// The chain is none that a case may have.
pub fn chained(
    principal: Workload<'static>,
    actor: Option<Workload<'static>>,
    details: &Value,
    trusts_act: bool,
    name_of: impl Fn(&str) -> Option<String>,
) -> Result<Case<'static>, DelegationError> {
    if let Some(downstream) = details.get(DOWNSTREAM) {
        let text = json!({ "act": downstream["act"] }).to_string();
        let token = Claims::parse(text.as_bytes()).unwrap_or_default();
        let act = token.get("act").filter(|_| !downstream["act"].is_null());
        let audience = downstream["audience"].as_str().unwrap_or_default().to_owned();
        return onward(principal, act, actor, audience, name_of);
    }
    match details.get(HANDOFF) {
        Some(may_act) => {
            let text = |name: &str| may_act[name].as_str().unwrap_or_default();
            promised(principal, (text("iss"), text("sub")), trusts_act, name_of)
        }
        None => chain(principal, actor, trusts_act, name_of),
    }
}

/// A condition that keeps a mapping from giving the role.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Miss {
    pub claim: String,
    pub expected: String,
    pub got: String,
}

/// The conditions of the nearest mapping that fail, in the order of the sources: for whom it is refused.
pub fn misses(set: &MappingSet, case: &Case<'_>, ask: &Ask<'_>, at: UnixSeconds) -> Vec<Miss> {
    let (_, trace) = explain(set, case, ask, at);
    let nearest = trace.mappings.into_iter().next();
    let conditions = nearest.into_iter().flat_map(|report| report.conditions).filter(|condition| !condition.held);
    let told = conditions.map(|condition| Miss {
        got: match condition.got {
            crate::mapping::Got::Value(value) => format!("`{value}`"),
            crate::mapping::Got::None => "none".to_owned(),
            crate::mapping::Got::Unknown => "unknown".to_owned(),
        },
        claim: condition.claim,
        expected: condition.expected,
    });
    told.collect()
}

/// The repositories that a mapping pins, pairs of name and id of which one may be empty; `None` where it pins none.
/// Several conditions on them leave those that all of them list.
pub fn repositories(conditions: &[Condition]) -> Option<BTreeSet<(String, String)>> {
    let pinned = conditions.iter().filter_map(|condition| {
        let of = |test: &Test| match test {
            Test::Text(lang) if condition.claim == Claim::RepositoryId => {
                Some(lang.members()?.map(|id| (String::new(), id.to_owned())).collect())
            }
            test => Some(test.repositories()?.to_vec()),
        };
        let parts: Option<Vec<Vec<_>>> = condition.test.parts().iter().map(of).collect();
        Some(parts?.into_iter().flatten().collect::<BTreeSet<_>>())
    });
    pinned.reduce(|all, one| all.into_iter().filter(|(_, id)| one.iter().any(|(_, other)| other == id)).collect())
}

/// A condition in words, without a job beside it; what pins repositories is told by [`repositories`].
pub fn words(condition: &Condition) -> String {
    let pairs = |pairs: &[(String, String)]| {
        let told = pairs.iter().map(|(name, id)| if name.is_empty() { id.clone() } else { format!("`{name}` ({id})") });
        told.collect::<Vec<_>>().join(" or ")
    };
    let of = |test: &Test| match test {
        Test::Is(value) => value.to_string(),
        Test::Present => "present".to_owned(),
        Test::Absent => "absent".to_owned(),
        Test::SameRepository => "the job's own repository".to_owned(),
        Test::Text(lang) => lang.describe(),
        Test::Every(lang) => format!("every element {}", lang.describe()),
        Test::Integer(numbers) => numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "),
        Test::Repository(all) | Test::Owner(all) => pairs(all),
        Test::ById(pair) => format!("{} whatever its name", pairs(pair)),
        Test::Any(_) => "any".to_owned(),
    };
    condition.test.parts().iter().map(of).collect::<Vec<_>>().join(" or ")
}

/// Whether some job of the repository may meet these conditions, as far as they speak of repository and owner. `asked`
/// is a name (`OWNER/NAME`) or an immutable id: what it does not tell may be anything. One that has been renamed since is
/// found by its id, and by the name that the mapping writes.
pub fn concerns<'c>(conditions: impl IntoIterator<Item = &'c Condition>, asked: &str, folds: bool) -> bool {
    let same = |own: &str| if folds { own.eq_ignore_ascii_case(asked) } else { own == asked };
    let owner = asked.rsplit_once('/').map(|(owner, _)| owner);
    let same_owner =
        |own: &str| owner.is_none_or(|owner| if folds { own.eq_ignore_ascii_case(owner) } else { own == owner });
    conditions.into_iter().all(|condition| {
        let holds = |test: &Test| match (test, condition.claim.canonical()) {
            (Test::Repository(pairs), _) => {
                pairs.iter().any(|(name, id)| id == asked || same(name) || (name.is_empty() && owner.is_some()))
            }
            (Test::Owner(pairs), _) => pairs.iter().any(|(name, _)| same_owner(name)),
            (Test::ById(pairs), _) => pairs.iter().any(|(name, id)| id == asked || same(name)),
            (Test::Text(lang), Some(Claim::Repository)) => owner.is_none() || lang.matches(asked),
            (Test::Text(lang), Some(Claim::RepositoryId)) => owner.is_some() || lang.matches(asked),
            (Test::Text(lang), Some(Claim::RepositoryOwner)) => owner.is_none_or(|owner| lang.matches(owner)),
            _ => true,
        };
        condition.test.parts().iter().any(holds)
    })
}

/// The denies about a role and an issuer's jobs.
pub fn denies(set: &MappingSet, mapping: MappingId, role: RoleId) -> impl Iterator<Item = &Deny> {
    let issuer = set.mapping(mapping).issuer;
    let about = move |deny: &&Deny| {
        (deny.issuers.is_empty() || deny.issuers.contains(&issuer)) && deny.roles.binary_search(&role).is_ok()
    };
    set.denies.iter().filter(about)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture::*, lang::pattern::Lang};
    use serde_json::json;

    fn pin() -> Condition {
        repositories_test(&[("acme/api", "1")])
    }
    fn repositories_test(pairs: &[(&str, &str)]) -> Condition {
        crate::fixture::repositories(pairs)
    }

    #[test]
    fn a_token_of_no_issuer_or_of_a_stranger_is_not_heard() {
        let mut set = Builder::new().mapping("m", "r", [pin()]).build();
        set.issuers[0].profile = "github-actions".to_owned();
        let ask = |claims: Value| {
            ask_again(&set, &Profiles::builtin(), &json!({ "claims": claims }), &Ask::default(), UnixSeconds(0))
        };
        for claims in [json!({}), json!({ "iss": "https://else.example" }), json!({ "iss": 7 }), Value::Null] {
            assert_eq!(ask(claims), Ok(Told::Unheard(Reason::IssuerUnknown)));
        }
        let url = &set.issuers[0].url;
        let mut job = json!({
            "iss": url, "sub": "repo:acme/api:ref:refs/heads/main", "repository": "acme/api", "repository_id": "1",
            "repository_owner": "acme", "repository_owner_id": "65", "ref": "refs/heads/main", "ref_type": "branch",
            "event_name": "push",
        });
        match ask(job.clone()) {
            Ok(Told::Judged { decision: Decision::Grant(grant), .. }) => {
                assert_eq!(set.mapping(grant.mapping).name, "m")
            }
            other => panic!("{other:?}"),
        }
        job["repository_owner_id"] = "66".into();
        assert_eq!(ask(job.clone()), Ok(Told::Unheard(Reason::Stranger)));
        job["ref_type"] = "tag".into();
        assert_eq!(ask(job), Ok(Told::Unheard(Reason::ClaimsInconsistent)));
    }

    #[test]
    fn what_fails_is_told_of_the_nearest() {
        let set = Builder::new()
            .mapping("m", "r", [pin(), text(Claim::Branch, &["x"]), text(Claim::Environment, &["e"])])
            .mapping("far", "r", [repositories_test(&[("acme/web", "2")])])
            .build();
        let told = misses(&set, &push(&[]), &Ask { role: Some("r"), ..Ask::default() }, UnixSeconds(0));
        let told: Vec<_> = told.iter().map(|miss| (&*miss.claim, &*miss.expected, &*miss.got)).collect();
        assert_eq!(told, [("branch", "`x`", "`main`"), ("environment", "`e`", "unknown")]);
    }

    #[test]
    fn pinned_repositories_are_those_of_every_condition() {
        let pairs = |conditions: &[Condition]| {
            super::repositories(conditions).map(|all| all.into_iter().map(|(_, id)| id).collect::<Vec<_>>())
        };
        let two = || repositories_test(&[("acme/api", "1"), ("acme/web", "2")]);
        assert_eq!(pairs(&[text(Claim::Branch, &["x"])]), None);
        assert_eq!(pairs(&[two()]), Some(vec!["1".to_owned(), "2".to_owned()]));
        assert_eq!(pairs(&[two(), text(Claim::RepositoryId, &["2", "3"])]), Some(vec!["2".to_owned()]));
        let mixed = Test::Any([two().test, Test::Present].into());
        assert_eq!(pairs(&[condition(Claim::Repository, mixed)]), None);
    }

    #[test]
    fn a_repository_is_concerned_unless_a_condition_rules_it_out() {
        let owner = || {
            condition(Claim::RepositoryOwner, Test::Owner([("acme".to_owned(), "65".to_owned())].into_iter().collect()))
        };
        let under = || condition(Claim::Repository, Test::Text(Lang::under("acme", false).unwrap()));
        for (conditions, asked, expected) in [
            (vec![pin()], "acme/api", true),
            (vec![pin()], "Acme/API", true),
            (vec![pin()], "1", true),
            (vec![pin()], "2", false),
            (vec![pin()], "acme/web", false),
            (vec![owner()], "acme/web", true),
            (vec![owner()], "else/web", false),
            (vec![owner()], "2", true),
            (vec![under()], "acme/web", true),
            (vec![under()], "else/web", false),
            (vec![text(Claim::RepositoryId, &["1"])], "2", false),
            (vec![text(Claim::RepositoryId, &["1"])], "acme/web", true),
            (vec![text(Claim::Branch, &["x"])], "acme/web", true),
        ] {
            assert_eq!(concerns(&conditions, asked, true), expected, "{asked}: {conditions:?}");
        }
        assert!(!concerns(&[pin()], "Acme/API", false));
    }

    #[test]
    fn conditions_stand_in_words() {
        for (test, expected) in [
            (Test::Is(true), "true"),
            (Test::Present, "present"),
            (Test::SameRepository, "the job's own repository"),
            (pin().test, "`acme/api` (1)"),
            (Test::Any([Test::Is(false), Test::Absent].into()), "false or absent"),
        ] {
            assert_eq!(words(&condition(Claim::Branch, test)), expected);
        }
    }
}
