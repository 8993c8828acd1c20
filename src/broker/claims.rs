//! What a person does with ceremonies, at a browser or on the command line: look, claim, reject. The desk judges them; here stands what their sign-in
//! must be for it, and which ceremonies are theirs.

use super::{Broker, Visitor, Weak};
use crate::{
    ceremony::{Desk, DeskError, Review, Taken},
    secret::Secret,
    store::{Down, KeptCeremony, Reader, WhichCeremonies},
};
use claimbound_core::{
    ceremony::{CeremonyId, Person, Refused, State},
    time::UnixSeconds,
};
use serde::Serialize;

/// Ceremonies of one question to the store.
const PAGE: u32 = 200;
/// Ceremonies that a list looks through, of the open ones and of the others.
const LOOKED_AT_MAX: usize = 2_000;
/// Ceremonies that a list shows, of each.
const LISTED_MAX: usize = 50;

/// Why nothing came of what a person did.
#[derive(Clone, Debug)]
pub enum NotTaken {
    /// There is none of this id, or they are not among its approvers: one answer.
    Unknown,
    /// Their sign-in is not what the role's sensitivity needs.
    Weak(Weak),
    /// It was counted.
    WrongCode,
    /// Why, as the desk says it to the person.
    Refused(String),
    Down(Down),
}

impl From<DeskError> for NotTaken {
    fn from(error: DeskError) -> Self {
        match error {
            DeskError::Unknown | DeskError::Refused(Refused::NotEligible) => Self::Unknown,
            DeskError::WrongCode { over: false } => Self::WrongCode,
            DeskError::WrongCode { over: true } => {
                Self::Refused("the code was wrong once too often: the request is rejected".to_owned())
            }
            DeskError::Store(down) => Self::Down(down),
            DeskError::Refused(_) | DeskError::Expired | DeskError::NoReason | DeskError::Suspended => {
                Self::Refused(error.to_string())
            }
        }
    }
}

/// One ceremony of a list.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    pub id: CeremonyId,
    pub opened: UnixSeconds,
    pub expires: UnixSeconds,
    /// Its state's name.
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
    /// A ceremony as this person sees it, and what their sign-in lacks to claim it.
    ///
    /// # Errors
    /// They may not know of it, or the store cannot be asked.
    pub async fn review(&self, id: CeremonyId, visitor: &Visitor) -> Result<(Review, Option<Weak>), NotTaken> {
        let review = self.desk().review(id, &visitor.person, self.clock.now()).await?;
        let weak = self.strong_enough(visitor, &review.shown.sensitivity).err();
        Ok((review, weak))
    }

    /// Claims one. Their sign-in is judged before anything that they typed.
    ///
    /// # Errors
    /// Why it is not claimed by them.
    pub async fn claim(
        &self,
        id: CeremonyId,
        visitor: &Visitor,
        code: &Secret,
        reason: &str,
    ) -> Result<Taken, NotTaken> {
        if let (_, Some(weak)) = self.review(id, visitor).await? {
            return Err(NotTaken::Weak(weak));
        }
        Ok(self.desk_of(visitor).claim(id, &visitor.person, code, reason, self.clock.now()).await?)
    }

    /// Rejects one: however fresh and strong their sign-in is. One on another device can only look.
    ///
    /// # Errors
    /// Why it is not rejected by them.
    pub async fn reject(&self, id: CeremonyId, visitor: &Visitor, reason: &str) -> Result<Taken, NotTaken> {
        if visitor.only_looks() {
            // Who may not know of it learns nothing.
            self.review(id, visitor).await?;
            return Err(NotTaken::Weak(Weak::Elsewhere));
        }
        Ok(self.desk_of(visitor).reject(id, &visitor.person, reason, self.clock.now()).await?)
    }

    fn desk_of(&self, visitor: &Visitor) -> Desk {
        Desk { through: visitor.came.through(), ..self.desk() }
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
        // Nobody moves one whose time is over until it is looked for.
        let (open, late): (Vec<_>, Vec<_>) = open.into_iter().partition(|listed| listed.expires > now);
        Ok((newest(open), newest(late.into_iter().chain(over).collect())))
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
        let own = page.iter().filter(|kept| kept.ceremony.bound.terms.approvers.admit(person));
        found.extend(own.map(|kept| listed(kept, person, now)));
        match last {
            Some(last) if looked_at < LOOKED_AT_MAX => after = last,
            _ => return Ok(found),
        }
    }
}

fn listed(kept: &KeptCeremony, person: &Person, now: UnixSeconds) -> Listed {
    let KeptCeremony { ceremony, .. } = kept;
    let (terms, state) = (&ceremony.bound.terms, &ceremony.state);
    let late = state.is_open(terms.standing) && !ceremony.is_open(now);
    Listed {
        id: ceremony.id,
        opened: ceremony.opened,
        expires: terms.expires,
        state: if late { State::Expired.name() } else { state.name() },
        role: ceremony.bound.shown.role.clone(),
        principal: ceremony.bound.shown.principal.name.clone(),
        claims: state.claims().len(),
        quorum: terms.quorum(kept.starters().iter()),
        claimed: state.claims().iter().any(|claim| claim.by.is(person)),
    }
}

fn newest(mut listed: Vec<Listed>) -> Vec<Listed> {
    listed.sort_by_key(|one| std::cmp::Reverse(one.opened));
    listed.truncate(LISTED_MAX);
    listed
}
