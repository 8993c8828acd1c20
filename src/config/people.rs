//! `[[sign_in]]` and `[[operator]]`: where people show who they are, and who of them, and of CI jobs, may do what an
//! operator does. What a job's conditions mean is judged where the mapping folder is known.

use super::{Judge, VALUE, is_loopback, signing::PlaceFile};
use crate::{operators::May, secret::Place};
use claimbound_core::diag::{did_you_mean, line_column};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};
use toml::{Spanned, Table, Value};
use url::Url;

/// `[[sign_in]]`: an OpenID provider of people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SignIn {
    pub name: String,
    /// The exact `iss` of its ID tokens.
    pub issuer: String,
    pub client_id: String,
    /// `None`: a public client, which PKCE alone protects.
    pub client_secret: Option<Place>,
    /// The claim with a person's groups; a JSON pointer, if it begins with `/`.
    pub groups_claim: String,
    /// Who a person is at CI systems: name of an issuer of the folder → the claim with their immutable id there.
    pub forge_id_claim: BTreeMap<String, String>,
    /// Besides `openid`.
    pub scopes: Vec<String>,
    /// The longest time since the person typed a password; then the provider must say when that was.
    pub max_age_seconds: Option<i64>,
    /// What the claim of a role of this sensitivity needs besides.
    pub sensitivity: BTreeMap<String, Strength>,
    pub ca_file: Option<PathBuf>,
    pub allow_private_network: bool,
}

/// How fresh and how strong a sign-in is (OpenID Connect Core 1.0 section 3.1.2.1).
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Strength {
    /// The longest time since the person typed a password.
    pub max_age_seconds: Option<i64>,
    /// One of these must be what the provider says of how they did; none stated: however they did.
    pub acr_values: Vec<String>,
}

/// `[[operator]]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct OperatorRule {
    #[serde(flatten)]
    pub who: Who,
    pub may: BTreeSet<May>,
    /// Where it stands in the file.
    #[serde(skip)]
    pub line: usize,
}

/// Whom an `[[operator]]` is about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum Who {
    /// A person of this `[[sign_in]]`. All that is stated must hold, and of each list one value; something is stated.
    Person { sign_in: String, groups: Vec<String>, sub: Vec<String>, email: Vec<String> },
    /// A CI job of this issuer of the mapping folder, with conditions as a mapping's `match` has them, in TOML.
    Job { issuer: String, matches: String },
}

/// Scopes that are asked for unless others are named.
const SCOPES: [&str; 2] = ["profile", "email"];
const GROUPS_CLAIM: &str = "groups";
/// What a person's `match` may have.
const PERSON_KEYS: [&str; 3] = ["groups", "sub", "email"];

#[derive(Deserialize)]
pub(super) struct SignInFile {
    name: Spanned<String>,
    issuer: Spanned<String>,
    client_id: Spanned<String>,
    client_secret: Option<Spanned<PlaceFile>>,
    groups_claim: Option<Spanned<String>>,
    #[serde(default)]
    forge_id_claim: BTreeMap<String, Spanned<String>>,
    scopes: Option<Vec<Spanned<String>>>,
    max_age: Option<Spanned<String>>,
    #[serde(default)]
    sensitivity: BTreeMap<String, StrengthFile>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    allow_private_network: bool,
}

#[derive(Deserialize)]
struct StrengthFile {
    max_age: Option<Spanned<String>>,
    acr_values: Option<Vec<Spanned<String>>>,
}

#[derive(Deserialize)]
pub(super) struct OperatorFile {
    sign_in: Option<Spanned<String>>,
    issuer: Option<Spanned<String>>,
    #[serde(rename = "match")]
    matches: Spanned<Table>,
    may: Spanned<Vec<Spanned<String>>>,
}

/// As names are in the mapping folder.
fn known_name(name: &str) -> bool {
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty() && name.len() <= 63 && name.bytes().all(letters)
}

impl Judge {
    pub(super) fn sign_ins(&mut self, files: Vec<SignInFile>, directory: &Path, development: bool) -> Vec<SignIn> {
        let mut known: BTreeSet<String> = BTreeSet::new();
        for name in files.iter().map(|file| &file.name) {
            let given = name.get_ref();
            if !known_name(given) {
                let help = "names have lower-case letters, digits and `-`";
                self.error(VALUE, name.span(), format!("`{given}` can be no sign-in's name"), help);
            } else if !known.insert(given.clone()) {
                let help = "give each `[[sign_in]]` a name of its own";
                self.error(VALUE, name.span(), format!("there are two sign-ins `{given}`"), help);
            }
        }
        files.into_iter().map(|file| self.sign_in(file, directory, development)).collect()
    }

    fn sign_in(&mut self, file: SignInFile, directory: &Path, development: bool) -> SignIn {
        let url = Url::parse(file.issuer.get_ref()).ok();
        let fits = |url: &Url| {
            let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
            plain && (url.scheme() == "https" || (development && is_loopback(url)))
        };
        if !url.is_some_and(|url| fits(&url)) {
            let help =
                "write the `issuer` of the provider's `/.well-known/openid-configuration`, character by character";
            self.error(VALUE, file.issuer.span(), format!("`{}` is no provider's issuer", file.issuer.get_ref()), help);
        }
        let empty = |text: &str| text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control());
        let named = [("client_id", Some(&file.client_id)), ("groups_claim", file.groups_claim.as_ref())];
        let forges = file.forge_id_claim.values().map(|claim| ("forge_id_claim", Some(claim)));
        for (key, text) in named.into_iter().chain(forges) {
            if let Some(text) = text.filter(|text| empty(text.get_ref())) {
                let help = "write it as the provider shows it";
                self.error(VALUE, text.span(), format!("`{key}` cannot be `{}`", text.get_ref()), help);
            }
        }
        for scope in file.scopes.iter().flatten().filter(|scope| empty(scope.get_ref())) {
            let help = "write each scope by itself, like `scopes = [\"profile\", \"groups\"]`";
            self.error(VALUE, scope.span(), format!("`{}` is no scope", scope.get_ref()), help);
        }
        let named = |name: &&String| known_name(name);
        for name in file.sensitivity.keys().chain(file.forge_id_claim.keys()).filter(|name| !named(name)) {
            let help = "sensitivities and issuers are called as policy.toml calls them";
            self.error(VALUE, file.name.span(), format!("nothing in the mapping folder can be called `{name}`"), help);
        }
        let sensitivity = file.sensitivity.into_iter().map(|(name, file)| (name, self.strength(file))).collect();
        let client_secret = file.client_secret.and_then(|place| self.place(place, "client_secret", directory));
        let scopes = file.scopes.map(|scopes| scopes.into_iter().map(Spanned::into_inner).collect());
        SignIn {
            name: file.name.into_inner(),
            issuer: file.issuer.into_inner(),
            client_id: file.client_id.into_inner(),
            client_secret,
            groups_claim: file.groups_claim.map_or_else(|| GROUPS_CLAIM.to_owned(), Spanned::into_inner),
            forge_id_claim: file
                .forge_id_claim
                .into_iter()
                .map(|(issuer, claim)| (issuer, claim.into_inner()))
                .collect(),
            scopes: scopes.unwrap_or_else(|| SCOPES.map(str::to_owned).to_vec()),
            max_age_seconds: file.max_age.and_then(|text| self.duration(&text)),
            sensitivity,
            ca_file: file.ca_file.map(|path| directory.join(path)),
            allow_private_network: file.allow_private_network,
        }
    }

    fn strength(&mut self, file: StrengthFile) -> Strength {
        let acr_values = file.acr_values.unwrap_or_default();
        let fits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        for value in acr_values.iter().filter(|value| !fits(value.get_ref())) {
            let help = "write each value by itself, like `acr_values = [\"phr\", \"phrh\"]`";
            self.error(VALUE, value.span(), format!("`{}` is no `acr` value", value.get_ref()), help);
        }
        Strength {
            max_age_seconds: file.max_age.and_then(|text| self.duration(&text)),
            acr_values: acr_values.into_iter().map(Spanned::into_inner).collect(),
        }
    }

    pub(super) fn operators(
        &mut self,
        files: Vec<Spanned<OperatorFile>>,
        sign_ins: &[SignIn],
        text: &str,
    ) -> Vec<OperatorRule> {
        let mut rules = Vec::new();
        for file in files {
            let place = file.span();
            let OperatorFile { sign_in, issuer, matches, may } = file.into_inner();
            if matches.get_ref().is_empty() {
                let help = "say who it is about, like `match = { groups = \"platform-oncall\" }`";
                self.error(VALUE, matches.span(), "an `[[operator]]` matches nobody".to_owned(), help);
            }
            let who = match (sign_in, issuer) {
                (Some(name), None) => self.person(name, &matches, sign_ins),
                (None, Some(issuer)) => toml::to_string(matches.get_ref())
                    .map(|matches| Who::Job { issuer: issuer.into_inner(), matches })
                    .map_err(|error| self.error(VALUE, matches.span(), error.to_string(), "write TOML"))
                    .ok(),
                _ => {
                    let help = "write `sign_in = \"NAME\"` for people, or `issuer = \"NAME\"` for jobs of a CI system";
                    let message = "an `[[operator]]` names one of `sign_in` and `issuer`".to_owned();
                    self.error(VALUE, place.start..place.start, message, help);
                    None
                }
            };
            let may = self.may(&may);
            rules.extend(who.map(|who| OperatorRule { who, may, line: line_column(text, place.start).0 }));
        }
        rules
    }

    fn may(&mut self, words: &Spanned<Vec<Spanned<String>>>) -> BTreeSet<May> {
        let names = || May::ALL.map(May::name);
        if words.get_ref().is_empty() {
            let help = format!("write some of `may = [\"{}\"]`", names().join("\", \""));
            self.error(VALUE, words.span(), "this `[[operator]]` may do nothing".to_owned(), help);
        }
        let one = |word: &Spanned<String>| {
            let found = May::ALL.into_iter().find(|may| may.name() == word.get_ref());
            if found.is_none() {
                let help = match did_you_mean(word.get_ref(), names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known here: {}", names().join(", ")),
                };
                self.error(VALUE, word.span(), format!("nobody can be let `{}`", word.get_ref()), help);
            }
            found
        };
        words.get_ref().iter().filter_map(one).collect()
    }

    fn person(&mut self, name: Spanned<String>, matches: &Spanned<Table>, sign_ins: &[SignIn]) -> Option<Who> {
        let given = name.get_ref();
        let known = || sign_ins.iter().map(|sign_in| sign_in.name.as_str());
        if !known().any(|other| other == given) {
            let help = match did_you_mean(given, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write a `[[sign_in]]` with `name = \"{given}\"`"),
            };
            self.error(VALUE, name.span(), format!("there is no sign-in `{given}`"), help);
        }
        for key in matches.get_ref().keys().filter(|key| !PERSON_KEYS.contains(&key.as_str())) {
            let help = match did_you_mean(key, PERSON_KEYS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    format!("people are matched by {}; conditions on jobs go with `issuer`", PERSON_KEYS.join(", "))
                }
            };
            self.error(VALUE, matches.span(), format!("a person has no `{key}`"), help);
        }
        let mut list = |key: &str| {
            let texts = match matches.get_ref().get(key) {
                None => return Vec::new(),
                Some(Value::String(one)) => vec![one.clone()],
                Some(Value::Array(many)) => many.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
                Some(_) => Vec::new(),
            };
            let whole = matches.get_ref()[key].as_array().is_none_or(|many| many.len() == texts.len());
            if texts.is_empty() || !whole || texts.iter().any(String::is_empty) {
                let help = format!("write `{key} = \"…\"` or `{key} = [\"…\", \"…\"]`");
                self.error(VALUE, matches.span(), format!("`{key}` is a text or a list of texts"), help);
            }
            texts
        };
        let (groups, sub, email) = (list("groups"), list("sub"), list("email"));
        Some(Who::Person { sign_in: name.into_inner(), groups, sub, email })
    }
}
