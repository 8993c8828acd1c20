//! A job as a file or a command line states it: for tests, and for `explain` without a server.

use crate::{
    claims::{Claims, ClaimsError},
    mapping::{IssuerId, MappingSet},
    workload::{Claim, Profiles, Workload, WorkloadError, from_canonical, translate},
};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// A job as a test states it: canonical claims, and what its token says beside them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Job {
    pub claims: Vec<(Claim, String)>,
    /// As a token has them: nested where they are nested.
    pub raw: Map<String, Value>,
}

impl Job {
    /// A canonical claim that is stated.
    pub fn text(&self, claim: Claim) -> Option<&str> {
        self.claims.iter().find(|(given, _)| *given == claim).map(|(_, text)| text.as_str())
    }
    /// Everything that is stated, for JSON: raw claims together under `claims`.
    pub fn to_json(&self) -> Map<String, Value> {
        let raw = (!self.raw.is_empty()).then(|| ("claims".to_owned(), Value::Object(self.raw.clone())));
        let claims = self.claims.iter().map(|(claim, text)| (claim.name().to_owned(), text.as_str().into()));
        claims.chain(raw).collect()
    }
    /// Everything that is stated, in one line.
    pub fn line(&self) -> String {
        let claims = self.claims.iter().map(|(claim, text)| format!("{} = {text:?}", claim.name()));
        let raw = (!self.raw.is_empty()).then(|| format!("claims = {}", Value::Object(self.raw.clone())));
        claims.chain(raw).collect::<Vec<_>>().join(", ")
    }
}

impl From<Vec<(Claim, String)>> for Job {
    fn from(claims: Vec<(Claim, String)>) -> Self {
        Self { claims, raw: Map::new() }
    }
}
impl FromIterator<(Claim, String)> for Job {
    fn from_iter<I: IntoIterator<Item = (Claim, String)>>(claims: I) -> Self {
        claims.into_iter().collect::<Vec<_>>().into()
    }
}

/// What a test gives: a job in canonical claims, or a raw token's claims.
#[derive(Clone, Debug)]
pub enum Given {
    Workload(Job),
    Claims(Value),
}

/// Why there is no workload.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GivenError {
    #[error("no profile `{0}` is known")]
    Profile(String),
    #[error("the claims are {0}")]
    Claims(#[from] ClaimsError),
    #[error("no job is like this: {0}")]
    Refused(#[from] WorkloadError),
}

impl Given {
    /// The workload, as `serve` would make it of a token: a stranger's is refused.
    pub fn workload(
        &self,
        set: &MappingSet,
        profiles: &Profiles,
        issuer: IssuerId,
    ) -> Result<Workload<'static>, GivenError> {
        let issuer = set.issuer(issuer);
        let profile = profiles.get(&issuer.profile).ok_or_else(|| GivenError::Profile(issuer.profile.clone()))?;
        let workload = match self {
            Self::Workload(Job { claims, raw }) => {
                let given: Vec<_> = claims.iter().map(|(claim, text)| (*claim, Cow::Borrowed(&**text))).collect();
                let mut workload = from_canonical(profile, &issuer.name, &given)?;
                if !raw.is_empty() {
                    workload.raw = read(&Value::Object(raw.clone()))?;
                }
                workload
            }
            Self::Claims(claims) => translate(profile, &issuer.name, read(claims)?)?,
        };
        if !issuer.lists_owner_of(&workload) {
            return Err(WorkloadError::Stranger.into());
        }
        Ok(workload)
    }

    /// Fills ids that were left out: the repository's from the mappings that pair one with its name, the owner's
    /// from `owners`.
    pub fn fill_ids(&mut self, set: &MappingSet, issuer: IssuerId) {
        let Self::Workload(job) = self else { return };
        let text = |claim| job.text(claim);
        let repository = text(Claim::Repository);
        let owner = text(Claim::RepositoryOwner).or_else(|| Some(repository?.rsplit_once('/')?.0));
        let found = [
            (Claim::RepositoryId, repository.and_then(|name| set.id_of_repository(issuer, name))),
            (Claim::RepositoryOwnerId, owner.and_then(|name| set.issuer(issuer).id_of_owner(name))),
        ];
        let filled: Vec<_> = found
            .into_iter()
            .filter(|(claim, _)| text(*claim).is_none())
            .filter_map(|(claim, id)| Some((claim, id?.to_owned())))
            .collect();
        job.claims.extend(filled);
    }
}

fn read(claims: &Value) -> Result<Claims<'static>, ClaimsError> {
    Ok(Claims::parse(claims.to_string().as_bytes())?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::*;

    #[test]
    fn ids_are_filled_where_one_is_known() {
        let set = Builder::new()
            .mapping("a", "r", [repositories(&[("acme/api", "1"), ("acme/two", "2")])])
            .mapping("b", "s", [repositories(&[("Acme/API", "1"), ("acme/two", "3")])])
            .build();
        let filled = |claims: &[(Claim, &str)]| {
            let claims = claims.iter().map(|(claim, text)| (*claim, text.to_string())).collect();
            let mut given = Given::Workload(claims);
            given.fill_ids(&set, IssuerId(0));
            let Given::Workload(job) = given else { unreachable!("it stays what it was") };
            job.claims
                .into_iter()
                .filter(|(claim, _)| claim.name().ends_with("id"))
                .map(|(_, id)| id)
                .collect::<Vec<_>>()
        };
        assert_eq!(filled(&[(Claim::Repository, "acme/API")]), ["1", "65"]);
        assert_eq!(filled(&[(Claim::Repository, "acme/two")]), ["65"], "two ids are known for it");
        assert_eq!(filled(&[(Claim::Repository, "else/api")]), [""; 0]);
        assert_eq!(filled(&[(Claim::Repository, "acme/api"), (Claim::RepositoryId, "9")]), ["9", "65"]);
    }
}
