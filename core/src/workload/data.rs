//! The format of a profile file. A new CI system is a new file in this format, not new code; what the format cannot
//! say is added here once, as data that every profile may use.

use super::{Claim, valid};
use serde::Deserialize;
use std::{fmt, ops::Range};

/// How single use of a token is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SingleUseRule {
    /// By `jti`; its absence refuses.
    Jti,
    /// By SHA-256 over the decoded header and payload.
    SignedPart,
    /// Not at all: actor tokens only.
    Reusable,
}

impl SingleUseRule {
    /// As profiles write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jti => "jti",
            Self::SignedPart => "signed_part",
            Self::Reusable => "reusable",
        }
    }
}

/// Whether strangers can get tokens of the same issuer URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tenancy {
    Multi,
    Single,
}

/// A whole profile file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Data {
    pub name: String,
    pub title: String,
    /// Where the CI system's maker describes its tokens.
    pub documentation: Vec<String>,
    pub algorithms: Vec<String>,
    /// Usual `exp - iat`.
    pub lifetime_seconds: u32,
    /// Where keys stand besides the issuer's own origin: scheme, host, port.
    pub jwks_origin: Option<String>,
    pub max_lifetime_seconds: i64,
    /// Of subject tokens.
    pub single_use: SingleUseRule,
    /// Of actor tokens, where they differ.
    pub actor_single_use: Option<SingleUseRule>,
    pub requires_nbf: bool,
    pub can_mint_again: bool,
    pub folds_names: bool,
    /// `aud`, where a job cannot choose it: no broker's URL, so such a token is never ours.
    pub fixed_audience: Option<String>,
    /// The narrowest first.
    pub pins: Vec<Claim>,
    /// Native names, or pointers.
    pub required: Vec<String>,
    /// Whether `event_name` tells a pull request's job from a push's.
    pub tells_events: bool,
    #[serde(default)]
    pub default_events: Vec<String>,
    /// Events that may concern a pull request; outside of them a job has none.
    #[serde(default)]
    pub pull_request_events: Vec<String>,
    /// Events besides those that somebody without rights in the repository can cause.
    #[serde(default)]
    pub outsider_events: Vec<String>,
    /// How the CI system marks initiators that are no persons: bots, coding agents, tokens of projects.
    #[serde(default)]
    pub automation: Vec<Mark>,
    pub author_controlled: Vec<Claim>,
    #[serde(default)]
    pub quirks: Vec<String>,
    pub ids: Ids,
    pub url: Vec<UrlForm>,
    pub subject: Option<SubjectForm>,
    #[serde(rename = "ref")]
    pub reference: Option<RefForm>,
    #[serde(default)]
    pub workflow: Vec<WorkflowForm>,
    #[serde(default)]
    pub agree: Vec<Agreement>,
    #[serde(default)]
    pub event: Vec<EventRule>,
    #[serde(default)]
    pub claim: Vec<Row>,
    /// Claims without a canonical name.
    #[serde(default)]
    pub raw: Vec<RawRow>,
}

/// `event_name` concluded from other claims, for an issuer that sends none. The first rule that holds decides; where
/// none does, the event is unknown.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventRule {
    pub name: String,
    /// All of them.
    pub when: Vec<When>,
}

/// A native claim is there, and has one of these values if any are named.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct When {
    pub native: String,
    /// As text; a boolean is `true` or `false`.
    #[serde(default)]
    pub is: Vec<String>,
}

/// A claim that is no canonical one: its type, and who decides its value.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRow {
    /// A name, a pointer, or the beginning of names before a `*`.
    pub native: String,
    #[serde(rename = "type")]
    pub kind: RawKind,
    pub set_by: SetBy,
}

/// What a claim without a canonical name holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RawKind {
    Text,
    Boolean,
    /// A JSON list of texts.
    List,
    /// A list in one text, joined by commas: never to be searched as text (`eu` is no part of `neu`).
    CommaList,
}

/// Who decides what a claim says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetBy {
    /// The CI system.
    Issuer,
    /// Administrators of the tenant.
    Administrators,
    /// Whoever may change the job's definition.
    Author,
}

impl RawKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Boolean => "boolean",
            Self::List => "list",
            Self::CommaList => "comma_list",
        }
    }
}

impl SetBy {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::Administrators => "administrators",
            Self::Author => "author",
        }
    }
}

/// What the issuer's ids look like.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ids {
    pub syntax: IdSyntax,
    /// Whether a token may carry an id as a JSON integer too; it becomes its decimal text.
    #[serde(default)]
    pub integers: bool,
}

/// One syntax of ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum IdSyntax {
    /// Up to 2^64 - 1, without leading zeros or sign.
    Decimal,
    /// Lower-case hexadecimal, 8-4-4-4-12.
    Uuid,
    /// The same in braces.
    BracedUuid,
    /// A word, a hyphen or underscore, then letters and digits (`ws-6fHMCom98SDXSQUv`).
    Prefixed,
    /// 24 lower-case hexadecimal digits (a MongoDB ObjectId).
    Hex24,
    /// Letters, digits, `-`, `_` and `.`: where the issuer promises no more.
    Word,
}

impl IdSyntax {
    pub(super) fn admits(self, id: &str) -> bool {
        match self {
            Self::Decimal => {
                let digits = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
                digits && (id == "0" || !id.starts_with('0')) && id.parse::<u64>().is_ok()
            }
            Self::Uuid => is_uuid(id),
            Self::BracedUuid => id.strip_prefix('{').and_then(|id| id.strip_suffix('}')).is_some_and(is_uuid),
            Self::Prefixed => id.split_once(['-', '_']).is_some_and(|(word, rest)| {
                let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
                id.len() <= 64 && plain(word) && plain(rest)
            }),
            Self::Hex24 => id.len() == 24 && id.bytes().all(is_hex),
            Self::Word => {
                (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            }
        }
    }
    /// An id of this syntax that a number alone decides.
    pub(super) fn sample(self, number: u64) -> String {
        let uuid = || format!("{:08x}-0000-4000-8000-{:012x}", number >> 32, number & 0xffff_ffff);
        match self {
            Self::Decimal => number.to_string(),
            Self::Uuid => uuid(),
            Self::BracedUuid => format!("{{{}}}", uuid()),
            Self::Prefixed => format!("id-{number}"),
            Self::Hex24 => format!("{number:024x}"),
            Self::Word => format!("id{number}"),
        }
    }
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Decimal => "decimal",
            Self::Uuid => "uuid",
            Self::BracedUuid => "braced_uuid",
            Self::Prefixed => "prefixed",
            Self::Hex24 => "hex24",
            Self::Word => "word",
        }
    }
}

fn is_uuid(text: &str) -> bool {
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.split('-').all(|group| group.bytes().all(is_hex))
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// `https://{host}/_services/token` and whether strangers may share such a URL.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UrlForm {
    pub form: String,
    pub tenancy: Tenancy,
}

/// What `sub` says of other claims, where it has a form that says it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubjectForm {
    /// A `sub` that begins so names the repository, up to the next `:`.
    pub prefix: Option<String>,
    pub ids: Option<SubjectIds>,
    /// `organization:{repository_owner}:pipeline:{name}:*`: canonical claims in braces, `{name}` for the last segment
    /// of `repository`, `*` for what is not compared. One that begins as the template does, up to its first brace or
    /// star, must agree with it.
    pub template: Option<String>,
    /// Every `sub` has the template's form; another one refuses.
    #[serde(default)]
    pub always: bool,
}

/// Where a `sub` may hold ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SubjectIds {
    /// `OWNER@OWNER_ID/REPO@REPO_ID`.
    AfterAt,
    /// `OWNER-OWNER_ID/REPO-REPO_ID`: compared with the id claims, because names may hold hyphens and digits too.
    AfterHyphen,
}

/// How the issuer says what was built.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RefForm {
    pub native: String,
    pub form: RefShape,
    /// `branch` or `tag`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The full form beside a short one.
    pub path: Option<String>,
    /// The claim that names a tag beside one that names a branch; where it is there, the tag is what was built.
    pub tag: Option<String>,
    /// Before the number of a pull request, in a full ref.
    pub pull_request_prefix: Option<String>,
    /// What may follow the number.
    #[serde(default = "pull_request_ends")]
    pub pull_request_ends: Vec<String>,
    #[serde(default)]
    pub odd_pairs: Vec<OddPair>,
}

fn pull_request_ends() -> Vec<String> {
    vec!["/merge".into(), "/head".into()]
}

/// `refs/heads/main` or `main`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RefShape {
    Full,
    /// Its `type` says of what kind it is.
    Short,
    /// Always a branch.
    Branch,
}

/// A ref under `prefix` may go with this type.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OddPair {
    pub prefix: String,
    #[serde(rename = "type")]
    pub kind: String,
}

/// A claim that names a workflow file, and the one that fixes its commit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkflowForm {
    pub canonical: WorkflowClaim,
    pub native: String,
    pub sha: Option<String>,
    pub form: WorkflowShape,
    /// Whether it always lies in the job's own repository.
    #[serde(default)]
    pub own_repository: bool,
}

/// The caller's workflow or the called one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WorkflowClaim {
    Workflow,
    JobWorkflow,
}

impl WorkflowClaim {
    /// Repository, file, ref, sha.
    pub(super) fn parts(self) -> [Claim; 4] {
        match self {
            Self::Workflow => [Claim::WorkflowRepository, Claim::WorkflowFile, Claim::WorkflowRef, Claim::WorkflowSha],
            Self::JobWorkflow => {
                [Claim::JobWorkflowRepository, Claim::JobWorkflowFile, Claim::JobWorkflowRef, Claim::JobWorkflowSha]
            }
        }
    }
}

/// How a workflow claim is put together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub(super) enum WorkflowShape {
    #[serde(rename = "repository/file@ref")]
    RepositoryFile,
    #[serde(rename = "host/repository//file@ref")]
    HostRepositoryFile,
}

/// Two native claims that must be equal where both are sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Agreement {
    pub left: String,
    pub right: String,
    /// What of `left` is compared.
    #[serde(default)]
    pub part: Part,
}

/// What of a claim is meant.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Part {
    #[default]
    Whole,
    /// After the last `/`: the tenant in an issuer's URL.
    LastSegment,
}

impl Part {
    pub(super) fn of(self, text: &str) -> &str {
        match self {
            Self::Whole => text,
            Self::LastSegment => text.rsplit('/').next().unwrap_or(text),
        }
    }
}

/// A native claim (or a JSON pointer to one, if it begins with `/`) and the canonical claim that it becomes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    /// Or, with braces, several put together: `{organization_slug}/{pipeline_slug}`. Then all of them are there or
    /// the claim is absent, and none of them holds a `/`.
    pub native: String,
    pub canonical: Claim,
    #[serde(default)]
    pub part: Part,
    /// The syntax of this id, where it differs from the issuer's others.
    pub syntax: Option<IdSyntax>,
    /// Whether an empty string or `null` means that the claim is absent.
    #[serde(default)]
    pub blank_is_absent: bool,
    /// When absence proves that the job has no such claim; otherwise an absent claim is unknown.
    pub none: Option<Absence>,
    /// No such proof where this other claim is present: an issuer that sends both or neither sent one.
    pub unless: Option<Claim>,
}

/// When absence is proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Absence {
    WhenAbsent,
    OutsidePullRequests,
}

/// A fault of a profile file: what, and where in its text.
pub(super) struct Fault {
    pub message: String,
    pub bytes: Range<usize>,
}

/// A mark in an initiator's name.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// The whole name fits a glob.
    Glob(String),
    /// The name ends with this.
    Ends(String),
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mark::Glob(glob) => f.write_str(glob),
            Mark::Ends(end) => write!(f, "…{end}"),
        }
    }
}

impl Data {
    /// Reads and validates one file.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let data: Self = toml::from_str(text)
            .map_err(|error| Fault { message: error.message().to_owned(), bytes: error.span().unwrap_or(0..0) })?;
        match valid::fault(&data) {
            None => Ok(data),
            Some((message, key)) => Err(Fault { message, bytes: valid::place_of(text, &key) }),
        }
    }

    /// The syntax of a claim's ids.
    pub(super) fn id_syntax(&self, claim: Claim) -> IdSyntax {
        if claim == Claim::PullRequest {
            // A number counted on the forge's side, whatever its ids look like.
            return IdSyntax::Decimal;
        }
        let row = self.claim.iter().find(|row| row.canonical == claim);
        row.and_then(|row| row.syntax).unwrap_or(self.ids.syntax)
    }

    /// Canonical claims that tokens can carry, derived ones included.
    pub(super) fn provides(&self, claim: Claim) -> bool {
        let of_ref = self.reference.as_ref().is_some_and(|form| match claim {
            Claim::Ref | Claim::RefType | Claim::Branch | Claim::Tag => true,
            Claim::PullRequest => form.pull_request_prefix.is_some(),
            _ => false,
        });
        let of_workflow = || {
            self.workflow.iter().any(|form| {
                let [.., sha] = form.canonical.parts();
                form.canonical.parts().contains(&claim) && (claim != sha || form.sha.is_some())
            })
        };
        let of_event = || claim == Claim::EventName && !self.event.is_empty();
        let of_row = || self.claim.iter().any(|row| row.canonical == claim);
        claim == Claim::Subject || of_ref || of_workflow() || of_event() || of_row()
    }
}
