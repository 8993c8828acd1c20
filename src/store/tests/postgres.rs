//! PostgreSQL's own: brokers beside each other, broken connections, servers that are not to be trusted.

use super::{contract::contract, *};
use crate::store::{postgres::Postgres as PostgresEngine, writer::COMMIT_WAIT_MAX};
use LeaseState::{Failed, Issued, Issuing};
use claimbound_test_support::postgres::{PASSWORD, Postgres, relay::Relay};
use std::{thread, time::Instant};

/// A server, and one database of it.
pub(super) struct Server {
    server: Arc<Postgres>,
    database: String,
}

impl Server {
    pub(super) fn start() -> Self {
        Self { server: Arc::new(Postgres::start()), database: "claimbound".into() }
    }
    pub(super) fn database(&self, name: &str) -> Self {
        self.server.database(name);
        Self { server: self.server.clone(), database: name.into() }
    }
    fn edit(&self, sql: &str) {
        self.server.sql(&self.database, &format!("SET search_path = claimbound; {sql}"));
    }
    /// As it was before any broker opened it: quicker than another database.
    pub(super) fn empty(&self) {
        self.edit(
            "TRUNCATE records, incarnations, spent, leases, families, status_lists, folders, fixed, uses, suspensions,
                      denials, tree, checkpoints RESTART IDENTITY;
             DELETE FROM epochs WHERE number > 1; UPDATE sweeps SET swept = 0, forgotten = 0",
        );
    }
    fn finding(&self) -> String {
        audit(self.reader().as_ref(), None).unwrap().finding.expect("a finding").to_string()
    }
    fn refused(&self) -> String {
        self.engine().err().expect("the server is refused").why
    }
}

fn at(url: &str) -> Result<(PostgresEngine, Chain), Down> {
    PostgresEngine::open(crate::store::postgres::Address::parse(url)?, NOW)
}

impl Place for Server {
    fn engine(&self) -> Result<(Box<dyn Engine>, Chain), Down> {
        at(&self.server.url_of(&self.database)).map(|(engine, chain)| (Box::new(engine) as _, chain))
    }
    fn reader(&self) -> Arc<dyn Reader> {
        open_reader(&self.server.url_of(&self.database)).unwrap()
    }
}

contract!(Server::start());

#[test]
fn brokers_that_start_at_once_share_one_store_and_one_chain_of_starts() {
    let place = Server::start();
    assert!(open_reader(&place.server.url()).err().unwrap().why.contains("holds no store"), "nobody has opened it");
    thread::scope(|scope| {
        for number in 1..=4 {
            let place = &place;
            scope.spawn(move || {
                let (mut engine, mut chain) = at(&place.server.url()).unwrap();
                engine.apply(&[grant(number.into(), spend(number, Issued))], &mut chain).unwrap();
            });
        }
    });
    let report = verified(&place, 4);
    assert_eq!(report.chain.incarnations(), 4);
    let (mut engine, mut chain) = place.engine().unwrap();
    engine.apply(&[grant(9, spend(9, Issued))], &mut chain).unwrap();
    let report = verified(&place, 5);
    assert!(report.chain.heads().contains(&chain.head));
    assert!(audit(place.reader().as_ref(), report.chain.heads()).unwrap().finding.is_none());
}

/// The same tokens, limits and leases from four brokers, in an order of each one's own: nothing is taken twice, and
/// nobody waits for somebody who waits for them.
#[test]
fn brokers_beside_each_other_take_everything_once() {
    const TOKENS: u8 = 40;
    let place = Server::start();
    let wins = thread::scope(|scope| {
        let place = &place;
        let brokers: Vec<_> = (0..4_u128)
            .map(|broker| {
                scope.spawn(move || {
                    let (mut engine, mut chain) = at(&place.server.url()).unwrap();
                    let mut won = (Vec::new(), 0);
                    for round in 0..10_u128 {
                        let mut batch = Vec::new();
                        for at in 0..TOKENS {
                            let token = if broker % 2 == 0 { at } else { TOKENS - 1 - at };
                            let number = broker << 32 | round << 16 | u128::from(token);
                            let mut commit = grant(number, spend(token, Issued));
                            commit.guards.push(Guard::Within(Use { most: 3, ..use_at(token % 8, NOW) }));
                            batch.push(commit);
                        }
                        batch.push(refuse(1, vec![Guard::Within(Use { most: 15, ..use_at(99, NOW) })], vec![]));
                        let outcomes = engine.apply(&batch, &mut chain).unwrap();
                        for (commit, outcome) in batch.iter().zip(outcomes) {
                            match (&commit.guards[0], outcome) {
                                (Guard::Unspent(spend), Outcome::Durable { .. }) => won.0.push(spend.token.key()[0]),
                                (Guard::Within(_), Outcome::Durable { .. }) => won.1 += 1,
                                (_, outcome) => assert!(matches!(
                                    outcome,
                                    Outcome::Blocked(Blocked::Replay | Blocked::Exhausted { .. })
                                )),
                            }
                        }
                    }
                    won
                })
            })
            .collect();
        brokers.into_iter().map(|broker| broker.join().unwrap()).collect::<Vec<_>>()
    });
    let mut tokens: Vec<_> = wins.iter().flat_map(|won| &won.0).collect();
    tokens.sort_unstable();
    let granted = tokens.len();
    tokens.dedup();
    assert_eq!(tokens.len(), granted, "a token was granted twice");
    assert_eq!(granted, 24, "eight limits of three");
    assert_eq!(wins.iter().map(|won| won.1).sum::<u32>(), 15, "the limit is exact over all brokers");
    verified(&place, 24 + 15);
}

/// Whoever ends a lease waits for who opens one under it, however deep, and then sees it: of what came of it nothing is left.
#[test]
fn nothing_is_opened_beside_an_end_that_does_not_see_it() {
    let place = Server::start();
    let opened = |number: u128, parent: u128| {
        let mut commit = child(number, spend(0, Issued), parent);
        commit.guards.remove(0);
        if let Some(Change::OpenLease(lease)) = commit.changes.first_mut() {
            lease.token = None;
        }
        commit
    };
    thread::scope(|scope| {
        let (place, opened) = (&place, &opened);
        let (mut engine, mut chain) = place.engine().unwrap();
        // 1 → 2 → 3: brokers open under each of them.
        let first = [grant(1, spend(1, Issued)), opened(2, 1), opened(3, 2)];
        assert_eq!(engine.apply(&first, &mut chain).unwrap(), [1, 2, 3].map(durable));
        for parent in 1..=3_u128 {
            scope.spawn(move || {
                let (mut engine, mut chain) = place.engine().unwrap();
                for number in 0.. {
                    match engine.apply(&[opened(parent << 32 | number, parent)], &mut chain).unwrap()[0] {
                        Outcome::Durable { .. } => {}
                        Outcome::Blocked(Blocked::ParentEnded) => return,
                        Outcome::Blocked(other) => panic!("{other:?}"),
                    }
                }
            });
        }
        let reader = place.reader();
        loop {
            let seen = u32::try_from(reader.children(LeaseId(1)).unwrap().len()).unwrap();
            match engine.apply(&[end_with(1, seen)], &mut chain).unwrap()[0] {
                Outcome::Durable { .. } => break,
                Outcome::Blocked(Blocked::Moved) => {}
                Outcome::Blocked(other) => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(place.reader().children(LeaseId(1)).unwrap(), []);
    let report = audit(place.reader().as_ref(), None).unwrap();
    assert!(report.finding.is_none(), "{}", report.finding.unwrap());
}

#[test]
fn a_lease_that_another_broker_left_is_settled_once() {
    let place = Server::start();
    let (mut one, mut first) = place.engine().unwrap();
    one.apply(&[grant(1, spend(1, Issuing))], &mut first).unwrap();
    let (mut other, mut second) = place.engine().unwrap();
    assert_eq!(
        other.apply(&[grant(2, spend(1, Issuing))], &mut second).unwrap(),
        [Outcome::Blocked(Blocked::InFlight)]
    );
    assert_eq!(other.apply(&[settle(1, Failed)], &mut second).unwrap(), [durable(1)]);
    assert_eq!(one.apply(&[settle(1, Issued)], &mut first).unwrap(), [Outcome::Blocked(Blocked::LeaseEnded)]);
    let again = Spend { may_retry: true, ..spend(1, Issued) };
    assert_eq!(one.apply(&[grant(3, again)], &mut first).unwrap(), [durable(2)]);
    // What one swept, the other refuses, whatever its clock says.
    assert_eq!(one.sweep(KEPT.plus(1)).unwrap(), 1);
    assert_eq!(other.apply(&[grant(4, spend(1, Issued))], &mut second).unwrap(), [Outcome::Blocked(Blocked::Replay)]);
    verified(&place, 3);
}

/// The connection breaks during COMMIT: what the database knows is the answer.
#[test]
fn a_commit_of_unknown_outcome_is_looked_up() {
    let place = Server::start();
    let relay = Relay::to(place.server.socket());
    let (mut engine, mut chain) = at(&place.server.url_at(relay.port())).unwrap();
    assert_eq!(engine.apply(&[grant(1, spend(1, Issued))], &mut chain).unwrap(), [durable(1)]);
    relay.lose_an_answer();
    assert_eq!(engine.apply(&[grant(2, spend(2, Issued))], &mut chain).unwrap(), [durable(2)], "it was written");
    assert!(relay.has_lost());
    relay.lose_a_commit();
    assert_eq!(
        engine.apply(&[grant(3, spend(3, Issued))], &mut chain).unwrap(),
        [durable(3)],
        "it was not, and is now"
    );
    assert!(relay.has_lost());
    relay.lose_an_answer();
    assert_eq!(engine.sweep(NOW).unwrap(), 0);
    let head = chain.head;
    let replays = [grant(7, spend(2, Issued)), grant(8, spend(3, Issued))];
    let replay = Outcome::Blocked(Blocked::Replay);
    assert_eq!(engine.apply(&replays, &mut chain).unwrap(), [replay.clone(), replay]);
    assert_eq!(verified(&place, 3).chain.head(), head);
}

#[test]
fn a_broker_that_is_cut_off_holds_up_nobody_and_comes_back() {
    let place = Server::start();
    let relay = Relay::to(place.server.socket());
    let (mut cut_off, mut chain) = at(&place.server.url_at(relay.port())).unwrap();
    let (mut other, mut others) = place.engine().unwrap();
    cut_off.apply(&[grant(1, spend(1, Issued))], &mut chain).unwrap();
    for silent in [true, false] {
        if silent {
            relay.silence()
        } else {
            relay.cut()
        }
        let began = Instant::now();
        cut_off.apply(&[grant(2, spend(2, Issued))], &mut chain.clone()).unwrap_err();
        assert!(began.elapsed() < COMMIT_WAIT_MAX, "before anybody gives up waiting");
        let number = if silent { 3 } else { 4 };
        assert!(matches!(
            other.apply(&[grant(number.into(), spend(number, Issued))], &mut others).unwrap()[..],
            [Outcome::Durable { .. }]
        ));
        relay.restore();
        let began = Instant::now();
        while let Err(down) = cut_off.sweep(NOW) {
            assert!(began.elapsed() < Duration::from_secs(30), "{down}");
            thread::sleep(Duration::from_millis(20));
        }
    }
    let outcomes = cut_off.apply(&[grant(5, spend(5, Issued)), grant(6, spend(3, Issued))], &mut chain).unwrap();
    assert!(matches!(outcomes[..], [Outcome::Durable { .. }, Outcome::Blocked(Blocked::Replay)]), "{outcomes:?}");
    assert!(audit(place.reader().as_ref(), None).unwrap().finding.is_none());
}

/// A broker that stands still in the middle of its transaction holds the token's lock for two seconds, not longer.
#[test]
fn a_broker_that_stands_still_is_thrown_out() {
    let place = Server::start();
    let (mut engine, mut chain) = place.engine().unwrap();
    engine.apply(&[grant(1, spend(1, Issued))], &mut chain).unwrap();
    let relay = Relay::to(place.server.socket());
    let (mut still, mut stands) = at(&place.server.url_at(relay.port())).unwrap();
    relay.stand_still_at_a_commit();
    thread::scope(|scope| {
        let still = scope.spawn(move || still.apply(&[grant(2, spend(2, Issued))], &mut stands));
        while !relay.stands_still() {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(engine.apply(&[grant(3, spend(2, Issued))], &mut chain).unwrap(), [durable(2)]);
        still.join().unwrap().unwrap_err();
    });
    verified(&place, 2);
}

/// A start holds up other starts alone: one that stands still as long as throws a batch out comes through.
#[test]
fn a_start_that_stands_still_for_a_while_succeeds() {
    let place = Server::start();
    let relay = Relay::to(place.server.socket());
    relay.stand_still_at_a_commit();
    thread::scope(|scope| {
        let starting = scope.spawn(|| at(&place.server.url_at(relay.port())).map(drop));
        while !relay.stands_still() {
            thread::sleep(Duration::from_millis(5));
        }
        let idle = "SELECT count(*) FROM pg_stat_activity
                    WHERE usename = 'claimbound' AND state <> 'active' AND state_change > now() - interval '2500 ms'";
        while place.server.sql("postgres", idle) != "0" {
            thread::sleep(Duration::from_millis(50));
        }
        relay.restore();
        starting.join().unwrap().unwrap();
    });
}

#[test]
fn a_server_that_would_lose_commits_is_refused() {
    for setting in ["fsync=off", "full_page_writes=off", "synchronous_commit=off"] {
        let server = Postgres::start_with(&[setting]);
        let why = at(&server.url()).err().unwrap().why;
        let name = setting.split('=').next().unwrap();
        assert!(why.contains(&format!("the server has `{name} = off`")), "{why}");
    }
    let place = Server::start();
    place.server.sql("postgres", "ALTER ROLE claimbound SET synchronous_commit = off");
    assert!(place.refused().contains("`synchronous_commit = off`"), "of the role");
    place
        .server
        .sql("postgres", "ALTER ROLE claimbound RESET ALL; ALTER DATABASE claimbound SET synchronous_commit = off");
    assert!(place.refused().contains("`synchronous_commit = off`"), "of the database");
    place.server.sql("postgres", "ALTER DATABASE claimbound RESET ALL");
    let (mut engine, mut chain) = place.engine().unwrap();
    // Nor is it believed later, on another connection; one that is there keeps what it was promised.
    place.server.sql("postgres", "ALTER SYSTEM SET synchronous_commit = off");
    place.server.sql("postgres", "SELECT pg_reload_conf()");
    engine.apply(&[grant(1, spend(1, Issued))], &mut chain).unwrap();
    place.server.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'claimbound'");
    let why = engine.apply(&[grant(2, spend(2, Issued))], &mut chain).unwrap_err().why;
    assert!(why.contains("`synchronous_commit = off`"), "{why}");
}

#[test]
fn databases_that_are_not_ours_or_newer_are_refused() {
    let place = Server::start();
    let other = place.database("other");
    other.server.sql("other", "CREATE SCHEMA claimbound AUTHORIZATION claimbound; CREATE TABLE claimbound.theirs ()");
    assert!(other.refused().contains("a schema `claimbound` that is not a store's"));
    let prepared = place.database("prepared");
    prepared.server.sql(
        "prepared",
        "CREATE SCHEMA claimbound AUTHORIZATION claimbound; REVOKE CREATE ON DATABASE prepared FROM claimbound",
    );
    prepared.engine().unwrap();
    place.engine().unwrap();
    place.edit("INSERT INTO migrations VALUES (99, 0)");
    assert!(place.refused().contains("this program knows versions up to"));
    place.database("locked").engine().unwrap();
    let latin =
        place.server.sql("postgres", "CREATE DATABASE latin OWNER claimbound ENCODING 'LATIN1' TEMPLATE template0");
    assert_eq!(latin, "");
    assert!(at(&place.server.url_of("latin")).err().unwrap().why.contains("LATIN1"));
    for (url, told) in [
        (place.server.url_of("nowhere"), "does not exist"),
        (place.server.url_of("locked").split("&password_file").next().unwrap().to_owned(), "password"),
    ] {
        let why = at(&url).err().unwrap().why;
        assert!(why.contains(told) && !why.contains(PASSWORD), "{why}");
    }
}

#[test]
fn a_store_that_goes_back_in_time_is_not_written() {
    let place = Server::start();
    let (mut engine, mut chain) = place.engine().unwrap();
    engine.apply(&[grant(1, spend(1, Issued)), grant(2, spend(2, Issued))], &mut chain).unwrap();
    place.edit(
        "DELETE FROM records WHERE sequence = 2; UPDATE incarnations SET sequence = 1,
         head = (SELECT link FROM records WHERE sequence = 1)",
    );
    for _ in 0..2 {
        let why = engine.apply(&[grant(3, spend(3, Issued))], &mut chain.clone()).unwrap_err().why;
        assert!(why.contains("behind what this broker wrote"), "{why}");
    }
}

#[test]
fn a_store_that_is_full_or_read_only_is_down_until_it_is_not() {
    let place = Server::start();
    let (mut engine, mut chain) = place.engine().unwrap();
    engine.apply(&[grant(1, spend(1, Issued))], &mut chain).unwrap();
    place.edit(
        "CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full', MESSAGE = 'no space left on device'; END $$;
         CREATE TRIGGER is_full BEFORE INSERT ON records EXECUTE FUNCTION is_full()",
    );
    let why = engine.apply(&[grant(2, spend(2, Issued))], &mut chain.clone()).unwrap_err().why;
    assert!(why.contains("no space left on device (53100)"), "{why}");
    verified(&place, 1);
    place.edit("DROP TRIGGER is_full ON records");
    assert_eq!(engine.apply(&[grant(2, spend(2, Issued))], &mut chain).unwrap(), [durable(2)]);
    place.server.sql("postgres", "ALTER DATABASE claimbound SET default_transaction_read_only = on");
    place.server.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'claimbound'");
    let why = engine.apply(&[grant(3, spend(3, Issued))], &mut chain.clone()).unwrap_err().why;
    assert!(why.contains("read-only"), "{why}");
    engine.sweep(NOW).unwrap_err();
    place.server.sql("postgres", "ALTER DATABASE claimbound RESET ALL");
    place.server.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'claimbound'");
    assert_eq!(engine.apply(&[grant(3, spend(3, Issued))], &mut chain).unwrap(), [durable(3)]);
    verified(&place, 3);
}

#[test]
fn tls_is_verified_in_full() {
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = authority.cert.pem();
    let server = Postgres::start_over_tls(&certificate, &authority.signing_key.serialize_pem());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let ca = file("ca.pem", &certificate);
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    let other = file("other.pem", &stranger);
    let url = |host: &str, more: &str| server.url_at(server.port()).replace("127.0.0.1", host) + more;
    let (mut engine, mut chain) = at(&url("localhost", &format!("&sslmode=verify-full&sslrootcert={ca}"))).unwrap();
    engine.apply(&[grant(1, spend(1, Issued))], &mut chain).unwrap();
    let spoken = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'claimbound'";
    assert_eq!(server.sql("claimbound", spoken), "t");
    for (host, more) in [
        ("localhost", format!("&sslmode=require&sslrootcert={other}")),
        ("127.0.0.1", format!("&sslmode=require&sslrootcert={ca}")),
        ("localhost", "&sslmode=verify-full".to_owned()),
    ] {
        let why = at(&url(host, &more)).err().unwrap_or_else(|| panic!("{host} {more}")).why;
        assert!(why.contains("certificate"), "{host} {more}: {why}");
    }
}

#[test]
fn hands_in_the_evidence_of_several_brokers_are_found_and_named() {
    let put = |set: &str| format!("UPDATE records SET {set} WHERE position = 3");
    let cases = [
        (put("body = convert_to(replace(convert_from(body, 'UTF8'), 'acme', 'evil'), 'UTF8')"), "record 3 ", "leaf"),
        (put("link = sha256('')"), "record 3 ", "link"),
        ("DELETE FROM records WHERE position = 3".into(), "record 5 ", "records are missing"),
        ("DELETE FROM records WHERE position = 5".into(), "incarnation ", "cut from its end"),
        (
            "DELETE FROM records WHERE position = 5; UPDATE incarnations SET sequence = 2 WHERE number = 1".into(),
            "incarnation ",
            "cut from its end",
        ),
        ("DELETE FROM records WHERE position = 6".into(), "record 7 ", "link"),
        (
            "DELETE FROM records USING incarnations WHERE incarnation = id AND number = 2;
             DELETE FROM incarnations WHERE number = 2"
                .into(),
            "incarnation 2 ",
            "is missing",
        ),
        ("UPDATE incarnations SET previous = sha256('') WHERE number = 3".into(), "record 7 ", "link"),
        ("DELETE FROM incarnations WHERE number = 3".into(), "record 7 ", "not among those that opened"),
        (
            "ALTER TABLE records ALTER position SET GENERATED BY DEFAULT;
             UPDATE records SET position = 0 WHERE position = 3"
                .into(),
            "record 0 ",
            "records are missing",
        ),
    ];
    let place = Server::start();
    for (sql, whose, wrong) in cases {
        // Two brokers beside each other, and a third that goes on from both: positions 1 3 5, 2 4 6 and 7.
        let (mut one, mut first) = place.engine().unwrap();
        let (mut other, mut second) = place.engine().unwrap();
        for at in 0..3_u8 {
            one.apply(&[grant((2 * at).into(), spend(2 * at, Issued))], &mut first).unwrap();
            other.apply(&[grant((2 * at + 1).into(), spend(2 * at + 1, Issued))], &mut second).unwrap();
        }
        let (mut third, mut thirds) = place.engine().unwrap();
        third.apply(&[grant(7, spend(7, Issued))], &mut thirds).unwrap();
        let report = verified(&place, 7);
        assert_eq!(report.chain.heads().len(), 2, "the third goes on from one of them");
        place.edit(&sql);
        let finding = place.finding();
        place.empty();
        assert!(finding.starts_with(whose) && finding.contains(wrong), "{sql}: {finding}");
    }
}

/// A transaction that took a place and is not over yet: the tree waits for it, though later places show already.
#[test]
fn the_tree_waits_for_places_that_are_taken() {
    let place = Server::start();
    let (mut engine, mut chain) = place.engine().unwrap();
    engine.apply(&[grant(1, spend(1, Issued))], &mut chain).unwrap();
    let reader = place.reader();
    assert_eq!(reader.settled().unwrap(), 1);
    thread::scope(|scope| {
        let slow = "BEGIN; INSERT INTO records (incarnation, sequence, link, leaf, body, details)
                    SELECT '\\x00000000000000000000000000000000', 1, link, leaf, body, details FROM records;
                    SELECT pg_sleep(0.5); COMMIT";
        let slow = scope.spawn(|| place.edit(slow));
        let asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        while place.server.sql("claimbound", asked) == "0" {
            thread::sleep(Duration::from_millis(5));
        }
        engine.apply(&[grant(2, spend(2, Issued))], &mut chain).unwrap();
        let shown = |upto| reader.leaves(0, upto, 10).unwrap().iter().map(|leaf| leaf.position).collect::<Vec<_>>();
        assert_eq!(shown(i64::MAX), [1, 3], "the second place is taken and does not show");
        let upto = reader.settled().unwrap();
        assert_eq!(shown(upto), [1, 2, 3], "it was waited for");
        slow.join().unwrap();
    });
    engine.apply(&[grant(3, spend(3, Issued))], &mut chain).unwrap();
    assert_eq!(reader.settled().unwrap(), 4);
}

/// An old copy in the database's place is noticed by the first connection to it, also where this broker wrote nothing since.
#[test]
fn a_database_that_lacks_a_checkpoint_is_noticed_on_reconnect() {
    use claimbound_core::evidence::Checkpoint;
    let place = Server::start();
    let (mut engine, mut chain) = at(&place.server.url()).unwrap();
    let (mut other, mut others) = place.engine().unwrap();
    engine.apply(&[grant(1, spend(1, Issued))], &mut chain).unwrap();
    other.apply(&[grant(2, spend(2, Issued))], &mut others).unwrap();
    let reader = place.reader();
    let stand = crate::store::tree::grow(&*reader, reader.settled().unwrap()).unwrap().stand.unwrap();
    let store = reader.epochs().unwrap()[0].id;
    let (origin, at) = (String::new(), NOW);
    let (size, root, last) = (stand.size, stand.root, stand.last);
    engine.watch().expect(&Checkpoint { origin, size, root, epoch: 1, store, at, last });
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'claimbound'";
    let again = |place: &Server| drop(place.server.sql("postgres", cut));
    again(&place);
    assert!(engine.apply(&[grant(3, spend(3, Issued))], &mut chain).is_ok(), "all is there");
    place.edit("DELETE FROM records WHERE position = 2");
    again(&place);
    let why = engine.apply(&[grant(4, spend(4, Issued))], &mut chain).unwrap_err().why;
    assert!(why.contains("it is behind what this broker wrote"), "{why}");
    assert!(engine.watch().behind().is_some());
}
