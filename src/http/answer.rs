//! What a caller is told, and with which status. Nowhere else in the house is there wording for callers.
//!
//! Three rules, held by [`verdict`] and the one test over it: a stranger gets one constant answer; a proven job is told
//! about itself and about mappings that pin it, as far as `[server] hints` allows; what would tell two other things
//! apart (a name with another id, a deny rule's own words) is told as one.

mod shape;

use super::{
    claim::Seen,
    form::{FormCode, FormError},
};
use crate::{
    broker::Answer,
    config::Hints,
    exchange::{Condition, Granted, Hint, Refused},
};
use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
};
use claimbound_core::{
    evidence::DecisionId,
    mapping::Got,
    reason::{Reason, Standing},
};
use serde::Serialize;
use serde_json::{Map, Value};
use shape::{Active, DryRun, Early, Pairs, Success, Told, ToldNearest, ToldWaits, text, uri};

/// Before this much time another try is in vain.
const RETRY_SECONDS: u32 = 5;
/// An issuer's keys are not fetched more often than this.
const RETRY_ISSUER_SECONDS: u32 = 30;
/// An exchange that runs is done within this time.
const RETRY_IN_FLIGHT_SECONDS: u32 = 2;

/// An answer with a token of ours, which stands in it twice, has about so many.
const ANSWER_BYTES: usize = 4 * 1024;

/// How resource servers prove themselves (RFC 7617).
const BASIC: &str = "Basic realm=\"claimbound\", charset=\"UTF-8\"";

/// What strangers are told instead of their reason.
const NOT_ACCEPTED: &str = "token_not_accepted";
const NOT_ACCEPTED_TEXT: &str = "The token was not accepted. Ask for it with the audience that \
    `/.well-known/claimbound` names, and send it once, before it expires. The operator finds the cause under the \
    `decision_id`";

/// An answer, ready to be sent; never cached.
pub struct Reply {
    pub status: StatusCode,
    pub retry_after_seconds: Option<u32>,
    pub body: Vec<u8>,
    pub noted: Noted,
    /// What a 401 asks for (RFC 9110 section 11.6.1).
    pub challenge: Option<&'static str>,
    /// The rest of the request is not read: the connection ends with the answer.
    pub close: bool,
}

/// What the access log and the connection's fate need to know of an answer. It travels in the response's extensions.
#[derive(Clone, Copy, Default)]
pub struct Noted {
    pub decision: Option<DecisionId>,
    /// Whoever asked has proven itself, and got what it asked for.
    pub granted: bool,
}

impl Reply {
    /// A status and a JSON body.
    pub fn json(status: StatusCode, body: &impl Serialize) -> Self {
        // Room for most of them: a vector that grows is copied, and leaves copies of a credential behind.
        let mut told = Vec::with_capacity(ANSWER_BYTES);
        serde_json::to_writer(&mut told, body).expect("text, numbers and lists of them always encode");
        Self { status, retry_after_seconds: None, body: told, noted: Noted::default(), challenge: None, close: false }
    }

    /// As actix sends it.
    pub fn respond(self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response
            .insert_header(header::ContentType::json())
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .insert_header((header::PRAGMA, "no-cache"));
        if let Some(seconds) = self.retry_after_seconds {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        if let Some(challenge) = self.challenge {
            response.insert_header((header::WWW_AUTHENTICATE, challenge));
        }
        if self.close {
            response.force_close();
        }
        let mut response = response.body(self.body);
        response.extensions_mut().insert(self.noted);
        response
    }
}

/// The answer to an exchange.
pub fn exchanged(answer: &Answer, hints: Hints, public_url: &str) -> Reply {
    let mut reply = match &answer.outcome {
        Ok(Granted::Issued(issued)) => Reply::json(StatusCode::OK, &Success::of(answer, issued, answer.at)),
        Ok(Granted::DryRun { role, mapping, duration, waits }) => Reply::json(
            StatusCode::OK,
            &DryRun {
                dry_run: true,
                pending: *waits,
                role,
                mapping,
                expires_in: duration.0,
                decision_id: text(answer.id.0),
                mappings_version: &answer.mappings_version,
            },
        ),
        Err(refused) => refusal(answer, refused, hints, public_url),
    };
    reply.noted = Noted { decision: Some(answer.id), granted: answer.outcome.is_ok() };
    reply
}

/// RFC 7009 section 2.2: a token that is unknown is answered like one that was ended.
pub fn revoked(recorded: bool) -> Reply {
    if recorded { Reply::json(StatusCode::OK, &serde_json::json!({})) } else { away() }
}

/// The store cannot be asked.
pub fn away() -> Reply {
    unavailable(words(Reason::StoreDown).to_owned())
}

/// RFC 7662 section 2.2: a token that is not good is answered alike, whatever it is. `None`: the store is away.
pub fn introspected(found: Option<Option<Map<String, Value>>>) -> Reply {
    match found {
        Some(Some(claims)) => proven(&Active { active: true, token_type: "Bearer", claims }),
        Some(None) => proven(&serde_json::json!({ "active": false })),
        None => away(),
    }
}

/// The answer to a resource server, which may keep its connection.
fn proven(body: &impl Serialize) -> Reply {
    Reply { noted: Noted { decision: None, granted: true }, ..Reply::json(StatusCode::OK, body) }
}

/// A request that ends before its token is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TurnedAway {
    Form(FormError),
    QueryParameters,
    BodyTooSlow,
    BodyTooLarge,
    BodyBroken,
    NotAForm,
    /// An operator's request whose body is not said to be JSON, or is not of the form that is asked for.
    NotJson,
    BadJson(String),
    HeadTooLarge,
    /// Of who introspects.
    Unauthorized,
    TooManyRequests {
        retry_after_seconds: u32,
    },
}

/// A refusal for callers that read one text and nothing else.
pub struct InWords {
    pub status: u16,
    pub reason: &'static str,
    pub text: String,
    pub retry_after_seconds: Option<u32>,
    pub is_stranger: bool,
    /// Too much was asked for: nothing was judged.
    pub is_rate: bool,
}

/// What [`exchanged`] says of a refusal, with what failed spelled out.
pub fn in_words(refused: &Refused, hints: Hints) -> InWords {
    let (verdict, hint) = told(refused, hints);
    let mut text = description(&verdict, hint, "");
    if let Some(nearest) = hint.and_then(|hint| hint.nearest.as_ref()).filter(|_| hints == Hints::Full) {
        for Condition { claim, expected, got } in &nearest.conditions {
            let got = match got {
                Got::Value(value) => format!("`{value}`"),
                Got::None | Got::Unknown => "not there".to_owned(),
            };
            text.push_str(&format!("; `{claim}`: expected {expected}, and it is {got}"));
        }
    }
    InWords {
        status: verdict.status,
        reason: verdict.reason,
        text,
        retry_after_seconds: refused.retry_after_seconds.or(verdict.retry_after_seconds),
        is_stranger: verdict == STRANGER,
        is_rate: refused.reason == Reason::RateLimited,
    }
}

/// Status, error and text of a request that is turned away.
pub fn away_in_words(why: &TurnedAway) -> (u16, &'static str, &str) {
    match why {
        TurnedAway::Form(FormError { code, text }) => {
            let (status, error) = match code {
                FormCode::InvalidRequest => (400, "invalid_request"),
                FormCode::InvalidTarget => (400, "invalid_target"),
                FormCode::InvalidScope => (400, "invalid_scope"),
                FormCode::UnsupportedGrantType => (400, "unsupported_grant_type"),
                FormCode::TooLarge => (413, "invalid_request"),
            };
            (status, error, text.as_str())
        }
        TurnedAway::QueryParameters => (
            400,
            "invalid_request",
            "parameters in the URL are not read; send them in the body, and treat a token that \
                stood in a URL as leaked",
        ),
        TurnedAway::BodyTooSlow => (408, "invalid_request", "the body did not arrive in time; send it at once"),
        TurnedAway::BodyTooLarge => (413, "invalid_request", "the body is larger than 64 KiB; send fewer parameters"),
        TurnedAway::BodyBroken => (400, "invalid_request", "the body broke off; send it again"),
        TurnedAway::NotAForm => (
            415,
            "invalid_request",
            "the body must be a form: `Content-Type: application/x-www-form-urlencoded`, in UTF-8, without \
                `Content-Encoding`",
        ),
        TurnedAway::NotJson => (
            415,
            "invalid_request",
            "the body must be JSON: `Content-Type: application/json`, without `Content-Encoding`",
        ),
        TurnedAway::BadJson(why) => (400, "invalid_request", why.as_str()),
        TurnedAway::HeadTooLarge => (431, "invalid_request", "the request's headers are larger than 16 KiB together"),
        TurnedAway::Unauthorized => (
            401,
            "invalid_client",
            "the id or secret of a resource server is missing or wrong; send both as `Authorization: Basic …`",
        ),
        TurnedAway::TooManyRequests { .. } => {
            (429, "temporarily_unavailable", "too many requests from here; wait as `Retry-After` says")
        }
    }
}

/// The answer to a request that is turned away.
pub fn turned_away(why: &TurnedAway) -> Reply {
    let (status, error, text) = away_in_words(why);
    let reason = match why {
        TurnedAway::TooManyRequests { .. } => Reason::RateLimited,
        TurnedAway::Unauthorized => Reason::ClientUnknown,
        _ => Reason::FormInvalid,
    };
    let status = StatusCode::from_u16(status).expect("the statuses above are valid");
    let mut reply = Reply::json(status, &Early::of(error, reason.name(), text.to_owned()));
    if let TurnedAway::TooManyRequests { retry_after_seconds } = why {
        reply.retry_after_seconds = Some(*retry_after_seconds);
    }
    if let TurnedAway::Unauthorized = why {
        reply.challenge = Some(BASIC);
    }
    // After these, bytes of the request may still be on their way.
    reply.close = !matches!(why, TurnedAway::Form(_));
    reply
}

/// Everything but health, while the store is behind its checkpoint. Why is for operators.
pub fn closed() -> Reply {
    let text = "The broker's store has lost records; nothing is issued until an operator has adopted it".to_owned();
    unavailable(text)
}

/// What a broker that has just started does not have yet.
pub fn not_yet(text: &str) -> Reply {
    unavailable(text.to_owned())
}

fn unavailable(text: String) -> Reply {
    let away = Early::of("temporarily_unavailable", Reason::StoreDown.name(), text);
    Reply { retry_after_seconds: Some(RETRY_SECONDS), ..Reply::json(StatusCode::SERVICE_UNAVAILABLE, &away) }
}

/// A path or method that does not exist: RFC 9110 has no body for these, people have eyes.
pub fn no_such_way(status: StatusCode, error: &str, text: &str) -> Reply {
    Reply::json(status, &serde_json::json!({ "error": error, "error_description": text }))
}

/// What the table says about one refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Verdict {
    status: u16,
    error: &'static str,
    /// As callers see it.
    reason: &'static str,
    text: &'static str,
    retry_after_seconds: Option<u32>,
    /// Whether the hint may be told, as far as the configuration allows.
    hints: bool,
}

/// The one table of what a caller learns.
fn verdict(reason: Reason, standing: Standing, role_asked: bool) -> Verdict {
    use Reason as R;
    let tell = |status, error, reason: Reason, retry_after_seconds, hints| Verdict {
        status,
        error,
        reason: reason.name(),
        text: words(reason),
        retry_after_seconds,
        hints,
    };
    let later = |reason, seconds| tell(503, "temporarily_unavailable", reason, Some(seconds), false);
    let refuse = |error, reason, hints| tell(400, error, reason, None, hints);
    let target = if role_asked { "invalid_target" } else { "invalid_request" };

    match (reason, standing) {
        // Whoever asks: nothing was judged, or nothing that could be kept secret.
        (R::StoreDown, _) => later(reason, RETRY_SECONDS),
        (R::IssuerDown, _) => later(reason, RETRY_ISSUER_SECONDS),
        (R::GrantUnknown, _) => refuse("invalid_grant", reason, false),
        (_, Standing::Stranger) => STRANGER,
        // A re-created repository looks to itself like any other that no mapping names.
        (R::NoMapping | R::IdMismatch, _) => refuse(target, R::NoMapping, true),
        (R::Renamed | R::MappingExpired | R::EventNotAllowed | R::Denied, _) => refuse(target, reason, true),
        // Only who would be granted the role learns it, and not what of it was suspended: that may be a person.
        (R::Suspended, _) => refuse(target, reason, false),
        (R::RoleNeeded, _) => refuse("invalid_target", reason, true),
        (R::ScopeNotAllowed, _) => refuse("invalid_scope", reason, true),
        (R::TextDoesNotFit, _) => refuse("invalid_target", reason, true),
        (R::DurationTooShort, _) => refuse("invalid_request", reason, true),
        (R::NotAws | R::PolicyNotNarrower, _) => refuse("invalid_target", reason, false),
        // Trying again is in vain.
        (R::PolicyTooLarge | R::BackendRefused, _) => refuse("invalid_target", reason, false),
        // The token is worth nothing any more: who holds it need not be its job.
        (R::Replay | R::BeforeAdoption, _) => refuse("invalid_request", reason, false),
        (R::MayAct | R::ActMalformed | R::ActorRepeated, _) => refuse("invalid_request", reason, false),
        // By the rules, or by the tokens alone: without a nearest mapping nothing is told.
        (R::ActorNotAllowed | R::ChainTooLong, _) => refuse("invalid_request", reason, true),
        (R::ActorNeeded, _) => refuse(target, reason, true),
        // RFC 8628 section 3.5, and OpenID Connect CIBA Core 1.0 section 11.
        (R::CeremonyNeeded, _) => refuse("authorization_pending", reason, false),
        (R::CeremonyDirect, _) => refuse("invalid_target", reason, false),
        (R::CeremonySlowDown, _) => refuse("slow_down", reason, false),
        (R::CeremonyRejected | R::CeremonyOutdated, _) => refuse("access_denied", reason, false),
        (R::CeremonyExpired, _) => refuse("expired_token", reason, false),
        (R::CeremonyMismatch | R::CeremonyUsed, _) => refuse("invalid_grant", reason, false),
        (R::RefreshMismatch | R::RefreshEnded | R::RefreshReused, _) => refuse("invalid_grant", reason, false),
        (R::LeaseEnded | R::HandoffMismatch, _) => refuse("invalid_request", reason, false),
        (R::InFlight, _) => later(reason, RETRY_IN_FLIGHT_SECONDS),
        (R::BackendDown, _) => later(reason, RETRY_SECONDS),
        (R::RateLimited | R::MappingLimit | R::CeremonyCrowded, _) => {
            tell(429, "temporarily_unavailable", reason, Some(RETRY_SECONDS), false)
        }
        (R::FormInvalid, _) => refuse("invalid_request", reason, false),
        // No exchange is refused for it. Faults of a token come before the workload is proven; were one reported as a job's, it is told nothing.
        (
            R::ClientUnknown
            | R::Malformed
            | R::JweUnsupported
            | R::DuplicateMember
            | R::HeaderForbidden
            | R::Crit
            | R::Nested
            | R::WrongType
            | R::AlgNotAllowed
            | R::KidMissing
            | R::KidUnknown
            | R::KidDenied
            | R::IssuerUnknown
            | R::IssuerDisabled
            | R::BadSignature
            | R::ClaimMissing
            | R::ClaimType
            | R::ClaimSyntax
            | R::Aud
            | R::AudMultiple
            | R::Exp
            | R::Iat
            | R::Nbf
            | R::Lifetime
            | R::Jti
            | R::ClaimsInconsistent
            | R::Stranger,
            _,
        ) => STRANGER,
    }
}

/// The constant answer.
const STRANGER: Verdict = Verdict {
    status: 400,
    error: "invalid_request",
    reason: NOT_ACCEPTED,
    text: NOT_ACCEPTED_TEXT,
    retry_after_seconds: None,
    hints: false,
};

/// One sentence for the job whose refusal has this reason. What to do about it comes with the hint.
fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::NoMapping => "No mapping gives this role to this job",
        Reason::Renamed => {
            "A mapping pins this repository's id under another name; the mapping must follow the renaming"
        }
        Reason::MappingExpired => {
            "The mapping that would give this role to this job has expired; its team must extend it, or write another"
        }
        Reason::EventNotAllowed => {
            "A mapping fits this job in all but the event; run it on an event that the mapping names"
        }
        Reason::Denied => "A deny rule of the platform team holds for this job",
        Reason::RoleNeeded => "Several roles are possible for this job; name one as `audience`",
        Reason::ScopeNotAllowed => "The role does not have this scope; narrow `scope` or leave it out",
        Reason::TextDoesNotFit => "A value of this job does not fit the rules of the role's target",
        Reason::DurationTooShort => {
            "The lifetime asked for, or the one that the mapping gives, is shorter than any that the role's target gives"
        }
        Reason::NotAws => {
            "This role gives no AWS session, so it cannot be had in the words of AWS STS; ask for it at `/token`, or with \
             `claimbound exec`"
        }
        Reason::PolicyNotNarrower => {
            "`Policy` and `PolicyArns` cannot narrow this session: the role has session policies of its own, beside which another \
             would allow more, or AWS would refuse it; leave them out"
        }
        Reason::PolicyTooLarge => {
            "The session policy and tags of this role are larger than its target takes, and nothing was issued; the \
             platform team must shorten them"
        }
        Reason::Suspended => {
            "An operator has suspended what this grant rests on, and another try is in vain until it is taken back; the \
             operator finds the cause under the `decision_id`"
        }
        Reason::Replay => "This token was used before; get a fresh one from the CI system for every exchange",
        Reason::BeforeAdoption => {
            "The broker's store was restored after this token was issued; get a fresh one from the CI system"
        }
        Reason::ActorNotAllowed => {
            "The token or the request names an actor, and no mapping takes it; leave `actor_token` out, or ask for a \
             `[mapping.actor]` that names who acts"
        }
        Reason::MayAct => {
            "The subject token says who may act for it (`may_act`); send that party's token as `actor_token`, of the \
             same `iss` and `sub`"
        }
        Reason::ActMalformed => "The subject token's `act` must name each actor by `iss` and `sub`, both texts",
        Reason::ChainTooLong => "More actors act one for another than the mapping takes; let fewer act",
        Reason::ActorRepeated => {
            "One party stands twice in the chain of who acts for whom; a job needs no `actor_token` to act for itself"
        }
        Reason::ActorNeeded => {
            "This role is given where somebody acts for the job; send the actor's own token as `actor_token`, with \
             `actor_token_type`"
        }
        Reason::GrantUnknown => "No such refresh token or authentication request is open; begin with a token exchange",
        Reason::CeremonyNeeded => {
            "This grant waits until people have claimed it; show `claim_uri`, `match_code` and `match_words` in the job's log, \
             and come again with `auth_req_id`"
        }
        Reason::CeremonyDirect => {
            "People must claim this role first; the job itself asks for it, with its own token, and comes back for it"
        }
        Reason::CeremonySlowDown => "Ask for it less often: once in `interval` seconds",
        Reason::CeremonyMismatch => {
            "This request belongs to another job, or to another role, scope or duration; only the job that began it can \
             redeem it"
        }
        Reason::CeremonyRejected => "The request was rejected or withdrawn; begin with a token exchange",
        Reason::CeremonyExpired => "Nobody claimed the request in time, or it was not redeemed in time",
        Reason::CeremonyOutdated => {
            "What was claimed is void: the mapping, the role or who may approve has changed, or something of it was suspended; \
             begin with a token exchange"
        }
        Reason::CeremonyUsed => "What was claimed for this request has been redeemed",
        Reason::CeremonyCrowded => {
            "Too many requests of this repository wait for people; have some claimed or rejected, and come again"
        }
        Reason::RefreshMismatch => {
            "This refresh token was given for another token of the CI system, or for another role; send it with the one \
             that it came from"
        }
        Reason::RefreshEnded => "No more renewals: they were ended, or the session is over",
        Reason::RefreshReused => {
            "This refresh token was used before; whoever holds a copy of it could go on, so all renewals and leases that \
             come from the same token are ended"
        }
        Reason::LeaseEnded => {
            "The token that was sent as `subject_token` is over: its lease was ended, or it has had its time"
        }
        Reason::HandoffMismatch => {
            "This handoff was made for another role or scope; leave both out, or ask its job for another"
        }
        Reason::InFlight => "This token is being exchanged right now; wait as `Retry-After` says",
        Reason::StoreDown => "The broker cannot record its answers right now; wait as `Retry-After` says",
        Reason::IssuerDown => "The issuer's keys cannot be fetched right now; wait as `Retry-After` says",
        Reason::BackendRefused => {
            "The target of this role refused, and nothing was issued; the platform team finds its words under the \
             `decision_id`, and another try is in vain until they have mended the cause"
        }
        Reason::BackendDown => "The target did not answer; try again with a fresh token from the CI system",
        Reason::RateLimited => "Too many requests of this repository's jobs; wait as `Retry-After` says",
        Reason::MappingLimit => {
            "The mapping has granted to this repository, or to this run, as often as its limit allows; wait as \
             `Retry-After` says and send a fresh token"
        }
        Reason::FormInvalid => "The form breaks the rules of this endpoint",
        _ => NOT_ACCEPTED_TEXT,
    }
}

/// The verdict, and the hint as far as it may be told.
fn told(refused: &Refused, hints: Hints) -> (Verdict, Option<&Hint>) {
    let untold = refused.hint.as_ref().is_some_and(|hint| hint.role_untold);
    let reason = if untold { Reason::NoMapping } else { refused.reason };
    let verdict = verdict(reason, refused.standing, refused.role_asked);
    (verdict, refused.hint.as_deref().filter(|_| verdict.hints && hints != Hints::None))
}

fn refusal(answer: &Answer, refused: &Refused, hints: Hints, public_url: &str) -> Reply {
    let (verdict, hint) = told(refused, hints);
    // Strangers may not learn when the folder changes, whatever their refusal is.
    let proven = refused.standing == Standing::ProvenJob && verdict != STRANGER;
    let told = Told {
        error: verdict.error,
        error_description: match refused.said.as_deref().filter(|_| proven) {
            // Text of a person: what cannot be seen is named.
            Some(said) => format!("The request was rejected, with these words: {}", Seen::prose(said).to_text()),
            None => description(&verdict, hint, ", and `nearest` shows what failed"),
        },
        error_uri: uri(verdict.reason),
        reason: verdict.reason,
        decision_id: text(answer.id.0),
        mappings_version: proven.then_some(answer.mappings_version.as_str()),
        nearest: hint.and_then(|hint| hint.nearest.as_ref()).map(|nearest| ToldNearest::of(nearest, hints)),
        roles: hint.map_or(&[], |hint| &hint.roles),
        claims: Pairs(hint.filter(|_| hints == Hints::Full).map_or(&[], |hint| &hint.claims)),
        did_you_mean: hint.and_then(|hint| hint.did_you_mean.as_deref()),
        contact: hint.and_then(|hint| hint.contact.as_deref()),
        waits: refused.waits.as_deref().map(|waits| ToldWaits::of(waits, public_url)),
    };
    let status = StatusCode::from_u16(verdict.status).expect("the table's statuses are valid");
    let retry_after_seconds = refused.retry_after_seconds.or(verdict.retry_after_seconds);
    Reply { retry_after_seconds, ..Reply::json(status, &told) }
}

/// The sentence, and what the hint adds to it: the line to paste, the roles, whom to ask.
fn description(verdict: &Verdict, hint: Option<&Hint>, beside: &str) -> String {
    let mut text = verdict.text.to_owned();
    let Some(hint) = hint else { return text };
    let mut add = |more: String| {
        text.push_str("; ");
        text.push_str(&more);
    };
    if !hint.roles.is_empty() {
        add(format!("roles of this job: `{}`", hint.roles.join("`, `")));
    }
    if let Some(role) = &hint.did_you_mean {
        add(format!("did you mean `{role}`?"));
    }
    if let Some(line) = &hint.line_to_paste {
        add(format!("to let this repository in, paste `{line}` into a set of the mapping folder"));
    } else if let Some(nearest) = &hint.nearest {
        add(format!("the nearest mapping is `{}`{beside}", nearest.mapping));
    }
    if let Some(contact) = &hint.contact {
        add(format!("ask {contact}"));
    }
    text
}

#[cfg(test)]
pub(super) mod tests;
