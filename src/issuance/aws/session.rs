//! What AWS is told about who acts: session name, source identity, tags. Made of ids and hashes; text that a job's
//! author chooses reaches tags alone, and only if it fits there.

use crate::issuance::{Order, Unfit, claims::lease_text};
use aws_lc_rs::digest::{SHA256, digest};
use claimbound_core::{
    evidence::hex,
    workload::{Claim, Presence, Text, Workload},
};
use icu_properties::{
    CodePointMapData,
    props::{GeneralCategory, GeneralCategoryGroup},
};

/// Longest session name and source identity.
const NAME_CHARACTERS_MAX: usize = 64;
/// Tags of one session.
pub const TAGS_MAX: usize = 50;
pub const TAG_KEY_CHARACTERS_MAX: usize = 128;
pub const TAG_VALUE_CHARACTERS_MAX: usize = 256;
/// How tags that only the broker sets begin, in any letter case.
pub const RESERVED: &str = "claimbound";
pub const TAG_LEASE: &str = "claimbound_lease";
pub const TAG_ROLE: &str = "claimbound_role";
pub const TAG_PRINCIPAL: &str = "claimbound_principal";
pub const TAG_ACTOR: &str = "claimbound_actor";
/// The broker's own tags: they stay when the session assumes further roles.
pub const TAGS_RESERVED: [&str; 4] = [TAG_LEASE, TAG_ROLE, TAG_PRINCIPAL, TAG_ACTOR];
/// Tags of this beginning decide nothing: text that does not fit is hashed instead of refused.
const INFO: &str = "info_";

/// A tag's value: fixed text, or a claim between fixed texts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    before: String,
    claim: Option<(Claim, String)>,
}

impl Template {
    /// Of a value that the folder's compiler has judged: at most one placeholder, and a claim that exists.
    pub fn parse(text: &str) -> Self {
        let parts = text.split_once("{claim.").and_then(|(before, rest)| {
            let (name, after) = rest.split_once('}')?;
            Some((before.to_owned(), Some((Claim::from_name(name)?, after.to_owned()))))
        });
        let (before, claim) = parts.unwrap_or_else(|| (text.to_owned(), None));
        Self { before, claim }
    }

    /// The fixed parts together: what can be judged before any job comes.
    pub fn fixed(&self) -> String {
        let after = self.claim.as_ref().map_or("", |(_, after)| after);
        format!("{}{after}", self.before)
    }

    /// `None` where the job does not have the claim.
    fn fill(&self, workload: &Workload<'_>) -> Option<String> {
        let Some((claim, after)) = &self.claim else { return Some(self.before.clone()) };
        let value = match workload.get(*claim) {
            Presence::Present(Text::Text(text)) => text.as_ref(),
            Presence::Present(Text::Boolean(true)) => "true",
            Presence::Present(Text::Boolean(false)) => "false",
            Presence::None | Presence::Unknown => return None,
        };
        Some(format!("{}{value}{after}", self.before))
    }
}

/// What a session carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    pub name: String,
    pub source_identity: String,
    /// The role's, then the broker's own.
    pub tags: Vec<(String, String)>,
}

impl Session {
    /// # Errors
    /// A value of this job does not fit the role's tag.
    pub fn of(order: &Order<'_>, tags: &[(String, Template)]) -> Result<Self, Unfit> {
        let workload = &order.case.principal;
        let lease = lease_text(order);
        let mut all = Vec::with_capacity(tags.len() + TAGS_RESERVED.len());
        for (key, template) in tags {
            if let Some(value) = tag_value(key, template, workload)? {
                all.push((key.clone(), value));
            }
        }
        all.push((TAG_LEASE.to_owned(), lease.clone()));
        all.push((TAG_ROLE.to_owned(), order.role.to_owned()));
        all.push((TAG_PRINCIPAL.to_owned(), identity(&workload.issuer, order.principal_id)));
        if let Some(actor) = order.case.actors.first() {
            let id = order.actor_id.or_else(|| actor.text(Claim::Subject)).unwrap_or_default();
            all.push((TAG_ACTOR.to_owned(), identity(&actor.issuer, id)));
        }
        Ok(Self {
            name: session_name(workload.text(Claim::RunId), &lease),
            source_identity: identity(&workload.issuer, order.principal_id),
            tags: all,
        })
    }

    /// Keys of the tags that stay when the session assumes further roles.
    pub fn transitive(&self) -> Vec<String> {
        let reserved = |key: &&String| TAGS_RESERVED.contains(&key.as_str());
        self.tags.iter().map(|(key, _)| key).filter(reserved).cloned().collect()
    }
}

/// `<run id>-<decision id>`: the decision's whole, of the run as much as fits.
fn session_name(run: Option<&str>, decision: &str) -> String {
    let run: String = run.unwrap_or_default().chars().filter(|letter| in_name(*letter)).collect();
    let room = NAME_CHARACTERS_MAX - decision.len() - 1;
    // In AWS's set a character is a byte.
    let run = &run[run.len().saturating_sub(room)..];
    if run.is_empty() { decision.to_owned() } else { format!("{run}-{decision}") }
}

/// `<issuer>-<immutable id>`, as source identity and as tag; an id that does not fit is hashed, so that two never
/// become one.
pub fn identity(issuer: &str, id: &str) -> String {
    let whole = format!("{issuer}-{id}");
    if !id.is_empty() && whole.len() <= NAME_CHARACTERS_MAX && whole.chars().all(in_name) {
        return whole;
    }
    // 128 bits are enough that nobody finds a second id of the same hash; they leave room for the issuer.
    let mut context = issuer.as_bytes().to_vec();
    context.push(0);
    context.extend_from_slice(id.as_bytes());
    let hash = &hex(digest(&SHA256, &context).as_ref())[..32];
    let issuer: String = issuer.chars().filter(|letter| in_name(*letter)).take(NAME_CHARACTERS_MAX - 33).collect();
    format!("{issuer}-{hash}")
}

/// `[\w+=,.@-]` of session names and source identities.
fn in_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "_+=,.@-".contains(letter)
}

/// `[\p{L}\p{Z}\p{N}_.:/=+\-@]` of tag keys and values; of the separators only the plain blank.
pub fn in_tag(letter: char) -> bool {
    let group = GeneralCategoryGroup::Letter.union(GeneralCategoryGroup::Number);
    group.contains(CodePointMapData::<GeneralCategory>::new().get(letter)) || " _.:/=+-@".contains(letter)
}

fn tag_value(key: &str, template: &Template, workload: &Workload<'_>) -> Result<Option<String>, Unfit> {
    let unfit = |why: String| Unfit::Text { parameter: format!("session_tags.{key}"), why };
    let told = key.starts_with(INFO);
    let Some(value) = template.fill(workload) else {
        let name = template.claim.as_ref().map_or("", |(claim, _)| claim.name());
        return if told { Ok(None) } else { Err(unfit(format!("the job has no `{name}`"))) };
    };
    let why = if value.chars().count() > TAG_VALUE_CHARACTERS_MAX {
        format!("the value is longer than {TAG_VALUE_CHARACTERS_MAX} characters")
    } else if let Some(letter) = value.chars().find(|letter| !in_tag(*letter)) {
        format!("a tag takes no {letter:?}")
    } else {
        return Ok(Some(value));
    };
    if told { Ok(Some(hex(digest(&SHA256, value.as_bytes()).as_ref()))) } else { Err(unfit(why)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claimbound_core::evidence::LeaseId;
    use std::collections::BTreeSet;

    const DECISION: &str = "01900000-0000-7000-8000-000000000001";

    fn fits(name: &str) {
        assert!((2..=64).contains(&name.len()) && name.chars().all(in_name), "{name}");
    }

    #[test]
    fn a_session_is_named_by_run_and_decision() {
        assert_eq!(session_name(Some("7300000001"), DECISION), format!("7300000001-{DECISION}"));
        assert_eq!(session_name(None, DECISION), DECISION);
        assert_eq!(session_name(Some("a b\n\"ü"), DECISION), format!("ab-{DECISION}"));
        let long = session_name(Some(&"9".repeat(250)), DECISION);
        assert!(long.len() == 64 && long.ends_with(DECISION), "{long}");
        fits(&long);
        assert_eq!(LeaseId(1).to_string().len(), DECISION.len());
    }

    #[test]
    fn a_tag_takes_letters_and_numbers_of_any_script_but_no_marks() {
        assert!("aZ9äЖ京²Ⅷ_.:/=+-@ ".chars().all(in_tag));
        // A vowel sign is alphabetic, and yet no letter: AWS refuses it.
        assert!(!"\u{93e}\u{345}\u{a0}\u{200b}\n,;%".chars().any(in_tag));
    }

    #[test]
    fn identities_fit_and_never_become_one() {
        assert_eq!(identity("github", "740000001"), "github-740000001");
        let odd = [
            "system:serviceaccount:agents:deployer",
            "system-serviceaccount-agents-deployer ",
            "a/b",
            "a-b/",
            "",
            &"1".repeat(64),
            &"1".repeat(65),
        ];
        let made: BTreeSet<_> = odd.iter().map(|id| identity("cluster", id)).collect();
        assert_eq!(made.len(), odd.len());
        made.iter().for_each(|name| fits(name));
        fits(&identity(&"i".repeat(63), "a:b"));
    }
}
