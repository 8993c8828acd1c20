//! A job's side of an exchange, for every CI system: the same binary that serves is the client of others.
//!
//! The order is what makes it safe. Everything that can fail without a token fails first; the broker is compared with what
//! the caller expects before a token for it exists; what comes is masked, then written down so that it can be ended, and only
//! then delivered. The GitHub action does the same in the same words.
//!
//! It never meets the broker's rooms: what it knows of one is its HTTP interface.

pub mod answer;
pub mod broker;
mod ceremony;
pub mod deliver;
pub mod failure;
pub mod http;
pub mod keep;
mod refusal;
pub mod retry;
pub mod source;
pub mod text;

use crate::secret::Secret;
use answer::{Granted, parts};
use broker::{Answered, Ask, Broker};
pub use ceremony::OnPending;
use failure::{Failure, Kind};
use http::Http;
use retry::{Pace, persist};
use source::Source;
use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// A refresh token whose answer was lost may come once more within 30 s of its turn, and ends all leases after: a try that
/// gets no answer is given up while there is time for another.
const RENEWAL_ATTEMPT_MAX: Duration = Duration::from_secs(10);

/// Where a command tells what it does, and a runner what it must hide.
pub trait Log: Sync {
    fn say(&self, line: &str);
    /// Must be called before anything could print the secret.
    fn mask(&self, secret: &str);
}

/// One job that wants one role.
pub struct Job {
    pub http: Http,
    pub broker: Broker,
    pub ask: Ask,
    pub source: Source,
    /// Of who acts on the job's behalf; read anew each time.
    pub actor_token_file: Option<PathBuf>,
    pub on_pending: OnPending,
    /// For all tries together, without the time that people take.
    pub timeout: Duration,
    /// What a person is asked for, as long as nobody has answered.
    pub waiting: Mutex<Option<Secret>>,
}

impl Job {
    /// Compares, exchanges, and waits for a person where one is needed.
    ///
    /// # Errors
    /// No credential.
    pub async fn credential(&self, log: &dyn Log, pace: &dyn Pace) -> Result<Granted, Failure> {
        let deadline = pace.now() + self.timeout;
        persist(pace, deadline, async |left| self.broker.compare(&self.http, left).await).await?;
        let answered = persist(pace, deadline, async |left| {
            let began = pace.now();
            let token = self.token(log, left).await?;
            let actor = self.actor_token_file.as_deref().map(source::from_file).transpose()?;
            let left = left.saturating_sub(pace.now().saturating_duration_since(began)).max(Duration::from_millis(1));
            let mask = |secret: &str| log.mask(secret);
            let asked = self.broker.exchange(&self.http, &self.ask, &token, actor.as_ref(), &mask, left).await;
            asked.map_err(|failure| self.explained(failure, &token))
        });
        match answered.await? {
            Answered::Granted(granted) => Ok(*granted),
            Answered::Pending(pending) => ceremony::wait(self, &pending, log, pace).await,
        }
    }

    /// The next credential: by the refresh token where the broker gave one, else by a token that no exchange has seen.
    ///
    /// # Errors
    /// No credential.
    pub async fn next(&self, refresh: Option<&Secret>, log: &dyn Log, pace: &dyn Pace) -> Result<Granted, Failure> {
        let Some(refresh) = refresh else { return self.credential(log, pace).await };
        let deadline = pace.now() + self.timeout;
        persist(pace, deadline, async |left| self.broker.compare(&self.http, left).await).await?;
        let mask = |secret: &str| log.mask(secret);
        let answered = persist(pace, deadline, async |left| {
            let left = left.min(RENEWAL_ATTEMPT_MAX);
            let token = self.token(log, left).await?;
            self.broker.renew(&self.http, &self.ask, refresh, &token, &mask, left).await
        });
        match answered.await? {
            Answered::Granted(granted) => Ok(*granted),
            Answered::Pending(pending) => ceremony::wait(self, &pending, log, pace).await,
        }
    }

    /// Takes back what still waits for a person: the job is cancelled, and nobody needs to answer for it any more.
    pub async fn withdraw(&self) -> Result<(), Failure> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        match waiting {
            Some(request) => broker::revoke(&self.http, &self.broker.url, &request).await,
            None => Ok(()),
        }
    }

    async fn token(&self, log: &dyn Log, timeout: Duration) -> Result<Secret, Failure> {
        let token = self.source.token(&self.http, &self.broker.audience, timeout).await?;
        parts(token.reveal()).iter().for_each(|part| log.mask(part));
        Ok(token)
    }

    /// A broker tells strangers nothing, but the job can look at its own token.
    fn explained(&self, failure: Failure, token: &Secret) -> Failure {
        let audiences = source::audiences(&source::claims(token));
        if failure.kind != Kind::Refused || audiences.is_empty() || audiences.contains(&self.broker.audience) {
            return failure;
        }
        let text = format!(
            "{}\nThe job's token is for `{}`, and this broker is `{}`: where the CI system lets you choose, ask for a token \
             with exactly that audience",
            failure.text,
            audiences.join("`, `"),
            self.broker.audience
        );
        Failure { text, ..failure }
    }
}
