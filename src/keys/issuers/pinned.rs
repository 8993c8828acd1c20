//! Keys that an operator put into a file, for an issuer that cannot be reached. Such an issuer is never asked: the file
//! is all that is believed, until the day that its operator wrote beside it.

use claimbound_core::{
    time::UnixSeconds,
    trust::{Algorithm, JWKS_BYTES_MAX, KeySet, parse_jwks},
};
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// `jwks = { file, expires, warn_before }` of an issuer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pin {
    pub file: PathBuf,
    /// From this moment on nothing in the file is believed.
    pub expires: UnixSeconds,
    /// How long before that health, metrics and log say so.
    pub warn_before_seconds: i64,
}

/// How near the end of a pin is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Left {
    Enough,
    Little,
    Nothing,
}

impl Pin {
    pub(super) fn left(&self, now: UnixSeconds) -> Left {
        if now >= self.expires {
            Left::Nothing
        } else if now >= self.expires.plus(-self.warn_before_seconds) {
            Left::Little
        } else {
            Left::Enough
        }
    }

    /// What an operator should hear about the pin's end, if it is near or past.
    pub fn warning(&self, now: UnixSeconds) -> Option<String> {
        let says = match self.left(now) {
            Left::Enough => return None,
            Left::Little => "expire",
            Left::Nothing => "expired",
        };
        let day = jiff::Timestamp::from_second(self.expires.0)
            .map_or_else(|_| self.expires.0.to_string(), |at| at.strftime("%F").to_string());
        Some(format!(
            "the pinned keys in `{}` {says} on {day}; put new ones there (`claimbound jwks fetch`) and a later `expires`",
            self.file.display()
        ))
    }

    /// The keys in the file.
    ///
    /// # Errors
    /// The file cannot be read, could have been written by others, or holds no key that can be used; says what to do.
    pub fn read(&self, permitted: &[Algorithm]) -> Result<KeySet, String> {
        let fail = |why: String| format!("`{}`: {why}", self.file.display());
        let set = parse_jwks(&read(&self.file).map_err(fail)?, permitted).map_err(|error| fail(error.to_string()))?;
        if set.keys.is_empty() {
            let first = set.ignored.first().map(|(kid, why)| format!("; the first, `{}`: {why}", kid.escape_debug()));
            return Err(fail(format!("holds no key that can be used{}", first.unwrap_or_default())));
        }
        Ok(set)
    }
}

/// The bytes of a file that decides whom we believe: a regular one that only its owner may write.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let told = |error: std::io::Error| format!("cannot be read: {error}");
    let file = File::open(path).map_err(told)?;
    // Asked of the open file: the path may have been swapped since.
    let metadata = file.metadata().map_err(told)?;
    if !metadata.is_file() {
        return Err("is no regular file".to_owned());
    }
    if others_may_write(&metadata) {
        return Err(
            "may be written by its group or by everybody, who could make tokens with it; run `chmod go-w`".into()
        );
    }
    let mut bytes = Vec::new();
    // One byte more than is accepted, so that the reader of the set can say so.
    file.take(JWKS_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(told)?;
    Ok(bytes)
}

#[cfg(unix)]
fn others_may_write(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o022 != 0
}

#[cfg(not(unix))]
fn others_may_write(_: &std::fs::Metadata) -> bool {
    false
}
