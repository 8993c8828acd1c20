//! Our own ring as an issuer like another: a token of ours that comes back is verified as strictly as anybody's, and by the
//! keys that we hold. Our published documents are never fetched: whoever could change them could make our tokens.

use super::{CREDENTIAL_SECONDS_MAX, Signer};
use claimbound_core::{
    time::UnixSeconds,
    trust::{Algorithm, Cut, IssuerRules, IssuerSnapshot, IssuerTable, parse_jwks},
    workload::SingleUseRule,
};
use std::sync::Arc;

/// What every token of ours says that may come back.
const REQUIRED: [&str; 5] = ["lease_id", "role", "mapping", "/principal/issuer", "/principal/id"];

impl Signer {
    /// A table of one issuer: us, under this URL, with the keys that are published now. Revoked ones are not among them.
    pub fn as_issuer(&self, issuer_url: &str, now: UnixSeconds) -> IssuerTable {
        let jwks = self.jwks(now).to_string();
        let keys = parse_jwks(jwks.as_bytes(), &[Algorithm::Es256, Algorithm::Rs256]).map(|set| set.keys);
        let mut table = IssuerTable::default();
        table.insert(IssuerSnapshot {
            name: Arc::default(),
            url: issuer_url.into(),
            rules: IssuerRules {
                // Whom a token is for is asked of each.
                audience: String::new(),
                max_lifetime_seconds: CREDENTIAL_SECONDS_MAX.into(),
                single_use: SingleUseRule::Jti,
                actor_single_use: SingleUseRule::Jti,
                requires_nbf: true,
                required: REQUIRED.map(str::to_owned).to_vec(),
            },
            keys: keys.unwrap_or_default(),
            keys_valid_until: now,
            cut: Cut::default(),
        });
        table
    }
}
