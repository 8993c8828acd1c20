//! `claimbound plan`, `access` and `unused` over the store of a broker that has granted and refused.

use crate::{BINARY, records};
use claimbound_test_support::{
    broker::{Broker, ID_TOKEN, TOKEN_EXCHANGE},
    command::Exit,
    config::BrokerConfig,
    issuer::Issuer,
    time::{eventually, now},
};
use serde_json::{Value, json};
use std::{fs, time::Duration};

const MAPPINGS: &str = "teams/payments/deploy.toml";
const ROLES: &str = "roles/payments.toml";
const STORE: &str = "sqlite:claimbound.db";
/// A changed folder is taken up within this, on a busy machine too.
const TAKEN_UP: Duration = Duration::from_secs(60);

/// Exchanges of a morning: two releases, a read of secrets, a refusal of a branch.
async fn morning(broker: &Broker, issuer: &Issuer) -> Vec<String> {
    let release = |branch: &'static str| issuer.job().branch(branch).environment("production");
    let mut decisions = Vec::new();
    for (job, role, status) in [
        (release("main"), "payments-release", 200),
        (release("main"), "payments-release", 200),
        (issuer.job().branch("dev").environment("staging"), "payments-secrets", 200),
        (release("dev"), "payments-release", 400),
    ] {
        let answer = broker.exchange_for(&job.token(broker.audience()), role).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        decisions.push(answer.text_of("decision_id").to_owned());
    }
    decisions
}

/// The broker's folder with edits, as `proposed` beside it.
fn propose(broker: &Broker, edits: &[(&str, &str, &str)]) {
    let root = broker.directory().join("proposed");
    let _ = fs::remove_dir_all(&root);
    for file in ["policy.toml", ROLES, MAPPINGS] {
        let mut text = fs::read_to_string(broker.directory().join("mappings").join(file)).unwrap();
        for (_, from, to) in edits.iter().filter(|(edited, ..)| *edited == file) {
            assert!(text.contains(from), "{file} holds `{from}`");
            text = text.replace(from, to);
        }
        fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
        fs::write(root.join(file), text).unwrap();
    }
}

async fn json(broker: &Broker, arguments: &[&str], code: i32) -> Value {
    let exit = broker.command(&[arguments, &["--store", STORE, "--format", "json"]].concat()).await;
    assert_code(&exit, code);
    serde_json::from_str(&exit.stdout).unwrap_or_else(|error| panic!("{error}: {}", exit.stdout))
}

fn assert_code(exit: &Exit, code: i32) {
    assert_eq!(exit.code, Some(code), "{}{}", exit.stdout, exit.stderr);
}

/// A hand in the store, as an erasure or a fault would leave it.
fn edit_store(broker: &Broker, sql: &str) {
    let store = rusqlite::Connection::open(broker.database()).unwrap();
    store.busy_timeout(Duration::from_secs(10)).unwrap();
    store.execute_batch(sql).unwrap();
}

/// As if everything so far had been recorded then.
fn age_records(broker: &Broker, at: i64) {
    let own = "'\"at\":' || json_extract(CAST(body AS TEXT), '$.at')";
    edit_store(
        broker,
        &format!("UPDATE records SET body = CAST(replace(CAST(body AS TEXT), {own}, '\"at\":{at}') AS BLOB)"),
    );
}

fn of_kind<'v>(plan: &'v Value, kind: &str) -> Vec<&'v Value> {
    plan["changes"].as_array().unwrap().iter().filter(|change| change["kind"] == kind).collect()
}

#[tokio::test]
async fn a_plan_tells_what_becomes_of_recorded_exchanges() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let decisions = morning(&broker, &issuer).await;

    // Nothing changes: the running broker's own folder.
    let same = json(&broker, &["plan", "mappings"], 0).await;
    assert_eq!((&same["changes"], &same["summary"]["still_granted"]), (&json!([]), &json!(3)), "{same:#}");
    assert_eq!((&same["summary"]["still_refused"], &same["log"]["covers_period"]), (&json!(1), &json!(false)));

    // Who is refused, with the reason and an example; who gains.
    propose(&broker, &[(MAPPINGS, "branch = \"main\"", "branch = \"dev\"")]);
    let plan = json(&broker, &["plan", "proposed"], 1).await;
    assert_eq!(plan["summary"]["text"], "2 grants would be refused, 1 refusal would be granted, 1 stays as it was");
    let [refused] = of_kind(&plan, "refused")[..] else { panic!("{plan:#}") };
    assert_eq!((&refused["role"], &refused["count"]), (&json!("payments-release"), &json!(2)));
    assert_eq!(refused["repository"], json!({ "name": "acme/payments-api", "id": "740000001" }));
    assert_eq!(
        (&refused["mapping"], &refused["why"]["nearest"]),
        (&json!("payments-production"), &json!("payments-production"))
    );
    assert_eq!(refused["why"]["fails"], json!([{ "claim": "branch", "expected": "`dev`", "got": "`main`" }]));
    assert_eq!(refused["example"], decisions[1].as_str());
    let [granted] = of_kind(&plan, "granted")[..] else { panic!("{plan:#}") };
    assert_eq!((&granted["example"], &granted["was_refused"]), (&json!(decisions[3]), &json!("no_mapping")));

    // For people, and for a pull request.
    let exit = broker.command(&["plan", "proposed"]).await;
    assert_code(&exit, 1);
    for part in [
        "would be refused: `payments-release` for `acme/payments-api` (740000001) of `github`",
        "was granted by `payments-production`; 2 times, ",
        "why: no_mapping, nearest `payments-production`",
        "branch: expected `dev`, got `main`",
        "warning: the log reaches back only to ",
        &format!("claimbound explain --decision {}", decisions[1]),
    ] {
        assert!(exit.stdout.contains(part), "`{part}` is told:\n{}", exit.stdout);
    }
    let exit = broker.command(&["plan", "proposed", "--store", STORE, "--format", "markdown"]).await;
    assert!(exit.stdout.starts_with("### Recorded exchanges: 2 grants would be refused"), "{}", exit.stdout);
    assert!(exit.stdout.contains("| **refused** | <code>payments-release</code> |"), "{}", exit.stdout);

    // The issuer is gone; an owner's jobs have become strangers.
    propose(&broker, &[("policy.toml", issuer.url(), "https://token.actions.githubusercontent.com")]);
    let plan = json(&broker, &["plan", "proposed"], 1).await;
    let why: Vec<_> = of_kind(&plan, "refused").iter().map(|change| &change["why"]["reason"]).collect();
    assert_eq!((why, &plan["summary"]["would_be_refused"]), (vec![&json!("issuer_unknown"); 2], &json!(3)));

    // Older than the period: not looked at.
    age_records(&broker, now() - 200 * 86_400);
    let plan = json(&broker, &["plan", "proposed"], 0).await;
    assert_eq!(
        (&plan["summary"]["text"], &plan["log"]["covers_period"]),
        (&json!("no exchange of this time is on record"), &json!(true))
    );
    json(&broker, &["plan", "proposed", "--since", "300d"], 1).await;
}

/// (edits, terms that differ for the release, each as name, before, after).
#[tokio::test]
async fn a_plan_tells_other_terms() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let unasked = issuer.job().branch("main").environment("production").token(broker.audience());
    let form = [("grant_type", TOKEN_EXCHANGE), ("subject_token", &*unasked), ("subject_token_type", ID_TOKEN)];
    assert_eq!(broker.exchange(&form).await.status, 200);
    let term = |name: &str, before: &str, after: &str| json!({ "name": name, "before": before, "after": after });
    for (edits, terms) in [
        (vec![(MAPPINGS, "max_duration = \"30m\"", "max_duration = \"10m\"")], vec![term("duration", "30m", "10m")]),
        (
            vec![(MAPPINGS, "payments-production", "payments-main")],
            vec![term("mapping", "payments-production", "payments-main")],
        ),
        (
            vec![(ROLES, "https://deploy.acme.example", "https://new.acme.example")],
            vec![term("jwt.audience", "\"https://deploy.acme.example\"", "\"https://new.acme.example\"")],
        ),
        (
            vec![(
                MAPPINGS,
                "environment = \"production\"\n",
                "environment = \"production\"\n[mapping.limit]\nper_hour = 2\n",
            )],
            vec![term("limit.per_hour", "none", "2")],
        ),
        (
            vec![(ROLES, "payments-release", "payments-ship"), (MAPPINGS, "payments-release", "payments-ship")],
            vec![term("role", "payments-release", "payments-ship")],
        ),
    ] {
        propose(&broker, &edits);
        let plan = json(&broker, &["plan", "proposed"], 1).await;
        let [changed] = of_kind(&plan, "changed")[..] else { panic!("{plan:#}") };
        assert_eq!(changed["terms"], json!(terms), "{edits:?}");
    }
    // As of the record's time: what ends later did not end then; what had ended, had.
    for (at, code) in [("2000-01-01T00:00:00Z", 1), ("2999-01-01T00:00:00Z", 0)] {
        let line = "max_duration = \"30m\"\n";
        propose(&broker, &[(MAPPINGS, line, &format!("{line}expires = {at}\n"))]);
        let plan = json(&broker, &["plan", "proposed"], code).await;
        let reasons: Vec<_> = of_kind(&plan, "refused").iter().map(|change| change["why"]["reason"].clone()).collect();
        assert_eq!(reasons, vec![json!("mapping_expired"); code as usize], "{plan:#}");
    }
    // A mapping in shadow grants nothing.
    propose(&broker, &[(MAPPINGS, "max_duration = \"30m\"\n", "max_duration = \"30m\"\nshadow = true\n")]);
    let plan = json(&broker, &["plan", "proposed"], 1).await;
    assert_eq!(of_kind(&plan, "refused").len(), 1, "{plan:#}");
}

#[tokio::test]
async fn what_cannot_be_judged_is_told_and_counted() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let decisions = morning(&broker, &issuer).await;
    let stranger = issuer.job().repository("evil/app").token(broker.audience());
    let answer = broker.exchange_for(&stranger, "payments-release").await;
    records::the_one(&broker, answer.text_of("decision_id")).await;
    // The same token again: no rule decided that.
    let again = issuer.job().branch("main").environment("production").token(broker.audience());
    for status in [200, 400] {
        assert_eq!(broker.exchange_for(&again, "payments-release").await.status, status);
    }
    let of = |id: &str| format!("decision = x'{}'", id.replace('-', ""));
    edit_store(&broker, &format!("UPDATE records SET details = x'' WHERE {}", of(&decisions[0])));
    let damaged = "CAST(replace(CAST(details AS TEXT), 'octocat', 'octodog') AS BLOB)";
    edit_store(&broker, &format!("UPDATE records SET details = {damaged} WHERE {}", of(&decisions[3])));
    edit_store(&broker, &format!("UPDATE records SET body = x'7b7d' WHERE {}", of(&decisions[2])));
    edit_store(&broker, "DELETE FROM folders");

    propose(&broker, &[]);
    let plan = json(&broker, &["plan", "proposed"], 0).await;
    assert_eq!(plan["log"]["unreadable"], 1, "{plan:#}");
    let unjudged: Vec<_> = plan["not_judged"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["why"], &one["was_granted"], &one["count"]))
        .collect();
    let damaged = json!("their details are damaged; `claimbound audit verify` says which");
    assert_eq!(
        unjudged,
        [(&json!("their details are erased"), &json!(true), &json!(1)), (&damaged, &json!(false), &json!(1))]
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
    );
    assert_eq!(plan["not_asked"], json!({ "reasons": { "replay": 1 }, "strangers": 1, "summed": 0 }));
    let why = plan["not_compared"][0]["why"].as_str().unwrap();
    assert!(why.contains("the store does not keep the folder of version"), "{why}");
    let exit = broker.command(&["plan", "proposed"]).await;
    for part in [
        "not judged:",
        "1 grant, ",
        "1 record cannot be read",
        "not asked again: refusals that no rule decided: 1 `replay`",
    ] {
        assert!(exit.stdout.contains(part), "`{part}` is told:\n{}", exit.stdout);
    }
}

#[tokio::test]
async fn what_nobody_used_is_told_and_what_is_new_is_not() {
    let issuer = Issuer::github();
    let two = "[[mapping]]\nname = \"payments-staging\"\ndescription = \"Reads secrets from any branch\"\nroles = [\"payments-secrets\"]\n[mapping.match]\nenvironment = \"staging\"\n";
    let any = two.to_owned() + "[[mapping.any]]\nbranch = \"dev\"\n[[mapping.any]]\nbranch = \"other\"\n";
    let config = BrokerConfig::new(&issuer).edit(MAPPINGS, two, &any);
    let mut broker = Broker::start(BINARY, config.clone()).await;
    let exit = broker.command(&["unused"]).await;
    assert_code(&exit, 1);
    assert!(exit.stdout.starts_with("warning: the log reaches back only to "), "{}", exit.stdout);
    assert!(exit.stdout.contains("role `payments-release`: not used since the log begins"), "{}", exit.stdout);

    morning(&broker, &issuer).await;
    let found = json(&broker, &["unused"], 1).await;
    let web = json!({ "kind": "member", "set": "payments-services", "file": MAPPINGS,
        "repository": { "name": "acme/payments-web", "id": "740000002" }, "last_used_at": null });
    let other = json!({ "kind": "alternative", "mapping": "payments-staging", "alternative": 2, "last_used_at": null });
    assert_eq!(found["unused"], json!([other, web]), "{found:#}");
    assert_eq!((&found["new"], &found["used"]), (&json!([]), &json!(6)), "{found:#}");

    // The log is made to begin long ago; what comes now is new.
    let first = now() - 200 * 86_400;
    age_records(&broker, first);
    let found = json(&broker, &["unused"], 1).await;
    assert_eq!(found["log"]["covers_period"], true);
    let release = found["unused"].as_array().unwrap().iter().find(|one| one["role"] == "payments-release").unwrap();
    assert_eq!(release["last_used_at"], first);
    let version = broker.health().await["mappings_version"].clone();
    let more = "\n[[mapping]]\nname = \"payments-next\"\ndescription = \"Is tried\"\nroles = [\"payments-release\"]\nshadow = true\n[mapping.match]\nbranch = \"next\"\nenvironment = \"production\"\n";
    broker.rewrite(config.edit(MAPPINGS, &any, &(any.clone() + more)));
    eventually(TAKEN_UP, async || (broker.health().await["mappings_version"] != version).then_some(())).await;
    let found = json(&broker, &["unused"], 1).await;
    let [new] = &found["new"].as_array().unwrap()[..] else { panic!("{found:#}") };
    assert_eq!((&new["mapping"], &new["shadow"]), (&json!("payments-next"), &json!(true)));
    assert!(new["activated_at"].as_i64().unwrap() > first, "{new}");
    // A mapping in shadow is used when it would have held.
    let job = issuer.job().branch("next").environment("production").token(broker.audience());
    assert_eq!(broker.exchange_for(&job, "payments-release").await.status, 400);
    let found = json(&broker, &["unused"], 1).await;
    assert_eq!(found["new"], json!([]), "{found:#}");
    // Another folder than the store's: what was never activated is new, too.
    propose(&broker, &[(MAPPINGS, "payments-next", "payments-later")]);
    let found = json(&broker, &["unused", "--mappings", "proposed"], 1).await;
    assert_eq!(
        (&found["new"][0]["mapping"], &found["new"][0]["activated_at"]),
        (&json!("payments-later"), &Value::Null)
    );
    // All details erased: the alternatives of old grants are not known, and that is said.
    morning(&broker, &issuer).await;
    edit_store(&broker, "UPDATE records SET details = x''");
    let exit = broker.command(&["unused"]).await;
    assert!(
        exit.stdout.contains("the alternative is not known")
            && exit.stdout.contains("in shadow would have held is not known"),
        "{}",
        exit.stdout
    );
    // Everything was used in a period without beginning, but for what nobody ever used.
    edit_store(&broker, "DELETE FROM folders");
    let exit = broker.command(&["unused"]).await;
    assert_code(&exit, 2);
    assert!(exit.stderr.contains("the store does not keep the folder of version"), "{}", exit.stderr);
}

#[tokio::test]
async fn who_could_and_who_did_by_role_and_by_repository() {
    let issuer = Issuer::github();
    let config = BrokerConfig::new(&issuer);
    let mut broker = Broker::start(BINARY, config.clone()).await;
    let decisions = morning(&broker, &issuer).await;
    let version = broker.health().await["mappings_version"].clone();
    broker.rewrite(config.edit(MAPPINGS, "branch = \"main\"", "branch = \"release\""));
    eventually(TAKEN_UP, async || (broker.health().await["mappings_version"] != version).then_some(())).await;

    // Since the log begins: both folders, each with its time.
    let found = json(&broker, &["access", "--role", "payments-release", "--to", &rfc3339(now() + 60)], 0).await;
    let ways = found["could"]["ways"].as_array().unwrap();
    assert_eq!(ways.len(), 2, "{found:#}");
    let branch = |way: &Value| {
        way["conditions"].as_array().unwrap().iter().find(|one| one["claim"] == "branch").unwrap()["expected"].clone()
    };
    assert_eq!(ways.iter().map(branch).collect::<Vec<_>>(), ["`main`", "`release`"]);
    assert!(ways[0]["when"][0]["to_at"].as_i64() < ways[1]["when"][0]["from_at"].as_i64(), "{found:#}");
    assert_eq!(ways[0]["repositories"][1], json!({ "name": "acme/payments-web", "id": "740000002" }));
    assert_eq!(found["could"]["folders"].as_array().unwrap().len(), 2);
    let [group] = &found["did"]["groups"].as_array().unwrap()[..] else { panic!("{found:#}") };
    assert_eq!((&group["count"], &group["initiators"]), (&json!(2), &json!({ "octocat": 2 })));
    let latest = &group["latest"][0];
    assert_eq!(
        (&latest["decision"], &latest["lease"], &latest["state"]),
        (&json!(decisions[1]), &json!(decisions[1]), &json!("issued"))
    );

    // Now: the present folder alone, and the credentials that live.
    let found = json(&broker, &["access", "--role", "payments-release"], 0).await;
    let ways: Vec<_> = found["could"]["ways"].as_array().unwrap().iter().map(branch).collect();
    assert_eq!((ways, &found["did"]["grants"]), (vec![json!("`release`")], &json!(2)), "{found:#}");
    // Before the log: nothing is known, and that is said.
    let found = json(&broker, &["access", "--role", "payments-release", "--at", "2020-02-02"], 0).await;
    assert_eq!(
        (&found["could"]["ways"], &found["did"]["grants"], &found["log"]["covers_period"]),
        (&json!([]), &json!(0), &json!(false))
    );
    assert_eq!(found["could"]["notes"], json!(["no mapping folder is known to have judged then"]));

    let found = json(&broker, &["access", "--role", "payments-relase"], 0).await;
    let note = "the last folder of that time has no role `payments-relase`: did you mean `payments-release`?";
    assert_eq!((&found["could"]["ways"], &found["could"]["notes"]), (&json!([]), &json!([note])));

    // By name in any case, and by id.
    for repository in ["acme/payments-api", "Acme/Payments-API", "740000001"] {
        let found = json(&broker, &["access", "--repository", repository], 0).await;
        let roles: Vec<_> = found["could"]["ways"].as_array().unwrap().iter().map(|way| &way["role"]).collect();
        assert_eq!(roles, ["payments-release", "payments-secrets"], "{repository}: {found:#}");
        assert_eq!(found["did"]["grants"], 3, "{repository}: {found:#}");
    }
    let found = json(&broker, &["access", "--repository", "acme/else"], 0).await;
    assert_eq!((&found["could"]["ways"], &found["did"]["grants"]), (&json!([]), &json!(0)));

    let exit = broker.command(&["access", "--role", "payments-release"]).await;
    for part in [
        "who could:\n  `payments-release` by `payments-production`",
        "branch: `release`  [match]",
        "who did: 2 grants",
        "initiators: octocat (2)",
    ] {
        assert!(exit.stdout.contains(part), "`{part}` is told:\n{}", exit.stdout);
    }
    // Persons can be erased; that somebody had it stays.
    edit_store(&broker, "UPDATE records SET details = x''");
    let found = json(&broker, &["access", "--role", "payments-release"], 0).await;
    assert_eq!((&found["did"]["grants"], &found["did"]["groups"][0]["initiator_not_told"]), (&json!(2), &json!(2)));
    edit_store(&broker, "DELETE FROM folders");
    let found = json(&broker, &["access", "--role", "payments-release"], 0).await;
    assert!(
        found["could"]["notes"][0].as_str().unwrap().contains("is not known: the store does not keep"),
        "{found:#}"
    );
}

fn rfc3339(at: i64) -> String {
    claimbound_core::time::UnixSeconds(at).rfc3339()
}

#[tokio::test]
async fn what_cannot_be_read_ends_with_two_and_says_why() {
    let issuer = Issuer::github();
    let mut broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    propose(&broker, &[(MAPPINGS, "branch = \"main\"", "brunch = \"main\"")]);
    let fails = async |broker: &Broker, arguments: &[&str], part: &str| {
        let exit = broker.command(arguments).await;
        assert_code(&exit, 2);
        assert!(exit.stdout.is_empty() && exit.stderr.contains(part), "{arguments:?}: {}{}", exit.stdout, exit.stderr);
    };
    fails(&broker, &["plan", "proposed"], "the folder `proposed` does not load").await;
    fails(&broker, &["plan", "nowhere"], "there is no git repository").await;
    fails(&broker, &["plan", "mappings", "--since", "90"], "like `90d`").await;
    fails(&broker, &["unused", "--mappings", "proposed"], "the folder `proposed` does not load").await;
    fails(&broker, &["access"], "--role").await;
    fails(&broker, &["access", "--role", "r", "--repository", "a/b"], "cannot be used with").await;
    fails(&broker, &["access", "--role", "r", "--at", "yesterday"], "write a day like").await;
    fails(&broker, &["access", "--role", "r", "--from", "2026-03-02", "--to", "2026-03-01"], "ends before it begins")
        .await;
    fails(&broker, &["access", "--approver", "jo"], "--approver").await;
    fails(&broker, &["audit", "show", "--principal", "740000001"], "like `github:740000001`").await;
    fails(&broker, &["audit", "show", "--limit", "0"], "--limit").await;
    for command in [&["plan", "mappings"][..], &["unused"], &["access", "--role", "r"], &["audit", "show"]] {
        let at = |store| [command, &["--store", store]].concat();
        fails(&broker, &at("sqlite:nowhere.db"), "unable to open").await;
        fails(&broker, &at("postgres://db/c"), "does not name user, host and database").await;
    }
    assert!(!broker.directory().join("nowhere.db").exists(), "reading creates nothing");
    broker.terminate().await;
    let version: u32 = {
        let store = rusqlite::Connection::open(broker.database()).unwrap();
        store.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    };
    edit_store(&broker, "PRAGMA user_version = 99");
    for command in [&["plan", "mappings"][..], &["unused"], &["access", "--role", "r"]] {
        fails(&broker, command, "the store is of version 99").await;
    }
    // Stopped, and a copy of it.
    edit_store(&broker, &format!("PRAGMA user_version = {version}"));
    fs::copy(broker.database(), broker.directory().join("copy.db")).unwrap();
    assert_code(&broker.command(&["plan", "mappings", "--store", "sqlite:copy.db"]).await, 0);
}

#[tokio::test]
async fn records_are_shown_by_what_they_are_about() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let decisions = morning(&broker, &issuer).await;
    let all = json(&broker, &["audit", "show", "--limit", "1000"], 0).await;
    let granted =
        all["records"].as_array().unwrap().iter().map(|one| &one["record"]).find(|one| one["kind"] == "granted");
    let granted = granted.unwrap();
    let of = |name: &str| granted[name].as_str().unwrap().to_owned();
    // By one credential: what it was, for whom, by which rule; by its handle and by its lease the same.
    for (option, value) in [("--handle", of("handle")), ("--lease", of("lease"))] {
        let found = json(&broker, &["audit", "show", option, &value], 0).await;
        assert_eq!((&found["records"][0]["record"], &found["records"][1]), (granted, &json!(null)), "{option}");
    }
    let by_mapping = json(&broker, &["audit", "show", "--mapping", &of("mapping"), "--outcome", "granted"], 0).await;
    assert!(by_mapping["records"].as_array().unwrap().iter().all(|one| one["record"]["mapping"] == granted["mapping"]));
    // Nobody acted for anybody.
    let acted = broker.command(&["audit", "show", "--actor", "github:740000001"]).await;
    assert_eq!((acted.code, acted.stdout.as_str()), (Some(0), "no record is about that\n"));
    assert_eq!(json(&broker, &["audit", "show", "--to", "2026-01-01"], 0).await["records"], json!([]));

    // Page by page it is the whole, the latest first.
    let whole = all["records"].as_array().unwrap();
    let (mut pages, mut cursor) = (Vec::new(), None);
    loop {
        let at: i64 = cursor.unwrap_or(i64::MAX);
        let page = json(&broker, &["audit", "show", "--limit", "3", "--cursor", &at.to_string()], 0).await;
        pages.extend(page["records"].as_array().unwrap().iter().cloned());
        cursor = page["next"].as_i64();
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(&pages, whole);
    let told = broker.command(&["audit", "show", "--outcome", "granted", "--limit", "1"]).await;
    let (line, more) = told.stdout.split_once('\n').unwrap();
    assert!(line.contains("  granted ") && line.contains(" for acme/payments-api (github:740000001)"), "{line}");
    assert!(line.contains(&format!("decision {}", decisions[2])), "the latest grant: {line}");
    assert!(more.starts_with("there may be more: --cursor "), "{more}");
}

/// What could have been granted in March is answerable: folder and configuration are kept at the start and at each change.
#[tokio::test]
async fn each_activated_folder_and_configuration_is_kept() {
    let issuer = Issuer::github();
    let config = BrokerConfig::new(&issuer);
    let mut broker = Broker::start(BINARY, config.clone()).await;
    let version = broker.health().await["mappings_version"].clone();
    broker.rewrite(config.clone().edit(MAPPINGS, "branch = \"main\"", "branch = \"release\""));
    eventually(TAKEN_UP, async || (broker.health().await["mappings_version"] != version).then_some(())).await;
    broker.rewrite(config.edit(MAPPINGS, "branch = \"main\"", "branch = \"release\"").network(
        "github",
        "max_lifetime = \"1m\"",
        false,
    ));
    let activated = eventually(TAKEN_UP, async || {
        Some(records::of_kind(&broker, "mappings_activated")).filter(|records| records.len() == 3)
    })
    .await;
    let reader = claimbound::store::open_reader(&format!("sqlite:{}", broker.database().display())).unwrap();
    let mut kept = Vec::new();
    for record in &activated {
        let folder = |member: &str| {
            let version = claimbound_core::evidence::unhex(record[member].as_str().unwrap()).unwrap();
            let folder = claimbound::folder::unarchive(&reader.folder(&version).unwrap().expect("it is kept")).unwrap();
            assert_eq!(folder.version(), version, "{member}");
            folder
        };
        assert!(folder("version").files.contains_key("policy.toml"));
        let configuration: Value = serde_json::from_slice(&folder("configuration").files["claimbound.json"]).unwrap();
        kept.push((
            record["configuration"].clone(),
            configuration["issuers"]["github"]["max_lifetime_seconds"].clone(),
        ));
    }
    assert_eq!(kept[0].0, kept[1].0, "the folder alone has changed");
    assert_eq!((&kept[1].1, &kept[2].1), (&Value::Null, &json!(60)), "then the configuration alone");
    assert_eq!(activated[1]["version"], activated[2]["version"]);
}
