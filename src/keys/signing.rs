//! Our own keys: made, rotated through four states, published; ES256 and RS256.
//!
//! A key's state follows from its timestamps and the time alone, so that every process that reads the directory says
//! the same at the same moment and nothing has to run for a rotation to go on. Relying parties cache key sets: a key
//! is published a day before it signs, and stays published until nothing that it signed can still be valid.
//!
//! The directory holds `keys.json` (the timestamps) and one file per private key, `<kid>.p8` (PKCS#8) or, where keys
//! are sealed, `<kid>.sealed`. A new key file is written with `.new` behind its name, then `keys.json`, then the name is
//! made good: whatever a crash leaves, the next [`Signer::open`] finds the ring before or after, never between.

mod directory;
mod ours;
mod pair;
mod provider;
mod published;
mod seal;

pub use published::{Compared, PublishedAt, compare, look};
pub use seal::SECRET_BYTES_MIN;
pub(super) use seal::Seal;

use crate::secret::{Place, Secret};
use arc_swap::{ArcSwap, ArcSwapOption};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use claimbound_core::time::UnixSeconds;
use directory::{Directory, NO_KEYS, is_thumbprint};
use provider::{Held, Key, KeyProvider, Memory};
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
    /// Ended before its time.
    pub revoked: Option<UnixSeconds>,
}

impl KeyInfo {
    /// For machines.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "kid": self.kid,
            "algorithm": self.algorithm.name(),
            "state": self.state.name(),
            "published": self.published.rfc3339(),
            "signs_from": self.signs_from.rfc3339(),
            "retires": self.retires.map(UnixSeconds::rfc3339),
            "gone": self.gone.map(UnixSeconds::rfc3339),
            "revoked": self.revoked.map(UnixSeconds::rfc3339),
        })
    }
}

/// What a revocation did.
#[derive(Debug)]
pub struct Revocation {
    pub key: KeyInfo,
    /// The key that signs in its place, where no other was there to.
    pub made: Option<KeyInfo>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked: Option<i64>,
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
            revoked: self.revoked.map(UnixSeconds),
        }
    }
}

/// Room for the tokens that most jobs get.
const TOKEN_BYTES: usize = 1024;

/// What our tokens begin with (RFC 7515 section 4).
#[derive(Serialize)]
struct Header<'h> {
    alg: &'h str,
    kid: &'h str,
    typ: &'h str,
}

/// The key ring; shared by all minters.
pub struct Signer {
    provider: Box<dyn KeyProvider>,
    keys: ArcSwap<Vec<Key>>,
    /// Why nothing is signed, while nothing is.
    stopped: ArcSwapOption<String>,
    /// Held by whoever replaces `keys`; signing and publishing never wait for it.
    change: Mutex<()>,
}

/// A ring that was read and does not sign yet.
pub struct Ring {
    keys: Vec<Key>,
    /// What was in use when it was read.
    over: Arc<Vec<Key>>,
}

impl Ring {
    /// Every key.
    pub fn list(&self, now: UnixSeconds) -> Vec<KeyInfo> {
        self.keys.iter().map(|key| key.dates.info(now)).collect()
    }
}

impl Signer {
    /// Opens the directory, creating it (0700) and the first keys (0600, signing at once) if it is empty. Refuses
    /// files that others can read. With a seal, keys that are not sealed yet are sealed.
    pub fn open(directory: &Path, seal: Option<Place>, now: UnixSeconds) -> Result<Arc<Self>, SigningError> {
        let signer = Self::over(Box::new(Directory::create(directory, seal)?), |held| first_keys(held, now))?;
        signer.remove_gone(now)?;
        Ok(Arc::new(signer))
    }

    /// Opens a directory that has keys and makes none, for commands.
    pub fn open_existing(directory: &Path, seal: Option<Place>) -> Result<Arc<Self>, SigningError> {
        let directory = Directory::at(directory, seal);
        let none = SigningError { directory: directory.place(), why: NO_KEYS.to_owned() };
        Self::over(Box::new(directory), |_| Err(none)).map(Arc::new)
    }

    /// Keys in memory only, for `check`, `explain` and tests. They sign from the beginning of time.
    pub fn ephemeral() -> Arc<Self> {
        let signer = Self::over(Box::new(Memory::default()), |held| first_keys(held, UnixSeconds(0)));
        Arc::new(signer.expect("the machine can make keys"))
    }

    /// Seals every private key of a directory anew; `from` is where the secret stands that sealed them before. Says how
    /// many there are.
    pub fn seal(directory: &Path, seal: Option<Place>, from: Option<&Place>) -> Result<usize, SigningError> {
        Directory::at(directory, seal).reseal(from)
    }

    fn over(
        provider: Box<dyn KeyProvider>,
        first: impl FnOnce(&mut dyn Held) -> Result<Vec<Key>, SigningError>,
    ) -> Result<Self, SigningError> {
        let mut held = provider.hold()?;
        let keys = match held.read()? {
            Some(keys) => keys,
            None => {
                let keys = first(&mut *held)?;
                held.keep(&keys)?;
                keys
            }
        };
        drop(held);
        let (keys, stopped) = (ArcSwap::from_pointee(keys), ArcSwapOption::empty());
        Ok(Self { provider, keys, stopped, change: Mutex::default() })
    }

    /// Nothing is signed from now on, and errors say why; `None` lets it sign again.
    pub fn stop(&self, why: Option<String>) {
        self.stopped.store(why.map(Arc::new));
    }

    /// Why nothing is signed, while nothing is.
    pub fn stopped(&self) -> Option<Arc<String>> {
        self.stopped.load_full()
    }

    /// [`Signer::sign_encoded`] of claims that are not JSON yet.
    pub fn sign(
        &self,
        typ: &str,
        algorithm: SigningAlgorithm,
        claims: &serde_json::Value,
        now: UnixSeconds,
    ) -> Result<Secret, SigningError> {
        self.sign_encoded(typ, algorithm, &serde_json::to_vec(claims).expect("claims are JSON"), now)
    }

    /// Signs claims, in JSON, as a compact JWS (RFC 7515 section 3.1) with the header's `typ`, `alg` and `kid`.
    pub fn sign_encoded(
        &self,
        typ: &str,
        algorithm: SigningAlgorithm,
        claims: &[u8],
        now: UnixSeconds,
    ) -> Result<Secret, SigningError> {
        if let Some(why) = &*self.stopped.load() {
            return Err(self.error(format!("signing is stopped: {why}")));
        }
        let keys = self.keys.load();
        let (key, pair) = keys
            .iter()
            .filter(|key| key.dates.algorithm == algorithm && key.dates.state(now) == KeyState::Signing)
            .filter_map(|key| Some((key, key.pair.as_ref()?)))
            .max_by_key(|(key, _)| (key.dates.signs_from, key.dates.published))
            .ok_or_else(|| self.error(format!("no {algorithm} key signs at this time; see `claimbound keys list`")))?;
        // Not by `Display`, which goes through a formatter.
        let header = serde_json::to_vec(&Header { alg: algorithm.name(), kid: &key.dates.kid, typ });
        let mut token = String::with_capacity(TOKEN_BYTES);
        BASE64_URL_SAFE_NO_PAD.encode_string(header.expect("a header is JSON"), &mut token);
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = pair.sign(token.as_bytes()).map_err(|why| self.error(why))?;
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Secret::new(token))
    }

    /// The claims of a token of this `typ` that one of our published keys signed, whatever its expiry; `None` for any
    /// other text, and for other documents of ours (RFC 8725 section 3.11).
    pub fn verify(&self, typ: &str, token: &str, now: UnixSeconds) -> Option<serde_json::Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let header: serde_json::Value = serde_json::from_slice(&decode(header)?).ok()?;
        if header["typ"] != typ {
            return None;
        }
        let keys = self.keys.load();
        let published = |key: &&Key| header["kid"] == key.dates.kid && key.dates.state(now) != KeyState::Gone;
        let pair = keys.iter().find(published)?.pair.as_ref()?;
        if !pair.public().verify(signed.as_bytes(), &decode(signature)?) {
            return None;
        }
        serde_json::from_slice(&decode(payload)?).ok()
    }

    /// The published JWKS: public members only.
    pub fn jwks(&self, now: UnixSeconds) -> serde_json::Value {
        let keys = self.keys.load();
        let published: Vec<_> = keys
            .iter()
            .filter(|key| key.dates.state(now) != KeyState::Gone)
            .filter_map(|key| Some((&key.dates.kid, key.pair.as_ref()?)))
            .map(|(kid, pair)| pair.public().to_jwk(kid))
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
        self.update(|held, keys| self.rotated(held, keys, now, at_once).map(|made| (made, true)))
    }

    /// Rotates if the youngest keys are so old that others should sign in a day. Says whether it did: whoever shares the
    /// directory comes too late.
    pub fn rotate_when_due(&self, now: UnixSeconds, every_seconds: i64) -> Result<bool, SigningError> {
        let due = |keys: &[Key]| due(keys, every_seconds).is_some_and(|at| now >= at);
        if !due(&self.keys.load()) {
            return Ok(false);
        }
        self.update(|held, keys| match due(keys) {
            true => self.rotated(held, keys, now, false).map(|_| (true, true)),
            false => Ok((false, false)),
        })
    }

    fn rotated(
        &self,
        held: &mut dyn Held,
        keys: &mut Vec<Key>,
        now: UnixSeconds,
        at_once: bool,
    ) -> Result<Vec<KeyInfo>, SigningError> {
        let waiting = keys.iter().find(|key| key.dates.state(now) == KeyState::Published);
        if let Some(key) = waiting.filter(|_| !at_once) {
            return Err(self.error(format!(
                "a rotation is under way: `{}` signs from {}; `--now` starts new keys at once",
                key.dates.kid,
                instant(key.dates.signs_from)
            )));
        }
        self.has_room(keys, SigningAlgorithm::ALL.len(), now)?;
        let signs_from = if at_once { now.0 } else { now.0.saturating_add(PUBLISH_AHEAD_SECONDS) };
        for key in keys.iter_mut() {
            // An older key's end may only come nearer: what was said before must not be taken back.
            if key.dates.retires.is_none_or(|at| at > signs_from) {
                key.dates.retires = Some(signs_from);
                key.dates.gone = Some(signs_from.saturating_add(RETIRING_SECONDS));
            }
        }
        let made = make_keys(held, &SigningAlgorithm::ALL, now, signs_from)?;
        let infos = made.iter().map(|key| key.dates.info(now)).collect();
        keys.extend(made);
        Ok(infos)
    }

    /// When a rotation is due, so that new keys sign in time.
    pub fn next_rotation(&self, every_seconds: i64) -> Option<UnixSeconds> {
        due(&self.keys.load(), every_seconds)
    }

    /// Ends a key at once: it signs no more, is published no more, and its private half is removed. Where no other key
    /// signs in its algorithm, a new one does, from now on. A `kid` that is not in the ring is noted in it as revoked if
    /// `lost` tells its algorithm, and refused otherwise. Revoking twice changes nothing.
    pub fn revoke(
        &self,
        kid: &str,
        lost: Option<SigningAlgorithm>,
        now: UnixSeconds,
    ) -> Result<Revocation, SigningError> {
        self.update(|held, keys| {
            if !keys.iter().any(|key| key.dates.kid == kid) {
                let Some(algorithm) = lost.filter(|_| is_thumbprint(kid)) else {
                    return Err(self.error(format!("there is no key `{kid}`; `claimbound keys list` shows all")));
                };
                // Nobody knows when it signed.
                let (kid, published, signs_from) = (kid.to_owned(), 0, 0);
                let dates = Dates { kid, algorithm, published, signs_from, retires: None, gone: None, revoked: None };
                keys.push(Key { dates, pair: None });
            }
            let key = keys.iter_mut().find(|key| key.dates.kid == kid).expect("it is there by now");
            let first = key.dates.revoked.is_none();
            if first {
                let sooner = |at: Option<i64>| Some(at.map_or(now.0, |at| at.min(now.0)));
                key.dates.revoked = Some(now.0);
                key.dates.retires = sooner(key.dates.retires);
                key.dates.gone = sooner(key.dates.gone);
                key.pair = None;
            }
            let (info, algorithm) = (key.dates.info(now), key.dates.algorithm);
            let signs = |key: &Key| key.dates.algorithm == algorithm && key.dates.state(now) == KeyState::Signing;
            let mut made = None;
            if first && !keys.iter().any(signs) {
                self.has_room(keys, 1, now)?;
                let new = make_keys(held, &[algorithm], now, now.0)?;
                made = new.first().map(|key| key.dates.info(now));
                keys.extend(new);
            }
            Ok((Revocation { key: info, made }, first))
        })
    }

    fn has_room(&self, keys: &[Key], more: usize, now: UnixSeconds) -> Result<(), SigningError> {
        let published = keys.iter().filter(|key| key.dates.state(now) != KeyState::Gone).count();
        if published + more > PUBLISHED_KEYS_MAX {
            return Err(self.error(format!(
                "{published} keys are published already; rotate again when some are gone (see `claimbound keys list`)"
            )));
        }
        Ok(())
    }

    /// Changes the ring as it is kept, not as it was read before. Kept only where `change` says that there is something
    /// to keep.
    fn update<T>(
        &self,
        change: impl FnOnce(&mut dyn Held, &mut Vec<Key>) -> Result<(T, bool), SigningError>,
    ) -> Result<T, SigningError> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held = self.provider.hold()?;
        let mut keys = held.read()?.ok_or_else(|| self.error("is empty".to_owned()))?;
        let (told, changed) = change(&mut *held, &mut keys)?;
        if changed {
            held.keep(&keys)?;
        }
        self.keys.store(Arc::new(keys));
        Ok(told)
    }

    /// Reads the ring again (another process may have rotated), and leaves it to the caller to take it up.
    pub fn read_again(&self) -> Result<Ring, SigningError> {
        let over = self.keys.load_full();
        let keys = self.provider.hold()?.read()?;
        let keys = keys.ok_or_else(|| self.error("is empty now; the keys read before stay in use".to_owned()))?;
        Ok(Ring { keys, over })
    }

    /// Signs and publishes with this ring from now on; not if the keys were changed here since it was read: a key that was
    /// revoked meanwhile would sign again until the next look.
    pub fn take_up(&self, ring: Ring) {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&self.keys.load_full(), &ring.over) {
            self.keys.store(Arc::new(ring.keys));
        }
    }

    /// Reads the ring again and takes it up.
    pub fn reload(&self) -> Result<(), SigningError> {
        self.take_up(self.read_again()?);
        Ok(())
    }

    /// Removes the private halves of keys that are gone; their `kid` stays in the list. Beside [`Signer::read_again`]
    /// on the interval at which `serve` calls that.
    pub fn remove_gone(&self, now: UnixSeconds) -> Result<(), SigningError> {
        let gone = |key: &Key| key.pair.is_some() && key.dates.state(now) == KeyState::Gone;
        if !self.keys.load().iter().any(gone) {
            return Ok(());
        }
        self.update(|_, keys| {
            for key in keys.iter_mut().filter(|key| gone(key)) {
                key.pair = None;
            }
            Ok(((), true))
        })
    }

    fn error(&self, why: String) -> SigningError {
        SigningError { directory: self.provider.place(), why }
    }
}

fn due(keys: &[Key], every_seconds: i64) -> Option<UnixSeconds> {
    let youngest = keys.iter().filter(|key| key.dates.revoked.is_none()).map(|key| key.dates.signs_from).max()?;
    Some(UnixSeconds(youngest.saturating_add(every_seconds).saturating_sub(PUBLISH_AHEAD_SECONDS)))
}

/// A moment as people read it; its number where the calendar ends.
fn instant(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

fn first_keys(held: &mut dyn Held, now: UnixSeconds) -> Result<Vec<Key>, SigningError> {
    make_keys(held, &SigningAlgorithm::ALL, now, now.0)
}

fn make_keys(
    held: &mut dyn Held,
    algorithms: &[SigningAlgorithm],
    now: UnixSeconds,
    signs_from: i64,
) -> Result<Vec<Key>, SigningError> {
    let make = |algorithm: &SigningAlgorithm| {
        let (algorithm, pair) = (*algorithm, held.make(*algorithm)?);
        let kid = pair.public().thumbprint();
        let dates = Dates { kid, algorithm, published: now.0, signs_from, retires: None, gone: None, revoked: None };
        Ok(Key { dates, pair: Some(pair) })
    };
    algorithms.iter().map(make).collect()
}

#[cfg(test)]
mod tests;
