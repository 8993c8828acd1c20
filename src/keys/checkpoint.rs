//! The key that signs checkpoints of the evidence, and nothing else: whoever holds a key of tokens cannot vouch for the
//! past with it, and a rotation of those changes nothing here.

use super::signing::{Seal, SigningError};
use crate::secret::Place;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use claimbound_core::evidence::VerifierKey;
use std::{
    fmt,
    fs::{self, OpenOptions, Permissions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};
use zeroize::Zeroizing;

/// The private key, PKCS#8, in the clear or sealed as signing keys are.
const PRIVATE: &str = "checkpoint.key";
/// What a seal ties the key to.
const ALGORITHM: &str = "Ed25519";
const NAME: &str = "checkpoint";
/// What verifies: one line, `NAME+ID+KEY`.
pub const PUBLIC: &str = "checkpoint.pub";
const MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;
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
    /// The key of this directory, which exists; made at the first start. Its public half is written beside it. With a seal,
    /// a key that is not sealed yet is sealed.
    ///
    /// # Errors
    /// It cannot be read, made or kept to its owner; it does not open with this seal.
    pub fn open(directory: &Path, origin: &str, seal: Option<&Place>) -> Result<Self, SigningError> {
        let seals = seals(directory, [seal])?;
        if load(directory, &seals)?.is_none() {
            make(directory, seals.last())?;
        }
        let missing = || error(directory, "is gone as soon as it was made");
        let (pkcs8, sealed) = load(directory, &seals)?.ok_or_else(missing)?;
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8)
            .map_err(|_| error(directory, "is not a private Ed25519 key in PKCS#8; restore it"))?;
        if let (Some(seal), false) = (seals.last(), sealed) {
            write_sealed(directory, seal, &pkcs8)?;
            tracing::info!(directory = %directory.display(), "the checkpoint key is sealed from now on");
        }
        let public = pair.public_key().as_ref().try_into();
        let public = public.map_err(|_| error(directory, "has a public key of another size"))?;
        let key = Self { pair, verifier: VerifierKey::new(origin.to_owned(), public) };
        let public = format!("{}\n", key.verifier);
        if !fs::read_to_string(directory.join(PUBLIC)).is_ok_and(|there| there == public) {
            replace(&directory.join(PUBLIC), public.as_bytes())
                .map_err(|why| error(directory, format!("has a public half that cannot be written: {why}")))?;
        }
        Ok(key)
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

/// Seals the key of a directory anew, one that `from` sealed before included. Says whether there is one.
///
/// # Errors
/// It cannot be read or written, or opens with neither secret.
pub fn reseal(directory: &Path, seal: Option<&Place>, from: Option<&Place>) -> Result<bool, SigningError> {
    let seals = seals(directory, [from, seal])?;
    let (Some(seal), Some((pkcs8, _))) = (seals.last(), load(directory, &seals)?) else { return Ok(false) };
    write_sealed(directory, seal, &pkcs8).map(|()| true)
}

/// The secrets that stand there; what is written is sealed with the last.
fn seals<const N: usize>(directory: &Path, places: [Option<&Place>; N]) -> Result<Vec<Seal>, SigningError> {
    let fail = |why| SigningError { directory: directory.display().to_string(), why };
    places.into_iter().flatten().map(|place| Seal::read(place).map_err(fail)).collect()
}

/// A private key, PKCS#8, and whether it is sealed.
type Loaded = (Zeroizing<Vec<u8>>, bool);

/// `None` where none was made yet.
fn load(directory: &Path, seals: &[Seal]) -> Result<Option<Loaded>, SigningError> {
    let path = directory.join(PRIVATE);
    let fail = |why| error(directory, format!("cannot be read: {why}"));
    let about = match fs::metadata(&path) {
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
        about => about.map_err(fail)?,
    };
    let mode = about.permissions().mode() & 0o777;
    if mode & NOT_OURS != 0 {
        let why = format!("can be read by others (mode {mode:03o}); `chmod 600 {}`", path.display());
        return Err(error(directory, why));
    }
    if !about.is_file() || about.len() > FILE_BYTES_MAX {
        return Err(error(directory, format!("is no file of at most {FILE_BYTES_MAX} bytes")));
    }
    let bytes = fs::read(&path).map(Zeroizing::new).map_err(fail)?;
    if !Seal::is(&bytes) {
        return Ok(Some((bytes, false)));
    }
    let mut opened = Err("is sealed; say where its secret stands, with `seal` in `[signing]` or `--seal`".to_owned());
    for seal in seals {
        opened = opened.or_else(|_| seal.open(ALGORITHM, NAME, &bytes));
    }
    Ok(Some((opened.map_err(|why| error(directory, why))?, true)))
}

/// Writes a new key under its name at once and whole; of two processes that do so, one's stays.
fn make(directory: &Path, seal: Option<&Seal>) -> Result<(), SigningError> {
    let fail = |why: String| error(directory, format!("cannot be made: {why}"));
    let pair = Ed25519KeyPair::generate().map_err(|_| fail("the machine gives no key".to_owned()))?;
    let pkcs8 = pair.to_pkcs8().map_err(|_| fail("it cannot be written as PKCS#8".to_owned()))?;
    let new = match seal {
        Some(seal) => write_beside(&directory.join(PRIVATE), &sealed(seal, pkcs8.as_ref()).map_err(fail)?),
        None => write_beside(&directory.join(PRIVATE), pkcs8.as_ref()),
    };
    let new = new.map_err(|why| fail(why.to_string()))?;
    let linked = fs::hard_link(&new, directory.join(PRIVATE));
    let removed = fs::remove_file(&new);
    match linked {
        Err(why) if why.kind() != ErrorKind::AlreadyExists => Err(fail(why.to_string())),
        _ => removed.and_then(|()| sync(directory)).map_err(|why| fail(why.to_string())),
    }
}

fn sealed(seal: &Seal, pkcs8: &[u8]) -> Result<Vec<u8>, String> {
    seal.seal(ALGORITHM, NAME, pkcs8)
}

fn write_sealed(directory: &Path, seal: &Seal, pkcs8: &[u8]) -> Result<(), SigningError> {
    let fail = |why: String| error(directory, format!("cannot be sealed: {why}"));
    put(&directory.join(PRIVATE), &sealed(seal, pkcs8).map_err(fail)?, MODE).map_err(|why| fail(why.to_string()))
}

/// What is wrong with the key's file.
fn error(directory: &Path, why: impl fmt::Display) -> SigningError {
    SigningError { directory: directory.display().to_string(), why: format!("`{PRIVATE}` {why}") }
}

/// Puts a file that anybody may read in the place of another, at once and whole.
///
/// # Errors
/// It cannot be written; what was there before stays.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    put(path, bytes, PUBLIC_MODE)
}

fn put(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let new = write_beside(path, bytes)?;
    fs::set_permissions(&new, Permissions::from_mode(mode))?;
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
        let open = |seal: Option<&Place>| CheckpointKey::open(folder.path(), "cb.example/evidence", seal);
        let (key, again) = (open(None).unwrap(), open(None).unwrap());
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
        let why = open(None).err().unwrap().to_string();
        assert!(why.contains("mode 640") && why.contains("chmod 600"), "{why}");
        fs::write(folder.path().join(PRIVATE), "no key").unwrap();
        fs::set_permissions(folder.path().join(PRIVATE), Permissions::from_mode(MODE)).unwrap();
        let why = open(None).err().unwrap().to_string();
        assert!(why.contains("is not a private Ed25519 key"), "{why}");
    }

    #[test]
    fn a_key_is_sealed_as_signing_keys_are() {
        let (folder, secrets) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = |name: &str, letter: &str| {
            let path = secrets.path().join(name);
            fs::write(&path, letter.repeat(40)).unwrap();
            Place::File(path)
        };
        let (one, two) = (secret("one", "a"), secret("two", "b"));
        let open = |seal: Option<&Place>| CheckpointKey::open(folder.path(), "cb.example/evidence", seal);
        let why = |opened: Result<CheckpointKey, SigningError>| opened.err().unwrap().to_string();
        let file = || fs::read(folder.path().join(PRIVATE)).unwrap();
        assert!(!reseal(folder.path(), Some(&one), None).unwrap(), "there is none");
        let key = open(None).unwrap();
        assert!(!Seal::is(&file()));
        assert_eq!(open(Some(&one)).unwrap().verifier(), key.verifier());
        assert!(Seal::is(&file()) && why(open(None)).contains("`checkpoint.key` is sealed"));
        assert!(why(open(Some(&two))).contains("does not open with this seal"));
        assert!(reseal(folder.path(), Some(&two), None).is_err());
        assert!(reseal(folder.path(), Some(&two), Some(&one)).unwrap());
        assert_eq!(open(Some(&two)).unwrap().verifier(), key.verifier());
        assert_eq!(fs::metadata(folder.path().join(PRIVATE)).unwrap().permissions().mode() & 0o777, MODE);

        fs::remove_file(folder.path().join(PRIVATE)).unwrap();
        open(Some(&two)).unwrap();
        assert!(Seal::is(&file()), "sealed from the first");
    }
}
