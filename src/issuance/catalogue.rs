//! Roles of a mapping set → one minter per role, with spanned errors.

use super::{
    Minter,
    jwt::{self, JwtRole},
};
use crate::keys::signing::Signer;
use claimbound_core::{
    diag::{Code, Diagnostic, did_you_mean},
    mapping::{MappingSet, Role},
};
use std::sync::Arc;

/// Every backend of this version.
const BACKENDS: [&str; 1] = [jwt::NAME];
const BACKEND_UNKNOWN: Code = Code(800);

/// Every code that the catalogue can give, with its title; each has a page under `docs/diagnostics/`.
pub fn codes() -> impl Iterator<Item = (Code, &'static str)> {
    [(BACKEND_UNKNOWN, "a backend that does not exist")].into_iter().chain(jwt::CODES)
}

/// `iss` of what is signed without a deployment (`explain`, tests): a name that nobody can trust by accident
/// (RFC 6761 section 6.4).
const NO_ISSUER_URL: &str = "https://offline.invalid";

/// What a role's parameters must not clash with.
pub struct Deployment<'a> {
    pub public_url: &'a str,
    pub issuer_url: &'a str,
}

/// One minter per role, at the role's number. All faults of all roles at once. Offline (`check`), pass `None`: the
/// parameters are judged, audiences that depend on the deployment are not, and tokens name no real issuer.
pub fn compile(
    set: &MappingSet,
    deployment: Option<&Deployment<'_>>,
    signer: &Arc<Signer>,
) -> Result<Vec<Box<dyn Minter>>, Vec<Diagnostic>> {
    let issuer_url: Arc<str> = deployment.map_or(NO_ISSUER_URL, |deployment| deployment.issuer_url).into();
    let mut minters: Vec<Box<dyn Minter>> = Vec::with_capacity(set.roles.len());
    let mut faults = Vec::new();
    for role in &set.roles {
        match config(role, deployment) {
            Ok(config) => minters.push(Box::new(JwtRole::new(config, issuer_url.clone(), Arc::clone(signer)))),
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() { Ok(minters) } else { Err(faults) }
}

/// The offline part of [`compile`], for `check` and `explain`.
pub fn check(set: &MappingSet, deployment: Option<&Deployment<'_>>) -> Vec<Diagnostic> {
    set.roles.iter().filter_map(|role| config(role, deployment).err()).flatten().collect()
}

fn config(role: &Role, deployment: Option<&Deployment<'_>>) -> Result<jwt::Config, Vec<Diagnostic>> {
    if role.backend == jwt::NAME {
        return jwt::Config::parse(role, deployment);
    }
    let help = match did_you_mean(&role.backend, BACKENDS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("this version has the backend `{}`", BACKENDS.join("`, `")),
    };
    let message = format!("role `{}` names the backend `{}`, which does not exist", role.name, role.backend);
    Err(vec![Diagnostic::error(BACKEND_UNKNOWN, role.span.clone(), message, help)])
}

#[cfg(test)]
mod tests {
    use super::{super::jwt::tests::role, *};

    #[test]
    fn a_backend_that_does_not_exist_is_refused_here_too() {
        for (backend, help) in [("jwtt", "did you mean `jwt`?"), ("aws", "this version has the backend `jwt`")] {
            let role = Role { backend: backend.to_owned(), ..role("audience = 'a'") };
            let faults = config(&role, None).unwrap_err();
            assert_eq!((faults.len(), faults[0].code), (1, BACKEND_UNKNOWN));
            assert_eq!(faults[0].help.as_deref(), Some(help));
        }
        assert!(config(&role("audience = 'a'"), None).is_ok());
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
