//! The JWT of a role as a password: for Git, whose own client asks a server that demands one, and for Kubernetes and Docker by
//! their protocols. What is kept is shared, and no host gets it that was not named.

use crate::{
    BINARY, aws,
    clients::{DEPLOY, Machine, RELEASE, deploying, ended, releasing},
    records,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use claimbound_test_support::{
    broker::Broker, command::finish, config::BrokerConfig, issuer::Issuer, jwt, sts::Sts, time::now,
};
use futures_util::future::join_all;
use serde_json::Value;
use std::{
    path::Path,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// A Git server of one branch, in the protocol that needs no program: port, passwords that it saw, passwords that it takes no more.
#[derive(Clone, Default)]
struct GitServer {
    seen: Arc<Mutex<Vec<String>>>,
    refused: Arc<Mutex<Vec<String>>>,
}

impl GitServer {
    async fn start(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, server) = (listener.local_addr().unwrap().port(), self.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut request, mut buffer) = (String::new(), [0; 8192]);
                while !request.contains("\r\n\r\n") {
                    match stream.read(&mut buffer).await {
                        Ok(read) if read > 0 => request.push_str(&String::from_utf8_lossy(&buffer[..read])),
                        _ => break,
                    }
                }
                let (status, body) = server.answer(&request);
                let head = "www-authenticate: Basic realm=\"git\"\r\ncontent-type: text/plain\r\nconnection: close";
                let answer = format!("HTTP/1.1 {status} -\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    fn answer(&self, request: &str) -> (u16, String) {
        let basic = request.lines().find_map(|line| line.strip_prefix("Authorization: Basic "));
        let Some(basic) = basic else { return (401, String::new()) };
        let basic = String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap();
        let (name, password) = basic.split_once(':').unwrap();
        assert_eq!(name, "ci");
        self.seen.lock().unwrap().push(password.to_owned());
        if self.refused.lock().unwrap().contains(&password.to_owned()) {
            return (401, String::new());
        }
        let id = "1".repeat(40);
        match request.split(' ').nth(1) {
            Some(path) if path.starts_with("/r.git/info/refs") => (200, format!("{id}\trefs/heads/main\n")),
            Some("/r.git/HEAD") => (200, "ref: refs/heads/main\n".to_owned()),
            _ => (404, String::new()),
        }
    }

    fn passwords(&self) -> Vec<String> {
        let mut seen = self.seen.lock().unwrap().clone();
        seen.dedup();
        seen
    }
}

#[tokio::test]
async fn git_gets_a_token_until_a_server_refuses_it() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let machine = Machine::new(broker.audience(), releasing(&issuer));
    let server = GitServer::default();
    let port = server.start().await;
    let ls = async |host: &str| {
        let helper = format!(
            "credential.helper=!{BINARY} git-credential --role {RELEASE} --host 127.0.0.1:{port} --username ci"
        );
        let url = format!("http://{host}:{port}/r.git");
        let mut git =
            machine.prepared(Path::new("git"), &["-c", "credential.helper=", "-c", &helper, "ls-remote", &url]);
        finish(git.env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_NOSYSTEM", "1")).await
    };
    for _ in 0..2 {
        let listed = ls("127.0.0.1").await;
        ended(&listed, 0, &[]);
        assert!(listed.stdout.contains("refs/heads/main"), "{}", listed.stdout);
    }
    let [first] = server.passwords().try_into().unwrap();
    assert_eq!((jwt::claims_of(&first)["role"].as_str(), issuer.given().len()), (Some(RELEASE), 1), "asked for once");
    // A server that takes it no more: Git says so, and the next one is another.
    server.refused.lock().unwrap().push(first.clone());
    assert_eq!(ls("127.0.0.1").await.code, Some(128));
    ended(&ls("127.0.0.1").await, 0, &[]);
    assert_eq!((server.passwords().len(), issuer.given().len()), (2, 2));
    // A host that was not named, as a submodule might.
    let other = ls("localhost").await;
    assert_eq!((other.code, server.passwords().len()), (Some(128), 2), "{}", other.stderr);

    // What Git 2.46 and later say and are told; and nothing without TLS.
    let asked = async |said: &str| {
        machine
            .shell(&format!("printf '{said}\\n' | \"$CLI\" git-credential --role {RELEASE} --host Git.example.com get"))
            .await
    };
    let said = asked("capability[]=authtype\\nprotocol=https\\nhost=git.example.com\\n").await;
    ended(&said, 0, &[]);
    assert!(
        said.stdout.starts_with("capability[]=authtype\nephemeral=1\nusername=claimbound\npassword=ey"),
        "{}",
        said.stdout
    );
    let until: i64 = said.stdout.rsplit_once("password_expiry_utc=").unwrap().1.trim().parse().unwrap();
    assert!(until > now(), "{until}");
    assert!(!asked("protocol=https\\nhost=git.example.com\\n").await.stdout.contains("ephemeral"));
    let plain = asked("protocol=http\\nhost=git.example.com\\n").await;
    ended(&plain, 2, &["`git.example.com` is asked over `http`"]);
    assert_eq!((plain.stdout.as_str(), issuer.given().len()), ("", 2));
    ended(&machine.run(&["logout"]).await, 0, &["is ended"]);
    assert!(machine.files().is_empty() && records::of_kind(&broker, "ended").len() == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_clients_get_a_token_and_a_time_to_ask_again() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = aws::broker(&issuer, &sts, "").await;
    let machine = Machine::new(broker.audience(), releasing(&issuer));
    let words = ["kube", "--role", RELEASE];
    let said = join_all((0..10).map(|_| machine.run(&words))).await;
    for exit in &said {
        ended(exit, 0, &[]);
        assert_eq!((&exit.stdout, exit.stderr.as_str()), (&said[0].stdout, ""));
    }
    assert_eq!(issuer.given().len(), 1, "one exchange for all of them");
    let said: Value = serde_json::from_str(&said[0].stdout).unwrap();
    assert_eq!(
        (&said["apiVersion"], &said["kind"]),
        (&"client.authentication.k8s.io/v1".into(), &"ExecCredential".into())
    );
    let claims = jwt::claims_of(said["status"]["token"].as_str().unwrap());
    let again: jiff::Timestamp = said["status"]["expirationTimestamp"].as_str().unwrap().parse().unwrap();
    assert!(
        claims["role"] == RELEASE && again.as_second() < claims["exp"].as_i64().unwrap() && again.as_second() > now()
    );
    let asks =
        async |info: &str| finish(machine.prepared(Path::new(BINARY), &words).env("KUBERNETES_EXEC_INFO", info)).await;
    let beta = asks(r#"{"apiVersion":"client.authentication.k8s.io/v1beta1","kind":"ExecCredential","spec":{}}"#).await;
    assert!(beta.stdout.contains(r#""client.authentication.k8s.io/v1beta1""#), "{}", beta.stdout);
    ended(
        &asks(r#"{"apiVersion":"client.authentication.k8s.io/v1alpha1"}"#).await,
        2,
        &["apiVersion: client.authentication.k8s.io/v1"],
    );

    // A role of the wrong kind is ended at once.
    let machine = Machine::new(broker.audience(), deploying(&issuer));
    ended(
        &machine.run(&["kube", "--role", DEPLOY]).await,
        2,
        &["The role `payments-deploy` gives AWS keys, and `kube` is for JWTs. Use `claimbound credential-process`"],
    );
    assert_eq!(
        (
            records::of_kind(&broker, "ended").len(),
            machine.files().iter().filter(|path| path.extension().is_some()).count()
        ),
        (1, 0)
    );
}

#[tokio::test]
async fn docker_gets_a_token_for_the_registries_that_are_named() {
    let issuer = Issuer::github();
    let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let machine = Machine::new(broker.audience(), releasing(&issuer));
    std::os::unix::fs::symlink(BINARY, machine.path("docker-credential-claimbound")).unwrap();
    let call = async |word: &str, said: &str, role: &str| {
        let script = format!("printf '{said}' | ./docker-credential-claimbound {word}");
        let mut docker = machine.prepared(Path::new("sh"), &["-ec", &script]);
        docker.env("CLAIMBOUND_ROLE", role).env("CLAIMBOUND_REGISTRY", "registry.example.com,127.0.0.1:5000");
        finish(docker.env("CLAIMBOUND_USERNAME", "ci")).await
    };
    let get = async |server: &str| {
        let exit = call("get", server, RELEASE).await;
        ended(&exit, 0, &[]);
        serde_json::from_str::<Value>(&exit.stdout).unwrap()
    };
    let first = get("registry.example.com").await;
    assert_eq!((&first["ServerURL"], &first["Username"]), (&"registry.example.com".into(), &"ci".into()));
    assert_eq!(jwt::claims_of(first["Secret"].as_str().unwrap())["role"], RELEASE);
    assert_eq!(get("https://Registry.example.com/v2/").await["Secret"], first["Secret"], "kept");
    assert_eq!(get("http://127.0.0.1:5000").await["Secret"], first["Secret"], "within this machine");
    for server in ["other.example.com", "https://registry.example.com@other.example.com/"] {
        let exit = call("get", server, RELEASE).await;
        assert_eq!((exit.code, exit.stdout.as_str()), (Some(1), "credentials not found in native keychain\n"));
    }
    let plain = call("get", "http://registry.example.com", RELEASE).await;
    assert!(plain.code == Some(2) && plain.stdout.contains("asked without TLS"), "{}", plain.stdout);
    assert_eq!(issuer.given().len(), 1);
    ended(&call("erase", "registry.example.com", RELEASE).await, 0, &[]);
    assert_ne!(get("registry.example.com").await["Secret"], first["Secret"]);
    let listed = call("list", "", RELEASE).await;
    assert_eq!(listed.stdout, "{\"127.0.0.1:5000\":\"ci\",\"registry.example.com\":\"ci\"}\n");
    // Docker shows what is on standard output.
    let refused = call("get", "registry.example.com", "payments-admin").await;
    ended(&refused, 3, &["The broker refused `payments-admin`"]);
    assert!(refused.stdout.contains("The broker refused `payments-admin`"));
    ended(&call("store", "{}", RELEASE).await, 2, &["none is stored"]);
}
