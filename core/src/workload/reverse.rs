//! A job in canonical claims → the native claims that its issuer would send: the way back of [`super::translate`], for
//! the local issuer that plays every profile. What goes back through `translate` is the same job.

use super::{
    Claim, Presence, Profile, Text, WorkloadError,
    data::{Part, RefForm, RefShape, Row, WorkflowShape},
    draft::{Draft, HEADS, TAGS},
    template, translate,
};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// The native claims of this job, without the registered ones (`iss`, `aud`, times, `jti`); `sub` has the profile's
/// form unless one is given.
///
/// # Errors
/// As [`super::from_canonical`].
pub fn native_claims(profile: &Profile, given: &[(Claim, Cow<'_, str>)]) -> Result<Map<String, Value>, WorkloadError> {
    let draft = translate::drafted(profile, given)?;
    let data = &profile.data;
    let mut claims = Map::new();
    for row in &data.claim {
        put_row(&mut claims, row, draft.get(row.canonical));
    }
    if let Some(form) = &data.reference {
        put_ref(&mut claims, form, &draft);
    }
    for form in &data.workflow {
        let [repository, file, reference, sha] = form.canonical.parts();
        if let (Some(repository), Some(file), Some(reference)) =
            (draft.text(repository), draft.text(file), draft.text(reference))
        {
            let text = match form.form {
                WorkflowShape::RepositoryFile => format!("{repository}/{file}@{reference}"),
                WorkflowShape::HostRepositoryFile => format!("localhost/{repository}//{file}@{reference}"),
            };
            insert(&mut claims, &form.native, json!(text));
        }
        if let (Some(name), Some(sha)) = (&form.sha, draft.text(sha)) {
            insert(&mut claims, name, json!(sha));
        }
    }
    let event = draft.text(Claim::EventName);
    for rule in data.event.iter().filter(|rule| event.is_some_and(|event| *event == rule.name)).take(1) {
        for when in &rule.when {
            let value = match when.is.first().map(String::as_str) {
                Some(text @ ("true" | "false")) => json!(text == "true"),
                text => json!(text.unwrap_or("x")),
            };
            insert(&mut claims, &when.native, value);
        }
    }
    let form = data.subject.as_ref().and_then(|form| form.template.as_deref());
    let stated = draft.text(Claim::Subject).map(ToString::to_string);
    if let Some(subject) = stated.or_else(|| subject(form?, &draft)) {
        insert(&mut claims, "sub", json!(subject));
    }
    Ok(claims)
}

fn put_row(claims: &mut Map<String, Value>, row: &Row, presence: &Presence<'_>) {
    let Presence::Present(value) = presence else { return };
    let text = match value {
        Text::Boolean(boolean) => return insert(claims, &row.native, json!(boolean)),
        Text::Text(text) => text,
    };
    // The tenant in the issuer's URL is put there by whoever makes the URL.
    if row.part != Part::Whole {
        return;
    }
    match template::natives(&row.native) {
        None => insert(claims, &row.native, json!(text)),
        Some(names) => {
            names.into_iter().zip(text.split('/')).for_each(|(name, part)| insert(claims, name, json!(part)))
        }
    }
}

fn put_ref(claims: &mut Map<String, Value>, form: &RefForm, draft: &Draft<'_, '_>) {
    if let (Some(name), Some(kind)) = (&form.kind, draft.text(Claim::RefType)) {
        insert(claims, name, json!(kind));
    }
    let Some(full) = draft.text(Claim::Ref) else { return };
    let (branch, tag) = (full.strip_prefix(HEADS), full.strip_prefix(TAGS));
    match form.form {
        RefShape::Full => insert(claims, &form.native, json!(full)),
        RefShape::Short | RefShape::Branch => {
            insert(claims, &form.native, json!(branch.or(tag).unwrap_or(full)));
            if let (Some(name), Some(tag)) = (&form.tag, tag) {
                insert(claims, name, json!(tag));
            }
        }
    }
}

/// A `sub` of the template's form; what the template leaves open is `x`.
fn subject(template: &str, draft: &Draft<'_, '_>) -> Option<String> {
    let filled = template::fill(template, |name| match name {
        "name" => draft.text(Claim::Repository)?.rsplit('/').next().map(Cow::Borrowed),
        name => draft.text(Claim::from_name(name)?).map(|text| Cow::Borrowed(text.as_ref())),
    })?;
    Some(filled.replace('*', "x"))
}

/// Puts a value at a name, or at a pointer, making the objects on the way.
fn insert(claims: &mut Map<String, Value>, name: &str, value: Value) {
    let Some(path) = name.strip_prefix('/') else {
        claims.entry(name).or_insert(value);
        return;
    };
    let mut parts: Vec<String> = path.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
    let Some(last) = parts.pop() else { return };
    let mut at = claims;
    for part in parts {
        let next = at.entry(part).or_insert_with(|| json!({}));
        let Value::Object(object) = next else { return };
        at = object;
    }
    at.entry(last).or_insert(value);
}
