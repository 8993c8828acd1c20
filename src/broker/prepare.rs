//! Configuration + folder → everything that can be judged without starting: what `serve --check` does.

use super::{Active, Behind, introspect::Clients, jobs::OperatorJobs, sign_ins};
use crate::{
    config::{self, AwsBackend, AwsMode, Config},
    exchange::Snapshot,
    folder::{self, FolderError},
    issuance::{
        aws,
        catalogue::{self, Compiled, Deployment},
        status::StatusLists,
    },
    keys::{
        issuers::{IssuerConfig, Pin, REFRESH_SECONDS_MAX},
        signing::{Signer, SigningError},
    },
    store::Down,
};
use claimbound_core::{
    diag::{Code, Diagnostic, Severity, Span},
    evidence::hex,
    mapping::{self, Folder, Issuer, MappingSet},
    review,
    time::UnixSeconds,
    trust::{self, Algorithm, Cut, IssuerRules},
    workload::Profiles,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

const _: () = assert!(*config::REFRESH_SECONDS.end() as u64 == REFRESH_SECONDS_MAX, "one bound, told in two rooms");
const _: () = assert!(config::KID_BYTES_MAX == trust::KID_BYTES_MAX, "what can be denied is what can be sent");

/// What a broker starts with; nothing has been opened or made for it.
pub struct Prepared {
    pub mappings: MappingSet,
    pub profiles: Profiles,
    pub issuers: Vec<IssuerConfig>,
    /// The folder as it is kept in the store.
    pub archive: Vec<u8>,
    /// Warnings and notes.
    pub diagnostics: Vec<Diagnostic>,
    pub folder: Folder,
    /// Whose jobs may act as operators.
    pub(super) jobs: OperatorJobs,
}

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Findings about the mapping folder, with its files for rendering.
    #[error("the mapping folder does not load: {} errors", diagnostics.len())]
    Findings { folder: Folder, diagnostics: Vec<Diagnostic> },
    /// The folder cannot be read at all.
    #[error("the mapping folder cannot be read")]
    Folder(#[source] FolderError),
    #[error(transparent)]
    Signing(#[from] SigningError),
    #[error(transparent)]
    Store(#[from] Down),
    /// The store lacks what a checkpoint was signed over.
    #[error("the store is behind its checkpoint: {}", .0.why)]
    Behind(Behind),
    #[error("{0}")]
    Other(String),
}

const DEVELOPMENT_ISSUER: Code = Code(1005);
const ISSUER_NOT_IN_POLICY: Code = Code(1006);
const PINNED_KEYS: Code = Code(1007);

/// Reads, compiles, proves and tests the folder, and fits it to the configuration.
///
/// # Errors
/// All findings at once.
pub fn prepare(config: &Config) -> Result<Prepared, StartError> {
    let folder = folder::read(&config.mappings, true).map_err(|error| match error {
        FolderError::Refused { findings, .. } => {
            StartError::Findings { folder: Folder::default(), diagnostics: findings }
        }
        other => StartError::Folder(other),
    })?;
    let mapping::Loaded { set, tests, mut diagnostics, profiles } = mapping::load(&folder, &Profiles::builtin());
    let Some(set) = set else { return Err(StartError::Findings { folder, diagnostics }) };

    diagnostics.extend(catalogue::check(&set, Some(&deployment(config))));
    diagnostics.extend(review::run_tests(&set, &profiles, &tests).into_iter().filter_map(|test| test.failure));
    let known = |name: &String| set.issuer_named(name).is_some();
    for name in config.issuers.keys().filter(|name| !known(name)) {
        let policy = Span::new("policy.toml", 0..0);
        let message = format!("the configuration has `[issuer.{name}]`, and policy.toml names no such issuer");
        diagnostics.push(Diagnostic::error(ISSUER_NOT_IN_POLICY, policy, message, "name it in both, or in neither"));
    }
    diagnostics.extend(sign_ins::judged(config, &set));
    let issuers: Vec<_> = set.issuers.iter().map(|issuer| trusted(issuer, config, &profiles)).collect();
    for (issuer, trusted) in set.issuers.iter().zip(&issuers) {
        diagnostics.extend(judged(issuer, trusted, config.development));
    }
    let jobs = OperatorJobs::compile(config, &set, &folder).unwrap_or_else(|found| {
        diagnostics.extend(found);
        OperatorJobs::default()
    });
    if diagnostics.iter().any(|d| d.severity == Severity::Error) {
        return Err(StartError::Findings { folder, diagnostics });
    }
    Clients::read(config).map_err(StartError::Other)?;
    let archive = folder::archive(&folder);
    Ok(Prepared { mappings: set, profiles, issuers, archive, diagnostics, folder, jobs })
}

/// What judges: the folder's mappings with minters over the configured backends.
///
/// # Errors
/// Findings about roles' parameters.
pub(super) async fn activate(
    config: Config,
    prepared: Prepared,
    signer: &Arc<Signer>,
    places: &Arc<StatusLists>,
) -> Result<Active, StartError> {
    let Prepared { mappings, profiles, folder, diagnostics, jobs, .. } = prepared;
    for found in diagnostics {
        let file = found.span.as_ref().map(|span| &*span.file);
        tracing::warn!(code = %found.code, file, finding = found.message, "the mapping folder loads with a finding");
    }
    let Compiled { minters, backends } = catalogue::compile(&mappings, &deployment(&config), signer, places)
        .map_err(|diagnostics| StartError::Findings { folder, diagnostics })?;
    futures_util::future::join_all(backends.iter().map(|(backend, region)| backend.start(region))).await;
    let version = hex(&mappings.version);
    let deniers = deniers(&config);
    Ok(Active { config, deniers, snapshot: Snapshot { mappings, minters, profiles }, jobs, version })
}

/// What roles' parameters must fit.
pub fn deployment(config: &Config) -> Deployment<'_> {
    let settings = |backend: &AwsBackend| aws::Settings {
        mode: match backend.mode {
            AwsMode::WebIdentity => aws::Mode::WebIdentity,
            AwsMode::AssumeRole => aws::Mode::AssumeRole,
        },
        region: backend.region.clone(),
        endpoint_url: backend.endpoint_url.clone(),
        external_id: backend.external_id.clone(),
        timeout: Duration::from_secs(backend.timeout_seconds.into()),
        connect_timeout: Duration::from_secs(backend.connect_timeout_seconds.into()),
    };
    let backends = config.backends.iter().map(|(name, backend)| (name.clone(), settings(backend))).collect();
    Deployment { public_url: &config.public_url, issuer_url: &config.issuer_url, backends }
}

/// Who may tell AWS what to refuse, by the name of the backend.
pub fn deniers(config: &Config) -> BTreeMap<String, Arc<aws::denial::Denier>> {
    let settings = |backend: &AwsBackend| {
        let denial = backend.denial.as_ref()?;
        Some(aws::denial::Settings {
            policy_arn: denial.policy_arn.clone(),
            endpoint_url: denial.endpoint_url.clone(),
            timeout: Duration::from_secs(backend.timeout_seconds.into()),
            connect_timeout: Duration::from_secs(backend.connect_timeout_seconds.into()),
        })
    };
    let of = |(name, backend)| {
        let denier = aws::denial::Denier::new(settings(backend)?);
        Some((String::clone(name), Arc::new(denier)))
    };
    config.backends.iter().filter_map(of).collect()
}

/// What is wrong with an issuer where policy and configuration meet.
fn judged(issuer: &Issuer, trusted: &IssuerConfig, development: bool) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if trusted.development && !development {
        let help = "name the issuer's own `https://` URL; a development broker is started with `--development`";
        let message = format!("issuer `{}` is a development issuer", issuer.name);
        found.push(Diagnostic::error(DEVELOPMENT_ISSUER, issuer.span.clone(), message, help));
    }
    // One that is cut off needs no keys, and an operator in a hurry no second error.
    let pin = trusted.pin.as_ref().filter(|_| !trusted.cut.disabled);
    if let Some(Err(why)) = pin.map(|pin| pin.read(&trusted.algorithms)) {
        let help = "`claimbound jwks fetch --issuer NAME --out FILE`, where the issuer can be reached, writes the file";
        let message = format!("`jwks` of `[issuer.{}]` in the configuration: {why}", issuer.name);
        found.push(Diagnostic::error(PINNED_KEYS, issuer.span.clone(), message, help));
    }
    found
}

/// Trust facts from policy and profile, network facts from the configuration.
pub fn trusted(issuer: &Issuer, config: &Config, profiles: &Profiles) -> IssuerConfig {
    let profile = profiles.get(&issuer.profile).expect("a folder that loads names only known profiles");
    let network = config.issuers.get(&*issuer.name).cloned().unwrap_or_default();
    let development = issuer.url.starts_with("http://");
    IssuerConfig {
        name: issuer.name.to_string(),
        url: issuer.url.clone(),
        rules: IssuerRules {
            audience: config.public_url.clone(),
            max_lifetime_seconds: network.max_lifetime_seconds.unwrap_or_else(|| profile.max_lifetime_seconds()),
            single_use: profile.single_use(),
            actor_single_use: profile.actor_single_use(),
            requires_nbf: profile.requires_nbf(),
            required: profile.required().to_vec(),
        },
        algorithms: profile.algorithms().iter().filter_map(|name| Algorithm::from_name(name)).collect(),
        allow_private_network: network.allow_private_network || development,
        development,
        ca_file: network.ca_file,
        jwks_origin: network.jwks_origin.or_else(|| profile.jwks_origin().map(str::to_owned)),
        pin: network.jwks.map(|jwks| Pin {
            file: jwks.file,
            expires: UnixSeconds(jwks.expires),
            warn_before_seconds: jwks.warn_before_seconds,
        }),
        refresh: network.refresh_seconds.map(|seconds| Duration::from_secs(seconds.into())),
        cut: Cut { disabled: network.disabled, kids: network.deny_kids.into_iter().collect() },
    }
}
