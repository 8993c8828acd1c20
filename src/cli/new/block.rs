//! A mapping in TOML, with a job that it lets through and one that it does not: both from the conditions themselves,
//! `require` and denies included, so that the tests pass as they are written.

use super::super::{dev::for_shell, loaded::Loaded};
use anyhow::{Context as _, Result, bail};
use claimbound_core::{
    diag::Diagnostic,
    lang::{
        pattern::Lang,
        space::{Domain, Space},
    },
    mapping::{Folder, Issuer, MappingSet, Role, load, possible_roles},
    review::{
        Given, World,
        boxes::{Axis, Jobs, meet, subtract},
        run_tests,
    },
    time::UnixSeconds,
    workload::{Case, Claim, Kind, Profile, Profiles},
};
use clap::Args;
use std::{collections::BTreeMap, fmt::Write as _, path::Path};

/// Any number that no repository is likely to have.
const OTHER_ID: u64 = 987_654_321;
const HEADS: &str = "refs/heads/";
const TAGS: &str = "refs/tags/";
/// Claims that tests leave out: the folder pairs them with the repository's name.
const FILLED_IN: [Claim; 3] = [Claim::RepositoryId, Claim::RepositoryOwner, Claim::RepositoryOwnerId];

/// A name with the immutable id that the forge gave it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    pub name: String,
    pub id: String,
}

impl std::str::FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once('=').filter(|(name, id)| !name.is_empty() && !id.is_empty()) {
            Some((name, id)) => Ok(Self { name: name.to_owned(), id: id.to_owned() }),
            None => Err(format!("write name and immutable id, as in `{}=740000001`", text.trim_matches('='))),
        }
    }
}

impl Pair {
    /// As the folder's files write it.
    pub fn toml(&self) -> String {
        format!("{{ name = {}, id = {} }}", quoted(&self.name), self.id_toml())
    }
    pub fn id_toml(&self) -> String {
        let decimal = self.id.len() <= 18 && self.id.bytes().all(|byte| byte.is_ascii_digit());
        if decimal { self.id.clone() } else { quoted(&self.id) }
    }
}

/// What a mapping gives, and to which jobs.
#[derive(Clone, Debug, Args)]
pub struct Block {
    /// The team whose file it goes to
    #[arg(long)]
    pub team: String,
    /// A role that it gives, such as `shop-deploy.production`; several times for several
    #[arg(long = "role", value_name = "ROLE", required = true)]
    pub roles: Vec<String>,
    /// A repository with its immutable id; several times for several
    #[arg(long = "repository", value_name = "NAME=ID", required = true)]
    pub repositories: Vec<Pair>,
    /// A branch, exactly; several times for several
    #[arg(long = "branch", value_name = "BRANCH", conflicts_with = "tag")]
    pub branches: Vec<String>,
    /// Tags of this form, such as `v*`
    #[arg(long, value_name = "GLOB")]
    pub tag: Option<String>,
    /// The environment that the job names
    #[arg(long)]
    pub environment: Option<String>,
    /// Only from a branch or tag that the forge protects
    #[arg(long)]
    pub protected: bool,
    /// Whose jobs, if its roles leave a choice
    #[arg(long)]
    pub issuer: Option<String>,
    /// Longest life of a credential, such as `30m`
    #[arg(long, value_name = "DURATION")]
    pub max_duration: Option<String>,
    /// What people read about it
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
}

/// What came of writing.
pub enum Written {
    /// To be put at the end of a file.
    Done {
        path: String,
        text: String,
        /// The arguments of `explain` for a job that gets the roles.
        job: String,
    },
    /// The mapping itself does not load.
    Refused { folder: Folder, findings: Vec<Diagnostic> },
}

impl Block {
    /// The block, with its tests. `team_path`: the folder of the team's files.
    ///
    /// # Errors
    /// When no job could ever get the roles so, or nothing says whose jobs these are.
    pub fn write(&self, name: &str, loaded: &Loaded, team_path: &str) -> Result<Written> {
        let issuer = self.issuer(&loaded.set)?;
        let profile = loaded.profiles.get(&issuer.profile).context("the issuer's profile is known")?;
        if !profile.provides(Claim::RepositoryId) {
            bail!(
                "tokens of `{}` name no repository by id; write the mapping by hand: `claimbound profile show {}` \
                 lists what it can pin",
                issuer.name,
                issuer.profile
            );
        }
        let (path, head) = self.place(name, &loaded.folder, team_path, &issuer.name)?;
        let mapping = head + &self.mapping(name);
        let folder = with(&loaded.folder, &path, &mapping);
        let alone = load(&folder, &Profiles::builtin());
        let Some(set) = alone.set else { return Ok(Written::Refused { folder, findings: alone.diagnostics }) };
        let job = self.job(name, &set, profile)?;
        let grant = self.grant(name, &set, &alone.profiles, issuer, &job)?;
        let tests_before = alone.tests.len();
        let passes = |deny: &str| {
            let folder = with(&loaded.folder, &path, &format!("{mapping}{grant}{deny}"));
            let loaded = load(&folder, &Profiles::builtin());
            let Some(set) = loaded.set else { return false };
            loaded.tests.len() == tests_before + 2
                && run_tests(&set, &loaded.profiles, &loaded.tests).iter().all(|test| test.failure.is_none())
        };
        let candidates = self.denied(name, profile, &job);
        // Where another test fails already, the caller tells which.
        let deny = candidates.iter().find(|deny| passes(deny)).or(candidates.first());
        let deny = deny.context("no job can be told from those that the mapping is for")?;
        Ok(Written::Done { text: format!("{mapping}{grant}{deny}"), path, job: arguments(&job) })
    }

    fn issuer<'s>(&self, set: &'s MappingSet) -> Result<&'s Issuer> {
        if let Some(name) = &self.issuer {
            let known = set.issuer_named(name).map(|(_, issuer)| issuer);
            return known.with_context(|| format!("there is no issuer `{name}` in policy.toml"));
        }
        let roles: Vec<&Role> =
            self.roles.iter().filter_map(|role| set.role_named(role)).map(|role| set.role(role)).collect();
        let of_all = |issuer: &&Issuer| {
            roles.iter().all(|role| role.issuers.is_empty() || role.issuers.iter().any(|name| **name == *issuer.name))
        };
        let possible: Vec<&Issuer> = set.issuers.iter().filter(of_all).collect();
        match possible.as_slice() {
            [issuer] => Ok(issuer),
            [] => bail!("no issuer may give all of these roles; write a mapping for each role"),
            several => {
                let names = several.iter().map(|issuer| format!("`{}`", issuer.name)).collect::<Vec<_>>();
                bail!("say whose jobs these are: `--issuer` with one of {}", names.join(", "))
            }
        }
    }

    /// The file, and what stands between its present end and the block. A file whose `[file.match]` would narrow the
    /// mapping unseen is not taken.
    fn place(&self, name: &str, folder: &Folder, team_path: &str, issuer: &str) -> Result<(String, String)> {
        let below = format!("{team_path}/");
        for (path, bytes) in folder.files.iter().filter(|(path, _)| path.starts_with(&below)) {
            let text = String::from_utf8_lossy(bytes);
            let Ok(table) = text.parse::<toml::Table>() else { continue };
            let Some(file) = table.get("file").and_then(toml::Value::as_table) else { continue };
            if file.get("issuer").and_then(toml::Value::as_str) == Some(issuer) && !file.contains_key("match") {
                let gap = if text.ends_with('\n') { "\n" } else { "\n\n" };
                return Ok((path.clone(), gap.to_owned()));
            }
        }
        let path = format!("{team_path}/{name}.toml");
        if folder.files.contains_key(&path) {
            bail!("`{path}` is there already and narrows all its mappings by `[file.match]`; choose another name");
        }
        Ok((path, format!("[file]\nissuer = {}\n\n", quoted(issuer))))
    }

    fn mapping(&self, name: &str) -> String {
        let list = |texts: &[String]| match texts {
            [one] => quoted(one),
            several => quoted_list(several),
        };
        let mut text = format!("[[mapping]]\nname = {}\n", quoted(name));
        let mut line = |key: &str, value: String| {
            writeln!(text, "{key} = {value}").expect("a string takes all text");
        };
        line("description", quoted(&self.description()));
        line("roles", quoted_list(&self.roles));
        if let Some(duration) = &self.max_duration {
            line("max_duration", quoted(duration));
        }
        text.push_str("[mapping.match]\n");
        let mut line = |key: &str, value: String| {
            writeln!(text, "{key} = {value}").expect("a string takes all text");
        };
        match self.repositories.as_slice() {
            [one] => line("repository", one.toml()),
            several => {
                let rows: String = several.iter().map(|pair| format!("  {},\n", pair.toml())).collect();
                line("repository", format!("[\n{rows}]"));
            }
        }
        if !self.branches.is_empty() {
            line("branch", list(&self.branches));
        }
        match &self.tag {
            Some(glob) if glob.contains(['*', '{']) => line("tag", format!("{{ glob = {} }}", quoted(glob))),
            Some(tag) => line("tag", quoted(tag)),
            None => {}
        }
        if let Some(environment) = &self.environment {
            line("environment", quoted(environment));
        }
        if self.protected {
            line("ref_protected", "true".to_owned());
        }
        text
    }

    fn description(&self) -> String {
        if let Some(text) = &self.description {
            return text.clone();
        }
        let names: Vec<&str> = self.repositories.iter().map(|pair| pair.name.as_str()).collect();
        let mut text = format!("Jobs of {}", names.join(", "));
        let mut add = |what: String| text.push_str(&what);
        match (self.branches.as_slice(), &self.tag) {
            ([], None) => {}
            ([], Some(tag)) => add(format!(" for tags {tag}")),
            (branches, _) => add(format!(" from {}", branches.join(", "))),
        }
        if let Some(environment) = &self.environment {
            add(format!(" in {environment}"));
        }
        text
    }

    /// A job that the mapping lets through and no deny takes away.
    fn job(&self, name: &str, set: &MappingSet, profile: &Profile) -> Result<Vec<(Claim, String)>> {
        let mapping = set.mappings.iter().find(|mapping| mapping.name == name).context("the mapping is in the set")?;
        let world = World::new(profile, set.issuer(mapping.issuer))?;
        let required = mapping.roles.iter().filter_map(|role| set.requires.get(&(*role, mapping.issuer))).flatten();
        let mut jobs = world.granted(mapping.conditions.iter().chain(required))?;
        for deny in &set.denies {
            let of_issuer = deny.issuers.is_empty() || deny.issuers.contains(&mapping.issuer);
            if of_issuer && mapping.roles.iter().any(|role| deny.roles.contains(role)) {
                jobs = subtract(jobs, &world.denied(&deny.conditions)?)?;
            }
        }
        // What people would write, where it is allowed.
        let events = profile.default_events().iter().map(|event| (Claim::EventName, event.clone()));
        let tag = self.tag.as_ref().map(|glob| {
            let tag = glob.replace("**", "1").replace('*', "1").replace("{num}", "1");
            (Claim::Ref, format!("refs/tags/{tag}"))
        });
        let own = self.repositories.iter().map(|pair| (Claim::Repository, pair.name.clone()));
        let branches = self.branches.iter().map(|branch| (Claim::Ref, format!("refs/heads/{branch}")));
        let runner = [(Claim::RunnerEnvironment, "github-hosted".to_owned())];
        let mut found = None;
        for jobs in &jobs {
            let mut jobs = vec![jobs.clone()];
            for (claim, text) in
                own.clone().chain(branches.clone()).chain(tag.clone()).chain(events.clone()).chain(runner.clone())
            {
                if jobs.iter().all(|jobs| jobs.get(Axis::Claim(claim)).is_none()) {
                    continue;
                }
                let only: Jobs = Space::of([(Axis::Claim(claim), Domain::of(Lang::exact(&text, false)))])?;
                let narrowed = meet(&jobs, &[only])?;
                if world.first_witness(&narrowed)?.is_some() {
                    jobs = narrowed;
                }
            }
            found = world.first_witness(&jobs)?.map(|job| job.claims);
            if found.is_some() {
                break;
            }
        }
        found.with_context(|| {
            format!(
                "no job could get the roles by `{name}`: what the role requires or a `[[deny]]` takes all of them away"
            )
        })
    }

    fn grant(
        &self,
        name: &str,
        set: &MappingSet,
        profiles: &Profiles,
        issuer: &Issuer,
        job: &[(Claim, String)],
    ) -> Result<String> {
        let (id, _) = set.issuer_named(&issuer.name).context("the issuer is in the set")?;
        let mut given = Given::Workload(job.to_vec().into());
        given.fill_ids(set, id);
        let case = Case::alone(given.workload(set, profiles, id)?);
        let roles = possible_roles(set, &case, UnixSeconds(0));
        let roles: Vec<String> = roles.into_iter().map(|role| set.role(role).name.clone()).collect();
        Ok(format!(
            "\n[[test]]\nname = {}\nworkload = {}\nexpect = \"grant\"\nroles = {}\n",
            quoted(&format!("{name} gives its roles")),
            workload(job),
            quoted_list(&roles)
        ))
    }

    /// Tests of jobs that differ in one thing, the likeliest first.
    fn denied(&self, name: &str, profile: &Profile, job: &[(Claim, String)]) -> Vec<String> {
        let other = |claim: Claim, value: &str| {
            let mut job: Vec<_> = job.iter().filter(|(of, _)| *of != claim).cloned().collect();
            job.push((claim, value.to_owned()));
            job
        };
        let mut ways = Vec::new();
        if !self.branches.is_empty() {
            ways.push(("branch", "another branch", other(Claim::Ref, "refs/heads/another-branch")));
        }
        if self.tag.is_some() {
            ways.push(("tag", "a branch", other(Claim::Ref, "refs/heads/another-branch")));
        }
        if self.environment.is_some() {
            ways.push(("environment", "another environment", other(Claim::Environment, "another-environment")));
        }
        if let Some(event) = profile.pull_request_events().first() {
            ways.push(("event_name", "a pull request", other(Claim::EventName, event)));
        }
        let id = profile.sample_id(Claim::RepositoryId, OTHER_ID);
        ways.push(("repository", "a new repository under the old name", other(Claim::RepositoryId, &id)));
        let test = |(fails, what, job): &(&str, &str, Vec<(Claim, String)>), exactly: bool| {
            let keep_id = *fails == "repository";
            let fails = if exactly { format!("fails = [{}]\n", quoted(fails)) } else { String::new() };
            format!(
                "\n[[test]]\nname = {}\nworkload = {}\nexpect = \"deny\"\nrole = {}\n{fails}",
                quoted(&format!("{name} is not for {what}")),
                if keep_id { workload_with_id(job) } else { workload(job) },
                quoted(&self.roles[0])
            )
        };
        ways.iter().map(|way| test(way, true)).chain(ways.iter().map(|way| test(way, false))).collect()
    }
}

/// The folder with a text at the end of one of its files.
fn with(folder: &Folder, path: &str, text: &str) -> Folder {
    let mut folder = folder.clone();
    folder.files.entry(path.to_owned()).or_default().extend(text.as_bytes());
    folder
}

/// A job as tests write it.
pub fn workload(job: &[(Claim, String)]) -> String {
    let told: Vec<_> = job.iter().filter(|(claim, _)| !FILLED_IN.contains(claim)).cloned().collect();
    workload_with_id(&told)
}

/// A job as the arguments of `explain`.
fn arguments(job: &[(Claim, String)]) -> String {
    let told = job.iter().filter(|(claim, _)| !FILLED_IN.contains(claim)).map(|(claim, text)| {
        let (flag, text) = match (claim, text.as_str()) {
            (Claim::Repository, name) => ("repository", name),
            (Claim::EventName, event) => ("event", event),
            (Claim::Environment, name) => ("environment", name),
            (Claim::Ref, text) if text.starts_with(HEADS) => ("branch", &text[HEADS.len()..]),
            (Claim::Ref, text) if text.starts_with(TAGS) => ("tag", &text[TAGS.len()..]),
            (claim, text) => return format!("--claim {}={}", claim.name(), for_shell(Path::new(text))),
        };
        format!("--{flag} {}", for_shell(Path::new(text)))
    });
    told.collect::<Vec<_>>().join(" ")
}

/// The same, with ids that differ from the folder's.
pub fn workload_with_id(job: &[(Claim, String)]) -> String {
    let mut keys: Vec<(usize, String, String)> = Vec::new();
    let mut workflows: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (claim, text) in job {
        let value = if claim.kind() == Kind::Boolean { text.clone() } else { quoted(text) };
        match (claim.name().split_once('.'), claim, text) {
            (Some((workflow, part)), ..) => workflows.entry(workflow).or_default().push(format!("{part} = {value}")),
            (_, Claim::Ref, text) if text.starts_with(HEADS) => {
                keys.push((1, "branch".to_owned(), quoted(&text[HEADS.len()..])));
            }
            (_, Claim::Ref, text) if text.starts_with(TAGS) => {
                keys.push((1, "tag".to_owned(), quoted(&text[TAGS.len()..])));
            }
            (_, Claim::Repository, _) => keys.push((0, claim.name().to_owned(), value)),
            _ => keys.push((2, claim.name().to_owned(), value)),
        }
    }
    keys.sort_by_key(|(rank, ..)| *rank);
    let plain = keys.into_iter().map(|(_, key, value)| format!("{key} = {value}"));
    let tables = workflows.into_iter().map(|(key, parts)| format!("{key} = {{ {} }}", parts.join(", ")));
    format!("{{ {} }}", plain.chain(tables).collect::<Vec<_>>().join(", "))
}

/// A TOML string.
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn quoted_list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_a_name_and_an_id() {
        let pair: Pair = "acme/a=b=7".parse().expect("a pair");
        assert_eq!((pair.name.as_str(), pair.toml().as_str()), ("acme/a=b", r#"{ name = "acme/a=b", id = 7 }"#));
        let uuid: Pair = "acme/a={0-1}".parse().expect("a pair");
        assert_eq!(uuid.id_toml(), "\"{0-1}\"");
        for none in ["acme/a", "=7", "acme/a="] {
            assert!(none.parse::<Pair>().is_err_and(|told| told.contains("=740000001")), "{none}");
        }
    }

    #[test]
    fn a_job_is_written_as_people_do() {
        let job = [
            (Claim::JobWorkflowFile, "d.yml".to_owned()),
            (Claim::RefProtected, "true".to_owned()),
            (Claim::Ref, "refs/heads/main".to_owned()),
            (Claim::RepositoryId, "7".to_owned()),
            (Claim::Repository, "acme/a".to_owned()),
        ];
        assert_eq!(
            workload(&job),
            r#"{ repository = "acme/a", branch = "main", ref_protected = true, job_workflow = { file = "d.yml" } }"#
        );
    }
}
