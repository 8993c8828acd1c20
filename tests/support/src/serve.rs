//! HTTP by hand, one request a connection: a framework would refuse to misbehave as a broken or hostile issuer does.

use serde_json::Value;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A request's head beyond this ends the connection.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What a document's address answers.
#[derive(Clone, Debug, Default)]
pub enum Serve {
    /// The right document.
    #[default]
    Right,
    /// This document instead.
    Json(Value),
    /// These bytes instead, as JSON.
    Raw(Vec<u8>),
    /// The right document under this content type.
    ContentType(&'static str),
    /// An empty answer with this status.
    Status(u16),
    /// A redirect (302) to this URL.
    Redirect(String),
    /// Accepts, reads, and never answers.
    Hang,
    /// The right document, one byte a second.
    Drip,
    /// The right document followed by this many blanks: valid JSON that is too long. Unannounced: without a length.
    Huge { blanks: usize, announced: bool },
}

/// What a GET asks for, and as whom.
pub(crate) struct Get {
    /// Path and query.
    pub target: String,
    pub authorization: String,
}

/// One request, one answer; a client that goes away is no error of the issuer's.
pub(crate) async fn answer(mut stream: TcpStream, look_up: impl FnOnce(&Get) -> Option<(Value, Serve)>) {
    let Some(get) = read_head(&mut stream).await else { return };
    let Some((document, serve)) = look_up(&get) else {
        let _ = write_answer(&mut stream, 404, "text/plain", "", b"").await;
        return;
    };
    let right = document.to_string().into_bytes();
    let json = "application/json";
    let written = match serve {
        Serve::Right => write_answer(&mut stream, 200, json, "", &right).await,
        Serve::Json(other) => write_answer(&mut stream, 200, json, "", other.to_string().as_bytes()).await,
        Serve::Raw(bytes) => write_answer(&mut stream, 200, json, "", &bytes).await,
        Serve::ContentType(kind) => write_answer(&mut stream, 200, kind, "", &right).await,
        Serve::Status(status) => write_answer(&mut stream, status, json, "", b"").await,
        Serve::Redirect(to) => write_answer(&mut stream, 302, "text/plain", &format!("location: {to}\r\n"), b"").await,
        Serve::Hang => std::future::pending().await,
        Serve::Drip => drip(&mut stream, &right).await,
        Serve::Huge { blanks, announced } => huge(&mut stream, &right, blanks, announced).await,
    };
    drop(written);
}

/// The head of a GET; `None` for anything else.
async fn read_head(stream: &mut TcpStream) -> Option<Get> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let head = String::from_utf8(head).ok()?;
    let target = head.strip_prefix("GET ")?.split(' ').next()?.to_owned();
    let headers = head.lines().filter_map(|line| line.split_once(':'));
    let mut authorization = headers.filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    let authorization = authorization.next().map_or(String::new(), |(_, value)| value.trim().to_owned());
    Some(Get { target, authorization })
}

async fn write_answer(
    stream: &mut TcpStream,
    status: u16,
    content_type: &str,
    more: &str,
    body: &[u8],
) -> std::io::Result<()> {
    stream.write_all(&head(status, content_type, more, Some(body.len()))).await?;
    stream.write_all(body).await?;
    stream.shutdown().await
}

async fn drip(stream: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
    stream.write_all(&head(200, "application/json", "", Some(body.len()))).await?;
    for byte in body {
        stream.write_all(&[*byte]).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stream.shutdown().await
}

async fn huge(stream: &mut TcpStream, body: &[u8], blanks: usize, announced: bool) -> std::io::Result<()> {
    let length = announced.then_some(body.len() + blanks);
    stream.write_all(&head(200, "application/json", "", length)).await?;
    stream.write_all(body).await?;
    let block = vec![b' '; 64 * 1024];
    let mut left = blanks;
    while left > 0 {
        let part = left.min(block.len());
        stream.write_all(&block[..part]).await?;
        left -= part;
    }
    stream.shutdown().await
}

fn head(status: u16, content_type: &str, more: &str, length: Option<usize>) -> Vec<u8> {
    let length = length.map_or(String::new(), |length| format!("content-length: {length}\r\n"));
    format!("HTTP/1.1 {status} -\r\ncontent-type: {content_type}\r\n{length}{more}connection: close\r\n\r\n")
        .into_bytes()
}
