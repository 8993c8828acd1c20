//! All that can happen to three brokers over one PostgreSQL, under load: each token is presented to all of them at once while
//! one is killed, the database crashes, one is cut off, and a repository is suspended and taken back.
//!
//! Each token wins at most once, and exactly once where nothing was in its way; every credential is on record; a
//! suspension holds from the moment its command was answered; every request is answered, unless its broker was killed;
//! and all of it comes back by itself.

use crate::{
    BINARY,
    postgres::{COMES, ROLE, assert_down, config, verify},
    records,
};
use claimbound_test_support::{
    broker::{Broker, ID_TOKEN, TOKEN_EXCHANGE},
    http::{self, Answer},
    issuer::Issuer,
    postgres::{Postgres, relay::Relay},
    time::eventually,
};
use futures_util::{StreamExt as _, future::join_all, stream};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

const REPLICAS: usize = 3;
/// The one behind the relay.
const CUT_OFF: usize = 2;
const CLIENTS: usize = 12;
/// A client that got no answer about its token comes again after this, with another one.
const BACK_OFF: Duration = Duration::from_secs(1);
/// Races come by turns from one repository that nobody suspends and one that somebody does.
const REPOSITORIES: [&str; 2] = ["acme/payments-api", "acme/payments-web"];
const SUSPENDED_ID: &str = "740000002";
/// Races that come to an end between two blows, and in all.
const CALM: usize = 24;
const RACES: usize = 200;
/// However slow the machine: what hangs, a client's own deadline finds.
const CALM_COMES: Duration = Duration::from_secs(600);
/// With `CLAIMBOUND_SOAK=1`.
const CALM_SOAK: usize = 400;
const RACES_SOAK: usize = 10_000;
/// Run ids count from here: they tell a race's records.
const FIRST_RUN: usize = 19_000_000_000;

const OPERATORS: &str = r#"
[[operator]]
issuer = "github"
may = ["suspend", "resume"]
[operator.match]
repository = { name = "acme/payments-api", id = 740000001 }
branch = "main"
environment = "oncall"
"#;

struct Storm {
    issuer: Issuer,
    urls: [String; REPLICAS],
    audience: String,
    /// The suspension's command was answered, and `resume` was not yet asked for.
    suspended: AtomicBool,
    /// Of each broker: odd while it is dead.
    deaths: [AtomicUsize; REPLICAS],
    over: AtomicBool,
    races: AtomicUsize,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// By race.
    granted: BTreeMap<usize, Grant>,
    /// Races whose token is surely spent.
    decided: BTreeSet<usize>,
    /// Races whose every answer said what became of the token.
    undisturbed: usize,
    /// Races that a suspension was told.
    refused: BTreeSet<usize>,
    /// Tokens of which nobody said yet what became of them.
    open: BTreeMap<usize, String>,
    suspended: [usize; REPLICAS],
    down: [usize; REPLICAS],
    broken: [usize; REPLICAS],
    longest: Duration,
}

#[derive(PartialEq, Eq, Debug)]
struct Grant {
    decision: String,
    lease: String,
}

fn race_of(details: &Value) -> Option<usize> {
    details["claims"]["run_id"].as_str()?.parse::<usize>().ok()?.checked_sub(FIRST_RUN)
}

impl Storm {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// A race's number and its token.
    fn token(&self, race: usize) -> String {
        let run = (FIRST_RUN + race).to_string();
        let job = self.issuer.job().repository(REPOSITORIES[race % 2]).branch("main").environment("production");
        job.claim("run_id", run.as_str()).token(&self.audience)
    }

    fn next(&self, of: usize) -> usize {
        let race = self.races.fetch_add(1, Ordering::SeqCst);
        if race % 2 == of { race } else { self.next(of) }
    }

    /// One client, until it is over.
    async fn load(&self) {
        while !self.over.load(Ordering::SeqCst) {
            let race = self.races.fetch_add(1, Ordering::SeqCst);
            self.race(race, &self.token(race)).await;
            if self.seen().open.contains_key(&race) {
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }

    /// Presents a token to all at once.
    async fn race(&self, race: usize, token: &str) {
        let held = self.suspended.load(Ordering::SeqCst);
        let answers = join_all((0..REPLICAS).map(|at| self.present(at, token))).await;
        // Begun behind the suspension, answered before it was taken back.
        let held = held && self.suspended.load(Ordering::SeqCst) && race % 2 == 1;
        let mut seen = self.seen();
        let (mut granted, mut refused, mut replays) = (0, 0, 0);
        for (at, answer) in answers.iter().enumerate() {
            let Some(answer) = answer else {
                seen.broken[at] += 1;
                continue;
            };
            match (answer.status, answer.body["reason"].as_str()) {
                (200, _) => {
                    granted += 1;
                    let [decision, lease] = ["decision_id", "lease_id"].map(|name| answer.text_of(name).to_owned());
                    let twice = seen.granted.insert(race, Grant { decision, lease });
                    assert_eq!((twice, held), (None, false), "race {race}: {}", answer.text);
                }
                (400, Some("replay")) => replays += 1,
                (400, Some("suspended")) => {
                    assert_eq!(race % 2, 1, "nobody suspended it: {}", answer.text);
                    seen.suspended[at] += 1;
                    seen.refused.insert(race);
                    refused += 1;
                }
                // A broker that has just started may wait for its issuer's keys.
                (503, Some("issuer_down")) => seen.down[at] += 1,
                _ => {
                    assert_down(answer);
                    seen.down[at] += 1;
                }
            }
        }
        if granted + refused + replays == REPLICAS {
            // The refusal of a suspended job spends its token as a grant does. One that came again may have been spent before.
            let first = seen.open.contains_key(&race) || granted + refused == 1;
            assert!(first, "race {race}: {granted} granted, {refused} suspended, {replays} replays");
            seen.undisturbed += 1;
        }
        if granted + refused + replays > 0 {
            seen.open.remove(&race);
            seen.decided.insert(race);
        } else {
            seen.open.insert(race, token.to_owned());
        }
    }

    /// A broker's answer; `None` if it was killed instead. Nothing hangs.
    async fn present(&self, at: usize, token: &str) -> Option<Answer> {
        let form = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", token),
            ("subject_token_type", ID_TOKEN),
            ("audience", ROLE),
        ];
        let lives = self.deaths[at].load(Ordering::SeqCst);
        let asked = Instant::now();
        let answer = http::send(http::client().post(format!("{}/token", self.urls[at])).form(&form)).await;
        let took = asked.elapsed();
        let mut seen = self.seen();
        seen.longest = seen.longest.max(took);
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                let killed = lives % 2 == 1 || self.deaths[at].load(Ordering::SeqCst) != lives;
                assert!(killed && !error.is_timeout(), "broker {at} answers nothing for {took:?}: {error:?}");
                None
            }
        }
    }

    /// A fresh token of the suspended repository, at one broker.
    async fn fresh(&self, at: usize) -> Answer {
        let race = self.next(1);
        self.present(at, &self.token(race)).await.expect("nobody is killed")
    }

    /// No fresh token is granted there until the suspension is the answer.
    async fn meets_the_suspension(&self, at: usize) {
        eventually(COMES, async || {
            let answer = self.fresh(at).await;
            assert_ne!(answer.status, 200, "{}", answer.text);
            (answer.body["reason"] == "suspended").then_some(())
        })
        .await;
    }

    /// What an operator does through a broker, until the store has taken it.
    async fn operate(&self, broker: &Broker, deed: &str, body: &Value) {
        eventually(COMES, async || {
            let oncall = self.issuer.job().branch("main").environment("oncall");
            let request = http::client().post(format!("{}/operator/{deed}", broker.operator_url())).json(body);
            let request = request.bearer_auth(oncall.token(&format!("{}/operator", self.audience)));
            let answer = http::send(request).await.unwrap();
            assert!([200, 503].contains(&answer.status), "{deed}: {}", answer.text);
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// Presents again what nobody was told of, until somebody says once and for all what became of it. How many those were.
    async fn ask_again(&self) -> usize {
        let open = std::mem::take(&mut self.seen().open);
        let number = open.len();
        let again = async |(race, token): (usize, String)| {
            self.seen().open.insert(race, token.clone());
            eventually(COMES, async || {
                self.race(race, &token).await;
                self.seen().decided.contains(&race).then_some(())
            })
            .await;
        };
        stream::iter(open).map(again).buffer_unordered(CLIENTS).collect::<Vec<()>>().await;
        number
    }

    async fn reaches(&self, count: impl Fn(&Seen) -> usize, more: usize) {
        let before = count(&self.seen());
        eventually(CALM_COMES, async || (count(&self.seen()) >= before + more).then_some(())).await;
    }
}

/// Ends the load also where the test fails: its tasks would go on.
struct Ends(Arc<Storm>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_one_killed_one_cut_off_and_their_database_crashed_grant_each_token_once() {
    let soak = std::env::var_os("CLAIMBOUND_SOAK").is_some();
    let (calm, races) = if soak { (CALM_SOAK, RACES_SOAK) } else { (CALM, RACES) };
    let (issuer, mut server) = (Issuer::github(), Postgres::start());
    let relay = Relay::to(server.socket());
    let one = Broker::start(BINARY, config(&issuer, &server.url()).toml(OPERATORS)).await;
    let (other, mut cut_off) = tokio::join!(one.replica(), one.replica());
    cut_off.rewrite(config(&issuer, &server.url_at(relay.port())).toml(OPERATORS));
    cut_off.restart().await;
    let mut brokers = [other, one, cut_off];
    let storm = Arc::new(Storm {
        issuer,
        urls: std::array::from_fn(|at| brokers[at].url().to_owned()),
        audience: brokers[0].audience().to_owned(),
        suspended: AtomicBool::new(false),
        deaths: Default::default(),
        over: AtomicBool::new(false),
        races: AtomicUsize::new(0),
        seen: Mutex::default(),
    });
    let ends = Ends(storm.clone());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let storm = storm.clone();
            tokio::spawn(async move { storm.load().await })
        })
        .collect();

    let decided = |seen: &Seen| seen.decided.len();
    let subject = json!({ "scope": "repository", "issuer": "github", "name": SUSPENDED_ID });
    let (mut rounds, mut again) = (0, 0);
    while rounds == 0 || soak && decided(&storm.seen()) < races {
        // Killed: the others go on, and it comes back over the same store.
        storm.reaches(decided, calm).await;
        let killed = rounds % REPLICAS;
        storm.deaths[killed].fetch_add(1, Ordering::SeqCst);
        brokers[killed].kill9().await;
        storm.reaches(|seen| seen.granted.len(), calm).await;
        brokers[killed].restart().await;
        storm.deaths[killed].fetch_add(1, Ordering::SeqCst);
        storm.reaches(decided, calm).await;

        // The database crashes: 503 everywhere, then grants.
        server.stop();
        storm.reaches(|seen| seen.down.iter().sum(), REPLICAS).await;
        server.start_again();
        storm.reaches(|seen| seen.granted.len(), calm).await;

        // One is cut off: what it is sent gets lost, or every connection breaks. Meanwhile a repository is suspended through another.
        if rounds % 2 == 0 {
            relay.silence();
        } else {
            relay.cut();
        }
        storm.operate(&brokers[1], "suspend", &json!({ "subject": subject, "reason": "INC-1" })).await;
        storm.suspended.store(true, Ordering::SeqCst);
        let (cut_off, ..) =
            tokio::join!(storm.fresh(CUT_OFF), storm.meets_the_suspension(0), storm.meets_the_suspension(1),);
        assert_down(&cut_off);
        // The third has not heard of it, and meets it as soon as it has its store again.
        relay.restore();
        storm.meets_the_suspension(CUT_OFF).await;
        storm.reaches(decided, calm).await;
        storm.suspended.store(false, Ordering::SeqCst);
        let body = json!({ "subject": subject, "reason": "INC-1: over", "leave_leases": true });
        storm.operate(&brokers[0], "resume", &body).await;
        let back = |seen: &Seen| seen.granted.keys().filter(|race| *race % 2 == 1).count();
        storm.reaches(back, calm / 4).await;
        // While their tokens are young.
        again += storm.ask_again().await;
        rounds += 1;
    }
    eventually(CALM_COMES, async || (decided(&storm.seen()) >= races).then_some(())).await;
    drop(ends);
    for client in clients {
        client.await.unwrap();
    }
    again += storm.ask_again().await;
    for broker in &brokers {
        assert_eq!(broker.get("/readyz").await.status, 200);
        assert_eq!(broker.health().await["store"], json!({ "writable": true, "waiting": 0 }));
    }

    // The evidence, in its order.
    let (mut granted, mut spent_otherwise) = (BTreeMap::new(), BTreeSet::new());
    let mut suspended = false;
    for (body, details) in records::all(&brokers[0]) {
        match body["kind"].as_str().unwrap() {
            "suspended" => suspended = true,
            "resumed" => suspended = false,
            "granted" => {
                let race = race_of(&details).unwrap();
                assert!(!(suspended && race % 2 == 1), "race {race} was granted behind the suspension");
                let [decision, lease] = ["decision", "lease"].map(|name| body[name].as_str().unwrap().to_owned());
                let twice = granted.insert(race, Grant { decision, lease });
                assert_eq!(twice, None, "race {race} was granted twice");
            }
            "refused" if body["reason"] != "replay" => spent_otherwise.extend(race_of(&details)),
            _ => {}
        }
    }
    let seen = std::mem::take(&mut *storm.seen());
    for (race, grant) in &seen.granted {
        assert_eq!(granted.get(race), Some(grant), "race {race}");
    }
    for race in &seen.decided {
        let told = granted.contains_key(race) || spent_otherwise.contains(race) || seen.refused.contains(race);
        assert!(told, "race {race} was spent by nothing");
    }
    let verified = verify(&brokers[0]).await;
    assert_eq!(verified["leases"], json!(granted.len()), "{verified}");
    eprintln!(
        "{} races in {rounds} rounds: {} granted on record, {} received, {} refused otherwise; {} undisturbed, {again} asked \
         again; 503 {:?}, broken {:?}, suspended {:?}, the longest answer after {:?}",
        seen.decided.len(),
        granted.len(),
        seen.granted.len(),
        spent_otherwise.len(),
        seen.undisturbed,
        seen.down,
        seen.broken,
        seen.suspended,
        seen.longest
    );
    for broker in &mut brokers {
        assert_eq!(broker.terminate().await.code, Some(0));
    }
}
