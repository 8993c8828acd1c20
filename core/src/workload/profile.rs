//! An issuer profile as data: which claims an issuer sends, their types, and what may be concluded from them.

use super::{
    Claim, RawKind, SetBy, SingleUseRule, Tenancy,
    data::{Absence, Data, Fault, IdSyntax, Mark, Part},
    template, url_form,
};
use serde::Serialize;
use std::{
    borrow::Cow,
    ops::Range,
    sync::{Arc, LazyLock},
};

/// One CI system.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: String,
    pub(super) data: Data,
    url_forms: Vec<String>,
    /// Class `outsider`: derived.
    outsider_events: Vec<String>,
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
    /// Where in its text.
    pub bytes: Range<usize>,
}

/// All known profiles. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Profiles {
    pub(crate) all: Arc<[Profile]>,
}

macro_rules! builtin {
    ($($name:literal)*) => {
        /// In name order: name and text.
        const BUILTIN: &[(&str, &str)] = &[$(($name, include_str!(concat!("profiles/", $name, ".toml"))),)*];
    };
}

builtin! {
    "aws" "azure-devops" "bitbucket-pipelines" "buddy" "buildkite" "circleci" "codefresh" "env0" "forgejo" "generic"
    "github-actions" "gitlab" "google" "hcp-terraform" "jenkins" "kubernetes" "semaphore" "spacelift"
}

impl Profiles {
    /// The profiles compiled in (`profiles/*.toml`).
    pub fn builtin() -> Self {
        static READ: LazyLock<Profiles> = LazyLock::new(|| {
            let read =
                |(name, text): &(&str, &str)| Profile::parse(name, text).expect("compiled-in profiles are tested");
            Profiles { all: BUILTIN.iter().map(read).collect() }
        });
        READ.clone()
    }
    /// The names of the profiles compiled in, in order.
    pub fn builtin_names() -> impl ExactSizeIterator<Item = &'static str> {
        BUILTIN.iter().map(|(name, _)| *name)
    }
    /// These and an operator's own, in name order. Whether names differ is the caller's to see to: the first stands.
    #[must_use]
    pub fn with(&self, own: Vec<Profile>) -> Self {
        if own.is_empty() {
            return self.clone();
        }
        let mut all: Vec<Profile> = self.all.iter().cloned().chain(own).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.dedup_by(|later, first| later.name == first.name);
        Self { all: all.into() }
    }
    /// Whether any profile knows this very URL as one that strangers share, whatever profile is used for it.
    pub fn is_shared(&self, url: &str) -> bool {
        self.all
            .iter()
            .flat_map(|profile| &profile.data.url)
            .any(|form| form.form == url && form.tenancy == Tenancy::Multi)
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
        let data =
            Data::parse(text).map_err(|Fault { message, bytes }| ProfileError { file: file.into(), message, bytes })?;
        let url_forms = data.url.iter().map(|url| url.form.clone()).collect();
        let mut outsider_events = data.pull_request_events.clone();
        outsider_events.extend(data.outsider_events.iter().cloned());
        Ok(Self { name: data.name.clone(), data, url_forms, outsider_events })
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
    /// The rule for actor tokens, which some issuers mean to be used again.
    pub fn actor_single_use(&self) -> SingleUseRule {
        self.data.actor_single_use.unwrap_or(self.data.single_use)
    }
    /// The `aud` of every token, where a job cannot choose it. No broker accepts such a token: other relying parties
    /// receive it too.
    pub fn fixed_audience(&self) -> Option<&str> {
        self.data.fixed_audience.as_deref()
    }
    /// Whether `event_name` tells a pull request's job from a push's. Where it does not, production needs more than a
    /// branch's name.
    pub fn tells_events(&self) -> bool {
        self.data.tells_events
    }
    /// Whether the token of a job says, immutably, whose it is. Where it does not, strangers are those whom no mapping
    /// pins.
    pub fn names_owner(&self) -> bool {
        self.data.pins.contains(&Claim::RepositoryOwnerId)
    }
    /// Whether the owner's id stands at the end of the issuer's URL.
    pub fn owner_in_url(&self) -> bool {
        let row = self.data.claim.iter().any(|row| row.native == "iss" && row.part == Part::LastSegment);
        row || self.data.agree.iter().any(|pair| pair.left == "iss" && pair.part == Part::LastSegment)
    }
    /// Usual `exp - iat`, in seconds.
    pub fn lifetime_seconds(&self) -> u32 {
        self.data.lifetime_seconds
    }
    /// What a claim without a canonical name holds, and who decides it; `None` where the profile does not know.
    pub fn raw_claim(&self, native: &str) -> Option<(RawKind, SetBy)> {
        let is = |known: &str| match known.strip_suffix('*') {
            Some(beginning) => native.starts_with(beginning),
            None => native == known,
        };
        self.data.raw.iter().find(|row| is(&row.native)).map(|row| (row.kind, row.set_by))
    }
    /// The names of those that it knows; one that stands for several, with its `*`, is none of them.
    pub fn raw_names(&self) -> impl Iterator<Item = &str> {
        self.data.raw.iter().map(|row| row.native.as_str()).filter(|name| !name.ends_with('*'))
    }
    /// Longest `exp - iat` accepted, in seconds.
    pub fn max_lifetime_seconds(&self) -> i64 {
        self.data.max_lifetime_seconds
    }
    /// JWS algorithms that the issuer's keys may have (`RS256`, …).
    pub fn algorithms(&self) -> &[String] {
        &self.data.algorithms
    }
    /// The one origin (scheme, host, port) besides its own at which the issuer's keys may stand.
    pub fn jwks_origin(&self) -> Option<&str> {
        self.data.jwks_origin.as_deref()
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
    /// Whether `id` has the syntax of this claim's ids, which may differ from the issuer's others.
    pub fn id_fits(&self, claim: Claim, id: &str) -> bool {
        self.data.id_syntax(claim).admits(id)
    }
    /// An id of this claim's syntax, made from a number: for issuers that are played.
    pub fn sample_id(&self, claim: Claim, number: u64) -> String {
        self.data.id_syntax(claim).sample(number)
    }
    /// Events that may concern a pull request.
    pub fn pull_request_events(&self) -> &[String] {
        &self.data.pull_request_events
    }
    /// The class `automation` of initiators: how the CI system marks what is no person. Empty where it marks none.
    pub fn automation(&self) -> &[Mark] {
        &self.data.automation
    }
    /// Events that somebody without rights in the repository can cause: those of pull requests, issues, forks, ….
    pub fn outsider_events(&self) -> &[String] {
        &self.outsider_events
    }
    /// Canonical claims that the job's author controls.
    pub fn author_controlled(&self) -> &[Claim] {
        &self.data.author_controlled
    }
    /// Whether it knows any claim whose value the job's author chooses.
    pub fn author_sets_claims(&self) -> bool {
        !self.data.author_controlled.is_empty() || self.data.raw.iter().any(|row| row.set_by == SetBy::Author)
    }
    /// Canonical claims that tokens of this issuer can carry at all.
    pub fn provides(&self, claim: Claim) -> bool {
        self.data.provides(claim)
    }
    /// The canonical claim that a native claim name becomes (`project_path` → `repository`), for the edit in
    /// diagnostics about native names in mappings. A claim that names a workflow becomes several parts; for it this
    /// is the file.
    pub fn canonical_of(&self, native: &str) -> Option<Claim> {
        let parts =
            self.data.claim.iter().flat_map(|row| {
                template::natives(&row.native).into_iter().flatten().map(|native| (native, row.canonical))
            });
        self.natives().into_iter().chain(parts).find(|(name, _)| *name == native).map(|(_, claim)| claim)
    }
    /// A canonical claim that comes from inside of this object: from a pointer that goes on from here.
    pub(crate) fn canonical_inside(&self, native: &str) -> Option<Claim> {
        let pointer = match native.strip_prefix('/') {
            Some(_) => native.to_owned(),
            None => format!("/{}", native.replace('~', "~0").replace('/', "~1")),
        };
        let inside = |name: &str| name.strip_prefix(&*pointer).is_some_and(|rest| rest.starts_with('/'));
        self.natives().into_iter().find(|(name, _)| inside(name)).map(|(_, claim)| claim)
    }
    /// Whether every token carries the claim of this name, or all that are put together to this one.
    fn requires_all_of(&self, native: &str) -> bool {
        let parts = template::natives(native).unwrap_or_default();
        let required = |name: &str| self.data.required.iter().any(|required| required == name);
        required(native) || (!parts.is_empty() && parts.iter().all(|part| required(part)))
    }
    /// What a claim is in a job whose token does not carry it. Of claims that derive from others this says nothing.
    pub(crate) fn gap(&self, claim: Claim) -> Gap {
        let row = self.data.claim.iter().find(|row| row.canonical == claim);
        match row {
            // Every token has a subject.
            None if claim == Claim::Subject => Gap::Never,
            None => Gap::Unknown,
            Some(row) if !row.blank_is_absent && self.requires_all_of(&row.native) => Gap::Never,
            Some(row) => match row.none {
                None => Gap::Unknown,
                Some(absence) => {
                    Gap::None { outside_pull_requests: absence == Absence::OutsidePullRequests, unless: row.unless }
                }
            },
        }
    }
    /// What stands before the number of a pull request in a full ref.
    pub(crate) fn pull_request_prefix(&self) -> Option<&str> {
        self.data.reference.as_ref()?.pull_request_prefix.as_deref()
    }
    /// What may follow that number.
    pub(crate) fn pull_request_ends(&self) -> &[String] {
        self.data.reference.as_ref().map_or(&[], |form| &form.pull_request_ends)
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
        self.data.subject.as_ref()?.prefix.as_deref()
    }
    /// Everything that `profile show` shows.
    pub fn table(&self) -> ProfileTable<'_> {
        let data = &self.data;
        let canonical = |claims: &[Claim]| claims.iter().map(|claim| claim.name()).collect();
        ProfileTable {
            name: &self.name,
            title: &data.title,
            documentation: &data.documentation,
            urls: data.url.iter().map(|url| (url.form.as_str(), tenancy_name(url.tenancy))).collect(),
            claims: self.rows(),
            id_syntax: data.ids.syntax.name(),
            pins: canonical(&data.pins),
            author_controlled: canonical(&data.author_controlled),
            default_events: &data.default_events,
            pull_request_events: &data.pull_request_events,
            outsider_events: &self.outsider_events,
            automation: data.automation.iter().map(Mark::to_string).collect(),
            algorithms: &data.algorithms,
            tells_events: data.tells_events,
            events: data.event.iter().map(|rule| rule.name.as_str()).collect(),
            single_use: data.single_use.name(),
            actor_single_use: self.actor_single_use().name(),
            fixed_audience: data.fixed_audience.as_deref(),
            jwks_origin: data.jwks_origin.as_deref(),
            subject: data.subject.as_ref().and_then(|form| form.template.as_deref().or(form.prefix.as_deref())),
            agree: data.agree.iter().map(|pair| (pair.left.as_str(), pair.right.as_str())).collect(),
            raw: data.raw.iter().map(|row| (row.native.as_str(), row.kind.name(), row.set_by.name())).collect(),
            lifetime_seconds: data.lifetime_seconds,
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
            natives.extend(form.tag.as_deref().map(|native| (native, Claim::Tag)));
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
        rows.extend(self.data.event.iter().take(1).map(|_| row("(event)", Claim::EventName)));
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
    pub documentation: &'p [String],
    /// (form, `multi` or `single`); the first that fits decides.
    pub urls: Vec<(&'p str, &'static str)>,
    pub claims: Vec<ClaimRow<'p>>,
    pub id_syntax: &'static str,
    pub pins: Vec<&'static str>,
    pub author_controlled: Vec<&'static str>,
    pub default_events: &'p [String],
    pub pull_request_events: &'p [String],
    /// Class `outsider`.
    pub outsider_events: &'p [String],
    /// Class `automation` of initiators.
    pub automation: Vec<String>,
    /// Whether `event_name` tells a pull request's job from a push's.
    pub tells_events: bool,
    /// Events that are concluded from other claims, in the order of their rules.
    pub events: Vec<&'p str>,
    pub algorithms: &'p [String],
    pub single_use: &'static str,
    pub actor_single_use: &'static str,
    pub fixed_audience: Option<&'p str>,
    pub jwks_origin: Option<&'p str>,
    /// The form of `sub`, or how it begins.
    pub subject: Option<&'p str>,
    /// Pairs of native claims that must agree.
    pub agree: Vec<(&'p str, &'p str)>,
    /// Claims without a canonical name: type, and who decides them.
    pub raw: Vec<(&'p str, &'static str, &'static str)>,
    pub lifetime_seconds: u32,
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
