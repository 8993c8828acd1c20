//! A plan for programs; docs/usage.md says what each member means.

use super::{
    Plan,
    judge::{Group, Key, Kind},
};
use serde_json::{Value, json};

pub(super) fn render(plan: &Plan<'_>) -> Value {
    let replay = &plan.replay;
    let beyond: serde_json::Map<String, Value> =
        replay.beyond.iter().map(|(kind, count)| (name(*kind).to_owned(), json!(count))).collect();
    json!({
        "head": { "name": plan.head, "version": plan.version },
        "since_at": plan.from,
        "log": plan.reach.to_json(plan.from),
        "summary": {
            "text": plan.summary(),
            "would_be_refused": replay.count(Kind::Refused),
            "would_change": replay.count(Kind::Otherwise),
            "would_be_granted": replay.count(Kind::Granted),
            "not_judged": replay.unjudged_count(),
            "still_granted": replay.same_granted,
            "still_refused": replay.same_refused,
        },
        "changes": replay.groups.iter().map(|(key, group)| change(key, group)).collect::<Vec<_>>(),
        "beyond": beyond,
        "not_judged": replay.unjudged.iter().map(|((why, granted), times)| {
            let mut told = times.to_json();
            told["why"] = json!(why);
            told["was_granted"] = json!(granted);
            told
        }).collect::<Vec<_>>(),
        "not_compared": replay.uncompared.iter().map(|(why, count)| json!({ "why": why, "count": count })).collect::<Vec<_>>(),
        "not_asked": { "reasons": replay.aside, "strangers": replay.strangers, "summed": replay.summed },
    })
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Refused => "refused",
        Kind::Otherwise => "changed",
        Kind::Granted => "granted",
    }
}

fn change(key: &Key, group: &Group) -> Value {
    let mut told = group.times.to_json();
    let mut put = |name: &str, value: Value| told[name] = value;
    put("kind", json!(name(key.kind)));
    put("role", json!(key.role));
    put("mapping", json!(key.mapping));
    put("issuer", json!(key.issuer));
    put("repository", json!({ "name": key.name, "id": key.id }));
    match key.kind {
        Kind::Refused => {
            put("why", json!({ "reason": key.reason, "nearest": key.nearest, "deny": key.rule, "fails": group.misses }))
        }
        Kind::Otherwise => put("terms", json!(key.terms)),
        Kind::Granted => put("was_refused", json!(key.reason)),
    }
    told
}
