//! The database file: private to its owner, and to one broker at a time.

use super::Down;
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{ErrorKind, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Evidence names persons: nobody but the owner reads it.
const MODE: u32 = 0o600;

/// The file, which exists from here on, under its one name, and the lock that keeps other brokers away.
///
/// The lock is on a file beside the database: closing any handle of the database itself would drop the locks that
/// SQLite holds on it in this process.
pub(super) fn claim(path: &Path) -> Result<(PathBuf, File), Down> {
    let told = |what: &str, error: std::io::Error| Down::new(format!("cannot {what} `{}`: {error}", path.display()));
    match OpenOptions::new().write(true).create_new(true).mode(MODE).open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(told("create", error)),
    }
    let path = fs::canonicalize(path).map_err(|error| told("find", error))?;
    let mut name = OsString::from(&path);
    name.push(".lock");
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(&name)
        .map_err(|error| told("lock", error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&name).unwrap_or_default();
            return Err(Down::new(format!(
                "another broker (process {}) holds `{}`; stop it, or give this one a store of its own",
                holder.trim(),
                path.display()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(told("lock", error)),
    }
    // Whose lock it is helps who is refused; the lock itself is not this text.
    let _ = lock.set_len(0).and_then(|()| writeln!(&lock, "{}", std::process::id()));
    let mode = fs::metadata(&path).map_err(|error| told("read", error))?.permissions().mode();
    if mode & 0o777 & !MODE != 0 {
        fs::set_permissions(&path, Permissions::from_mode(MODE)).map_err(|error| told("protect", error))?;
    }
    Ok((path, lock))
}
