//! `claimbound.toml` and a mapping folder for one broker under test.

use crate::issuer::Issuer;
use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path};

/// The audience of `payments-secrets`, the internal role of the default folder.
pub const SECRETS_AUDIENCE: &str = "https://openbao.acme.example";
/// The audience of `payments-release`, the production role of the default folder.
pub const RELEASE_AUDIENCE: &str = "https://deploy.acme.example";

const POLICY: &str = r#"format = 1

[issuer.github]
profile = "github-actions"
url = "{issuer.github}"
owners = { acme = 65 }

[team.payments]
path = "teams/payments"
contact = "payments-oncall@acme.example"
issuers = ["github"]

[sensitivity.production]
max_duration = "1h"
needs_any = ["branch", "tag"]
"#;

const ROLES: &str = r#"[role.payments-secrets]
description = "Read the secrets of payments"
backend = "jwt"
teams = ["payments"]
issuers = ["github"]
sensitivity = "internal"
max_duration = "1h"
[role.payments-secrets.jwt]
audience = "https://openbao.acme.example"

[role.payments-release]
description = "Release payments"
backend = "jwt"
teams = ["payments"]
issuers = ["github"]
sensitivity = "production"
max_duration = "1h"
[role.payments-release.jwt]
audience = "https://deploy.acme.example"
"#;

const MAPPINGS: &str = r#"[file]
issuer = "github"
[file.match]
repository = { set = "payments-services" }

[set.payments-services]
repositories = [
  { name = "acme/payments-api", id = 740000001 },
  { name = "acme/payments-web", id = 740000002 },
]

[[mapping]]
name = "payments-production"
description = "Releases main"
roles = ["payments-release"]
max_duration = "30m"
[mapping.match]
branch = "main"
environment = "production"

[[mapping]]
name = "payments-staging"
description = "Reads secrets from any branch"
roles = ["payments-secrets"]
[mapping.match]
environment = "staging"
"#;

/// The store of a broker that is told of no other.
const SQLITE: &str = "sqlite:claimbound.db";

/// What a broker is started with. The default: one GitHub issuer with the owner `acme` (65); a job of
/// `acme/payments-api` may have `payments-release` from `main` in `production`, and `payments-secrets` in `staging`.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    issuers: Vec<Named>,
    files: BTreeMap<String, String>,
    server: String,
    signing: String,
    more: String,
    store: String,
    in_place: bool,
    pub(crate) environment: Vec<(&'static str, String)>,
}

/// A fake issuer under the name that the folder gives it.
#[derive(Clone, Debug)]
struct Named {
    name: String,
    url: String,
    /// What `[issuer.NAME]` of `claimbound.toml` says.
    network: String,
}

impl BrokerConfig {
    /// The default folder, with this issuer as `github`.
    pub fn new(github: &Issuer) -> Self {
        let files = [("policy.toml", POLICY), ("roles/payments.toml", ROLES), ("teams/payments/deploy.toml", MAPPINGS)];
        Self::with_folder(&files).issuer("github", github)
    }

    /// A folder of the test's own: paths below `mappings/`, and texts in which `{issuer.NAME}` stands for a URL.
    pub fn with_folder(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let [server, signing, more] = [const { String::new() }; 3];
        let store = SQLITE.to_owned();
        Self { issuers: Vec::new(), files, server, signing, more, store, in_place: false, environment: Vec::new() }
    }

    /// What stands in the directory already, as it stands: nothing is written.
    pub fn in_place() -> Self {
        Self { in_place: true, ..Self::with_folder(&[]) }
    }

    /// Names a fake issuer: `{issuer.NAME}` becomes its URL.
    pub fn issuer(mut self, name: &str, issuer: &Issuer) -> Self {
        let network = "allow_private_network = true\n".to_owned();
        self.issuers.push(Named { name: name.to_owned(), url: issuer.url().to_owned(), network });
        self
    }

    /// What `[issuer.NAME]` of `claimbound.toml` says besides, or instead, of `allow_private_network = true`.
    pub fn network(mut self, name: &str, lines: &str, instead: bool) -> Self {
        let named = self.issuers.iter_mut().find(|named| named.name == name);
        let network = &mut named.unwrap_or_else(|| panic!("no issuer `{name}`")).network;
        if instead {
            network.clear();
        }
        network.push_str(lines);
        network.push('\n');
        self
    }

    /// Adds or replaces a file of the mapping folder.
    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    /// The text of a file of the mapping folder with one passage replaced; panics if it is not there.
    pub fn edit(mut self, path: &str, from: &str, to: &str) -> Self {
        let text = self.files.get_mut(path).unwrap_or_else(|| panic!("no `{path}` in the folder"));
        assert!(text.contains(from), "`{path}` does not hold `{from}`");
        *text = text.replace(from, to);
        self
    }

    /// A variable of the broker's environment.
    pub fn env(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// A line in `[server]`.
    pub fn server(mut self, line: &str) -> Self {
        self.server.push_str(line);
        self.server.push('\n');
        self
    }

    /// A line in `[signing]`.
    pub fn signing(mut self, line: &str) -> Self {
        self.signing.push_str(line);
        self.signing.push('\n');
        self
    }

    /// Another store than a SQLite file.
    pub fn store(mut self, url: &str) -> Self {
        self.store = url.to_owned();
        self
    }

    /// Tables at the end of `claimbound.toml`, with `{issuer.NAME}` as in the folder.
    pub fn toml(mut self, text: &str) -> Self {
        self.more.push_str(text);
        self.more.push('\n');
        self
    }

    /// The store's URL, for a broker in `directory`.
    pub(crate) fn store_in(&self, directory: &Path) -> String {
        match self.store.as_str() {
            SQLITE => format!("sqlite:{}", directory.join("claimbound.db").display()),
            other => other.to_owned(),
        }
    }

    /// Writes `claimbound.toml` and `mappings/` into `directory`. Port 0 lets the broker choose.
    pub fn write(&self, directory: &Path, listen: &str, operator_listen: &str) {
        if self.in_place {
            return;
        }
        let mut text =
            format!("[server]\nlisten = \"{listen}\"\noperator_listen = \"{operator_listen}\"\n{}", self.server);
        text.push_str(&format!("\n[store]\nurl = \"{}\"\n\n[mappings]\npath = \"mappings\"\n", self.store));
        text.push_str(&format!("\n[signing]\nkeys = \"keys\"\n{}", self.signing));
        for Named { name, network, .. } in &self.issuers {
            text.push_str(&format!("\n[issuer.{name}]\n{network}"));
        }
        text.push('\n');
        text.push_str(&self.filled(&self.more));
        write(directory, "claimbound.toml", &text);
        for (path, text) in &self.files {
            write(directory, &format!("mappings/{path}"), &self.filled(text));
        }
    }

    fn filled(&self, text: &str) -> String {
        let fill = |text: String, named: &Named| text.replace(&format!("{{issuer.{}}}", named.name), &named.url);
        self.issuers.iter().fold(text.to_owned(), fill)
    }
}

/// Writes with modes that a broker accepts, whatever the umask.
fn write(directory: &Path, path: &str, text: &str) {
    let mut folder = directory.to_owned();
    for part in Path::new(path).parent().expect("a file stands somewhere") {
        folder.push(part);
        fs::create_dir_all(&folder).expect("a folder can be made");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("a mode can be set");
    }
    let file = directory.join(path);
    fs::write(&file, text).expect("a file can be written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("a mode can be set");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_filled_in_and_files_edited() {
        let (issuer, directory) = (Issuer::github(), tempfile::tempdir().unwrap());
        let config = BrokerConfig::new(&issuer)
            .edit("policy.toml", "acme = 65", "acme = 66")
            .server("hints = \"none\"")
            .network("github", "refresh = \"1s\"", true)
            .toml("# {issuer.github}");
        config.write(directory.path(), "127.0.0.1:0", "127.0.0.1:0");
        let read = |path: &str| fs::read_to_string(directory.path().join(path)).unwrap();
        assert!(
            read("mappings/policy.toml").contains(&format!("url = \"{}\"\nowners = {{ acme = 66 }}", issuer.url()))
        );
        assert!(read("mappings/teams/payments/deploy.toml").contains("740000001"));
        assert!(read("claimbound.toml").contains("hints = \"none\"\n\n[store]"));
        assert!(read("claimbound.toml").contains("[issuer.github]\nrefresh = \"1s\"\n"));
        assert!(read("claimbound.toml").ends_with(&format!("# {}\n", issuer.url())));
    }

    #[test]
    fn the_audiences_named_here_are_the_folder_s() {
        assert!(ROLES.contains(SECRETS_AUDIENCE) && ROLES.contains(RELEASE_AUDIENCE));
    }
}
