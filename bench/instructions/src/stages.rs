//! The judge's part of an exchange, cut into stages over inputs that are always the same.
//!
//! `input/token` is signed by a key that was thrown away, and `input/jwks.json` is its public half: so a count does not
//! depend on which key was made today. The criterion bench of the core measures the same stages.

use crate::company;
use claimbound_core::{
    claims::Claims,
    delegation,
    evidence::{Chain, DecisionId, Details, Eased, Entry, LeaseId, Linked, Party, Record, What},
    mapping::{Ask, Decision, Loaded, MappingSet, decide, load},
    time::UnixSeconds,
    trust::{Algorithm, Cut, IssuerRules, IssuerSnapshot, IssuerTable, UnverifiedToken, Verified, parse_jwks, verify},
    workload::{Case, Profile, Profiles, Workload, translate},
};

/// When the token was issued.
pub const NOW: UnixSeconds = UnixSeconds(1_790_000_000);
/// Mappings of the folder that decides.
const MAPPINGS: usize = 1_000;
const AUDIENCE: &str = "https://claimbound.bench.example";
const TOKEN: &str = include_str!("../input/token");
const JWKS: &[u8] = include_bytes!("../input/jwks.json");

/// What the stages work on.
pub struct Input {
    pub token: &'static str,
    pub table: IssuerTable,
    loaded: Loaded,
    granted: String,
    refused: String,
}

impl Input {
    pub fn new() -> Self {
        let profiles = Profiles::builtin();
        let loaded = load(&company::company(MAPPINGS), &profiles);
        let profile = github(&loaded);
        let algorithms: Vec<Algorithm> =
            profile.algorithms().iter().filter_map(|name| Algorithm::from_name(name)).collect();
        let issuer = &set(&loaded).issuers[0];
        let rules = IssuerRules {
            audience: AUDIENCE.into(),
            max_lifetime_seconds: profile.max_lifetime_seconds(),
            single_use: profile.single_use(),
            actor_single_use: profile.actor_single_use(),
            requires_nbf: profile.requires_nbf(),
            required: profile.required().to_vec(),
        };
        let mut table = IssuerTable::default();
        table.insert(IssuerSnapshot {
            name: issuer.name.clone(),
            url: issuer.url.as_str().into(),
            rules,
            keys: parse_jwks(JWKS, &algorithms).expect("a key set").keys,
            keys_valid_until: NOW.plus(3600),
            cut: Cut::default(),
        });
        let [granted, refused] = ["secrets", "release"].map(|role| format!("{}-{role}", company::team(0)));
        Self { token: TOKEN.trim_end(), table, loaded, granted, refused }
    }

    pub fn profile(&self) -> &Profile {
        github(&self.loaded)
    }

    pub fn set(&self) -> &MappingSet {
        set(&self.loaded)
    }
}

fn set(loaded: &Loaded) -> &MappingSet {
    loaded.set.as_ref().expect("the company's folder loads")
}

fn github(loaded: &Loaded) -> &Profile {
    loaded.profiles.get("github-actions").expect("a profile that is compiled in")
}

/// Bytes to a token that nobody has verified.
#[inline(never)]
pub fn parse<'t>(token: &'t str, decoded: &'t mut Vec<u8>) -> UnverifiedToken<'t> {
    UnverifiedToken::parse(token, decoded).expect("the token is well-formed")
}

/// Issuer, key, signature, times.
#[inline(never)]
pub fn verified<'t>(input: &Input, token: &UnverifiedToken<'t>) -> Verified<'t> {
    verify(token, &input.table, NOW).expect("the token is good")
}

/// Claims to a workload, and to the case.
#[inline(never)]
pub fn translated<'t>(input: &Input, claims: Claims<'t>) -> Case<'t> {
    let principal: Workload<'t> = translate(input.profile(), "github", claims).expect("the claims agree");
    delegation::chain(principal, None, false, |_| None).expect("nobody acts for another")
}

/// The role that a mapping gives.
#[inline(never)]
pub fn granted(input: &Input, case: &Case<'_>) {
    assert!(matches!(decided(input, case, &input.granted), Decision::Grant(_)), "the job may have this role");
}

/// The role that no mapping gives to this job.
#[inline(never)]
pub fn refused(input: &Input, case: &Case<'_>) {
    assert!(matches!(decided(input, case, &input.refused), Decision::Deny(_)), "the job may not have this role");
}

fn decided(input: &Input, case: &Case<'_>, role: &str) -> Decision {
    decide(input.set(), case, &Ask { role: Some(role), ..Ask::default() }, NOW)
}

/// The record of a grant, with its details.
#[inline(never)]
pub fn sealed(input: &Input, case: &Case<'_>) -> Entry {
    let (id, name) = case.principal.principal_id(input.profile());
    let mut details = Details::default();
    details.json.insert("claims".into(), case.principal.raw().to_json());
    let expires = NOW.plus(900);
    let (lease, handle) = (LeaseId(7), Some("0193f0a4-0000-7000-8000-000000000000"));
    let (mapping, role, eased) = ("billing-0-0-secrets", input.granted.as_str(), Eased::default());
    Record {
        decision: Some(DecisionId(7)),
        at: NOW,
        what: What::Granted { mapping, role, lease, parent: None, how: None, handle, expires, family: None, eased },
        principal: Some(Party { issuer: "github", id, name }),
        actor: None,
        mappings_version: Some(input.set().version),
    }
    .seal(&details, [7; 32])
}

/// The record in its place.
#[inline(never)]
pub fn linked(chain: &mut Chain, entry: Entry) -> Linked {
    chain.link(entry)
}
