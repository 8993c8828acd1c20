//! Who acts on whose behalf, over HTTP: group 1F of the security catalogue (106 to 111), and what a chain leaves in
//! credentials, records and suspensions.

use crate::{BINARY, records};
use claimbound::{
    broker::{Asked, AskedGrant, Broker as InProcess, SystemClock},
    config::Config,
    exchange::Granted,
    operate::{Deed, Suspend},
    operators::{May, Operator},
    secret::Secret,
    store::{Scope, Subject},
};
use claimbound_test_support::{
    broker::{Broker, ID_TOKEN, TOKEN_EXCHANGE},
    config::BrokerConfig,
    http::Answer,
    issuer::Issuer,
    job::{Job, id_of},
    jwt,
};
use serde_json::{Value, json};
use std::sync::Arc;

const POLICY: &str = r#"format = 1
[issuer.github]
profile = "github-actions"
url = "{issuer.github}"
owners = { acme = 65 }
[issuer.cluster]
profile = "kubernetes"
url = "{issuer.cluster}"
tenancy = "single"
[issuer.sts]
profile = "generic"
url = "{issuer.sts}"
tenancy = "single"
trust_act = true
[team.payments]
path = "teams/payments"
"#;

const ROLES: &str = r#"[role.release]
description = "Release payments"
backend = "jwt"
teams = ["payments"]
issuers = ["github"]
sensitivity = "production"
[role.release.jwt]
audience = "https://release.acme.example"

[role.secrets]
description = "Read the secrets of payments"
backend = "jwt"
teams = ["payments"]
issuers = ["github"]
sensitivity = "internal"
[role.secrets.jwt]
audience = "https://secrets.acme.example"

[role.alone]
description = "For jobs by themselves"
backend = "jwt"
teams = ["payments"]
issuers = ["github"]
sensitivity = "internal"
[role.alone.jwt]
audience = "https://alone.acme.example"

[role.relay]
description = "For chains"
backend = "jwt"
teams = ["payments"]
issuers = ["sts"]
sensitivity = "internal"
[role.relay.jwt]
audience = "https://relay.acme.example"
"#;

const MAPPINGS: &str = r#"[[mapping]]
name = "by-the-agent"
issuer = "github"
description = "The agent releases main"
roles = ["release"]
[mapping.match]
repository = { name = "acme/payments-api", id = 740000001 }
branch = "main"
[mapping.actor]
required = true
[mapping.actor.match]
issuer = "cluster"
subject = "system:serviceaccount:agents:deployer"

[[mapping]]
name = "by-the-bot"
issuer = "github"
description = "The bot reads, or the job itself"
roles = ["secrets"]
[mapping.match]
repository = { name = "acme/payments-api", id = 740000001 }
[mapping.actor.match]
issuer = "github"
repository = { name = "acme/bot", id = {bot} }

[[mapping]]
name = "by-itself"
issuer = "github"
description = "Nobody acts"
roles = ["alone"]
[mapping.match]
repository = { name = "acme/payments-api", id = 740000001 }

[[mapping]]
name = "relayed"
issuer = "sts"
description = "Whoever acts last is the agent"
roles = ["relay"]
[mapping.match]
subject = "long"
[mapping.actor]
max_depth = 5
[mapping.actor.match]
issuer = "cluster"
subject = "system:serviceaccount:agents:deployer"

[[mapping]]
name = "relayed-once"
issuer = "sts"
description = "One acts and no more"
roles = ["relay"]
[mapping.match]
subject = "short"
[mapping.actor.match]
issuer = "cluster"
subject = "system:serviceaccount:agents:deployer"
"#;

const AGENT: &str = "system:serviceaccount:agents:deployer";

struct House {
    github: Issuer,
    cluster: Issuer,
    sts: Issuer,
}

impl House {
    fn new() -> Self {
        Self { github: Issuer::github(), cluster: Issuer::github(), sts: Issuer::github() }
    }

    fn config(&self) -> BrokerConfig {
        let mappings = MAPPINGS.replace("{bot}", &id_of("acme/bot").to_string());
        let files =
            [("policy.toml", POLICY), ("roles/payments.toml", ROLES), ("teams/payments/a.toml", mappings.as_str())];
        let config = BrokerConfig::with_folder(&files);
        config.issuer("github", &self.github).issuer("cluster", &self.cluster).issuer("sts", &self.sts)
    }

    async fn broker(&self) -> Broker {
        Broker::start(BINARY, self.config()).await
    }

    fn job(&self) -> Job<'_> {
        self.github.job().branch("main")
    }

    fn bot(&self) -> Job<'_> {
        self.github.job().repository("acme/bot").branch("main")
    }

    /// A pod of this service account.
    fn pod(&self, name: &str) -> Job<'_> {
        let account = json!({ "name": name, "uid": "2b0f4a1e-0000-4000-8000-000000000001" });
        self.cluster
            .job()
            .claim("sub", format!("system:serviceaccount:agents:{name}"))
            .claim("kubernetes.io", json!({ "namespace": "agents", "serviceaccount": account }))
    }

    fn relayed(&self, sub: &str, act: Value) -> Job<'_> {
        self.sts.job().claim("sub", sub).claim("act", act)
    }
}

/// Subject and actor for a role.
async fn act(broker: &Broker, subject: &str, actor: &str, role: &str, more: &[(&str, &str)]) -> Answer {
    let mut form = vec![
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", subject),
        ("subject_token_type", ID_TOKEN),
        ("actor_token", actor),
        ("actor_token_type", ID_TOKEN),
        ("audience", role),
    ];
    form.extend(more);
    broker.exchange(&form).await
}

#[track_caller]
fn refused(answer: &Answer, reason: &str) {
    assert_eq!((answer.status, &answer.body["reason"]), (400, &json!(reason)), "{}", answer.text);
    assert!(answer.body.get("access_token").is_none(), "{}", answer.text);
}

fn claims(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text);
    jwt::claims_of(answer.text_of("access_token"))
}

#[tokio::test]
async fn security_106_confused_deputy() {
    let house = House::new();
    let broker = house.broker().await;
    let job = || house.job().token(broker.audience());
    let agent = house.pod("deployer").token(broker.audience());
    let granted = act(&broker, &job(), &agent, "release", &[]).await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    let stranger = house.pod("stranger").token(broker.audience());
    let answer = act(&broker, &job(), &stranger, "release", &[]).await;
    refused(&answer, "actor_not_allowed");
    let shown = answer.body["nearest"]["conditions"].to_string();
    assert!(shown.contains("actor.subject") && !shown.contains(AGENT), "whom it takes is not told: {shown}");
    let (body, details) = records::the_one(&broker, answer.text_of("decision_id")).await;
    assert_eq!(body["principal"]["id"], "740000001");
    assert_eq!(body["actor"]["name"], "agents/stranger");
    assert_eq!(details["actor_claims"]["sub"], "system:serviceaccount:agents:stranger");
    // A pair that some other mapping takes, and a mapping that takes nobody.
    refused(&act(&broker, &job(), &agent, "secrets", &[]).await, "actor_not_allowed");
    refused(&act(&broker, &job(), &agent, "alone", &[]).await, "actor_not_allowed");
    refused(&act(&broker, &job(), &house.bot().token(broker.audience()), "release", &[]).await, "actor_not_allowed");
    // For another audience, of an issuer that nobody knows, or signed by nobody: not believed, and not told why.
    let forged = house.pod("deployer").token_by(&house.sts.key(), broker.audience());
    let unknown = Issuer::github();
    for actor in [house.pod("deployer").token("https://else.example"), unknown.job().token(broker.audience()), forged] {
        let subject = job();
        let answer = act(&broker, &subject, &actor, "release", &[]).await;
        refused(&answer, "token_not_accepted");
        assert_eq!(broker.exchange_for(&subject, "alone").await.status, 200, "that cost the job nothing");
    }
}

#[tokio::test]
async fn security_107_act_of_others() {
    let house = House::new();
    let broker = house.broker().await;
    let agent = |job: Job<'_>| job.token(broker.audience());
    let inner = json!({ "iss": house.cluster.url(), "sub": AGENT });
    let with_act = house.job().claim("act", inner.clone());
    refused(&broker.exchange_for(&with_act.token(broker.audience()), "release").await, "actor_not_allowed");
    let both = with_act.token(broker.audience());
    refused(&act(&broker, &both, &agent(house.pod("deployer")), "release", &[]).await, "actor_not_allowed");
    for name in ["act", "may_act"] {
        let actor = agent(house.pod("deployer").claim(name, inner.clone()));
        let answer = act(&broker, &house.job().token(broker.audience()), &actor, "release", &[]).await;
        refused(&answer, "actor_not_allowed");
    }
    // Of an issuer that is trusted for it, by issuer and subject alone.
    let mut more = inner.clone();
    more["admin"] = json!(true);
    let granted = broker.exchange_for(&house.relayed("short", more).token(broker.audience()), "relay").await;
    assert_eq!(claims(&granted)["act"], inner);
    for malformed in [json!({ "sub": AGENT }), json!([inner]), json!("agent"), Value::Null] {
        let token = house.relayed("short", malformed).token(broker.audience());
        refused(&broker.exchange_for(&token, "relay").await, "act_malformed");
    }
}

#[tokio::test]
async fn security_108_may_act() {
    let house = House::new();
    let broker = house.broker().await;
    let (iss, bot) = (house.github.url(), house.bot().token(broker.audience()));
    let sub = jwt::claims_of(&bot)["sub"].clone();
    let of = |may_act: Value| house.job().claim("may_act", may_act).token(broker.audience());
    for may_act in [
        json!({ "iss": house.cluster.url(), "sub": sub }),
        json!({ "iss": iss, "sub": "repo:acme/other:ref:refs/heads/main" }),
        json!({ "sub": sub }),
        json!({ "iss": iss }),
        json!({ "iss": iss, "sub": "*" }),
        json!([{ "iss": iss, "sub": sub }]),
        json!(sub),
    ] {
        let bot = house.bot().token(broker.audience());
        refused(&act(&broker, &of(may_act.clone()), &bot, "secrets", &[]).await, "may_act");
    }
    let right = json!({ "iss": iss, "sub": sub });
    refused(&broker.exchange_for(&of(right.clone()), "secrets").await, "may_act");
    let granted = act(&broker, &of(right.clone()), &bot, "secrets", &[]).await;
    assert_eq!(claims(&granted)["act"], right);
}

#[tokio::test]
async fn security_109_chain_length() {
    let house = House::new();
    let broker = house.broker().await;
    let agent = json!({ "iss": house.cluster.url(), "sub": AGENT });
    let chain = |outermost: Value, inner: usize| {
        let act = (0..inner).fold(None, |act, at| {
            let mut one = json!({ "iss": "https://else.example", "sub": format!("a{at}") });
            if let Some(act) = act {
                one["act"] = act;
            }
            Some(one)
        });
        let mut outermost = outermost;
        if let Some(act) = act {
            outermost["act"] = act;
        }
        outermost
    };
    let exchange = async |sub: &str, act: Value| {
        broker.exchange_for(&house.relayed(sub, act).token(broker.audience()), "relay").await
    };
    let five = chain(agent.clone(), 4);
    let granted = exchange("long", five.clone()).await;
    assert_eq!(claims(&granted)["act"], five, "in the token's order, whole");
    let (body, details) = records::the_one(&broker, granted.text_of("decision_id")).await;
    assert_eq!((&body["actor"]["issuer"], &body["actor"]["id"]), (&json!("cluster"), &json!(AGENT)));
    assert_eq!(details["actors"].as_array().unwrap().len(), 5);
    refused(&exchange("long", chain(agent.clone(), 5)).await, "chain_too_long");
    refused(&exchange("long", chain(agent.clone(), 11)).await, "chain_too_long");
    refused(&exchange("short", chain(agent.clone(), 1)).await, "chain_too_long");
    // Who acted earlier gives nothing.
    let other = json!({ "iss": "https://else.example", "sub": "x", "act": agent });
    refused(&exchange("long", other).await, "actor_not_allowed");
    // The new actor is the outermost.
    let carried = json!({ "iss": "https://else.example", "sub": "x" });
    let (subject, pod) = (house.relayed("long", carried.clone()), house.pod("deployer"));
    let (subject, pod) = (subject.token(broker.audience()), pod.token(broker.audience()));
    let mut extended = agent.clone();
    extended["act"] = carried;
    assert_eq!(claims(&act(&broker, &subject, &pod, "relay", &[]).await)["act"], extended);
    // Round and round.
    let twice = json!({ "iss": "https://else.example", "sub": "x", "act": agent });
    let subject = house.relayed("long", twice).token(broker.audience());
    refused(&act(&broker, &subject, &pod, "relay", &[]).await, "actor_repeated");
    let own = json!({ "iss": house.sts.url(), "sub": "long" });
    refused(&exchange("long", own).await, "actor_repeated");
}

#[tokio::test]
async fn security_110_no_impersonation() {
    let house = House::new();
    let broker = house.broker().await;
    let job = || house.job().token(broker.audience());
    let agent = house.pod("deployer").token(broker.audience());
    let granted = act(&broker, &job(), &agent, "release", &[]).await;
    let told = claims(&granted);
    assert_eq!(told["sub"], "role:release:github:740000001", "the job's, whoever acts");
    assert_eq!(told["act"], json!({ "iss": house.cluster.url(), "sub": AGENT }));
    let (body, _) = records::the_one(&broker, granted.text_of("decision_id")).await;
    assert_eq!(body["principal"], json!({ "issuer": "github", "id": "740000001", "name": "acme/payments-api" }));
    let uid = "2b0f4a1e-0000-4000-8000-000000000001";
    assert_eq!(body["actor"], json!({ "issuer": "cluster", "id": uid, "name": "agents/deployer" }));
    let shown = broker.command(&["audit", "show", "--actor", &format!("cluster:{uid}")]).await;
    assert!(shown.stdout.contains("agents/deployer"), "{}{}", shown.stdout, shown.stderr);
    let decision = granted.text_of("decision_id");
    let again = broker.command(&["explain", "--decision", decision]).await;
    assert_eq!(again.code, Some(0), "{}{}", again.stdout, again.stderr);
    assert!(again.stdout.contains("acting for it: agents/deployer"), "{}", again.stdout);
    // The job by itself: refused where somebody must act, and without `act` where somebody may.
    refused(&broker.exchange_for(&job(), "release").await, "actor_needed");
    assert!(claims(&broker.exchange_for(&job(), "secrets").await).get("act").is_none());
    // Nor by being its own actor.
    refused(&act(&broker, &job(), &job(), "secrets", &[]).await, "actor_repeated");
    let token = job();
    refused(&act(&broker, &token, &token, "secrets", &[]).await, "actor_repeated");
}

#[tokio::test]
async fn security_111_types_of_tokens() {
    let house = House::new();
    let broker = house.broker().await;
    let agent = house.pod("deployer").token(broker.audience());
    for actor_type in ["urn:ietf:params:oauth:token-type:access_token", "urn:ietf:params:oauth:token-type:saml2", "jwt"]
    {
        let job = house.job().token(broker.audience());
        let form = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", &*job),
            ("subject_token_type", ID_TOKEN),
            ("actor_token", &*agent),
            ("actor_token_type", actor_type),
            ("audience", "release"),
        ];
        let answer = broker.exchange(&form).await;
        assert_eq!((answer.status, &answer.body["error"]), (400, &json!("invalid_request")), "{}", answer.text);
    }
    let job = house.job().token(broker.audience());
    for wanted in ["refresh_token", "id_token", "saml2", "saml1"] {
        let wanted = format!("urn:ietf:params:oauth:token-type:{wanted}");
        let answer = act(&broker, &job, &agent, "release", &[("requested_token_type", &wanted)]).await;
        assert_eq!((answer.status, &answer.body["error"]), (400, &json!("invalid_request")), "{}", answer.text);
    }
    // Our own token is nobody's actor token.
    let granted = broker.exchange_for(&job, "alone").await;
    let own = granted.text_of("access_token");
    refused(&act(&broker, &house.job().token(broker.audience()), own, "release", &[]).await, "token_not_accepted");
}

#[tokio::test]
async fn an_actor_token_counts_once_unless_it_is_meant_to_be_used_again() {
    let house = House::new();
    let broker = house.broker().await;
    let job = || house.job().token(broker.audience());
    let pod = house.pod("deployer").token(broker.audience());
    for _ in 0..2 {
        assert_eq!(act(&broker, &job(), &pod, "release", &[]).await.status, 200, "a projected file is read again");
    }
    let bot = house.bot().token(broker.audience());
    let dry = act(&broker, &job(), &bot, "secrets", &[("dry_run", "true")]).await;
    assert_eq!(dry.status, 200, "{}", dry.text);
    refused(&act(&broker, &job(), &bot, "secrets", &[]).await, "replay");
    refused(&broker.exchange_for(&bot, "alone").await, "replay");
    let bot = house.bot().token(broker.audience());
    refused(&act(&broker, &job(), &bot, "alone", &[]).await, "actor_not_allowed");
    refused(&act(&broker, &job(), &bot, "secrets", &[]).await, "replay");
    let verified = broker.command(&["audit", "verify"]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
}

#[tokio::test]
async fn a_suspended_actor_acts_for_nobody() {
    let house = House::new();
    let folder = tempfile::tempdir().unwrap();
    let config = house.config().server("public_url = \"https://cb.example\"");
    config.write(folder.path(), "127.0.0.1:0", "127.0.0.1:0");
    let config = Config::read(&folder.path().join("claimbound.toml"), true).unwrap();
    let broker = InProcess::start(config, Arc::new(SystemClock)).await.unwrap();
    let exchange = async |actor: Option<Job<'_>>| {
        let secret = |job: &Job<'_>| Secret::new(job.token("https://cb.example"));
        let asked = Asked {
            grant: AskedGrant::Tokens { subject: secret(&house.job()), actor: actor.as_ref().map(secret) },
            role: Some("secrets".to_owned()),
            scope: None,
            duration: None,
            dry_run: false,
            digest: [0; 32],
            address: None,
            caller: None,
            sts: None,
        };
        match broker.exchange(asked).await.outcome {
            Ok(Granted::Issued(_)) => Ok(()),
            Ok(Granted::DryRun { .. }) => panic!("not asked for"),
            Err(refused) => Err(refused.reason.name()),
        }
    };
    let person = "4242";
    let bot = || house.bot().claim("actor_id", person);
    assert_eq!(exchange(Some(bot())).await, Ok(()));
    let subject = Subject::new(Scope::Person, "github", person);
    let suspend = Suspend { subject, reason: "gone".into(), seconds: None, revoke: false, force: false };
    broker.operate(Operator::new("okta:alice", May::ALL), Deed::Suspend(suspend)).await.unwrap();
    assert_eq!(exchange(Some(bot())).await, Err("suspended"), "whom the bot's run is of");
    assert_eq!(exchange(Some(house.bot())).await, Ok(()));
    let repository = id_of("acme/bot").to_string();
    let subject = Subject::new(Scope::Repository, "github", &repository);
    let suspend = Suspend { subject, reason: "stolen".into(), seconds: None, revoke: false, force: false };
    broker.operate(Operator::new("okta:alice", May::ALL), Deed::Suspend(suspend)).await.unwrap();
    assert_eq!(exchange(Some(house.bot())).await, Err("suspended"));
    assert_eq!(exchange(None).await, Ok(()), "the job itself goes on");
    broker.stop().await;
}
