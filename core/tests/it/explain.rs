//! Traces of the sample folder: what an operator reads, and what a job may be told.

use crate::decide::{job, set};
use claimbound_core::{
    mapping::{Ask, Got, MappingReport, MappingSet, explain},
    reason::Reason,
    time::UnixSeconds,
    workload::Claim,
};

fn nearest(set: &MappingSet, changes: &[(Claim, &str)]) -> MappingReport {
    let ask = Ask { role: Some("payments-deploy.production"), ..Ask::default() };
    explain(set, &job(changes), &ask, UnixSeconds(0)).1.mappings.remove(0)
}

#[test]
fn a_missing_branch_is_an_edit_away() {
    let set = set();
    let report = nearest(&set, &[(Claim::Branch, "release")]);
    assert!(report.pins_caller);
    assert_eq!(report.failed(), ["branch"].into());
    let edit = report.edit.expect("near enough");
    assert_eq!(edit, "in `teams/payments/deploy.toml` write `branch = [\"main\", \"release\"]`");
}

#[test]
fn a_renamed_repository_is_shown_its_new_line() {
    let set = set();
    let report = nearest(&set, &[(Claim::Repository, "acme/payments-core")]);
    assert_eq!((report.miss, report.pins_caller), (Some(Reason::Renamed), true));
    assert!(report.edit.is_some_and(|edit| edit.contains("{ name = \"acme/payments-core\", id = 740000001 },")));
    let failed = report.conditions.iter().find(|one| !one.held).expect("one failed");
    assert_eq!(failed.expected, "`acme/payments-api` (id 740000001) or another");
    assert_eq!(failed.got, Got::Value("acme/payments-core (id 740000001)".to_owned()));
    assert!(!failed.private);
}

#[test]
fn a_squatter_learns_nothing() {
    let set = set();
    let report = nearest(&set, &[(Claim::RepositoryId, "9")]);
    assert_eq!((report.miss, report.pins_caller), (Some(Reason::IdMismatch), false));
    let failed = report.conditions.iter().find(|one| !one.held).expect("one failed");
    assert!(failed.private, "the text holds the ids of others");
}

#[test]
fn the_trace_as_json() {
    let set = set();
    let ask = Ask { role: Some("payments-deploy.production"), ..Ask::default() };
    let case = job(&[(Claim::Environment, ""), (Claim::RunnerEnvironment, "self-hosted")]);
    let (decision, trace) = explain(&set, &case, &ask, UnixSeconds(0));
    let (decision, trace) = (decision.to_json(&set), trace.to_json(&set));
    assert_eq!(decision["decision"], "deny");
    assert_eq!(decision["reason"], "no_mapping", "the mapping misses; the deny is only seen by who watches");
    assert_eq!(trace["denies"][0]["name"], "no-self-hosted-in-production");
    assert_eq!(trace["denies"][0]["conditions"][0]["got"]["value"], "self-hosted");
    let mapping = &trace["mappings"][0];
    assert_eq!(mapping["mapping"], "payments-production");
    let failed: Vec<_> =
        mapping["conditions"].as_array().expect("a list").iter().filter(|one| one["held"] == false).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!((&failed[0]["claim"], &failed[0]["got"]), (&"environment".into(), &"none".into()));
}
