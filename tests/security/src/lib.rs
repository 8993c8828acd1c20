//! The catalogue of attacks as data (`1a.toml`, `1b.toml`, …) and the maker of the tokens that it describes.
//!
//! The same table is run twice: in process with every variant (`core/tests/it/security`), and over HTTP with the first
//! variant of each recipe (`tests/it/security`). `README.md` beside this crate explains the recipes. Nothing here knows
//! the broker's code: what an attack expects is written down, not computed.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a table that cannot be read fails the test that reads it")]

mod good;
mod members;
mod recipe;
mod signature;
mod spelling;
mod template;
mod world;

pub use good::Good;
pub use recipe::{Answer, Attack, Expected, Keys, Load, Recipe};
pub use world::{Signer, Variant, World};

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The groups of the table: name and text. A group's file holds the numbers of one section of the catalogue.
pub const GROUPS: [(&str, &str); 7] = [
    ("1a", include_str!("../1a.toml")),
    ("1b", include_str!("../1b.toml")),
    ("1c", include_str!("../1c.toml")),
    ("1d", include_str!("../1d.toml")),
    ("1e", include_str!("../1e.toml")),
    ("1f", include_str!("../1f.toml")),
    ("1g", include_str!("../1g.toml")),
];

/// The numbers that the groups above cover: every one is an attack or stands in `not-applicable.toml`.
pub const NUMBERS: std::ops::RangeInclusive<u16> = 1..=123;

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

/// The profile of attacks that name none.
pub const GITHUB: &str = "github-actions";
/// The role that an attack on GitHub's issuer asks for when it has no mapping of its own. On another issuer it is the
/// profile's golden role, of the profile's name.
pub const ROLE: &str = "payments-release";

const FOLDER: [(&str, &str); 2] = [
    ("policy.toml", include_str!("../mappings/policy.toml")),
    ("teams/payments/release.toml", include_str!("../mappings/teams/payments/release.toml")),
];

/// The profiles whose good jobs these attacks begin with; GitHub's is among them.
pub fn profiles(attacks: &[Attack]) -> BTreeSet<String> {
    let named = |attack: &Attack| {
        let of_recipes = attack.recipe.iter().map(|recipe| attack.profile_of(recipe).to_owned());
        of_recipes.chain([attack.profile().to_owned()]).collect::<Vec<_>>()
    };
    attacks.iter().flat_map(named).chain([GITHUB.to_owned()]).collect()
}

/// What a folder calls the issuer of a profile.
pub fn issuer_name(profile: &str) -> &str {
    if profile == GITHUB { "github" } else { profile }
}

/// The mapping folder that the attacks are made against: path → text, with `{issuer.NAME}` for an issuer's URL.
/// Each attack with conditions of its own has a mapping and a role `attack-NNN` in it, each profile beside GitHub's the
/// mapping and the role of its golden job. `payments-release` is not in it: its backend is the bench's.
pub fn folder(attacks: &[Attack]) -> BTreeMap<String, String> {
    let profiles = profiles(attacks);
    let mut files = base(profiles.iter().map(String::as_str));
    for profile in profiles.iter().filter(|profile| *profile != GITHUB) {
        add_mapping(&mut files, profile, profile, &Good::of(profile).conditions);
    }
    for attack in attacks {
        if let Some(conditions) = &attack.mapping {
            add_mapping(&mut files, &attack.role(), attack.profile(), conditions);
        }
    }
    files
}

/// The folder with one thing in it that must not load, or not without a word.
pub fn folder_of(attack: &Attack, load: &Load) -> BTreeMap<String, String> {
    let profile = attack.profile_in(load);
    let mut files = base([GITHUB, profile]);
    if let Some(conditions) = &load.mapping {
        add_mapping(&mut files, "attack", profile, conditions);
    }
    for edit in &load.edit {
        let text = files.get_mut(&edit.file).unwrap_or_else(|| panic!("no `{}` in the folder", edit.file));
        assert!(text.contains(&edit.from), "`{}` does not hold `{}`", edit.file, edit.from);
        *text = text.replace(&edit.from, &edit.to);
    }
    files
}

fn base<'p>(profiles: impl IntoIterator<Item = &'p str>) -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, String> =
        FOLDER.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    let others: BTreeSet<&str> = profiles.into_iter().filter(|profile| *profile != GITHUB).collect();
    let policy = files.get_mut("policy.toml").expect("FOLDER has it");
    for profile in others {
        let lines = Good::of(profile).issuer;
        policy.push_str(&format!(
            "\n[issuer.{profile}]\nprofile = \"{profile}\"\nurl = \"{{issuer.{profile}}}\"\n{lines}\n"
        ));
    }
    files
}

/// A role, and the mapping of one issuer that gives it.
fn add_mapping(files: &mut BTreeMap<String, String>, role: &str, profile: &str, conditions: &str) {
    let issuer = issuer_name(profile);
    let of_role = format!(
        "[role.{role}]\ndescription = \"Attacked\"\nbackend = \"jwt\"\nteams = [\"payments\"]\nissuers = [\"{issuer}\"]\n\
         sensitivity = \"internal\"\n[role.{role}.jwt]\naudience = \"https://{role}.acme.example\"\n"
    );
    // What stands before the conditions writes their header itself.
    let header = if conditions.contains("[mapping.match]") { "" } else { "[mapping.match]\n" };
    let mapping = format!(
        "[[mapping]]\nname = \"{role}\"\ndescription = \"Attacked\"\nissuer = \"{issuer}\"\nroles = [\"{role}\"]\n\
         {header}{conditions}\n"
    );
    files.insert(format!("roles/{role}.toml"), of_role);
    files.insert(format!("teams/payments/{role}.toml"), mapping);
}
