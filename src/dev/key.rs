//! The local issuer's key: RS256, as the CI systems have, kept in the development directory so that
//! `claimbound dev token` in another terminal signs with the same one.

use aws_lc_rs::{
    digest::{SHA256, digest},
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

/// PKCS #8, readable by its owner only.
const FILE: &str = "key.der";

/// The key and its name.
pub struct IssuerKey {
    pair: KeyPair,
    kid: String,
    n: String,
    e: String,
}

/// The key cannot be made, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{path}: {source}")]
    File { path: String, source: io::Error },
    #[error("{path}: others may read it; make a new one (delete it and run `claimbound dev`), or `chmod 600` it")]
    Readable { path: String },
    #[error("{path} holds no RSA key: delete it and run `claimbound dev`")]
    NotAKey { path: String },
    #[error("the cryptographic library failed")]
    Crypto,
}

impl IssuerKey {
    /// The key of this directory; on first use the directory (0700) and the key (0600) are made.
    pub fn open(directory: &Path) -> Result<Self, KeyError> {
        let path = directory.join(FILE);
        if path.exists() {
            return Self::load(directory);
        }
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::Crypto)?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyError::Crypto)?;
        private_directory(directory)
            .and_then(|()| private_file(&path, der.as_ref()))
            .map_err(|source| KeyError::File { path: path.display().to_string(), source })?;
        Self::of(pair)
    }

    /// The key of this directory; it must be there.
    pub fn load(directory: &Path) -> Result<Self, KeyError> {
        let path = directory.join(FILE);
        let named = || path.display().to_string();
        let file = |source| KeyError::File { path: named(), source };
        if fs::metadata(&path).map_err(file)?.mode() & 0o077 != 0 {
            return Err(KeyError::Readable { path: named() });
        }
        let der = fs::read(&path).map_err(file)?;
        Self::of(KeyPair::from_pkcs8(&der).map_err(|_| KeyError::NotAKey { path: named() })?)
    }

    /// A key in memory only.
    pub fn ephemeral() -> Result<Self, KeyError> {
        Self::of(KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::Crypto)?)
    }

    fn of(pair: KeyPair) -> Result<Self, KeyError> {
        let (n, e) = numbers(pair.public_key().as_ref()).ok_or(KeyError::Crypto)?;
        let (n, e) = (BASE64_URL_SAFE_NO_PAD.encode(n), BASE64_URL_SAFE_NO_PAD.encode(e));
        // RFC 7638: the required members, in order, hashed.
        let thumbprint = digest(&SHA256, format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#).as_bytes());
        Ok(Self { pair, kid: BASE64_URL_SAFE_NO_PAD.encode(thumbprint), n, e })
    }

    /// The key set (RFC 7517 section 5): public members only.
    pub fn jwks(&self) -> Value {
        let Self { kid, n, e, .. } = self;
        json!({ "keys": [{ "kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid, "n": n, "e": e }] })
    }

    /// The claims as a compact JWS (RFC 7515 section 3.1).
    pub fn sign(&self, claims: &Value) -> Result<String, KeyError> {
        let header = json!({ "typ": "JWT", "alg": "RS256", "kid": self.kid });
        let part = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| KeyError::Crypto)?;
        Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// Makes a directory that only its owner may enter; one that is there stays as it is.
pub(crate) fn private_directory(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Writes a new file that only its owner may read; never over another.
pub(crate) fn private_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017 appendix A.1.1), without leading zeros.
fn numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (sequence, _) = element(der)?;
    let (modulus, rest) = element(sequence)?;
    let (exponent, _) = element(rest)?;
    Some((modulus.strip_prefix(&[0]).unwrap_or(modulus), exponent.strip_prefix(&[0]).unwrap_or(exponent)))
}

/// Content of the first DER element, and what follows it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.get(1..)?.split_first()?;
    let (length, content) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (length, content) = rest.split_at_checked(usize::from(first & 0x7f))?;
        (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), content)
    };
    content.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_token_verifies_against_the_published_key() {
        let key = IssuerKey::ephemeral().unwrap();
        let token = key.sign(&json!({ "sub": "x" })).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let jwk = &key.jwks()["keys"][0];
        let bytes = |member: &str| BASE64_URL_SAFE_NO_PAD.decode(jwk[member].as_str().unwrap()).unwrap();
        assert_eq!((bytes("n").len(), bytes("e")), (256, vec![1, 0, 1]));
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        RsaPublicKeyComponents { n: bytes("n"), e: bytes("e") }
            .verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature)
            .unwrap();
    }

    #[test]
    fn the_key_is_kept_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("issuer");
        assert!(IssuerKey::load(&home).is_err());
        let made = IssuerKey::open(&home).unwrap();
        assert_eq!(IssuerKey::load(&home).unwrap().jwks(), made.jwks());
        assert_eq!(IssuerKey::open(&home).unwrap().jwks(), made.jwks());
        let file = home.join(FILE);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(IssuerKey::open(&home), Err(KeyError::Readable { .. })));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, b"no key").unwrap();
        assert!(matches!(IssuerKey::open(&home), Err(KeyError::NotAKey { .. })));
    }
}
