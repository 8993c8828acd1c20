//! Ending things: what an operator suspends is refused from then on, through every broker; what leases are ended, by whom
//! and why, and how far that reaches.

use crate::{BINARY, aws, records};
use claimbound::{
    broker::{Asked, AskedGrant, Broker as InProcess, SystemClock},
    config::Config,
    exchange::Granted,
    operate::{Deed, Done, List, OperateError, Resume, Revoke, Revoked, Suspend, Suspended, When},
    operators::{May, Operator},
    secret::Secret,
    store::{self, Scope, Subject, leases::LeaseFilter},
};
use claimbound_test_support::{
    broker::Broker, config::BrokerConfig, issuer::Issuer, job::Job, jwt, postgres::Postgres, sts::Sts,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};
use tempfile::TempDir;

const RELEASE: &str = "payments-release";
const SECRETS: &str = "payments-secrets";
/// Suspensions in a race with exchanges on two brokers.
const RACES: usize = 24;
const RACES_SOAK: usize = 10_000;

/// A broker in this process, its issuer, and where they keep their things.
struct House {
    issuer: Issuer,
    broker: Arc<InProcess>,
    folder: TempDir,
}

impl House {
    async fn new(edit: impl FnOnce(BrokerConfig) -> BrokerConfig) -> Self {
        let issuer = Issuer::github();
        let folder = tempfile::tempdir().unwrap();
        let config = edit(BrokerConfig::new(&issuer)).server("public_url = \"https://cb.example\"");
        let config = config.toml("[server.limits]\nrequests_per_second = 0\nrepository_requests_per_second = 0\n");
        config.write(folder.path(), "127.0.0.1:0", "127.0.0.1:0");
        let broker = in_process(&folder).await;
        Self { issuer, broker, folder }
    }

    fn job(&self) -> Job<'_> {
        self.issuer.job().branch("main").environment("production")
    }

    async fn exchange(&self, job: &Job<'_>, role: &str) -> Result<String, String> {
        exchange(&self.broker, &job.token("https://cb.example"), role).await
    }

    async fn operate(&self, deed: Deed) -> Result<Done, OperateError> {
        self.broker.operate(alice(), deed).await
    }

    async fn suspend(&self, asked: Suspend) -> Suspended {
        match self.operate(Deed::Suspend(asked)).await.unwrap() {
            Done::Suspended(suspended) => suspended,
            other => panic!("{other:?}"),
        }
    }

    async fn revoke(&self, leases: LeaseFilter, dry_run: bool) -> Revoked {
        let asked = Revoke { leases, reason: "an incident".into(), dry_run };
        match self.operate(Deed::Revoke(asked)).await.unwrap() {
            Done::Revoked(revoked) => revoked,
            other => panic!("{other:?}"),
        }
    }

    async fn alive(&self) -> Vec<String> {
        let Done::Leases(page) = self.operate(Deed::Leases(List::default())).await.unwrap() else { panic!("a page") };
        assert!(page.cursor.is_none());
        page.leases.into_iter().map(|lease| lease.lease.to_string()).collect()
    }

    fn refused(&self, error: OperateError, code: &str, told: &str) {
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }

    /// Every record holds, with the leases and suspensions that there are. Gives body and details of each.
    async fn verified(&self) -> Vec<(Value, Value)> {
        verified(&format!("sqlite:{}/claimbound.db", self.folder.path().display()))
    }
}

async fn in_process(folder: &TempDir) -> Arc<InProcess> {
    let config = Config::read(&folder.path().join("claimbound.toml"), true).unwrap();
    InProcess::start(config, Arc::new(SystemClock)).await.unwrap()
}

/// The lease, or the reason for a refusal.
async fn exchange(broker: &Arc<InProcess>, token: &str, role: &str) -> Result<String, String> {
    let asked = Asked {
        grant: AskedGrant::Tokens { subject: Secret::new(token.to_owned()), actor: None },
        role: Some(role.to_owned()),
        scope: None,
        duration: None,
        dry_run: false,
        digest: [0; 32],
        address: None,
        caller: None,
        sts: None,
    };
    match broker.exchange(asked).await.outcome {
        Ok(Granted::Issued(issued)) => Ok(issued.lease.to_string()),
        Ok(Granted::DryRun { .. }) => panic!("not asked for"),
        Err(refused) => Err(refused.reason.name().to_owned()),
    }
}

fn verified(url: &str) -> Vec<(Value, Value)> {
    let reader = store::open_reader(url).unwrap();
    let report = store::audit(reader.as_ref(), None).unwrap();
    assert!(report.finding.is_none(), "{}", report.finding.unwrap());
    let mut all = Vec::new();
    let json = |bytes: &[u8]| if bytes.is_empty() { Value::Null } else { serde_json::from_slice(bytes).unwrap() };
    reader
        .records(&mut |body, details| {
            all.push((json(body), json(details)));
            true
        })
        .unwrap();
    all
}

fn alice() -> Operator {
    Operator::new("okta:alice", May::ALL)
}

fn suspend(scope: Scope, name: &str) -> Suspend {
    let issuer = if scope.needs_issuer() { "github" } else { "" };
    let subject = Subject::new(scope, issuer, name);
    Suspend { subject, reason: "a stolen key".into(), seconds: None, revoke: false, force: false }
}

fn resume(subject: Subject) -> Deed {
    Deed::Resume(Resume { subject, reason: "mended".into(), leave_leases: true })
}

fn any() -> LeaseFilter {
    LeaseFilter::default()
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[tokio::test]
async fn each_subject_is_suspended_alone_and_taken_back() {
    let house = House::new(|config| config).await;
    let actor = house.job().claims("https://cb.example")["actor_id"].as_str().unwrap().to_owned();
    let own = house.job();
    let other_repository = house.job().repository("acme/payments-web");
    let other_run = house.job().claim("run_id", "17000000002");
    let other_person = house.job().claim("actor_id", "4242");
    let staging = house.job().environment("staging");
    for (scope, name, goes_on) in [
        (Scope::Issuer, "", vec![]),
        (Scope::Tenant, "65", vec![]),
        (Scope::Repository, "740000001", vec![(&other_repository, RELEASE)]),
        (Scope::Run, "17000000001", vec![(&other_run, RELEASE)]),
        (Scope::Person, &actor, vec![(&other_person, RELEASE)]),
        (Scope::Mapping, "payments-production", vec![(&staging, SECRETS)]),
        (Scope::Role, RELEASE, vec![(&staging, SECRETS)]),
    ] {
        assert!(house.exchange(&own, RELEASE).await.is_ok(), "{scope:?}");
        let stands = house.suspend(suspend(scope, name)).await;
        assert!(!stands.already);
        let token = own.token("https://cb.example");
        assert_eq!(exchange(&house.broker, &token, RELEASE).await, Err("suspended".into()), "{scope:?}");
        assert_eq!(exchange(&house.broker, &token, RELEASE).await, Err("replay".into()), "it cost the token");
        for (job, role) in goes_on {
            assert!(house.exchange(job, role).await.is_ok(), "{scope:?} holds nobody else up");
        }
        // A job that no mapping lets in learns of no suspension.
        assert_eq!(house.exchange(&own, SECRETS).await, Err("no_mapping".into()));
        let Done::Suspensions { suspensions } = house.operate(Deed::Suspensions).await.unwrap() else {
            panic!("a list")
        };
        assert_eq!((suspensions.len(), &suspensions[0]), (1, &stands.suspension));
        let health = house.broker.health().suspensions;
        let shown = if scope == Scope::Person { "" } else { name };
        assert_eq!((health.len(), health[0].scope, &*health[0].name), (1, scope.name(), shown));
        let gauge = format!("claimbound_suspensions{{scope=\"{}\"}} 1", scope.name());
        assert!(house.broker.metrics().contains(&gauge), "{gauge}");
        house.operate(resume(stands.suspension.subject)).await.unwrap();
        assert!(house.exchange(&own, RELEASE).await.is_ok(), "{scope:?} is back");
    }
    house.broker.stop().await;
    let records = house.verified().await;
    let of = |kind: &str| records.iter().filter(|(body, _)| body["kind"] == kind).cloned().collect::<Vec<_>>();
    let (suspended, resumed, refused) = (of("suspended"), of("resumed"), of("refused"));
    assert_eq!((suspended.len(), resumed.len()), (7, 7));
    for ((body, details), (back, _)) in suspended.iter().zip(&resumed) {
        assert_eq!((&details["operator"], &details["reason"]), (&json!("okta:alice"), &json!("a stolen key")));
        assert_eq!(body["suspension"], back["suspension"]);
        let person = body["scope"] == "person";
        assert_eq!(person, body.get("subject").is_none() && body["scope"] != "issuer");
        assert_eq!(details.get("person").is_some(), person, "a person stands in the details alone");
        assert!(!body.to_string().contains(&format!("\"{actor}\"")), "{body}");
        let by: Vec<_> = refused.iter().filter(|(_, told)| told["suspension"] == body["suspension"]).collect();
        assert_eq!(by.len(), 1, "its refusal names it");
        assert_eq!(by[0].0["reason"], "suspended");
    }
}

#[tokio::test]
async fn a_name_that_is_none_a_reason_that_is_missing_and_rights_that_are_not_there() {
    let house = House::new(|config| config).await;
    let fails = async |asked: Suspend, code: &str, told: &str| {
        house.refused(house.operate(Deed::Suspend(asked)).await.unwrap_err(), code, told);
    };
    fails(suspend(Scope::Role, "payments-relaese"), "unknown", "did you mean `payments-release`").await;
    fails(suspend(Scope::Mapping, "zzz"), "unknown", "there is no mapping `zzz`").await;
    fails(suspend(Scope::Tenant, "66"), "unknown", "acme = 65").await;
    fails(suspend(Scope::Repository, "acme/nobody"), "unknown", "name the repository by its id").await;
    fails(suspend(Scope::Run, ""), "invalid_request", "the run is not named").await;
    fails(suspend(Scope::Issuer, "x"), "invalid_request", "by itself alone").await;
    let gitlab = Subject::new(Scope::Issuer, "githib", "");
    fails(Suspend { subject: gitlab, ..suspend(Scope::Role, "") }, "unknown", "did you mean `github`").await;
    for reason in [String::new(), "  ".into(), "\u{1b}[2J".into(), "x".repeat(501)] {
        fails(Suspend { reason, ..suspend(Scope::Role, RELEASE) }, "invalid_request", "the reason ").await;
    }
    for seconds in [0, -1, 401 * 86_400] {
        let asked = Suspend { seconds: Some(seconds), ..suspend(Scope::Role, RELEASE) };
        fails(asked, "invalid_request", "lasts from").await;
    }
    fails(suspend(Scope::Role, &"x".repeat(600)), "invalid_request", "more than 512 bytes").await;

    // By a name, and at the one issuer that there is.
    let by_name = Subject::new(Scope::Repository, "", "Acme/Payments-Api");
    let stands = house.suspend(Suspend { subject: by_name, ..suspend(Scope::Role, "") }).await.suspension;
    assert_eq!(stands.subject, Subject::new(Scope::Repository, "github", "740000001"));
    let owner = house.suspend(suspend(Scope::Tenant, "acme")).await.suspension;
    assert_eq!(owner.subject.name, "65");
    let gone = house.suspend(Suspend { force: true, ..suspend(Scope::Role, "payments-gone") }).await.suspension;

    // Again: nothing is changed unless it stands longer; never made shorter.
    for seconds in [None, Some(60)] {
        let again = house.suspend(Suspend { seconds, force: true, ..suspend(Scope::Role, "payments-gone") }).await;
        assert_eq!((again.already, again.suspension), (true, gone.clone()));
    }
    let brief = house.suspend(Suspend { seconds: Some(60), ..suspend(Scope::Role, RELEASE) }).await.suspension;
    assert_eq!(brief.until, Some(brief.since + 60));
    assert!(house.suspend(Suspend { seconds: Some(30), ..suspend(Scope::Role, RELEASE) }).await.already);
    let longer = house.suspend(suspend(Scope::Role, RELEASE)).await;
    assert_eq!((longer.already, longer.suspension.until), (false, None));

    // Each deed is a right of its own.
    let subject = Subject::new(Scope::Role, "", RELEASE);
    let role = LeaseFilter { role: text(RELEASE), ..any() };
    let deeds = [
        (May::Suspend, Deed::Suspend(suspend(Scope::Role, RELEASE))),
        (May::Revoke, Deed::Suspend(Suspend { revoke: true, ..suspend(Scope::Role, RELEASE) })),
        (May::Resume, resume(subject.clone())),
        (May::Revoke, Deed::Revoke(Revoke { leases: role, reason: "x".into(), dry_run: true })),
        (May::Leases, Deed::Leases(List::default())),
    ];
    for (may, deed) in deeds {
        let all_but_this = Operator::new("okta:bob", May::ALL.into_iter().filter(|own| *own != may));
        house.refused(house.broker.operate(all_but_this, deed).await.unwrap_err(), "not_allowed", may.name());
    }

    let nothing = Deed::Revoke(Revoke { leases: any(), reason: "x".into(), dry_run: false });
    house.refused(house.operate(nothing).await.unwrap_err(), "invalid_request", "nothing says which leases");
    let person = LeaseFilter { person: text("1"), ..any() };
    let nobody = Deed::Revoke(Revoke { leases: person, reason: "x".into(), dry_run: false });
    house.refused(house.operate(nobody).await.unwrap_err(), "invalid_request", "is one of an issuer");
    for (cursor, limit, told) in [(text("x"), None, "the cursor"), (None, Some(1001), "from 1 to 1000")] {
        let list = Deed::Leases(List { cursor, limit, ..List::default() });
        house.refused(house.operate(list).await.unwrap_err(), "invalid_request", told);
    }
    let back = house.operate(resume(Subject::new(Scope::Role, "", "never"))).await.unwrap();
    assert!(matches!(back, Done::Resumed { resumed: None }), "{back:?}");
    house.broker.stop().await;
    house.verified().await;
}

#[tokio::test]
async fn leases_end_by_each_selector_and_are_said_honestly() {
    let house = House::new(|config| config).await;
    let actor = house.job().claims("https://cb.example")["actor_id"].as_str().unwrap().to_owned();
    let (web, github) = (house.job().repository("acme/payments-web"), || text("github"));
    let mut ended = 0;
    for filter in [
        LeaseFilter { role: text(RELEASE), ..any() },
        LeaseFilter { mapping: text("payments-production"), ..any() },
        LeaseFilter { repository: text("740000001"), issuer: github(), ..any() },
        LeaseFilter { repository: text("acme/payments-api"), ..any() },
        LeaseFilter { principal: text("740000001"), issuer: github(), ..any() },
        LeaseFilter { tenant: text("65"), repository: text("740000001"), ..any() },
        LeaseFilter { run: text("17000000001"), repository: text("740000001"), ..any() },
        LeaseFilter { person: Some(actor), repository: text("740000001"), issuer: github(), ..any() },
        LeaseFilter { team: text("payments"), repository: text("740000001"), ..any() },
        LeaseFilter { issuer: github(), ..any() },
    ] {
        let lease = house.exchange(&house.job(), RELEASE).await.unwrap();
        let narrow = filter.repository.is_some() || filter.principal.is_some();
        let beside = if narrow { Some(house.exchange(&web, RELEASE).await.unwrap()) } else { None };
        let would = house.revoke(filter.clone(), true).await;
        assert!(would.dry_run && would.leases.iter().any(|one| one.lease.to_string() == lease), "{filter:?}");
        assert!(house.alive().await.contains(&lease), "a dry run ends nothing");
        let done = house.revoke(filter.clone(), false).await;
        assert_eq!(done.count, would.count, "{filter:?}");
        assert_eq!(done.effects, BTreeMap::from([("where_checked".to_owned(), done.count)]), "who looks, refuses");
        assert!(!house.alive().await.contains(&lease), "{filter:?}");
        if let Some(beside) = &beside {
            assert!(house.alive().await.contains(beside), "{filter:?} ends nobody else's");
        }
        assert_eq!(house.revoke(filter, false).await.count, 0, "once");
        ended += done.count;
    }
    // One by its id, and with the suspension that it comes with.
    let lease = house.exchange(&house.job(), RELEASE).await.unwrap();
    let done = house.revoke(LeaseFilter { lease: Some(lease.parse().unwrap()), ..any() }, false).await;
    assert_eq!((done.count, done.leases[0].lease.to_string()), (1, lease));
    let lease = house.exchange(&house.job(), RELEASE).await.unwrap();
    let subject = Subject::new(Scope::Repository, "github", "740000001");
    let suspended = house.suspend(suspend(Scope::Repository, "740000001")).await;
    let early = Deed::Resume(Resume { subject: subject.clone(), reason: "x".into(), leave_leases: false });
    house.refused(house.operate(early.clone()).await.unwrap_err(), "not_yet", &lease);
    let both = house.suspend(Suspend { revoke: true, ..suspend(Scope::Repository, "740000001") }).await;
    assert_eq!((both.already, both.suspension), (true, suspended.suspension));
    assert_eq!(both.revoked.unwrap().leases[0].lease.to_string(), lease);
    house.operate(early).await.unwrap();
    ended += 2;

    // What was: also what is over, page by page.
    let page = async |when, cursor, limit| {
        let list = List { when, cursor, limit, leases: LeaseFilter { repository: text("740000001"), ..any() } };
        let Done::Leases(page) = house.operate(Deed::Leases(list)).await.unwrap() else { panic!("a page") };
        page
    };
    let (mut found, mut cursor) = (vec![], None);
    loop {
        let page = page(When::Since(0), cursor, Some(5)).await;
        assert!(page.leases.len() <= 5);
        found.extend(page.leases);
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found.len(), 12);
    assert!(found.iter().all(|lease| lease.state == "ended" && lease.name == "acme/payments-api"));
    assert!(found.is_sorted_by(|one, next| one.lease > next.lease), "the youngest first");
    assert!(page(When::Alive, None, None).await.leases.is_empty());
    assert!(page(When::ExpiringWithin(60), None, None).await.leases.is_empty());
    let now = claimbound_test_support::time::now();
    assert_eq!(page(When::At(now), None, None).await.leases.len(), 12, "open then, whatever became of them");
    house.broker.stop().await;
    let records = house.verified().await;
    let told = records.iter().filter(|(body, _)| body["kind"] == "ended");
    let told: Vec<_> = told
        .inspect(|(body, details)| {
            assert_eq!((&body["how"], &details["operator"]), (&json!("operator"), &json!("okta:alice")));
        })
        .collect();
    assert_eq!(told.len() as u64, ended);
}

/// Two brokers over one PostgreSQL, and a third hand that suspends: what begins after a suspension has returned gets
/// nothing, and no grant stands behind a suspension in the evidence.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_granted_after_a_suspension_has_returned_whichever_broker_is_asked() {
    let server = Postgres::start();
    let house = House::new(|config| config.store(&server.url())).await;
    let other = in_process(&house.folder).await;
    let races = if std::env::var_os("CLAIMBOUND_SOAK").is_some() { RACES_SOAK } else { RACES };
    let (mut granted_before, mut refused_before) = (0, 0);
    for race in 0..races {
        let run = (18_000_000_000 + race).to_string();
        let token = || house.job().claim("run_id", run.as_str()).token("https://cb.example");
        let tokens: Vec<String> = (0..10).map(|_| token()).collect();
        let brokers = [&house.broker, &other];
        let during =
            join_all(tokens[..6].iter().enumerate().map(|(at, token)| exchange(brokers[at % 2], token, RELEASE)));
        let asked = Suspend { force: true, ..suspend(Scope::Run, &run) };
        let suspending = brokers[race % 2].operate(alice(), Deed::Suspend(asked));
        // Behind its return, on both brokers.
        let after = async {
            suspending.await.unwrap();
            join_all(tokens[6..].iter().enumerate().map(|(at, token)| exchange(brokers[at % 2], token, RELEASE))).await
        };
        let (during, after) = tokio::join!(during, after);
        assert!(after.iter().all(|one| *one == Err("suspended".into())), "{after:?}");
        for one in during {
            match one {
                Ok(_) => granted_before += 1,
                Err(reason) => {
                    assert_eq!(reason, "suspended");
                    refused_before += 1;
                }
            }
        }
    }
    assert_eq!(granted_before + refused_before, races * 6);
    house.broker.stop().await;
    other.stop().await;
    let records = verified(&server.url());
    let mut gone = std::collections::BTreeSet::new();
    for (body, details) in &records {
        match body["kind"].as_str().unwrap() {
            "suspended" => drop(gone.insert(body["subject"].as_str().unwrap().to_owned())),
            "granted" => {
                let run = details["claims"]["run_id"].as_str().unwrap();
                assert!(!gone.contains(run), "run {run} was granted behind its suspension");
            }
            _ => {}
        }
    }
    assert_eq!(gone.len(), races);
}

/// The commands, beside brokers that run: only with the glass broken, and in force on both at once.
#[tokio::test]
async fn commands_act_on_postgresql_beside_its_brokers_if_somebody_says_why() {
    let (issuer, server) = (Issuer::github(), Postgres::start());
    let config = BrokerConfig::new(&issuer).store(&server.url()).server("public_url = \"https://cb.example\"");
    let one = Broker::start(BINARY, config).await;
    let brokers = [one.replica().await, one];
    let token = || issuer.job().branch("main").environment("production").token("https://cb.example");
    let granted = brokers[0].exchange_for(&token(), RELEASE).await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    let lease = jwt::claims_of(granted.text_of("access_token"))["lease_id"].as_str().unwrap().to_owned();
    let say = async |words: &[&str]| brokers[0].command(words).await;
    let role = ["suspend", "--role", RELEASE, "--reason", "a leak", "--for", "2h"];
    let refused = say(&role).await;
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("--broker URL") && refused.stderr.contains("--break-glass"), "{}", refused.stderr);
    let glass = ["--break-glass", "the brokers' operator listener is away"];
    let done = say(&[&role[..], &glass, &["--format", "json"]].concat()).await;
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    let told: Value = serde_json::from_str(&done.stdout).unwrap();
    assert!(told["suspension"]["operator"].as_str().unwrap().starts_with("local:"), "{told}");
    for broker in &brokers {
        let answer = broker.exchange_for(&token(), RELEASE).await;
        assert_eq!((answer.status, &answer.body["error"]), (400, &json!("invalid_target")), "{}", answer.text);
        assert_eq!(answer.body["reason"], "suspended");
        assert!(!answer.text.contains("a leak") && !answer.text.contains("local:"), "{}", answer.text);
        assert_eq!(broker.health().await["suspensions"][0]["name"], RELEASE);
    }
    let standing = say(&["suspend", "--list"]).await;
    assert!(
        standing.stdout.contains("role       payments-release") && standing.stdout.contains(": a leak"),
        "{}",
        standing.stdout
    );
    let listed = say(&["leases", "--role", RELEASE, "--format", "json"]).await;
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!((&listed["leases"][0]["lease"], &listed["leases"][0]["run"]), (&json!(lease), &json!("17000000001")));
    let human = say(&["leases", "--repository", "acme/payments-api", "--since", "2020-01-01"]).await;
    assert!(human.stdout.contains(&lease) && human.stdout.contains("acme/payments-api"), "{}", human.stdout);
    let would = say(&[&["revoke", "--role", RELEASE, "--dry-run"], &glass[..]].concat()).await;
    assert!(would.stdout.contains("1 lease would be ended: 1 at_expiry"), "{}{}", would.stdout, would.stderr);
    let early = say(&[&["resume", "--role", RELEASE, "--reason", "over"], &glass[..]].concat()).await;
    assert_eq!(early.code, Some(3), "{}", early.stderr);
    assert!(early.stderr.contains("--leave-leases"), "{}", early.stderr);
    let ended = say(&[&["revoke", "--role", RELEASE, "--reason", "a leak"], &glass[..]].concat()).await;
    assert!(
        ended.stdout.contains("1 lease ended: 1 at_expiry") && ended.stdout.contains("ends at expiry"),
        "{}",
        ended.stdout
    );
    let back = say(&[&["resume", "--role", RELEASE, "--reason", "over"], &glass[..]].concat()).await;
    assert_eq!(back.code, Some(0), "{}", back.stderr);
    for broker in &brokers {
        assert_eq!(broker.exchange_for(&token(), RELEASE).await.status, 200);
    }
    for (words, code, told) in [
        (vec!["suspend", "--role", RELEASE], 2, "--reason"),
        (vec!["suspend", "--reason", "x"], 2, "nothing says what to suspend"),
        (vec!["revoke", "--reason", "x"], 2, "nothing says which leases"),
        (vec!["revoke"], 2, "CLAIMBOUND_URL"),
        (vec!["leases", "--state", "gone"], 2, "issuing, issued"),
        (vec!["suspend", "--role", "x", "--mapping", "y", "--reason", "z"], 2, "cannot be used with"),
        (vec!["suspensions", "--broker", "http://127.0.0.1:9"], 2, "claimbound operator login"),
        (vec!["suspend", "--role", "nope", "--reason", "x", glass[0], glass[1]], 3, "there is no role `nope`"),
    ] {
        let exit = say(&words).await;
        assert_eq!(exit.code, Some(code), "{words:?}: {}{}", exit.stdout, exit.stderr);
        assert!(exit.stderr.contains(told), "{words:?}: {}", exit.stderr);
    }
    let details: Vec<_> =
        records::all(&brokers[0]).into_iter().filter(|(body, _)| body["kind"] == "suspended").collect();
    assert_eq!(details[0].1["break_glass"], glass[1]);
    let audit = say(&["audit", "verify"]).await;
    assert_eq!(audit.code, Some(0), "{}{}", audit.stdout, audit.stderr);
}

#[tokio::test]
async fn a_sqlite_store_is_its_broker_s_alone_and_an_operator_s_when_there_is_none() {
    let issuer = Issuer::github();
    let mut broker =
        Broker::start(BINARY, BrokerConfig::new(&issuer).server("public_url = \"https://cb.example\"")).await;
    let token = || issuer.job().branch("main").environment("production").token("https://cb.example");
    let answer = broker.exchange_for(&token(), RELEASE).await;
    let role = ["suspend", "--role", RELEASE, "--reason", "a leak", "--revoke"];
    let refused = broker.command(&role).await;
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("another broker") && refused.stderr.contains("--broker URL"), "{}", refused.stderr);
    assert!(broker.command(&["leases"]).await.stdout.contains(RELEASE), "looking needs no hand on it");

    // By possession, as anybody who holds it.
    std::fs::write(broker.directory().join("token"), format!("{}\n", answer.text_of("access_token"))).unwrap();
    let url = broker.url().to_owned();
    let ended = broker.command(&["revoke", "--url", &url, "--token-file", "token"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
    assert_eq!(records::of_kind(&broker, "ended")[0]["how"], "revoked");
    let away = broker.command(&["revoke", "--url", "http://127.0.0.1:9", "--token-file", "token"]).await;
    assert_eq!(away.code, Some(4), "{}", away.stderr);
    let empty = broker.command(&["revoke", "--url", &url]).await;
    assert_eq!(empty.code, Some(2), "an empty standard input: {}", empty.stderr);

    assert_eq!(broker.exchange_for(&token(), RELEASE).await.status, 200);
    broker.terminate().await;
    let done = broker.command(&role).await;
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("by local:") && done.stdout.contains("1 lease ended"), "{}", done.stdout);
    broker.restart().await;
    let answer = broker.exchange_for(&token(), RELEASE).await;
    assert_eq!((answer.status, &answer.body["reason"]), (400, &json!("suspended")), "{}", answer.text);
    // Also a dry run says so.
    let form = [("dry_run", "true"), ("audience", RELEASE)];
    let dry = token();
    let form = [&form[..], &[("subject_token", &*dry)]].concat();
    let form = [
        &form[..],
        &[
            ("grant_type", claimbound_test_support::broker::TOKEN_EXCHANGE),
            ("subject_token_type", claimbound_test_support::broker::ID_TOKEN),
        ],
    ]
    .concat();
    assert_eq!(broker.exchange(&form).await.body["reason"], "suspended");
    let audit = broker.command(&["audit", "verify", "--store", "sqlite:claimbound.db"]).await;
    assert_eq!(audit.code, Some(0), "{}{}", audit.stdout, audit.stderr);
    broker.terminate().await;
    // A hand in the table shows.
    rusqlite::Connection::open(broker.database()).unwrap().execute_batch("DELETE FROM suspensions").unwrap();
    let audit = broker.command(&["audit", "verify", "--store", "sqlite:claimbound.db"]).await;
    assert!(
        audit.code == Some(1) && audit.stdout.contains("stands by the records, and it is not there"),
        "{}",
        audit.stdout
    );
}

/// AWS cannot end a session: without an identity of the broker's for that, the policy is printed, and nothing is claimed.
#[tokio::test]
async fn security_133_sessions_that_cannot_be_ended_are_said_so_and_their_policy_is_printed() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let mut broker = aws::broker(&issuer, &sts, "").await;
    let token = issuer.job().environment("staging").token(broker.audience());
    let answer = broker.exchange_for(&token, "payments-deploy").await;
    let lease = answer.text_of("lease_id").to_owned();
    broker.terminate().await;
    let done = broker.command(&["revoke", "--lease", &lease, "--reason", "a leak", "--format", "json"]).await;
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    let told: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&told["count"], &told["leases"][0]["effect"]), (&json!(1), &json!("at_expiry")));
    let statements = told["policies"]["aws"]["Statement"].as_array().unwrap();
    assert_eq!(statements[1]["Condition"], json!({ "StringEquals": { "aws:PrincipalTag/claimbound_lease": [lease] } }));
    let notes = told["notes"].to_string();
    assert!(notes.contains("until the printed one stands") && notes.contains("role chaining"), "{notes}");
    let role = ["--role", "payments-deploy"];
    let printed = broker.command(&[&["trust", "aws", "--denials"], &role[..]].concat()).await;
    assert_eq!(serde_json::from_str::<Value>(&printed.stdout).unwrap(), told["policies"]["aws"], "{}", printed.stderr);
    // The whole role, however many sessions: one entry.
    let cut = broker.command(&[&["revoke", "--print-policy", "--reason", "a leak"], &role[..]].concat()).await;
    let policy: Value = serde_json::from_str(&cut.stdout).unwrap();
    let condition = &policy["Statement"][2]["Condition"];
    assert_eq!(condition["StringEquals"]["aws:PrincipalTag/claimbound_role"], json!(["payments-deploy"]));
    assert!(condition["DateLessThan"]["aws:TokenIssueTime"].is_string(), "{policy}");
    let principal =
        ["revoke", "--issuer", "github", "--principal", "740000001", "--reason", "a leak", "--print-policy"];
    let policy: Value = serde_json::from_str(&broker.command(&principal).await.stdout).unwrap();
    assert!(policy.to_string().contains(r#""aws:SourceIdentity":["github-740000001"]"#), "{policy}");
    let cuts = records::of_kind(&broker, "cut");
    let cuts: Vec<_> = cuts.iter().map(|cut| (&cut["scope"], &cut["subject"])).collect();
    assert_eq!(cuts, [(&json!("role"), &json!("payments-deploy")), (&json!("principal"), &json!("github:740000001"))]);
    let audit = broker.command(&["audit", "verify"]).await;
    assert_eq!(audit.code, Some(0), "{}{}", audit.stdout, audit.stderr);
}

/// One answer to one request: what was sent comes back.
async fn answers(listener: tokio::net::TcpListener, status: &str, body: String) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut sent = Vec::new();
    // The body is small JSON: it ends the request.
    while !sent.ends_with(b"}") {
        assert!(stream.read_buf(&mut sent).await.unwrap() > 0, "the request ended early");
    }
    let head = format!(
        "HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    String::from_utf8(sent).unwrap()
}

#[tokio::test]
async fn a_running_broker_is_asked_with_the_operator_s_session() {
    let directory = tempfile::tempdir().unwrap();
    let ask = async |words: &[&str], status: &str, body: Value| {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut program = claimbound_test_support::command::command(std::path::Path::new(BINARY), directory.path());
        program.args(words).args(["--broker", &url]).env("CLAIMBOUND_TOKEN", "session-of-alice");
        let told = claimbound_test_support::command::finish(&mut program);
        tokio::join!(told, answers(listener, status, body.to_string()))
    };
    let suspension = json!({
        "id": "01900000-0000-7000-8000-000000000001", "scope": "role", "issuer": "", "name": "deploy",
        "since": 1_800_000_000, "until": null, "operator": "okta:alice", "reason": "a leak",
    });
    let body = json!({ "done": "suspended", "suspension": suspension, "already": false, "revoked": null });
    let words = ["suspend", "--role", "deploy", "--reason", "a leak", "--for", "2h"];
    let (exit, sent) = ask(&words, "200", body).await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert_eq!(
        exit.stdout,
        "suspended  role       deploy  since 2027-01-15T08:00:00Z, until it is resumed, by okta:alice: a leak\n"
    );
    assert!(sent.starts_with("POST /operator/suspend HTTP/1.1\r\n"), "{sent}");
    assert!(sent.contains("\r\nauthorization: Bearer session-of-alice\r\n"), "{sent}");
    let asked: Value = serde_json::from_str(sent.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((&asked["subject"]["name"], &asked["seconds"]), (&json!("deploy"), &json!(7_200)));
    for (status, code) in [("400", 3), ("403", 3), ("404", 3), ("409", 3), ("429", 4), ("503", 4)] {
        let body = json!({ "error": "x", "error_description": "because of \u{1b}[2J" });
        let (exit, sent) = ask(&["leases", "--team", "payments"], status, body).await;
        let told = if code == 3 { "the broker refused" } else { "the broker cannot be asked" };
        let told = format!("error: {told}: because of \\u{{1b}}[2J\n");
        assert_eq!((exit.code, exit.stderr), (Some(code), told), "{status}");
        assert!(sent.starts_with("POST /operator/leases ") && sent.ends_with("}"), "{sent}");
    }
}
