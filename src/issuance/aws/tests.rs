use super::{super::jwt::tests::role as jwt_role, *};
use crate::issuance::catalogue::Deployment;
use claimbound_core::{
    evidence::LeaseId,
    mapping::Role,
    time::{Seconds, UnixSeconds},
    workload::{self, Case, Claim, Profiles},
};
use std::borrow::Cow;

const ARN: &str = "role_arn = 'arn:aws:iam::111122223333:role/payments'\nregion = 'eu-west-1'\n";
const POLICY: &str =
    r#"{ "Version": "2012-10-17", "Statement": { "Effect": "Allow", "Action": "s3:*", "Resource": "*" } }"#;

fn settings(mode: Mode) -> Settings {
    Settings {
        mode,
        region: None,
        endpoint_url: None,
        external_id: None,
        timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
    }
}

fn role(parameters: &str) -> Role {
    let role = jwt_role(parameters);
    Role { name: "payments-deploy.production".to_owned(), backend: NAME.to_owned(), kind: NAME, ..role }
}

fn policies() -> BTreeMap<String, Arc<str>> {
    let long = POLICY.replace("s3:*", &"s".repeat(2048));
    [("policies/p.json", POLICY), ("policies/bad.json", "{}"), ("policies/long.json", &long)]
        .map(|(path, text)| (path.to_owned(), Arc::from(text)))
        .into()
}

fn here(mode: Mode) -> Deployment<'static> {
    let backends = [(NAME.to_owned(), settings(mode))].into();
    Deployment { public_url: "https://b.example", issuer_url: "https://oidc.example", backends }
}

fn parse(parameters: &str) -> Result<Config, Vec<String>> {
    Config::parse(&role(parameters), &policies(), Some(&here(Mode::AssumeRole)))
        .map_err(|faults| faults.into_iter().map(|fault| format!("{} {}", fault.code, fault.message)).collect())
}

#[test]
fn every_fault_of_a_role_is_told_with_its_code() {
    let mut many = String::from("session_tags = { ");
    (0..47).for_each(|at| many.push_str(&format!("t{at} = 'x', ")));
    many.push_str("last = 'x' }");
    for (more, expected) in [
        ("role-arn = 'x'", "CB0820"),
        ("session_policy = 'policies/q.json'", "CB0823"),
        ("session_policy = '../policies/p.json'", "CB0823"),
        ("session_policy = 'policies/bad.json'", "CB0824"),
        ("session_policy = 'policies/long.json'", "CB0825"),
        ("session_policy = 1", "CB0823"),
        ("session_tags = { claimbound_role = 'x' }", "CB0826"),
        ("session_tags = { ClaimBound = 'x' }", "CB0826"),
        ("session_tags = { 'aws:x' = 'x' }", "CB0826"),
        ("session_tags = { Team = 'x', team = 'y' }", "CB0826"),
        ("session_tags = { team = 'a;b' }", "CB0826"),
        ("session_tags = { 'te*m' = 'a' }", "CB0826"),
        ("session_tags = { team = 1 }", "CB0826"),
        ("session_tags = 'x'", "CB0826"),
        (&many, "CB0826"),
        ("policy_arns = []", "CB0827"),
        ("policy_arns = ['arn:aws-cn:iam::aws:policy/x']", "CB0827"),
        ("policy_arns = 'arn:aws:iam::aws:policy/x'", "CB0827"),
        ("external_id = 'x'", "CB0828"),
        ("external_id = 'a b'", "CB0828"),
    ] {
        let faults = parse(&format!("{ARN}{more}")).expect_err(more);
        assert!(faults.len() == 1 && faults[0].starts_with(expected), "{more}: {faults:?}");
    }
    for (parameters, expected) in [
        ("region = 'eu-west-1'", "CB0821"),
        ("role_arn = 'x'\nregion = 'eu-west-1'", "CB0821"),
        ("role_arn = 'arn:aws:iam::111122223333:role/{claim.branch}'\nregion = 'eu-west-1'", "CB0821"),
        ("role_arn = 'arn:aws:iam::111122223333:role/x'", "CB0822"),
        ("role_arn = 'arn:aws:iam::111122223333:role/x'\nregion = 'cn-north-1'", "CB0822"),
        ("role_arn = 'arn:aws:iam::111122223333:role/x'\nregion = 'evil.example/'", "CB0822"),
    ] {
        let faults = parse(parameters).expect_err(parameters);
        assert!(faults.len() == 1 && faults[0].starts_with(expected), "{parameters}: {faults:?}");
    }
}

#[test]
fn what_the_backend_adds_is_judged_with_it() {
    let bare = role("role_arn = 'arn:aws:iam::111122223333:role/x'");
    Config::parse(&bare, &policies(), None).expect("a region may be the backend's");
    let mut with_region = here(Mode::WebIdentity);
    with_region.backends.get_mut(NAME).unwrap().region = Some("us-east-1".to_owned());
    assert_eq!(Config::parse(&bare, &policies(), Some(&with_region)).unwrap().region, None);
    let external = role(&format!("{ARN}external_id = 'abc'"));
    let faults = Config::parse(&external, &policies(), Some(&with_region)).unwrap_err();
    assert!(faults[0].message.contains("web-identity"), "{faults:?}");
}

#[test]
fn lifetimes_that_aws_does_not_give_do_not_load() {
    for (seconds, loads) in [(899, false), (900, true), (43_200, true), (43_201, false)] {
        let role = Role { max_duration: Seconds(seconds), ..role(ARN) };
        assert_eq!(Config::parse(&role, &policies(), None).is_ok(), loads, "{seconds}");
    }
}

fn order<'a>(case: &'a Case<'a>) -> Order<'a> {
    Order {
        narrowing: None,
        lease: LeaseId(0x0190_0000_0000_7000_8000_0000_0000_0001),
        role: "payments-deploy.production",
        mapping: "payments-production",
        case,
        principal_id: "740000001",
        principal_name: "acme/payments",
        actor_id: None,
        approved_by: &[],
        scope: None,
        now: UnixSeconds(1_800_000_000),
        duration: Seconds(1800),
    }
}

fn with_case<T>(branch: &str, then: impl FnOnce(&Case<'_>) -> T) -> T {
    let profiles = Profiles::builtin();
    let given = [
        (Claim::Repository, Cow::Borrowed("acme/payments")),
        (Claim::RepositoryId, "740000001".into()),
        (Claim::RepositoryOwnerId, "65".into()),
        (Claim::Branch, branch.into()),
        (Claim::RunId, "7300000001".into()),
        (Claim::EventName, "push".into()),
    ];
    let profile = profiles.get("github-actions").expect("built in");
    let principal = workload::from_canonical(profile, "github", &given).unwrap();
    then(&Case::alone(principal))
}

fn minter(parameters: &str, mode: Mode) -> AwsRole {
    let config = parse(parameters).unwrap();
    let backend = Backend::new(NAME, settings(mode), "https://oidc.example".into(), Signer::ephemeral());
    AwsRole::new(config, Arc::new(backend))
}

#[test]
fn the_assertion_says_exactly_what_aws_reads() {
    let minter = minter(
        &format!("{ARN}session_tags = {{ team = 'payments', repository = '{{claim.repository}}' }}"),
        Mode::WebIdentity,
    );
    let call = with_case("main", |case| minter.call(&order(case)).unwrap());
    let Proof::Assertion { claims, .. } = call.proof else { panic!("web identity") };
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("https://oidc.example"), &json!("sts.amazonaws.com")));
    assert_eq!(claims["sub"], "role:payments-deploy.production");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    assert_eq!(
        claims["https://aws.amazon.com/tags"],
        json!({
            "principal_tags": {
                "team": ["payments"],
                "repository": ["acme/payments"],
                "claimbound_lease": ["01900000-0000-7000-8000-000000000001"],
                "claimbound_role": ["payments-deploy.production"],
                "claimbound_principal": ["github-740000001"],
            },
            "transitive_tag_keys": ["claimbound_lease", "claimbound_role", "claimbound_principal"],
        })
    );
    assert_eq!(claims["https://aws.amazon.com/source_identity"], "github-740000001");
    assert_eq!(call.session.name, "7300000001-01900000-0000-7000-8000-000000000001");
    assert_eq!((&*call.region, call.duration_seconds, &call.policy), ("eu-west-1", 1800, &None));
}

#[test]
fn an_actor_is_named_in_its_own_tag() {
    let minter = minter(ARN, Mode::AssumeRole);
    with_case("main", |case| {
        let acted = Case { actors: vec![case.principal.clone()], ..case.clone() };
        let call = minter.call(&order(&acted)).unwrap();
        assert!(call.session.tags.iter().any(|(key, _)| key == session::TAG_ACTOR));
        assert!(call.session.transitive().contains(&session::TAG_ACTOR.to_owned()));
    });
}

#[test]
fn what_a_job_says_fits_or_refuses_and_is_hashed_only_where_nothing_decides_by_it() {
    let tags = minter(&format!("{ARN}session_tags = {{ branch = '{{claim.branch}}' }}"), Mode::WebIdentity);
    let info = minter(
        &format!("{ARN}session_tags = {{ info_branch = '{{claim.branch}}', info_tag = '{{claim.tag}}' }}"),
        Mode::WebIdentity,
    );
    let long = "x".repeat(257);
    for branch in ["a;b", "a\"b", "a'b", "a,b", "a$(b)", "a*b", &long] {
        with_case(branch, |case| {
            let Err(Unfit::Text { parameter, .. }) = tags.call(&order(case)).map(|_| ()) else { panic!("{branch}") };
            assert_eq!(parameter, "session_tags.branch");
            let call = info.call(&order(case)).unwrap();
            let told = &call.session.tags[0];
            assert!(told.0 == "info_branch" && told.1.len() == 64, "{told:?}");
            assert!(call.session.tags.iter().all(|(key, _)| key != "info_tag"), "the job has no tag");
        });
    }
    let fine = with_case("feature/x y", |case| tags.call(&order(case)).unwrap());
    assert_eq!(fine.session.tags[0].1, "feature/x y");
    let absent = minter(&format!("{ARN}session_tags = {{ t = '{{claim.tag}}' }}"), Mode::WebIdentity);
    with_case("main", |case| assert!(matches!(absent.call(&order(case)), Err(Unfit::Text { .. }))));
}

#[test]
fn a_lifetime_is_never_rounded_up_and_a_chained_one_ends_after_an_hour() {
    let minter = minter(ARN, Mode::AssumeRole);
    let asked = |seconds| {
        with_case("main", |case| minter.call(&Order { duration: Seconds(seconds), ..order(case) }))
            .map(|call| call.duration_seconds)
    };
    assert_eq!(asked(899), Err(Unfit::TooShort { seconds: 899, least: 900 }));
    assert_eq!((asked(900), asked(7200)), (Ok(900), Ok(7200)));
    minter.backend.chained.store(true, Ordering::Relaxed);
    assert_eq!((asked(7200), asked(3600)), (Ok(3600), Ok(3600)));
    assert!(is_session("arn:aws:sts::111122223333:assumed-role/broker/i-1"));
    assert!(!is_session("arn:aws:iam::111122223333:user/assumed-role/x"));
}

#[test]
fn a_scope_is_refused() {
    let minter = minter(ARN, Mode::WebIdentity);
    with_case("main", |case| {
        assert_eq!(minter.plan(&Order { scope: Some("s3"), ..order(case) }).err(), Some(Unfit::Scope));
    });
}

#[tokio::test]
async fn nothing_was_minted_where_nobody_listens() {
    let mut settings = settings(Mode::WebIdentity);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    settings.endpoint_url = Some(format!("http://{}", listener.local_addr().unwrap()));
    drop(listener);
    let backend = Backend::new(NAME, settings, "https://oidc.example".into(), Signer::ephemeral());
    let minter = AwsRole::new(parse(ARN).unwrap(), Arc::new(backend));
    let plan = with_case("main", |case| minter.plan(&order(case)).unwrap());
    assert_eq!(plan.handle(), None, "the access key's id is AWS's to make");
    let error = plan.mint().await.err();
    assert!(matches!(error, Some(MintError::Away(_))), "{error:?}");
}
