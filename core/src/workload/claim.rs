//! The closed list of canonical claims (design, section 2): their names and types.

use serde::{Deserialize, Deserializer, de::Error as _};

/// What type a canonical claim has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Text, compared by bytes.
    Text,
    /// Text of a name that the forge folds in ASCII case (profile data says whether).
    Name,
    /// An immutable id, as text; an integer in the token becomes its decimal string.
    Id,
    /// A boolean; some issuers send `"true"` and `"false"`.
    Boolean,
}

macro_rules! claims {
    ($($variant:ident $name:literal $kind:ident;)*) => {
        /// A canonical claim. A closed list, so a workload is an array and not a map.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum Claim { $(#[doc = $name] $variant,)* }
        impl Claim {
            /// All of them, in declaration order.
            pub const ALL: &'static [Claim] = &[$(Claim::$variant,)*];
            /// The name in mappings, traces and evidence; parts of a workflow carry a dot (`workflow.file`).
            pub fn name(self) -> &'static str { match self { $(Claim::$variant => $name,)* } }
            /// Its type.
            pub fn kind(self) -> Kind { match self { $(Claim::$variant => Kind::$kind,)* } }
        }
    };
}

claims! {
    Subject "subject" Text;
    Repository "repository" Name;
    RepositoryId "repository_id" Id;
    RepositoryOwner "repository_owner" Name;
    RepositoryOwnerId "repository_owner_id" Id;
    RepositoryVisibility "repository_visibility" Text;
    Ref "ref" Text;
    RefType "ref_type" Text;
    RefProtected "ref_protected" Boolean;
    Branch "branch" Text;
    Tag "tag" Text;
    PullRequest "pull_request" Id;
    BaseRef "base_ref" Text;
    HeadRef "head_ref" Text;
    Environment "environment" Text;
    EnvironmentProtected "environment_protected" Boolean;
    EventName "event_name" Text;
    WorkflowRepository "workflow.repository" Name;
    WorkflowFile "workflow.file" Text;
    WorkflowRef "workflow.ref" Text;
    WorkflowSha "workflow.sha" Text;
    JobWorkflowRepository "job_workflow.repository" Name;
    JobWorkflowFile "job_workflow.file" Text;
    JobWorkflowRef "job_workflow.ref" Text;
    JobWorkflowSha "job_workflow.sha" Text;
    Initiator "initiator" Text;
    InitiatorId "initiator_id" Id;
    RunId "run_id" Id;
    RunAttempt "run_attempt" Id;
    JobId "job_id" Id;
    RunnerEnvironment "runner_environment" Text;
    Sha "sha" Text;
}

impl Kind {
    /// Its name in `profile show`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Name => "name",
            Kind::Id => "id",
            Kind::Boolean => "boolean",
        }
    }
}

impl Claim {
    /// The claim of this canonical name.
    pub fn from_name(name: &str) -> Option<Claim> {
        Self::ALL.iter().copied().find(|claim| claim.name() == name)
    }
    /// About a person: never told to a job (design, section 3, "What a caller learns").
    pub fn is_person(self) -> bool {
        matches!(self, Claim::Initiator | Claim::InitiatorId)
    }
}

impl<'de> Deserialize<'de> for Claim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::from_name(&name).ok_or_else(|| D::Error::custom(format!("`{name}` is no canonical claim")))
    }
}
