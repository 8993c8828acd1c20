use super::*;
use crate::store::{Commit, open};
use claimbound_core::evidence::{Details, Record, What, record::leaf, unhex};
use claimbound_test_support::time::eventually;
use serde_json::{Map, Value, json};
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const SOON: Duration = Duration::from_secs(30);

struct Still;
impl Clock for Still {
    fn now(&self) -> UnixSeconds {
        NOW
    }
}

/// A store and one sink to a file.
struct House {
    directory: tempfile::TempDir,
    details: bool,
}

struct Open {
    source: Source,
    sinks: Sinks,
}

impl House {
    fn new(details: bool) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), details }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("out/evidence.jsonl")
    }

    fn open(&self) -> Open {
        let opened = open(&format!("sqlite:{}", self.directory.path().join("c.db").display()), NOW).unwrap();
        let source = Source {
            reader: opened.reader,
            writer: opened.writer,
            incarnation: opened.incarnation,
            clock: Arc::new(Still),
        };
        let sink = Configured { name: "siem".into(), kind: SinkKind::File(self.path()), details: self.details };
        let positions = self.directory.path().join("positions");
        let sinks = Sinks::start(&[sink], &positions, &source, &Client::new().unwrap()).unwrap();
        Open { source, sinks }
    }

    /// Lines of the file, read as JSON and as they are.
    fn lines(&self) -> Vec<(Value, String)> {
        let text = fs::read_to_string(self.path()).unwrap_or_default();
        text.lines().map(|line| (serde_json::from_str(line).unwrap(), line.to_owned())).collect()
    }
}

impl Open {
    async fn record(&self, name: &str) {
        let what = What::Started { version: name };
        let record = Record { decision: None, at: NOW, what, principal: None, actor: None, mappings_version: None };
        let details = Details::from(Map::from_iter([("address".to_owned(), json!("192.0.2.1"))]));
        let entry = Some(record.seal(&details, [7; 32]));
        self.source.writer.commit(Commit { guards: vec![], changes: vec![], entry }).await.unwrap();
    }

    async fn until(&self, holds: impl Fn(&SinkHealth) -> bool) -> SinkHealth {
        eventually(SOON, async || Some(self.sinks.health().remove(0)).filter(|health| holds(health))).await
    }

    async fn close(self) {
        self.source.writer.stop().await;
        self.sinks.stop().await;
    }
}

fn names(lines: &[(Value, String)]) -> Vec<&str> {
    lines.iter().filter_map(|(line, _)| line["body"]["version"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_has_every_record_as_it_was_hashed_and_goes_on_after_a_restart() {
    let house = House::new(false);
    fs::create_dir(house.path().parent().unwrap()).unwrap();
    let first = house.open();
    for name in ["a", "b"] {
        first.record(name).await;
    }
    let health = first.until(|health| health.sent == 2).await;
    assert_eq!((health.error, health.behind, health.last_sent), (None, 0, Some(NOW.0)));
    let lines = house.lines();
    for (number, (line, text)) in lines.iter().enumerate() {
        assert_eq!((&line["type"], &line["sequence"]), (&json!("record"), &json!(number + 1)));
        assert!(line.get("details").is_none() && !text.contains("192.0.2.1"));
        let body = text.split_once(r#""body":"#).unwrap().1.strip_suffix('}').unwrap();
        assert_eq!(unhex(line["leaf"].as_str().unwrap()), Some(leaf(body.as_bytes())), "byte for byte");
    }
    assert_eq!(fs::metadata(house.path()).unwrap().permissions().mode() & 0o777, 0o640);

    // Whoever rotates renames it.
    fs::rename(house.path(), house.directory.path().join("rotated")).unwrap();
    first.record("c").await;
    first.until(|health| health.sent == 3).await;
    assert_eq!(names(&house.lines()), ["c"]);
    // What is written last leaves before the broker does.
    first.record("d").await;
    first.close().await;
    assert_eq!(names(&house.lines()), ["c", "d"]);

    let second = house.open();
    second.record("e").await;
    second.until(|health| health.sent == 1).await;
    second.sinks.note(&Map::from_iter([("checkpoint".to_owned(), json!(5))]));
    second.close().await;
    let lines = house.lines();
    assert_eq!(names(&lines), ["c", "d", "e"], "nothing twice after an orderly stop");
    assert_eq!(lines.last().unwrap().0, json!({ "type": "note", "checkpoint": 5 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_down_holds_up_nobody_and_catches_up() {
    let house = House::new(true);
    let first = house.open();
    first.record("a").await;
    let health = first.until(|health| health.error.is_some()).await;
    assert!(health.error.unwrap().contains("No such file"), "{:?}", health.failures);
    first.record("b").await;
    first.close().await;

    fs::create_dir(house.path().parent().unwrap()).unwrap();
    let second = house.open();
    second.record("c").await;
    second.until(|health| health.sent == 3).await;
    let lines = house.lines();
    assert_eq!(names(&lines), ["a", "b", "c"]);
    assert_eq!(lines[0].0["details"]["address"], "192.0.2.1");
    // A crash after a write that was not remembered: the tail of the last chain comes first, some of it twice.
    let other = Places::open(&house.directory.path().join("positions")).unwrap();
    let place = other.read("siem").unwrap().unwrap();
    second.record("d").await;
    second.until(|health| health.sent == 4).await;
    second.close().await;
    other.write("siem", place).unwrap();
    let third = house.open();
    third.record("e").await;
    third.until(|health| health.sent == 2).await;
    third.close().await;
    assert_eq!(names(&house.lines()), ["a", "b", "c", "d", "d", "e"]);
    fs::write(house.directory.path().join("positions/siem.json"), "{").unwrap();
    assert!(other.read("siem").unwrap_err().to_string().contains("remove the file"));
}
