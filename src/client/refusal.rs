//! The broker's refusal as people read it: condition by condition. Text from the broker is made plain first.

use super::{
    failure::{Failure, Kind},
    text::{decision_id, plain_of, word},
};
use serde_json::Value;

const LIST_MAX: usize = 30;

/// It is final: the same job gets the same answer.
pub fn read(body: &Value, asked: Option<&str>) -> Failure {
    let reason = word(body, "reason").or_else(|| word(body, "error")).unwrap_or("refused");
    let decision = decision_id(body);
    let whom = asked.map_or_else(|| "this job".to_owned(), |role| format!("`{role}`"));
    let mut lines = vec![
        format!("The broker refused {whom}: {}", plain_of(&body["error_description"])),
        format!(
            "Reason: {reason}{}",
            if decision.is_empty() { String::new() } else { format!(", decision {decision}") }
        ),
    ];
    let nearest = &body["nearest"];
    if nearest.is_object() {
        lines.push(format!(
            "Nearest mapping: `{}` (role `{}`)",
            plain_of(&nearest["mapping"]),
            plain_of(&nearest["role"])
        ));
        lines.extend(list(&nearest["conditions"]).map(condition));
        lines.extend(list(&nearest["remarks"]).map(|remark| format!("  {}", plain_of(remark))));
    }
    let roles: Vec<String> = list(&body["roles"]).map(|role| format!("`{}`", plain_of(role))).collect();
    if !roles.is_empty() {
        lines.push(format!("Roles of this job: {}", roles.join(", ")));
    }
    if !body["did_you_mean"].is_null() {
        lines.push(format!("Did you mean `{}`?", plain_of(&body["did_you_mean"])));
    }
    if !body["contact"].is_null() {
        lines.push(format!("Ask: {}", plain_of(&body["contact"])));
    }
    // RFC 8628, section 3.5: a person said no, or nobody answered in time.
    let kind = match word(body, "error") {
        Some("access_denied" | "expired_token") => Kind::Pending,
        _ => Kind::Refused,
    };
    Failure::new(kind, reason, lines.join("\n")).decided(decision)
}

fn condition(condition: &Value) -> String {
    let claim = plain_of(&condition["claim"]);
    let got = match condition.get("got") {
        Some(Value::Null) => "this job has none".to_owned(),
        Some(got) => format!("got `{}`", plain_of(got)),
        None => "what this job has is not known".to_owned(),
    };
    match condition.get("expected") {
        // A phrase with its own backticks.
        Some(expected) => format!("  {claim}: expected {}, {got}", plain_of(expected)),
        // The broker may name claims alone.
        None if condition.get("got").is_none() => format!("  {claim}: does not fit"),
        None => format!("  {claim}: {got}"),
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten().take(LIST_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refusal_is_told_condition_by_condition() {
        let body = json!({
            "error": "invalid_target", "error_description": "No mapping gives this role to this job", "reason": "no_mapping",
            "decision_id": "0192-ab",
            "nearest": { "mapping": "payments-production", "role": "payments-release", "conditions": [
                { "claim": "branch", "expected": "`main`", "got": "feature" },
                { "claim": "environment", "expected": "`production`", "got": null },
                { "claim": "ref_protected", "expected": "`true`" },
                { "claim": "workflow" },
            ] },
            "roles": ["payments-secrets"], "did_you_mean": "payments-secrets", "contact": "oncall@acme.example",
        });
        let failure = read(&body, Some("payments-release"));
        assert_eq!(
            failure.text,
            "The broker refused `payments-release`: No mapping gives this role to this job\n\
             Reason: no_mapping, decision 0192-ab\n\
             Nearest mapping: `payments-production` (role `payments-release`)\n\
             \x20 branch: expected `main`, got `feature`\n\
             \x20 environment: expected `production`, this job has none\n\
             \x20 ref_protected: expected `true`, what this job has is not known\n\
             \x20 workflow: does not fit\n\
             Roles of this job: `payments-secrets`\n\
             Did you mean `payments-secrets`?\n\
             Ask: oncall@acme.example"
        );
        assert_eq!(
            (failure.kind, failure.reason.as_str(), failure.decision_id.as_str()),
            (Kind::Refused, "no_mapping", "0192-ab")
        );
        assert!(failure.again.is_none());
    }

    #[test]
    fn a_bare_refusal_and_a_person_s_no() {
        let bare = read(&json!({ "error": "invalid_request", "error_description": "No" }), None);
        assert_eq!(bare.text, "The broker refused this job: No\nReason: invalid_request");
        assert_eq!(read(&json!({ "error": "access_denied" }), None).kind, Kind::Pending);
        let evil = json!({ "error": "e\n::x", "error_description": "a\n::set-env::b" });
        assert!(read(&evil, None).text.lines().all(|line| !line.starts_with("::")));
    }
}
