//! The action where a job takes its time: the agent that renews, two roles at once, a broker that comes back, a job that
//! is cancelled; and where the network is not the plain one.

use crate::{
    BINARY, aws,
    cloud_action::{LEASE_HANDLE, LOOK, act, assert_failed, assert_hidden, log, outputs, releasing, workflow},
    cloud_aws,
    cloud_quickstart::{HOST, proxy_to},
    docs, records,
};
use claimbound_test_support::{
    act::{Act, USES},
    broker::Broker,
    canary,
    command::{self, Exit},
    config::BrokerConfig,
    issuer::Issuer,
    sts::Sts,
    time::eventually,
    tools::{Ministack, Tools},
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use std::{
    fs,
    net::{TcpListener, TcpStream},
    process::Stdio,
    time::Duration,
};

const COMES: Duration = Duration::from_secs(60);

/// Asks the agent as AWS clients do, until its key is another one than that of the file that is named, if one is.
const ASK: &str = r#"
const fs = require('fs');
const { AWS_CONTAINER_CREDENTIALS_FULL_URI: url, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: file } = process.env;
const other = process.argv[2] ? JSON.parse(fs.readFileSync(process.argv[2])).AccessKeyId : '';
(async () => {
    for (;;) {
        const answer = await fetch(url, { headers: { authorization: fs.readFileSync(file, 'utf8') } });
        const body = await answer.json();
        if (body.AccessKeyId !== other) return console.log(JSON.stringify({ status: answer.status, ...body }));
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
})();
"#;

/// A machine whose agents run ahead by the milliseconds in `$CLOCK`, and whose steps find the script above in `$ASK`.
fn ahead() -> Act {
    let act = act();
    let path = |name: &str| act.directory().join(name).display().to_string();
    let (clock, ask, script) = (path("clock"), path("ask.cjs"), path("clock.cjs"));
    let patch = format!(
        "const now = Date.now, fs = require('fs');\n\
         if ((process.argv[1] ?? '').endsWith('agent.cjs'))\n\
         Date.now = () => now() + (fs.existsSync('{clock}') ? Number(fs.readFileSync('{clock}')) : 0);\n"
    );
    fs::write(&script, patch).unwrap();
    fs::write(&ask, ASK).unwrap();
    let options = format!("--require={script}");
    act.env("CLOCK", &clock).env("ASK", &ask).env("NODE_OPTIONS", &options)
}

/// What others of the machine can see: files and arguments of processes.
const SEEN: &str = r#"
      - run: |
          mkdir "$PROOF/open"
          find "$HOME" -path "$PROOF" -prune -o -type f -perm -o=r -exec cp --parents -t "$PROOF/open" {} +
          grep -rl 'cb[l]_' "$PROOF/open" > "$PROOF/handles" || true
          cat /proc/[0-9]*/cmdline > "$PROOF/cmdlines" 2>/dev/null || true
"#;

#[tokio::test]
async fn the_agent_renews_in_the_middle_of_a_job_whose_calls_aws_allows() {
    let (issuer, aws) = (Issuer::github(), Ministack::start().await);
    let (broker, _) = cloud_aws::assuming(&aws, &issuer).await;
    let act = ahead().env("ENDPOINT", aws.url()).env("ACTIONS", cloud_aws::ACTIONS);
    // What is printed for debugging holds no secret, either.
    let act = act.env("RUNNER_DEBUG", "1");
    let act = Tools::python_environment().iter().fold(act, |act, (name, value)| act.env(name, value));
    let request = issuer.run(&issuer.job().environment("staging"));
    let steps = format!(
        r#"
      - uses: {USES}
        with: {{ broker-url: "{}", role: payments-deploy, mode: file }}
      - run: |
          cp "$CLAIMBOUND_CREDENTIAL_FILE" "$PROOF/file.json"
          python3 "{script}" > "$PROOF/before.json"
          node "$ASK" > "$PROOF/first.json"
          echo 1260000 > "$CLOCK"
          node "$ASK" "$PROOF/first.json" > "$PROOF/second.json"
          python3 "{script}" > "$PROOF/after.json"
"#,
        broker.audience(),
        script = cloud_aws::script().display()
    );
    // Half an hour: a third of it is left after twenty minutes.
    let text = workflow(broker.audience(), "role: payments-deploy, duration: 30m", &steps) + SEEN + LOOK;
    let exit = act.run(&text, Some(&request)).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    let left = |name: &str| serde_json::from_str::<Value>(&act.left(name)).unwrap();
    assert_eq!(
        (&left("before.json")["list_buckets"], &left("before.json")["create_bucket"]),
        (&json!(0), &json!("AccessDenied"))
    );
    cloud_aws::assert_narrowed(&aws, &left("after.json")).await;

    let (file, first, second) = (left("file.json"), left("first.json"), left("second.json"));
    assert_ne!(first["AccessKeyId"], second["AccessKeyId"]);
    assert_eq!((&first["AccountId"], &file["Version"]), (&json!("111122223333"), &json!(1)));
    let tokens = issuer.given();
    assert_eq!(tokens.len(), 3, "one for each login, and one for the renewal");
    let ended = records::of_kind(&broker, "ended");
    assert_eq!(ended.len(), 3, "also of what the agent renewed: {ended:?}");
    for text in [
        "and the agent renews it until the job ends (mode `agent`)",
        "The agent is stopped",
        "Z renewed: until 20",
        "::set-env:: AWS_CONTAINER_CREDENTIALS_FULL_URI=\n",
    ] {
        assert!(log(&exit).contains(text), "no `{text}` in\n{}", log(&exit));
    }
    assert_eq!(outputs(&act)["expires-in-seconds"], "1800");

    let mut secrets = tokens;
    secrets.push(request.bearer);
    for (answer, session) in [(&file, "SessionToken"), (&first, "Token"), (&second, "Token")] {
        secrets.extend(["SecretAccessKey", session].map(|name| answer[name].as_str().unwrap().to_owned()));
    }
    let secrets: Vec<_> = secrets.iter().map(String::as_str).collect();
    assert_hidden(&act, &exit, &secrets);
    canary::assert_absent(&act.proof().join("open"), &secrets);
    assert_eq!(act.left("handles"), "", "a lease handle is in files that others can read");
    let running = String::from_utf8_lossy(&fs::read(act.proof().join("cmdlines")).unwrap()).into_owned();
    assert!(running.contains("agent.cjs"), "the agent is seen at all");
    assert!(!secrets.iter().any(|secret| running.contains(secret)) && !running.contains(LEASE_HANDLE), "{running}");
    assert!(act.proof().join("open").read_dir().unwrap().next().is_some(), "some files are open");
}

#[tokio::test]
async fn a_renewal_that_is_refused_is_told_by_the_agent_and_at_the_end() {
    let (act, issuer, sts) = (ahead(), Issuer::github(), Sts::new());
    let broker = aws::broker(&issuer, &sts, "").await;
    let request = issuer.run(&issuer.job().environment("staging"));
    // Without two minutes left, whoever asks waits for the renewal.
    let steps = r#"
      - run: |
          touch "$PROOF/up"
          until [ -e "$PROOF/go" ]; do sleep 0.05; done
          echo 1700000 > "$CLOCK"
          node "$ASK" > "$PROOF/said.json"
"#;
    let text = workflow(broker.audience(), "role: payments-deploy, duration: 30m", steps);
    let take_away = async {
        eventually(COMES, async || act.proof().join("up").exists().then_some(())).await;
        // From now on only another job is given tokens.
        issuer.run(&issuer.job().branch("feature"));
        fs::write(act.proof().join("go"), "").unwrap();
    };
    let (exit, ()) = tokio::join!(act.run(&text, Some(&request)), take_away);
    assert_eq!(exit.code, Some(0), "the post step fails no job: {}", log(&exit));
    let said: Value = serde_json::from_str(&act.left("said.json")).unwrap();
    assert_eq!((&said["status"], &said["code"]), (&json!(403), &json!("ci_refused")));
    for text in [
        "The agent could not renew the credential",
        "GitHub gave this job no OIDC token (401)",
        "<h3>Claimbound: not renewed</h3>",
    ] {
        assert!(log(&exit).contains(text), "no `{text}` in\n{}", log(&exit));
    }
    assert_eq!((sts.sessions().len(), records::of_kind(&broker, "ended").len()), (1, 1));
}

#[tokio::test]
async fn logins_of_several_roles_are_undone_in_reverse_each_to_what_it_found() {
    let (act, issuer, sts) = (act(), Issuer::github(), Sts::new());
    let broker = aws::broker(&issuer, &sts, "").await;
    let login = |inputs: &str| {
        format!("      - uses: {USES}\n        with: {{ broker-url: \"{}\", {inputs} }}\n", broker.audience())
    };
    let more =
        login("role: payments-secrets") + &login("role: payments-deploy") + &login("role: payments-deploy, mode: env");
    let exit = act
        .run(
            &workflow(broker.audience(), "role: payments-deploy", &more),
            Some(&issuer.run(&issuer.job().environment("staging"))),
        )
        .await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    let set = |name: &str| {
        let name = format!("::set-env:: {name}=");
        let values = exit.stdout.lines().filter_map(|line| Some(line.split_once(&name)?.1.to_owned()));
        values.collect::<Vec<_>>()
    };
    let agents = set("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    assert_eq!((agents.len(), &agents[2], agents[3].as_str()), (4, &agents[0], ""), "{agents:?}");
    assert_ne!(agents[0], agents[1]);
    assert_eq!(set("AWS_SECRET_ACCESS_KEY"), ["***", ""]);
    assert_eq!(set("CLAIMBOUND_CREDENTIAL_FILE").last().map(String::as_str), Some(""));
    assert_eq!(set("AWS_REGION"), ["eu-west-1", "eu-west-1", "eu-west-1", "eu-west-1", "eu-west-1", ""]);
    assert_eq!((sts.sessions().len(), records::of_kind(&broker, "ended").len()), (3, 4));
    assert_eq!(log(&exit).matches("The agent is stopped").count(), 2);
}

#[tokio::test]
async fn credentials_that_would_win_are_named() {
    let (act, issuer, sts) = (act(), Issuer::github(), Sts::new());
    let broker = aws::broker(&issuer, &sts, "").await;
    let request = issuer.run(&issuer.job().environment("staging"));
    let text = workflow(broker.audience(), "role: payments-deploy", "")
        .replace("    steps:", "    env: { AWS_PROFILE: of-the-job }\n    steps:");
    let exit = act.run(&text, Some(&request)).await;
    assert_failed(&exit, &["another AWS credential (`AWS_PROFILE`), and AWS clients prefer it to an agent"]);
    assert_eq!(records::of_kind(&broker, "ended").len(), 1, "nobody will use it");
}

#[tokio::test]
async fn a_broker_that_comes_back_in_time_is_enough() {
    let (act, issuer) = (act(), Issuer::github());
    let mut broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    broker.kill9().await;
    let address = broker.url().trim_start_matches("http://").to_owned();
    let text = workflow(broker.audience(), "role: payments-release, mode: output, timeout: 60s", "") + LOOK;
    let request = issuer.run(&releasing(&issuer));
    let come_back = async {
        // Somebody is there and hangs up, so that it is certain that the first try came too early.
        let listener = TcpListener::bind(address).unwrap();
        let first = tokio::task::spawn_blocking(move || drop(listener.accept().unwrap()));
        first.await.unwrap();
        broker.restart().await;
    };
    let (exit, ()) = tokio::join!(act.run(&text, Some(&request)), come_back);
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    assert_eq!(outputs(&act)["available"], "true");
    assert_eq!(records::of_kind(&broker, "ended").len(), 1);
}

#[tokio::test]
async fn a_job_that_is_cancelled_leaves_no_agent_and_no_lease() {
    let (act, issuer, sts) = (act(), Issuer::github(), Sts::new());
    let broker = aws::broker(&issuer, &sts, "").await;
    let request = issuer.run(&issuer.job().environment("staging"));
    let steps = r#"
      - run: |
          printenv AWS_CONTAINER_CREDENTIALS_FULL_URI > "$PROOF/agent.new"
          mv "$PROOF/agent.new" "$PROOF/agent"
          exec sleep 60
"#;
    let mut job = act.prepared(&workflow(broker.audience(), "role: payments-deploy", steps), Some(&request));
    let job = job.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually(COMES, async || act.proof().join("agent").exists().then_some(())).await;
    command::signal(&job, "INT").await;
    let output = tokio::time::timeout(COMES, job.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && said.contains("The agent is stopped"), "{said}");
    assert_eq!(records::of_kind(&broker, "ended").len(), 1, "{said}");
    let agent = act.left("agent");
    let address = agent.trim().trim_start_matches("http://").trim_end_matches("/credentials").to_owned();
    eventually(COMES, async || TcpStream::connect(&address).is_err().then_some(())).await;
}

/// What the documentation says to write, as it stands there.
#[tokio::test]
async fn a_company_s_own_action_of_ten_lines_runs() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = aws::broker(&issuer, &sts, "").await;
    let blocks = docs::blocks_in("action/README.md", "yaml");
    let block =
        |first: &str| blocks.iter().find(|block| block.starts_with(first)).unwrap_or_else(|| panic!("no `{first}`"));
    let own = block("# claimbound/action.yml of acme/actions")
        .replace("acme/claimbound/action@<sha>", USES)
        .replace("https://claimbound.acme.example", broker.audience());
    assert!(own.lines().filter(|line| !line.starts_with('#')).count() <= 10, "ten lines:\n{own}");
    let act = act().repository("acme/actions@main", "claimbound/action.yml", &own);
    let used = "acme/actions/claimbound@main";
    let text = format!(
        "on: push\njobs:\n  deploy:\n    runs-on: ubuntu-24.04\n    steps:\n      - uses: {used}\n        with: {{ role: \
         payments-deploy }}\n      - run: test -s \"$AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE\"\n"
    );
    let exit = act.run(&text, Some(&issuer.run(&issuer.job().environment("staging")))).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    assert_eq!((sts.sessions().len(), records::of_kind(&broker, "ended").len()), (1, 1), "{}", log(&exit));
}

#[tokio::test]
async fn behind_a_proxy_with_a_private_authority_the_post_step_works_too() {
    let issuer = Issuer::github();
    let home = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec![HOST.to_owned()]).unwrap();
    fs::write(home.path().join("certificate.pem"), cert.pem()).unwrap();
    fs::write(home.path().join("key.pem"), signing_key.serialize_pem()).unwrap();
    let config = BrokerConfig::new(&issuer)
        .server(&format!("public_url = \"https://{HOST}\""))
        .toml("[server.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n");
    let broker = Broker::start_in(home, BINARY, config).await;
    let act = act().env("https_proxy", &proxy_to(broker.url().trim_start_matches("https://").to_owned()).await);
    let ca = act.directory().join("ca.pem");
    fs::write(&ca, cert.pem()).unwrap();
    let request = issuer.run(&releasing(&issuer));
    let run = async |inputs: &str| -> Exit {
        let inputs = format!("role: payments-release, mode: output, {inputs}");
        act.run(&(workflow(&format!("https://{HOST}"), &inputs, "") + LOOK), Some(&request)).await
    };
    let exit = run(&format!("ca-file: {}", ca.display())).await;
    assert_eq!(exit.code, Some(0), "{}", log(&exit));
    assert_eq!(records::of_kind(&broker, "ended").len(), 1, "{}", log(&exit));

    let exit = run("on-unavailable: skip").await;
    assert_eq!(outputs(&act)["reason"], "certificate_untrusted");
    assert_failed(&exit, &["an authority that this runner does not trust; `ca-file` names a private one"]);
    assert_eq!(issuer.given().len(), 1, "no token was asked for");
}
