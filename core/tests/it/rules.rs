//! Whole folders, from TOML to decision, against the rules told a second time and as plainly as can be.

use claimbound_core::{
    mapping::{Ask, Decision, Folder, Loaded, decide, explain, load, possible_roles},
    review::Given,
    time::UnixSeconds,
    workload::{Case, Profiles},
};
use proptest::{option, prelude::*, sample::select, sample::subsequence};
use serde_json::json;
use std::sync::LazyLock;

const POLICY: &str = r#"format = 1
[issuer.github]
profile = "github-actions"
url = "https://token.actions.githubusercontent.com"
owners = { acme = 65, Labs = 66 }
[issuer.gitlab]
profile = "gitlab"
url = "https://gitlab.acme.example"
tenancy = "single"
owners = { acme = 9 }
[team.t]
path = "teams/t"
[sensitivity.strict]
max_duration = "10m"
needs_any = ["tag"]
[target.strict]
sensitivity = "strict"
"#;
static PROFILES: LazyLock<Profiles> = LazyLock::new(Profiles::builtin);
const REPOSITORIES: [(&str, u32); 3] = [("acme/api", 1), ("acme/web", 2), ("labs/x", 3)];
const DEFAULT_EVENTS: [&str; 6] = ["push", "workflow_dispatch", "schedule", "release", "deployment", "merge_group"];

fn role(name: &str, more: &str) -> String {
    let issuers = if more.contains("issuers") { "" } else { "issuers = [\"github\"]\n" };
    let sensitivity = if more.contains("targets") { "" } else { "sensitivity = \"internal\"\n" };
    format!(
        "[role.{name}]\ndescription = \"d\"\nbackend = \"jwt\"\nteams = [\"t\"]\n{issuers}{sensitivity}{more}\n[role.{name}.jwt]\naudience = \"https://x.example\"\n"
    )
}

fn loaded(policy: &str, roles: &str, team: &str) -> Loaded {
    let policy = format!("{POLICY}{policy}");
    let files = [("policy.toml", policy.as_str()), ("roles/r.toml", roles), ("teams/t/m.toml", team)];
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()));
    load(&Folder { files: files.collect() }, &PROFILES)
}

fn codes(loaded: &Loaded) -> Vec<String> {
    loaded.diagnostics.iter().map(|finding| finding.code.to_string()).collect()
}

fn mapping(issuer: &str, role: &str, conditions: &str) -> String {
    format!(
        "[[mapping]]\nname = \"m\"\ndescription = \"d\"\nissuer = \"{issuer}\"\nroles = [\"{role}\"]\n[mapping.match]\n{conditions}\n"
    )
}

#[test]
fn what_would_widen_unseen_does_not_load() {
    let pin = "repository = { name = \"acme/api\", id = 1 }\n";
    let strict = &role("a", "targets = [\"strict\"]\nissuers = [\"github\", \"gitlab\"]");
    let lab = "issuers = [\"gitlab\"]";
    for (roles, team, expected) in [
        // A sensitivity that demands less is no raise, whatever it is called.
        (role("a", "targets = [\"strict\"]\nsensitivity = \"production\""), String::new(), "CB0505"),
        // That a job has no tag narrows no tag.
        (
            strict.clone(),
            mapping("gitlab", "a.strict", &format!("{pin}tag = {{ absent = true }}\nenvironment_protected = true")),
            "CB0411",
        ),
        // What any author of any project can choose carries nothing.
        (role("a", lab), mapping("gitlab", "a", "branch = \"main\""), "CB0401"),
        (role("a", lab), mapping("gitlab", "a", "repository = { present = true }\nenvironment = \"x\""), "CB0401"),
        // An owner that a stranger may invent.
        (
            role("a", ""),
            mapping("github", "a", &format!("{pin}job_workflow = {{ repository = {{ glob = \"acme*/ci\" }} }}")),
            "CB0403",
        ),
        (
            role("a", ""),
            mapping("github", "a", &format!("{pin}job_workflow = {{ repository = {{ glob = \"**\" }} }}")),
            "CB0403",
        ),
        (role("a", ""), mapping("github", "a", &format!("{pin}branch = {{ under = \"release/*\" }}")), "CB0305"),
        // The parser's complaint must not get lost.
        (role("a", "") + "[[role]]\n", String::new(), "CB0117"),
    ] {
        let loaded = loaded("", &roles, &team);
        assert!(loaded.set.is_none(), "{roles}{team}");
        assert_eq!(codes(&loaded), [expected], "{roles}{team}{:#?}", loaded.diagnostics);
    }
}

#[test]
fn what_is_narrow_enough_still_loads() {
    let pin = "repository = { name = \"acme/api\", id = 1 }\n";
    for (roles, team) in [
        (
            role("a", "targets = [\"strict\"]\nissuers = [\"gitlab\"]"),
            mapping("gitlab", "a.strict", &format!("{pin}tag = {{ glob = \"v*\" }}\nenvironment_protected = true")),
        ),
        (role("a", "issuers = [\"gitlab\"]"), mapping("gitlab", "a", "repository = { under = \"acme\" }")),
        (
            role("a", ""),
            mapping("github", "a", &format!("{pin}job_workflow = {{ repository = {{ glob = \"acme/*\" }} }}")),
        ),
    ] {
        let loaded = loaded("", &roles, &team);
        assert_eq!(codes(&loaded), [""; 0], "{roles}{team}{:#?}", loaded.diagnostics);
    }
}

#[test]
fn an_issuer_of_which_a_role_requires_nothing_is_told() {
    let of =
        |tables: &str| codes(&loaded("", &role("a", &format!("issuers = [\"github\", \"gitlab\"]\n{tables}")), ""));
    let one = "[role.a.require.github]\nref_protected = true\n";
    assert_eq!(of(one), ["CB0511"]);
    assert_eq!(of(&format!("{one}[role.a.require.gitlab]\nref_protected = true\n")), [""; 0]);
}

/// A condition as one would say it.
#[derive(Clone, Debug)]
enum Atom {
    Repositories(Vec<(&'static str, u32)>),
    Owners(Vec<(&'static str, u32)>),
    Branches(Vec<&'static str>),
    /// Everything below `release/`, in one segment or in any number.
    Release {
        deep: bool,
    },
    NoTag,
    Environments(Vec<&'static str>),
    Events(Vec<&'static str>),
    Protected(bool),
    /// Of this repository or the job's own.
    Workflow(Option<&'static str>),
    Runner {
        ignore: bool,
    },
}

#[derive(Clone, Debug)]
struct Job {
    name: &'static str,
    id: u32,
    owner_id: u32,
    /// Empty: none is sent.
    reference: &'static str,
    environment: Option<&'static str>,
    event: &'static str,
    protected: Option<bool>,
    workflow: Option<&'static str>,
    runner: Option<&'static str>,
}

impl Atom {
    fn toml(&self) -> String {
        let list = |texts: &[&str]| format!("{texts:?}");
        match self {
            Self::Repositories(pairs) => {
                let pairs: Vec<_> =
                    pairs.iter().map(|(name, id)| format!("{{ name = \"{name}\", id = {id} }}")).collect();
                format!("repository = [{}]", pairs.join(", "))
            }
            Self::Owners(pairs) => {
                format!("repository_owner = {}", list(&pairs.iter().map(|(name, _)| *name).collect::<Vec<_>>()))
            }
            Self::Branches(names) => format!("branch = {}", list(names)),
            Self::Release { deep } => format!("branch = {{ glob = \"release/{}\" }}", if *deep { "**" } else { "*" }),
            Self::NoTag => "tag = { absent = true }".to_owned(),
            Self::Environments(names) => format!("environment = {}", list(names)),
            Self::Events(names) => format!("event_name = {}", list(names)),
            Self::Protected(wanted) => format!("ref_protected = {wanted}"),
            Self::Workflow(None) => "job_workflow = { file = \"d.yml\" }".to_owned(),
            Self::Workflow(Some(name)) => format!("job_workflow = {{ repository = \"{name}\", file = \"d.yml\" }}"),
            Self::Runner { ignore: false } => "runner_environment = \"self-hosted\"".to_owned(),
            Self::Runner { ignore: true } => {
                "runner_environment = { all = [\"self-hosted\"], if_unknown = \"ignore\" }".to_owned()
            }
        }
    }

    /// The rules once more. `deny`: what is not known counts as true.
    fn holds(&self, job: &Job, deny: bool) -> bool {
        let branch = job.reference.strip_prefix("refs/heads/");
        let on_branch = |test: &dyn Fn(&str) -> bool| match (job.reference, branch) {
            ("", _) => deny,
            (_, branch) => branch.is_some_and(test),
        };
        let pair = |pairs: &[(&str, u32)], name: &str, id: u32| {
            let same = |other: &str| other.eq_ignore_ascii_case(name);
            match deny {
                true => pairs.iter().any(|(other, other_id)| same(other) || *other_id == id),
                false => pairs.iter().any(|(other, other_id)| same(other) && *other_id == id),
            }
        };
        match self {
            Self::Repositories(pairs) => pair(pairs, job.name, job.id),
            Self::Owners(pairs) => pair(pairs, job.name.split('/').next().unwrap(), job.owner_id),
            Self::Branches(names) => on_branch(&|branch| names.contains(&branch)),
            Self::Release { deep } => {
                on_branch(&|branch| branch.strip_prefix("release/").is_some_and(|rest| *deep || !rest.contains('/')))
            }
            Self::NoTag => {
                if job.reference.is_empty() {
                    deny
                } else {
                    !job.reference.starts_with("refs/tags/")
                }
            }
            Self::Environments(names) => job.environment.is_some_and(|name| names.contains(&name)),
            Self::Events(names) => names.contains(&job.event),
            Self::Protected(wanted) => job.protected.map_or(deny, |got| got == *wanted),
            Self::Workflow(wanted) => {
                job.workflow.map_or(deny, |got| got.eq_ignore_ascii_case(wanted.unwrap_or(job.name)))
            }
            Self::Runner { ignore } => job.runner.map_or(deny && !ignore, |got| got == "self-hosted"),
        }
    }
}

impl Job {
    fn claims(&self) -> serde_json::Value {
        let mut claims = json!({
            "sub": "x", "repository": self.name, "repository_id": self.id, "event_name": self.event,
            "repository_owner": self.name.split('/').next(), "repository_owner_id": self.owner_id.to_string(),
            "ref": self.reference,
        });
        let mut put = |name: &str, value: Option<serde_json::Value>| {
            if let Some(value) = value {
                claims[name] = value;
            }
        };
        put("environment", self.environment.map(Into::into));
        put("ref_protected", self.protected.map(|value| value.to_string().into()));
        put("job_workflow_ref", self.workflow.map(|name| format!("{name}/d.yml@refs/heads/main").into()));
        put("runner_environment", self.runner.map(Into::into));
        claims
    }
}

fn jobs() -> impl Strategy<Value = Job> {
    let names = || select(vec!["acme/api", "Acme/API", "acme/web", "acme/new", "labs/x"]);
    let reference = vec![
        "",
        "refs/heads/main",
        "refs/heads/release/1",
        "refs/heads/release/1/2",
        "refs/heads/release",
        "refs/tags/main",
        "refs/tags/release/1",
        "refs/pull/1/merge",
    ];
    (
        (names(), select(vec![1, 1, 2, 3, 4]), select(vec![65, 66]), select(reference)),
        option::of(select(vec!["production", "staging", "Production"])),
        select(vec!["push", "push", "schedule", "pull_request", "issue_comment"]),
        option::of(any::<bool>()),
        option::of(names()),
        option::of(select(vec!["self-hosted", "github-hosted"])),
    )
        .prop_map(|((name, id, owner_id, reference), environment, event, protected, workflow, runner)| Job {
            name,
            id,
            owner_id,
            reference,
            environment,
            event,
            protected,
            workflow,
            runner,
        })
}

fn some<T: Clone + std::fmt::Debug + 'static>(of: Vec<T>) -> impl Strategy<Value = Vec<T>> {
    let most = of.len();
    subsequence(of, 1..=most)
}

/// Conditions, at most one on each claim.
fn atoms() -> impl Strategy<Value = Vec<Atom>> {
    let branch = prop_oneof![
        some(vec!["main", "release/1", "dev"]).prop_map(Atom::Branches),
        any::<bool>().prop_map(|deep| Atom::Release { deep }),
    ];
    (
        option::weighted(0.3, branch),
        option::weighted(0.2, Just(Atom::NoTag)),
        option::weighted(0.3, some(vec!["production", "staging"]).prop_map(Atom::Environments)),
        option::weighted(0.2, any::<bool>().prop_map(Atom::Protected)),
        option::weighted(0.2, option::of(select(vec!["acme/api", "labs/x"])).prop_map(Atom::Workflow)),
        option::weighted(0.2, some(vec![("acme", 65), ("Labs", 66)]).prop_map(Atom::Owners)),
    )
        .prop_map(|(a, b, c, d, e, f)| [a, b, c, d, e, f].into_iter().flatten().collect())
}

fn events() -> impl Strategy<Value = Option<Atom>> {
    option::weighted(0.3, some(vec!["push", "pull_request", "issue_comment"]).prop_map(Atom::Events))
}

#[derive(Clone, Debug)]
struct Model {
    /// (roles, conditions, the last of which are its events).
    mappings: Vec<(Vec<&'static str>, Vec<Atom>)>,
    /// Of role `a`.
    require: Vec<Atom>,
    denies: Vec<(Option<&'static str>, Vec<Atom>)>,
}

fn models() -> impl Strategy<Value = Model> {
    let mapping = (some(vec!["a", "b", "c"]), some(REPOSITORIES.to_vec()), atoms(), events()).prop_map(
        |(roles, repositories, mut atoms, events)| {
            atoms.push(Atom::Repositories(repositories));
            atoms.push(events.unwrap_or(Atom::Events(DEFAULT_EVENTS.to_vec())));
            (roles, atoms)
        },
    );
    let deny = (
        option::of(select(vec!["a", "b"])),
        atoms(),
        option::weighted(0.4, some(REPOSITORIES.to_vec()).prop_map(Atom::Repositories)),
        events(),
        any::<bool>().prop_map(|ignore| Atom::Runner { ignore }),
    )
        .prop_map(|(role, mut atoms, repositories, events, runner)| {
            atoms.extend(repositories);
            atoms.extend(events);
            if atoms.len() < 2 {
                atoms.push(runner);
            }
            (role, atoms)
        });
    (prop::collection::vec(mapping, 1..4), atoms(), prop::collection::vec(deny, 0..3))
        .prop_map(|(mappings, require, denies)| Model { mappings, require, denies })
}

impl Model {
    fn load(&self) -> Loaded {
        let lines = |atoms: &[Atom]| atoms.iter().map(Atom::toml).collect::<Vec<_>>().join("\n");
        let mut policy = String::new();
        for (at, (role, atoms)) in self.denies.iter().enumerate() {
            let roles = role.map(|role| format!("roles = [\"{role}\"]\n")).unwrap_or_default();
            policy += &format!(
                "[[deny]]\nname = \"d{at}\"\nreason = \"r\"\nissuers = [\"github\"]\n{roles}[deny.match]\n{}\n",
                lines(atoms)
            );
        }
        let require = match &*self.require {
            [] => String::new(),
            atoms => format!("[role.a.require]\n{}", lines(atoms)),
        };
        let roles = role("a", &require) + &role("b", "") + &role("c", "");
        let mut team = "[file]\nissuer = \"github\"\n".to_owned();
        for (at, (roles, atoms)) in self.mappings.iter().enumerate() {
            // Default events are what is not written.
            let written = match atoms.last() {
                Some(Atom::Events(events)) if events.len() == DEFAULT_EVENTS.len() => &atoms[..atoms.len() - 1],
                _ => atoms,
            };
            team += &format!(
                "[[mapping]]\nname = \"m{at}\"\ndescription = \"d\"\nroles = {roles:?}\n[mapping.match]\n{}\n",
                lines(written)
            );
        }
        loaded(&policy, &roles, &team)
    }
    /// Mappings that give the role, denies aside.
    fn giving(&self, role: &str, job: &Job) -> Vec<String> {
        let required = role != "a" || self.require.iter().all(|atom| atom.holds(job, false));
        let gives = |(roles, atoms): &(Vec<&str>, Vec<Atom>)| {
            required && roles.contains(&role) && atoms.iter().all(|atom| atom.holds(job, false))
        };
        let numbered = self.mappings.iter().enumerate();
        numbered.filter(|(_, mapping)| gives(mapping)).map(|(at, _)| format!("m{at}")).collect()
    }
    fn denies(&self, role: &str, job: &Job) -> bool {
        let about = |of: &Option<&str>| of.is_none_or(|of| of == role);
        self.denies.iter().any(|(of, atoms)| about(of) && atoms.iter().all(|atom| atom.holds(job, true)))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Nobody gets what these rules do not give, and everybody what they do; all ways of asking agree.
    #[test]
    fn a_folder_means_what_the_rules_say(model in models(), jobs in prop::collection::vec(jobs(), 40)) {
        let loaded = model.load();
        let found = codes(&loaded);
        prop_assert!(found.iter().all(|code| code == "CB0701"), "{:#?}", loaded.diagnostics);
        for job in &jobs {
            for role in ["a", "b", "c"] {
                let meet = model.giving(role, job).len() > 1;
                prop_assert!(!meet || !found.is_empty(), "two mappings give `{role}` to {job:?}");
            }
        }
        let Some(set) = loaded.set else { return Ok(()) };
        let now = UnixSeconds(0);
        let issuer = set.issuer_named("github").unwrap().0;
        for job in jobs {
            let principal = Given::Claims(job.claims()).workload(&set, &PROFILES, issuer).unwrap();
            let case = Case::alone(principal);
            let mut expected = Vec::new();
            for role in ["a", "b", "c"] {
                let ask = Ask { role: Some(role), ..Ask::default() };
                let giving = model.giving(role, &job);
                let denied = model.denies(role, &job);
                let decision = decide(&set, &case, &ask, now);
                match &decision {
                    Decision::Grant(grant) => {
                        prop_assert!(!denied, "{role} {job:?}");
                        prop_assert_eq!(&[set.mapping(grant.mapping).name.clone()][..], &giving[..]);
                        prop_assert_eq!(&set.role(grant.role).name, role);
                        expected.push(grant.role);
                    }
                    Decision::Deny(denial) => {
                        prop_assert!(denied || giving.is_empty(), "{role} {job:?}");
                        // A deny is told only where a mapping gives.
                        prop_assert_eq!(denial.rule.is_some(), denied && !giving.is_empty());
                    }
                }
                let (told, trace) = explain(&set, &case, &ask, now);
                prop_assert_eq!(told, decision);
                let held = trace.mappings.iter().filter(|one| one.held).map(|one| set.mapping(one.mapping).name.clone());
                prop_assert_eq!(held.collect::<Vec<_>>(), giving);
                prop_assert_eq!(trace.denies.iter().any(|(_, _, held, _)| *held), denied);
            }
            prop_assert_eq!(&possible_roles(&set, &case, now), &expected);
            let unasked = decide(&set, &case, &Ask::default(), now);
            let granted = matches!(&unasked, Decision::Grant(grant) if expected == [grant.role]);
            let several = matches!(&unasked, Decision::Deny(denial) if expected.len() > 1 && denial.roles == expected);
            prop_assert!(granted || several || expected.is_empty() && matches!(unasked, Decision::Deny(_)), "{unasked:?}");
        }
    }
}
