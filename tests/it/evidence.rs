//! The evidence that cannot be rewritten: whatever somebody does to a store, also one who computes the whole chain anew, is
//! found and named with the help of a checkpoint that was kept elsewhere; a store that has lost records is not served.

use crate::{BINARY, records};
use claimbound_core::evidence::{chain, record::leaf};
use claimbound_test_support::{
    broker::Broker,
    command::{command, finish},
    config::BrokerConfig,
    http::Answer,
    issuer::Issuer,
    postgres::Postgres,
    time::{eventually, now},
};
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};

const ROLE: &str = "payments-release";
/// What comes in the background comes within this.
const COMES: Duration = Duration::from_secs(60);

async fn exchange(issuer: &Issuer, broker: &Broker) -> (String, Answer) {
    let token = issuer.job().branch("main").environment("production").token(broker.audience());
    let answer = broker.exchange_for(&token, ROLE).await;
    (token, answer)
}

async fn granted(issuer: &Issuer, broker: &Broker) -> (String, Answer) {
    let (token, answer) = exchange(issuer, broker).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    (token, answer)
}

fn checkpoint(broker: &Broker) -> String {
    fs::read_to_string(broker.directory().join("keys/checkpoint")).unwrap()
}

fn size(checkpoint: &str) -> i64 {
    checkpoint.lines().nth(1).unwrap().parse().unwrap()
}

/// A database as it stands, in one file.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_file(to);
    Connection::open(from).unwrap().execute("VACUUM INTO ?1", [to.to_str().unwrap()]).unwrap();
}

/// Computes leaves, sequences and links of the records as they stand now, as somebody who can write the store would.
fn recompute(store: &Connection) {
    let mut statement = store.prepare("SELECT position, incarnation, body FROM records ORDER BY position").unwrap();
    let rows: Vec<(i64, [u8; 16], Vec<u8>)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    store.execute_batch("UPDATE records SET sequence = -position").unwrap();
    let (mut head, mut last, mut sequence) = (chain::ORIGIN, None, 0);
    for (position, incarnation, body) in rows {
        sequence = if last == Some(incarnation) { sequence + 1 } else { 1_u64 };
        last = Some(incarnation);
        let leaf = leaf(&body);
        head = chain::link(u128::from_be_bytes(incarnation), sequence, &head, &leaf);
        let update = "UPDATE records SET sequence = ?2, leaf = ?3, link = ?4 WHERE position = ?1";
        store.execute(update, params![position, sequence.cast_signed(), leaf, head]).unwrap();
    }
}

/// Exit code and text of `audit verify` in a directory that holds nothing but what it is given.
async fn verify(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let exit = finish(command(Path::new(BINARY), folder).args(["audit", "verify"]).args(arguments)).await;
    (exit.code, format!("{}{}", exit.stdout, exit.stderr))
}

/// Edit, delete, reorder, insert, truncate, an old copy, another store, a forged checkpoint: each with the chain left as it
/// was, where that is possible, and computed anew.
#[tokio::test]
async fn security_127_eight_mutations_are_found_and_named() {
    let issuer = Issuer::github();
    let mut broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    granted(&issuer, &broker).await;
    broker.terminate().await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let old = checkpoint(&broker);
    copy(&broker.database(), &at("old.db"));
    broker.restart().await;
    for _ in 0..3 {
        granted(&issuer, &broker).await;
    }
    let public = broker.get("/evidence/key").await.text;
    assert_eq!(public, fs::read_to_string(broker.directory().join("keys/checkpoint.pub")).unwrap());
    let served = eventually(COMES, async || Some(broker.get("/evidence/checkpoint").await).filter(|a| a.status == 200));
    assert!(size(&served.await.text) >= size(&old));
    broker.terminate().await;
    let new = checkpoint(&broker);
    let (was, is) = (size(&old), size(&new));
    assert_eq!(is, was + 5, "started, activated, and three grants: nothing is left unproven by a stop");
    copy(&broker.database(), &at("good.db"));
    let stranger = Issuer::github();
    let mut other = Broker::start(BINARY, BrokerConfig::new(&stranger)).await;
    granted(&stranger, &other).await;
    other.terminate().await;
    copy(&other.database(), &at("other.db"));
    let (key, foreign) = (at("key"), fs::read_to_string(other.directory().join("keys/checkpoint.pub")).unwrap());
    for (name, text) in [("key", &public), ("old.note", &old), ("new.note", &new), ("other.note", &checkpoint(&other))]
    {
        fs::write(at(name), text).unwrap();
    }
    let key = key.to_str().unwrap().to_owned();
    let against = ["--checkpoint", "old.note", "--checkpoint", "new.note", "--checkpoint-key", &key];
    let of = |store: &'static str| [&["--store", store][..], &against].concat();

    let (code, text) = verify(folder.path(), &of("sqlite:good.db")).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("signed    {is} records at ")) && text.contains("unproven  0 records"), "{text}");
    // The few lines of the documentation say the same, and see a checkpoint that does not hold.
    let script = crate::docs::blocks_in("docs/evidence.md", "python").remove(0);
    let by_hand = async |note: &str| {
        let mut python = command(Path::new("python3"), folder.path());
        finish(python.args(["-c", &script, "good.db", note])).await
    };
    let exit = by_hand("new.note").await;
    assert!(exit.code == Some(0) && exit.stdout.starts_with("verified, head "), "{}{}", exit.stdout, exit.stderr);
    let exit = by_hand("other.note").await;
    assert_eq!(exit.code, Some(1), "{}{}", exit.stdout, exit.stderr);
    let with_text_key = ["--store", "sqlite:good.db", "--checkpoint", "new.note", "--checkpoint-key", public.trim()];
    let (code, text) = verify(folder.path(), &with_text_key).await;
    assert_eq!(code, Some(0), "{text}");
    // In its own directory the broker's file and key are found.
    let own = broker.command(&["audit", "verify", "--format", "json"]).await;
    let told: Value = serde_json::from_str(&own.stdout).unwrap();
    assert_eq!(told["checkpoint"]["signature_checked"], true, "{told}");
    assert_eq!((&told["checkpoint"]["size"], &told["checkpoint"]["unproven"]), (&json!(is), &json!(0)));

    // The last grant's record, and the one before it: behind the older checkpoint.
    let (last, before) = (is, is - 1);
    let swap = format!(
        "UPDATE records SET position = -1 WHERE position = {last}; UPDATE records SET position = {last} WHERE position = {before};
         UPDATE records SET position = {before} WHERE position = -1"
    );
    let insert = format!(
        "UPDATE records SET position = position + 1000 WHERE position >= {before};
         INSERT INTO records SELECT {before}, beside.incarnation, 999, beside.link, leaf, body, details, NULL
         FROM (SELECT leaf, body, details FROM records WHERE position = 1), (SELECT incarnation, link FROM records WHERE position = {before} + 1000) AS beside;
         UPDATE records SET position = position - 999 WHERE position > 1000"
    );
    // What no lease tells of, so that the story stays whole.
    let quiet = was + 1;
    let whole = format!("one from record {} to record {is} was changed", was + 1);
    let missing = |record: i64| format!("record {record} and all after it are missing");
    let mutations: &[(&str, String, bool, String)] = &[
        (
            "edit",
            format!(
                "UPDATE records SET body = CAST(replace(CAST(body AS TEXT), '0.1.0', '0.1.1') AS BLOB) WHERE position = {quiet}"
            ),
            false,
            format!("record {quiet} (incarnation "),
        ),
        (
            "edit, all computed anew",
            format!(
                "UPDATE records SET body = CAST(replace(CAST(body AS TEXT), '0.1.0', '0.1.1') AS BLOB) WHERE position = {quiet}"
            ),
            true,
            whole.clone(),
        ),
        (
            "edit of details",
            format!(
                "UPDATE records SET details = CAST(replace(CAST(details AS TEXT), 'main', 'evil') AS BLOB) WHERE position = {last}"
            ),
            false,
            format!("record {last} (incarnation "),
        ),
        (
            "delete",
            format!("DELETE FROM records WHERE position = {quiet}"),
            false,
            format!("record {} (incarnation ", quiet + 1),
        ),
        (
            "delete, all computed anew",
            format!(
                "DELETE FROM records WHERE position = {quiet}; UPDATE records SET position = position - 1 WHERE position > {quiet}"
            ),
            true,
            missing(is),
        ),
        ("reorder", swap.clone(), false, format!("record {before} (incarnation ")),
        ("reorder, all computed anew", swap, true, whole.clone()),
        ("insert", insert.clone(), false, format!("record {before} (incarnation ")),
        ("insert, all computed anew", insert, true, whole),
        (
            "truncate",
            format!(
                "DELETE FROM records WHERE position > {}; DELETE FROM leases WHERE id NOT IN (SELECT decision FROM records WHERE decision IS NOT NULL)",
                is - 2
            ),
            false,
            missing(is - 1),
        ),
        (
            "forged in the store",
            format!("UPDATE checkpoints SET note = replace(note, '\n{is}\n', '\n{was}\n')"),
            false,
            "the store's checkpoint: it is not signed by".to_owned(),
        ),
        (
            "epoch without a record",
            "INSERT INTO epochs VALUES (2, randomblob(16), 1, NULL)".to_owned(),
            false,
            "no record tells of the adoption that began epoch 2".to_owned(),
        ),
    ];
    for (what, sql, anew, named) in mutations {
        fs::copy(at("good.db"), at("bad.db")).unwrap();
        let store = Connection::open(at("bad.db")).unwrap();
        store.execute_batch(sql).unwrap();
        if *anew {
            recompute(&store);
        }
        drop(store);
        let (code, text) = verify(folder.path(), &of("sqlite:bad.db")).await;
        assert_eq!(code, Some(1), "{what}: {text}");
        assert!(text.contains(named), "{what}: {named}: {text}");
    }
    // An old copy, another store in place, also under this one's identity and with its notes gone.
    let (code, text) = verify(folder.path(), &of("sqlite:old.db")).await;
    assert!(code == Some(1) && text.contains(&missing(was + 1)), "{text}");
    let (code, text) = verify(folder.path(), &of("sqlite:other.db")).await;
    assert!(code == Some(1) && text.contains("the store's checkpoint: it is not signed by"), "{text}");
    let id: Vec<u8> =
        Connection::open(at("good.db")).unwrap().query_row("SELECT id FROM epochs", [], |row| row.get(0)).unwrap();
    let store = Connection::open(at("other.db")).unwrap();
    store.execute_batch("DELETE FROM checkpoints").unwrap();
    let (code, text) = verify(folder.path(), &of("sqlite:other.db")).await;
    assert!(code == Some(1) && text.contains("it is of another database"), "{text}");
    store.execute("UPDATE epochs SET id = ?1", [id]).unwrap();
    drop(store);
    let (code, text) = verify(folder.path(), &of("sqlite:other.db")).await;
    assert!(code == Some(1) && text.contains("one from record 1 to record"), "{text}");
    // Forged checkpoints: of another key, of other content, of no form.
    for (note, named) in [
        (checkpoint(&other), "it is not signed by"),
        (new.replacen(&format!("\n{is}\n"), &format!("\n{}\n", is - 1), 1), "it is not signed by"),
        (new.replace('\u{2014}', "-"), "it is no signed note"),
    ] {
        fs::write(at("forged.note"), note).unwrap();
        let arguments = ["--store", "sqlite:good.db", "--checkpoint", "forged.note", "--checkpoint-key", &key];
        let (code, text) = verify(folder.path(), &arguments).await;
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("checkpoint `forged.note`: ") && text.contains(named), "{named}: {text}");
    }
    let (code, text) = verify(folder.path(), &["--store", "sqlite:good.db", "--checkpoint-key", &foreign]).await;
    assert!(code == Some(1) && text.contains("it is not signed by"), "{text}");

    // What stands behind the last checkpoint is told, not vouched for: its end can be cut, and nobody sees it.
    fs::copy(at("good.db"), at("tail.db")).unwrap();
    let store = Connection::open(at("tail.db")).unwrap();
    store.execute_batch("DELETE FROM checkpoints").unwrap();
    let tail = ["--store", "sqlite:tail.db", "--checkpoint", "old.note", "--checkpoint-key", &key];
    let (code, text) = verify(folder.path(), &tail).await;
    assert!(code == Some(0) && text.contains("unproven  5 records behind it"), "{text}");
    store.execute_batch(&mutations[9].1).unwrap();
    let (code, text) = verify(folder.path(), &tail).await;
    assert!(code == Some(0) && text.contains("unproven  3 records behind it"), "{text}");
}

/// One file, the program and the public key: enough to check what was granted, also when details are erased.
#[tokio::test]
async fn a_decision_s_evidence_verifies_by_itself() {
    let issuer = Issuer::github();
    let mut broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let (_, answer) = granted(&issuer, &broker).await;
    let decision = answer.text_of("decision_id").to_owned();
    assert_eq!(broker.revoke(answer.text_of("access_token")).await.status, 200);
    granted(&issuer, &broker).await;
    let key = broker.get("/evidence/key").await.text;
    broker.terminate().await;
    let export = async |out: &str| {
        let exit = broker.command(&["audit", "export", "--decision", &decision, "--out", out]).await;
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        fs::read_to_string(broker.directory().join(out)).unwrap()
    };
    let good = export("good.json").await;
    let folder = tempfile::tempdir().unwrap();
    let check = async |text: &str| {
        fs::write(folder.path().join("export.json"), text).unwrap();
        verify(folder.path(), &["--export", "export.json", "--checkpoint-key", key.trim()]).await
    };
    let (code, text) = check(&good).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("2 records, 0 with erased details") && text.contains(r#""kind":"ended""#), "{text}");
    let own = broker.command(&["audit", "verify", "--export", "good.json"]).await;
    assert_eq!(own.code, Some(0), "the configured broker's key is found: {}", own.stderr);

    let read: Value = serde_json::from_str(&good).unwrap();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut export = read.clone();
        change(&mut export);
        assert_ne!(export, read);
        export.to_string()
    };
    let replaced = |at: &[&str], from: &'static str, to: &'static str| {
        let pointer = format!("/{}", at.join("/"));
        changed(&|export| {
            let place = export.pointer_mut(&pointer).unwrap();
            *place = place.as_str().unwrap().replace(from, to).into();
        })
    };
    let cases = [
        (
            "body",
            replaced(&["records", "0", "body"], "payments-release", "payments-admin"),
            "its proof does not lead to",
        ),
        ("details", replaced(&["records", "0", "details"], "production", "staging"), "its details are not those"),
        (
            "proof",
            changed(&|export| export["records"][0]["proof"][0] = "00".repeat(32).into()),
            "its proof does not lead to",
        ),
        ("place", changed(&|export| export["records"][0]["index"] = json!(0)), "its proof does not lead to"),
        ("left out", changed(&|export| export["records"] = json!([])), "it holds no record of decision"),
        ("twice", changed(&|export| export["records"][1] = export["records"][0].clone()), "it stands twice"),
        (
            "checkpoint",
            replaced(&["checkpoint"], "\nat 1", "\nat 2"),
            "its checkpoint does not hold: it is not signed by",
        ),
        (
            "decision",
            changed(&|export| export["decision"] = "01938c5e-6d7a-7000-8000-000000000000".into()),
            "it is neither of this decision",
        ),
        ("folder", replaced(&["folder", "files", "policy.toml"], "acme", "evil"), "its mapping folder was changed"),
        ("version", changed(&|export| export["folder"]["version"] = "00".repeat(32).into()), "not the one that judged"),
        ("form", changed(&|export| export["claimbound_export"] = json!(2)), "no export of form 1"),
        ("syntax", good[..good.len() - 2].to_owned(), "it is no export"),
    ];
    for (what, export, named) in cases {
        let (code, text) = check(&export).await;
        assert_eq!(code, Some(1), "{what}: {text}");
        assert!(text.contains(named), "{what}: {named}: {text}");
    }
    // Erased in the file, and in the store before it was written.
    let erased = changed(&|export| drop(export["records"][0].as_object_mut().unwrap().remove("details")));
    let (code, text) = check(&erased).await;
    assert!(code == Some(0) && text.contains("1 with erased details"), "{text}");
    Connection::open(broker.database()).unwrap().execute_batch("UPDATE records SET details = x''").unwrap();
    let (code, text) = check(&export("erased.json").await).await;
    assert!(code == Some(0) && text.contains("2 records, 1 with erased details"), "{text}");
    let unknown = ["audit", "export", "--decision", "01938c5e-6d7a-7000-8000-000000000000", "--out", "none.json"];
    assert_eq!(broker.command(&unknown).await.code, Some(2));
}

/// A restored backup: only health, until somebody says that it shall be so; then nothing from before it counts.
#[tokio::test]
async fn security_127_a_restored_backup_is_not_served_before_it_is_adopted() {
    let issuer = Issuer::github();
    let mut broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let (early, first) = granted(&issuer, &broker).await;
    broker.terminate().await;
    let say = async |broker: &Broker, words: &[&str]| {
        let said = broker.command(&[words, &["--reason", "a leak", "--break-glass", "no broker runs"]].concat()).await;
        assert_eq!(said.code, Some(0), "{words:?}: {}{}", said.stdout, said.stderr);
    };
    say(&broker, &["suspend", "--run", "41"]).await;
    let backup = broker.directory().join("backup.db");
    copy(&broker.database(), &backup);
    broker.restart().await;
    let (late, _) = granted(&issuer, &broker).await;
    assert_eq!(broker.revoke(first.text_of("access_token")).await.status, 200);
    broker.terminate().await;
    say(&broker, &["suspend", "--run", "42"]).await;
    say(&broker, &["suspend", "--person", "7"]).await;
    say(&broker, &["resume", "--run", "41"]).await;
    let lost = checkpoint(&broker);
    fs::write(broker.directory().join("lost.note"), &lost).unwrap();
    let nothing = broker.command(&["store", "adopt", "--accept-lost-suspensions", "none"]).await;
    assert_eq!(nothing.code, Some(2), "{}", nothing.stdout);
    assert!(nothing.stderr.contains("there is nothing to adopt"), "{}", nothing.stderr);
    let all = broker.command(&["audit", "export", "--all", "--out", "all.jsonl"]).await;
    assert_eq!(all.code, Some(0), "{}", all.stderr);

    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", broker.database().display()));
    }
    fs::rename(&backup, broker.database()).unwrap();
    broker.restart_closed().await;
    let health = broker.health().await;
    assert_eq!(health["ready"], false);
    let told = health["evidence"]["behind"].as_str().unwrap();
    assert!(told.contains("it lacks record") && told.contains("claimbound store adopt"), "{told}");
    for (path, status) in
        [("/healthz", 200), ("/readyz", 503), ("/jwks", 503), ("/evidence/checkpoint", 503), ("/none", 503)]
    {
        assert_eq!(broker.get(path).await.status, status, "{path}");
    }
    let refused = broker.exchange_for(&early, ROLE).await;
    assert_eq!((refused.status, &refused.body["reason"]), (503, &json!("store_down")), "{}", refused.text);
    assert!(!refused.header("retry-after").is_empty() && !refused.text.contains("record "), "{}", refused.text);

    // Evidence that leaves something out is not taken.
    let lines = fs::read_to_string(broker.directory().join("all.jsonl")).unwrap();
    let lines: Vec<_> = lines.lines().collect();
    fs::write(broker.directory().join("part.jsonl"), lines[1..].join("\n")).unwrap();
    let part = broker.command(&["store", "adopt", "--evidence", "part.jsonl"]).await;
    assert_eq!(part.code, Some(2), "{}", part.stdout);
    assert!(part.stderr.contains("does not run through the checkpoint"), "{}", part.stderr);
    assert_eq!(broker.get("/readyz").await.status, 503);

    let adopted = broker.command(&["store", "adopt", "--evidence", "all.jsonl"]).await;
    assert_eq!(adopted.code, Some(0), "{}", adopted.stderr);
    assert!(adopted.stdout.starts_with("adopted: epoch 2 begins; at least "), "{}", adopted.stdout);
    let again = "ended again: 1, suspended again: 2, resumed again: 1";
    assert!(adopted.stdout.contains(again), "{}", adopted.stdout);
    assert_eq!(broker.line().await["event"], "ready", "it goes on by itself");
    for token in [&early, &late] {
        let refused = broker.exchange_for(token, ROLE).await;
        assert_eq!((refused.status, &refused.body["reason"]), (400, &json!("before_adoption")), "{}", refused.text);
        let (body, _) = records::the_one(&broker, refused.text_of("decision_id")).await;
        assert_eq!((&body["kind"], &body["reason"]), (&json!("refused"), &json!("before_adoption")));
    }
    let job = issuer.job().branch("main").environment("production").claim("iat", json!(now() + 2));
    let answer = broker.exchange_for(&job.token(broker.audience()), ROLE).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let record = records::of_kind(&broker, "adopted").remove(0);
    assert_eq!((&record["epoch"], &record["how"]), (&json!(2), &json!("evidence")), "{record}");
    let listed = broker.command(&["suspensions", "--format", "json"]).await;
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let listed = listed["suspensions"].as_array().unwrap();
    let mut standing: Vec<_> = listed.iter().map(|one| (&one["scope"], &one["name"], &one["reason"])).collect();
    standing.sort_by_key(|(scope, ..)| scope.to_string());
    let (person, run, leak) = (json!("person"), json!("run"), json!("a leak"));
    assert_eq!(standing, [(&person, &json!("7"), &leak), (&run, &json!("42"), &leak)]);
    let ended = records::of_kind(&broker, "ended").remove(0);
    assert_eq!(ended["lease"], first.body["lease_id"], "what was ended then is ended again");
    broker.terminate().await;
    let verified = broker.command(&["audit", "verify"]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
    assert!(verified.stdout.contains("in epoch 2"), "{}", verified.stdout);
    let gone = broker.command(&["audit", "verify", "--checkpoint", "lost.note"]).await;
    assert_eq!(gone.code, Some(1), "{}", gone.stdout);
    assert!(gone.stdout.contains("were given up when the store was adopted"), "{}", gone.stdout);
    // Another start needs nobody; a checkpoint that is not ours is not passed over.
    broker.restart().await;
    broker.terminate().await;
    fs::write(broker.directory().join("keys/checkpoint"), lost.replace("\nepoch 1", "\nepoch 9")).unwrap();
    let refused = broker.command(&["serve", "--config", "claimbound.toml", "--development"]).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("does not hold: it is not signed by"), "{}", refused.stderr);
}

/// A database that was swapped for an old copy under a running broker: noticed when it connects again.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_a_postgresql_is_noticed_and_adopted() {
    let (issuer, server) = (Issuer::github(), Postgres::start());
    let config = BrokerConfig::new(&issuer).store(&server.url()).server("public_url = \"https://cb.example\"");
    let mut broker = Broker::start(BINARY, config).await;
    let (early, _) = granted(&issuer, &broker).await;
    let alone = |then: &str| {
        server.sql("postgres", "ALTER DATABASE claimbound ALLOW_CONNECTIONS false");
        let cut = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = 'claimbound'";
        server.sql("postgres", cut);
        for sql in then.split(';') {
            server.sql("postgres", sql);
        }
    };
    alone("CREATE DATABASE old TEMPLATE claimbound OWNER claimbound;ALTER DATABASE claimbound ALLOW_CONNECTIONS true");
    eventually(COMES, async || (exchange(&issuer, &broker).await.1.status == 200).then_some(())).await;
    let records = records::all(&broker).len() as i64;
    let covered = async || {
        let health = broker.health().await;
        (health["evidence"]["checkpoint"]["size"].as_i64() >= Some(records)).then_some(())
    };
    eventually(COMES, covered).await;
    fs::write(broker.directory().join("lost.note"), checkpoint(&broker)).unwrap();
    alone("ALTER DATABASE claimbound RENAME TO lost;ALTER DATABASE old RENAME TO claimbound");
    let behind = broker.command(&["audit", "verify", "--checkpoint", "lost.note"]).await;
    assert_eq!(behind.code, Some(1), "{}{}", behind.stdout, behind.stderr);
    assert!(behind.stdout.contains("this is an old copy"), "{}", behind.stdout);
    let closed = broker.line().await;
    assert_eq!(closed["event"], "closed", "{closed}");
    assert_eq!((exchange(&issuer, &broker).await.1.status, broker.get("/readyz").await.status), (503, 503));
    let why = broker.health().await["evidence"]["behind"].to_string();
    assert!(why.contains("claimbound store adopt"), "{why}");
    let adopted = broker.command(&["store", "adopt", "--accept-lost-suspensions", "the standby lagged"]).await;
    assert_eq!(adopted.code, Some(0), "{}{}", adopted.stdout, adopted.stderr);
    assert_eq!(broker.line().await["event"], "ready");
    let refused = broker.exchange_for(&early, ROLE).await;
    assert_eq!(refused.body["reason"], "before_adoption", "{}", refused.text);
    let (_, details) = records::all(&broker).into_iter().find(|(body, _)| body["kind"] == "adopted").unwrap();
    assert_eq!(details["reason"], "the standby lagged");
    assert!(details["operator"].as_str().unwrap().starts_with("local:"), "{details}");
    let replica = broker.replica().await;
    drop(replica);
    broker.terminate().await;
    let verified = broker.command(&["audit", "verify"]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);

    // A whole chain of one replica put in another's place, and an end cut off with the place that keeps it.
    for (what, sql, named) in [
        ("another replica's chain", "UPDATE claimbound.records SET body = (SELECT body FROM claimbound.records WHERE position = 1),
          leaf = (SELECT leaf FROM claimbound.records WHERE position = 1) WHERE position = 2", "record 2 (incarnation "),
        ("an end cut off", "DELETE FROM claimbound.records WHERE position = (SELECT max(position) FROM claimbound.records);
          UPDATE claimbound.incarnations i SET sequence = sequence - 1, head = coalesce((SELECT link FROM claimbound.records r
          WHERE r.incarnation = i.id ORDER BY position DESC LIMIT 1), previous)
          WHERE number = (SELECT max(number) FROM claimbound.incarnations WHERE sequence > 0)", "all after it are missing"),
    ] {
        server.sql("postgres", "DROP DATABASE IF EXISTS bad");
        alone("CREATE DATABASE bad TEMPLATE claimbound OWNER claimbound;ALTER DATABASE claimbound ALLOW_CONNECTIONS true");
        server.sql("bad", sql);
        let public = broker.directory().join("keys/checkpoint.pub").display().to_string();
        let url = server.url_of("bad");
        let arguments = ["audit", "verify", "--store", &url, "--checkpoint", "keys/checkpoint", "--checkpoint-key", &public];
        let bad = broker.command(&arguments).await;
        assert_eq!(bad.code, Some(1), "{what}: {}{}", bad.stdout, bad.stderr);
        assert!(bad.stdout.contains(named), "{what}: {}", bad.stdout);
    }
}
