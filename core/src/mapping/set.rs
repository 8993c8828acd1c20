//! The compiled folder: what `decide` reads.

use super::{
    actor::ActorRule,
    ceremony::{CeremonyFloor, CeremonyRule},
    exception::{Exception, Exempt},
    index::Index,
};
use crate::{
    claims::Value,
    diag::Span,
    lang::pattern::Lang,
    time::{Seconds, UnixSeconds},
    workload::{Claim, ClaimKey, RawClaim, Workload},
};
use foldhash::fast::FixedState;
use smallvec::SmallVec;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    ops::Deref,
    sync::Arc,
};

/// Numbers never leave the process: they change with every load.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MappingId(pub u32);
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RoleId(pub u32);
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct IssuerId(pub u16);

/// An `[issuer.NAME]` of policy.toml.
#[derive(Clone, Debug)]
pub struct Issuer {
    pub name: Arc<str>,
    /// Name of its profile.
    pub profile: String,
    /// The exact `iss`.
    pub url: String,
    pub multi_tenant: bool,
    /// Owner name → immutable id. Jobs of other owners are strangers on multi-tenant issuers.
    pub owners: BTreeMap<String, String>,
    /// Where tokens hold no immutable id of an owner: the claim that tells our jobs from strangers', by the values that
    /// mappings pin.
    pub pin: Option<Claim>,
    /// Those values, on an issuer that strangers share. Derived by `finish`.
    pub(crate) pinned: BTreeSet<String>,
    pub folds_names: bool,
    /// `on_rename = "warn"`: where one repository is pinned by name and id, its id is enough.
    pub grants_renamed: bool,
    /// `trust_act`: its tokens may say by whom the job is acted for already.
    pub trusts_act: bool,
    pub span: Span,
}

impl Issuer {
    /// The id that `owners` lists for an owner's name.
    pub fn id_of_owner(&self, name: &str) -> Option<&str> {
        let same = |other: &str| if self.folds_names { other.eq_ignore_ascii_case(name) } else { other == name };
        self.owners.iter().find(|(other, _)| same(other)).map(|(_, id)| id.as_str())
    }
    /// Whether the job is of a listed owner or, where tokens name none, is pinned by a mapping. Anybody else's job on
    /// an issuer that strangers share is a stranger's.
    pub fn lists_owner_of(&self, workload: &Workload<'_>) -> bool {
        let of = |claim| workload.text(claim);
        match self.pin {
            _ if !self.multi_tenant => true,
            Some(pin) => of(pin).is_some_and(|value| self.pinned.contains(value)),
            None => of(Claim::RepositoryOwnerId).is_some_and(|owner| self.owners.values().any(|id| id == owner)),
        }
    }
}

/// A `[team.NAME]`.
#[derive(Clone, Debug)]
pub struct Team {
    pub name: String,
    pub path: String,
    pub contact: Option<String>,
    /// Exceptions that its mappings may claim.
    pub may: Vec<Exempt>,
}

/// A role's backend table, `{target.x}` already filled in; each value with its place. The service's catalogue
/// turns it into a minter, with spanned errors.
#[derive(Clone, Debug)]
pub struct Parameters {
    pub values: BTreeMap<String, (toml::Value, Span)>,
    /// The table's header.
    pub span: Span,
}

/// A role after expansion of its targets (`payments-deploy.production`).
#[derive(Clone, Debug)]
pub struct Role {
    pub name: String,
    pub description: String,
    /// The backend it names: `jwt`, or one that the service's configuration has.
    pub backend: String,
    /// The backend's kind: the name of the role's one backend table.
    pub kind: &'static str,
    pub parameters: Parameters,
    pub sensitivity: String,
    pub target: Option<String>,
    pub teams: Vec<String>,
    pub issuers: Vec<String>,
    /// The ceiling after sensitivity and role.
    pub max_duration: Seconds,
    pub span: Span,
}

/// Where a condition was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    Match,
    /// One of `[[mapping.any]]`.
    Any,
    File,
    Require,
    /// The profile's default events, because the mapping names none.
    DefaultEvents,
    Deny,
    /// Proved, never evaluated.
    Never,
    /// `[mapping.actor.match]`: on the outermost actor.
    Actor,
}

impl Origin {
    /// For traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Match => "match",
            Self::Any => "any",
            Self::File => "file.match",
            Self::Require => "require",
            Self::DefaultEvents => "default events",
            Self::Deny => "deny",
            Self::Never => "never",
            Self::Actor => "actor.match",
        }
    }
}

/// Pairs of name and id, sorted by id; shared by conditions that list the same.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct Pairs(Arc<[(String, String)]>);

impl FromIterator<(String, String)> for Pairs {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(pairs: T) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_by(|(_, a), (_, b)| a.cmp(b));
        Self(pairs.into())
    }
}

impl Deref for Pairs {
    type Target = [(String, String)];
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// What a condition asks of its claim.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Test {
    /// Of a list: some element is one of these.
    Text(Lang),
    /// Of a list: it is not empty, and every element is one of these. On raw claims only, which may be lists.
    Every(Lang),
    /// Any of these. On raw claims only.
    Integer(Box<[i64]>),
    Is(bool),
    /// Any of these pairs; an empty name means that only the id is pinned.
    Repository(Pairs),
    /// This one repository by its id: the name is told where it is another, and is no condition. What `finish` makes of a
    /// single pair in mappings and `require` of an issuer that has `on_rename = "warn"`.
    ById(Pairs),
    /// Any of these repository owners, pinned through `owners`.
    Owner(Pairs),
    /// The workflow's repository is the job's own: what a workflow table without `repository` means. On
    /// `workflow.repository` and `job_workflow.repository` only.
    SameRepository,
    Present,
    Absent,
    /// Any of these, of the same claim: `{ any = […] }` of forms that are not one set. None of them is `Any` itself, nor
    /// [`Test::SameRepository`].
    Any(Box<[Test]>),
}

impl Test {
    /// The test, or what it is any of.
    pub fn parts(&self) -> &[Test] {
        match self {
            Self::Any(parts) => parts,
            one => std::slice::from_ref(one),
        }
    }
    /// The pairs of repositories that it lists.
    pub fn repositories(&self) -> Option<&[(String, String)]> {
        match self {
            Self::Repository(pairs) | Self::ById(pairs) => Some(pairs),
            _ => None,
        }
    }
    /// Lets the name go where one pair is all that the test asks for.
    fn let_name_go(&mut self) {
        if let Self::Repository(pairs) = self
            && let [(name, _)] = &**pairs
            && !name.is_empty()
        {
            *self = Self::ById(pairs.clone());
        }
    }
    /// Whether the value of a raw claim meets the test. `None`: it is of another type.
    pub(crate) fn of_raw(&self, raw: &RawClaim, value: &Value<'_>) -> Option<bool> {
        match (self, value) {
            (Self::Present, _) => Some(true),
            (Self::Absent, _) => Some(false),
            (Self::Is(wanted), Value::Boolean(value)) => Some(value == wanted),
            (Self::Integer(wanted), Value::Integer(value)) => Some(wanted.contains(value)),
            (Self::Text(lang), value) => Some(raw.elements(value)?.any(|element| lang.matches(element))),
            (Self::Every(lang), value) => {
                let mut elements = raw.elements(value)?.peekable();
                Some(elements.peek().is_some() && elements.all(|element| lang.matches(element)))
            }
            _ => None,
        }
    }
}

/// One condition.
#[derive(Clone, Debug)]
pub struct Condition {
    pub claim: ClaimKey,
    pub test: Test,
    /// In a `[[deny]]`, `if_unknown = "ignore"`: unknown is false there, where it would be true. Elsewhere without
    /// meaning.
    pub if_unknown_ignore: bool,
    pub origin: Origin,
    pub span: Span,
}

/// A `[[mapping]]`, or one alternative of it: each stands as a mapping of the same name, all of whose conditions must
/// hold. Its roles' `require` conditions stand with the role: see [`MappingSet::conditions_for`].
#[derive(Clone, Debug)]
pub struct Mapping {
    pub name: String,
    /// Which of its `[[mapping.any]]`, from 1, where there are several.
    pub alternative: Option<u32>,
    pub team: Arc<str>,
    pub issuer: IssuerId,
    /// Beside each other with what else a decision reads: hardly any mapping gives more than a few.
    pub roles: SmallVec<[RoleId; 4]>,
    /// Of `[file.match]` and `[mapping.match]`, and the default events.
    pub conditions: Vec<Condition>,
    /// Given when none is asked; the ceiling otherwise.
    pub duration: Option<Seconds>,
    pub max_duration: Option<Seconds>,
    /// How long after the first grant it is renewed, where a job cannot mint a second token; without it, until the
    /// job's token expires.
    pub max_session: Option<Seconds>,
    /// Who may act for its jobs; without it nobody. Its alternatives share one.
    pub actor: Option<Arc<ActorRule>>,
    /// Whose word its grants wait for. Its alternatives share one.
    pub ceremony: Option<Arc<CeremonyRule>>,
    /// Not part of the decision, which is pure: a guard on each grant.
    pub limit: Option<Limit>,
    /// From then on it grants nothing.
    pub expires: Option<UnixSeconds>,
    /// It is evaluated and recorded, and grants nothing.
    pub shadow: bool,
    /// The exceptions that it rests on, each once.
    pub exceptions: Vec<Exception>,
    pub span: Span,
}

impl Mapping {
    /// Whether it has had its time.
    pub fn is_over(&self, now: UnixSeconds) -> bool {
        self.expires.is_some_and(|end| now >= end)
    }
    /// Whether it rests on the exception.
    pub fn rests_on(&self, exempt: Exempt) -> bool {
        self.exceptions.iter().any(|exception| exception.exempt == exempt)
    }
    /// Whether it is the first of its name: for counting and listing.
    pub fn is_first(&self) -> bool {
        self.alternative.is_none_or(|number| number == 1)
    }
}

/// `[mapping.limit]`: grants of one mapping to one repository (issuer and immutable id).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize)]
pub struct Limit {
    /// In one run of the CI system, its attempts together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_run: Option<u32>,
    /// In an hour that begins with the first grant after the last such hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<u32>,
    /// Leases of one token through the STS look-alike; without it one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sts_uses_per_token: Option<u32>,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(self.per_run, "run"), (self.per_hour, "hour"), (self.sts_uses_per_token, "token as STS")];
        let parts = parts.into_iter().filter_map(|(most, per)| Some(format!("{} per {per}", most?)));
        f.write_str(&parts.collect::<Vec<_>>().join(", "))
    }
}

/// A `[[deny]]`.
#[derive(Clone, Debug)]
pub struct Deny {
    pub name: String,
    pub reason: String,
    /// Empty: all.
    pub issuers: Vec<IssuerId>,
    /// The roles it is about, expanded; all of them when it names none.
    pub roles: Vec<RoleId>,
    pub conditions: Vec<Condition>,
    pub span: Span,
}

/// A compiled folder. Made by filling the public fields over `MappingSet::default()` and calling `finish`.
#[derive(Clone, Default, Debug)]
pub struct MappingSet {
    pub version: [u8; 32],
    pub issuers: Vec<Issuer>,
    pub teams: Vec<Team>,
    pub roles: Vec<Role>,
    pub mappings: Vec<Mapping>,
    pub denies: Vec<Deny>,
    /// `policies/*.json` by path, each of them JSON.
    pub policies: BTreeMap<String, Arc<str>>,
    /// `require` conditions per role and issuer.
    pub requires: HashMap<(RoleId, IssuerId), Vec<Condition>, FixedState>,
    /// The `review_by` of files.
    pub reviews: Vec<(UnixSeconds, Span)>,
    /// `[sensitivity.X.ceremony]` by sensitivity.
    pub ceremony_floors: BTreeMap<String, CeremonyFloor>,
    /// Targets that no role has: names, and where they are declared.
    pub unused_targets: Vec<(String, Span)>,
    /// Derived by `finish`.
    pub(crate) index: Index,
}

impl MappingSet {
    /// Builds the indexes; called once, by `load`, when everything else stands. The roles of denies are sorted for the
    /// evaluator's binary searches; names that `on_rename` lets go are no conditions from here on.
    pub(crate) fn finish(mut self) -> Self {
        let renaming: Vec<bool> = self.issuers.iter().map(|issuer| issuer.grants_renamed).collect();
        let renames = |issuer: IssuerId| renaming.get(usize::from(issuer.0)).is_some_and(|renames| *renames);
        let mappings = self.mappings.iter_mut().map(|mapping| (mapping.issuer, &mut mapping.conditions));
        let requires = self.requires.iter_mut().map(|((_, issuer), conditions)| (*issuer, conditions));
        for (_, conditions) in mappings.chain(requires).filter(|(issuer, _)| renames(*issuer)) {
            conditions.iter_mut().for_each(|condition| condition.test.let_name_go());
        }
        for deny in &mut self.denies {
            deny.roles.sort_unstable();
            deny.roles.dedup();
        }
        for at in 0..self.issuers.len() {
            let Issuer { multi_tenant: true, pin: Some(pin), .. } = self.issuers[at] else { continue };
            self.issuers[at].pinned = self.values_of(IssuerId(at as u16), pin).collect();
        }
        self.index = Index::build(&self);
        self
    }
    /// Every value of a claim that mappings of the issuer name, or ask of its jobs that act.
    fn values_of(&self, issuer: IssuerId, claim: Claim) -> impl Iterator<Item = String> {
        let own = self.mappings.iter().filter(move |mapping| mapping.issuer == issuer).flat_map(|m| &m.conditions);
        let actors = self.mappings.iter().filter_map(|mapping| mapping.actor.as_deref());
        let actors = actors.filter(move |rule| rule.issuer == issuer).flat_map(|rule| &rule.conditions);
        let conditions = own.chain(actors);
        conditions.flat_map(move |condition| -> Vec<String> {
            match &condition.test {
                test if claim == Claim::RepositoryId && test.repositories().is_some() => {
                    test.repositories().into_iter().flatten().map(|(_, id)| id.clone()).collect()
                }
                Test::Text(lang) if condition.claim == claim => {
                    lang.members().into_iter().flatten().map(str::to_owned).collect()
                }
                _ => Vec::new(),
            }
        })
    }
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }
    /// All conditions under which a mapping gives a role, in the order of the sources: its own, then the role's
    /// `require`.
    pub fn conditions_for(&self, id: MappingId, role: RoleId) -> impl Iterator<Item = &Condition> + Clone {
        let mapping = self.mapping(id);
        mapping.conditions.iter().chain(self.required(role, mapping.issuer))
    }
    /// The role's `require` for jobs of an issuer.
    pub(crate) fn required(&self, role: RoleId, issuer: IssuerId) -> &[Condition] {
        self.requires.get(&(role, issuer)).map_or(&[], Vec::as_slice)
    }
    pub fn issuer_named(&self, name: &str) -> Option<(IssuerId, &Issuer)> {
        self.issuers
            .iter()
            .enumerate()
            .find(|(_, issuer)| &*issuer.name == name)
            .map(|(at, issuer)| (IssuerId(at as u16), issuer))
    }
    /// The name of the issuer of this URL.
    pub fn issuer_at(&self, url: &str) -> Option<String> {
        self.issuers.iter().find(|issuer| issuer.url == url).map(|issuer| issuer.name.to_string())
    }
    pub fn issuer(&self, id: IssuerId) -> &Issuer {
        &self.issuers[usize::from(id.0)]
    }
    pub fn role(&self, id: RoleId) -> &Role {
        &self.roles[id.0 as usize]
    }
    pub fn role_named(&self, name: &str) -> Option<RoleId> {
        self.index.role(name)
    }
    /// The name of every role, for suggestions.
    pub fn role_names(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(|role| role.name.as_str())
    }
    pub fn mapping(&self, id: MappingId) -> &Mapping {
        &self.mappings[id.0 as usize]
    }
    /// The id that mappings pair with a repository's name; `None` when none does, or several do.
    pub fn id_of_repository(&self, issuer: IssuerId, name: &str) -> Option<&str> {
        let folds = self.issuer(issuer).folds_names;
        let same = |other: &str| if folds { other.eq_ignore_ascii_case(name) } else { other == name };
        let conditions = self.mappings.iter().filter(|mapping| mapping.issuer == issuer).flat_map(|m| &m.conditions);
        let mut ids = conditions
            .flat_map(|condition| condition.test.parts())
            .filter_map(Test::repositories)
            .flatten()
            .filter(|(other, _)| same(other))
            .map(|(_, id)| id.as_str());
        let first = ids.next()?;
        ids.all(|id| id == first).then_some(first)
    }
    pub fn team(&self, name: &str) -> Option<&Team> {
        self.teams.iter().find(|team| team.name == name)
    }
}
