//! A ceremony as one person sees it, in words: the same on the page and on the command line. Texts of strangers are as they
//! were written; whoever shows them marks what deceives ([`super::Seen`]).

use super::changes::changes;
use crate::broker::{Review, Visitor, Weak};
use claimbound_core::{
    ceremony::{Person, Refused, Shown, ShownParty, WRONG_CODES_OF_PERSON_MAX},
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};

/// A mapping folder's version is known by its beginning.
const VERSION_CHARACTERS: usize = 12;

/// Where a ceremony stands, for this person.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// `open`, `good` or `bad`.
    pub kind: String,
    pub short: String,
    pub long: String,
}

/// Who asks, or acts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Party {
    pub what: String,
    pub name: String,
    pub id: String,
    pub issuer: String,
}

/// One claim of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Said {
    pub name: String,
    pub id: String,
    pub at: String,
    pub reason: String,
}

/// When the same was claimed last, by whom, and what is different since.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Earlier {
    pub at: String,
    pub by: String,
    pub changes: Vec<String>,
}

/// Everything that a person is shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct View {
    pub heading: String,
    pub status: Status,
    pub role: String,
    pub description: Option<String>,
    pub asked: Vec<(String, String)>,
    pub parties: Vec<Party>,
    /// Of the job that opened it.
    pub claims: Vec<(String, String)>,
    pub remembered: Vec<(String, String)>,
    /// How long a claim of a first use stands.
    pub valid_for: Option<String>,
    pub before: Option<Earlier>,
    pub unproven: Vec<String>,
    /// Who claimed it so far.
    pub said: Vec<Said>,
    /// What this person's sign-in lacks to claim it.
    pub weak: Option<String>,
    pub may_claim: bool,
    pub may_reject: bool,
    /// To compare with those in the job's log.
    pub words: Vec<String>,
    /// How many wrong codes they have left, once one was wrong.
    pub tries: String,
}

/// What a program is told: the facts beside the words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    pub ceremony: String,
    pub state: String,
    pub opened: UnixSeconds,
    pub expires: UnixSeconds,
    pub first_use: bool,
    pub claims: usize,
    pub quorum: u8,
    /// Jobs that wait for it.
    pub waiting: usize,
    pub tries_left: u8,
    /// What is bound.
    pub bound: Shown,
    pub view: View,
}

impl Told {
    pub fn of(visitor: &Visitor, review: &Review, weak: Option<&Weak>, now: UnixSeconds) -> Self {
        Self {
            ceremony: review.id.to_string(),
            state: review.state.to_owned(),
            opened: review.opened,
            expires: review.expires,
            first_use: review.standing,
            claims: review.claims.len(),
            quorum: review.quorum,
            waiting: review.waiting,
            tries_left: review.tries_left,
            bound: review.shown.clone(),
            view: View::of(visitor, review, weak, now),
        }
    }
}

impl View {
    pub fn of(visitor: &Visitor, review: &Review, weak: Option<&Weak>, now: UnixSeconds) -> Self {
        let shown = &review.shown;
        let pending = review.state == "pending";
        let open = pending || (review.state == "claimed" && !review.standing);
        let may = pending && review.hindrance.is_none() && review.tries_left > 0;
        let party = |what: &str, party: &ShownParty| Party {
            what: what.to_owned(),
            name: party.name.clone(),
            id: party.id.clone(),
            issuer: party.issuer.clone(),
        };
        let outermost = shown.actors.iter().take(1).map(|one| party("Who acts", one));
        let earlier = shown.actors.iter().skip(1).map(|one| party("who acted before", one));
        let said = review.claims.iter().map(|claim| Said {
            name: named(&claim.by).to_owned(),
            id: claim.by.to_string(),
            at: moment(claim.at),
            reason: claim.reason.clone(),
        });
        Self {
            heading: match review.standing {
                true => format!("First use of {}", shown.role),
                false => format!("Claim {}", shown.role),
            },
            status: status(review, now),
            role: shown.role.clone(),
            description: Some(shown.description.clone()).filter(|text| !text.is_empty()),
            asked: asked(review, now),
            parties: [party("Job of", &shown.principal)].into_iter().chain(outermost).chain(earlier).collect(),
            claims: shown.claims.clone(),
            remembered: shown.remembered.clone(),
            valid_for: shown.valid_for.map(|seconds| span(seconds.into())),
            before: review.before.as_ref().map(|before| Earlier {
                at: moment(before.at),
                by: before.claims.iter().map(|claim| claim.by.to_string()).collect::<Vec<_>>().join(", "),
                changes: changes(before, shown),
            }),
            unproven: unproven(review),
            said: said.collect(),
            weak: weak.filter(|_| may).map(Weak::to_string),
            may_claim: may && weak.is_none(),
            may_reject: open && !visitor.only_looks(),
            words: review.words.map(str::to_owned).to_vec(),
            tries: tries(review.tries_left),
        }
    }
}

/// What people call somebody.
pub fn named(person: &Person) -> &str {
    person.name.as_deref().or(person.email.as_deref()).unwrap_or_default()
}

fn tries(left: u8) -> String {
    match left {
        WRONG_CODES_OF_PERSON_MAX.. => String::new(),
        1 => "You have one try left.".to_owned(),
        left => format!("You have {left} tries left."),
    }
}

fn asked(review: &Review, now: UnixSeconds) -> Vec<(String, String)> {
    let shown = &review.shown;
    let version: String = shown.mappings_version.chars().take(VERSION_CHARACTERS).collect();
    let left = review.expires.0 - now.0;
    let until = match left > 0 && ["pending", "claimed"].contains(&review.state) {
        true => format!("{}, {} left", moment(review.expires), span(left)),
        false => moment(review.expires),
    };
    let rows = [
        ("Sensitivity", Some(shown.sensitivity.clone())),
        ("Credential lives", Some(format!("at most {}", span(shown.duration.into())))),
        ("Scope", shown.scope.clone()),
        ("Target", shown.target.clone()),
        ("Rule", Some(format!("{} of team {}", shown.mapping, shown.team))),
        ("Whom to ask", shown.contact.clone()),
        ("Mapping folder", Some(version)),
        ("Opened", Some(moment(review.opened))),
        ("To be claimed until", Some(until)),
    ];
    rows.into_iter().filter_map(|(what, value)| Some((what.to_owned(), value?))).collect()
}

/// What nobody should believe because it stands here.
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
    Status { kind: kind.to_owned(), short: short.to_owned(), long }
}

/// `2026-11-22 16:20 UTC`.
pub fn moment(at: UnixSeconds) -> String {
    jiff::Timestamp::from_second(at.0).map(|at| at.strftime("%Y-%m-%d %H:%M UTC").to_string()).unwrap_or_default()
}

/// A span of time as people say it: its two largest units.
pub fn span(seconds: i64) -> String {
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
