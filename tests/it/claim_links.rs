//! People who show which account at a code host is theirs, by OAuth: what that lets them claim, and what of it is not believed. The
//! code host is a double, made by GitHub's and GitLab's documentation.

use crate::{
    BINARY,
    claim_pages::{SESSION, Visitor, assert_page, form_token, job, link, open, redeem, state_of},
    records,
};
use claimbound_test_support::{
    accounts::CodeHost, broker::Broker, canary, config::BrokerConfig, issuer::Issuer, provider::Provider,
};
use serde_json::{Value, json};

/// The provider knows nobody's account.
pub fn config(github: &Issuer, gitlab: &Issuer, provider: &Provider, host: &CodeHost) -> BrokerConfig {
    let forge = |name: &str| {
        format!(
            "[forge.{name}]\nkind = \"{name}\"\nurl = \"{}\"\nclient_id = \"{}\"\nclient_secret = {{ env = \"FORGE_SECRET\" }}\n\
             allow_private_network = true\n\n",
            host.url(),
            CodeHost::CLIENT_ID
        )
    };
    let sign_in = format!(
        "[[sign_in]]\nname = \"idp\"\nissuer = \"{}\"\nclient_id = \"confidential\"\nclient_secret = {{ env = \"IDP_SECRET\" }}\n\
         scopes = [\"profile\", \"email\", \"groups\"]\nallow_private_network = true\n\n{}{}",
        provider.issuer(),
        forge("github"),
        forge("gitlab")
    );
    let gitlab_too = "[issuer.gitlab]\nprofile = \"gitlab\"\nurl = \"{issuer.gitlab}\"\nowners = { acme = 65 }\n\n[sensitivity.production]\n";
    BrokerConfig::new(github)
        .issuer("gitlab", gitlab)
        .toml(&sign_in)
        .env("IDP_SECRET", Provider::SECRET)
        .env("FORGE_SECRET", CodeHost::SECRET)
        .edit("policy.toml", "[sensitivity.production]\n", gitlab_too)
        .edit("policy.toml", "\"tag\"]", "\"tag\", \"ceremony\"]")
        .edit("policy.toml", "issuers = [\"github\"]\n", "issuers = [\"github\"]\napprovers = [\"idp:group:leads\"]\n")
        .edit(
            "teams/payments/deploy.toml",
            "environment = \"production\"\n",
            "environment = \"production\"\n[mapping.ceremony]\nwhen = \"every\"\n",
        )
}

pub fn people() -> Value {
    json!({
        "ada": { "name": "Ada Lead", "groups": ["leads"] },
        "eve": { "name": "Eve Starter", "groups": ["leads"] },
    })
}

/// A field of a page's form.
fn hidden(page: &str, name: &str) -> String {
    let value =
        page.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap_or_else(|| panic!("no `{name}` in {page}"));
    value.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&")
}

/// To the code host, from the form on this page, and back: the page that asks.
async fn to_host(visitor: &mut Visitor<'_>, host: &CodeHost, page: &str, issuer: &str, account: &Value) -> String {
    let token = form_token(&visitor.get(page).await, "/claim/link");
    let to = page.rsplit('/').next().unwrap();
    let going = visitor.post("/claim/link", &[("form_token", &token), ("issuer", issuer), ("to", to)]).await;
    assert_page(&going, 200, &format!("Going on to {issuer}"));
    host.agree(&link(&going), account)
}

async fn finish(visitor: &mut Visitor<'_>, back: &str) -> claimbound_test_support::http::Answer {
    let asks = visitor.get(back).await;
    assert_page(&asks, 200, "Is this account yours?");
    let (code, state) = (hidden(&asks.text, "code"), hidden(&asks.text, "state"));
    visitor.post("/claim/link/finish", &[("code", &code), ("state", &state)]).await
}

/// An account at GitHub, from the list of accounts.
async fn show(visitor: &mut Visitor<'_>, host: &CodeHost, account: &Value) -> u16 {
    let token = form_token(&visitor.get("/claim").await, "/claim/link");
    let going = visitor.post("/claim/link", &[("form_token", &token), ("issuer", "github")]).await;
    let back = host.agree(&link(&going), account);
    finish(visitor, &back).await.status
}

/// Takes it back.
async fn remove(visitor: &mut Visitor<'_>) -> u16 {
    let token = form_token(&visitor.get("/claim").await, "/claim/link/remove");
    let form = [("form_token", token.as_str()), ("issuer", "github")];
    visitor.post("/claim/link/remove", &form).await.status
}

#[tokio::test]
async fn who_shows_their_account_may_claim_what_others_started() {
    let (github, gitlab) = (Issuer::github(), Issuer::gitlab());
    let (provider, host) = (Provider::start(&people()).await, CodeHost::start().await);
    let broker = Broker::start(BINARY, config(&github, &gitlab, &provider, &host)).await;
    let job = job(&github);
    let waits = open(&broker, &job).await;
    let path = format!("/claim/{}", waits.id);
    let before = state_of(&broker, &waits.id);

    let mut ada = Visitor::signed_in(&broker, "ada").await;
    let page = ada.get(&path).await;
    assert_page(&page, 200, "is not linked to the CI system");
    assert!(page.text.contains("Link your account at github") && form_token(&page, &path).is_empty(), "{}", page.text);

    // Nothing is kept before a form of our own, in the session that began it, says so.
    let octo = json!({ "id": 31, "login": "ada-octo\u{202E}" });
    let back = to_host(&mut ada, &host, &path, "github", &octo).await;
    let mut mallory = Visitor::new(&broker);
    assert_page(&mallory.get(&back).await, 400, "No linking has begun at this browser");
    let asks = ada.get(&back).await;
    let form = [("code", hidden(&asks.text, "code")), ("state", hidden(&asks.text, "state"))];
    let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert!(host.asked().is_empty(), "looking asks nobody");
    for headers in [vec![], vec![("origin", "null"), ("sec-fetch-site", "cross-site")]] {
        let answer = ada.send("POST", "/claim/link/finish", &headers, &form).await;
        assert_page(&answer, 403, "not sent by a page of this site");
    }
    mallory.cookies = ada.cookies.clone();
    mallory.cookies.remove(SESSION);
    assert_page(&mallory.post("/claim/link/finish", &form).await, 401, "Nothing was linked");
    // Whose browser is led to another's answer: their session is not the one that began it.
    let mut eve = Visitor::signed_in(&broker, "eve").await;
    let session = eve.cookies[SESSION].clone();
    mallory.cookies.insert(SESSION.to_owned(), session);
    assert_page(&mallory.post("/claim/link/finish", &form).await, 403, "Nothing was linked");
    assert!(host.asked().is_empty(), "nor does it reach the code host");
    let changed = [("code", form[0].1), ("state", "x")];
    let cookies = ada.cookies.clone();
    assert_page(&ada.post("/claim/link/finish", &changed).await, 403, "Nothing was linked");
    ada.cookies = cookies;
    assert_page(&ada.get(&path).await, 200, "is not linked to the CI system");

    let done = finish(&mut ada, &back).await;
    assert_eq!((done.status, done.header("location")), (303, path.as_str()), "{}", done.text);
    assert_eq!(host.asked(), ["POST /login/oauth/access_token", "GET /api/v3/user"]);
    assert_page(&ada.get(&path).await, 200, "It waits for you.");
    assert_page(&ada.get(&back).await, 400, "No linking has begun");
    let list = ada.get("/claim").await;
    let shown = "github: ada-octo<span class=\"mark\">U+202E</span> <span class=\"id\">id 31</span>, until ";
    assert_page(&list, 200, shown);
    assert!(list.text.contains("gitlab: none"), "{}", list.text);
    let (body, details) =
        records::all(&broker).into_iter().rfind(|(body, _)| body["kind"] == "account_linked").unwrap();
    assert_eq!((&body["how"], details["person"]["subject"].as_str()), (&json!("oauth"), Some("ada")));
    assert_eq!(details["account"], json!({ "issuer": "github", "id": "31", "name": "ada-octo\u{202E}" }));
    assert!(!body.to_string().contains("octo"), "{body}");

    // Eve's account is the one that started the job.
    let back = to_host(&mut eve, &host, &path, "github", &json!({ "id": 12, "login": "eve" })).await;
    assert_eq!(finish(&mut eve, &back).await.status, 303);
    assert_page(&eve.get(&path).await, 200, "you started the job");
    // Another account, quickly: known from tomorrow on, and until then they are nobody.
    let token = form_token(&eve.get("/claim").await, "/claim/link");
    let going = eve.post("/claim/link", &[("form_token", &token), ("issuer", "github")]).await;
    let back = host.agree(&link(&going), &json!({ "id": 99, "login": "sock" }));
    assert_eq!(finish(&mut eve, &back).await.header("location"), "/claim");
    assert_page(&eve.get("/claim").await, 200, "github: sock <span class=\"id\">id 99</span>, counts from ");
    assert_page(&eve.get(&path).await, 200, "is not linked to the CI system");
    let (_, details) = records::all(&broker).into_iter().rfind(|(body, _)| body["kind"] == "account_linked").unwrap();
    assert_eq!(details["instead_of"]["id"], "12", "{details}");

    // GitLab's interface, from the list of accounts.
    let token = form_token(&ada.get("/claim").await, "/claim/link");
    let going = ada.post("/claim/link", &[("form_token", &token), ("issuer", "gitlab")]).await;
    assert!(link(&going).contains("scope=read_user"), "{}", link(&going));
    let back = host.agree(&link(&going), &json!({ "id": 7, "username": "ada" }));
    assert_eq!(finish(&mut ada, &back).await.status, 303);
    assert_eq!(host.asked()[6..], ["POST /oauth/token", "GET /api/v4/user"]);
    assert_page(&ada.get("/claim").await, 200, "gitlab: ada <span class=\"id\">id 7</span>");
    let answer = ada.post("/claim/link", &[("form_token", &token), ("issuer", "elsewhere")]).await;
    assert_page(&answer, 404, "no such code host");

    // Taken back at once, by a form that was made for it. Another one has to wait all the same; the same one has not.
    let token = form_token(&ada.get("/claim").await, "/claim/link");
    let other = ada.post("/claim/link/remove", &[("form_token", &token), ("issuer", "github")]).await;
    assert_page(&other, 403, "made for another session");
    assert_eq!(remove(&mut eve).await, 303);
    assert!(eve.get("/claim").await.text.contains("github: none"));
    let (_, details) = records::all(&broker).into_iter().rfind(|(body, _)| body["kind"] == "account_unlinked").unwrap();
    let who = (&details["person"]["subject"], &details["account"]["id"]);
    assert_eq!(who, (&json!("eve"), &json!("99")), "{details}");
    assert_eq!(show(&mut eve, &host, &json!({ "id": 12, "login": "eve" })).await, 303);
    assert_page(&eve.get("/claim").await, 200, "github: eve <span class=\"id\">id 12</span>, counts from ");
    assert_eq!(remove(&mut ada).await, 303);
    assert_page(&ada.get(&path).await, 200, "is not linked to the CI system");
    assert_eq!(show(&mut ada, &host, &octo).await, 303);

    assert_eq!(state_of(&broker, &waits.id), before);
    let done = ada.say("claim", &waits.id, &[("code", &waits.code), ("reason", "release 1.2")]).await;
    assert_eq!(done.status, 303, "{}", done.text);
    let (_, details) = records::all(&broker).into_iter().rfind(|(body, _)| body["kind"] == "ceremony").unwrap();
    assert_eq!(details["person"]["forge_ids"], json!({ "github": "31", "gitlab": "7" }));
    assert_eq!(redeem(&broker, &job, &waits).await.status, 200);
    let tokens = host.tokens();
    assert_eq!(tokens.len(), 6);
    let secrets: Vec<&str> = tokens.iter().map(String::as_str).chain([CodeHost::SECRET]).collect();
    canary::assert_absent(broker.directory(), &secrets);
}

#[tokio::test]
async fn where_the_sign_in_says_who_people_are_they_show_nothing() {
    let (github, gitlab) = (Issuer::github(), Issuer::gitlab());
    let (provider, host) = (Provider::start(&people()).await, CodeHost::start().await);
    let claim = "[[sign_in]]\nname = \"directory\"\nissuer = \"https://directory.acme.example\"\nclient_id = \"c\"\n\
                 forge_id_claim = { gitbuh = \"x\" }\n";
    let exit = Broker::refused(BINARY, &config(&github, &gitlab, &provider, &host).toml(claim)).await;
    assert!(exit.stderr.contains("speaks of `gitbuh`"), "{}", exit.stderr);
    let forge = "[forge.gitbuh]\nkind = \"github\"\nclient_id = \"c\"\nclient_secret = { env = \"FORGE_SECRET\" }\n";
    let exit = Broker::refused(BINARY, &config(&github, &gitlab, &provider, &host).toml(forge)).await;
    assert_eq!(exit.code, Some(2), "{}", exit.stderr);
    assert!(exit.stderr.contains("the configuration has `[forge.gitbuh]`"), "{}", exit.stderr);

    // The claim alone counts, also where it is missing.
    let config = crate::claim_pages::config(&github, &provider, "when = \"every\"");
    let forge = format!("{forge}url = \"{}\"\nallow_private_network = true\n", host.url()).replace("gitbuh", "github");
    let broker = Broker::start(BINARY, config.toml(&forge).env("FORGE_SECRET", CodeHost::SECRET)).await;
    let waits = open(&broker, &job(&github)).await;
    let mut ada = Visitor::signed_in(&broker, "ada").await;
    let page = ada.get(&format!("/claim/{}", waits.id)).await;
    assert_page(&page, 200, "is not linked to the CI system");
    assert!(!page.text.contains("/claim/link"), "{}", page.text);
    assert!(!ada.get("/claim").await.text.contains("Your accounts"));
}
