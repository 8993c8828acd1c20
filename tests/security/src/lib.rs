//! The catalogue of attacks as data (`1a.toml`, `1b.toml`, …) and the maker of the tokens that it describes.
//!
//! The same table is run twice: in process with every variant (`core/tests/it/security`), and over HTTP with the first
//! variant of each recipe (`tests/it/security`). `README.md` beside this crate explains the recipes. Nothing here knows
//! the broker's code: what an attack expects is written down, not computed.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a table that cannot be read fails the test that reads it")]

mod members;
mod recipe;
mod signature;
mod spelling;
mod template;
mod world;

pub use recipe::{Answer, Attack, Expected, Keys, Load, Recipe};
pub use world::{Signer, Variant, World};

use serde::Deserialize;
use std::collections::BTreeMap;

/// The groups of the table: name and text. A group's file holds the numbers of one section of the catalogue.
pub const GROUPS: [(&str, &str); 3] =
    [("1a", include_str!("../1a.toml")), ("1b", include_str!("../1b.toml")), ("1c", include_str!("../1c.toml"))];

/// The numbers that the groups above cover: every one is an attack or stands in `not-applicable.toml`.
pub const NUMBERS: std::ops::RangeInclusive<u16> = 1..=79;

/// An entry, or a variant of one, that has no test: which, and why.
#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct NotApplicable {
    pub number: u16,
    /// The part of the entry; without it the whole entry.
    pub variant: Option<String>,
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    attack: Vec<Attack>,
}

/// The attacks of a group, in the file's order.
pub fn group(name: &str) -> Vec<Attack> {
    let (_, text) = GROUPS.iter().find(|(group, _)| *group == name).expect("a group of the table");
    let group: Group = toml::from_str(text).unwrap_or_else(|error| panic!("tests/security/{name}.toml: {error}"));
    group.attack
}

/// The attacks of all groups.
pub fn all() -> Vec<Attack> {
    GROUPS.iter().flat_map(|(name, _)| group(name)).collect()
}

/// The attack whose test has this name (`security_001_alg_none`).
pub fn of_test(test: &str) -> Attack {
    all().into_iter().find(|attack| attack.test() == test).unwrap_or_else(|| panic!("no attack is called `{test}`"))
}

/// What has no test, and why.
pub fn not_applicable() -> Vec<NotApplicable> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct List {
        not_applicable: Vec<NotApplicable>,
    }
    let list: List =
        toml::from_str(include_str!("../not-applicable.toml")).expect("tests/security/not-applicable.toml");
    list.not_applicable
}

/// The role that an attack asks for when it has no mapping of its own.
pub const ROLE: &str = "payments-release";

const FOLDER: [(&str, &str); 2] = [
    ("policy.toml", include_str!("../mappings/policy.toml")),
    ("teams/payments/release.toml", include_str!("../mappings/teams/payments/release.toml")),
];

/// The mapping folder that the attacks are made against: path → text, with `{issuer.github}` for the issuer's URL.
/// Each attack with conditions of its own has a mapping and a role `attack-NNN` in it. `payments-release` is not in it:
/// its backend is the bench's.
pub fn folder(attacks: &[Attack]) -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, String> =
        FOLDER.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    for attack in attacks {
        if let Some(conditions) = &attack.mapping {
            let role = attack.role();
            files.insert(format!("roles/{role}.toml"), role_file(&role));
            files.insert(format!("teams/payments/{role}.toml"), mapping_file(&role, conditions));
        }
    }
    files
}

/// The folder with one thing in it that must not load, or not without a word.
pub fn folder_of(load: &Load) -> BTreeMap<String, String> {
    let mut files = folder(&[]);
    if let Some(conditions) = &load.mapping {
        files.insert("roles/attack.toml".to_owned(), role_file("attack"));
        files.insert("teams/payments/attack.toml".to_owned(), mapping_file("attack", conditions));
    }
    for edit in &load.edit {
        let text = files.get_mut(&edit.file).unwrap_or_else(|| panic!("no `{}` in the folder", edit.file));
        assert!(text.contains(&edit.from), "`{}` does not hold `{}`", edit.file, edit.from);
        *text = text.replace(&edit.from, &edit.to);
    }
    files
}

fn role_file(role: &str) -> String {
    format!(
        "[role.{role}]\ndescription = \"Attacked\"\nbackend = \"jwt\"\nteams = [\"payments\"]\nissuers = [\"github\"]\n\
         sensitivity = \"internal\"\n[role.{role}.jwt]\naudience = \"https://{role}.acme.example\"\n"
    )
}

fn mapping_file(role: &str, conditions: &str) -> String {
    // What stands before the conditions writes their header itself.
    let header = if conditions.contains("[mapping.match]") { "" } else { "[mapping.match]\n" };
    format!(
        "[[mapping]]\nname = \"{role}\"\ndescription = \"Attacked\"\nissuer = \"github\"\nroles = [\"{role}\"]\n\
         {header}{conditions}\n"
    )
}
