//! People who claim on the command line: what they see, what is refused, and that a session is good for nothing else.

use crate::{
    BINARY,
    claim_pages::{SESSION, Visitor, accounts, config, job, open, redeem, state_of},
    cloud_operators::{SignedIn, signed_in},
    records,
};
use claimbound_test_support::{
    broker::Broker,
    canary,
    command::{self, Exit},
    http::{self, Answer},
    issuer::Issuer,
    provider::{Browser, Provider},
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Stdio};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// `claimbound claim login`.
async fn login(broker: &Broker, arguments: &[&str], login: &str) -> SignedIn {
    signed_in(broker, &[&["claim", "login", "--url", broker.audience()], arguments].concat(), login).await
}

async fn claim(broker: &Broker, arguments: &[&str]) -> Exit {
    broker.command(&[&["claim"], arguments, &["--url", broker.audience()]].concat()).await
}

/// At a terminal, where somebody types these answers, each when it is asked for; what the screen shows.
async fn at_terminal(broker: &Broker, arguments: &[&str], answers: &[(&str, &str)]) -> Exit {
    let words = [&[BINARY, "claim"], arguments, &["--url", broker.audience()]].concat();
    let line: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    // `script` of util-linux gives a command a terminal of its own.
    let mut script = command::command(Path::new("script"), broker.directory());
    script.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]);
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("`script` is installed");
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut shown, mut buffer) = (String::new(), [0; 4096]);
    for (question, answer) in answers {
        while !shown.ends_with(question) {
            let read = screen.read(&mut buffer).await.unwrap();
            assert!(read > 0, "no `{question}` in {shown}");
            shown.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        keyboard.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
    }
    screen.read_to_string(&mut shown).await.unwrap();
    let code = child.wait().await.unwrap().code();
    Exit { code, stdout: shown, stderr: String::new() }
}

#[track_caller]
fn refused(exit: &Exit, code: i32, told: &str) {
    assert_eq!(exit.code, Some(code), "{}{}", exit.stdout, exit.stderr);
    assert!(exit.stderr.contains(told), "no `{told}` in {}", exit.stderr);
}

async fn with(broker: &Broker, method: &str, path: &str, token: &str, body: &Value) -> Answer {
    let request = http::client().request(method.parse().unwrap(), format!("{}/claim/api/{path}", broker.url()));
    let request = if method == "POST" { request.json(body) } else { request };
    http::send(request.bearer_auth(token)).await.unwrap()
}

#[tokio::test]
async fn a_person_signs_in_looks_and_claims_on_the_command_line() {
    let (issuer, provider) = (Issuer::github(), Provider::start(&accounts()).await);
    let broker = Broker::start(BINARY, config(&issuer, &provider, "when = \"every\"")).await;
    let of_eve = job(&issuer).claim("actor", "p\u{0430}y\u{202E}");
    let waits = open(&broker, &of_eve).await;
    let link = format!("{}/claim/{}", broker.audience(), waits.id);

    refused(&claim(&broker, &["list"]).await, 2, "run `claimbound claim login --url");
    // Eve started the job: she sees it, and somebody else has to claim it, whatever the code.
    login(&broker, &[], "eve").await;
    let own = claim(&broker, &["approve", &waits.id, "--code", &waits.code, "--reason", "mine"]).await;
    refused(&own, 3, "you started the job");
    login(&broker, &[], "kim").await;
    let own = claim(&broker, &["approve", &waits.id, "--code", &waits.code, "--reason", "mine"]).await;
    refused(&own, 3, "not linked to the CI system");
    login(&broker, &[], "bob").await;
    refused(&claim(&broker, &["show", &waits.id]).await, 3, "there is no ceremony of this id that you can claim");
    refused(&claim(&broker, &["show", &"0".repeat(32)]).await, 3, "there is no ceremony of this id");
    let nothing = claim(&broker, &["list"]).await;
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(0), "nothing waits for you, and nothing did lately\n"));

    let SignedIn { exit, .. } = login(&broker, &["--sign-in", "idp"], "ada").await;
    assert_eq!(exit.code, Some(0), "{}", exit.stdout);
    assert!(exit.stdout.starts_with("signed in as idp:ada until "), "{}", exit.stdout);
    assert!(exit.stdout.ends_with("; may: look, approve, reject\n"), "{}", exit.stdout);
    let kept = broker.directory().join(".local/state/claimbound/claim.json");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    let held: Value = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
    let token = held[broker.audience()]["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("cba_"), "a session of its own");

    let list = claim(&broker, &["list"]).await;
    let row = format!("{}  pending    payments-release for acme/payments-api, 0 of 1\n", waits.id);
    assert_eq!((list.code, list.stdout.as_str()), (Some(0), row.as_str()), "{}", list.stderr);
    let list: Value = serde_json::from_str(&claim(&broker, &["list", "--json"]).await.stdout).unwrap();
    assert_eq!((&list["open"][0]["id"], &list["past"]), (&json!(waits.id), &json!([])));

    // What is bound and what is not proven, as on the page: ids beside names, and what deceives as its code point.
    let before = state_of(&broker, &waits.id);
    let shown = claim(&broker, &["show", &link]).await;
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    for told in [
        "Claim payments-release\nIt waits for you. Nothing is issued until you claim it.",
        "acme/payments-api  id 740000001 at github",
        "at most 30 minutes",
        "payments-production of team payments",
        "payments-oncall@acme.example",
        "p‹U+0430›y‹U+202E›",
        "\nWhat is not proven\n  - What the code does.",
        waits.words.as_str(),
    ] {
        assert!(shown.stdout.contains(told), "no `{told}` in {}", shown.stdout);
    }
    assert!(!shown.stdout.contains(&waits.code) && !shown.stdout.contains(&waits.auth_req_id), "both are the job's");
    let json = claim(&broker, &["show", &waits.id, "--format", "json"]).await.stdout;
    assert!(json.is_ascii() && json.contains("p\\u0430y\\u202e"), "{json}");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["bound"]["role"], &json["state"]), (&json!("payments-release"), &json!("pending")));
    assert_eq!(json["bound"]["principal"]["id"], "740000001");
    let unproven = |told: &Value| told["view"]["unproven"].as_array().unwrap().len();
    assert!(unproven(&json) >= 3, "{json}");

    // No link says whom to ask; nobody sits here who could be asked for a code; a wrong one is counted.
    let elsewhere = format!("https://evil.example/claim/{}", waits.id);
    refused(&claim(&broker, &["show", &elsewhere]).await, 2, "is no link of the broker");
    refused(&claim(&broker, &["approve", &waits.id, "--reason", "r"]).await, 2, "give `--code`");
    assert_eq!(state_of(&broker, &waits.id), before, "looking changes nothing");
    let wrong = claim(&broker, &["approve", &waits.id, "--code", "0000-0000", "--reason", "r"]).await;
    refused(&wrong, 3, "the try was counted");
    assert!(claim(&broker, &["show", &waits.id]).await.stdout.contains("You have 4 tries left."));
    let none = claim(&broker, &["approve", &waits.id, "--code", &waits.code, "--reason", " "]).await;
    refused(&none, 3, "give a reason");
    let answers = [("Match code from the job's log: ", &*waits.code), ("Why you claim it: ", " release 1.2 ")];
    let done = at_terminal(&broker, &["approve", &link], &answers).await;
    assert_eq!(done.code, Some(0), "{}", done.stdout);
    assert!(done.stdout.ends_with("claimed: nobody else is needed\r\n"), "{}", done.stdout);
    let place = |part: &str| done.stdout.find(part).unwrap_or_else(|| panic!("no `{part}` in {}", done.stdout));
    assert!(place("What is not proven") < place("Match code"), "it is shown before: {}", done.stdout);
    let again = claim(&broker, &["approve", &link, "--code", &waits.code, "--reason", "release 1.2"]).await;
    refused(&again, 3, "It is claimed");
    let ceremonies: Vec<_> = records::all(&broker).into_iter().filter(|(body, _)| body["kind"] == "ceremony").collect();
    let how: Vec<_> = ceremonies.iter().map(|(body, details)| (&body["how"], &details["through"])).collect();
    assert_eq!(how, [(&json!("wrong_code"), &json!("command")), (&json!("claimed"), &json!("command"))]);
    let details = &ceremonies[1].1;
    assert_eq!((&details["person"]["subject"], &details["reason"]), (&json!("ada"), &json!("release 1.2")));
    assert_eq!(details["shown"]["role"], "payments-release");
    assert_eq!(redeem(&broker, &of_eve, &waits).await.status, 200);

    // A session of commands opens no page and nothing of operators, and none of those opens anything here.
    let mut page = Visitor::signed_in(&broker, "ada").await;
    let cookie = page.cookies[SESSION].clone();
    page.cookies.insert(SESSION.to_owned(), token.clone());
    assert!(page.get("/claim").await.text.contains("Sign in with idp"));
    let operator = http::client().get(format!("{}/operator/session", broker.operator_url())).bearer_auth(&token);
    assert_eq!(http::send(operator).await.unwrap().status, 401);
    for other in [cookie.as_str(), &token.replace("cba_", "cbs_"), "cba_x", "x"] {
        let answer = with(&broker, "GET", "ceremonies", other, &Value::Null).await;
        assert_eq!((answer.status, &answer.body["error"]), (401, &json!("invalid_token")), "{}", answer.text);
    }
    let cookie = http::client().get(format!("{}/claim/api/ceremonies", broker.url()));
    let cookie = cookie.header("cookie", format!("{SESSION}={token}"));
    assert_eq!(http::send(cookie).await.unwrap().status, 401, "never by a cookie");

    // An old sign-in is told how to get a fresh one, and the provider is asked for it.
    let waits = open(&broker, &of_eve).await;
    let store = rusqlite::Connection::open(broker.database()).unwrap();
    store.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    store.execute("UPDATE sessions SET person = json_set(person, '$.auth_time', 1)", []).unwrap();
    let old = claim(&broker, &["approve", &waits.id, "--code", &waits.code, "--reason", "r"]).await;
    refused(
        &old,
        3,
        &format!("within the last 15 minutes; sign in again: `claimbound claim login --ceremony {}`", waits.id),
    );
    let body = json!({ "code": waits.code, "reason": "r" });
    let path = format!("ceremonies/{}/approve", waits.id);
    let old = with(&broker, "POST", &path, &token, &body).await;
    assert_eq!((old.status, &old.body["error"]), (403, &json!("insufficient_user_authentication")), "{}", old.text);
    let SignedIn { exit, url, .. } = login(&broker, &["--ceremony", &waits.id], "ada").await;
    assert_eq!(exit.code, Some(0));
    assert!(url.contains("max_age=900"), "{url}");

    // On another device: it looks, and nothing else.
    let begin = json!({ "sign_in": "idp", "device": true });
    let begun =
        http::send(http::client().post(format!("{}/claim/api/sign-in", broker.url())).json(&begin)).await.unwrap();
    assert_eq!(begun.status, 200, "{}", begun.text);
    let page = Browser::default().sign_in(begun.text_of("verification_uri_complete"), "ada").await;
    assert!(page.is_err(), "the way ends at the provider");
    let poll = json!({ "sign_in": "idp", "device_code": begun.body["device_code"] });
    let done =
        http::send(http::client().post(format!("{}/claim/api/session", broker.url())).json(&poll)).await.unwrap();
    assert_eq!((done.status, &done.body["may"]), (200, &json!(["look"])), "{}", done.text);
    let device = done.text_of("token").to_owned();
    let told = with(&broker, "GET", &format!("ceremonies/{}", waits.id), &device, &Value::Null).await;
    assert_eq!((told.status, &told.body["view"]["may_claim"]), (200, &json!(false)), "{}", told.text);
    assert_eq!(told.body["view"]["may_reject"], false);
    let before = state_of(&broker, &waits.id);
    for verb in ["approve", "reject"] {
        let mut body = body.clone();
        if verb == "reject" {
            body.as_object_mut().unwrap().remove("code");
        }
        let answer = with(&broker, "POST", &format!("ceremonies/{}/{verb}", waits.id), &device, &body).await;
        assert_eq!(answer.status, 403, "{}", answer.text);
        assert!(answer.text_of("error_description").contains("one can only look"), "{}", answer.text);
    }
    assert_eq!(state_of(&broker, &waits.id), before);

    refused(&claim(&broker, &["reject", &waits.id]).await, 2, "give `--reason`");
    let no = at_terminal(&broker, &["reject", &waits.id], &[("Why you reject it: ", "not expected")]).await;
    assert_eq!(no.code, Some(0), "{}", no.stdout);
    assert!(no.stdout.ends_with("rejected\r\n"), "{}", no.stdout);
    assert_eq!(state_of(&broker, &waits.id).0, "rejected");
    assert!(claim(&broker, &["list"]).await.stdout.contains("  rejected  "));
    let token = {
        let held: Value = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
        held[broker.audience()]["token"].as_str().unwrap().to_owned()
    };
    let out = claim(&broker, &["logout"]).await;
    assert_eq!((out.code, out.stdout.as_str()), (Some(0), "signed out\n"), "{}", out.stderr);
    assert_eq!(with(&broker, "GET", "ceremonies", &token, &Value::Null).await.status, 401, "over at the broker, too");
    let through: Vec<_> = records::all(&broker)
        .into_iter()
        .filter(|(body, _)| body["kind"] == "visitor_signed_in")
        .map(|(_, details)| details["through"].clone())
        .collect();
    assert!(["page", "command", "device"].iter().all(|way| through.contains(&json!(way))), "{through:?}");
    canary::assert_absent(broker.directory(), &[&token, &device, &waits.code, &waits.auth_req_id]);
}
