//! The same exchange, asked in the words of AWS STS (service, section 5): what is asked beside the token, and what a token that
//! comes back is told.
//!
//! Clients of STS send a request again of their own accord, and drop whatever they cannot read. So a first answer is noted
//! beside the use of its token: who comes again with the same parameters is told it again, and nothing is decided for them.

use super::{Hint, Parts, Refusal, Refused, Request, Snapshot, proof::Cost};
use crate::{
    issuance::{AwsSession, Narrowing},
    secret::Secret,
    store::{Blocked, Change, Down, LeaseState, Note, Reader, Spend},
};
use aws_lc_rs::digest::{SHA256, digest};
use claimbound_core::{
    evidence::{DecisionId, LeaseId, hex},
    mapping::{Ask, Denial, Mapping, possible_roles},
    reason::{Reason, Standing},
    time::UnixSeconds,
    workload::Case,
};
use serde::{Deserialize, Serialize};
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a request waits for the outcome of the same one that came before it.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a request in STS's words says beside token, role and duration.
#[derive(Clone, Default, Debug)]
pub struct StsAsk {
    /// The role by its ARN at AWS, in place of its name.
    pub role_arn: Option<String>,
    /// Of the client's choosing: it stands in evidence and nowhere else.
    pub session_name: String,
    pub narrowing: Narrowing,
    /// The network that it came from.
    pub network: Option<IpAddr>,
}

/// Whom a granted token was of, as STS tells it.
pub struct WebIdentity {
    pub subject: String,
    /// URL of its issuer.
    pub provider: String,
}

/// The first answer to a request that came again.
#[derive(Debug)]
pub struct First {
    pub decision: DecisionId,
    pub answer: FirstAnswer,
}

/// What the first answer was.
#[derive(Debug)]
pub enum FirstAnswer {
    Granted(LeaseId),
    Refused(Box<Refused>),
}

/// As it is noted.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Noted {
    Granted { lease: LeaseId },
    Refused { decision: DecisionId, reason: String, role_asked: bool, hint: Option<Box<Hint>> },
}

/// Where the first answer to a request is noted, and for how long.
#[derive(Clone, Copy)]
pub(super) struct Place {
    key: [u8; 32],
    until: UnixSeconds,
}

impl Place {
    /// Of a request in STS's words that costs this.
    pub(super) fn of(request: &Request<'_>, cost: Cost) -> Option<Self> {
        let spend = cost.subject.filter(|_| request.sts.is_some())?;
        let key = Note::key("first answer", &[&hex(spend.token.key()), &hex(&request.digest)]);
        Some(Self { key, until: spend.token.keep_until() })
    }

    fn note(self, noted: &Noted) -> Change {
        let text = serde_json::to_string(noted).expect("texts and lists of them always encode");
        Change::Note(Note { key: self.key, text, until: self.until })
    }

    pub(super) fn granted(self, lease: LeaseId) -> Change {
        self.note(&Noted::Granted { lease })
    }

    /// The job's own claims are not kept with it: they are in no text.
    pub(super) fn refused(self, decision: DecisionId, reason: Reason, role_asked: bool, hint: Option<&Hint>) -> Change {
        let hint = hint.map(|hint| Box::new(Hint { claims: Vec::new(), ..hint.clone() }));
        self.note(&Noted::Refused { decision, reason: reason.name().to_owned(), role_asked, hint })
    }

    async fn read(self, parts: &Parts<'_>) -> Result<Option<Noted>, Down> {
        let text = read(parts, move |reader| reader.note(&self.key)).await?;
        let parse = |text: String| serde_json::from_str(&text);
        text.map(parse).transpose().map_err(|error| Down::new(format!("a note cannot be read: {error}")))
    }

    /// The first answer, if there was one.
    pub(super) async fn first(self, parts: &Parts<'_>) -> Option<First> {
        Some(match self.read(parts).await.ok()?? {
            Noted::Granted { lease } => First { decision: DecisionId(lease.0), answer: FirstAnswer::Granted(lease) },
            Noted::Refused { decision, reason, role_asked, hint } => {
                let reason = Reason::ALL.iter().copied().find(|known| known.name() == reason)?;
                let standing = Standing::ProvenJob;
                let (retry_after_seconds, waits, said, first) = (None, None, None, None);
                let refused = Refused { reason, standing, role_asked, retry_after_seconds, hint, waits, said, first };
                First { decision, answer: FirstAnswer::Refused(Box::new(refused)) }
            }
        })
    }

    /// Whether this request was refused already, for good.
    pub(super) async fn judge(self, parts: &Parts<'_>) -> Result<(), Refusal> {
        let again = [Reason::BackendRefused, Reason::BackendDown, Reason::PolicyTooLarge].map(Reason::name);
        match self.read(parts).await? {
            // What minted nothing may go again, where its job has no other token: admission judges that.
            Some(Noted::Refused { reason, .. }) if !again.contains(&&*reason) => Err(Refusal::Blocked(Blocked::Replay)),
            _ => Ok(()),
        }
    }

    /// Waits for the outcome of the same request, as long as one is under way. Whether there is one now.
    pub(super) async fn settles(self, parts: &Parts<'_>) -> bool {
        let began = Instant::now();
        loop {
            match self.read(parts).await {
                Ok(Some(Noted::Granted { lease })) => match read(parts, move |reader| reader.lease(lease)).await {
                    Ok(Some(found)) if found.state == LeaseState::Issuing => {}
                    Ok(_) => return true,
                    Err(_) => return false,
                },
                // It was refused while this one looked.
                Ok(Some(Noted::Refused { .. })) => return true,
                // Another request has the token.
                Ok(None) | Err(_) => return false,
            }
            if began.elapsed() >= WAIT_MAX {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Asks the store where waiting for it holds up nobody else.
async fn read<T: Send + 'static>(
    parts: &Parts<'_>,
    ask: impl FnOnce(&dyn Reader) -> Result<T, Down> + Send + 'static,
) -> Result<T, Down> {
    let reader = Arc::clone(parts.reader);
    tokio::task::spawn_blocking(move || ask(&*reader)).await.map_err(|_| Down::new("reading it panicked"))?
}

/// The role that is asked for: a real ARN is compared with the roles that this job may have, and with no other. One that is not
/// theirs stands for itself, as no role has such a name.
pub(super) fn role<'s>(
    snapshot: &'s Snapshot,
    case: &Case<'_>,
    ask: &Ask<'s>,
    arn: &'s str,
    now: UnixSeconds,
) -> Result<&'s str, Refusal> {
    let mappings = &snapshot.mappings;
    let mut roles = possible_roles(mappings, case, now);
    roles.retain(|id| snapshot.minters[id.0 as usize].aws_role_arn() == Some(arn));
    match roles[..] {
        [] => Ok(arn),
        [one] => Ok(&mappings.role(one).name),
        _ => {
            let denial = Denial { reason: Reason::RoleNeeded, nearest: None, roles, rule: None };
            Err(Refusal::decision(snapshot, case, &Ask { role: None, ..*ask }, denial, now))
        }
    }
}

/// How often the request's token may be used: for several leases only of one role and to one network, and only where its job
/// cannot get another token, whatever the mapping says.
pub(super) fn uses(spend: Spend, sts: &StsAsk, mapping: &Mapping, role: &str) -> Spend {
    let most = mapping.limit.and_then(|limit| limit.sts_uses_per_token).filter(|_| spend.may_retry);
    let (Some(uses), Some(network)) = (most, sts.network) else { return spend };
    Spend { uses, request: Note::key("sts uses", &[role, &network.to_string()]), ..spend }
}

/// Who a session's keys are at AWS: what `GetCallerIdentity` is answered from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identity {
    pub lease: LeaseId,
    pub assumed_role_arn: String,
    pub assumed_role_id: String,
}

/// Where a session is noted: by the SHA-256 of its token.
pub fn session_key(session_token: &Secret) -> [u8; 32] {
    Note::key("aws session", &[&hex(digest(&SHA256, session_token.reveal().as_bytes()).as_ref())])
}

/// Notes whose a session is, beside its outcome.
pub(super) fn identity(lease: LeaseId, session: &AwsSession) -> Change {
    let AwsSession { assumed_role_arn, assumed_role_id, session_token, expires, .. } = session;
    let (assumed_role_arn, assumed_role_id) = (assumed_role_arn.clone(), assumed_role_id.clone());
    let text = serde_json::to_string(&Identity { lease, assumed_role_arn, assumed_role_id });
    let text = text.expect("texts always encode");
    Change::Note(Note { key: session_key(session_token), text, until: *expires })
}
