//! Names and ids as an imported folder writes them.

use super::{super::new::quoted, model::RoleOf, native::Source};
use std::collections::{BTreeMap, BTreeSet};

/// Longest name of the language, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// Ids as the folder writes them.
pub struct Ids {
    /// The first of the ids to make up, where some are.
    pub samples: Option<u64>,
    pub given: BTreeMap<String, u64>,
}

impl Ids {
    pub fn repository(&mut self, issuer: &str, name: &str, id: Option<&str>) -> Option<String> {
        self.of(format!("{issuer} {name}"), id)
    }
    pub fn owner(&mut self, issuer: &str, name: &str, id: Option<&str>) -> Option<String> {
        self.of(format!("{issuer} {name} owner"), id)
    }
    fn of(&mut self, what: String, id: Option<&str>) -> Option<String> {
        if let Some(id) = id {
            return Some(id.to_owned());
        }
        let next = self.samples? + self.given.len() as u64;
        Some(self.given.entry(what).or_insert(next).to_string())
    }
}

/// Names of the language, each given once.
#[derive(Default)]
pub struct Names {
    issuers: BTreeMap<String, String>,
    roles: BTreeMap<String, String>,
    mappings: BTreeSet<String>,
}

impl Names {
    pub fn issuer(&mut self, source: &Source<'_>) -> String {
        let short = match source.profile.name.as_str() {
            "github-actions" => "github",
            other => other,
        };
        let taken: BTreeSet<String> = self.issuers.values().cloned().collect();
        self.issuers.entry(source.url.clone()).or_insert_with(|| free(short, &taken)).clone()
    }
    pub fn role(&mut self, role: &RoleOf) -> String {
        let taken: BTreeSet<String> = self.roles.values().cloned().collect();
        self.roles.entry(role.called.clone()).or_insert_with(|| free(&role.name, &taken)).clone()
    }
    pub fn mapping(&mut self, wanted: &str) -> String {
        let name = free(wanted, &self.mappings);
        self.mappings.insert(name.clone());
        name
    }
}

/// A name made of a text, that nothing else has.
fn free(text: &str, taken: &BTreeSet<String>) -> String {
    let letters = text.chars().map(|letter| match letter.to_ascii_lowercase() {
        letter if letter.is_ascii_alphanumeric() => letter,
        _ => '-',
    });
    let letters: String = letters.collect();
    let short = |text: &str, room: usize| text.chars().take(room).collect::<String>().trim_matches('-').to_owned();
    let mut name = short(letters.trim_matches('-'), NAME_BYTES_MAX);
    if name.is_empty() {
        name.push_str("imported");
    }
    let numbered = (2_u32..).map(|number| format!("{}-{number}", short(&name, NAME_BYTES_MAX - 8)));
    std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or(name)
}

/// A TOML key.
pub fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if bare { name.to_owned() } else { quoted(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one_of_the_language_and_nobody_else_s() {
        let taken = BTreeSet::from(["deploy".to_owned()]);
        for (text, name) in [
            ("path/Deploy_Prod", "path-deploy-prod"),
            ("Deploy", "deploy-2"),
            ("--", "imported"),
            (&"x".repeat(80), &"x".repeat(63)),
        ] {
            assert_eq!(free(text, &taken), name);
        }
        assert_eq!((key("acme"), key("a/b")), ("acme".to_owned(), "\"a/b\"".to_owned()));
    }
}
