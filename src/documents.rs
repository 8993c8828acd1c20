//! The published documents: pure functions of two URLs, so that `serve` and `issuer export` say the same. They list
//! what works today and nothing else.

use crate::keys::signing::SigningAlgorithm;
use claimbound_core::time::UnixSeconds;
use serde_json::{Value, json};

/// Below the issuer's URL; relying parties look for it there (OpenID Connect Discovery 1.0, section 4).
pub const OPENID_CONFIGURATION_PATH: &str = "/.well-known/openid-configuration";
/// Below the issuer's URL.
pub const JWKS_PATH: &str = "/jwks";

/// For relying parties that verify our tokens (OpenID Connect Discovery 1.0, section 3). `issuer_url` has no trailing
/// slash and is the tokens' `iss`; where it is not the broker, these documents are published there by `issuer export`.
/// `public_url`: the broker's, where it is known.
pub fn openid_configuration(issuer_url: &str, public_url: Option<&str>) -> Value {
    let mut document = json!({
        "issuer": issuer_url,
        "jwks_uri": format!("{issuer_url}{JWKS_PATH}"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": SigningAlgorithm::ALL.map(SigningAlgorithm::name),
        "claims_supported": [
            "iss", "sub", "aud", "iat", "nbf", "exp", "jti", "role", "mapping", "lease_id", "principal",
            "status",
        ],
    });
    if let Some(public_url) = public_url {
        document["introspection_endpoint"] = format!("{public_url}/introspect").into();
        document["introspection_endpoint_auth_methods_supported"] = json!(["client_secret_basic"]);
    }
    document
}

/// For OAuth clients of the broker (RFC 8414 section 2). Its `issuer` is the URL that the document is found under, as
/// section 3.3 demands, so it stays `public_url` where tokens carry another name; `jwks_uri` follows the tokens.
pub fn authorization_server(public_url: &str, issuer_url: &str) -> Value {
    json!({
        "issuer": public_url,
        "token_endpoint": format!("{public_url}/token"),
        "revocation_endpoint": format!("{public_url}/revoke"),
        "jwks_uri": format!("{issuer_url}{JWKS_PATH}"),
        "introspection_endpoint": format!("{public_url}/introspect"),
        "grant_types_supported": ["urn:ietf:params:oauth:grant-type:token-exchange", "refresh_token"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic"],
    })
}

/// For our own clients, to compare with what they computed, never to obey. They know `public_url` alone, so `issuer` is
/// the broker's (RFC 8414), also where its tokens carry another name. `time` is seconds since 1970.
pub fn claimbound(public_url: &str, now: UnixSeconds) -> Value {
    json!({
        "token_endpoint": format!("{public_url}/token"),
        "audience": public_url,
        "issuer": public_url,
        "time": now.0,
        "version": env!("CARGO_PKG_VERSION"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "https://claimbound.example";
    const ISSUER: &str = "https://oidc.example/prod";

    #[test]
    fn relying_parties_find_issuer_and_keys_under_the_tokens_name() {
        let document = openid_configuration(ISSUER, Some(PUBLIC));
        assert_eq!(document["issuer"], ISSUER);
        assert_eq!(document["jwks_uri"], "https://oidc.example/prod/jwks");
        assert_eq!(document["introspection_endpoint"], "https://claimbound.example/introspect");
        assert!(
            openid_configuration(ISSUER, None).get("introspection_endpoint").is_none(),
            "published without a broker"
        );
        assert_eq!(document["id_token_signing_alg_values_supported"], json!(["ES256", "RS256"]));
    }

    #[test]
    fn clients_find_endpoints_at_the_broker_and_keys_at_the_issuer() {
        let document = authorization_server(PUBLIC, ISSUER);
        assert_eq!(document["issuer"], PUBLIC);
        assert_eq!(document["token_endpoint"], "https://claimbound.example/token");
        assert_eq!(document["revocation_endpoint"], "https://claimbound.example/revoke");
        assert_eq!(document["jwks_uri"], openid_configuration(ISSUER, Some(PUBLIC))["jwks_uri"]);
    }

    #[test]
    fn our_clients_compare_audience_and_clock() {
        let document = claimbound(PUBLIC, UnixSeconds(7));
        assert_eq!(
            document,
            json!({ "token_endpoint": "https://claimbound.example/token", "audience": PUBLIC, "issuer": PUBLIC,
                "time": 7, "version": env!("CARGO_PKG_VERSION") })
        );
    }
}
