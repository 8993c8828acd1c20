//! The configuration file, and everything that can be wrong with it.

use super::*;
use crate::secret::Place;

fn parse(text: &str, development: bool) -> Result<Config, Vec<String>> {
    Config::parse(text, &"claimbound.toml".into(), Path::new("/etc/claimbound"), development)
        .map_err(|found| found.into_iter().map(|d| format!("{} {}", d.code, d.message)).collect())
}

#[test]
fn the_annotated_reference_file_loads_and_has_every_key() {
    let text = include_str!("../../docs/claimbound.toml");
    parse(text, false).unwrap();
    let uncommented: String = text
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|l| l.contains(" = ") || l.starts_with('[')).unwrap_or(line))
        .fold(String::new(), |all, line| all + line + "\n");
    let tree: toml::Table = uncommented.parse().unwrap();
    for (path, keys) in KEYS {
        let mut tables = vec![tree.clone()];
        for step in path.split('.').filter(|step| !step.is_empty()) {
            let below = tables.into_iter().flatten().filter(|(name, _)| step == "*" || name == step);
            tables = below
                .flat_map(|(_, value)| match value {
                    toml::Value::Array(tables) => tables,
                    table => vec![table],
                })
                .map(|table| table.as_table().unwrap().clone())
                .collect();
        }
        for key in keys.iter().filter(|key| **key != "*") {
            let shown = tables.iter().any(|table| table.contains_key(*key));
            assert!(shown, "docs/claimbound.toml does not show `{path}.{key}`");
        }
    }
}

#[test]
fn a_short_file_gets_sensible_defaults() {
    let config = parse("[server]\npublic_url = \"https://cb.example\"", false).unwrap();
    assert_eq!(config.store, "sqlite:/etc/claimbound/claimbound.db");
    assert_eq!(config.mappings, Path::new("/etc/claimbound/mappings"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.operator_listen, None);
}

#[test]
fn a_store_is_one_url_without_a_secret() {
    let store = |lines: &str| parse(&format!("[server]\npublic_url = \"https://cb.example\"\n[store]\n{lines}"), false);
    for (lines, url) in [
        ("url = \"sqlite:s.db\"", "sqlite:/etc/claimbound/s.db"),
        ("url = \"postgres://c@db/c\"", "postgres://c@db/c"),
        (
            "url = \"postgres://c@db/c\"\npassword = { file = \"db password\" }\nsslrootcert = \"ca.pem\"",
            "postgres://c@db/c?password_file=%2Fetc%2Fclaimbound%2Fdb%20password&sslrootcert=%2Fetc%2Fclaimbound%2Fca.pem",
        ),
        (
            "url = \"postgres://c@db/c?sslmode=disable\"\npassword = { env = \"PGPASSWORD\" }",
            "postgres://c@db/c?sslmode=disable&password_env=PGPASSWORD",
        ),
    ] {
        assert_eq!(store(lines).unwrap().store, url);
    }
    for (lines, told) in [
        ("url = \"mysql://db\"", "CB1004 `mysql://db` is no store that this version knows"),
        ("url = \"sqlite:\"", "CB1004 `sqlite:` is no store that this version knows"),
        ("url = \"sqlite:s.db\"\npassword = { env = \"P\" }", "CB1004 a SQLite store has no server to sign in to"),
        ("url = \"postgres://c:hunter2@db/c\"", "CB1004 `url` in `[store]` holds a password"),
        ("url = \"Postgres://c:hunter2@db/c\"", "CB1004 `url` in `[store]` holds a password"),
        ("url = \"mysql://c:hunter2@db/c\"", "CB1004 `url` in `[store]` holds a password"),
        ("url = \"postgres://c@db/c?password=hunter2\"", "CB1004 `url` in `[store]` holds a password"),
        ("url = \"postgres://c@db/c\"\npassword = {}", "CB1004 `password` names one place where it stands"),
    ] {
        let found = store(lines).unwrap_err();
        assert!(found.contains(&told.to_owned()), "{found:?}");
    }
    let found = store("url = \"postgres://c@db/c\"\npassword = { value = \"x\" }").unwrap_err();
    assert!(found[0].contains("unknown field `value`"), "{found:?}");
}

#[test]
fn every_fault_is_told_in_one_run() {
    let text = "[server]\npublic_url = \"http://cb.example/\"\nlisten_on = 1\ntrusted_proxies = [\"x\"]\n[sotre]\nurl = \"a\"\n[issuer.github]\nmax_lifetime = \"1\"\n";
    let found = parse(text, false).unwrap_err();
    assert_eq!(
        found,
        [
            "CB1004 `public_url` must begin with `https://`",
            "CB1002 unknown key `listen_on` in `[server]`",
            "CB1004 `x` is no network",
            "CB1002 unknown key `sotre` at the top",
            "CB1004 `1` is no duration",
        ]
    );
}

#[test]
fn names_that_cannot_be_an_audience_are_refused() {
    for (url, why) in [
        ("https://cb.example/", "slash"),
        ("https://cb.example?x=1", "nothing more"),
        ("https://sts.amazonaws.com", "cloud"),
        ("cb.example", "no URL"),
        ("https://:secret@cb.example", "nothing more"),
        ("https://CB.example", "compared: `https://cb.example`"),
        ("https://cb.example:443", "compared: `https://cb.example`"),
        (" https://cb.example", "compared: `https://cb.example`"),
        ("https:cb.example", "compared: `https://cb.example`"),
        ("http://127.0.0.1:8080", "https"),
    ] {
        let found = parse(&format!("[server]\npublic_url = \"{url}\""), false).unwrap_err();
        assert!(found.len() == 1 && found[0].contains(why), "{url}: {found:?}");
    }
    parse("[server]\npublic_url = \"http://127.0.0.1:8080\"", true).unwrap();
}

#[test]
fn a_policy_that_denies_is_an_account_s_own_and_one_backend_s() {
    let backends = |text: &str| parse(&format!("[server]\npublic_url = \"https://cb.example\"\n{text}"), false);
    let table = |name: &str, denial: &str| {
        format!("[backend.{name}]\nkind = \"aws\"\nregion = \"eu-west-1\"\n[backend.{name}.denial]\n{denial}\n")
    };
    let own = "policy_arn = \"arn:aws:iam::111122223333:policy/ci/claimbound-denials\"";
    let denial = backends(&table("aws", own)).unwrap().backends["aws"].denial.clone().unwrap();
    assert_eq!(denial.policy_arn, "arn:aws:iam::111122223333:policy/ci/claimbound-denials");
    for (arn, told) in [
        ("arn:aws:iam::aws:policy/AdministratorAccess", "is no managed policy of an account"),
        ("arn:aws:iam::111122223333:role/x", "is no managed policy of an account"),
        ("arn:aws:iam::111122223333:policy/", "is no managed policy of an account"),
        ("claimbound-denials", "is no managed policy of an account"),
    ] {
        let found = backends(&table("aws", &format!("policy_arn = \"{arn}\""))).unwrap_err();
        assert!(found.len() == 1 && found[0].contains(told), "{arn}: {found:?}");
    }
    let plain = backends(&table("aws", &format!("{own}\nendpoint_url = \"http://iam.example\""))).unwrap_err();
    assert!(plain[0].contains("is no endpoint of IAM"), "{plain:?}");
    let twice = backends(&(table("aws", own) + &table("aws-two", own))).unwrap_err();
    assert!(twice[0].contains("the policy of another backend"), "{twice:?}");
}

#[test]
fn limits_that_would_let_nobody_in_are_refused() {
    let server = "[server]\npublic_url = \"https://cb.example\"\n[server.limits]\n";
    for limits in ["connections = 0", "connections = 1000001", "request_seconds = 0", "request_seconds = 301"] {
        let found = parse(&format!("{server}{limits}"), false).unwrap_err();
        assert!(found.len() == 1 && found[0].contains("cannot be"), "{limits}: {found:?}");
    }
    let limits = parse(&format!("{server}requests_per_second = 0\nconnections = 1"), false).unwrap().limits;
    assert_eq!((limits.requests_per_second, limits.connections, limits.request_seconds), (0, 1, 10));
    assert_eq!(limits.repository_requests_per_second, 50);
    let limits = parse(&format!("{server}repository_requests_per_second = 0"), false).unwrap().limits;
    assert_eq!((limits.requests_per_second, limits.repository_requests_per_second), (200, 0));
    assert!(parse(&format!("{server}request_second = 1"), false).is_err());
}

#[test]
fn a_file_of_authorities_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("claimbound.toml");
    let server = "[server]\npublic_url = \"https://cb.example\"\n";
    std::fs::write(&path, format!("{server}[issuer.corp]\nca_file = \"corp.pem\"\n")).unwrap();
    let found = Config::read(&path, false).unwrap_err().diagnostics;
    assert!(found.len() == 1 && found[0].message.contains("corp.pem"), "{found:?}");
    std::fs::write(folder.path().join("corp.pem"), "").unwrap();
    Config::read(&path, false).unwrap();
}

#[test]
fn an_issuer_s_keys_are_configured_with_their_faults() {
    let base = "[server]\npublic_url = \"https://cb.example\"\n[issuer.gitlab]\n";
    let whole = "jwks = { file = \"gitlab.json\", expires = 2027-01-31 }\njwks_origin = \"https://keys.example:8443\"\nrefresh = \"1m\"\ndeny_kids = [\"a\"]\ndisabled = true\n";
    let issuer = parse(&format!("{base}{whole}"), false).unwrap().issuers["gitlab"].clone();
    let pinned = PinnedKeys {
        file: "/etc/claimbound/gitlab.json".into(),
        expires: 1_801_353_600,
        warn_before_seconds: 30 * 86_400,
    };
    assert_eq!(issuer.jwks, Some(pinned.clone()));
    assert_eq!((issuer.refresh_seconds, issuer.disabled, issuer.deny_kids), (Some(60), true, vec!["a".to_owned()]));
    assert_eq!(issuer.jwks_origin.as_deref(), Some("https://keys.example:8443"));
    let sooner = whole.replace("2027-01-31", "2027-01-31, warn_before = \"2d\"");
    let issuer = parse(&format!("{base}{sooner}"), false).unwrap().issuers["gitlab"].clone();
    assert_eq!(issuer.jwks, Some(PinnedKeys { warn_before_seconds: 2 * 86_400, ..pinned }));
    let none = parse(base, false).unwrap().issuers["gitlab"].clone();
    assert!(none.jwks.is_none() && !none.disabled && none.deny_kids.is_empty() && none.refresh_seconds.is_none());
    for (text, why) in [
        ("jwks = { file = \"a\" }", "missing field `expires`"),
        ("jwks = { expires = 2027-01-31 }", "missing field `file`"),
        ("jwks = { file = \"a\", expires = 2027-01-31T12:00:00Z }", "`expires` cannot be"),
        ("jwks = { file = \"a\", expires = 12:00:00 }", "`expires` cannot be"),
        ("jwks = { file = \"a\", expires = \"2027-01-31\" }", "CB1003"),
        ("jwks = { file = \"a\", expires = 2027-01-31, warn_before = \"soon\" }", "no duration"),
        ("jwks = { file = \"a\", expires = 2027-01-31, warn = \"1d\" }", "unknown key `warn`"),
        ("jwks_origin = \"https://keys.example/\"", "no origin"),
        ("jwks_origin = \"https://keys.example/keys\"", "no origin"),
        ("jwks_origin = \"https://u@keys.example\"", "no origin"),
        ("jwks_origin = \"http://keys.example\"", "no origin"),
        ("jwks_origin = \"http://127.0.0.1:1\"", "no origin"),
        ("jwks_origin = \"keys.example\"", "no origin"),
        ("refresh = \"29s\"", "`refresh` cannot be"),
        ("refresh = \"5m\"", "`refresh` cannot be"),
        ("deny_kids = [\"\"]", "no key can have"),
        ("deny_kids = [\"a\\u0000\"]", "no key can have"),
        ("disabled = 1", "CB1003"),
    ] {
        let found = parse(&format!("{base}{text}"), false).unwrap_err();
        assert!(found.len() == 1 && found[0].contains(why), "{text}: {found:?}");
    }
    parse(&format!("{base}refresh = \"1s\"\njwks_origin = \"http://127.0.0.1:1\""), true).unwrap();
}

#[test]
fn the_operator_listener_has_a_place_of_its_own() {
    let text = "[server]\npublic_url = \"https://cb.example\"\noperator_listen = \"127.0.0.1:8080\"\n";
    assert!(parse(text, false).unwrap_err()[0].contains("is the address of `listen`"));
}

#[test]
fn backends_are_read_with_their_faults() {
    let base = "[server]\npublic_url = \"https://cb.example\"\n";
    let config = parse(&format!("{base}[backend.aws]\n[backend.aws-china]\nkind = \"aws\"\nmode = \"assume-role\"\nexternal_id = \"x\"\ntimeout = \"5s\"\n"), false).unwrap();
    assert_eq!(config.backends["aws"].mode, AwsMode::WebIdentity);
    assert_eq!((config.backends["aws"].timeout_seconds, config.backends["aws-china"].timeout_seconds), (10, 5));
    for (text, why) in [
        ("[backend.gcp]\n", "does not say its `kind`"),
        ("[backend.gcp]\nkind = \"gcp\"\n", "no kind of backend"),
        ("[backend.jwt]\nkind = \"aws\"\n", "is taken"),
        ("[backend.AWS]\nkind = \"aws\"\n", "no backend's name"),
        ("[backend.aws]\nmode = \"keys\"\n", "unknown variant"),
        ("[backend.aws]\nsecret_access_key = \"x\"\n", "unknown key"),
        ("[backend.aws]\nendpoint_url = \"http://sts.example\"\n", "no endpoint"),
        ("[backend.aws]\nendpoint_url = \"http://127.0.0.1:1\"\n", "no endpoint"),
        ("[backend.aws]\nexternal_id = \"x\"\n", "no external id"),
        ("[backend.aws]\ntimeout = \"2m\"\n", "too long"),
        ("[backend.aws]\ntimeout = \"2\"\n", "no duration"),
    ] {
        let found = parse(&format!("{base}{text}"), false).unwrap_err();
        assert!(found.len() == 1 && found[0].contains(why), "{text}: {found:?}");
    }
    parse(&format!("{base}[backend.aws]\nendpoint_url = \"http://127.0.0.1:1\"\n"), true).unwrap();
}

#[test]
fn a_broker_that_aws_cannot_reach_is_noticed() {
    for (url, told) in [
        ("https://cb.example", None),
        ("https://203.0.113.7", None),
        ("https://10.0.0.1", Some("private")),
        ("https://cb.internal", Some("private")),
        ("https://broker", Some("private")),
        ("https://[fd00::1]", Some("private")),
        ("https://127.0.0.1:8443", Some("loopback")),
        ("http://127.0.0.1:8080", Some("loopback")),
    ] {
        let text = format!("[server]\npublic_url = \"{url}\"\n[backend.aws]\n");
        let warning = parse(&text, true).unwrap().hidden_from_aws();
        assert_eq!(warning.is_some(), told.is_some(), "{url}");
        assert!(warning.unwrap_or_default().contains(told.unwrap_or_default()), "{url}");
        let text = text.replace("[backend.aws]\n", "[backend.aws]\nmode = \"assume-role\"\n");
        assert_eq!(parse(&text, true).unwrap().hidden_from_aws(), None);
    }
}

#[test]
fn an_operator_listener_on_a_network_needs_tls() {
    let text = "[server]\npublic_url = \"https://cb.example\"\noperator_listen = \"0.0.0.0:8081\"\n";
    assert!(parse(text, false).unwrap_err()[0].contains("needs TLS"));
    parse(&format!("{text}[server.tls]\ncertificate = \"c\"\nkey = \"k\"\n"), false).unwrap();
}

#[test]
fn people_and_jobs_become_operators() {
    let base = "[server]\npublic_url = \"https://cb.example\"\noperator_listen = \"127.0.0.1:8081\"\n[[sign_in]]\nname = \"okta\"\nissuer = \"https://acme.okta.example\"\nclient_id = \"cb\"\n";
    let operator =
        "[[operator]]\nsign_in = \"okta\"\nmatch = { groups = \"oncall\" }\nmay = [\"suspend\", \"claim-reset\"]\n";
    let config = parse(&format!("{base}{operator}"), false).unwrap();
    let okta = &config.sign_ins[0];
    assert_eq!((okta.groups_claim.as_str(), okta.scopes.len(), &okta.client_secret), ("groups", 2, &None));
    let [rule] = &config.operators[..] else { panic!("{config:?}") };
    assert_eq!((rule.line, rule.may.len()), (8, 2));
    let who = Who::Person { sign_in: "okta".into(), groups: vec!["oncall".into()], sub: vec![], email: vec![] };
    assert_eq!(rule.who, who);
    let job = "[[operator]]\nissuer = \"github\"\nmay = [\"suspend\"]\nmatch.repository = \"acme/ops\"\nmatch.branch = \"main\"\n";
    let Who::Job { issuer, matches } = &parse(&format!("{base}{job}"), false).unwrap().operators[0].who else {
        panic!("a job")
    };
    assert_eq!((issuer.as_str(), matches.as_str()), ("github", "branch = \"main\"\nrepository = \"acme/ops\"\n"));
    let strong = "sensitivity.production = { max_age = \"15m\", acr_values = [\"phr\"] }\nforge_id_claim.github = \"github_id\"\n";
    let okta = parse(&format!("{base}{strong}"), false).unwrap().sign_ins[0].clone();
    let expected = Strength { max_age_seconds: Some(900), acr_values: vec!["phr".into()] };
    assert_eq!((&okta.sensitivity["production"], okta.forge_id_claim["github"].as_str()), (&expected, "github_id"));
    let secret = |line: &str| parse(&format!("{base}client_secret = {line}\n"), false).unwrap().sign_ins[0].clone();
    assert_eq!(secret("{ env = \"S\" }").client_secret, Some(Place::Variable("S".into())));
    assert_eq!(secret("{ file = \"s\" }").client_secret, Some(Place::File("/etc/claimbound/s".into())));
    for (text, why) in [
        (format!("{base}client_secret = {{}}\n"), "`client_secret` names one place"),
        (format!("{base}client_sercet = {{}}\n"), "unknown key `client_sercet` in `[[sign_in]]`"),
        (format!("{base}scopes = [\"a b\"]\n"), "`a b` is no scope"),
        (format!("{base}max_age = \"1\"\n"), "`1` is no duration"),
        (format!("{base}sensitivity.production.max_age = \"1\"\n"), "`1` is no duration"),
        (format!("{base}sensitivity.production.maxage = \"1\"\n"), "unknown key `maxage`"),
        (format!("{base}sensitivity.production.acr_values = [\"a b\"]\n"), "`a b` is no `acr` value"),
        (format!("{base}sensitivity.Production = {{}}\n"), "can be called `Production`"),
        (format!("{base}forge_id_claim.github = \"\"\n"), "`forge_id_claim` cannot be ``"),
        (base.replace("https://acme", "http://acme"), "is no provider's issuer"),
        (base.replace("\"okta\"", "\"Okta\""), "can be no sign-in's name"),
        (format!("{base}{}", &base[base.find("[[").unwrap()..]), "there are two sign-ins `okta`"),
        (format!("{base}{}", operator.replace("\"okta\"", "\"otka\"")), "there is no sign-in `otka`"),
        (format!("{base}{}", operator.replace("\"suspend\"", "\"supsend\"")), "nobody can be let `supsend`"),
        (format!("{base}{}", operator.replace("groups", "group")), "a person has no `group`"),
        (format!("{base}{}", operator.replace("\"oncall\"", "[]")), "`groups` is a text or a list"),
        (format!("{base}{}", operator.replace("\"oncall\"", "[1]")), "`groups` is a text or a list"),
        (format!("{base}{}", operator.replace("groups = \"oncall\"", "")), "matches nobody"),
        (format!("{base}{}issuer = \"x\"\n", operator), "names one of `sign_in` and `issuer`"),
        (format!("{base}[[operator]]\nsign_in = \"okta\"\nmatch = {{ sub = \"x\" }}\nmay = []\n"), "may do nothing"),
        (format!("{base}{operator}").replace("operator_listen", "# "), "no listener for them"),
    ] {
        let found = parse(&text, false).unwrap_err();
        assert!(found.len() == 1 && found[0].contains(why), "{text}: {found:?}");
    }
}

#[test]
fn collectors_sinks_and_seals_are_read_with_their_faults() {
    let server = "[server]\npublic_url = \"https://cb.example\"\n";
    let config = parse(
        &format!(
            "{server}[signing]\nseal = {{ env = \"SEAL\" }}\nrotate_every = \"30d\"\n[telemetry.otlp]\nendpoint = \
             \"http://127.0.0.1:4318\"\nheaders = {{ authorization = {{ file = \"token\" }} }}\n[[evidence.sink]]\nkind = \
             \"stdout\"\n[[evidence.sink]]\nkind = \"file\"\npath = \"e.jsonl\"\nname = \"siem\"\n"
        ),
        false,
    )
    .unwrap();
    assert_eq!(config.signing.rotate_every_seconds, Some(30 * 86_400));
    let traces = config.traces.unwrap();
    let token = Place::File("/etc/claimbound/token".into());
    assert_eq!((traces.sample_percent, &*traces.otlp.headers), (100, &[("authorization".to_owned(), token)][..]));
    let names: Vec<_> = config.evidence.sinks.iter().map(|sink| (sink.name.as_str(), sink.kind.name())).collect();
    assert_eq!(names, [("stdout", "stdout"), ("siem", "file")]);
    assert_eq!(config.evidence.positions, Path::new("/etc/claimbound/evidence-positions"));
    for (lines, told) in [
        ("[signing]\nseal = { file = \"a\", env = \"B\" }", "CB1004 `seal` names one place where it stands"),
        ("[signing]\nrotate_every = \"1d\"", "CB1004 `rotate_every` is too short"),
        ("[telemetry.otlp]\nendpoint = \"http://otel:4318\"", "CB1004 `http://otel:4318` is no OTLP endpoint"),
        ("[telemetry.otlp]\nendpoint = \"https://o.example/\"", "CB1004 `https://o.example/` is no OTLP endpoint"),
        (
            "[telemetry.otlp]\nendpoint = \"https://o.example\"\nsample_percent = 0",
            "CB1004 `sample_percent` cannot be 0",
        ),
        (
            "[telemetry.otlp]\nendpoint = \"https://o.example\"\nheaders = { \"a b\" = { env = \"X\" } }",
            "CB1004 `a b` is no header",
        ),
        ("[[evidence.sink]]\nkind = \"kafka\"", "CB1004 `kafka` is no kind of sink"),
        ("[evidence]\nretain = \"6d\"", "CB1004 evidence of open leases would be forgotten"),
        ("[evidence]\nretain_details = \"90\"", "CB1004 `90` is no duration"),
        ("[evidence]\nretain = \"30d\"\nretain_details = \"90d\"", "CB1004 records would go before their details"),
        ("[[evidence.sink]]\nkind = \"file\"", "CB1004 a sink of kind `file` names no file"),
        ("[[evidence.sink]]\nkind = \"otlp\"", "CB1004 a sink of kind `otlp` names no collector"),
        ("[[evidence.sink]]\nkind = \"stdout\"\npath = \"x\"", "CB1004 a sink of kind `stdout` has no `path`"),
        ("[[evidence.sink]]\nkind = \"stdout\"\nendpoint = \"x\"", "CB1004 a sink of kind `stdout` has no collector"),
        ("[[evidence.sink]]\nkind = \"stdout\"\nname = \"a/b\"", "CB1004 `a/b` can be no sink's name"),
        (
            "[[evidence.sink]]\nkind = \"stdout\"\n[[evidence.sink]]\nkind = \"stdout\"",
            "CB1004 two sinks have the name `stdout`",
        ),
        ("[[evidence.sink]]\nkind = \"stdout\"\nrequired = true", "CB1002 unknown key `required` in `[evidence.sink]`"),
    ] {
        let found = parse(&format!("{server}{lines}\n"), false).unwrap_err();
        assert!(found.iter().any(|fault| fault == told), "{lines}: {found:?}");
    }
}

#[test]
fn resource_servers_are_read_with_their_faults() {
    let base = "[server]\npublic_url = \"https://cb.example\"\n";
    let one = "[[resource_server]]\naudience = \"https://openbao.example\"\nclient_id = \"openbao\"\nclient_secret = { file = \"s\" }\n";
    let two =
        "[[resource_server]]\naudience = \"https://x.example\"\nclient_id = \"x\"\nclient_secret = { env = \"S\" }\n";
    let servers = parse(&format!("{base}{one}{two}"), false).unwrap().resource_servers;
    assert_eq!(servers[0].client_secret, Place::File("/etc/claimbound/s".into()));
    assert_eq!(servers[1].client_secret, Place::Variable("S".into()));
    for (text, why) in [
        (format!("{one}{one}"), "two resource servers `openbao`"),
        (one.replace("\"openbao\"", "\"open bao\""), "can be no `client_id`"),
        (one.replace("\"openbao\"", "\"\""), "can be no `client_id`"),
        (one.replace("\"https://openbao.example\"", "\"\""), "`audience` is empty"),
        (one.replace("file = \"s\"", "file = \"s\", env = \"S\""), "names one place"),
        (one.replace("file = \"s\"", ""), "names one place"),
        (one.replace("file = \"s\"", "fiel = \"s\""), "unknown field `fiel`"),
        (one.replace("{ file = \"s\" }", "\"hunter2\""), "CB1003"),
        (one.replace("audience", "audiense"), "unknown key `audiense`"),
    ] {
        let found = parse(&format!("{base}{text}"), false).unwrap_err();
        assert!(found.iter().any(|found| found.contains(why)), "{text}: {found:?}");
    }
}
