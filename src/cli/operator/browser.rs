//! The end of a sign-in in a browser: a listener on loopback that takes one answer (RFC 8252 section 7.3).

use crate::secret::Secret;
use anyhow::{Context as _, Result, bail};
use std::{
    io::{BufRead as _, BufReader, ErrorKind, IsTerminal as _, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use url::Url;

/// A browser's request: beyond this it is none.
const REQUEST_BYTES_MAX: u64 = 16 * 1024;
/// A browser that connects sends its request within this.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);

/// What came back.
pub struct Came {
    pub code: Secret,
    pub state: String,
    pub issuer: Option<String>,
}

/// Listens on loopback; port 0 is any.
pub fn listen(port: u16) -> Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = listener.with_context(|| format!("cannot listen on 127.0.0.1:{port}; name another `--port`"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Shows the address, and opens it where somebody sits.
pub fn show(url: &str, open: bool) {
    eprintln!("sign in with a browser on this machine:\n{url}");
    if open && std::io::stderr().is_terminal() {
        // Whether it worked a person sees; the address stands there anyway.
        let _ =
            Command::new("xdg-open").arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    }
}

/// Waits for the browser to come back with an answer to this very sign-in.
///
/// # Errors
/// It did not in time, or the provider said no.
pub fn wait(listener: &TcpListener, state: &str, seconds: u64) -> Result<Came> {
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        if Instant::now() >= until {
            bail!("nobody signed in within {seconds} s; begin again");
        }
        match listener.accept() {
            // What is no answer to us ends nothing.
            Ok((stream, _)) => {
                if let Some(ended) = answered(stream, state) {
                    return ended;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(LOOK),
            Err(error) => return Err(error.into()),
        }
    }
}

/// `None`: it was something else.
fn answered(mut stream: TcpStream, state: &str) -> Option<Result<Came>> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(REQUEST_WAIT_MAX)).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?.take(REQUEST_BYTES_MAX));
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut header = String::new();
    while reader.read_line(&mut header).is_ok_and(|bytes| bytes > 2) {
        header.clear();
    }
    let came = read(&line, state);
    let (status, text) = match &came {
        Some(Ok(_)) => ("200 OK", "You are signed in; the command line goes on. This page can be closed."),
        Some(Err(_)) => ("200 OK", "You are not signed in; the command line says why. This page can be closed."),
        None => ("404 Not Found", "There is nothing here."),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         referrer-policy: no-referrer\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    // A browser that is gone has brought its answer all the same.
    let _ = stream.write_all(answer.as_bytes());
    came
}

/// The first line of a request.
fn read(line: &str, state: &str) -> Option<Result<Came>> {
    let path = line.strip_prefix("GET ")?.split(' ').next()?;
    let url = Url::parse("http://127.0.0.1").ok()?.join(path).ok()?;
    if url.path() != "/callback" || url.host_str() != Some("127.0.0.1") {
        return None;
    }
    let one = |name: &str| {
        let mut all = url.query_pairs().filter(|(other, _)| other == name);
        all.next().map(|(_, value)| value.into_owned()).filter(|_| all.next().is_none())
    };
    // Whoever does not know the state is not the provider.
    if one("state").as_deref() != Some(state) {
        return None;
    }
    if let Some(error) = one("error") {
        let about = one("error_description").map(|about| format!(": {about}")).unwrap_or_default();
        return Some(Err(anyhow::anyhow!("the provider refused, `{error}`{about}")));
    }
    let code = Secret::new(one("code")?);
    Some(Ok(Came { code, state: state.to_owned(), issuer: one("iss") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_this_sign_in_ends_the_waiting() {
        let read = |path: &str| read(&format!("GET {path} HTTP/1.1\r\n"), "st");
        let came = read("/callback?code=a%2Bb&state=st&iss=https%3A%2F%2Fidp.example").unwrap().unwrap();
        assert_eq!((came.code.reveal(), came.issuer.as_deref()), ("a+b", Some("https://idp.example")));
        for other in [
            "/favicon.ico",
            "/callback",
            "/callback?code=a",
            "/callback?code=a&state=other",
            "/callback?code=a&state=st&state=st",
            "/callback?code=a&code=b&state=st",
            "/callback?state=st",
            "//evil.example/callback?code=a&state=st",
            "/other?code=a&state=st",
        ] {
            assert!(read(other).is_none(), "{other}");
        }
        let refused = read("/callback?error=access_denied&error_description=No&state=st").unwrap().err().unwrap();
        assert_eq!(refused.to_string(), "the provider refused, `access_denied`: No");
    }
}
