//! What the action says where the broker, the network, the inputs or the runner are not as they should be. Each job has
//! many logins that may fail, so that every text is seen in a workflow without a run for each. Not seen are the network's
//! `ETIMEDOUT`, which takes minutes, and what shares a template with a text that is seen (`no usable …`).

use crate::cloud_action::{act, assert_failed, assert_hidden, log, releasing, workflow};
use claimbound_test_support::{
    act::{Act, USES},
    command::Exit,
    issuer::{Issuer, TokenRequest},
    trap::Trap,
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

const HANDLE: &str = "handle-of-an-answer-that-nobody-can-use";
/// An answer that no second try follows: it asks for more patience than anybody has.
const BUSY: &str = "503 -\r\nretry-after: 3600\r\n\r\n";
const ENDED: &str = "200 -\r\n\r\n{}";

/// Someone who calls itself the broker of its URL.
struct Impostor {
    url: String,
    /// What it was told to end.
    told: Arc<Mutex<Vec<String>>>,
}

impl Impostor {
    /// It answers a request for a credential, and one to end a lease, like this. Runs until the test's process ends.
    fn new(answer: impl Into<String>, end: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let facts = json!({ "audience": url, "issuer": url, "token_endpoint": format!("{url}/token") });
        let told = Arc::new(Mutex::new(Vec::new()));
        let (answer, noted) = (answer.into(), told.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let lines = stream.by_ref().lines().map_while(|line| Some(line.ok()?.to_lowercase()));
                let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
                let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                let mut body = String::new();
                stream.by_ref().take(length.unwrap_or(0)).read_to_string(&mut body).unwrap();
                let said = match head.first().map_or("", |line| line) {
                    line if line.starts_with("get ") => format!("HTTP/1.1 200 -\r\n\r\n{facts}"),
                    line if line.starts_with("post /revoke ") => {
                        noted.lock().unwrap().push(body);
                        format!("HTTP/1.1 {end}")
                    }
                    _ => answer.clone(),
                };
                // A client that has seen enough is gone by now.
                let _ = stream.get_mut().write_all(said.as_bytes());
            }
        });
        Self { url, told }
    }

    /// It grants, or refuses, with this.
    fn saying(status: u16, answer: &Value, end: &'static str) -> Self {
        Self::new(format!("HTTP/1.1 {status} -\r\n\r\n{answer}"), end)
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

/// One login of a job of many: where, with what, in which environment, and what must come of it.
struct Login<'a> {
    url: &'a str,
    inputs: &'a str,
    environment: String,
    reason: &'a str,
    texts: &'a [&'a str],
}

/// The environment of a login that Node begins with this script.
fn script(act: &Act, name: &str, text: &str) -> String {
    let path = act.directory().join(name);
    fs::write(&path, text).unwrap();
    format!("NODE_OPTIONS: \"--require={}\"", path.display())
}

/// So long a wait before the second try that there is none: a login without it may end in any of its tries.
fn one_try(act: &Act) -> String {
    script(act, "one-try.cjs", "Math.random = () => 1000;\n")
}

const SKIP: &str = "role: payments-release, mode: output, on-unavailable: skip";

fn login<'a>(url: &'a str, inputs: &'a str, reason: &'a str, texts: &'a [&'a str]) -> Login<'a> {
    Login { url, inputs, environment: String::new(), reason, texts }
}

/// All of these in one job, each allowed to fail.
async fn assert_told(act: &Act, request: &TokenRequest, logins: &[Login<'_>]) -> Exit {
    let mut text = "on: push\njobs:\n  deploy:\n    runs-on: ubuntu-24.04\n    steps:\n".to_owned();
    for (at, Login { url, inputs, environment, .. }) in logins.iter().enumerate() {
        text += &format!(
            "      - id: login{at}\n        uses: {USES}\n        continue-on-error: true\n        env: {{ {environment} \
             }}\n        with: {{ broker-url: \"{url}\", {inputs} }}\n"
        );
    }
    text += r#"
      - env: { STEPS: "${{ toJSON(steps) }}" }
        run: |
          printf %s "$STEPS" > "$PROOF/steps.json"
          cp -r "$GITHUB_WORKSPACE" "$PROOF/workspace"
"#;
    let exit = act.run(&text, Some(request)).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    let steps: Value = serde_json::from_str(&act.left("steps.json")).unwrap();
    for (at, login) in logins.iter().enumerate() {
        let reason = steps[format!("login{at}")]["outputs"]["reason"].as_str().unwrap_or_default();
        assert_eq!(reason, login.reason, "login{at}: {}", log(&exit));
        for text in login.texts {
            assert!(log(&exit).contains(text), "login{at}: no `{text}` in\n{}", log(&exit));
        }
    }
    exit
}

/// What a broker would grant, with this changed.
fn granted(more: Value) -> Value {
    let jwt = "e30.e30.signature-of-nobody";
    let mut answer = json!({
        "access_token": HANDLE, "token_type": "N_A", "expires_in": 900, "credential": { "kind": "jwt", "jwt": jwt },
        "decision_id": "0192-ab", "lease_id": "0192-cd", "role": "payments-release", "mapping": "payments-production",
    });
    answer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    answer
}

#[tokio::test]
async fn what_no_broker_answers_is_neither_followed_nor_used_and_its_lease_is_ended() {
    let (act, issuer, trap) = (act(), Issuer::github(), Trap::new());
    let request = issuer.run(&releasing(&issuer));
    let redirect = Impostor::new(format!("HTTP/1.1 307 -\r\nlocation: {}\r\n\r\n", trap.url()), ENDED);
    let page = Impostor::new("HTTP/1.1 200 -\r\n\r\n<html>", ENDED);
    let other = Impostor::saying(200, &granted(json!({ "role": "another" })), ENDED);
    let disobedient = Impostor::saying(200, &granted(json!({})), BUSY);
    let credential = json!({ "kind": "aws", "access_key_id": "ASIAOFNOBODY", "assumed_role_arn": "x" });
    let nowhere = Impostor::saying(200, &granted(json!({ "credential": credential })), ENDED);
    let conditions = json!([
        { "claim": "branch", "expected": "`main`", "got": "feature" },
        { "claim": "environment", "expected": "`production`", "got": null },
        { "claim": "ref_protected", "expected": "`true`" },
        { "claim": "workflow" },
    ]);
    let refusal = json!({
        "error": "invalid_target", "error_description": "No mapping gives it", "reason": "no_mapping",
        "nearest": {
            "mapping": "payments-production", "role": "payments-release", "conditions": conditions,
            "remarks": ["the branch is another than ever"],
        },
        "roles": ["payments-secrets"], "did_you_mean": "payments-secrets", "contact": "payments-oncall@acme.example",
        "claims": { "branch": "feature" },
    });
    let refusing = Impostor::saying(400, &refusal, ENDED);
    let typed = "Rejected: not in the\r\n::stop-commands::freeze <b>of spring</b>";
    let said_no = json!({ "error": "access_denied", "reason": "ceremony_rejected", "error_description": typed });
    let rejecting = Impostor::saying(400, &said_no, ENDED);
    let huge = Impostor::new(format!("HTTP/1.1 200 -\r\n\r\n{}", " ".repeat(300_000)), ENDED);
    let (cut, babbling) = (Impostor::new("", ENDED), Impostor::new("what?\r\n\r\n", ENDED));
    let unknown = format!("https://{}.example", "a".repeat(64));
    let environment = one_try(&act);
    let away = |url, texts| Login { environment: environment.clone(), ..login(url, SKIP, "broker_unreachable", texts) };
    let dry = "role: payments-release, dry-run: true";
    let logins = [
        login(
            issuer.url(),
            SKIP,
            "answer_invalid",
            &["/.well-known/claimbound gave 404. Check `broker-url`; no token"],
        ),
        login(&redirect.url, SKIP, "redirect", &[" redirects (307), and "]),
        login(&page.url, SKIP, "answer_invalid", &["/token gave 200 and not what a broker answers"]),
        login(
            &other.url,
            SKIP,
            "answer_invalid",
            &["not to be used: it holds the role `another`. Its lease is ended at the broker"],
        ),
        login(
            &disobedient.url,
            dry,
            "answer_invalid",
            &[
                "it holds a credential although a dry run was asked for. Its lease was not ended at the broker and runs \
               out by itself. The broker at http://127.0.0.1:",
            ],
        ),
        login(&nowhere.url, SKIP, "answer_invalid", &["it holds no account in `assumed_role_arn`"]),
        login(
            &refusing.url,
            SKIP,
            "no_mapping",
            &[
                "environment: expected `production`, this job has none",
                "ref_protected: expected `true`, what this job has is not known",
                "workflow: does not fit",
                "the branch is another than ever",
                "Roles of this job: `payments-secrets`",
                "Did you mean `payments-secrets`?",
                "<summary>Claims of this job</summary>",
            ],
        ),
        login(&refusing.url, "mode: output", "no_mapping", &["The broker refused this job: No mapping gives it"]),
        login(
            &rejecting.url,
            SKIP,
            "ceremony_rejected",
            &[
                "The broker refused `payments-release`: Rejected: not in the ::stop-commands::freeze <b>of spring</b>",
                "Rejected: not in the ::stop-commands::freeze &lt;b&gt;of spring&lt;/b&gt;<br>Reason: ceremony_rejected",
            ],
        ),
        away(&huge.url, &["cannot be reached: an answer of more than 256 KiB. Given up after 1 try"]),
        away(&cut.url, &["cannot be reached: the connection broke (ECONNRESET)"]),
        away(&babbling.url, &["cannot be reached: the connection failed (HPE_"]),
        away(&unknown, &["cannot be reached: its name is not known (ENOTFOUND)"]),
    ];
    let exit = assert_told(&act, &request, &logins).await;
    let told = vec![format!("token={HANDLE}")];
    assert_eq!([other.told(), disobedient.told(), nowhere.told()], [told.clone(), told.clone(), told]);
    assert_hidden(&act, &exit, &[HANDLE, "ASIAOFNOBODY", "signature-of-nobody"]);
}

#[tokio::test]
async fn inputs_that_do_not_hold_are_told_all_at_once() {
    let (act, issuer, trap) = (act(), Issuer::github(), Trap::new());
    let (request, url) = (issuer.run(&releasing(&issuer)), trap.url());
    let all = "audience: audience, duration: soon, timeout: 1h, mode: environment, on-unavailable: maybe, dry-run: yes please, \
               allowed-account-ids: \"12\", summary: perhaps";
    let logins = [
        login(
            "",
            all,
            "input_invalid",
            &[
                "`broker-url` is empty; it is the broker's `public_url`, for example from `vars.CLAIMBOUND_URL`",
                "`audience` is `audience`, which is no URL",
                "`duration` is `soon`; write a number and one of s, m, h, d, for example `30m`",
                "`timeout` is at most `10m`",
                "`mode` is `environment`; it is one of `agent`, `env`, `file`, `output`, `profile`",
                "`on-unavailable` is `maybe`; it is one of `fail`, `skip`",
                "`dry-run` is `yes please`; it is one of `true`, `false`",
                "`summary` is `perhaps`; it is one of `always`, `failure`, `never`",
                "`allowed-account-ids` has `12`; an AWS account id has 12 digits",
            ],
        ),
        login(
            "https://u@cb.example",
            "audience: https://cb.example/",
            "input_invalid",
            &[
                "`broker-url` is a plain URL: without user, query and fragment",
                "`audience` ends in a slash; write the broker's `public_url` exactly, without it",
            ],
        ),
        login(
            "http://cb.example",
            "mode: output, allowed-account-ids: \"111122223333\"",
            "input_invalid",
            &[
                "`broker-url` must begin with `https://` (`http://` on loopback only): tokens travel to it",
                "`allowed-account-ids` is about AWS, and `mode: output` about a JWT; leave one out",
            ],
        ),
        Login {
            environment: "RUNNER_TEMP: /nowhere".to_owned(),
            ..login(&url, "mode: profile", "runner_unfit", &["`RUNNER_TEMP` is `/nowhere`, which is no folder here"])
        },
        Login {
            environment: "RUNNER_TEMP: \"${{ github.workspace }}\"".to_owned(),
            ..login(&url, "mode: profile", "runner_unfit", &["`RUNNER_TEMP` is inside the workspace, where files"])
        },
    ];
    let exit = assert_told(&act, &request, &logins).await;
    assert!(!log(&exit).contains(&request.bearer), "{}", log(&exit));
    assert_eq!(issuer.given().len(), 0);
}

/// The post step warns and the job stays green, whatever goes wrong; and an error of the action itself says where it is
/// and nothing of what it worked on.
#[tokio::test]
async fn what_goes_wrong_in_the_action_or_after_the_job_is_told() {
    let (act, issuer) = (act(), Issuer::github());
    let request = issuer.run(&releasing(&issuer));
    let credential = json!({
        "kind": "aws", "access_key_id": "ASIAOFNOBODY", "secret_access_key": "secret-of-nobody",
        "session_token": "session-of-nobody", "assumed_role_arn": "arn:aws:sts::111122223333:assumed-role/r/s",
    });
    let over = Impostor::saying(200, &granted(json!({ "expires_in": 0 })), ENDED);
    let kept = Impostor::saying(200, &granted(json!({})), BUSY);
    let stuck = Impostor::saying(200, &granted(json!({ "credential": credential })), ENDED);
    let broken = "const of = process.argv[1] ?? '';\n\
                  if (of.endsWith('main.cjs')) globalThis.URLSearchParams = class {\n\
                  constructor(form) { throw new TypeError('the form was ' + form.subject_token); } };\n";
    let immovable = "const of = process.argv[1] ?? '';\n\
                     if (of.endsWith('post.cjs')) require('fs').rmSync = () => { throw new Error('busy'); };\n";
    let logins = [
        login(&over.url, SKIP, "", &["Lease 0192-cd is over since 20", "; there is nothing to end"]),
        login(
            &kept.url,
            SKIP,
            "",
            &[
                "The lease was not ended at the broker and runs out by itself. The broker at http://127.0.0.1:",
                " answered 503. Given up after 1 try",
            ],
        ),
        Login {
            environment: script(&act, "broken.cjs", broken),
            ..login(
                &over.url,
                SKIP,
                "",
                &["An error of the action itself (TypeError): please report it with this place: "],
            )
        },
        Login {
            environment: script(&act, "immovable.cjs", immovable),
            ..login(
                &stuck.url,
                "role: payments-release, mode: profile",
                "",
                &[
                    "Files or variables of the credential could not all be removed",
                    "::set-env:: AWS_SHARED_CREDENTIALS_FILE=\n",
                ],
            )
        },
    ];
    let exit = assert_told(&act, &request, &logins).await;
    assert_eq!((over.told(), kept.told().len(), stuck.told().len()), (vec![], 1, 1));
    assert!(!log(&exit).contains("the form was"), "{}", log(&exit));
    let tokens = issuer.given();
    let mut secrets = vec![HANDLE, "secret-of-nobody", "session-of-nobody", "signature-of-nobody", &request.bearer];
    secrets.extend(tokens.iter().map(String::as_str));
    assert_hidden(&act, &exit, &secrets);
}

#[tokio::test]
async fn github_s_token_service_that_is_away_is_told() {
    let (act, broker) = (act(), Impostor::new("", ENDED));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let request = TokenRequest { url: format!("http://{closed}/?version=1"), bearer: "request-token".to_owned() };
    let texts = ["GitHub's token service cannot be reached: the connection was refused (ECONNREFUSED). Given up after"];
    let login = Login { environment: one_try(&act), ..login(&broker.url, SKIP, "ci_unavailable", &texts) };
    assert_told(&act, &request, &[login]).await;
}

#[tokio::test]
async fn a_pull_request_of_a_fork_that_is_gone_is_told_so() {
    let payload = json!({ "pull_request": { "number": 7, "head": { "ref": "feature", "repo": null } } });
    let (act, trap) = (act().event("pull_request", payload), Trap::new());
    let exit = act.run(&workflow(&trap.url(), "role: r", ""), None).await;
    assert_failed(
        &exit,
        &["This pull request comes from a deleted fork, and GitHub gives jobs of forks no OIDC token"],
    );
}
