//! Workload Identity Federation: providers (`gcloud iam workload-identity-pools providers describe --format=json`) and the IAM
//! policies that name their pools' identities (`gcloud … get-iam-policy --format=json`), several files of either.
//!
//! Sources: Google's pages on attribute mappings and conditions, and on principal identifiers of pools.

use super::{
    cel::{self, Cel, Path as Of},
    json::{self, list},
    model::{Gives, Import, RoleOf, Rule},
    native::Source,
    pattern::Pattern,
    when::{When, together},
};
use anyhow::{Context as _, Result, bail};
use claimbound_core::workload::Profiles;
use serde_json::Value as Json;
use std::path::Path;

const BY_HAND: &str = "write its mapping by hand";
const POOL: &str = "iam.googleapis.com/";
const IMPERSONATION: &str = "roles/iam.workloadIdentityUser";

/// Reads all files together: policies name pools, providers say whose tokens these take.
///
/// # Errors
/// When a file is neither a provider nor a policy, or there is none of either.
pub fn read<'p>(files: &[(String, String)], profiles: &'p Profiles, import: &mut Import<'p>) -> Result<()> {
    let (mut providers, mut policies) = (Vec::new(), Vec::new());
    for (file, text) in files {
        let document = json::parse(text).with_context(|| format!("`{file}` is not JSON"))?;
        for one in list(&document) {
            if one["name"].as_str().is_some_and(|name| name.contains("/providers/")) {
                providers.push((file.as_str(), one.clone()));
            } else if one.get("bindings").is_some() {
                policies.push((file.as_str(), one.clone()));
            } else {
                bail!("`{file}` is neither a provider of a pool nor an IAM policy with `bindings`");
            }
        }
    }
    if providers.is_empty() || policies.is_empty() {
        bail!("give both: the providers of the pools, and the IAM policies that name the pools' identities");
    }
    for (file, policy) in &policies {
        for (number, binding) in list(&policy["bindings"]).into_iter().enumerate() {
            let role = binding["role"].as_str().unwrap_or_default();
            for member in list(&binding["members"]).into_iter().filter_map(Json::as_str) {
                let Some((pool, who)) = identity(member) else { continue };
                let place = format!("{file}: binding {} (`{role}`), `{member}`", number + 1);
                if !binding["condition"].is_null() {
                    import.left(&place, "its binding has a condition, which has no counterpart", BY_HAND);
                    continue;
                }
                let of_pool = |(_, provider): &&(&str, Json)| {
                    let name = provider["name"].as_str().unwrap_or_default();
                    name.split_once("/providers/").is_some_and(|(of, _)| of == pool)
                };
                let mut found = providers.iter().filter(of_pool).peekable();
                if found.peek().is_none() {
                    import.left(&place, format!("no file describes a provider of `{pool}`"), "add the provider's file");
                }
                for (_, provider) in found {
                    match rule(file, &place, role, who, provider, profiles) {
                        Ok(rule) => import.rules.push(rule),
                        Err(why) => import.left(&place, why, BY_HAND),
                    }
                }
            }
        }
    }
    if import.rules.is_empty() && import.left.is_empty() {
        bail!("no policy names an identity of a pool (`principal://…`, `principalSet://…`)");
    }
    Ok(())
}

/// A member that is of a pool: the pool's name, and who of it.
fn identity(member: &str) -> Option<(&str, &str)> {
    let rest = ["principal://", "principalSet://"].iter().find_map(|scheme| member.strip_prefix(scheme))?;
    let rest = rest.strip_prefix(POOL)?;
    let mut slashes = rest.match_indices('/').map(|(at, _)| at);
    // projects/NUMBER/locations/global/workloadIdentityPools/POOL/…
    let end = slashes.nth(5)?;
    rest[..end].contains("/workloadIdentityPools/").then(|| (&rest[..end], &rest[end + 1..]))
}

fn rule<'p>(
    file: &str,
    place: &str,
    gcp_role: &str,
    who: &str,
    provider: &Json,
    profiles: &'p Profiles,
) -> Result<Rule<'p>, String> {
    let name = provider["name"].as_str().unwrap_or_default();
    if provider["disabled"] == true || provider["state"].as_str().is_some_and(|state| state != "ACTIVE") {
        return Err(format!("the provider `{name}` is disabled"));
    }
    let url = provider["oidc"]["issuerUri"].as_str().ok_or_else(|| format!("the provider `{name}` is not of OIDC"))?;
    let mapping = &provider["attributeMapping"];
    let of_gitlab = mapping.as_object().is_some_and(|mapping| {
        mapping.values().any(|value| value.as_str().is_some_and(|value| value.starts_with("assertion.project_")))
    });
    let source = Source::find(url.trim_end_matches('/'), of_gitlab, profiles)?;
    let reading = Reading { source: &source, mapping };
    let mut groups = Vec::new();
    if let Some(condition) = provider["attributeCondition"].as_str().filter(|text| !text.trim().is_empty()) {
        let told = |why: String| format!("the provider's condition `{condition}`: {why}");
        groups.push(cel::parse(condition).and_then(|cel| reading.alternatives(&cel)).map_err(told)?);
    }
    groups.extend(reading.member(who)?);
    let alternatives = together(groups)?;
    if alternatives.is_empty() {
        return Err("its conditions exclude each other, so no job fits".to_owned());
    }
    let stem = Path::new(file).file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let short = gcp_role.rsplit(['/', '.']).next().unwrap_or_default();
    let name = if gcp_role == IMPERSONATION { stem } else { format!("{stem}-{short}") };
    Ok(Rule {
        place: place.to_owned(),
        role: RoleOf {
            called: format!("{file} {gcp_role}"),
            description: format!("What {gcp_role} gives in {file}"),
            gives: Gives::Jwt { audience: format!("https://gcp.invalid/{name}") },
            remarks: vec![
                "A provider of the pool must trust the broker's tokens: write the audience that it takes.".to_owned(),
            ],
            name,
        },
        source,
        alternatives,
    })
}

/// Attributes by what they are mapped from.
struct Reading<'r, 'p> {
    source: &'r Source<'p>,
    mapping: &'r Json,
}

impl Reading<'_, '_> {
    /// The conditions on a member; `None`: everybody of the pool.
    fn member(&self, who: &str) -> Result<Option<Vec<When>>, String> {
        if who == "*" {
            return Ok(None);
        }
        let (attribute, value) = who.split_once('/').ok_or_else(|| format!("`{who}` names nobody"))?;
        let attribute = match attribute {
            "subject" => "google.subject",
            "group" => return Err("groups have no counterpart".to_owned()),
            attribute => attribute,
        };
        let native = self.native(&Of::Attribute(attribute.to_owned()))?;
        self.conditions(&native, &[Pattern::exact(value)]).map(Some)
    }

    fn alternatives(&self, cel: &Cel) -> Result<Vec<When>, String> {
        match cel {
            Cel::And(all) => together(all.iter().map(|one| self.alternatives(one)).collect::<Result<_, _>>()?),
            Cel::Or(any) => Ok(any.iter().map(|one| self.alternatives(one)).collect::<Result<Vec<_>, _>>()?.concat()),
            Cel::Is(of, patterns) => self.conditions(&self.native(of)?, patterns),
            Cel::Has(of) => self.conditions(&self.native(of)?, &[Pattern::star("*")]),
        }
    }

    fn conditions(&self, native: &str, patterns: &[Pattern]) -> Result<Vec<When>, String> {
        self.source.conditions(native, patterns).map_err(|why| format!("`{native}`: {why}"))
    }

    /// The claim that an attribute is, if it is nothing but one.
    fn native(&self, of: &Of) -> Result<String, String> {
        let name = match of {
            Of::Assertion(name) => return Ok(name.clone()),
            Of::Attribute(name) => name,
        };
        let from = self.mapping[name].as_str().ok_or_else(|| format!("`{name}` is mapped from nothing"))?;
        let native = from.trim().strip_prefix("assertion.").filter(|native| {
            !native.is_empty() && native.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        });
        native.map(str::to_owned).ok_or_else(|| format!("`{name}` is `{from}`, which is no claim by itself"))
    }
}

#[cfg(test)]
mod tests {
    use super::identity;

    #[test]
    fn members_of_pools_are_told_from_others() {
        let pool = "projects/1/locations/global/workloadIdentityPools/ci";
        for (scheme, who) in [
            ("principal", "subject/repo:a/b:ref:x"),
            ("principalSet", "attribute.repository/a/b"),
            ("principalSet", "*"),
        ] {
            let member = format!("{scheme}://iam.googleapis.com/{pool}/{who}");
            assert_eq!(identity(&member), Some((pool, who)), "{member}");
        }
        for other in ["user:a@b.example", "principal://iam.googleapis.com/projects/1", "principalSet://other/x"] {
            assert_eq!(identity(other), None);
        }
    }
}
