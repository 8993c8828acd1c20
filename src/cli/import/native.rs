//! Claims as CI systems send them → conditions on canonical claims.
//!
//! The parts of a `sub` become conditions of their own, by the default templates: then one mapping covers a repository
//! before and after its `sub` carries ids, and says what it means. A `sub` of another template stays as it is, whole.

use super::{
    pattern::Pattern,
    when::{Value, When},
};
use claimbound_core::workload::{Claim, Kind, Profile, Profiles};

const HEADS: &str = "refs/heads/";
const TAGS: &str = "refs/tags/";
const PULLS: &str = "refs/pull/";

/// Whose tokens: an issuer's URL and profile.
#[derive(Clone, Debug)]
pub struct Source<'p> {
    pub url: String,
    pub profile: &'p Profile,
}

impl<'p> Source<'p> {
    /// `of_gitlab`: the policy's own words show that this is a GitLab, which no URL of an own instance does.
    ///
    /// # Errors
    /// When no profile is known for the issuer.
    pub fn find(url: &str, of_gitlab: bool, profiles: &'p Profiles) -> Result<Self, String> {
        let github = profiles.get("github-actions").filter(|profile| profile.tenancy_of(url).is_some());
        let fixed = profiles.iter().find(|profile| profile.url_forms().iter().any(|form| form == url));
        let gitlab = profiles.get("gitlab").filter(|profile| of_gitlab && profile.tenancy_of(url).is_some());
        let profile = github.or(fixed).or(gitlab).ok_or_else(|| {
            format!(
                "issuer `{url}` is none that `import` knows; write its mappings by hand, `claimbound profile show` lists \
                 the profiles"
            )
        })?;
        Ok(Self { url: url.to_owned(), profile })
    }

    /// Alternatives under which a native claim is any of `patterns`.
    ///
    /// # Errors
    /// Why this cannot be said.
    pub fn conditions(&self, native: &str, patterns: &[Pattern]) -> Result<Vec<When>, String> {
        let each = |of: &dyn Fn(&Pattern) -> Result<Vec<When>, String>| -> Result<Vec<When>, String> {
            Ok(patterns.iter().map(of).collect::<Result<Vec<_>, _>>()?.concat())
        };
        match (native, self.profile.name.as_str()) {
            ("sub", _) if patterns.iter().any(Pattern::is_anything) => Ok(vec![When::default()]),
            ("sub", "github-actions") => each(&github_subject),
            ("sub", "gitlab") => each(&gitlab_subject),
            ("ref", "github-actions") => each(&|pattern| Ok(github_ref(pattern))),
            ("ref", "gitlab") => each(&|pattern| {
                let of = |claim| When::of([(claim, Value::one(pattern.clone()))]);
                Ok(vec![of(Claim::Branch), of(Claim::Tag)])
            }),
            ("ref_path", "gitlab") => each(&|pattern| match full_ref(pattern) {
                Some(when) => Ok(vec![when]),
                None => Err("names neither branches nor tags".to_owned()),
            }),
            ("workflow_ref", "github-actions") => each(&|pattern| workflow(pattern, WORKFLOW).map(own_workflow)),
            ("job_workflow_ref", "github-actions") => each(&|pattern| Ok(vec![workflow(pattern, JOB_WORKFLOW)?])),
            ("ci_config_ref_uri", "gitlab") => each(&|pattern| self.ci_config(pattern)),
            ("sub", _) => self.plain(Claim::Subject, patterns),
            _ => match self.profile.canonical_of(native).filter(|claim| !claim.name().contains('.')) {
                Some(claim) => self.plain(claim, patterns),
                None => Err(format!("`{native}` is no claim that mappings know of this issuer")),
            },
        }
    }

    fn plain(&self, claim: Claim, patterns: &[Pattern]) -> Result<Vec<When>, String> {
        if claim.kind() == Kind::Boolean {
            let value = match patterns {
                [one] => one.text().and_then(|text| text.parse::<bool>().ok()),
                _ => None,
            };
            let value = value.ok_or_else(|| format!("`{}` is neither `true` nor `false`", claim.name()))?;
            return Ok(vec![When::of([(claim, Value::Is(value))])]);
        }
        if claim == Claim::EventName && patterns.iter().any(|pattern| pattern.text().is_none()) {
            if patterns.iter().any(Pattern::is_anything) {
                return Ok(vec![When::default()]);
            }
            return Err("events are named one by one, never by a pattern".to_owned());
        }
        Ok(vec![When::of([(claim, Value::OneOf(patterns.iter().cloned().collect()))])])
    }

    /// `host/group/project//path@ref`.
    fn ci_config(&self, pattern: &Pattern) -> Result<Vec<When>, String> {
        let host = self.url.trim_start_matches("https://");
        let form = "is not of the form `host/project//file@ref`";
        let rest = pattern.strip_prefix(&format!("{host}/")).ok_or(form)?;
        let (repository, rest) = rest.split_once("//").ok_or(form)?;
        let (file, reference) = rest.split_once("@").ok_or(form)?;
        Ok(own_workflow(When::of([
            (Claim::WorkflowRepository, Value::one(repository)),
            (Claim::WorkflowFile, Value::one(file)),
            (Claim::WorkflowRef, Value::one(reference)),
        ])))
    }
}

const WORKFLOW: [Claim; 3] = [Claim::WorkflowRepository, Claim::WorkflowFile, Claim::WorkflowRef];
const JOB_WORKFLOW: [Claim; 3] = [Claim::JobWorkflowRepository, Claim::JobWorkflowFile, Claim::JobWorkflowRef];

/// `owner/repository/file@ref`. An open end stands for all that it leaves out.
fn workflow(pattern: &Pattern, claims: [Claim; 3]) -> Result<When, String> {
    let (path, reference) = match pattern.split_once("@") {
        Some((path, reference)) => (path, Some(reference)),
        None if pattern.ends_open() => (pattern.clone(), None),
        None => return Err("names a workflow without `@` and its ref".to_owned()),
    };
    let (owner, rest) = path.split_once("/").ok_or("does not name a workflow's repository")?;
    let owner = owner.text().ok_or("names a workflow's owner by a pattern")?.to_owned();
    let (repository, file) = match rest.split_once("/") {
        Some((name, file)) => {
            let name = name.text().ok_or("names a workflow's repository by a pattern")?;
            (format!("{owner}/{name}"), file)
        }
        None => return Err("names a workflow's repository by a pattern".to_owned()),
    };
    let mut when = When::of([(claims[0], Value::exact(&repository))]);
    // What is anything needs no condition: every workflow has a file and a ref.
    for (claim, part) in [(claims[1], Some(file)), (claims[2], reference)] {
        if let Some(part) = part.filter(|part| !part.is_anything()) {
            when.0.insert(claim, Value::one(part));
        }
    }
    if !when.0.contains_key(&claims[1]) && !when.0.contains_key(&claims[2]) {
        when.0.insert(claims[1], Value::present());
    }
    Ok(when)
}

/// The workflow that a job's own repository holds: the repository is the job's.
fn own_workflow(mut when: When) -> Vec<When> {
    if let Some(repository) = when.0.remove(&Claim::WorkflowRepository) {
        when.0.insert(Claim::Repository, repository);
    }
    vec![when]
}

/// `refs/heads/…` and `refs/tags/…` as branch and tag.
fn full_ref(pattern: &Pattern) -> Option<When> {
    let branch = pattern.strip_prefix(HEADS).map(|name| (Claim::Branch, name));
    let (claim, name) = branch.or_else(|| pattern.strip_prefix(TAGS).map(|name| (Claim::Tag, name)))?;
    Some(When::of([(claim, Value::one(name))]))
}

fn github_ref(pattern: &Pattern) -> Vec<When> {
    if let Some(when) = full_ref(pattern) {
        return vec![when];
    }
    let mut when = When::of([(Claim::Ref, Value::one(pattern.clone()))]);
    if pattern.strip_prefix(PULLS).is_some() {
        when.0.insert(Claim::EventName, Value::exact("pull_request"));
    }
    vec![when]
}

/// `repo:OWNER/REPO:…` and `repo:OWNER@ID/REPO@ID:…`.
fn github_subject(pattern: &Pattern) -> Result<Vec<When>, String> {
    let told = || "its `sub` begins with no repository, so a custom template made it".to_owned();
    let rest = pattern.strip_prefix("repo:").ok_or_else(told)?;
    let (repository, context) = match rest.split_once(":") {
        Some((repository, context)) => (repository, Some(context)),
        None if rest.ends_open() => (rest, None),
        None => return Err("its `sub` ends behind the repository, which no job's does".to_owned()),
    };
    let base = github_repository(&repository)?;
    let Some(context) = context else { return Ok(vec![base]) };
    let contexts = match github_context(&context) {
        Some(contexts) => contexts,
        // Another template of `sub`, word for word.
        None if pattern.text().is_some() => vec![When::of([(Claim::Subject, Value::one(pattern.clone()))])],
        None => return Err("behind the repository stands a pattern that no default `sub` has".to_owned()),
    };
    Ok(contexts.iter().filter_map(|context| base.and(context)).collect())
}

fn github_repository(pattern: &Pattern) -> Result<When, String> {
    if pattern.split_once("@").is_none() {
        return Ok(When::of([(Claim::Repository, Value::one(pattern.clone()))]));
    }
    let form = "its `sub` names no repository of the form `OWNER@ID/REPO@ID`";
    let (owner, name) = pattern.split_once("/").ok_or(form)?;
    let mut names = Vec::new();
    let mut when = When::default();
    for (part, claim) in [(owner, Claim::RepositoryOwnerId), (name, Claim::RepositoryId)] {
        let (name, id) = part.split_once("@").ok_or(form)?;
        names.push(name.text().ok_or(form)?.to_owned());
        match id.text() {
            Some(id) if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) => {
                when.0.insert(claim, Value::exact(id));
            }
            // Any id: the one that is pinned is one of them.
            None if id.is_anything() => {}
            _ => return Err(form.to_owned()),
        }
    }
    when.0.insert(Claim::Repository, Value::exact(&names.join("/")));
    Ok(when)
}

/// What stands behind the repository in the default template. `None`: something else.
fn github_context(pattern: &Pattern) -> Option<Vec<When>> {
    let no_environment = || (Claim::Environment, Value::Absent);
    if pattern.is_anything() {
        return Some(vec![When::default()]);
    }
    if pattern.text() == Some("pull_request") {
        let event = (Claim::EventName, Value::exact("pull_request"));
        return Some(vec![When::of([event, no_environment()])]);
    }
    if let Some(environment) = pattern.strip_prefix("environment:") {
        // A colon or a percent sign in a name stands there in another spelling, and a second part is another template.
        let odd = environment.split_once(":").is_some() || environment.split_once("%").is_some();
        return (!odd).then(|| vec![When::of([(Claim::Environment, Value::one(environment))])]);
    }
    let reference = pattern.strip_prefix("ref:")?;
    if reference.split_once(":").is_some() {
        return None;
    }
    // A job that names an environment has another `sub`.
    let whole = |pattern: &str| reference == Pattern::star(pattern);
    let refs = if reference.is_anything() || whole("refs/*") {
        let of = |claim| When::of([(claim, Value::present())]);
        vec![of(Claim::Branch), of(Claim::Tag)]
    } else {
        vec![full_ref(&reference)?]
    };
    Some(refs.into_iter().filter_map(|when| when.and(&When::of([no_environment()]))).collect())
}

/// `project_path:GROUP/PROJECT:ref_type:TYPE:ref:REF`.
fn gitlab_subject(pattern: &Pattern) -> Result<Vec<When>, String> {
    let form = "its `sub` is not of the form `project_path:…:ref_type:…:ref:…`";
    let rest = pattern.strip_prefix("project_path:").ok_or(form)?;
    let (project, rest) = match rest.split_once(":") {
        Some((project, rest)) => (project, Some(rest)),
        None if rest.ends_open() => (rest, None),
        None => return Err(form.to_owned()),
    };
    let base = When::of([(Claim::Repository, Value::one(project))]);
    let Some(rest) = rest.filter(|rest| !rest.is_anything()) else { return Ok(vec![base]) };
    let rest = rest.strip_prefix("ref_type:").ok_or(form)?;
    let (kind, reference) = match rest.split_once(":") {
        Some((kind, rest)) => (kind, rest.strip_prefix("ref:").ok_or(form)?),
        None if rest.ends_open() => (rest, Pattern::star("*")),
        None => return Err(form.to_owned()),
    };
    if reference.split_once(":").is_some() {
        return Err(form.to_owned());
    }
    let claims: &[Claim] = match kind.text() {
        Some("branch") => &[Claim::Branch],
        Some("tag") => &[Claim::Tag],
        None if kind.is_anything() => &[Claim::Branch, Claim::Tag],
        _ => return Err(form.to_owned()),
    };
    let of = |claim: &Claim| base.and(&When::of([(*claim, Value::one(reference.clone()))]));
    Ok(claims.iter().filter_map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The alternatives of a `sub`, each on a line.
    fn said(profile: &str, text: &str) -> String {
        let profiles = Profiles::builtin();
        let profile = profiles.get(profile).unwrap();
        let source = Source { url: "https://gitlab.example".to_owned(), profile };
        match source.conditions("sub", &[Pattern::star(text)]) {
            Ok(all) => {
                let all: Vec<_> = all.iter().map(|when| when.toml().unwrap().trim().replace('\n', "; ")).collect();
                all.join(" | ")
            }
            Err(why) => format!("! {why}"),
        }
    }

    #[test]
    fn subjects_become_conditions_of_their_own() {
        for (subject, expected) in [
            (
                "repo:acme/api:ref:refs/heads/main",
                r#"repository = "acme/api"; branch = "main"; environment = { absent = true }"#,
            ),
            (
                "repo:acme/api:ref:refs/tags/v*",
                r#"repository = "acme/api"; tag = { glob = "v**" }; environment = { absent = true }"#,
            ),
            ("repo:acme/api:environment:prod", r#"repository = "acme/api"; environment = "prod""#),
            (
                "repo:acme/api:pull_request",
                r#"repository = "acme/api"; environment = { absent = true }; event_name = "pull_request""#,
            ),
            ("repo:acme/api:*", r#"repository = "acme/api""#),
            ("repo:acme/*", r#"repository = { glob = "acme/**" }"#),
            (
                "repo:acme@65/api@7:ref:refs/heads/main",
                r#"repository = "acme/api"; repository_id = "7"; repository_owner_id = "65"; branch = "main"; environment = { absent = true }"#,
            ),
            ("repo:acme@*/api@*:environment:prod", r#"repository = "acme/api"; environment = "prod""#),
            (
                "repo:acme/api:environment:prod:job_workflow_ref:acme/ci/x.yml@refs/heads/main",
                r#"subject = "repo:acme/api:environment:prod:job_workflow_ref:acme/ci/x.yml@refs/heads/main"; repository = "acme/api""#,
            ),
            (
                "repo:acme/api:environment:a%3Ab",
                r#"subject = "repo:acme/api:environment:a%3Ab"; repository = "acme/api""#,
            ),
            ("repo:acme/api", "! its `sub` ends behind the repository, which no job's does"),
            ("repo:acme-123/api-7:ref*", "! behind the repository stands a pattern that no default `sub` has"),
            ("repo:acme/api:ref:refs/pull/*", "! behind the repository stands a pattern that no default `sub` has"),
            ("job_workflow_ref:acme/ci/*", "! its `sub` begins with no repository, so a custom template made it"),
        ] {
            assert_eq!(said("github-actions", subject), expected, "{subject}");
        }
        for (subject, expected) in [
            ("project_path:a/b/c:ref_type:branch:ref:main", r#"repository = "a/b/c"; branch = "main""#),
            ("project_path:a/b:ref_type:tag:ref:v*", r#"repository = "a/b"; tag = { glob = "v**" }"#),
            ("project_path:a/b:*", r#"repository = "a/b""#),
            (
                "project_path:a/b:ref_type:*",
                r#"repository = "a/b"; branch = { present = true } | repository = "a/b"; tag = { present = true }"#,
            ),
            ("project_path:a/b:ref:main", "! its `sub` is not of the form `project_path:…:ref_type:…:ref:…`"),
        ] {
            assert_eq!(said("gitlab", subject), expected, "{subject}");
        }
    }

    #[test]
    fn workflows_fall_into_repository_file_and_ref() {
        let profiles = Profiles::builtin();
        let source = Source { url: String::new(), profile: profiles.get("github-actions").unwrap() };
        let said = |claim: &str, text: &str| match source.conditions(claim, &[Pattern::star(text)]) {
            Ok(all) => all[0].toml().unwrap(),
            Err(why) => why,
        };
        let full = "acme/ci/.github/workflows/d.yml@refs/heads/main";
        assert_eq!(
            said("job_workflow_ref", full),
            "job_workflow = { repository = \"acme/ci\", file = \".github/workflows/d.yml\", ref = \"refs/heads/main\" }\n"
        );
        assert_eq!(
            said("workflow_ref", full),
            "repository = \"acme/ci\"\nworkflow = { file = \".github/workflows/d.yml\", ref = \"refs/heads/main\" }\n"
        );
        assert_eq!(
            said("job_workflow_ref", "acme/ci/.github/workflows/d.yml@*"),
            "job_workflow = { repository = \"acme/ci\", file = \".github/workflows/d.yml\" }\n"
        );
        assert!(said("job_workflow_ref", "acme/*").contains("by a pattern"));
        assert!(said("job_workflow_ref", "acme/ci/d.yml").contains("without `@`"));
        assert_eq!(said("environment", "prod*"), "environment = { glob = \"prod**\" }\n");
        assert!(said("event_name", "pull*").contains("one by one"));
        assert!(said("workflow", "Deploy").contains("no claim"));
    }
}
