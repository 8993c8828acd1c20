use super::*;
use claimbound_core::time::UnixSeconds;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const NOW: UnixSeconds = UnixSeconds(1_795_000_000);

struct Still;
impl Clock for Still {
    fn now(&self) -> UnixSeconds {
        NOW
    }
}

fn notice(event: Event) -> Notice {
    Notice {
        event,
        ceremony: "0192aabb".into(),
        claim_uri: "https://cb.example/claim/0192aabb".into(),
        role: "deploy.production".into(),
        mapping: "payments-production".into(),
        team: "payments".into(),
        issuer: "github".into(),
        repository: "acme/payments-api".into(),
        repository_id: "740000001".into(),
        expires: UnixSeconds(NOW.0 + 600),
    }
}

fn secret(directory: &std::path::Path, text: &str) -> Place {
    let file = directory.join("secret");
    std::fs::write(&file, text).unwrap();
    Place::File(file)
}

fn settings(url: Url, format: Format, secret: Option<Place>) -> Settings {
    Settings {
        name: "approvers".into(),
        url,
        format,
        secret,
        teams: vec!["payments".into()],
        events: Event::ALL.to_vec(),
        ca_file: None,
        allow_private_network: true,
    }
}

/// Answers each request with the next status; gives head and body of all.
async fn receiver(statuses: &'static [u16]) -> (String, JoinHandle<Vec<(String, String)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let mut got = Vec::new();
        for status in statuses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = String::new();
            let mut buffer = [0; 4096];
            let (head, body) = loop {
                let read = stream.read(&mut buffer).await.unwrap();
                text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head
                    .lines()
                    .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
                if body.len() == length.unwrap().parse::<usize>().unwrap() {
                    break (head.to_owned(), body.to_owned());
                }
            };
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            got.push((head, body));
        }
        got
    });
    (url, task)
}

fn start(settings: Settings) -> Webhooks {
    let clock: Arc<dyn Clock> = Arc::new(Still);
    let pauses = [Duration::from_millis(1); PAUSES.len()];
    let series = WebhookSeries::default();
    Webhooks::with(&[settings], "https://cb.example", &Client::new().unwrap(), (&clock, &series), pauses)
}

/// The example of the Standard Webhooks specification.
#[test]
fn a_signature_is_that_of_the_specification() {
    let directory = tempfile::tempdir().unwrap();
    let place = secret(directory.path(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    let body = r#"{"test": 2432232314}"#;
    let signed = signature(&key(&place).unwrap(), "msg_p5jXN8AQM9LWM0D4loKWxJek", UnixSeconds(1_614_265_330), body);
    assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    for wrong in ["whsec_", "whsec_c2hvcnQ=", "not base64!"] {
        assert!(key(&secret(directory.path(), wrong)).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_message_is_signed_tried_again_and_the_same_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let place = secret(directory.path(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let (url, got) = receiver(&[500, 429, 204]).await;
    let webhooks = start(settings(Url::Open(url), Format::Standard, Some(place.clone())));
    webhooks.send(Notice { team: "others".into(), ..notice(Event::Opened) });
    webhooks.send(notice(Event::Opened));
    let got = got.await.unwrap();
    for (head, body) in &got {
        let header =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap().to_owned();
        assert_eq!(header("webhook-id"), "0192aabb-opened");
        assert_eq!(header("webhook-timestamp"), NOW.0.to_string());
        let expected = signature(&key(&place).unwrap(), "0192aabb-opened", NOW, body);
        assert_eq!(header("webhook-signature"), expected);
    }
    let body: Value = serde_json::from_str(&got[2].1).unwrap();
    assert_eq!((&body["type"], &body["data"]["role"]), (&"ceremony.opened".into(), &"deploy.production".into()));
    assert_eq!(body["timestamp"], "2026-11-18T11:06:40Z");
    webhooks.stop().await;
}

#[tokio::test]
async fn what_nobody_takes_is_dropped_and_the_next_is_told() {
    let (url, got) = receiver(&[500, 500, 500, 500, 500, 200]).await;
    let directory = tempfile::tempdir().unwrap();
    // Chat tools' addresses are secrets: read from their place.
    let url = Url::Kept(secret(directory.path(), &format!("{url}\n")));
    let webhooks = start(settings(url, Format::Slack, None));
    webhooks.send(notice(Event::Opened));
    webhooks.send(notice(Event::Rejected));
    let got = got.await.unwrap();
    assert!(got[..5].iter().all(|(_, body)| body.contains("Somebody must answer")), "{got:?}");
    assert!(got[5].1.contains("Rejected"), "{got:?}");
    assert!(!got[5].0.contains("webhook-signature"), "{got:?}");
    webhooks.stop().await;
}

#[test]
fn a_chat_message_holds_no_markup_of_a_job_s_making() {
    let mut told = notice(Event::Opened);
    told.repository = "acme/<!channel>@everyone [x](https://evil.example)\u{202e}\u{430}".into();
    told.repository_id = "x".repeat(500);
    for format in Format::ALL.into_iter().filter(|format| *format != Format::Standard) {
        let text = format.write(&told, NOW);
        for markup in ["<!channel>", "@everyone", "](", "\u{202e}", "\u{430}"] {
            assert!(!text.contains(markup), "{}: {markup} in {text}", format.name());
        }
        assert!(text.contains("U+202E") && text.contains("U+0430") && text.contains('…'), "{text}");
        assert!(text.contains("https://cb.example/claim/0192aabb"), "{text}");
    }
}

/// Who opens and withdraws requests again and again fills no chat; other repositories are told of all the same.
#[tokio::test]
async fn a_repository_that_asks_without_end_is_told_of_no_more() {
    let (url, told) = receiver(&[200; 33]).await;
    let webhooks = start(settings(Url::Open(url), Format::Slack, None));
    for _ in 0..40 {
        webhooks.send(notice(Event::Opened));
    }
    webhooks.send(Notice { repository_id: "740000002".into(), ..notice(Event::Opened) });
    let told = told.await.unwrap();
    let of = |id: &str| told.iter().filter(|(_, body)| body.contains(&format!("(id {id})"))).count();
    assert_eq!((of("740000001"), of("740000002")), (32, 1));
    webhooks.stop().await;
}
