//! Denies on claims that an issuer's jobs need not have: unknown counts as true there.

use crate::{
    diag::Diagnostic,
    mapping::{MappingSet, codes},
    workload::{ClaimKey, Profiles},
};

pub(super) fn denies(set: &MappingSet, profiles: &Profiles, found: &mut Vec<Diagnostic>) {
    for deny in &set.denies {
        for condition in deny.conditions.iter().filter(|condition| !condition.if_unknown_ignore) {
            let concerned =
                |at: usize| deny.issuers.is_empty() || deny.issuers.iter().any(|issuer| usize::from(issuer.0) == at);
            let silent: Vec<_> = set
                .issuers
                .iter()
                .enumerate()
                .filter(|(at, issuer)| concerned(*at) && !says(profiles, &issuer.profile, &condition.claim))
                .map(|(_, issuer)| format!("`{}`", issuer.name))
                .collect();
            if silent.is_empty() {
                continue;
            }
            let message = format!(
                "deny `{}` asks for `{}`, which tokens of {} {}: what is unknown counts as true in a deny",
                deny.name,
                condition.claim.name(),
                silent.join(", "),
                if condition.claim.canonical().is_some() { "never carry" } else { "are not known to carry" }
            );
            let help = "name the `issuers` it is for, or add `if_unknown = \"ignore\"` to the condition";
            found.push(Diagnostic::error(codes::DENY_ON_UNSENT, condition.span.clone(), message, help).warning());
        }
    }
}

/// Whether tokens carry the claim, as far as the profile knows.
fn says(profiles: &Profiles, profile: &str, claim: &ClaimKey) -> bool {
    profiles.get(profile).is_some_and(|profile| match claim {
        ClaimKey::Canonical(claim) => profile.provides(*claim),
        ClaimKey::Raw(raw) => profile.raw_claim(&raw.native()).is_some(),
    })
}
