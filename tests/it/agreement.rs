//! Decide, record and explain are one: what the service answered to random jobs is what the rules say of the recorded
//! claims and the folder that the store kept.

use crate::BINARY;
use claimbound::{
    folder,
    store::{self, Reader},
};
use claimbound_core::{
    evidence::{Body, DecisionId, unhex},
    mapping::{Ask, Decision, MappingSet, decide, load, renamed, shadowed},
    review::Given,
    time::UnixSeconds,
    workload::{Case, Profiles},
};
use claimbound_test_support::{
    broker::{Broker, ID_TOKEN, TOKEN_EXCHANGE},
    config::BrokerConfig,
    http::Answer,
    issuer::Issuer,
    job::Job,
    jwt,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const JOBS: usize = 200;
/// Another seed is another run of the same length.
const SEED: u64 = 0x5eed_0004;

const POLICY: &str = r#"format = 1

[issuer.github]
profile = "github-actions"
url = "{issuer.github}"
owners = { acme = 65, acme-labs = 9917 }
[issuer.gitlab]
profile = "gitlab"
url = "{issuer.gitlab}"
tenancy = "single"
on_rename = "warn"

[team.payments]
path = "teams/payments"
contact = "payments-oncall@acme.example"
issuers = ["github", "gitlab"]
[team.search]
path = "teams/search"
issuers = ["gitlab"]
[team.platform]
path = "teams/platform"
issuers = ["github"]
may = ["any_repository", "any_event"]

[sensitivity.production]
max_duration = "1h"
needs_any = ["branch", "tag"]
[target.staging]
sensitivity = "internal"
[target.production]
sensitivity = "production"

[[deny]]
name = "no-self-hosted-in-production"
reason = "shared runners are not isolated"
issuers = ["github"]
sensitivity = "production"
[deny.match]
runner_environment = "self-hosted"
[[deny]]
name = "no-secrets-for-experiments"
reason = "acme-labs holds no credentials"
issuers = ["github"]
roles = ["payments-secrets", "house-lint"]
[deny.match]
repository_owner = "acme-labs"
[[deny]]
name = "nothing-from-scratch-branches"
reason = "scratch is for trying things out"
[deny.match]
branch = { glob = "scratch/**" }
[[deny]]
name = "nothing-for-guests"
reason = "guests only look"
issuers = ["gitlab"]
[deny.match]
claims."user_access_level" = { any = ["guest", { glob = "no*" }], if_unknown = "ignore" }
"#;

const ROLES: &str = r#"
[role.payments-deploy]
description = "Deploy payments"
backend = "jwt"
teams = ["payments"]
issuers = ["github"]
targets = ["staging", "production"]
max_duration = "1h"
[role.payments-deploy.require]
job_workflow = { repository = "acme/ci", file = ".github/workflows/deploy.yml", ref = "refs/heads/main" }
[role.payments-deploy.jwt]
audience = "https://deploy.acme.example"

[role.payments-secrets]
description = "Read the secrets of payments"
backend = "jwt"
teams = ["payments"]
issuers = ["github", "gitlab"]
sensitivity = "internal"
[role.payments-secrets.jwt]
audience = "https://openbao.acme.example"

[role.house-lint]
description = "Read the rules of the house"
backend = "jwt"
teams = ["platform"]
issuers = ["github"]
sensitivity = "internal"
[role.house-lint.jwt]
audience = "https://lint.acme.example"

[role.house-read]
description = "Read what experiments may read"
backend = "jwt"
teams = ["platform"]
issuers = ["github"]
sensitivity = "internal"
[role.house-read.jwt]
audience = "https://read.acme.example"

[role.search-index]
description = "Write the index"
backend = "jwt"
teams = ["search"]
issuers = ["gitlab"]
sensitivity = "internal"
[role.search-index.jwt]
audience = "https://search.acme.example"
algorithm = "RS256"
[role.search-preview]
description = "Write a preview of the index"
backend = "jwt"
teams = ["search"]
issuers = ["gitlab"]
sensitivity = "internal"
[role.search-preview.jwt]
audience = "https://preview.acme.example"
"#;

const PAYMENTS: &str = r#"[file]
issuer = "github"
[file.match]
repository = { set = "payments-services" }

[set.payments-services]
repositories = [
  { name = "acme/payments-api", id = 740000001 },
  { name = "acme/payments-web", id = 740000002 },
]

[[mapping]]
name = "payments-production"
description = "Deploys main and hotfixes"
roles = ["payments-deploy.production"]
duration = "10m"
max_duration = "30m"
[mapping.match]
environment = "production"
branch = { any = ["main", "hotfix"] }

[[mapping]]
name = "payments-releases"
description = "Deploys releases"
roles = ["payments-deploy.production"]
[mapping.match]
environment = "production"
ref_protected = true
tag = { glob = "v{num}.{num}.{num}" }

[[mapping]]
name = "payments-staging"
description = "Deploys any branch"
roles = ["payments-deploy.staging", "payments-secrets"]
[mapping.match]
environment = "staging"
event_name = { any = [{ class = "default" }, "workflow_run"] }

[[mapping]]
name = "payments-tried"
description = "Would read secrets from main, and from tags"
shadow = true
roles = ["payments-secrets"]
[mapping.match]
environment = { not_prefix = "prev" }
[[mapping.any]]
branch = "main"
[[mapping.any]]
tag = { present = true }
"#;

const SHARED: &str = r#"[[mapping]]
name = "payments-secrets-at-gitlab"
description = "The mirror reads secrets from its main branch"
issuer = "gitlab"
roles = ["payments-secrets"]
[mapping.match]
repository = { name = "acme/payments-api", id = 740000001 }
branch = "main"
ref_protected = true
"#;

const PLATFORM: &str = r#"[set.linted]
repositories = [
  { name = "acme/other", id = 740000009 },
  { name = "acme-labs/toy", id = 740000010 },
]
[[mapping]]
name = "house-lint"
description = "Pull requests are linted too"
issuer = "github"
roles = ["house-lint"]
[mapping.match]
repository = { set = "linted" }
runner_environment = "github-hosted"
event_name = ["push", "pull_request"]
[[mapping]]
name = "house-read"
description = "Whatever acme-labs tries out"
issuer = "github"
roles = ["house-read"]
any_repository = "experiments come and go"
any_event = "and so do their events"
[mapping.match]
repository_owner = "acme-labs"
runner_environment = "github-hosted"
"#;

const SEARCH: &str = r#"[file]
issuer = "gitlab"
[[mapping]]
name = "search-index"
description = "Release branches build the index"
roles = ["search-index"]
[mapping.match]
repository = { name = "search/indexer", id = 4711 }
branch = { glob = "release/*" }
ref_protected = true
event_name = ["schedule", "web", "push"]
[[mapping]]
name = "search-preview"
description = "Merge requests of search build a preview; names alone, on our own instance"
roles = ["search-preview"]
[mapping.match]
repository = { under = "search" }
event_name = "merge_request_event"
claims."groups_direct" = { all = [{ under = "search" }, { not_prefix = "trial" }] }
claims."/build/signed" = true
"#;

/// Whom each mapping pins: ids of repositories, or of an owner; nobody where it goes by names.
fn pinned(mapping: &str) -> (&'static str, &'static [&'static str]) {
    match mapping {
        "payments-production" | "payments-releases" | "payments-staging" => {
            ("repository_id", &["740000001", "740000002"])
        }
        "payments-secrets-at-gitlab" => ("project_id", &["740000001"]),
        "house-lint" => ("repository_id", &["740000009", "740000010"]),
        "house-read" => ("repository_owner_id", &["9917"]),
        "search-index" => ("project_id", &["4711"]),
        "search-preview" => ("project_id", &[]),
        other => panic!("the folder has no mapping `{other}`"),
    }
}

/// SplitMix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 33).unwrap() % end
    }
    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// A repository, its id, and roles that its jobs ask for.
type Home = (&'static str, u64, &'static [&'static str]);

const PAYMENTS_ROLES: &[&str] = &["payments-deploy.production", "payments-deploy.staging", "payments-secrets"];
const AT_GITHUB: &[Home] = &[
    ("acme/payments-api", 740_000_001, PAYMENTS_ROLES),
    ("acme/payments-web", 740_000_002, PAYMENTS_ROLES),
    ("acme/payments-web", 740_000_002, PAYMENTS_ROLES),
    ("acme/payments-new-name", 740_000_002, PAYMENTS_ROLES),
    ("acme/other", 740_000_009, &["house-lint", "payments-secrets"]),
    ("acme-labs/toy", 740_000_010, &["house-lint", "house-read"]),
];
const AT_GITLAB: &[Home] = &[
    ("search/indexer", 4711, &["search-index", "search-index", "search-preview"]),
    ("search/web/ui", 4712, &["search-preview"]),
    ("acme/payments-api", 740_000_001, &["payments-secrets"]),
    ("acme/payments-moved", 740_000_001, &["payments-secrets"]),
];
const DEPLOY: &str = "acme/ci/.github/workflows/deploy.yml@refs/heads/main";
const EDITED_DEPLOY: &str = "acme/ci/.github/workflows/deploy.yml@refs/heads/edited";

/// A job near enough to the mappings to be granted often, and to miss each condition sometimes; and a role to ask for.
fn job<'i>(random: &mut Random, issuer: &'i Issuer, homes: &[Home]) -> (Job<'i>, Option<&'static str>) {
    let (name, id, roles) = random.one_of(homes);
    let mut job = issuer.job().repository(name).repository_id(id);
    if random.once_in(10) {
        job = job.repository_id(random.one_of(&[740_000_001, 740_000_002, 740_999_999, 4711]));
    }
    if random.once_in(16) {
        job = job.owner_id(random.one_of(&[66, 9917]));
    }
    job = match random.below(12) {
        0 => job.pull_request(7),
        1 | 2 => job.tag(random.one_of(&["v1.2.3", "v1.2.3", "v1.2.3", "main"])),
        3..8 => job.branch("main"),
        8 | 9 => job.branch("release/7"),
        _ => job.branch(random.one_of(&["hotfix", "feature", "scratch/a/b"])),
    };
    if !random.once_in(8) {
        job = job.environment(random.one_of(&["production", "staging", "production", "staging", "preview"]));
    }
    if random.once_in(6) {
        let events = ["schedule", "workflow_dispatch", "workflow_run", "pull_request_target", "web", "issues"];
        job = job.event(random.one_of(&events));
    }
    if random.once_in(10) {
        job = job.runner("self-hosted");
    }
    if random.once_in(10) {
        job = job.unprotected();
    }
    match random.below(8) {
        0 => {}
        1 => job = job.job_workflow(EDITED_DEPLOY),
        _ => job = job.job_workflow(DEPLOY),
    }
    if random.once_in(3) {
        job = job.immutable_subject();
    }
    let asked = match random.below(10) {
        0 => Some("no-such-role"),
        1 | 2 => None,
        _ => Some(random.one_of(roles)),
    };
    (job, asked)
}

/// What a token says beside the canonical claims: of the right type mostly, and sometimes of none that anybody expects.
fn with_raw_claims<'i>(random: &mut Random, mut job: Job<'i>) -> Job<'i> {
    let groups = [json!(["search/core", "house"]), json!("search"), json!(["search", "trials"]), json!([])];
    match random.below(12) {
        0 => {}
        1 => job = job.claim("groups_direct", json!(["search", 7])),
        2..5 => job = job.claim("groups_direct", groups[random.below(groups.len())].clone()),
        _ => job = job.claim("groups_direct", groups[0].clone()),
    }
    let signed = [json!({ "signed": true }), json!({ "signed": "true" }), json!({}), json!([true])];
    job = job.claim("build", signed[if random.once_in(4) { random.below(signed.len()) } else { 0 }].clone());
    let levels = [json!("guest"), json!("nobody"), json!(10), json!(["developer"]), json!("developer"), Value::Null];
    match random.once_in(4) {
        true => job.claim("user_access_level", levels[random.below(levels.len())].clone()),
        false => job,
    }
}

/// What the store kept, and the judge made of it again.
struct Kept {
    reader: Arc<dyn Reader>,
    profiles: Profiles,
    sets: BTreeMap<[u8; 32], MappingSet>,
}

impl Kept {
    /// The folder of this version, from the store alone.
    fn set(&mut self, version: [u8; 32]) -> &MappingSet {
        self.sets.entry(version).or_insert_with(|| {
            let archive = self.reader.folder(&version).unwrap().expect("the folder is kept");
            load(&folder::unarchive(&archive).unwrap(), &self.profiles).set.expect("a kept folder loads")
        })
    }

    /// Compares answer and record with the judge; says what became of the job, and how many mappings in the shadow
    /// would have granted.
    fn compare(&mut self, answer: &Answer, asked: Option<&str>) -> (String, usize) {
        let id: DecisionId = answer.text_of("decision_id").parse().unwrap();
        let stored = self.reader.decision(id).unwrap();
        assert_eq!(stored.len(), 1, "one answer, one record: {}", answer.text);
        let body = Body::parse(&stored[0].body).unwrap();
        let recorded: Value = serde_json::from_slice(&stored[0].body).unwrap();
        let details: Value = serde_json::from_slice(&stored[0].details).unwrap();
        let name = body.principal.as_ref().expect("a proven job is named").issuer.to_string();
        let profiles = Profiles::builtin();
        let set = self.set(body.mappings.as_deref().and_then(unhex).expect("the record names its folder"));
        let (issuer, _) = set.issuer_named(&name).unwrap();
        let principal = Given::Claims(details["claims"].clone()).workload(set, &profiles, issuer).unwrap();
        let case = Case::alone(principal);
        assert_eq!(details["asked"]["role"].as_str(), asked);
        let ask = Ask { role: asked, ..Ask::default() };
        let shadows = shadowed(set, &case, &ask, UnixSeconds(body.at)).into_iter();
        let shadows: Vec<_> = shadows
            .map(|(mapping, role)| json!({ "mapping": set.mapping(mapping).name, "role": set.role(role).name }))
            .collect();
        assert_eq!(details["shadows"].as_array().cloned().unwrap_or_default(), shadows, "{details}");
        let outcome = match decide(set, &case, &ask, UnixSeconds(body.at)) {
            Decision::Grant(grant) => {
                let (role, mapping) = (&set.role(grant.role).name, &set.mapping(grant.mapping).name);
                assert_eq!((answer.status, &recorded["kind"]), (200, &"granted".into()), "{} {recorded}", answer.text);
                for told in [&answer.body, &recorded] {
                    assert_eq!((told["role"].as_str(), told["mapping"].as_str()), (Some(&**role), Some(&**mapping)));
                }
                let exceptions = set.mapping(grant.mapping).exceptions.iter().map(|one| one.exempt.name());
                let told = recorded["exceptions"].as_array().cloned().unwrap_or_default();
                assert_eq!(told, exceptions.collect::<Vec<_>>(), "{recorded}");
                let moved = renamed(set, &grant, &case.principal);
                assert_eq!(recorded["renamed"].as_str(), moved, "{recorded}");
                assert_eq!(answer.body["expires_in"], grant.duration.0);
                assert_eq!(recorded["expires"].as_i64().unwrap() - body.at, i64::from(grant.duration.0));
                format!("{role} by {mapping}{}", if moved.is_some() { ", renamed" } else { "" })
            }
            Decision::Deny(denial) => {
                assert_eq!((answer.status, &recorded["kind"]), (400, &"refused".into()), "{} {recorded}", answer.text);
                assert_eq!(recorded["reason"], denial.reason.name(), "{}", answer.text);
                let nearest = denial.nearest.map(|id| set.mapping(id).name.as_str());
                assert_eq!(recorded["mapping"].as_str(), nearest, "{recorded}");
                assert_eq!(details["deny"].as_str(), denial.rule.as_deref());
                denial.reason.name().to_owned()
            }
        };
        (outcome, shadows.len())
    }
}

#[tokio::test]
async fn what_the_service_answered_is_what_the_rules_say_of_the_record() {
    let (github, gitlab) = (Issuer::github(), Issuer::gitlab());
    let config = BrokerConfig::with_folder(&[
        ("policy.toml", POLICY),
        ("roles/all.toml", ROLES),
        ("teams/payments/deploy.toml", PAYMENTS),
        ("teams/payments/gitlab.toml", SHARED),
        ("teams/platform/lint.toml", PLATFORM),
        ("teams/search/index.toml", SEARCH),
    ])
    .issuer("github", &github)
    .issuer("gitlab", &gitlab);
    let broker = Broker::start(BINARY, config).await;
    let reader = store::open_reader(&format!("sqlite:{}", broker.database().display())).unwrap();
    let mut kept = Kept { reader, profiles: Profiles::builtin(), sets: BTreeMap::new() };

    let (mut random, mut random_raw) = (Random(SEED), Random(!SEED));
    let mut shadows = 0;
    let (mut outcomes, mut nearest) = (BTreeMap::<String, usize>::new(), BTreeSet::new());
    for _ in 0..JOBS {
        let (issuer, homes) = if random.once_in(3) { (&gitlab, AT_GITLAB) } else { (&github, AT_GITHUB) };
        let (job, asked) = job(&mut random, issuer, homes);
        let job = with_raw_claims(&mut random_raw, job);
        let token = job.token(broker.audience());
        let mut form =
            vec![("grant_type", TOKEN_EXCHANGE), ("subject_token", &*token), ("subject_token_type", ID_TOKEN)];
        form.extend(asked.map(|role| ("audience", role)));
        let answer = broker.exchange(&form).await;
        let claims = jwt::claims_of(&token);
        if let Some(named) = answer.body["nearest"]["mapping"].as_str() {
            let (claim, ids) = pinned(named);
            let id = claims[claim].as_str().unwrap();
            assert!(ids.contains(&id), "`{named}` does not pin {claim} {id}: {}", answer.text);
            nearest.insert(named.to_owned());
        }
        let outcome = match answer.body["reason"].as_str() {
            Some("token_not_accepted") => "stranger".to_owned(),
            _ => {
                let (outcome, held) = kept.compare(&answer, asked);
                shadows += held;
                outcome
            }
        };
        // The one way to be a stranger here; an owner's name counts for nothing beside the id.
        let owner = claims.get("repository_owner_id").map(|id| id.as_str().unwrap());
        assert_eq!(outcome == "stranger", owner == Some("66"), "{outcome}: {}", answer.text);
        *outcomes.entry(outcome).or_default() += 1;
    }
    // A run that does not get around proves nothing.
    let wanted = [
        "denied",
        "event_not_allowed",
        "id_mismatch",
        "no_mapping",
        "renamed",
        "role_needed",
        "stranger",
        "house-lint by house-lint",
        "house-read by house-read",
        "payments-deploy.production by payments-production",
        "payments-deploy.production by payments-releases",
        "payments-deploy.staging by payments-staging",
        "payments-secrets by payments-secrets-at-gitlab",
        "payments-secrets by payments-secrets-at-gitlab, renamed",
        "payments-secrets by payments-staging",
        "search-index by search-index",
        "search-preview by search-preview",
    ];
    let missed: Vec<_> = wanted.into_iter().filter(|outcome| !outcomes.contains_key(*outcome)).collect();
    assert!(missed.is_empty(), "no job came to {missed:?}: {outcomes:#?}");
    assert!(nearest.len() >= 4, "{nearest:?}");
    assert!(shadows > 0, "no job fits a shadow");
    assert_eq!(kept.sets.len(), 1);
}
