//! What commands over a mapping folder share: reading it whole, or saying why not.

use anyhow::Result;
use claimbound_core::{
    diag::{Diagnostic, Severity, line_column},
    mapping::{Folder, MappingSet, load as compile},
    time::Seconds,
    workload::Profiles,
};
use std::{io::Write as _, path::Path};

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
    let folder = match crate::folder::read(path, false) {
        Ok(folder) => folder,
        Err(diagnostics) => return complain(&Folder::default(), path, &diagnostics),
    };
    let profiles = Profiles::builtin();
    let compiled = compile(&folder, &profiles);
    match compiled.set {
        Some(set) => Ok(Some(Loaded { folder, set, profiles })),
        None => complain(&folder, path, &compiled.diagnostics),
    }
}

fn complain(folder: &Folder, path: &Path, diagnostics: &[Diagnostic]) -> Result<Option<Loaded>> {
    let mut out = std::io::stderr().lock();
    for one in diagnostics.iter().filter(|one| one.severity == Severity::Error) {
        let place = match &one.span {
            None => path.display().to_string(),
            Some(span) => {
                let text = folder.files.get(&*span.file).map(|bytes| String::from_utf8_lossy(bytes));
                let (line, column) = line_column(text.as_deref().unwrap_or_default(), span.bytes.start);
                format!("{}:{line}:{column}", path.join(&*span.file).display())
            }
        };
        writeln!(out, "{place}: error[{}]: {}", one.code, one.message)?;
        if let Some(help) = &one.help {
            writeln!(out, "  help: {help}")?;
        }
    }
    writeln!(out, "the folder `{}` does not load; `claimbound check` shows it in full", path.display())?;
    Ok(None)
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
