//! Keys at rest, readable only with a secret that is kept elsewhere.
//!
//! A sealed file is a line that names the format, then a random salt, and the PKCS#8 key under AES-256-GCM. Each file has
//! a key of its own, derived from secret and salt (HKDF-SHA-256, RFC 5869), so a nonce cannot meet its key twice. The
//! algorithm and the `kid` are authenticated with it (NIST SP 800-38D, additional data): no file passes for another.

use crate::secret::Place;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf::{self, HKDF_SHA256, Salt},
    rand,
};
use zeroize::Zeroizing;

/// Less could be guessed.
pub const SECRET_BYTES_MIN: usize = 32;
const SECRET_BYTES_MAX: u64 = 64 * 1024;
/// Every sealed file's first line; another version begins otherwise.
const HEAD: &[u8] = b"claimbound sealed signing key v1\n";
const SALT_BYTES: usize = 32;
/// Ties the derived key to its purpose.
const PURPOSE: &[u8] = b"claimbound sealed signing key v1";

/// The secret, read anew each time that keys are read or written: one that was replaced needs no restart.
pub(in crate::keys) struct Seal {
    secret: Zeroizing<Vec<u8>>,
}

impl Seal {
    /// Reads the secret: all bytes of the file or variable, but for line ends behind them.
    pub(in crate::keys) fn read(place: &Place) -> Result<Self, String> {
        let fail = |why: String| format!("the seal in {place} {why}");
        let mut secret = place.read(SECRET_BYTES_MAX).map_err(fail)?;
        let end = secret.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
        secret.truncate(end);
        if secret.len() < SECRET_BYTES_MIN {
            return Err(fail(format!(
                "has {} bytes, at least {SECRET_BYTES_MIN} are needed; `openssl rand -base64 48` makes some",
                secret.len()
            )));
        }
        Ok(Self { secret })
    }

    /// A private key as its file's content.
    pub(in crate::keys) fn seal(&self, algorithm: &str, kid: &str, pkcs8: &[u8]) -> Result<Vec<u8>, String> {
        let failed = |_| "the key could not be sealed".to_owned();
        let mut salt = [0; SALT_BYTES];
        rand::fill(&mut salt).map_err(failed)?;
        // Room for the tag: growing would leave a readable copy behind.
        let mut text = Vec::with_capacity(pkcs8.len() + AES_256_GCM.tag_len());
        text.extend_from_slice(pkcs8);
        let nonce = self.key(&salt)?.seal_in_place_append_tag(about(algorithm, kid), &mut text).map_err(failed)?;
        Ok([HEAD, &salt, nonce.as_ref(), &text].concat())
    }

    /// Whether a file holds a sealed key, of whatever secret.
    pub(in crate::keys) fn is(file: &[u8]) -> bool {
        file.starts_with(HEAD)
    }

    /// The private key that a file holds.
    pub(in crate::keys) fn open(&self, algorithm: &str, kid: &str, file: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        let Some(rest) = file.strip_prefix(HEAD) else {
            return Err("is not of a format that this version reads; it begins with another line".to_owned());
        };
        let short = || "is too short to hold a sealed key".to_owned();
        let (salt, rest) = rest.split_first_chunk::<SALT_BYTES>().ok_or_else(short)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(short)?;
        let mut text = Zeroizing::new(rest.to_vec());
        let opened = self
            .key(salt)?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), about(algorithm, kid), &mut text)
            .map_err(|_| {
                "does not open with this seal: it was sealed with another secret, or changed; nothing was overwritten. \
                 Put the secret back that it was sealed with, or change from that to the new one with \
                 `claimbound keys seal --from`"
                    .to_owned()
            })?
            .len();
        text.truncate(opened);
        Ok(text)
    }

    fn key(&self, salt: &[u8]) -> Result<RandomizedNonceKey, String> {
        let failed = |_| "the seal gives no key".to_owned();
        let mut key = Zeroizing::new([0; 32]);
        let derived = Salt::new(HKDF_SHA256, salt).extract(&self.secret);
        derived.expand(&[PURPOSE], Length).and_then(|key_material| key_material.fill(&mut *key)).map_err(failed)?;
        RandomizedNonceKey::new(&AES_256_GCM, &*key).map_err(failed)
    }
}

/// Of a key for AES-256.
struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        32
    }
}

fn about(algorithm: &str, kid: &str) -> Aad<Vec<u8>> {
    Aad::from([algorithm.as_bytes(), b"\n", kid.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ES256: &str = "ES256";
    const RS256: &str = "RS256";

    fn seal(secret: &str) -> Seal {
        Seal { secret: Zeroizing::new(secret.as_bytes().to_vec()) }
    }

    #[test]
    fn a_key_opens_under_its_own_name_with_its_own_secret_and_whole() {
        let (ours, key) = (seal("one secret"), b"the private key".as_slice());
        let file = ours.seal(ES256, "kid", key).unwrap();
        assert_eq!(ours.open(ES256, "kid", &file).unwrap().as_slice(), key);
        assert!(!file.windows(key.len()).any(|part| part == key));
        assert_ne!(file, ours.seal(ES256, "kid", key).unwrap(), "salt and nonce are random");
        for (seal, algorithm, kid) in [(&seal("another"), ES256, "kid"), (&ours, RS256, "kid"), (&ours, ES256, "kie")] {
            let why = seal.open(algorithm, kid, &file).unwrap_err();
            assert!(why.contains("does not open with this seal"), "{why}");
        }
        for at in HEAD.len()..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            ours.open(ES256, "kid", &changed).unwrap_err();
            ours.open(ES256, "kid", &file[..at]).unwrap_err();
        }
        let other = file.clone().splice(..HEAD.len(), b"claimbound sealed signing key v2\n".iter().copied()).count();
        assert_eq!(other, HEAD.len());
        assert!(ours.open(ES256, "kid", b"claimbound sealed signing key v2\nx").unwrap_err().contains("format"));
    }

    #[test]
    fn a_seal_is_long_enough_and_ends_before_its_line_does() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("seal");
        let read = |text: &[u8]| {
            std::fs::write(&file, text).unwrap();
            Seal::read(&Place::File(file.clone()))
        };
        let why = read(&[b'x'; SECRET_BYTES_MIN - 1]).err().unwrap();
        assert!(why.contains("has 31 bytes, at least 32 are needed"), "{why}");
        assert!(read(b"0123456789012345678901234567890\r\n").is_err());
        let bare = read(&[b'x'; SECRET_BYTES_MIN]).unwrap().seal(ES256, "kid", b"key").unwrap();
        let line = read(&[[b'x'; SECRET_BYTES_MIN].as_slice(), b"\r\n"].concat()).unwrap();
        assert_eq!(line.open(ES256, "kid", &bare).unwrap().as_slice(), b"key");
        let why = Seal::read(&Place::File("/nowhere/seal".into())).err().unwrap();
        assert!(why.contains("`/nowhere/seal`"), "{why}");
        let why = Seal::read(&Place::Variable("CLAIMBOUND_NO_SUCH_SEAL".to_owned())).err().unwrap();
        assert!(why.contains("`CLAIMBOUND_NO_SUCH_SEAL` is not set"), "{why}");
    }
}
