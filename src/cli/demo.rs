//! `claimbound demo`: one exchange from beginning to end, over the broker that `serve` runs, in a folder that is
//! removed at the end.

use super::{audit, dev, explain::explain_case, loaded::print, serve};
use crate::{
    broker::{Broker, SystemClock},
    config::Config,
    dev::{issuer, request},
    http,
    secret::Secret,
    store,
};
use anyhow::{Context, bail, ensure};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use claimbound_core::{evidence::DecisionId, mapping::Decision, review::Given, time::Clock as _, workload::Profiles};
use clap::Args;
use serde_json::Value;
use std::{
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Show one exchange from beginning to end, with no cloud, network or configuration
///
/// A GitHub-shaped token from a local issuer, the sample mappings, a broker over SQLite, all in a temporary directory
/// that is removed. Prints the token's claims, the decision's trace, the credential (redacted) and the verified
/// evidence. Exit code 0: the exchange went through and its evidence verified; 2: anything else.
#[derive(Args, Debug)]
pub struct DemoArgs {}

const REPOSITORY: &str = "acme/payments-api";
const ENVIRONMENT: &str = "production";
const DEPLOY_WORKFLOW: &str = "acme/ci/.github/workflows/deploy.yml@refs/heads/main";
const ROLE: &str = "payments-deploy.production";
const LOOPBACK_ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Exit code 0 when the exchange went through and its evidence verified.
pub fn run(_: DemoArgs) -> anyhow::Result<u8> {
    let home = Home::make()?;
    serve::runtime()?.block_on(demo(&home.0))?;
    Ok(0)
}

/// A folder of our own, removed with everything in it.
struct Home(PathBuf);

impl Home {
    fn make() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("claimbound-demo-{}", Uuid::now_v7()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot make `{}`", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("warning: `{}` is left behind: {error}", self.0.display());
        }
    }
}

async fn demo(home: &Path) -> anyhow::Result<()> {
    let clock = Arc::new(SystemClock);
    let issuers = issuer::start(Some(&dev::issuer_directory(home)), LOOPBACK_ANY_PORT, clock.clone())?;
    let file = dev::prepare(home, issuers.issuer().address(), LOOPBACK_ANY_PORT, LOOPBACK_ANY_PORT)?;
    let mut config = Config::read(&file, true).map_err(|invalid| anyhow::anyhow!("{:?}", invalid.diagnostics))?;
    let listeners = http::bind(&config)?;
    config.bound_at(listeners.bound().listen);
    let broker = Broker::start(config, clock).await?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(listeners.run(broker.clone(), async move {
        let _ = stopped.await;
    }));

    let shown = tokio::select! {
        shown = one_exchange(&broker, issuers.issuer()) => shown,
        () = serve::stop_signal(|| ())? => Err(anyhow::anyhow!("stopped before the end")),
    };
    // An orderly end also of a demo that failed: nothing writes into the folder any more when it is removed.
    stop.send(()).ok();
    serving.await.context("the HTTP server ended")??;
    issuers.stop().await;
    let decision = shown?;

    heading("4. What was written before the credential left:")?;
    let store = &broker.config().store;
    let reader = store::open_reader(store)?;
    for stored in reader.decision(decision.parse::<DecisionId>()?)? {
        print(&format!("{:#}\n", serde_json::from_slice::<Value>(&stored.body)?))?;
    }
    print("\n")?;
    ensure!(audit::verify(store)? == audit::VERIFIED, "the evidence does not verify");
    print("\nTry it yourself: `claimbound dev` keeps an issuer and a broker running.\n")?;
    Ok(())
}

/// From the job's request to the credential, shown as it goes; the decision's id.
async fn one_exchange(broker: &Broker, issuer: &issuer::Issuer) -> anyhow::Result<String> {
    let url = &broker.config().public_url;
    heading("1. A job asks its CI system for a token. The claims of that token:")?;
    let job = request::TokenRequest {
        environment: Some(ENVIRONMENT.to_owned()),
        job_workflow: Some(DEPLOY_WORKFLOW.to_owned()),
        ..request::TokenRequest::new(REPOSITORY, url)
    };
    let token = issuer.mint(request::Profile::GithubActions, &job)?;
    let claims = payload(token.reveal())?;
    print(&format!("{claims:#}\n"))?;

    heading(&format!("2. It presents the token to the broker and asks for `{ROLE}`. The decision:"))?;
    let answer = exchange(url, &token).await?;
    print(&trace(broker, claims)?)?;

    heading("3. It gets a short-lived credential (redacted: a signature is a secret):")?;
    let credential = text(&answer, "access_token")?;
    let mut shown = answer.clone();
    redact(&mut shown, credential);
    print(&format!("{shown:#}\n\nwhich says to whoever verifies it by {url}/jwks:\n"))?;
    print(&format!("{:#}\n", payload(credential)?))?;
    Ok(text(&answer, "decision_id")?.to_owned())
}

fn heading(text: &str) -> std::io::Result<()> {
    print(&format!("\n{text}\n\n"))
}

async fn exchange(broker: &str, token: &Secret) -> anyhow::Result<Value> {
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
        ("subject_token", token.reveal()),
        ("audience", ROLE),
    ];
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.post(format!("{broker}/token")).form(&form).send().await?;
    let (status, body) = (answer.status(), answer.json::<Value>().await?);
    if !status.is_success() {
        bail!("the broker refused with {status}: {body:#}");
    }
    Ok(body)
}

/// The trace that `claimbound explain` shows for the same claims.
fn trace(broker: &Broker, claims: Value) -> anyhow::Result<String> {
    let set = &broker.active().snapshot.mappings;
    let issuer = set.issuer_named("github").context("the sample names its issuer `github`")?.0;
    let explanation = explain_case(
        set,
        &Profiles::builtin(),
        (issuer, &Given::Claims(claims)),
        (None, &Value::Null),
        Some(ROLE),
        SystemClock.now(),
    )?;
    ensure!(
        matches!(explanation, super::explain::Explanation::Judged { decision: Decision::Grant(_), .. }),
        "explain and the service differ"
    );
    Ok(explanation.to_text(set, None))
}

fn text<'v>(answer: &'v Value, member: &str) -> anyhow::Result<&'v str> {
    answer[member].as_str().with_context(|| format!("the answer has no `{member}`"))
}

/// The claims of a compact JWS, unverified: for showing only.
fn payload(token: &str) -> anyhow::Result<Value> {
    let middle = token.split('.').nth(1).context("a token has three parts")?;
    Ok(serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(middle)?)?)
}

/// Cuts every occurrence of the secret to its first letters.
fn redact(shown: &mut Value, secret: &str) {
    match shown {
        Value::String(text) if text == secret => *text = format!("{}…", &secret[..secret.len().min(12)]),
        Value::Object(members) => members.values_mut().for_each(|member| redact(member, secret)),
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, secret)),
        _ => {}
    }
}
