//! A workload in the making, and everything that one claim says about another: what derives from what, what
//! contradicts what, what is none. Stated once, for tokens and for claims written by hand.

use super::{
    Claim, Kind, Presence, Profile, Text, WorkloadError,
    data::{Absence, RefForm, SubjectIds},
    template,
};
use std::borrow::Cow;

/// Longest value of a canonical claim.
pub(crate) const VALUE_BYTES_MAX: usize = 1024;

pub(super) const HEADS: &str = "refs/heads/";
pub(super) const TAGS: &str = "refs/tags/";

/// A workload in the making: what is not said yet is unknown.
pub(super) struct Draft<'p, 't> {
    pub(super) profile: &'p Profile,
    pub(super) canonical: Vec<Presence<'t>>,
}

impl<'t> Draft<'_, 't> {
    pub(super) fn new(profile: &Profile) -> Draft<'_, 't> {
        Draft { profile, canonical: vec![Presence::Unknown; Claim::ALL.len()] }
    }
    pub(super) fn get(&self, claim: Claim) -> &Presence<'t> {
        &self.canonical[claim as usize]
    }
    pub(super) fn text(&self, claim: Claim) -> Option<&Cow<'t, str>> {
        match self.get(claim) {
            Presence::Present(Text::Text(text)) => Some(text),
            _ => None,
        }
    }
    pub(super) fn set(&mut self, claim: Claim, presence: Presence<'t>) {
        self.canonical[claim as usize] = presence;
    }

    /// Puts text in if it has the claim's syntax; `name` is what an error calls it.
    pub(super) fn put_text(&mut self, claim: Claim, name: &str, text: Cow<'t, str>) -> Result<(), WorkloadError> {
        let fits = match claim.kind() {
            Kind::Id => self.profile.data.id_syntax(claim).admits(&text),
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

    pub(super) fn put_boolean(&mut self, claim: Claim, boolean: bool) {
        self.set(claim, Presence::Present(Text::Boolean(boolean)));
    }

    /// Everything that one claim says about another.
    pub(super) fn conclude(&mut self) -> Result<(), WorkloadError> {
        self.check_names()?;
        self.check_subject()?;
        self.derive_from_ref()?;
        let outside = self.is_outside_pull_requests();
        for row in &self.profile.data.claim {
            let proven = match row.none {
                Some(_) if row.unless.is_some_and(|other| matches!(self.get(other), Presence::Present(_))) => false,
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
        if let Some(template) = &form.template {
            return self.check_subject_form(template, form.always, subject);
        }
        let Some(rest) = form.prefix.as_deref().and_then(|prefix| subject.strip_prefix(prefix)) else { return Ok(()) };
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
            Some(SubjectIds::AfterHyphen)
                if self.with_ids().is_some_and(|with_ids| self.same_name(&with_ids, named)) =>
            {
                return Ok(());
            }
            _ => Cow::Borrowed(named),
        };
        match self.text(Claim::Repository) {
            Some(repository) if !self.same_name(repository, &name) => Err(contradiction(Claim::Repository)),
            _ => Ok(()),
        }
    }

    /// `OWNER-OWNER_ID/REPO-REPO_ID`, put together from what the claims say.
    fn with_ids(&self) -> Option<String> {
        let (owner, name) = self.text(Claim::Repository)?.rsplit_once('/')?;
        let (owner_id, id) = (self.text(Claim::RepositoryOwnerId)?, self.text(Claim::RepositoryId)?);
        Some(format!("{owner}-{owner_id}/{name}-{id}"))
    }

    /// Holds a `sub` to its template. What names nothing known is not compared.
    fn check_subject_form(&self, template: &str, always: bool, subject: &str) -> Result<(), WorkloadError> {
        if !always && !subject.starts_with(template::beginning(template)) {
            return Ok(());
        }
        let value = |name: &str| match name {
            "name" => self.text(Claim::Repository)?.rsplit('/').next().map(Cow::Borrowed),
            name => self.text(Claim::from_name(name)?).map(|text| Cow::Borrowed(text.as_ref())),
        };
        let mut unknown = false;
        let filled = template::fill(template, |name| match value(name) {
            // A star in a value would be read as any text.
            Some(text) if text.contains('*') => None,
            None => {
                unknown = true;
                None
            }
            known => known,
        });
        match filled {
            Some(form) if template::fits(&form, subject) => Ok(()),
            None if unknown => Ok(()),
            _ => Err(WorkloadError::contradiction("subject", "the claims that it names")),
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
                let [number] = pieces(&rest, |rest| {
                    let end = rest.find('/').unwrap_or(rest.len());
                    form.pull_request_ends.iter().any(|known| *known == rest[end..]).then_some([&rest[..end]])
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

/// Whether this ref may go with this type although its prefix does not say so.
pub(super) fn is_odd_pair(form: &RefForm, full: &str, kind: &str) -> bool {
    form.odd_pairs.iter().any(|odd| odd.kind == kind && full.starts_with(&odd.prefix))
}

/// What `cut` takes out of `text`, borrowed as long as the text itself is.
pub(super) fn pieces<'t, const N: usize>(
    text: &Cow<'t, str>,
    cut: impl for<'x> Fn(&'x str) -> Option<[&'x str; N]>,
) -> Option<[Cow<'t, str>; N]> {
    match text {
        Cow::Borrowed(text) => cut(text).map(|pieces| pieces.map(Cow::Borrowed)),
        Cow::Owned(text) => cut(text).map(|pieces| pieces.map(|piece| Cow::Owned(piece.to_owned()))),
    }
}

/// `OWNER@OWNER_ID/REPO@REPO_ID` → `OWNER/REPO` and both ids; anything else with an `@` is no such text.
fn split_ids(named: &str) -> Option<(String, [&str; 2])> {
    let (owner, repository) = named.split_once('/')?;
    let (owner, owner_id) = owner.split_once('@')?;
    let (repository, repository_id) = repository.split_once('@')?;
    Some((format!("{owner}/{repository}"), [owner_id, repository_id]))
}
