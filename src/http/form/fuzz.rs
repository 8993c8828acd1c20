//! Any bytes as the form of a request, held against another reader of forms. See CONTRIBUTING, "Fuzzing".

use super::Form;
use crate::broker::AskedGrant;
use claimbound_fuzz::{Outcome, Target, round};
use std::collections::BTreeMap;

const FORM: Target = Target {
    name: "form",
    run: read,
    seeds: || SEEDS.iter().map(|seed| seed.as_bytes().to_vec()).collect(),
    dictionary: &[
        "&",
        "=",
        "&&",
        "%",
        "%0",
        "%00",
        "%26",
        "%3D",
        "%25",
        "%5F",
        "%C3%A9",
        "%FF",
        "+",
        ";",
        "grant_type=",
        "subject_token=",
        "subject_token_type=",
        "actor_token=",
        "actor_token_type=",
        "audience=",
        "role=",
        "scope=",
        "resource=",
        "requested_expires_in=",
        "requested_token_type=",
        "may_act_iss=",
        "may_act_sub=",
        "urn:claimbound:params:oauth:token-type:handoff",
        "dry_run=",
        "token=",
        "refresh_token=",
        "auth_req_id=",
        "refresh_token",
        "urn:openid:params:grant-type:ciba",
        "true",
        "false",
        "600",
        "0",
        "-1",
        "99999999999999999999",
        "a b",
        "a+b",
        "\"",
        "\\",
        "urn:ietf:params:oauth:grant-type:token-exchange",
        "urn:ietf:params:oauth:token-type:id_token",
        "urn:ietf:params:oauth:token-type:jwt",
        "urn:ietf:params:oauth:token-type:access_token",
    ],
    input_bytes_max: 24 * 1024,
    runs: 20_000,
};

const SEEDS: [&str; 5] = [
    "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=canary.canary.canary\
     &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aid_token&audience=pay.prod&scope=a+b\
     &requested_expires_in=900&dry_run=true",
    "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=canary&role=r&audience=r\
     &subject_token_type=urn:ietf:params:oauth:token-type:jwt&actor_token=canary\
     &actor_token_type=urn:ietf:params:oauth:token-type:jwt\
     &requested_token_type=urn:ietf:params:oauth:token-type:access_token",
    "grant_type=refresh_token&refresh_token=canary",
    "grant_type=urn:openid:params:grant-type:ciba&auth_req_id=canary&scope=x",
    "token=canary&token_type_hint=access_token",
];

/// In every token of the seeds; no refusal may repeat it.
const CANARY: &str = "canary";

#[test]
fn fuzz_form() {
    round(&FORM);
}

fn read(bytes: &[u8]) -> Outcome {
    let form = match Form::parse(bytes) {
        Ok(form) => form,
        Err(error) => return refusal(&error.text, bytes),
    };
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(bytes).into_owned().collect();
    let values: BTreeMap<&str, &str> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(values.len(), pairs.len(), "a parameter stands twice and was accepted");
    let value = |name: &str| values.get(name).copied().filter(|value| !value.is_empty());
    if let Ok(token) = form.revoked() {
        assert_eq!(Some(token.reveal()), value("token"));
    }
    let asked = match form.asked(None) {
        Ok(asked) => asked,
        Err(error) => return refusal(&error.text, bytes),
    };
    let door = match &asked.grant {
        AskedGrant::Tokens { subject, actor } => {
            assert_eq!(Some(subject.reveal()), value("subject_token"));
            assert_eq!(actor.as_ref().map(|actor| actor.reveal()), value("actor_token"));
            "tokens"
        }
        AskedGrant::Promise { subject, may_act_iss, may_act_sub } => {
            assert_eq!(Some(subject.reveal()), value("subject_token"));
            assert_eq!(Some(may_act_iss.as_str()), value("may_act_iss"));
            assert_eq!(Some(may_act_sub.as_str()), value("may_act_sub"));
            assert!(value("actor_token").is_none());
            "promise"
        }
        AskedGrant::Handoff { token, actor } => {
            assert_eq!(Some(token.reveal()), value("subject_token"));
            assert_eq!(Some(actor.reveal()), value("actor_token"));
            "handoff"
        }
        AskedGrant::Poll { auth_req_id } => {
            assert_eq!(Some(auth_req_id.reveal()), value("auth_req_id"));
            "poll"
        }
        AskedGrant::Refresh { token, subject } => {
            assert_eq!(Some(token.reveal()), value("refresh_token"));
            assert_eq!(Some(subject.reveal()), value("subject_token"));
            assert!(value("actor_token").is_none() && !asked.dry_run);
            "refresh"
        }
    };
    assert_eq!(asked.role.as_deref(), value("audience").or(value("role")));
    assert_eq!(asked.scope.as_deref(), value("scope"));
    assert_eq!(asked.dry_run, value("dry_run") == Some("true"));
    assert_eq!(asked.duration.is_some(), value("requested_expires_in").is_some());
    assert!(asked.duration.is_none_or(|seconds| seconds.0 > 0), "a lifetime of nothing");
    assert!(value("resource").is_none());
    // Another spelling and another order ask the same.
    let mut encoder = url::form_urlencoded::Serializer::new(String::new());
    let body = encoder.extend_pairs(pairs.iter().rev()).finish();
    let again = Form::parse(body.as_bytes()).and_then(|form| form.asked(None)).expect("the same form");
    assert_eq!(again.digest, asked.digest, "two digests of one form");
    let more = format!("{body}&fuzz=1");
    if let Ok(other) = Form::parse(more.as_bytes()).and_then(|form| form.asked(None)) {
        assert!(values.contains_key("fuzz") || other.digest != asked.digest, "one digest of two forms");
    }
    format!("{door} {:?} {:?} {}", asked.role.is_some(), asked.scope.is_some(), asked.dry_run)
}

/// The refusal without the names that the sender chose. It repeats no token.
fn refusal(text: &str, bytes: &[u8]) -> Outcome {
    let of_name = |name: &str| name.contains(CANARY);
    let named = url::form_urlencoded::parse(bytes).any(|(name, _)| of_name(&name));
    assert!(named || !text.contains(CANARY), "a refusal repeats a token: {text}");
    assert!(text.len() < 300 && !text.chars().any(char::is_control), "{text}");
    text.split('`').enumerate().filter(|(at, _)| at % 2 == 0).map(|(_, words)| words).collect()
}
