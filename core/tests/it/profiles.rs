//! Every built-in profile: a golden token of its issuer, the mapping that is meant for its job, and the jobs that the
//! mapping must not be taken for. One file for each in `data/profiles/`; `by` says which claim tells the job apart, also
//! where an issuer knows no branches, forks or tags.

use claimbound_core::{
    diag::Span,
    lang::pattern::Lang,
    mapping::{Ask, Condition, Decision, Folder, Loaded, Origin, Test, codes, decide, load},
    review::{Given, GivenError, World},
    time::UnixSeconds,
    workload::{Case, Claim, Presence, Profile, Profiles, SingleUseRule, Text},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::LazyLock};

static PROFILES: LazyLock<Profiles> = LazyLock::new(Profiles::builtin);

macro_rules! golden {
    ($($name:literal)*) => { [$(($name, include_str!(concat!("data/profiles/", $name, ".json")))),*] };
}

const GOLDEN: [(&str, &str); 18] = golden! {
    "aws" "azure-devops" "bitbucket-pipelines" "buddy" "buildkite" "circleci" "codefresh" "env0" "forgejo" "generic"
    "github-actions" "gitlab" "google" "hcp-terraform" "jenkins" "kubernetes" "semaphore" "spacelift"
};

/// What every profile's table must hold.
const KINDS: [&str; 5] = ["other tenant", "other branch", "fork", "pull request", "tag of the same name"];

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    /// Lines of `[issuer.ci]` besides profile and URL.
    issuer: String,
    /// `[mapping.match]`.
    r#match: String,
    token: Value,
    refused: BTreeMap<String, Refused>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    /// Members by name or pointer; `null` takes one out.
    changes: BTreeMap<String, Value>,
    reason: String,
    /// The claim that tells it apart.
    by: String,
}

fn golden(text: &str) -> Golden {
    serde_json::from_str(text).unwrap()
}

fn changed(token: &Value, changes: &BTreeMap<String, Value>) -> Value {
    let mut token = token.clone();
    for (name, value) in changes {
        let path: Vec<&str> = match name.strip_prefix('/') {
            Some(path) => path.split('/').collect(),
            None => vec![name],
        };
        let (last, above) = path.split_last().unwrap();
        let object = above.iter().fold(&mut token, |at, part| &mut at[*part]).as_object_mut().unwrap();
        match value {
            Value::Null => drop(object.remove(*last)),
            value => drop(object.insert((*last).to_owned(), value.clone())),
        }
    }
    token
}

fn folder(profile: &str, url: &str, issuer: &str, conditions: &str, sensitivity: &str) -> Folder {
    let policy = format!(
        "format = 1\n[issuer.ci]\nprofile = \"{profile}\"\nurl = \"{url}\"\n{issuer}\n[team.t]\npath = \"teams/t\"\n"
    );
    let role = format!(
        "[role.deploy]\ndescription = \"d\"\nbackend = \"jwt\"\nteams = [\"t\"]\nissuers = [\"ci\"]\nsensitivity = \"{sensitivity}\"\n[role.deploy.jwt]\naudience = \"https://x.example\"\n"
    );
    let mapping = format!(
        "[file]\nissuer = \"ci\"\n[[mapping]]\nname = \"golden\"\ndescription = \"d\"\nroles = [\"deploy\"]\n[mapping.match]\n{conditions}"
    );
    let files = [("policy.toml", policy), ("roles/r.toml", role), ("teams/t/m.toml", mapping)];
    Folder { files: files.map(|(path, text)| (path.to_owned(), text.into_bytes())).into() }
}

fn loaded(profile: &str, golden: &Golden, sensitivity: &str) -> Loaded {
    let url = golden.token["iss"].as_str().unwrap();
    load(&folder(profile, url, &golden.issuer, &golden.r#match, sensitivity), &PROFILES)
}

fn codes_of(loaded: &Loaded) -> Vec<String> {
    loaded.diagnostics.iter().map(|finding| finding.code.to_string()).collect()
}

/// `grant`, or the reason of the refusal, as `serve` would find it after the signature.
fn outcome(loaded: &Loaded, token: &Value) -> String {
    let set = loaded.set.as_ref().unwrap();
    let (issuer, known) = set.issuer_named("ci").unwrap();
    // The table of issuers is exact: a token of any other `iss` meets no profile.
    if token["iss"] != known.url.as_str() {
        return "issuer_unknown".to_owned();
    }
    let principal = match Given::Claims(token.clone()).workload(set, &loaded.profiles, issuer) {
        Ok(principal) => principal,
        Err(GivenError::Refused(error)) => return error.reason().name().to_owned(),
        Err(error) => panic!("{error}"),
    };
    let case = Case::alone(principal);
    match decide(set, &case, &Ask { role: Some("deploy"), ..Ask::default() }, UnixSeconds(0)) {
        Decision::Grant(_) => "grant".to_owned(),
        Decision::Deny(denial) => denial.reason.name().to_owned(),
    }
}

#[test]
fn every_profile_has_a_golden_token() {
    assert!(PROFILES.iter().map(|profile| profile.name.as_str()).eq(GOLDEN.map(|(name, _)| name)));
}

#[test]
fn golden_mappings_grant_their_own_job_and_no_other() {
    let mut wrong = Vec::new();
    for (name, text) in GOLDEN {
        let golden = golden(text);
        let loaded = loaded(name, &golden, "internal");
        if loaded.set.is_none() {
            wrong.push(format!("{name}: {:#?}", loaded.diagnostics));
            continue;
        }
        let fixed = PROFILES.get(name).unwrap().fixed_audience().is_some();
        let expected = if fixed { vec![codes::FIXED_AUDIENCE.to_string()] } else { Vec::new() };
        assert_eq!(codes_of(&loaded), expected, "{name}");
        let granted = outcome(&loaded, &golden.token);
        if granted != "grant" {
            wrong.push(format!("{name}: its own job: {granted}"));
        }
        for kind in KINDS {
            assert!(golden.refused.contains_key(kind), "{name} says nothing of `{kind}`");
        }
        for (kind, refused) in &golden.refused {
            assert!(!refused.by.is_empty() && !refused.changes.is_empty(), "{name}: {kind}");
            let got = outcome(&loaded, &changed(&golden.token, &refused.changes));
            if got != refused.reason {
                wrong.push(format!("{name}: {kind}: expected {}, got {got}", refused.reason));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Proofs are about the jobs that the prover knows: whatever a token of the profile can say must be one of them, or a
/// proof would leave it out.
#[test]
fn no_job_is_left_out_of_the_proofs() {
    let mut left_out = Vec::new();
    for (name, text) in GOLDEN {
        let golden = golden(text);
        let loaded = loaded(name, &golden, "internal");
        let set = loaded.set.as_ref().unwrap();
        let (id, issuer) = set.issuer_named("ci").unwrap();
        let world = World::new(loaded.profiles.get(name).unwrap(), issuer).unwrap();
        let variants =
            golden.refused.iter().map(|(kind, refused)| (kind.as_str(), changed(&golden.token, &refused.changes)));
        let less =
            golden.token.as_object().unwrap().keys().map(|member| {
                (member.as_str(), changed(&golden.token, &BTreeMap::from([(member.clone(), Value::Null)])))
            });
        for (kind, token) in [("its own job", golden.token.clone())].into_iter().chain(variants).chain(less) {
            let Ok(job) = Given::Claims(token).workload(set, &loaded.profiles, id) else { continue };
            if !issuer.lists_owner_of(&job) {
                continue;
            }
            let exactly = |claim: &Claim| {
                let test = match job.get(*claim) {
                    Presence::Present(Text::Text(text)) => Test::Text(Lang::exact(text, false)),
                    Presence::Present(Text::Boolean(value)) => Test::Is(*value),
                    Presence::None => Test::Absent,
                    Presence::Unknown => return None,
                };
                let span = Span::new("job", 0..0);
                Some(Condition { claim: (*claim).into(), test, if_unknown_ignore: false, origin: Origin::Match, span })
            };
            // A subject beside the repository that stands in it is undecided, which leaves nothing out.
            let asked = |claim: &&Claim| {
                **claim != Claim::Subject || !loaded.profiles.get(name).unwrap().provides(Claim::Repository)
            };
            let conditions: Vec<Condition> = Claim::ALL.iter().filter(asked).filter_map(exactly).collect();
            let boxes = world.granted(&conditions).unwrap();
            if !boxes.iter().any(|jobs| world.witness(jobs).unwrap().is_some()) {
                let alone = |condition: &&Condition| {
                    let boxes = world.granted([*condition]).unwrap();
                    !boxes.iter().any(|jobs| world.witness(jobs).unwrap().is_some())
                };
                let by: Vec<_> = conditions.iter().filter(alone).map(|condition| condition.claim.name()).collect();
                left_out.push(format!("{name}: {kind}: {by:?}"));
            }
        }
    }
    assert!(left_out.is_empty(), "{}", left_out.join("\n"));
}

/// Besides the claim that tells a foreign job apart, no claim's absence makes it pass.
#[test]
fn a_foreign_job_that_says_less_is_never_granted() {
    for (name, text) in GOLDEN {
        let golden = golden(text);
        let loaded = loaded(name, &golden, "internal");
        for (kind, refused) in &golden.refused {
            let foreign = changed(&golden.token, &refused.changes);
            for member in golden.token.as_object().unwrap().keys() {
                if member == "iss"
                    || refused.changes.keys().any(|name| name.trim_start_matches('/').starts_with(member))
                {
                    continue;
                }
                let less = changed(&foreign, &BTreeMap::from([(member.clone(), Value::Null)]));
                assert_ne!(outcome(&loaded, &less), "grant", "{name}: {kind} without {member}");
            }
        }
    }
}

/// A group and everything below it, on an instance of one's own, ends where its name ends.
#[test]
fn security_083_a_group_ends_where_its_name_ends() {
    let url = "https://gitlab.acme.example";
    let group = "repository = { under = \"a/b\" }\n";
    let loaded = load(&folder("gitlab", url, "tenancy = \"single\"", group, "internal"), &PROFILES);
    assert_eq!(codes_of(&loaded), [""; 0]);
    let (_, text) = GOLDEN.iter().find(|(of, _)| *of == "gitlab").unwrap();
    for (above, name, expected) in [
        ("a/b", "x", "grant"),
        ("a/b/c", "x", "grant"),
        ("A/B", "x", "grant"),
        ("a", "bc", "no_mapping"),
        ("a/bc", "x", "no_mapping"),
        ("x/a/b", "c", "no_mapping"),
        ("a-b", "x", "no_mapping"),
        ("a/%62", "x", "no_mapping"),
    ] {
        let changes =
            [("iss", url.into()), ("namespace_path", above.into()), ("project_path", format!("{above}/{name}"))];
        let changes = changes.map(|(claim, text)| (claim.to_owned(), Value::from(text)));
        assert_eq!(outcome(&loaded, &changed(&golden(text).token, &changes.into())), expected, "{above}/{name}");
    }
}

#[test]
fn security_089_debug_sessions_need_to_be_named() {
    for (name, member, event) in [
        ("circleci", json!({ "oidc.circleci.com/ssh-rerun": true }), "ssh_rerun"),
        ("semaphore", json!({ "job_type": "debug_job" }), "debug_job"),
    ] {
        let (_, text) = GOLDEN.iter().find(|(of, _)| *of == name).unwrap();
        let mut golden = golden(text);
        let changes = serde_json::from_value(member).unwrap();
        let token = changed(&golden.token, &changes);
        assert_eq!(outcome(&loaded(name, &golden, "internal"), &token), "event_not_allowed");
        golden.r#match.push_str(&format!("event_name = \"{event}\"\n"));
        assert_eq!(outcome(&loaded(name, &golden, "internal"), &token), "grant", "one may name them");
    }
}

#[test]
fn production_needs_more_where_events_are_not_told() {
    let told = |name: &str| {
        let (_, text) = GOLDEN.iter().find(|(of, _)| *of == name).unwrap();
        codes_of(&loaded(name, &golden(text), "production"))
    };
    for name in ["bitbucket-pipelines", "buddy", "buildkite", "circleci"] {
        assert_eq!(told(name), ["CB0412"], "{name}");
    }
    assert_eq!(told("azure-devops"), ["CB0220", "CB0412"]);
    for name in ["github-actions", "gitlab", "hcp-terraform", "codefresh", "kubernetes", "aws", "google", "forgejo"] {
        assert_eq!(told(name), [""; 0], "{name}");
    }
}

#[test]
fn security_090_091_092_what_strangers_share_is_pinned_under_any_profile() {
    let codes = |profile: &str, url: &str, issuer: &str, conditions: &str| {
        codes_of(&load(&folder(profile, url, issuer, conditions, "internal"), &PROFILES))
    };
    let exact = "subject = \"s\"\n";
    let single = "tenancy = \"single\"";
    for url in
        ["https://app.terraform.io", "https://agent.buildkite.com", "https://gitlab.com", "https://accounts.google.com"]
    {
        assert_eq!(codes("generic", url, single, exact), ["CB0404"], "{url}");
        assert_eq!(codes("generic", url, "", exact), [""; 0], "{url}");
        assert_eq!(codes("generic", url, "", "subject = { glob = \"s*\" }\n"), ["CB0401"], "{url}");
        assert_eq!(codes("generic", url, "", "subject = { present = true }\n"), ["CB0401"], "{url}");
    }
    for (name, text) in GOLDEN {
        let profile = PROFILES.get(name).unwrap();
        let url = golden(text).token["iss"].as_str().unwrap().to_owned();
        let condition =
            if profile.provides(Claim::Branch) { "branch = \"main\"\n" } else { "subject = { glob = \"a*\" }\n" };
        let codes = codes(name, &url, "", condition);
        let expected = if profile.names_owner() { ["CB0402", "CB0401"] } else { ["CB0401"; 2] };
        let told: Vec<_> =
            codes.iter().filter(|code| *code != "CB0220" && *code != "CB0306").map(String::as_str).collect();
        assert!(told.iter().all(|code| expected.contains(code)) && !told.is_empty(), "{name}: {codes:?}");
    }
    let owners = codes("google", "https://accounts.google.com", "owners = { acme = 1 }", "subject = \"1\"\n");
    assert_eq!(owners, ["CB0308"], "an owner that no token names admits nobody");
}

#[test]
fn urls_have_their_profile_s_forms() {
    for (name, url, fits) in [
        ("circleci", "https://oidc.circleci.com", false),
        ("circleci", "https://oidc.circleci.com/org/0b9d3d5a-6f1e-4c57-9c0a-2f4b8e7d6c5a", true),
        ("azure-devops", "https://vstoken.dev.azure.com", false),
        ("bitbucket-pipelines", "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc", true),
        ("bitbucket-pipelines", "https://api.bitbucket.org/2.0/workspaces/a/b/pipelines-config/identity/oidc", false),
        ("env0", "https://login.app.env0.com/", true),
        ("env0", "https://login.app.env0.com", false),
        ("kubernetes", "https://eastus.oic.prod-aks.azure.com/0b9d3d5a/6f1e4c57/", true),
        ("kubernetes", "https://container.googleapis.com/v1/projects/p/locations/europe-west3/clusters/c", true),
        ("kubernetes", "https://kubernetes.default.svc.cluster.local", true),
        ("spacelift", "https://acme.app.spacelift.io", true),
        ("google", "https://accounts.google.com.evil.example", false),
        ("buildkite", "https://agent.buildkite.com/x", false),
        ("jenkins", "https://jenkins.acme.example/job/folder/oidc", true),
        ("generic", "http://ci.acme.example", false),
    ] {
        assert_eq!(PROFILES.get(name).unwrap().tenancy_of(url).is_some(), fits, "{name} {url}");
    }
}

#[test]
fn subject_tokens_are_single_use_everywhere() {
    for profile in PROFILES.iter() {
        assert_ne!(profile.single_use(), SingleUseRule::Reusable, "{}", profile.name);
        let reusable = profile.actor_single_use() == SingleUseRule::Reusable;
        assert_eq!(reusable, ["aws", "google", "kubernetes"].contains(&profile.name.as_str()), "{}", profile.name);
    }
    let text = include_str!("../../src/workload/profiles/google.toml");
    let broken = text.replace("single_use = \"signed_part\"", "single_use = \"reusable\"");
    let error = Profile::parse("mine.toml", &broken).unwrap_err();
    assert!(error.message.contains("a subject token is always single use"), "{error}");
}

/// A profile of one's own, beside the folder that names it.
#[test]
fn an_operator_s_own_profile_is_used_and_its_faults_have_places() {
    let own = include_str!("../../src/workload/profiles/buildkite.toml")
        .replace("name = \"buildkite\"", "name = \"acme-ci\"")
        .replace("https://agent.buildkite.com", "https://ci.acme.example");
    let (_, text) = GOLDEN.iter().find(|(of, _)| *of == "buildkite").unwrap();
    let golden = golden(text);
    let with = |path: &str, text: &str| {
        let mut folder = folder("acme-ci", "https://ci.acme.example", &golden.issuer, &golden.r#match, "internal");
        folder.files.insert(path.to_owned(), text.as_bytes().to_vec());
        load(&folder, &PROFILES)
    };
    let fine = with("profiles/acme-ci.toml", &own);
    assert_eq!(codes_of(&fine), [""; 0], "{:#?}", fine.diagnostics);
    let mut token = golden.token.clone();
    token["iss"] = json!("https://ci.acme.example");
    assert_eq!(outcome(&fine, &token), "grant");
    token["build_branch"] = json!("feature");
    assert_eq!(outcome(&fine, &token), "no_mapping");
    let mut without = folder("acme-ci", "https://ci.acme.example", &golden.issuer, &golden.r#match, "internal");
    assert!(codes_of(&load(&without, &PROFILES)).contains(&"CB0209".to_owned()));
    without.files.insert("profiles/deep/x.toml".to_owned(), own.clone().into_bytes());
    assert!(codes_of(&load(&without, &PROFILES)).contains(&"CB0115".to_owned()));

    let pins = "pins = [\"repository_id\", \"repository_owner_id\"]";
    for (from, to, code, says) in [
        (pins, "pins = [\"branch\"]", "CB0218", "`pins` are ids"),
        ("folds_names = false", "folds_names = fasle", "CB0218", ""),
        ("can_mint_again", "can_mint_agian", "CB0218", "unknown field `can_mint_agian`"),
        ("name = \"acme-ci\"", "name = \"github-actions\"", "CB0219", "built in"),
        ("name = \"acme-ci\"", "name = \"acme\"", "CB0219", "calls itself"),
    ] {
        let text = own.replacen(from, to, 1);
        assert_ne!(text, own, "{from}");
        let loaded = with("profiles/acme-ci.toml", &text);
        let finding = loaded.diagnostics.iter().find(|finding| finding.code.to_string() == code);
        let finding = finding.unwrap_or_else(|| panic!("{to}: {:#?}", loaded.diagnostics));
        assert!(finding.message.contains(says) && finding.help.is_some(), "{to}: {finding:?}");
        let span = finding.span.clone().unwrap();
        assert_eq!(&*span.file, "profiles/acme-ci.toml");
        let line = |at: usize| text[..at].matches('\n').count();
        if code == "CB0218" {
            assert_eq!(line(span.bytes().start), line(text.find(to).unwrap()), "{to}");
        }
    }
}

#[test]
fn claims_without_a_canonical_name_have_a_type_and_an_author() {
    use claimbound_core::workload::{RawKind, SetBy};
    for (name, native, expected) in [
        ("github-actions", "repo_property_team", Some((RawKind::CommaList, SetBy::Administrators))),
        ("github-actions", "repo_properties", None),
        ("gitlab", "deployment_tier", Some((RawKind::Text, SetBy::Author))),
        ("circleci", "oidc.circleci.com/context-ids", Some((RawKind::List, SetBy::Author))),
        ("aws", "/https:~1~1sts.amazonaws.com~1/principal_tags/team", Some((RawKind::Text, SetBy::Administrators))),
        ("aws", "/https:~1~1sts.amazonaws.com~1/request_tags/team", Some((RawKind::Text, SetBy::Author))),
    ] {
        assert_eq!(PROFILES.get(name).unwrap().raw_claim(native), expected, "{name} {native}");
    }
}
