//! The pages: what is told, in which words, and with which headers. Nothing here decides.

use super::{
    changes::changes,
    gate::{Site, form_token},
    seen::Seen,
};
use crate::{
    broker::{Listed, Review, Visitor, Weak},
    secret::Secret,
};
use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
};
use askama::Template;
use claimbound_core::{
    ceremony::{CeremonyId, Person, Refused, ShownParty, WRONG_CODES_OF_PERSON_MAX},
    time::UnixSeconds,
};

/// No script, no image, nothing of others; forms to ourselves alone.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// A mapping folder's version is known by its beginning.
const VERSION_CHARACTERS: usize = 12;

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
        let who =
            Who { name: named(person), id: Seen::name(&person.to_string()), sign_out: form_token(session, "sign-out") };
        Self { base: site.base.clone(), who: Some(who) }
    }
}

fn named(person: &Person) -> Seen {
    Seen::prose(person.name.as_deref().or(person.email.as_deref()).unwrap_or_default())
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

/// A person's ceremonies.
#[derive(Template)]
#[template(path = "claim/list.html")]
pub struct List {
    frame: Frame,
    open: Vec<Row>,
    past: Vec<Row>,
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
    pub fn of(frame: Frame, open: &[Listed], past: &[Listed], now: UnixSeconds) -> Self {
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
        Self { frame, open: rows(open, true), past: rows(past, false) }
    }
}

/// Where a ceremony stands, for this person.
struct Status {
    /// A class of the stylesheet.
    kind: &'static str,
    short: &'static str,
    long: String,
}

struct PartyRow {
    what: &'static str,
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

/// What a person's form gave that was not done.
#[derive(Default)]
pub struct Returned<'a> {
    pub problem: Option<String>,
    pub code_wrong: bool,
    pub reason: &'a str,
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
    asked: Vec<(&'static str, Seen)>,
    parties: Vec<PartyRow>,
    claims: Vec<(Seen, Seen)>,
    remembered: Vec<(Seen, Seen)>,
    valid_for: Option<String>,
    /// When the same was claimed last, by whom, and what is different.
    before: Option<(String, Seen, Vec<Seen>)>,
    unproven: Vec<String>,
    said: Vec<SaidRow>,
    weak: Option<String>,
    sign_ins: Vec<String>,
    to: Option<CeremonyId>,
    may_claim: bool,
    may_reject: bool,
    words: [&'static str; 3],
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
        (review, weak): (&Review, Option<&Weak>),
        returned: Returned<'a>,
        now: UnixSeconds,
    ) -> Self {
        let shown = &review.shown;
        let pending = review.state == "pending";
        let open = pending || (review.state == "claimed" && !review.standing);
        let may = pending && review.hindrance.is_none() && review.tries_left > 0;
        let rows = |rows: &[(String, String)]| rows.iter().map(|(n, v)| (Seen::name(n), Seen::name(v))).collect();
        let party = |what, party: &ShownParty| PartyRow {
            what,
            name: Seen::name(&party.name),
            id: Seen::name(&party.id),
            issuer: Seen::name(&party.issuer),
        };
        let outermost = shown.actors.iter().take(1).map(|one| party("Who acts", one));
        let earlier = shown.actors.iter().skip(1).map(|one| party("who acted before", one));
        let said = review.claims.iter().map(|claim| SaidRow {
            name: named(&claim.by),
            id: Seen::name(&claim.by.to_string()),
            at: moment(claim.at),
            reason: Seen::prose(&claim.reason),
        });
        let heading = match review.standing {
            true => format!("First use of {}", shown.role),
            false => format!("Claim {}", shown.role),
        };
        Self {
            frame: Frame::with(site, session, visitor),
            heading,
            problem: returned.problem,
            status: status(review, now),
            id: review.id,
            role: Seen::name(&shown.role),
            description: Some(&shown.description).filter(|text| !text.is_empty()).map(|text| Seen::prose(text)),
            asked: asked(review, now),
            parties: [party("Job of", &shown.principal)].into_iter().chain(outermost).chain(earlier).collect(),
            claims: rows(&shown.claims),
            remembered: rows(&shown.remembered),
            valid_for: shown.valid_for.map(|seconds| span(seconds.into())),
            before: review.before.as_ref().map(|before| {
                let people: Vec<_> = before.claims.iter().map(|claim| claim.by.to_string()).collect();
                let told = changes(before, shown).iter().map(|text| Seen::prose(text)).collect();
                (moment(before.at), Seen::name(&people.join(", ")), told)
            }),
            unproven: unproven(review),
            said: said.collect(),
            weak: weak.filter(|_| may).map(Weak::to_string),
            sign_ins: vec![visitor.person.sign_in.clone()],
            to: Some(review.id),
            may_claim: may,
            may_reject: open,
            words: review.words,
            tries: tries(review.tries_left),
            code_wrong: returned.code_wrong,
            reason: returned.reason,
            claim_token: form_token(session, &purpose("claim", review.id)),
            reject_token: form_token(session, &purpose("reject", review.id)),
        }
    }
}

fn tries(left: u8) -> String {
    match left {
        WRONG_CODES_OF_PERSON_MAX.. => String::new(),
        1 => "You have one try left.".to_owned(),
        left => format!("You have {left} tries left."),
    }
}

fn asked(review: &Review, now: UnixSeconds) -> Vec<(&'static str, Seen)> {
    let shown = &review.shown;
    let mut rows = vec![
        ("Sensitivity", Seen::name(&shown.sensitivity)),
        ("Credential lives", Seen::name(&format!("at most {}", span(shown.duration.into())))),
    ];
    rows.extend(shown.scope.as_deref().map(|scope| ("Scope", Seen::name(scope))));
    rows.extend(shown.target.as_deref().map(|target| ("Target", Seen::name(target))));
    rows.push(("Rule", Seen::name(&format!("{} of team {}", shown.mapping, shown.team))));
    rows.extend(shown.contact.as_deref().map(|contact| ("Whom to ask", Seen::name(contact))));
    let version: String = shown.mappings_version.chars().take(VERSION_CHARACTERS).collect();
    rows.push(("Mapping folder", Seen::name(&version)));
    rows.push(("Opened", Seen::name(&moment(review.opened))));
    let left = review.expires.0 - now.0;
    let until = match left > 0 && ["pending", "claimed"].contains(&review.state) {
        true => format!("{}, {} left", moment(review.expires), span(left)),
        false => moment(review.expires),
    };
    rows.push(("To be claimed until", Seen::name(&until)));
    rows
}

/// What nobody should believe because it stands on this page.
fn unproven(review: &Review) -> Vec<String> {
    let shown = &review.shown;
    let mut texts = vec![
        "What the code does. The token says which repository, commit and workflow run, not what they will do with the \
         credential."
            .to_owned(),
        "Names. Repositories, branches and people can be renamed and names taken over; the ids beside them stay."
            .to_owned(),
        "That whoever sent you the link is who started the job. Ask them by a way that you trust, if you did not expect it."
            .to_owned(),
    ];
    if review.proves_nobody {
        let more = match review.allow_self {
            true => "",
            false => ", so one person more has to claim it",
        };
        texts.push(format!(
            "Who started the job: it was run again, by a schedule or by a program, and its token names nobody who could \
             be another than you{more}."
        ));
    }
    if review.allow_self {
        texts.push("That a second person looked: the rule lets whoever started the job claim it.".to_owned());
    }
    if shown.any_job_of_run {
        texts.push(
            "Which job of the run it is: the issuer's tokens do not say. Any job of this run that names this environment \
             can redeem your claim."
                .to_owned(),
        );
    }
    if review.waiting > 1 {
        texts.push(format!(
            "What the other jobs are: {} wait for this claim, and the first one is shown.",
            review.waiting
        ));
    }
    texts
}

fn status(review: &Review, now: UnixSeconds) -> Status {
    let (claims, quorum) = (review.claims.len(), review.quorum);
    let left = span(review.expires.0 - now.0);
    let of = match quorum {
        1 => String::new(),
        _ => format!(" {claims} of {quorum} people have claimed it."),
    };
    let (kind, short, long) = match (review.state, review.hindrance) {
        ("pending", None) if review.tries_left == 0 => {
            ("bad", "You cannot claim it:", format!("{}.{of}", Refused::NoTriesLeft))
        }
        ("pending", None) => {
            ("open", "It waits for you.", format!("Nothing is issued until you claim it. Time left: {left}.{of}"))
        }
        ("pending", Some(Refused::AlreadyClaimed)) => {
            ("good", "You have claimed it.", format!("It waits for others.{of}"))
        }
        ("pending", Some(refused)) => ("bad", "You cannot claim it:", format!("{refused}.{of}")),
        ("claimed", _) if review.standing => {
            ("good", "It is claimed.", "Jobs with the values below get the role from now on.".to_owned())
        }
        ("claimed", _) => {
            ("good", "It is claimed.", format!("Its job can fetch the credential now. Time left: {left}."))
        }
        ("consumed", _) => ("good", "It is done.", "Its job has fetched the credential.".to_owned()),
        ("rejected", _) => (
            "bad",
            "It was rejected",
            "by one of its approvers, or because too many codes were wrong. Nothing is issued for it.".to_owned(),
        ),
        ("withdrawn", _) => ("bad", "Its job has gone.", "Nothing is issued for it.".to_owned()),
        _ => ("bad", "Its time is over.", "Nothing is issued for it; the job has to ask again.".to_owned()),
    };
    Status { kind, short, long }
}

/// `2026-11-22 16:20 UTC`.
fn moment(at: UnixSeconds) -> String {
    jiff::Timestamp::from_second(at.0).map(|at| at.strftime("%Y-%m-%d %H:%M UTC").to_string()).unwrap_or_default()
}

/// A span of time as people say it: its two largest units.
fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let units = [("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (unit, length) in units {
        let count = rest / length;
        rest %= length;
        if count > 0 {
            parts.push(format!("{count} {unit}{}", if count == 1 { "" } else { "s" }));
        } else if !parts.is_empty() {
            break;
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0 seconds".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        for (seconds, expected) in [
            (-5, "0 seconds"),
            (1, "1 second"),
            (900, "15 minutes"),
            (605, "10 minutes 5 seconds"),
            (3_605, "1 hour"),
            (5_400, "1 hour 30 minutes"),
            (86_400 * 30, "30 days"),
        ] {
            assert_eq!(span(seconds), expected);
        }
        assert_eq!(moment(UnixSeconds(1_800_000_000)), "2027-01-15 08:00 UTC");
    }
}
