//! What commands over a mapping folder share: reading it whole, or saying why not.

use super::render;
use crate::folder::{self, FolderError};
use crate::history::Told;
pub use crate::history::{Loaded, duration};
use annotate_snippets::Renderer;
use anyhow::{Context as _, Result};
use claimbound_core::{
    diag::{Diagnostic, Severity},
    mapping::{Folder, load as compile},
    workload::Profiles,
};
use icu_properties::{CodePointSetData, props::DefaultIgnorableCodePoint};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::Path,
};

/// Reads and compiles a folder. `None` when it does not load: then standard error says why.
///
/// # Errors
/// When the folder cannot be read.
pub fn load(path: &Path) -> Result<Option<Loaded>> {
    let root = path.display().to_string();
    match folder::read(path, false) {
        Ok(folder) => of_folder(folder, &root),
        Err(FolderError::Refused { findings, .. }) => complain(&Folder::default(), &root, findings),
        Err(error) => Err(error.into()),
    }
}

/// Compiles a folder that is called `root`. `None` when it does not load: then standard error says why.
///
/// # Errors
/// When standard error is closed.
pub fn of_folder(folder: Folder, root: &str) -> Result<Option<Loaded>> {
    let compiled = compile(&folder, &Profiles::builtin());
    match compiled.set {
        Some(set) => Ok(Some(Loaded { folder, set, profiles: compiled.profiles })),
        None => complain(&folder, root, compiled.diagnostics),
    }
}

fn complain(folder: &Folder, root: &str, mut findings: Vec<Diagnostic>) -> Result<Option<Loaded>> {
    findings.retain(|finding| finding.severity == Severity::Error);
    let mut out = io::stderr().lock();
    out.write_all(render::human(&findings, folder, root, &Renderer::plain()).as_bytes())?;
    writeln!(out, "error: the folder `{root}` does not load")?;
    Ok(None)
}

/// Writes a file whole or not at all.
///
/// # Errors
/// When the file cannot be written; then what stood there stands.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let written = || -> io::Result<()> {
        let path = if path.exists() { path.canonicalize()? } else { path.to_owned() };
        let mut beside = path.clone().into_os_string();
        beside.push(".new");
        // Also over one that a killed run left.
        let mut file = fs::File::create(&beside)?;
        let done = file.write_all(content).and_then(|()| {
            if path.exists() {
                file.set_permissions(fs::metadata(&path)?.permissions())?;
            }
            file.sync_all()?;
            fs::rename(&beside, &path)
        });
        if done.is_err() {
            fs::remove_file(&beside)?;
        }
        done
    };
    written().with_context(|| format!("cannot write `{}`", path.display()))
}

/// Writes to standard output. Texts of a folder or a token never steer the terminal.
///
/// # Errors
/// When standard output is closed.
pub fn print(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(without_control(text).as_bytes())
}

/// A folder's files as texts, to be sent.
///
/// # Errors
/// One is no text.
pub fn texts(folder: &Folder) -> Result<BTreeMap<&str, &str>> {
    folder
        .files
        .iter()
        .map(|(path, bytes)| {
            let text = std::str::from_utf8(bytes).with_context(|| format!("`{path}` is not UTF-8"))?;
            Ok((path.as_str(), text))
        })
        .collect()
}

/// Prints an answer of the evidence; the exit code.
///
/// # Errors
/// When standard output is closed.
pub fn tell(told: Told) -> Result<u8> {
    print(&told.answer.to_text())?;
    Ok(told.code)
}

/// Text that never steers the terminal, nor shows otherwise than it is: marks that turn its direction, and what cannot be
/// seen, are told by their code points.
pub fn without_control(text: &str) -> String {
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => out.push(letter),
            _ if letter.is_control() || ignorable.contains(letter) => out.extend(letter.escape_default()),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(without_control("a\u{202E}b\u{200B}é"), "a\\u{202e}b\\u{200b}é");
        assert_eq!(without_control("a\u{1b}[2J\n\rb\u{9b}ü"), "a\\u{1b}[2J\n\\rb\\u{9b}ü");
    }
}
