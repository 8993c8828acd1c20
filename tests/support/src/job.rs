//! A CI job's claims, as the real issuers send them; every one can be changed or left out.

use crate::{issuer::Issuer, jwt::Key, time::now};
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

/// Ids that the sample mappings list; every other name gets one from its bytes.
const IDS: &[(&str, u64)] = &[
    ("acme", 65),
    ("acme-labs", 9917),
    ("acme/payments-api", 740_000_001),
    ("acme/payments-web", 740_000_002),
    ("search/indexer", 4711),
];

/// Seconds between `iat` and `exp` in GitHub's tokens.
const GITHUB_LIFETIME_SECONDS: i64 = 300;
/// GitLab: the job's timeout.
const GITLAB_LIFETIME_SECONDS: i64 = 3600;

/// Which CI system a fake issuer plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forge {
    GitHub,
    GitLab,
}

#[derive(Clone)]
enum Git {
    Branch(String),
    Tag(String),
    PullRequest(u64),
}

/// A job to be. Defaults to a push to `main` of `acme/payments-api`, without an environment.
#[derive(Clone)]
pub struct Job<'i> {
    issuer: &'i Issuer,
    forge: Forge,
    repository: String,
    repository_id: Option<u64>,
    owner_id: Option<u64>,
    git: Git,
    environment: Option<String>,
    event: Option<String>,
    workflow: String,
    job_workflow: Option<String>,
    initiator: String,
    runner: String,
    protected: bool,
    immutable_subject: bool,
    issued_at: i64,
    changes: Vec<(String, Option<Value>)>,
    header: Vec<(String, Option<Value>)>,
}

/// The id that a repository or owner has in all of the bench when a test does not say one.
pub fn id_of(name: &str) -> u64 {
    let listed = IDS.iter().find(|(listed, _)| *listed == name).map(|(_, id)| *id);
    // FNV-1a, cut to nine digits: stable, and away from the listed ones.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    listed.unwrap_or(800_000_000 + hash % 100_000_000)
}

impl Forge {
    /// Where the key set stands below the issuer's URL.
    pub(crate) fn keys_path(self) -> &'static str {
        match self {
            Self::GitHub => "/.well-known/jwks",
            Self::GitLab => "/oauth/discovery/keys",
        }
    }
}

impl<'i> Job<'i> {
    pub(crate) fn new(issuer: &'i Issuer, forge: Forge) -> Self {
        let workflow = match forge {
            Forge::GitHub => ".github/workflows/deploy.yml",
            Forge::GitLab => ".gitlab-ci.yml",
        };
        Self {
            issuer,
            forge,
            repository: "acme/payments-api".to_owned(),
            repository_id: None,
            owner_id: None,
            git: Git::Branch("main".to_owned()),
            environment: None,
            event: None,
            workflow: workflow.to_owned(),
            job_workflow: None,
            initiator: "octocat".to_owned(),
            runner: if forge == Forge::GitHub { "github-hosted" } else { "gitlab-hosted" }.to_owned(),
            protected: true,
            immutable_subject: false,
            issued_at: now(),
            changes: Vec::new(),
            header: Vec::new(),
        }
    }

    /// `owner/name`; at GitLab a path of any depth.
    pub fn repository(mut self, name: &str) -> Self {
        self.repository = name.to_owned();
        self
    }
    /// The repository's id, where it is not [`id_of`] its name.
    pub fn repository_id(mut self, id: u64) -> Self {
        self.repository_id = Some(id);
        self
    }
    /// The owner's id, where it is not [`id_of`] its name.
    pub fn owner_id(mut self, id: u64) -> Self {
        self.owner_id = Some(id);
        self
    }
    /// Runs on a branch (the default: `main`).
    pub fn branch(mut self, name: &str) -> Self {
        self.git = Git::Branch(name.to_owned());
        self
    }
    /// Runs on a tag.
    pub fn tag(mut self, name: &str) -> Self {
        self.git = Git::Tag(name.to_owned());
        self
    }
    /// Runs for a pull request (merge request) from `feature` into `main`.
    pub fn pull_request(mut self, number: u64) -> Self {
        self.git = Git::PullRequest(number);
        self
    }
    /// Names an environment.
    pub fn environment(mut self, name: &str) -> Self {
        self.environment = Some(name.to_owned());
        self
    }
    /// The event (pipeline source), where it is not `push` or the pull request's own.
    pub fn event(mut self, name: &str) -> Self {
        self.event = Some(name.to_owned());
        self
    }
    /// The called workflow, whole: `acme/ci/.github/workflows/deploy.yml@refs/heads/main`.
    pub fn job_workflow(mut self, reference: &str) -> Self {
        self.job_workflow = Some(reference.to_owned());
        self
    }
    /// `github-hosted`, `self-hosted`, …
    pub fn runner(mut self, kind: &str) -> Self {
        self.runner = kind.to_owned();
        self
    }
    /// On a branch or tag that is not protected.
    pub fn unprotected(mut self) -> Self {
        self.protected = false;
        self
    }
    /// `sub` with ids inside: `repo:acme@65/payments-api@740000001:…`.
    pub fn immutable_subject(mut self) -> Self {
        self.immutable_subject = true;
        self
    }
    /// Moves `iat`, `nbf` and `exp` together, to a token issued at this time.
    pub fn issued_at(mut self, seconds: i64) -> Self {
        self.issued_at = seconds;
        self
    }
    /// Sets a claim by its own name, whatever was there.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.changes.push((name.to_owned(), Some(value.into())));
        self
    }
    /// Leaves a claim out.
    pub fn without(mut self, name: &str) -> Self {
        self.changes.push((name.to_owned(), None));
        self
    }
    /// Sets a member of the token's header.
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.push((name.to_owned(), Some(value.into())));
        self
    }
    /// Leaves a member of the token's header out.
    pub fn without_header(mut self, name: &str) -> Self {
        self.header.push((name.to_owned(), None));
        self
    }

    /// The claims for this audience. Each call is a token of its own: `jti` differs.
    pub fn claims(&self, audience: &str) -> Value {
        let mut claims = match self.forge {
            Forge::GitHub => self.github(),
            Forge::GitLab => self.gitlab(),
        };
        claims.insert("aud".to_owned(), json!(audience));
        claims.insert("iss".to_owned(), json!(self.issuer.url()));
        claims.insert("jti".to_owned(), json!(token_id()));
        apply(&mut claims, &self.changes);
        Value::Object(claims)
    }

    /// The token for this audience, signed by the issuer.
    pub fn token(&self, audience: &str) -> String {
        self.token_by(&self.issuer.key(), audience)
    }

    /// The token for this audience, signed by any key.
    pub fn token_by(&self, key: &Key, audience: &str) -> String {
        let mut header = key.header();
        apply(header.as_object_mut().expect("a header is an object"), &self.header);
        key.sign_with_header(&header, &self.claims(audience))
    }

    fn github(&self) -> Map<String, Value> {
        let (owner, name) = self.repository.split_once('/').expect("a repository is `owner/name`");
        let owner_id = self.owner_id.unwrap_or_else(|| id_of(owner));
        let repository_id = self.repository_id.unwrap_or_else(|| id_of(&self.repository));
        let (reference, kind, event) = match &self.git {
            Git::Branch(branch) => (format!("refs/heads/{branch}"), "branch", "push"),
            Git::Tag(tag) => (format!("refs/tags/{tag}"), "tag", "push"),
            Git::PullRequest(number) => (format!("refs/pull/{number}/merge"), "branch", "pull_request"),
        };
        let event = self.event.as_deref().unwrap_or(event);
        let is_pull_request = matches!(self.git, Git::PullRequest(_));
        let (base, head) = if is_pull_request { ("main", "feature") } else { ("", "") };
        let whose = if self.immutable_subject {
            format!("repo:{owner}@{owner_id}/{name}@{repository_id}")
        } else {
            format!("repo:{owner}/{name}")
        };
        let context = match &self.environment {
            Some(environment) => format!("environment:{}", environment.replace(':', "%3A")),
            None if is_pull_request => "pull_request".to_owned(),
            None => format!("ref:{}", reference.replace(':', "%3A")),
        };
        let workflow_ref = format!("{}/{}@{reference}", self.repository, self.workflow);
        let sha = "8f14e45fceea167a5a36dedd4bea2543aa11bb22";
        let claims = json!({
            "sub": format!("{whose}:{context}"),
            "ref": reference, "ref_type": kind, "ref_protected": self.protected.to_string(), "sha": sha,
            "repository": self.repository, "repository_id": repository_id.to_string(),
            "repository_owner": owner, "repository_owner_id": owner_id.to_string(), "repository_visibility": "private",
            "run_id": "17000000001", "run_number": "42", "run_attempt": "1", "check_run_id": "48000000001",
            "actor": self.initiator, "actor_id": id_of(&self.initiator).to_string(),
            "workflow": "Deploy", "workflow_ref": workflow_ref, "workflow_sha": sha,
            "job_workflow_ref": self.job_workflow.as_deref().unwrap_or(&workflow_ref), "job_workflow_sha": sha,
            "head_ref": head, "base_ref": base, "event_name": event, "runner_environment": self.runner,
            "iat": self.issued_at, "nbf": self.issued_at - 600, "exp": self.issued_at + GITHUB_LIFETIME_SECONDS,
        });
        self.with_environment(claims, json!({ "environment": self.environment }))
    }

    fn gitlab(&self) -> Map<String, Value> {
        let (namespace, _) = self.repository.rsplit_once('/').expect("a project is `group/name`");
        let (reference, kind, source) = match &self.git {
            Git::Branch(branch) => (branch.as_str(), "branch", "push"),
            Git::Tag(tag) => (tag.as_str(), "tag", "push"),
            Git::PullRequest(_) => ("feature", "branch", "merge_request_event"),
        };
        let path = format!("refs/{}/{reference}", if kind == "tag" { "tags" } else { "heads" });
        let host = self.issuer.url().trim_start_matches("http://");
        let sha = "8f14e45fceea167a5a36dedd4bea2543aa11bb22";
        let claims = json!({
            "sub": format!("project_path:{}:ref_type:{kind}:ref:{reference}", self.repository),
            "project_path": self.repository,
            "project_id": self.repository_id.unwrap_or_else(|| id_of(&self.repository)).to_string(),
            "namespace_path": namespace,
            "namespace_id": self.owner_id.unwrap_or_else(|| id_of(namespace)).to_string(),
            "project_visibility": "private",
            "user_id": id_of(&self.initiator).to_string(), "user_login": self.initiator,
            "user_email": format!("{}@example.com", self.initiator), "user_access_level": "maintainer",
            "pipeline_id": "900000001", "pipeline_source": self.event.as_deref().unwrap_or(source),
            "job_id": "5600000001", "ref": reference, "ref_type": kind, "ref_path": path,
            "ref_protected": self.protected.to_string(),
            "runner_id": 12, "runner_environment": self.runner, "sha": sha,
            "ci_config_ref_uri": format!("{host}/{}//{}@{path}", self.repository, self.workflow),
            "ci_config_sha": sha,
            "iat": self.issued_at, "nbf": self.issued_at - 5, "exp": self.issued_at + GITLAB_LIFETIME_SECONDS,
        });
        let protected = self.protected.to_string();
        self.with_environment(claims, json!({ "environment": self.environment, "environment_protected": protected }))
    }

    /// The claims, and these more if the job names an environment.
    fn with_environment(&self, claims: Value, more: Value) -> Map<String, Value> {
        let (Value::Object(mut claims), Value::Object(more)) = (claims, more) else {
            unreachable!("claims are written as objects")
        };
        if self.environment.is_some() {
            claims.extend(more);
        }
        claims
    }
}

fn apply(to: &mut Map<String, Value>, changes: &[(String, Option<Value>)]) {
    for (name, value) in changes {
        match value {
            Some(value) => to.insert(name.clone(), value.clone()),
            None => to.remove(name),
        };
    }
}

/// A `jti` in the form of a UUID, unlike any other of this run or another.
pub(crate) fn token_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).expect("the system has randomness");
    let random = u64::from_be_bytes(random);
    format!("{:08x}-{:04x}-4{:03x}-8000-{:012x}", random >> 32, random >> 16 & 0xffff, random & 0xfff, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::{claims_of, header_of};

    const AUDIENCE: &str = "https://claimbound.example.com";

    #[test]
    fn subjects_have_github_s_shapes() {
        let issuer = Issuer::github();
        let subject = |job: Job<'_>| job.claims(AUDIENCE)["sub"].as_str().unwrap().to_owned();
        assert_eq!(subject(issuer.job()), "repo:acme/payments-api:ref:refs/heads/main");
        assert_eq!(subject(issuer.job().tag("v1").environment("a:b")), "repo:acme/payments-api:environment:a%3Ab");
        assert_eq!(
            subject(issuer.job().pull_request(7).immutable_subject()),
            "repo:acme@65/payments-api@740000001:pull_request"
        );
    }

    #[test]
    fn every_claim_and_header_member_can_be_changed_or_left_out() {
        let issuer = Issuer::github();
        let job = issuer.job().claim("event_name", "schedule").claim("aud", json!(["a", "b"])).without("jti");
        let token = job.header("crit", json!([])).without_header("typ").token(AUDIENCE);
        assert_eq!(claims_of(&token)["event_name"], "schedule");
        assert_eq!(claims_of(&token)["aud"], json!(["a", "b"]));
        assert_eq!(claims_of(&token).get("jti"), None);
        assert_eq!(header_of(&token)["crit"], json!([]));
        assert_eq!(header_of(&token).get("typ"), None);
    }

    #[test]
    fn two_tokens_of_one_job_differ_in_their_id() {
        let issuer = Issuer::gitlab();
        let job = issuer.job().environment("production");
        assert_ne!(job.claims(AUDIENCE)["jti"], job.claims(AUDIENCE)["jti"]);
        assert_eq!(job.claims(AUDIENCE)["environment_protected"], "true");
        assert_eq!(job.claims(AUDIENCE)["namespace_path"], "acme");
    }

    #[test]
    fn ids_are_stable_and_the_listed_ones_are_the_sample_s() {
        assert_eq!(id_of("acme"), 65);
        assert_eq!(id_of("acme/other"), id_of("acme/other"));
        assert_ne!(id_of("acme/other"), id_of("acme/another"));
    }
}
