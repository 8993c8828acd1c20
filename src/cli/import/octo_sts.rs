//! Trust policies of octo-sts (`.github/chainguard/NAME.sts.yaml`): an issuer, a subject or a pattern of it, patterns of
//! claims, and what the GitHub token may do. Patterns are regular expressions that must match the whole claim.

use super::{
    model::{Gives, Import, RoleOf, Rule},
    native::Source,
    pattern::Pattern,
    regex::reduce,
    when::together,
    yaml,
};
use anyhow::{Context as _, Result, bail};
use claimbound_core::workload::Profiles;
use serde_json::Value as Json;
use std::path::Path;

const BY_HAND: &str = "write its mapping by hand";
const KEYS: [&str; 9] = [
    "issuer",
    "issuer_pattern",
    "subject",
    "subject_pattern",
    "audience",
    "audience_pattern",
    "claim_pattern",
    "permissions",
    "repositories",
];

/// Reads one policy.
///
/// # Errors
/// When it is none.
pub fn read<'p>(file: &str, text: &str, profiles: &'p Profiles, import: &mut Import<'p>) -> Result<()> {
    let policy = yaml::parse(text).context("it is no YAML of a trust policy")?;
    let Some(table) = policy.as_object() else { bail!("it is no trust policy: it holds no table") };
    if !table.contains_key("issuer") && !table.contains_key("issuer_pattern") {
        bail!("it is no trust policy: it names no `issuer`");
    }
    if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        import.left(file, format!("`{key}` is no field that is known"), BY_HAND);
        return Ok(());
    }
    match rule(file, &policy, profiles, import) {
        Ok(rule) => import.rules.push(rule),
        Err(why) => import.left(file, why, BY_HAND),
    }
    Ok(())
}

fn rule<'p>(file: &str, policy: &Json, profiles: &'p Profiles, import: &mut Import<'p>) -> Result<Rule<'p>, String> {
    let either = |exact: &str, pattern: &str, import: &mut Import<'_>| match (&policy[exact], &policy[pattern]) {
        (Json::Null, Json::Null) => Ok(None),
        (Json::String(text), Json::Null) => Ok(Some(vec![Pattern::exact(text)])),
        (Json::Null, Json::String(text)) => expression(file, pattern, text, import).map(Some),
        _ => Err(format!("`{exact}` or `{pattern}` is one text")),
    };
    let issuer = either("issuer", "issuer_pattern", import)?.unwrap_or_default();
    let [issuer] = issuer.as_slice() else { return Err("`issuer_pattern` is for several issuers".to_owned()) };
    let issuer = issuer.text().ok_or("`issuer_pattern` is for more than one issuer")?;
    let subjects = either("subject", "subject_pattern", import)?;
    if either("audience", "audience_pattern", import)?.is_some() {
        import.changed(file, "its audience is the broker's own now", "let workflows ask for the broker's audience");
    }
    let claims = match &policy["claim_pattern"] {
        Json::Null => Vec::new(),
        Json::Object(claims) => claims.iter().collect(),
        _ => return Err("`claim_pattern` is no table".to_owned()),
    };
    let of_gitlab = claims.iter().any(|(claim, _)| *claim == "project_path")
        || subjects.iter().flatten().any(|subject| subject.strip_prefix("project_path:").is_some());
    let source = Source::find(issuer, of_gitlab, profiles)?;
    let mut groups = Vec::new();
    if let Some(subjects) = &subjects {
        groups.push(source.conditions("sub", subjects).map_err(|why| format!("`subject`: {why}"))?);
    }
    for (claim, text) in claims {
        let text = text.as_str().ok_or_else(|| format!("`claim_pattern.{claim}` is no text"))?;
        let field = format!("claim_pattern.{claim}");
        let patterns = expression(file, &field, text, import)?;
        groups.push(source.conditions(claim, &patterns).map_err(|why| format!("`{field}`: {why}"))?);
    }
    let alternatives = together(groups)?;
    if alternatives.is_empty() {
        return Err("its conditions exclude each other, so no job fits".to_owned());
    }
    let name = Path::new(file).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let name = name.trim_end_matches(".yaml").trim_end_matches(".yml").trim_end_matches(".sts").to_owned();
    import.changed(
        file,
        "it gave a GitHub token; the role gives a token of the broker's own",
        "write who accepts it as the role's `audience`; its comment says what the GitHub token could do",
    );
    Ok(Rule {
        place: file.to_owned(),
        role: RoleOf {
            called: file.to_owned(),
            description: format!("The octo-sts identity {name}"),
            gives: Gives::Jwt { audience: format!("https://octo-sts.invalid/{name}") },
            remarks: permitted(policy),
            name,
        },
        source,
        alternatives,
    })
}

fn expression(file: &str, field: &str, text: &str, import: &mut Import<'_>) -> Result<Vec<Pattern>, String> {
    let reduced = reduce(text).map_err(|why| format!("`{field}` is `{text}`: {why}"))?;
    if reduced.narrowed {
        let told = format!("`{field}`: a `.` stood for any character; now it is the character itself");
        import.changed(file, told, "nothing, if it was meant so");
    }
    Ok(reduced.patterns)
}

/// What the GitHub token could do, for whoever finds its successor.
fn permitted(policy: &Json) -> Vec<String> {
    let plain = |text: &str| text.chars().filter(|letter| !letter.is_control()).collect::<String>();
    let permissions = policy["permissions"].as_object().into_iter().flatten();
    let permissions: Vec<_> = permissions
        .map(|(what, level)| format!("{} = {}", plain(what), plain(level.as_str().unwrap_or("?"))))
        .collect();
    let repositories = policy["repositories"].as_array().into_iter().flatten();
    let repositories: Vec<_> = repositories.filter_map(Json::as_str).map(plain).collect();
    let mut remarks = vec![format!("octo-sts gave a GitHub token: {}.", permissions.join(", "))];
    if !repositories.is_empty() {
        remarks.push(format!("For the repositories {}.", repositories.join(", ")));
    }
    remarks
}
