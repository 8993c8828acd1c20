//! Our own keys: made, rotated through four states, published; ES256 and RS256.
//!
//! A key's state follows from its timestamps and the time alone, so that every process that reads the directory says
//! the same at the same moment and nothing has to run for a rotation to go on. Relying parties cache key sets: a key
//! is published a day before it signs, and stays published until nothing that it signed can still be valid.
//!
//! The directory holds `keys.json` (the timestamps) and one PKCS#8 file per key, `<kid>.p8`. A new key file is written
//! as `<kid>.p8.new`, then `keys.json`, then the name is made good: whatever a crash leaves, the next [`Signer::open`]
//! finds the ring before or after, never between.

mod directory;
mod pair;

use crate::secret::Secret;
use arc_swap::ArcSwap;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use claimbound_core::time::UnixSeconds;
use directory::Directory;
use pair::Pair;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// How long a key is published before it signs: longer than relying parties cache a key set.
pub const PUBLISH_AHEAD_SECONDS: i64 = 24 * 3600;
/// No credential that we sign lives longer; [`crate::issuance::catalogue`] refuses roles that would.
pub const CREDENTIAL_SECONDS_MAX: u32 = 24 * 3600;
/// How often a running broker calls [`Signer::reload`] and [`Signer::remove_gone`]. A broker that has not read of
/// `rotate --now` signs on with the old key for so long, which the margin in [`RETIRING_SECONDS`] covers.
pub const RELOAD_SECONDS: u64 = 60;
/// How long a key stays published after its last signature: until the longest credential has expired, and a margin
/// for relying parties' clocks.
pub const RETIRING_SECONDS: i64 = CREDENTIAL_SECONDS_MAX as i64 + 3600;
const _: () = assert!(RETIRING_SECONDS > CREDENTIAL_SECONDS_MAX as i64 + RELOAD_SECONDS as i64);
/// Published keys beyond this would outgrow what relying parties read; a rotation that would pass it is refused.
const PUBLISHED_KEYS_MAX: usize = 16;

/// Algorithms that we sign with (RFC 7518 section 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SigningAlgorithm {
    Es256,
    Rs256,
}

impl SigningAlgorithm {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Es256, Self::Rs256];
    /// The JWS name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The four states of a key (design, section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyState {
    Published,
    Signing,
    Retiring,
    Gone,
}

impl KeyState {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Signing => "signing",
            Self::Retiring => "retiring",
            Self::Gone => "gone",
        }
    }
}

/// A key, as `keys list` shows it.
#[derive(Clone, Debug)]
pub struct KeyInfo {
    pub kid: String,
    pub algorithm: SigningAlgorithm,
    pub state: KeyState,
    pub published: UnixSeconds,
    pub signs_from: UnixSeconds,
    pub retires: Option<UnixSeconds>,
    pub gone: Option<UnixSeconds>,
}

/// The key directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("signing keys in {directory}: {why}")]
pub struct SigningError {
    pub directory: String,
    pub why: String,
}

/// One key in `keys.json`; times are seconds since 1970.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dates {
    kid: String,
    algorithm: SigningAlgorithm,
    published: i64,
    signs_from: i64,
    /// From then on a younger key signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retires: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gone: Option<i64>,
}

impl Dates {
    fn state(&self, now: UnixSeconds) -> KeyState {
        let past = |at: Option<i64>| at.is_some_and(|at| now.0 >= at);
        if past(self.gone) {
            KeyState::Gone
        } else if past(self.retires) {
            KeyState::Retiring
        } else if now.0 >= self.signs_from {
            KeyState::Signing
        } else {
            KeyState::Published
        }
    }

    fn info(&self, now: UnixSeconds) -> KeyInfo {
        KeyInfo {
            kid: self.kid.clone(),
            algorithm: self.algorithm,
            state: self.state(now),
            published: UnixSeconds(self.published),
            signs_from: UnixSeconds(self.signs_from),
            retires: self.retires.map(UnixSeconds),
            gone: self.gone.map(UnixSeconds),
        }
    }
}

#[derive(Clone)]
struct Key {
    dates: Dates,
    /// `None` once the private file is gone.
    pair: Option<Arc<Pair>>,
}

/// The key ring; shared by all minters.
pub struct Signer {
    /// `None`: in memory only.
    directory: Option<Directory>,
    keys: ArcSwap<Vec<Key>>,
    /// Held by whoever replaces `keys`; signing and publishing never wait for it.
    change: Mutex<()>,
}

impl Signer {
    /// Opens the directory, creating it (0700) and the first keys (0600, signing at once) if it is empty. Refuses
    /// files that others can read.
    pub fn open(directory: &Path, now: UnixSeconds) -> Result<Arc<Self>, SigningError> {
        let directory = Directory::create(directory)?;
        let held = directory.hold()?;
        let keys = match directory.read(&held)? {
            Some(keys) => keys,
            None => {
                let keys = first_keys(now).map_err(|why| directory.error(why))?;
                directory.write(&held, &keys)?;
                keys
            }
        };
        drop(held);
        let signer = Self { directory: Some(directory), keys: ArcSwap::from_pointee(keys), change: Mutex::default() };
        signer.remove_gone(now)?;
        Ok(Arc::new(signer))
    }

    /// Opens a directory that has keys and makes none, for commands.
    pub fn open_existing(directory: &Path) -> Result<Arc<Self>, SigningError> {
        let directory = Directory::at(directory);
        let keys = directory.read(&directory.hold()?)?.ok_or_else(|| {
            directory.error("there are none yet; `claimbound serve` makes them at its first start".to_owned())
        })?;
        Ok(Arc::new(Self { directory: Some(directory), keys: ArcSwap::from_pointee(keys), change: Mutex::default() }))
    }

    /// Keys in memory only, for `check`, `explain` and tests. They sign from the beginning of time.
    pub fn ephemeral() -> Arc<Self> {
        let keys = first_keys(UnixSeconds(0)).expect("the machine can make keys");
        Arc::new(Self { directory: None, keys: ArcSwap::from_pointee(keys), change: Mutex::default() })
    }

    /// Signs claims as a compact JWS (RFC 7515 section 3.1) with the header's `typ`, `alg` and `kid`.
    pub fn sign(
        &self,
        typ: &str,
        algorithm: SigningAlgorithm,
        claims: &serde_json::Value,
        now: UnixSeconds,
    ) -> Result<Secret, SigningError> {
        let keys = self.keys.load();
        let (key, pair) = keys
            .iter()
            .filter(|key| key.dates.algorithm == algorithm && key.dates.state(now) == KeyState::Signing)
            .filter_map(|key| Some((key, key.pair.as_ref()?)))
            .max_by_key(|(key, _)| (key.dates.signs_from, key.dates.published))
            .ok_or_else(|| self.error(format!("no {algorithm} key signs at this time; see `claimbound keys list`")))?;
        let header = json!({ "alg": algorithm.name(), "kid": key.dates.kid, "typ": typ }).to_string();
        let mut token = BASE64_URL_SAFE_NO_PAD.encode(header);
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        let signature = pair.sign(token.as_bytes()).map_err(|why| self.error(why))?;
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Secret::new(token))
    }

    /// The published JWKS: public members only.
    pub fn jwks(&self, now: UnixSeconds) -> serde_json::Value {
        let keys = self.keys.load();
        let published: Vec<_> = keys
            .iter()
            .filter(|key| key.dates.state(now) != KeyState::Gone)
            .filter_map(|key| Some((&key.dates.kid, key.pair.as_ref()?)))
            .map(|(kid, pair)| pair.public.to_jwk(kid))
            .collect();
        json!({ "keys": published })
    }

    /// Every key.
    pub fn list(&self, now: UnixSeconds) -> Vec<KeyInfo> {
        self.keys.load().iter().map(|key| key.dates.info(now)).collect()
    }

    /// Starts a rotation: a new key per algorithm, published now, signing 24 h later (`at_once`: now). Returns the new
    /// keys. Refuses while another rotation waits for its keys to sign, unless `at_once`.
    pub fn rotate(&self, now: UnixSeconds, at_once: bool) -> Result<Vec<KeyInfo>, SigningError> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.directory.as_ref().map(|directory| Ok((directory, directory.hold()?))).transpose()?;
        let mut keys = match &held {
            Some((directory, held)) => directory.read(held)?.ok_or_else(|| directory.error("is empty".to_owned()))?,
            None => self.keys.load().as_ref().clone(),
        };
        let waiting = keys.iter().find(|key| key.dates.state(now) == KeyState::Published);
        if let Some(key) = waiting.filter(|_| !at_once) {
            return Err(self.error(format!(
                "a rotation is under way: `{}` signs from {}; `--now` starts new keys at once",
                key.dates.kid,
                instant(key.dates.signs_from)
            )));
        }
        let published = keys.iter().filter(|key| key.dates.state(now) != KeyState::Gone).count();
        if published + SigningAlgorithm::ALL.len() > PUBLISHED_KEYS_MAX {
            return Err(self.error(format!(
                "{published} keys are published already; rotate again when some are gone (see `claimbound keys list`)"
            )));
        }
        let signs_from = if at_once { now.0 } else { now.0.saturating_add(PUBLISH_AHEAD_SECONDS) };
        for key in &mut keys {
            // An older key's end may only come nearer: what was said before must not be taken back.
            if key.dates.retires.is_none_or(|at| at > signs_from) {
                key.dates.retires = Some(signs_from);
                key.dates.gone = Some(signs_from.saturating_add(RETIRING_SECONDS));
            }
        }
        let made = make_keys(now, signs_from).map_err(|why| self.error(why))?;
        let infos = made.iter().map(|key| key.dates.info(now)).collect();
        keys.extend(made);
        if let Some((directory, held)) = &held {
            directory.write(held, &keys)?;
        }
        self.keys.store(Arc::new(keys));
        Ok(infos)
    }

    /// Reads the directory again (another process rotated).
    pub fn reload(&self) -> Result<(), SigningError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let held = directory.hold()?;
        match directory.read(&held)? {
            Some(keys) => self.keys.store(Arc::new(keys)),
            None => return Err(directory.error("is empty now; the keys read before stay in use".to_owned())),
        }
        Ok(())
    }

    /// Removes the private files of keys that are gone; their `kid` stays in the list. Beside [`Signer::reload`] on
    /// the interval at which `serve` calls that.
    pub fn remove_gone(&self, now: UnixSeconds) -> Result<(), SigningError> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys = self.keys.load().as_ref().clone();
        let gone = |key: &&mut Key| key.pair.is_some() && key.dates.state(now) == KeyState::Gone;
        let mut removed = false;
        for key in keys.iter_mut().filter(gone) {
            if let Some(directory) = &self.directory {
                directory.remove(&directory.hold()?, &key.dates.kid)?;
            }
            key.pair = None;
            removed = true;
        }
        if removed {
            self.keys.store(Arc::new(keys));
        }
        Ok(())
    }

    fn error(&self, why: String) -> SigningError {
        match &self.directory {
            Some(directory) => directory.error(why),
            None => SigningError { directory: "memory".to_owned(), why },
        }
    }
}

/// A moment as people read it; its number where the calendar ends.
fn instant(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

fn first_keys(now: UnixSeconds) -> Result<Vec<Key>, String> {
    make_keys(now, now.0)
}

fn make_keys(now: UnixSeconds, signs_from: i64) -> Result<Vec<Key>, String> {
    let make = |algorithm| {
        let pair = Pair::generate(algorithm)?;
        let kid = pair.public.thumbprint();
        let dates = Dates { kid, algorithm, published: now.0, signs_from, retires: None, gone: None };
        Ok(Key { dates, pair: Some(Arc::new(pair)) })
    };
    SigningAlgorithm::ALL.into_iter().map(make).collect()
}

#[cfg(test)]
mod tests;
