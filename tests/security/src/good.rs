//! The good job of every profile: what its attacks begin with, and the issuer and mapping that grant it.

use crate::{GITHUB, members::Members};
use serde::Deserialize;
use serde_json::Value;

/// A profile's good job, as `core/tests/it/data/profiles/NAME.json` has it.
#[derive(Deserialize)]
pub struct Good {
    /// Lines of its `[issuer.NAME]` besides profile and URL.
    pub issuer: String,
    /// The conditions of the mapping that grants it.
    #[serde(rename = "match")]
    pub conditions: String,
    token: Value,
}

macro_rules! golden {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../../core/tests/it/data/profiles/", $name, ".json")))),*]
    };
}

const GOLDEN: [(&str, &str); 18] = golden! {
    "aws" "azure-devops" "bitbucket-pipelines" "buddy" "buildkite" "circleci" "codefresh" "env0" "forgejo" "generic"
    "github-actions" "gitlab" "google" "hcp-terraform" "jenkins" "kubernetes" "semaphore" "spacelift"
};

/// GitHub's good token says more than its golden one: its attacks reach into every claim.
const GITHUB_TOKEN: &str = include_str!("../good-token.json");

impl Good {
    /// The good job of the profile.
    pub fn of(profile: &str) -> Self {
        let (_, text) = GOLDEN.iter().find(|(name, _)| *name == profile).unwrap_or_else(|| panic!("no `{profile}`"));
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{profile}.json: {error}"))
    }

    /// Its issuer's real URL.
    pub fn url(&self) -> &str {
        self.token["iss"].as_str().expect("an issuer")
    }

    /// The claims of its token, with `$names` for what differs from token to token.
    pub(crate) fn template(profile: &str) -> String {
        if profile == GITHUB {
            return GITHUB_TOKEN.to_owned();
        }
        let mut claims = Members::of(&Self::of(profile).token);
        // Where single use goes by the signed part, a `jti` keeps two tokens of one second apart.
        let ours = [("iss", "\"$issuer\""), ("aud", "\"$audience\""), ("jti", "\"$jti\"")];
        for (name, text) in ours.into_iter().chain([("iat", "$now"), ("exp", "$now+300")]) {
            claims.set(name, text.to_owned());
        }
        if !claims.get("nbf").is_empty() {
            claims.set("nbf", "$now-5".to_owned());
        }
        claims.text()
    }
}
