//! `claimbound operator`: a person signs in at a broker, so that other commands can act in their name.

mod browser;
pub mod client;
mod session;

use super::{loaded, render::Format};
use crate::{broker::SystemClock, history::log::date};
use anyhow::{Context as _, Result, bail};
use claimbound_core::time::Clock as _;
use client::{BrokerArgs, Client};
use serde_json::{Value, json};
use std::{
    thread,
    time::{Duration, Instant},
};

/// The longest wait between two questions about a device.
const INTERVAL_SECONDS_MAX: u64 = 60;

/// Sign in at a running broker, to act as an operator
#[derive(clap::Args, Debug)]
pub struct OperatorArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    Login(LoginArgs),
    Logout(LogoutArgs),
    Status(StatusArgs),
}

/// Sign in with a browser, or on another device
///
/// The broker sends you to the provider that its configuration names; the answer comes back to a port of this machine. The
/// session lasts 15 minutes and is kept in a file of your own, below `$XDG_RUNTIME_DIR` or `$XDG_STATE_HOME`. With `--device`
/// you type a code anywhere else, and the session can only look: explain, leases, audit. CI jobs need no sign-in: their
/// commands take the token in `CLAIMBOUND_TOKEN` or `CLAIMBOUND_TOKEN_FILE`. Exit code 0: signed in; 2: usage, or nobody signed
/// in in time; 3: refused; 4: the broker or its provider cannot be asked.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  claimbound operator login --broker https://claimbound.internal.example:8081
  claimbound operator login --device --sign-in okta")]
struct LoginArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Which sign-in of the broker's configuration; needed where it has several
    #[arg(long, value_name = "NAME")]
    sign_in: Option<String>,
    /// Type a code on another device; the session can only look
    #[arg(long, conflicts_with = "port")]
    device: bool,
    /// The port of loopback that the browser comes back to, for providers that compare it
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Print the address, and open nothing
    #[arg(long)]
    no_browser: bool,
}

/// End the session
///
/// It ends at the broker and in the file. Exit code 0: it is over; 2: usage; 3: the broker knows of none, and it is gone from the
/// file; 4: the broker cannot be asked, and the file is as it was.
#[derive(clap::Args, Debug)]
struct LogoutArgs {
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Say who the broker takes you for, and what you may
///
/// Exit code 0: you are an operator; 2: usage, or you are not signed in; 3: the session is over; 4: the broker cannot be asked.
#[derive(clap::Args, Debug)]
struct StatusArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command; the exit code.
///
/// # Errors
/// Whatever keeps it from being done; those of the broker are [`client::Failed`].
pub fn run(args: &OperatorArgs) -> Result<u8> {
    match &args.command {
        Command::Login(args) => login(args),
        Command::Logout(args) => logout(&args.broker.required()?),
        Command::Status(args) => status(&args.broker.required()?, args.format),
    }
}

fn login(args: &LoginArgs) -> Result<u8> {
    let client = args.broker.required()?;
    let session = if args.device { by_device(&client, args)? } else { by_browser(&client, args)? };
    let kept: session::Kept = serde_json::from_value(session).context("the broker's answer is of another version")?;
    let told =
        format!("signed in as {} until {}; may: {}\n", kept.operator, date(kept.expires_at), kept.may.join(", "));
    session::keep(client.url(), kept, SystemClock.now().0)?;
    loaded::print(&told)?;
    Ok(0)
}

fn by_browser(client: &Client, args: &LoginArgs) -> Result<Value> {
    let listener = browser::listen(args.port)?;
    let port = listener.local_addr()?.port();
    let begun = client.post_openly("/operator/sign-in", &json!({ "sign_in": args.sign_in, "port": port }))?;
    let state = text(&begun, "state")?;
    browser::show(text(&begun, "authorization_url")?, !args.no_browser);
    let came = browser::wait(&listener, state, begun["expires_in"].as_u64().unwrap_or_default())?;
    let ended = json!({
        "sign_in": begun["sign_in"],
        "port": port,
        "code": came.code.reveal(),
        "verifier": begun["verifier"],
        "state": came.state,
        "iss": came.issuer,
    });
    client.post_openly("/operator/session", &ended)
}

fn by_device(client: &Client, args: &LoginArgs) -> Result<Value> {
    let begun = client.post_openly("/operator/sign-in", &json!({ "sign_in": args.sign_in, "device": true }))?;
    let seconds = begun["expires_in"].as_u64().unwrap_or_default();
    let until = Instant::now() + Duration::from_secs(seconds);
    let (uri, code) = (text(&begun, "verification_uri")?, text(&begun, "user_code")?);
    eprintln!("{}", loaded::without_control(&format!("on any device, open {uri} and type the code {code}")));
    let mut interval = begun["interval"].as_u64().unwrap_or(5);
    loop {
        thread::sleep(Duration::from_secs(interval.clamp(1, INTERVAL_SECONDS_MAX)));
        if Instant::now() >= until {
            bail!("nobody typed the code within {seconds} s; begin again");
        }
        let ended = json!({ "sign_in": begun["sign_in"], "device_code": begun["device_code"] });
        let answer = client.post_openly("/operator/session", &ended)?;
        match answer["pending"].as_bool() {
            Some(true) => interval = answer["interval"].as_u64().unwrap_or(interval),
            _ => return Ok(answer),
        }
    }
}

fn text<'v>(answer: &'v Value, name: &str) -> Result<&'v str> {
    answer[name].as_str().with_context(|| format!("the broker's answer has no `{name}`: it is of another version"))
}

fn logout(client: &Client) -> Result<u8> {
    let ended = client.delete("/operator/session");
    // One that the broker does not know is of no use to anyone.
    if !matches!(&ended, Err(error) if !matches!(error.downcast_ref(), Some(client::Failed::Refused(_)))) {
        session::forget(client.url())?;
    }
    ended?;
    loaded::print("signed out\n")?;
    Ok(0)
}

fn status(client: &Client, format: Format) -> Result<u8> {
    let me = client.get("/operator/session", &[])?;
    match format {
        Format::Json => loaded::print(&format!("{me:#}\n"))?,
        Format::Human => {
            let may: Vec<&str> = me["may"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let until = me["expires_at"].as_i64().map(|at| format!(" until {}", date(at))).unwrap_or_default();
            loaded::print(&format!("{}{until}; may: {}\n", text(&me, "operator")?, may.join(", ")))?;
        }
    }
    Ok(0)
}
