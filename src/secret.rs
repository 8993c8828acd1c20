//! Text that does not print, and where secrets stand.

use serde::Serialize;
use std::{fmt, fs::File, io::Read as _, os::unix::ffi::OsStringExt as _, path::PathBuf};
use zeroize::Zeroizing;

/// A secret. Shown only through [`Secret::reveal`], which is easy to search for; wiped when dropped.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
    /// The text itself: only where it leaves for its owner or enters a signature.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret stands: what a configuration may say of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    File(PathBuf),
    /// An environment variable.
    #[serde(rename = "env")]
    Variable(String),
}

impl Place {
    /// All that stands there, at most so many bytes; an error completes a sentence that begins with the place.
    pub fn read(&self, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, String> {
        match self {
            Self::File(path) => {
                let mut bytes = Zeroizing::new(Vec::new());
                let read = File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes));
                read.map_err(|error| format!("cannot be read: {error}"))?;
                if bytes.len() as u64 > bytes_max {
                    return Err(format!("is longer than {bytes_max} bytes"));
                }
                Ok(bytes)
            }
            Self::Variable(name) => match std::env::var_os(name) {
                Some(value) => Ok(Zeroizing::new(value.into_vec())),
                None => Err("is not set".to_owned()),
            },
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "`{}`", path.display()),
            Self::Variable(name) => write!(f, "the variable `{name}`"),
        }
    }
}

/// `file:PATH` or `env:NAME`, for commands.
impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("env", name)) if !name.is_empty() => Ok(Self::Variable(name.to_owned())),
            _ => Err("write `file:PATH` or `env:NAME`".to_owned()),
        }
    }
}
