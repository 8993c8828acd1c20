//! Where an attack happens, and the maker of its tokens.

use crate::{
    Recipe,
    good::Good,
    members::Members,
    signature, spelling,
    template::{self, number},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::{cell::Cell, collections::BTreeMap};

/// A key of the bench.
pub trait Signer {
    /// The public half, with `kid` and `alg`.
    fn jwk(&self) -> Value;
    /// The raw signature of a message under a scheme, named as in RFC 7518.
    fn sign(&self, scheme: &str, message: &[u8]) -> Vec<u8>;
}

/// Where an attack happens: whom it is made against, and with which keys.
pub struct World<'k> {
    /// The issuers that the broker trusts: profile → URL.
    pub issuers: BTreeMap<String, String>,
    /// The broker's name.
    pub audience: String,
    /// A URL where nobody may go.
    pub trap: String,
    pub now: i64,
    /// Each profile's issuer signs with the key of the profile's name, and with `NAME/ec` where a recipe says `ec`.
    pub signers: BTreeMap<String, &'k dyn Signer>,
    /// Begins every `jti`, so that no two worlds share one.
    pub tag: String,
    pub made: Cell<u64>,
}

/// One token of a recipe.
pub struct Variant {
    /// The alternatives that it was made of.
    pub label: String,
    pub token: String,
}

/// What one combination chose, by step.
type Choice<'r> = Vec<(&'static str, &'r str, &'r str)>;

/// Every combination of a recipe's alternatives, the first ones first.
fn choices(recipe: &Recipe) -> Vec<Choice<'_>> {
    let mut steps: Vec<(&'static str, &str, &[String])> = Vec::new();
    steps.extend(recipe.header.iter().map(|(name, texts)| ("header", name.as_str(), texts.as_slice())));
    steps.extend(recipe.claim.iter().map(|(name, texts)| ("claim", name.as_str(), texts.as_slice())));
    for (step, texts) in [
        ("header_text", &recipe.header_text),
        ("payload_text", &recipe.payload_text),
        ("signer", &recipe.signer),
        ("scheme", &recipe.scheme),
        ("mac", &recipe.mac),
        ("signature", &recipe.signature),
        ("signature_bytes", &recipe.signature_bytes),
        ("spelling", &recipe.spelling),
        ("text", &recipe.text),
    ] {
        steps.extend(texts.as_ref().map(|texts| (step, "", texts.as_slice())));
    }
    assert!(steps.iter().all(|(.., texts)| !texts.is_empty()), "a step without alternatives: {recipe:?}");
    let mut choices: Vec<Choice<'_>> = vec![Vec::new()];
    for (step, name, texts) in steps {
        let mut longer = Vec::new();
        for choice in &choices {
            longer.extend(texts.iter().map(|text| [&choice[..], &[(step, name, text.as_str())]].concat()));
        }
        choices = longer;
    }
    choices
}

impl World<'_> {
    /// Every combination of a recipe's alternatives, from the profile's good token.
    pub fn variants(&self, profile: &str, recipe: &Recipe) -> Vec<Variant> {
        let from = From { world: self, profile };
        choices(recipe).iter().flat_map(|choice| from.made_of(choice)).collect()
    }

    /// The combination of the first alternatives.
    pub fn first(&self, profile: &str, recipe: &Recipe) -> Variant {
        From { world: self, profile }.made_of(&choices(recipe)[0]).remove(0)
    }
}

/// The maker of tokens that begin with the good one of a profile.
struct From<'w, 'k> {
    world: &'w World<'k>,
    profile: &'w str,
}

impl From<'_, '_> {
    /// A token that holds.
    fn good(&self) -> String {
        self.made_of(&Vec::new()).remove(0).token
    }

    fn made_of(&self, choice: &Choice<'_>) -> Vec<Variant> {
        let one = |step: &str| choice.iter().find(|(of, ..)| *of == step).map(|(.., text)| *text);
        let signer = one("signer").unwrap_or("issuer");
        let jwk = self.signer(signer).jwk();
        let mut header = Members::of(&json!({ "typ": "JWT", "alg": jwk["alg"], "kid": jwk["kid"] }));
        let good = self.text(&Good::template(self.profile));
        let mut claims = Members::of(&serde_json::from_str(&good).expect("a good token"));
        for (step, name, json) in choice {
            let members = match *step {
                "header" => &mut header,
                "claim" => &mut claims,
                _ => continue,
            };
            members.set(name, self.text(json));
        }
        let whole = |step: &str, members: &Members| match one(step) {
            None => members.text().into_bytes(),
            Some(text) => template::fill(text, &|name, argument| match name {
                "members" => Some(members.inside().into_bytes()),
                _ => self.known(name, argument),
            }),
        };
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let (h, p) = (encode(&whole("header_text", &header)), encode(&whole("payload_text", &claims)));
        let signed = format!("{h}.{p}");
        let scheme = one("scheme").or(jwk["alg"].as_str()).expect("a scheme");
        let mut bytes = match one("mac") {
            Some(secret) => signature::mac(header.get("alg"), secret, &self.signer("issuer").jwk(), signed.as_bytes()),
            None => self.signer(signer).sign(scheme, signed.as_bytes()),
        };
        if let Some(terms) = one("signature_bytes") {
            bytes = signature::bytes(terms, &bytes);
        }
        let mut s = encode(&bytes);
        if let Some(text) = one("signature") {
            s = String::from_utf8(template::fill(text, &|name, argument| match name {
                "s" => Some(s.clone().into_bytes()),
                "other" => Some(self.good().rsplit('.').next().expect("a signature").into()),
                _ => self.known(name, argument),
            }))
            .expect("a signature is text");
        }
        let mut tokens = vec![format!("{signed}.{s}")];
        if let Some(kind) = one("spelling") {
            tokens = spelling::respelled(&tokens[0], kind);
        }
        if let Some(text) = one("text") {
            tokens = tokens
                .iter()
                .map(|token| {
                    let filled = template::fill(text, &|name, argument| match name {
                        "token" => Some(token.clone().into_bytes()),
                        "h" => Some(h.clone().into_bytes()),
                        "p" => Some(p.clone().into_bytes()),
                        "s" => Some(s.clone().into_bytes()),
                        _ => self.known(name, argument),
                    });
                    String::from_utf8(filled).expect("a token is text")
                })
                .collect();
        }
        let label = choice.iter().map(|(step, name, text)| format!("{step} {name} {text}")).collect::<Vec<_>>();
        tokens.into_iter().map(|token| Variant { label: label.join(", "), token }).collect()
    }

    fn signer(&self, name: &str) -> &dyn Signer {
        let name = match name {
            "issuer" => self.profile.to_owned(),
            "ec" => format!("{}/ec", self.profile),
            other => other.to_owned(),
        };
        *self.world.signers.get(&name).unwrap_or_else(|| panic!("this world has no signer `{name}`"))
    }

    fn issuer(&self, profile: &str) -> &str {
        self.world.issuers.get(profile).unwrap_or_else(|| panic!("this world has no issuer of profile `{profile}`"))
    }

    fn text(&self, text: &str) -> String {
        let filled = template::fill(text, &|name, argument| self.known(name, argument));
        String::from_utf8(filled).expect("a member's text is UTF-8")
    }

    /// What may stand in every text of a recipe.
    fn known(&self, name: &str, argument: Option<&str>) -> Option<Vec<u8>> {
        let jwk = |whose: &str| self.signer(whose).jwk();
        let (world, issuer) = (self.world, self.issuer(self.profile));
        Some(match (name, argument) {
            ("issuer", None) => issuer.into(),
            ("issuer", Some(profile)) => self.issuer(profile).into(),
            // The issuer's URL in capitals, behind the scheme's colon.
            ("issuer_upper", None) => {
                let (scheme, rest) = issuer.split_once(':')?;
                format!("{scheme}:{}", rest.to_uppercase()).into()
            }
            // Without its scheme.
            ("issuer_host", None) => issuer.split_once("://")?.1.into(),
            ("audience", None) => world.audience.clone().into(),
            ("trap", None) => world.trap.clone().into(),
            ("now", shift) => {
                (world.now + shift.map_or(0, |text| text.parse::<i64>().expect("seconds"))).to_string().into()
            }
            ("jti", None) => {
                world.made.set(world.made.get() + 1);
                format!("{}-{}", world.tag, world.made.get()).into()
            }
            ("kid", None) => jwk("issuer")["kid"].as_str()?.into(),
            ("issuer_jwk", None) => jwk("issuer").to_string().into(),
            ("attacker_jwk", None) => jwk("attacker").to_string().into(),
            ("good_token", None) => self.good().into(),
            ("x", count) => "x".repeat(number(count)).into(),
            ("dots", count) => ".".repeat(number(count)).into(),
            ("deep_lists", count) => format!("{}0{}", "[".repeat(number(count)), "]".repeat(number(count))).into(),
            ("deep_objects", count) => {
                format!("{}0{}", "{\"a\":".repeat(number(count)), "}".repeat(number(count))).into()
            }
            ("strings", count) => {
                json!((0..number(count)).map(|at| at.to_string()).collect::<Vec<_>>()).to_string().into()
            }
            ("many_members", count) => (0..number(count)).map(|at| format!("\"m{at}\":0,")).collect::<String>().into(),
            ("byte", Some(digits)) => signature::hex(digits),
            _ => return None,
        })
    }
}
