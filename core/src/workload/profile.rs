//! An issuer profile as data: which claims an issuer sends, their types, and what may be concluded from them.

use super::{
    Claim, SingleUseRule, Tenancy,
    data::{Absence, Data, IdSyntax},
    url_form,
};
use serde::Serialize;
use std::borrow::Cow;

/// One CI system.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: String,
    pub(super) data: Data,
    url_forms: Vec<String>,
}

/// What a claim is in a job whose token does not carry it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Gap {
    /// Every token carries it.
    Never,
    Unknown,
    /// None, so far as it is proven: where said so, outside of pull requests alone, and not where the other is
    /// present. Else unknown.
    None {
        outside_pull_requests: bool,
        unless: Option<Claim>,
    },
}

/// A profile file that does not load.
#[derive(Debug, thiserror::Error)]
#[error("profile {file}: {message}")]
pub struct ProfileError {
    pub file: String,
    pub message: String,
}

/// All known profiles.
#[derive(Clone, Debug)]
pub struct Profiles {
    pub(crate) all: Vec<Profile>,
}

/// In name order.
const BUILTIN: [(&str, &str); 2] = [
    ("github-actions.toml", include_str!("profiles/github-actions.toml")),
    ("gitlab.toml", include_str!("profiles/gitlab.toml")),
];

impl Profiles {
    /// The profiles compiled in (`profiles/*.toml`).
    pub fn builtin() -> Self {
        let read = |(file, text)| Profile::parse(file, text).expect("compiled-in profiles are tested");
        Self { all: BUILTIN.map(read).into() }
    }
    /// The profile of this name.
    pub fn get(&self, name: &str) -> Option<&Profile> {
        self.all.iter().find(|profile| profile.name == name)
    }
    /// All, in name order.
    pub fn iter(&self) -> impl Iterator<Item = &Profile> {
        self.all.iter()
    }
}

impl Profile {
    /// Reads one profile file; `file` is its name for errors, which give line and column.
    pub fn parse(file: &str, text: &str) -> Result<Self, ProfileError> {
        let data = Data::parse(text).map_err(|message| ProfileError { file: file.into(), message })?;
        let url_forms = data.url.iter().map(|url| url.form.clone()).collect();
        Ok(Self { name: data.name.clone(), data, url_forms })
    }
    /// What the CI system calls itself.
    pub fn title(&self) -> &str {
        &self.data.title
    }
    /// Whether an issuer of this URL (if it fits one of the profile's URL forms) is shared by strangers;
    /// `None` when no form fits. A `tenancy = "single"` in policy.toml may only be said where the profile allows it.
    pub fn tenancy_of(&self, url: &str) -> Option<Tenancy> {
        self.data.url.iter().find(|form| url_form::fits(&form.form, url)).map(|form| form.tenancy)
    }
    /// The URL forms, for diagnostics and `profile show`.
    pub fn url_forms(&self) -> &[String] {
        &self.url_forms
    }
    /// The rule for single use of subject tokens.
    pub fn single_use(&self) -> SingleUseRule {
        self.data.single_use
    }
    /// Longest `exp - iat` accepted, in seconds.
    pub fn max_lifetime_seconds(&self) -> i64 {
        self.data.max_lifetime_seconds
    }
    /// JWS algorithms that the issuer's keys may have (`RS256`, …).
    pub fn algorithms(&self) -> &[String] {
        &self.data.algorithms
    }
    /// Claims that every token must carry besides the standard ones.
    pub fn required(&self) -> &[String] {
        &self.data.required
    }
    /// Whether `nbf` is demanded.
    pub fn requires_nbf(&self) -> bool {
        self.data.requires_nbf
    }
    /// Whether a job can mint a second token, so that nothing needs to be sent twice.
    pub fn can_mint_again(&self) -> bool {
        self.data.can_mint_again
    }
    /// Events that a mapping without `event_name` matches.
    pub fn default_events(&self) -> &[String] {
        &self.data.default_events
    }
    /// Immutable ids that pin a workload, the narrowest first (`repository_id`, `repository_owner_id`).
    pub fn pins(&self) -> &[Claim] {
        &self.data.pins
    }
    /// Whether the forge folds names (repository, owner) in ASCII case.
    pub fn folds_names(&self) -> bool {
        self.data.folds_names
    }
    /// Whether `id` has the syntax of this issuer's ids.
    pub fn id_is_valid(&self, id: &str) -> bool {
        self.data.ids.syntax.admits(id)
    }
    /// Canonical claims that the job's author controls.
    pub fn author_controlled(&self) -> &[Claim] {
        &self.data.author_controlled
    }
    /// Canonical claims that tokens of this issuer can carry at all.
    pub fn provides(&self, claim: Claim) -> bool {
        self.data.provides(claim)
    }
    /// The canonical claim that a native claim name becomes (`project_path` → `repository`), for the edit in
    /// diagnostics about native names in mappings. A claim that names a workflow becomes several parts; for it this
    /// is the file.
    pub fn canonical_of(&self, native: &str) -> Option<Claim> {
        self.natives().into_iter().find(|(name, _)| *name == native).map(|(_, claim)| claim)
    }
    /// What a claim is in a job whose token does not carry it. Of claims that derive from others this says nothing.
    pub(crate) fn gap(&self, claim: Claim) -> Gap {
        let row = self.data.claim.iter().find(|row| row.canonical == claim);
        match row {
            // Every token has a subject.
            None if claim == Claim::Subject => Gap::Never,
            None => Gap::Unknown,
            Some(row) if !row.blank_is_absent && self.data.required.contains(&row.native) => Gap::Never,
            Some(row) => match row.none {
                None => Gap::Unknown,
                Some(absence) => {
                    Gap::None { outside_pull_requests: absence == Absence::OutsidePullRequests, unless: row.unless }
                }
            },
        }
    }
    /// Events that may concern a pull request.
    pub(crate) fn pull_request_events(&self) -> &[String] {
        &self.data.pull_request_events
    }
    /// What stands before the number of a pull request in a full ref.
    pub(crate) fn pull_request_prefix(&self) -> Option<&str> {
        self.data.reference.as_ref()?.pull_request_prefix.as_deref()
    }
    /// Whether `branch`, `tag` and `pull_request` derive from `ref`.
    pub(crate) fn has_refs(&self) -> bool {
        self.data.reference.is_some()
    }
    /// Refs with this beginning may have this type besides what their beginning says.
    pub(crate) fn odd_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let form = self.data.reference.as_ref();
        form.into_iter().flat_map(|form| &form.odd_pairs).map(|odd| (odd.prefix.as_str(), odd.kind.as_str()))
    }
    /// Repository, file and ref of each workflow that tokens name, which come together; and whether the repository is
    /// always the job's own.
    pub(crate) fn workflows(&self) -> impl Iterator<Item = ([Claim; 3], bool)> {
        self.data.workflow.iter().map(|form| {
            let [repository, file, reference, _] = form.canonical.parts();
            ([repository, file, reference], form.own_repository)
        })
    }
    /// The name of the syntax of a claim's ids (`decimal`, …).
    pub(crate) fn id_syntax(&self, claim: Claim) -> &'static str {
        let row = self.data.claim.iter().find(|row| row.canonical == claim);
        let syntax = row.and_then(|row| row.syntax).unwrap_or(self.data.ids.syntax);
        if claim == Claim::PullRequest { IdSyntax::Decimal.name() } else { syntax.name() }
    }
    /// What a `sub` that names the repository begins with.
    pub(crate) fn subject_prefix(&self) -> Option<&str> {
        self.data.subject.as_ref().map(|form| form.prefix.as_str())
    }
    /// Everything that `profile show` shows.
    pub fn table(&self) -> ProfileTable<'_> {
        let data = &self.data;
        let canonical = |claims: &[Claim]| claims.iter().map(|claim| claim.name()).collect();
        ProfileTable {
            name: &self.name,
            title: &data.title,
            urls: data.url.iter().map(|url| (url.form.as_str(), tenancy_name(url.tenancy))).collect(),
            claims: self.rows(),
            id_syntax: data.ids.syntax.name(),
            pins: canonical(&data.pins),
            author_controlled: canonical(&data.author_controlled),
            default_events: &data.default_events,
            pull_request_events: &data.pull_request_events,
            algorithms: &data.algorithms,
            single_use: match data.single_use {
                SingleUseRule::Jti => "jti",
                SingleUseRule::SignedPart => "signed_part",
                SingleUseRule::Reusable => "reusable",
            },
            max_lifetime_seconds: data.max_lifetime_seconds,
            requires_nbf: data.requires_nbf,
            can_mint_again: data.can_mint_again,
            folds_names: data.folds_names,
            quirks: &data.quirks,
        }
    }

    fn natives(&self) -> Vec<(&str, Claim)> {
        let data = &self.data;
        let mut natives = vec![("sub", Claim::Subject)];
        natives.extend(data.claim.iter().map(|row| (row.native.as_str(), row.canonical)));
        if let Some(form) = &data.reference {
            natives.push((&form.native, Claim::Ref));
            natives.extend(form.kind.as_deref().map(|native| (native, Claim::RefType)));
            natives.extend(form.path.as_deref().map(|native| (native, Claim::Ref)));
        }
        for form in &data.workflow {
            let [_, file, _, sha] = form.canonical.parts();
            natives.push((&form.native, file));
            natives.extend(form.sha.as_deref().map(|native| (native, sha)));
        }
        natives
    }

    fn rows(&self) -> Vec<ClaimRow<'_>> {
        let row = |native, claim: Claim| ClaimRow {
            native,
            canonical: claim.name(),
            kind: claim.kind().name(),
            required: native == "sub" || self.data.required.iter().any(|name| name == native),
            absent: self.absence(claim),
        };
        let mut rows: Vec<_> = self.natives().into_iter().map(|(native, claim)| row(native, claim)).collect();
        let derived = |from: &'static str, claims: &[Claim]| -> Vec<ClaimRow<'_>> {
            claims.iter().filter(|claim| self.provides(**claim)).map(|claim| row(from, *claim)).collect()
        };
        rows.extend(derived("(ref)", &[Claim::Branch, Claim::Tag, Claim::PullRequest]));
        rows.extend(derived("(workflow)", &[Claim::WorkflowRepository, Claim::WorkflowRef]));
        rows.extend(derived("(job_workflow)", &[Claim::JobWorkflowRepository, Claim::JobWorkflowRef]));
        rows
    }

    fn absence(&self, claim: Claim) -> Cow<'static, str> {
        let row = self.data.claim.iter().find(|row| row.canonical == claim);
        if let Some(other) = row.and_then(|row| row.unless) {
            return format!("none without `{}`", other.name()).into();
        }
        Cow::Borrowed(match row.and_then(|row| row.none) {
            Some(Absence::WhenAbsent) => "none",
            Some(Absence::OutsidePullRequests) => "none outside pull requests",
            None if matches!(claim, Claim::Branch | Claim::Tag) => "none where `ref` is known",
            None if claim == Claim::PullRequest => "none outside pull requests",
            None => "unknown",
        })
    }
}

fn tenancy_name(tenancy: Tenancy) -> &'static str {
    match tenancy {
        Tenancy::Multi => "multi",
        Tenancy::Single => "single",
    }
}

/// A profile to look at: plain rows, as text and as JSON alike.
#[derive(Clone, Debug, Serialize)]
pub struct ProfileTable<'p> {
    pub name: &'p str,
    pub title: &'p str,
    /// (form, `multi` or `single`); the first that fits decides.
    pub urls: Vec<(&'p str, &'static str)>,
    pub claims: Vec<ClaimRow<'p>>,
    pub id_syntax: &'static str,
    pub pins: Vec<&'static str>,
    pub author_controlled: Vec<&'static str>,
    pub default_events: &'p [String],
    pub pull_request_events: &'p [String],
    pub algorithms: &'p [String],
    pub single_use: &'static str,
    pub max_lifetime_seconds: i64,
    pub requires_nbf: bool,
    pub can_mint_again: bool,
    pub folds_names: bool,
    pub quirks: &'p [String],
}

/// One native claim and what it becomes; a derived claim names its source in parentheses.
#[derive(Clone, Debug, Serialize)]
pub struct ClaimRow<'p> {
    pub native: &'p str,
    pub canonical: &'static str,
    pub kind: &'static str,
    pub required: bool,
    /// What the claim is when the token does not carry it.
    pub absent: Cow<'static, str>,
}
