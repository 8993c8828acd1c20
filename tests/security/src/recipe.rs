//! What stands in the table. Unknown keys refuse: a recipe with a slip of the pen would attack nothing.

use serde::Deserialize;
use std::collections::BTreeMap;

/// One numbered entry.
#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Attack {
    pub number: u16,
    /// The rest of the test's name.
    pub name: String,
    /// The attack in one sentence.
    pub attack: String,
    /// Where it differs from the rule: a stranger's constant answer.
    pub answer: Option<Answer>,
    /// What evidence says.
    pub reason: Option<String>,
    /// What a proven job is told, where it is not the reason itself.
    pub told: Option<String>,
    /// The profile whose good job its recipes begin with, and whose issuer its mapping and folders name; GitHub's
    /// unless it says so.
    pub profile: Option<String>,
    /// Conditions of a mapping that gives this attack a role of its own.
    pub mapping: Option<String>,
    #[serde(default)]
    pub recipe: Vec<Recipe>,
    /// Folders that must not load, or not without a warning.
    #[serde(default)]
    pub load: Vec<Load>,
    /// Tests written by hand, beside the recipes or in their place: module and name.
    #[serde(default)]
    pub by_hand: Vec<String>,
}

/// What must come of one recipe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expected {
    pub answer: Answer,
    /// In evidence; none where nothing is refused.
    pub reason: Option<String>,
    /// In a proven job's answer.
    pub told: Option<String>,
}

impl Expected {
    /// A good job's.
    pub fn granted() -> Self {
        Self { answer: Answer::Granted, reason: None, told: None }
    }
}

/// The answer's kind over HTTP.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// 400, the constant body.
    Stranger,
    /// 400 `invalid_target`: a proven job, and a role that it may not have.
    NotGranted,
    /// 413, before a byte of the token is read; nothing is recorded.
    TooLarge,
    /// 200: what must still work.
    Granted,
}

/// Steps from a good token to a bad one. Each step is a list of alternatives; the recipe is every combination.
#[derive(Clone, Default, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Where it begins with the good job of another profile than the attack does, and asks for that job's role.
    pub profile: Option<String>,
    /// Where these three differ from the attack's.
    pub answer: Option<Answer>,
    /// What evidence says.
    pub reason: Option<String>,
    /// What a proven job is told, where it is not the reason itself.
    pub told: Option<String>,
    /// Members of the header → JSON texts; `absent` leaves one out.
    #[serde(default)]
    pub header: BTreeMap<String, Vec<String>>,
    /// Claims → JSON texts; `absent` leaves one out.
    #[serde(default)]
    pub claim: BTreeMap<String, Vec<String>>,
    /// The header's whole text.
    pub header_text: Option<Vec<String>>,
    /// The payload's whole text.
    pub payload_text: Option<Vec<String>>,
    /// Who signs: `issuer`, `attacker`, `ec`, …
    pub signer: Option<Vec<String>>,
    /// The scheme that the signer signs with, where it is not its own.
    pub scheme: Option<Vec<String>>,
    /// Spellings of the issuer's public key that serve as HMAC secret.
    pub mac: Option<Vec<String>>,
    /// The third segment's text.
    pub signature: Option<Vec<String>>,
    /// The signature's bytes, put together from terms.
    pub signature_bytes: Option<Vec<String>>,
    /// Other base64 spellings of the same bytes.
    pub spelling: Option<Vec<String>>,
    /// The whole token's text.
    pub text: Option<Vec<String>>,
    /// Which keys the broker holds; only in process can it be another set than the issuer's.
    #[serde(default)]
    pub keys: Keys,
    /// Why the recipe cannot run over HTTP.
    pub only_in_process: Option<String>,
}

/// Which keys are held of the issuer.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    /// The issuer's own, of which its profile permits some.
    #[default]
    Own,
    /// The same without `alg`.
    WithoutAlg,
}

/// A folder that must not load, or not silently.
#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Where its issuer is of another profile than the attack's.
    pub profile: Option<String>,
    /// Conditions of one mapping in it.
    pub mapping: Option<String>,
    /// Edits of the folder.
    #[serde(default)]
    pub edit: Vec<Edit>,
    /// The one code that it is refused with.
    pub refused: Option<String>,
    /// The one code that it is warned of with.
    pub warned: Option<String>,
}

/// One passage in place of another.
#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    pub file: String,
    pub from: String,
    pub to: String,
}

impl Load {
    /// Whether it changes what the folder says of issuers.
    pub fn edits_issuers(&self) -> bool {
        self.edit.iter().any(|edit| edit.file == "policy.toml")
    }
}

impl Attack {
    /// The name of its test.
    pub fn test(&self) -> String {
        format!("security_{:03}_{}", self.number, self.name)
    }

    /// The profile of its issuer.
    pub fn profile(&self) -> &str {
        self.profile.as_deref().unwrap_or(crate::GITHUB)
    }

    /// The profile whose good job a recipe of its begins with.
    pub fn profile_of<'a>(&'a self, recipe: &'a Recipe) -> &'a str {
        recipe.profile.as_deref().unwrap_or(self.profile())
    }

    /// The profile of the issuer in a folder of its.
    pub fn profile_in<'a>(&'a self, load: &'a Load) -> &'a str {
        load.profile.as_deref().unwrap_or(self.profile())
    }

    /// The role that its mapping gives.
    pub fn role(&self) -> String {
        format!("attack-{:03}", self.number)
    }

    /// The role that a recipe's tokens ask for.
    pub fn role_of(&self, recipe: &Recipe) -> String {
        match self.profile_of(recipe) {
            own if self.mapping.is_some() && own == self.profile() => self.role(),
            crate::GITHUB => crate::ROLE.to_owned(),
            golden => golden.to_owned(),
        }
    }

    /// What must come of a recipe of its.
    pub fn expected_of(&self, recipe: &Recipe) -> Expected {
        let answer = recipe.answer.or(self.answer).unwrap_or(Answer::Stranger);
        if answer == Answer::Granted {
            return Expected::granted();
        }
        let reason = recipe.reason.clone().or_else(|| self.reason.clone());
        assert!(reason.is_some(), "{}: a refusal has a reason", self.test());
        let own = recipe.reason.is_none().then(|| self.told.clone()).flatten();
        let told = recipe.told.clone().or(own).or_else(|| reason.clone());
        Expected { answer, reason, told }
    }
}
