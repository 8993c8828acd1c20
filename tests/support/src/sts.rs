//! A double of AWS STS that checks what no emulator does: the signature of a web identity token against the keys that
//! its issuer publishes, its audience, subject and lifetime, the claims of tags and source identity, and the limits of
//! every parameter. It can be slow, refuse, or cut the line after it has made a session.

use crate::{http, jwt, time::now};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::TcpListener as StdListener,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const REQUEST_BYTES_MAX: usize = 128 * 1024;
/// How often a mood that waits is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The audience that AWS's own documentation uses.
const AUDIENCE: &str = "sts.amazonaws.com";

/// What the double does with the next calls.
#[derive(Clone, Debug, Default)]
pub enum Mood {
    /// Checks and answers.
    #[default]
    Right,
    /// Checks and answers after this time.
    Slow(Duration),
    /// Refuses with status, code and message, and makes nothing.
    Refuse(u16, &'static str, &'static str),
    /// Refuses so many calls with this code, then answers.
    RefuseTimes(u32, u16, &'static str),
    /// Makes the session and closes the connection instead of answering.
    Cut,
    /// Makes the session and never answers.
    Hang,
    /// Makes the session and answers when its mood is another one.
    Wait,
    /// Makes the session and answers 200 with its keys, but not in STS's form.
    Garble,
    /// Refuses with the web identity token in the message, and makes nothing.
    Echo,
}

/// A session that the double made.
#[derive(Clone, Debug)]
pub struct Session {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: String,
    pub role_arn: String,
    pub session_name: String,
    pub source_identity: String,
    pub duration_seconds: i64,
    pub tags: BTreeMap<String, String>,
    pub transitive: Vec<String>,
    pub policy: Option<String>,
    pub policy_arns: Vec<String>,
    pub external_id: Option<String>,
    /// The web identity token; empty for AssumeRole.
    pub token: String,
    /// Of the web identity token; `Null` for AssumeRole.
    pub claims: Value,
}

#[derive(Default)]
struct State {
    mood: Mood,
    issuer: Option<(String, String)>,
    keys: Value,
    /// Role ARN → the `sub` that its trust policy names.
    roles: BTreeMap<String, String>,
    caller: String,
    calls: u64,
    sessions: Vec<Session>,
}

/// The double, in a thread of its own.
pub struct Sts {
    url: String,
    state: Arc<Mutex<State>>,
}

impl Sts {
    /// Listens on loopback; trusts nobody yet.
    #[allow(clippy::new_without_default, reason = "starting a server is no default")]
    pub fn new() -> Self {
        let listener = StdListener::bind("127.0.0.1:0").expect("loopback has a free port");
        listener.set_nonblocking(true).expect("a listener can be made non-blocking");
        let url = format!("http://{}", listener.local_addr().expect("a listener has an address"));
        let state = Arc::new(Mutex::new(State {
            caller: "arn:aws:iam::999900001111:user/broker".to_owned(),
            ..State::default()
        }));
        let seen = state.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be built").block_on(async {
                let listener = TcpListener::from_std(listener).expect("the listener can be taken over");
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, seen.clone()));
                }
            });
        });
        Self { url, state }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// An IAM OIDC provider for this issuer, whose keys are at `jwks_url`.
    pub fn provider(&self, issuer: &str, jwks_url: &str) {
        self.lock().issuer = Some((issuer.to_owned(), jwks_url.to_owned()));
    }

    /// A role whose trust policy names this `sub`.
    pub fn role(&self, arn: &str, sub: &str) {
        self.lock().roles.insert(arn.to_owned(), sub.to_owned());
    }

    /// Who the owner of any AWS keys is.
    pub fn caller(&self, arn: &str) {
        self.lock().caller = arn.to_owned();
    }

    /// From now on.
    pub fn mood(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    /// Calls that came, whatever became of them.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Every session made so far.
    pub fn sessions(&self) -> Vec<Session> {
        self.lock().sessions.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A refusal: status, code, message.
struct Refusal(u16, String, String);

fn deny<T>(status: u16, code: &str, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(status, code.to_owned(), message.into()))
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let Some((signed, form)) = read(&mut stream).await else { return };
    let mood = {
        let mut state = lock(&state);
        state.calls += 1;
        let mood = state.mood.clone();
        if let Mood::RefuseTimes(left, status, code) = mood {
            state.mood = if left > 1 { Mood::RefuseTimes(left - 1, status, code) } else { Mood::Right };
        }
        mood
    };
    let answer = match &mood {
        Mood::Refuse(status, code, message) => deny(*status, code, *message),
        Mood::RefuseTimes(_, status, code) => deny(*status, code, "try again"),
        Mood::Echo => {
            let token = form.get("WebIdentityToken").map(String::as_str).unwrap_or_default();
            let signature = token.rsplit('.').next().unwrap_or_default();
            deny(400, "ValidationError", format!("signature '{signature}' of value '{token}' at 'webIdentityToken'"))
        }
        Mood::Garble => judge(&form, signed, &state).await.map(|body| {
            let keys = body.split_once("<AccessKeyId>").map_or("", |(_, keys)| keys);
            format!("<X><AccessKeyId>{keys}")
        }),
        _ => judge(&form, signed, &state).await,
    };
    match mood {
        Mood::Slow(time) => tokio::time::sleep(time).await,
        Mood::Cut => return,
        Mood::Hang => std::future::pending().await,
        Mood::Wait => {
            while matches!(lock(&state).mood, Mood::Wait) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        _ => {}
    }
    let (status, body) = match answer {
        Ok(body) => (200, body),
        Err(Refusal(status, code, message)) => (
            status,
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
                 <RequestId>r</RequestId></ErrorResponse>"
            ),
        ),
    };
    let head = format!(
        "HTTP/1.1 {status} -\r\ncontent-type: text/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Whether the request was signed, and its form.
async fn read(stream: &mut TcpStream) -> Option<(bool, BTreeMap<String, String>)> {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse().ok()?;
            bytes.drain(..end + 4);
            break (head, length);
        }
        if bytes.len() > REQUEST_BYTES_MAX || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    while bytes.len() < length {
        if length > REQUEST_BYTES_MAX || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(bytes).ok()?;
    let form = body.split('&').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (decode(key), decode(value)));
    Some((head.contains("\nauthorization: aws4-hmac-sha256 "), form.collect()))
}

fn decode(text: &str) -> String {
    let bytes = text.replace('+', " ").into_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let coded = (bytes[at] == b'%').then(|| std::str::from_utf8(&bytes[at + 1..at + 3]).ok()).flatten();
        match coded.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => (out.push(byte), at += 3),
            None => (out.push(bytes[at]), at += 1),
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

async fn judge(form: &BTreeMap<String, String>, signed: bool, state: &Arc<Mutex<State>>) -> Result<String, Refusal> {
    let action = form.get("Action").map(String::as_str).unwrap_or_default();
    match action {
        "GetCallerIdentity" if signed => {
            let arn = lock(state).caller.clone();
            Ok(format!(
                "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>{arn}</Arn><UserId>U</UserId>\
                 <Account>999900001111</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
            ))
        }
        "AssumeRoleWithWebIdentity" => {
            if signed {
                return deny(400, "ValidationError", "an unsigned call came signed");
            }
            let claims = web_identity(form, state).await?;
            let tags = &claims["https://aws.amazon.com/tags"];
            let one = |value: &Value| match value.as_array().map(Vec::as_slice) {
                Some([Value::String(value)]) => Some(value.clone()),
                _ => None,
            };
            let mut read = BTreeMap::new();
            for (key, value) in tags["principal_tags"].as_object().into_iter().flatten() {
                let Some(value) = one(value) else { return deny(400, "IDPRejectedClaim", "a tag is no list of one") };
                read.insert(key.clone(), value);
            }
            let transitive = tags["transitive_tag_keys"].as_array().into_iter().flatten();
            let transitive = transitive.filter_map(|key| key.as_str().map(str::to_owned)).collect();
            let source = claims["https://aws.amazon.com/source_identity"].as_str().unwrap_or_default().to_owned();
            made(action, form, state, read, transitive, source, claims)
        }
        "AssumeRole" if signed => {
            let list = |prefix: &str, suffix: &str| -> Vec<String> {
                let one = |at: usize| form.get(&format!("{prefix}.member.{at}{suffix}")).cloned();
                (1..).map_while(one).collect()
            };
            let tags = list("Tags", ".Key").into_iter().zip(list("Tags", ".Value")).collect();
            let source = form.get("SourceIdentity").cloned().unwrap_or_default();
            made(action, form, state, tags, list("TransitiveTagKeys", ""), source, Value::Null)
        }
        _ => deny(403, "AccessDenied", format!("nobody may call {action} so")),
    }
}

/// The verified claims of the token, or why AWS would not take it.
async fn web_identity(form: &BTreeMap<String, String>, state: &Arc<Mutex<State>>) -> Result<Value, Refusal> {
    let token = form.get("WebIdentityToken").map(String::as_str).unwrap_or_default();
    let invalid = |why: &str| deny(400, "InvalidIdentityToken", why);
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else { return invalid("not a token") };
    let (about, claims) = (jwt::header_of(token), jwt::claims_of(token));
    let Some((issuer, jwks_url)) = lock(state).issuer.clone() else {
        return invalid("No OpenIDConnect provider found");
    };
    if claims["iss"] != issuer.as_str() {
        return invalid("No OpenIDConnect provider found in your account for this issuer");
    }
    if about["alg"] != "ES256" || about["typ"] != "JWT" {
        return invalid("an algorithm or type that the provider does not use");
    }
    let find = |keys: &Value| keys["keys"].as_array()?.iter().find(|key| key["kid"] == about["kid"]).cloned();
    let known = find(&lock(state).keys);
    let key = match known {
        Some(key) => key,
        None => {
            let fetched = http::send(http::client().get(&jwks_url)).await;
            // Its issuer may be dead.
            let Ok(http::Answer { body: fetched, .. }) = fetched else {
                return invalid("Couldn't retrieve verification key");
            };
            lock(state).keys = fetched.clone();
            let Some(key) = find(&fetched) else { return invalid("Couldn't retrieve verification key") };
            key
        }
    };
    let coordinate = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap_or_default());
    let mut point = vec![4];
    point.extend(coordinate("x").unwrap_or_default());
    point.extend(coordinate("y").unwrap_or_default());
    let verified = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).verify(
        format!("{header}.{payload}").as_bytes(),
        &BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap_or_default(),
    );
    if verified.is_err() {
        return invalid("the signature does not verify");
    }
    if claims["aud"] != AUDIENCE {
        return invalid("Incorrect token audience");
    }
    let (issued, expires) = (claims["iat"].as_i64().unwrap_or(0), claims["exp"].as_i64().unwrap_or(0));
    if expires <= now() {
        return deny(400, "ExpiredTokenException", "Token expired");
    }
    if expires - issued != 60 || issued > now() + 5 {
        return invalid("the assertion does not live 60 seconds");
    }
    let role = form.get("RoleArn").map(String::as_str).unwrap_or_default();
    let sub = lock(state).roles.get(role).cloned();
    if sub.is_none_or(|sub| claims["sub"] != sub.as_str()) {
        return deny(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity");
    }
    Ok(claims)
}

fn in_name(text: &str) -> bool {
    (2..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}

fn in_tag(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || " _.:/=+-@".contains(c))
}

fn made(
    action: &str,
    form: &BTreeMap<String, String>,
    state: &Arc<Mutex<State>>,
    tags: BTreeMap<String, String>,
    transitive: Vec<String>,
    source_identity: String,
    claims: Value,
) -> Result<String, Refusal> {
    let text = |key: &str| form.get(key).cloned().unwrap_or_default();
    let wrong = |why: String| deny(400, "ValidationError", why);
    let (role_arn, session_name) = (text("RoleArn"), text("RoleSessionName"));
    let duration_seconds: i64 = text("DurationSeconds").parse().unwrap_or(0);
    let parts = role_arn.strip_prefix("arn:aws:iam::").and_then(|rest| rest.split_once(":role/"));
    let Some((account, role)) = parts else { return wrong(format!("`{role_arn}` is no role")) };
    if !lock(state).roles.contains_key(&role_arn) {
        return deny(403, "AccessDenied", format!("not authorized to perform: sts:{action} on {role_arn}"));
    }
    if !in_name(&session_name) || !in_name(&source_identity) {
        return wrong(format!("session name `{session_name}`, source identity `{source_identity}`"));
    }
    if !(900..=43_200).contains(&duration_seconds) {
        return wrong(format!("DurationSeconds {duration_seconds}"));
    }
    let long = |(key, value): (&String, &String)| {
        key.is_empty() || key.len() > 128 || value.chars().count() > 256 || !in_tag(key) || !in_tag(value)
    };
    if tags.len() > 50 || tags.iter().any(long) || transitive.iter().any(|key| !tags.contains_key(key)) {
        return wrong(format!("tags {tags:?}, transitive {transitive:?}"));
    }
    let policy = form.get("Policy").cloned();
    if policy.as_ref().is_some_and(|policy| policy.chars().count() > 2048) {
        return deny(400, "PackedPolicyTooLarge", "Packed size of session tags and policies exceeds the limit");
    }
    let expiration = rfc3339(now() + duration_seconds);
    let arns = (1..).map_while(|at| form.get(&format!("PolicyArns.member.{at}.arn")).cloned());
    let mut state = lock(state);
    let number = state.sessions.len();
    let session = Session {
        access_key_id: format!("ASIA{number:016}"),
        secret_access_key: format!("secret-of-session-{number:022}"),
        session_token: format!("token-of-session-{number}"),
        role_arn: role_arn.clone(),
        session_name: session_name.clone(),
        source_identity,
        duration_seconds,
        tags,
        transitive,
        policy,
        policy_arns: arns.collect(),
        external_id: form.get("ExternalId").cloned(),
        token: text("WebIdentityToken"),
        claims,
    };
    let Session { access_key_id, secret_access_key, session_token, .. } = &session;
    let body = format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>\
         <AssumedRoleUser><Arn>arn:aws:sts::{account}:assumed-role/{role}/{session_name}</Arn>\
         <AssumedRoleId>AROA:{session_name}</AssumedRoleId></AssumedRoleUser>\
         <Credentials><AccessKeyId>{access_key_id}</AccessKeyId><SecretAccessKey>{secret_access_key}</SecretAccessKey>\
         <SessionToken>{session_token}</SessionToken><Expiration>{expiration}</Expiration></Credentials>\
         </{action}Result></{action}Response>"
    );
    state.sessions.push(session);
    Ok(body)
}

/// By the days of the civil calendar, so that no crate is needed for it.
fn rfc3339(at: i64) -> String {
    let (days, second) = (at.div_euclid(86_400), at.rem_euclid(86_400));
    let (mut year, mut left) = (1970, days);
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    while left >= 365 + i64::from(leap(year)) {
        left -= 365 + i64::from(leap(year));
        year += 1;
    }
    let months = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while left >= months[month] {
        left -= months[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}T{:02}:{:02}:{:02}Z", month + 1, left + 1, second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendar_s() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(rfc3339(1_795_305_600), "2026-11-22T00:00:00Z");
    }

    #[test]
    fn forms_are_decoded() {
        assert_eq!(decode("a%20b+c%2F%7B"), "a b c/{");
    }
}
