//! A role that a person answers for: what the job shows while it waits, and how it goes on. Whoever reads the log can open the
//! link and compare the words; only this job can redeem.

use super::{
    Job, Log,
    answer::{Granted, Pending},
    broker::State,
    failure::{Failure, Kind},
    retry::{Pace, persist},
};
use crate::secret::Secret;
use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

/// RFC 8628, section 3.5: what is added to the interval each time that the broker says `slow_down`.
const SLOWER: Duration = Duration::from_secs(5);
/// How often the log says that the job still waits.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What a job does where a person has to answer for it first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnPending {
    /// Waits for them.
    #[default]
    Wait,
    /// Ends; another run asks anew.
    Stop,
}

/// Shows what a person needs; then waits for them, or ends here.
pub(super) async fn wait(job: &Job, pending: &Pending, log: &dyn Log, pace: &dyn Pace) -> Result<Granted, Failure> {
    let ends = pace.now() + pending.expires_in;
    log.say("This role needs somebody who answers for it. Ask an approver to open this link and to claim it:");
    log.say(&format!("  link:  {}", pending.claim_uri));
    log.say(&format!("  code:  {}   (they type it)", pending.match_code));
    log.say(&format!("  words: {}   (the page shows the same, or it is not this job's)", pending.words));
    log.say(&format!("It can be claimed for {} min", minutes(pending.expires_in)));
    if job.on_pending == OnPending::Stop {
        let role = job.ask.role.as_ref().map_or_else(|| "The role".to_owned(), |role| format!("`{role}`"));
        let text = format!(
            "{role} is given once somebody has claimed it: {}, code {}. If one claim stands for all that follow (`when = \
             \"first_use\"`), run this again then. If each job is claimed (`when = \"every\"`), only a command that waits can \
             be given it: `claimbound login`, `exec` or `agent` with `--on-pending wait`",
            pending.claim_uri, pending.match_code
        );
        return Err(Failure::new(Kind::Pending, "ceremony_needed", text).decided(&pending.decision_id));
    }
    set(job, Some(Secret::new(pending.auth_req_id.reveal().to_owned())));
    let granted = waited(job, pending, ends, log, pace).await;
    // What ended is not withdrawn; what the broker could not be asked about is.
    if !matches!(&granted, Err(failure) if failure.kind == Kind::Unavailable) {
        set(job, None);
    }
    granted
}

async fn waited(
    job: &Job,
    pending: &Pending,
    ends: Instant,
    log: &dyn Log,
    pace: &dyn Pace,
) -> Result<Granted, Failure> {
    let (http, request) = (&job.http, &pending.auth_req_id);
    let mask = |secret: &str| log.mask(secret);
    let mut interval = pending.interval;
    let mut said = pace.now();
    while pace.now() < ends {
        pace.sleep(interval).await;
        let until = pace.now() + job.timeout;
        match persist(pace, until, async |left| job.broker.poll(http, &job.ask, request, left).await).await? {
            State::SlowDown => interval += SLOWER,
            State::Waiting => {}
            State::Ready => {
                log.say("It is claimed");
                let redeemed = persist(pace, until, async |left| {
                    let token = job.token(log, left).await?;
                    job.broker.redeem(http, &job.ask, request, &token, &mask, left).await
                });
                if let Some(granted) = redeemed.await? {
                    return Ok(granted);
                }
            }
        }
        if pace.now().saturating_duration_since(said) >= SAY_EVERY {
            said = pace.now();
            let left = minutes(ends.saturating_duration_since(said));
            log.say(&format!("Nobody has claimed it yet; {left} min left: {}", pending.claim_uri));
        }
    }
    let text = format!("Nobody claimed it in time: {}. Run this again to ask anew", pending.claim_uri);
    Err(Failure::new(Kind::Pending, "expired_token", text).decided(&pending.decision_id))
}

fn set(job: &Job, waiting: Option<Secret>) {
    *job.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
}

fn minutes(time: Duration) -> u64 {
    time.as_secs().div_ceil(60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{
        answer,
        broker::{Ask, Broker},
        http::Http,
        retry::tests::StillPace,
        source::Source,
    };
    use serde_json::{Value, json};
    use std::sync::{Arc, Mutex};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    /// A broker that answers `POST` as its script says, one answer after the other, and remembers what it was sent.
    async fn scripted(script: Vec<(u16, Value)>) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let facts = json!({ "audience": url, "issuer": url, "token_endpoint": format!("{url}/token") });
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, own) = (asked.clone(), url.clone());
        tokio::spawn(async move {
            let mut script = script.into_iter();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = String::new();
                let mut buffer = [0; 8192];
                loop {
                    let read = stream.read(&mut buffer).await.unwrap();
                    text.push_str(&String::from_utf8_lossy(&buffer[..read]));
                    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
                    let length = head
                        .lines()
                        .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                    if read == 0 || (text.contains("\r\n\r\n") && body.len() >= length.unwrap_or(0)) {
                        break;
                    }
                }
                let (status, mut answer) = match text.starts_with("GET ") {
                    true => (200, facts.clone()),
                    false => {
                        seen.lock().unwrap().push(text.split_once("\r\n\r\n").unwrap().1.to_owned());
                        script.next().unwrap_or((500, Value::Null))
                    }
                };
                if let Some(uri) = answer.get_mut("claim_uri") {
                    *uri = json!(format!("{own}/claim/1"));
                }
                let body = answer.to_string();
                let head =
                    format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            }
        });
        (url, asked)
    }

    struct Kept(Mutex<Vec<String>>);
    impl Log for Kept {
        fn say(&self, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }
        fn mask(&self, secret: &str) {
            self.say(&format!("mask {secret}"));
        }
    }

    fn pending() -> (u16, Value) {
        let body = json!({
            "error": "authorization_pending", "auth_req_id": "cba_request-of-this-job", "claim_uri": "", "match_code": "AB-12",
            "match_words": "amber tide", "interval": 5, "expires_in": 600, "decision_id": "0192-p",
        });
        (400, body)
    }

    fn state(error: &str, ready: bool) -> (u16, Value) {
        (400, json!({ "error": error, "ready": ready }))
    }

    async fn run(
        script: Vec<(u16, Value)>,
        on_pending: OnPending,
    ) -> (Result<Granted, Failure>, Vec<String>, Vec<String>, Vec<Duration>, Job) {
        let (url, asked) = scripted(script).await;
        let job = Job {
            http: Http::new(None).unwrap(),
            broker: Broker { url: url.clone(), audience: url },
            ask: Ask { role: Some("payments-deploy".to_owned()), duration: None },
            source: Source::Given { token: Secret::new("aaaaaaaa.bbbbbbbb.cccccccc".to_owned()), name: "T".to_owned() },
            actor_token_file: None,
            on_pending,
            timeout: Duration::from_secs(60),
            waiting: Mutex::default(),
        };
        let (log, pace) = (Kept(Mutex::default()), StillPace::still());
        let granted = job.credential(&log, &pace).await;
        let forms = asked.lock().unwrap().clone();
        (granted, log.0.into_inner().unwrap(), forms, pace.slept(), job)
    }

    #[tokio::test]
    async fn a_person_is_waited_for_and_a_fresh_request_redeems() {
        let script = vec![
            pending(),
            state("authorization_pending", false),
            state("slow_down", false),
            (503, json!({ "reason": "overloaded" })),
            state("authorization_pending", true),
            (200, answer::tests::aws()),
        ];
        let (granted, said, forms, slept, job) = run(script, OnPending::Wait).await;
        assert_eq!(granted.unwrap().lease_id, "0192-l");
        assert!(
            said.iter().any(|line| line.contains("code:  AB-12"))
                && said.iter().any(|line| line.contains("words: amber tide"))
        );
        let masked = |secret: &str| said.iter().position(|line| *line == format!("mask {secret}")).unwrap();
        assert!(masked("cba_request-of-this-job") < said.iter().position(|line| line.contains("link:")).unwrap());
        assert!(masked("cccccccc") < masked("se/cr+et=secret"));
        let seconds: Vec<u64> = slept.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [5, 5, 10, 0], "slower when told, and patient with a broker that is away");
        assert!(
            forms[1].contains("ciba") && !forms[1].contains("subject_token"),
            "a poll spends nothing: {}",
            forms[1]
        );
        assert!(forms[5].contains("subject_token=aaaaaaaa"), "{}", forms[5]);
        assert!(job.waiting.lock().unwrap().is_none());
    }

    #[tokio::test]
    async fn a_no_and_a_stop_end_with_their_own_code() {
        let (granted, _, forms, ..) = run(vec![pending(), state("access_denied", false)], OnPending::Wait).await;
        assert_eq!((granted.unwrap_err().kind, forms.len()), (Kind::Pending, 2));
        let (granted, said, forms, ..) = run(vec![pending()], OnPending::Stop).await;
        let failure = granted.unwrap_err();
        assert_eq!((failure.kind, failure.reason.as_str(), forms.len()), (Kind::Pending, "ceremony_needed", 1));
        assert!(said.iter().any(|line| line.contains("link:")));
        assert!(failure.text.contains("`when = \"every\"`), only a command that waits"), "{failure}");
        let script = [vec![pending()], vec![state("authorization_pending", false); 130]].concat();
        let (granted, said, ..) = run(script, OnPending::Wait).await;
        assert_eq!(granted.unwrap_err().reason, "expired_token");
        assert!(said.iter().filter(|line| line.starts_with("Nobody has claimed it yet")).count() >= 8, "{said:?}");
    }

    #[tokio::test]
    async fn what_waits_is_withdrawn_when_the_job_is_cancelled() {
        let script = vec![pending(), (200, Value::Null)];
        let (url, asked) = scripted(script).await;
        let (http, source) = (Http::new(None).unwrap(), Source::File("/nowhere".into()));
        let job = Job {
            http,
            broker: Broker { url: url.clone(), audience: url },
            ask: Ask::default(),
            source,
            actor_token_file: None,
            on_pending: OnPending::Wait,
            timeout: Duration::from_secs(60),
            waiting: Mutex::new(Some(Secret::new("cba_request".to_owned()))),
        };
        // The script's first answer is no 200, so the first try fails; the request is not asked for twice.
        assert!(job.withdraw().await.is_err());
        assert!(job.withdraw().await.is_ok());
        assert_eq!(*asked.lock().unwrap(), ["token=cba_request"]);
    }
}
