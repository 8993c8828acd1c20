//! What stands at the issuer's URL, compared with what we made: whoever verifies our tokens believes every key that
//! they find there. A key of somebody else under our name would make their tokens ours.

use super::{KeyInfo, KeyState, PUBLISH_AHEAD_SECONDS};
use crate::net::{Client, FetchRules};
use claimbound_core::time::UnixSeconds;
use serde_json::Value;
use std::{collections::BTreeSet, path::PathBuf, time::Duration};

/// Both documents together.
const LOOK_SECONDS_MAX: u64 = 5;
/// Of one document: more than any static host has reason to serve here.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// Kids that one message names.
const KIDS_TOLD_MAX: usize = 5;
/// A new key may be missing for so long before it is told: documents are exported and published by people.
const MISSING_SECONDS_MIN: i64 = PUBLISH_AHEAD_SECONDS / 4;

/// Where our documents are published, if not by ourselves.
#[derive(Clone, Debug)]
pub struct PublishedAt {
    /// Without a slash at the end.
    pub issuer_url: String,
    pub allow_private_network: bool,
    pub allow_plain_loopback: bool,
    pub ca_file: Option<PathBuf>,
}

/// The key ids that a relying party finds there; a key without one is `""`.
///
/// # Errors
/// The documents cannot be read, or are not those of our issuer.
pub async fn look(client: &Client, at: &PublishedAt) -> Result<BTreeSet<String>, String> {
    let whole = Duration::from_secs(LOOK_SECONDS_MAX);
    let looked = async {
        let discovery = document(client, at, &format!("{}/.well-known/openid-configuration", at.issuer_url)).await?;
        if discovery["issuer"] != at.issuer_url.as_str() {
            return Err(format!("the discovery document there is of another issuer: {}", short(&discovery["issuer"])));
        }
        let jwks_uri = discovery["jwks_uri"].as_str().ok_or("the discovery document there has no `jwks_uri`")?;
        let jwks = document(client, at, jwks_uri).await?;
        let keys = jwks["keys"].as_array().ok_or_else(|| format!("{jwks_uri} is no key set"))?;
        Ok(keys.iter().map(|key| key["kid"].as_str().unwrap_or_default().to_owned()).collect())
    };
    tokio::time::timeout(whole, looked).await.unwrap_or_else(|_| Err(format!("no whole answer within {whole:?}")))
}

async fn document(client: &Client, at: &PublishedAt, url: &str) -> Result<Value, String> {
    let rules = FetchRules {
        allow_private_network: at.allow_private_network,
        allow_plain_loopback: at.allow_plain_loopback,
        ca_file: at.ca_file.as_deref(),
        bytes_max: DOCUMENT_BYTES_MAX,
        timeout: Duration::from_secs(LOOK_SECONDS_MAX),
    };
    let body = client.get(url, &rules).await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&body).map_err(|error| format!("{url} is not JSON: {error}"))
}

/// What is published, held against what we made.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Compared {
    /// Published, and never made here: nothing may be signed.
    pub foreign: Option<String>,
    /// Published or missing against our dates: relying parties refuse good tokens, or believe bad ones.
    pub differs: Option<String>,
}

/// `made`: whether a key was ever made by this store's brokers.
pub fn compare(
    published: &BTreeSet<String>,
    ours: &[KeyInfo],
    made: impl Fn(&str) -> bool,
    now: UnixSeconds,
) -> Compared {
    let foreign = published.iter().filter(|kid| !made(kid)).map(String::as_str);
    let ended = |key: &&KeyInfo| key.revoked.is_some() && published.contains(&key.kid);
    let missing = |key: &&KeyInfo| {
        let waited = now.0.saturating_sub(key.published.0);
        let expected = match key.state {
            KeyState::Published => waited >= MISSING_SECONDS_MIN,
            KeyState::Signing | KeyState::Retiring => true,
            KeyState::Gone => false,
        };
        expected && !published.contains(&key.kid)
    };
    let revoked = named(ours.iter().filter(ended).map(|key| key.kid.as_str()));
    let missing = named(ours.iter().filter(missing).map(|key| key.kid.as_str()));
    let differs = match (revoked, missing) {
        (Some(kids), _) => Some(format!("revoked keys are still published: {kids}")),
        (None, Some(kids)) => Some(format!("keys are not published, and tokens under them are refused: {kids}")),
        (None, None) => None,
    };
    Compared { foreign: named(foreign), differs }
}

fn named<'k>(kids: impl Iterator<Item = &'k str>) -> Option<String> {
    let kids: Vec<_> = kids.map(|kid| if kid.is_empty() { "(no `kid`)".to_owned() } else { cut(kid) }).collect();
    let told = kids.iter().take(KIDS_TOLD_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match kids.len() {
        0 => None,
        n if n > KIDS_TOLD_MAX => Some(format!("{told} and {} more", n - KIDS_TOLD_MAX)),
        _ => Some(told),
    }
}

/// Text from outside, on one line of a length that can be read.
fn cut(text: &str) -> String {
    format!("`{}`", text.chars().take(80).flat_map(char::escape_debug).collect::<String>())
}

fn short(value: &Value) -> String {
    value.as_str().map_or_else(|| "it names none".to_owned(), cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::signing::SigningAlgorithm;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn key(kid: &str, state: KeyState, published: i64, revoked: Option<UnixSeconds>) -> KeyInfo {
        let algorithm = SigningAlgorithm::Es256;
        let (published, signs_from) = (NOW.plus(-published), NOW);
        KeyInfo { kid: kid.into(), algorithm, state, published, signs_from, retires: None, gone: None, revoked }
    }

    #[test]
    fn foreign_missing_and_revoked_keys_are_told_apart() {
        let ours = [
            key("signs", KeyState::Signing, 90_000, None),
            key("new", KeyState::Published, 60, None),
            key("gone", KeyState::Gone, 900_000, None),
            key("stolen", KeyState::Gone, 900_000, Some(NOW)),
        ];
        let made = |kid: &str| kid != "theirs" && !kid.is_empty();
        let seen = |kids: &[&str]| {
            let published = kids.iter().map(|kid| (*kid).to_owned()).collect();
            let Compared { foreign, differs } = compare(&published, &ours, made, NOW);
            (foreign.unwrap_or_default(), differs.unwrap_or_default())
        };
        let none = String::new;
        assert_eq!(seen(&["signs"]), (none(), none()), "a new key has some hours to be published");
        assert_eq!(seen(&["signs", "gone", "of-another-replica"]), (none(), none()), "caches are slow");
        assert_eq!(seen(&["signs", "theirs", ""]).0, "(no `kid`), `theirs`");
        assert!(seen(&[]).1.contains("not published") && seen(&[]).1.contains("`signs`"));
        assert!(seen(&["signs", "stolen"]).1.contains("still published: `stolen`"));
        let late = [key("new", KeyState::Published, MISSING_SECONDS_MIN, None)];
        assert!(compare(&BTreeSet::new(), &late, made, NOW).differs.is_some());
        let many: BTreeSet<_> = (0..9).map(|n| format!("k{n}\n{}", "x".repeat(200))).collect();
        let told = compare(&many, &[], |_| false, NOW).foreign.unwrap();
        assert!(told.ends_with(" and 4 more") && told.len() < 600 && !told.contains('\n'), "{told}");
    }
}
