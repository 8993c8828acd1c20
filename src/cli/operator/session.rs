//! The sessions that a person holds, by broker: a file for those of operators and one for those who claim, which nobody else can
//! read.

use crate::secret::Secret;
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    env,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Of all sessions together.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Another command holds the file for a moment only.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(10);
const LOCK_LOOK: Duration = Duration::from_millis(50);

/// What a session is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// What operators do.
    Operator,
    /// To claim what waits for people.
    Claim,
}

impl Kind {
    fn file(self) -> &'static str {
        match self {
            Self::Operator => "operator.json",
            Self::Claim => "claim.json",
        }
    }

    /// How one signs in.
    fn login(self, broker: &str) -> String {
        match self {
            Self::Operator => format!("claimbound operator login --broker {broker}"),
            Self::Claim => format!("claimbound claim login --url {broker}"),
        }
    }
}

/// What the broker gave.
#[derive(Clone, Serialize, Deserialize)]
pub struct Kept {
    token: String,
    /// Who the broker takes them for.
    #[serde(alias = "operator")]
    pub person: String,
    pub may: Vec<String>,
    pub expires_at: i64,
}

type All = BTreeMap<String, Kept>;

/// The token of the session at this broker; whether it is still good the broker says.
pub fn token(kind: Kind, broker: &str) -> Result<Secret> {
    let kept = held(kind, broker)?;
    kept.with_context(|| format!("you are not signed in at `{broker}`: run `{}`", kind.login(broker)))
}

/// The same, if there is one.
pub fn held(kind: Kind, broker: &str) -> Result<Option<Secret>> {
    Ok(read(&file(kind)?)?.remove(broker).map(|kept| Secret::new(kept.token)))
}

/// Keeps a session, and forgets those that are over.
pub fn keep(kind: Kind, broker: &str, session: Kept, now: i64) -> Result<()> {
    change(kind, |all| {
        all.retain(|_, kept| kept.expires_at > now);
        all.insert(broker.to_owned(), session);
    })
}

/// Forgets the session at this broker.
pub fn forget(kind: Kind, broker: &str) -> Result<()> {
    change(kind, |all| drop(all.remove(broker)))
}

fn change(kind: Kind, change: impl FnOnce(&mut All)) -> Result<()> {
    let path = file(kind)?;
    let folder = path.parent().context("a file stands in a folder")?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make `{}`", folder.display()))?;
    let _lock = lock(&path.with_extension("lock"))?;
    let mut all = read(&path)?;
    change(&mut all);
    let beside = path.with_extension("new");
    let written = || -> Result<()> {
        // One that a killed run left may have another mode.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(&serde_json::to_vec(&all)?)?;
        file.sync_all()?;
        Ok(fs::rename(&beside, &path)?)
    };
    written().with_context(|| format!("cannot write `{}`", path.display()))
}

fn lock(path: &Path) -> Result<File> {
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = open.with_context(|| format!("cannot open `{}`", path.display()))?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_WAIT_MAX => thread::sleep(LOCK_LOOK),
            Err(TryLockError::WouldBlock) => bail!("another command holds `{}`; wait until it ends", path.display()),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock `{}`", path.display()));
            }
        }
    }
}

fn read(path: &Path) -> Result<All> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(All::new()),
        other => other.with_context(|| format!("cannot read `{}`", path.display()))?,
    };
    if metadata.mode() & 0o077 != 0 {
        bail!("`{}` can be read by others: `chmod 600` it, and sign in again", path.display());
    }
    if metadata.len() > FILE_BYTES_MAX {
        bail!("`{}` is longer than {FILE_BYTES_MAX} bytes: remove it, and sign in again", path.display());
    }
    let text = fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("`{}` holds no sessions: remove it, and sign in again", path.display()))
}

/// Where a session of the login to this machine belongs (XDG Base Directory Specification 0.8); else where state does.
fn file(kind: Kind) -> Result<PathBuf> {
    let set = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = set("XDG_RUNTIME_DIR").or_else(|| set("XDG_STATE_HOME"));
    let folder = folder.or_else(|| Some(set("HOME")?.join(".local/state")));
    let help = "there is no place for a session: set `XDG_STATE_HOME` or `HOME`";
    Ok(folder.context(help)?.join("claimbound").join(kind.file()))
}
