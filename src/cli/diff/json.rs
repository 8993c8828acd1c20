//! A difference for programs; docs/diff.md says what each member means.

use super::Compared;
use claimbound_core::review::diff::{Change, Direction, Example, Kind, Outcome};
use serde_json::{Value, json};

pub(super) fn render(compared: &Compared<'_>) -> Value {
    let diff = compared.diff;
    let side = |at: usize| json!({ "name": compared.names[at], "version": compared.versions[at] });
    json!({
        "base": side(0),
        "head": side(1),
        "summary": {
            "text": diff.summary(),
            "no_change": diff.is_none(),
            "widens": diff.widens(),
            "gains": diff.of(Kind::Gain).count(),
            "losses": diff.of(Kind::Loss).count(),
            "wider_terms": diff.terms(Direction::Wider),
            "not_comparable_terms": diff.terms(Direction::NotComparable),
            "narrower_terms": diff.terms(Direction::Narrower),
            "undecided": diff.undecided.len(),
        },
        "changes": diff.changes.iter().map(change).collect::<Vec<_>>(),
        "undecided": diff.undecided.iter().map(|unsure| json!({
            "issuer": unsure.issuer,
            "roles": unsure.roles,
            "mappings": unsure.mappings,
            "why": unsure.why,
        })).collect::<Vec<_>>(),
        "rules": diff.rules,
        "review": diff.reviewers.iter().map(|reviewer| json!({
            "team": reviewer.team,
            "who": reviewer.name(),
            "contact": reviewer.contact,
            "files": reviewer.files,
        })).collect::<Vec<_>>(),
    })
}

fn change(change: &Change) -> Value {
    let kind = match change.kind {
        Kind::Gain => "gain",
        Kind::Loss => "loss",
        Kind::Terms => "terms",
    };
    let known = |text: &String| if text.is_empty() { Value::Null } else { json!(text) };
    json!({
        "kind": kind,
        "issuer": change.issuer,
        "roles": change.roles,
        "repositories": change.repositories.iter().map(|(name, id)| {
            json!({ "name": known(name), "id": known(id) })
        }).collect::<Vec<_>>(),
        "jobs": change.jobs.iter().map(|shape| {
            Value::Object(shape.iter().map(|(claim, words)| (claim.clone(), json!(words))).collect())
        }).collect::<Vec<_>>(),
        "mappings": { "before": change.mappings[0], "after": change.mappings[1] },
        "terms": change.terms.iter().map(|term| json!({
            "name": term.name,
            "before": term.before,
            "after": term.after,
            "direction": term.direction.to_string().replace(' ', "_"),
        })).collect::<Vec<_>>(),
        "examples": change.examples.iter().map(example).collect::<Vec<_>>(),
    })
}

fn example(example: &Example) -> Value {
    let outcome = |outcome: &Outcome| {
        let decision = if outcome.mapping.is_some() { "grant" } else { "deny" };
        json!({ "decision": decision, "mapping": outcome.mapping, "reason": outcome.reason, "deny": outcome.rule })
    };
    json!({
        "role": example.role,
        "workload": example.job.to_json(),
        "actor": example.actor.as_ref().map(|(issuer, job)| {
            let mut actor = job.to_json();
            actor.insert("issuer".to_owned(), issuer.as_str().into());
            actor
        }),
        "before": outcome(&example.before),
        "after": outcome(&example.after),
    })
}
