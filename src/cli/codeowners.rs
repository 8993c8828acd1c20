//! `claimbound codeowners`: who must review which part of the folder, from the teams that policy.toml names.

use super::{
    loaded::{self, Loaded},
    render::Format,
};
use anyhow::{Result, bail};
use claimbound_core::mapping::MappingSet;
use serde_json::json;
use std::path::PathBuf;

/// Print CODEOWNERS lines for a mapping folder, from its teams
///
/// The whole folder belongs to the platform team, the files below a team's path to that team: its `contact`, where that
/// is an e-mail address or a name such as `@acme/payments`. Put the lines into CODEOWNERS of GitHub or GitLab.
/// Exit code 0; 2: usage, or the folder does not load.
#[derive(Debug, clap::Args)]
pub struct CodeownersArgs {
    /// The mapping folder
    #[arg(long, value_name = "DIR", default_value = "mappings")]
    mappings: PathBuf,
    /// Who owns what is no team's, such as `@acme/platform`
    #[arg(long, value_name = "OWNER")]
    platform: String,
    /// Where the folder stands in its repository, if not where `--mappings` says
    #[arg(long, value_name = "PATH")]
    root: Option<String>,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command; the exit code.
///
/// # Errors
/// When the folder cannot be read, or an owner is none.
pub fn run(args: CodeownersArgs) -> Result<u8> {
    if !is_owner(&args.platform) {
        bail!("`--platform {}` is no owner; write `@acme/platform` or an e-mail address", args.platform);
    }
    let Some(Loaded { set, .. }) = loaded::load(&args.mappings)? else { return Ok(2) };
    let root = args.root.unwrap_or_else(|| args.mappings.display().to_string());
    let owners = owners(&set, root.trim_start_matches("./").trim_matches('/'), &args.platform);
    loaded::print(&match args.format {
        Format::Human => lines(&owners),
        Format::Json => {
            let owners =
                owners.iter().map(|Owned { path, team, owner }| json!({ "path": path, "team": team, "owner": owner }));
            format!("{:#}\n", json!({ "owners": owners.collect::<Vec<_>>() }))
        }
    })?;
    Ok(0)
}

/// Who reviews a part of the folder.
struct Owned<'a> {
    path: String,
    /// `None`: the platform.
    team: Option<&'a str>,
    /// `None`: the team's `contact` is nobody that a code host knows.
    owner: Option<&'a str>,
}

/// The last line that fits a file counts, so the widest comes first.
fn owners<'a>(set: &'a MappingSet, root: &str, platform: &'a str) -> Vec<Owned<'a>> {
    let root = if matches!(root, "" | ".") { String::new() } else { format!("/{root}") };
    let mut teams: Vec<_> = set.teams.iter().collect();
    teams.sort_by_key(|team| &team.path);
    let of_teams = teams.into_iter().map(|team| Owned {
        path: format!("{root}/{}/", team.path.trim_matches('/')),
        team: Some(&team.name),
        owner: team.contact.as_deref().filter(|contact| is_owner(contact)),
    });
    [Owned { path: format!("{root}/"), team: None, owner: Some(platform) }].into_iter().chain(of_teams).collect()
}

fn lines(owners: &[Owned<'_>]) -> String {
    let line = |Owned { path, team, owner }: &Owned<'_>| match owner {
        Some(owner) => format!("{path} {owner}\n"),
        // Without an owner of its own the platform's line counts: somebody reviews, and the wrong one is seen.
        None => {
            format!(
                "# {path}: the `contact` of team `{}` is no owner that a code host knows\n",
                team.unwrap_or_default()
            )
        }
    };
    let head = "# From `claimbound codeowners`: run it again when policy.toml changes.\n".to_owned();
    owners.iter().fold(head, |text, owned| text + &line(owned))
}

/// `@name`, `@organisation/team`, or an e-mail address: what GitHub and GitLab take.
/// <https://docs.github.com/en/repositories/managing-your-repositorys-settings-and-features/customizing-your-repository/about-code-owners>
fn is_owner(text: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
    };
    match text.split_once('@') {
        Some(("", name)) => name.split('/').all(plain),
        Some((local, domain)) => plain(local) && plain(domain) && domain.contains('.'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claimbound_core::{mapping::Folder, workload::Profiles};

    #[test]
    fn each_team_owns_what_lies_below_its_path() {
        let files = [
            (
                "policy.toml",
                include_str!("../../mappings/policy.toml").replace("search-oncall@acme.example", "#search"),
            ),
            ("roles/payments.toml", include_str!("../../mappings/roles/payments.toml").to_owned()),
        ];
        let files = files.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect();
        let set = claimbound_core::mapping::load(&Folder { files }, &Profiles::builtin()).set.expect("it loads");
        assert_eq!(
            lines(&owners(&set, "mappings", "@acme/platform")),
            "# From `claimbound codeowners`: run it again when policy.toml changes.\n\
             /mappings/ @acme/platform\n\
             /mappings/teams/payments/ payments-oncall@acme.example\n\
             # /mappings/teams/search/: the `contact` of team `search` is no owner that a code host knows\n"
        );
        assert!(lines(&owners(&set, ".", "@acme/platform")).contains("\n/ @acme/platform\n/teams/payments/ "));
    }

    #[test]
    fn an_owner_is_what_code_hosts_take() {
        for owner in ["@acme/payments", "@octocat", "@group/sub/team", "a.b+c@acme.example"] {
            assert!(is_owner(owner), "{owner}");
        }
        for none in ["", "#payments", "payments", "@", "@acme/", "a@b", "a b@acme.example", "@acme team"] {
            assert!(!is_owner(none), "{none}");
        }
    }
}
