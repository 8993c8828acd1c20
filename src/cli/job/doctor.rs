//! `claimbound doctor job`: what would keep this job from its credential, or AWS clients from using it, each with its remedy. Nothing is
//! exchanged unless that is asked for, and nothing secret is printed.

use super::{JobArgs, StateArgs, variable};
use crate::{
    broker::SystemClock,
    cli::doctor::Findings,
    client::{
        OnPending,
        deliver::{SECRET_VARIABLES, default_profile, moment},
        source::{self, Source},
        text::plain,
    },
};
use claimbound_core::time::Clock as _;
use clap::Args;
use serde_json::Value;
use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::Duration};
use url::Url;

/// The broker allows tokens of clocks that go wrong by this much; a job that is further off is told.
const SKEW_SECONDS_MAX: i64 = claimbound_core::time::LEEWAY_SECONDS;
/// For each question, without further tries.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// How CI systems are known.
const SYSTEMS: [(&str, &str); 12] = [
    ("FORGEJO_ACTIONS", "Forgejo Actions"),
    ("GITEA_ACTIONS", "Gitea Actions"),
    ("GITHUB_ACTIONS", "GitHub Actions"),
    ("GITLAB_CI", "GitLab CI"),
    ("BUILDKITE", "Buildkite"),
    ("CIRCLECI", "CircleCI"),
    ("BITBUCKET_BUILD_NUMBER", "Bitbucket Pipelines"),
    ("TFC_RUN_ID", "HCP Terraform"),
    ("SEMAPHORE", "Semaphore"),
    ("SPACELIFT", "Spacelift"),
    ("ENV0_ENVIRONMENT_ID", "env0"),
    ("CI", "a CI system that is not known by itself"),
];

/// Look at this job: its token, the broker, the way there, and AWS credentials that would win
///
/// Run it in the job, with the same flags and variables. Nothing is exchanged and nothing secret is printed; the CI system is asked for a token,
/// to look at its audience. Exit code 0: all is well, 1: something is missing, 2: usage.
#[derive(Args, Debug)]
#[command(after_help = "Example, as a step of a job:
  claimbound doctor job --url https://claimbound.example.com --role payments-deploy")]
pub struct DoctorArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Also ask the broker what it would answer; that is recorded, and spends the token where the CI system gives one only
    #[arg(long)]
    dry_run: bool,
}

/// Looks at everything, however much of it is missing.
pub async fn examine(args: &DoctorArgs, found: &mut Findings) {
    let known = SYSTEMS.into_iter().find(|(mark, _)| variable(mark).is_some());
    found.ok(&format!("this is {}", known.map_or("no CI system that can be told", |(_, name)| name)));
    way(&args.job.url, found);
    rivals(found);
    modes(&args.job, found);
    let job = match args.job.job(OnPending::Stop) {
        Err(failure) => return found.missing(&failure.text),
        Ok(job) => job,
    };
    found.ok(&told_source(&job.source));
    match job.broker.compare(&job.http, ASK_TIMEOUT).await {
        Err(failure) => return found.missing(&failure.text),
        Ok(theirs) => {
            found.ok(&format!("the broker at {} is the one that is meant", args.job.url));
            clock(theirs, found);
        }
    }
    let token = match job.source.token(&job.http, &job.broker.audience, ASK_TIMEOUT).await {
        Err(failure) => return found.missing(&failure.text),
        Ok(token) => token,
    };
    let claims = source::claims(&token);
    audience(&claims, &job.broker.audience, found);
    lifetime(&claims, SystemClock.now().0, found);
    if !args.dry_run {
        return;
    }
    let actor = job.actor_token_file.as_deref().map(source::from_file).transpose();
    let asked = match actor {
        Ok(actor) => job.broker.dry_run(&job.http, &job.ask, &token, actor.as_ref(), ASK_TIMEOUT).await,
        Err(failure) => Err(failure),
    };
    match asked {
        Ok(answer) => {
            let text = |name: &str| plain(answer[name].as_str().unwrap_or("?"));
            let (role, mapping, decision) = (text("role"), text("mapping"), text("decision_id"));
            let seconds = answer["expires_in"].as_i64().unwrap_or_default();
            found.ok(&format!("the broker would give `{role}` by `{mapping}` for {seconds} s; decision {decision}"));
        }
        Err(failure) => found.missing(&failure.text),
    }
}

fn told_source(source: &Source) -> String {
    match source {
        Source::Asked { .. } => "the runner mints tokens for this job".to_owned(),
        Source::Program { program, .. } => format!("`{}` gives tokens for this job", program.display()),
        Source::File(path) => format!("the job's token stands in `{}`", path.display()),
        Source::Given { name, .. } => format!("the job's token stands in `{name}`; there is no second one"),
    }
}

/// Which proxy requests would take.
fn way(url: &str, found: &mut Findings) {
    let first = |names: &[&str]| names.iter().find_map(|name| Some(((*name).to_owned(), variable(name)?)));
    let proxy = first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]).filter(|_| url.starts_with("https:"));
    let Some((name, proxy)) = proxy else { return };
    // Users and passwords stand in such URLs.
    let parsed = Url::parse(&proxy).ok().filter(Url::has_host);
    let parsed = parsed.or_else(|| Url::parse(&format!("http://{proxy}")).ok().filter(Url::has_host));
    match parsed {
        Some(proxy) => {
            let port = proxy.port_or_known_default().map_or_else(String::new, |port| format!(":{port}"));
            let none = first(&["NO_PROXY", "no_proxy"])
                .map_or_else(String::new, |(name, value)| format!(", but for what `{name}` names: {}", plain(&value)));
            let host = plain(proxy.host_str().unwrap_or_default());
            found.ok(&format!("`{name}`: requests go through {host}{port}{none}"));
        }
        None => found.missing(&format!("`{name}` is no URL of a proxy; write `http://proxy.example.com:3128`")),
    }
}

/// AWS credentials that are there already, in the order in which AWS clients take them.
fn rivals(found: &mut Findings) {
    let set = |names: &[&'static str]| -> Vec<&'static str> {
        names.iter().copied().filter(|name| variable(name).is_some()).collect()
    };
    let keys = set(&SECRET_VARIABLES);
    if !keys.is_empty() {
        found.missing(&format!(
            "`{}` is set: AWS clients take it before a profile, `credential_process` or the agent. Do not set it in this job, or use \
             `claimbound exec`, which replaces it",
            keys.join("`, `")
        ));
    }
    let profiles = set(&["AWS_PROFILE", "AWS_DEFAULT_PROFILE"]);
    if !profiles.is_empty() {
        found.note(&format!("`{}` is set: AWS clients take that profile before the agent", profiles.join("`, `")));
    }
    if !set(&["AWS_WEB_IDENTITY_TOKEN_FILE"]).is_empty() {
        found.note("`AWS_WEB_IDENTITY_TOKEN_FILE` is set: AWS clients go to STS with it before they ask a profile's process or the agent");
    }
    if let Some(path) = default_profile(&variable) {
        found.note(&format!("`{}` has a profile `default`, which AWS clients take before the agent", path.display()));
    }
    let containers = set(&["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"]);
    if !containers.is_empty() {
        found.note(
            "`AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` is set: AWS clients ask this machine's own role before the agent",
        );
    }
}

/// Files that others could read or write.
fn modes(job: &JobArgs, found: &mut Findings) {
    match StateArgs::open(&job.state) {
        // Made by the question itself, unless something is kept there.
        Ok(keep) => keep.tidy(),
        Err(failure) => found.missing(&failure.text),
    }
    let tokens = [job.token_file.clone(), job.actor_token_file.clone(), variable(source::TOKEN_FILE).map(Into::into)];
    for path in tokens.iter().flatten() {
        let Ok(file) = fs::metadata(path) else { continue };
        if file.mode() & 0o077 != 0 {
            let path = path.display();
            found.missing(&format!("`{path}` holds a token and other users may read it: `chmod 600 {path}`"));
        }
    }
    for name in ["GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"] {
        let Some(path) = variable(name) else { continue };
        match fs::metadata(Path::new(&path)) {
            Err(error) => found.missing(&format!("`{name}` names `{}`, which is not there: {error}", plain(&path))),
            Ok(file) if file.mode() & 0o022 != 0 => {
                found.note(&format!(
                    "`{name}` may be written by other users of this machine, who could set variables of the next steps"
                ));
            }
            Ok(_) => {}
        }
    }
}

fn clock(theirs: Option<i64>, found: &mut Findings) {
    let Some(theirs) = theirs else { return found.note("the broker does not tell its time") };
    let off = SystemClock.now().0.saturating_sub(theirs);
    if off.saturating_abs() > SKEW_SECONDS_MAX {
        let way = if off > 0 { "ahead of" } else { "behind" };
        found.missing(&format!("this machine's clock is {} s {way} the broker's: set it by NTP", off.saturating_abs()));
    } else {
        found.ok("this machine's clock and the broker's agree");
    }
}

fn audience(claims: &Value, expected: &str, found: &mut Findings) {
    let audiences = source::audiences(claims);
    if audiences.iter().any(|audience| audience == expected) {
        return found.ok(&format!("the job's token is for `{expected}`, as the broker expects"));
    }
    let told = if audiences.is_empty() { "nobody".to_owned() } else { format!("`{}`", audiences.join("`, `")) };
    found.missing(&format!(
        "the job's token is for {told}, and this broker is `{expected}`: where the CI system lets you choose, ask for a token with \
         exactly that audience"
    ));
}

fn lifetime(claims: &Value, now: i64, found: &mut Findings) {
    let Some(ends) = claims["exp"].as_i64() else { return found.missing("the job's token does not say when it ends") };
    if ends <= now {
        found.missing(&format!(
            "the job's token ended at {}: run the job anew, and log in at its beginning",
            moment(ends)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_token_is_judged_by_whom_it_is_for_and_how_long() {
        let judged = |claims: Value| {
            let mut found = Findings::default();
            audience(&claims, "https://b.example", &mut found);
            lifetime(&claims, 1000, &mut found);
            found.missing
        };
        assert_eq!(judged(json!({ "aud": "https://b.example", "exp": 1001 })), 0);
        assert_eq!(judged(json!({ "aud": ["x", "https://b.example"], "exp": 1001 })), 0);
        assert_eq!(judged(json!({ "aud": "https://b.example/", "exp": 1000 })), 2);
        assert_eq!(judged(Value::Null), 2);
    }
}
