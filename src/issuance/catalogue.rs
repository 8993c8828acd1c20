//! Roles of a mapping set → one minter per role, with spanned errors.

use super::{
    Minter,
    aws::{self, AwsRole},
    jwt::{self, JwtRole},
    status::StatusLists,
};
use crate::keys::signing::Signer;
use claimbound_core::{
    diag::{Code, Diagnostic, Severity, did_you_mean},
    mapping::{MappingSet, Role},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const BACKEND_UNKNOWN: Code = Code(800);

/// The kinds of backends, with the keys of their tables.
pub const KEYS: [(&str, &[&str]); 2] = [("jwt", &jwt::KEYS), ("aws", &aws::KEYS)];

/// Every code that the catalogue can give, with its title; each has a page under `docs/diagnostics/`.
pub fn codes() -> impl Iterator<Item = (Code, &'static str)> {
    [(BACKEND_UNKNOWN, "a backend that does not exist")].into_iter().chain(jwt::CODES).chain(aws::CODES)
}

/// What a role's parameters must fit.
pub struct Deployment<'a> {
    pub public_url: &'a str,
    pub issuer_url: &'a str,
    /// Configured backends of kind `aws`, by name.
    pub backends: BTreeMap<String, aws::Settings>,
}

/// What was compiled for a set's roles.
pub struct Compiled {
    /// One per role, at the role's number.
    pub minters: Vec<Box<dyn Minter>>,
    /// Every backend that roles use, and a region that one of them uses it in.
    pub backends: Vec<(Arc<aws::Backend>, String)>,
}

/// One minter per role. All faults of all roles at once.
///
/// # Errors
/// All findings that are errors.
pub fn compile(
    set: &MappingSet,
    deployment: &Deployment<'_>,
    signer: &Arc<Signer>,
    lists: &Arc<StatusLists>,
) -> Result<Compiled, Vec<Diagnostic>> {
    let issuer_url: Arc<str> = deployment.issuer_url.into();
    let backend = |(name, settings): (&String, &aws::Settings)| {
        let backend = aws::Backend::new(name, settings.clone(), issuer_url.clone(), Arc::clone(signer));
        (name.clone(), Arc::new(backend))
    };
    let backends: BTreeMap<String, Arc<aws::Backend>> = deployment.backends.iter().map(backend).collect();
    let mut compiled = Compiled { minters: Vec::with_capacity(set.roles.len()), backends: Vec::new() };
    let (mut faults, mut used) = (Vec::new(), BTreeSet::new());
    for role in &set.roles {
        match config(set, role, Some(deployment)) {
            Ok(Config::Jwt(config)) => {
                let minter = JwtRole::new(config, issuer_url.clone(), Arc::clone(signer), Arc::clone(lists));
                compiled.minters.push(Box::new(minter));
            }
            Ok(Config::Aws(config)) => {
                let backend = &backends[&role.backend];
                let minter = AwsRole::new(*config, Arc::clone(backend));
                if used.insert(&role.backend) {
                    compiled.backends.push((Arc::clone(backend), minter.region().to_owned()));
                }
                compiled.minters.push(Box::new(minter));
            }
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() { Ok(compiled) } else { Err(faults) }
}

/// The part of [`compile`] that makes nothing, for `check` and `explain`: also warnings. Offline pass `None`: what
/// depends on the deployment is not judged.
pub fn check(set: &MappingSet, deployment: Option<&Deployment<'_>>) -> Vec<Diagnostic> {
    let faults = set.roles.iter().filter_map(|role| config(set, role, deployment).err()).flatten();
    // A fault that a policy file has is found once for each role that uses it.
    let mut seen = BTreeSet::new();
    let mut found: Vec<Diagnostic> = faults
        .filter(|fault| {
            let place = fault.span.as_ref().map(|span| (span.file.clone(), span.bytes().start, span.bytes().end));
            seen.insert((fault.code, place, fault.message.clone()))
        })
        .collect();
    if !found.iter().any(|fault| fault.severity == Severity::Error) {
        found.extend(aws::briefs(set));
        found.extend(aws::eager(set));
    }
    found
}

enum Config {
    Jwt(jwt::Config),
    Aws(Box<aws::Config>),
}

fn config(set: &MappingSet, role: &Role, deployment: Option<&Deployment<'_>>) -> Result<Config, Vec<Diagnostic>> {
    if role.kind != aws::NAME {
        return jwt::Config::parse(role, deployment).map(Config::Jwt);
    }
    if let Some(deployment) = deployment
        && !deployment.backends.contains_key(&role.backend)
    {
        let help = match did_you_mean(&role.backend, deployment.backends.keys().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write `[backend.{}]` with its `mode` into the configuration", role.backend),
        };
        let message = format!("role `{}` names the backend `{}`, which is not configured", role.name, role.backend);
        return Err(vec![Diagnostic::error(BACKEND_UNKNOWN, role.span.clone(), message, help)]);
    }
    aws::Config::parse(role, &set.policies, deployment).map(|config| Config::Aws(Box::new(config)))
}

#[cfg(test)]
mod tests {
    use super::{super::jwt::tests::role, *};

    #[test]
    fn a_backend_that_is_not_configured_is_refused() {
        let aws = Role { backend: "aws-china".to_owned(), kind: aws::NAME, ..role("") };
        let settings = aws::Settings {
            mode: aws::Mode::WebIdentity,
            region: None,
            endpoint_url: None,
            external_id: None,
            timeout: std::time::Duration::from_secs(1),
            connect_timeout: std::time::Duration::from_secs(1),
        };
        for (configured, help) in [
            ("aws-chine", "did you mean `aws-chine`?"),
            ("other", "write `[backend.aws-china]` with its `mode` into the configuration"),
        ] {
            let backends = [(configured.to_owned(), settings.clone())].into();
            let here = Deployment { public_url: "https://b.example", issuer_url: "https://b.example", backends };
            let mut set = MappingSet::default();
            set.roles.push(aws.clone());
            let faults = check(&set, Some(&here));
            assert_eq!((faults.len(), faults[0].code), (1, BACKEND_UNKNOWN));
            assert_eq!(faults[0].help.as_deref(), Some(help));
        }
    }

    #[test]
    fn every_code_has_its_page() {
        for (code, title) in codes() {
            let path = format!("{}/docs/diagnostics/{code}.md", env!("CARGO_MANIFEST_DIR"));
            let page = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(page.lines().next(), Some(format!("# {code}: {title}").as_str()));
        }
    }
}
