//! Real sockets: what only a connection can show.

use super::*;
use crate::{
    config::Tls,
    http::routes::tests::{EXCHANGE, Fake, config},
};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

struct Running {
    bound: Bound,
    fake: Arc<Fake>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

fn start(config: Config) -> Running {
    let listeners = bind(&config).unwrap();
    let (bound, fake) = (listeners.bound(), Arc::<Fake>::default());
    let shared = Shared::new(Box::new(fake.clone()), config);
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(listeners.answer(shared, async {
        let _ = stopped.await;
    }));
    Running { bound, fake, stop, task }
}

impl Running {
    /// Sends bytes and reads until the server closes.
    async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.bound.listen).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut said = Vec::new();
        // A reset after the answer is a close, too.
        let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut said)).await;
        assert!(closed.is_ok(), "not closed after {}", String::from_utf8_lossy(&said));
        String::from_utf8_lossy(&said).into_owned()
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

fn head(more: &str) -> String {
    format!("POST /token HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n{more}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_over_a_socket_and_an_orderly_stop() {
    let mut config = config();
    config.operator_listen = Some("127.0.0.1:0".parse().unwrap());
    let running = start(config);
    assert_ne!(running.bound.listen.port(), 0);
    let body = format!("{EXCHANGE}good");
    let head = head(&format!("connection: close\r\ncontent-length: {}\r\n", body.len()));
    let said = running.say(format!("{head}{body}").as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.contains("\"access_token\":\"h.p.s\""), "{said}");
    assert!(said.to_lowercase().contains("x-content-type-options: nosniff"), "{said}");

    let operator = running.bound.operator.unwrap();
    let metrics = reqwest::Client::builder().no_proxy().build().unwrap().get(format!("http://{operator}/metrics"));
    assert_eq!(metrics.send().await.unwrap().text().await.unwrap(), "# EOF\n");
    let listen = running.bound.listen;
    running.end().await;
    assert!(TcpStream::connect(listen).await.is_err() && TcpStream::connect(operator).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_an_end_is_cut_by_size_and_by_time() {
    let mut config = config();
    config.limits.request_seconds = 1;
    let running = start(config);
    let chunk = format!("10000\r\n{}\r\n", "a".repeat(0x10000));
    // Each waits for a close, so all at once.
    let cases = [
        (format!("{}{chunk}{chunk}", head("transfer-encoding: chunked\r\n")), "413"),
        (head("content-length: 65537\r\n"), "413"),
        (format!("{}grant", head("content-length: 100\r\n")), "408"),
        (format!("{}1\r\na\r\n", head("transfer-encoding: chunked\r\n")), "408"),
        ("POST /token HTTP/1.1\r\nhost:".to_owned(), "408"),
        ("POST /nowhere HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n".to_owned(), "404"),
        ("GET /jwks HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n".to_owned(), "200"),
    ];
    let said = cases.iter().map(|(request, status)| {
        let running = &running;
        async move {
            let said = running.say(request.as_bytes()).await;
            assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {said}");
        }
    });
    futures_util::future::join_all(said).await;
    assert!(running.fake.asked.lock().unwrap().is_empty());
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn this_host_may_ask_again_over_its_connection() {
    let running = start(config());
    let body = format!("{EXCHANGE}bad");
    let one = format!("{}{body}", head(&format!("content-length: {}\r\n", body.len())));
    let chunked = format!("{}{:x}\r\n{body}\r\n0\r\n\r\n", head("transfer-encoding: chunked\r\n"), body.len());
    let mut stream = TcpStream::connect(running.bound.listen).await.unwrap();
    for request in [&one, &chunked, &one] {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"}") {
            assert_ne!(stream.read_buf(&mut said).await.unwrap(), 0, "closed after {}", String::from_utf8_lossy(&said));
        }
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("token_not_accepted") && !said.contains("connection: close"), "{said}");
    }
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_bounded() {
    let running = start(config());
    for bytes in [17, 200] {
        let long = "a".repeat(bytes * 1024);
        let said = running.say(head(&format!("x-long: {long}\r\ncontent-length: 0\r\n")).as_bytes()).await;
        assert!(said.starts_with("HTTP/1.1 431"), "{bytes} KiB: {said}");
    }
    let many: String = (0..200).map(|at| format!("x-{at}: 1\r\n")).collect();
    let said = running.say(head(&many).as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 431"), "{said}");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_when_configured() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let tls = Tls { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
    std::fs::write(&tls.certificate, made.cert.pem()).unwrap();
    std::fs::write(&tls.key, made.signing_key.serialize_pem()).unwrap();
    let mut config = config();
    config.tls = Some(tls);
    let running = start(config);
    let root = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
    let url = format!("https://localhost:{}/jwks", running.bound.listen.port());
    let answer = client.get(url).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_11));
    let plain = running.say(b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(!plain.contains("200"), "{plain}");
    running.end().await;
}

#[test]
fn what_cannot_be_bound_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config();
    config.listen = taken.local_addr().unwrap();
    let error = bind(&config).err().unwrap().to_string();
    assert!(error.contains(&config.listen.to_string()) && error.contains("give another port"), "{error}");
    config.tls = Some(Tls { certificate: "nowhere.crt".into(), key: "nowhere.key".into() });
    assert!(bind(&config).err().unwrap().to_string().contains("nowhere.crt"));
}

#[test]
fn connections_leave_files_to_the_rest() {
    for (configured, files_max, possible) in [
        (10_000, None, 10_000),
        (10_000, Some(524_288), 10_000),
        (10_000, Some(1024), 768),
        (100, Some(1024), 100),
        (10_000, Some(64), 32),
    ] {
        assert_eq!(connections(configured, files_max), possible, "{configured} {files_max:?}");
    }
    assert!(!cfg!(target_os = "linux") || open_files_max().is_some());
}
