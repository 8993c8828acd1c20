//! Claims + profile → workload. `serve` passes verified claims; `explain` and `test` pass what a file says.
//!
//! Whatever the way in, claims end in one draft and one `conclude`: what derives from what, what contradicts what and
//! what is none stands there once.

use super::{
    Claim, Kind, Presence, Profile, Text, Workload,
    data::{Absence, RefForm, RefShape, Row, SubjectIds, WorkflowForm},
    reference,
};
use crate::{
    claims::{Claims, Value},
    reason::Reason,
};
use std::borrow::Cow;

/// Longest value of a canonical claim.
pub const VALUE_BYTES_MAX: usize = 1024;

const HEADS: &str = "refs/heads/";
const TAGS: &str = "refs/tags/";

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
    fn contradiction(left: &str, right: &str) -> Self {
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
    for pair in &data.agree {
        let (left, right) = (native_id(&claims, &pair.left)?, native_id(&claims, &pair.right)?);
        if left.is_some() && right.is_some() && left != right {
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
    let mut draft = Draft::new(profile);
    for (claim, text) in given {
        if *draft.get(*claim) != Presence::Unknown {
            return Err(WorkloadError::contradiction(claim.name(), claim.name()));
        }
        draft.put_given(*claim, text)?;
    }
    draft.fill();
    draft.conclude()?;
    Ok(Workload { issuer: Cow::Owned(issuer.to_owned()), canonical: draft.canonical, raw: Claims::default() })
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

fn native_id<'t>(claims: &Claims<'t>, name: &str) -> Result<Option<Cow<'t, str>>, WorkloadError> {
    match native(claims, name) {
        Some(Value::Integer(integer)) => Ok(Some(Cow::Owned(integer.to_string()))),
        _ => native_unless_blank(claims, name),
    }
}

/// What `cut` takes out of `text`, borrowed as long as the text itself is.
fn pieces<'t, const N: usize>(
    text: &Cow<'t, str>,
    cut: impl for<'x> Fn(&'x str) -> Option<[&'x str; N]>,
) -> Option<[Cow<'t, str>; N]> {
    match text {
        Cow::Borrowed(text) => cut(text).map(|pieces| pieces.map(Cow::Borrowed)),
        Cow::Owned(text) => cut(text).map(|pieces| pieces.map(|piece| Cow::Owned(piece.to_owned()))),
    }
}

/// A workload in the making: what is not said yet is unknown.
struct Draft<'p, 't> {
    profile: &'p Profile,
    canonical: Vec<Presence<'t>>,
}

impl<'t> Draft<'_, 't> {
    fn new(profile: &Profile) -> Draft<'_, 't> {
        Draft { profile, canonical: vec![Presence::Unknown; Claim::ALL.len()] }
    }
    fn get(&self, claim: Claim) -> &Presence<'t> {
        &self.canonical[claim as usize]
    }
    fn text(&self, claim: Claim) -> Option<&Cow<'t, str>> {
        match self.get(claim) {
            Presence::Present(Text::Text(text)) => Some(text),
            _ => None,
        }
    }
    fn set(&mut self, claim: Claim, presence: Presence<'t>) {
        self.canonical[claim as usize] = presence;
    }

    /// Puts text in if it has the claim's syntax; `name` is what an error calls it.
    fn put_text(&mut self, claim: Claim, name: &str, text: Cow<'t, str>) -> Result<(), WorkloadError> {
        let fits = match claim.kind() {
            // A number counted on the forge's side, whatever its ids look like.
            Kind::Id if claim == Claim::PullRequest => super::data::IdSyntax::Decimal.admits(&text),
            Kind::Id => {
                let row = self.profile.data.claim.iter().find(|row| row.canonical == claim);
                row.and_then(|row| row.syntax).unwrap_or(self.profile.data.ids.syntax).admits(&text)
            }
            // Forges' names are ASCII; anything else only looks like one.
            Kind::Name => text.bytes().all(|b| b.is_ascii_graphic()),
            Kind::Text | Kind::Boolean => !text.chars().any(char::is_control),
        };
        if !fits || text.is_empty() || text.len() > VALUE_BYTES_MAX {
            return Err(WorkloadError::Syntax(name.into()));
        }
        self.set(claim, Presence::Present(Text::Text(text)));
        Ok(())
    }

    fn put_native(&mut self, row: &Row, claims: &Claims<'t>) -> Result<(), WorkloadError> {
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
                self.put_text(row.canonical, &row.native, text.clone())?;
            }
            _ => return Err(WorkloadError::WrongType(row.native.clone())),
        }
        Ok(())
    }

    fn put_boolean(&mut self, claim: Claim, boolean: bool) {
        self.set(claim, Presence::Present(Text::Boolean(boolean)));
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
        let Some(native) = native_unless_blank(claims, &form.native)? else { return Ok(()) };
        let full = match form.form {
            RefShape::Full => native,
            RefShape::Short => full_ref(form, &native, kind.as_deref(), claims)?,
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
        let prefix = self.profile.data.reference.as_ref().and_then(|form| form.pull_request_prefix.as_deref());
        if self.text(Claim::Ref).is_none() {
            let branch = self.text(Claim::Branch).map(|branch| format!("{HEADS}{branch}"));
            let tag = self.text(Claim::Tag).map(|tag| format!("{TAGS}{tag}"));
            let number = self.text(Claim::PullRequest).zip(prefix);
            let merge = number.map(|(number, prefix)| format!("{prefix}{number}/merge"));
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

    /// Everything that one claim says about another.
    fn conclude(&mut self) -> Result<(), WorkloadError> {
        self.check_names()?;
        self.check_subject()?;
        self.derive_from_ref()?;
        let outside = self.is_outside_pull_requests();
        for row in &self.profile.data.claim {
            let proven = match row.none {
                Some(Absence::WhenAbsent) => true,
                Some(Absence::OutsidePullRequests) => outside,
                None => false,
            };
            if proven && *self.get(row.canonical) == Presence::Unknown {
                self.set(row.canonical, Presence::None);
            }
        }
        Ok(())
    }

    fn is_outside_pull_requests(&self) -> bool {
        let events = &self.profile.data.pull_request_events;
        self.text(Claim::EventName).is_some_and(|event| !events.iter().any(|name| name == event))
    }

    fn same_name(&self, left: &str, right: &str) -> bool {
        if self.profile.folds_names() { left.eq_ignore_ascii_case(right) } else { left == right }
    }

    /// `repository` is its owner's, and a workflow that is always the job's own is.
    fn check_names(&self) -> Result<(), WorkloadError> {
        let Some(repository) = self.text(Claim::Repository) else { return Ok(()) };
        if let Some(owner) = self.text(Claim::RepositoryOwner)
            && !repository
                .rsplit_once('/')
                .is_some_and(|(above, name)| self.same_name(above, owner) && !name.is_empty())
        {
            return Err(WorkloadError::contradiction("repository", "repository_owner"));
        }
        for form in self.profile.data.workflow.iter().filter(|form| form.own_repository) {
            let [workflow, ..] = form.canonical.parts();
            if self.text(workflow).is_some_and(|workflow| !self.same_name(workflow, repository)) {
                return Err(WorkloadError::contradiction("repository", workflow.name()));
            }
        }
        Ok(())
    }

    /// A `sub` that names the repository must agree with the claims that do (names, and ids where it has them). Its
    /// context part and other templates are the job author's choice and are not read.
    fn check_subject(&self) -> Result<(), WorkloadError> {
        let (Some(form), Some(subject)) = (&self.profile.data.subject, self.text(Claim::Subject)) else {
            return Ok(());
        };
        let Some(rest) = subject.strip_prefix(form.prefix.as_str()) else { return Ok(()) };
        let named = rest.split_once(':').map_or(rest, |(named, _)| named);
        let contradiction = |claim: Claim| WorkloadError::contradiction("subject", claim.name());
        let name = match form.ids {
            Some(SubjectIds::AfterAt) if named.contains('@') => {
                let (name, ids) = split_ids(named).ok_or_else(|| contradiction(Claim::Repository))?;
                for (id, claim) in ids.into_iter().zip([Claim::RepositoryOwnerId, Claim::RepositoryId]) {
                    let differs = self.text(claim).is_some_and(|stated| stated != id);
                    if differs || !self.profile.id_is_valid(id) {
                        return Err(contradiction(claim));
                    }
                }
                Cow::Owned(name)
            }
            _ => Cow::Borrowed(named),
        };
        match self.text(Claim::Repository) {
            Some(repository) if !self.same_name(repository, &name) => Err(contradiction(Claim::Repository)),
            _ => Ok(()),
        }
    }

    /// `branch`, `tag`, `pull_request` and the type are functions of a known `ref`.
    fn derive_from_ref(&mut self) -> Result<(), WorkloadError> {
        let Some(form) = &self.profile.data.reference else { return Ok(()) };
        let Some(full) = self.text(Claim::Ref).cloned() else { return Ok(()) };
        let below = |prefix: &str| pieces(&full, |full| Some([full.strip_prefix(prefix)?])).map(|[rest]| rest);
        let (branch, tag) = (below(HEADS), below(TAGS));
        let number = match form.pull_request_prefix.as_deref().and_then(below) {
            None => None,
            Some(rest) => {
                let [number] = pieces(&rest, |rest| match rest.split_once('/')? {
                    (number, "merge" | "head") => Some([number]),
                    _ => None,
                })
                .ok_or_else(|| WorkloadError::Syntax("ref".into()))?;
                Some(number)
            }
        };
        let kind = match (&branch, &tag) {
            (Some(_), _) => Some("branch"),
            (_, Some(_)) => Some("tag"),
            _ => None,
        };
        match self.text(Claim::RefType) {
            None => {
                if let Some(kind) = kind {
                    self.set(Claim::RefType, Presence::Present(Text::Text(Cow::Borrowed(kind))));
                }
            }
            Some(stated) if Some(stated.as_ref()) == kind || is_odd_pair(form, &full, stated) => {}
            Some(_) => return Err(WorkloadError::contradiction("ref", "ref_type")),
        }
        // An event may concern a pull request that its `ref` does not show.
        let unseen = number.is_none() && !self.is_outside_pull_requests();
        for (claim, derived) in [(Claim::Branch, branch), (Claim::Tag, tag), (Claim::PullRequest, number)] {
            let stated = self.text(claim);
            match derived {
                Some(text) if stated.is_none_or(|stated| *stated == text) => self.put_text(claim, "ref", text)?,
                None if claim == Claim::PullRequest && unseen => {}
                None if stated.is_none() => self.set(claim, Presence::None),
                _ => return Err(WorkloadError::contradiction("ref", claim.name())),
            }
        }
        Ok(())
    }
}

fn is_odd_pair(form: &RefForm, full: &str, kind: &str) -> bool {
    form.odd_pairs.iter().any(|odd| odd.kind == kind && full.starts_with(&odd.prefix))
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

/// `OWNER@OWNER_ID/REPO@REPO_ID` → `OWNER/REPO` and both ids; anything else with an `@` is no such text.
fn split_ids(named: &str) -> Option<(String, [&str; 2])> {
    let (owner, repository) = named.split_once('/')?;
    let (owner, owner_id) = owner.split_once('@')?;
    let (repository, repository_id) = repository.split_once('@')?;
    Some((format!("{owner}/{repository}"), [owner_id, repository_id]))
}
