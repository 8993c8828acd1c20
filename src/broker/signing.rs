//! One issuer name, one trust domain. The store knows every key that was ever made under the name: a ring that lacks one
//! of them is another ring, and a published key that is not among them is somebody else's. Both end signing.

use super::{Broker, StartError};
use crate::{
    config::Config,
    exchange,
    keys::signing::{Compared, KeyInfo, PublishedAt, Revocation, Signer, SigningError, compare, look},
    net::Client,
    operators::{May, NotAllowed, Operator},
    store::{Blocked, Change, Commit, Down, Opened, Outcome, Reader, Writer},
};
use claimbound_core::{
    evidence::{Details, Record, What},
    time::UnixSeconds,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard, PoisonError},
};

/// Facts of the store: a key that was made, by its algorithm; a key that was revoked, by when.
const MADE: &str = "signing_key:";
const REVOKED: &str = "signing_key_revoked:";
/// Fact of the store: the first key that it ever knew. Of two brokers that open a new store at once, each with keys of its
/// own, one is the first.
const FIRST: &str = "signing_key_first";

/// The name of the fact that this key was made by brokers of a store; its value is the algorithm.
pub fn made_fact(kid: &str) -> String {
    format!("{MADE}{kid}")
}

/// What is known of keys beyond the ring.
#[derive(Clone, Default, Debug)]
pub(super) struct Trust {
    /// Why the ring that stands on disk is not taken up.
    pub ring: Option<String>,
    /// Why the store does not let the ring sign.
    revoked: Option<String>,
    pub published: Compared,
    /// Why the published documents could not be read.
    pub unread: Option<String>,
    /// When they were last read.
    pub read: Option<UnixSeconds>,
}

/// Where the documents are published, if not by ourselves.
pub(super) struct Published {
    at: PublishedAt,
    client: Client,
}

impl Published {
    pub(super) fn new(config: &Config, client: Client) -> Option<Self> {
        let at = PublishedAt {
            issuer_url: config.issuer_url.clone(),
            allow_private_network: config.signing.allow_private_network,
            allow_plain_loopback: config.development,
            ca_file: config.signing.ca_file.clone(),
        };
        (config.issuer_url != config.public_url).then_some(Self { at, client })
    }
}

/// How a ring stands to what the store knows.
enum Standing {
    /// Keys that the store does not know yet; keys that are revoked and it does not know of.
    Ours {
        new: Vec<KeyInfo>,
        revoked: Vec<KeyInfo>,
    },
    Other(String),
    /// The ring is ours, and signs with a key that was revoked.
    Revived(String),
}

fn standing(facts: &BTreeMap<String, String>, ring: &[KeyInfo]) -> Standing {
    let known = |prefix: &str, kid: &str| facts.contains_key(&format!("{prefix}{kid}"));
    let of = |prefix: &'static str| facts.keys().filter_map(move |name| name.strip_prefix(prefix));
    let in_ring = |kid: &str| ring.iter().find(|key| key.kid == kid);
    if let Some(lost) = of(MADE).find(|kid| in_ring(kid).is_none()) {
        return Standing::Other(format!(
            "these are not all keys of this store: `{lost}` is missing. They belong to another broker, or are an older \
             copy: copy the folder from where it is whole, or, if that key is lost for good, `claimbound keys revoke \
             {lost}`"
        ));
    }
    let revived = |kid: &&str| in_ring(kid).is_some_and(|key| key.revoked.is_none());
    if let Some(kid) = of(REVOKED).find(revived) {
        return Standing::Revived(format!(
            "`{kid}` was revoked, and is not in this copy of the keys; `claimbound keys revoke {kid}` ends it here, too"
        ));
    }
    Standing::Ours {
        new: ring.iter().filter(|key| !known(MADE, &key.kid)).cloned().collect(),
        revoked: ring.iter().filter(|key| key.revoked.is_some() && !known(REVOKED, &key.kid)).cloned().collect(),
    }
}

/// Holds the ring against the store at a start: closed where they differ.
pub(super) async fn agree(opened: &Opened, signer: &Signer, now: UnixSeconds) -> Result<Trust, StartError> {
    let reader: Arc<dyn Reader> = opened.reader.clone();
    let facts = tokio::task::spawn_blocking(move || reader.facts());
    let facts = facts.await.unwrap_or_else(|error| Err(Down::new(error.to_string())))?;
    let ring = signer.list(now);
    let is_first = !facts.keys().any(|name| name.starts_with(MADE));
    let first = ring.first().filter(|_| is_first).map(|key| key.kid.as_str());
    match standing(&facts, &ring) {
        Standing::Ours { new, revoked } => note(&opened.writer, first, &new, &revoked, None, now).await?,
        Standing::Other(why) | Standing::Revived(why) => {
            return Err(StartError::Other(format!("signing keys: {why}")));
        }
    }
    Ok(Trust::default())
}

/// Why an operator's change of keys did not come about.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The keys have changed; that is on record as soon as the store answers, without the operator's name.
    #[error(transparent)]
    Store(#[from] Down),
}

/// What is new about keys, on record and known to all who share the store, before anything is published under them.
/// `first`: the store knew none so far.
async fn note(
    writer: &Writer,
    first: Option<&str>,
    new: &[KeyInfo],
    revoked: &[KeyInfo],
    by: Option<&Operator>,
    now: UnixSeconds,
) -> Result<(), Down> {
    let operator = by.map(|operator| ("operator".to_owned(), operator.name().into()));
    let details = Details::from(serde_json::Map::from_iter(operator));
    let made = new.iter().map(|key| (key, MADE, "made", key.algorithm.name().to_owned()));
    let ended = revoked.iter().map(|key| (key, REVOKED, "revoked", "revoked".to_owned()));
    let mut first = first.map(|kid| Change::Fix { name: FIRST.into(), value: kid.to_owned() });
    for (key, prefix, state, value) in made.chain(ended) {
        let what = What::SigningKey { kid: &key.kid, algorithm: key.algorithm.name(), state };
        let record = Record { decision: None, at: now, what, principal: None, actor: None, mappings_version: None };
        let fix = Change::Fix { name: format!("{prefix}{}", key.kid).into(), value };
        let changes = first.take().into_iter().chain([fix]).collect();
        let entry = Some(record.seal(&details, exchange::salt()));
        let outcome = writer.commit(Commit { guards: vec![], changes, entry }).await?;
        if outcome == Outcome::Blocked(Blocked::FixedOtherwise) {
            return Err(Down::new(format!(
                "another broker has opened it with other signing keys, of which `{}` is none; copy its keys here",
                key.kid
            )));
        }
    }
    Ok(())
}

impl Broker {
    pub(super) fn trust(&self) -> MutexGuard<'_, Trust> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every signing key.
    ///
    /// # Errors
    /// The operator may not `keys`.
    pub fn signing_keys(&self, operator: &Operator) -> Result<Vec<KeyInfo>, KeysError> {
        operator.require(May::Keys)?;
        Ok(self.signer.list(self.clock.now()))
    }

    /// [`Signer::rotate`] in an operator's name.
    ///
    /// # Errors
    /// The operator may not `keys`; a rotation is under way; the directory or the store cannot be written.
    pub async fn rotate_keys(&self, operator: &Operator, at_once: bool) -> Result<Vec<KeyInfo>, KeysError> {
        self.change_keys(operator, move |signer, now| signer.rotate(now, at_once)).await
    }

    /// [`Signer::revoke`] in an operator's name, of a key that is in the ring.
    ///
    /// # Errors
    /// The operator may not `keys`; there is no such key; the directory or the store cannot be written.
    pub async fn revoke_key(&self, operator: &Operator, kid: &str) -> Result<Revocation, KeysError> {
        let kid = kid.to_owned();
        self.change_keys(operator, move |signer, now| signer.revoke(&kid, None, now)).await
    }

    async fn change_keys<T: Send + 'static>(
        &self,
        operator: &Operator,
        change: impl FnOnce(&Signer, UnixSeconds) -> Result<T, SigningError> + Send + 'static,
    ) -> Result<T, KeysError> {
        operator.require(May::Keys)?;
        let _changing = self.changing_keys.lock().await;
        let (signer, now) = (self.signer.clone(), self.clock.now());
        let changed = match tokio::task::spawn_blocking(move || change(&signer, now)).await {
            Ok(changed) => changed?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let facts = self.read(|reader| reader.facts()).await?;
        if let Standing::Ours { new, revoked } = standing(&facts, &self.signer.list(now)) {
            note(&self.writer, None, &new, &revoked, Some(operator), now).await?;
        }
        Ok(changed)
    }

    /// Another process may have rotated or revoked; keys whose time has come are followed by others, those whose time is
    /// over lose their private halves.
    pub(super) async fn read_keys_again(&self, now: UnixSeconds) {
        let read = self.ring_from_disk(now).await;
        let mut trust = self.trust();
        match read {
            Ok(()) => (trust.ring, trust.revoked) = (None, None),
            Err(Refused::Ring(why)) => {
                tracing::error!(why, "the signing keys could not be read again; the ones in memory stay");
                trust.ring = Some(why);
            }
            Err(Refused::Revived(why)) => {
                tracing::error!(why, "a revoked key would sign: signing is stopped");
                trust.revoked = Some(why);
            }
        }
        self.settle_signing(trust);
    }

    async fn ring_from_disk(&self, now: UnixSeconds) -> Result<(), Refused> {
        let _changing = self.changing_keys.lock().await;
        let signer = self.signer.clone();
        let read = tokio::task::spawn_blocking(move || signer.read_again());
        let ring = read.await.map_err(|error| Refused::Ring(error.to_string()))??;
        let facts = self.read(|reader| reader.facts()).await?;
        match standing(&facts, &ring.list(now)) {
            Standing::Ours { new, revoked } => note(&self.writer, None, &new, &revoked, None, now).await?,
            Standing::Other(why) => return Err(Refused::Ring(why)),
            Standing::Revived(why) => return Err(Refused::Revived(why)),
        }
        self.signer.take_up(ring);
        let (signer, every) = (self.signer.clone(), self.config.signing.rotate_every_seconds);
        let kept = tokio::task::spawn_blocking(move || {
            signer.remove_gone(now)?;
            every.map_or(Ok(false), |every| signer.rotate_when_due(now, every))
        });
        if kept.await.map_err(|error| Refused::Ring(error.to_string()))?? {
            tracing::info!("the signing keys' time has come: new ones are published, and sign in 24 hours");
            let facts = self.read(|reader| reader.facts()).await?;
            if let Standing::Ours { new, revoked } = standing(&facts, &self.signer.list(now)) {
                note(&self.writer, None, &new, &revoked, None, now).await?;
            }
        }
        Ok(())
    }

    /// Reads the published documents, where they are published elsewhere, and holds them against what we made.
    pub(super) async fn look_at_published(&self) {
        let Some(published) = &self.published else { return };
        let now = self.clock.now();
        let found = look(&published.client, &published.at).await;
        // After the look: what was made meanwhile is ours.
        let known = match &found {
            Ok(_) => self.known_kids(now).await,
            Err(_) => Ok(Vec::new()),
        };
        let mut trust = self.trust();
        let unread = match (found, known) {
            (Ok(kids), Ok(known)) => {
                let compared =
                    compare(&kids, &self.signer.list(now), |kid| known.iter().any(|known| known == kid), now);
                if compared != trust.published {
                    tell(&compared, &published.at.issuer_url);
                }
                (trust.published, trust.read) = (compared, Some(now));
                None
            }
            (Err(why), _) => Some(why),
            (_, Err(down)) => Some(down.to_string()),
        };
        if let Some(why) = unread.as_ref().filter(|_| trust.unread.is_none()) {
            tracing::warn!(why, issuer_url = published.at.issuer_url, "the published documents could not be read");
        }
        trust.unread = unread;
        self.settle_signing(trust);
    }

    /// Every key that was ever made: by what the store knows, and by a ring that was rotated a moment ago.
    async fn known_kids(&self, now: UnixSeconds) -> Result<Vec<String>, Down> {
        let signer = self.signer.clone();
        let ring = tokio::task::spawn_blocking(move || signer.read_again().map(|ring| ring.list(now)));
        let facts = self.read(|reader| reader.facts()).await?;
        let mut known: Vec<String> =
            facts.keys().filter_map(|name| name.strip_prefix(MADE)).map(str::to_owned).collect();
        if let Ok(Ok(ring)) = ring.await
            && !matches!(standing(&facts, &ring), Standing::Other(_))
        {
            known.extend(ring.into_iter().map(|key| key.kid));
        }
        Ok(known)
    }

    /// Stops signing, or lets it go on.
    fn settle_signing(&self, trust: MutexGuard<'_, Trust>) {
        let foreign = trust.published.foreign.as_ref().map(|kids| {
            format!(
                "at `{}` keys are published that this store's brokers never made: {kids}; take them out there \
                 (`claimbound issuer export` writes the right documents), or give this broker another `issuer_url`",
                self.config.issuer_url
            )
        });
        self.signer.stop(foreign.or_else(|| trust.revoked.clone()));
    }
}

/// Why the ring on disk is not taken up.
enum Refused {
    Ring(String),
    Revived(String),
}

impl<E: std::error::Error> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Ring(error.to_string())
    }
}

fn tell(compared: &Compared, issuer_url: &str) {
    if let Some(kids) = &compared.foreign {
        tracing::error!(issuer_url, kids, "keys are published under our name that we never made: signing is stopped");
    }
    if let Some(why) = &compared.differs {
        tracing::warn!(
            issuer_url,
            why,
            "the published key set is not ours; run `claimbound issuer export`, publish it"
        );
    }
    if *compared == Compared::default() {
        tracing::info!(issuer_url, "the published key set is ours");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_the_stores_own_or_another() {
        let now = UnixSeconds(1_800_000_000);
        let signer = Signer::ephemeral();
        let [first, second] = [0, 1].map(|at| signer.list(now)[at].kid.clone());
        let fact = |prefix: &str, kid: &str| (format!("{prefix}{kid}"), "x".to_owned());
        let judge = |facts: &[(String, String)]| standing(&facts.iter().cloned().collect(), &signer.list(now));
        let Standing::Ours { new, revoked } = judge(&[("issuer_url".into(), "x".into())]) else { panic!("ours") };
        assert_eq!((new.len(), revoked.len()), (2, 0), "a first start, and a store from before there were facts");
        let Standing::Ours { new, .. } = judge(&[fact(MADE, &first)]) else { panic!("ours") };
        assert_eq!(new.iter().map(|key| &key.kid).collect::<Vec<_>>(), [&second], "rotated offline");
        let both = [fact(MADE, &first), fact(MADE, &second)];
        let Standing::Other(why) = judge(&[&both[..], &[fact(MADE, "lost")]].concat()) else { panic!("other") };
        assert!(why.contains("`lost` is missing") && why.contains("keys revoke lost"), "{why}");
        let Standing::Revived(why) = judge(&[&both[..], &[fact(REVOKED, &first)]].concat()) else { panic!("revived") };
        assert!(why.contains(&format!("`{first}` was revoked")), "{why}");
        signer.revoke(&first, None, now).unwrap();
        let Standing::Ours { new, revoked } = judge(&both) else { panic!("ours") };
        assert_eq!((new.len(), revoked.len()), (1, 1), "its successor is new");
    }

    #[tokio::test]
    async fn of_two_brokers_with_keys_of_their_own_one_is_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let now = UnixSeconds(1_800_000_000);
        let opened = crate::store::open(&format!("sqlite:{}", directory.path().join("c.db").display()), now).unwrap();
        let [one, other] = [(); 2].map(|()| Signer::ephemeral().list(now));
        let begin = |ring: &[KeyInfo]| {
            let (writer, ring) = (opened.writer.clone(), ring.to_vec());
            async move { note(&writer, Some(&ring[0].kid), &ring, &[], None, now).await }
        };
        begin(&one).await.unwrap();
        let why = begin(&other).await.unwrap_err().why;
        assert!(why.contains("another broker has opened it"), "{why}");
        begin(&one).await.unwrap();
        let facts = opened.reader.facts().unwrap();
        assert_eq!(facts.keys().filter(|name| name.starts_with(MADE)).count(), 2, "nothing of the other's is known");
    }
}
