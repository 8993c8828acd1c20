//! Where the job's own token comes from. Every CI system hands it out in its own way, and each way has its own mistake: what
//! is missing is said together with the lines to write.

use super::{
    failure::{Failure, Kind},
    http::{Http, answered},
    text::plain,
};
use crate::secret::Secret;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use url::Url;
use zeroize::Zeroizing;

/// A token of a CI system.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// The file in which GitHub's runner describes the event.
const EVENT_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Where GitHub's runner, and those that are built like it, give tokens.
const REQUEST_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

/// The variable that names the file of the job's token.
pub const TOKEN_FILE: &str = "CLAIMBOUND_TOKEN_FILE";
/// Variables in which CI systems give a job its one token.
const GIVEN: [&str; 7] = [
    "BITBUCKET_STEP_OIDC_TOKEN",
    // Of the audience that the workspace names in `TFC_WORKLOAD_IDENTITY_AUDIENCE_CLAIMBOUND`, beside one for others.
    "TFC_WORKLOAD_IDENTITY_TOKEN_CLAIMBOUND",
    "TFC_WORKLOAD_IDENTITY_TOKEN",
    "SEMAPHORE_OIDC_TOKEN",
    "SPACELIFT_OIDC_TOKEN",
    "ENV0_OIDC_TOKEN",
    "CIRCLE_OIDC_TOKEN_V2",
];

/// The job's variables; one that is empty is none.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where tokens come from.
#[derive(Debug)]
pub enum Source {
    /// A service of the runner that mints one for any audience.
    Asked { url: Url, bearer: Secret },
    /// A program of the CI system that mints one.
    Program { program: PathBuf, of: Minter },
    /// A file, read anew each time.
    File(PathBuf),
    /// A variable of this name: the one token of this job.
    Given { token: Secret, name: String },
}

/// A program that asks for a token.
#[derive(Clone, Copy, Debug)]
pub enum Minter {
    Buildkite,
    CircleCi,
}

impl Minter {
    fn name(self) -> &'static str {
        match self {
            Self::Buildkite => "buildkite-agent",
            Self::CircleCi => "circleci",
        }
    }

    /// Buildkite's ids of organisation and pipeline stand in a token only where they are asked for.
    fn arguments(self, audience: &str) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Buildkite => &["oidc", "request-token", "--claim", "organization_id,pipeline_id", "--audience"],
            Self::CircleCi => &["run", "oidc", "get", "--claims"],
        };
        let last = match self {
            Self::Buildkite => audience.to_owned(),
            Self::CircleCi => serde_json::json!({ "aud": audience }).to_string(),
        };
        words.iter().map(|word| (*word).to_owned()).chain([last]).collect()
    }
}

/// Finds where this job's token comes from: what the caller names, then what the CI system offers.
///
/// # Errors
/// There is none: the text says what to write, as far as the environment tells which CI system this is.
pub fn find(token_file: Option<&Path>, env: Environment<'_>) -> Result<Source, Failure> {
    if let Some(path) = token_file {
        return file(path, "--token-file");
    }
    match (env(TOKEN_FILE), env("CLAIMBOUND_TOKEN")) {
        (Some(_), Some(_)) => {
            let text =
                "`CLAIMBOUND_TOKEN` and `CLAIMBOUND_TOKEN_FILE` are both set; which of the two is meant? Unset one";
            return Err(Failure::usage("token_ambiguous", text));
        }
        (Some(path), None) => return file(Path::new(&path), TOKEN_FILE),
        (None, Some(token)) => {
            return given("CLAIMBOUND_TOKEN", token);
        }
        (None, None) => {}
    }
    if let (Some(url), Some(bearer)) = (env(REQUEST_URL), env(REQUEST_TOKEN)) {
        let url = Url::parse(&url)
            .map_err(|error| Failure::usage("token_missing", format!("`{REQUEST_URL}` is no URL: {error}")))?;
        return Ok(Source::Asked { url, bearer: Secret::new(format!("bearer {bearer}")) });
    }
    let minters = [("BUILDKITE", Minter::Buildkite), ("CIRCLECI", Minter::CircleCi)];
    for (mark, of) in minters.into_iter().filter(|(mark, _)| env(mark).is_some()) {
        if let Some(program) = on_path(of.name(), env) {
            return Ok(Source::Program { program, of });
        }
        if mark == "BUILDKITE" {
            let text = "This is a job of Buildkite, but `buildkite-agent` is not on its `PATH`. In a container, mount it \
                 (the docker plugin: `mount-buildkite-agent: true`), or ask for a token outside and name its file with \
                 `--token-file`";
            return Err(Failure::usage("token_missing", text));
        }
    }
    let found = GIVEN.into_iter().find_map(|name| Some((name, env(name)?)));
    if let Some((name, token)) = found {
        return given(name, token);
    }
    Err(missing(env))
}

/// A file that holds a token: looked at before anybody is asked for anything, and read anew each time.
fn file(path: &Path, name: &str) -> Result<Source, Failure> {
    holds_token(path, name).map(|()| Source::File(path.to_owned()))
}

/// Whether the file that this flag or variable names holds a token.
///
/// # Errors
/// What is wrong with it.
pub fn holds_token(path: &Path, name: &str) -> Result<(), Failure> {
    match from_file(path) {
        Ok(_) => Ok(()),
        Err(failure) => Err(Failure { text: format!("`{name}`: {}", failure.text), ..failure }),
    }
}

/// A token that stands in a variable.
fn given(name: &str, text: String) -> Result<Source, Failure> {
    let text = Secret::new(text);
    let token = shaped(text.reveal().trim()).ok_or_else(|| {
        Failure::usage("token_invalid", format!("`{name}` holds no JWT of at most {TOKEN_BYTES_MAX} bytes"))
    })?;
    Ok(Source::Given { token, name: name.to_owned() })
}

/// What to write where there is no token.
fn missing(env: Environment<'_>) -> Failure {
    let of = |mark: &str| env(mark).is_some();
    let text = if of("GITHUB_ACTIONS") {
        return fork(env).or_else(|| dependabot(env)).unwrap_or_else(|| no_permission(env));
    } else if of("GITLAB_CI") {
        "This GitLab job has no token for the broker. Add to the job, with the broker's URL as it stands in \
         `CLAIMBOUND_URL`:\n\n    id_tokens:\n      CLAIMBOUND_TOKEN:\n        aud: https://claimbound.example.com"
    } else if of("CIRCLECI") {
        "This CircleCI job has no token: neither `circleci` nor `CIRCLE_OIDC_TOKEN_V2` is there. Builds of forks get one \
         only where secrets are passed to them; a container of yours needs the program `circleci`"
    } else if of("BITBUCKET_BUILD_NUMBER") {
        "This step has no token. Add to it, with the broker's URL alone:\n\n    oidc:\n      audiences:\n        - \
         https://claimbound.example.com"
    } else if of("TFC_RUN_ID") {
        "This run of HCP Terraform has no token. Add a variable to the workspace, with the broker's URL alone:\n\n    \
         TFC_WORKLOAD_IDENTITY_AUDIENCE=https://claimbound.example.com\n\nWhere that has another audience already, add \
         `TFC_WORKLOAD_IDENTITY_AUDIENCE_CLAIMBOUND`"
    } else if of("ENV0_ENVIRONMENT_ID") {
        "This deployment of env0 has no token: an administrator turns on `Enable OIDC` in the organisation's policies"
    } else {
        "There is no token of this job: name its file with `--token-file`, or put it into `CLAIMBOUND_TOKEN`. GitHub \
         Actions, GitLab, Buildkite, CircleCI, Bitbucket, HCP Terraform, Semaphore, Spacelift and env0 are known by \
         themselves, and this looks like none of them"
    };
    Failure::usage("token_missing", text)
}

fn no_permission(env: Environment<'_>) -> Failure {
    let job = env("GITHUB_JOB").map_or_else(|| "this job".to_owned(), |job| plain(&job));
    let file = env("GITHUB_WORKFLOW_REF").and_then(|name| {
        let path = name.rsplit_once('@')?.0.splitn(3, '/').nth(2)?.to_owned();
        Some(format!("`{}`", plain(&path)))
    });
    let workflow = file.unwrap_or_else(|| "the workflow".to_owned());
    Failure::usage(
        "permission_missing",
        format!(
            "The job `{job}` has no permission to ask for an OIDC token. Add to it:\n\n    permissions:\n      id-token: \
             write\n      contents: read\n\n(Forgejo: `enable-openid-connect: true`.) If `{job}` stands in a reusable \
             workflow, its caller's permissions are the limit: the calling job in {workflow}, the one with `uses:`, needs \
             these lines too"
        ),
    )
}

fn fork(env: Environment<'_>) -> Option<Failure> {
    let event = env("GITHUB_EVENT_NAME").filter(|event| event.starts_with("pull_request"))?;
    if event == "pull_request_target" {
        return None;
    }
    let mut told = Vec::new();
    File::open(env("GITHUB_EVENT_PATH")?).ok()?.take(EVENT_BYTES_MAX).read_to_end(&mut told).ok()?;
    let told: Value = serde_json::from_slice(&told).ok()?;
    let head = told["pull_request"]["head"].as_object()?;
    let name = head.get("repo").and_then(|repo| repo["full_name"].as_str());
    if name.is_some() && name == env("GITHUB_REPOSITORY").as_deref() {
        return None;
    }
    // A fork that was deleted since has no repository any more.
    let fork = name.map_or_else(|| "a deleted fork".to_owned(), |name| format!("the fork `{}`", plain(name)));
    let text = format!(
        "This pull request comes from {fork}, and GitHub gives jobs of forks no OIDC token, whatever their permissions say. \
         Run what needs a credential after the merge, or on a branch of this repository. Do not change the trigger to \
         `pull_request_target`: it would run the fork's code with this repository's rights"
    );
    Some(Failure::new(Kind::Unavailable, "fork_pull_request", text))
}

fn dependabot(env: Environment<'_>) -> Option<Failure> {
    let started = env("GITHUB_ACTOR").is_some_and(|actor| actor == "dependabot[bot]");
    let text = "Dependabot started this run, and GitHub gives such runs a read-only token: no OIDC token came with it";
    started.then(|| Failure::new(Kind::Unavailable, "dependabot", text))
}

fn on_path(program: &str, env: Environment<'_>) -> Option<PathBuf> {
    let path = env("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| executable(path))
}

/// Whether this is a program.
pub fn executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

impl Source {
    /// A token for this audience: a fresh one where the CI system mints, else the one that there is.
    ///
    /// # Errors
    /// What the CI system says; it may pass.
    pub async fn token(&self, http: &Http, audience: &str, timeout: Duration) -> Result<Secret, Failure> {
        match self {
            Self::Asked { url, bearer } => asked(http, url, bearer, audience, timeout).await,
            Self::Program { program, of } => ran(program, *of, audience, timeout).await,
            Self::File(path) => from_file(path),
            Self::Given { token, .. } => Ok(Secret::new(token.reveal().to_owned())),
        }
    }
}

async fn asked(http: &Http, url: &Url, bearer: &Secret, audience: &str, timeout: Duration) -> Result<Secret, Failure> {
    let mut url = url.clone();
    let others: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| name != "audience")
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    url.query_pairs_mut().clear().extend_pairs(others).append_pair("audience", audience);
    let asked = http.get(url.as_str(), &[("authorization", bearer)], timeout).await;
    let reply = answered(asked, "The CI system's token service", "ci_unavailable")?;
    let token = reply.body["value"].as_str().filter(|_| reply.status == 200).and_then(shaped);
    token.ok_or_else(|| {
        let text = format!(
            "The CI system gave this job no OIDC token ({}). Its permissions allow one; if it happens again, look at the CI \
             system's status, and at whether the organisation limits OIDC tokens",
            reply.status
        );
        Failure::new(Kind::Unavailable, "ci_refused", text)
    })
}

async fn ran(program: &Path, of: Minter, audience: &str, timeout: Duration) -> Result<Secret, Failure> {
    let mut command = tokio::process::Command::new(program);
    command.args(of.arguments(audience)).stdin(Stdio::null()).kill_on_drop(true);
    let name = of.name();
    let output = match tokio::time::timeout(timeout, command.output()).await {
        Err(_) => return Err(Failure::passing("ci_unavailable", format!("`{name}` gave no token in time"))),
        Ok(Err(error)) => return Err(Failure::usage("ci_refused", format!("`{name}` does not start: {error}"))),
        Ok(Ok(output)) => output,
    };
    let said = Zeroizing::new(output.stdout);
    match std::str::from_utf8(&said).ok().and_then(|said| shaped(said.trim())) {
        Some(token) if output.status.success() => Ok(token),
        _ => {
            let why = plain(&String::from_utf8_lossy(&output.stderr));
            Err(Failure::passing("ci_unavailable", format!("`{name}` gave no token ({}): {why}", output.status)))
        }
    }
}

/// A token that stands in a file.
///
/// # Errors
/// It cannot be read, or holds something else.
pub fn from_file(path: &Path) -> Result<Secret, Failure> {
    let mut text = Zeroizing::new(String::new());
    let most = TOKEN_BYTES_MAX as u64 + 2;
    let read = File::open(path).and_then(|file| file.take(most).read_to_string(&mut text));
    read.map_err(|error: io::Error| Failure::file("read", path, &error))?;
    shaped(text.trim()).ok_or_else(|| {
        let text = format!("`{}` holds no JWT of at most {TOKEN_BYTES_MAX} bytes", path.display());
        Failure::usage("token_invalid", text)
    })
}

/// Three parts of base64url (RFC 7515 section 7.1); a broker takes nothing else.
fn shaped(text: &str) -> Option<Secret> {
    let part =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let fits = text.len() <= TOKEN_BYTES_MAX && text.split('.').count() == 3 && text.split('.').all(part);
    fits.then(|| Secret::new(text.to_owned()))
}

/// What a token says, unverified: to explain, never to decide.
pub fn claims(token: &Secret) -> Value {
    let claims = token.reveal().split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    claims.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
}

/// For whom a token says that it is.
pub fn audiences(claims: &Value) -> Vec<String> {
    match &claims["aud"] {
        Value::String(one) => vec![plain(one)],
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(plain).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Result<Source, Failure> {
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        find(None, &move |name| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
    }

    #[test]
    fn what_the_caller_names_comes_before_what_the_ci_system_offers() {
        let runner = [(REQUEST_URL, "https://ci.example/token?api-version=2.0"), (REQUEST_TOKEN, "b")];
        assert!(matches!(found(&runner), Ok(Source::Asked { .. })));
        let named = [&runner[..], &[("CLAIMBOUND_TOKEN", "a.b.c")]].concat();
        assert!(matches!(found(&named), Ok(Source::Given { .. })));
        let both = [&named[..], &[("CLAIMBOUND_TOKEN_FILE", "/t")]].concat();
        assert!(found(&both).unwrap_err().text.contains("both set"));
        let wrong = found(&[("CLAIMBOUND_TOKEN", "$TOKEN")]).unwrap_err();
        assert!(wrong.text.starts_with("`CLAIMBOUND_TOKEN` holds no JWT") && wrong.kind == Kind::Usage, "{wrong:?}");
        let token = tempfile::NamedTempFile::new().unwrap();
        let flag = || find(Some(token.path()), &|_| Some("x".to_owned()));
        assert!(flag().unwrap_err().text.starts_with("`--token-file`: `/"));
        fs::write(token.path(), "a.b.c").unwrap();
        assert!(matches!(flag(), Ok(Source::File(path)) if path == token.path()));
        let missing = found(&[(TOKEN_FILE, "/nowhere/t")]).unwrap_err();
        assert!(missing.text.starts_with("`CLAIMBOUND_TOKEN_FILE`: cannot read `/nowhere/t`: "), "{missing}");
        assert!(matches!(found(&[("BITBUCKET_STEP_OIDC_TOKEN", "a.b.c")]), Ok(Source::Given { .. })));
        assert!(matches!(found(&[("CIRCLECI", "true"), ("CIRCLE_OIDC_TOKEN_V2", "a.b.c")]), Ok(Source::Given { .. })));
    }

    #[test]
    fn what_is_missing_is_said_with_the_lines_to_write() {
        let workflow = "acme/api/.github/workflows/deploy.yml@refs/heads/main";
        for (variables, part, kind) in [
            (
                &[("GITHUB_ACTIONS", "true"), ("GITHUB_JOB", "deploy")][..],
                "The job `deploy` has no permission",
                Kind::Usage,
            ),
            (
                &[("GITHUB_ACTIONS", "true"), ("GITHUB_WORKFLOW_REF", workflow)][..],
                "the calling job in `.github/workflows/deploy.yml`",
                Kind::Usage,
            ),
            (&[("GITHUB_ACTIONS", "true"), ("GITHUB_ACTOR", "dependabot[bot]")][..], "Dependabot", Kind::Unavailable),
            (&[("GITLAB_CI", "true")][..], "id_tokens:\n      CLAIMBOUND_TOKEN:", Kind::Usage),
            (&[("BUILDKITE", "true"), ("PATH", "/nowhere")][..], "`buildkite-agent` is not on its `PATH`", Kind::Usage),
            (&[("CIRCLECI", "true")][..], "CircleCI", Kind::Usage),
            (&[("BITBUCKET_BUILD_NUMBER", "7")][..], "oidc:\n      audiences:", Kind::Usage),
            (&[("TFC_RUN_ID", "run-1")][..], "TFC_WORKLOAD_IDENTITY_AUDIENCE=https", Kind::Usage),
            (&[("ENV0_ENVIRONMENT_ID", "1")][..], "`Enable OIDC`", Kind::Usage),
            (&[][..], "`--token-file`", Kind::Usage),
        ] {
            let failure = found(variables).unwrap_err();
            assert!(failure.text.contains(part) && failure.kind == kind, "{failure:?}");
        }
    }

    #[test]
    fn jobs_of_forks_are_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("event.json");
        let told = |event: &str| {
            fs::write(&path, event).unwrap();
            let variables = [
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "pull_request"),
                ("GITHUB_REPOSITORY", "acme/api"),
                ("GITHUB_EVENT_PATH", path.to_str().unwrap()),
            ];
            found(&variables).unwrap_err().text
        };
        let of = |repo: &str| told(&format!(r#"{{"pull_request":{{"head":{{"repo":{repo}}}}}}}"#));
        assert!(of(r#"{"full_name":"mallory/api"}"#).contains("the fork `mallory/api`"));
        assert!(of("null").contains("a deleted fork"));
        assert!(of(r#"{"full_name":"acme/api"}"#).contains("id-token: write"));
        assert!(told("no json").contains("id-token: write"));
    }

    #[tokio::test]
    async fn programs_of_ci_systems_are_asked_for_the_audience() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let program = |name: &str, script: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        let of = |mark: &'static str| found(&[(mark, "true"), ("PATH", folder.path().to_str().unwrap())]).unwrap();
        let http = Http::new(None).unwrap();
        let token = async |source: &Source| source.token(&http, "https://b.example", Duration::from_secs(20)).await;
        program(
            "buildkite-agent",
            r#"[ "$*" = "oidc request-token --claim organization_id,pipeline_id --audience https://b.example" ] && echo aa.bb.cc"#,
        );
        assert_eq!(token(&of("BUILDKITE")).await.unwrap().reveal(), "aa.bb.cc");
        program("circleci", r#"[ "$5" = '{"aud":"https://b.example"}' ] && echo aa.bb.dd"#);
        assert_eq!(token(&of("CIRCLECI")).await.unwrap().reveal(), "aa.bb.dd");
        program("circleci", "echo 'not allowed' >&2; exit 1");
        let failure = token(&of("CIRCLECI")).await.unwrap_err();
        assert!(failure.again.is_some() && failure.text.contains("not allowed"), "{failure:?}");
    }

    #[test]
    fn a_file_holds_one_jwt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "aa.bb.cc\n").unwrap();
        assert_eq!(from_file(&path).unwrap().reveal(), "aa.bb.cc");
        for wrong in ["", "aa.bb", "aa.bb.c c", "aa..cc", &format!("{}.b.c", "a".repeat(TOKEN_BYTES_MAX))] {
            fs::write(&path, wrong).unwrap();
            assert!(from_file(&path).unwrap_err().text.contains("holds no JWT"), "{wrong}");
        }
        assert_eq!(from_file(Path::new("/nowhere/t")).unwrap_err().kind, Kind::Usage);
    }

    #[test]
    fn a_token_s_audiences_can_be_told() {
        let token = |claims: &str| Secret::new(format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(claims)));
        let told = |token: Secret| audiences(&claims(&token));
        assert_eq!(told(token(r#"{"aud":"https://a"}"#)), ["https://a"]);
        assert_eq!(told(token(r#"{"aud":["a","b"]}"#)), ["a", "b"]);
        assert!(told(token("[]")).is_empty() && told(Secret::new("x".to_owned())).is_empty());
    }
}
