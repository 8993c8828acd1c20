//! `claimbound doctor`: whether the other side is set up for a role, asked of the other side itself; and whether a job is (`job`).

use super::{
    deployment::Deployment,
    job,
    loaded::{self, Loaded},
    trust::{find, told},
};
use crate::{
    broker::{SystemClock, deniers, deployment as facts},
    config::Config,
    documents::{JWKS_PATH, OPENID_CONFIGURATION_PATH},
    issuance::{
        Order,
        aws::{self, AwsRole, Backend, Mode, arn::RoleArn, denial::Denier},
    },
    keys::signing::{KeyState, Signer, SigningAlgorithm},
    net::{Client, FetchRules},
};
use anyhow::{Context, Result, bail};
use claimbound_core::{
    evidence::LeaseId,
    mapping::{Condition, Mapping, MappingId, Role, Test},
    time::{Clock, UnixSeconds},
    workload::{self, Case, Claim},
};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};
use uuid::Uuid;

const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
const FETCH_SECONDS_MAX: u64 = 10;

/// Ask the other side, or a job, whether it is set up
///
/// Exit code 0: all is well, 1: something is missing, 2: it cannot be asked.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(subcommand)]
    pub kind: DoctorKind,
}

#[derive(Debug, Subcommand)]
pub enum DoctorKind {
    /// Ask AWS: fetch the published documents, and ask STS once for a session that may do nothing
    ///
    /// Exit code 0: all is well, 1: something is missing, 2: it cannot be asked.
    #[command(after_help = "Example:
  claimbound doctor aws --role payments-deploy")]
    Aws {
        /// The role that shall work
        #[arg(long)]
        role: String,
        #[command(flatten)]
        deployment: Deployment,
    },
    Job(job::doctor::DoctorArgs),
}

/// Exit code 0 when all is well, 1 when something is missing, 2 when it cannot be asked.
pub fn run(args: DoctorArgs) -> Result<u8> {
    let (role, deployment) = match args.kind {
        DoctorKind::Aws { role, deployment } => (role, deployment),
        DoctorKind::Job(args) => {
            let mut found = Findings::default();
            super::serve::runtime()?.block_on(job::doctor::examine(&args, &mut found));
            return Ok(found.told());
        }
    };
    let config = deployment.read()?;
    let Some(loaded) = loaded::load(&config.mappings)? else { return Ok(2) };
    let role = find(&loaded.set.roles, &role)?;
    if role.kind != aws::NAME {
        bail!("role `{}` has a backend of kind `{}`, not `{}`", role.name, role.kind, aws::NAME);
    }
    let mut found = Findings::default();
    super::serve::runtime()?.block_on(examine(&config, &loaded, role, &mut found))?;
    Ok(found.told())
}

#[derive(Default)]
pub struct Findings {
    pub missing: u32,
}

impl Findings {
    pub fn ok(&mut self, what: &str) {
        line("ok", what);
    }
    /// What may be meant.
    pub fn note(&mut self, what: &str) {
        line("note", what);
    }
    pub fn missing(&mut self, what: &str) {
        line("missing", what);
        self.missing += 1;
    }
    /// The last line, and the exit code.
    fn told(&self) -> u8 {
        println!("{}", if self.missing == 0 { "all is well" } else { "something is missing" });
        u8::from(self.missing > 0)
    }
}

fn line(word: &str, what: &str) {
    println!("{word:<8} {}", loaded::without_control(what));
}

async fn examine(config: &Config, loaded: &Loaded, role: &Role, found: &mut Findings) -> Result<()> {
    let facts = facts(config);
    let Some(settings) = facts.backends.get(&role.backend) else {
        bail!("role `{}` names the backend `{}`, which is not configured", role.name, role.backend);
    };
    let parsed = aws::Config::parse(role, &loaded.set.policies, Some(&facts)).map_err(|faults| told(&faults))?;
    found.ok(&format!("the folder's `{}` can be asked for: {}", role.name, parsed.role_arn.text));
    let signer = Signer::open_existing(&config.signing.keys, config.signing.seal.clone())?;
    let now = SystemClock.now();
    if settings.mode == Mode::WebIdentity {
        if let Some(warning) = config.hidden_from_aws() {
            found.missing(&warning);
        }
        documents(&config.issuer_url, &signer, now, found).await?;
    }
    if let Some(denier) = deniers(config).get(&role.backend) {
        boundary(denier, &parsed.role_arn, found).await;
    }
    let backend = Backend::new(&role.backend, settings.clone(), config.issuer_url.as_str().into(), signer);
    let minter = AwsRole::new(parsed, Arc::new(backend));
    let given = sample(loaded, role)?;
    let profile = loaded.profiles.get(&given.profile).context("the mapping's issuer has no profile")?;
    let claims: Vec<_> = given.claims.iter().map(|(claim, text)| (*claim, Cow::Borrowed(text.as_str()))).collect();
    let principal = workload::from_canonical(profile, &given.issuer, &claims)?;
    let case = Case::alone(principal);
    let (id, name) = case.principal.principal_id(profile);
    let order = Order {
        narrowing: None,
        lease: LeaseId(Uuid::now_v7().as_u128()),
        role: &role.name,
        mapping: &given.mapping,
        case: &case,
        principal_id: id,
        principal_name: name,
        actor_id: None,
        approved_by: &[],
        scope: None,
        now,
        duration: role.max_duration,
    };
    match minter.probe(&order).await {
        Ok(arn) => found.ok(&format!("AWS gave a session, which may do nothing and was dropped: {arn}")),
        Err(why) => found.missing(&format!("AWS gives no session: {why}")),
    }
    Ok(())
}

/// The policy that ends sessions is the role's boundary, and nobody's permission.
async fn boundary(denier: &Denier, role: &RoleArn, found: &mut Findings) {
    let arn = denier.policy_arn();
    if !denier.covers(role) {
        found.missing(&format!(
            "`{arn}` is of another account than {}: its sessions can only be ended by a boundary of its own, printed by \
             `claimbound trust aws --denials`",
            role.text
        ));
        return;
    }
    let attached = match denier.attached().await {
        Ok(attached) => attached,
        Err(why) => {
            found.missing(&format!(
                "`{arn}` cannot be looked at: {why}; `claimbound trust aws --boundary` prints what is needed"
            ));
            return;
        }
    };
    for who in &attached.permits {
        found.missing(&format!(
            "`{arn}` is attached to {who} as a permissions policy, where it allows everything: detach it, it is a boundary"
        ));
    }
    if attached.boundary_of.contains(&role.name) {
        found.ok(&format!("`{arn}` is the permissions boundary of {}", role.text));
    } else {
        found.missing(&format!(
            "`{arn}` is not the permissions boundary of {}: its sessions cannot be ended early; `claimbound trust aws \
             --boundary` prints what is needed",
            role.text
        ));
    }
}

/// What AWS will read at the issuer's URL: the right name, and the key that signs.
async fn documents(issuer_url: &str, signer: &Signer, now: UnixSeconds, found: &mut Findings) -> Result<()> {
    let client = Client::new()?;
    let rules = FetchRules {
        allow_private_network: true,
        allow_plain_loopback: true,
        ca_file: None,
        bytes_max: DOCUMENT_BYTES_MAX,
        timeout: Duration::from_secs(FETCH_SECONDS_MAX),
    };
    let fetch = async |url: String| -> Result<Value, String> {
        let body = client.get(&url, &rules).await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&body).map_err(|error| format!("GET {url}: not JSON: {error}"))
    };
    let discovery = match fetch(format!("{issuer_url}{OPENID_CONFIGURATION_PATH}")).await {
        Ok(discovery) => discovery,
        Err(why) => {
            found.missing(&format!("the discovery document: {why}; start the broker, or publish with `issuer export`"));
            return Ok(());
        }
    };
    if discovery["issuer"] != issuer_url {
        found.missing(&format!("the discovery document names the issuer {}, not `{issuer_url}`", discovery["issuer"]));
    }
    let jwks_url = discovery["jwks_uri"].as_str().map_or_else(|| format!("{issuer_url}{JWKS_PATH}"), str::to_owned);
    let keys = match fetch(jwks_url.clone()).await {
        Ok(keys) => keys,
        Err(why) => {
            found.missing(&format!("the key set: {why}"));
            return Ok(());
        }
    };
    let published = |kid: &str| keys["keys"].as_array().is_some_and(|keys| keys.iter().any(|key| key["kid"] == kid));
    let ours = signer.list(now).into_iter();
    let signing = ours.filter(|key| key.algorithm == SigningAlgorithm::Es256 && key.state == KeyState::Signing);
    let lost: Vec<_> = signing.map(|key| key.kid).filter(|kid| !published(kid)).collect();
    if lost.is_empty() {
        found.ok(&format!("discovery document and key set at {issuer_url} hold the signing key"));
    } else {
        found.missing(&format!("the key set at {jwks_url} lacks `{}`; export again", lost.join("`, `")));
    }
    Ok(())
}

/// A job that today's mappings could give the role to, as far as the session's tags and a pinned trust policy see it.
struct Sample {
    issuer: String,
    profile: String,
    mapping: String,
    claims: BTreeMap<Claim, String>,
}

fn sample(loaded: &Loaded, role: &Role) -> Result<Sample> {
    let set = &loaded.set;
    let id = set.role_named(&role.name).context("the role is in the folder")?;
    let mut mappings = set.mappings.iter().enumerate().filter(|(_, one)| !one.shadow && one.roles.contains(&id));
    let Some((at, mapping)): Option<(usize, &Mapping)> = mappings.next() else {
        bail!("no mapping gives role `{}` yet; write one first", role.name);
    };
    let number = MappingId(u32::try_from(at)?);
    let issuer = set.issuer(mapping.issuer);
    let mut claims = BTreeMap::new();
    let mut put = |claim, text: &str| {
        claims.entry(claim).or_insert_with(|| text.to_owned());
    };
    let conditions: Vec<&Condition> = set.conditions_for(number, id).collect();
    for condition in &conditions {
        match &condition.test {
            test if test.repositories().is_some() => {
                let Some((name, id)) = test.repositories().and_then(<[_]>::first) else { continue };
                put(Claim::RepositoryId, id);
                put(Claim::Repository, if name.is_empty() { "doctor/doctor" } else { name });
            }
            Test::Text(lang) => {
                if let Some(claim) = condition.claim.canonical().filter(|claim| *claim != Claim::Repository) {
                    put(claim, &lang.witness().unwrap_or_default());
                }
            }
            _ => {}
        }
    }
    put(Claim::Subject, "doctor");
    put(Claim::RepositoryId, "0");
    let (issuer, profile) = (issuer.name.to_string(), issuer.profile.clone());
    Ok(Sample { issuer, profile, mapping: mapping.name.clone(), claims })
}
