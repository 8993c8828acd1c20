//! An agent that many processes of one job ask for keys at the same moment: how long each of them waits.

use claimbound_test_support::{
    broker::Broker,
    command::{command, finish},
    config::BrokerConfig,
    issuer::Issuer,
    sts::Sts,
};
use serde_json::{Value, json};
use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

const ROLE_ARN: &str = "arn:aws:iam::111122223333:role/payments-deploy";
const ROLE: &str = r#"[role.payments-deploy]
description = "Deploy payments"
backend = "aws"
teams = ["payments"]
issuers = ["github"]
sensitivity = "internal"
max_duration = "2h"
[role.payments-deploy.aws]
role_arn = "arn:aws:iam::111122223333:role/payments-deploy"
region = "eu-west-1"
"#;
const MAPPING: &str = r#"[[mapping]]
name = "payments-deploys"
description = "Deploys from any branch"
roles = ["payments-deploy"]
duration = "30m"
[mapping.match]
environment = "staging"

"#;

/// A broker, an agent, and so many processes under it; says what it sees, and returns it for programs.
pub async fn run(binary: &Path, processes: usize) -> Value {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let first = "[[mapping]]\nname = \"payments-staging\"";
    let config = BrokerConfig::new(&issuer)
        .file("roles/aws.toml", ROLE)
        .edit("teams/payments/deploy.toml", first, &format!("{MAPPING}{first}"))
        .toml(&format!("[backend.aws]\nendpoint_url = \"{}\"\n", sts.url()));
    let broker = Broker::start(binary, config).await;
    sts.provider(broker.audience(), &format!("{}/jwks", broker.url()));
    sts.role(ROLE_ARN, "role:payments-deploy");
    let home = tempfile::tempdir().expect("a directory can be made");
    let token = home.path().join("token");
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&token).expect("it is new");
    let text = issuer.job().environment("staging").token(broker.audience());
    file.write_all(text.as_bytes()).expect("a file can be written");

    let own = env::current_exe().expect("this program has a path");
    let mut agent = command(binary, home.path());
    agent.args(["agent", "--role", "payments-deploy", "--token-file"]).arg(&token).arg("--");
    agent.arg(own).arg("crowd").arg(processes.to_string());
    let exit =
        finish(agent.env("CLAIMBOUND_URL", broker.audience()).env("CLAIMBOUND_STATE_DIR", home.path().join("state")))
            .await;
    let mut told: Value = serde_json::from_str(exit.stdout.trim())
        .unwrap_or_else(|error| panic!("the agent's command told nothing ({error}): {}", exit.stderr));
    told["exchanges"] = broker.metrics().await.sum("claimbound_credentials_issued_total", &[]).into();
    let text = |name: &str| told[name].as_f64().unwrap_or_default();
    println!(
        "{processes} processes ask an agent at once: half are answered within {:.1} ms, 95 % within {:.1} ms, the last after \
         {:.1} ms; exchanges at the broker: {}",
        text("p50_ms"),
        text("p95_ms"),
        text("max_ms"),
        text("exchanges"),
    );
    told
}

/// Under the agent: processes that run already are let go at once.
pub fn crowd(processes: usize) -> io::Result<()> {
    let own = env::current_exe()?;
    let begin = || Command::new(&own).arg("asks").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut asking = (0..processes).map(|_| begin()).collect::<io::Result<Vec<Child>>>()?;
    let mut lines: Vec<_> = asking.iter_mut().filter_map(|child| child.stdout.take().map(BufReader::new)).collect();
    let mut line = String::new();
    for from in &mut lines {
        from.read_line(&mut line)?;
    }
    for child in &mut asking {
        // Its end lets the process go.
        drop(child.stdin.take());
    }
    let mut took_us = Vec::with_capacity(processes);
    for from in &mut lines {
        line.clear();
        from.read_line(&mut line)?;
        took_us.push(line.trim().parse::<u32>().map_err(|_| io::Error::other("a process got no keys"))?);
    }
    for mut child in asking {
        child.wait()?;
    }
    took_us.sort_unstable();
    let ms = |share: usize| f64::from(took_us[(took_us.len() - 1) * share / 100]) / 1e3;
    println!("{}", json!({ "p50_ms": ms(50), "p95_ms": ms(95), "max_ms": ms(100) }));
    Ok(())
}

/// One of them: from its connection to the last byte of its keys, in microseconds.
pub fn asks() -> io::Result<()> {
    let variable = |name: &str| env::var(name).map_err(|_| io::Error::other(format!("`{name}` is not set")));
    let (uri, bearer) =
        (variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")?, variable("AWS_CONTAINER_AUTHORIZATION_TOKEN")?);
    let rest = uri.strip_prefix("http://").unwrap_or(&uri);
    let (address, path) = rest.split_once('/').ok_or_else(|| io::Error::other("the agent's address has no path"))?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {bearer}\r\n\r\n");
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new())?;
    let began = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let took = began.elapsed().as_micros();
    match answer.starts_with("HTTP/1.1 200 ") && answer.contains("SecretAccessKey") {
        true => println!("{took}"),
        false => println!("refused"),
    }
    Ok(())
}
