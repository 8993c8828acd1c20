//! JWT roles of OpenBao and Vault, as `bao read -format=json auth/jwt/role/NAME` gives them, alone or in a list; with the
//! method's configuration (`auth/jwt/config`), which names the issuer that roles do not.
//!
//! Source: the API pages of both for the JWT method. `bound_subject` is exact; the values of `bound_claims` are any of a list,
//! globs where `bound_claims_type` says so, whose `*` crosses every boundary.

use super::{
    json::{self, list},
    model::{Gives, Import, RoleOf, Rule},
    native::Source,
    pattern::Pattern,
    when::together,
};
use anyhow::{Context as _, Result, bail};
use claimbound_core::workload::Profiles;
use serde_json::Value as Json;
use std::path::Path;

const BY_HAND: &str = "write its mapping by hand";
/// Everything that narrows who may log in.
const BOUND: [&str; 4] = ["bound_audiences", "bound_subject", "bound_claims", "bound_claims_type"];

/// The issuer that a file names, if it is a method's configuration.
pub fn issuer(text: &str) -> Option<String> {
    let document = json::parse(text).ok()?;
    let data = document.get("data").unwrap_or(&document);
    data.get("jwt_supported_algs").or(data.get("bound_issuer"))?;
    let named =
        ["bound_issuer", "oidc_discovery_url"].iter().find_map(|key| data[*key].as_str().filter(|url| !url.is_empty()));
    named.map(str::to_owned)
}

/// Reads one file. `issuer`: whose tokens the method takes.
///
/// # Errors
/// When it holds no role, or nobody says whose tokens these are.
pub fn read<'p>(
    file: &str,
    text: &str,
    issuer: Option<&str>,
    profiles: &'p Profiles,
    import: &mut Import<'p>,
) -> Result<()> {
    let document = json::parse(text).context("it is not JSON")?;
    let roles = list(&document);
    for (number, role) in roles.iter().enumerate() {
        let data = role.get("data").unwrap_or(role);
        if data.get("bound_issuer").is_some() {
            continue;
        }
        if data.get("user_claim").is_none() && data.get("role_type").is_none() {
            bail!("it is no answer of `bao read -format=json auth/jwt/role/NAME`");
        }
        let stem = Path::new(file).file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let own = ["name", "role_name"].iter().find_map(|key| data[*key].as_str());
        let name = match (own, roles.len()) {
            (Some(name), _) => name.to_owned(),
            (None, 1) => stem,
            (None, _) => format!("{stem}-{}", number + 1),
        };
        let place = if roles.len() > 1 { format!("{file}: role `{name}`") } else { file.to_owned() };
        let issuer = issuer.context(
            "a role does not say whose tokens it takes: add the file of `bao read -format=json auth/jwt/config`, or say \
             `--issuer URL`",
        )?;
        match rule(&place, &name, data, issuer, profiles, import) {
            Ok(rule) => import.rules.push(rule),
            Err(why) => import.left(&place, why, BY_HAND),
        }
    }
    Ok(())
}

fn rule<'p>(
    place: &str,
    name: &str,
    data: &Json,
    issuer: &str,
    profiles: &'p Profiles,
    import: &mut Import<'p>,
) -> Result<Rule<'p>, String> {
    if data["role_type"].as_str().is_some_and(|kind| kind != "jwt") {
        return Err("it is a role for people who sign in, not for tokens of jobs".to_owned());
    }
    let unknown = data
        .as_object()
        .into_iter()
        .flatten()
        .find(|(key, value)| key.starts_with("bound_") && !BOUND.contains(&key.as_str()) && !value.is_null());
    if let Some((key, _)) = unknown {
        return Err(format!("`{key}` has no counterpart"));
    }
    if data["cel_program"].is_object() || data["expression"].is_string() {
        return Err("its expression has no counterpart".to_owned());
    }
    let glob = match data["bound_claims_type"].as_str() {
        None | Some("" | "string") => false,
        Some("glob") => true,
        Some(other) => return Err(format!("`bound_claims_type` is `{other}`")),
    };
    let claims: Vec<_> = match &data["bound_claims"] {
        Json::Null => Vec::new(),
        Json::Object(claims) => claims.iter().collect(),
        _ => return Err("`bound_claims` is no table".to_owned()),
    };
    let subject = data["bound_subject"].as_str().filter(|subject| !subject.is_empty());
    let of_gitlab = claims.iter().any(|(claim, _)| claim.trim_start_matches('/').starts_with("project_"))
        || subject.is_some_and(|subject| subject.starts_with("project_path:"));
    let source = Source::find(issuer, of_gitlab, profiles)?;
    let mut groups = Vec::new();
    if let Some(subject) = subject {
        let conditions = source.conditions("sub", &[Pattern::exact(subject)]);
        groups.push(conditions.map_err(|why| format!("`bound_subject`: {why}"))?);
    }
    for (claim, values) in claims {
        // A JSON pointer to a claim of the token's own.
        let native = claim.strip_prefix('/').unwrap_or(claim);
        let text = |value: &Json| match value {
            Json::String(text) => Ok(text.clone()),
            Json::Bool(value) => Ok(value.to_string()),
            Json::Number(number) => Ok(number.to_string()),
            _ => Err(format!("a value of `bound_claims.{claim}` is no text")),
        };
        let values = list(values).into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
        if values.is_empty() {
            return Err(format!("`bound_claims.{claim}` has no value, so nobody fits"));
        }
        let patterns: Vec<Pattern> =
            values.iter().map(|value| if glob { Pattern::star(value) } else { Pattern::exact(value) }).collect();
        let conditions = source.conditions(native, &patterns);
        groups.push(conditions.map_err(|why| format!("`bound_claims.{claim}`: {why}"))?);
    }
    let alternatives = together(groups)?;
    if alternatives.is_empty() {
        return Err("its conditions exclude each other, so no job fits".to_owned());
    }
    let audiences: Vec<&str> = list(&data["bound_audiences"]).into_iter().filter_map(Json::as_str).collect();
    let audience = match audiences.as_slice() {
        [one] => (*one).to_owned(),
        several => {
            let why = match several {
                [] => "it names no audience, and a role needs one".to_owned(),
                _ => format!("a role has one audience, not {}", several.join(", ")),
            };
            import.changed(
                place,
                why,
                "write who accepts the token as the role's `audience`, and the same at the Vault role",
            );
            several.first().map_or_else(|| format!("https://vault.invalid/{name}"), |first| (*first).to_owned())
        }
    };
    let policies: Vec<String> = ["token_policies", "policies"]
        .iter()
        .flat_map(|key| list(&data[*key]))
        .filter_map(Json::as_str)
        .map(|policy| policy.chars().filter(|letter| !letter.is_control()).collect())
        .collect();
    Ok(Rule {
        place: place.to_owned(),
        role: RoleOf {
            called: place.to_owned(),
            description: format!("The Vault role {name}, with the policies {}", policies.join(", ")),
            gives: Gives::Jwt { audience },
            remarks: vec!["Vault must trust the broker: `claimbound trust vault` prints its role.".to_owned()],
            name: name.to_owned(),
        },
        source,
        alternatives,
    })
}
