//! `claimbound agent`, around one command and in the background of a job: who gets keys from it, that it renews them, and
//! that it ends with what it was for.

use crate::{
    BINARY, aws,
    clients::{COMES, DEPLOY, Machine, deploying, ended, releasing},
    job_ways::gitlab,
    records,
};
use claimbound_test_support::{
    canary,
    command::finish,
    http::{self, Answer},
    issuer::Issuer,
    sts::Sts,
    time::eventually,
};
use futures_util::future::join_all;
use serde_json::json;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, OnceLock},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// A command under the agent: tells what it was given, then waits until the file `stop` is there.
const ASKING: &str = "printf '%s %s %s' \"$AWS_CONTAINER_CREDENTIALS_FULL_URI\" \"$AWS_CONTAINER_AUTHORIZATION_TOKEN\" \
                      \"${AWS_ACCESS_KEY_ID-none}\" > at.new; mv at.new at; while [ ! -e stop ]; do sleep 0.05; done; exit 5";

/// Another address of this broker, whose answers to the n-th exchange are changed on their way.
pub async fn relayed(to: &str, change: impl Fn(u64, &mut Answer) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let to = to.to_owned();
    tokio::spawn(async move {
        let mut exchanges = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut request, mut buffer) = (String::new(), [0; 8192]);
            let body = loop {
                if let Some((head, body)) = request.split_once("\r\n\r\n") {
                    let length = head
                        .lines()
                        .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                    if body.len() >= length.unwrap_or(0) {
                        break body.to_owned();
                    }
                }
                match stream.read(&mut buffer).await {
                    Ok(read) if read > 0 => request.push_str(&String::from_utf8_lossy(&buffer[..read])),
                    _ => break String::new(),
                }
            };
            let words: Vec<&str> = request.split(' ').take(2).collect();
            let [method, path] = words[..] else { continue };
            let asked = http::client().request(method.parse().unwrap(), format!("{to}{path}"));
            let asked = asked.header("content-type", "application/x-www-form-urlencoded").body(body);
            let Ok(mut answer) = http::send(asked).await else { continue };
            if path == "/token" {
                change(exchanges, &mut answer);
                exchanges += 1;
            }
            let body = if answer.body.is_null() { answer.text } else { answer.body.to_string() };
            let head =
                format!("HTTP/1.1 {} -\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.status, body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    url
}

/// Where the agent is, and its authorization token.
async fn at(machine: &Machine) -> (String, String) {
    let said = eventually(COMES, async || fs::read_to_string(machine.path("at")).ok()).await;
    let said: Vec<&str> = said.split(' ').collect();
    assert_eq!(said[2], "none", "nothing that clients would prefer");
    (said[0].to_owned(), said[1].to_owned())
}

async fn keys_of(uri: &str, bearer: &str) -> Answer {
    http::send(http::client().get(uri).header("authorization", bearer)).await.unwrap()
}

async fn nobody_at(uri: &str) {
    eventually(COMES, async || http::send(http::client().get(uri)).await.err().map(drop)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_answers_its_command_alone_and_ends_with_it() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = aws::broker(&issuer, &sts, "").await;
    let machine = Machine::new(broker.audience(), deploying(&issuer));
    let mut agent = machine.prepared(Path::new(BINARY), &["agent", "--role", DEPLOY, "--", "sh", "-c", ASKING]);
    let ran = finish(agent.env("AWS_ACCESS_KEY_ID", "of-somebody-else"));
    let asked = async {
        let (uri, bearer) = at(&machine).await;
        assert!(uri.starts_with("http://127.0.0.1:"), "{uri}");
        let keys = keys_of(&uri, &bearer).await;
        assert_eq!((keys.status, keys.text_of("AccountId")), (200, "111122223333"), "{}", keys.text);
        for member in ["AccessKeyId", "SecretAccessKey", "Token", "Expiration"] {
            assert!(!keys.text_of(member).is_empty());
        }
        for answer in join_all((0..200).map(|_| keys_of(&uri, &bearer))).await {
            assert_eq!(answer.text, keys.text, "from memory");
        }
        for (uri, bearer, status) in
            [(&uri, "", 401), (&uri, &*"f".repeat(64), 401), (&format!("{uri}/x"), &bearer, 404)]
        {
            let refused = keys_of(uri, bearer).await;
            assert!(refused.status == status && !refused.text.contains("Secret"), "{}", refused.text);
        }
        fs::write(machine.path("stop"), "").unwrap();
        (uri, bearer)
    };
    let (exit, (uri, bearer)) = tokio::join!(ran, asked);
    ended(&exit, 5, &["payments-deploy by payments-deploys until "]);
    assert!(!exit.stderr.contains(&bearer) && exit.stdout.is_empty());
    assert!(http::send(http::client().get(&uri)).await.is_err(), "nobody is there any more");
    assert_eq!((sts.calls(), records::of_kind(&broker, "ended").len(), machine.files().len()), (1, 1, 0));
    // Who keeps another role or account from its command does so before it starts.
    for (words, part) in [
        (&["--allowed-account-ids", "444455556666"][..], "belongs to AWS account 111122223333"),
        (&["--timeout", "1x"], "--timeout"),
    ] {
        let words = [&["agent", "--role", DEPLOY], words, &["--", "touch", "ran"]].concat();
        ended(&machine.run(&words).await, 2, &[part]);
    }
    assert!(!machine.path("ran").exists());
    assert_eq!((records::of_kind(&broker, "ended").len(), machine.files().len()), (2, 0));
}

#[tokio::test]
async fn an_agent_renews_and_says_when_it_may_not() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = aws::broker(&issuer, &sts, "").await;
    let state = Arc::new(OnceLock::<PathBuf>::new());
    let known = state.clone();
    let relay = relayed(broker.url(), move |nth, answer| match nth {
        // Two thirds of this are over before anybody can ask.
        0 => answer.body["expires_in"] = 1.into(),
        // Nothing can be written down any more: the command is not to suffer from that.
        1 => {
            answer.body["expires_in"] = 1.into();
            fs::remove_dir_all(known.get().unwrap()).unwrap();
        }
        _ => {
            answer.status = 400;
            answer.body =
                json!({ "error": "invalid_target", "error_description": "Not any more", "reason": "suspended" });
        }
    });
    let machine = Machine::new(&relay.await, deploying(&issuer));
    state.set(machine.path("state")).unwrap();
    let words = ["agent", "--role", DEPLOY, "--audience", broker.audience(), "--", "sh", "-c", ASKING];
    let mut agent = machine.prepared(Path::new(BINARY), &words);
    let ran = finish(agent.env("GITHUB_STEP_SUMMARY", machine.path("summary")));
    let asked = async {
        let (uri, bearer) = at(&machine).await;
        let refused = async || Some(keys_of(&uri, &bearer).await).filter(|answer| answer.status == 403);
        let refused = eventually(COMES, refused).await;
        assert!(refused.text_of("message").contains("Not any more"), "{}", refused.text);
        fs::write(machine.path("stop"), "").unwrap();
    };
    let (exit, ()) = tokio::join!(ran, asked);
    let parts =
        ["warning: cannot write `", "error: not renewed at ", "The broker refused `payments-deploy`: Not any more"];
    ended(&exit, 5, &parts);
    assert_eq!(exit.stderr.matches("payments-deploy by payments-deploys until ").count(), 2, "{}", exit.stderr);
    assert!(fs::read_to_string(machine.path("summary")).unwrap().contains("    The broker refused `payments-deploy`"));
    assert_eq!(issuer.given().len(), 3, "a fresh token each time");
}

#[tokio::test]
async fn an_agent_of_a_job_with_one_token_renews_by_refresh_tokens() {
    let (issuer, sts) = (Issuer::gitlab(), Sts::new());
    let broker = aws::broker_of(gitlab(&issuer, &sts), &sts).await;
    let relay = relayed(broker.url(), |nth, answer| {
        if nth < 2 {
            answer.body["expires_in"] = 1.into();
        }
    });
    let mut machine = Machine::new(&relay.await, releasing(&issuer));
    machine.request = None;
    let words = ["agent", "--role", DEPLOY, "--audience", broker.audience(), "--", "sh", "-c", ASKING];
    let mut agent = machine.prepared(Path::new(BINARY), &words);
    let ran = finish(agent.env("CLAIMBOUND_TOKEN", issuer.job().branch("main").token(broker.audience())));
    let asked = async {
        let (uri, bearer) = at(&machine).await;
        let third = async || {
            let (keys, sessions) = (keys_of(&uri, &bearer).await, sts.sessions());
            let theirs = sessions.get(2).filter(|_| keys.status == 200)?;
            (keys.text_of("SecretAccessKey") == theirs.secret_access_key).then_some(())
        };
        eventually(COMES, third).await;
        // What is over and what had its turn is written down no more.
        let [kept] = machine.files().try_into().unwrap();
        let kept: serde_json::Value = serde_json::from_slice(&fs::read(kept).unwrap()).unwrap();
        assert_eq!(kept["handles"].as_array().unwrap().len(), 2);
        fs::write(machine.path("stop"), "").unwrap();
    };
    let (exit, ()) = tokio::join!(ran, asked);
    ended(&exit, 5, &[]);
    let families: Vec<_> = records::of_kind(&broker, "granted").iter().map(|body| body["family"].clone()).collect();
    assert!(families.iter().all(|family| *family == families[0] && family.is_string()), "{families:?}");
    assert_eq!((records::of_kind(&broker, "family_ended").len(), machine.files().len(), sts.calls()), (1, 0, 3));
}

/// A step that leaves an agent behind.
pub async fn left_behind(machine: &Machine, words: &str) -> (String, String) {
    let script = format!(
        "eval \"$(\"$CLI\" agent --role {DEPLOY} --background {words})\"; stat -c %a \"$AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE\"; \
         echo $AWS_REGION $AWS_CONTAINER_CREDENTIALS_FULL_URI; cat \"$AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE\""
    );
    // It is over although the agent is not, so that holds none of the step's pipes.
    let exit = machine.shell(&script).await;
    ended(&exit, 0, &["payments-deploy by payments-deploys until "]);
    let lines: Vec<&str> = exit.stdout.lines().collect();
    let uri = lines[1].strip_prefix("eu-west-1 ").unwrap().to_owned();
    assert_eq!((lines[0], keys_of(&uri, lines[2]).await.status), ("600", 200), "{}", exit.stdout);
    assert!(!exit.stderr.contains(lines[2]));
    (uri, lines[2].to_owned())
}

fn state(machine: &Machine, ending: &str) -> Vec<PathBuf> {
    let files = machine.files().into_iter();
    files
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("agent-"))
        .filter(|path| path.extension().is_some_and(|have| have == ending))
        .collect()
}

#[tokio::test]
async fn an_agent_in_the_background_ends_when_it_is_told_to_or_nobody_needs_it() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = aws::broker(&issuer, &sts, "").await;
    let machine = Machine::new(broker.audience(), deploying(&issuer));
    let over = async || records::of_kind(&broker, "ended").len();
    let (uri, bearer) = left_behind(&machine, "--lifetime 10m").await;
    canary::assert_absent(machine.path("state").parent().unwrap(), &[&issuer.given()[0]]);
    let exit = machine.run(&["logout"]).await;
    ended(&exit, 0, &["agent: Ended at ", ": it was told to"]);
    nobody_at(&uri).await;
    assert!(!machine.path("state").exists() && !exit.stderr.contains(&bearer));
    assert_eq!(over().await, 1);

    // With its time, and with the process that stands for the job.
    let short = machine.run(&["agent", "--role", DEPLOY, "--background", "--lifetime", "1s"]).await;
    ended(&short, 0, &[]);
    let uri = short.stdout.split_once("FULL_URI='").unwrap().1.split('\'').next().unwrap();
    nobody_at(uri).await;
    let mut job = Command::new("sleep").arg("600").spawn().unwrap();
    let (uri, _) = left_behind(&machine, &format!("--watch {}", job.id())).await;
    assert_eq!(keys_of(&uri, "").await.status, 401, "it is there as long as the job is");
    // Nobody waits for it, as in a container whose first process does not: it is over all the same.
    job.kill().unwrap();
    nobody_at(&uri).await;
    job.wait().unwrap();
    eventually(COMES, async || state(&machine, "token").is_empty().then_some(())).await;
    assert_eq!(over().await, 3);

    // One that was killed ends nothing, so `logout` does; a process that has its id by now is not touched.
    let (uri, _) = left_behind(&machine, "").await;
    let life: serde_json::Value = serde_json::from_slice(&fs::read(&state(&machine, "json")[0]).unwrap()).unwrap();
    assert!(Command::new("sh").args(["-c", &format!("kill -KILL {}", life["pid"])]).status().unwrap().success());
    nobody_at(&uri).await;
    let mut bystander = Command::new("sleep").arg("600").spawn().unwrap();
    fs::write(&state(&machine, "json")[0], json!({ "pid": bystander.id() }).to_string()).unwrap();
    let exit = machine.run(&["logout"]).await;
    ended(&exit, 0, &["is ended", "its lifetime is over", "the job's process is gone"]);
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    assert_eq!(over().await, 4);
    assert!(!machine.path("state").exists());
}

#[tokio::test]
async fn a_step_of_github_sets_the_next_ones_and_refuses_as_every_command_does() {
    let (issuer, sts) = (Issuer::github(), Sts::new());
    let broker = aws::broker(&issuer, &sts, "").await;
    let machine = Machine::new(broker.audience(), deploying(&issuer));
    let step = async |words: &[&str], more: &[(&str, &str)]| {
        let mut step = machine.prepared(Path::new(BINARY), words);
        step.env("GITHUB_ACTIONS", "true").env("GITHUB_ENV", machine.path("env"));
        finish(step.envs(more.iter().copied())).await
    };
    let words = ["agent", "--role", DEPLOY, "--background", "--lifetime", "10m"];
    let rival = step(&words, &[("AWS_PROFILE", "own")]).await;
    ended(&rival, 2, &["`AWS_PROFILE` is set in this job, and AWS clients prefer it to the agent"]);
    let nobody = i32::MAX.to_string();
    let watching = step(&[&words[..], &["--watch", &nobody]].concat(), &[]).await;
    ended(&watching, 2, &["`--watch 2147483647`: there is no such process"]);
    assert!(issuer.given().is_empty());
    ended(
        &step(&["agent", "--role", "payments-admin", "--background"], &[]).await,
        3,
        &["The broker refused `payments-admin`"],
    );
    ended(&step(&["agent", "--background", "--", "true"], &[]).await, 2, &["cannot be used with"]);
    ended(&step(&["agent", "--role", DEPLOY], &[]).await, 2, &["COMMAND"]);
    ended(&step(&["agent", "--lifetime", "2h", "--", "true"], &[]).await, 2, &["cannot be used with"]);

    // What could not be told to the next steps is not left for them.
    let lost = step(&words, &[("GITHUB_ENV", "/nowhere/env")]).await;
    ended(&lost, 2, &["cannot write `/nowhere/env`"]);
    assert!(machine.files().is_empty());
    assert_eq!(records::of_kind(&broker, "ended").len(), 1);

    let exit = step(&words, &[]).await;
    ended(&exit, 0, &["::add-mask::"]);
    assert_eq!(exit.stdout, "");
    let set = fs::read_to_string(machine.path("env")).unwrap();
    let value = |name: &str| set.split_once(&format!("{name}<<")).unwrap().1.lines().nth(1).unwrap().to_owned();
    let (uri, file) = (value("AWS_CONTAINER_CREDENTIALS_FULL_URI"), value("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"));
    let bearer = fs::read_to_string(&file).unwrap();
    assert!(keys_of(&uri, &bearer).await.status == 200 && !set.contains(&bearer));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let log = fs::read_to_string(&state(&machine, "log")[0]).unwrap();
    assert!(!log.contains("add-mask") && !log.contains(&bearer), "{log}");
    fs::write(machine.path("env"), "").unwrap();
    let now = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.as_str()),
    ];
    ended(&step(&["logout"], &now).await, 0, &[]);
    let set = fs::read_to_string(machine.path("env")).unwrap();
    assert!(set.contains("AWS_CONTAINER_CREDENTIALS_FULL_URI<<") && !set.contains(&uri), "they are emptied: {set}");
    assert_eq!(records::of_kind(&broker, "ended").len(), 2);
}
