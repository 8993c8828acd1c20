//! Reads a mapping folder from disk, so that what is judged is what stands there and nothing else.
//!
//! Only regular files are read. Links are followed where they stay inside the folder, which is how Kubernetes mounts
//! a ConfigMap (`policy.toml` → `..data/policy.toml`, `..data` → the present version); a swap of `..data` while we
//! read starts the reading anew, so that two versions are never mixed. Files that others may write are refused: who
//! can write a file below `roles/` decides who gets what. What a file may say is judged by
//! [`claimbound_core::mapping::load`].

use claimbound_core::{
    diag::{Code, Diagnostic, Span},
    mapping::{Folder, codes},
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    hash::{Hash as _, Hasher},
    io::{self, Read},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// More files than this are refused.
pub const FILES_MAX: usize = 250_000;
/// More bytes than this, all files together, are refused.
pub const FOLDER_MAX_BYTES: usize = 512 * 1024 * 1024;
/// A file is read this far: one byte more than `load` accepts, so that it can say so.
pub const FILE_READ_MAX_BYTES: u64 = 1024 * 1024 + 1;
/// Folders within folders beyond this are refused, links included: so a ring of links ends.
const FOLDERS_DEEP_MAX: usize = 16;
/// How often reading starts anew when the folder is swapped under it.
const SWAPS_MAX: usize = 3;
/// Files that may stand anywhere in a folder and mean nothing.
const WITHOUT_MEANING: [&str; 6] = ["README.md", "CODEOWNERS", ".gitkeep", ".gitignore", ".gitattributes", ".git"];

/// Why a folder was not read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The operating system said no.
    #[error("cannot read `{path}`")]
    Unreadable { path: PathBuf, source: io::Error },
    /// `..data` changed each time.
    #[error("`{path}` is swapped faster than it can be read")]
    Swapped { path: PathBuf },
    /// What stands there must not be read; all findings at once.
    #[error("`{path}` holds what a mapping folder may not hold")]
    Refused { path: PathBuf, findings: Vec<Diagnostic> },
}

/// Reads a folder. `serving` refuses what the group may write, too.
pub fn read(path: &Path, serving: bool) -> Result<Folder, FolderError> {
    // A link that names the folder itself is resolved once: all of one reading is of one version.
    let root = fs::canonicalize(path).map_err(|source| FolderError::Unreadable { path: path.to_owned(), source })?;
    for _ in 0..=SWAPS_MAX {
        let before = generation(&root);
        let mut reading = Reading::new(&root, serving, (FILES_MAX, FOLDER_MAX_BYTES));
        let outcome = reading.folder(&root, "", 0);
        if generation(&root) != before {
            continue;
        }
        outcome?;
        if reading.findings.is_empty() {
            return Ok(Folder { files: reading.files });
        }
        return Err(FolderError::Refused { path: path.to_owned(), findings: reading.findings });
    }
    Err(FolderError::Swapped { path: path.to_owned() })
}

/// The version of a mounted ConfigMap.
fn generation(root: &Path) -> Option<PathBuf> {
    fs::read_link(root.join("..data")).ok()
}

/// Feeds `hash` what changes when a file at or below `path` does: names, sizes, times and numbers, no contents. What
/// cannot be looked at counts as such.
pub fn mark(path: &Path, hash: &mut impl Hasher) {
    let mut left = FILES_MAX;
    mark_below(path, hash, FOLDERS_DEEP_MAX, &mut left);
}

fn mark_below(path: &Path, hash: &mut impl Hasher, deeper: usize, left: &mut usize) {
    // Of what a link leads to: a swapped one leads to another file.
    let Ok(metadata) = fs::metadata(path) else { return path.hash(hash) };
    (path, metadata.dev(), metadata.ino(), metadata.mode(), metadata.size()).hash(hash);
    (metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()).hash(hash);
    let Some(entries) = metadata.is_dir().then(|| fs::read_dir(path).ok()).flatten() else { return };
    let read = |entry: &fs::DirEntry| !entry.file_name().to_str().is_some_and(means_nothing);
    let mut below: Vec<_> = entries.flatten().filter(read).map(|entry| entry.path()).collect();
    below.sort();
    for path in below {
        if deeper == 0 || *left == 0 {
            return;
        }
        *left -= 1;
        mark_below(&path, hash, deeper - 1, left);
    }
}

/// Whether what has this name is never read where it stands: `..data` and its versions are reached through the links
/// that lead there.
pub fn means_nothing(name: &str) -> bool {
    name.starts_with("..") || WITHOUT_MEANING.contains(&name)
}

struct Reading<'r> {
    root: &'r Path,
    serving: bool,
    /// Files and bytes, at most.
    most: (usize, usize),
    files: BTreeMap<String, Vec<u8>>,
    bytes: usize,
    findings: Vec<Diagnostic>,
}

impl<'r> Reading<'r> {
    fn new(root: &'r Path, serving: bool, most: (usize, usize)) -> Self {
        Self { root, serving, most, files: BTreeMap::new(), bytes: 0, findings: Vec::new() }
    }

    fn refuse(&mut self, code: Code, name: &str, message: String, help: &str) {
        let span = Span::new(name, 0..0);
        self.findings.push(Diagnostic::error(code, span, message, help));
    }

    fn folder(&mut self, at: &Path, name: &str, depth: usize) -> Result<(), FolderError> {
        let unreadable = |source| FolderError::Unreadable { path: at.to_owned(), source };
        let mut entries: Vec<_> = fs::read_dir(at).and_then(Iterator::collect::<Result<_, _>>).map_err(unreadable)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let file_name = entry.file_name();
            let Some(part) = file_name.to_str() else {
                let shown = join(name, &file_name.to_string_lossy());
                let help = "rename it: paths in a mapping folder are UTF-8";
                self.refuse(codes::UNEXPECTED_FILE, &shown, format!("the name `{shown}` is not UTF-8"), help);
                continue;
            };
            if means_nothing(part) {
                continue;
            }
            self.entry(&entry.path(), &join(name, part), depth)?;
            let (files_max, bytes_max) = self.most;
            if self.files.len() > files_max || self.bytes > bytes_max {
                // Said where it is found, and not again by every folder above.
                if !self.findings.iter().any(|finding| finding.code == codes::FOLDER_TOO_LARGE) {
                    let message = format!("the folder has more than {files_max} files or {bytes_max} bytes");
                    let help = "name the mapping folder itself, not one above it";
                    self.refuse(codes::FOLDER_TOO_LARGE, name, message, help);
                }
                return Ok(());
            }
        }
        Ok(())
    }

    fn entry(&mut self, at: &Path, name: &str, depth: usize) -> Result<(), FolderError> {
        let unreadable = |source| FolderError::Unreadable { path: at.to_owned(), source };
        let kind = fs::symlink_metadata(at).map_err(unreadable)?.file_type();
        let real = if kind.is_symlink() { fs::canonicalize(at).map_err(unreadable)? } else { at.to_owned() };
        if kind.is_symlink() && !real.starts_with(self.root) {
            let message = format!("the link `{name}` leads out of the folder");
            self.refuse(
                codes::LINK_OUTSIDE,
                name,
                message,
                "copy the file here: the folder is reviewed and versioned as a whole",
            );
            return Ok(());
        }
        let metadata = fs::metadata(&real).map_err(unreadable)?;
        if metadata.is_dir() {
            if depth == FOLDERS_DEEP_MAX {
                let message = format!("`{name}` lies more than {FOLDERS_DEEP_MAX} folders deep");
                self.refuse(codes::FOLDER_TOO_LARGE, name, message, "flatten it; a ring of links never ends");
                return Ok(());
            }
            return self.folder(&real, name, depth + 1);
        }
        if !metadata.is_file() {
            let message = format!("`{name}` is no regular file");
            self.refuse(codes::SPECIAL_FILE, name, message, "remove it: pipes, sockets and devices are never read");
            return Ok(());
        }
        let file = File::open(&real).map_err(unreadable)?;
        // Asked of the open file: the path may have been swapped since.
        let metadata = file.metadata().map_err(unreadable)?;
        if let Some(who) = others_may_write(&metadata, self.serving) {
            let message = format!("{who} may write `{name}`");
            let help = format!(
                "run `chmod {} {name}`: whoever writes it decides who gets credentials",
                if who == "everybody" { "o-w" } else { "g-w" }
            );
            self.refuse(codes::WRITABLE_BY_OTHERS, name, message, &help);
            return Ok(());
        }
        let mut content = Vec::new();
        file.take(FILE_READ_MAX_BYTES).read_to_end(&mut content).map_err(unreadable)?;
        self.bytes += content.len();
        self.files.insert(name.to_owned(), content);
        Ok(())
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

#[cfg(unix)]
fn others_may_write(metadata: &fs::Metadata, serving: bool) -> Option<&'static str> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode();
    match (mode & 0o002 != 0, serving && mode & 0o020 != 0) {
        (true, _) => Some("everybody"),
        (_, true) => Some("the group"),
        _ => None,
    }
}

#[cfg(not(unix))]
fn others_may_write(_: &fs::Metadata, _: bool) -> Option<&'static str> {
    None
}

const MAGIC: &[u8; 4] = b"CBF1";

/// Bytes that are no archived folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the archived mapping folder is damaged")]
pub struct ArchiveError;

/// One folder as bytes, to be kept under its version: length-prefixed paths and contents in path order.
pub fn archive(folder: &Folder) -> Vec<u8> {
    let size = folder.files.iter().map(|(path, content)| 16 + path.len() + content.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(MAGIC.len() + size);
    bytes.extend_from_slice(MAGIC);
    for (path, content) in &folder.files {
        for part in [path.as_bytes(), content] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

/// The folder that [`archive`] wrote. The caller compares [`Folder::version`] with the name it was kept under.
pub fn unarchive(bytes: &[u8]) -> Result<Folder, ArchiveError> {
    fn part<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
        let (length, after) = rest.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
        let (part, after) = after.split_at_checked(length)?;
        *rest = after;
        Some(part)
    }
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(ArchiveError)?;
    let mut folder = Folder::default();
    while !rest.is_empty() {
        let path = part(&mut rest).ok_or(ArchiveError)?;
        let path = std::str::from_utf8(path).map_err(|_| ArchiveError)?;
        let content = part(&mut rest).ok_or(ArchiveError)?;
        if folder.files.insert(path.to_owned(), content.to_vec()).is_some() {
            return Err(ArchiveError);
        }
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn refused(root: &Path, serving: bool) -> Vec<(String, Code)> {
        match read(root, serving) {
            Err(FolderError::Refused { findings, .. }) => {
                findings.into_iter().map(|finding| (finding.span.unwrap().file.to_string(), finding.code)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_stands_there_is_read() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "policy.toml", "format = 1");
        write(root.path(), "teams/a/b.toml", "");
        write(root.path(), "teams/README.md", "words");
        write(root.path(), "notes.txt", "for `load` to refuse");
        let folder = read(root.path(), true).unwrap();
        assert_eq!(folder.files.keys().collect::<Vec<_>>(), ["notes.txt", "policy.toml", "teams/a/b.toml"]);
    }

    #[test]
    fn a_mounted_config_map_is_read_through_its_links() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "..2026_11_21/policy.toml", "format = 1");
        write(root.path(), "..2026_11_21/roles/a.toml", "");
        symlink("..2026_11_21", root.path().join("..data")).unwrap();
        symlink("..data/policy.toml", root.path().join("policy.toml")).unwrap();
        symlink("..data/roles", root.path().join("roles")).unwrap();
        let folder = read(root.path(), true).unwrap();
        assert_eq!(folder.files.keys().collect::<Vec<_>>(), ["policy.toml", "roles/a.toml"]);
    }

    #[test]
    fn what_may_not_be_read_is_refused_all_at_once() {
        let outside = tempfile::tempdir().unwrap();
        write(outside.path(), "role.toml", "");
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "policy.toml", "");
        write(root.path(), "roles/open.toml", "");
        write(root.path(), "roles/group.toml", "");
        let mode = |name: &str, mode| {
            fs::set_permissions(root.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        mode("roles/open.toml", 0o646);
        mode("roles/group.toml", 0o664);
        symlink(outside.path().join("role.toml"), root.path().join("roles/out.toml")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.path().join("s.toml")).unwrap();
        let open = ("roles/open.toml".to_owned(), codes::WRITABLE_BY_OTHERS);
        let out = ("roles/out.toml".to_owned(), codes::LINK_OUTSIDE);
        let socket = ("s.toml".to_owned(), codes::SPECIAL_FILE);
        assert_eq!(refused(root.path(), false), [open.clone(), out.clone(), socket.clone()]);
        let group = ("roles/group.toml".to_owned(), codes::WRITABLE_BY_OTHERS);
        assert_eq!(refused(root.path(), true), [group, open, out, socket]);
    }

    #[test]
    fn a_folder_with_too_many_files_or_bytes_is_refused_once() {
        let root = tempfile::tempdir().unwrap();
        for name in ["roles/a.toml", "roles/b.toml", "teams/one/c.toml", "teams/one/d.toml"] {
            write(root.path(), name, "12345");
        }
        let path = fs::canonicalize(root.path()).unwrap();
        let found = |most| {
            let mut reading = Reading::new(&path, false, most);
            reading.folder(&path, "", 0).unwrap();
            let told =
                reading.findings.into_iter().map(|finding| (finding.code, finding.span.unwrap().file.to_string()));
            told.collect::<Vec<_>>()
        };
        assert_eq!(found((4, 20)), []);
        assert_eq!(found((3, 20)), [(codes::FOLDER_TOO_LARGE, "teams/one".to_owned())]);
        assert_eq!(found((4, 9)), [(codes::FOLDER_TOO_LARGE, "roles".to_owned())]);
    }

    #[test]
    fn a_ring_of_links_ends() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("teams")).unwrap();
        symlink("../teams", root.path().join("teams/again")).unwrap();
        assert!(refused(root.path(), false).iter().any(|(_, code)| *code == codes::FOLDER_TOO_LARGE));
    }

    #[test]
    fn an_archive_gives_the_same_folder_or_none() {
        let mut folder = Folder::default();
        folder.files.insert("policy.toml".into(), b"format = 1".to_vec());
        folder.files.insert("teams/\u{e9}.toml".into(), vec![0, 255]);
        let bytes = archive(&folder);
        let again = unarchive(&bytes).unwrap();
        assert_eq!((again.version(), &again.files), (folder.version(), &folder.files));
        for cut in 1..bytes.len() {
            let whole = unarchive(&bytes[..cut]).is_ok_and(|part| part.version() == folder.version());
            assert!(!whole, "cut at {cut}");
        }
        assert!(unarchive(b"CBF1\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
        assert!(unarchive(b"").is_err());
    }
}
