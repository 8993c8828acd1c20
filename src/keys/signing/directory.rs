//! The key directory: who may read it, one writer at a time, and writes that a crash cannot halve.

use super::{
    Dates, SigningAlgorithm, SigningError,
    pair::Pair,
    provider::{Held, Key, KeyPair, KeyProvider},
    seal::Seal,
};
use crate::secret::Place;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

const LIST: &str = "keys.json";
const LIST_NEW: &str = "keys.json.new";
const FORMAT: u32 = 1;
/// A list or a key file beyond this is none.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const KID_BYTES: usize = 43;
/// Group and others.
const NOT_OURS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;

/// `keys.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    format: u32,
    keys: Vec<Dates>,
}

pub(super) const NO_KEYS: &str = "there are none yet; `claimbound serve` makes them at its first start";
/// Names of a private key's file, in the clear and sealed.
const PLAIN: &str = ".p8";
const SEALED: &str = ".sealed";
/// What is being written.
const NEW: &str = ".new";

pub(super) struct Directory {
    path: PathBuf,
    /// Where the secret stands under which private keys are kept.
    seal: Option<Place>,
}

/// The directory's lock: reading too needs it, since a list and its key files change together. Freed when dropped.
struct Locked<'d> {
    directory: &'d Directory,
    file: File,
    /// Private keys open with any of these; they are written with the last, in the clear where there is none.
    seals: Vec<Seal>,
    /// Private keys that have no file yet.
    made: Vec<(String, Arc<Pair>)>,
}

impl Directory {
    pub(super) fn at(path: &Path, seal: Option<Place>) -> Self {
        Self { path: path.to_owned(), seal }
    }

    /// Creates it if it is not there.
    pub(super) fn create(path: &Path, seal: Option<Place>) -> Result<Self, SigningError> {
        let directory = Self::at(path, seal);
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(directory.error(format!(
                    "cannot be created: {error}; make the directory above it, writable for this user"
                )));
            }
        }
        Ok(directory)
    }

    /// Seals every private key anew, those that `from` sealed before included. Says how many there are.
    pub(super) fn reseal(&self, from: Option<&Place>) -> Result<usize, SigningError> {
        let mut locked = self.lock()?;
        if locked.seals.is_empty() {
            return Err(
                self.error("no secret to seal with; write `seal` into `[signing]`, or give `--seal`".to_owned())
            );
        }
        if let Some(from) = from {
            locked.seals.insert(0, Seal::read(from).map_err(|why| self.error(why))?);
        }
        let keys = locked.read_pairs()?.ok_or_else(|| self.error(NO_KEYS.to_owned()))?;
        let held: Vec<_> = keys.into_iter().filter_map(|(dates, pair)| Some((dates, pair?.0))).collect();
        for (dates, pair) in &held {
            locked.write_key(&dates.kid, pair)?;
        }
        locked.sync()?;
        for (dates, _) in &held {
            locked.name(&dates.kid)?;
        }
        locked.sync()?;
        Ok(held.len())
    }

    fn error(&self, why: String) -> SigningError {
        SigningError { directory: self.place(), why }
    }

    fn lock(&self) -> Result<Locked<'_>, SigningError> {
        let fail = |error| self.error(format!("cannot be opened: {error}"));
        let file = File::open(&self.path).map_err(fail)?;
        let about = file.metadata().map_err(fail)?;
        if !about.is_dir() {
            return Err(self.error("is not a directory".to_owned()));
        }
        if about.permissions().mode() & OTHERS_WRITE != 0 {
            return Err(self.error(format!(
                "others can write to it (mode {:03o}); `chmod 700 {}`",
                about.permissions().mode() & 0o777,
                self.path.display()
            )));
        }
        let seal = self.seal.as_ref().map(Seal::read).transpose().map_err(|why| self.error(why))?;
        file.lock().map_err(fail)?;
        Ok(Locked { directory: self, file, seals: seal.into_iter().collect(), made: Vec::new() })
    }
}

impl KeyProvider for Directory {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn hold(&self) -> Result<Box<dyn Held + '_>, SigningError> {
        Ok(Box::new(self.lock()?))
    }
}

impl Held for Locked<'_> {
    /// Ends what a crash left half done, and seals what is not sealed yet.
    fn read(&mut self) -> Result<Option<Vec<Key>>, SigningError> {
        let Some(read) = self.read_pairs()? else { return Ok(None) };
        if !self.seals.is_empty() {
            self.seal_the_plain(&read)?;
        }
        let key = |(dates, pair): (Dates, Option<(Arc<Pair>, bool)>)| Key {
            dates,
            pair: pair.map(|(pair, _)| pair as Arc<dyn KeyPair>),
        };
        Ok(Some(read.into_iter().map(key).collect()))
    }

    fn make(&mut self, algorithm: SigningAlgorithm) -> Result<Arc<dyn KeyPair>, SigningError> {
        let pair = Arc::new(Pair::generate(algorithm).map_err(|why| self.error(why))?);
        self.made.push((pair.public.thumbprint(), pair.clone()));
        Ok(pair)
    }

    /// New key files, then the list, then the key files' names.
    fn keep(&mut self, keys: &[Key]) -> Result<(), SigningError> {
        for orphan in self.key_files(NEW)? {
            self.unlink(&orphan)?;
        }
        let made = std::mem::take(&mut self.made);
        for (kid, pair) in &made {
            self.write_key(kid, pair)?;
        }
        let list = List { format: FORMAT, keys: keys.iter().map(|key| key.dates.clone()).collect() };
        let list = serde_json::to_vec_pretty(&list).expect("plain data is JSON");
        self.write_file(LIST_NEW, &list)?;
        self.sync()?;
        self.rename(LIST_NEW, LIST)?;
        self.sync()?;
        for (kid, _) in &made {
            self.name(kid)?;
        }
        for key in keys.iter().filter(|key| key.pair.is_none()) {
            for ending in [PLAIN, SEALED] {
                self.unlink(&format!("{}{ending}", key.dates.kid))?;
            }
        }
        self.sync()
    }
}

/// A key's dates, and its pair with whether that was sealed; `None` once the private file is gone.
type Read = (Dates, Option<(Arc<Pair>, bool)>);

impl Locked<'_> {
    fn error(&self, why: String) -> SigningError {
        self.directory.error(why)
    }

    /// All keys; `None` where there are none yet.
    fn read_pairs(&self) -> Result<Option<Vec<Read>>, SigningError> {
        let Some(list) = self.read_file(LIST, OTHERS_WRITE)? else {
            let files = [self.key_files(PLAIN)?, self.key_files(SEALED)?].concat();
            return match files.first() {
                // Never guessed to be a first start: new keys would end every credential that the old ones signed.
                Some(file) => Err(self.error(format!(
                    "`{file}` is there but `{LIST}` is not; restore it, or move the key files away to start anew"
                ))),
                None => Ok(None),
            };
        };
        let list: List =
            serde_json::from_slice(&list).map_err(|error| self.error(format!("`{LIST}` cannot be read: {error}")))?;
        if list.format != FORMAT {
            return Err(self.error(format!("`{LIST}` has format {}; this version reads {FORMAT}", list.format)));
        }
        let mut kids = HashSet::new();
        list.keys
            .into_iter()
            .map(|dates| {
                if !is_thumbprint(&dates.kid) {
                    return Err(self.error(format!("`{LIST}`: `{}` is no thumbprint", dates.kid.escape_debug())));
                }
                if !kids.insert(dates.kid.clone()) {
                    return Err(self.error(format!("`{LIST}` lists `{}` twice", dates.kid)));
                }
                self.read_key(dates)
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn read_key(&self, dates: Dates) -> Result<Read, SigningError> {
        let (plain, sealed) = (format!("{}{PLAIN}", dates.kid), format!("{}{SEALED}", dates.kid));
        // The list names it, so it counts: only the last step of its writing is missing.
        for name in [&plain, &sealed] {
            let (new, there) = (format!("{name}{NEW}"), self.path().join(name).exists());
            if !there && self.path().join(&new).exists() {
                self.rename(&new, name)?;
            }
        }
        let read = match self.read_file(&sealed, NOT_OURS)? {
            Some(file) => {
                let mut opened =
                    Err("is sealed; say where its secret stands, with `seal` in `[signing]` or `--seal`".to_owned());
                for seal in &self.seals {
                    opened = opened.or_else(|_| seal.open(dates.algorithm.name(), &dates.kid, &file));
                }
                Some((&sealed, opened.map_err(|why| self.error(format!("`{sealed}` {why}")))?, true))
            }
            None => self.read_file(&plain, NOT_OURS)?.map(|bytes| (&plain, bytes, false)),
        };
        let pair = match read {
            Some((name, bytes, is_sealed)) => {
                let pair =
                    Pair::from_pkcs8(dates.algorithm, &bytes).map_err(|why| self.error(format!("`{name}` {why}")))?;
                if pair.public.thumbprint() != dates.kid {
                    return Err(self.error(format!("`{name}` holds another key than its name says")));
                }
                Some((Arc::new(pair), is_sealed))
            }
            None if dates.gone.is_some() => None,
            None => return Err(self.error(format!("`{LIST}` lists `{}`, and `{plain}` is missing", dates.kid))),
        };
        Ok((dates, pair))
    }

    /// After all keys were read: a wrong secret has shown by then.
    fn seal_the_plain(&self, read: &[Read]) -> Result<(), SigningError> {
        let plain = |(dates, pair): &'_ Read| {
            let there = self.path().join(format!("{}{PLAIN}", dates.kid)).exists();
            pair.as_ref().filter(|_| there).map(|(pair, sealed)| (dates.kid.clone(), pair.clone(), *sealed))
        };
        let plain: Vec<_> = read.iter().filter_map(plain).collect();
        for (kid, pair, _) in plain.iter().filter(|(_, _, sealed)| !sealed) {
            self.write_key(kid, pair)?;
        }
        self.sync()?;
        for (kid, ..) in &plain {
            self.name(kid)?;
            tracing::info!(kid, directory = self.directory.place(), "a signing key is sealed from now on");
        }
        self.sync()
    }

    /// Writes a private key beside its name.
    fn write_key(&self, kid: &str, pair: &Pair) -> Result<(), SigningError> {
        let pkcs8 = pair.to_pkcs8().map_err(|why| self.error(why))?;
        match self.seals.last() {
            Some(seal) => {
                let sealed = seal.seal(pair.public.algorithm().name(), kid, &pkcs8).map_err(|why| self.error(why))?;
                self.write_file(&format!("{kid}{SEALED}{NEW}"), &sealed)
            }
            None => self.write_file(&format!("{kid}{PLAIN}{NEW}"), &pkcs8),
        }
    }

    /// Gives a written key its name, and leaves no other file of it.
    fn name(&self, kid: &str) -> Result<(), SigningError> {
        let (name, other) = if self.seals.is_empty() { (PLAIN, SEALED) } else { (SEALED, PLAIN) };
        if self.path().join(format!("{kid}{name}{NEW}")).exists() {
            self.rename(&format!("{kid}{name}{NEW}"), &format!("{kid}{name}"))?;
            self.sync()?;
        }
        self.unlink(&format!("{kid}{other}"))
    }

    fn path(&self) -> &Path {
        &self.directory.path
    }

    fn read_file(&self, name: &str, forbidden: u32) -> Result<Option<Zeroizing<Vec<u8>>>, SigningError> {
        let path = self.path().join(name);
        let fail = |error| self.error(format!("`{name}` cannot be read: {error}"));
        let about = match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            about => about.map_err(fail)?,
        };
        if !about.is_file() || about.len() > FILE_BYTES_MAX {
            return Err(self.error(format!("`{name}` is no file of at most {FILE_BYTES_MAX} bytes")));
        }
        let mode = about.permissions().mode() & 0o777;
        if mode & forbidden != 0 {
            let can = if forbidden == NOT_OURS { "read" } else { "change" };
            return Err(
                self.error(format!("others can {can} `{name}` (mode {mode:03o}); `chmod 600 {}`", path.display()))
            );
        }
        fs::read(&path).map(|bytes| Some(Zeroizing::new(bytes))).map_err(fail)
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), SigningError> {
        let fail = |error| self.error(format!("`{name}` cannot be written: {error}"));
        let path = self.path().join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(fail)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fail)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), SigningError> {
        fs::rename(self.path().join(from), self.path().join(to))
            .map_err(|error| self.error(format!("`{from}` cannot be renamed: {error}")))
    }

    fn unlink(&self, name: &str) -> Result<(), SigningError> {
        match fs::remove_file(self.path().join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(self.error(format!("`{name}` cannot be removed: {error}")))
            }
            _ => Ok(()),
        }
    }

    fn sync(&self) -> Result<(), SigningError> {
        self.file.sync_all().map_err(|error| self.error(format!("cannot be written: {error}")))
    }

    fn key_files(&self, ending: &str) -> Result<Vec<String>, SigningError> {
        let fail = |error| self.error(format!("cannot be listed: {error}"));
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path()).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
            if name.ends_with(ending) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

/// SHA-256 in base64url; names files, so nothing else may stand there.
pub(super) fn is_thumbprint(kid: &str) -> bool {
    kid.len() == KID_BYTES && kid.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}
