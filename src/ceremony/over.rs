//! What ends by itself: ceremonies that nobody came for, claims of first uses whose time is over, and whatever of both rests on
//! something that was suspended. Each end is a record, so that who asks later why a job waits again finds why.

use super::{
    Desk,
    desk::{claims_of, entry},
    ended as how_ended, told_ended,
};
use crate::{
    store::{Change, Commit, Down, Guard, Outcome, WhichCeremonies, WhichStanding},
    webhooks::Event as Happened,
};
use claimbound_core::{
    ceremony::{Event, step},
    time::UnixSeconds,
};
use serde_json::json;
use std::sync::Arc;

/// Ceremonies, and claims, that one look for those whose time is over brings.
const OVER_MAX: u32 = 200;

impl Desk {
    /// Ends what nobody came for in time, and what a suspension made void, with a record of each. Says how many.
    ///
    /// # Errors
    /// The store cannot be asked, or cannot record it.
    pub async fn expire(&self, now: UnixSeconds) -> Result<usize, Down> {
        let over = self.read(WhichCeremonies::Over(now), OVER_MAX).await?;
        let mut ended = 0;
        for kept in over {
            let ceremony = &kept.ceremony;
            let Ok(step) = step(&ceremony.state, &ceremony.bound.terms, Event::Tick, now) else { continue };
            let details = claims_of(ceremony.state.claims());
            let about = (ceremony.id, &ceremony.bound.shown);
            let entry = entry(about, how_ended(ceremony), step.next.name(), details, now);
            let guards = vec![Guard::Ceremony(ceremony.to(step.next))];
            let commit = Commit { guards, changes: vec![], entry: Some(entry) };
            if let Outcome::Durable { .. } = self.writer.commit(commit).await? {
                self.tell(&kept, told_ended(ceremony));
                ended += 1;
            }
        }
        Ok(ended)
    }

    /// Ends claims of first uses that stand no more: their time is over, or a suspension made them void. A record of each;
    /// says how many.
    ///
    /// # Errors
    /// The store cannot be asked, or cannot record it.
    pub async fn lapse(&self, now: UnixSeconds) -> Result<usize, Down> {
        let reader = Arc::clone(&self.reader);
        let over = tokio::task::spawn_blocking(move || reader.standing(WhichStanding::Over(now), OVER_MAX)).await;
        let over = over.map_err(|_| Down::new("reading them panicked"))??;
        let mut ended = 0;
        for one in over {
            let how = if one.until == UnixSeconds(0) { "voided" } else { "lapsed" };
            let mut details = claims_of(&one.claims);
            details.insert("shown".into(), json!(one.shown));
            let entry = entry((one.ceremony, &one.shown), how, "lapsed", details, now);
            let guards = vec![Guard::Lapsed { key: one.key, at: now }];
            let commit = Commit { guards, changes: vec![Change::ResetClaims(vec![one.key])], entry: Some(entry) };
            // Blocked: another broker was first, or it was claimed anew.
            if let Outcome::Durable { .. } = self.writer.commit(commit).await? {
                self.happened(Happened::Lapsed, one.ceremony, &one.shown, one.until);
                ended += 1;
            }
        }
        Ok(ended)
    }
}
