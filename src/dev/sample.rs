//! The sample mapping folder, compiled in: what `claimbound dev` starts with.

/// Every file of the repository's `mappings/`: its path there, and its text.
pub const SAMPLE: &[(&str, &str)] = &[
    ("policy.toml", include_str!("../../mappings/policy.toml")),
    ("roles/payments.toml", include_str!("../../mappings/roles/payments.toml")),
    ("roles/search.toml", include_str!("../../mappings/roles/search.toml")),
    ("teams/payments/deploy.toml", include_str!("../../mappings/teams/payments/deploy.toml")),
    ("teams/search/index.toml", include_str!("../../mappings/teams/search/index.toml")),
    ("tests/guards.toml", include_str!("../../mappings/tests/guards.toml")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    #[test]
    fn no_file_of_the_folder_is_missing() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("mappings");
        let (mut files, mut open) = (BTreeSet::new(), vec![root.clone()]);
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else {
                files.insert(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
            }
        }
        assert_eq!(files, SAMPLE.iter().map(|(path, _)| (*path).to_owned()).collect());
    }
}
