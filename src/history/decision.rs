//! One recorded answer, and the evaluation made again from the recorded claims and the
//! folder that judged then, which the store keeps by its hash.

use super::{
    Answer, Format, Told,
    explanation::{Explanation, explain_case},
};
use crate::{
    folder,
    store::{Reader, Stored},
};
use anyhow::{Context, Result};
use claimbound_core::{
    evidence::{Body, DecisionId, unhex},
    mapping::{Folder, MappingSet, load},
    review::{Given, recorded::ACTOR_CLAIMS},
    time::UnixSeconds,
    workload::Profiles,
};
use serde_json::{Value, json};

/// What was asked and found, made again.
struct Again {
    set: MappingSet,
    folder: Folder,
    explanation: Explanation,
}

/// The record and the evaluation; code 0 for a grant, 1 for a refusal. `None`: there is no such decision.
///
/// # Errors
/// A store, record or kept folder that cannot be read.
pub fn answer(reader: &dyn Reader, id: DecisionId, format: Format) -> Result<Option<Told>> {
    let records = reader.decision(id)?;
    let Some(stored) = records.first() else { return Ok(None) };
    let body = Body::parse(&stored.body)?;
    let again = again(&body, stored, reader)?;
    let granted = matches!(&*body.kind, "granted" | "dry_run");
    let told = match format {
        Format::Json => {
            let record: Value = serde_json::from_slice(&stored.body)?;
            let explanation = again.map(|again| again.explanation.to_json(&again.set));
            Answer::Json(json!({ "record": record, "explanation": explanation }))
        }
        Format::Human | Format::Markdown => Answer::Text(human(id, &body, again.as_ref())),
    };
    Ok(Some(Told { code: u8::from(!granted), answer: told }))
}

/// `None` where the record holds no claims: a stranger's, or erased ones.
fn again(body: &Body<'_>, stored: &Stored, reader: &dyn Reader) -> Result<Option<Again>> {
    let Some(issuer) = body.principal.as_ref().map(|principal| &*principal.issuer) else { return Ok(None) };
    if stored.details.is_empty() {
        return Ok(None);
    }
    let details: Value = serde_json::from_slice(&stored.details).context("the record's details are no JSON")?;
    let version = body.mappings.as_deref().and_then(unhex).context("the record names no mapping folder")?;
    let archive = reader.folder(&version)?.context("the store does not keep the folder that judged")?;
    let folder = folder::unarchive(&archive)?;
    let loaded = load(&folder, &Profiles::builtin());
    let set = loaded.set.context("the kept folder does not load with this version")?;
    let (issuer, _) = set.issuer_named(issuer).context("the kept folder does not have the record's issuer")?;
    let given = Given::Claims(details["claims"].clone());
    let acting = details.get(ACTOR_CLAIMS).map(|claims| (claims["iss"].as_str(), Given::Claims(claims.clone())));
    let acting = acting.as_ref().map(|(url, given)| -> Result<_> {
        let name = url.and_then(|url| set.issuer_at(url));
        let known = name.and_then(|name| Some(set.issuer_named(&name)?.0));
        Ok((known.context("the kept folder does not have the actor's issuer")?, given))
    });
    let (role, at) = (details["asked"]["role"].as_str(), UnixSeconds(body.at));
    let explanation =
        explain_case(&set, &loaded.profiles, (issuer, &given), (acting.transpose()?, &details), role, at)?;
    Ok(Some(Again { set, folder, explanation }))
}

fn human(id: DecisionId, body: &Body<'_>, again: Option<&Again>) -> String {
    let at = jiff::Timestamp::from_second(body.at).map_or_else(|_| body.at.to_string(), |at| at.to_string());
    let mut text = format!("decision {id} at {at}: {}", body.kind);
    for (what, value) in [("reason", &body.reason), ("role", &body.role), ("mapping", &body.mapping)] {
        if let Some(value) = value {
            text.push_str(&format!(", {what} `{value}`"));
        }
    }
    if let Some(principal) = &body.principal {
        text.push_str(&format!("\nfor {} ({}) of issuer `{}`", principal.name, principal.id, principal.issuer));
    }
    if let Some(actor) = &body.actor {
        text.push_str(&format!("\nacting for it: {} ({}) of issuer `{}`", actor.name, actor.id, actor.issuer));
    }
    match again {
        Some(again) => {
            let told = again.explanation.to_text(&again.set, Some(&again.folder));
            text.push_str(&format!("\n\nthe rules, asked again with the recorded claims:\n{told}"));
        }
        None => text.push_str("\nno claims are recorded, so the rules cannot be asked again\n"),
    }
    text
}
