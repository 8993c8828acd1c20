//! SQLite's own: the file, its lock, crashes, full disks, and hands that edit the database.

use super::{contract::contract, *};
use crate::store::sqlite::{Sqlite, SqliteReader};
use LeaseState::{Issued, Issuing};
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

pub(super) struct Folder(tempfile::TempDir);

impl Folder {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self) -> PathBuf {
        self.0.path().join("store.db")
    }
    fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }
    fn open(&self) -> Result<(Sqlite, Chain), Down> {
        Sqlite::open(&self.path(), NOW)
    }
    /// A hand in the database, beside whoever holds it.
    fn edit(&self, sql: &str) {
        super::edit(&self.path(), sql);
    }
    fn finding(&self) -> String {
        audit(self.reader().as_ref(), None).unwrap().finding.expect("a finding").to_string()
    }
}

impl Place for Folder {
    fn engine(&self) -> Result<(Box<dyn Engine>, Chain), Down> {
        self.open().map(|(engine, chain)| (Box::new(engine) as _, chain))
    }
    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(SqliteReader::open(&self.path()).unwrap())
    }
}

contract!(Folder::new());

#[test]
fn a_second_broker_is_refused_and_a_reader_is_not() {
    let place = Folder::new();
    let (mut first, mut chain) = place.open().unwrap();
    let why = place.open().err().unwrap().why;
    assert!(why.contains(&format!("another broker (process {}) holds `", std::process::id())), "{why}");
    let link = place.0.path().join("alias.db");
    std::os::unix::fs::symlink(place.path(), &link).unwrap();
    assert!(Sqlite::open(&link, NOW).is_err(), "under another name");
    first.apply(&[grant(1, spend(1, Issued))], &mut chain).unwrap();
    open_reader(&place.url()).unwrap().ping().unwrap();
    verified(&place, 1);
    drop(first);
    place.open().unwrap();
}

#[test]
fn states_are_checked_without_a_table_for_each_row() {
    let place = Folder::new();
    drop(place.open().unwrap());
    let connection = rusqlite::Connection::open(place.path()).unwrap();
    for table in ["spent", "leases"] {
        let columns = "SELECT group_concat('?') FROM pragma_table_info(?1)";
        let marks: String = connection.query_row(columns, [table], |row| row.get(0)).unwrap();
        let mut plan = connection.prepare(&format!("EXPLAIN INSERT INTO {table} VALUES ({marks})")).unwrap();
        let steps: Vec<String> = plan.raw_query().mapped(|row| row.get("opcode")).map(Result::unwrap).collect();
        assert!(steps.iter().any(|step| step == "IdxInsert"), "{table}: {steps:?}");
        assert!(!steps.iter().any(|step| step == "OpenEphemeral"), "{table}: {steps:?}");
    }
    let spent = |state: &str| format!("INSERT INTO spent VALUES (randomblob(32), 0, zeroblob(32), '{state}', 0)");
    connection.execute(&spent("unknown"), []).unwrap();
    let error = connection.execute(&spent("spent"), []).unwrap_err().to_string();
    assert!(error.starts_with("CHECK constraint failed: state = "), "{error}");
}

#[test]
fn the_file_is_private() {
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let place = Folder::new();
    let (mut engine, mut chain) = place.open().unwrap();
    engine.apply(&[grant(1, spend(1, Issued))], &mut chain).unwrap();
    for end in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(format!("{}{end}", place.path().display()).into()), 0o600, "{end}");
    }
    drop(engine);
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o644)).unwrap();
    place.open().unwrap();
    assert_eq!(mode(place.path()), 0o600);
}

#[test]
fn every_commit_is_synced() {
    let place = Folder::new();
    let (engine, _) = place.open().unwrap();
    let pragma = |name| engine.connection().pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!((pragma("synchronous"), pragma("foreign_keys")), (2, 1));
}

#[test]
fn files_that_are_not_ours_are_refused() {
    let place = Folder::new();
    fs::write(place.path(), "not a database, but long enough to be read as the beginning of one".repeat(20)).unwrap();
    let why = place.open().err().unwrap().why;
    assert!(why.contains("not a database"), "{why}");

    let place = Folder::new();
    place.edit("CREATE TABLE other (x)");
    let why = place.open().err().unwrap().why;
    assert!(why.contains("not of claimbound"), "{why}");

    let place = Folder::new();
    drop(place.open().unwrap());
    place.edit("PRAGMA user_version = 99");
    let why = place.open().err().unwrap().why;
    assert!(why.contains("the store is of version 99"), "{why}");
    assert!(SqliteReader::open(&place.path()).is_err());

    let place = Folder::new();
    let why = open_reader(&place.url()).err().unwrap().why;
    assert!(why.contains("unable to open"), "{why}");
    assert!(!place.path().exists(), "reading creates nothing");
    fs::write(place.path(), "").unwrap();
    let why = open_reader(&place.url()).err().unwrap().why;
    assert!(why.contains("no broker has opened it yet"), "{why}");
}

/// What is on the disk right after an answer is what a `kill -9` leaves.
#[test]
fn what_was_answered_survives_a_crash() {
    let place = Folder::new();
    let (mut engine, mut chain) = place.open().unwrap();
    for number in 1..=20 {
        let leaves = if number % 5 == 0 { Issuing } else { Issued };
        engine.apply(&[grant(number.into(), spend(number, leaves))], &mut chain).unwrap();
        let left = Folder::new();
        for end in ["", "-wal"] {
            let name = |place: &Folder| format!("{}{end}", place.path().display());
            fs::copy(name(&place), name(&left)).unwrap();
        }
        let (mut after, mut next) = left.open().unwrap();
        assert_eq!(next.head, chain.head);
        assert_eq!(verified(&left, number.into()).leases, u64::from(number));
        let replayed = after.apply(&[grant(99, spend(number, Issued))], &mut next).unwrap();
        let blocked = if leaves == Issuing { Blocked::InFlight } else { Blocked::Replay };
        assert_eq!(replayed, [Outcome::Blocked(blocked)]);
        assert_eq!(left.reader().unsettled(NOW.plus(1)).unwrap().len(), usize::from(number / 5));
    }
}

#[test]
fn a_settled_lease_keeps_the_handle_that_the_target_gave() {
    let place = Folder::new();
    let (mut engine, mut chain) = place.open().unwrap();
    engine.apply(&[grant(1, spend(1, Issuing)), settle(1, Issued)], &mut chain).unwrap();
    let handle = engine.connection().query_row("SELECT handle FROM leases", [], |row| row.get::<_, String>(0));
    assert_eq!(handle.unwrap(), "handle");
}

/// A transaction whose sync failed may be on the disk nevertheless.
#[test]
fn a_chain_goes_on_behind_what_a_failed_batch_left() {
    let place = Folder::new();
    let (mut engine, mut chain) = place.open().unwrap();
    engine.apply(&[grant(1, spend(1, Issued))], &mut chain).unwrap();
    engine.apply(&[grant(2, spend(2, Issued))], &mut chain.clone()).unwrap();
    engine.doubt();
    assert_eq!(engine.apply(&[grant(3, spend(3, Issued))], &mut chain).unwrap(), [durable(3)]);
    verified(&place, 3);
}

#[test]
fn a_record_of_another_shape_is_named() {
    let place = filled();
    place.edit(
        "CREATE TABLE copy AS SELECT * FROM records; DROP TABLE records; ALTER TABLE copy RENAME TO records;
         UPDATE records SET link = 'text' WHERE position = 3",
    );
    let why = audit(place.reader().as_ref(), None).unwrap_err().why;
    assert!(why.contains("record 3 cannot be read: "), "{why}");
}

#[test]
fn a_full_disk_is_down_and_leaves_nothing_half_written() {
    let place = Folder::new();
    let (mut engine, mut chain) = place.open().unwrap();
    engine.apply(&[grant(1, spend(1, Issued))], &mut chain).unwrap();
    let pages: i64 = engine.connection().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    engine.connection().pragma_update(None, "max_page_count", pages).unwrap();
    let big = Change::KeepFolder { version: [1; 32], archive: vec![7; 1_000_000] };
    let mut too_much = grant(3, spend(3, Issued));
    too_much.changes.push(big);
    let batch = [grant(2, spend(2, Issued)), too_much];
    for _ in 0..2 {
        let why = engine.apply(&batch, &mut chain.clone()).unwrap_err().why;
        assert!(why.contains("full"), "{why}");
        verified(&place, 1);
    }
    engine.connection().pragma_update(None, "max_page_count", 1_000_000).unwrap();
    assert_eq!(engine.apply(&batch, &mut chain).unwrap(), [durable(2), durable(3)]);
    assert_eq!(verified(&place, 3).chain.incarnations(), 1);
}

#[test]
fn hands_in_the_evidence_are_found_and_named() {
    let put = |set: &str| format!("UPDATE records SET {set} WHERE position = 3");
    let cases = [
        (put("body = CAST(replace(CAST(body AS TEXT), 'acme', 'evil') AS BLOB)"), 3, "leaf"),
        (put("leaf = zeroblob(32)"), 3, "leaf"),
        (put("link = zeroblob(32)"), 3, "link"),
        (put("body = x'7b7d'"), 3, "leaf"),
        ("DELETE FROM records WHERE position = 3".into(), 4, "missing"),
        (
            "UPDATE records SET position = position * 10; UPDATE records SET position = 45 WHERE position = 30".into(),
            40,
            "missing",
        ),
        (
            // The table's own constraints forbid a duplicate; a table made anew has none.
            "CREATE TABLE copy AS SELECT * FROM records; DROP TABLE records; ALTER TABLE copy RENAME TO records;
             UPDATE records SET position = position + 1 WHERE position > 3;
             INSERT INTO records SELECT 4, incarnation, sequence, link, leaf, body, details, decision
             FROM records WHERE position = 3"
                .into(),
            4,
            "duplicate",
        ),
        (
            "CREATE TEMP TABLE kept AS SELECT position, details FROM records;
             UPDATE records SET details = (SELECT details FROM kept WHERE kept.position = 7 - records.position)
             WHERE position IN (3, 4)"
                .into(),
            3,
            "details",
        ),
        (put("details = CAST(replace(CAST(details AS TEXT), 'person', 'nobody') AS BLOB)"), 3, "details"),
        (put("sequence = 77"), 3, "its sequence should be 3: records are missing"),
        (put("incarnation = zeroblob(16)"), 3, "its sequence should be 1"),
    ];
    for (sql, position, wrong) in cases {
        let place = filled();
        place.edit(&sql);
        let finding = place.finding();
        assert!(finding.starts_with(&format!("record {position} (incarnation ")), "{sql}: {finding}");
        assert!(finding.contains(wrong), "{sql}: {finding}");
    }
}

#[test]
fn a_cut_tail_shows_only_against_a_head_kept_elsewhere() {
    let place = filled();
    let head = verified(&place, 6).chain.head();
    let report = audit(place.reader().as_ref(), Some(head)).unwrap();
    assert!(report.finding.is_none());
    assert_eq!(report.chain.met(), Some(6));
    place.edit("DELETE FROM records WHERE position = 6");
    verified(&place, 5);
    let report = audit(place.reader().as_ref(), Some(head)).unwrap();
    assert!(matches!(report.finding, Some(Finding::HeadNotMet)));
}

#[test]
fn erased_details_verify() {
    let place = filled();
    place.edit("UPDATE records SET details = x'' WHERE position <> 2");
    assert_eq!(verified(&place, 6).chain.erased(), 5);
}

#[test]
fn hands_in_the_leases_are_found_and_named() {
    let cases = [
        ("DELETE FROM leases WHERE id = x'00000000000000000000000000000002'", LeaseFault::Missing),
        ("UPDATE leases SET id = zeroblob(16) WHERE id = x'00000000000000000000000000000002'", LeaseFault::NoRecord),
        ("UPDATE leases SET role = 'admin' WHERE state = 'unknown'", LeaseFault::Otherwise),
        ("UPDATE leases SET mapping = 'other' WHERE state = 'unknown'", LeaseFault::Otherwise),
        ("UPDATE leases SET expires = expires + 1 WHERE state = 'unknown'", LeaseFault::Otherwise),
        ("UPDATE leases SET state = 'issued' WHERE state = 'unknown'", LeaseFault::State(LeaseState::Issued)),
        ("UPDATE leases SET state = 'issued' WHERE state = 'ended'", LeaseFault::State(LeaseState::Issued)),
        ("UPDATE leases SET state = 'ended' WHERE state = 'issued'", LeaseFault::State(LeaseState::Ended)),
        ("DELETE FROM spent WHERE state = 'unknown'", LeaseFault::TokenLost),
    ];
    for (sql, fault) in cases {
        let place = filled();
        place.edit(sql);
        let finding = place.finding();
        assert!(finding.starts_with("lease ") && finding.ends_with(&format!(": {fault}")), "{sql}: {finding}");
    }
}

/// Six records: leases 1 `issued`, 2 `unknown`, 3 `ended`, and a refusal.
fn filled() -> Folder {
    let place = Folder::new();
    let (mut engine, mut chain) = place.open().unwrap();
    let batch = [
        grant(1, spend(1, Issued)),
        grant(2, spend(2, Issuing)),
        grant(3, spend(3, Issued)),
        settle(2, LeaseState::Unknown),
        end(3),
        refuse(4, vec![Guard::Unspent(spend(4, Issued))], vec![]),
    ];
    let outcomes = engine.apply(&batch, &mut chain).unwrap();
    assert_eq!(outcomes, (1..=6).map(durable).collect::<Vec<_>>());
    drop(engine);
    verified(&place, 6);
    place
}

/// The program that `docs/evidence.md` prints for those who trust no broker.
#[test]
fn the_documented_program_verifies_and_finds() {
    let page = include_str!("../../../docs/evidence.md");
    let program = page.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let place = filled();
    let (mut engine, mut chain) = place.open().unwrap();
    engine.apply(&[grant(7, spend(7, Issued))], &mut chain).unwrap();
    place.edit("UPDATE records SET details = x'' WHERE position = 2");
    let run = || std::process::Command::new("python3").arg("-c").arg(program).arg(place.path()).output().unwrap();
    let good = run();
    let head = claimbound_core::evidence::hex(&verified(&place, 7).chain.head());
    assert_eq!(String::from_utf8_lossy(&good.stdout), format!("verified, head {head}\n"), "{good:?}");
    for (sql, told) in [
        ("UPDATE records SET details = CAST(details || ' ' AS BLOB) WHERE position = 5", "record 5: details"),
        ("UPDATE records SET body = CAST(body || ' ' AS BLOB) WHERE position = 4", "record 4: leaf"),
        ("DELETE FROM records WHERE position = 3", "record 4: sequence"),
    ] {
        place.edit(sql);
        let bad = run();
        assert_eq!(String::from_utf8_lossy(&bad.stderr).trim(), told);
        assert!(!bad.status.success());
    }
}
