//! What a person at a browser does with ceremonies: look, claim, reject.

use super::{Broker, Visitor, Weak, operators::digest_of};
use crate::store::{Ceremony, Change, Commit, Down, Guard, KeptCeremony, Outcome, Reader, Standing, WhichCeremonies};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use claimbound_core::{
    ceremony::{
        self, CeremonyId, Claim, Event, Person, Refused, Shown, State, Terms, WORDS_SHOWN, WRONG_CODES_OF_PERSON_MAX,
        normal_code, words,
    },
    time::UnixSeconds,
};

/// How often somebody else may move a ceremony while it is judged.
const TRIES_MAX: usize = 8;
/// Ceremonies of one question to the store.
const PAGE: u32 = 200;
/// Ceremonies that a list looks through, of the open ones and of the others.
const LOOKED_AT_MAX: usize = 2_000;
/// Ceremonies that a list shows, of each.
const LISTED_MAX: usize = 50;

/// A ceremony as one of its approvers sees it.
#[derive(Clone, Debug)]
pub struct Review {
    pub id: CeremonyId,
    pub opened: UnixSeconds,
    pub state: State,
    pub terms: Terms,
    pub shown: Shown,
    /// Jobs that wait for it.
    pub jobs: usize,
    /// Distinct people who must claim it.
    pub quorum: u8,
    /// A job's run shows no person who could be another than the approver.
    pub proves_nobody: bool,
    /// To be compared with the job's log.
    pub words: [&'static str; WORDS_SHOWN],
    /// What changed in the rule since somebody claimed the same last.
    pub changed: Option<String>,
    /// Whether this person may claim it now, wherever it stands, and whether they did.
    pub may: Result<(), Refused>,
    /// What their sign-in lacks for it.
    pub weak: Option<Weak>,
    /// Wrong codes that they have left.
    pub tries_left: u8,
}

/// What became of a claim or a rejection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    Done,
    /// It was counted.
    WrongCode,
    Refused(Refused),
    Weak(Weak),
    /// There is none of this id, or they are not among its approvers: one answer.
    Unknown,
}

/// One ceremony of a list.
#[derive(Clone, Debug)]
pub struct Listed {
    pub id: CeremonyId,
    pub opened: UnixSeconds,
    pub expires: UnixSeconds,
    /// Its state's name; nothing moves one whose time is over until it is swept.
    pub state: &'static str,
    pub role: String,
    pub principal: String,
    /// Distinct people who claimed it, and who must.
    pub claims: usize,
    pub quorum: u8,
    /// This person is one of them.
    pub claimed: bool,
}

impl Broker {
    /// A ceremony, if this person may know of it.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn review(&self, id: CeremonyId, visitor: &Visitor) -> Result<Option<Review>, Down> {
        let kept = self.kept(id, &visitor.person).await?;
        Ok(kept.map(|kept| self.reviewed(&kept, &visitor.person)))
    }

    fn reviewed(&self, kept: &KeptCeremony, person: &Person) -> Review {
        let KeptCeremony { ceremony, jobs } = kept;
        let (terms, starters) = (&ceremony.bound.terms, kept.starters());
        let claimed = ceremony.state.claims().iter().any(|claim| claim.by.is(person));
        let tries_left = match &ceremony.state {
            State::Pending { tries, .. } => {
                let own = tries.iter().filter(|one| one.by.is(person)).map(|one| one.wrong).sum();
                WRONG_CODES_OF_PERSON_MAX.saturating_sub(own)
            }
            _ => 0,
        };
        let may = match terms.admits(person, starters.iter()) {
            Ok(()) if claimed => Err(Refused::AlreadyClaimed),
            Ok(()) if !matches!(ceremony.state, State::Pending { .. }) => Err(Refused::NotNow),
            Ok(()) if tries_left == 0 => Err(Refused::NoTriesLeft),
            admitted => admitted,
        };
        Review {
            id: ceremony.id,
            opened: ceremony.opened,
            state: now_at(ceremony, self.clock.now()),
            shown: ceremony.bound.shown.clone(),
            jobs: jobs.iter().filter(|job| !job.withdrawn).count(),
            quorum: terms.quorum(starters.iter()),
            proves_nobody: starters.iter().any(|starter| starter.proves_nobody),
            words: words(&ceremony.key),
            changed: None,
            weak: self.strong_enough(person, &ceremony.bound.shown.sensitivity).err(),
            terms: terms.clone(),
            may,
            tries_left,
        }
    }

    async fn kept(&self, id: CeremonyId, person: &Person) -> Result<Option<KeptCeremony>, Down> {
        let found = self.read(move |reader| reader.ceremonies(WhichCeremonies::One(id), 1)).await?;
        Ok(found.into_iter().find(|kept| kept.ceremony.bound.terms.approvers.admit(person)))
    }

    /// Claims a ceremony for a person.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn claim(&self, id: CeremonyId, visitor: &Visitor, code: &str, reason: &str) -> Result<Said, Down> {
        let code = normal_code(code);
        self.say(id, &visitor.person, true, |kept, now| {
            let starters = kept.starters();
            let right = |code: &String| {
                let digest = digest_of(&format!("{id}{code}"));
                kept.jobs.iter().any(|job| verify_slices_are_equal(&job.code, &digest).is_ok())
            };
            let claim = Claim { by: visitor.person.clone(), at: now, reason: reason.to_owned() };
            let event = Event::Claim { claim, code_right: code.as_ref().is_some_and(right), starters: &starters };
            ceremony::step(&kept.ceremony.state, &kept.ceremony.bound.terms, event, now)
        })
        .await
    }

    /// Rejects one.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn reject(&self, id: CeremonyId, visitor: &Visitor, _reason: &str) -> Result<Said, Down> {
        self.say(id, &visitor.person, false, |kept, now| {
            let starters = kept.starters();
            let event = Event::Reject { by: visitor.person.clone(), starters: &starters };
            ceremony::step(&kept.ceremony.state, &kept.ceremony.bound.terms, event, now)
        })
        .await
    }

    async fn say(
        &self,
        id: CeremonyId,
        person: &Person,
        strongly: bool,
        step: impl Fn(&KeptCeremony, UnixSeconds) -> Result<ceremony::Step, Refused>,
    ) -> Result<Said, Down> {
        for _ in 0..TRIES_MAX {
            let Some(kept) = self.kept(id, person).await? else { return Ok(Said::Unknown) };
            let KeptCeremony { ceremony, .. } = &kept;
            if strongly && let Err(weak) = self.strong_enough(person, &ceremony.bound.shown.sensitivity) {
                return Ok(Said::Weak(weak));
            }
            let now = self.clock.now();
            let stepped = match step(&kept, now) {
                Ok(stepped) => stepped,
                Err(refused) => return Ok(Said::Refused(refused)),
            };
            let mut changes = Vec::new();
            if ceremony.bound.terms.standing
                && let State::Claimed { claims, .. } = &stepped.next
            {
                changes.push(Change::Stand(Box::new(standing(ceremony, claims, now))));
            }
            let expired = stepped.next == State::Expired;
            let guards = vec![Guard::Ceremony(ceremony.to(stepped.next))];
            match self.writer.commit(Commit { guards, changes, entry: None }).await? {
                Outcome::Durable { .. } if stepped.wrong_code => return Ok(Said::WrongCode),
                Outcome::Durable { .. } if expired => return Ok(Said::Refused(Refused::NotNow)),
                Outcome::Durable { .. } => return Ok(Said::Done),
                Outcome::Blocked(_) => {}
            }
        }
        Err(Down::new("the ceremony was moved too often meanwhile".to_owned()))
    }

    /// Open and past ceremonies whose approver this person is, the newest first.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn ceremonies_of(&self, visitor: &Visitor) -> Result<(Vec<Listed>, Vec<Listed>), Down> {
        let (person, now) = (visitor.person.clone(), self.clock.now());
        let (open, over) = self
            .read(move |reader| {
                let open = theirs(reader, &person, now, WhichCeremonies::Open)?;
                Ok((open, theirs(reader, &person, now, WhichCeremonies::Closed)?))
            })
            .await?;
        let (open, late): (Vec<_>, Vec<_>) = open.into_iter().partition(|listed| listed.state != State::Expired.name());
        Ok((newest(open), newest(late.into_iter().chain(over).collect())))
    }
}

/// Where it stands at this time: nobody moves one whose time is over until somebody asks.
fn now_at(ceremony: &Ceremony, now: UnixSeconds) -> State {
    let late = now >= ceremony.bound.terms.expires && ceremony.state.is_open(ceremony.bound.terms.standing);
    if late { State::Expired } else { ceremony.state.clone() }
}

fn standing(ceremony: &Ceremony, claims: &[Claim], now: UnixSeconds) -> Standing {
    let shown = ceremony.bound.shown.clone();
    Standing {
        key: ceremony.key,
        ceremony: ceremony.id,
        rule: ceremony.rule,
        since: now,
        until: now.plus(shown.valid_for.unwrap_or_default().into()),
        claims: claims.to_vec(),
        subjects: ceremony.bound.subjects.clone(),
        shown,
    }
}

fn theirs(
    reader: &dyn Reader,
    person: &Person,
    now: UnixSeconds,
    which: fn(CeremonyId) -> WhichCeremonies,
) -> Result<Vec<Listed>, Down> {
    let (mut after, mut looked_at, mut found) = (CeremonyId(0), 0, Vec::new());
    loop {
        let page = reader.ceremonies(which(after), PAGE)?;
        looked_at += page.len();
        let last = page.last().map(|kept| kept.ceremony.id);
        found.extend(page.iter().filter(|kept| kept.ceremony.bound.terms.approvers.admit(person)).map(|kept| {
            let KeptCeremony { ceremony, .. } = kept;
            let state = now_at(ceremony, now);
            Listed {
                id: ceremony.id,
                opened: ceremony.opened,
                expires: ceremony.bound.terms.expires,
                state: state.name(),
                role: ceremony.bound.shown.role.clone(),
                principal: ceremony.bound.shown.principal.name.clone(),
                claims: state.claims().len(),
                quorum: ceremony.bound.terms.quorum(kept.starters().iter()),
                claimed: state.claims().iter().any(|claim| claim.by.is(person)),
            }
        }));
        match last {
            Some(last) if looked_at < LOOKED_AT_MAX => after = last,
            _ => return Ok(found),
        }
    }
}

fn newest(mut listed: Vec<Listed>) -> Vec<Listed> {
    listed.sort_by_key(|one| std::cmp::Reverse(one.opened));
    listed.truncate(LISTED_MAX);
    listed
}
