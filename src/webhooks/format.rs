//! What a message looks like: for programs, and for chat tools.

use super::{Event, Notice};
use claimbound_core::time::UnixSeconds;
use serde::Serialize;
use serde_json::{Value, json};

/// Of whom the message must be understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A program: Standard Webhooks, with `type`, `timestamp` and `data`.
    Standard,
    /// Slack, Mattermost, Rocket.Chat, Google Chat: `text`.
    Slack,
    /// Discord: `content`, in which nobody is mentioned.
    Discord,
    /// Microsoft Teams, a workflow's webhook: an adaptive card.
    Teams,
}

/// Longest name that a message shows.
const SHOWN_CHARACTERS_MAX: usize = 120;

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Standard, Self::Slack, Self::Discord, Self::Teams];

    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Slack => "slack",
            Self::Discord => "discord",
            Self::Teams => "teams",
        }
    }

    /// The body.
    pub(super) fn write(self, notice: &Notice, now: UnixSeconds) -> String {
        let message = match self {
            Self::Standard => standard(notice, now),
            Self::Slack => json!({ "text": escaped(&format!("{}\n{}", sentence(notice), link(notice))) }),
            Self::Discord => {
                json!({ "content": format!("{}\n{}", sentence(notice), link(notice)), "allowed_mentions": { "parse": [] } })
            }
            Self::Teams => card(notice),
        };
        message.to_string()
    }
}

fn standard(notice: &Notice, now: UnixSeconds) -> Value {
    json!({
        "type": format!("ceremony.{}", notice.event.name()),
        "timestamp": now.rfc3339(),
        "data": {
            "ceremony": notice.ceremony,
            "claim_uri": notice.claim_uri,
            "role": notice.role,
            "mapping": notice.mapping,
            "team": notice.team,
            "issuer": notice.issuer,
            "repository": notice.repository,
            "repository_id": notice.repository_id,
            "expires": notice.expires.rfc3339(),
        },
    })
}

fn card(notice: &Notice) -> Value {
    let mut body = vec![json!({ "type": "TextBlock", "wrap": true, "text": sentence(notice) })];
    if notice.event == Event::Opened {
        body.push(json!({ "type": "ActionSet", "actions": [
            { "type": "Action.OpenUrl", "title": "Look at it", "url": notice.claim_uri },
        ] }));
    }
    let card = json!({ "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": body });
    let attachment = json!({ "contentType": "application/vnd.microsoft.card.adaptive", "content": card });
    json!({ "type": "message", "attachments": [attachment] })
}

/// What happened, in one sentence of plain characters.
fn sentence(notice: &Notice) -> String {
    let (repository, role) = (shown(&notice.repository), shown(&notice.role));
    let id = shown(&notice.repository_id);
    let job = format!("a job of {repository} (id {id})");
    match notice.event {
        Event::Opened => {
            format!("Somebody must answer for it: {job} asks for {role}, by the mapping {}", shown(&notice.mapping))
        }
        Event::Claimed => format!("Claimed: {job} may have {role}"),
        Event::Rejected => format!("Rejected: {job} does not get {role}"),
        Event::Withdrawn => format!("Withdrawn: {job} does not wait for {role} any more"),
        Event::Lapsed => format!("Lapsed: {role} has to be claimed anew before {job} may have it"),
        Event::Expired => format!("Expired: nobody answered for {role}, which {job} asked for"),
    }
}

fn link(notice: &Notice) -> &str {
    &notice.claim_uri
}

/// Nothing that a chat tool could take for markup, or that shows otherwise than it is.
fn shown(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./ ".contains(c);
    let mut shown = String::new();
    for (at, character) in text.chars().enumerate() {
        if at == SHOWN_CHARACTERS_MAX {
            shown.push('…');
            break;
        }
        match plain(character) {
            true => shown.push(character),
            false => shown.push_str(&format!("U+{:04X}", u32::from(character))),
        }
    }
    shown
}

/// Slack's three (its documentation, "Escaping text"); of what is ours the link alone could hold one.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
