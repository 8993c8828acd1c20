//! Roles and mappings as the folder's files write them.

use super::{
    super::new::quoted,
    model::{Gives, RoleOf},
    names::{Ids, Names},
    pattern::Pattern,
    pins::Pair,
    when::{Value, When},
};
use claimbound_core::workload::Claim;
use std::{collections::BTreeSet, fmt::Write as _};

/// Sessions of AWS last so long, in seconds; a policy that says nothing means an hour.
const AWS_SECONDS: std::ops::RangeInclusive<u64> = 900..=43_200;
const HOUR_SECONDS: u64 = 3600;
const REASON: &str = "imported: write why every repository may";

/// A mapping of the folder.
pub struct Mapping {
    pub name: String,
    pub role: String,
    pub place: String,
    pub issuer: String,
    /// Empty: the alternatives pin otherwise.
    pub repositories: BTreeSet<Pair>,
    pub alternatives: Vec<When>,
}

/// A mapping for every repository of an owner, as a comment.
pub fn aside(owner: &str, when: &When, role: &str, names: &mut Names) -> Option<String> {
    let mut rest = when.clone();
    rest.0.remove(&Claim::RepositoryOwner);
    let all = Pattern::star(&format!("{owner}/*"));
    if rest.get(Claim::Repository) == Some(&Value::one(all)) {
        rest.0.remove(&Claim::Repository);
    }
    let lines = format!(
        "[[mapping]]\nname = {}\ndescription = {}\nroles = [{}]\nany_repository = {}\n[mapping.match]\nrepository_owner = {}\n{}",
        quoted(&names.mapping(&format!("{role}-any"))),
        quoted(&format!("Every repository of {owner}")),
        quoted(role),
        quoted(REASON),
        quoted(owner),
        rest.toml().ok()?
    );
    let lines: String = lines.lines().map(|line| format!("# {line}\n")).collect();
    Some(format!("\n# Not imported, since it is for every repository of an owner:\n{lines}"))
}

impl RoleOf {
    pub fn toml(&self, name: &str, team: &str, issuers: &BTreeSet<String>) -> String {
        let issuers: Vec<_> = issuers.iter().map(|issuer| quoted(issuer)).collect();
        let mut text = String::from("\n");
        for remark in &self.remarks {
            let _ = writeln!(text, "# {remark}");
        }
        let (backend, seconds, table) = match &self.gives {
            Gives::Aws { role_arn, max_seconds } => (
                "aws",
                max_seconds.unwrap_or(HOUR_SECONDS).clamp(*AWS_SECONDS.start(), *AWS_SECONDS.end()),
                format!("role_arn = {}\n", quoted(role_arn)),
            ),
            Gives::Jwt { audience } => ("jwt", HOUR_SECONDS, format!("audience = {}\n", quoted(audience))),
        };
        let duration =
            if seconds % HOUR_SECONDS == 0 { format!("{}h", seconds / HOUR_SECONDS) } else { format!("{seconds}s") };
        let _ = write!(
            text,
            "[role.{name}]\ndescription = {}\nbackend = {}\nteams = [{}]\nissuers = [{}]\nsensitivity = \"internal\"\n\
             max_duration = {}\n[role.{name}.{backend}]\n{table}",
            quoted(&self.description),
            quoted(backend),
            quoted(team),
            issuers.join(", "),
            quoted(&duration),
        );
        text
    }
}

impl Mapping {
    pub fn toml(&self, ids: &mut Ids) -> Result<String, String> {
        let mut text = String::new();
        let mut pair = |(name, id): &Pair| match ids.repository(&self.issuer, name, id.as_deref()) {
            Some(id) => format!("{{ name = {}, id = {id} }}", quoted(name)),
            None => format!("{{ name = {} }}", quoted(name)),
        };
        let pairs: Vec<String> = self.repositories.iter().map(&mut pair).collect();
        if pairs.len() > 1 {
            let rows: String = pairs.iter().map(|pair| format!("  {pair},\n")).collect();
            let _ = write!(text, "\n[set.{}]\nrepositories = [\n{rows}]\n", self.name);
        }
        let _ = write!(
            text,
            "\n[[mapping]]\nname = {}\ndescription = {}\nroles = [{}]\n[mapping.match]\n",
            quoted(&self.name),
            quoted(&format!("Imported from {}", self.place)),
            quoted(&self.role),
        );
        match pairs.as_slice() {
            [] => {}
            [one] => {
                let _ = writeln!(text, "repository = {one}");
            }
            _ => {
                let _ = writeln!(text, "repository = {{ set = {} }}", quoted(&self.name));
            }
        }
        let first = self.alternatives.first().cloned().unwrap_or_default();
        let common = When::of(
            first
                .0
                .into_iter()
                .filter(|(claim, value)| self.alternatives.iter().all(|of| of.get(*claim) == Some(value))),
        );
        // The parts of a workflow are one table, which stands in one place.
        let split = |claim: &Claim| {
            let table = claim.name().split_once('.').map(|(table, _)| table);
            table.is_some_and(|table| {
                let differs = |of: &When| {
                    of.0.keys().any(|key| key.name().starts_with(&format!("{table}.")) && common.get(*key).is_none())
                };
                self.alternatives.iter().any(differs)
            })
        };
        let common = When::of(common.0.iter().filter(|(claim, _)| !split(claim)).map(|(a, b)| (*a, b.clone())));
        text.push_str(&common.toml()?);
        if self.alternatives.len() > 1 {
            for when in &self.alternatives {
                let own = When::of(
                    when.0.iter().filter(|(claim, _)| common.get(**claim).is_none()).map(|(a, b)| (*a, b.clone())),
                );
                text.push_str("[[mapping.any]]\n");
                text.push_str(&own.toml()?);
            }
        }
        Ok(text)
    }
}
