//! The claim ceremony from the job's first question to its credential: who gets it, who does not, and what is on record.
//!
//! The pages are not needed for it: the library's own desk stands for them.

use crate::{BINARY, records};
use claimbound::{
    broker::{Asked, AskedGrant, Broker as InProcess},
    ceremony::{Desk, DeskError, Taken},
    config::Config,
    exchange::{Granted, Issued, Refused, Waits},
    operate::{CarryClaims, ClaimFilter, Deed, Done, ResetClaims, Resume, Suspend},
    operators::{May, Operator},
    secret::Secret,
    store::{self, Scope, Subject},
};
use claimbound_core::{
    ceremony::{CeremonyId, Person, Refused as Not},
    time::{Clock, UnixSeconds},
};
use claimbound_test_support::{
    broker::Broker,
    canary, command,
    config::BrokerConfig,
    http::Answer,
    issuer::Issuer,
    job::{Job, id_of},
    jwt,
    postgres::Postgres,
    time::now,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};
use tempfile::TempDir;

const AUDIENCE: &str = "https://cb.example";
const ROLE: &str = "live";
const DAY_SECONDS: i64 = 86_400;
const CIBA: &str = "urn:openid:params:grant-type:ciba";

const POLICY: &str = "format = 1\n[issuer.github]\nprofile = \"github-actions\"\nurl = \"{issuer.github}\"\nowners = { acme = 65 }\n\
    [issuer.gitlab]\nprofile = \"gitlab\"\nurl = \"{issuer.gitlab}\"\nowners = { acme = 65 }\n\
    [team.payments]\npath = \"teams/payments\"\napprovers = [\"okta:group:leads\"]\n";
const ROLES: &str = "[role.live]\ndescription = \"Deploy\"\nbackend = \"jwt\"\nteams = [\"payments\"]\n\
    issuers = [\"github\", \"gitlab\"]\nsensitivity = \"internal\"\nmax_duration = \"15m\"\n[role.live.jwt]\n\
    audience = \"https://live.acme.example\"\n";

fn mappings(ceremony: &str) -> String {
    let one = |name: &str, issuer: &str| {
        format!(
            "[[mapping]]\nname = \"{name}\"\ndescription = \"Deploys\"\nissuer = \"{issuer}\"\nroles = [\"live\"]\n\
             [mapping.match]\nrepository = {{ name = \"acme/payments-api\", id = 740000001 }}\nbranch = [\"main\", \"next\"]\n\
             [mapping.ceremony]\n{ceremony}\n"
        )
    };
    format!("{}{}", one("hub", "github"), one("lab", "gitlab"))
}

fn config([github, gitlab]: [&Issuer; 2], ceremony: &str) -> BrokerConfig {
    let text = mappings(ceremony);
    let files = [("policy.toml", POLICY), ("roles/r.toml", ROLES), ("teams/payments/m.toml", text.as_str())];
    let sign_in = "[[sign_in]]\nname = \"okta\"\nissuer = \"https://acme.okta.example\"\nclient_id = \"c\"\n";
    BrokerConfig::with_folder(&files).issuer("github", github).issuer("gitlab", gitlab).toml(sign_in)
}

/// A person who may approve, with an account at both forges.
fn lead(name: &str) -> Person {
    let forge_ids = ["github", "gitlab"].map(|issuer| (issuer.to_owned(), id_of(name).to_string()));
    Person {
        sign_in: "okta".into(),
        subject: name.into(),
        email: None,
        name: Some(name.to_uppercase()),
        groups: vec!["leads".into()],
        acr: Some("phr".into()),
        amr: vec!["hwk".into()],
        auth_time: Some(now()),
        forge_ids: BTreeMap::from(forge_ids),
    }
}

/// The system's clock, ahead of it (or behind) by so many seconds.
#[derive(Default)]
struct Moved(AtomicI64);

impl Clock for Moved {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(now() + self.0.load(Ordering::SeqCst))
    }
}

struct House {
    clock: Arc<Moved>,
    github: Issuer,
    gitlab: Issuer,
    brokers: Vec<Arc<InProcess>>,
    folder: TempDir,
    url: String,
}

impl House {
    async fn new(ceremony: &str) -> Self {
        Self::over(ceremony, None, 1).await
    }

    async fn over(ceremony: &str, server: Option<&Postgres>, brokers: usize) -> Self {
        Self::ago(0, ceremony, server, brokers).await
    }

    /// So many days ago.
    async fn ago(days: i64, ceremony: &str, server: Option<&Postgres>, brokers: usize) -> Self {
        let (github, gitlab) = (Issuer::github(), Issuer::gitlab());
        let folder = tempfile::tempdir().unwrap();
        let mut config = config([&github, &gitlab], ceremony).server(&format!("public_url = \"{AUDIENCE}\""));
        let mut url = format!("sqlite:{}/claimbound.db", folder.path().display());
        if let Some(server) = server {
            url = server.url();
            config = config.store(&url);
        }
        config.write(folder.path(), "127.0.0.1:0", "127.0.0.1:0");
        let clock = Arc::new(Moved(AtomicI64::new(-days * DAY_SECONDS)));
        let mut house = Self { clock, github, gitlab, brokers: vec![], folder, url };
        for _ in 0..brokers {
            house.start().await;
        }
        house
    }

    /// One broker more.
    async fn start(&mut self) {
        let config = Config::read(&self.folder.path().join("claimbound.toml"), true).unwrap();
        self.brokers.push(InProcess::start(config, self.clock.clone()).await.unwrap());
    }

    /// A broker in place of the one that there is, so many days ago.
    async fn go_on(&mut self, days_ago: i64) {
        self.clock.0.store(-days_ago * DAY_SECONDS, Ordering::SeqCst);
        self.brokers.remove(0).stop().await;
        self.start().await;
    }

    /// Other lines in the mappings' file; whoever judges reads them when it starts.
    fn rewrite(&self, from: &str, to: &str) {
        let path = self.folder.path().join("mappings/teams/payments/m.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "no `{from}` in {text}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
    }

    fn job(&self) -> Job<'_> {
        match self.clock.0.load(Ordering::SeqCst) {
            0 => self.github.job(),
            _ => self.github.job().issued_at(self.clock.now().0),
        }
    }

    fn desk(&self) -> Desk {
        self.brokers[0].desk()
    }

    async fn ask(&self, at: usize, grant: AskedGrant, role: Option<&str>) -> Result<Issued, Refused> {
        let asked = Asked {
            grant,
            role: role.map(str::to_owned),
            scope: None,
            duration: None,
            dry_run: false,
            digest: [0; 32],
            address: None,
            caller: None,
            sts: None,
        };
        match self.brokers[at % self.brokers.len()].exchange(asked).await.outcome {
            Ok(Granted::Issued(issued)) => Ok(issued),
            Ok(Granted::DryRun { .. }) => panic!("not asked for"),
            Err(refused) => Err(refused),
        }
    }

    async fn begin(&self, token: &str) -> Result<Issued, Refused> {
        self.ask(0, AskedGrant::Tokens { subject: Secret::new(token.to_owned()), actor: None }, Some(ROLE)).await
    }

    /// Begins, and must wait.
    async fn wait(&self, job: &Job<'_>) -> Box<Waits> {
        self.begin(&job.token(AUDIENCE)).await.err().and_then(|refused| refused.waits).expect("it waits")
    }

    async fn redeem(&self, waits: &Waits, token: &str) -> Result<Issued, &'static str> {
        self.redeem_at(0, waits, token).await
    }

    async fn redeem_at(&self, at: usize, waits: &Waits, token: &str) -> Result<Issued, &'static str> {
        let auth_req_id = Secret::new(waits.auth_req_id.as_ref().unwrap().reveal().to_owned());
        let subject = Some(Secret::new(token.to_owned()));
        let asked = self.ask(at, AskedGrant::Poll { auth_req_id, subject, actor: None }, None).await;
        asked.map_err(|refused| refused.reason.name())
    }

    async fn claim(&self, waits: &Waits, by: &str) -> Result<Taken, DeskError> {
        let code = waits.match_code.as_ref().unwrap();
        self.desk().claim(waits.ceremony, &lead(by), code, "it is ours", self.clock.now()).await
    }

    async fn state(&self, id: CeremonyId) -> &'static str {
        self.desk().review(id, &lead("bob"), self.clock.now()).await.unwrap().state
    }

    /// Every record holds. Gives body and details of those of a kind.
    fn records(&self, kind: &str) -> Vec<(Value, Value)> {
        let reader = store::open_reader(&self.url).unwrap();
        let report = store::audit(reader.as_ref(), None).unwrap();
        assert!(report.finding.is_none(), "{}", report.finding.unwrap());
        let mut all = Vec::new();
        let json = |bytes: &[u8]| if bytes.is_empty() { Value::Null } else { serde_json::from_slice(bytes).unwrap() };
        let mut each = |body: &[u8], details: &[u8]| {
            all.push((json(body), json(details)));
            true
        };
        reader.records(&mut each).unwrap();
        all.retain(|(body, _)| body["kind"] == kind);
        all
    }

    async fn operate(&self, deed: Deed) -> Done {
        self.brokers[0].operate(Operator::new("okta:op", May::ALL), deed).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_people_claim_it_and_it_redeems_once() {
    let house = House::new("when = \"every\"\nquorum = 2").await;
    let job = house.job();
    let waits = house.wait(&job).await;
    assert!(waits.auth_req_id.as_ref().unwrap().reveal().starts_with("cbq_") && !waits.ready);
    assert_eq!(
        house.redeem(&waits, &job.token(AUDIENCE)).await.err(),
        Some("ceremony_needed"),
        "nobody has claimed it"
    );

    // What the page shows, to whom, and in which order it says no.
    let (desk, now) = (house.desk(), UnixSeconds(now()));
    let guest = Person { groups: vec!["guests".into()], ..lead("eve") };
    assert!(matches!(desk.review(waits.ceremony, &guest, now).await, Err(DeskError::Refused(Not::NotEligible))));
    assert!(matches!(desk.review(CeremonyId(7), &lead("bob"), now).await, Err(DeskError::Unknown)));
    let seen = desk.review(waits.ceremony, &lead("bob"), now).await.unwrap();
    assert_eq!((seen.state, seen.quorum, seen.standing, seen.words), ("pending", 2, false, waits.words));
    assert_eq!((&*seen.shown.role, &*seen.shown.mapping, &*seen.shown.principal.id), (ROLE, "hub", "740000001"));
    assert!(seen.shown.claims.iter().any(|(claim, value)| claim == "run_id" && value == "17000000001"));
    let own = desk.review(waits.ceremony, &lead("octocat"), now).await.unwrap();
    assert_eq!(own.hindrance, Some(Not::SelfApproval));
    let wrong = Secret::new("0000-0000".to_owned());
    let claim = async |person: &Person, code: &Secret, reason: &str| {
        desk.claim(waits.ceremony, person, code, reason, now).await
    };
    assert!(matches!(claim(&guest, &wrong, "r").await, Err(DeskError::Refused(Not::NotEligible))));
    assert!(matches!(claim(&lead("octocat"), &wrong, "r").await, Err(DeskError::Refused(Not::SelfApproval))));
    let unlinked = Person { forge_ids: BTreeMap::new(), ..lead("dan") };
    assert!(matches!(claim(&unlinked, &wrong, "r").await, Err(DeskError::Refused(Not::Unlinked))));
    assert!(matches!(claim(&lead("bob"), &wrong, " ").await, Err(DeskError::NoReason)));
    assert!(matches!(claim(&lead("bob"), &wrong, "r").await, Err(DeskError::WrongCode { over: false })));

    assert_eq!(house.claim(&waits, "bob").await.unwrap(), Taken { state: "pending", missing: 1 });
    assert!(matches!(house.claim(&waits, "bob").await, Err(DeskError::Refused(Not::AlreadyClaimed))));
    assert_eq!(house.claim(&waits, "carol").await.unwrap(), Taken { state: "claimed", missing: 0 });

    // Another job of the run, another leg, another commit or run, another role: nothing, whoever has read the log.
    for other in [
        job.clone().claim("check_run_id", "48000000002"),
        job.clone().claim("run_attempt", "2"),
        job.clone().claim("run_id", "17000000002"),
        job.clone().claim("sha", "1111111111111111111111111111111111111111"),
        job.clone().environment("production"),
        job.clone().branch("next"),
    ] {
        assert_eq!(house.redeem(&waits, &other.token(AUDIENCE)).await.err(), Some("ceremony_mismatch"));
    }
    let auth_req_id = || Secret::new(waits.auth_req_id.as_ref().unwrap().reveal().to_owned());
    let role =
        AskedGrant::Poll { auth_req_id: auth_req_id(), subject: Some(Secret::new(job.token(AUDIENCE))), actor: None };
    assert_eq!(house.ask(0, role, Some("other")).await.err().unwrap().reason.name(), "ceremony_mismatch");
    let alone = AskedGrant::Poll { auth_req_id: auth_req_id(), subject: None, actor: None };
    let told = house.ask(0, alone, None).await.err().unwrap();
    assert!(told.waits.unwrap().ready, "a reader of the log learns that it is claimed, and gets nothing");

    let issued = house.redeem(&waits, &job.token(AUDIENCE)).await.unwrap();
    let claims = match &issued.credential {
        claimbound::issuance::Credential::Jwt(token) => jwt::claims_of(token.reveal()),
        _ => panic!("a token"),
    };
    assert_eq!(claims["approved_by"], json!(["okta:bob", "okta:carol"]));
    assert_eq!(house.redeem(&waits, &job.token(AUDIENCE)).await.err(), Some("ceremony_used"));
    assert_eq!(house.state(waits.ceremony).await, "consumed");

    let granted = house.records("granted");
    assert_eq!(granted.len(), 1);
    assert_eq!(granted[0].0["ceremony"], waits.ceremony.to_string(), "the lease is tied to it");
    assert_eq!(granted[0].1["approvals"][1]["by"]["subject"], "carol");
    let events = house.records("ceremony");
    let told: Vec<_> =
        events.iter().map(|(body, _)| (body["how"].as_str().unwrap(), body["state"].as_str().unwrap())).collect();
    assert_eq!(told, [("wrong_code", "pending"), ("claimed", "pending"), ("claimed", "claimed")]);
    let (_, details) = &events[1];
    assert_eq!((&details["person"]["acr"], &details["reason"]), (&json!("phr"), &json!("it is ours")));
    assert_eq!(details["shown"]["role"], ROLE);
    let secrets = [waits.auth_req_id.as_ref().unwrap().reveal(), waits.match_code.as_ref().unwrap().reveal()];
    canary::assert_absent(house.folder.path(), &secrets);
}

/// Pollers, people and the clock at once, at one broker and at three: one credential, one outcome, and evidence that agrees.
/// (A hundred pollers at three replicas: `security_claims`.)
#[tokio::test(flavor = "multi_thread")]
async fn security_122_races_have_one_outcome() {
    let server = Postgres::start();
    for (server, brokers) in [(None, 1), (Some(&server), 3)] {
        let house = House::over("when = \"every\"\nclaim_within = \"10m\"", server, brokers).await;
        let pollers = if brokers == 1 { 100 } else { 12 };
        let waits = house.wait(&house.job()).await;
        house.claim(&waits, "bob").await.unwrap();
        let tokens: Vec<String> = (0..pollers).map(|_| house.job().token(AUDIENCE)).collect();
        let all = join_all(tokens.iter().enumerate().map(|(at, token)| house.redeem_at(at, &waits, token))).await;
        assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 1);
        let lost: Vec<_> =
            all.iter().filter_map(|one| one.as_ref().err()).filter(|why| **why != "ceremony_used").collect();
        assert!(lost.is_empty(), "{lost:?}");

        // People who claim, reject and type wrong codes, and brokers that find that its time is over.
        let at = UnixSeconds(now());
        for (run, with_clock) in [(99_usize, false), (100, true), (101, true), (102, true)] {
            let waits = house.wait(&house.job().claim("run_id", run.to_string())).await;
            let wrong = Secret::new("0000-0000".to_owned());
            let deeds = (0..24).map(|number| {
                let (desk, person) = (house.brokers[number % brokers].desk(), lead(&format!("p{number}")));
                let (waits, wrong) = (&waits, &wrong);
                // The order in which they come to their turns is another for each.
                let deed = if with_clock { (number + run) % 4 } else { number % 3 };
                async move {
                    let code = waits.match_code.as_ref().unwrap();
                    match deed {
                        0 => desk.claim(waits.ceremony, &person, code, "yes", at).await.map(|taken| taken.state),
                        1 => desk.reject(waits.ceremony, &person, "no", at).await.map(|taken| taken.state),
                        2 => desk.claim(waits.ceremony, &person, wrong, "maybe", at).await.map(|taken| taken.state),
                        _ => match desk.expire(at.plus(601)).await {
                            Ok(ended) => Ok(if ended > 0 { "expired" } else { "none" }),
                            Err(down) => Err(down.into()),
                        },
                    }
                }
            });
            let outcomes = join_all(deeds).await;
            let to = |wanted: &str| outcomes.iter().filter(|one| one.as_ref().ok() == Some(&wanted)).count();
            // The evidence has each move once, and ends as it did.
            let id = waits.ceremony.to_string();
            let told =
                house.records("ceremony").into_iter().map(|(body, _)| body).filter(|body| body["ceremony"] == id);
            let told: Vec<String> = told.map(|body| body["state"].as_str().unwrap().to_owned()).collect();
            let [claimed, rejected, expired] =
                ["claimed", "rejected", "expired"].map(|wanted| told.iter().filter(|state| *state == wanted).count());
            assert_eq!([claimed, rejected], [to("claimed"), to("rejected")], "{told:?} {outcomes:?}");
            assert!(claimed <= 1 && rejected + expired <= 1 && claimed + rejected + expired >= 1, "{told:?}");
            let state = house.state(waits.ceremony).await;
            let ended = if rejected == 1 { "rejected" } else { "expired" };
            assert_eq!(state, if rejected + expired == 1 { ended } else { "claimed" }, "{told:?}");
            // What it was claimed for is not had any more once it is over.
            if state != "claimed" {
                let late = house.redeem(&waits, &house.job().claim("run_id", run.to_string()).token(AUDIENCE)).await;
                assert_eq!(
                    late.err(),
                    Some(if state == "rejected" { "ceremony_rejected" } else { "ceremony_expired" })
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_use_is_claimed_once_until_it_is_taken_back() {
    let house = House::new("when = \"first_use\"").await;
    let first = house.wait(&house.job()).await;
    let second = house
        .wait(&house.job().claim("run_id", "2").claim("actor", "zoe").claim("actor_id", id_of("zoe").to_string()))
        .await;
    assert_eq!(first.ceremony, second.ceremony, "later jobs join");
    assert_ne!(first.match_code.as_ref().unwrap().reveal(), second.match_code.as_ref().unwrap().reveal());
    let other = house.wait(&house.job().branch("next")).await;
    assert_ne!(other.ceremony, first.ceremony, "another branch is another workload");
    for starter in ["octocat", "zoe"] {
        assert!(matches!(house.claim(&first, starter).await, Err(DeskError::Refused(Not::SelfApproval))), "{starter}");
    }
    assert_eq!(house.claim(&second, "bob").await.unwrap().state, "claimed", "by any job's code");
    let plain = async || {
        house.begin(&house.job().claim("run_id", "3").token(AUDIENCE)).await.map_err(|refused| refused.reason.name())
    };
    let issued = plain().await.unwrap();
    assert!(house.redeem(&first, &house.job().token(AUDIENCE)).await.is_ok(), "who waited redeems");
    assert!(house.begin(&house.job().branch("next").token(AUDIENCE)).await.is_err());
    drop(issued);

    let Done::Ceremonies(found) = house.operate(Deed::Ceremonies(ClaimFilter::default())).await else {
        panic!("a list")
    };
    assert_eq!((found.ceremonies.len(), found.standing.len(), found.standing[0].good), (1, 1, Some(true)));
    assert_eq!(found.standing[0].claimed_by, ["okta:bob"]);

    // Whose account is suspended claims and rejects nothing.
    let stolen = Suspend {
        subject: Subject::new(Scope::Person, "github", id_of("mallory").to_string()),
        reason: "phished".into(),
        seconds: None,
        revoke: false,
        force: true,
    };
    house.operate(Deed::Suspend(stolen)).await;
    assert!(matches!(house.claim(&other, "mallory").await, Err(DeskError::Suspended)));
    let rejected = house.desk().reject(other.ceremony, &lead("mallory"), "no", UnixSeconds(now())).await;
    assert!(matches!(rejected, Err(DeskError::Suspended)), "{rejected:?}");
    assert_eq!(house.state(other.ceremony).await, "pending");

    // Void with a suspension, also when that is over, and so is what waits; void by reset.
    let suspend = |seconds| Suspend {
        subject: Subject::new(Scope::Repository, "github", "740000001"),
        reason: "odd".into(),
        seconds: Some(seconds),
        revoke: false,
        force: true,
    };
    house.operate(Deed::Suspend(suspend(1))).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    assert_eq!(plain().await.err(), Some("ceremony_needed"));
    assert!(matches!(house.claim(&other, "bob").await, Err(DeskError::Expired | DeskError::Refused(Not::NotNow))));
    let again = house.wait(&house.job()).await;
    house.claim(&again, "bob").await.unwrap();
    assert!(plain().await.is_ok());
    let claims = ClaimFilter { approver: Some("okta:bob".into()), ..ClaimFilter::default() };
    let reset = ResetClaims { claims, reason: "bob left".into(), all: false, dry_run: false };
    let Done::Claims(gone) = house.operate(Deed::ClaimReset(reset)).await else { panic!("claims") };
    assert_eq!(gone.claims.len(), 1);
    assert_eq!(plain().await.err(), Some("ceremony_needed"));
    let (body, details) = house.records("claims").remove(0);
    assert_eq!((&body["how"], &body["count"], &details["operator"]), (&json!("reset"), &json!(1), &json!("okta:op")));
}

/// A suspension ends what waits for people, what they claimed and its job has not fetched, and what some of a quorum claimed: also for
/// when it is over. Of whose account is suspended no claim counts meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_suspended_has_to_be_claimed_anew() {
    let server = Postgres::start();
    for (server, brokers) in [(None, 1), (Some(&server), 2)] {
        let house = House::over("when = \"every\"\nquorum = 2", server, brokers).await;
        let last = house.brokers.last().unwrap();
        let operate = async |deed| last.operate(Operator::new("okta:op", May::ALL), deed).await.map(drop).unwrap();
        let subject = |scope, id: &str| Subject::new(scope, "github", id);
        let suspend = |subject| {
            Deed::Suspend(Suspend { subject, reason: "odd".into(), seconds: None, revoke: false, force: true })
        };
        let resume = |subject| Deed::Resume(Resume { subject, reason: "looked at".into(), leave_leases: true });
        let run = |number: u32| house.job().claim("run_id", number.to_string());
        let (claimed, begun) = (house.wait(&run(1)).await, house.wait(&run(2)).await);
        let lab = house.gitlab.job().token(AUDIENCE);
        let other = house.begin(&lab).await.err().and_then(|refused| refused.waits).unwrap();
        for (waits, by) in [(&claimed, "bob"), (&claimed, "carol"), (&begun, "bob"), (&other, "bob"), (&other, "carol")]
        {
            house.claim(waits, by).await.unwrap();
        }
        let repository = || subject(Scope::Repository, "740000001");
        operate(suspend(repository())).await;
        assert_eq!(house.redeem(&claimed, &run(1).token(AUDIENCE)).await.err(), Some("ceremony_outdated"));
        assert!(matches!(
            house.claim(&begun, "carol").await,
            Err(DeskError::Expired | DeskError::Refused(Not::NotNow))
        ));
        operate(resume(repository())).await;
        assert_eq!(house.redeem(&claimed, &run(1).token(AUDIENCE)).await.err(), Some("ceremony_outdated"));
        house.desk().expire(house.clock.now()).await.unwrap();
        assert_eq!(house.redeem(&claimed, &run(1).token(AUDIENCE)).await.err(), Some("ceremony_outdated"));
        assert!(matches!(house.claim(&begun, "carol").await, Err(DeskError::Refused(Not::NotNow))));
        assert!(house.redeem(&other, &lab).await.is_ok(), "another code host's is another");
        let voided = house.records("ceremony").into_iter().filter(|(body, _)| body["how"] == "voided");
        let told = |(body, details): (Value, Value)| {
            let by = details["claims"].as_array().unwrap().iter().map(|one| one["by"]["subject"].as_str().unwrap());
            [body["ceremony"].as_str().unwrap(), body["state"].as_str().unwrap(), &by.collect::<Vec<_>>().join(" ")]
                .map(str::to_owned)
        };
        let told: BTreeSet<_> = voided.map(told).collect();
        let expected = |waits: &Waits, by: &str| [waits.ceremony.to_string(), "expired".to_owned(), by.to_owned()];
        assert_eq!(told, BTreeSet::from([expected(&claimed, "bob carol"), expected(&begun, "bob")]));

        // Claimed anew; and while one of two is suspended, neither their claim nor another beside it is any good.
        let anew = house.wait(&run(1)).await;
        house.claim(&anew, "bob").await.unwrap();
        let bob = || subject(Scope::Person, &id_of("bob").to_string());
        operate(suspend(bob())).await;
        assert!(matches!(house.claim(&anew, "carol").await, Err(DeskError::Suspended)));
        operate(resume(bob())).await;
        assert_eq!(house.claim(&anew, "carol").await.unwrap().state, "claimed");
        operate(suspend(bob())).await;
        assert_eq!(house.redeem(&anew, &run(1).token(AUDIENCE)).await.err(), Some("suspended"));
        operate(resume(bob())).await;
        assert!(house.redeem(&anew, &run(1).token(AUDIENCE)).await.is_ok());
    }
}

/// A change that is not wider leaves claims to be carried over; any other makes them void.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_rule_resets_what_was_claimed() {
    let mut house = House::new("when = \"first_use\"").await;
    let waits = house.wait(&house.job()).await;
    house.claim(&waits, "bob").await.unwrap();
    let plain = async |house: &House| {
        house.begin(&house.job().token(AUDIENCE)).await.map(drop).map_err(|refused| refused.reason.name())
    };
    assert_eq!(plain(&house).await, Ok(()));
    let carry =
        || Deed::ClaimCarry(CarryClaims { claims: ClaimFilter::default(), reason: "reviewed".into(), dry_run: false });
    for (from, to, good, carried) in [
        ("Deploys", "Deploys main", true, 0),
        ("branch = [\"main\", \"next\"]", "branch = \"main\"", false, 1),
        ("when = \"first_use\"", "when = \"first_use\"\nquorum = 2", false, 0),
    ] {
        house.rewrite(from, to);
        house.go_on(0).await;
        let Done::Ceremonies(found) = house.operate(Deed::Ceremonies(ClaimFilter::default())).await else {
            panic!("a list")
        };
        assert_eq!(found.standing[0].good, Some(good), "{to}");
        let Done::Claims(claims) = house.operate(carry()).await else { panic!("claims") };
        assert_eq!(claims.claims.len(), carried, "{to}: {:?}", claims.left);
        assert_eq!(plain(&house).await.is_ok(), good || carried == 1, "{to}");
    }
}

/// First use: a new repository is provisional, claimed the next day, and works; a comment edit keeps the claim, a widening voids
/// it; the report of unclaimed and lapsed claims is right. As operators see it.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_repository_is_provisional_until_somebody_claims_it() {
    let rule = "when = \"first_use\"\nclaim_within = \"36h\"\nvalid_for = \"30d\"";
    let mut house = House::ago(4, rule, None, 1).await;
    let told = async |house: &House, more: &[&str]| {
        let arguments = [&["ceremonies", "--config", "claimbound.toml"][..], more].concat();
        let exit = command::run(Path::new(BINARY), house.folder.path(), &arguments).await;
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        exit.stdout
    };
    let works = async |house: &House| {
        let token = house.job().claim("run_id", "2").token(AUDIENCE);
        house.begin(&token).await.map(drop).map_err(|refused| refused.reason.name())
    };
    // Provisional.
    let first = house.wait(&house.job()).await;
    let nobody = house.wait(&house.job().branch("next")).await;
    let list = told(&house, &[]).await;
    assert_eq!(
        list.matches("  pending   live by hub for acme/payments-api (github 740000001), first use").count(),
        2,
        "{list}"
    );

    // Claimed the next day, and works.
    house.go_on(3).await;
    assert_eq!(house.claim(&first, "bob").await.unwrap().state, "claimed");
    assert_eq!(works(&house).await, Ok(()));
    let stands = format!("{}  stands    live by hub for acme/payments-api", first.ceremony);
    assert!(told(&house, &[]).await.contains(&stands));

    // A comment edit keeps the claim.
    house.rewrite("description = \"Deploys\"", "description = \"Deploys, as ever\" # reviewed");
    house.go_on(3).await;
    assert_eq!(works(&house).await, Ok(()));
    assert!(told(&house, &[]).await.contains(&stands));

    // A widening voids it; meanwhile nobody came for the other one.
    house.rewrite("[\"main\", \"next\"]", "[\"main\", \"next\", \"hotfix\"]");
    house.rewrite("valid_for = \"30d\"", "valid_for = \"1d\"");
    house.go_on(2).await;
    house.desk().expire(house.clock.now()).await.unwrap();
    assert_eq!(works(&house).await, Err("ceremony_needed"));
    let list = told(&house, &[]).await;
    assert!(list.contains(&stands.replace("stands  ", "outdated")) && !list.contains("  stands"), "{list}");
    let report = told(&house, &["--lapsed", "7d"]).await;
    let lines: Vec<&str> = report.lines().collect();
    let [reach, unclaimed, outdated] = lines[..] else { panic!("{report}") };
    assert!(reach.starts_with("the evidence reaches back only to "), "{report}");
    let line = |ceremony, rest: &str| format!("{ceremony}  {rest}");
    let start = "live by hub for acme/payments-api (github 740000001)";
    let expected = line(nobody.ceremony, &format!("unclaimed  {start}: nobody claimed it in time, "));
    assert!(unclaimed.starts_with(&expected), "{report}");
    let why = "the mapping, the role or who approves has changed";
    assert_eq!(outdated, line(first.ceremony, &format!("outdated   {start}, claimed by okta:bob: {why}")));

    // Claimed anew, it works until its time is over.
    let again = house.wait(&house.job()).await;
    assert_eq!(house.claim(&again, "carol").await.unwrap().state, "claimed");
    assert_eq!(works(&house).await, Ok(()));
    house.go_on(0).await;
    house.desk().lapse(house.clock.now()).await.unwrap();
    assert_eq!(works(&house).await, Err("ceremony_needed"));
    let report: Value = serde_json::from_str(&told(&house, &["--lapsed", "7d", "--format", "json"]).await).unwrap();
    let few = |list: &Value| -> Vec<Value> {
        let few = |one: &Value| json!([one["ceremony"], one["why"], one["role"], one["principal"], one["claimed_by"]]);
        list.as_array().unwrap().iter().map(few).collect()
    };
    let [nobody, again] = [&nobody, &again].map(|waits| waits.ceremony.to_string());
    assert_eq!(few(&report["unclaimed"]), [json!([nobody, "unclaimed", ROLE, "740000001", []])], "{report:#}");
    assert_eq!(few(&report["lapsed"]), [json!([again, "lapsed", ROLE, "740000001", ["okta:carol"]])], "{report:#}");
    assert_eq!((&report["more"], report["known_since"].is_i64()), (&json!(false), true), "{report:#}");
    let none = told(&house, &["--lapsed", "7d", "--role", "other"]).await;
    assert!(none.ends_with("nothing ended unclaimed, and no claim lapsed\n"), "{none}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_mint_again_redeems_with_its_own_token_once() {
    let house = House::new("when = \"every\"").await;
    let token = house.gitlab.job().token(AUDIENCE);
    let waits = house.begin(&token).await.err().and_then(|refused| refused.waits).unwrap();
    for _ in 0..3 {
        assert_eq!(house.redeem(&waits, &token).await.err(), Some("ceremony_needed"));
    }
    house.claim(&waits, "bob").await.unwrap();
    assert_eq!(
        house.redeem(&waits, &house.gitlab.job().claim("job_id", "5").token(AUDIENCE)).await.err(),
        Some("ceremony_mismatch")
    );
    let all = join_all((0..20).map(|at| house.redeem_at(at, &waits, &token))).await;
    assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 1);
    assert_eq!(house.begin(&token).await.err().unwrap().reason.name(), "replay");
    // Of a first use, too.
    let house = House::new("when = \"first_use\"").await;
    let token = house.gitlab.job().token(AUDIENCE);
    let waits = house.begin(&token).await.err().and_then(|refused| refused.waits).unwrap();
    house.claim(&waits, "bob").await.unwrap();
    let all = join_all((0..20).map(|at| house.redeem_at(at, &waits, &token))).await;
    assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn security_123_what_is_over_is_over() {
    let house = House::new("when = \"every\"\nclaim_within = \"10m\"").await;
    let job = house.job();
    // Rejected; withdrawn; expired.
    let waits = house.wait(&job).await;
    let at = UnixSeconds(now());
    assert_eq!(house.desk().reject(waits.ceremony, &lead("bob"), "not now", at).await.unwrap().state, "rejected");
    assert_eq!(house.redeem(&waits, &job.token(AUDIENCE)).await.err(), Some("ceremony_rejected"));
    let waits = house.wait(&job).await;
    let secret = || Secret::new(waits.auth_req_id.as_ref().unwrap().reveal().to_owned());
    house.brokers[0].revoke(secret()).await.unwrap();
    house.brokers[0].revoke(secret()).await.unwrap();
    assert!(matches!(house.claim(&waits, "bob").await, Err(DeskError::Refused(Not::NotNow))));
    assert_eq!(house.redeem(&waits, &job.token(AUDIENCE)).await.err(), Some("ceremony_rejected"));
    let waits = house.wait(&job).await;
    let code = waits.match_code.as_ref().unwrap();
    let late = house.desk().claim(waits.ceremony, &lead("bob"), code, "late", at.plus(700)).await;
    assert!(matches!(late, Err(DeskError::Expired)), "{late:?}");
    assert_eq!(house.redeem(&waits, &job.token(AUDIENCE)).await.err(), Some("ceremony_expired"));
    let waits = house.wait(&job).await;
    assert_eq!(house.desk().expire(at.plus(700)).await.unwrap(), 1);
    assert_eq!(house.desk().expire(at.plus(700)).await.unwrap(), 0);
    assert_eq!(house.redeem(&waits, &job.token(AUDIENCE)).await.err(), Some("ceremony_expired"));
    let how: Vec<_> =
        house.records("ceremony").iter().map(|(body, _)| body["how"].as_str().unwrap().to_owned()).collect();
    assert_eq!(how, ["rejected", "withdrawn", "expired", "expired"]);
    // One repository does not bury people in requests.
    let mut crowded = 0;
    for run in 0..36 {
        let token = job.clone().claim("run_id", run.to_string()).token(AUDIENCE);
        crowded += usize::from(house.begin(&token).await.err().unwrap().reason.name() == "ceremony_crowded");
    }
    assert_eq!(crowded, 4);
}

/// Why it was rejected is told to who opened it, and to no other who joined.
#[tokio::test(flavor = "multi_thread")]
async fn who_opened_it_is_told_why_it_was_rejected() {
    let house = House::new("when = \"first_use\"").await;
    let opened = house.wait(&house.job()).await;
    let zoe = [("run_id", "2".to_owned()), ("actor", "zoe".to_owned()), ("actor_id", id_of("zoe").to_string())];
    let zoe = zoe.into_iter().fold(house.job(), |job, (claim, value)| job.claim(claim, value));
    let joined = house.wait(&zoe).await;
    assert_eq!(joined.ceremony, opened.ceremony);
    house.desk().reject(opened.ceremony, &lead("bob"), "a freeze", UnixSeconds(now())).await.unwrap();
    for (waits, job, said) in [(&opened, house.job(), Some("a freeze")), (&joined, zoe.clone(), None)] {
        for subject in [None, Some(Secret::new(job.token(AUDIENCE)))] {
            let auth_req_id = Secret::new(waits.auth_req_id.as_ref().unwrap().reveal().to_owned());
            let refused =
                house.ask(0, AskedGrant::Poll { auth_req_id, subject, actor: None }, None).await.err().unwrap();
            assert_eq!((refused.reason.name(), refused.said.as_deref()), ("ceremony_rejected", said));
        }
    }
}

/// What stands in answers, and that asking costs nothing.
#[tokio::test]
async fn the_answers_over_http() {
    let (github, gitlab) = (Issuer::github(), Issuer::gitlab());
    let broker = Broker::start(BINARY, config([&github, &gitlab], "when = \"every\"")).await;
    let token = || github.job().token(broker.audience());
    let told = |answer: &Answer| (answer.status, answer.body["error"].as_str().unwrap_or_default().to_owned());
    let dry = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", &token()),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
        ("audience", ROLE),
        ("dry_run", "true"),
    ];
    let would = broker.exchange(&dry).await;
    assert_eq!((would.status, &would.body["pending"]), (200, &json!(true)), "{}", would.text);

    let first = broker.exchange_for(&token(), ROLE).await;
    assert_eq!(told(&first), (400, "authorization_pending".to_owned()), "{}", first.text);
    let uri = first.text_of("claim_uri");
    assert!(uri.starts_with(&format!("{}/claim/", broker.audience())) && !uri.contains(first.text_of("auth_req_id")));
    assert_eq!((first.text_of("match_code").len(), first.text_of("match_words").split(' ').count()), (9, 3));
    assert_eq!(first.body["interval"], 5);
    assert!((3_500..=3_600).contains(&first.body["expires_in"].as_i64().unwrap()), "{}", first.text);

    let id = first.text_of("auth_req_id");
    let before = records::all(&broker).len();
    let poll = broker.exchange(&[("grant_type", CIBA), ("auth_req_id", id)]).await;
    assert_eq!(told(&poll), (400, "authorization_pending".to_owned()), "{}", poll.text);
    assert!(poll.body.get("match_code").is_none() && poll.body.get("auth_req_id").is_none(), "{}", poll.text);
    let soon = broker.exchange(&[("grant_type", CIBA), ("auth_req_id", id)]).await;
    assert_eq!(told(&soon), (400, "slow_down".to_owned()));
    assert_eq!(records::all(&broker).len(), before, "asking writes nothing");
    let unknown = format!("cbq_{}", "A".repeat(43));
    for other in ["x", &unknown] {
        let answer = broker.exchange(&[("grant_type", CIBA), ("auth_req_id", other)]).await;
        assert_eq!(told(&answer), (400, "invalid_grant".to_owned()), "{}", answer.text);
    }
    for more in [("actor_token", "x"), ("dry_run", "true")] {
        let answer = broker.exchange(&[("grant_type", CIBA), ("auth_req_id", id), more]).await;
        assert_eq!(told(&answer), (400, "invalid_request".to_owned()), "{}", answer.text);
    }
    let early = broker.exchange(&[("grant_type", CIBA), ("auth_req_id", id), ("subject_token", &token())]).await;
    assert_eq!(told(&early), (400, "authorization_pending".to_owned()));
    assert_eq!(broker.revoke(id).await.status, 200);
    let over = broker.exchange(&[("grant_type", CIBA), ("auth_req_id", id), ("subject_token", &token())]).await;
    assert_eq!(told(&over), (400, "access_denied".to_owned()), "{}", over.text);
    assert!(over.text_of("error_description").starts_with("The request was rejected or withdrawn"), "{}", over.text);

    let again = broker.exchange_for(&token(), ROLE).await;
    assert_eq!(told(&again).1, "authorization_pending");
    let listed = broker.command(&["ceremonies", "--config", "claimbound.toml"]).await;
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    assert!(listed.stdout.contains("pending   live by hub for acme/payments-api"), "{}", listed.stdout);
    let secrets = [id, again.text_of("auth_req_id"), again.text_of("match_code"), first.text_of("match_code")];
    canary::assert_absent(broker.directory(), &secrets);
}

/// One message when it is opened, none when another job joins, one when it is claimed: with a link, and without a code.
#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hook = format!(
        "[[webhook]]\nname = \"hook\"\nurl = \"http://{}/h\"\nformat = \"slack\"\nallow_private_network = true",
        listener.local_addr().unwrap()
    );
    let (github, gitlab) = (Issuer::github(), Issuer::gitlab());
    let folder = tempfile::tempdir().unwrap();
    let toml = config([&github, &gitlab], "when = \"first_use\"").server(&format!("public_url = \"{AUDIENCE}\""));
    toml.toml(&hook).write(folder.path(), "127.0.0.1:0", "127.0.0.1:0");
    let url = format!("sqlite:{}/claimbound.db", folder.path().display());
    let mut house = House { clock: Arc::default(), github, gitlab, brokers: vec![], folder, url };
    house.start().await;
    let told = async || {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        while !text.ends_with("\"}") {
            let mut buffer = [0; 2048];
            let read = stream.read(&mut buffer).await.unwrap();
            text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
        text
    };
    let waits = house.wait(&house.job()).await;
    let opened = told().await;
    assert!(opened.contains("Somebody must answer for it: a job of acme/payments-api (id 740000001)"), "{opened}");
    assert!(opened.contains(&format!("{AUDIENCE}/claim/{}", waits.ceremony)), "{opened}");
    let joins = house.wait(&house.job().claim("run_id", "17000000009")).await;
    assert_eq!(joins.ceremony, waits.ceremony);
    house.claim(&waits, "bob").await.unwrap();
    let claimed = told().await;
    assert!(claimed.contains("Claimed: a job of acme/payments-api"), "the join was told to nobody: {claimed}");
    for secret in
        [&waits, &joins].map(|waits| (waits.auth_req_id.as_ref().unwrap(), waits.match_code.as_ref().unwrap()))
    {
        for text in [secret.0.reveal(), secret.1.reveal(), "bob"] {
            assert!(!opened.contains(text) && !claimed.contains(text), "{text}");
        }
    }

    // Asked for under another rule: what was open is withdrawn for what takes its place.
    let next = house.job().branch("next").token(AUDIENCE);
    let before = house.begin(&next).await.err().and_then(|refused| refused.waits).unwrap().ceremony.to_string();
    assert!(told().await.contains(&before));
    house.rewrite("when = \"first_use\"", "when = \"first_use\"\nquorum = 2");
    house.go_on(0).await;
    let instead = house.wait(&house.job().branch("next")).await;
    let (withdrawn, opened) = (told().await, told().await);
    assert!(withdrawn.contains("Withdrawn: a job of acme/payments-api") && withdrawn.contains(&before), "{withdrawn}");
    assert!(opened.contains("Somebody must answer") && opened.contains(&instead.ceremony.to_string()), "{opened}");
    assert_eq!(house.records("refused").pop().unwrap().1["withdrawn"], before);
    // And a suspension ends what waits, and what stood claimed.
    let suspend = Suspend {
        subject: Subject::new(Scope::Repository, "github", "740000001"),
        reason: "odd".into(),
        seconds: Some(1),
        revoke: false,
        force: true,
    };
    house.operate(Deed::Suspend(suspend)).await;
    house.desk().expire(house.clock.now()).await.unwrap();
    let withdrawn = told().await;
    assert!(withdrawn.contains("Withdrawn: a job of") && withdrawn.contains(&instead.ceremony.to_string()));
    house.desk().lapse(house.clock.now()).await.unwrap();
    let lapsed = told().await;
    assert!(lapsed.contains("Lapsed: live has to be claimed anew") && lapsed.contains(&waits.ceremony.to_string()));
    assert_eq!(house.records("ceremony").pop().unwrap().0["how"], "voided");
    house.brokers[0].stop().await;
}

/// Whoever comes with a handoff is not the job that would come back for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_handoff_does_not_wait_for_people() {
    let actor = "[mapping.actor.match]\nissuer = \"gitlab\"\nrepository = { name = \"acme/bot\", id = 7 }";
    let house = House::new(&format!("when = \"every\"\n{actor}")).await;
    let grant = AskedGrant::Promise {
        subject: Secret::new(house.job().token(AUDIENCE)),
        may_act_iss: house.gitlab.url().to_owned(),
        may_act_sub: "project_path:acme/bot:ref_type:branch:ref:main".into(),
    };
    assert_eq!(house.ask(0, grant, Some(ROLE)).await.err().unwrap().reason.name(), "ceremony_direct");
    let [(refused, _)] = house.records("refused").try_into().unwrap();
    assert_eq!((&refused["reason"], &refused["ceremony"]), (&json!("ceremony_direct"), &Value::Null));
    house.wait(&house.job()).await;
}
