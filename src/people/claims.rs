//! What of an ID token counts, and the library's types with all its claims kept.

use openidconnect::{
    AdditionalClaims, AdditionalProviderMetadata, Client, DeviceAuthorizationUrl, EmptyExtraTokenFields,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, IdToken, IdTokenClaims, IdTokenFields, ProviderMetadata,
    StandardErrorResponse, StandardTokenResponse,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreErrorResponseType,
        CoreGenderClaim, CoreGrantType, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm,
        CoreJweKeyManagementAlgorithm, CoreJwsSigningAlgorithm, CoreResponseMode, CoreResponseType, CoreRevocableToken,
        CoreRevocationErrorResponse, CoreSubjectIdentifierType, CoreTokenIntrospectionResponse, CoreTokenType,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A person whom a provider vouches for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Person {
    /// The provider's immutable id of them.
    pub subject: String,
    /// Only one that the provider verified.
    pub email: Option<String>,
    /// For people's eyes.
    pub name: Option<String>,
    pub groups: Vec<String>,
    /// How they signed in, where the provider says so (OpenID Connect Core 1.0 section 2).
    pub acr: Option<String>,
    pub amr: Vec<String>,
    /// Who they are at CI systems: issuer name → immutable id there.
    pub forge_ids: BTreeMap<String, String>,
    /// When they last showed a password or the like, where the provider says so.
    pub signed_in_at: Option<i64>,
}

impl Person {
    /// As ceremonies know them. `sign_in`: the name of the `[[sign_in]]` that vouches for them.
    pub fn at_the_desk(self, sign_in: &str) -> claimbound_core::ceremony::Person {
        claimbound_core::ceremony::Person {
            sign_in: sign_in.to_owned(),
            subject: self.subject,
            email: self.email,
            name: self.name,
            groups: self.groups,
            acr: self.acr,
            amr: self.amr,
            auth_time: self.signed_in_at,
            forge_ids: self.forge_ids,
        }
    }
}

/// Every claim that the library does not know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AllClaims(Map<String, Value>);

impl AdditionalClaims for AllClaims {}

impl AllClaims {
    pub(super) fn person(
        claims: &IdTokenClaims<Self, CoreGenderClaim>,
        groups_claim: &str,
        forge_id_claim: &BTreeMap<String, String>,
    ) -> Person {
        let all = &claims.additional_claims().0;
        let at = |claim: &str| match claim.strip_prefix('/') {
            Some(_) => {
                let mut at = claim.splitn(3, '/').skip(1);
                let name = at.next().unwrap_or_default().replace("~1", "/").replace("~0", "~");
                let rest = at.next().map(|rest| format!("/{rest}")).unwrap_or_default();
                all.get(&name).and_then(|value| value.pointer(&rest))
            }
            None => all.get(claim),
        };
        let found = at(groups_claim);
        // Some providers write a number as a text, others as a number.
        let forge_ids = forge_id_claim.iter().filter_map(|(issuer, claim)| {
            let id = match at(claim)? {
                Value::String(id) if !id.is_empty() => id.clone(),
                Value::Number(id) if id.is_u64() => id.to_string(),
                _ => return None,
            };
            Some((issuer.clone(), id))
        });
        // Some providers write one group as a text.
        let groups = match found {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(many)) => many.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        };
        let verified = claims.email_verified() == Some(true);
        let email = claims.email().filter(|_| verified).map(|email| email.to_string());
        let named = claims.name().and_then(|name| name.get(None)).map(|name| name.to_string());
        Person {
            subject: claims.subject().to_string(),
            name: named
                .or_else(|| claims.preferred_username().map(|name| name.to_string()))
                .or_else(|| claims.email().map(|email| email.to_string())),
            acr: claims.auth_context_ref().map(|acr| acr.to_string()),
            amr: claims.auth_method_refs().into_iter().flatten().map(|amr| amr.to_string()).collect(),
            forge_ids: forge_ids.collect(),
            email,
            groups,
            signed_in_at: claims.auth_time().map(|at| at.timestamp()),
        }
    }
}

/// What of a provider's document the library does not know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Devices {
    pub device_authorization_endpoint: Option<DeviceAuthorizationUrl>,
}

impl AdditionalProviderMetadata for Devices {}

pub(super) type Token = IdToken<AllClaims, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;

type Fields = IdTokenFields<
    AllClaims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;

/// A provider by its documents.
pub(super) type Provider = ProviderMetadata<
    Devices,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// The broker, as a provider's relying party.
pub(super) type Relying = Client<
    AllClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    StandardTokenResponse<Fields, CoreTokenType>,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;
