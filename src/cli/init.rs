//! `claimbound init`: a first folder that checks clean, small enough to be read, with every part that a folder has.

use super::{
    loaded::{self, Loaded},
    new::{self, Block, Pair},
    render::Format,
};
use anyhow::{Context as _, Result, bail};
use claimbound_core::{
    diag::{Diagnostic, did_you_mean},
    mapping::{Folder, load},
    workload::{Claim, Profile, Profiles, Tenancy},
};
use serde_json::json;
use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// What to give, where something is missing.
const HELP: &str = "\
For example:
  claimbound init --issuer github --owner acme=65 --team shop --repository acme/shop-api=740000011

Ids are immutable, names are not; the forge tells them:
  GitHub   gh api repos/acme/shop-api --jq '.owner.id, .id'
  GitLab   glab api projects/acme%2Fshop-api   (`id`, and `namespace.id`)
";

/// Write a first mapping folder that checks clean
///
/// `policy.toml`, a role, a team's mapping and tests, from what the flags say. Nothing is asked, nothing overwritten.
/// Exit code 0; 1: a folder of these parts would not load, and nothing is written; 2: usage, or there is a folder
/// already.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  claimbound init --issuer github --owner acme=65 --team shop --repository acme/shop-api=740000011")]
pub struct InitArgs {
    /// The folder to write
    #[arg(default_value = "mappings")]
    directory: PathBuf,
    /// Whose jobs: `github`, `gitlab` or another profile of `claimbound profile show`
    #[arg(long, value_name = "PROFILE")]
    issuer: Option<String>,
    /// The exact `iss` of its tokens, where the profile leaves a choice
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// An owner (organization, group) whose jobs may be known, with its immutable id; several times for several
    #[arg(long = "owner", value_name = "NAME=ID")]
    owners: Vec<Pair>,
    /// The first team
    #[arg(long)]
    team: Option<String>,
    /// A repository of the team's with its immutable id; several times for several
    #[arg(long = "repository", value_name = "NAME=ID")]
    repositories: Vec<Pair>,
    /// The branch that deploys
    #[arg(long, default_value = "main")]
    branch: String,
    /// Who accepts the first role's credential
    #[arg(long, value_name = "URL", default_value = "https://deploy.example.com")]
    audience: String,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command; the exit code.
///
/// # Errors
/// When something is missing, or the folder cannot be written.
pub fn run(args: &InitArgs) -> Result<u8> {
    let missing: Vec<&str> = [
        (args.issuer.is_none(), "`--issuer PROFILE`"),
        (args.team.is_none(), "`--team NAME`"),
        (args.repositories.is_empty(), "`--repository NAME=ID`"),
    ]
    .into_iter()
    .filter_map(|(missing, flag)| missing.then_some(flag))
    .collect();
    let (Some(issuer), Some(team), []) = (&args.issuer, &args.team, missing.as_slice()) else {
        writeln!(io::stderr(), "{HELP}")?;
        bail!("say {}", missing.join(", "));
    };
    if args.directory.exists() {
        bail!(
            "`{}` is there already, and nothing is overwritten; name another folder, or add to it with `claimbound new \
             mapping`",
            args.directory.display()
        );
    }
    let profiles = Profiles::builtin();
    let profile = profile(issuer, &profiles)?;
    let root = args.directory.display().to_string();
    let mut folder = Folder { files: args.frame(profile, &profiles, team)? };
    let loaded = load(&folder, &profiles);
    let Some(set) = loaded.set else { return args.refused(&loaded.diagnostics, &folder) };
    let frame = Loaded { folder: folder.clone(), set, profiles: loaded.profiles };
    let block = Block {
        team: team.clone(),
        roles: vec![format!("{team}-deploy")],
        repositories: args.repositories.clone(),
        branches: vec![args.branch.clone()],
        tag: None,
        environment: None,
        // Where the issuer tells it whenever it is so, a branch's name alone would let in whoever may push it.
        protected: [Claim::RefProtected, Claim::EnvironmentProtected].iter().all(|claim| profile.provides(*claim)),
        issuer: None,
        max_duration: Some("30m".to_owned()),
        description: None,
    };
    let (path, text, job) =
        match block.write(&format!("{team}-{}", slug(&args.branch)), &frame, &format!("teams/{team}"))? {
            new::Written::Done { path, text, job } => (path, text, job),
            new::Written::Refused { folder, findings } => return args.refused(&findings, &folder),
        };
    folder.files.entry(path).or_default().extend(text.as_bytes());
    let findings = new::findings(&folder);
    if !findings.is_empty() {
        return args.refused(&findings, &folder);
    }
    for (path, content) in &folder.files {
        write(&args.directory.join(path), content)?;
    }
    let files: Vec<String> = folder.files.keys().map(|path| format!("{root}/{path}")).collect();
    let next = [
        format!("claimbound check {root}"),
        format!("claimbound explain --mappings {root} {job} --role {team}-deploy"),
        format!(
            "claimbound new mapping NAME --mappings {root} --team {team} --role {team}-deploy --repository NAME=ID --branch \
             BRANCH"
        ),
        "claimbound dev".to_owned(),
    ];
    loaded::print(&match args.format {
        Format::Json => format!("{:#}\n", json!({ "files": files, "written": true, "next": next })),
        Format::Human => {
            let lines = |lines: &[String]| lines.iter().map(|line| format!("  {line}\n")).collect::<String>();
            let files = lines(&files);
            let next = lines(&next);
            format!(
                "{files}\nThe folder loads and its tests pass. To go on:\n{}      (a local issuer and broker, to try an \
                 exchange)\n",
                next.trim_end()
            )
        }
    })?;
    Ok(0)
}

/// A profile by its name, or by the forge's.
fn profile<'p>(name: &str, profiles: &'p Profiles) -> Result<&'p Profile> {
    let known = profiles.get(name).or_else(|| profiles.iter().find(|profile| short(&profile.name) == name));
    let profile = known.with_context(|| {
        let names = profiles.iter().map(|profile| profile.name.as_str());
        let meant = did_you_mean(name, names).map(|meant| format!("did you mean `{meant}`? "));
        format!("there is no profile `{name}`; {}`claimbound profile show` names them", meant.unwrap_or_default())
    })?;
    if !profile.provides(Claim::RepositoryId) {
        bail!("tokens of `{name}` name no repository by id; begin with a forge, or write the folder by hand");
    }
    Ok(profile)
}

/// What an issuer of this profile is called.
fn short(profile: &str) -> &str {
    match profile {
        "github-actions" => "github",
        "bitbucket-pipelines" => "bitbucket",
        other => other,
    }
}

/// A branch as part of a name.
fn slug(branch: &str) -> String {
    let plain =
        branch.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' });
    plain.collect::<String>().trim_matches('-').to_owned()
}

impl InitArgs {
    fn refused(&self, findings: &[Diagnostic], folder: &Folder) -> Result<u8> {
        let root = self.directory.display().to_string();
        new::refuse(self.format, findings, folder, &root, "a folder of these parts would not load")
    }

    /// The files that stand before there is a mapping.
    fn frame(
        &self,
        profile: &Profile,
        profiles: &Profiles,
        team: &str,
    ) -> Result<std::collections::BTreeMap<String, Vec<u8>>> {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let issuer = short(&profile.name);
        let fixed = profile.url_forms().iter().find(|form| !form.contains('{'));
        let url = self.url.as_ref().or(fixed).with_context(|| {
            let forms = profile.url_forms().join(", ");
            format!("say with `--url` where the issuer is; its forms are {forms}")
        })?;
        let shared = profile.tenancy_of(url) == Some(Tenancy::Multi) || profiles.is_shared(url);
        if shared && profile.names_owner() && self.owners.is_empty() {
            writeln!(io::stderr(), "{HELP}")?;
            bail!("say `--owner NAME=ID`: strangers share `{url}`, so the owners whose jobs may be known are listed");
        }
        let mut owners = String::new();
        if self.owners.is_empty() && !shared {
            owners.push_str("tenancy = \"single\" # an instance of our own\n");
        }
        if !self.owners.is_empty() {
            let pairs: Vec<_> =
                self.owners.iter().map(|pair| format!("{} = {}", key(&pair.name), pair.id_toml())).collect();
            owners = format!("owners = {{ {} }} # jobs of other owners are strangers\n", pairs.join(", "));
        }
        let policy = format!(
            "# Platform and security: who may be trusted, who owns what, and what holds for everybody.\n\
             # All of the language: docs/mappings.md. After each change: claimbound check\n\
             format = 1\n\n\
             [issuer.{issuer}]\nprofile = {}\nurl = {} # the exact `iss` of its tokens\n{owners}\n\
             [team.{team}]\npath = {} # every file below it is theirs\n# contact = \"{team}-oncall@example.com\" # told to \
             jobs that are refused\nissuers = [{}]\n\n\
             # What mappings of such roles must keep to; a role says which it is.\n\
             [sensitivity.production]\nmax_duration = \"1h\"\nneeds_any = [\"branch\", \"tag\"] # each mapping must narrow one \
             of these\n",
            quoted(&profile.name),
            quoted(url),
            quoted(&format!("teams/{team}")),
            quoted(issuer),
        );
        let role = format!(
            "# What can be had. A team binds a role to jobs in its own files; nobody else can.\n\
             [role.{team}-deploy]\ndescription = \"Deploy what team {team} builds\"\nbackend = \"jwt\" # a signed token; \
             `aws` gives a session instead\nteams = [{}] # whose files may bind it\nissuers = [{}]\n\
             sensitivity = \"production\"\nmax_duration = \"1h\"\n\
             [role.{team}-deploy.jwt]\naudience = {} # who accepts the token\n",
            quoted(team),
            quoted(issuer),
            quoted(&self.audience),
        );
        let file = format!(
            "# The team's own: which of its jobs may have which roles, and tests that say so.\n[file]\nissuer = {}\n",
            quoted(issuer)
        );
        let files = [
            ("policy.toml".to_owned(), policy),
            (format!("roles/{team}.toml"), role),
            (format!("teams/{team}/deploy.toml"), file),
        ];
        Ok(files.into_iter().map(|(path, text)| (path, text.into_bytes())).collect())
    }
}

/// A TOML key.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if bare { name.to_owned() } else { toml::Value::String(name.to_owned()).to_string() }
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    let done = path.parent().map_or(Ok(()), fs::create_dir_all);
    let done = done.and_then(|()| fs::File::create_new(path)?.write_all(content));
    done.with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_branches_and_owners() {
        assert_eq!(slug("release/V1.x"), "release-v1-x");
        assert_eq!((key("acme-labs"), key("a.b")), ("acme-labs".to_owned(), "\"a.b\"".to_owned()));
        let profiles = Profiles::builtin();
        assert_eq!(profile("github", &profiles).expect("known").name, "github-actions");
        assert!(profile("githb-actions", &profiles).is_err_and(|told| told.to_string().contains("`github-actions`")));
        assert!(profile("google", &profiles).is_err_and(|told| told.to_string().contains("no repository")));
    }
}
