//! The key directory: who may read it, one writer at a time, and writes that a crash cannot halve.

use super::{Dates, Key, Pair, SigningError};
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
/// SHA-256 in base64url; names files, so nothing else may stand there.
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

pub(super) struct Directory {
    path: PathBuf,
}

/// The directory's lock: reading too needs it, since a list and its key files change together. Freed when dropped.
pub(super) struct Held {
    directory: File,
}

impl Directory {
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Creates it if it is not there.
    pub(super) fn create(path: &Path) -> Result<Self, SigningError> {
        let directory = Self::at(path);
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

    pub(super) fn error(&self, why: String) -> SigningError {
        SigningError { directory: self.path.display().to_string(), why }
    }

    /// Waits until no other process reads or changes the keys.
    pub(super) fn hold(&self) -> Result<Held, SigningError> {
        let fail = |error| self.error(format!("cannot be opened: {error}"));
        let directory = File::open(&self.path).map_err(fail)?;
        let about = directory.metadata().map_err(fail)?;
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
        directory.lock().map_err(fail)?;
        Ok(Held { directory })
    }

    /// All keys; `None` where there are none yet. Ends what a crash left half done.
    pub(super) fn read(&self, _held: &Held) -> Result<Option<Vec<Key>>, SigningError> {
        let Some(list) = self.read_file(LIST, OTHERS_WRITE)? else {
            return match self.key_files(".p8")?.first() {
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
                if dates.kid.len() != KID_BYTES
                    || !dates.kid.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
                {
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

    fn read_key(&self, dates: Dates) -> Result<Key, SigningError> {
        let (name, new) = (format!("{}.p8", dates.kid), format!("{}.p8.new", dates.kid));
        // The list names it, so it counts: only the last step of its writing is missing.
        if !self.path.join(&name).exists() && self.path.join(&new).exists() {
            fs::rename(self.path.join(&new), self.path.join(&name))
                .map_err(|error| self.error(format!("`{new}` cannot be renamed: {error}")))?;
        }
        let pair = match self.read_file(&name, NOT_OURS)? {
            Some(bytes) => {
                let pair =
                    Pair::from_pkcs8(dates.algorithm, &bytes).map_err(|why| self.error(format!("`{name}` {why}")))?;
                if pair.public.thumbprint() != dates.kid {
                    return Err(self.error(format!("`{name}` holds another key than its name says")));
                }
                Some(Arc::new(pair))
            }
            None if dates.gone.is_some() => None,
            None => return Err(self.error(format!("`{LIST}` lists `{}`, and `{name}` is missing", dates.kid))),
        };
        Ok(Key { dates, pair })
    }

    /// Makes `keys` the directory's: new key files, then the list, then the key files' names.
    pub(super) fn write(&self, held: &Held, keys: &[Key]) -> Result<(), SigningError> {
        for orphan in self.key_files(".p8.new")? {
            self.unlink(&orphan)?;
        }
        let mut made = Vec::new();
        for key in keys {
            let (name, new) = (format!("{}.p8", key.dates.kid), format!("{}.p8.new", key.dates.kid));
            let Some(pair) = key.pair.as_ref().filter(|_| !self.path.join(&name).exists()) else { continue };
            self.write_file(&new, &pair.to_pkcs8().map_err(|why| self.error(why))?)?;
            made.push((new, name));
        }
        let list = List { format: FORMAT, keys: keys.iter().map(|key| key.dates.clone()).collect() };
        let list = serde_json::to_vec_pretty(&list).expect("plain data is JSON");
        self.write_file(LIST_NEW, &list)?;
        self.sync(held)?;
        self.rename(LIST_NEW, LIST)?;
        self.sync(held)?;
        for (new, name) in made {
            self.rename(&new, &name)?;
        }
        self.sync(held)
    }

    /// Removes a key's private file.
    pub(super) fn remove(&self, held: &Held, kid: &str) -> Result<(), SigningError> {
        self.unlink(&format!("{kid}.p8"))?;
        self.sync(held)
    }

    fn read_file(&self, name: &str, forbidden: u32) -> Result<Option<Zeroizing<Vec<u8>>>, SigningError> {
        let path = self.path.join(name);
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
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(fail)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fail)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), SigningError> {
        fs::rename(self.path.join(from), self.path.join(to))
            .map_err(|error| self.error(format!("`{from}` cannot be renamed: {error}")))
    }

    fn unlink(&self, name: &str) -> Result<(), SigningError> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(self.error(format!("`{name}` cannot be removed: {error}")))
            }
            _ => Ok(()),
        }
    }

    fn sync(&self, held: &Held) -> Result<(), SigningError> {
        held.directory.sync_all().map_err(|error| self.error(format!("cannot be written: {error}")))
    }

    fn key_files(&self, ending: &str) -> Result<Vec<String>, SigningError> {
        let fail = |error| self.error(format!("cannot be listed: {error}"));
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
            if name.ends_with(ending) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}
