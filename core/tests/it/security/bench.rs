//! The core in one line: a token judged as `exchange` judges it, without a store.

use crate::minting::{AUDIENCE, ISSUER, Key, NOW};
use aws_lc_rs::signature as sig;
use claimbound_attacks::{self as table, Attack, Good, Keys, Load, Signer, World};
use claimbound_core::{
    delegation,
    diag::Severity,
    mapping::{Ask, Decision, Folder, Loaded, MappingSet, decide, load},
    review::lint,
    time::UnixSeconds,
    trust::{Algorithm, Cut, IssuerRules, IssuerSnapshot, IssuerTable, UnverifiedToken, parse_jwks, verify},
    workload::{Profile, Profiles, translate},
};
use serde_json::json;
use std::{cell::Cell, collections::BTreeMap, sync::LazyLock};

pub static PROFILES: LazyLock<Profiles> = LazyLock::new(Profiles::builtin);
pub static RSA: LazyLock<Key> = LazyLock::new(|| Key::new("rsa-1", Algorithm::Rs256));
/// Of every issuer but GitHub's.
static OTHER: LazyLock<Key> = LazyLock::new(|| Key::new("rsa-2", Algorithm::Rs256));
static EC: LazyLock<Key> = LazyLock::new(|| Key::new("ec-1", Algorithm::Es256));
static ATTACKER: LazyLock<Key> = LazyLock::new(|| Key::new("attacker-1", Algorithm::Rs256));
static SIGNERS: [Late; 4] = [Late(&RSA), Late(&OTHER), Late(&EC), Late(&ATTACKER)];

/// Makes its key when it is first asked for: an RSA key takes its time, and few attacks need a second one.
struct Late(&'static LazyLock<Key>);

impl Signer for Late {
    fn jwk(&self) -> serde_json::Value {
        self.0.jwk()
    }
    fn sign(&self, scheme: &str, message: &[u8]) -> Vec<u8> {
        let rsa: &'static sig::RsaSignatureEncoding = match scheme {
            own if own == self.0.algorithm.name() => return self.0.sign(message),
            "RS384" => &sig::RSA_PKCS1_SHA384,
            "RS512" => &sig::RSA_PKCS1_SHA512,
            "PS256" => &sig::RSA_PSS_SHA256,
            _ => panic!("no key of the bench signs `{scheme}`"),
        };
        self.0.sign_rsa(rsa, message)
    }
}

pub struct Bench {
    pub world: World<'static>,
    mappings: MappingSet,
}

/// The role of attacks that have none of their own: in process any backend will do.
const ROLES: &str = r#"[role.payments-release]
description = "Release payments"
backend = "jwt"
teams = ["payments"]
issuers = ["github"]
sensitivity = "production"
max_duration = "1h"
[role.payments-release.jwt]
audience = "https://deploy.acme.example"
"#;

pub fn loaded(mut files: BTreeMap<String, String>) -> Loaded {
    files.insert("roles/payments.toml".to_owned(), ROLES.to_owned());
    let bytes = |mut text: String| {
        for profile in PROFILES.iter() {
            text = text.replace(&format!("{{issuer.{}}}", table::issuer_name(&profile.name)), &url(&profile.name));
        }
        text.into_bytes()
    };
    load(&Folder { files: files.into_iter().map(|(path, text)| (path, bytes(text))).collect() }, &PROFILES)
}

/// The real URL of a profile's issuer.
fn url(profile: &str) -> String {
    if profile == table::GITHUB { ISSUER.to_owned() } else { Good::of(profile).url().to_owned() }
}

/// What is wrong with how the folder loads, if anything.
pub fn load_differs(attack: &Attack, one: &Load) -> Option<String> {
    let loaded = loaded(table::folder_of(attack, one));
    let lints = loaded.set.as_ref().filter(|_| one.warned.is_some()).map(|set| lint(set, &loaded.profiles));
    // What every folder of the bench is told, such as roles that nothing gives, is not about the attack.
    let about = lints.into_iter().flatten().filter(|finding| Some(finding.code.to_string()) == one.warned);
    let told = loaded.diagnostics.iter().filter(|finding| finding.severity != Severity::Note).cloned().chain(about);
    let found: Vec<(String, Severity)> = told.map(|finding| (finding.code.to_string(), finding.severity)).collect();
    let expected = match (&one.refused, &one.warned) {
        (Some(code), None) => vec![(code.clone(), Severity::Error)],
        (None, Some(code)) => vec![(code.clone(), Severity::Warning)],
        (None, None) => vec![],
        _ => panic!("a folder is refused or warned of: {one:?}"),
    };
    let right = found == expected && loaded.set.is_some() == one.refused.is_none();
    (!right).then(|| format!("{found:?} in place of {expected:?}: {one:?}"))
}

impl Bench {
    pub fn new(attacks: &[Attack]) -> Self {
        let loaded = loaded(table::folder(attacks));
        let mappings = loaded.set.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics));
        let issuers: BTreeMap<String, String> =
            table::profiles(attacks).into_iter().map(|profile| (profile.clone(), url(&profile))).collect();
        let [github, other, ec, attacker] = SIGNERS.each_ref().map(|signer| signer as &dyn Signer);
        let mut signers = BTreeMap::from([("attacker".to_owned(), attacker)]);
        for profile in issuers.keys() {
            signers.insert(profile.clone(), if profile == table::GITHUB { github } else { other });
            signers.insert(format!("{profile}/ec"), ec);
        }
        let world = World {
            issuers,
            audience: AUDIENCE.to_owned(),
            trap: "http://127.0.0.1:1/trap".to_owned(),
            now: NOW,
            signers,
            tag: "in-process".to_owned(),
            made: Cell::new(0),
        };
        Self { world, mappings }
    }

    /// From bytes to decision; the refusal's reason is what evidence would say.
    pub fn judge(&self, token: &str, role: &str, keys: Keys) -> Result<(), String> {
        self.try_judge(token, role, &self.table(keys))
    }

    fn table(&self, keys: Keys) -> IssuerTable {
        let mut issuers = IssuerTable::default();
        for (name, url) in &self.world.issuers {
            let profile = PROFILES.get(name).expect("a compiled-in profile");
            let mut own = self.world.signers[name].jwk();
            if keys == Keys::WithoutAlg {
                own.as_object_mut().unwrap().remove("alg");
            }
            // Every issuer publishes a key for ES256 too, whether or not its profile permits that.
            let permitted: Vec<_> = profile.algorithms().iter().filter_map(|name| Algorithm::from_name(name)).collect();
            let set = parse_jwks(json!({ "keys": [own, EC.jwk()] }).to_string().as_bytes(), &permitted).unwrap();
            issuers.insert(IssuerSnapshot {
                name: table::issuer_name(name).into(),
                url: url.as_str().into(),
                rules: rules(profile),
                keys: set.keys,
                keys_valid_until: UnixSeconds(NOW + 3600),
                cut: Cut::default(),
            });
        }
        issuers
    }

    fn try_judge(&self, token: &str, role: &str, table: &IssuerTable) -> Result<(), String> {
        let now = UnixSeconds(NOW);
        let mut decoded = Vec::new();
        let told = |reason: claimbound_core::reason::Reason| reason.name().to_owned();
        let token = UnverifiedToken::parse(token, &mut decoded).map_err(|error| told(error.reason()))?;
        let verified = verify(&token, table, now).map_err(|error| told(error.reason()))?;
        let name = verified.issuer().name.to_string();
        let (_, issuer) = self.mappings.issuer_named(&name).expect("the folder has it");
        let profile = PROFILES.get(&issuer.profile).expect("a compiled-in profile");
        let workload = translate(profile, &name, verified.into_claims()).map_err(|error| told(error.reason()))?;
        if !issuer.lists_owner_of(&workload) {
            return Err("stranger".to_owned());
        }
        let case = delegation::chain(workload, None, false, |_| None).map_err(|error| told(error.reason()))?;
        match decide(&self.mappings, &case, &Ask { role: Some(role), ..Ask::default() }, now) {
            Decision::Grant(_) | Decision::Pending(_) => Ok(()),
            Decision::Deny(denial) => Err(told(denial.reason)),
        }
    }
}

fn rules(profile: &Profile) -> IssuerRules {
    IssuerRules {
        audience: AUDIENCE.to_owned(),
        max_lifetime_seconds: profile.max_lifetime_seconds(),
        single_use: profile.single_use(),
        actor_single_use: profile.actor_single_use(),
        requires_nbf: profile.requires_nbf(),
        required: profile.required().to_vec(),
    }
}
