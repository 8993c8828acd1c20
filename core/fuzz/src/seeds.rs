//! Inputs that lie in files: the committed corpus, and the folders and tokens that other tests already have.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

/// Begins the line that names a file in a folder written as one text.
const FILE_MARK: &str = "=== ";

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file or folder of the repository.
pub fn repository(path: &str) -> PathBuf {
    here().join("../..").join(path)
}

/// The committed inputs of a target, in the order of their names.
pub fn corpus(target: &str) -> Vec<Vec<u8>> {
    files(&here().join("corpus").join(target)).into_values().collect()
}

/// All files below a folder: path relative to it → content. None where there is no such folder.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let (Ok(relative), Ok(content)) = (path.strip_prefix(folder), fs::read(&path)) {
                found.insert(relative.to_string_lossy().into_owned(), content);
            }
        }
    }
    found
}

/// A folder as one input: each file after a line that names it.
pub fn packed(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut input = Vec::new();
    for (path, content) in files {
        input.extend_from_slice(format!("{FILE_MARK}{path}\n").as_bytes());
        input.extend_from_slice(content);
        if !content.ends_with(b"\n") {
            input.push(b'\n');
        }
    }
    input
}

/// The folder that an input stands for; what comes before the first name is nobody's.
pub fn unpacked(input: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut path: Option<String> = None;
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_prefix(FILE_MARK.as_bytes()) {
            Some(name) => {
                let name = String::from_utf8_lossy(name.strip_suffix(b"\n").unwrap_or(name)).into_owned();
                files.entry(name.clone()).or_default();
                path = Some(name);
            }
            None => {
                if let Some(content) = path.as_ref().and_then(|path| files.get_mut(path)) {
                    content.extend_from_slice(line);
                }
            }
        }
    }
    files
}

/// Puts an input that broke a target where the next run does not lose it.
pub(crate) fn write_crash(target: &str, input: &[u8]) -> PathBuf {
    let mut hash = DefaultHasher::new();
    input.hash(&mut hash);
    let folder = here().join("crashes");
    let file = folder.join(format!("{target}-{:016x}", hash.finish()));
    fs::create_dir_all(&folder).and_then(|()| fs::write(&file, input)).expect("a crash can be written");
    file
}
