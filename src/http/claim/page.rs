//! The pages: what is told, and with which headers. Nothing here decides; a ceremony's words are [`super::view`]'s.

use super::{
    gate::{Site, form_token},
    seen::Seen,
    view::{Party, Status, View, moment, named, span},
};
use crate::{
    broker::{Linkable, Listed, Review, Visitor, Weak},
    secret::Secret,
};
use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
};
use askama::Template;
use claimbound_core::{ceremony::CeremonyId, time::UnixSeconds};

/// No script, no image, nothing of others; forms to ourselves alone.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What every page has around it.
pub struct Frame {
    pub base: String,
    pub who: Option<Who>,
}

/// Whose session it is.
pub struct Who {
    name: Seen,
    id: Seen,
    /// The form's token.
    sign_out: String,
}

impl Frame {
    /// Of a page for nobody in particular.
    pub fn of(site: &Site) -> Self {
        Self { base: site.base.clone(), who: None }
    }

    /// Of a page for this person.
    pub fn with(site: &Site, session: &Secret, visitor: &Visitor) -> Self {
        let person = &visitor.person;
        let who = Who {
            name: Seen::prose(named(person)),
            id: Seen::name(&person.to_string()),
            sign_out: form_token(session, "sign-out"),
        };
        Self { base: site.base.clone(), who: Some(who) }
    }
}

/// A page as it is sent: never kept, framed, or told of to others.
pub fn respond(status: StatusCode, page: &impl Template) -> HttpResponse {
    let text = page.render().expect("a page of texts always renders");
    HttpResponse::build(status)
        .insert_header(header::ContentType::html())
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_FRAME_OPTIONS, "DENY"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header(("cross-origin-opener-policy", "same-origin"))
        .body(text)
}

/// One heading, one sentence, and where to go on.
#[derive(Template)]
#[template(path = "claim/message.html")]
pub struct Message<'a> {
    pub frame: Frame,
    pub heading: &'a str,
    pub text: &'a str,
    /// URL and its words.
    pub next: Option<(String, &'static str)>,
}

/// Leads the browser on: a form's answer may not, because browsers hold where a form leads against the page's policy.
#[derive(Template)]
#[template(path = "claim/going.html")]
pub struct Going<'a> {
    pub frame: Frame,
    pub heading: String,
    pub url: &'a str,
}

/// For somebody who has to sign in. The same for every ceremony, also for one that is none.
#[derive(Template)]
#[template(path = "claim/start.html")]
pub struct Start {
    pub frame: Frame,
    pub heading: &'static str,
    pub problem: Option<&'static str>,
    pub to: Option<CeremonyId>,
    pub sign_ins: Vec<String>,
}

/// Asks whether an account is theirs.
#[derive(Template)]
#[template(path = "claim/confirm.html")]
pub struct Confirm<'a> {
    pub frame: Frame,
    pub issuer: &'a str,
    pub code: &'a str,
    pub state: &'a str,
}

/// A code host where a person may show an account.
pub struct LinkRow {
    issuer: String,
    /// The account that they have shown, in words.
    told: Option<(Seen, Seen, String)>,
    /// The form's token.
    token: String,
    /// Of the form that takes it back.
    removal: String,
}

impl LinkRow {
    pub fn of(one: &Linkable, session: &Secret, now: UnixSeconds) -> Self {
        let told = one.link.as_ref().map(|link| {
            let counts = match link.counts > now {
                true => format!("counts from {}", moment(link.counts)),
                false => format!("until {}", moment(link.until)),
            };
            (Seen::name(&link.account.name), Seen::name(&link.account.id), counts)
        });
        let token = |what: &str| form_token(session, what);
        let (begin, removal) = (token(super::link::PURPOSE), token(&super::link::removal(&one.issuer)));
        Self { issuer: one.issuer.clone(), told, token: begin, removal }
    }
}

/// A person's ceremonies.
#[derive(Template)]
#[template(path = "claim/list.html")]
pub struct List {
    frame: Frame,
    open: Vec<Row>,
    past: Vec<Row>,
    links: Vec<LinkRow>,
    /// Where a link's form leads back to.
    to: Option<CeremonyId>,
}

struct Row {
    id: CeremonyId,
    role: Seen,
    principal: Seen,
    state: &'static str,
    opened: String,
    claims: usize,
    quorum: u8,
    claimed: bool,
    left: Option<String>,
}

impl List {
    pub fn of(frame: Frame, open: &[Listed], past: &[Listed], links: Vec<LinkRow>, now: UnixSeconds) -> Self {
        let row = |one: &Listed, open: bool| Row {
            id: one.id,
            role: Seen::name(&one.role),
            principal: Seen::name(&one.principal),
            state: one.state,
            opened: moment(one.opened),
            claims: one.claims,
            quorum: one.quorum,
            claimed: one.claimed,
            left: open.then(|| span(one.expires.0 - now.0)),
        };
        let rows = |all: &[Listed], open| all.iter().map(|one| row(one, open)).collect();
        Self { frame, open: rows(open, true), past: rows(past, false), links, to: None }
    }
}

/// What a person's form gave that was not done.
#[derive(Default)]
pub struct Returned<'a> {
    pub problem: Option<String>,
    pub code_wrong: bool,
    pub reason: &'a str,
}

struct PartyRow {
    what: String,
    name: Seen,
    id: Seen,
    issuer: Seen,
}

struct SaidRow {
    name: Seen,
    id: Seen,
    at: String,
    reason: Seen,
}

/// A ceremony, before or after it is claimed.
#[derive(Template)]
#[template(path = "claim/review.html")]
pub struct ReviewPage<'a> {
    frame: Frame,
    heading: String,
    problem: Option<String>,
    status: Status,
    id: CeremonyId,
    role: Seen,
    description: Option<Seen>,
    asked: Vec<(String, Seen)>,
    parties: Vec<PartyRow>,
    claims: Vec<(Seen, Seen)>,
    remembered: Vec<(Seen, Seen)>,
    valid_for: Option<String>,
    /// When the same was claimed last, by whom, and what is different.
    before: Option<(String, Seen, Vec<Seen>)>,
    unproven: Vec<String>,
    said: Vec<SaidRow>,
    /// Where they could show who they are.
    link: Option<LinkRow>,
    weak: Option<String>,
    sign_ins: Vec<String>,
    to: Option<CeremonyId>,
    may_claim: bool,
    may_reject: bool,
    words: Vec<String>,
    tries: String,
    code_wrong: bool,
    reason: &'a str,
    claim_token: String,
    reject_token: String,
}

/// What a form's token is for.
pub fn purpose(verb: &str, id: CeremonyId) -> String {
    format!("{verb} {id}")
}

impl<'a> ReviewPage<'a> {
    pub fn of(
        site: &Site,
        session: &Secret,
        visitor: &Visitor,
        (review, weak, link): (&Review, Option<&Weak>, Option<Linkable>),
        returned: Returned<'a>,
        now: UnixSeconds,
    ) -> Self {
        let view = View::of(visitor, review, weak, now);
        let rows = |rows: &[(String, String)]| rows.iter().map(|(n, v)| (Seen::name(n), Seen::name(v))).collect();
        let party = |Party { what, name, id, issuer }: Party| PartyRow {
            what,
            name: Seen::name(&name),
            id: Seen::name(&id),
            issuer: Seen::name(&issuer),
        };
        let said = view.said.iter().map(|one| SaidRow {
            name: Seen::prose(&one.name),
            id: Seen::name(&one.id),
            at: one.at.clone(),
            reason: Seen::prose(&one.reason),
        });
        Self {
            frame: Frame::with(site, session, visitor),
            problem: returned.problem,
            id: review.id,
            role: Seen::name(&view.role),
            description: view.description.as_deref().map(Seen::prose),
            asked: view.asked.into_iter().map(|(what, value)| (what, Seen::name(&value))).collect(),
            parties: view.parties.into_iter().map(party).collect(),
            claims: rows(&view.claims),
            remembered: rows(&view.remembered),
            before: view.before.map(|before| {
                let changes = before.changes.iter().map(|text| Seen::prose(text)).collect();
                (before.at, Seen::name(&before.by), changes)
            }),
            said: said.collect(),
            link: link.map(|link| LinkRow::of(&link, session, now)),
            sign_ins: vec![visitor.person.sign_in.clone()],
            to: Some(review.id),
            code_wrong: returned.code_wrong,
            reason: returned.reason,
            claim_token: form_token(session, &purpose("claim", review.id)),
            reject_token: form_token(session, &purpose("reject", review.id)),
            heading: view.heading,
            status: view.status,
            valid_for: view.valid_for,
            unproven: view.unproven,
            weak: view.weak,
            may_claim: view.may_claim,
            may_reject: view.may_reject,
            words: view.words,
            tries: view.tries,
        }
    }
}
