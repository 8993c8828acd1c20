//! The broker's answers, read strictly: what goes into files and variables is printable and without blanks, so that it cannot
//! become a second line or setting. Nothing an answer says steers where anything is sent.

use super::{failure::Failure, failure::Kind, text::plain_of};
use crate::secret::Secret;
use serde_json::Value;
use std::time::Duration;

/// A secret shorter than this could not be masked without masking half of the log.
const SECRET_BYTES_MIN: usize = 8;
const SECRET_BYTES_MAX: usize = 64 * 1024;
const WORD_BYTES_MAX: usize = 2048;
/// No broker gives anything for longer; what is added to the time must not run over.
const EXPIRES_SECONDS_MAX: i64 = 7 * 86_400;

/// What the broker gave.
#[derive(Debug)]
pub struct Granted {
    pub decision_id: String,
    pub lease_id: String,
    pub role: String,
    pub mapping: String,
    /// Seconds from the answer.
    pub expires_in: i64,
    /// Ends the lease.
    pub handle: Secret,
    /// Renews, where the CI system gives no second token.
    pub refresh: Option<Secret>,
    pub credential: Credential,
}

#[derive(Debug)]
pub enum Credential {
    Aws(Aws),
    Jwt(Secret),
}

#[derive(Debug)]
pub struct Aws {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Secret,
    pub region: Option<String>,
    pub account_id: String,
    pub assumed_role_arn: String,
}

/// The broker waits for a person.
#[derive(Debug)]
pub struct Pending {
    pub decision_id: String,
    /// Names this job's request to the broker.
    pub auth_req_id: Secret,
    pub claim_uri: String,
    pub match_code: String,
    /// To compare with the page.
    pub words: String,
    pub interval: Duration,
    pub expires_in: Duration,
}

/// What a success holds that must never be seen, before anything else looks at it.
pub fn secrets(body: &Value) -> Vec<String> {
    const OPEN: [&str; 5] = ["kind", "region", "expiration", "assumed_role_arn", "account_id"];
    let credential = body["credential"].as_object();
    let members =
        credential.into_iter().flatten().filter(|(name, _)| !OPEN.contains(&name.as_str())).map(|(_, value)| value);
    let whole = [&body["access_token"], &body["refresh_token"], &body["auth_req_id"]].into_iter().chain(members);
    let mut found: Vec<String> = whole.filter_map(Value::as_str).flat_map(parts).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// A token, line by line; a JWT's signature, which is what makes it worth stealing, also alone.
pub fn parts(text: &str) -> Vec<String> {
    let mut parts: Vec<&str> = text.lines().collect();
    if text.split('.').count() == 3 {
        parts.extend(text.rsplit('.').next());
    }
    parts.into_iter().filter(|part| part.len() >= SECRET_BYTES_MIN).map(str::to_owned).collect()
}

impl Granted {
    /// # Errors
    /// The answer is not to be used.
    pub fn read(body: &Value, asked: Option<&str>) -> Result<Self, Failure> {
        let role = word(body, "role")?;
        if asked.is_some_and(|asked| asked != role) {
            return Err(odd(&format!("the role `{role}`")));
        }
        let credential = match &body["credential"] {
            aws if aws.get("access_key_id").is_some() => Credential::Aws(Aws::read(aws)?),
            other => Credential::Jwt(secret(other, "jwt")?),
        };
        let refresh = body.get("refresh_token").filter(|token| !token.is_null());
        let expires_in = body["expires_in"].as_i64().filter(|left| (0..=EXPIRES_SECONDS_MAX).contains(left));
        Ok(Self {
            decision_id: word(body, "decision_id")?,
            lease_id: word(body, "lease_id")?,
            role,
            mapping: word(body, "mapping")?,
            expires_in: expires_in.ok_or_else(|| none("expires_in"))?,
            handle: secret(body, "access_token")?,
            refresh: refresh.map(|_| secret(body, "refresh_token")).transpose()?,
            credential,
        })
    }
}

impl Aws {
    fn read(body: &Value) -> Result<Self, Failure> {
        let assumed_role_arn = word(body, "assumed_role_arn")?;
        // `arn:PARTITION:sts::ACCOUNT:assumed-role/…`
        let account = assumed_role_arn.split(':').nth(4);
        let account = account.filter(|id| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_digit()));
        let account_id = account.ok_or_else(|| odd("no account in `assumed_role_arn`"))?.to_owned();
        let bare = |name: &str| {
            let value = secret(body, name)?;
            // They go into files that shells and SDKs read, each by rules of its own: nothing there needs quoting.
            let fits = value.reveal().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=._:@-".contains(&byte));
            if fits { Ok(value) } else { Err(none(name)) }
        };
        Ok(Self {
            access_key_id: bare("access_key_id")?.reveal().to_owned(),
            secret_access_key: bare("secret_access_key")?,
            session_token: bare("session_token")?,
            region: match &body["region"] {
                Value::Null => None,
                _ => Some(word(body, "region")?)
                    .filter(|region| region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')),
            },
            account_id,
            assumed_role_arn,
        })
    }
}

impl Pending {
    /// # Errors
    /// The answer is not to be used.
    pub fn read(body: &Value, audience: &str) -> Result<Self, Failure> {
        let claim_uri = word(body, "claim_uri")?;
        // People follow this link and sign in there: it may lead to this broker alone.
        if !claim_uri.starts_with(&format!("{audience}/claim/")) {
            return Err(odd("a `claim_uri` that is not the broker's own"));
        }
        let seconds = |name: &str| {
            let value = body[name].as_u64().filter(|value| (1..=86_400).contains(value));
            value.map(Duration::from_secs).ok_or_else(|| none(name))
        };
        Ok(Self {
            decision_id: word(body, "decision_id")?,
            auth_req_id: secret(body, "auth_req_id")?,
            claim_uri,
            match_code: word(body, "match_code")?,
            words: plain_of(&body["match_words"]),
            interval: seconds("interval")?,
            expires_in: seconds("expires_in")?,
        })
    }
}

fn secret(body: &Value, name: &str) -> Result<Secret, Failure> {
    let sizes = SECRET_BYTES_MIN..=SECRET_BYTES_MAX;
    let fits = |text: &&str| sizes.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    let value = body[name].as_str().filter(fits).ok_or_else(|| none(name))?;
    Ok(Secret::new(value.to_owned()))
}

fn word(body: &Value, name: &str) -> Result<String, Failure> {
    let fits =
        |text: &&str| (1..=WORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    body[name].as_str().filter(fits).map(str::to_owned).ok_or_else(|| none(name))
}

fn none(name: &str) -> Failure {
    odd(&format!("no usable `{name}`"))
}

fn odd(what: &str) -> Failure {
    let text = format!("The broker's answer is not to be used: it holds {what}");
    Failure::new(Kind::Unavailable, "answer_invalid", text)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    pub fn aws() -> Value {
        json!({
            "access_token": "cbl_handle-of-the-lease", "expires_in": 900, "decision_id": "0192-d", "lease_id": "0192-l",
            "role": "payments-deploy", "mapping": "payments-deploys",
            "credential": {
                "kind": "aws", "access_key_id": "ASIAEXAMPLE", "secret_access_key": "se/cr+et=secret",
                "session_token": "session-token", "region": "eu-west-1",
                "assumed_role_arn": "arn:aws:sts::111122223333:assumed-role/payments-deploy/x",
            },
        })
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut body = aws();
        *body.pointer_mut(pointer).unwrap() = value;
        body
    }

    #[test]
    fn a_success_is_read_strictly() {
        let granted = Granted::read(&aws(), Some("payments-deploy")).unwrap();
        let Credential::Aws(keys) = &granted.credential else { panic!("{granted:?}") };
        assert_eq!((keys.account_id.as_str(), granted.expires_in), ("111122223333", 900));
        assert!(!format!("{granted:?}").contains("se/cr"), "a secret is not shown");
        for (body, part) in [
            (with("/role", json!("other")), "the role `other`"),
            (with("/expires_in", json!(-1)), "`expires_in`"),
            (with("/expires_in", json!(i64::MAX)), "`expires_in`"),
            (with("/access_token", json!("short")), "`access_token`"),
            (with("/credential/secret_access_key", json!("se cret\nX=1")), "`secret_access_key`"),
            (with("/credential/session_token", json!("$(evil)$(evil)")), "`session_token`"),
            (with("/credential/assumed_role_arn", json!("arn:aws:sts::1:x")), "no account"),
            (with("/credential", json!({ "kind": "new" })), "`jwt`"),
        ] {
            let failure = Granted::read(&body, Some("payments-deploy")).unwrap_err();
            assert!(failure.text.contains(part) && failure.again.is_none(), "{failure:?}");
        }
    }

    #[test]
    fn every_secret_of_an_answer_is_known_before_it_is_read() {
        let mut body = aws();
        body["refresh_token"] = json!("cbr_refresh");
        body["credential"]["later"] = json!("unknown-kind-of-secret");
        let found = secrets(&body);
        for secret in
            ["cbl_handle-of-the-lease", "cbr_refresh", "se/cr+et=secret", "session-token", "unknown-kind-of-secret"]
        {
            assert!(found.iter().any(|one| one == secret), "{secret}");
        }
        assert!(!found.iter().any(|one| one.contains("eu-west") || one.contains("arn:")), "what is open is readable");
        assert_eq!(parts("header.payload.signature"), ["header.payload.signature", "signature"]);
    }

    #[test]
    fn a_link_for_people_leads_to_this_broker_alone() {
        let body = |uri: &str| {
            json!({
                "decision_id": "0192-d", "auth_req_id": "cba_request-of-this-job", "claim_uri": uri, "match_code": "AB-12",
                "match_words": "amber tide", "interval": 5, "expires_in": 600,
            })
        };
        let pending = Pending::read(&body("https://b.example/claim/1"), "https://b.example").unwrap();
        assert_eq!((pending.words.as_str(), pending.interval), ("amber tide", Duration::from_secs(5)));
        for uri in ["https://b.example.evil/claim/1", "https://evil/claim/1", "https://b.example/other"] {
            assert!(Pending::read(&body(uri), "https://b.example").is_err(), "{uri}");
        }
    }
}
