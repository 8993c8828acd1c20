//! What commands over a mapping folder share: reading it whole, or saying why not.

use super::tell;
use crate::folder::{self, FolderError};
use anyhow::Result;
use claimbound_core::{
    diag::{Diagnostic, Severity},
    mapping::{Folder, MappingSet, load as compile},
    time::Seconds,
    workload::Profiles,
};
use std::path::Path;

/// How a command writes its answer.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, clap::ValueEnum)]
pub enum Format {
    #[default]
    Human,
    Json,
}

/// A folder that loads.
pub struct Loaded {
    pub folder: Folder,
    pub set: MappingSet,
    pub profiles: Profiles,
}

/// Reads and compiles a folder. `None` when it does not load: then standard error says why.
pub fn load(path: &Path) -> Result<Option<Loaded>> {
    let complain = |folder: &Folder, found: Vec<Diagnostic>| {
        let errors: Vec<_> = found.into_iter().filter(|one| one.severity == Severity::Error).collect();
        tell::findings(&path.display().to_string(), folder, &errors);
        eprintln!("error: the folder `{}` does not load", path.display());
        Ok(None)
    };
    let folder = match folder::read(path, false) {
        Ok(folder) => folder,
        Err(FolderError::Refused { findings, .. }) => return complain(&Folder::default(), findings),
        Err(error) => return Err(error.into()),
    };
    let profiles = Profiles::builtin();
    let compiled = compile(&folder, &profiles);
    match compiled.set {
        Some(set) => Ok(Some(Loaded { folder, set, profiles })),
        None => complain(&folder, compiled.diagnostics),
    }
}

/// A duration as the mapping language writes it.
pub fn duration(seconds: Seconds) -> String {
    match seconds.0 {
        s if s != 0 && s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s != 0 && s % 3600 == 0 => format!("{}h", s / 3600),
        s if s != 0 && s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_the_largest_unit_that_fits() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (90, "90s"), (900, "15m"), (3600, "1h"), (172_800, "2d")] {
            assert_eq!(duration(Seconds(seconds)), text);
        }
    }
}
