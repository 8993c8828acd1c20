//! People who come to claim, at a browser or on the command line: they sign in, and the broker gives them a session of its
//! own. It is none of an operator: it opens nothing on the operator listener, and an operator's opens nothing here. A session
//! of the pages opens nothing for commands, and the other way round.

use super::{
    Broker,
    operators::{SESSION_SECONDS, SignInFailed, digest_of, failed, named, new_secret},
};
use crate::{
    ceremony::Through,
    config::{Config, SignIn, Strength},
    people::{Begun, Person as FromProvider, Polled, Redirect, Returned},
    secret::Secret,
    store::{Change, Down, Session},
};
use claimbound_core::{
    ceremony::Person,
    evidence::{Details, What},
    time::{LEEWAY_SECONDS, UnixSeconds},
};
use serde_json::json;

/// Where a session is presented.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// The pages, as a cookie.
    Pages,
    /// What commands ask, as a bearer token.
    Commands,
}

impl Door {
    /// So that people and scanners see what it is.
    fn prefix(self) -> &'static str {
        match self {
            Self::Pages => "cbp_",
            Self::Commands => "cba_",
        }
    }
}

/// How a person came by their session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Came {
    /// At a browser, on the pages.
    Page,
    /// By a browser on the machine of the command.
    Command,
    /// By a code that was typed on another device (RFC 8628). People can be lured into that, so it can only look.
    Device,
}

impl Came {
    const ALL: [Self; 3] = [Self::Page, Self::Command, Self::Device];

    /// The word in evidence, and with the session.
    fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Command => "command",
            Self::Device => "device",
        }
    }

    fn door(self) -> Door {
        match self {
            Self::Page => Door::Pages,
            Self::Command | Self::Device => Door::Commands,
        }
    }

    pub(super) fn through(self) -> Through {
        match self.door() {
            Door::Pages => Through::Page,
            Door::Commands => Through::Command,
        }
    }
}

/// A person who signed in.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub person: Person,
    pub expires: UnixSeconds,
    pub came: Came,
}

impl Visitor {
    /// Whether they can claim and reject nothing.
    pub fn only_looks(&self) -> bool {
        self.came == Came::Device
    }
}

/// Why a sign-in is not fresh or strong enough for a claim. The sentence is for the person.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Weak {
    #[error("you have to have signed in within the last {minutes} minutes")]
    Old { minutes: i64 },
    #[error("the sign-in has to be by a stronger method: {}", .wanted.join(" or "))]
    Method { wanted: Vec<String> },
    #[error("you have to sign in with a browser on this machine: by a code typed on another device one can only look")]
    Elsewhere,
}

impl Broker {
    /// Where people sign in, by name.
    pub fn sign_ins(&self) -> Vec<String> {
        self.active().config.sign_ins.iter().map(|sign_in| sign_in.name.clone()).collect()
    }

    /// Begins a sign-in at a browser, which comes back to our pages, or to the command that listens on this port. Says at which
    /// provider, where none is named and there is one alone.
    ///
    /// # Errors
    /// There is no such sign-in, or its provider cannot be asked.
    pub async fn begin_visit(
        &self,
        name: Option<&str>,
        port: Option<u16>,
        demanded: &Strength,
    ) -> Result<(String, Begun), SignInFailed> {
        let active = self.active();
        let sign_in = named(&active.config, name)?;
        let pages = Redirect::Pages { public_url: &active.config.public_url };
        let redirect = port.map_or(pages, |port| Redirect::Loopback { port });
        let begun = self.people.begin(sign_in, redirect, demanded).await.map_err(failed)?;
        Ok((sign_in.name.clone(), begun))
    }

    /// Ends a sign-in at a browser: what the session is presented by. Whatever was presented before is another one.
    ///
    /// # Errors
    /// The person is not believed, or somebody cannot be asked.
    pub async fn finish_visit(&self, name: &str, returned: &Returned<'_>) -> Result<(Secret, Visitor), SignInFailed> {
        let active = self.active();
        let sign_in = named(&active.config, Some(name))?;
        let person = self.people.finish(sign_in, returned, self.clock.now()).await.map_err(failed)?;
        let came = match returned.redirect {
            Redirect::Pages { .. } => Came::Page,
            Redirect::Loopback { .. } => Came::Command,
        };
        self.welcome(sign_in, person, came).await
    }

    /// Asks once how a sign-in on another device stands; otherwise the seconds to wait.
    ///
    /// # Errors
    /// As above.
    pub async fn poll_visit(
        &self,
        name: &str,
        device_code: &Secret,
    ) -> Result<Result<(Secret, Visitor), u64>, SignInFailed> {
        let active = self.active();
        let sign_in = named(&active.config, Some(name))?;
        match self.people.poll_device(sign_in, device_code, self.clock.now()).await.map_err(failed)? {
            Polled::Pending { interval_seconds } => Ok(Err(interval_seconds)),
            Polled::Done(person) => self.welcome(sign_in, person, Came::Device).await.map(Ok),
        }
    }

    async fn welcome(
        &self,
        sign_in: &SignIn,
        person: FromProvider,
        came: Came,
    ) -> Result<(Secret, Visitor), SignInFailed> {
        let now = self.clock.now();
        let person = person.at_the_desk(&sign_in.name);
        let token = new_secret(came.door().prefix());
        let session = Session {
            session: digest_of(token.reveal()),
            operator: person.to_string(),
            sign_in: sign_in.name.clone(),
            may: came.name().to_owned(),
            binding: binding(sign_in),
            expires: now.plus(SESSION_SECONDS),
            person: Some(person.clone()),
        };
        let visitor = Visitor { person, expires: session.expires, came };
        let what = What::VisitorSignedIn { expires: session.expires };
        self.record_visitor(what, &visitor, Change::OpenSession(session)).await.map_err(|error| {
            tracing::error!(%error, "a session could not be opened");
            SignInFailed::Down
        })?;
        Ok((token, visitor))
    }

    /// Who it is that presents this. `None`: nobody who is signed in.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn visitor(&self, presented: &Secret, at: Door) -> Result<Option<Visitor>, Down> {
        if !presented.reveal().starts_with(at.prefix()) {
            return Ok(None);
        }
        let session = digest_of(presented.reveal());
        let Some(session) = self.read(move |reader| reader.session(&session)).await? else { return Ok(None) };
        let stands = |config: &Config| {
            let sign_in = config.sign_ins.iter().find(|one| one.name == session.sign_in);
            sign_in.is_some_and(|sign_in| binding(sign_in) == session.binding)
        };
        if session.expires <= self.clock.now() || !stands(&self.active().config) {
            return Ok(None);
        }
        let came = Came::ALL.into_iter().find(|came| came.name() == session.may && came.door() == at);
        let Some((person, came)) = session.person.zip(came) else { return Ok(None) };
        Ok(Some(Visitor { person: self.linked(person).await?, expires: session.expires, came }))
    }

    /// Ends the session that is presented.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn end_visit(&self, visitor: &Visitor, presented: &Secret) -> Result<(), Down> {
        let change = Change::EndSession(digest_of(presented.reveal()));
        self.record_visitor(What::VisitorSignedOut, visitor, change).await
    }

    /// What this person's sign-in has to be to claim a role of this sensitivity.
    pub fn demanded(&self, person: &Person, sensitivity: &str) -> Strength {
        let active = self.active();
        let sign_in = active.config.sign_ins.iter().find(|one| one.name == person.sign_in);
        sign_in.and_then(|sign_in| sign_in.sensitivity.get(sensitivity)).cloned().unwrap_or_default()
    }

    /// Whether it is that.
    ///
    /// # Errors
    /// What it lacks.
    pub fn strong_enough(&self, visitor: &Visitor, sensitivity: &str) -> Result<(), Weak> {
        if visitor.only_looks() {
            return Err(Weak::Elsewhere);
        }
        fits(&self.demanded(&visitor.person, sensitivity), &visitor.person, self.clock.now())
    }

    async fn record_visitor(&self, what: What<'_>, visitor: &Visitor, change: Change) -> Result<(), Down> {
        let mut details = Details::default();
        details.json.insert("person".to_owned(), json!(visitor.person));
        details.json.insert("through".to_owned(), visitor.came.name().into());
        self.record_person(what, vec![change], details).await
    }
}

fn fits(demanded: &Strength, person: &Person, now: UnixSeconds) -> Result<(), Weak> {
    let fresh = |seconds: i64| person.auth_time.is_some_and(|at| now.0 - at <= seconds + LEEWAY_SECONDS);
    if let Some(seconds) = demanded.max_age_seconds
        && !fresh(seconds)
    {
        return Err(Weak::Old { minutes: (seconds / 60).max(1) });
    }
    let wanted = &demanded.acr_values;
    match wanted.is_empty() || person.acr.as_ref().is_some_and(|acr| wanted.contains(acr)) {
        true => Ok(()),
        false => Err(Weak::Method { wanted: wanted.clone() }),
    }
}

/// What a session depends on: when the sign-in changes, people sign in anew.
fn binding(sign_in: &SignIn) -> [u8; 32] {
    digest_of(&json!({ "visitors": sign_in }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_is_as_fresh_and_as_strong_as_demanded() {
        let now = UnixSeconds(10_000);
        let signed_in = |ago: Option<i64>, acr: Option<&str>| Person {
            sign_in: "okta".into(),
            subject: "00u1".into(),
            email: None,
            name: None,
            groups: vec![],
            acr: acr.map(str::to_owned),
            amr: vec![],
            auth_time: ago.map(|ago| now.0 - ago),
            forge_ids: Default::default(),
        };
        let strength = |max_age_seconds, acr: &[&str]| Strength {
            max_age_seconds,
            acr_values: acr.iter().map(|acr| (*acr).to_owned()).collect(),
        };
        let old = |minutes| Err(Weak::Old { minutes });
        let method = || Err(Weak::Method { wanted: vec!["phr".into(), "phrh".into()] });
        for (demanded, ago, acr, expected) in [
            (strength(None, &[]), None, None, Ok(())),
            (strength(Some(300), &[]), Some(300 + LEEWAY_SECONDS), None, Ok(())),
            (strength(Some(300), &[]), Some(301 + LEEWAY_SECONDS), None, old(5)),
            (strength(Some(0), &[]), Some(LEEWAY_SECONDS + 1), None, old(1)),
            (strength(Some(300), &[]), None, Some("phr"), old(5)),
            (strength(None, &["phr", "phrh"]), None, Some("phrh"), Ok(())),
            (strength(None, &["phr", "phrh"]), None, Some("pwd"), method()),
            (strength(None, &["phr", "phrh"]), Some(1), None, method()),
        ] {
            assert_eq!(fits(&demanded, &signed_in(ago, acr), now), expected, "{demanded:?} {ago:?} {acr:?}");
        }
    }
}
