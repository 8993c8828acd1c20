//! What is asked of the local issuer: a job, described as its author knows it.

use claimbound_core::workload::{self, Claim, Profiles, WorkloadError};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::LazyLock};

static PROFILES: LazyLock<Profiles> = LazyLock::new(Profiles::builtin);

/// Longest text in a request, in bytes: refs and environment names of the forges stay below.
const TEXT_BYTES_MAX: usize = 255;

/// The built-in issuer profiles that the local issuer plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    GithubActions,
    Gitlab,
    /// Played from the profile alone: the claims that it reads, and those that it demands.
    Other(&'static str),
}

/// A job and the token wanted for it. Everything but the repository has a default.
///
/// Flat, so that it is also a query string: the runner's side hands it to the issuer in its URL.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenRequest {
    /// `owner/name`; a GitLab project path may be deeper. Where an issuer has no repositories, it makes the ids.
    pub repository: String,
    pub repository_id: Option<String>,
    pub owner_id: Option<String>,
    /// `sub`, where the profile does not form it: a service account, a role.
    pub subject: Option<String>,
    /// At most one of `branch` (the default, `main`), `tag` and `pull_request`.
    pub branch: Option<String>,
    pub tag: Option<String>,
    pub pull_request: Option<u64>,
    pub environment: Option<String>,
    /// GitHub's event, GitLab's pipeline source; `push`, or the pull request's own.
    pub event: Option<String>,
    /// The file of the workflow or pipeline in the job's repository.
    pub workflow: Option<String>,
    /// The called workflow, whole: `acme/ci/.github/workflows/deploy.yml@refs/heads/main`. GitHub only.
    pub job_workflow: Option<String>,
    /// Login of who started the run.
    pub initiator: Option<String>,
    /// `github-hosted`, `gitlab-hosted`, `self-hosted`.
    pub runner_environment: Option<String>,
    /// The ref (and GitLab's environment) is not protected.
    pub unprotected: bool,
    /// `sub` with the ids in it. GitHub only.
    pub immutable_subject: bool,
    pub run_id: Option<u64>,
    pub run_attempt: Option<u32>,
    /// `aud`; GitHub's default is the owner's URL, GitLab has none.
    pub audience: Option<String>,
    /// `exp - iat`.
    pub lifetime_seconds: Option<u32>,
}

/// A request for a token that the CI system could not have issued.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("no profile `{0}` is built in: `claimbound profile show` lists them")]
    Profile(String),
    #[error("a job of `{profile}` cannot be like this: {source}")]
    Job { profile: Profile, source: WorkloadError },
    #[error("`{0}` knows a job by its subject: give `subject`")]
    Subject(Profile),
    #[error("`{value}` is no repository of `{profile}`: write `{form}`")]
    Repository { profile: Profile, value: String, form: &'static str },
    #[error("a job runs on one of `branch`, `tag` and `pull_request`, not on several")]
    SeveralRefs,
    #[error("the event `{0}` belongs to a pull request: give its number as `pull_request`")]
    NoPullRequest(String),
    #[error("the event `{0}` does not run on a pull request's ref: leave `pull_request` out")]
    UnfitEvent(String),
    #[error("`{field}` is empty, longer than {TEXT_BYTES_MAX} bytes, or holds control characters")]
    Text { field: &'static str },
    #[error("`{field}` does not exist at `{profile}`: leave it out")]
    NotThere { field: &'static str, profile: Profile },
    #[error(
        "`job_workflow` is `owner/name/FILE@REF`, for example `acme/ci/.github/workflows/deploy.yml@refs/heads/main`"
    )]
    JobWorkflow,
    #[error("a token needs an `audience`: the broker's URL")]
    Audience,
    #[error("a token of `{profile}` lives 1 to {most} seconds")]
    Lifetime { profile: Profile, most: u32 },
}

impl Profile {
    /// Every one of them, in name order.
    pub fn all() -> impl Iterator<Item = Self> {
        Profiles::builtin_names().map(Self::named)
    }

    fn named(name: &'static str) -> Self {
        match name {
            "github-actions" => Self::GithubActions,
            "gitlab" => Self::Gitlab,
            name => Self::Other(name),
        }
    }

    /// The profile's name, which is also its path at the local issuer.
    pub fn name(self) -> &'static str {
        match self {
            Self::GithubActions => "github-actions",
            Self::Gitlab => "gitlab",
            Self::Other(name) => name,
        }
    }

    /// What is known of it.
    pub(super) fn data(self) -> &'static workload::Profile {
        PROFILES.get(self.name()).expect("only built-in profiles are named")
    }

    /// Where the keys stand below the issuer's URL, as at the real one.
    pub fn keys_path(self) -> &'static str {
        match self {
            Self::Gitlab => "/oauth/discovery/keys",
            Self::GithubActions | Self::Other(_) => "/.well-known/jwks",
        }
    }

    /// Usual and longest life of a token, in seconds.
    pub(super) fn lifetime(self) -> (u32, u32) {
        let data = self.data();
        (data.lifetime_seconds(), u32::try_from(data.max_lifetime_seconds()).unwrap_or(u32::MAX))
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = RequestError;
    fn from_str(name: &str) -> Result<Self, RequestError> {
        Self::all().find(|profile| profile.name() == name).ok_or_else(|| RequestError::Profile(name.into()))
    }
}

impl TokenRequest {
    /// A push to `main` of this repository, for this audience.
    pub fn new(repository: &str, audience: &str) -> Self {
        Self { repository: repository.to_owned(), audience: Some(audience.to_owned()), ..Self::default() }
    }

    /// The request as a query string, without the audience: the runner's side adds that.
    pub fn query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let fields = serde_json::to_value(self).unwrap_or_default();
        for (name, value) in fields.as_object().into_iter().flatten() {
            match value {
                serde_json::Value::Null | serde_json::Value::Bool(false) => {}
                _ if name == "audience" => {}
                serde_json::Value::String(text) => drop(query.append_pair(name, text)),
                other => drop(query.append_pair(name, &other.to_string())),
            }
        }
        query.finish()
    }

    /// Refuses what the CI system could not have issued.
    pub(super) fn check(&self, profile: Profile) -> Result<(), RequestError> {
        self.check_repository(profile)?;
        self.check_ref(profile)?;
        let texts = [
            ("branch", &self.branch),
            ("tag", &self.tag),
            ("environment", &self.environment),
            ("event", &self.event),
            ("workflow", &self.workflow),
            ("job_workflow", &self.job_workflow),
            ("initiator", &self.initiator),
            ("runner_environment", &self.runner_environment),
            ("audience", &self.audience),
            ("subject", &self.subject),
        ];
        let fits = |text: &str| (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        if let Some((field, _)) = texts.iter().find(|(_, text)| text.as_deref().is_some_and(|text| !fits(text))) {
            return Err(RequestError::Text { field });
        }
        if let Some((field, _)) = self.absent(profile).into_iter().find(|(_, given)| *given) {
            return Err(RequestError::NotThere { field, profile });
        }
        if profile != Profile::GithubActions {
            self.audience.as_ref().ok_or(RequestError::Audience)?;
        }
        let called = |text: &String| {
            text.split_once('@').is_some_and(|(file, at)| file.split('/').count() > 2 && !at.is_empty())
        };
        if !self.job_workflow.as_ref().is_none_or(called) {
            return Err(RequestError::JobWorkflow);
        }
        let (_, most) = profile.lifetime();
        if !self.lifetime_seconds.is_none_or(|seconds| (1..=most).contains(&seconds)) {
            return Err(RequestError::Lifetime { profile, most });
        }
        Ok(())
    }

    /// Fields of which the issuer's tokens say nothing, and whether they were given.
    fn absent(&self, profile: Profile) -> Vec<(&'static str, bool)> {
        let is_github = profile == Profile::GithubActions;
        let mut absent = vec![("immutable_subject", self.immutable_subject && !is_github)];
        if !is_github {
            absent.push(("job_workflow", self.job_workflow.is_some()));
        }
        let Profile::Other(_) = profile else { return absent };
        let data = profile.data();
        absent.extend(
            [
                ("branch", Claim::Branch, self.branch.is_some()),
                ("tag", Claim::Tag, self.tag.is_some()),
                ("environment", Claim::Environment, self.environment.is_some()),
                ("event", Claim::EventName, self.event.is_some()),
                ("workflow", Claim::WorkflowFile, self.workflow.is_some()),
                ("initiator", Claim::Initiator, self.initiator.is_some()),
                ("runner_environment", Claim::RunnerEnvironment, self.runner_environment.is_some()),
                ("run_id", Claim::RunId, self.run_id.is_some()),
                ("run_attempt", Claim::RunAttempt, self.run_attempt.is_some()),
                ("unprotected", Claim::RefProtected, self.unprotected),
            ]
            .map(|(field, claim, given)| (field, given && !data.provides(claim))),
        );
        let tells_pull_requests = data.provides(Claim::Branch) || !data.pull_request_events().is_empty();
        absent.push(("pull_request", self.pull_request.is_some() && !tells_pull_requests));
        absent
    }

    fn check_repository(&self, profile: Profile) -> Result<(), RequestError> {
        if let Profile::Other(_) = profile
            && !profile.data().provides(Claim::Repository)
        {
            let named = self.subject.is_some() || !self.repository.is_empty();
            return if named { Ok(()) } else { Err(RequestError::Subject(profile)) };
        }
        let letters =
            |segment: &str| segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let segments: Vec<_> = self.repository.split('/').collect();
        let (deep, form) = match profile {
            Profile::GithubActions => (segments.len() == 2, "owner/name"),
            Profile::Gitlab => (segments.len() >= 2, "group/name"),
            Profile::Other(_) => (segments.len() >= 2, "owner/name"),
        };
        let named = segments.iter().all(|segment| !segment.is_empty() && letters(segment));
        if deep && named && self.repository.len() <= TEXT_BYTES_MAX {
            return Ok(());
        }
        Err(RequestError::Repository { profile, value: self.repository.clone(), form })
    }

    /// A ref and an event that never come together would teach a mapping's author something untrue.
    fn check_ref(&self, profile: Profile) -> Result<(), RequestError> {
        let given = [self.branch.is_some(), self.tag.is_some(), self.pull_request.is_some()];
        if given.iter().filter(|given| **given).count() > 1 {
            return Err(RequestError::SeveralRefs);
        }
        let (Some(event), Profile::GithubActions) = (&self.event, profile) else { return Ok(()) };
        let of_pull_request = ["pull_request", "pull_request_review", "pull_request_review_comment"];
        match (of_pull_request.contains(&event.as_str()), self.pull_request.is_some()) {
            (true, false) => Err(RequestError::NoPullRequest(event.clone())),
            (false, true) => Err(RequestError::UnfitEvent(event.clone())),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(change: impl FnOnce(&mut TokenRequest)) -> TokenRequest {
        let mut request = TokenRequest::new("acme/payments-api", "https://claimbound.example.com");
        change(&mut request);
        request
    }

    #[test]
    fn a_request_survives_being_a_query_string() {
        let asked = request(|it| {
            it.environment = Some("a:b & c".into());
            it.repository_id = Some("740000001".into());
            it.pull_request = Some(7);
            it.immutable_subject = true;
        });
        let query = actix_web::web::Query::<TokenRequest>::from_query(&asked.query()).unwrap().into_inner();
        assert_eq!(query, TokenRequest { audience: None, ..asked });
    }

    #[test]
    fn what_no_ci_system_issues_is_refused() {
        use Profile::{GithubActions, Gitlab};
        let circleci = Profile::Other("circleci");
        let google = Profile::Other("google");
        let cases: [(Profile, TokenRequest, &str); 16] = [
            (circleci, request(|it| it.environment = Some("a".into())), "`environment` does not exist at `circleci`"),
            (google, request(|it| it.pull_request = Some(7)), "`pull_request` does not exist at `google`"),
            (google, request(|it| it.repository = String::new()), "give `subject`"),
            (GithubActions, request(|it| it.repository = "acme".into()), "write `owner/name`"),
            (GithubActions, request(|it| it.repository = "a/b/c".into()), "write `owner/name`"),
            (Gitlab, request(|it| it.repository = "a//c".into()), "write `group/name`"),
            (GithubActions, request(|it| it.repository = "acme/pay:ments".into()), "write `owner/name`"),
            (GithubActions, request(|it| (it.branch, it.tag) = (Some("a".into()), Some("b".into()))), "not on several"),
            (GithubActions, request(|it| it.event = Some("pull_request".into())), "give its number"),
            (GithubActions, request(|it| (it.event, it.pull_request) = (Some("push".into()), Some(1))), "leave"),
            (GithubActions, request(|it| it.branch = Some(String::new())), "`branch` is empty"),
            (GithubActions, request(|it| it.environment = Some("a\nb".into())), "`environment` is empty"),
            (GithubActions, request(|it| it.job_workflow = Some("deploy.yml".into())), "`owner/name/FILE@REF`"),
            (GithubActions, request(|it| it.lifetime_seconds = Some(3601)), "1 to 3600 seconds"),
            (Gitlab, request(|it| it.immutable_subject = true), "`immutable_subject` does not exist at `gitlab`"),
            (Gitlab, request(|it| it.audience = None), "needs an `audience`"),
        ];
        for (profile, request, says) in cases {
            let error = request.check(profile).unwrap_err().to_string();
            assert!(error.contains(says), "{error} / {says}");
        }
    }

    #[test]
    fn the_usual_is_not() {
        for profile in Profile::all() {
            assert_eq!(request(|_| ()).check(profile), Ok(()), "{profile}");
            assert_eq!(profile.name().parse(), Ok(profile));
        }
        for profile in [Profile::GithubActions, Profile::Gitlab, Profile::Other("buildkite")] {
            assert_eq!(request(|it| it.pull_request = Some(7)).check(profile), Ok(()));
        }
        assert_eq!(request(|it| it.repository = "a/b/c".into()).check(Profile::Gitlab), Ok(()));
        assert_eq!(request(|it| it.event = Some("pull_request_target".into())).check(Profile::GithubActions), Ok(()));
        assert!("travis".parse::<Profile>().unwrap_err().to_string().contains("`travis`"));
    }
}
