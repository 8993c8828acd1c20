//! Claims + profile → workload. `serve` passes verified claims; `explain` and `test` pass what a file says.
//!
//! Whatever the way in, claims end in one draft, and its one `conclude` judges them.

use super::{
    Claim, Kind, Presence, Profile, Text, Workload,
    data::{EventRule, Part, RefForm, RefShape, Row, WorkflowForm},
    draft::{Draft, HEADS, TAGS, is_odd_pair, pieces},
    reference, template,
};
use crate::{
    claims::{Claims, Value},
    reason::Reason,
};
use std::borrow::Cow;

/// Why claims are no workload.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WorkloadError {
    #[error("claims `{left}` and `{right}` contradict each other")]
    Contradiction { left: String, right: String },
    #[error("claim `{0}` has the wrong type")]
    WrongType(String),
    #[error("claim `{0}` holds characters that its syntax does not allow")]
    Syntax(String),
    #[error("claim `{0}` is missing")]
    Missing(String),
    #[error("the job's owner is not listed for this issuer")]
    Stranger,
}

impl WorkloadError {
    /// For evidence and answers.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Contradiction { .. } => Reason::ClaimsInconsistent,
            Self::WrongType(_) => Reason::ClaimType,
            Self::Syntax(_) => Reason::ClaimSyntax,
            Self::Missing(_) => Reason::ClaimMissing,
            Self::Stranger => Reason::Stranger,
        }
    }
    pub(super) fn contradiction(left: &str, right: &str) -> Self {
        Self::Contradiction { left: left.into(), right: right.into() }
    }
}

/// Native claims → canonical ones. Contradictory claims refuse.
pub fn translate<'t>(profile: &Profile, issuer: &str, claims: Claims<'t>) -> Result<Workload<'t>, WorkloadError> {
    let data = &profile.data;
    if let Some(name) = data.required.iter().find(|name| native(&claims, name).is_none()) {
        return Err(WorkloadError::Missing(name.clone()));
    }
    let mut draft = Draft::new(profile);
    let subject = native_text(&claims, "sub")?.ok_or_else(|| WorkloadError::Missing("sub".into()))?;
    draft.put_text(Claim::Subject, "sub", subject)?;
    for row in &data.claim {
        draft.put_native(row, &claims)?;
    }
    if let Some(form) = &data.reference {
        draft.put_ref(form, &claims)?;
    }
    for form in &data.workflow {
        draft.put_workflow(form, &claims)?;
    }
    if let Some(rule) = data.event.iter().find(|rule| holds(rule, &claims)) {
        draft.put_text(Claim::EventName, "event_name", Cow::Owned(rule.name.clone()))?;
    }
    for pair in &data.agree {
        let (left, right) = (native_id(&claims, &pair.left)?, native_id(&claims, &pair.right)?);
        let left = left.as_deref().map(|left| pair.part.of(left));
        if left.is_some() && right.is_some() && left != right.as_deref() {
            return Err(WorkloadError::contradiction(&pair.left, &pair.right));
        }
    }
    draft.conclude()?;
    Ok(Workload { issuer: Cow::Owned(issuer.to_owned()), canonical: draft.canonical, raw: claims })
}

/// A workload from canonical claims alone, as `[[test]]` blocks and `explain --repository …` state them: derived
/// claims are filled (`ref` and `ref_type` from `branch` or `tag`, the owner from the repository), all else is
/// none where the profile proves it, unknown otherwise.
pub fn from_canonical(
    profile: &Profile,
    issuer: &str,
    given: &[(Claim, Cow<'_, str>)],
) -> Result<Workload<'static>, WorkloadError> {
    let canonical = drafted(profile, given)?.canonical;
    Ok(Workload { issuer: Cow::Owned(issuer.to_owned()), canonical, raw: Claims::default() })
}

/// Canonical claims stated by hand, completed and judged.
pub(super) fn drafted<'p>(
    profile: &'p Profile,
    given: &[(Claim, Cow<'_, str>)],
) -> Result<Draft<'p, 'static>, WorkloadError> {
    let mut draft = Draft::new(profile);
    for (claim, text) in given {
        if *draft.get(*claim) != Presence::Unknown {
            return Err(WorkloadError::contradiction(claim.name(), claim.name()));
        }
        draft.put_given(*claim, text)?;
    }
    draft.fill();
    draft.conclude()?;
    Ok(draft)
}

/// A native claim by name, or by pointer.
fn native<'c, 't>(claims: &'c Claims<'t>, name: &str) -> Option<&'c Value<'t>> {
    if name.starts_with('/') { claims.pointer(name) } else { claims.get(name) }
}

fn native_text<'t>(claims: &Claims<'t>, name: &str) -> Result<Option<Cow<'t, str>>, WorkloadError> {
    match native(claims, name) {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text.clone())),
        Some(_) => Err(WorkloadError::WrongType(name.into())),
    }
}

/// Text of which empty and `null` mean that there is none.
fn native_unless_blank<'t>(claims: &Claims<'t>, name: &str) -> Result<Option<Cow<'t, str>>, WorkloadError> {
    if is_blank(native(claims, name)) { Ok(None) } else { native_text(claims, name) }
}

fn is_blank(value: Option<&Value<'_>>) -> bool {
    matches!(value, None | Some(Value::Null)) || value.and_then(Value::as_text) == Some("")
}

/// Whether all conditions of a rule hold. A claim of another type is none of the values that a rule names.
fn holds(rule: &EventRule, claims: &Claims<'_>) -> bool {
    rule.when.iter().all(|when| {
        let value = native(claims, &when.native).filter(|value| !is_blank(Some(value)));
        value.is_some_and(|value| match value {
            _ if when.is.is_empty() => true,
            Value::Text(text) => when.is.iter().any(|one| one == text),
            Value::Boolean(boolean) => when.is.contains(&boolean.to_string()),
            _ => false,
        })
    })
}

/// A short name that git would take: issuers write a fork's branch as `owner:branch`.
fn is_ref_name(short: &str) -> bool {
    !short.contains([':', '~', '^', '?', '*', '[', '\\', ' '])
}

fn native_id<'t>(claims: &Claims<'t>, name: &str) -> Result<Option<Cow<'t, str>>, WorkloadError> {
    match native(claims, name) {
        Some(Value::Integer(integer)) => Ok(Some(Cow::Owned(integer.to_string()))),
        _ => native_unless_blank(claims, name),
    }
}

impl<'t> Draft<'_, 't> {
    fn put_native(&mut self, row: &Row, claims: &Claims<'t>) -> Result<(), WorkloadError> {
        if row.native.contains('{') {
            return self.put_together(row, claims);
        }
        let value = match native(claims, &row.native) {
            None => return Ok(()),
            value if row.blank_is_absent && is_blank(value) => return Ok(()),
            Some(value) => value,
        };
        match (row.canonical.kind(), value) {
            (Kind::Boolean, Value::Boolean(boolean)) => self.put_boolean(row.canonical, *boolean),
            (Kind::Boolean, Value::Text(text)) if text == "true" => self.put_boolean(row.canonical, true),
            (Kind::Boolean, Value::Text(text)) if text == "false" => self.put_boolean(row.canonical, false),
            (Kind::Id, Value::Integer(integer)) if self.profile.data.ids.integers => {
                self.put_text(row.canonical, &row.native, Cow::Owned(integer.to_string()))?;
            }
            (Kind::Text | Kind::Name | Kind::Id, Value::Text(text)) => {
                let part = match row.part {
                    Part::Whole => text.clone(),
                    part => Cow::Owned(part.of(text).to_owned()),
                };
                self.put_text(row.canonical, &row.native, part)?;
            }
            _ => return Err(WorkloadError::WrongType(row.native.clone())),
        }
        Ok(())
    }

    /// A claim of several: `{organization_slug}/{pipeline_slug}`.
    fn put_together(&mut self, row: &Row, claims: &Claims<'t>) -> Result<(), WorkloadError> {
        let mut fault = None;
        let whole = template::fill(&row.native, |name| match native_unless_blank(claims, name) {
            Ok(Some(text)) if text.contains('/') => {
                fault = Some(WorkloadError::Syntax(name.into()));
                None
            }
            Ok(text) => text,
            Err(error) => {
                fault = Some(error);
                None
            }
        });
        match (fault, whole) {
            (Some(fault), _) => Err(fault),
            (None, Some(whole)) => self.put_text(row.canonical, &row.native, Cow::Owned(whole)),
            (None, None) => Ok(()),
        }
    }

    fn put_given(&mut self, claim: Claim, text: &str) -> Result<(), WorkloadError> {
        match (claim, text) {
            (_, "true") if claim.kind() == Kind::Boolean => self.put_boolean(claim, true),
            (_, "false") if claim.kind() == Kind::Boolean => self.put_boolean(claim, false),
            _ if claim.kind() == Kind::Boolean => return Err(WorkloadError::WrongType(claim.name().into())),
            (Claim::Ref, text) if !text.starts_with("refs/") => return Err(WorkloadError::Syntax("ref".into())),
            _ => self.put_text(claim, claim.name(), Cow::Owned(text.to_owned()))?,
        }
        Ok(())
    }

    /// The full ref. One that is empty or no ref (deployments of a commit) is not known, and so grants nothing.
    fn put_ref(&mut self, form: &RefForm, claims: &Claims<'t>) -> Result<(), WorkloadError> {
        let kind = match &form.kind {
            Some(name) => native_unless_blank(claims, name)?,
            None => None,
        };
        if let (Some(name), Some(kind)) = (&form.kind, &kind) {
            self.put_text(Claim::RefType, name, kind.clone())?;
        }
        let tag = match &form.tag {
            Some(name) => native_unless_blank(claims, name)?.map(|tag| format!("{TAGS}{tag}")),
            None => None,
        };
        let Some(native) = native_unless_blank(claims, &form.native)? else {
            return tag.map_or(Ok(()), |tag| self.put_text(Claim::Ref, &form.native, Cow::Owned(tag)));
        };
        let full = match form.form {
            RefShape::Full => native,
            RefShape::Short => full_ref(form, &native, kind.as_deref(), claims)?,
            RefShape::Branch if !is_ref_name(&native) => return Ok(()),
            RefShape::Branch => Cow::Owned(tag.unwrap_or_else(|| format!("{HEADS}{native}"))),
        };
        if full.starts_with("refs/") { self.put_text(Claim::Ref, &form.native, full) } else { Ok(()) }
    }

    fn put_workflow(&mut self, form: &WorkflowForm, claims: &Claims<'t>) -> Result<(), WorkloadError> {
        let [repository, file, reference, sha] = form.canonical.parts();
        if let Some(name) = &form.sha
            && let Some(text) = native_unless_blank(claims, name)?
        {
            self.put_text(sha, name, text)?;
        }
        let Some(text) = native_unless_blank(claims, &form.native)? else { return Ok(()) };
        let parts = pieces(&text, |text| reference::split(form.form, text))
            .ok_or_else(|| WorkloadError::Syntax(form.native.clone()))?;
        for (claim, part) in [repository, file, reference].into_iter().zip(parts) {
            self.put_text(claim, &form.native, part)?;
        }
        Ok(())
    }

    /// Fills what canonical claims stated by hand leave out: `ref`, the owner, the workflows' repository.
    fn fill(&mut self) {
        let form = self.profile.data.reference.as_ref();
        let around =
            form.and_then(|form| Some((form.pull_request_prefix.as_deref()?, form.pull_request_ends.first()?)));
        if self.text(Claim::Ref).is_none() {
            let branch = self.text(Claim::Branch).map(|branch| format!("{HEADS}{branch}"));
            let tag = self.text(Claim::Tag).map(|tag| format!("{TAGS}{tag}"));
            let number = self.text(Claim::PullRequest).zip(around);
            let merge = number.map(|(number, (prefix, end))| format!("{prefix}{number}{end}"));
            if let Some(full) = branch.or(tag).or(merge) {
                self.set(Claim::Ref, Presence::Present(Text::Text(Cow::Owned(full))));
            }
        }
        let Some(repository) = self.text(Claim::Repository).cloned() else { return };
        if self.text(Claim::RepositoryOwner).is_none()
            && let Some((owner, _)) = repository.rsplit_once('/')
        {
            self.set(Claim::RepositoryOwner, Presence::Present(Text::Text(Cow::Owned(owner.to_owned()))));
        }
        for form in &self.profile.data.workflow {
            let [workflow, file, ..] = form.canonical.parts();
            if self.text(workflow).is_none() && self.text(file).is_some() {
                self.set(workflow, Presence::Present(Text::Text(repository.clone())));
            }
        }
    }
}

/// A short ref with its type, made full; a path beside it must say the same.
fn full_ref<'t>(
    form: &RefForm,
    short: &str,
    kind: Option<&str>,
    claims: &Claims<'t>,
) -> Result<Cow<'t, str>, WorkloadError> {
    let kind_name = form.kind.as_deref().unwrap_or_default();
    let kind = kind.ok_or_else(|| WorkloadError::Missing(kind_name.into()))?;
    let full = match kind {
        "branch" => format!("{HEADS}{short}"),
        "tag" => format!("{TAGS}{short}"),
        _ => return Err(WorkloadError::contradiction(&form.native, kind_name)),
    };
    let path = match &form.path {
        Some(name) => native_unless_blank(claims, name)?.map(|path| (name, path)),
        None => None,
    };
    match path {
        None => Ok(Cow::Owned(full)),
        Some((_, path)) if path == full || is_odd_pair(form, &path, kind) => Ok(path),
        Some((name, _)) => Err(WorkloadError::contradiction(&form.native, name)),
    }
}
