//! The format of a profile file. A new CI system is a new file in this format, not new code; what the format cannot
//! say is added here once, as data that every profile may use.

use super::{Claim, Kind};
use serde::Deserialize;
use std::collections::BTreeSet;

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
    pub algorithms: Vec<String>,
    /// Where keys stand besides the issuer's own origin: scheme, host, port.
    pub jwks_origin: Option<String>,
    pub max_lifetime_seconds: i64,
    pub single_use: SingleUseRule,
    pub requires_nbf: bool,
    pub can_mint_again: bool,
    pub folds_names: bool,
    /// The narrowest first.
    pub pins: Vec<Claim>,
    /// Native names.
    pub required: Vec<String>,
    pub default_events: Vec<String>,
    /// Events that may concern a pull request; outside of them a job has none.
    #[serde(default)]
    pub pull_request_events: Vec<String>,
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
    pub claim: Vec<Row>,
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
        }
    }
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Decimal => "decimal",
            Self::Uuid => "uuid",
            Self::BracedUuid => "braced_uuid",
            Self::Prefixed => "prefixed",
        }
    }
}

fn is_uuid(text: &str) -> bool {
    let hex = |group: &str| group.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.split('-').all(hex)
}

/// `https://{host}/_services/token` and whether strangers may share such a URL.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UrlForm {
    pub form: String,
    pub tenancy: Tenancy,
}

/// A `sub` that begins so names the repository, up to the next `:`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubjectForm {
    pub prefix: String,
    pub ids: Option<SubjectIds>,
}

/// Where a `sub` may hold ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SubjectIds {
    /// `OWNER@OWNER_ID/REPO@REPO_ID`.
    AfterAt,
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
    /// Before the number of a pull request, in a full ref.
    pub pull_request_prefix: Option<String>,
    #[serde(default)]
    pub odd_pairs: Vec<OddPair>,
}

/// `refs/heads/main` or `main`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RefShape {
    Full,
    Short,
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
}

/// A native claim (or a JSON pointer to one, if it begins with `/`) and the canonical claim that it becomes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub native: String,
    pub canonical: Claim,
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

impl Data {
    /// Reads and validates one file.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let data: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        data.validate().map(|()| data)
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
        claim == Claim::Subject || of_ref || of_workflow() || self.claim.iter().any(|row| row.canonical == claim)
    }

    fn validate(&self) -> Result<(), String> {
        let mut seen = BTreeSet::from([Claim::Subject]);
        if let Some(row) = self.claim.iter().find(|row| !seen.insert(row.canonical)) {
            return Err(format!("`{}` becomes `{}`, which stands already", row.native, row.canonical.name()));
        }
        if let Some(row) = self.claim.iter().find(|row| row.syntax.is_some() && row.canonical.kind() != Kind::Id) {
            return Err(format!("`{}` has a `syntax`, but `{}` is no id", row.native, row.canonical.name()));
        }
        if let Some(row) = self.claim.iter().find(|row| row.unless.is_some() && row.none.is_none()) {
            return Err(format!("`{}` has an `unless`, but no `none`", row.native));
        }
        let not_provided = |claims: &[Claim]| claims.iter().copied().find(|claim| !self.provides(*claim));
        if let Some(claim) = not_provided(&self.pins).or_else(|| not_provided(&self.author_controlled)) {
            return Err(format!("names `{}`, which no claim of the issuer becomes", claim.name()));
        }
        if self.pins.iter().any(|pin| pin.kind() != Kind::Id && *pin != Claim::Subject) {
            return Err("`pins` are ids, or `subject`".into());
        }
        if self.pins.is_empty() || self.url.is_empty() || self.algorithms.is_empty() {
            return Err("`pins`, `algorithms` and `[[url]]` must not be empty".into());
        }
        let is_host = |host: &str| {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".:-".contains(&byte);
            !host.is_empty() && host.bytes().all(plain)
        };
        if self.jwks_origin.as_ref().is_some_and(|url| !url.strip_prefix("https://").is_some_and(is_host)) {
            return Err("`jwks_origin` must be `https://`, a host and nothing more".into());
        }
        if self.max_lifetime_seconds <= 0 {
            return Err("`max_lifetime_seconds` must be positive".into());
        }
        match &self.reference {
            Some(form) if form.form == RefShape::Short && form.kind.is_none() => {
                Err("a short `ref` needs its `type`".into())
            }
            Some(form) if form.form == RefShape::Full && form.path.is_some() => {
                Err("a full `ref` has no `path`".into())
            }
            _ => Ok(()),
        }
    }
}
