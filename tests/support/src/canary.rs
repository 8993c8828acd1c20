//! Looks for secrets where none may be.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every file below `directory` (logs, database, write-ahead log, keys, configuration) that holds one of `secrets`
/// anywhere in its bytes, with the secret's position in the list. Empty is good.
fn leaks(directory: &Path, secrets: &[&str]) -> Vec<(PathBuf, usize)> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let kind = fs::symlink_metadata(&path).expect("the tree can be read").file_type();
        if kind.is_dir() {
            open.extend(fs::read_dir(&path).expect("a directory can be listed").map(|entry| entry.unwrap().path()));
        } else if kind.is_file() {
            let bytes = fs::read(&path).expect("a file can be read");
            let holds = |secret: &&str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            found.extend((0..secrets.len()).filter(|index| holds(&secrets[*index])).map(|index| (path.clone(), index)));
        }
    }
    found
}

/// Panics, naming the files, if one of `secrets` stands anywhere below `directory`. A secret shorter than 8 bytes
/// is refused: it would be found by chance, or (if empty) everywhere.
pub fn assert_absent(directory: &Path, secrets: &[&str]) {
    assert!(secrets.iter().all(|secret| secret.len() >= 8), "a canary must be long enough to be unmistakable");
    let found = leaks(directory, secrets);
    assert!(found.is_empty(), "secrets (by position) stand in {found:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_any_depth_and_between_other_bytes() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("deep")).unwrap();
        fs::write(directory.path().join("deep/db-wal"), b"\xff\0canary-of-the-day\xfe").unwrap();
        assert_absent(directory.path(), &["something else"]);
        assert_eq!(
            leaks(directory.path(), &["something else", "canary-of-the-day"]),
            [(directory.path().join("deep/db-wal"), 1)]
        );
    }
}
