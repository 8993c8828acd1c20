//! `[mapping.actor]`: who may act for a mapping's jobs. The credential is as much the actor's as the job's, so an actor is
//! pinned as a job is, by its own issuer's rules; no exception makes it wider.

use super::{
    conditions::{self, Compiled, Ground, Shape, keys_of},
    policy::PRODUCTION,
    teams::{Reading, is_pin},
};
use crate::{
    diag::Span,
    mapping::{
        ActorRule, Issuer, IssuerId, Origin, RoleId, Test, codes,
        syntax::{Entry, Fields, Findings, Place},
    },
    workload::{ACTORS_MAX, Claim, Profile},
};
use toml::de::DeValue;

/// The key of `[mapping.actor.match]` that is no claim.
const ISSUER: &str = "issuer";
/// Longest `audience`.
const AUDIENCE_BYTES_MAX: usize = 256;

/// The rule, its conditions beside it; `None`: it cannot be read, which is told.
pub(super) fn read(
    entry: Entry<'_, '_>,
    roles: &[(RoleId, Span)],
    reading: &Reading<'_, '_, '_>,
    findings: &mut Findings,
) -> Option<(ActorRule, Vec<Compiled>)> {
    let before = findings.errors();
    let fields = Fields::read(entry.source, Place::Actor, entry.value, findings)?;
    let audience = fields.entry("audience").and_then(|entry| audience(&entry, findings));
    // Nobody exchanges a token of ours on their own behalf.
    let required = fields.boolean("required", findings).unwrap_or(false) || audience.is_some();
    let max_depth = depth(fields.entry("max_depth"), findings);
    let table = fields.need("match", findings)?;
    let keys = keys_of(Some(table), Origin::Actor, findings);
    let (named, keys): (Vec<_>, Vec<_>) = keys.into_iter().partition(|(entry, _)| entry.name() == ISSUER);
    let Some((issuer, _)) = named.first() else {
        findings.error(
            codes::MISSING_KEY,
            table.span(),
            "`[mapping.actor.match]` does not say from which issuer the actor comes",
            "write `issuer = \"…\"`: what the actor's claims are is its issuer's to say",
        );
        return None;
    };
    let (issuer, span) = issuer.text(findings)?;
    if !reading.policy.knows_issuer(issuer, &span, findings) {
        return None;
    }
    let (number, issuer, profile) = reading.policy.issuer(issuer)?;
    reading.may_use(&issuer.name, span, findings);
    let known = Some(reading.known);
    let ground = Ground { issuers: vec![(issuer, profile)], sets: Some(reading.sets), known, deny: false };
    let conditions_before = findings.errors();
    let mut compiled = conditions::compile(&ground, &keys, findings);
    if findings.errors() == conditions_before {
        let production = roles.iter().map(|(role, _)| &reading.roles.all[role.0 as usize]);
        let production = production.into_iter().find(|role| role.sensitivity == PRODUCTION);
        judge((issuer, profile), &compiled, production.map(|role| role.name.as_str()), &table.key_span(), findings);
        compiled.extend(default_events(profile, &compiled, &table.key_span()));
    }
    let span = entry.key_span();
    let rule = ActorRule { required, audience, max_depth, issuer: IssuerId(number), conditions: Vec::new(), span };
    (findings.errors() == before).then_some((rule, compiled))
}

/// As a `jwt` role's is: plain ASCII, compared byte by byte.
fn audience(entry: &Entry<'_, '_>, findings: &mut Findings) -> Option<String> {
    let (text, span) = entry.text(findings)?;
    if text.is_empty() || text.len() > AUDIENCE_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        findings.error(
            codes::BAD_ACTOR_AUDIENCE,
            span,
            format!("`audience` is not 1 to {AUDIENCE_BYTES_MAX} printable ASCII characters without spaces"),
            "write the `audience` of the `jwt` role whose tokens this actor exchanges, exactly as it stands there",
        );
        return None;
    }
    Some(text.to_owned())
}

fn depth(entry: Option<Entry<'_, '_>>, findings: &mut Findings) -> u8 {
    let Some(entry) = entry else { return 1 };
    let DeValue::Integer(number) = entry.value.get_ref() else {
        entry.wrong_type("a whole number", findings);
        return 1;
    };
    let depth = u8::from_str_radix(number.as_str(), number.radix()).ok();
    let depth = depth.filter(|depth| (1..=ACTORS_MAX).contains(&usize::from(*depth)));
    if depth.is_none() {
        findings.error(
            codes::BAD_DEPTH,
            entry.value_span(),
            format!("`max_depth` cannot be {number}"),
            format!("write a whole number from 1, nobody but the actor acts, to {ACTORS_MAX}; without `[mapping.actor]` nobody does"),
        );
    }
    depth.unwrap_or(1)
}

/// Who may act is as narrow as who may have the roles must be. `production`: one of these.
fn judge(
    (issuer, profile): (&Issuer, &Profile),
    compiled: &[Compiled],
    production: Option<&str>,
    span: &Span,
    findings: &mut Findings,
) {
    let pinned = compiled.iter().any(|compiled| is_pin(profile, compiled));
    let by_subject = profile.pins().first() == Some(&Claim::Subject);
    let help = match by_subject {
        true => "write the token's `sub`, exactly: `subject = \"…\"`; this issuer's tokens have no other identity",
        false => {
            "write `repository = { name = \"…\", id = … }`, a set, or `repository_id`: no exception makes less enough for who acts"
        }
    };
    let pin = if by_subject { "subject" } else { "repository id" };
    let chosen = |compiled: &Compiled| {
        let claim = compiled.condition.claim.canonical();
        claim.is_none_or(|claim| profile.author_controlled().contains(&claim))
            || compiled.condition.test.parts().iter().any(|test| matches!(test, Test::Present | Test::Absent))
    };
    if let (Some(role), false) = (production, pinned) {
        let message =
            format!("whoever acts gets the production role `{role}`, and `mapping.actor.match` pins no {pin}");
        findings.error(codes::PRODUCTION_NOT_PINNED, span.clone(), message, help);
    } else if issuer.multi_tenant && !pinned {
        let message =
            format!("`mapping.actor.match` pins no {pin}, and issuer `{}` is shared by strangers", issuer.name);
        findings.error(codes::NOT_PINNED, span.clone(), message, help);
    } else if compiled.iter().all(chosen) {
        let message =
            format!("`mapping.actor.match` asks nothing that any job of issuer `{}` could not meet", issuer.name);
        findings.error(codes::NOT_PINNED, span.clone(), message, help);
    }
    let protected = [Claim::RefProtected, Claim::EnvironmentProtected];
    let by_platform =
        |one: &Compiled| protected.iter().any(|claim| one.condition.claim == *claim) && one.shape == Shape::Is(true);
    if let (Some(role), false) = (production, profile.tells_events() || !profile.provides(Claim::Ref))
        && !compiled.iter().any(by_platform)
    {
        let message = format!(
            "whoever acts gets `{role}`, which is `{PRODUCTION}`, and tokens of issuer `{}` do not tell a pull request's job from another",
            issuer.name
        );
        let help = "add `ref_protected = true` or `environment_protected = true` where the issuer sends it; otherwise let jobs of another issuer act";
        findings.error(codes::EVENTS_UNTOLD, span.clone(), message, help);
    }
}

/// The condition on the profile's default events, where none names events: who acts is a job like another.
fn default_events(profile: &Profile, compiled: &[Compiled], span: &Span) -> Option<Compiled> {
    let events = profile.default_events();
    let named = compiled.iter().any(|compiled| compiled.condition.claim == Claim::EventName);
    if named || events.is_empty() || !profile.provides(Claim::EventName) {
        return None;
    }
    Some(Compiled::default_events(events, span.clone()))
}
