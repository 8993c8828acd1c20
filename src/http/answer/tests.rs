//! What a caller learns: every reason, standing, asked role and hint setting.

use super::*;
use crate::{
    exchange::{Condition, Issued, Nearest},
    issuance::Credential,
    secret::Secret,
};
use claimbound_core::{
    evidence::LeaseId,
    mapping::Got,
    time::{Seconds, UnixSeconds},
};
use serde_json::{Value, json};
use uuid::Uuid;

const ID: u128 = 0x0192_0000_0000_7000_8000_0000_0000_0001;
const NOW: UnixSeconds = UnixSeconds(1_000);
const ALL_HINTS: [Hints; 3] = [Hints::Full, Hints::Names, Hints::None];
/// Each is one field of the richest hint.
const NAMES: [&str; 6] = ["mapping-c4", "role-c4", "claim-c4", "may-c4", "mean-c4", "ask-c4"];
const VALUES: [&str; 4] = ["expected-c4", "got-c4", "own-c4", "remark-c4"];

fn rich() -> Hint {
    Hint {
        nearest: Some(Nearest {
            mapping: "mapping-c4".into(),
            role: "role-c4".into(),
            conditions: vec![Condition {
                claim: "claim-c4".into(),
                expected: "expected-c4".into(),
                got: Got::Value("got-c4".into()),
            }],
            remarks: vec!["remark-c4".into()],
        }),
        roles: vec!["may-c4".into()],
        claims: vec![("repository".into(), "own-c4".into()), ("branch".into(), "main".into())],
        did_you_mean: Some("mean-c4".into()),
        contact: Some("ask-c4".into()),
        line_to_paste: None,
        role_untold: false,
    }
}

pub fn answer(outcome: Result<Granted, Refused>) -> Answer {
    Answer { id: DecisionId(ID), at: NOW, mappings_version: "abc".into(), outcome }
}

fn refuse(reason: Reason, standing: Standing, role_asked: bool, hint: Hint, hints: Hints) -> (Reply, String) {
    let refused = Refused {
        reason,
        standing,
        role_asked,
        retry_after_seconds: None,
        hint: Some(Box::new(hint)),
        waits: None,
        said: None,
        first: None,
    };
    let reply = exchanged(&answer(Err(refused)), hints, "https://cb.example");
    let body = String::from_utf8(reply.body.clone()).unwrap();
    (reply, body)
}

#[test]
fn what_a_caller_learns() {
    let stranger = refuse(Reason::Malformed, Standing::Stranger, false, Hint::default(), Hints::Full).1;
    for (reason, role_asked, hints) in
        Reason::ALL.iter().flat_map(|r| [true, false].into_iter().flat_map(move |a| ALL_HINTS.map(|h| (*r, a, h))))
    {
        let case = format!("{reason} {role_asked} {hints:?}");
        let (reply, body) = refuse(reason, Standing::Stranger, role_asked, rich(), hints);
        assert!(!body.contains("c4"), "{case}: a stranger learned {body}");
        assert!(!body.contains("mappings_version"), "{case}: a stranger can watch the folder: {body}");
        match reason {
            Reason::StoreDown | Reason::IssuerDown => {
                assert_eq!(reply.status, 503, "{case}");
                assert!(reply.retry_after_seconds.is_some(), "{case}");
            }
            Reason::GrantUnknown => assert!(body.contains("invalid_grant"), "{case}"),
            _ => assert_eq!(body, stranger, "{case}: strangers are told apart"),
        }

        let (reply, body) = refuse(reason, Standing::ProvenJob, role_asked, rich(), hints);
        let told: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(told["error_uri"], format!("urn:claimbound:reason:{}", told["reason"].as_str().unwrap()));
        assert_eq!(told["decision_id"], Uuid::from_u128(ID).to_string());
        assert_eq!(reply.retry_after_seconds.is_some(), [503, 429].contains(&reply.status.as_u16()), "{case}");
        assert_eq!(reply.noted.decision, Some(DecisionId(ID)));
        assert!(!reply.noted.granted);
        let may_learn = verdict(reason, Standing::ProvenJob, role_asked).hints;
        for name in NAMES {
            assert_eq!(body.contains(name), may_learn && hints != Hints::None, "{case}: {name} in {body}");
        }
        for value in VALUES {
            assert_eq!(body.contains(value), may_learn && hints == Hints::Full, "{case}: {value} in {body}");
        }
    }
}

#[test]
fn a_re_created_repository_is_told_what_any_other_is() {
    for hints in ALL_HINTS {
        for role_asked in [true, false] {
            let tell = |reason| refuse(reason, Standing::ProvenJob, role_asked, rich(), hints).1;
            assert_eq!(tell(Reason::IdMismatch), tell(Reason::NoMapping));
        }
    }
}

#[test]
fn a_role_that_is_nothing_to_the_job_is_told_as_if_there_were_none() {
    let untold = || Hint { role_untold: true, ..Hint::default() };
    let tell = |reason| refuse(reason, Standing::ProvenJob, true, untold(), Hints::Full).1;
    for reason in [Reason::Denied, Reason::Renamed, Reason::EventNotAllowed, Reason::IdMismatch] {
        assert_eq!(tell(reason), tell(Reason::NoMapping), "{reason}");
    }
}

/// The documentation's table is this table.
#[test]
fn the_documented_table_holds() {
    let rows: Vec<Vec<String>> = include_str!("../../../docs/api.md")
        .lines()
        .skip_while(|line| !line.starts_with("| `reason` |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').map(|cell| cell.trim().replace('`', "")).collect())
        .collect();
    let mut told = std::collections::BTreeSet::new();
    for reason in Reason::ALL {
        for role_asked in [true, false] {
            let verdict = verdict(*reason, Standing::ProvenJob, role_asked);
            told.insert(verdict.reason);
            let row = rows.iter().find(|row| row[1] == verdict.reason).expect("a row for every reason that is told");
            let errors: Vec<&str> = row[2].split(" or ").collect();
            assert!(errors.contains(&verdict.error), "{reason}: {} is not in {row:?}", verdict.error);
            assert_eq!(row[3], verdict.status.to_string(), "{reason}");
        }
    }
    assert_eq!(rows.len(), told.len(), "rows of reasons that are never told");
}

#[test]
fn the_line_to_paste_and_whom_to_ask_stand_in_the_description() {
    let hint = Hint {
        line_to_paste: Some("{ name = \"acme/new\", id = 740000009 },".into()),
        contact: Some("#platform".into()),
        ..Hint::default()
    };
    let (_, body) = refuse(Reason::NoMapping, Standing::ProvenJob, true, hint, Hints::Full);
    let told: Value = serde_json::from_str(&body).unwrap();
    let words = told["error_description"].as_str().unwrap();
    assert!(
        words.contains("paste `{ name = \"acme/new\", id = 740000009 },`") && words.ends_with("ask #platform"),
        "{words}"
    );
}

#[test]
fn what_the_job_lacks_is_null_and_what_is_unknown_is_left_out() {
    let mut hint = rich();
    let conditions = &mut hint.nearest.as_mut().unwrap().conditions;
    conditions[0].got = Got::None;
    conditions.push(Condition { claim: "tag".into(), expected: "v*".into(), got: Got::Unknown });
    let (_, body) = refuse(Reason::NoMapping, Standing::ProvenJob, true, hint, Hints::Full);
    let told: Value = serde_json::from_str(&body).unwrap();
    let conditions = &told["nearest"]["conditions"];
    assert_eq!(conditions[0], json!({ "claim": "claim-c4", "expected": "expected-c4", "got": null }));
    assert_eq!(conditions[1], json!({ "claim": "tag", "expected": "v*" }));
    assert!(body.find("own-c4").unwrap() < body.find("\"branch\"").unwrap(), "claims keep their order: {body}");
}

#[test]
fn a_grant_names_everything_that_it_is() {
    let granted = Granted::Issued(Issued {
        web_identity: None,
        lease_handle: None,
        refresh: None,
        credential: Credential::Jwt(Secret::new("h.p.s".into())),
        expires: UnixSeconds(1_900),
        role: "pay.prod".into(),
        mapping: "pay".into(),
        lease: LeaseId(ID + 1),
    });
    let reply = exchanged(&answer(Ok(granted)), Hints::Full, "https://cb.example");
    assert_eq!((reply.status.as_u16(), reply.noted.granted), (200, true));
    let told: Value = serde_json::from_slice(&reply.body).unwrap();
    let expected = json!({
        "access_token": "h.p.s",
        "issued_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_type": "Bearer",
        "expires_in": 900,
        "credential": { "kind": "jwt", "jwt": "h.p.s" },
        "decision_id": Uuid::from_u128(ID).to_string(),
        "lease_id": Uuid::from_u128(ID + 1).to_string(),
        "role": "pay.prod",
        "mapping": "pay",
        "mappings_version": "abc",
    });
    assert_eq!(told, expected);
}

#[test]
fn a_dry_run_carries_no_token() {
    let granted = Granted::DryRun { role: "r".into(), mapping: "m".into(), duration: Seconds(60), waits: false };
    let reply = exchanged(&answer(Ok(granted)), Hints::Full, "https://cb.example");
    let told: Value = serde_json::from_slice(&reply.body).unwrap();
    let expected = json!({
        "dry_run": true, "role": "r", "mapping": "m", "expires_in": 60,
        "decision_id": Uuid::from_u128(ID).to_string(), "mappings_version": "abc",
    });
    assert_eq!(told, expected);
}

#[test]
fn who_is_turned_away_gets_no_decision_id() {
    let form = FormError { code: FormCode::InvalidTarget, text: "`resource` …".into() };
    for (why, status, error, close) in [
        (TurnedAway::Form(form), 400, "invalid_target", false),
        (TurnedAway::QueryParameters, 400, "invalid_request", true),
        (TurnedAway::BodyTooSlow, 408, "invalid_request", true),
        (TurnedAway::BodyTooLarge, 413, "invalid_request", true),
        (TurnedAway::BodyBroken, 400, "invalid_request", true),
        (TurnedAway::NotAForm, 415, "invalid_request", true),
        (TurnedAway::HeadTooLarge, 431, "invalid_request", true),
        (TurnedAway::TooManyRequests { retry_after_seconds: 7 }, 429, "temporarily_unavailable", true),
    ] {
        let reply = turned_away(&why);
        let told: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((reply.status.as_u16(), told["error"].as_str().unwrap(), reply.close), (status, error, close));
        assert_eq!(told["reason"], if status == 429 { "rate_limited" } else { "form_invalid" });
        assert_eq!(reply.retry_after_seconds, (status == 429).then_some(7));
        assert!(told.get("decision_id").is_none() && reply.noted.decision.is_none());
    }
}
