//! Trust policies of AWS roles: a policy by itself, `aws iam get-role`, `list-roles`, and the whole of
//! `get-account-authorization-details`.
//!
//! Sources: the IAM User Guide's pages on policy elements, condition operators with their set operators and `…IfExists`,
//! and the condition keys of web identity federation.

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

const ACTION: &str = "sts:assumerolewithwebidentity";
const STATEMENT_KEYS: [&str; 5] = ["Sid", "Effect", "Principal", "Action", "Condition"];
const BY_HAND: &str = "write its mapping by hand";

/// Reads one file.
///
/// # Errors
/// When it holds none of these.
pub fn read<'p>(file: &str, text: &str, profiles: &'p Profiles, import: &mut Import<'p>) -> Result<()> {
    let document = json::parse(text).context("it is not JSON")?;
    let roles = ["RoleDetailList", "Roles"].iter().find_map(|key| document[*key].as_array());
    if let Some(roles) = roles {
        let before = import.rules.len() + import.left.len();
        for role in roles {
            read_role(file, role, profiles, import)?;
        }
        if import.rules.len() + import.left.len() == before {
            bail!("none of its {} roles trusts a web identity", roles.len());
        }
        return Ok(());
    }
    let before = import.rules.len() + import.left.len();
    if document["Role"].is_object() {
        read_role(file, &document["Role"], profiles, import)?;
    } else if document.get("Statement").is_some() {
        read_policy(file, file, None, &document, profiles, import)?;
    } else {
        bail!(
            "it is neither a trust policy (`Statement`) nor an answer of `aws iam` with `Role`, `Roles` or `RoleDetailList`"
        );
    }
    if import.rules.len() + import.left.len() == before {
        bail!(
            "it trusts no web identity: no statement allows `sts:AssumeRoleWithWebIdentity` to a federated principal"
        );
    }
    Ok(())
}

/// One role of IAM.
struct IamRole {
    name: String,
    arn: String,
    description: Option<String>,
    max_seconds: Option<u64>,
}

fn read_role<'p>(file: &str, role: &Json, profiles: &'p Profiles, import: &mut Import<'p>) -> Result<()> {
    let text = |key: &str| role[key].as_str().map(str::to_owned);
    let (Some(name), Some(arn)) = (text("RoleName"), text("Arn")) else { bail!("a role has no `RoleName` and `Arn`") };
    let policy = match &role["AssumeRolePolicyDocument"] {
        Json::String(encoded) => {
            let decoded = percent_decoded(encoded).with_context(|| format!("the policy of `{name}`"))?;
            json::parse(&decoded).with_context(|| format!("the policy of `{name}` is not JSON"))?
        }
        document @ Json::Object(_) => document.clone(),
        _ => bail!("role `{name}` has no `AssumeRolePolicyDocument`"),
    };
    let place = format!("{file}: role `{name}`");
    let description = text("Description").filter(|text| !text.trim().is_empty() && !text.contains(char::is_control));
    let role = IamRole { name, arn, description, max_seconds: role["MaxSessionDuration"].as_u64() };
    read_policy(file, &place, Some(role), &policy, profiles, import)
}

fn read_policy<'p>(
    file: &str,
    place: &str,
    role: Option<IamRole>,
    policy: &Json,
    profiles: &'p Profiles,
    import: &mut Import<'p>,
) -> Result<()> {
    let statements = list(&policy["Statement"]);
    let about: Vec<(usize, &Json)> =
        statements.iter().copied().enumerate().filter(|(_, statement)| is_about_web_identity(statement)).collect();
    if let Some((number, _)) = about.iter().find(|(_, statement)| statement["Effect"] != "Allow") {
        let why = "it denies, and a policy without its denials lets more in; nothing of the role is imported";
        import.left(&format!("{place}, statement {}", number + 1), why, "write a `[[deny]]` and the mappings by hand");
        return Ok(());
    }
    for (number, statement) in about {
        let sid = statement["Sid"].as_str().filter(|sid| !sid.is_empty());
        let place = match sid {
            Some(sid) => format!("{place}, statement `{sid}`"),
            None => format!("{place}, statement {}", number + 1),
        };
        let known =
            statement.as_object().into_iter().flatten().find(|(key, _)| !STATEMENT_KEYS.contains(&key.as_str()));
        if let Some((key, _)) = known {
            import.left(&place, format!("`{key}` has no counterpart"), BY_HAND);
            continue;
        }
        let providers = list(&statement["Principal"]["Federated"]);
        if providers.is_empty() {
            import.left(
                &place,
                "its principal is no identity provider",
                "name the provider, or leave the statement out",
            );
            continue;
        }
        for provider in providers {
            match rule(file, &place, role.as_ref(), provider, statement, profiles, import) {
                Ok(rule) => import.rules.push(rule),
                Err(why) => import.left(&place, why, BY_HAND),
            }
        }
    }
    Ok(())
}

/// Whether it may give or take `AssumeRoleWithWebIdentity` for identities of a provider.
fn is_about_web_identity(statement: &Json) -> bool {
    let acts = |action: &Json| action.as_str().is_some_and(|text| like(&text.to_ascii_lowercase(), ACTION));
    let named = list(&statement["Action"]).into_iter().any(acts);
    let other = |action: &Json| !acts(action);
    let inverted = statement.get("NotAction").is_some_and(|actions| list(actions).into_iter().all(other));
    let principal = &statement["Principal"];
    let federated = principal.get("Federated").is_some() || principal == "*" || statement.get("NotPrincipal").is_some();
    let everyone = principal["AWS"] == "*" && statement["Effect"] != "Allow";
    (named || inverted) && (federated || everyone)
}

fn rule<'p>(
    file: &str,
    place: &str,
    role: Option<&IamRole>,
    provider: &Json,
    statement: &Json,
    profiles: &'p Profiles,
    import: &mut Import<'p>,
) -> Result<Rule<'p>, String> {
    let arn = provider.as_str().unwrap_or_default();
    let (account, host) = arn
        .split_once(":oidc-provider/")
        .and_then(|(before, host)| Some((before.rsplit_once("::")?.1, host)))
        .ok_or_else(|| format!("`{arn}` is no OIDC provider"))?;
    let conditions = conditions(statement)?;
    let own = |key: &str| {
        key.to_ascii_lowercase().strip_prefix(&format!("{}:", host.to_ascii_lowercase())).map(str::to_owned)
    };
    let of_gitlab = host == "gitlab.com"
        || conditions.iter().any(|condition| {
            own(condition.key).as_deref() == Some("sub")
                && condition.values.iter().all(|value| value.starts_with("project_path:"))
        });
    let source = Source::find(&format!("https://{host}"), of_gitlab, profiles)?;
    let mut groups = Vec::new();
    for Condition { operator, key, values } in conditions {
        let native =
            own(key).ok_or_else(|| format!("`{key}` is no claim of the provider's, and mappings cannot ask for it"))?;
        if native == "aud" {
            let told = format!("its audience {} is the broker's own now, for all mappings", values.join(", "));
            import.changed(place, told, "let workflows ask for the broker's audience");
            continue;
        }
        let Some(operator) = Operator::of(operator) else {
            return Err(format!("`{operator}` has no counterpart that is as narrow"));
        };
        if operator.widened {
            let told = format!("`{key}` let in tokens without the claim; now it must be there");
            import.changed(place, told, "nothing, if your jobs' tokens carry it");
        }
        if let Some(variable) = values.iter().find(|value| value.contains("${")) {
            return Err(format!("`{variable}` is a policy variable"));
        }
        let patterns: Vec<Pattern> = values
            .iter()
            .map(|value| if operator.like { Pattern::aws(value) } else { Ok(Pattern::exact(value)) })
            .collect::<Result<_, _>>()?;
        groups.push(source.conditions(&native, &patterns).map_err(|why| format!("`{key}`: {why}"))?);
    }
    let alternatives = together(groups)?;
    if alternatives.is_empty() {
        return Err("its conditions exclude each other, so no job fits".to_owned());
    }
    let (called, description, max_seconds, mut remarks) = match role {
        Some(role) => (role.arn.clone(), role.description.clone(), role.max_seconds, Vec::new()),
        None => {
            let stem = std::path::Path::new(file)
                .file_stem()
                .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
            let arn = format!("{}::{account}:role/{stem}", arn.split("::").next().unwrap_or("arn:aws:iam"));
            (
                arn,
                None,
                None,
                vec!["The policy does not say whose it is: the role's name is the file's. Check it.".to_owned()],
            )
        }
    };
    let name = role.map_or_else(|| called.rsplit('/').next().unwrap_or_default().to_owned(), |role| role.name.clone());
    remarks.push("The role must trust the broker: `claimbound trust aws` prints its new trust policy.".to_owned());
    Ok(Rule {
        place: place.to_owned(),
        role: RoleOf {
            description: description.unwrap_or_else(|| format!("The AWS role {name}")),
            name,
            gives: Gives::Aws { role_arn: called.clone(), max_seconds },
            called,
            remarks,
        },
        source,
        alternatives,
    })
}

/// One line of a `Condition`.
struct Condition<'j> {
    operator: &'j str,
    key: &'j str,
    values: Vec<String>,
}

fn conditions(statement: &Json) -> Result<Vec<Condition<'_>>, String> {
    let operators = match statement.get("Condition") {
        None => None,
        Some(Json::Object(operators)) => Some(operators),
        Some(_) => return Err("its `Condition` is no table".to_owned()),
    };
    let mut found = Vec::new();
    for (operator, keys) in operators.into_iter().flatten() {
        for (key, values) in keys.as_object().ok_or_else(|| format!("`{operator}` is no table"))? {
            let text = |value: &Json| match value {
                Json::String(text) => Ok(text.clone()),
                Json::Bool(value) => Ok(value.to_string()),
                Json::Number(number) => Ok(number.to_string()),
                _ => Err(format!("a value of `{key}` is no text")),
            };
            let values = list(values).into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
            if values.is_empty() {
                return Err(format!("`{key}` has no value, so nobody fits"));
            }
            found.push(Condition { operator, key, values });
        }
    }
    Ok(found)
}

/// What an operator means for claims that have one value.
struct Operator {
    like: bool,
    /// True also for tokens without the claim; ours is not.
    widened: bool,
}

impl Operator {
    /// `None`: one that has no counterpart, negations above all.
    fn of(written: &str) -> Option<Self> {
        let (all, name) = match written.split_once(':') {
            Some(("ForAnyValue", name)) => (false, name),
            Some(("ForAllValues", name)) => (true, name),
            Some(_) => return None,
            None => (false, written),
        };
        let bare = name.strip_suffix("IfExists");
        let like = match bare.unwrap_or(name) {
            "StringLike" => true,
            // Without folding of case it is narrower.
            "StringEquals" | "StringEqualsIgnoreCase" => false,
            _ => return None,
        };
        Some(Self { like, widened: all || bare.is_some() })
    }
}

/// `StringLike` by itself: which lengths of the text the pattern has matched so far.
fn like(pattern: &str, text: &str) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for wanted in pattern.bytes() {
        let before = reached.clone();
        for at in 0..reached.len() {
            let moved = at > 0 && before[at - 1];
            reached[at] = match wanted {
                b'*' => before[at] || (at > 0 && reached[at - 1]),
                b'?' => moved,
                byte => moved && text.as_bytes()[at - 1] == byte,
            };
        }
    }
    reached[text.len()]
}

/// As IAM encodes policies (RFC 3986).
fn percent_decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.context("`%` without two digits")?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).context("not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_that_admit_what_is_not_there_are_known() {
        let of = |text| Operator::of(text).map(|operator| (operator.like, operator.widened));
        assert_eq!(of("StringLike"), Some((true, false)));
        assert_eq!(of("ForAnyValue:StringEquals"), Some((false, false)));
        assert_eq!(of("ForAllValues:StringLike"), Some((true, true)));
        assert_eq!(of("StringEqualsIfExists"), Some((false, true)));
        for none in ["StringNotEquals", "StringNotLike", "Null", "Bool", "ForSome:StringLike", "NumericEquals"] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn policies_come_percent_encoded_too() {
        assert_eq!(percent_decoded("%7B%22a%22%3A1%7D+x").unwrap(), "{\"a\":1}+x");
        assert!(percent_decoded("%7").is_err() && percent_decoded("%zz").is_err());
        assert!(like("sts:*", ACTION) && like("sts:assumerole*", ACTION) && !like("sts:assumerole", ACTION));
    }
}
