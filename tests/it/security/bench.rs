//! One broker for a group of attacks, with a cloud, a trap, and a network of its own for every attack: strangers'
//! records are single up to a rate per network, and each attack's record is wanted.

use crate::{BINARY, records};
use claimbound_attacks::{self as table, Answer, Attack, Expected, Good, Load, Recipe, Signer, World};
use claimbound_test_support::{
    broker::{Broker, ID_TOKEN, TOKEN_EXCHANGE},
    canary,
    command::Exit,
    config::BrokerConfig,
    http::{self, Answer as Reply},
    issuer::Issuer,
    job::Forge,
    jwt::{Algorithm, Key},
    sts::Sts,
    time::{eventually, now},
    trap::Trap,
};
use serde_json::{Value, json};
use std::{cell::Cell, collections::BTreeMap, sync::Arc, time::Duration};

/// The role of most attacks gives AWS sessions, so that a call to a cloud would be seen.
const ROLES: &str = r#"[role.payments-release]
description = "Release payments"
backend = "aws"
teams = ["payments"]
issuers = ["github"]
sensitivity = "production"
max_duration = "1h"
[role.payments-release.aws]
role_arn = "arn:aws:iam::111122223333:role/payments-release"
region = "eu-west-1"
session_policy = "policies/payments.json"
"#;

struct Signs(Arc<Key>);

impl Signer for Signs {
    fn jwk(&self) -> Value {
        self.0.jwk()
    }
    fn sign(&self, scheme: &str, message: &[u8]) -> Vec<u8> {
        self.0.signature_by(scheme, message)
    }
}

/// A record that must be there when all is over.
struct Wanted {
    name: String,
    decision: String,
    reason: String,
    address: String,
    stranger: bool,
}

/// Records of strangers come in the background: all of them within this.
const RECORDS_COME: Duration = Duration::from_secs(30);

pub struct Bench {
    broker: Broker,
    /// By profile.
    issuers: BTreeMap<String, Issuer>,
    sts: Sts,
    trap: Trap,
    keys: BTreeMap<String, Signs>,
    requests: u32,
    granted: u64,
    /// The constant answer, as the first stranger got it.
    constant: Option<Value>,
    reasons: BTreeMap<String, u32>,
    wanted: Vec<Wanted>,
    secrets: Vec<String>,
    jti: Cell<u64>,
}

/// An issuer for each profile; some have their tenant in the path.
pub fn issuers(profiles: impl IntoIterator<Item = String>) -> BTreeMap<String, Issuer> {
    let start = |profile: String| {
        if profile == table::GITHUB {
            return (profile, Issuer::github());
        }
        let good = Good::of(&profile);
        let url = good.url().trim_start_matches("https://");
        let path = url.find('/').map_or("", |at| &url[at..]).trim_end_matches('/');
        (profile, Issuer::start(Forge::GitHub, path, Algorithm::Rs256))
    };
    profiles.into_iter().map(start).collect()
}

fn config<'i>(
    issuers: impl Iterator<Item = (&'i String, &'i Issuer)>,
    files: BTreeMap<String, String>,
) -> BrokerConfig {
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let config = BrokerConfig::with_folder(&files)
        .file("roles/payments.toml", ROLES)
        .file("policies/payments.json", crate::aws::POLICY)
        .server("trusted_proxies = [\"127.0.0.0/8\"]");
    issuers.fold(config, |config, (profile, issuer)| config.issuer(table::issuer_name(profile), issuer))
}

/// A start with a folder that must not load, among issuers of all profiles that may be in it.
pub async fn refused(issuers: &BTreeMap<String, Issuer>, attack: &Attack, load: &Load) -> Exit {
    let named =
        issuers.iter().filter(|(profile, _)| [table::GITHUB, attack.profile_in(load)].contains(&profile.as_str()));
    Broker::refused(BINARY, &config(named, table::folder_of(attack, load)).toml("[backend.aws]\n")).await
}

impl Bench {
    pub async fn start(attacks: &[Attack]) -> Self {
        let (issuers, sts) = (issuers(table::profiles(attacks)), Sts::new());
        let mut keys = BTreeMap::from([("attacker".to_owned(), Signs(Arc::new(Key::rs256())))]);
        for (profile, issuer) in &issuers {
            keys.insert(profile.clone(), Signs(issuer.key()));
            keys.insert(format!("{profile}/ec"), Signs(issuer.sign_with(Key::generate(Algorithm::Es256))));
        }
        let config = config(issuers.iter(), table::folder(attacks));
        let config = config.toml(&format!("[backend.aws]\nendpoint_url = \"{}\"\n", sts.url()));
        let broker = Broker::start(BINARY, config).await;
        sts.provider(broker.audience(), &format!("{}/jwks", broker.url()));
        sts.role("arn:aws:iam::111122223333:role/payments-release", "role:payments-release");
        Self {
            broker,
            issuers,
            sts,
            trap: Trap::new(),
            keys,
            requests: 0,
            granted: 0,
            constant: None,
            reasons: BTreeMap::new(),
            wanted: Vec::new(),
            secrets: Vec::new(),
            jti: Cell::new(0),
        }
    }

    pub fn requests(&self) -> u32 {
        self.requests
    }

    fn token(&self, profile: &str, recipe: &Recipe) -> table::Variant {
        let world = World {
            issuers: self.issuers.iter().map(|(name, issuer)| (name.clone(), issuer.url().to_owned())).collect(),
            audience: self.broker.audience().to_owned(),
            trap: self.trap.url(),
            now: now(),
            signers: self.keys.iter().map(|(name, key)| (name.clone(), key as &dyn Signer)).collect(),
            tag: "over-http".to_owned(),
            made: Cell::new(self.jti.get()),
        };
        let variant = world.first(profile, recipe);
        self.jti.set(world.made.get());
        variant
    }

    /// Sends the first variant of a recipe; what is wrong with what came of it.
    pub async fn attack(
        &mut self,
        attack: Option<&Attack>,
        role: &str,
        recipe: &Recipe,
        expected: &Expected,
    ) -> Vec<String> {
        let profile = attack.map_or(table::GITHUB, |attack| attack.profile_of(recipe));
        let variant = self.token(profile, recipe);
        self.requests += 1;
        let address = format!("198.51.{}.{}", self.requests / 250, self.requests % 250 + 1);
        let form = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", variant.token.as_str()),
            ("subject_token_type", ID_TOKEN),
            ("audience", role),
        ];
        let request = http::client().post(format!("{}/token", self.broker.url())).form(&form);
        let reply = http::send(request.header("x-forwarded-for", &address)).await.unwrap();
        let name = attack.map_or_else(|| "a good job".to_owned(), Attack::test);
        let mut wrong = self.judge(&reply, expected, &name, &address);
        if self.trap.visited() {
            wrong.push("somebody went where nobody may go".to_owned());
        }
        let calls = self.sts.calls();
        if calls != self.granted {
            wrong.push(format!("{calls} calls to AWS for {} grants", self.granted));
        }
        self.secrets.extend(variant.token.rsplit('.').next().filter(|last| last.len() > 40).map(str::to_owned));
        let label: String = variant.label.chars().take(200).collect();
        for finding in &mut wrong {
            *finding = format!("{name} ({label}): {finding}: {} {}", reply.status, reply.text);
        }
        wrong
    }

    fn judge(&mut self, reply: &Reply, expected: &Expected, name: &str, address: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut must = |holds: bool, what: &str| {
            if !holds {
                wrong.push(what.to_owned());
            }
        };
        must(reply.header("cache-control") == "no-store", "the answer may be stored");
        must(!reply.text.contains("canary"), "the answer holds the token's text");
        if expected.answer == Answer::Granted {
            self.granted += u64::from(role_is_aws(reply));
            must(reply.status == 200 && reply.body["access_token"].is_string(), "is not granted");
            self.secrets
                .extend(["access_token"].iter().filter_map(|name| reply.body[*name].as_str().map(str::to_owned)));
            return wrong;
        }
        must(reply.body.get("access_token").is_none() && reply.body.get("credential").is_none(), "holds a credential");
        let text = |member: &str| reply.body[member].as_str().unwrap_or_default();
        match expected.answer {
            Answer::TooLarge => {
                must(reply.status == 413, "is not 413");
                return wrong;
            }
            Answer::Stranger => {
                let mut body = reply.body.clone();
                body["decision_id"] = json!("");
                let constant = self.constant.get_or_insert_with(|| body.clone());
                must(reply.status == 400 && body == *constant, "is not the constant answer");
                must(text("error") == "invalid_request" && text("reason") == "token_not_accepted", "tells a reason");
            }
            Answer::NotGranted => {
                must(reply.status == 400 && text("error") == "invalid_target", "is not `invalid_target`");
                must(Some(text("reason")) == expected.told.as_deref(), "tells another reason");
            }
            Answer::Granted => unreachable!("answered above"),
        }
        must(!text("decision_id").is_empty(), "has no decision id");
        let reason = expected.reason.clone().unwrap_or_default();
        *self.reasons.entry(reason.clone()).or_default() += 1;
        self.wanted.push(Wanted {
            name: name.to_owned(),
            decision: text("decision_id").to_owned(),
            reason,
            address: address.to_owned(),
            stranger: expected.answer == Answer::Stranger,
        });
        wrong
    }

    /// Every refusal's one record, all of them waited for together: strangers' are written in the background.
    async fn records(&self) -> Vec<String> {
        let mut found = eventually(RECORDS_COME, async || {
            let mut found: BTreeMap<String, Vec<(Value, Value)>> = BTreeMap::new();
            for (body, details) in records::all(&self.broker) {
                let decision = body["decision"].as_str().unwrap_or_default().to_owned();
                found.entry(decision).or_default().push((body, details));
            }
            self.wanted.iter().all(|wanted| found.contains_key(&wanted.decision)).then_some(found)
        })
        .await;
        let mut wrong = Vec::new();
        for wanted in &self.wanted {
            let records = found.remove(&wanted.decision).unwrap_or_default();
            let right = |(body, details): &(Value, Value)| {
                body["kind"] == "refused"
                    && body["reason"] == wanted.reason
                    && body["principal"].is_null() == wanted.stranger
                    && details["claims"].is_null() == wanted.stranger
                    && details["address"] == wanted.address
            };
            if records.len() != 1 || !right(&records[0]) {
                wrong.push(format!("{}: not one record of `{}`: {records:?}", wanted.name, wanted.reason));
            }
        }
        wrong
    }

    /// What must hold when all is over: no call that no grant explains, every reason counted, good jobs served, and no
    /// token anywhere.
    pub async fn aftermath(&mut self) -> Vec<String> {
        let mut wrong = self.attack(None, table::ROLE, &Recipe::default(), &Expected::granted()).await;
        self.trap.assert_silent();
        wrong.extend(self.records().await);
        let mut must = |holds: bool, what: String| {
            if !holds {
                wrong.push(what);
            }
        };
        for (profile, issuer) in &self.issuers {
            must(issuer.key_fetches() < 10, format!("{} key fetches of `{profile}`", issuer.key_fetches()));
        }
        let metrics = self.broker.metrics().await;
        for (reason, count) in &self.reasons {
            let counted = metrics.sum("claimbound_exchanges_total", &[("reason", reason)]);
            must(counted == f64::from(*count), format!("`{reason}`: {counted} counted of {count}"));
        }
        std::fs::write(self.broker.directory().join("metrics.txt"), &metrics.0).unwrap();
        let exit = self.broker.terminate().await;
        must(exit.code == Some(0) && !exit.stderr.contains("panicked"), format!("{:?} {}", exit.code, exit.stderr));
        let mut secrets: Vec<&str> = self.secrets.iter().map(String::as_str).collect();
        secrets.push("canary-of-");
        canary::assert_absent(self.broker.directory(), &secrets);
        wrong
    }
}

fn role_is_aws(reply: &Reply) -> bool {
    reply.body["role"] == table::ROLE
}
