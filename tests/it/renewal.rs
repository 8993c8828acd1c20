//! Renewal over HTTP: jobs that cannot mint again go on with refresh tokens, one turn each.

use crate::{BINARY, records};
use claimbound::{
    broker::{Asked, AskedGrant, Broker as InProcess},
    config::Config,
    exchange::{Granted, Issued},
    operate::{Deed, Done, Resume, Revoke, Suspend},
    operators::{May, Operator},
    secret::Secret,
    store::{Scope, Subject, leases::LeaseFilter},
};
use claimbound_core::time::{Clock, UnixSeconds};
use claimbound_test_support::{
    broker::Broker,
    canary,
    config::BrokerConfig,
    http::Answer,
    issuer::Issuer,
    jwt::{self, Key},
    postgres::Postgres,
    time::{eventually, now},
};
use futures_util::future::join_all;
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

pub const ROLE: &str = "search-index";
pub const AUDIENCE: &str = "https://index.acme.example";

const POLICY: &str = "format = 1\n[issuer.gitlab]\nprofile = \"gitlab\"\nurl = \"{issuer.gitlab}\"\nowners = { acme = 65 }\n\
    [team.search]\npath = \"teams/search\"\nissuers = [\"gitlab\"]\n";
const ROLES: &str = "[role.search-index]\ndescription = \"Write the index\"\nbackend = \"jwt\"\nteams = [\"search\"]\n\
    issuers = [\"gitlab\"]\nsensitivity = \"internal\"\nmax_duration = \"15m\"\n[role.search-index.jwt]\n\
    audience = \"https://index.acme.example\"\n";
const MAPPINGS: &str = "[file]\nissuer = \"gitlab\"\n[[mapping]]\nname = \"index\"\ndescription = \"Main builds the index\"\n\
    roles = [\"search-index\"]\n[mapping.match]\nrepository = { name = \"acme/payments-api\", id = 740000001 }\n\
    branch = \"main\"\n";

/// Jobs of GitLab may have one role.
pub fn config(gitlab: &Issuer) -> BrokerConfig {
    let files = [("policy.toml", POLICY), ("roles/search.toml", ROLES), ("teams/search/index.toml", MAPPINGS)];
    BrokerConfig::with_folder(&files).issuer("gitlab", gitlab)
}

pub async fn renew(broker: &Broker, refresh: &str, subject: &str) -> Answer {
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh), ("subject_token", subject)];
    broker.exchange(&form).await
}

pub fn refresh_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.text_of("refresh_token").to_owned()
}

#[track_caller]
fn assert_refused(answer: &Answer, reason: &str) {
    let told = (answer.status, &answer.body["error"], &answer.body["reason"]);
    assert_eq!(told, (400, &json!("invalid_grant"), &json!(reason)), "{}", answer.text);
    assert!(answer.body.get("access_token").is_none() && answer.body.get("nearest").is_none(), "{}", answer.text);
}

async fn verify(broker: &Broker) {
    let verified = broker.command(&["audit", "verify"]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
}

#[tokio::test]
async fn a_job_that_cannot_mint_again_goes_on_with_refresh_tokens() {
    let gitlab = Issuer::gitlab();
    let broker = Broker::start(BINARY, config(&gitlab)).await;
    let subject = gitlab.job().token(broker.audience());
    let first = broker.exchange_for(&subject, ROLE).await;
    let mut refresh = refresh_of(&first);
    assert!(refresh.starts_with("cbr_") && refresh.len() == 90, "{refresh}");
    let left = first.body["refresh_expires_in"].as_i64().unwrap();
    assert!((3_500..=3_600).contains(&left), "as long as the token lasts: {left}");
    let mut given = vec![refresh.clone()];
    let mut leases = vec![first.body["lease_id"].clone()];
    for _ in 0..3 {
        let next = renew(&broker, &refresh, &subject).await;
        refresh = refresh_of(&next);
        assert!(!given.contains(&refresh) && !leases.contains(&next.body["lease_id"]), "{}", next.text);
        assert_eq!((&next.body["role"], &next.body["expires_in"]), (&json!(ROLE), &json!(900)));
        let claims = jwt::claims_of(next.text_of("access_token"));
        assert_eq!((&claims["aud"], &claims["lease_id"]), (&json!(AUDIENCE), &next.body["lease_id"]));
        given.push(refresh.clone());
        leases.push(next.body["lease_id"].clone());
    }
    let granted = records::of_kind(&broker, "granted");
    assert_eq!(granted.len(), 4);
    assert!(granted.iter().all(|body| body["family"] == leases[0] && body["principal"]["id"] == "740000001"));

    // The family ends by what its last token was, and its leases with it; nothing else goes on.
    assert_eq!(broker.revoke(&refresh).await.status, 200);
    assert_refused(&renew(&broker, &refresh, &subject).await, "refresh_ended");
    assert_eq!(broker.revoke(&refresh).await.status, 200, "also when there is nothing left to end");
    let ended = records::of_kind(&broker, "family_ended");
    assert_eq!(ended.len(), 1);
    assert_eq!((&ended[0]["family"], &ended[0]["effect"]), (&leases[0], &json!("where_checked")));
    assert!(records::of_kind(&broker, "ended").is_empty(), "one record tells of all");
    verify(&broker).await;
    given.push(subject);
    canary::assert_absent(broker.directory(), &given.iter().map(String::as_str).collect::<Vec<_>>());
}

#[tokio::test]
async fn jobs_that_can_mint_again_get_none() {
    let github = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&github)).await;
    let token = github.job().branch("main").environment("production").token(broker.audience());
    let answer = broker.exchange_for(&token, "payments-release").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.body.get("refresh_token").is_none() && answer.body.get("refresh_expires_in").is_none());
    assert!(records::of_kind(&broker, "granted")[0].get("family").is_none());
}

/// Neither half is worth anything without the other, and no refusal costs the family its turn.
#[tokio::test]
async fn a_refresh_token_goes_with_its_own_token_and_role() {
    let gitlab = Issuer::gitlab();
    let broker = Broker::start(BINARY, config(&gitlab)).await;
    let audience = broker.audience();
    let [mine, other, unused] = std::array::from_fn(|_| gitlab.job().token(audience));
    let refresh = refresh_of(&broker.exchange_for(&mine, ROLE).await);
    let others = refresh_of(&broker.exchange_for(&other, ROLE).await);

    let alone = broker.exchange(&[("grant_type", "refresh_token"), ("refresh_token", &refresh)]).await;
    assert_eq!((alone.status, &alone.body["error"]), (400, &json!("invalid_request")), "{}", alone.text);
    let forged = gitlab.job().token_by(&Key::rs256().with_kid(gitlab.key().kid()), audience);
    let elsewhere = gitlab.job().token("https://other.example");
    for stranger in [forged.as_str(), "x.y.z", &elsewhere, &refresh] {
        let answer = renew(&broker, &refresh, stranger).await;
        assert_eq!((answer.status, &answer.body["reason"]), (400, &json!("token_not_accepted")), "{}", answer.text);
    }
    assert_refused(&renew(&broker, &refresh, &other).await, "refresh_mismatch");
    assert_refused(&renew(&broker, &others, &mine).await, "refresh_mismatch");
    let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", &*refresh), ("subject_token", &*mine)];
    form.push(("audience", "another-role"));
    assert_refused(&broker.exchange(&form).await, "refresh_mismatch");
    let mut unknown = refresh.clone();
    unknown.replace_range(10..20, "AAAAAAAAAA");
    for text in [unknown.as_str(), "cbr_", "anything"] {
        assert_refused(&renew(&broker, text, &mine).await, "grant_unknown");
    }
    // A token that was good for something else is spent by its first answer.
    assert_refused(&renew(&broker, &unknown, &unused).await, "grant_unknown");
    let spent = broker.exchange_for(&unused, ROLE).await;
    assert_eq!((spent.status, &spent.body["reason"]), (400, &json!("replay")), "{}", spent.text);

    form[3] = ("role", ROLE);
    form.push(("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"));
    form.push(("requested_expires_in", "60"));
    let answer = broker.exchange(&form).await;
    assert_eq!((answer.status, &answer.body["expires_in"]), (200, &json!(60)), "{}", answer.text);
    refresh_of(&renew(&broker, &others, &other).await);
    let again = broker.exchange_for(&mine, ROLE).await;
    assert_eq!(
        (again.status, &again.body["reason"]),
        (400, &json!("replay")),
        "a renewal frees no token: {}",
        again.text
    );
    verify(&broker).await;
}

#[tokio::test]
async fn a_refresh_token_that_comes_again_ends_its_family_and_alarms() {
    let gitlab = Issuer::gitlab();
    let broker = Broker::start(BINARY, config(&gitlab)).await;
    let subject = gitlab.job().token(broker.audience());
    let first = broker.exchange_for(&subject, ROLE).await;
    let stolen = refresh_of(&first);
    let second = refresh_of(&renew(&broker, &stolen, &subject).await);
    // The answer was lost: once more, and what it held is no good.
    let again = refresh_of(&renew(&broker, &stolen, &subject).await);
    let last = refresh_of(&renew(&broker, &again, &subject).await);
    assert!(records::of_kind(&broker, "refused").is_empty());

    let reused = renew(&broker, &second, &subject).await;
    assert_refused(&reused, "refresh_reused");
    assert_refused(&renew(&broker, &last, &subject).await, "refresh_ended");
    let (body, details) = records::the_one(&broker, reused.text_of("decision_id")).await;
    assert_eq!((&body["kind"], &body["family"]), (&json!("refused"), &first.body["lease_id"]));
    assert_eq!((&body["role"], &details["address"]), (&json!(ROLE), &json!("127.0.0.1")));
    let counted = broker.metrics().await.sum("claimbound_exchanges_total", &[("reason", "refresh_reused")]);
    assert_eq!(counted, 1.0);
    assert!(broker.log().contains("a refresh token came again"), "somebody is told");
    assert_eq!(broker.revoke(first.text_of("access_token")).await.status, 200);
    assert!(records::of_kind(&broker, "ended").is_empty(), "its leases had ended with it");
    verify(&broker).await;
}

/// What the mappings say now counts, and the issuer's keys.
#[tokio::test]
async fn a_renewal_is_decided_by_the_mappings_of_now() {
    let gitlab = Issuer::gitlab();
    let mut broker = Broker::start(BINARY, config(&gitlab)).await;
    let subject = gitlab.job().token(broker.audience());
    let mut refresh = refresh_of(&broker.exchange_for(&subject, ROLE).await);
    broker.rewrite(config(&gitlab).edit("teams/search/index.toml", "branch = \"main\"", "branch = \"other\""));
    broker.signal("HUP").await;
    let refused = eventually(Duration::from_secs(60), async || {
        let answer = renew(&broker, &refresh, &subject).await;
        if answer.status == 200 {
            refresh = refresh_of(&answer);
            return None;
        }
        Some(answer)
    });
    let refused = refused.await;
    assert_eq!((refused.status, &refused.body["reason"]), (400, &json!("no_mapping")), "{}", refused.text);
    broker.rewrite(config(&gitlab));
    broker.signal("HUP").await;
    eventually(Duration::from_secs(60), async || {
        let answer = renew(&broker, &refresh, &subject).await;
        assert!(
            answer.status == 200 || answer.body["reason"] == "no_mapping",
            "a denial takes no turn: {}",
            answer.text
        );
        (answer.status == 200).then_some(())
    })
    .await;
}

/// A clock in the test's hand: so many seconds after the system's.
#[derive(Default)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(now() + self.0.load(Ordering::Relaxed))
    }
}

/// A broker in this process, whose clock goes as the test says.
struct Timed {
    broker: Arc<InProcess>,
    hand: Arc<Hand>,
    subject: String,
    _folder: tempfile::TempDir,
}

impl Timed {
    async fn start(gitlab: &Issuer, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config(gitlab).server("public_url = \"https://cb.example\"");
        let config = config.edit("teams/search/index.toml", "[mapping.match]", &format!("{more}\n[mapping.match]"));
        config.write(folder.path(), "127.0.0.1:0", "127.0.0.1:0");
        let config = Config::read(&folder.path().join("claimbound.toml"), true).unwrap();
        let hand = Arc::new(Hand::default());
        let broker = InProcess::start(config, hand.clone()).await.unwrap();
        Self { broker, hand, subject: gitlab.job().token("https://cb.example"), _folder: folder }
    }

    async fn ask(&self, grant: AskedGrant) -> Result<Issued, &'static str> {
        let asked = Asked {
            grant,
            role: None,
            scope: None,
            duration: None,
            dry_run: false,
            digest: [0; 32],
            address: None,
            caller: None,
            sts: None,
        };
        match self.broker.exchange(asked).await.outcome {
            Ok(Granted::Issued(issued)) => Ok(issued),
            Ok(Granted::DryRun { .. }) => panic!("nobody asked for one"),
            Err(refused) => Err(refused.reason.name()),
        }
    }

    async fn first(&self) -> Issued {
        let subject = Secret::new(self.subject.clone());
        self.ask(AskedGrant::Tokens { subject, actor: None }).await.unwrap()
    }

    /// So many seconds after the start.
    async fn renew(&self, before: &Issued, after: i64) -> Result<Issued, &'static str> {
        self.hand.0.store(after, Ordering::Relaxed);
        let token = Secret::new(before.refresh.as_ref().unwrap().token.reveal().to_owned());
        self.ask(AskedGrant::Refresh { token, subject: Secret::new(self.subject.clone()) }).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_the_token_unless_the_mapping_says_longer() {
    let gitlab = Issuer::gitlab();
    let started = now();
    let timed = Timed::start(&gitlab, "").await;
    let first = timed.first().await;
    let end = first.refresh.as_ref().unwrap().expires;
    assert_eq!(end.0, jwt::claims_of(&timed.subject)["exp"].as_i64().unwrap());
    let late = timed.renew(&first, 3_000).await.unwrap();
    assert_eq!((late.expires, late.refresh.as_ref().unwrap().expires), (end, end), "no renewal outlives the session");
    assert_eq!(timed.renew(&late, 3_700).await.err(), Some("refresh_ended"), "also within the leeway of `exp`");
    timed.broker.stop().await;

    // Past the token's expiry, and no further than the mapping says.
    let timed = Timed::start(&gitlab, "max_session = \"2h\"").await;
    let first = timed.first().await;
    let end = first.refresh.as_ref().unwrap().expires;
    assert!((started + 7_200..=now() + 7_200).contains(&end.0));
    let later = timed.renew(&first, 5_400).await.unwrap();
    assert_eq!(later.refresh.as_ref().unwrap().expires, end);
    assert_eq!(timed.renew(&first, 5_431 + 5).await.err(), Some("refresh_reused"), "it had its turn, and its grace");
    assert_eq!(timed.renew(&later, 5_500).await.err(), Some("refresh_ended"));
    // An expired token is good for nothing else.
    let other = AskedGrant::Tokens { subject: Secret::new(gitlab.job().token("https://cb.example")), actor: None };
    assert_eq!(timed.ask(other).await.err(), Some("exp"));
    timed.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_count_towards_the_mappings_limit_and_shorten_with_it() {
    let gitlab = Issuer::gitlab();
    let timed = Timed::start(&gitlab, "max_session = \"30m\"\n[mapping.limit]\nper_hour = 2").await;
    let second = timed.renew(&timed.first().await, 60).await.unwrap();
    assert_eq!(timed.renew(&second, 120).await.err(), Some("mapping_limit"));
    assert_eq!(timed.renew(&second, 130).await.err(), Some("mapping_limit"), "what was refused took no turn");
    assert_eq!(timed.renew(&second, 1_900).await.err(), Some("refresh_ended"));
    timed.broker.stop().await;
}

/// What an operator suspends is not renewed; what one ends is not renewed either, also where no lease of it is left.
#[tokio::test(flavor = "multi_thread")]
async fn renewals_end_with_what_operators_suspend_and_end() {
    let gitlab = Issuer::gitlab();
    let timed = Timed::start(&gitlab, "max_session = \"2h\"").await;
    let subject = || Subject::new(Scope::Repository, "gitlab", "740000001");
    let reason = || "an incident".to_owned();
    let operate = |deed| timed.broker.operate(Operator::new("okta:alice", May::ALL), deed);
    let suspend =
        |revoke| Deed::Suspend(Suspend { subject: subject(), reason: reason(), seconds: None, revoke, force: false });
    let resume = |leave_leases| Deed::Resume(Resume { subject: subject(), reason: reason(), leave_leases });

    let first = timed.first().await;
    operate(suspend(false)).await.unwrap();
    assert_eq!(timed.renew(&first, 60).await.err(), Some("suspended"));
    timed.hand.0.store(1_000, Ordering::Relaxed);
    let error = operate(resume(false)).await.unwrap_err();
    assert!(error.to_string().contains("can be renewed"), "its lease is over, its family is not: {error}");
    operate(resume(true)).await.unwrap();
    let second = timed.renew(&first, 1_100).await.expect("what was refused took no turn");

    timed.hand.0.store(3_000, Ordering::Relaxed);
    let Done::Suspended(suspended) = operate(suspend(true)).await.unwrap() else { panic!("a suspension") };
    let revoked = suspended.revoked.unwrap();
    assert_eq!((revoked.count, revoked.families), (0, 1), "both leases are over");
    operate(resume(false)).await.unwrap();
    assert_eq!(timed.renew(&second, 3_100).await.err(), Some("refresh_ended"));
    timed.broker.stop().await;

    // A lease that is named ends with its family, and with the family's other leases.
    let timed = Timed::start(&gitlab, "").await;
    let operate = |deed| timed.broker.operate(Operator::new("okta:alice", May::ALL), deed);
    let first = timed.first().await;
    let second = timed.renew(&first, 60).await.unwrap();
    for dry_run in [true, false] {
        let leases = LeaseFilter { lease: Some(second.lease), ..LeaseFilter::default() };
        let Done::Revoked(revoked) = operate(Deed::Revoke(Revoke { leases, reason: reason(), dry_run })).await.unwrap()
        else {
            panic!("leases that were ended")
        };
        assert_eq!((revoked.count, revoked.families), (2, 1), "{dry_run}");
    }
    assert_eq!(timed.renew(&second, 70).await.err(), Some("refresh_ended"));
    timed.broker.stop().await;
}

/// Two brokers over one store: a turn is taken once, and a family ends for both.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_taken_once_by_all_replicas() {
    let (gitlab, server) = (Issuer::gitlab(), Postgres::start());
    let config = config(&gitlab).store(&server.url()).server("public_url = \"https://cb.example\"");
    let one = Broker::start(BINARY, config).await;
    let brokers = [one.replica().await, one];
    for _ in 0..4 {
        let subject = gitlab.job().token(brokers[0].audience());
        let first = refresh_of(&brokers[0].exchange_for(&subject, ROLE).await);
        let second = refresh_of(&renew(&brokers[1], &first, &subject).await);
        let third = refresh_of(&renew(&brokers[0], &second, &subject).await);
        // At once: one takes the turn, one comes again in time, the rest are found out.
        let answers = join_all((0..6).map(|at| renew(&brokers[at % 2], &third, &subject))).await;
        let granted: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
        let reasons: Vec<_> = answers.iter().filter(|a| a.status != 200).map(|a| &a.body["reason"]).collect();
        assert_eq!(granted.len(), 2, "{reasons:?}");
        assert!(reasons.contains(&&json!("refresh_reused")), "{reasons:?}");
        assert!(reasons.iter().all(|reason| ["refresh_reused", "refresh_ended"].contains(&reason.as_str().unwrap())));
        for (broker, answer) in brokers.iter().zip(granted) {
            assert_refused(&renew(broker, &refresh_of(answer), &subject).await, "refresh_ended");
        }
    }
    verify(&brokers[0]).await;
}
