//! Every built-in profile over HTTP: one broker that knows an issuer of each, and the golden tokens of
//! `core/tests/it/data/profiles/`, signed by issuers of the bench.

use crate::BINARY;
use claimbound_core::workload::Profiles;
use claimbound_test_support::{
    broker::Broker, config::BrokerConfig, http::Answer, issuer::Issuer, job::Forge, jwt::Algorithm, time::now,
};
use serde_json::{Value, json};

macro_rules! golden {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../core/tests/it/data/profiles/", $name, ".json")))),*]
    };
}

const GOLDEN: [(&str, &str); 18] = golden! {
    "aws" "azure-devops" "bitbucket-pipelines" "buddy" "buildkite" "circleci" "codefresh" "env0" "forgejo" "generic"
    "github-actions" "gitlab" "google" "hcp-terraform" "jenkins" "kubernetes" "semaphore" "spacelift"
};

struct Played {
    name: &'static str,
    golden: Value,
    issuer: Issuer,
}

impl Played {
    fn new((name, text): (&'static str, &'static str)) -> Self {
        let golden: Value = serde_json::from_str(text).unwrap();
        // Some issuers have their tenant in the path.
        let url = golden["token"]["iss"].as_str().unwrap().strip_prefix("https://").unwrap();
        let path = url.find('/').map_or("", |at| &url[at..]).trim_end_matches('/');
        Self { name, issuer: Issuer::start(Forge::GitHub, path, Algorithm::Rs256), golden }
    }

    /// The golden token as its issuer would sign it now, with changes.
    fn token(&self, audience: &str, number: usize, changes: &Value) -> String {
        let mut claims = self.golden["token"].clone();
        let now = now();
        let ours = [("aud", json!(audience)), ("iss", json!(self.issuer.url())), ("exp", json!(now + 300))];
        for (name, value) in ours.into_iter().chain([("iat", json!(now - number as i64))]) {
            claims[name] = value;
        }
        if claims.get("nbf").is_some() {
            claims["nbf"] = json!(now - 5);
        }
        if claims.get("jti").is_some() {
            claims["jti"] = json!(format!("{}-{number}", self.name));
        }
        for (name, value) in changes.as_object().unwrap() {
            let path: Vec<&str> = name.strip_prefix('/').map_or(vec![name], |path| path.split('/').collect());
            let (last, above) = path.split_last().unwrap();
            let object = above.iter().fold(&mut claims, |at, part| &mut at[*part]).as_object_mut().unwrap();
            match value {
                Value::Null => drop(object.remove(*last)),
                value => drop(object.insert((*last).to_owned(), value.clone())),
            }
        }
        self.issuer.key().sign(&claims)
    }
}

fn config(played: &[Played]) -> BrokerConfig {
    let mut policy = "format = 1\n[team.t]\npath = \"teams/t\"\n".to_owned();
    let (mut roles, mut mappings) = (String::new(), String::new());
    for Played { name, golden, .. } in played {
        let (issuer, conditions) = (golden["issuer"].as_str().unwrap(), golden["match"].as_str().unwrap());
        policy.push_str(&format!("[issuer.{name}]\nprofile = \"{name}\"\nurl = \"{{issuer.{name}}}\"\n{issuer}\n"));
        roles.push_str(&format!(
            "[role.{name}]\ndescription = \"d\"\nbackend = \"jwt\"\nteams = [\"t\"]\nissuers = [\"{name}\"]\nsensitivity = \"internal\"\n[role.{name}.jwt]\naudience = \"https://{name}.example\"\n"
        ));
        mappings.push_str(&format!(
            "[[mapping]]\nname = \"{name}\"\ndescription = \"d\"\nissuer = \"{name}\"\nroles = [\"{name}\"]\n[mapping.match]\n{conditions}"
        ));
    }
    let files = [("policy.toml", &*policy), ("roles/r.toml", &*roles), ("teams/t/m.toml", &*mappings)];
    let config = BrokerConfig::with_folder(&files).server("hints = \"full\"");
    played.iter().fold(config, |config, played| config.issuer(played.name, &played.issuer))
}

#[track_caller]
fn assert_refused(answer: &Answer, expected: &str, what: &str) {
    // Whoever is not proven gets one constant answer; an id that differs is told like no mapping at all.
    let told = match expected {
        "no_mapping" | "event_not_allowed" | "renamed" | "id_mismatch" => None,
        _ => Some("token_not_accepted"),
    };
    assert!((400..500).contains(&answer.status), "{what}: {} {}", answer.status, answer.text);
    assert!(
        answer.body.get("access_token").is_none() && answer.body.get("reason").is_some(),
        "{what}: {}",
        answer.text
    );
    match told {
        Some(told) => assert_eq!(answer.body["reason"], told, "{what}"),
        None => assert_ne!(answer.body["reason"], "token_not_accepted", "{what}: {}", answer.text),
    }
}

#[tokio::test]
async fn every_profile_grants_its_job_and_refuses_the_others() {
    let played: Vec<Played> = GOLDEN.into_iter().map(Played::new).collect();
    let broker = Broker::start(BINARY, config(&played)).await;
    let profiles = Profiles::builtin();
    for job in &played {
        let name = job.name;
        let token = job.token(broker.audience(), 0, &json!({}));
        let answer = broker.exchange_for(&token, name).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
        let again = broker.exchange_for(&token, name).await;
        assert_eq!((again.status, &again.body["reason"]), (400, &json!("replay")), "{name}: {}", again.text);
        let foreign = profiles.get(name).unwrap().fixed_audience().unwrap_or("https://another.example");
        let answer = broker.exchange_for(&job.token(foreign, 1, &json!({})), name).await;
        assert_refused(&answer, "aud", &format!("{name}: for {foreign}"));
        for (number, (kind, refused)) in (2..).zip(job.golden["refused"].as_object().unwrap()) {
            if refused["changes"].get("iss").is_some() {
                continue;
            }
            let token = job.token(broker.audience(), number, &refused["changes"]);
            let answer = broker.exchange_for(&token, name).await;
            assert_refused(&answer, refused["reason"].as_str().unwrap(), &format!("{name}: {kind}"));
        }
    }
    // A token of one issuer is nothing under another's name.
    let [first, second] = ["kubernetes", "jenkins"].map(|name| played.iter().find(|job| job.name == name).unwrap());
    let claims = json!({ "iss": second.issuer.url() });
    let answer = broker.exchange_for(&first.token(broker.audience(), 99, &claims), second.name).await;
    assert_refused(&answer, "kid_unknown", "a key of another issuer");
}
