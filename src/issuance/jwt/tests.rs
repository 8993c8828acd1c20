use super::*;
use claimbound_core::{
    evidence::LeaseId,
    mapping::Parameters,
    time::Seconds,
    workload::{self, Case, Claim, Profiles},
};
use serde_json::json;
use std::{borrow::Cow, collections::BTreeMap};

const HERE: Deployment<'static> = Deployment {
    public_url: "https://broker.example",
    issuer_url: "https://oidc.example/prod",
    backends: BTreeMap::new(),
};
const AUDIENCE: &str = "https://openbao.acme.example";

fn span(from: usize) -> Span {
    Span::new("roles/payments.toml", from..from + 1)
}

/// A role whose parameters are this TOML; each value's span begins at its number in name order.
pub fn role(parameters: &str) -> Role {
    let table: toml::Table = parameters.parse().unwrap();
    let values = table.into_iter().enumerate().map(|(at, (key, value))| (key, (value, span(100 + at)))).collect();
    Role {
        name: "payments-secrets".to_owned(),
        description: String::new(),
        backend: "jwt".to_owned(),
        kind: NAME,
        parameters: Parameters { values, span: span(50) },
        sensitivity: "internal".to_owned(),
        target: None,
        teams: Vec::new(),
        issuers: Vec::new(),
        max_duration: Seconds(3600),
        span: span(1),
    }
}

fn faults(role: &Role) -> Vec<(u16, usize, String)> {
    let faults = Config::parse(role, Some(&HERE)).expect_err("does not load");
    faults
        .into_iter()
        .map(|fault| {
            assert!(fault.help.as_ref().is_some_and(|help| !help.is_empty()), "{}: no remedy", fault.message);
            (fault.code.0, fault.span.unwrap().bytes().start, format!("{}: {}", fault.message, fault.help.unwrap()))
        })
        .collect()
}

#[test]
fn a_role_s_table_is_read() {
    let plain = Config::parse(&role(&format!("audience = '{AUDIENCE}'")), Some(&HERE)).unwrap();
    assert_eq!(plain, Config { audience: AUDIENCE.to_owned(), algorithm: SigningAlgorithm::Es256 });
    let rsa = Config::parse(&role("audience = 'kubernetes'\nalgorithm = 'RS256'"), None).unwrap();
    assert_eq!(rsa, Config { audience: "kubernetes".to_owned(), algorithm: SigningAlgorithm::Rs256 });
}

#[test]
fn every_fault_has_its_code_place_and_remedy() {
    let long = format!("audience = '{}'", "a".repeat(257));
    for (parameters, code, place, text) in [
        ("", 802, 50, "no `audience`"),
        ("audience = ''", 803, 100, "is empty"),
        ("audience = ['a', 'b']", 803, 100, "one string, not a list"),
        ("audience = 7", 803, 100, "not a number"),
        ("audience = 'a b'", 803, 100, "white space"),
        ("audience = \"a\\u0007\"", 803, 100, "control character"),
        ("audience = 'https://оpenbao.example'", 803, 100, "beyond ASCII"),
        ("audience = 'https://x/{claim.repository}'", 803, 100, "placeholder"),
        (long.as_str(), 803, 100, "257 bytes"),
        ("audience = 'a'\naudiense = 'b'", 801, 101, "did you mean `audience`"),
        ("audience = 'a'\nzone = 'b'", 801, 101, "`audience` and `algorithm`"),
        ("algorithm = 'es256'\naudience = 'a'", 804, 100, "did you mean `ES256`"),
        ("algorithm = 'RS512'\naudience = 'a'", 804, 100, "write `ES256`"),
        ("algorithm = 'HS256'\naudience = 'a'", 804, 100, "does not sign with"),
        ("algorithm = 'none'\naudience = 'a'", 804, 100, "write `ES256`"),
        ("algorithm = true\naudience = 'a'", 804, 100, "a boolean"),
    ] {
        let found = faults(&role(parameters));
        assert_eq!(found.len(), 1, "{parameters}: {found:?}");
        assert_eq!((found[0].0, found[0].1), (code, place), "{parameters}");
        assert!(found[0].2.contains(text), "{parameters}: {}", found[0].2);
    }
    let all = faults(&Role { max_duration: Seconds(86_401), ..role("algorithm = 1\naudience = ''\nx = 1") });
    assert_eq!(all.iter().map(|fault| fault.0).collect::<Vec<_>>(), [801, 803, 804, 807], "all at once");
}

#[test]
fn audiences_that_are_good_elsewhere_do_not_load() {
    let code = |audience: &str, deployment: Option<&Deployment<'_>>| {
        Config::parse(&role(&format!("audience = '{audience}'")), deployment).err().map(|faults| faults[0].code.0)
    };
    for (audience, here, offline) in [
        (AUDIENCE, None, None),
        ("https://broker.example", Some(805), None),
        ("https://broker.example/handoff", Some(805), None),
        ("https://BROKER.example/operator", Some(805), None),
        ("https://broker.example.evil.test", Some(805), None),
        ("https://oidc.example/prod/x", Some(805), None),
        ("https://oidc.example/", None, None),
        ("https://a.example/?u=https://broker.example", None, None),
        ("sts.amazonaws.com", Some(806), Some(806)),
        ("STS.amazonaws.com.cn", Some(806), Some(806)),
        ("//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q", Some(806), Some(806)),
        ("https://IAM.googleapis.com/projects/1", Some(806), Some(806)),
        ("api://AzureADTokenExchange", Some(806), Some(806)),
        ("api://azureadtokenexchangeusgov", Some(806), Some(806)),
        ("api://other", None, None),
    ] {
        assert_eq!(code(audience, Some(&HERE)), here, "{audience}");
        assert_eq!(code(audience, None), offline, "{audience} offline");
    }
}

fn with_case<T>(then: impl FnOnce(&Case<'_>) -> T) -> T {
    let profiles = Profiles::builtin();
    let given = [
        (Claim::Repository, Cow::Borrowed("acme/payments")),
        (Claim::RepositoryId, "740000001".into()),
        (Claim::RepositoryOwnerId, "65".into()),
        (Claim::Branch, "main".into()),
        (Claim::EventName, "push".into()),
    ];
    let profile = profiles.get("github-actions").expect("built in");
    let principal = workload::from_canonical(profile, "github", &given).unwrap();
    then(&Case::alone(principal))
}

fn order<'a>(case: &'a Case<'a>) -> Order<'a> {
    Order {
        narrowing: None,
        lease: LeaseId(0x0190_0000_0000_7000_8000_0000_0000_0001),
        role: "payments-secrets",
        mapping: "payments-staging",
        case,
        principal_id: "740000001",
        principal_name: "acme/payments",
        actor_id: None,
        approved_by: &[],
        scope: None,
        now: UnixSeconds(1_800_000_000),
        duration: Seconds(900),
    }
}

fn token() -> claims::Token<'static> {
    let expires = UnixSeconds(1_800_000_900);
    claims::Token { issuer_url: "https://cb.example", audience: AUDIENCE, subject: "role:r", jti: "j", expires }
}

fn minter() -> JwtRole {
    let config = Config { audience: AUDIENCE.to_owned(), algorithm: SigningAlgorithm::Es256 };
    JwtRole::new(config, HERE.issuer_url.into(), Signer::ephemeral(), StatusLists::new(HERE.public_url))
}

fn payload(token: &Secret) -> serde_json::Value {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let payload = token.reveal().split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_says_who_for_whom_and_under_which_lease() {
    let plan = with_case(|case| minter().plan(&order(case)).unwrap());
    let handle = plan.handle().expect("known before minting").to_owned();
    let place = plan.status().expect("a place in a status list");
    let list = format!("https://broker.example/statuslists/{:032x}", place.list);
    let status = json!({ "status_list": { "idx": place.index, "uri": list } });
    let Minted { handle: minted, expires, credential } = plan.mint().await.unwrap();
    let Credential::Jwt(token) = credential else { panic!("a `jwt` role gives a token") };
    assert_eq!(minted, handle);
    assert_eq!(expires, UnixSeconds(1_800_000_900));
    assert_eq!(
        payload(&token),
        json!({
            "iss": "https://oidc.example/prod",
            "sub": "role:payments-secrets:github:740000001",
            "aud": AUDIENCE,
            "iat": 1_800_000_000,
            "nbf": 1_800_000_000,
            "exp": 1_800_000_900,
            "jti": handle,
            "role": "payments-secrets",
            "mapping": "payments-staging",
            "lease_id": "01900000-0000-7000-8000-000000000001",
            "status": status,
            "principal": {
                "issuer": "github",
                "id": "740000001",
                "name": "acme/payments",
                "repository_id": "740000001",
                "repository_owner_id": "65",
            },
        })
    );
}

#[test]
fn every_plan_has_a_handle_of_its_own() {
    let minter = minter();
    let handles: std::collections::HashSet<_> =
        with_case(|case| (0..100).map(|_| minter.plan(&order(case)).unwrap().handle().unwrap().to_owned()).collect());
    assert_eq!(handles.len(), 100);
}

#[test]
fn a_scope_does_not_fit_and_an_actor_is_named() {
    let minter = minter();
    with_case(|case| {
        let scoped = Order { scope: Some("read"), ..order(case) };
        assert_eq!(minter.plan(&scoped).err(), Some(Unfit::Scope));
        let acted = Case { actors: vec![case.principal.clone()], ..case.clone() };
        let claims = json!(Claims::of(&order(&acted), &token(), ()));
        let (iss, sub) = case.principal.party();
        assert_eq!(claims["act"], serde_json::json!({ "iss": iss, "sub": sub }));
        assert!(json!(Claims::of(&order(case), &token(), ())).get("act").is_none());
    });
}

#[tokio::test]
async fn revoking_says_that_the_token_is_refused_where_its_lease_is_looked_up() {
    assert_eq!(minter().revoke("x").await, Ok(Ended::WhereChecked));
}

#[tokio::test]
async fn when_no_key_signs_nothing_was_minted() {
    let directory = tempfile::tempdir().unwrap();
    let signer = Signer::open(directory.path(), None, UnixSeconds(1_900_000_000)).unwrap();
    let config = Config { audience: AUDIENCE.to_owned(), algorithm: SigningAlgorithm::Rs256 };
    let minter = JwtRole::new(config, HERE.issuer_url.into(), signer, StatusLists::new(HERE.public_url));
    let plan = with_case(|case| minter.plan(&order(case)).unwrap());
    assert!(matches!(plan.mint().await.err(), Some(MintError::Away(_))));
}
