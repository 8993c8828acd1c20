//! Tokens of ours that come back: exchanged downstream by whom they were made for, and handoffs. No way of exchanges gives
//! less of a chain, more scope or more time, and what began it ends all of it.

use crate::{BINARY, introspection, records};
use claimbound::{
    broker::{Asked, AskedGrant, Broker as InProcess, SystemClock},
    config::Config,
    exchange::Granted,
    issuance::Credential,
    operate::{Deed, Done, List, Listed, Resume, Revoke, Revoked, Suspend},
    operators::{May, Operator},
    secret::Secret,
    store::{self, Scope, Subject, leases::LeaseFilter},
};
use claimbound_core::time::Seconds;
use claimbound_test_support::{
    broker::{Broker, ID_TOKEN, TOKEN_EXCHANGE},
    config::BrokerConfig,
    http::Answer,
    issuer::Issuer,
    job::Job,
    jwt,
};
use serde_json::{Value, json};
use std::{fmt::Write as _, fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

const HANDOFF: &str = "urn:claimbound:params:oauth:token-type:handoff";
const ON: &str = "[exchange]\nown_tokens = true\n";
/// Of brokers in this process.
const HERE: &str = "https://cb.example";

const POLICY: &str = r#"format = 1
[issuer.github]
profile = "github-actions"
url = "{issuer.github}"
owners = { acme = 65 }
[issuer.cluster]
profile = "kubernetes"
url = "{issuer.cluster}"
tenancy = "single"
[team.payments]
path = "teams/payments"
"#;

/// Every role's tokens are for its own name's audience.
const ROLES: [&str; 7] = ["deploy", "read", "deep", "shallow", "again", "release", "either"];

/// For a job of payments-api: what it asks of who acts.
const MAPPINGS: [(&str, &str, &str); 9] = [
    ("by-itself", "deploy", ""),
    ("may-be-acted-for", "either", "[mapping.actor.match]\nissuer = \"cluster\"\nsubject = \"agents:deployer\"\n"),
    ("deployer-reads", "read", "[mapping.actor]\naudience = \"https://deploy.acme.example\"\n{deployer}"),
    ("reader-goes-deep", "deep", "[mapping.actor]\naudience = \"https://read.acme.example\"\nmax_depth = 2\n{reader}"),
    ("reader-stays", "shallow", "[mapping.actor]\naudience = \"https://read.acme.example\"\n{reader}"),
    ("deployer-again", "again", "[mapping.actor]\naudience = \"https://deep.acme.example\"\nmax_depth = 5\n{deployer}"),
    ("by-the-agent", "release", "[mapping.actor]\nrequired = true\n{deployer}"),
    // The same role both ways: they never meet.
    ("deployer-itself", "read", "[mapping.actor]\nrequired = true\n{deployer}"),
    ("onward-from-either", "either", "[mapping.actor]\naudience = \"https://either.acme.example\"\n{reader}"),
];

fn subject(name: &str) -> String {
    format!("system:serviceaccount:agents:{name}")
}

fn role(name: &str) -> String {
    format!(
        "[role.{name}]\ndescription = \"For tests\"\nbackend = \"jwt\"\nteams = [\"payments\"]\nissuers = [\"github\"]\n\
         sensitivity = \"internal\"\n[role.{name}.jwt]\naudience = \"https://{name}.acme.example\"\n"
    )
}

fn mapping(name: &str, role: &str, acting: &str) -> String {
    let of = |name: &str| format!("[mapping.actor.match]\nissuer = \"cluster\"\nsubject = \"{}\"\n", subject(name));
    let acting = acting.replace("agents:deployer\"", &format!("{}\"", subject("deployer")));
    let acting = acting.replace("{deployer}", &of("deployer")).replace("{reader}", &of("reader"));
    format!(
        "[[mapping]]\nname = \"{name}\"\nissuer = \"github\"\ndescription = \"For tests\"\nroles = [\"{role}\"]\n\
         [mapping.match]\nrepository = {{ name = \"acme/payments-api\", id = 740000001 }}\n{acting}\n"
    )
}

struct House {
    github: Issuer,
    cluster: Issuer,
}

impl House {
    fn new() -> Self {
        Self { github: Issuer::github(), cluster: Issuer::github() }
    }

    fn with(&self, roles: &str, mappings: &str) -> BrokerConfig {
        let files = [("policy.toml", POLICY), ("roles/payments.toml", roles), ("teams/payments/a.toml", mappings)];
        BrokerConfig::with_folder(&files).issuer("github", &self.github).issuer("cluster", &self.cluster)
    }

    fn config(&self) -> BrokerConfig {
        let roles: String = ROLES.iter().map(|name| role(name)).collect();
        let mappings: String = MAPPINGS.iter().map(|(name, role, acting)| mapping(name, role, acting)).collect();
        self.with(&roles, &mappings)
    }

    async fn broker(&self) -> Broker {
        Broker::start(BINARY, self.config().toml(ON)).await
    }

    fn job(&self) -> Job<'_> {
        self.github.job().branch("main")
    }

    fn pod(&self, name: &str) -> Job<'_> {
        let account = json!({ "name": name, "uid": uid(name) });
        let claims = json!({ "namespace": "agents", "serviceaccount": account });
        self.cluster.job().claim("sub", subject(name)).claim("kubernetes.io", claims)
    }

    fn act(&self, names: &[&str]) -> Value {
        let one = |inner: Option<Value>, name: &&str| {
            let mut act = json!({ "iss": self.cluster.url(), "sub": subject(name) });
            if let Some(inner) = inner {
                act["act"] = inner;
            }
            Some(act)
        };
        names.iter().rev().fold(None, one).unwrap_or_default()
    }
}

fn uid(name: &str) -> String {
    format!("2b0f4a1e-0000-4000-8000-{:012x}", name.bytes().map(u64::from).sum::<u64>())
}

/// Our token, and a pod's beside it.
async fn onward(broker: &Broker, house: &House, token: &str, by: &str, role: &str, more: &[(&str, &str)]) -> Answer {
    let actor = house.pod(by).token(broker.audience());
    send(broker, token, ID_TOKEN, Some(&actor), role, more).await
}

async fn send(
    broker: &Broker,
    token: &str,
    kind: &str,
    actor: Option<&str>,
    role: &str,
    more: &[(&str, &str)],
) -> Answer {
    let mut form = vec![("grant_type", TOKEN_EXCHANGE), ("subject_token", token), ("subject_token_type", kind)];
    if let Some(actor) = actor {
        form.extend([("actor_token", actor), ("actor_token_type", ID_TOKEN)]);
    }
    if !role.is_empty() {
        form.push(("audience", role));
    }
    form.extend(more);
    broker.exchange(&form).await
}

#[track_caller]
fn refused(answer: &Answer, reason: &str) {
    assert_eq!((answer.status, &answer.body["reason"]), (400, &json!(reason)), "{}", answer.text);
    assert!(answer.body.get("access_token").is_none(), "{}", answer.text);
}

#[track_caller]
fn token(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.text_of("access_token").to_owned()
}

async fn verified(broker: &Broker) {
    let verified = broker.command(&["audit", "verify"]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
}

#[tokio::test]
async fn security_105_a_token_of_ours_goes_downstream_with_its_chain() {
    let house = House::new();
    let broker = house.broker().await;
    let first = broker.exchange_for(&house.job().token(broker.audience()), "deploy").await;
    let began = jwt::claims_of(&token(&first));
    assert!(began.get("act").is_none());
    let read = onward(&broker, &house, &token(&first), "deployer", "read", &[]).await;
    let told = jwt::claims_of(&token(&read));
    assert_eq!(told["sub"], "role:read:github:740000001", "the job's, whoever acts");
    assert_eq!((&told["principal"], &told["act"]), (&began["principal"], &house.act(&["deployer"])));
    assert!(told["exp"].as_i64() <= began["exp"].as_i64());
    let (body, details) = records::the_one(&broker, read.text_of("decision_id")).await;
    assert_eq!((&body["parent"], &body["mapping"]), (&first.body["lease_id"], &json!("deployer-reads")));
    assert_eq!((&body["principal"]["id"], &body["actor"]["id"]), (&json!("740000001"), &json!(uid("deployer"))));
    assert_eq!(details["downstream"], json!({ "audience": "https://deploy.acme.example", "act": null }));
    assert_eq!(details["claims"]["repository"], "acme/payments-api", "the job's, for whoever judges again");
    // Who holds it may come again, as long as its lease lives.
    assert_eq!(onward(&broker, &house, &token(&first), "deployer", "", &[]).await.status, 200, "the one possible role");
    let deep = onward(&broker, &house, &token(&read), "reader", "deep", &[]).await;
    let told = jwt::claims_of(&token(&deep));
    assert_eq!((&told["principal"], &told["act"]), (&began["principal"], &house.act(&["reader", "deployer"])));
    let (body, details) = records::the_one(&broker, deep.text_of("decision_id")).await;
    assert_eq!(body["parent"], read.body["lease_id"]);
    assert_eq!(details["actors"].as_array().map(Vec::len), Some(2));
    // The same folder says the same again, by the record and on a laptop.
    let again = broker.command(&["explain", "--decision", deep.text_of("decision_id")]).await;
    assert_eq!(again.code, Some(0), "{}{}", again.stdout, again.stderr);
    assert!(again.stdout.contains("actor.audience: expected `https://read.acme.example`"), "{}", again.stdout);
    let [job, actor] = ["job.json", "actor.json"].map(|name| broker.directory().join(name));
    fs::write(&job, house.job().claims(broker.audience()).to_string()).unwrap();
    fs::write(&actor, house.pod("deployer").claims(broker.audience()).to_string()).unwrap();
    let arguments = ["explain", "--claims", "job.json", "--actor-claims", "actor.json", "--role", "read"];
    let plain = broker.command(&arguments).await;
    assert!(plain.stdout.starts_with("grant: mapping `deployer-itself`"), "{}", plain.stdout);
    let onward = [&arguments[..], &["--token-audience", "https://deploy.acme.example"]].concat();
    let onward = broker.command(&onward).await;
    assert!(onward.stdout.starts_with("grant: mapping `deployer-reads`"), "{}", onward.stdout);
    // A token that has 30 seconds left gives no more.
    let job = house.job().token(broker.audience());
    let short = token(&send(&broker, &job, ID_TOKEN, None, "deploy", &[("requested_expires_in", "30")]).await);
    let clamped = self::onward(&broker, &house, &short, "deployer", "read", &[("requested_expires_in", "900")]).await;
    let exp = |token: &str| jwt::claims_of(token)["exp"].as_i64().unwrap();
    assert!(
        exp(&token(&clamped)) <= exp(&short) && clamped.body["expires_in"].as_i64() <= Some(30),
        "{}",
        clamped.text
    );
    verified(&broker).await;
}

#[tokio::test]
async fn security_106_what_is_not_exchanged_downstream() {
    let house = House::new();
    let closed = Broker::start(BINARY, house.config()).await;
    let first = token(&closed.exchange_for(&house.job().token(closed.audience()), "deploy").await);
    refused(&onward(&closed, &house, &first, "deployer", "read", &[]).await, "token_not_accepted");
    drop(closed);

    let mut broker = house.broker().await;
    let granted = broker.exchange_for(&house.job().token(broker.audience()), "deploy").await;
    let first = token(&granted);
    let to = async |token: &str, by: &str, role: &str| onward(&broker, &house, token, by, role, &[]).await;
    refused(&send(&broker, &first, ID_TOKEN, None, "read", &[]).await, "actor_needed");
    refused(&broker.exchange_for(&first, "deploy").await, "actor_needed");
    refused(&to(&first, "stranger", "read").await, "actor_not_allowed");
    refused(&to(&first, "reader", "deep").await, "actor_not_allowed");
    refused(&to(&first, "deployer", "nothing").await, "no_mapping");
    // An ordinary mapping takes no token of ours, and one for downstream exchanges no job.
    refused(&to(&first, "deployer", "release").await, "actor_not_allowed");
    let job = house.job().token(broker.audience());
    let pod = house.pod("reader").token(broker.audience());
    refused(&send(&broker, &job, ID_TOKEN, Some(&pod), "deep", &[]).await, "actor_not_allowed");
    refused(&broker.exchange_for(&house.job().token(broker.audience()), "deep").await, "actor_needed");
    // What is refused tells nothing of the job: its token is in other hands.
    let told = to(&first, "stranger", "read").await;
    assert!(told.body.get("claims").is_none() && told.body.get("nearest").is_none(), "{}", told.text);
    refused(&onward(&broker, &house, &first, "deployer", "read", &[("scope", "all")]).await, "scope_not_allowed");
    // For another audience; a chain that is too long; round and round.
    let either = token(&broker.exchange_for(&house.job().token(broker.audience()), "either").await);
    refused(&to(&either, "deployer", "read").await, "actor_not_allowed");
    let read = token(&to(&first, "deployer", "read").await);
    refused(&to(&read, "reader", "shallow").await, "chain_too_long");
    let deep = token(&to(&read, "reader", "deep").await);
    refused(&to(&deep, "deployer", "again").await, "actor_repeated");
    // Ours as an actor's; two of ours.
    refused(&send(&broker, &first, ID_TOKEN, Some(&read), "read", &[]).await, "token_not_accepted");
    // What is not as we signed it: another payload, another key, no key, another type, another lease's.
    let parts: Vec<&str> = first.split('.').collect();
    let mut claims = jwt::claims_of(&first);
    claims["aud"] = json!("https://read.acme.example");
    let payload = jwt::base64url(claims.to_string().as_bytes());
    let other = house.github.key();
    let kid = jwt::header_of(&first)["kid"].as_str().unwrap().to_owned();
    let mut header = other.header();
    header["kid"] = json!(kid);
    for forged in [
        format!("{}.{payload}.{}", parts[0], parts[2]),
        other.sign_with_header(&header, &claims),
        other.sign(&claims),
        jwt::unsigned(&json!({ "alg": "none", "kid": kid }), &claims),
    ] {
        refused(&to(&forged, "reader", "deep").await, "token_not_accepted");
    }
    // It ends, by its time.
    let job = house.job().token(broker.audience());
    let short = token(&send(&broker, &job, ID_TOKEN, None, "deploy", &[("requested_expires_in", "1")]).await);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    refused(&to(&short, "deployer", "read").await, "lease_ended");
    // By who holds it.
    assert_eq!(broker.revoke(&first).await.status, 200);
    for over in [&first, &read, &deep] {
        let by = if over == &first { "deployer" } else { "reader" };
        refused(&to(over, by, "deep").await, "lease_ended");
    }
    verified(&broker).await;
    // And with the key.
    let last = token(&broker.exchange_for(&house.job().token(broker.audience()), "deploy").await);
    assert_eq!(to(&last, "deployer", "read").await.status, 200);
    let revoked = broker.command(&["keys", "revoke", &kid]).await;
    assert_eq!(revoked.code, Some(0), "{}{}", revoked.stdout, revoked.stderr);
    broker.restart().await;
    refused(&onward(&broker, &house, &last, "deployer", "read", &[]).await, "token_not_accepted");
}

/// A broker in this process, for what operators do.
struct Here<'h> {
    house: &'h House,
    folder: tempfile::TempDir,
    broker: Arc<InProcess>,
}

impl<'h> Here<'h> {
    async fn new(house: &'h House) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = house.config().toml(ON).server(&format!("public_url = \"{HERE}\""));
        config.write(folder.path(), "127.0.0.1:0", "127.0.0.1:0");
        let config = Config::read(&folder.path().join("claimbound.toml"), true).unwrap();
        Self { house, folder, broker: InProcess::start(config, Arc::new(SystemClock)).await.unwrap() }
    }

    async fn ask(&self, grant: AskedGrant, role: &str) -> Result<(String, String), String> {
        let asked = Asked {
            grant,
            role: Some(role.to_owned()),
            scope: None,
            duration: Some(Seconds(600)),
            dry_run: false,
            digest: [0; 32],
            address: None,
            caller: None,
            sts: None,
        };
        match self.broker.exchange(asked).await.outcome {
            Ok(Granted::Issued(issued)) => match &issued.credential {
                Credential::Jwt(token) | Credential::Handoff(token) => {
                    Ok((issued.lease.to_string(), token.reveal().to_owned()))
                }
                Credential::Aws(_) => panic!("no such role"),
            },
            Ok(Granted::DryRun { .. }) => panic!("not asked for"),
            Err(refused) => Err(refused.reason.name().to_owned()),
        }
    }

    fn job(&self) -> Secret {
        Secret::new(self.house.job().claim("actor_id", "4242").token(HERE))
    }

    async fn first(&self) -> (String, String) {
        self.ask(AskedGrant::Tokens { subject: self.job(), actor: None }, "deploy").await.unwrap()
    }

    async fn onward(&self, token: &str, by: &str, role: &str) -> Result<(String, String), String> {
        let actor = Some(Secret::new(self.house.pod(by).token(HERE)));
        self.ask(AskedGrant::Tokens { subject: Secret::new(token.to_owned()), actor }, role).await
    }

    async fn operate(&self, deed: Deed) -> Done {
        self.broker.operate(Operator::new("okta:alice", May::ALL), deed).await.unwrap()
    }

    async fn revoke(&self, leases: LeaseFilter, dry_run: bool) -> Revoked {
        let asked = Revoke { leases, reason: "an incident".into(), dry_run };
        match self.operate(Deed::Revoke(asked)).await {
            Done::Revoked(revoked) => revoked,
            other => panic!("{other:?}"),
        }
    }

    async fn alive(&self, leases: LeaseFilter) -> Vec<Listed> {
        let Done::Leases(page) = self.operate(Deed::Leases(List { leases, ..List::default() })).await else {
            panic!("a page")
        };
        page.leases
    }

    /// The records of a kind, when all of them hold.
    async fn records(self, kind: &str) -> Vec<Value> {
        self.broker.stop().await;
        let reader = store::open_reader(&format!("sqlite:{}/claimbound.db", self.folder.path().display())).unwrap();
        let report = store::audit(reader.as_ref(), None).unwrap();
        assert!(report.finding.is_none(), "{}", report.finding.unwrap());
        let mut found = Vec::new();
        let mut each = |body: &[u8], _: &[u8]| {
            found.extend(serde_json::from_slice::<Value>(body).ok().filter(|body| body["kind"] == kind));
            true
        };
        reader.records(&mut each).unwrap();
        found
    }
}

#[tokio::test]
async fn what_came_of_a_lease_ends_with_it() {
    let house = House::new();
    let here = Here::new(&house).await;
    let any = LeaseFilter::default;
    let (first, began) = here.first().await;
    let (read, reads) = here.onward(&began, "deployer", "read").await.unwrap();
    let (deep, _) = here.onward(&reads, "reader", "deep").await.unwrap();
    let (other, _) = here.first().await;
    // Who acts is found as a job is.
    let found =
        async |leases| here.alive(leases).await.into_iter().map(|lease| lease.lease.to_string()).collect::<Vec<_>>();
    let actor = |name: &str| LeaseFilter { actor: Some(format!("cluster:{}", uid(name))), ..any() };
    assert_eq!(
        (found(actor("deployer")).await, found(actor("reader")).await),
        (vec![read.clone()], vec![deep.clone()])
    );
    let cluster = LeaseFilter { issuer: Some("cluster".into()), ..any() };
    let mut both = found(cluster.clone()).await;
    both.sort();
    assert_eq!(both, [read.clone(), deep.clone()]);
    let listed = here.alive(actor("reader")).await.remove(0);
    assert_eq!(listed.parent.map(|lease| lease.to_string()), Some(read.clone()));
    assert_eq!(listed.actor.map(|actor| actor.name), Some("agents/reader".to_owned()));
    // By an operator: what would be ended, and then is.
    let one = LeaseFilter { lease: Some(first.parse().unwrap()), ..any() };
    let told = |revoked: &Revoked| (revoked.count, revoked.children, revoked.effects.clone());
    let expected = (3, 2, [("at_expiry".to_owned(), 3)].into());
    assert_eq!(told(&here.revoke(one.clone(), true).await), expected);
    assert_eq!(here.alive(any()).await.len(), 4, "a dry run ends nothing");
    let (count, children, effects) = told(&here.revoke(one.clone(), false).await);
    assert_eq!((count, children, effects), (3, 2, [("where_checked".to_owned(), 3)].into()));
    assert_eq!(found(any()).await, [other]);
    assert_eq!(here.onward(&began, "deployer", "read").await, Err("lease_ended".to_owned()));
    assert_eq!(told(&here.revoke(one, false).await).0, 0);
    // All that an actor holds, and with it what came of that. Who acted before is as suspended as who acts.
    let (_, began) = here.first().await;
    let (_, reads) = here.onward(&began, "deployer", "read").await.unwrap();
    here.onward(&reads, "reader", "deep").await.unwrap();
    for (scope, issuer, name) in
        [(Scope::Repository, "cluster", uid("deployer")), (Scope::Mapping, "", "deployer-reads".to_owned())]
    {
        let subject = Subject::new(scope, issuer, name);
        let suspend =
            Suspend { subject: subject.clone(), reason: "stolen".into(), seconds: None, revoke: false, force: false };
        here.operate(Deed::Suspend(suspend)).await;
        assert_eq!(here.onward(&reads, "reader", "deep").await, Err("suspended".to_owned()), "{subject:?}");
        here.operate(Deed::Resume(Resume { subject, reason: "not it".into(), leave_leases: true })).await;
        here.onward(&reads, "reader", "deep").await.unwrap();
    }
    let subject = Subject::new(Scope::Repository, "cluster", uid("deployer"));
    let suspend = Suspend { subject, reason: "stolen".into(), seconds: None, revoke: true, force: false };
    let Done::Suspended(suspended) = here.operate(Deed::Suspend(suspend)).await else { panic!("suspended") };
    let revoked = suspended.revoked.unwrap();
    assert_eq!((revoked.count, revoked.children), (4, 3), "{revoked:?}");
    assert_eq!(here.onward(&began, "deployer", "read").await, Err("suspended".to_owned()));
    assert_eq!(here.alive(any()).await.len(), 2, "the jobs' own stay");
    // And the person whose job it was all for.
    let person = LeaseFilter { person: Some("4242".into()), issuer: Some("github".into()), ..any() };
    assert_eq!(here.revoke(person, false).await.count, 2);
    let ended = here.records("ended").await;
    let counts: Vec<_> = ended.iter().map(|record| record["count"].as_u64().unwrap_or_default()).collect();
    assert_eq!(counts, [2, 3, 0, 0]);
}

#[tokio::test]
async fn a_handoff_lets_one_actor_act_once_for_one_role() {
    let house = House::new();
    // Handoffs need no permission of their own.
    let broker =
        Broker::start(BINARY, introspection::with_servers(house.config(), "https://release.acme.example")).await;
    fs::write(broker.directory().join("job"), house.job().token(broker.audience())).unwrap();
    let deployer = subject("deployer");
    let arguments = |sub: &'static str, file: &'static str| {
        let words = ["handoff", "--url", broker.url(), "--role", "release", "--actor-issuer", house.cluster.url()];
        let more = ["--actor-subject", sub, "--output", file, "--token-file", "job"];
        words.into_iter().chain(more).map(str::to_owned).collect::<Vec<_>>()
    };
    let run = async |sub: &'static str, file: &'static str| {
        let words = arguments(sub, file);
        broker.command(&words.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let told = run("system:serviceaccount:agents:deployer", "handoff.jwt").await;
    assert_eq!(told.code, Some(0), "{}{}", told.stdout, told.stderr);
    let path = broker.directory().join("handoff.jwt");
    let handoff = fs::read_to_string(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!told.stdout.contains(&handoff[..20]) && !told.stderr.contains(&handoff[..20]), "it is not printed");
    let (header, claims) = (jwt::header_of(&handoff), jwt::claims_of(&handoff));
    assert_eq!(header["typ"], "claimbound-handoff+jwt");
    assert_eq!(claims["aud"], format!("{}/handoff", broker.audience()));
    assert_eq!(claims["may_act"], json!({ "iss": house.cluster.url(), "sub": deployer }));
    assert!(claims.get("act").is_none() && claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap() <= 300);
    // It cost the job its token; a file that is there is not written over, and nothing is spent for it.
    let again = run("system:serviceaccount:agents:deployer", "other.jwt").await;
    assert_eq!(again.code, Some(3), "{}", again.stderr);
    assert!(again.stderr.contains("replay") && !broker.directory().join("other.jwt").exists(), "{}", again.stderr);
    fs::write(broker.directory().join("job"), house.job().token(broker.audience())).unwrap();
    assert_eq!(run("system:serviceaccount:agents:deployer", "handoff.jwt").await.code, Some(2));
    // Whom no mapping takes gets none.
    let stranger = run("system:serviceaccount:agents:stranger", "stranger.jwt").await;
    assert!(stranger.code == Some(3) && stranger.stderr.contains("actor_not_allowed"), "{}", stranger.stderr);

    // It is nobody's credential, and no job's token.
    assert_eq!(introspection::introspect(&broker, &handoff).await.body, json!({ "active": false }));
    refused(&onward(&broker, &house, &handoff, "deployer", "release", &[]).await, "token_not_accepted");
    refused(&broker.exchange_for(&handoff, "release").await, "token_not_accepted");
    let pod = |name: &str| house.pod(name).token(broker.audience());
    let hand = async |handoff: &str, by: &str, role: &str, more: &[(&str, &str)]| {
        send(&broker, handoff, HANDOFF, Some(&pod(by)), role, more).await
    };
    let job = house.job().token(broker.audience());
    refused(&send(&broker, &job, HANDOFF, Some(&pod("deployer")), "release", &[]).await, "token_not_accepted");

    // By whom it is for, once.
    let granted = hand(&handoff, "deployer", "", &[("requested_expires_in", "900")]).await;
    let told = jwt::claims_of(&token(&granted));
    assert_eq!((&told["role"], &told["act"]), (&json!("release"), &house.act(&["deployer"])));
    assert!(told["exp"].as_i64() > claims["exp"].as_i64(), "it bounds the exchange, as the job's token does");
    refused(&hand(&handoff, "deployer", "release", &[]).await, "replay");
    let (body, _) = records::the_one(&broker, granted.text_of("decision_id")).await;
    assert_eq!(body["parent"], claims["lease_id"]);
    let minted = records::of_kind(&broker, "granted");
    let minted = minted.iter().find(|record| record["lease"] == claims["lease_id"]).unwrap();
    assert_eq!((&minted["how"], &minted["actor"]["id"]), (&json!("handoff"), &json!(deployer)));
    // Its end ends what came of it, also after it was used.
    let credential = token(&granted);
    assert_eq!(introspection::introspect(&broker, &credential).await.body["active"], true);
    assert_eq!(broker.revoke(&handoff).await.status, 200);
    assert_eq!(introspection::introspect(&broker, &credential).await.body, json!({ "active": false }));

    // For another actor, another role or scope, or after its end it is refused, and costs it.
    let wanted = [
        ("requested_token_type", HANDOFF),
        ("may_act_iss", house.cluster.url()),
        ("may_act_sub", &*deployer),
        ("requested_expires_in", "9999"),
    ];
    let mint = async || {
        let answer = send(&broker, &house.job().token(broker.audience()), ID_TOKEN, None, "release", &wanted).await;
        assert_eq!((answer.text_of("issued_token_type"), answer.text_of("token_type")), (HANDOFF, "N_A"));
        assert!(answer.body["expires_in"].as_i64() <= Some(600), "{}", answer.text);
        token(&answer)
    };
    for (by, role, more, reason) in [
        ("stranger", "release", &[][..], "may_act"),
        ("deployer", "either", &[][..], "handoff_mismatch"),
        ("deployer", "release", &[("scope", "all")][..], "handoff_mismatch"),
    ] {
        let handoff = mint().await;
        refused(&hand(&handoff, by, role, more).await, reason);
        refused(&hand(&handoff, "deployer", "release", &[]).await, "replay");
    }
    let handoff = mint().await;
    assert_eq!(broker.revoke(&handoff).await.status, 200);
    refused(&hand(&handoff, "deployer", "release", &[]).await, "lease_ended");
    let (job, more) = (house.job().token(broker.audience()), [&wanted[..], &[("dry_run", "true")]].concat());
    assert_eq!(send(&broker, &job, ID_TOKEN, None, "release", &more).await.body["dry_run"], true);
    verified(&broker).await;
}

/// Random ways through many hands: nothing is granted that has less of a chain, or more time, than what it came of; and what
/// is refused is refused for its chain alone.
#[tokio::test]
async fn any_way_of_exchanges_keeps_chain_and_time() {
    const AUDIENCES: [&str; 3] = ["r0", "r1", "r2"];
    const ACTORS: [&str; 6] = ["a0", "a1", "a2", "a3", "a4", "a5"];
    let house = House::new();
    let roles: String = AUDIENCES.iter().map(|name| role(name)).collect();
    let mut mappings: String = AUDIENCES.iter().map(|name| mapping(&format!("job-{name}"), name, "")).collect();
    for (to, from, by) in
        AUDIENCES.iter().flat_map(|to| AUDIENCES.iter().flat_map(move |from| ACTORS.map(|by| (to, from, by))))
    {
        let acting = format!(
            "[mapping.actor]\nmax_depth = 5\naudience = \"https://{from}.acme.example\"\n[mapping.actor.match]\n\
             issuer = \"cluster\"\nsubject = \"{}\"\n",
            subject(by)
        );
        write!(mappings, "{}", mapping(&format!("{by}-{from}-{to}"), to, &acting)).unwrap();
    }
    let broker = Broker::start(BINARY, house.with(&roles, &mappings).toml(ON)).await;
    let mut random = 7_u64;
    let mut below = |most: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % most
    };
    for _ in 0..4 {
        let job = house.job().token(broker.audience());
        let mut held = token(&broker.exchange_for(&job, AUDIENCES[below(3)]).await);
        let principal = jwt::claims_of(&held)["principal"].clone();
        let mut chain: Vec<&str> = Vec::new();
        for _ in 0..8 {
            let (by, role) = (ACTORS[below(6)], AUDIENCES[below(3)]);
            let seconds = (1 + below(3_600)).to_string();
            let answer = onward(&broker, &house, &held, by, role, &[("requested_expires_in", &seconds)]).await;
            if chain.contains(&by) && chain.len() < 5 {
                refused(&answer, "actor_repeated");
                continue;
            }
            if chain.len() == 5 {
                refused(&answer, "chain_too_long");
                continue;
            }
            let expired = jwt::claims_of(&held)["exp"].clone();
            if answer.status != 200 {
                // Its parent had so little left.
                refused(&answer, "lease_ended");
                break;
            }
            chain.insert(0, by);
            held = token(&answer);
            let told = jwt::claims_of(&held);
            assert_eq!((&told["act"], &told["principal"]), (&house.act(&chain), &principal));
            assert!(told["exp"].as_i64() <= expired.as_i64(), "{told}");
            assert_eq!((&told["role"], told.get("scope")), (&json!(role), None));
        }
    }
    verified(&broker).await;
}
