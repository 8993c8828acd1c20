//! Who counts, on the pages: two people where two are needed, who acts beside the job, and those who may claim their own.

use crate::{
    BINARY,
    claim_pages::{Visitor, Waits, accounts, assert_page, config, form_token, job, open, redeem, state_of},
    records,
};
use claimbound_test_support::{broker::Broker, issuer::Issuer, job::id_of, provider::Provider};
use serde_json::{Value, json};

/// Dan leads, too, and signs in under two names.
fn people() -> Value {
    let mut people = accounts();
    people["dan"] = json!({ "name": "Dan Lead", "groups": ["leads"], "github_id": 14 });
    people["dan2"] = json!({ "name": "Dan Lead", "groups": ["leads"], "github_id": 14 });
    people
}

async fn say_yes(visitor: &mut Visitor<'_>, waits: &Waits) -> claimbound_test_support::http::Answer {
    visitor.say("claim", &waits.id, &[("code", &waits.code), ("reason", "release 1.2")]).await
}

#[tokio::test]
async fn where_two_are_needed_two_people_claim_it() {
    let (issuer, provider) = (Issuer::github(), Provider::start(&people()).await);
    let broker = Broker::start(BINARY, config(&issuer, &provider, "when = \"every\"\nquorum = 2")).await;
    let job = job(&issuer);
    let waits = open(&broker, &job).await;
    let path = format!("/claim/{}", waits.id);
    let mut dan = Visitor::signed_in(&broker, "dan").await;
    // The same person under another name, with the page in front of them.
    let mut alias = Visitor::signed_in(&broker, "dan2").await;
    let token = form_token(&alias.get(&path).await, &path);
    assert_page(&dan.get(&path).await, 200, "0 of 2 people have claimed it.");
    let done = say_yes(&mut dan, &waits).await;
    assert_eq!(done.status, 303, "{}", done.text);
    assert_page(&dan.get(&path).await, 200, "You have claimed it.</strong> It waits for others. 1 of 2 people");
    assert_eq!(state_of(&broker, &waits.id).0, "pending");

    // The same person: at another browser, and under another name with the same account at the forge.
    let before = state_of(&broker, &waits.id);
    for login in ["dan", "dan2"] {
        let mut again = Visitor::signed_in(&broker, login).await;
        let page = again.get(&path).await;
        assert_page(&page, 200, "You have claimed it.");
        assert!(!page.text.contains("name=\"code\""), "no form for what would be refused: {}", page.text);
    }
    let form = [("form_token", token.as_str()), ("code", &waits.code), ("reason", "again")];
    assert_page(&alias.post(&path, &form).await, 409, "You have claimed it already.");
    assert_eq!(state_of(&broker, &waits.id), before);
    let mut ada = Visitor::signed_in(&broker, "ada").await;
    let page = ada.get(&path).await;
    assert_page(&page, 200, "1 of 2 people have claimed it.");
    assert!(page.text.contains("Dan Lead <span class=\"id\">idp:dan</span>"), "who did: {}", page.text);
    assert_eq!(say_yes(&mut ada, &waits).await.status, 303);
    assert_page(&ada.get(&path).await, 200, "It is claimed.");
    let answer = redeem(&broker, &job, &waits).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let (body, details) = records::all(&broker).into_iter().rfind(|(body, _)| body["kind"] == "ceremony").unwrap();
    let by: Vec<_> = details["claims"].as_array().unwrap().iter().map(|claim| &claim["by"]["subject"]).collect();
    assert_eq!((&body["state"], by), (&json!("claimed"), vec![&json!("dan"), &json!("ada")]));
    assert_eq!(details["through"], "page");

    // What they did is found by who they are, and what they may do is told by the folder alone.
    let found = async |person: &str| {
        let shown = broker.command(&["audit", "show", "--approver", person, "--format", "json"]).await;
        assert_eq!(shown.code, Some(0), "{}", shown.stderr);
        let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
        let kinds = shown["records"].as_array().unwrap().iter().map(|one| one["record"]["kind"].clone());
        kinds.map(|kind| kind.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found("idp:ada").await, ["granted", "ceremony", "visitor_signed_in"]);
    assert_eq!(found("idp:dan").await.iter().filter(|kind| *kind == "granted").count(), 1);
    assert!(found("idp:eve").await.is_empty());
    let access =
        async |arguments: &[&str]| broker.command(&[&["access", "--mappings", "mappings"], arguments].concat()).await;
    let lead = access(&["--approver", "idp:group:leads"]).await;
    assert_eq!(lead.code, Some(0), "{}", lead.stderr);
    let told = "who is `idp:group:leads` may claim:\n\npayments-release  by payments-production of team payments, production\n\
                \x20 2 people of `idp:group:leads` must claim it each time\n  as idp:group:leads\n";
    assert_eq!(lead.stdout, told);
    let other = access(&["--approver", "idp:sub:bob", "--approver", "idp:group:all", "--format", "json"]).await;
    let other: Value = serde_json::from_str(&other.stdout).unwrap();
    assert_eq!(other, json!({ "approver": ["idp:sub:bob", "idp:group:all"], "may_claim": [] }));
    for (arguments, told) in [
        (vec!["--approver", "idp:sub:a", "--approver", "okta:sub:a"], "one sign-in"),
        (vec!["--approver", "leads"], "three parts"),
        (vec!["--approver", "idp:group:leads", "--at", "2026-01-01"], "cannot be used with"),
    ] {
        let exit = access(&arguments).await;
        assert_eq!(exit.code, Some(2), "{}", exit.stderr);
        assert!(exit.stderr.contains(told), "no `{told}` in {}", exit.stderr);
    }
}

#[tokio::test]
async fn who_acts_is_shown_and_bound_and_a_rule_may_let_people_claim_their_own() {
    let (issuer, provider) = (Issuer::github(), Provider::start(&people()).await);
    let bot = id_of("acme/bot");
    let ceremony = format!(
        "when = \"every\"\nallow_self = \"one person is on call\"\n[mapping.actor]\nrequired = true\n[mapping.actor.match]\n\
         issuer = \"github\"\nrepository = {{ name = \"acme/bot\", id = {bot} }}"
    );
    let config = config(&issuer, &provider, &ceremony).edit(
        "policy.toml",
        "approvers = [\"idp:group:leads\"]\n",
        "approvers = [\"idp:group:leads\"]\nmay = [\"allow_self\"]\n",
    );
    let broker = Broker::start(BINARY, config).await;
    const TYPE: &str = "urn:ietf:params:oauth:token-type:id_token";
    let token = || job(&issuer).token(broker.audience());
    let acts = |repository: &str| issuer.job().repository(repository).branch("main").token(broker.audience());
    let ask = async |grant: &[(&str, &str)], actor: Option<&str>| {
        let subject = token();
        let mut form = grant.to_vec();
        form.extend([("subject_token", subject.as_str()), ("subject_token_type", TYPE)]);
        if let Some(actor) = actor {
            form.extend([("actor_token", actor), ("actor_token_type", TYPE)]);
        }
        broker.exchange(&form).await
    };
    let exchange =
        [("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"), ("audience", "payments-release")];
    let asked = ask(&exchange, Some(&acts("acme/bot"))).await;
    assert_eq!(asked.body["error"], "authorization_pending", "{}", asked.text);
    let id = asked.text_of("claim_uri").rsplit('/').next().unwrap().to_owned();

    // Eve started the job, and the rule lets her claim it: the page says what that does not prove.
    let mut eve = Visitor::signed_in(&broker, "eve").await;
    let page = eve.get(&format!("/claim/{id}")).await;
    assert_page(&page, 200, "It waits for you.");
    for told in [
        format!("<dt>Who acts</dt><dd>acme/bot <span class=\"id\">id {bot}</span>"),
        "the rule lets whoever started the job claim it".to_owned(),
    ] {
        assert!(page.text.contains(&told), "no `{told}` in {}", page.text);
    }
    let fields = [("code", asked.text_of("match_code")), ("reason", "on call alone")];
    let done = eve.say("claim", &id, &fields).await;
    assert_eq!(done.status, 303, "{}", done.text);

    // Only with whom it was claimed with.
    let redeem = [("grant_type", "urn:openid:params:grant-type:ciba"), ("auth_req_id", asked.text_of("auth_req_id"))];
    for other in [None, Some(acts("acme/payments-web"))] {
        let refused = ask(&redeem, other.as_deref()).await;
        assert_eq!(refused.status, 400, "{other:?}: {}", refused.text);
    }
    let answer = ask(&redeem, Some(&acts("acme/bot"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let granted = records::of_kind(&broker, "granted").pop().unwrap();
    assert_eq!((&granted["actor"]["id"], &granted["actor"]["name"]), (&json!(bot.to_string()), &json!("acme/bot")));
}

#[tokio::test]
async fn a_ceremony_that_nobody_could_claim_stops_the_start() {
    let (issuer, provider) = (Issuer::github(), Provider::start(&people()).await);
    let good = || config(&issuer, &provider, "when = \"every\"");
    let policy = |from: &str, to: &str| good().edit("policy.toml", from, to);
    let floor = "[sensitivity.production.ceremony]\napprovers = [\"other:group:leads\"]\n\n[sensitivity.production]\n";
    for (config, told) in [
        (policy("idp:group:leads", "ipd:group:leads"), "there is no `[[sign_in]]` `ipd`"),
        (policy("idp:group:leads", "okta:group:leads"), "write a `[[sign_in]]` with `name = \"okta\"`"),
        (policy("[sensitivity.production]\n", floor), "have no `[[sign_in]]` of the configuration in common"),
    ] {
        let exit = Broker::refused(BINARY, &config).await;
        assert_eq!(exit.code, Some(2), "{}", exit.stderr);
        assert!(exit.stderr.contains("CB0540") && exit.stderr.contains(told), "no `{told}` in {}", exit.stderr);
    }
    // Some of whom are known: it starts, and `--check` says who is not.
    let some = policy("[\"idp:group:leads\"]", "[\"idp:group:leads\", \"ipd:sub:x\"]");
    let broker = Broker::start(BINARY, some).await;
    let checked = broker.command(&["serve", "--check", "--development"]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert!(checked.stderr.contains("CB0540") && checked.stderr.contains("is known by `ipd`"), "{}", checked.stderr);
}

/// A provider that does not answer holds up those who sign in there, and nobody else.
#[tokio::test]
async fn who_signs_in_elsewhere_does_not_wait() {
    let (issuer, provider) = (Issuer::github(), Provider::start(&people()).await);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sign_in = format!(
        "[[sign_in]]\nname = \"silent\"\nissuer = \"http://{}\"\nclient_id = \"c\"\nallow_private_network = true\n",
        silent.local_addr().unwrap()
    );
    let broker = Broker::start(BINARY, config(&issuer, &provider, "when = \"every\"").toml(&sign_in)).await;
    let (mut one, mut other) = (Visitor::new(&broker), Visitor::new(&broker));
    let mut waits = Box::pin(one.post("/claim/sign-in", &[("sign_in", "silent")]));
    let held = tokio::select! {
        answer = &mut waits => panic!("{}", answer.text),
        held = silent.accept() => held.unwrap(),
    };
    tokio::select! {
        answer = &mut waits => panic!("{}", answer.text),
        going = other.post("/claim/sign-in", &[("sign_in", "idp")]) => assert_page(&going, 200, "Going on to idp"),
    }
    drop((held, silent));
    assert_page(&waits.await, 503, "Not available");
}
