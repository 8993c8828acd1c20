//! Whose the keys of a session are: what AWS STS would be asked by `GetCallerIdentity`, answered from the live lease. That request
//! cannot be passed on, since its signature covers the host; and it is not verified here, for want of the secret. So whoever asks
//! shows the session's token, which the holder of its keys alone has.

use super::Broker;
use crate::{
    exchange::{Identity, session_key},
    secret::Secret,
    store::{Down, LeaseState},
};

/// Who they are at AWS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallerIdentity {
    pub arn: String,
    pub user_id: String,
    pub account: String,
}

impl Broker {
    /// Of a session that the broker gave, as long as its lease lives; `None` for anything else.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn caller_identity(&self, access_key_id: &str, token: &Secret) -> Result<Option<CallerIdentity>, Down> {
        let (key, now) = (session_key(token), self.clock.now());
        let found = self.read(move |reader| {
            let Some(text) = reader.note(&key)? else { return Ok(None) };
            let identity: Identity =
                serde_json::from_str(&text).map_err(|error| Down::new(format!("a note cannot be read: {error}")))?;
            Ok(reader.lease(identity.lease)?.map(|lease| (identity, lease)))
        });
        Ok(found
            .await?
            .filter(|(_, lease)| {
                lease.state == LeaseState::Issued
                    && lease.expires > now
                    && lease.handle.as_deref() == Some(access_key_id)
            })
            .map(|(identity, _)| {
                let account = identity.assumed_role_arn.split(':').nth(4).unwrap_or_default().to_owned();
                CallerIdentity { arn: identity.assumed_role_arn, user_id: identity.assumed_role_id, account }
            }))
    }

    /// An answer in the words of AWS STS: counted only.
    pub fn count_sts(&self, action: &'static str, code: &'static str) {
        self.metrics.sts_answered(action, code);
    }
}
