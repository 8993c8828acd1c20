//! The pages at a real browser, with a provider that nobody here wrote: what a person does, what it looks like, and whether
//! everybody can use it. Pictures of every page are kept in `target/pages`.

use crate::{
    BINARY,
    claim_pages::{accounts, config, job, open, redeem},
};
use claimbound_test_support::{broker::Broker, chromium, issuer::Issuer, provider::Provider, time::eventually};
use serde_json::json;
use std::time::Duration;

/// The job asks for its credential for so long.
const JOB_WAITS: Duration = Duration::from_secs(110);
/// As clients do: more often would be answered `slow_down`.
const POLL_EVERY: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_person_claims_at_a_browser_while_the_job_waits() {
    let (issuer, provider) = (Issuer::github(), Provider::start(&accounts()).await);
    let config =
        config(&issuer, &provider, "when = \"every\"").edit("teams/payments/deploy.toml", "branch = \"main\"\n", "");
    let broker = Broker::start(BINARY, config).await;
    let waiting = job(&issuer);
    let first = open(&broker, &waiting).await;
    let branch = format!("fix/p\u{0430}yments\u{202E}<b>now</b>-{}", "long".repeat(100));
    let strange = job(&issuer).repository("acme/payments-web").branch(&branch).claim("run_id", "88");
    let strange = open(&broker, &strange).await;
    let uri = |id: &str| format!("{}/claim/{id}", broker.url());
    let settings = json!({
        "broker": broker.url(), "login": "ada",
        "first": { "uri": uri(&first.id), "code": first.code },
        "strange": { "uri": uri(&strange.id) },
    });
    let job = eventually(JOB_WAITS, async || {
        tokio::time::sleep(POLL_EVERY).await;
        let asked = [("grant_type", "urn:openid:params:grant-type:ciba"), ("auth_req_id", first.auth_req_id.as_str())];
        let ready = broker.exchange(&asked).await.body["ready"] == true;
        if ready { Some(redeem(&broker, &waiting, &first).await) } else { None }
    });
    let (found, answer) = tokio::join!(chromium::drive("claim-browser.mjs", &settings), job);
    assert_eq!(answer.status, 200, "{}", answer.text);

    let none = json!([]);
    assert_eq!(found["violations"], none, "{found:#}");
    assert_eq!(found["wide"], none, "nothing needs sideways scrolling");
    assert_eq!(found["complaints"], none, "nothing is blocked by the page's own policy");
    let left = ["You have 4 tries left", "You have 3 tries left", "You have 2 tries left", "You have one try left"];
    assert_eq!(found["left"], json!(left));
    assert_eq!((&found["firstStop"], &found["afterSkip"]), (&json!("skip"), &json!("main")));
    assert_eq!(found["cookies"], json!([{ "name": "claimbound-session", "httpOnly": true, "sameSite": "Strict" }]));
    assert!(!found["framed"].as_str().unwrap().contains("claimbound"), "{}", found["framed"]);
    let text = |page: &str| found["texts"][page].as_str().unwrap().to_owned();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&text("review")).contains(&first.words), "{}", text("review"));
    assert!(text("strange").contains("U+202E") && text("strange").contains("characters more"), "{}", text("strange"));
    assert!(text("done").contains("release 1.2") && text("list").contains("rejected"), "{found:#}");
}
