//! Ending a family of renewals by whoever holds one of its refresh tokens.

use super::{Broker, Revoked};
use crate::{
    exchange,
    issuance::Ended,
    store::{Change, Commit, Down, Family, HeldLease, Outcome},
};
use claimbound_core::{
    evidence::{Details, Record, What},
    time::UnixSeconds,
};

impl Broker {
    /// Ends the family and its leases; also by a refresh token that has had its turn.
    pub(super) async fn revoke_family(&self, secret: [u8; 32], now: UnixSeconds) -> Result<Revoked, Down> {
        let found = self.read(move |reader| {
            let family = reader.family(&secret)?;
            family.map(|family| Ok((reader.leases_of(family.id)?, family))).transpose()
        });
        let Some((leases, Family { id: family, role, .. })) = found.await? else { return Ok(Revoked::Unknown) };
        // What all of them together can promise is what the weakest does.
        let mut effect = Ended::DeadNow;
        for HeldLease { handle, .. } in leases.into_iter().filter(|lease| lease.expires > now) {
            effect = effect.max(self.effect_of_ending(&role, handle.as_deref(), false).await);
        }
        let record = Record {
            decision: None,
            at: now,
            what: What::FamilyEnded { family, how: "revoked", effect: effect.name() },
            principal: None,
            actor: None,
            mappings_version: None,
        };
        let entry = record.seal(&Details::default(), exchange::salt());
        let commit = Commit { guards: vec![], changes: vec![Change::EndFamily(family)], entry: Some(entry) };
        match self.writer.commit(commit).await? {
            Outcome::Durable { .. } => {
                self.metrics.revoked();
                Ok(Revoked::Ended)
            }
            Outcome::Blocked(_) => Ok(Revoked::Unknown),
        }
    }
}
