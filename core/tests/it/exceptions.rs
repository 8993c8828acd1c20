//! Exceptions of mappings, and repositories under new names: who may claim what, and what each lets in.

use claimbound_core::{
    diag::{Diagnostic, Severity},
    mapping::{Ask, Decision, Exempt, Folder, Loaded, MappingSet, decide, explain, load, renamed},
    reason::Reason,
    review::{Given, World, diff, lint},
    time::UnixSeconds,
    workload::{Case, Claim, Profiles},
};
use std::collections::BTreeMap;

const POLICY: &str = r#"format = 1
[issuer.github]
profile = "github-actions"
url = "https://token.actions.githubusercontent.com"
owners = { acme = 65, labs = 66 }
[issuer.own]
profile = "gitlab"
url = "https://gitlab.acme.example"
tenancy = "single"
owners = { acme = 65 }
[issuer.cloud]
profile = "google"
url = "https://accounts.google.com"
[team.payments]
path = "teams/payments"
may = ["any_repository", "any_event", "allow_mutable_identity"]
[team.strict]
path = "teams/strict"
may = []
"#;

const ROLES: &str = r#"[role.reader]
description = "Read"
backend = "jwt"
teams = ["payments", "strict"]
sensitivity = "internal"
[role.reader.jwt]
audience = "https://bao.acme.example"

[role.eventful]
description = "Read on its own events"
backend = "jwt"
teams = ["payments"]
sensitivity = "internal"
issuers = ["github"]
[role.eventful.require]
event_name = "push"
[role.eventful.jwt]
audience = "https://events.acme.example"

[role.live]
description = "Deploy"
backend = "jwt"
teams = ["payments"]
issuers = ["github", "own"]
sensitivity = "production"
[role.live.require.github]
job_workflow = { repository = "acme/ci", file = ".github/workflows/deploy.yml", ref = "refs/heads/main" }
[role.live.require.own]
ref_protected = true
[role.live.jwt]
audience = "https://live.acme.example"

[role.loose]
description = "Deploy by the job's own workflow"
backend = "jwt"
teams = ["payments"]
issuers = ["github"]
sensitivity = "production"
[role.loose.require]
job_workflow = { file = ".github/workflows/deploy.yml", ref = "refs/heads/main" }
[role.loose.jwt]
audience = "https://loose.acme.example"

[role.named]
description = "Tells the repository's name"
backend = "aws"
teams = ["payments"]
issuers = ["github"]
sensitivity = "internal"
[role.named.aws]
role_arn = "arn:aws:iam::111122223333:role/named"
region = "eu-west-1"
session_tags = { repository = "{claim.repository}" }
"#;

fn folder(policy: &str, files: &[(&str, &str)]) -> Folder {
    let mut folder = Folder::default();
    for (path, text) in [("policy.toml", policy), ("roles/r.toml", ROLES)].iter().chain(files) {
        folder.files.insert((*path).to_owned(), text.as_bytes().to_vec());
    }
    folder
}

fn one(team: &str, issuer: &str, role: &str, keys: &str) -> Folder {
    let text = format!(
        "[[mapping]]\nname = \"m\"\ndescription = \"d\"\nissuer = \"{issuer}\"\nroles = [\"{role}\"]\n{keys}\n"
    );
    folder(POLICY, &[(&format!("teams/{team}/m.toml"), &text)])
}

fn loaded(folder: &Folder) -> Loaded {
    load(folder, &Profiles::builtin())
}

fn set(folder: &Folder) -> MappingSet {
    let loaded = loaded(folder);
    loaded.set.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics))
}

/// What errors and warnings say, and the exceptions that notes repeat.
fn told(found: &[Diagnostic]) -> String {
    let one = |one: &Diagnostic| match one.severity {
        Severity::Error => format!("{}", one.code),
        Severity::Warning => format!("{}?", one.code),
        Severity::Note => format!("{}!", one.code),
    };
    found.iter().map(one).collect::<Vec<_>>().join(" ")
}

const OWNER: &str = "repository_owner = \"acme\"";
const PIN: &str = "repository = { name = \"acme/api\", id = 7 }";
const ANY: &str = "any_repository = \"all of acme reads\"";
const EVENT: &str = "any_event = \"a bot comments\"";
const NAME: &str = "allow_mutable_identity = \"it has no id yet\"";

#[test]
fn who_may_claim_what() {
    for (team, issuer, role, claims, conditions, expected) in [
        // Every repository of an owner.
        ("payments", "github", "reader", ANY, OWNER, "CB0527!"),
        ("payments", "github", "reader", ANY, "repository_owner_id = 65", "CB0527!"),
        (
            "payments",
            "github",
            "reader",
            ANY,
            "repository_owner = \"acme\"\nrepository = { under = \"acme/pay\" }",
            "CB0527!",
        ),
        ("strict", "github", "reader", ANY, OWNER, "CB0521"),
        ("payments", "github", "reader", "any_repository = \" \"", OWNER, "CB0522"),
        ("payments", "github", "reader", "any_repository = true", OWNER, "CB0522"),
        ("payments", "github", "reader", "any_repository = \"a\\nb\"", OWNER, "CB0522"),
        ("payments", "github", "reader", ANY, "branch = \"main\"", "CB0523"),
        ("payments", "github", "reader", ANY, "repository = \"acme/api\"", "CB0523"),
        ("payments", "github", "reader", ANY, "repository_owner = { glob = \"acme*\" }", "CB0523"),
        ("payments", "cloud", "reader", ANY, "subject = { glob = \"1037*\" }", "CB0523"),
        ("payments", "github", "reader", ANY, PIN, "CB0524"),
        ("payments", "own", "reader", ANY, OWNER, "CB0525?"),
        ("payments", "github", "live", ANY, OWNER, "CB0527!"),
        ("payments", "own", "live", ANY, OWNER, "CB0526"),
        ("payments", "github", "loose", ANY, OWNER, "CB0526"),
        ("payments", "github", "reader", "", OWNER, "CB0401"),
        // Every event.
        ("payments", "github", "reader", EVENT, PIN, "CB0527!"),
        ("payments", "github", "live", EVENT, PIN, "CB0527!"),
        ("strict", "github", "reader", EVENT, PIN, "CB0521"),
        ("payments", "github", "reader", EVENT, "repository_id = 7\nevent_name = \"push\"", "CB0524"),
        ("payments", "github", "eventful", EVENT, PIN, "CB0525?"),
        ("payments", "cloud", "reader", EVENT, "subject = \"1037\"", "CB0525?"),
        // A name without id.
        ("payments", "github", "reader", NAME, "repository = \"acme/api\"", "CB0527!"),
        ("payments", "github", "reader", NAME, "repository = [\"acme/api\", \"acme/web\"]", "CB0527!"),
        ("payments", "github", "reader", NAME, "subject = \"repo:acme/api:environment:x\"", "CB0527!"),
        ("strict", "github", "reader", NAME, "repository = \"acme/api\"", "CB0521"),
        ("payments", "github", "reader", NAME, "repository = \"other/api\"", "CB0403"),
        ("payments", "github", "reader", NAME, "repository = { under = \"acme/pay\" }", "CB0523"),
        ("payments", "github", "reader", NAME, OWNER, "CB0523"),
        ("payments", "cloud", "reader", NAME, "subject = { glob = \"1037*\" }", "CB0523"),
        ("payments", "github", "reader", NAME, PIN, "CB0524"),
        ("payments", "own", "reader", NAME, "repository = \"acme/api\"", "CB0525?"),
        ("payments", "github", "live", NAME, "repository = \"acme/api\"", "CB0408"),
        ("payments", "own", "live", NAME, "repository = \"acme/api\"", "CB0408"),
    ] {
        let folder = one(team, issuer, role, &format!("{claims}\n[mapping.match]\n{conditions}"));
        let loaded = loaded(&folder);
        assert_eq!(told(&loaded.diagnostics), expected, "{claims} {conditions}: {:#?}", loaded.diagnostics);
        // What is in force is told with its reason, and lints have nothing against it but what they always say: of roles
        // that nobody gives, of production without a ref.
        if let Some(set) = &loaded.set {
            let exceptions = &set.mappings[0].exceptions;
            assert_eq!(exceptions.len(), loaded.diagnostics.iter().filter(|one| one.code.0 == 527).count());
            for exception in exceptions {
                assert!(loaded.diagnostics[0].message.contains(&*exception.reason), "{:?}", loaded.diagnostics);
            }
            let advice = lint(set, &loaded.profiles);
            assert!(advice.iter().all(|one| [710, 721].contains(&one.code.0)), "{claims} {conditions}: {advice:#?}");
        }
    }
}

#[test]
fn what_one_of_two_exceptions_covers_the_other_does_not() {
    let both = |conditions: &str| {
        let keys = format!("{ANY}\n{NAME}\n[mapping.match]\n{conditions}");
        loaded(&one("payments", "github", "reader", &keys))
    };
    let owned = both("repository_owner = \"acme\"\nrepository = \"acme/api\"");
    assert_eq!(told(&owned.diagnostics), "CB0527! CB0525?");
    assert_eq!(told(&both("repository = \"acme/api\"").diagnostics), "CB0525? CB0527!");
}

#[test]
fn each_alternative_is_judged_by_itself() {
    let keys = format!(
        "{ANY}\n{EVENT}\n[[mapping.any]]\nrepository_owner = \"acme\"\nevent_name = \"push\"\n[[mapping.any]]\nrepository_id = 7\n"
    );
    let set = set(&one("payments", "github", "reader", &keys));
    let rests: Vec<_> = set.mappings.iter().map(|one| Exempt::OF_MAPPING.map(|exempt| one.rests_on(exempt))).collect();
    assert_eq!(rests, [[true, false, false], [false, true, false]], "only what the alternative needs");
    let contrary = format!(
        "{EVENT}\n[[mapping.any]]\nrepository_id = 7\nevent_name = \"push\"\n[[mapping.any]]\nrepository_id = 8\nevent_name = \"issues\"\n"
    );
    assert_eq!(told(&loaded(&one("payments", "github", "reader", &contrary)).diagnostics), "CB0524");
}

#[test]
fn may_and_on_rename_say_one_of_their_words() {
    for (from, to, expected) in [
        ("may = []", "may = [\"any_repositorys\"]", "CB0528"),
        ("may = []", "may = [\"everything\"]", "CB0528"),
        ("may = []", "may = [\"allow_self\", \"own_approvers\", \"sts_uses_per_token\"]", ""),
        ("may = []", "may = [\"any_event\", \"any_event\"]", "CB0313"),
        ("may = []", "may = \"any_event\"", "CB0105"),
        ("may = []", "may = [7]", "CB0105"),
        ("[issuer.own]", "[issuer.own]\non_rename = \"refuse\"", ""),
        ("[issuer.own]", "[issuer.own]\non_rename = \"warn\"", ""),
        ("[issuer.own]", "[issuer.own]\non_rename = \"ignore\"", "CB0529"),
        ("[issuer.cloud]", "[issuer.cloud]\non_rename = \"warn\"", "CB0529"),
    ] {
        let policy = POLICY.replace(from, to);
        assert_ne!(policy, POLICY);
        assert_eq!(told(&loaded(&folder(&policy, &[])).diagnostics), expected, "{to}");
    }
    let slid = one("payments", "github", "reader", &format!("[mapping.match]\n{PIN}\n{ANY}"));
    assert_eq!(told(&loaded(&slid).diagnostics), "CB0111", "a key of the mapping, not of its conditions");
}

fn case(set: &MappingSet, claims: &[(Claim, &str)]) -> Result<Case<'static>, String> {
    // Of a claim that is given twice the later one stands.
    let mut all: BTreeMap<Claim, &str> = [(Claim::Ref, "refs/heads/main"), (Claim::EventName, "push")].into();
    all.extend(claims.iter().copied());
    let claims = all.into_iter().map(|(claim, text)| (claim, text.to_owned())).collect();
    let (issuer, _) = set.issuer_named("github").expect("the issuer");
    let principal =
        Given::Workload(claims).workload(set, &Profiles::builtin(), issuer).map_err(|error| error.to_string())?;
    Ok(Case::alone(principal))
}

fn job(name: &'static str, id: &'static str, owner: &'static str) -> [(Claim, &'static str); 3] {
    [(Claim::Repository, name), (Claim::RepositoryId, id), (Claim::RepositoryOwnerId, owner)]
}

/// `granted`, or why not; what the watched evaluation says is the same.
fn answer(set: &MappingSet, claims: &[(Claim, &str)]) -> String {
    let case = match case(set, claims) {
        Ok(case) => case,
        Err(error) => return error,
    };
    let ask = Ask { role: Some("reader"), ..Ask::default() };
    let (watched, trace) = explain(set, &case, &ask, UnixSeconds(0));
    let decision = decide(set, &case, &ask, UnixSeconds(0));
    assert_eq!(watched, decision);
    match decision {
        Decision::Grant(grant) | Decision::Pending(grant) => {
            let report = trace.mappings.iter().find(|one| one.held).expect("what grants holds");
            let shown = report.conditions.iter().any(|one| one.renamed);
            assert_eq!(renamed(set, &grant, &case.principal).is_some(), shown);
            if shown { "granted, renamed".to_owned() } else { "granted".to_owned() }
        }
        Decision::Deny(denial) => denial.reason.name().to_owned(),
    }
}

#[test]
fn every_repository_of_the_owner_and_no_other() {
    let keys = format!("{ANY}\n[mapping.match]\n{OWNER}");
    let set = set(&one("payments", "github", "reader", &keys));
    for (name, id, owner, expected) in [
        ("acme/api", "7", "65", "granted"),
        ("ACME/brand-new", "999", "65", "granted"),
        ("labs/api", "7", "66", Reason::NoMapping.name()),
        // The name of the owner under another id, and the id under another name.
        ("acme/api", "7", "66", Reason::IdMismatch.name()),
        ("renamed/api", "7", "65", Reason::Renamed.name()),
    ] {
        assert_eq!(answer(&set, &job(name, id, owner)), expected, "{name} {owner}");
    }
    assert!(answer(&set, &job("acme/api", "7", "67")).contains("no job is like this"), "a stranger stays one");
    let known = case(&set, &job("acme/new", "8", "65")).expect("a job");
    let ask = Ask { role: Some("live"), ..Ask::default() };
    assert_eq!(explain(&set, &known, &ask, UnixSeconds(0)).1.mappings.len(), 0);
}

#[test]
fn every_event_there_is_and_will_be() {
    let keys = format!("{EVENT}\n[mapping.match]\n{PIN}");
    let open = set(&one("payments", "github", "reader", &keys));
    let closed = set(&one("payments", "github", "reader", &format!("[mapping.match]\n{PIN}")));
    for event in ["push", "pull_request_target", "issue_comment", "invented_tomorrow"] {
        let mut job = job("acme/api", "7", "65").to_vec();
        job.push((Claim::EventName, event));
        assert_eq!(answer(&open, &job), "granted", "{event}");
        assert_eq!(answer(&closed, &job) == "granted", event == "push", "{event}");
    }
}

#[test]
fn a_name_is_enough_for_who_says_so_and_strangers_stay_strangers() {
    let keys = format!("{NAME}\n[mapping.match]\nrepository = \"acme/api\"");
    let set = set(&one("payments", "github", "reader", &keys));
    assert_eq!(answer(&set, &job("acme/api", "7", "65")), "granted");
    assert_eq!(answer(&set, &job("acme/api", "8", "65")), "granted", "that is what the exception says");
    assert_eq!(answer(&set, &job("acme/web", "8", "65")), "no_mapping");
    assert!(answer(&set, &job("acme/api", "7", "67")).contains("no job is like this"));
}

#[test]
fn a_new_name_is_granted_where_one_repository_is_pinned() {
    let policy = POLICY.replace("[issuer.github]", "[issuer.github]\non_rename = \"warn\"");
    let with = |policy: &str, conditions: &str| {
        let text = format!(
            "[[mapping]]\nname = \"m\"\ndescription = \"d\"\nissuer = \"github\"\nroles = [\"reader\"]\n[mapping.match]\n{conditions}\n"
        );
        set(&folder(policy, &[("teams/payments/m.toml", &text)]))
    };
    let several = "repository = [{ name = \"acme/api\", id = 7 }, { name = \"acme/web\", id = 8 }]";
    for (policy, conditions, name, id, expected) in [
        (&*policy, PIN, "acme/api", "7", "granted"),
        (&policy, PIN, "ACME/api", "7", "granted"),
        (&policy, PIN, "acme/new", "7", "granted, renamed"),
        (&policy, "repository = \"acme/api\"\nrepository_id = 7", "acme/new", "7", "granted, renamed"),
        (&policy, PIN, "acme/api", "8", "id_mismatch"),
        (&policy, several, "acme/new", "7", "renamed"),
        (&policy, "repository = { glob = \"acme/a*\" }\nrepository_id = 7", "acme/new", "7", "no_mapping"),
        (POLICY, PIN, "acme/new", "7", "renamed"),
    ] {
        assert_eq!(answer(&with(policy, conditions), &job(name, id, "65")), expected, "{conditions} {name}");
    }
    // Whoever may rename the repository would choose the name that a target is told.
    let text = format!(
        "[[mapping]]\nname = \"m\"\ndescription = \"d\"\nissuer = \"github\"\nroles = [\"named\"]\n[mapping.match]\n{PIN}\n"
    );
    let files = [("teams/payments/m.toml", text.as_str())];
    assert_eq!(told(&loaded(&folder(&policy, &files)).diagnostics), "CB0508");
    assert_eq!(told(&loaded(&folder(POLICY, &files)).diagnostics), "");
}

/// Summary, and what is said about rules.
fn differs(before: &Folder, after: &Folder) -> (String, Vec<String>) {
    let profiles = Profiles::builtin();
    let (old, new) = (set(before), set(after));
    let side = |folder, set| diff::Side { folder, set, profiles: &profiles };
    let told = diff::diff(side(before, &old), side(after, &new)).expect("the evaluator confirms each");
    (told.summary(), told.rules)
}

#[test]
fn diff_shows_what_an_exception_lets_in() {
    let plain = |conditions: &str| one("payments", "github", "reader", &format!("[mapping.match]\n{conditions}"));
    let excepted = |claims: &str, conditions: &str| {
        one("payments", "github", "reader", &format!("{claims}\n[mapping.match]\n{conditions}"))
    };
    let pinned = plain(PIN);
    let (summary, rules) = differs(&pinned, &excepted(ANY, OWNER));
    assert!(summary.contains("gain") && !summary.contains("loss"), "{summary}");
    assert_eq!(rules, ["mapping `m` rests on the exception `any_repository`: all of acme reads"]);
    let (summary, rules) = differs(&excepted(EVENT, PIN), &pinned);
    assert_eq!(summary, "1 loss");
    assert_eq!(rules, ["mapping `m` no longer rests on the exception `any_event`"]);
    let (summary, rules) = differs(&excepted(EVENT, PIN), &excepted("any_event = \"another\"", PIN));
    assert!(summary.contains("no change"), "{summary}");
    assert_eq!(rules, ["mapping `m` gives another reason for `any_event`: another"]);
}

#[test]
fn diff_shows_what_a_name_that_goes_lets_in() {
    let mut after = one("payments", "github", "reader", &format!("[mapping.match]\n{PIN}"));
    let before = after.clone();
    let policy = POLICY.replace("[issuer.github]", "[issuer.github]\non_rename = \"warn\"");
    after.files.insert("policy.toml".to_owned(), policy.replace("may = []", "may = [\"any_event\"]").into_bytes());
    let (summary, rules) = differs(&before, &after);
    assert_eq!(summary, "1 gain");
    assert_eq!(
        rules,
        [
            "issuer `github` grants to a single repository by its id, whatever its name (`on_rename`)",
            "mappings of team `strict` may use the exceptions `any_event`, before none",
        ]
    );
    assert_eq!(differs(&after, &before).0, "1 loss");
}

#[test]
fn what_never_may_be_is_proved_over_exceptions_too() {
    let never = "[[never]]\nname = \"outsiders\"\n[never.match]\nevent_name = { class = \"outsider\" }\n";
    for (claims, conditions, expected) in
        [(EVENT, PIN, "CB0527! CB0703"), (ANY, OWNER, "CB0527!"), (NAME, "repository = \"acme/api\"", "CB0527!")]
    {
        let mut folder = one("payments", "github", "reader", &format!("{claims}\n[mapping.match]\n{conditions}"));
        folder.files.insert("policy.toml".to_owned(), format!("{POLICY}{never}").into_bytes());
        let mut found: Vec<_> = loaded(&folder).diagnostics;
        found.sort_by_key(|one| one.code);
        assert_eq!(told(&found), expected, "{claims}");
    }
}

#[test]
fn two_that_meet_only_under_a_new_name_overlap() {
    let text = |conditions: &str| {
        format!(
            "[[mapping]]\nname = \"a\"\ndescription = \"d\"\nissuer = \"github\"\nroles = [\"reader\"]\n[mapping.match]\n{PIN}\n\
             [[mapping]]\nname = \"b\"\ndescription = \"d\"\nissuer = \"github\"\nroles = [\"reader\"]\n[mapping.match]\n{conditions}\n"
        )
    };
    let other = "repository = [{ name = \"acme/old\", id = 7 }, { name = \"acme/x\", id = 9 }]";
    let policy = POLICY.replace("[issuer.github]", "[issuer.github]\non_rename = \"warn\"");
    let found = |policy: &str| told(&loaded(&folder(policy, &[("teams/payments/m.toml", &text(other))])).diagnostics);
    assert_eq!(found(POLICY), "");
    assert_eq!(found(&policy), "CB0701");
}

/// A world is made of what the boxes say, so each exception has a job.
#[test]
fn each_exception_has_a_job_that_shows_it() {
    let profiles = Profiles::builtin();
    for (claims, conditions) in [(ANY, OWNER), (EVENT, PIN), (NAME, "repository = \"acme/api\"")] {
        let set = set(&one("payments", "github", "reader", &format!("{claims}\n[mapping.match]\n{conditions}")));
        let world = World::new(profiles.get("github-actions").expect("a profile"), &set.issuers[0]).expect("a world");
        let boxes = world.granted(&set.mappings[0].conditions).expect("small");
        let shown = boxes.iter().filter_map(|jobs| world.witness(jobs).expect("decided")).next().expect("a job");
        let claims: Vec<(Claim, &str)> = shown.claims.iter().map(|(claim, text)| (*claim, text.as_str())).collect();
        let mut job =
            vec![(Claim::RepositoryOwnerId, "65"), (Claim::RepositoryId, "7"), (Claim::Repository, "acme/api")];
        job.extend(claims);
        assert_eq!(answer(&set, &job), "granted", "{shown:?}");
    }
}

#[test]
fn a_token_has_several_uses_where_nothing_better_is_to_be_had() {
    let role = |name: &str, sensitivity: &str| {
        format!(
            "[role.{name}]\ndescription = \"d\"\nbackend = \"aws\"\nteams = [\"payments\"]\nissuers = [\"own\", \"github\"]\n\
             sensitivity = \"{sensitivity}\"\n[role.{name}.aws]\nrole_arn = \"arn:aws:iam::111122223333:role/{name}\"\n\
             region = \"eu-west-1\"\n"
        )
    };
    let roles = format!("{}{}", role("session", "internal"), role("vital", "production"));
    let may = POLICY.replacen("[\"any_repository\"", "[\"sts_uses_per_token\", \"any_repository\"", 1);
    let told = |policy: &str, issuer: &str, role: &str, uses: &str| {
        let text = format!(
            "[[mapping]]\nname = \"m\"\ndescription = \"d\"\nissuer = \"{issuer}\"\nroles = [{role}]\n[mapping.match]\n{PIN}\n\
             ref_protected = true\n[mapping.limit]\nsts_uses_per_token = {uses}\n"
        );
        let folder = folder(policy, &[("roles/aws.toml", &roles), ("teams/payments/m.toml", &text)]);
        let loaded = loaded(&folder);
        let uses = loaded.set.map(|set| set.mappings[0].limit.unwrap().sts_uses_per_token);
        let errors = loaded.diagnostics.iter().filter(|one| one.severity == Severity::Error);
        (errors.map(|one| one.code.to_string()).collect::<Vec<_>>().join(" "), uses.flatten())
    };
    let (own, github) = ("own", "github");
    assert_eq!(told(&may, own, "\"session\"", "10"), (String::new(), Some(10)));
    for (policy, issuer, role, uses, expected) in [
        (&*may, own, "\"session\"", "11", "CB0520"),
        (&may, own, "\"session\"", "0", "CB0520"),
        (POLICY, own, "\"session\"", "3", "CB0521"),
        (&may, github, "\"session\"", "3", "CB0550"),
        (&may, own, "\"vital\"", "3", "CB0550"),
        (&may, own, "\"session\", \"vital\"", "3", "CB0550"),
        (&may, own, "\"reader\"", "3", "CB0550"),
    ] {
        assert_eq!(told(policy, issuer, role, uses).0, expected, "{issuer} {role} {uses}");
    }
}
