//! A job's surroundings: proxies, private authorities, CI systems that give one token only, what `doctor job` says of all that, and that
//! no secret gets where others could read it.

use crate::{
    BINARY, agents, aws,
    clients::{COMES, DEPLOY, Machine, RELEASE, answering, deploying, ended, releasing},
    cloud_quickstart::{HOST, proxy_to},
    records,
};
use claimbound_test_support::{
    broker::Broker, command::finish, config::BrokerConfig, issuer::Issuer, sts::Sts, time::eventually, trap::Trap,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// A directory with a broker's certificate, and the file of the authority that made it.
fn certified() -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut wanted = CertificateParams::new(Vec::new()).unwrap();
    wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_file = home.path().join("ca.pem");
    fs::write(&ca_file, wanted.self_signed(&key).unwrap().pem()).unwrap();
    let authority = rcgen::Issuer::new(wanted, key);
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new(vec![HOST.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    fs::write(home.path().join("certificate.pem"), made.pem()).unwrap();
    fs::write(home.path().join("key.pem"), key.serialize_pem()).unwrap();
    fs::set_permissions(home.path().join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    (home, ca_file)
}

#[tokio::test]
async fn a_closed_network_is_left_by_its_proxy_with_an_authority_of_its_own() {
    let (issuer, trap) = (Issuer::github(), Trap::new());
    let (home, ca_file) = certified();
    let url = format!("https://{HOST}");
    let config = BrokerConfig::new(&issuer)
        .server(&format!("public_url = \"{url}\""))
        .toml("[server.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n");
    let broker = Broker::start_in(home, BINARY, config).await;
    // The broker's name has no address: whoever reaches it went through the proxy.
    let proxy = proxy_to(broker.url().strip_prefix("https://").unwrap().to_owned()).await;
    let machine = Machine::new(&url, releasing(&issuer));
    let run = async |words: &[&str], more: &[(&str, &str)]| {
        finish(machine.prepared(Path::new(BINARY), words).envs(more.iter().copied())).await
    };
    let ca = ca_file.to_str().unwrap();
    let words = ["login", "--role", RELEASE, "--timeout", "1s"];
    ended(&run(&words, &[("HTTPS_PROXY", &proxy)]).await, 4, &["cannot be reached"]);
    assert!(issuer.given().is_empty(), "an authority that nobody named is not believed");
    let known = [("HTTPS_PROXY", proxy.as_str()), ("CLAIMBOUND_CA_FILE", ca)];
    ended(&run(&["login", "--role", RELEASE], &known).await, 0, &["This job has payments-release"]);
    let exit = run(&["doctor", "job", "--ca-file", ca], &[("https_proxy", &proxy)]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.stdout);
    assert!(exit.stdout.contains("`https_proxy`: requests go through 127.0.0.1:"), "{}", exit.stdout);
    ended(&run(&["logout"], &known).await, 0, &["is ended"]);
    // Where no proxy is to be taken, none is; loopback, where the CI system is here, never goes through one.
    let around = [("HTTPS_PROXY", trap.url()), ("HTTP_PROXY", trap.url()), ("NO_PROXY", HOST.to_owned())];
    let around: Vec<(&str, &str)> = around.iter().map(|(name, value)| (*name, value.as_str())).collect();
    ended(&run(&words, &[&around[..], &[("CLAIMBOUND_CA_FILE", ca)]].concat()).await, 4, &["cannot be reached"]);
    ended(&run(&["login", "--ca-file", "/nowhere"], &[]).await, 2, &["cannot read `/nowhere`"]);
}

/// Jobs of GitLab, which have one token, and may have AWS keys.
pub fn gitlab(gitlab: &Issuer, sts: &Sts) -> BrokerConfig {
    let policy = "format = 1\n[issuer.gitlab]\nprofile = \"gitlab\"\nurl = \"{issuer.gitlab}\"\nowners = { acme = 65 }\n\
        [team.payments]\npath = \"teams/payments\"\nissuers = [\"gitlab\"]\n";
    let role = "[role.payments-deploy]\ndescription = \"Deploy\"\nbackend = \"aws\"\nteams = [\"payments\"]\nissuers = [\"gitlab\"]\n\
        sensitivity = \"internal\"\nmax_duration = \"1h\"\n[role.payments-deploy.aws]\n\
        role_arn = \"arn:aws:iam::111122223333:role/payments-deploy\"\nregion = \"eu-west-1\"\nsession_policy = \"policies/p.json\"\n";
    let mapping = "[file]\nissuer = \"gitlab\"\n[[mapping]]\nname = \"deploys\"\ndescription = \"Main deploys\"\n\
        roles = [\"payments-deploy\"]\nduration = \"30m\"\n[mapping.match]\n\
        repository = { name = \"acme/payments-api\", id = 740000001 }\nbranch = \"main\"\n";
    let files = [
        ("policy.toml", policy),
        ("roles/p.toml", role),
        ("policies/p.json", aws::POLICY),
        ("teams/payments/p.toml", mapping),
    ];
    let backend = format!("[backend.aws]\nendpoint_url = \"{}\"", sts.url());
    BrokerConfig::with_folder(&files).issuer("gitlab", gitlab).toml(&backend)
}

/// Makes what is kept look old enough to be renewed.
fn age(machine: &Machine) {
    for path in machine.files().iter().filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("cache-"))
    {
        let mut kept: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        kept["at"] = 0.into();
        fs::write(path, kept.to_string()).unwrap();
    }
}

#[tokio::test]
async fn a_job_of_one_token_renews_its_keys_by_refresh_tokens() {
    let (issuer, sts) = (Issuer::gitlab(), Sts::new());
    let broker = aws::broker_of(gitlab(&issuer, &sts), &sts).await;
    let mut machine = Machine::new(broker.audience(), releasing(&issuer));
    machine.request = None;
    let token = issuer.job().branch("main").token(broker.audience());
    let words = ["credential-process", "--role", DEPLOY];
    let mut keys = Vec::new();
    for _ in 0..3 {
        let exit = finish(machine.prepared(Path::new(BINARY), &words).env("CLAIMBOUND_TOKEN", &token)).await;
        ended(&exit, 0, &[]);
        keys.push(exit.stdout);
        age(&machine);
    }
    let renewable = |path: &PathBuf| {
        let kept: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap_or_default();
        kept["handles"].as_array().is_some_and(|handles| handles.len() == 2)
    };
    assert_eq!(
        machine.files().iter().filter(|path| renewable(path)).count(),
        1,
        "the last refresh token ends them all"
    );
    keys.dedup();
    assert_eq!((keys.len(), sts.calls(), records::of_kind(&broker, "granted").len()), (3, 3, 3));
    // The next in line is not what another token of the job brings: that is another job's.
    fs::write(machine.path("other"), issuer.job().branch("main").token(broker.audience())).unwrap();
    let other = machine.run(&[&words[..], &["--token-file", "other"]].concat()).await;
    ended(&other, 0, &[]);
    assert_ne!(Some(&other.stdout), keys.last());
    fs::write(machine.path("actor"), "a.b.c").unwrap();
    let actor = machine.run(&[&words[..], &["--token-file", "other", "--actor-token-file", "actor"]].concat()).await;
    assert_eq!(
        (actor.code, actor.stdout.as_str()),
        (Some(3), ""),
        "what is kept for one actor is not given to another"
    );
    ended(&machine.run(&["logout"]).await, 0, &["is ended"]);
    assert!(machine.files().is_empty());
}

#[tokio::test]
async fn doctor_says_what_is_missing_in_a_job_and_exchanges_nothing() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let mut machine = Machine::new(broker.audience(), releasing(&issuer));
    let doctor = ["doctor", "job", "--role", RELEASE];
    let examined = async |machine: &Machine, words: &[&str], more: &[(&str, &str)]| {
        let exit = finish(machine.prepared(Path::new(BINARY), words).envs(more.iter().copied())).await;
        for secret in issuer.given().iter().map(String::as_str).chain(["hunter22", "AKIAOFSOMEBODY"]) {
            assert!(!exit.stdout.contains(secret) && !exit.stderr.contains(secret), "{}", exit.stdout);
        }
        exit
    };
    let told = |exit: &claimbound_test_support::command::Exit, code: i32, parts: &[&str]| {
        assert_eq!(exit.code, Some(code), "{}{}", exit.stdout, exit.stderr);
        for part in parts {
            assert!(exit.stdout.contains(part), "no `{part}` in {}", exit.stdout);
        }
    };
    let before = records::all(&broker).len();
    let well = examined(&machine, &doctor, &[("BUILDKITE", "true")]).await;
    let parts = [
        "ok       this is Buildkite",
        "the runner mints tokens",
        "is the one that is meant",
        "clock and the broker's agree",
        "is for `http",
        "all is well",
    ];
    told(&well, 0, &parts);
    let after = records::all(&broker).len();
    assert_eq!((issuer.given().len(), after), (1, before), "a token was looked at and sent nowhere");
    assert!(!machine.path("state").exists());
    let dry = [&doctor[..], &["--dry-run"]].concat();
    told(
        &examined(&machine, &dry, &[]).await,
        0,
        &["the broker would give `payments-release` by `payments-production` for "],
    );
    let rivals =
        [("AWS_ACCESS_KEY_ID", "AKIAOFSOMEBODY"), ("AWS_PROFILE", "own"), ("AWS_SHARED_CREDENTIALS_FILE", "shared")];
    fs::write(machine.path("shared"), "[default]\naws_access_key_id = AKIAOFSOMEBODY\n").unwrap();
    let parts = [
        "missing  `AWS_ACCESS_KEY_ID` is set",
        "note     `AWS_PROFILE` is set",
        "`shared` has a profile `default`",
        "something is missing",
    ];
    told(&examined(&machine, &doctor, &rivals).await, 1, &parts);
    let away = [&doctor[..], &["--url", "https://127.0.0.1:1"]].concat();
    let proxy = [("HTTPS_PROXY", "http://me:hunter22@127.0.0.1:1"), ("NO_PROXY", "localhost")];
    told(
        &examined(&machine, &away, &proxy).await,
        1,
        &[
            "`HTTPS_PROXY`: requests go through 127.0.0.1:1, but for what `NO_PROXY` names: localhost",
            "cannot be reached",
        ],
    );
    let given = issuer.given().len();
    let other = broker.audience().replace("127.0.0.1", "localhost");
    let mistyped = [&doctor[..], &["--url", &other]].concat();
    told(
        &examined(&machine, &mistyped, &[]).await,
        1,
        &["missing  The broker at http://localhost:", "says that it is another one"],
    );
    assert_eq!(issuer.given().len(), given, "no token for a broker that is another one");

    machine.request = None;
    told(
        &examined(&machine, &doctor, &[("GITHUB_ACTIONS", "true")]).await,
        1,
        &["this is GitHub Actions", "has no permission"],
    );
    let token = issuer.job().branch("feature").environment("production").token("https://other.example");
    fs::write(machine.path("token"), token).unwrap();
    fs::set_permissions(machine.path("token"), fs::Permissions::from_mode(0o644)).unwrap();
    let parts = [
        "`token` holds a token and other users may read it: `chmod 600 token`",
        "is for `https://other.example`, and this broker is `http",
    ];
    told(&examined(&machine, &[&doctor[..], &["--token-file", "token"]].concat(), &[]).await, 1, &parts);
    let late = issuer.job().branch("main").environment("production").issued_at(1_000_000_000).token(broker.audience());
    told(
        &examined(&machine, &doctor, &[("CLAIMBOUND_TOKEN", &late)]).await,
        1,
        &["the job's token ended at 2001-", "there is no second one"],
    );
    let refused = issuer.job().branch("feature").environment("production").token(broker.audience());
    told(
        &examined(&machine, &dry, &[("CLAIMBOUND_TOKEN", &refused)]).await,
        1,
        &["Nearest mapping: `payments-production`"],
    );
}

#[tokio::test]
async fn a_broker_that_names_another_audience_gets_no_token() {
    let issuer = Issuer::github();
    let named = "https://claimbound.example.com";
    let body = json!({ "audience": named, "issuer": named, "token_endpoint": format!("{named}/token") }).to_string();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    let machine = Machine::new(&answering(answer).await, releasing(&issuer));
    let get = ["docker-credential", "--registry", "r.example.com", "list"];
    let commands: [&[&str]; 6] = [
        &["login"],
        &["exec", "--", "true"],
        &["credential-process"],
        &["kube"],
        &["agent", "--", "true"],
        &["agent", "--background"],
    ];
    for words in commands {
        ended(&machine.run(words).await, 2, &["says that it is another one, so no token was requested", named]);
    }
    ended(&machine.run(&get).await, 0, &[]);
    assert!(issuer.given().is_empty());
}

/// Panics where a secret stands in a file that others may read or that is no file of ours, or in the arguments of a process.
fn scan(machine: &Machine, secrets: &[String]) {
    assert!(!secrets.is_empty() && secrets.iter().all(|secret| secret.len() >= 8));
    let holds = |bytes: &[u8]| {
        secrets.iter().any(|secret| bytes.windows(secret.len()).any(|window| window == secret.as_bytes()))
    };
    let mut open = vec![machine.path("")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if holds(&fs::read(&path).unwrap_or_default()) {
                let closed = fs::metadata(&path).unwrap().permissions().mode() & 0o077 == 0;
                assert!(closed && path.starts_with(machine.path("state")), "{}", path.display());
            }
        }
    }
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        assert!(!holds(&arguments), "{}", String::from_utf8_lossy(&arguments));
    }
}

#[tokio::test]
async fn no_secret_is_where_others_could_read_it() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = aws::broker(&issuer, &sts, "").await;
    let machine = Machine::new(broker.audience(), deploying(&issuer));
    let request = machine.request.as_ref().unwrap().bearer.clone();
    let secrets = || {
        let sessions = sts.sessions().into_iter().flat_map(|one| [one.secret_access_key, one.session_token]);
        let kept =
            machine.files().into_iter().filter_map(|path| serde_json::from_slice::<Value>(&fs::read(path).ok()?).ok());
        let handles = kept.flat_map(|kept| kept["handles"].as_array().cloned().unwrap_or_default());
        let handles = handles.filter_map(|handle| handle.as_str().map(str::to_owned));
        sessions.chain(issuer.given()).chain(handles).chain([request.clone()]).collect::<Vec<_>>()
    };
    let login = machine.run(&["login", "--role", DEPLOY]).await;
    ended(&login, 0, &[]);
    scan(&machine, &secrets());
    let waiting = "touch up; while [ ! -e stop ]; do sleep 0.05; done";
    let mut said = vec![login];
    for command in ["exec", "agent"] {
        let mut running = machine.prepared(Path::new(BINARY), &[command, "--role", DEPLOY, "--", "sh", "-c", waiting]);
        let seen = async {
            eventually(COMES, async || machine.path("up").exists().then_some(())).await;
            scan(&machine, &secrets());
            fs::write(machine.path("stop"), "").unwrap();
        };
        let (exit, ()) = tokio::join!(finish(&mut running), seen);
        ended(&exit, 0, &[]);
        said.push(exit);
        for file in ["up", "stop"] {
            fs::remove_file(machine.path(file)).unwrap();
        }
    }
    let (uri, bearer) = agents::left_behind(&machine, "--lifetime 10m").await;
    scan(&machine, &[secrets(), vec![bearer.clone()]].concat());
    let process = machine.run(&["credential-process", "--role", DEPLOY]).await;
    ended(&process, 0, &[]);
    scan(&machine, &secrets());
    let all = secrets();
    said.push(machine.run(&["logout"]).await);
    for exit in &said {
        for secret in all.iter().chain([&bearer]) {
            assert!(
                !exit.stdout.contains(secret.as_str()) && !exit.stderr.contains(secret.as_str()),
                "{}{}",
                exit.stdout,
                exit.stderr
            );
        }
    }
    assert!(process.stderr.is_empty() && !uri.is_empty() && all.len() >= 10, "{}", all.len());
}
