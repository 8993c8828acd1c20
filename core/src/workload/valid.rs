//! What a profile file must say besides being of the format: rules over several of its keys. Each fault names the key
//! that is to be mended, so that an operator's own profile is corrected where it is wrong.

use super::{
    Claim, Kind, SingleUseRule,
    data::{Data, Mark, RefShape, Row},
    template,
};
use std::{collections::BTreeSet, ops::Range};

/// Longest list in a profile.
const ROWS_MAX: usize = 256;

/// The first fault: what is wrong, and the text to find it by.
pub(super) fn fault(data: &Data) -> Option<(String, String)> {
    let found = || {
        of_name(data)
            .or_else(|| of_sizes(data))
            .or_else(|| of_rows(data))
            .or_else(|| of_pins(data))
            .or_else(|| of_times(data))
            .or_else(|| of_events(data))
            .or_else(|| of_automation(data))
            .or_else(|| of_ref(data))
            .or_else(|| of_subject(data))
    };
    found()
}

/// Where a key stands, by itself or as a table, or a quoted text; the file's beginning if nowhere.
pub(super) fn place_of(text: &str, key: &str) -> Range<usize> {
    let start = |at: usize| text[..at].rfind('\n').map_or(0, |line| line + 1);
    let places = |what: &str| text.match_indices(what).map(|(at, what)| at..at + what.len()).collect::<Vec<_>>();
    if key.starts_with('"') {
        let code = |at: &Range<usize>| !text[start(at.start)..at.start].contains('#');
        return places(key).into_iter().find(code).unwrap_or_default();
    }
    let begins = |at: &Range<usize>| start(at.start) == at.start;
    let is_key = |at: &Range<usize>| text[at.end..].trim_start_matches(' ').starts_with('=');
    let by_itself = places(key).into_iter().find(|at| begins(at) && (key.starts_with('[') || is_key(at)));
    let as_table = || places(&format!("[[{key}]]")).into_iter().find(|at| begins(at));
    by_itself.or_else(as_table).unwrap_or_default()
}

type Found = Option<(String, String)>;

fn told(message: impl Into<String>, key: impl Into<String>) -> Found {
    Some((message.into(), key.into()))
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn of_name(data: &Data) -> Found {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fits = (1..=63).contains(&data.name.len()) && data.name.bytes().all(plain) && !data.name.starts_with('-');
    if fits { None } else { told("`name` is lower-case letters, digits and hyphens", "name") }
}

fn of_sizes(data: &Data) -> Found {
    let empty =
        [("pins", data.pins.is_empty()), ("algorithms", data.algorithms.is_empty()), ("url", data.url.is_empty())];
    if let Some((key, _)) = empty.iter().find(|(_, empty)| *empty) {
        return told(format!("`{key}` must not be empty"), *key);
    }
    let long = [
        ("claim", data.claim.len()),
        ("raw", data.raw.len()),
        ("event", data.event.len()),
        ("url", data.url.len()),
        ("required", data.required.len()),
        ("agree", data.agree.len()),
    ];
    let (key, _) = long.iter().find(|(_, length)| *length > ROWS_MAX)?;
    told(format!("`{key}` has more than {ROWS_MAX} rows"), *key)
}

fn of_rows(data: &Data) -> Found {
    let mut seen = BTreeSet::from([Claim::Subject]);
    let of_row = |row: &Row| -> Found {
        let (native, name) = (&row.native, row.canonical.name());
        let message = if !seen.insert(row.canonical) {
            format!("`{native}` becomes `{name}`, which stands already")
        } else if data.reference.is_some() && is_of_ref(row.canonical) {
            format!("`{native}` becomes `{name}`, which `[ref]` gives")
        } else if row.syntax.is_some() && row.canonical.kind() != Kind::Id {
            format!("`{native}` has a `syntax`, but `{name}` is no id")
        } else if row.unless.is_some() && row.none.is_none() {
            format!("`{native}` has an `unless`, but no `none`")
        } else if native.contains(['{', '}']) && template::natives(native).is_none() {
            format!("`{native}` does not name claims in braces")
        } else {
            return None;
        };
        told(message, quoted(native))
    };
    data.claim.iter().find_map(of_row)
}

fn is_of_ref(claim: Claim) -> bool {
    matches!(claim, Claim::Ref | Claim::RefType | Claim::Branch | Claim::Tag | Claim::PullRequest)
}

fn of_pins(data: &Data) -> Found {
    for (key, claims) in [("pins", &data.pins), ("author_controlled", &data.author_controlled)] {
        if let Some(claim) = claims.iter().find(|claim| !data.provides(**claim)) {
            return told(format!("`{key}` names `{}`, which no claim of the issuer becomes", claim.name()), key);
        }
    }
    if data.pins.iter().any(|pin| !matches!(pin, Claim::RepositoryId | Claim::RepositoryOwnerId | Claim::Subject)) {
        return told("`pins` are ids: `repository_id`, `repository_owner_id`; or `subject`", "pins");
    }
    if data.pins.first() == Some(&Claim::RepositoryOwnerId) {
        return told("`pins` begins with the narrowest: an owner alone pins no job", "pins");
    }
    let chosen = data.pins.iter().find(|pin| data.author_controlled.contains(pin))?;
    told(format!("`{}` cannot be a pin: whoever writes the job controls it", chosen.name()), "author_controlled")
}

fn of_times(data: &Data) -> Found {
    let is_host = |host: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".:-".contains(&byte);
        !host.is_empty() && host.bytes().all(plain)
    };
    if data.jwks_origin.as_ref().is_some_and(|url| !url.strip_prefix("https://").is_some_and(is_host)) {
        return told("`jwks_origin` must be `https://`, a host and nothing more", "jwks_origin");
    }
    if data.max_lifetime_seconds <= 0 {
        return told("`max_lifetime_seconds` must be positive", "max_lifetime_seconds");
    }
    if data.lifetime_seconds == 0 || i64::from(data.lifetime_seconds) > data.max_lifetime_seconds {
        return told("`lifetime_seconds` must be positive and at most `max_lifetime_seconds`", "lifetime_seconds");
    }
    if data.single_use == SingleUseRule::Reusable {
        return told(
            "a subject token is always single use: write `single_use = \"jti\"` or \"signed_part\"; what agents may use again is `actor_single_use`",
            "single_use",
        );
    }
    None
}

fn of_events(data: &Data) -> Found {
    let row = data.claim.iter().find(|row| row.canonical == Claim::EventName);
    if let Some(row) = row.filter(|_| !data.event.is_empty()) {
        return told("`event_name` comes from a claim or from `[[event]]`, not from both", quoted(&row.native));
    }
    if let Some(rule) = data.event.iter().find(|rule| rule.when.is_empty()) {
        return told(
            format!("the event `{}` has no `when`, so every job would have it", rule.name),
            quoted(&rule.name),
        );
    }
    let provided = row.is_some() || !data.event.is_empty();
    if !provided && (data.tells_events || !data.default_events.is_empty()) {
        return told(
            "no claim becomes `event_name`: `tells_events` is false and `default_events` empty",
            "tells_events",
        );
    }
    if provided && data.default_events.is_empty() {
        return told("`default_events` is empty although a claim becomes `event_name`", "default_events");
    }
    None
}

fn of_automation(data: &Data) -> Found {
    if data.automation.is_empty() {
        return None;
    }
    if !data.provides(Claim::Initiator) {
        return told("`automation` marks initiators, and no claim becomes `initiator`", "automation");
    }
    let empty = |mark: &&Mark| match mark {
        Mark::Glob(text) | Mark::Ends(text) => text.trim_matches('*').is_empty(),
    };
    let mark = data.automation.iter().find(empty)?;
    told(format!("`{mark}` marks everybody or nobody as automation"), "automation")
}

fn of_ref(data: &Data) -> Found {
    let form = data.reference.as_ref()?;
    match form.form {
        RefShape::Short if form.kind.is_none() => told("a short `ref` needs its `type`", "[ref]"),
        RefShape::Full | RefShape::Branch if form.path.is_some() => told("only a short `ref` has a `path`", "path"),
        RefShape::Full | RefShape::Short if form.tag.is_some() => told("only a branch has a `tag` beside it", "tag"),
        RefShape::Branch if form.kind.is_some() => told("a branch has no `type`", "[ref]"),
        _ => None,
    }
}

fn of_subject(data: &Data) -> Found {
    let form = data.subject.as_ref()?;
    let Some(template) = &form.template else {
        return match form.prefix {
            Some(_) => None,
            None => told("`[subject]` has neither `prefix` nor `template`", "[subject]"),
        };
    };
    if form.prefix.is_some() {
        return told("`[subject]` has a `prefix` or a `template`, not both", "[subject]");
    }
    if !template::is_sound(template) {
        return told("a brace in `template` has no partner, or nothing in it", "template");
    }
    let known = |name: &str| match name {
        "name" => data.provides(Claim::Repository),
        name => Claim::from_name(name).is_some_and(|claim| data.provides(claim)),
    };
    let unknown = template::natives(template).unwrap_or_default().into_iter().find(|name| !known(name))?;
    told(format!("`template` names `{unknown}`, which no claim of the issuer becomes"), "template")
}
