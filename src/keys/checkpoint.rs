//! The key that signs checkpoints of the evidence, and nothing else: whoever holds a key of tokens cannot vouch for the
//! past with it, and a rotation of those changes nothing here.

use super::signing::SigningError;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use claimbound_core::evidence::VerifierKey;
use std::{
    fs::{self, OpenOptions, Permissions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};
use zeroize::Zeroizing;

/// The private key, PKCS#8.
const PRIVATE: &str = "checkpoint.key";
/// What verifies: one line, `NAME+ID+KEY`.
pub const PUBLIC: &str = "checkpoint.pub";
const MODE: u32 = 0o600;
/// Group and others.
const NOT_OURS: u32 = 0o077;
/// A key file beyond this is none.
const FILE_BYTES_MAX: u64 = 4 * 1024;

/// The private key. Does not print.
pub struct CheckpointKey {
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

impl CheckpointKey {
    /// The key of this directory, which exists; made at the first start. Its public half is written beside it.
    ///
    /// # Errors
    /// It cannot be read, made or kept to its owner.
    pub fn open(directory: &Path, origin: &str) -> Result<Self, SigningError> {
        if Self::read(directory, origin)?.is_none() {
            Self::make(directory)?;
        }
        let missing = || error(directory, format!("`{PRIVATE}` is gone as soon as it was made"));
        let key = Self::read(directory, origin)?.ok_or_else(missing)?;
        let public = format!("{}\n", key.verifier);
        if fs::read_to_string(directory.join(PUBLIC)).is_ok_and(|there| there == public) {
            return Ok(key);
        }
        replace(&directory.join(PUBLIC), public.as_bytes())
            .map_err(|why| error(directory, format!("`{PUBLIC}` cannot be written: {why}")))?;
        Ok(key)
    }

    /// The key of this directory; `None` where none was made yet.
    ///
    /// # Errors
    /// It cannot be read, or others can.
    pub fn read(directory: &Path, origin: &str) -> Result<Option<Self>, SigningError> {
        let path = directory.join(PRIVATE);
        let unreadable = |why: String| error(directory, format!("`{PRIVATE}` {why}"));
        let about = match fs::metadata(&path) {
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
            about => about.map_err(|why| unreadable(format!("cannot be read: {why}")))?,
        };
        let mode = about.permissions().mode() & 0o777;
        if mode & NOT_OURS != 0 {
            return Err(unreadable(format!("can be read by others (mode {mode:03o}); `chmod 600 {}`", path.display())));
        }
        if !about.is_file() || about.len() > FILE_BYTES_MAX {
            return Err(unreadable(format!("is no file of at most {FILE_BYTES_MAX} bytes")));
        }
        let bytes = fs::read(&path).map(Zeroizing::new).map_err(|why| unreadable(format!("cannot be read: {why}")))?;
        let pair = Ed25519KeyPair::from_pkcs8(&bytes)
            .map_err(|_| unreadable("is not a private Ed25519 key in PKCS#8; restore it".to_owned()))?;
        let public = pair.public_key().as_ref().try_into();
        let public = public.map_err(|_| unreadable("has a public key of another size".to_owned()))?;
        Ok(Some(Self { pair, verifier: VerifierKey::new(origin.to_owned(), public) }))
    }

    /// Writes a new key under its name at once and whole; of two processes that do so, one's stays.
    fn make(directory: &Path) -> Result<(), SigningError> {
        let fail = |why: String| error(directory, format!("`{PRIVATE}` cannot be made: {why}"));
        let pair = Ed25519KeyPair::generate().map_err(|_| fail("no key could be made".to_owned()))?;
        let bytes = pair.to_pkcs8().map_err(|_| fail("it cannot be written as PKCS#8".to_owned()))?;
        let new = write_beside(&directory.join(PRIVATE), bytes.as_ref()).map_err(|why| fail(why.to_string()))?;
        let linked = fs::hard_link(&new, directory.join(PRIVATE));
        let removed = fs::remove_file(&new);
        match linked {
            Err(why) if why.kind() != ErrorKind::AlreadyExists => Err(fail(why.to_string())),
            _ => removed.and_then(|()| sync(directory)).map_err(|why| fail(why.to_string())),
        }
    }

    /// The signed note of a checkpoint's text.
    pub fn note(&self, text: &str) -> String {
        self.verifier.note(text, self.pair.sign(text.as_bytes()).as_ref())
    }

    /// What verifies its signatures.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }
}

fn error(directory: &Path, why: String) -> SigningError {
    SigningError { directory: directory.display().to_string(), why }
}

/// Puts a file in the place of another, at once and whole.
///
/// # Errors
/// It cannot be written; what was there before stays.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = write_beside(path, bytes)?;
    fs::set_permissions(&new, Permissions::from_mode(0o644))?;
    fs::rename(&new, path)?;
    sync(path.parent().unwrap_or(Path::new(".")))
}

/// Names files that are not yet in their place: no two of one process alike.
static NEXT: AtomicU64 = AtomicU64::new(0);

fn write_beside(path: &Path, bytes: &[u8]) -> std::io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new.{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let new = path.with_file_name(name);
    match fs::remove_file(&new) {
        Err(why) if why.kind() != ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(new)
}

fn sync(directory: &Path) -> std::io::Result<()> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use claimbound_core::evidence::checkpoint::{Checkpoint, NoteError};

    #[test]
    fn a_key_is_made_once_and_kept_to_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        assert!(CheckpointKey::read(folder.path(), "cb.example/evidence").unwrap().is_none());
        let key = CheckpointKey::open(folder.path(), "cb.example/evidence").unwrap();
        let again = CheckpointKey::open(folder.path(), "cb.example/evidence").unwrap();
        assert_eq!(key.verifier(), again.verifier());
        let names: std::collections::BTreeSet<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [PRIVATE, PUBLIC].map(Into::into).into());
        let public = fs::read_to_string(folder.path().join(PUBLIC)).unwrap();
        assert_eq!(VerifierKey::parse(&public).as_ref(), Ok(key.verifier()));
        assert_eq!(fs::metadata(folder.path().join(PRIVATE)).unwrap().permissions().mode() & 0o777, MODE);
        let text = "cb.example/evidence\n1\n";
        let opened = Checkpoint::open(&key.note(text), std::slice::from_ref(key.verifier()));
        assert_eq!(opened, Err(NoteError::Line("root")), "signed, and no checkpoint");

        fs::set_permissions(folder.path().join(PRIVATE), Permissions::from_mode(0o640)).unwrap();
        let why = CheckpointKey::open(folder.path(), "cb.example/evidence").err().unwrap().to_string();
        assert!(why.contains("mode 640") && why.contains("chmod 600"), "{why}");
        fs::write(folder.path().join(PRIVATE), "no key").unwrap();
        fs::set_permissions(folder.path().join(PRIVATE), Permissions::from_mode(MODE)).unwrap();
        let why = CheckpointKey::open(folder.path(), "cb.example/evidence").err().unwrap().to_string();
        assert!(why.contains("is not a private Ed25519 key"), "{why}");
    }
}
