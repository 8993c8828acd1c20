//! The systems' own judgement of a job, as small as it can be: what `import` must never exceed. Written from the same
//! documentation and sharing nothing with it.

use regex_automata::meta::Regex;
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path};

/// Whether a policy lets a job in, by its token's claims.
pub type Policy = Box<dyn Fn(&Value) -> bool>;

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

fn json(file: &str) -> Value {
    serde_json::from_str(&read(file)).unwrap()
}

fn stem(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap();
    name.split('.').next().unwrap().to_owned()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_else(|| vec![value.clone()])
}

/// `*` is any run of characters.
fn star(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, rest)) => {
            let Some(text) = text.strip_prefix(before) else { return false };
            (0..=text.len()).any(|at| text.is_char_boundary(at) && star(rest, &text[at..]))
        }
    }
}

fn literal(text: &str) -> String {
    let escape = |letter: char| if letter.is_ascii_punctuation() { format!("\\{letter}") } else { letter.to_string() };
    text.chars().map(escape).collect()
}

pub fn aws(files: &[String]) -> BTreeMap<String, Policy> {
    let mut policies: BTreeMap<String, Policy> = BTreeMap::new();
    for file in files {
        let document = json(file);
        let mut roles: Vec<(String, Value)> = Vec::new();
        for role in list(&document["RoleDetailList"]).iter().chain([&document["Role"]]) {
            let policy = match &role["AssumeRolePolicyDocument"] {
                Value::String(text) => {
                    let plain =
                        url::form_urlencoded::parse(format!("x={text}").as_bytes()).next().unwrap().1.into_owned();
                    serde_json::from_str(&plain).unwrap()
                }
                other => other.clone(),
            };
            if let Some(name) = role["RoleName"].as_str() {
                roles.push((name.to_lowercase(), policy));
            }
        }
        if document.get("Statement").is_some() {
            roles.push((stem(file), document));
        }
        for (name, policy) in roles {
            policies.insert(name, Box::new(move |claims| aws_allows(&policy, claims)));
        }
    }
    policies
}

fn aws_allows(policy: &Value, claims: &Value) -> bool {
    let holds = |statement: &Value| {
        statement["Condition"].as_object().unwrap().iter().all(|(operator, keys)| {
            keys.as_object().unwrap().iter().all(|(key, wanted)| {
                let claim = key.split_once(':').unwrap().1;
                if claim == "aud" {
                    return true;
                }
                let Some(text) = claims[claim].as_str() else { return operator.starts_with("ForAllValues:") };
                let any =
                    |matches: &dyn Fn(&str) -> bool| list(wanted).iter().any(|one| matches(one.as_str().unwrap()));
                match operator.rsplit(':').next().unwrap() {
                    "StringEquals" => any(&|one| one == text),
                    "StringLike" => any(&|one| star(one, text)),
                    other => panic!("{other}: an operator of no role that is imported"),
                }
            })
        })
    };
    let statements = list(&policy["Statement"]);
    let of = |effect: &str| statements.iter().any(|statement| statement["Effect"] == effect && holds(statement));
    of("Allow") && !of("Deny")
}

pub fn octo_sts(files: &[String]) -> BTreeMap<String, Policy> {
    let mut policies: BTreeMap<String, Policy> = BTreeMap::new();
    for file in files {
        // The test's policies are flat: `key: value`, and one table of two spaces' indent.
        let text = read(file);
        let mut wanted: Vec<(String, String)> = Vec::new();
        let mut table = String::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((key, value)) = line.split_once(": ").or_else(|| line.strip_suffix(':').map(|key| (key, "")))
            else {
                continue;
            };
            let value = value.trim().trim_matches(['\'', '"']).to_owned();
            match (key.strip_prefix("  "), table.as_str(), key) {
                (Some(claim), "claim_pattern", _) => wanted.push((claim.to_owned(), format!("^(?:{value})$"))),
                (None, _, "subject") => wanted.push(("sub".to_owned(), format!("^(?:{})$", literal(&value)))),
                (None, _, "subject_pattern") => wanted.push(("sub".to_owned(), format!("^(?:{value})$"))),
                _ => {}
            }
            if !key.starts_with(' ') {
                table = key.to_owned();
            }
        }
        let wanted: Vec<(String, Regex)> =
            wanted.into_iter().map(|(claim, pattern)| (claim, Regex::new(&pattern).unwrap())).collect();
        assert!(!wanted.is_empty(), "{file}");
        let allows = move |claims: &Value| {
            wanted.iter().all(|(claim, pattern)| claims[claim].as_str().is_some_and(|text| pattern.is_match(text)))
        };
        policies.insert(stem(file), Box::new(allows));
    }
    policies
}

pub fn vault(files: &[String]) -> BTreeMap<String, Policy> {
    let mut policies: BTreeMap<String, Policy> = BTreeMap::new();
    for file in files {
        let data = json(file)["data"].clone();
        let allows = move |claims: &Value| {
            let subject = data["bound_subject"].as_str().unwrap();
            let glob = data["bound_claims_type"] == "glob";
            let bound = data["bound_claims"].as_object().cloned().unwrap_or_default();
            (subject.is_empty() || claims["sub"] == subject)
                && bound.iter().all(|(claim, wanted)| {
                    let text = claims[claim].as_str().unwrap_or_default();
                    list(wanted).iter().any(|one| match glob {
                        true => star(one.as_str().unwrap(), text),
                        false => one == text,
                    })
                })
        };
        policies.insert(stem(file), Box::new(allows));
    }
    policies
}

/// The provider's condition and the bindings' members, by hand.
pub fn gcp() -> BTreeMap<String, Policy> {
    let provider = |claims: &Value| {
        let reference = claims["ref"].as_str().unwrap();
        claims["repository_owner_id"] == "65"
            && (reference == "refs/heads/main" || reference.starts_with("refs/tags/v"))
            && claims.get("environment").is_some()
    };
    let deployer: Policy = Box::new(move |claims| {
        let member = claims["repository"] == "acme/payments-api"
            || claims["sub"] == "repo:acme/payments-web:environment:production"
            || claims["repository_owner"] == "acme";
        provider(claims) && member
    });
    let viewer: Policy = Box::new(move |claims| provider(claims) && claims["repository"] == "acme/tools");
    BTreeMap::from([("deployer".to_owned(), deployer), ("deployer-objectviewer".to_owned(), viewer)])
}
