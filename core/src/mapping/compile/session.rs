//! `max_session`: how long a mapping's grants are renewed.

use super::duration;
use crate::{
    diag::{Diagnostic, Span},
    mapping::{
        codes,
        syntax::{Entry, Findings},
    },
    time::Seconds,
    workload::Profile,
};

/// The longest session. A token that expired is believed for so long at most, as the half of a renewal.
const SESSION_SECONDS_MAX: u32 = 86_400;

/// The session of a mapping, read against the profile of its issuer.
pub(super) fn read(
    entry: Option<Entry<'_, '_>>,
    max_duration: Option<&(Seconds, Span)>,
    (issuer, profile): (&str, &Profile),
    findings: &mut Findings,
) -> Option<Seconds> {
    let (session, span) = duration::read(entry, findings)?;
    if session.0 > SESSION_SECONDS_MAX {
        let longest = duration::write(Seconds(SESSION_SECONDS_MAX));
        let message = format!("`max_session` is {}, more than {longest}", duration::write(session));
        let help = format!("write at most `max_session = \"{longest}\"`");
        findings.error(codes::BAD_SESSION, span, message, help);
        return None;
    }
    let useless = if profile.can_mint_again() {
        let help = "remove it: such jobs ask their CI system for another token and come again";
        Some((format!("grants to jobs of `{issuer}` are not renewed, so `max_session` says nothing"), help.to_owned()))
    } else {
        let longer = max_duration.filter(|(max, _)| *max >= session);
        longer.map(|(max, _)| {
            let help = format!("write a `max_session` above {}, or remove it", duration::write(*max));
            ("`max_session` is not above `max_duration`: it ends before a grant does".to_owned(), help)
        })
    };
    if let Some((message, help)) = useless {
        findings.push(Diagnostic::error(codes::SESSION_WITHOUT_USE, span, message, help).warning());
    }
    Some(session)
}
