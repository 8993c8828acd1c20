//! The pages on which people claim, over HTTP: what they show, and what of other sites, other people and scanners they
//! do not believe. A browser is at them in `cloud_browser`.

use crate::{BINARY, records};
use claimbound_test_support::{
    broker::Broker,
    canary, command,
    config::BrokerConfig,
    http::{self, Answer},
    issuer::Issuer,
    job::Job,
    jwt,
    provider::{Browser, Provider},
    time::eventually,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
};

/// Ada, Cat, Dee and Eve lead payments; Ann is Ada's other account; Eve started the job; Bob leads nothing; Kim is known to
/// the provider alone.
pub fn accounts() -> Value {
    json!({
        "ada": { "name": "Ada Lead", "email": "ada@acme.example", "email_verified": true, "groups": ["leads"], "github_id": 11 },
        "ann": { "name": "Ada, other account", "groups": ["leads"], "github_id": "11" },
        "cat": { "name": "Cat Lead", "groups": ["leads"], "github_id": "14" },
        "dee": { "name": "Dee Lead", "groups": ["leads"], "github_id": "15" },
        "eve": { "name": "Eve Starter", "groups": ["leads"], "github_id": "12" },
        "bob": { "name": "Bob Other", "groups": ["all"], "github_id": "13" },
        "kim": { "name": "Kim Unlinked", "groups": ["leads"] },
    })
}

/// The default folder, in which people claim `payments-release`; `more` stands in the mapping's `[mapping.ceremony]`.
pub fn config(issuer: &Issuer, provider: &Provider, more: &str) -> BrokerConfig {
    let sign_in = format!(
        "[[sign_in]]\nname = \"idp\"\nissuer = \"{}\"\nclient_id = \"confidential\"\nclient_secret = {{ env = \"IDP_SECRET\" }}\n\
         scopes = [\"profile\", \"email\", \"groups\"]\nallow_private_network = true\nforge_id_claim = {{ github = \"github_id\" }}\n\
         sensitivity.production = {{ max_age = \"15m\" }}\n\n\
         [[operator]]\nsign_in = \"idp\"\nmatch = {{ groups = \"leads\" }}\nmay = [\"audit\"]\n",
        provider.issuer()
    );
    BrokerConfig::new(issuer)
        .toml(&sign_in)
        .env("IDP_SECRET", Provider::SECRET)
        .edit("policy.toml", "\"tag\"]", "\"tag\", \"ceremony\"]")
        .edit("policy.toml", "issuers = [\"github\"]\n", "issuers = [\"github\"]\napprovers = [\"idp:group:leads\"]\n")
        .edit(
            "teams/payments/deploy.toml",
            "environment = \"production\"\n",
            &format!("environment = \"production\"\n[mapping.ceremony]\n{more}\n"),
        )
}

/// Eve's job.
pub fn job(issuer: &Issuer) -> Job<'_> {
    issuer.job().branch("main").environment("production").claim("actor_id", "12").claim("actor", "eve")
}

/// A request that waits for people: its public id, and what the job's log shows.
pub struct Waits {
    pub id: String,
    pub auth_req_id: String,
    pub code: String,
    pub words: String,
}

pub async fn open(broker: &Broker, job: &Job<'_>) -> Waits {
    let answer = broker.exchange_for(&job.token(broker.audience()), "payments-release").await;
    assert_eq!(answer.body["error"], "authorization_pending", "{}", answer.text);
    let id = answer.text_of("claim_uri").strip_prefix(&format!("{}/claim/", broker.audience())).unwrap().to_owned();
    let text = |member: &str| answer.text_of(member).to_owned();
    Waits { id, auth_req_id: text("auth_req_id"), code: text("match_code"), words: text("match_words") }
}

/// The job comes for what was claimed.
pub async fn redeem(broker: &Broker, job: &Job<'_>, waits: &Waits) -> Answer {
    let token = job.token(broker.audience());
    let form = [
        ("grant_type", "urn:openid:params:grant-type:ciba"),
        ("auth_req_id", waits.auth_req_id.as_str()),
        ("subject_token", &token),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
    ];
    broker.exchange(&form).await
}

pub const SESSION: &str = "claimbound-session";
const SIGN_IN: &str = "claimbound-sign-in";

/// A person at the broker's pages: keeps cookies, and says what browsers say of where a form comes from.
pub struct Visitor<'b> {
    broker: &'b Broker,
    pub cookies: BTreeMap<String, String>,
}

impl<'b> Visitor<'b> {
    pub fn new(broker: &'b Broker) -> Self {
        Self { broker, cookies: BTreeMap::new() }
    }

    /// The same browser, whose next request reaches this broker.
    pub fn at<'o>(&self, broker: &'o Broker) -> Visitor<'o> {
        Visitor { broker, cookies: self.cookies.clone() }
    }

    /// Somebody who has signed in.
    pub async fn signed_in(broker: &'b Broker, login: &str) -> Self {
        let mut visitor = Self::new(broker);
        let back = visitor.provider(login, None).await;
        let landed = visitor.get(&back).await;
        assert_eq!(landed.status, 200, "{}", landed.text);
        visitor
    }

    pub async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], form: &[(&str, &str)]) -> Answer {
        // The public address leads to whichever broker the browser is at; another, to where it says.
        let path = path.strip_prefix(self.broker.audience()).unwrap_or(path);
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.broker.url()) };
        let mut request = http::client().request(method.parse().unwrap(), url);
        if method == "POST" {
            request = request.form(form);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = http::send(request.header("cookie", cookies.join("; "))).await.unwrap();
        for cookie in answer.headers.get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok()) {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            match value {
                "" => self.cookies.remove(name),
                value => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        answer
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], &[]).await
    }

    /// A form of one of the broker's pages, as browsers send it where the page sends no referrer.
    pub async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Answer {
        self.send("POST", path, &OWN, form).await
    }

    /// Begins to sign in; where the provider sends the browser in the end.
    pub async fn provider(&mut self, login: &str, to: Option<&str>) -> String {
        let form: Vec<_> = [("sign_in", "idp")].into_iter().chain(to.map(|to| ("to", to))).collect();
        let going = self.post("/claim/sign-in", &form).await;
        assert_eq!(going.status, 200, "{}", going.text);
        let back = Browser::default().sign_in(&link(&going), login).await;
        back.unwrap_or_else(|page| panic!("{}", page.text))
    }

    /// Loads a ceremony's page and sends one of its forms.
    pub async fn say(&mut self, verb: &str, id: &str, fields: &[(&str, &str)]) -> Answer {
        let path = if verb == "claim" { format!("/claim/{id}") } else { format!("/claim/{id}/{verb}") };
        let page = self.get(&format!("/claim/{id}")).await;
        let token = form_token(&page, &path);
        self.post(&path, &[&[("form_token", token.as_str())], fields].concat()).await
    }
}

const OWN: [(&str, &str); 2] = [("origin", "null"), ("sec-fetch-site", "same-origin")];

/// Where a page leads on.
pub fn link(page: &Answer) -> String {
    let url = page.text.split("content=\"0; url=").nth(1).unwrap_or_else(|| panic!("{}", page.text));
    url.split('"').next().unwrap().replace("&#38;", "&")
}

/// The token of the form with this action; empty, where there is none.
pub fn form_token(page: &Answer, action: &str) -> String {
    let form = page.text.split(&format!("action=\"{action}\"")).nth(1).unwrap_or_default();
    let form = form.split("</form>").next().unwrap_or_default();
    form.split("name=\"form_token\" value=\"").nth(1).unwrap_or_default().split('"').next().unwrap().to_owned()
}

pub fn assert_page(answer: &Answer, status: u16, told: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert!(answer.text.contains(told), "no `{told}` in {}", answer.text);
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    let policy = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    assert_eq!(answer.header("content-security-policy"), policy);
    for (name, value) in [
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("access-control-allow-origin", ""),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    assert!(!answer.text.contains("<script") && !answer.text.contains("javascript:"), "{}", answer.text);
}

pub fn state_of(broker: &Broker, id: &str) -> (String, i64) {
    let store = rusqlite::Connection::open(broker.database()).unwrap();
    let sql = "SELECT state, version FROM ceremonies WHERE lower(hex(id)) = ?1";
    let (state, version): (String, i64) = store.query_row(sql, [id], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    (state["state"].as_str().unwrap().to_owned(), version)
}

/// Every row of the store that a request of a browser could change.
fn rows(broker: &Broker) -> Vec<String> {
    let store = rusqlite::Connection::open(broker.database()).unwrap();
    let tables = ["ceremonies", "waiting", "standing", "sessions", "leases", "spent", "records"];
    let mut rows = Vec::new();
    for table in tables {
        let mut all = store.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = all.column_count();
        let mut found = all.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let values: Vec<_> = (0..columns).map(|at| format!("{:?}", row.get_ref(at).unwrap())).collect();
            rows.push(format!("{table}: {}", values.join(" ")));
        }
    }
    rows
}

/// What opens links before people do.
const SCANNERS: [&str; 5] = [
    "Mozilla/5.0 (compatible; SafeLinks)",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "Mozilla/5.0 (compatible; Discordbot/2.0)",
    "SkypeUriPreview Preview/0.5",
    "Mozilla/5.0 (compatible; proofpoint)",
];

#[tokio::test]
async fn security_117_a_person_claims_and_scanners_change_nothing() {
    let (issuer, provider) = (Issuer::github(), Provider::start(&accounts()).await);
    let broker = Broker::start(BINARY, config(&issuer, &provider, "when = \"every\"")).await;
    let job = job(&issuer);
    let waits = open(&broker, &job).await;
    let path = format!("/claim/{}", waits.id);

    // Who is not signed in sees the same for every link, and nothing of what is asked.
    let mut ada = Visitor::new(&broker);
    let start = ada.get(&path).await;
    assert_page(&start, 200, "Sign in with idp");
    assert!(!start.text.contains("payments"), "{}", start.text);
    let other = "0123456789abcdef0123456789abcdef";
    let unknown = ada.get(&format!("/claim/{other}")).await;
    assert_eq!((unknown.status, unknown.text.replace(other, &waits.id)), (200, start.text.clone()));

    // Link scanners come with every method that is said to be safe, signed in or not.
    let back = ada.provider("ada", Some(&waits.id)).await;
    let landed = ada.get(&back).await;
    assert_page(&landed, 200, "You are signed in");
    assert_eq!(link(&landed), path, "to where they came from");
    let before = rows(&broker);
    assert!(before.iter().any(|row| row.starts_with("ceremonies: ")), "{before:?}");
    for number in 0..54 {
        let agents = [("user-agent", SCANNERS[number % SCANNERS.len()]), ("purpose", "prefetch")];
        let method = if number < 50 { ["GET", "HEAD"][number / 2 % 2] } else { "OPTIONS" };
        let (by, path) = match number % 2 {
            0 => (&mut Visitor::new(&broker), path.clone()),
            _ => (&mut ada, format!("{path}?form_token=x&code={}&reason=r", waits.code)),
        };
        let answer = by.send(method, &path, &agents, &[]).await;
        assert_eq!(answer.status, if method == "OPTIONS" { 405 } else { 200 }, "{method} {}", answer.text);
    }
    for path in [format!("{path}/reject"), "/claim/sign-out".into(), "/claim/sign-in".into()] {
        assert_eq!(ada.get(&path).await.status, 405, "{path}");
    }
    assert_eq!(rows(&broker), before, "the store is as it was");

    // What is bound, with ids beside names, and what is not proven.
    let page = ada.get(&path).await;
    assert_page(&page, 200, "Claim payments-release");
    for told in [
        "Ada Lead",
        "idp:ada",
        "acme/payments-api <span class=\"id\">id 740000001</span>",
        "at most 30 minutes",
        "payments-production of team payments",
        "payments-oncall@acme.example",
        "What is not proven",
        "<dt>environment</dt><dd>production</dd>",
        "<dt>initiator_id</dt><dd>12</dd>",
    ] {
        assert!(page.text.contains(told), "no `{told}` in {}", page.text);
    }
    for word in waits.words.split(' ') {
        assert!(page.text.contains(&format!("<span>{word}</span>")), "{word}: {}", page.text);
    }
    assert!(!page.text.contains(&waits.code) && !page.text.contains(&waits.auth_req_id), "both are the job's");
    let style = ada.get("/claim/style.css").await;
    assert_eq!((style.status, style.header("content-type")), (200, "text/css; charset=utf-8"));

    let list = ada.get("/claim").await;
    assert_page(&list, 200, &format!("<a href=\"{path}\">payments-release</a> <span class=\"state\">pending</span>"));

    // The code is asked for after everything else, and counted.
    let none = ada.say("claim", &waits.id, &[("code", &waits.code)]).await;
    assert_page(&none, 409, "Give a reason");
    let wrong = ada.say("claim", &waits.id, &[("code", "0000-0000"), ("reason", "a <b>release</b>")]).await;
    assert_page(&wrong, 422, "not the one in the job&#39;s log");
    assert!(wrong.text.contains("a &#60;b&#62;release&#60;/b&#62;</textarea>"), "{}", wrong.text);
    assert!(wrong.text.contains("You have 4 tries left"), "{}", wrong.text);
    let typed = waits.code.to_lowercase().replace('-', " ");
    let done = ada.say("claim", &waits.id, &[("code", &typed), ("reason", "release\r\n 1.2")]).await;
    assert_eq!((done.status, done.header("location")), (303, path.as_str()), "{}", done.text);
    let page = ada.get(&path).await;
    assert_page(&page, 200, "It is claimed.");
    assert!(page.text.contains("release 1.2") && form_token(&page, &path).is_empty(), "{}", page.text);
    let (body, details) = records::all(&broker).into_iter().rfind(|(body, _)| body["kind"] == "ceremony").unwrap();
    assert_eq!(body["state"], "claimed", "{body}");
    assert_eq!(
        (&details["person"]["subject"], &details["person"]["forge_ids"]["github"]),
        (&json!("ada"), &json!("11"))
    );
    assert!(details["person"]["auth_time"].is_i64(), "{details}");

    let answer = redeem(&broker, &job, &waits).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_page(&ada.get(&path).await, 200, "It is done.");
    let list = ada.get("/claim").await;
    assert_page(&list, 200, "<span class=\"state\">consumed</span>");
    assert!(list.text.contains("yours among them"), "{}", list.text);

    // Signing out ends the session, not only the cookie.
    let session = ada.cookies[SESSION].clone();
    let token = form_token(&ada.get("/claim").await, "/claim/sign-out");
    let out = ada.post("/claim/sign-out", &[("form_token", &token)]).await;
    assert_eq!((out.status, out.header("location")), (303, "/claim"), "{}", out.text);
    assert!(!ada.cookies.contains_key(SESSION));
    ada.cookies.insert(SESSION.to_owned(), session.clone());
    assert_page(&ada.get("/claim").await, 200, "Sign in with idp");
    let code = back.split("code=").nth(1).unwrap().split('&').next().unwrap();
    canary::assert_absent(broker.directory(), &[&session, code, &waits.code, &waits.auth_req_id]);
}

#[tokio::test]
async fn security_121_what_other_sites_and_other_browsers_send_is_not_believed() {
    let (issuer, provider) = (Issuer::github(), Provider::start(&accounts()).await);
    let broker = Broker::start(BINARY, config(&issuer, &provider, "when = \"every\"")).await;
    let waits = open(&broker, &job(&issuer)).await;
    let path = format!("/claim/{}", waits.id);

    // A sign-in ends at the browser that began it, once, and leads to our own pages.
    let (mut ada, mut mallory) = (Visitor::new(&broker), Visitor::new(&broker));
    ada.cookies.insert(SESSION.to_owned(), "cbp_planted".to_owned());
    let back = ada.provider("ada", Some("//evil.example")).await;
    let kept = ada.cookies[SIGN_IN].clone();
    assert_page(&mallory.get(&back).await, 400, "No sign-in has begun at this browser");
    let of_mallory = mallory.provider("bob", None).await;
    assert_page(&mallory.get(&back).await, 403, "The sign-in was not accepted");
    assert!(!mallory.cookies.contains_key(SESSION) && !mallory.cookies.contains_key(SIGN_IN), "good for one answer");
    assert_page(&ada.get(&of_mallory).await, 403, "The sign-in was not accepted");
    for answer in ["error=access_denied&state=x", "error=%3Cscript%3E", "code=x", "code=a&code=b&state=c", ""] {
        ada.cookies.insert(SIGN_IN.to_owned(), kept.clone());
        let refused = ada.get(&format!("/claim/callback?{answer}")).await;
        assert_page(&refused, 403, "did not sign you in");
    }
    assert!(broker.log().contains("the state is not that of this sign-in"));
    let back = ada.provider("ada", Some("//evil.example")).await;
    let landed = ada.get(&back).await;
    assert_eq!((landed.status, link(&landed)), (200, "/claim".to_owned()), "another return path is none");
    let session = ada.cookies[SESSION].clone();
    assert!(session.starts_with("cbp_") && session.len() == 47, "a session of its own: {session}");
    let set: Vec<_> = landed.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    assert!(set.iter().any(|set| set.ends_with("; Path=/; Max-Age=900; HttpOnly; SameSite=Strict")), "{set:?}");
    assert_eq!(ada.get(&back).await.status, 400, "over");

    // A form of another site, of another page, of another session, or of none.
    let page = ada.get(&path).await;
    let (token, reject) = (form_token(&page, &path), form_token(&page, &format!("{path}/reject")));
    assert!(token.len() == 43 && reject.len() == 43 && token != reject, "{token} {reject}");
    let mut eve = Visitor::signed_in(&broker, "eve").await;
    let of_eve = form_token(&eve.get(&path).await, &format!("{path}/reject"));
    assert!(of_eve.len() == 43 && of_eve != reject);
    let before = state_of(&broker, &waits.id);
    let ours = broker.url().to_owned();
    for headers in [
        vec![],
        vec![("origin", "null")],
        vec![("origin", "https://evil.example")],
        vec![("origin", "null"), ("sec-fetch-site", "cross-site")],
        vec![("origin", ours.as_str()), ("sec-fetch-site", "same-site")],
        vec![("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")],
    ] {
        let form = [("form_token", token.as_str()), ("code", &waits.code), ("reason", "r")];
        let answer = ada.send("POST", &path, &headers, &form).await;
        assert_page(&answer, 403, "not sent by a page of this site");
    }
    for given in ["", "x", reject.as_str(), of_eve.as_str()] {
        let form = [("form_token", given), ("code", &waits.code), ("reason", "r")];
        assert_page(&ada.post(&path, &form).await, 403, "made for another session");
    }
    let form = [("code", waits.code.as_str()), ("reason", "r")];
    assert_page(&ada.post(&path, &form).await, 403, "made for another session");
    let form = [("form_token", token.as_str()), ("code", &waits.code), ("reason", "r")];
    assert_page(&Visitor::new(&broker).post(&path, &form).await, 401, "not signed in any more");
    let twice = [&form[..], &[("code", "0000-0000")]].concat();
    assert_page(&ada.post(&path, &twice).await, 400, "could not be read");
    assert_page(&ada.post(&format!("{path}?x=y"), &form).await, 400, "could not be read");
    assert_eq!(state_of(&broker, &waits.id), before);

    // A session of pages opens nothing for operators, and an operator's nothing here.
    let operator = http::client().get(format!("{}/operator/session", broker.operator_url())).bearer_auth(&session);
    assert_eq!(http::send(operator).await.unwrap().status, 401);
    let mut planted = Visitor::new(&broker);
    for value in [session.replace("cbp_", "cbs_"), format!("{session}; {SESSION}={session}")] {
        planted.cookies.insert(SESSION.to_owned(), value);
        assert_page(&planted.get("/claim").await, 200, "Sign in with idp");
    }

    // Who may not know of it is told what is told of none.
    let mut bob = Visitor::signed_in(&broker, "bob").await;
    let theirs = bob.get(&path).await;
    assert_page(&theirs, 404, "Nothing here for you");
    for other in ["0123456789abcdef0123456789abcdef", "x", "..%2f..%2ftoken"] {
        let none = bob.get(&format!("/claim/{other}")).await;
        assert_eq!((none.status, &none.text), (404, &theirs.text), "{other}");
    }
    let page = eve.get(&path).await;
    assert_page(&page, 200, "You cannot claim it:</strong> you started the job");
    assert_eq!(form_token(&page, &path), "", "no form for what would be refused");
    assert_page(&Visitor::signed_in(&broker, "kim").await.get(&path).await, 200, "is not linked to the CI system");

    // A sign-in that is too old for the role: seen, asked for again, and refused before the code is looked at.
    let store = rusqlite::Connection::open(broker.database()).unwrap();
    store.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let sql = "UPDATE sessions SET person = json_set(person, '$.auth_time', 1) WHERE operator = 'idp:ada'";
    store.execute(sql, []).unwrap();
    let old = ada.get(&path).await;
    assert_page(&old, 200, "you have to have signed in within the last 15 minutes");
    assert_eq!(form_token(&old, &path), "");
    assert_page(&ada.post(&path, &form).await, 403, "signed in within the last 15 minutes");
    assert_eq!(state_of(&broker, &waits.id), before);
    let going = ada.post("/claim/sign-in", &[("sign_in", "idp"), ("to", &waits.id)]).await;
    assert!(link(&going).contains("&max_age=900"), "{}", link(&going));
    let done = ada.say("reject", &waits.id, &[("reason", "not\u{202E} expected")]).await;
    assert_eq!(done.status, 303, "however old the sign-in is, one may say no: {}", done.text);
    assert_page(&ada.get(&path).await, 200, "It was rejected");
    assert_eq!(state_of(&broker, &waits.id).0, "rejected");
    let refused = redeem(&broker, &job(&issuer), &waits).await;
    assert_eq!(refused.body["error"], "access_denied");
    let said = "The request was rejected, with these words: not‹U+202E› expected";
    assert_eq!(refused.text_of("error_description"), said);

    // Nobody may try for ever.
    let mut last = 0;
    for _ in 0..12 {
        last = ada.post(&format!("{path}/reject"), &[("form_token", &reject), ("reason", "again")]).await.status;
        assert!([409, 429].contains(&last), "{last}");
    }
    assert_eq!(last, 429);
}

#[tokio::test]
async fn security_116_what_jobs_write_is_shown_as_it_is() {
    let (issuer, provider) = (Issuer::github(), Provider::start(&accounts()).await);
    let ceremony = "when = \"first_use\"\nremember = [\"environment\"]\nvalid_for = \"30d\"\nclaim_within = \"1d\"";
    let config = config(&issuer, &provider, ceremony).edit("teams/payments/deploy.toml", "branch = \"main\"\n", "");
    let mut broker = Broker::start(BINARY, config.clone()).await;
    let mut ada = Visitor::signed_in(&broker, "ada").await;

    let long = "x".repeat(900);
    let names = [
        ("main\u{202E}niam", "main<span class=\"mark\">U+202E</span>niam"),
        ("p\u{0430}yments", "p<span class=\"mark\"><bdi>\u{0430}</bdi> U+0430</span>yments"),
        ("<script>alert(1)</script>", "&#60;script&#62;alert(1)&#60;/script&#62;"),
        ("a\u{200B}b\u{2066}c", "a<span class=\"mark\">U+200B</span>b<span class=\"mark\">U+2066</span>c"),
        (long.as_str(), "<span class=\"cut\">… and 700 characters more</span>"),
    ];
    for (number, (name, shown)) in names.into_iter().enumerate() {
        let repository = ["acme/payments-api", "acme/payments-web"][number % 2];
        let job = job(&issuer).repository(repository).branch(name).claim("actor", name);
        let waits = open(&broker, &job).await;
        let page = ada.get(&format!("/claim/{}", waits.id)).await;
        assert_page(&page, 200, "First use of payments-release");
        assert!(page.text.contains(shown), "no `{shown}` in {}", page.text);
        assert!(!page.text.contains(['\u{202E}', '\u{200B}', '\u{2066}']), "{}", page.text);
        assert!(page.text.len() < 40_000, "{}", page.text.len());
        assert!(page.text.contains("What will be remembered") && page.text.contains("for 30 days"), "{}", page.text);
        let done = ada.say("reject", &waits.id, &[("reason", "strange")]).await;
        assert_eq!(done.status, 303, "{}", done.text);
    }

    // What would steer a terminal is no claim of a job.
    let steering = job(&issuer).branch("\u{1b}[31mred").token(broker.audience());
    assert_eq!(broker.exchange_for(&steering, "payments-release").await.body["reason"], "token_not_accepted");

    // Two jobs wait for one; once it is claimed there is nothing more to say.
    let (one, other) = (job(&issuer).branch("a"), job(&issuer).branch("b").claim("run_id", "77"));
    let waits = open(&broker, &one).await;
    assert_eq!(open(&broker, &other).await.id, waits.id);
    let page = ada.get(&format!("/claim/{}", waits.id)).await;
    assert!(page.text.contains("2 wait for this claim"), "{}", page.text);
    let done = ada.say("claim", &waits.id, &[("code", &waits.code), ("reason", "ours")]).await;
    assert_eq!(done.status, 303, "{}", done.text);
    let page = ada.get(&format!("/claim/{}", waits.id)).await;
    assert_page(&page, 200, "Jobs with the values below get the role from now on");
    assert_eq!(form_token(&page, &format!("/claim/{}/reject", waits.id)), "");
    let again = broker.exchange_for(&one.token(broker.audience()), "payments-release").await;
    assert_eq!(again.status, 200, "{}", again.text);

    // Under another rule the claim is void, and whoever is asked again sees what is different.
    let cookies = ada.cookies.clone();
    let version = broker.health().await["mappings_version"].clone();
    broker.rewrite(config.edit("teams/payments/deploy.toml", "max_duration = \"30m\"", "max_duration = \"45m\""));
    broker.signal("HUP").await;
    let other = async || Some(broker.health().await).filter(|health| health["mappings_version"] != version);
    eventually(std::time::Duration::from_secs(20), other).await;
    let mut ada = Visitor { broker: &broker, cookies };
    let waits = open(&broker, &one).await;
    let page = ada.get(&format!("/claim/{}", waits.id)).await;
    for told in ["since the last claim", "by idp:ada", "life was 1800 seconds, and is 2700 seconds."] {
        assert!(page.text.contains(told), "no `{told}` in {}", page.text);
    }
}

/// The command line at the job's end, the pages at the person's: it waits, and has its credential once it is claimed; one
/// that is interrupted takes its request back.
#[tokio::test]
async fn a_job_s_command_waits_for_a_person() {
    let (issuer, provider) = (Issuer::github(), Provider::start(&accounts()).await);
    let broker = Broker::start(BINARY, config(&issuer, &provider, "when = \"every\"")).await;
    let request = issuer.run(&job(&issuer));
    let home = tempfile::tempdir().unwrap();
    let login = || {
        let mut login = command::command(Path::new(BINARY), home.path());
        login.args(["login", "--role", "payments-release", "--mode", "output"]);
        login.env("CLAIMBOUND_URL", broker.audience()).env("CLAIMBOUND_STATE_DIR", home.path().join("state"));
        login.env("ACTIONS_ID_TOKEN_REQUEST_URL", &request.url);
        login.env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", &request.bearer);
        login.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
    };
    // What its log shows: link, code and words.
    let shown = async |child: &mut Child| {
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut found = BTreeMap::new();
        while !found.contains_key("words") {
            let line = lines.next_line().await.unwrap().expect("it says what a person needs");
            for name in ["link", "code", "words"] {
                if let Some(value) = line.trim_start().strip_prefix(&format!("{name}: ")) {
                    let value = value.trim_start().split("   (").next().unwrap();
                    found.insert(name, value.to_owned());
                }
            }
        }
        let log = tokio::spawn(async move {
            let mut rest = String::new();
            while let Ok(Some(line)) = lines.next_line().await {
                rest.push_str(&line);
            }
            rest
        });
        (found, log)
    };
    let mut child = login();
    let (found, log) = shown(&mut child).await;
    let id = found["link"].rsplit('/').next().unwrap();
    let mut ada = Visitor::signed_in(&broker, "ada").await;
    let page = ada.get(&format!("/claim/{id}")).await;
    assert!(found["words"].split(' ').all(|word| page.text.contains(word)), "{}", page.text);
    let claimed = ada.say("claim", id, &[("code", &found["code"]), ("reason", "release 1.2")]).await;
    assert_eq!(claimed.status, 303, "{}", claimed.text);
    let done = child.wait_with_output().await.unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", log.await.unwrap());
    let claims = jwt::claims_of(String::from_utf8(done.stdout).unwrap().trim());
    assert_eq!((&claims["role"], claims["approved_by"].as_array().unwrap().len()), (&json!("payments-release"), 1));
    assert_eq!(state_of(&broker, id).0, "consumed");

    let mut child = login();
    let (found, _log) = shown(&mut child).await;
    command::signal(&child, "TERM").await;
    let done = child.wait_with_output().await.unwrap();
    assert_ne!(done.status.code(), Some(0));
    assert_eq!(state_of(&broker, found["link"].rsplit('/').next().unwrap()).0, "withdrawn");
}
