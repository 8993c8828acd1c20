//! How a person signs in at a broker, whatever for: with a browser of this machine, or on another device.

use super::{
    browser,
    client::{Client, Failed},
    session::{self, Kind},
};
use crate::{broker::SystemClock, cli::loaded, history::log::date};
use anyhow::{Context as _, Result, bail};
use claimbound_core::{ceremony::CeremonyId, time::Clock as _};
use serde_json::{Value, json};
use std::{
    thread,
    time::{Duration, Instant},
};

/// The longest wait between two questions about a device.
const INTERVAL_SECONDS_MAX: u64 = 60;

/// By which way.
#[derive(clap::Args, Debug)]
pub struct How {
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

/// Where a broker has the two steps of a sign-in.
fn steps(kind: Kind) -> [&'static str; 2] {
    match kind {
        Kind::Operator => ["/operator/sign-in", "/operator/session"],
        Kind::Claim => ["/claim/api/sign-in", "/claim/api/session"],
    }
}

/// Signs in, fresh and strong enough for this ceremony, and keeps the session; the exit code.
///
/// # Errors
/// Nobody signed in, or was let in.
pub fn run(client: &Client, how: &How, ceremony: Option<CeremonyId>) -> Result<u8> {
    let session = if how.device { by_device(client, how)? } else { by_browser(client, how, ceremony)? };
    let kept: session::Kept = serde_json::from_value(session).context("the broker's answer is of another version")?;
    let told = format!("signed in as {} until {}; may: {}\n", kept.person, date(kept.expires_at), kept.may.join(", "));
    session::keep(client.kind(), client.url(), kept, SystemClock.now().0)?;
    loaded::print(&told)?;
    Ok(0)
}

/// Ends the session; the exit code.
///
/// # Errors
/// The broker knows of none, or cannot be asked.
pub fn out(client: &Client) -> Result<u8> {
    let [_, session] = steps(client.kind());
    let ended = client.delete(session);
    // One that the broker does not know is of no use to anyone.
    if !matches!(&ended, Err(error) if !matches!(error.downcast_ref(), Some(Failed::Refused(_)))) {
        session::forget(client.kind(), client.url())?;
    }
    ended?;
    loaded::print("signed out\n")?;
    Ok(0)
}

fn by_browser(client: &Client, how: &How, ceremony: Option<CeremonyId>) -> Result<Value> {
    let [begin, end] = steps(client.kind());
    let listener = browser::listen(how.port)?;
    let port = listener.local_addr()?.port();
    let mut asked = json!({ "sign_in": how.sign_in, "port": port });
    if let Some(ceremony) = ceremony {
        asked["ceremony"] = json!(ceremony);
    }
    let begun = client.post_openly(begin, &asked)?;
    let state = text(&begun, "state")?;
    browser::show(text(&begun, "authorization_url")?, !how.no_browser);
    let came = browser::wait(&listener, state, begun["expires_in"].as_u64().unwrap_or_default())?;
    let ended = json!({
        "sign_in": begun["sign_in"],
        "port": port,
        "code": came.code.reveal(),
        "verifier": begun["verifier"],
        "state": came.state,
        "iss": came.issuer,
    });
    client.post_openly(end, &ended)
}

fn by_device(client: &Client, how: &How) -> Result<Value> {
    let [begin, end] = steps(client.kind());
    let begun = client.post_openly(begin, &json!({ "sign_in": how.sign_in, "device": true }))?;
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
        let answer = client.post_openly(end, &ended)?;
        match answer["pending"].as_bool() {
            Some(true) => interval = answer["interval"].as_u64().unwrap_or(interval),
            _ => return Ok(answer),
        }
    }
}

/// A member of an answer.
///
/// # Errors
/// It is none of this version.
pub fn text<'v>(answer: &'v Value, name: &str) -> Result<&'v str> {
    answer[name].as_str().with_context(|| format!("the broker's answer has no `{name}`: it is of another version"))
}
