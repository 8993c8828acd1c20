//! Accounts at code hosts that people have shown to be theirs. A link is kept as a session is, for a year, under a key that its
//! person and code host give: with it a person is known where a job's token says by account who started it.
//!
//! Where the sign-in itself says who people are there (`forge_id_claim`), that counts alone. One that replaces another counts a day
//! later, so that nobody is somebody else for the length of one claim; also where the other one was taken back before.

use super::{
    Broker, Visitor,
    operators::{SignInFailed, digest_of, failed},
};
use crate::{
    config::{Config, Forge},
    people::{Account, BegunLink, ReturnedLink, begin_link},
    secret::Secret,
    store::{Change, Down, Session},
};
use claimbound_core::{
    ceremony::Person,
    evidence::{Details, What},
    time::UnixSeconds,
};
use serde_json::json;
use std::collections::BTreeMap;

/// Then a person shows it again.
const LINK_SECONDS: i64 = 365 * 86_400;
/// Until a link that replaces another counts.
const REPLACED_SECONDS: i64 = 86_400;
/// What its row says where an operator's has `may`.
const WORD: &str = "link";
/// Of one that its person took back. It is kept as long as another one has to wait.
const TAKEN_BACK: &str = "unlink";

/// An account that is a person's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Name of the code host's issuer.
    pub issuer: String,
    pub account: Account,
    pub since: UnixSeconds,
    /// From then on it counts.
    pub counts: UnixSeconds,
    pub until: UnixSeconds,
}

/// A link as it is kept.
struct Kept {
    link: Link,
    taken_back: bool,
}

/// A code host where a person may show an account, and the one that they have shown.
#[derive(Clone, Debug)]
pub struct Linkable {
    pub issuer: String,
    pub link: Option<Link>,
}

impl Broker {
    /// Where this person may show an account: wherever their sign-in does not say it.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn linkable(&self, person: &Person) -> Result<Vec<Linkable>, Down> {
        let active = self.active();
        let mut found = Vec::new();
        for (issuer, forge) in offered(&active.config, person) {
            let kept = self.kept_link(person, issuer, forge).await?.filter(|kept| !kept.taken_back);
            found.push(Linkable { issuer: issuer.clone(), link: kept.map(|kept| kept.link) });
        }
        Ok(found)
    }

    async fn kept_link(&self, person: &Person, issuer: &str, forge: &Forge) -> Result<Option<Kept>, Down> {
        let key = key(person, issuer);
        let kept = self.read(move |reader| reader.session(&key)).await?;
        let kept = kept.filter(|kept| kept.expires > self.clock.now() && kept.binding == binding(forge));
        Ok(kept.and_then(|kept| of(issuer, kept)))
    }

    /// The person with the accounts that count by now.
    pub(super) async fn linked(&self, mut person: Person) -> Result<Person, Down> {
        let now = self.clock.now();
        for Linkable { issuer, link } in self.linkable(&person).await? {
            if let Some(link) = link.filter(|link| link.counts <= now) {
                person.forge_ids.insert(issuer, link.account.id);
            }
        }
        Ok(person)
    }

    /// Begins to show an account, in this session. `None`: not there.
    pub fn begin_link(&self, visitor: &Visitor, issuer: &str, session: &Secret) -> Option<BegunLink> {
        let active = self.active();
        let (_, forge) = offered(&active.config, &visitor.person).find(|(name, _)| *name == issuer)?;
        Some(begin_link(forge, &active.config.public_url, session))
    }

    /// Keeps the account that the person came back with. What they showed before is on record with it.
    ///
    /// # Errors
    /// They are not believed, or somebody cannot be asked.
    pub async fn finish_link(
        &self,
        visitor: &Visitor,
        issuer: &str,
        code: &Secret,
        state: &str,
        (verifier, session): (&Secret, &Secret),
    ) -> Result<Link, SignInFailed> {
        let active = self.active();
        let offered: BTreeMap<_, _> = offered(&active.config, &visitor.person).collect();
        let which = || SignInFailed::Which(offered.keys().map(|name| (*name).clone()).collect());
        let (name, forge) = offered.get_key_value(&issuer.to_owned()).ok_or_else(which)?;
        let public_url = &active.config.public_url;
        let returned = ReturnedLink { code, state, verifier, session, public_url };
        let account = self.people.account(issuer, forge, &returned).await.map_err(failed)?;
        let down = |error: Down| {
            tracing::error!(%error, "a link could not be kept");
            SignInFailed::Down
        };
        let now = self.clock.now();
        let before = self.kept_link(&visitor.person, name, forge).await.map_err(down)?.map(|kept| kept.link);
        let counts = match &before {
            Some(other) if other.account.id != account.id => now.plus(REPLACED_SECONDS),
            // The same again: it goes on as it stood.
            Some(same) => same.counts,
            None => now,
        };
        let until = now.plus(LINK_SECONDS);
        let link = Link { issuer: issuer.to_owned(), account, since: now, counts, until };
        let mut details = about(visitor, &link);
        details.json.insert("instead_of".to_owned(), json!(before.as_ref().map(told)));
        let what = What::AccountLinked { how: "oauth", expires: until };
        let kept = row(&visitor.person, &link, WORD, binding(forge));
        self.record_person(what, vec![Change::OpenSession(kept)], details).await.map_err(down)?;
        Ok(link)
    }

    /// Takes back the account that the person has shown there. Says whether there was one.
    ///
    /// # Errors
    /// The store cannot be asked or written.
    pub async fn end_link(&self, visitor: &Visitor, issuer: &str) -> Result<bool, Down> {
        let active = self.active();
        let Some((_, forge)) = offered(&active.config, &visitor.person).find(|(name, _)| *name == issuer) else {
            return Ok(false);
        };
        let kept = self.kept_link(&visitor.person, issuer, forge).await?;
        let Some(kept) = kept.filter(|kept| !kept.taken_back) else { return Ok(false) };
        let link = Link { until: self.clock.now().plus(REPLACED_SECONDS), ..kept.link };
        let kept = row(&visitor.person, &link, TAKEN_BACK, binding(forge));
        let details = about(visitor, &link);
        self.record_person(What::AccountUnlinked, vec![Change::OpenSession(kept)], details).await?;
        Ok(true)
    }
}

fn told(link: &Link) -> serde_json::Value {
    json!({ "issuer": link.issuer, "id": link.account.id, "name": link.account.name })
}

fn about(visitor: &Visitor, link: &Link) -> Details {
    let mut details = Details::default();
    details.json.insert("person".to_owned(), json!(visitor.person));
    details.json.insert("account".to_owned(), told(link));
    details
}

/// Code hosts where the person's sign-in does not say who they are.
fn offered<'c>(config: &'c Config, person: &Person) -> impl Iterator<Item = (&'c String, &'c Forge)> {
    let sign_in = config.sign_ins.iter().find(|one| one.name == person.sign_in);
    let forges = sign_in.map(|_| &config.forges).into_iter().flatten();
    forges.filter(move |(issuer, _)| sign_in.is_some_and(|one| !one.forge_id_claim.contains_key(*issuer)))
}

/// What the store knows a person's link by.
fn key(person: &Person, issuer: &str) -> [u8; 32] {
    digest_of(&json!(["claimbound link", issuer, person.sign_in, person.subject]).to_string())
}

/// Under another application, or another code host, people show their account again.
fn binding(forge: &Forge) -> [u8; 32] {
    digest_of(&json!({ "link": [forge.kind, forge.url, forge.client_id] }).to_string())
}

fn row(person: &Person, link: &Link, word: &str, binding: [u8; 32]) -> Session {
    let Link { issuer, account, since, counts, until } = link;
    let known = Person {
        name: Some(account.name.clone()),
        email: None,
        groups: Vec::new(),
        acr: None,
        amr: Vec::new(),
        auth_time: Some(since.0),
        forge_ids: BTreeMap::from([(issuer.clone(), account.id.clone())]),
        ..person.clone()
    };
    Session {
        session: key(person, issuer),
        operator: person.to_string(),
        sign_in: person.sign_in.clone(),
        may: format!("{word} {}", counts.0),
        binding,
        expires: *until,
        person: Some(known),
    }
}

fn of(issuer: &str, kept: Session) -> Option<Kept> {
    let (word, counts) = kept.may.split_once(' ')?;
    let taken_back = word == TAKEN_BACK;
    let known = kept.person.filter(|_| taken_back || word == WORD)?;
    let link = Link {
        issuer: issuer.to_owned(),
        account: Account { id: known.forge_ids.get(issuer)?.clone(), name: known.name.unwrap_or_default() },
        since: UnixSeconds(known.auth_time?),
        counts: UnixSeconds(counts.parse().ok()?),
        until: kept.expires,
    };
    Some(Kept { link, taken_back })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_as_it_was_kept() {
        let person = Person {
            sign_in: "okta".into(),
            subject: "00u1".into(),
            email: Some("ada@acme.example".into()),
            name: Some("Ada".into()),
            groups: vec!["leads".into()],
            acr: None,
            amr: vec![],
            auth_time: Some(7),
            forge_ids: BTreeMap::new(),
        };
        let account = Account { id: "12".into(), name: "octocat".into() };
        let link = Link {
            issuer: "github".into(),
            account,
            since: UnixSeconds(10),
            counts: UnixSeconds(20),
            until: UnixSeconds(30),
        };
        let read = |issuer, kept: &Session| of(issuer, kept.clone()).map(|kept| (kept.link, kept.taken_back));
        let kept = row(&person, &link, WORD, [0; 32]);
        assert_eq!(read("github", &kept), Some((link.clone(), false)));
        assert_eq!(read("gitlab", &kept), None);
        assert_eq!(read("github", &Session { may: "page".into(), ..kept }), None, "a session is no link");
        assert_eq!(read("github", &row(&person, &link, TAKEN_BACK, [0; 32])), Some((link, true)));
        let other = Person { subject: "00u2".into(), ..person.clone() };
        assert!(key(&person, "github") != key(&other, "github") && key(&person, "github") != key(&person, "gitlab"));
    }
}
