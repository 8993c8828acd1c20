use super::*;
use crate::{
    fixture::*,
    mapping::{Decision, decide},
};
use Claim as C;

pub(crate) fn rule() -> CeremonyRule {
    CeremonyRule {
        when: When::FirstUse,
        remember: None,
        claim_within: Seconds(600),
        valid_for: Seconds(86_400),
        approvers: vec!["okta:group:leads".parse().unwrap()],
        approvers_from: None,
        quorum: 1,
        allow_self: false,
        span: span("teams/a/deploy.toml", 5),
    }
}

fn set(change: impl FnOnce(&mut CeremonyRule)) -> MappingSet {
    let mut rule = rule();
    change(&mut rule);
    let pin = repositories(&[("acme/api", "1")]);
    let built = Builder::new().mapping("m", "r", [pin, text(C::Branch, &["main", "next"]), events()]);
    built.with(|mapping| mapping.ceremony = Some(rule.into())).build()
}

fn given(set: &MappingSet, case: &Case<'_>) -> Grant {
    match decide(set, case, &Ask { role: Some("r"), ..Ask::default() }, UnixSeconds(0)) {
        Decision::Pending(grant) => grant,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_first_use_is_remembered_by_what_is_matched() {
    let set = set(|_| {});
    let key = |case: &Case<'_>| set.first_use_key(&given(&set, case), case, "1");
    let main = push(&[(C::RunId, "7"), (C::Sha, "aa"), (C::RunAttempt, "1")]);
    assert_eq!(set.remembered(&given(&set, &main), &main.principal), [("branch".to_owned(), "main".to_owned())]);
    let later = push(&[(C::RunId, "8"), (C::Sha, "bb"), (C::RunAttempt, "2"), (C::EventName, "schedule")]);
    assert_eq!(key(&main), key(&later), "another run of it");
    let renamed = push(&[(C::RepositoryOwner, "acme-inc")]);
    assert_eq!(key(&main), key(&renamed), "an owner's name is no id");
    let next = push(&[(C::Branch, "next"), (C::Ref, "refs/heads/next")]);
    assert_ne!(key(&main), key(&next));
    assert_ne!(key(&main), key(&push(&[(C::RepositoryOwnerId, "66")])));
    assert_ne!(set.first_use_key(&given(&set, &main), &main, "2"), key(&main));
}

#[test]
fn what_is_to_be_remembered_is_what_is_named() {
    let set = set(|rule| rule.remember = Some(vec![C::Environment.into()]));
    let key = |case: &Case<'_>| set.first_use_key(&given(&set, case), case, "1");
    let next = push(&[(C::Branch, "next"), (C::Ref, "refs/heads/next")]);
    assert_eq!(key(&push(&[])), key(&next));
    assert_ne!(key(&push(&[])), key(&push(&[(C::Environment, "production")])));
}

#[test]
fn a_job_is_no_other_job() {
    let ask = Ask { role: Some("r"), ..Ask::default() };
    let base = [(C::RunId, "7"), (C::RunAttempt, "1"), (C::JobId, "3"), (C::Sha, "aa"), (C::Environment, "production")];
    let mine = job_digest(&push(&base), "1", &ask);
    assert_eq!(mine, job_digest(&push(&base), "1", &ask));
    for (claim, value) in [
        (C::RunId, "8"),
        (C::RunAttempt, "2"),
        (C::JobId, "4"),
        (C::Sha, "bb"),
        (C::Environment, "staging"),
        (C::Ref, "refs/heads/next"),
        (C::JobWorkflowRef, "refs/heads/main"),
        (C::WorkflowFile, "x.yml"),
        (C::InitiatorId, "9"),
        (C::RepositoryId, "2"),
    ] {
        let other = push(&[&base[..], &[(claim, value)]].concat());
        assert_ne!(mine, job_digest(&other, "1", &ask), "{}", claim.name());
    }
    assert_ne!(mine, job_digest(&push(&base), "2", &ask));
    for other in [
        Ask { role: None, ..ask },
        Ask { duration: Some(Seconds(60)), ..ask },
        Ask { scope: Some("a"), ..ask },
        Ask { scope: Some(""), ..ask },
    ] {
        assert_ne!(mine, job_digest(&push(&base), "1", &other), "{other:?}");
    }
    let acted = Case { actors: vec![push(&[]).principal], ..push(&base) };
    assert_ne!(mine, job_digest(&acted, "1", &ask));
}

#[test]
fn a_rule_is_another_with_whatever_it_says() {
    let digests = |set: &MappingSet| {
        let (mapping, role) = (MappingId(0), RoleId(0));
        (set.rule_digest(mapping, role), set.terms_digest(mapping, role))
    };
    let base = digests(&set(|_| {}));
    assert_eq!(base, digests(&set(|rule| rule.span = span("elsewhere.toml", 1))), "places are nothing");
    for terms in [
        set(|rule| rule.quorum = 2),
        set(|rule| rule.allow_self = true),
        set(|rule| rule.approvers.push("okta:sub:1".parse().unwrap())),
        set(|rule| rule.valid_for = Seconds(1)),
        set(|rule| rule.remember = Some(vec![C::Branch.into()])),
    ] {
        let other = digests(&terms);
        assert!(other.0 != base.0 && other.1 != base.1);
    }
    let mut narrower = set(|_| {});
    narrower.mappings[0].conditions.push(text(C::Environment, &["production"]));
    let other = digests(&narrower);
    assert!(other.0 != base.0 && other.1 == base.1, "the terms are the same");
    let mut policy = set(|_| {});
    policy.roles[0].parameters.values.insert("session_policy".into(), ("policies/a.json".into(), span("r", 0)));
    let named = digests(&policy);
    policy.policies.insert("policies/a.json".into(), "{}".into());
    assert!(named != base && digests(&policy) != named, "what a policy says counts, not its name");
    let mut floor = set(|_| {});
    floor.ceremony_floors.insert("internal".into(), CeremonyFloor { approvers: vec![], quorum: 3 });
    assert_ne!(digests(&floor).1, base.1);
    assert_eq!(floor.ceremony(MappingId(0), RoleId(0)).unwrap().quorum(), 3);
}

#[test]
fn who_started_it() {
    let of = |claims: &[(C, &str)]| starter(&push(claims).principal).proves_nobody;
    let person = [(C::InitiatorId, "5"), (C::Initiator, "ada"), (C::RunAttempt, "1")];
    assert!(!of(&person));
    assert!(of(&[]), "nobody is named");
    assert!(of(&[&person[..], &[(C::RunAttempt, "2")]].concat()));
    for bot in ["dependabot[bot]", "project_12_bot_ab12", "group_3_bot"] {
        assert!(of(&[&person[..], &[(C::Initiator, bot)]].concat()), "{bot}");
    }
    for name in ["robot", "project_bot", "project_x_bot", "bot"] {
        assert!(!of(&[&person[..], &[(C::Initiator, name)]].concat()), "{name}");
    }
}
