//! A host on loopback: gives what it was told to give, and keeps what it was sent.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What was sent.
#[derive(Clone)]
pub struct Posted {
    pub path: String,
    /// Request line and headers.
    pub head: String,
    pub body: Vec<u8>,
}

#[derive(Clone, Default)]
pub struct Host {
    url: String,
    documents: Arc<Mutex<BTreeMap<String, String>>>,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Host {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = Self { url: format!("http://{}", listener.local_addr().unwrap()), ..Self::default() };
        let serving = host.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().answer(stream));
            }
        });
        host
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// What stands at a path from now on.
    pub fn publish(&self, path: &str, document: &str) {
        self.documents.lock().unwrap().insert(path.to_owned(), document.to_owned());
    }

    /// What was sent to a path, oldest first.
    pub fn posted(&self, path: &str) -> Vec<Posted> {
        self.posted.lock().unwrap().iter().filter(|posted| posted.path == path).cloned().collect()
    }

    async fn answer(self, mut stream: TcpStream) {
        let mut read = Vec::new();
        let end = loop {
            if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8(read[..end].to_vec()).unwrap();
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let mut lengths = head
            .lines()
            .filter_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        let length: usize = lengths.next().map_or(0, |length| length.parse().unwrap());
        while read.len() < end + length {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let (status, document) = if method == "POST" {
            let body = read[end..].to_vec();
            self.posted.lock().unwrap().push(Posted { path, head, body });
            (200, String::new())
        } else {
            match self.documents.lock().unwrap().get(&path) {
                Some(document) => (200, document.clone()),
                None => (404, String::new()),
            }
        };
        let answer =
            format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{document}", document.len());
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}
