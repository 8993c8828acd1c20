//! Which credentials a key signed, from the evidence. A record does not name the key: it names the moment, the role and
//! the token's `jti`, and a ring says which key signed in a role's algorithm at that moment.

use super::moment;
use crate::history::log::Log;
use crate::{
    issuance::jwt,
    keys::signing::{KeyInfo, RELOAD_SECONDS, SigningAlgorithm},
};
use anyhow::Result;
use claimbound_core::{
    evidence::{Body, LeaseId, unhex},
    time::UnixSeconds,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, io::Write};

/// A credential that the key signed, or may have: two keys sign for a moment where brokers read of a rotation one after
/// another.
pub(super) struct Signed {
    lease: LeaseId,
    role: String,
    mapping: String,
    principal: String,
    jti: String,
    at: UnixSeconds,
    expires: UnixSeconds,
    /// `issued`, `unknown` or `ended`: whoever verifies offline believes a token of an ended lease, too.
    state: String,
}

/// Those that have not expired by `now`, oldest first.
pub(super) fn signed(log: &Log, key: &KeyInfo, now: UnixSeconds) -> Result<Vec<Signed>> {
    let ended = [key.retires, key.revoked].into_iter().flatten().min().unwrap_or(now);
    let margin = i64::try_from(RELOAD_SECONDS).unwrap_or(i64::MAX);
    let span = key.signs_from.0..ended.plus(margin).0;
    let mut found: BTreeMap<LeaseId, Signed> = BTreeMap::new();
    let mut other: BTreeMap<(String, String), bool> = BTreeMap::new();
    log.reader.records(&mut |body, _| {
        let Ok(body) = Body::parse(body) else { return true };
        let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
        match (&*body.kind, body.lease) {
            // Only our own tokens have a handle before they are minted.
            ("granted", Some(lease)) if body.handle.is_some() && span.contains(&body.at) => {
                let expires = UnixSeconds(body.expires.unwrap_or_default());
                let by = (text(&body.mappings), text(&body.role));
                let of_other = *other.entry(by).or_insert_with_key(|(version, role)| {
                    algorithm(log, version, role).is_some_and(|algorithm| algorithm != key.algorithm)
                });
                if expires > now && !of_other {
                    let principal = body.principal.as_ref().map(|of| format!("{} {} ({})", of.issuer, of.name, of.id));
                    let signed = Signed {
                        lease,
                        role: text(&body.role),
                        mapping: text(&body.mapping),
                        principal: principal.unwrap_or_default(),
                        jti: text(&body.handle),
                        at: UnixSeconds(body.at),
                        expires,
                        state: "issued".to_owned(),
                    };
                    found.insert(lease, signed);
                }
            }
            ("settled", Some(lease)) if body.state.as_deref() == Some("failed") => drop(found.remove(&lease)),
            ("settled" | "ended", Some(lease)) => {
                if let Some(signed) = found.get_mut(&lease) {
                    signed.state = body.state.as_deref().unwrap_or("ended").to_owned();
                }
            }
            _ => {}
        }
        true
    })?;
    Ok(found.into_values().collect())
}

/// What a role was signed with, by the folder that judged; `None` where that cannot be told.
fn algorithm(log: &Log, version: &str, role: &str) -> Option<SigningAlgorithm> {
    let loaded = log.folder(&unhex(version)?).ok()?;
    let role = loaded.set.role(loaded.set.role_named(role)?);
    jwt::Config::parse(role, None).ok().map(|config| config.algorithm)
}

pub(super) fn to_json(signed: &Signed) -> Value {
    json!({
        "lease_id": signed.lease.to_string(),
        "role": signed.role,
        "mapping": signed.mapping,
        "principal": signed.principal,
        "jti": signed.jti,
        "at": moment(signed.at),
        "expires": moment(signed.expires),
        "state": signed.state,
    })
}

pub(super) fn tell(signed: &[Signed], out: &mut dyn Write) -> Result<()> {
    if signed.is_empty() {
        writeln!(out, "No credential that it signed is still good anywhere.")?;
        return Ok(());
    }
    writeln!(out, "Relying parties that have its public key cached take these until they expire:\n")?;
    for one in signed {
        let (expires, Signed { lease, role, principal, state, .. }) = (moment(one.expires), one);
        writeln!(out, "{lease}  {state:<7}  expires {expires}  {role}  {principal}")?;
    }
    Ok(())
}
