//! `claimbound explain`: why a job gets a role, or does not, without a server.

use super::{
    deployment::Deployment,
    loaded::{self, Loaded},
    operator::client::{self, BrokerArgs},
    render::Format,
};
use crate::broker::SystemClock;
pub use crate::history::explanation::{Explanation, explain_case};
use crate::{history::decision, store};
use anyhow::{Context, Result, bail};
use claimbound_core::{
    evidence::DecisionId,
    mapping::{IssuerId, MappingSet},
    review::{Given, recorded::DOWNSTREAM},
    time::Clock as _,
    workload::Claim,
};
use serde_json::json;
use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

/// Largest claims file that is read.
const CLAIMS_BYTES_MAX: u64 = 64 * 1024;

/// Say what a job may have, and why not more
///
/// Shows every candidate mapping, each condition with what was expected and what the job has, and the edit that would
/// allow it. The job is a token's payload (`--claims`), or is stated by the other flags; ids that are left out are
/// taken from the mappings. `--decision` explains an answer that the broker gave, from its store, or asks the
/// broker itself (`--broker`) for an operator who may `explain`. Exit code 0: granted; 1: denied; 2: usage, or the folder does
/// not load; of a broker, 3: it refused; 4: it cannot be asked.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  claimbound explain --repository acme/payments-api --branch main --role payments-secrets
  claimbound explain --claims payload.json
  claimbound explain --decision 01a20096-c45e-73a6-aa27-a59913fc00f6")]
pub struct ExplainArgs {
    /// The mapping folder
    #[arg(long, value_name = "DIR", default_value = "mappings")]
    pub mappings: PathBuf,
    /// A file with a token's payload as JSON, or `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "job")]
    pub claims: Option<PathBuf>,
    #[command(flatten)]
    pub job: JobArgs,
    /// A file with the payload of the token of who acts for the job, as JSON, or `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "decision")]
    pub actor_claims: Option<PathBuf>,
    /// The actor exchanges a token of the broker's own that was made for this audience, downstream
    #[arg(long, value_name = "AUDIENCE", requires = "actor_claims")]
    pub token_audience: Option<String>,
    /// The issuer's name in the folder; by default the one of `iss`, or the one whose mappings name the repository
    #[arg(long, value_name = "NAME")]
    pub issuer: Option<String>,
    /// The role to ask for; by default the only one that is possible
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// A recorded answer, by its `decision_id`
    #[arg(long, value_name = "ID", conflicts_with_all = ["job", "claims", "issuer", "role", "mappings"])]
    pub decision: Option<DecisionId>,
    /// The store of `--decision`; by default the configuration's
    #[arg(long, value_name = "URL", requires = "decision", conflicts_with = "broker")]
    pub store: Option<String>,
    #[command(flatten)]
    pub broker: BrokerArgs,
    #[command(flatten)]
    pub deployment: Deployment,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// A job in canonical claims.
#[derive(Debug, Default, clap::Args)]
#[group(id = "job", multiple = true)]
pub struct JobArgs {
    /// The repository, `OWNER/NAME`
    #[arg(long, value_name = "NAME")]
    pub repository: Option<String>,
    /// The branch that the job runs on
    #[arg(long, value_name = "NAME", conflicts_with = "tag")]
    pub branch: Option<String>,
    /// The tag that the job runs on
    #[arg(long, value_name = "NAME")]
    pub tag: Option<String>,
    /// The event that started the run (`event_name`)
    #[arg(long, value_name = "NAME")]
    pub event: Option<String>,
    /// The environment that the job names
    #[arg(long, value_name = "NAME")]
    pub environment: Option<String>,
    /// Any other canonical claim, such as `job_workflow.ref=refs/heads/main`; may be repeated
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = named)]
    pub others: Vec<(Claim, String)>,
}

fn named(text: &str) -> Result<(Claim, String), String> {
    let (name, value) = text.split_once('=').ok_or("write `NAME=VALUE`")?;
    let claim = Claim::from_name(name).ok_or_else(|| {
        let names = Claim::ALL.iter().map(|claim| claim.name());
        match claimbound_core::diag::did_you_mean(name, names) {
            Some(meant) => format!("`{name}` is no canonical claim: did you mean `{meant}`?"),
            None => format!("`{name}` is no canonical claim; `claimbound profile show` lists them"),
        }
    })?;
    Ok((claim, value.to_owned()))
}

impl JobArgs {
    fn given(self) -> Option<Given> {
        let flags = [
            (Claim::Repository, self.repository),
            (Claim::Branch, self.branch),
            (Claim::Tag, self.tag),
            (Claim::EventName, self.event),
            (Claim::Environment, self.environment),
        ];
        let claims = flags.into_iter().filter_map(|(claim, value)| Some((claim, value?)));
        let claims: Vec<_> = claims.chain(self.others).collect();
        (!claims.is_empty()).then(|| Given::Workload(claims.into()))
    }
}

/// Runs the command; the exit code.
///
/// # Errors
/// When folder or claims cannot be read, and for a line that names no job or no issuer.
pub fn run(args: ExplainArgs) -> Result<u8> {
    if args.broker.is_named() && args.decision.is_none() {
        bail!("`--broker` goes with `--decision`: what a folder would say needs no broker");
    }
    if let Some(id) = args.decision {
        if args.store.is_none()
            && let Some(client) = args.broker.client()?
        {
            let format = match args.format {
                Format::Human => "human",
                Format::Json => "json",
            };
            let answer = client.get(&format!("/operator/decisions/{id}"), &[("format", format)])?;
            return loaded::tell(client::told(answer)?);
        }
        let url = args.deployment.or(args.store.as_ref(), |config| config.store)?;
        let Some(told) = decision::answer(&*store::open_reader(&url)?, id, args.format.into())? else {
            bail!("the store `{url}` has no decision `{id}`; of refusals that came too fast only their number is kept");
        };
        return loaded::tell(told);
    }
    let given = match &args.claims {
        Some(path) => Given::Claims(read_claims(path)?),
        None => args
            .job
            .given()
            .context("state a job: `--claims FILE`, or `--repository` and other flags; or name a `--decision`")?,
    };
    let Some(Loaded { folder, set, profiles }) = loaded::load(&args.mappings)? else { return Ok(2) };
    let issuer = issuer_of(&set, args.issuer.as_deref(), &given, args.role.as_deref())?;
    let mut given = given;
    given.fill_ids(&set, issuer);
    let actor = match &args.actor_claims {
        None => None,
        Some(path) => {
            let given = Given::Claims(read_claims(path)?);
            Some((issuer_of(&set, None, &given, None)?, given))
        }
    };
    let actor = actor.as_ref().map(|(issuer, given)| (*issuer, given));
    let brought = args.token_audience.as_ref().map(|audience| json!({ DOWNSTREAM: { "audience": audience } }));
    let actor = (actor, &brought.unwrap_or_default());
    let explanation = explain_case(&set, &profiles, (issuer, &given), actor, args.role.as_deref(), SystemClock.now())?;
    let text = match args.format {
        Format::Human => explanation.to_text(&set, Some(&folder)),
        Format::Json => format!("{:#}\n", explanation.to_json(&set)),
    };
    loaded::print(&text)?;
    Ok(explanation.exit_code())
}

fn read_claims(path: &Path) -> Result<serde_json::Value> {
    let mut text = String::new();
    let source: Box<dyn std::io::Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin().lock()),
        _ => Box::new(std::fs::File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?),
    };
    let read = source.take(CLAIMS_BYTES_MAX + 1).read_to_string(&mut text);
    read.with_context(|| format!("cannot read `{}`", path.display()))?;
    if text.len() as u64 > CLAIMS_BYTES_MAX {
        bail!("`{}` is larger than {CLAIMS_BYTES_MAX} bytes: give a token's payload alone", path.display());
    }
    claimbound_core::claims::Claims::parse(text.as_bytes())
        .map(|claims| claims.to_json())
        .with_context(|| format!("`{}` does not hold a token's payload (the decoded middle part)", path.display()))
}

/// The one issuer whose mappings name the job's repository; else the only one that the role is given to; else the only
/// one that lists the repository's owner.
fn issuer_of_job(set: &MappingSet, job: &[(Claim, String)], role: Option<&str>) -> Option<IssuerId> {
    let repository = job.iter().find(|(claim, _)| *claim == Claim::Repository).map(|(_, name)| name.as_str());
    let owner = repository.and_then(|name| name.rsplit_once('/')).map(|(owner, _)| owner);
    let role = role.and_then(|name| set.role_named(name)).map(|role| set.role(role));
    let only = |fits: &dyn Fn(IssuerId) -> bool| {
        let mut fitting = (0..set.issuers.len()).map(|at| IssuerId(at as u16)).filter(|issuer| fits(*issuer));
        fitting.next().filter(|_| fitting.next().is_none())
    };
    only(&|issuer| repository.is_some_and(|name| set.id_of_repository(issuer, name).is_some()))
        .or_else(|| {
            only(&|issuer| role.is_some_and(|role| role.issuers.iter().any(|name| **name == *set.issuer(issuer).name)))
        })
        .or_else(|| only(&|issuer| owner.is_some_and(|name| set.issuer(issuer).id_of_owner(name).is_some())))
}

fn issuer_of(set: &MappingSet, name: Option<&str>, given: &Given, role: Option<&str>) -> Result<IssuerId> {
    let names = || set.issuers.iter().map(|issuer| format!("`{}`", issuer.name)).collect::<Vec<_>>().join(", ");
    if let Some(name) = name {
        return match set.issuer_named(name) {
            Some((id, _)) => Ok(id),
            None => bail!("the folder has no issuer `{name}`; it has {}", names()),
        };
    }
    let url = match given {
        Given::Claims(claims) => claims.get("iss").and_then(|url| url.as_str()),
        Given::Workload(job) => match issuer_of_job(set, &job.claims, role) {
            Some(issuer) => return Ok(issuer),
            None => None,
        },
    };
    let fits = set.issuers.iter().enumerate().filter(|(_, issuer)| url.is_none_or(|url| issuer.url == url));
    match (fits.map(|(at, _)| IssuerId(at as u16)).collect::<Vec<_>>().as_slice(), url) {
        ([one], _) => Ok(*one),
        ([], Some(url)) => {
            bail!("no issuer of the folder has the URL `{url}`: name one with `--issuer`, of {}", names())
        }
        _ => bail!("name the issuer with `--issuer`, one of {}", names()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claimbound_core::{mapping::Folder, time::UnixSeconds, workload::Profiles};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ExplainArgs,
    }

    fn args(line: &str) -> Result<ExplainArgs, clap::Error> {
        Line::try_parse_from(["explain"].into_iter().chain(line.split_whitespace())).map(|line| line.args)
    }

    fn sample() -> (Folder, MappingSet) {
        let files = [
            ("policy.toml", include_str!("../../mappings/policy.toml")),
            ("roles/payments.toml", include_str!("../../mappings/roles/payments.toml")),
            ("roles/search.toml", include_str!("../../mappings/roles/search.toml")),
            ("teams/payments/deploy.toml", include_str!("../../mappings/teams/payments/deploy.toml")),
            ("teams/search/index.toml", include_str!("../../mappings/teams/search/index.toml")),
        ];
        let files = files.into_iter().map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).collect();
        let folder = Folder { files };
        let set = claimbound_core::mapping::load(&folder, &Profiles::builtin()).set.expect("the sample loads");
        (folder, set)
    }

    fn explained(line: &str) -> (u8, String, serde_json::Value) {
        let (folder, set) = sample();
        let args = args(line).expect("a legal line");
        let mut given = args.job.given().expect("a job");
        let issuer = issuer_of(&set, args.issuer.as_deref(), &given, args.role.as_deref()).expect("an issuer");
        given.fill_ids(&set, issuer);
        let told = explain_case(
            &set,
            &Profiles::builtin(),
            (issuer, &given),
            (None, &serde_json::Value::Null),
            args.role.as_deref(),
            UnixSeconds(0),
        )
        .expect("a case");
        (told.exit_code(), told.to_text(&set, Some(&folder)), told.to_json(&set))
    }

    const DEPLOY: &str = "--issuer github --repository acme/payments-api --environment production --event push \
        --claim runner_environment=github-hosted --claim job_workflow.repository=acme/ci \
        --claim job_workflow.file=.github/workflows/deploy.yml --claim job_workflow.ref=refs/heads/main";

    #[test]
    fn a_grant_says_what_is_given() {
        let (code, text, json) = explained(&format!("{DEPLOY} --branch main"));
        assert_eq!(code, 0, "{text}");
        assert!(text.starts_with("grant: mapping `payments-production` gives `payments-deploy.production` for 30m\n"));
        assert_eq!((&json["decision"], &json["duration_seconds"]), (&"grant".into(), &1800.into()));
    }

    #[test]
    fn a_denial_shows_the_nearest_miss_its_line_and_the_edit() {
        let (code, text, json) = explained(&format!("{DEPLOY} --branch dev --role payments-deploy.production"));
        assert_eq!(code, 1);
        assert!(text.contains("mapping `payments-production` of team `payments`"), "{text}");
        assert!(
            text.contains("  FAIL branch: expected `main`, got `dev`  [match, teams/payments/deploy.toml:"),
            "{text}"
        );
        assert!(
            text.contains("to allow it: in `teams/payments/deploy.toml` write `branch = [\"main\", \"dev\"]`"),
            "{text}"
        );
        assert_eq!(json["trace"]["mappings"][0]["conditions"][0]["claim"], "repository");
    }

    #[test]
    fn a_deny_rule_is_named_with_its_reason() {
        let line = DEPLOY.replace("github-hosted", "self-hosted") + " --branch main --role payments-deploy.production";
        let (code, text, json) = explained(&line);
        assert_eq!((code, &json["rule"]), (1, &"no-self-hosted-in-production".into()));
        assert!(text.contains("deny `no-self-hosted-in-production` holds: shared runners are not isolated"), "{text}");
    }

    #[test]
    fn a_stranger_is_refused_before_any_mapping() {
        let (code, text, json) = explained("--issuer github --repository evil/api --event push --branch main");
        assert_eq!((code, &json["reason"]), (1, &"stranger".into()));
        assert!(text.contains("no mapping was looked at"), "{text}");
    }

    #[test]
    fn the_issuer_may_be_left_out_where_it_is_clear() {
        let (_, set) = sample();
        let claims = |url: &str| Given::Claims(serde_json::json!({ "iss": url }));
        let id = |name: &str| set.issuer_named(name).expect("it is there").0;
        let found = |given: &Given, role| issuer_of(&set, None, given, role).ok();
        assert_eq!(found(&claims("https://gitlab.acme.example"), None), Some(id("gitlab")));
        assert_eq!(found(&claims("https://else.example"), Some("payments-secrets")), None);
        let job = |repository: &str| Given::Workload(vec![(Claim::Repository, repository.to_owned())].into());
        assert_eq!(found(&job("search/indexer"), None), Some(id("gitlab")), "a mapping names it");
        assert_eq!(found(&job("search/indexer"), Some("payments-secrets")), Some(id("gitlab")), "whatever is asked");
        assert_eq!(found(&job("search/other"), Some("search-index")), Some(id("gitlab")), "the role's");
        assert_eq!(found(&job("acme/other"), None), Some(id("github")), "it lists the owner");
        assert_eq!(found(&job("search/other"), None), None, "there are two");
        assert!(issuer_of(&set, Some("jenkins"), &job("acme/payments-api"), None).is_err());
    }

    /// From the folder on disk to the exit code.
    #[test]
    fn the_exit_code_is_the_answer() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/mappings");
        let code = |line: &str| run(args(line).expect("a legal line")).map_err(|error| error.to_string());
        assert_eq!(code(&format!("--mappings {root} {DEPLOY} --branch main")), Ok(0));
        assert_eq!(code(&format!("--mappings {root} {DEPLOY} --branch main --format json")), Ok(0));
        assert_eq!(code(&format!("--mappings {root} {DEPLOY} --branch dev")), Ok(1));
        assert!(code(&format!("--mappings {root}/nowhere {DEPLOY}")).is_err());
        assert!(code(&format!("--mappings {root}")).is_err(), "no job");
        let folder = tempfile::tempdir().expect("a folder");
        let token = folder.path().join("claims.json");
        let claims = r#"{ "iss": "https://token.actions.githubusercontent.com", "sub": "repo:acme/payments-api:ref:refs/heads/main",
            "repository": "acme/payments-api", "repository_id": "740000001", "repository_owner": "acme",
            "repository_owner_id": "65", "ref": "refs/heads/main", "ref_type": "branch", "event_name": "push" }"#;
        std::fs::write(&token, claims).expect("written");
        assert_eq!(code(&format!("--mappings {root} --claims {}", token.display())), Ok(1));
        std::fs::write(&token, "[]").expect("written");
        assert!(code(&format!("--mappings {root} --claims {}", token.display())).is_err());
        std::fs::write(folder.path().join("policy.toml"), "format = 1\nnonsense = 2\n").expect("written");
        std::fs::remove_file(&token).expect("removed");
        assert_eq!(code(&format!("--mappings {} {DEPLOY}", folder.path().display())), Ok(2), "it does not load");
    }

    #[test]
    fn lines_that_contradict_themselves_are_refused() {
        for line in ["--claims x --branch main", "--branch a --tag b", "--claim nothing=1", "--claim ref"] {
            assert!(args(line).is_err(), "{line}");
        }
        assert!(args("--claims -").is_ok());
    }
}
