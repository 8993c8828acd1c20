//! Who is an operator: people by a session that the broker gave them, jobs by a token that is good for one request.

use super::{Active, Broker};
use crate::{
    config::{Config, SignIn, Strength, Who as Rule},
    exchange::{self, OperatorJob, Refusal, operator_job},
    operators::{May, Operator},
    people::{Begun, BegunDevice, Person, Polled, Redirect, Returned, SignInError},
    secret::Secret,
    store::{Blocked, Change, Commit, Down, Guard, Outcome, Reader, Session},
};
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use claimbound_core::{
    evidence::{Details, Party, Record, What},
    reason::Reason,
    time::UnixSeconds,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};
use tokio::sync::{Semaphore, oneshot};

/// How long a person stays signed in.
pub const SESSION_SECONDS: i64 = 900;
/// Questions to the whole evidence that run at once.
const LONG_QUESTIONS_MAX: usize = 2;
/// Questions to a bounded part of it that run at once.
const SHORT_QUESTIONS_MAX: usize = 8;
/// So that people and scanners see what it is.
const PREFIX: &str = "cbs_";
const RANDOM_BYTES: usize = 32;
/// 256 bits in base64url.
const RANDOM_CHARACTERS: usize = 43;
/// What a session by the device flow may hold: whoever lures a person into typing a code gets no more than a look.
const BY_DEVICE: [May; 3] = [May::Explain, May::Leases, May::Audit];

/// Why somebody is no operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoOperator {
    /// Whatever the cause: one answer.
    Unknown,
    TooOften {
        retry_after_seconds: u32,
    },
    /// Store or issuer cannot be asked.
    Down,
}

/// Why nobody was signed in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SignInFailed {
    /// The configuration has none of this name, or several and none was named; their names.
    Which(Vec<String>),
    /// The provider said no, or is not believed: the log says why.
    NotAccepted,
    /// They are who they say, and no `[[operator]]` is about them.
    NoOperator { name: String },
    /// The provider or the store cannot be asked.
    Down,
}

/// How much of the evidence a question reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// A bounded part.
    Short,
    /// All of it.
    Long,
}

/// Room for questions that run at once: long ones leave room for short ones.
pub(super) struct Questions {
    short: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl Default for Questions {
    fn default() -> Self {
        let room = |questions| Arc::new(Semaphore::new(questions));
        Self { short: room(SHORT_QUESTIONS_MAX), long: room(LONG_QUESTIONS_MAX) }
    }
}

/// A person who signed in.
#[derive(Debug)]
pub struct SignedIn {
    pub token: Secret,
    pub operator: Operator,
    pub expires: UnixSeconds,
}

/// An operator, and how long they are one.
#[derive(Clone, Debug)]
pub struct Who {
    pub operator: Operator,
    /// Of a person's session; a job's token is good for one request.
    pub expires: Option<UnixSeconds>,
}

impl Broker {
    /// Who it is that presents this. A job's token is spent by that, whether or not it is an operator's.
    ///
    /// # Errors
    /// They are no operator, or nobody can say.
    pub async fn operator(self: &Arc<Self>, presented: Secret) -> Result<Who, NoOperator> {
        let text = presented.reveal();
        if let Some(random) = text.strip_prefix(PREFIX) {
            if random.len() != RANDOM_CHARACTERS {
                return Err(NoOperator::Unknown);
            }
            let session = digest_of(text);
            let found = self.read(move |reader| reader.session(&session)).await.map_err(|error| down(&error))?;
            return self.person_of(found.ok_or(NoOperator::Unknown)?);
        }
        let broker = self.clone();
        // As exchanges do: what is spent is on record, also when the caller hangs up.
        self.finish(|| async move { broker.job(&presented).await }).await
    }

    fn person_of(&self, session: Session) -> Result<Who, NoOperator> {
        let active = self.active();
        let sign_in = active.config.sign_ins.iter().find(|one| one.name == session.sign_in);
        let stands = sign_in.is_some_and(|sign_in| binding(&active.config, sign_in) == session.binding);
        if session.expires <= self.clock.now() || !stands {
            return Err(NoOperator::Unknown);
        }
        let may = session.may.split(' ').filter_map(|word| May::ALL.into_iter().find(|may| may.name() == word));
        Ok(Who { operator: Operator::new(session.operator, may), expires: Some(session.expires) })
    }

    async fn job(&self, token: &Secret) -> Result<Who, NoOperator> {
        let (now, active) = (self.clock.now(), self.active());
        let Active { snapshot, jobs, config, .. } = &*active;
        if jobs.is_empty() {
            return Err(NoOperator::Unknown);
        }
        let audience = format!("{}/operator", config.public_url);
        let parts = self.parts(snapshot, now);
        let proven = operator_job(&parts, token.reveal(), &audience, |case| jobs.may(case, now)).await;
        let job = proven.map_err(|refusal| {
            tracing::info!(reason = refusal.reason().name(), why = %refusal, "no job of an operator");
            match refusal {
                Refusal::RateLimited { retry_after_seconds } => NoOperator::TooOften { retry_after_seconds },
                _ if refusal.reason() == Reason::IssuerDown => NoOperator::Down,
                _ => NoOperator::Unknown,
            }
        })?;
        let OperatorJob { issuer, id, name, claims, spend, subjects, judged: may } = job;
        let operator = format!("{issuer}:{id}");
        let words: Vec<&str> = may.iter().map(|may| may.name()).collect();
        let mut details = Details::default();
        details.json.insert("claims".to_owned(), claims);
        let commit = |guards: Vec<Guard>, may: &[&str]| {
            let what = match may.is_empty() {
                true => What::OperatorRefused { operator: &operator, how: "job" },
                false => What::OperatorSignedIn { operator: &operator, how: "job", may, expires: None },
            };
            let record = Record {
                decision: None,
                at: now,
                what,
                principal: Some(Party { issuer: &issuer, id: &id, name: &name }),
                actor: None,
                mappings_version: Some(snapshot.mappings.version),
            };
            let entry = Some(record.seal(&details, exchange::salt()));
            self.writer.commit(Commit { guards, changes: vec![], entry })
        };
        // A job that somebody has stopped does not stop others, and least of all takes that back.
        let not_suspended = Guard::NotSuspended { subjects, at: now };
        let mut outcome =
            commit(vec![Guard::Unspent(spend), not_suspended], &words).await.map_err(|error| down(&error))?;
        let suspended = matches!(outcome, Outcome::Blocked(Blocked::Suspended(_)));
        if suspended {
            tracing::warn!(operator, "a job of an operator that is suspended asked");
            outcome = commit(vec![Guard::Unspent(spend)], &[]).await.map_err(|error| down(&error))?;
        }
        match outcome {
            Outcome::Durable { .. } if !may.is_empty() && !suspended => {
                Ok(Who { operator: Operator::new(operator, may), expires: None })
            }
            Outcome::Durable { .. } => Err(NoOperator::Unknown),
            Outcome::Blocked(blocked) => {
                let replay = matches!(blocked, Blocked::Replay | Blocked::InFlight);
                tracing::warn!(operator, replay, "a token that was used before was presented by an operator's job");
                Err(NoOperator::Unknown)
            }
        }
    }

    /// Begins a person's sign-in in a browser.
    ///
    /// # Errors
    /// There is no such sign-in, or its provider cannot be asked.
    pub async fn begin_sign_in(&self, name: Option<&str>, port: u16) -> Result<(String, Begun), SignInFailed> {
        let active = self.active();
        let sign_in = named(&active.config, name)?;
        let begun =
            self.people.begin(sign_in, Redirect::Loopback { port }, &Strength::default()).await.map_err(failed)?;
        Ok((sign_in.name.clone(), begun))
    }

    /// Begins one on another device.
    ///
    /// # Errors
    /// As above.
    pub async fn begin_device(&self, name: Option<&str>) -> Result<(String, BegunDevice), SignInFailed> {
        let active = self.active();
        let sign_in = named(&active.config, name)?;
        let begun = self.people.begin_device(sign_in).await.map_err(failed)?;
        Ok((sign_in.name.clone(), begun))
    }

    /// Ends a sign-in in a browser with a session.
    ///
    /// # Errors
    /// The person is not believed, or no operator.
    pub async fn finish_sign_in(&self, name: &str, returned: &Returned<'_>) -> Result<SignedIn, SignInFailed> {
        let active = self.active();
        let sign_in = named(&active.config, Some(name))?;
        let person = self.people.finish(sign_in, returned, self.clock.now()).await.map_err(failed)?;
        self.let_in(&active.config, sign_in, &person, "code").await
    }

    /// Asks once how a sign-in on another device stands; at its end there is a session that can only look. Otherwise
    /// the seconds to wait.
    ///
    /// # Errors
    /// As above.
    pub async fn poll_device(&self, name: &str, code: &Secret) -> Result<Result<SignedIn, u64>, SignInFailed> {
        let active = self.active();
        let sign_in = named(&active.config, Some(name))?;
        match self.people.poll_device(sign_in, code, self.clock.now()).await.map_err(failed)? {
            Polled::Pending { interval_seconds } => Ok(Err(interval_seconds)),
            Polled::Done(person) => self.let_in(&active.config, sign_in, &person, "device").await.map(Ok),
        }
    }

    async fn let_in(
        &self,
        config: &Config,
        sign_in: &SignIn,
        person: &Person,
        how: &'static str,
    ) -> Result<SignedIn, SignInFailed> {
        let now = self.clock.now();
        let operator = format!("{}:{}", sign_in.name, person.subject);
        let mut may = of_person(config, sign_in, person);
        if how == "device" {
            may.retain(|may| BY_DEVICE.contains(may));
        }
        let words: Vec<&str> = may.iter().map(|may| may.name()).collect();
        let token = new_secret(PREFIX);
        let expires = now.plus(SESSION_SECONDS);
        let (what, changes) = if may.is_empty() {
            (What::OperatorRefused { operator: &operator, how }, vec![])
        } else {
            let session = Session {
                session: digest_of(token.reveal()),
                operator: operator.clone(),
                sign_in: sign_in.name.clone(),
                may: words.join(" "),
                binding: binding(config, sign_in),
                expires,
                person: None,
            };
            let what = What::OperatorSignedIn { operator: &operator, how, may: &words, expires: Some(expires) };
            (what, vec![Change::OpenSession(session)])
        };
        let mut details = Details::default();
        details.json.insert("name".to_owned(), json!(person.name));
        details.json.insert("email".to_owned(), json!(person.email));
        details.json.insert("signed_in_at".to_owned(), json!(person.signed_in_at));
        self.record_person(what, changes, details).await.map_err(|error| {
            tracing::error!(%error, "a sign-in could not be recorded");
            SignInFailed::Down
        })?;
        if may.is_empty() {
            return Err(SignInFailed::NoOperator { name: operator });
        }
        Ok(SignedIn { token, operator: Operator::new(operator, may), expires })
    }

    /// Ends the session that is presented.
    ///
    /// # Errors
    /// The store cannot record it.
    pub async fn sign_out(&self, operator: &Operator, presented: &Secret) -> Result<(), Down> {
        if !presented.reveal().starts_with(PREFIX) {
            // A job's token was spent by presenting it.
            return Ok(());
        }
        let end = Change::EndSession(digest_of(presented.reveal()));
        self.record_person(What::OperatorSignedOut { operator: operator.name() }, vec![end], Details::default()).await
    }

    pub(super) async fn record_person(
        &self,
        what: What<'_>,
        changes: Vec<Change>,
        details: Details,
    ) -> Result<(), Down> {
        let record =
            Record { decision: None, at: self.clock.now(), what, principal: None, actor: None, mappings_version: None };
        let entry = Some(record.seal(&details, exchange::salt()));
        match self.writer.commit(Commit { guards: vec![], changes, entry }).await? {
            Outcome::Durable { .. } => Ok(()),
            Outcome::Blocked(blocked) => Err(Down::new(format!("{blocked:?}"))),
        }
    }

    /// Asks the evidence, on a thread of the question's own. `None`: as many such questions as may run at once do.
    pub async fn question<T: Send + 'static>(
        &self,
        question: Question,
        ask: impl FnOnce(&Arc<dyn Reader>) -> T + Send + 'static,
    ) -> Option<T> {
        let room = match question {
            Question::Short => &self.questions.short,
            Question::Long => &self.questions.long,
        };
        let turn = room.clone().try_acquire_owned().ok()?;
        let reader = self.reader.clone();
        let (answer, answered) = oneshot::channel();
        // No runtime's: those wait at their end for what they run, and a stop must not wait for a question.
        let thread = std::thread::Builder::new().name("question".to_owned()).spawn(move || {
            let _turn = turn;
            // Whoever asked may have gone.
            let _ = answer.send(ask(&reader));
        });
        if let Err(error) = thread {
            tracing::error!(%error, "no thread for a question to the evidence");
        }
        answered.await.ok()
    }
}

fn down(error: &Down) -> NoOperator {
    tracing::error!(%error, "nobody can say who is an operator");
    NoOperator::Down
}

pub(super) fn failed(error: SignInError) -> SignInFailed {
    tracing::warn!(why = %error, "a sign-in failed");
    match error {
        SignInError::Down { .. } => SignInFailed::Down,
        SignInError::Refused { .. } => SignInFailed::NotAccepted,
    }
}

/// The sign-in of this name; the only one, if none is named.
pub(super) fn named<'c>(config: &'c Config, name: Option<&str>) -> Result<&'c SignIn, SignInFailed> {
    let which = || SignInFailed::Which(config.sign_ins.iter().map(|one| one.name.clone()).collect());
    match (name, &config.sign_ins[..]) {
        (None, [one]) => Ok(one),
        (None, _) => Err(which()),
        (Some(name), all) => all.iter().find(|one| one.name == name).ok_or_else(which),
    }
}

/// What the configuration lets this person do.
fn of_person(config: &Config, sign_in: &SignIn, person: &Person) -> BTreeSet<May> {
    let holds = |rule: &Rule| match rule {
        Rule::Person { sign_in: own, groups, sub, email } => {
            let any = |wanted: &[String], has: &dyn Fn(&String) -> bool| wanted.is_empty() || wanted.iter().any(has);
            // A rule that states nothing does not load.
            *own == sign_in.name
                && any(groups, &|group| person.groups.contains(group))
                && any(sub, &|sub| *sub == person.subject)
                && any(email, &|email| person.email.as_ref() == Some(email))
        }
        Rule::Job { .. } => false,
    };
    config.operators.iter().filter(|rule| holds(&rule.who)).flat_map(|rule| &rule.may).copied().collect()
}

/// What a session depends on: where people sign in, and what is said of those who do. When it changes they sign in anew.
fn binding(config: &Config, sign_in: &SignIn) -> [u8; 32] {
    let about = |rule: &&crate::config::OperatorRule| matches!(&rule.who, Rule::Person { sign_in: own, .. } if *own == sign_in.name);
    let rules: Vec<_> = config.operators.iter().filter(about).collect();
    let told: Value = json!({ "sign_in": sign_in, "operators": rules });
    digest_of(&told.to_string())
}

/// What a session is presented by: 256 random bits behind this prefix.
pub(super) fn new_secret(prefix: &str) -> Secret {
    let mut random = [0; RANDOM_BYTES];
    rand::fill(&mut random).expect("the system's random source answers");
    Secret::new(format!("{prefix}{}", BASE64_URL_SAFE_NO_PAD.encode(random)))
}

pub(super) fn digest_of(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}
