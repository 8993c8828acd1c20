//! People as operators, at a provider that nobody here wrote: from the command to the provider's pages and back.

use crate::{BINARY, records};
use claimbound_test_support::{
    broker::Broker,
    canary,
    command::Exit,
    config::BrokerConfig,
    http::{self, Answer},
    issuer::Issuer,
    postgres::Postgres,
    provider::{Browser, Provider},
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt as _, process::Stdio};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

fn accounts() -> Value {
    json!({
        "00u1bob": { "name": "Bob Oncall", "email": "bob@acme.example", "email_verified": true, "groups": ["oncall", "all"] },
        "00u2eve": { "name": "Eve Other", "email": "eve@acme.example", "email_verified": false, "groups": ["all"] },
    })
}

/// Bob's group may nearly all; Eve's email would, had the provider verified it.
fn people(provider: &Provider) -> String {
    format!(
        "[[sign_in]]\nname = \"idp\"\nissuer = \"{}\"\nclient_id = \"confidential\"\nclient_secret = {{ env = \"IDP_SECRET\" }}\n\
         scopes = [\"profile\", \"email\", \"groups\"]\nmax_age = \"1h\"\nallow_private_network = true\n\n\
         [[operator]]\nsign_in = \"idp\"\nmatch = {{ groups = [\"oncall\", \"sre\"] }}\nmay = [\"explain\", \"audit\", \"suspend\"]\n\n\
         [[operator]]\nsign_in = \"idp\"\nmatch = {{ email = \"eve@acme.example\" }}\nmay = [\"keys\"]\n",
        provider.issuer()
    )
}

fn config(issuer: &Issuer, provider: &Provider) -> BrokerConfig {
    BrokerConfig::new(issuer).toml(&people(provider)).env("IDP_SECRET", Provider::SECRET)
}

async fn post(broker: &Broker, path: &str, body: &Value) -> Answer {
    let request = http::client().post(format!("{}{path}", broker.operator_url())).json(body);
    http::send(request).await.unwrap()
}

async fn with(broker: &Broker, method: &str, path: &str, token: &str) -> Answer {
    let method = method.parse().unwrap();
    let request = http::client().request(method, format!("{}{path}", broker.operator_url())).bearer_auth(token);
    http::send(request).await.unwrap()
}

/// A sign-in that the browser has come back from.
struct Returned {
    begun: Value,
    code: String,
    state: String,
    iss: String,
}

const PORT: u16 = 8400;

async fn returned(broker: &Broker, login: &str, change: impl Fn(&str) -> String) -> Returned {
    let begun = post(broker, "/operator/sign-in", &json!({ "port": PORT })).await;
    assert_eq!(begun.status, 200, "{}", begun.text);
    let url = change(begun.text_of("authorization_url"));
    let back = Browser::default().sign_in(&url, login).await.unwrap_or_else(|page| panic!("{}", page.text));
    let back = reqwest::Url::parse(&back).unwrap();
    assert_eq!((back.host_str(), back.port(), back.path()), (Some("127.0.0.1"), Some(PORT), "/callback"));
    let of = |name: &str| back.query_pairs().find(|(other, _)| other == name).unwrap().1.into_owned();
    Returned { begun: begun.body, code: of("code"), state: of("state"), iss: of("iss") }
}

impl Returned {
    fn finish(&self) -> Value {
        json!({
            "sign_in": "idp", "port": PORT, "code": self.code, "state": self.state, "iss": self.iss,
            "verifier": self.begun["verifier"],
        })
    }
}

async fn session(broker: &Broker, login: &str) -> Answer {
    let returned = returned(broker, login, str::to_owned).await;
    post(broker, "/operator/session", &returned.finish()).await
}

fn assert_refused(answer: &Answer, told: &str) {
    assert_eq!((answer.status, &answer.body["error"]), (403, &json!("access_denied")), "{}", answer.text);
    assert!(answer.text_of("error_description").contains(told), "{}", answer.text);
}

/// A command that signed somebody in.
pub struct SignedIn {
    /// What it said beside the address.
    pub exit: Exit,
    /// Where it sent the browser.
    pub url: String,
    /// Where the provider sent the browser back to.
    pub back: String,
}

/// A command that signs in (`claimbound operator login`, `claimbound claim login`), and the person at its browser.
pub async fn signed_in(broker: &Broker, arguments: &[&str], login: &str) -> SignedIn {
    let mut command = broker.prepared(&[arguments, &["--no-browser"]].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut told = String::new();
    let url = loop {
        let line = stderr.next_line().await.unwrap().unwrap_or_else(|| panic!("no address: {told}"));
        if line.starts_with("http") {
            break line;
        }
        told.push_str(&line);
    };
    let back = Browser::default().sign_in(&url, login).await.unwrap_or_else(|page| panic!("{}", page.text));
    // What others send to the port ends nothing.
    let forged = back.replace("state=", "state=x");
    assert_eq!(http::get(&forged).await.status, 404);
    assert_eq!(http::get(&back).await.status, 200);
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).await.unwrap();
    while let Ok(Some(line)) = stderr.next_line().await {
        told.push_str(&line);
    }
    let code = child.wait().await.unwrap().code();
    SignedIn { exit: Exit { code, stdout, stderr: told }, url, back }
}

#[tokio::test]
async fn a_person_signs_in_looks_and_signs_out() {
    let (issuer, provider) = (Issuer::github(), Provider::start(&accounts()).await);
    let broker = Broker::start(BINARY, config(&issuer, &provider)).await;
    let answer = broker
        .exchange_for(
            &issuer.job().branch("main").environment("production").token(broker.audience()),
            "payments-release",
        )
        .await;
    let decision = answer.text_of("decision_id").to_owned();
    let url = broker.operator_url().to_owned();

    let arguments = ["operator", "login", "--broker", &url];
    let SignedIn { exit, back, .. } = signed_in(&broker, &arguments, "00u1bob").await;
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    assert!(exit.stdout.starts_with("signed in as idp:00u1bob until "), "{}", exit.stdout);
    assert!(exit.stdout.contains("may: suspend, explain, audit"), "{}", exit.stdout);
    let kept = broker.directory().join(".local/state/claimbound/operator.json");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(kept.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let held: Value = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
    let token = held[&url]["token"].as_str().unwrap().to_owned();

    // What evidence says of it: who and what they may; the name of the person only where it can be erased.
    let (body, details) = records::all(&broker).into_iter().find(|(b, _)| b["kind"] == "operator_signed_in").unwrap();
    assert_eq!((&body["operator"], &body["how"]), (&json!("idp:00u1bob"), &json!("code")));
    assert_eq!(body["may"], json!(["suspend", "explain", "audit"]));
    assert!(!body.to_string().contains("Bob") && details["name"] == "Bob Oncall", "{body} {details}");
    assert!(details["signed_in_at"].is_i64(), "{details}");

    let status = broker.command(&["operator", "status", "--broker", &url, "--format", "json"]).await;
    assert_eq!(status.code, Some(0), "{}", status.stderr);
    let me: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!((&me["operator"], &me["expires_at"]), (&json!("idp:00u1bob"), &body["expires"]));
    let explained = broker.command(&["explain", "--decision", &decision, "--broker", &url]).await;
    assert_eq!(explained.code, Some(0), "{}", explained.stderr);
    assert!(explained.stdout.contains("grant: mapping `payments-production`"), "{}", explained.stdout);
    let denied = with(&broker, "GET", "/operator/session", &token.replace("cbs_", "cbs_x")).await;
    assert_eq!(denied.status, 401);

    // A file that others may read is not used.
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o644)).unwrap();
    let shared = broker.command(&["operator", "status", "--broker", &url]).await;
    assert_eq!(shared.code, Some(2), "{}", shared.stderr);
    assert!(shared.stderr.contains("can be read by others"), "{}", shared.stderr);
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();

    let out = broker.command(&["operator", "logout", "--broker", &url]).await;
    assert_eq!((out.code, out.stdout.as_str()), (Some(0), "signed out\n"), "{}", out.stderr);
    assert_eq!(fs::read(&kept).unwrap(), b"{}");
    assert_eq!(with(&broker, "GET", "/operator/session", &token).await.status, 401, "it is over at the broker");
    assert_eq!(records::of_kind(&broker, "operator_signed_out")[0]["operator"], "idp:00u1bob");
    let code = back.split("code=").nth(1).unwrap().split('&').next().unwrap();
    canary::assert_absent(broker.directory(), &[&token, code, Provider::SECRET]);

    // Over is over, however it came to be so.
    let token = session(&broker, "00u1bob").await.text_of("token").to_owned();
    assert_eq!(with(&broker, "GET", "/operator/session", &token).await.status, 200);
    let store = rusqlite::Connection::open(broker.database()).unwrap();
    store.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let now = claimbound_test_support::time::now();
    store.execute("UPDATE sessions SET expires = ?1", [now]).unwrap();
    assert_eq!(with(&broker, "GET", "/operator/session", &token).await.status, 401, "expired");
    store.execute("UPDATE sessions SET expires = ?1", [now + 600]).unwrap();
    assert_eq!(with(&broker, "GET", "/operator/session", &token).await.status, 200);
    store.execute("UPDATE sessions SET binding = zeroblob(32)", []).unwrap();
    assert_eq!(with(&broker, "GET", "/operator/session", &token).await.status, 401, "under another configuration");
}

#[tokio::test]
async fn what_does_not_fit_a_sign_in_is_refused() {
    let (issuer, provider) = (Issuer::github(), Provider::start(&accounts()).await);
    let broker = Broker::start(BINARY, config(&issuer, &provider)).await;
    // Two sign-ins of one person: nothing of the one ends the other.
    let (one, other) =
        (returned(&broker, "00u1bob", str::to_owned).await, returned(&broker, "00u1bob", str::to_owned).await);
    let change = |changes: &[(&str, Value)]| {
        let mut finish = one.finish();
        changes.iter().for_each(|(name, value)| finish[*name] = value.clone());
        finish
    };
    for (changes, told) in [
        (vec![("state", json!(other.state))], "state"),
        (vec![("verifier", other.begun["verifier"].clone())], "state"),
        // The state fits the verifier, and the code is another's: the provider refuses.
        (vec![("verifier", other.begun["verifier"].clone()), ("state", json!(other.state))], "invalid_grant"),
        (vec![("iss", json!("https://evil.example"))], "`iss`"),
        (vec![("code", json!("other"))], "invalid_grant"),
        (vec![("port", json!(8401))], "invalid_grant"),
    ] {
        let answer = post(&broker, "/operator/session", &change(&changes)).await;
        assert_refused(&answer, "the broker's log says why");
        let log = broker.log();
        let last = log.lines().rfind(|line| line.contains("a sign-in failed")).unwrap().to_owned();
        assert!(last.contains(told), "{changes:?}: {last}");
    }
    // A code and an ID token that were made for another nonce.
    let nonce = |url: &str| {
        let (before, after) = url.split_once("nonce=").unwrap();
        format!("{before}nonce=x{after}")
    };
    let crossed = returned(&broker, "00u1bob", nonce).await;
    assert_refused(&post(&broker, "/operator/session", &crossed.finish()).await, "log says why");
    assert!(broker.log().lines().any(|line| line.contains("a sign-in failed") && line.contains("nonce")));
    for body in [
        json!({ "sign_in": "idp" }),
        json!({ "sign_in": "idp", "code": "c" }),
        json!({ "sign_in": "other", "device_code": "d" }),
    ] {
        assert_eq!(post(&broker, "/operator/session", &body).await.status, 400, "{body}");
    }

    // Somebody who is who they say, and no operator: told so, on record, without a session. Her email is not verified.
    let eve = session(&broker, "00u2eve").await;
    assert_refused(&eve, "you are `idp:00u2eve`, and no `[[operator]]`");
    let (body, details) = records::all(&broker).into_iter().find(|(b, _)| b["kind"] == "operator_refused").unwrap();
    assert_eq!(
        (&body["operator"], &details["name"], &details["email"]),
        (&json!("idp:00u2eve"), &json!("Eve Other"), &json!(null))
    );

    // Bob is one, once: his code is good for one session.
    let bob = returned(&broker, "00u1bob", str::to_owned).await;
    let answer = post(&broker, "/operator/session", &bob.finish()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_refused(&post(&broker, "/operator/session", &bob.finish()).await, "log says why");
    // On another device there is a session, too, that can only look.
    let begun = post(&broker, "/operator/sign-in", &json!({ "sign_in": "idp", "device": true })).await;
    assert_eq!(begun.status, 200, "{}", begun.text);
    let poll = json!({ "sign_in": "idp", "device_code": begun.body["device_code"] });
    let pending = post(&broker, "/operator/session", &poll).await;
    assert_eq!((pending.status, &pending.body["pending"]), (202, &json!(true)), "{}", pending.text);
    let page = Browser::default().sign_in(begun.text_of("verification_uri_complete"), "00u1bob").await;
    assert!(page.is_err(), "the way ends at the provider");
    let done = post(&broker, "/operator/session", &poll).await;
    assert_eq!((done.status, &done.body["may"]), (200, &json!(["explain", "audit"])), "{}", done.text);
    let how: Vec<Value> =
        records::of_kind(&broker, "operator_signed_in").iter().map(|body| body["how"].clone()).collect();
    assert_eq!(how, ["code", "device"]);
    assert_refused(&post(&broker, "/operator/session", &poll).await, "log says why");
}

#[tokio::test]
async fn a_session_is_good_at_every_replica() {
    let (issuer, provider, server) = (Issuer::github(), Provider::start(&accounts()).await, Postgres::start());
    let public = people(&provider)
        .replace("client_id = \"confidential\"\nclient_secret = { env = \"IDP_SECRET\" }", "client_id = \"public\"");
    let config =
        BrokerConfig::new(&issuer).store(&server.url()).server("public_url = \"https://cb.example\"").toml(&public);
    let first = Broker::start(BINARY, config).await;
    let second = first.replica().await;
    // Begun at the one, ended at the other, good at both until it is ended at either.
    let returned = returned(&first, "00u1bob", str::to_owned).await;
    let answer = post(&second, "/operator/session", &returned.finish()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let token = answer.text_of("token");
    for broker in [&first, &second] {
        let me = with(broker, "GET", "/operator/session", token).await;
        assert_eq!((me.status, &me.body["operator"]), (200, &json!("idp:00u1bob")), "{}", me.text);
        let page = with(broker, "GET", "/operator/decisions?outcome=operator_signed_in", token).await;
        assert_eq!(page.body["records"].as_array().unwrap().len(), 1, "{}", page.text);
    }
    assert_eq!(with(&first, "DELETE", "/operator/session", token).await.body, json!({ "signed_out": true }));
    assert_eq!(with(&second, "GET", "/operator/session", token).await.status, 401);
    assert_eq!(with(&first, "GET", "/operator/session", token).await.status, 401);
}
