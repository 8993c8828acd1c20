//! How far each sink is, in a small file of its own. It is written after what it speaks of: a crash between the two sends
//! some records twice, and never loses one.

use super::SinksError;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder},
    io::ErrorKind,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// A file beyond this is none of ours.
const FILE_BYTES_MAX: u64 = 4096;

/// The last record that a sink has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub incarnation: u128,
    pub sequence: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// Hexadecimal: JSON's numbers are too small.
    incarnation: String,
    sequence: u64,
}

#[derive(Clone)]
pub(super) struct Places {
    directory: PathBuf,
}

impl Places {
    pub(super) fn open(directory: &Path) -> Result<Self, SinksError> {
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed(directory, &error.to_string())),
            _ => Ok(Self { directory: directory.to_owned() }),
        }
    }

    pub(super) fn read(&self, sink: &str) -> Result<Option<Place>, SinksError> {
        let path = self.directory.join(format!("{sink}.json"));
        match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, &error.to_string())),
            Ok(about) if about.len() > FILE_BYTES_MAX => return Err(failed(&path, "it is no place of a sink")),
            Ok(_) => {}
        }
        let told = |error: &dyn std::fmt::Display| {
            let why = format!("{error}; remove the file, and the sink begins with the records of this start");
            failed(&path, &why)
        };
        let bytes = fs::read(&path).map_err(|error| told(&error))?;
        let written: Written = serde_json::from_slice(&bytes).map_err(|error| told(&error))?;
        let incarnation = u128::from_str_radix(&written.incarnation, 16).map_err(|error| told(&error))?;
        Ok(Some(Place { incarnation, sequence: written.sequence }))
    }

    pub(super) fn write(&self, sink: &str, place: Place) -> Result<(), String> {
        let (path, new) =
            (self.directory.join(format!("{sink}.json")), self.directory.join(format!("{sink}.json.new")));
        let written = Written { incarnation: format!("{:032x}", place.incarnation), sequence: place.sequence };
        let text = serde_json::to_vec(&written).expect("text and a number are JSON");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|error| format!("`{}` cannot be written: {error}", path.display()))
    }
}

fn failed(path: &Path, why: &str) -> SinksError {
    SinksError { path: path.display().to_string(), why: why.to_owned() }
}
