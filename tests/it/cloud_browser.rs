//! The pages at a real browser, with a provider that nobody here wrote, for a job that a workflow runner runs: what a person
//! does, what it looks like, whether everybody can use it, and how the job goes on. Pictures of every page are kept in
//! `target/pages`.

use crate::{
    BINARY, claim_links,
    claim_pages::{Visitor, accounts, config, job, open, state_of},
    cloud_action::{LOOK, act, assert_failed, assert_hidden, log, outputs, workflow},
    records,
};
use claimbound_test_support::{
    accounts::CodeHost, act::Run, broker::Broker, chromium, issuer::Issuer, jwt, provider::Provider,
};
use serde_json::{Value, json};

const INPUTS: &str = "role: payments-release, mode: output, on-pending: wait";

/// What a job's log shows to people: link, code and words.
async fn shown(run: &mut Run) -> [String; 3] {
    let link = run.shown("link:").await;
    let code = run.shown("code:").await;
    let words = run.shown("words:").await;
    let first = |text: &str| text.split("   (").next().unwrap().to_owned();
    [link, first(&code), first(&words)]
}

/// Whether everybody can use all pages, and whether there is a picture of each.
fn assert_good(found: &Value) {
    let none = json!([]);
    assert_eq!(found["violations"], none, "{found:#}");
    assert_eq!(found["wide"], none, "nothing needs sideways scrolling");
    assert_eq!(found["complaints"], none, "nothing is blocked by the page's own policy");
    for name in found["pages"].as_array().unwrap() {
        for look in ["light", "dark", "narrow"] {
            let picture = chromium::pictures().join(format!("{}-{look}.png", name.as_str().unwrap()));
            assert!(picture.is_file(), "{}", picture.display());
        }
    }
}

#[tokio::test]
async fn a_person_claims_at_a_browser_while_the_job_waits() {
    let (act, issuer, provider) = (act(), Issuer::github(), Provider::start(&accounts()).await);
    let config =
        config(&issuer, &provider, "when = \"every\"").edit("teams/payments/deploy.toml", "branch = \"main\"\n", "");
    let broker = Broker::start(BINARY, config).await;
    let branch = format!("fix/p\u{0430}yments\u{202E}<b>now</b>-{}", "long".repeat(100));
    let strange = job(&issuer).repository("acme/payments-web").branch(&branch).claim("run_id", "88");
    let strange = open(&broker, &strange).await;

    let request = issuer.run(&job(&issuer));
    let go_on = r#"
      - env: { TOKEN: "${{ steps.login.outputs.token }}" }
        run: printf %s "$TOKEN" > "$PROOF/token"
"#;
    let text = workflow(broker.audience(), INPUTS, go_on) + LOOK;
    let mut run = act.begin(&text, Some(&request));
    let [link, code, words] = shown(&mut run).await;
    let settings = json!({
        "broker": broker.url(), "login": "ada",
        "first": { "uri": link, "code": code },
        "strange": { "uri": format!("{}/claim/{}", broker.url(), strange.id) },
    });
    let (found, exit) = tokio::join!(chromium::drive("claim-browser.mjs", &settings), run.end());

    assert_good(&found);
    let left = ["You have 4 tries left", "You have 3 tries left", "You have 2 tries left", "You have one try left"];
    assert_eq!(found["left"], json!(left));
    assert_eq!((&found["firstStop"], &found["afterSkip"]), (&json!("skip"), &json!("main")));
    assert_eq!(found["cookies"], json!([{ "name": "claimbound-session", "httpOnly": true, "sameSite": "Strict" }]));
    assert!(!found["framed"].as_str().unwrap().contains("claimbound"), "{}", found["framed"]);
    let page = |page: &str| found["texts"][page].as_str().unwrap().to_owned();
    let spaced = page("review").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(spaced.contains(&words), "{words}: {spaced}");
    assert!(page("strange").contains("U+202E") && page("strange").contains("characters more"), "{}", page("strange"));
    assert!(page("done").contains("release 1.2") && page("list").contains("rejected"), "{found:#}");

    // The job went on by itself, with a credential that says who answers for it.
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    for text in ["It is claimed", "This job has payments-release by payments-production until 20", "is ended."] {
        assert!(log(&exit).contains(text), "no `{text}` in\n{}", log(&exit));
    }
    let token = act.left("token");
    let claims = jwt::claims_of(&token);
    assert_eq!((&claims["role"], &claims["approved_by"]), (&json!("payments-release"), &json!(["idp:ada"])));
    assert_eq!((&outputs(&act)["available"], &outputs(&act)["lease-id"]), (&json!("true"), &claims["lease_id"]));
    assert_eq!(records::of_kind(&broker, "ended").len(), 1, "and ended it");
    let given = issuer.given();
    assert_eq!(given.len(), 2, "one token to ask with, one to redeem with");
    assert_hidden(&act, &exit, &[&token, &given[0], &given[1], &request.bearer]);
    assert!(!(log(&exit) + &act.arguments()).contains("cbq_"), "an `auth_req_id` is seen");
}

/// Whoever says no says it to the job, too: it does not wait until its time is over.
#[tokio::test]
async fn a_rejection_ends_the_job_at_once() {
    let (act, issuer, provider) = (act(), Issuer::github(), Provider::start(&accounts()).await);
    let broker = Broker::start(BINARY, config(&issuer, &provider, "when = \"every\"")).await;
    let request = issuer.run(&job(&issuer));
    let inputs = format!("{INPUTS}, on-unavailable: skip");
    let mut run = act.begin(&(workflow(broker.audience(), &inputs, "") + LOOK), Some(&request));
    let [link, _, _] = shown(&mut run).await;
    let id = link.rsplit('/').next().unwrap();
    let mut ada = Visitor::signed_in(&broker, "ada").await;
    let done = ada.say("reject", id, &[("reason", "not today")]).await;
    assert_eq!(done.status, 303, "{}", done.text);
    let exit = run.end().await;
    let told = "The request was rejected, with these words: not today";
    assert_failed(&exit, &[told, "Reason: ceremony_rejected", "Summary - <h3>Claimbound: no credential</h3>"]);
    let outputs = outputs(&act);
    assert_eq!((&outputs["available"], &outputs["reason"]), (&json!("false"), &json!("ceremony_rejected")));
    assert_eq!(state_of(&broker, id).0, "rejected");
    assert_eq!(issuer.given().len(), 1, "nothing is redeemed");
}

/// The pages on which people show an account at a code host. What is believed of it is `claim_links`'s.
#[tokio::test]
async fn a_person_links_an_account_at_a_browser() {
    let (github, gitlab) = (Issuer::github(), Issuer::gitlab());
    let (provider, host) = (Provider::start(&claim_links::people()).await, CodeHost::start().await);
    let broker = Broker::start(BINARY, claim_links::config(&github, &gitlab, &provider, &host)).await;
    let waits = open(&broker, &job(&github)).await;
    let uri = format!("{}/claim/{}", broker.url(), waits.id);
    let settings = json!({ "uri": uri, "login": "ada", "host": host.url() });
    let found = chromium::drive("link-browser.mjs", &settings).await;
    assert_good(&found);
    assert_eq!(found["pages"], json!(["unlinked", "accounts", "going", "confirm", "not-linked"]));
}
