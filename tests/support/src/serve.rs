//! HTTP by hand, one request a connection: a framework would refuse to misbehave as a broken or hostile issuer does.

use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

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
    /// The right document under this status.
    StatusOver(u16),
    /// A redirect (302) to this URL.
    Redirect(String),
    /// Accepts, reads, and never answers.
    Hang,
    /// The right document, one byte a second.
    Drip,
    /// Half of the right document, then hangs up; the length was announced.
    Cut,
    /// The right document followed by this many blanks: valid JSON that is too long. Unannounced: without a length.
    Huge { blanks: usize, announced: bool },
    /// The same under `content-encoding: gzip`, whether or not the client takes it: a bomb where there are many
    /// blanks, since 160 of them are a byte.
    Gzip { blanks: usize },
}

/// A connection, plain or under TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// What a GET asks for, and as whom.
pub(crate) struct Get {
    /// Path and query.
    pub target: String,
    pub authorization: String,
}

/// One request, one answer; a client that goes away is no error of the issuer's.
pub(crate) async fn answer(mut stream: impl Stream, look_up: impl FnOnce(&Get) -> Option<(Value, Serve)>) {
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
        Serve::StatusOver(status) => write_answer(&mut stream, status, json, "", &right).await,
        Serve::Redirect(to) => write_answer(&mut stream, 302, "text/plain", &format!("location: {to}\r\n"), b"").await,
        Serve::Hang => std::future::pending().await,
        Serve::Drip => drip(&mut stream, &right).await,
        Serve::Cut => cut(&mut stream, &right).await,
        Serve::Huge { blanks, announced } => huge(&mut stream, &right, blanks, announced).await,
        Serve::Gzip { blanks } => {
            let packed = gzip(&right, blanks);
            write_answer(&mut stream, 200, json, "content-encoding: gzip\r\n", &packed).await
        }
    };
    drop(written);
}

/// The head of a GET; `None` for anything else.
async fn read_head(stream: &mut impl Stream) -> Option<Get> {
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
    stream: &mut impl Stream,
    status: u16,
    content_type: &str,
    more: &str,
    body: &[u8],
) -> std::io::Result<()> {
    stream.write_all(&head(status, content_type, more, Some(body.len()))).await?;
    stream.write_all(body).await?;
    stream.shutdown().await
}

async fn drip(stream: &mut impl Stream, body: &[u8]) -> std::io::Result<()> {
    stream.write_all(&head(200, "application/json", "", Some(body.len()))).await?;
    for byte in body {
        stream.write_all(&[*byte]).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stream.shutdown().await
}

async fn cut(stream: &mut impl Stream, body: &[u8]) -> std::io::Result<()> {
    stream.write_all(&head(200, "application/json", "", Some(body.len()))).await?;
    stream.write_all(&body[..body.len() / 2]).await?;
    stream.shutdown().await
}

async fn huge(stream: &mut impl Stream, body: &[u8], blanks: usize, announced: bool) -> std::io::Result<()> {
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

/// `body` and blanks after it as gzip (RFC 1952): one DEFLATE block of fixed codes (RFC 1951 section 3.2.6), in which
/// blanks are copies of the blank before them, 258 at a time.
fn gzip(body: &[u8], blanks: usize) -> Vec<u8> {
    const COPY: usize = 258;
    let mut bits = Bits::default();
    bits.number(0b011, 3); // the last block, fixed codes
    let copies = blanks.saturating_sub(1) / COPY;
    let single = blanks - copies * COPY;
    for byte in body.iter().copied().chain(std::iter::repeat_n(b' ', single)) {
        match byte {
            0..144 => bits.code(0x30 + u32::from(byte), 8),
            _ => bits.code(0x190 + u32::from(byte) - 144, 9),
        }
    }
    for _ in 0..copies {
        bits.code(0xc5, 8); // length 258
        bits.code(0, 5); // distance 1
    }
    bits.code(0, 7); // the end
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    packed.append(&mut bits.bytes);
    let blanks_whole = std::iter::repeat_n(b' ', blanks);
    packed.extend(crc32(body.iter().copied().chain(blanks_whole)).to_le_bytes());
    packed.extend(u32::try_from(body.len() + blanks).expect("less than 4 GiB").to_le_bytes());
    packed
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn bit(&mut self, bit: u32) {
        if self.used.is_multiple_of(8) {
            self.bytes.push(0);
        }
        *self.bytes.last_mut().expect("there is a byte") |= (bit as u8) << (self.used % 8);
        self.used += 1;
    }
    /// Least significant bit first.
    fn number(&mut self, number: u32, length: u32) {
        (0..length).for_each(|at| self.bit(number >> at & 1));
    }
    /// Most significant bit first.
    fn code(&mut self, code: u32, length: u32) {
        (0..length).rev().for_each(|at| self.bit(code >> at & 1));
    }
}

fn crc32(bytes: impl Iterator<Item = u8>) -> u32 {
    let table: [u32; 256] = std::array::from_fn(|byte| {
        (0..8).fold(byte as u32, |rest, _| if rest & 1 == 1 { 0xedb8_8320 ^ rest >> 1 } else { rest >> 1 })
    });
    !bytes.fold(!0, |rest, byte| table[(rest as u8 ^ byte) as usize] ^ rest >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    /// What the system's own `gzip` makes of it.
    fn unpacked(packed: &[u8]) -> Vec<u8> {
        let mut gzip =
            Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip starts");
        let (mut input, packed) = (gzip.stdin.take().unwrap(), packed.to_vec());
        let writer = std::thread::spawn(move || input.write_all(&packed));
        let output = gzip.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    #[test]
    fn a_packed_document_unpacks_and_a_bomb_is_small() {
        let body = "{\"ü\":1}".as_bytes();
        assert_eq!(unpacked(&gzip(body, 0)), body);
        let bomb = gzip(body, 1_000_000);
        assert!(bomb.len() < 7_000, "{}", bomb.len());
        let whole = unpacked(&bomb);
        assert_eq!(whole.len(), body.len() + 1_000_000);
        assert!(whole.starts_with(body) && whole.ends_with(b"  "));
    }
}
