//! What commands share that give the JWT of a role to a program that asks for a password or bearer token.

use super::{
    JobArgs, Terminal,
    cache::{Kept, Wanted},
};
use crate::{
    client::{answer::Credential, failure::Failure, text::plain},
    secret::Secret,
};
use serde_json::{Value, json};
use std::io::Read as _;
use url::{Host, Url};

/// A program that gets less will have lost it before it arrives.
const LEFT_SECONDS_MIN: i64 = 30;
/// What programs write to our standard input.
const ASKED_BYTES_MAX: u64 = 64 * 1024;

/// The JWT, from the job's cache where that has one.
pub(super) async fn jwt(job: &JobArgs, command: &str) -> Result<(Secret, Kept), Failure> {
    let kept = wanted(job, command).kept(&Terminal::without_masks()).await?;
    let token = kept.content["jwt"].as_str().unwrap_or_default().to_owned();
    Ok((Secret::new(token), kept))
}

/// Forgets the cached JWT, if it is still this one.
pub(super) fn forget(job: &JobArgs, command: &str, refused: Option<&str>) -> Result<(), Failure> {
    wanted(job, command).drop_if(|content| refused.is_none_or(|refused| content["jwt"] == refused))
}

fn wanted<'a>(job: &'a JobArgs, command: &'a str) -> Wanted<'a> {
    let content = |credential: &Credential, _| match credential {
        Credential::Jwt(jwt) => Some(json!({ "jwt": jwt.reveal() })),
        Credential::Aws(_) => None,
    };
    let usable = &|content: &Value| content["jwt"].is_string();
    Wanted { job, accounts: &[], command, left_seconds_min: LEFT_SECONDS_MIN, content, usable }
}

/// What the program wrote to our standard input.
pub(super) fn asked() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().take(ASKED_BYTES_MAX).read_to_string(&mut text);
    read.map(|_| text).map_err(|error| Failure::usage("stdin", format!("standard input cannot be read: {error}")))
}

/// A host that may get the token, with its port if it has one, as programs name it.
pub(super) fn host(text: &str) -> Result<String, String> {
    let wrong = || format!("`{}` is no host: write `git.example.com` or `git.example.com:8443`", plain(text));
    let url = Url::parse(&format!("https://{text}/")).map_err(|_| wrong())?;
    let bare =
        url.path() == "/" && url.query().is_none() && url.fragment().is_none() && !text.contains(['@', '/', '?', '#']);
    // A port that is the scheme's own is not repeated by a URL, and may be written.
    if bare { Ok(text.to_ascii_lowercase()) } else { Err(wrong()) }
}

/// Whether a token may travel there: by TLS, or within this machine.
pub(super) fn safe(scheme: &str, host: &str) -> bool {
    let loopback = || {
        let url = Url::parse(&format!("http://{host}/")).ok();
        match url.as_ref().and_then(Url::host) {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    };
    scheme == "https" || (scheme == "http" && loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_to_hosts_that_are_named_and_safely() {
        assert_eq!(host("Git.example.com:8443").as_deref(), Ok("git.example.com:8443"));
        for wrong in ["https://git.example.com", "git.example.com/x", "user@git.example.com", "", "a b", "a?b"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
        for (scheme, host, fits) in [
            ("https", "git.example.com", true),
            ("http", "git.example.com", false),
            ("http", "127.0.0.1:8080", true),
            ("http", "localhost", true),
            ("http", "127.0.0.1.evil.example", false),
            ("ssh", "localhost", false),
        ] {
            assert_eq!(safe(scheme, host), fits, "{scheme} {host}");
        }
    }
}
