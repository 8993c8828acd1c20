//! What of an ID token counts, and the library's types with all its claims kept.

use crate::config::SignIn;
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
    /// When they last showed a password or the like, where the provider says so.
    pub signed_in_at: Option<i64>,
    /// How they did, in the provider's words.
    pub acr: Option<String>,
    pub amr: Vec<String>,
    /// Issuer of the mapping folder → their immutable id there.
    pub forge_ids: BTreeMap<String, String>,
}

/// One of a claim's many texts, or its length, beyond which it is left out: nothing a provider says should fill the store.
const TEXT_BYTES_MAX: usize = 1024;
/// Groups, or methods.
const TEXTS_MAX: usize = 1000;

/// Every claim that the library does not know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AllClaims(Map<String, Value>);

impl AdditionalClaims for AllClaims {}

impl AllClaims {
    /// The claim of this name, or at this pointer.
    fn at(&self, claim: &str) -> Option<&Value> {
        match claim.strip_prefix('/') {
            Some(_) => {
                let mut at = claim.splitn(3, '/').skip(1);
                let name = at.next().unwrap_or_default().replace("~1", "/").replace("~0", "~");
                let rest = at.next().map(|rest| format!("/{rest}")).unwrap_or_default();
                self.0.get(&name).and_then(|value| value.pointer(&rest))
            }
            None => self.0.get(claim),
        }
    }

    pub(super) fn person(claims: &IdTokenClaims<Self, CoreGenderClaim>, sign_in: &SignIn) -> Person {
        let all = claims.additional_claims();
        let found = all.at(&sign_in.groups_claim);
        // As the tokens of forges have them, too: a number or its digits.
        let id = |claim: &String| match all.at(claim)? {
            Value::String(id) if !id.is_empty() && id.len() <= TEXT_BYTES_MAX => Some(id.clone()),
            Value::Number(id) if id.is_u64() => Some(id.to_string()),
            _ => None,
        };
        let forge_ids = sign_in.forge_ids.iter().filter_map(|(issuer, claim)| Some((issuer.clone(), id(claim)?)));
        // Some providers write one group as a text.
        let groups = match found {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(many)) => many.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        };
        let amr = claims.auth_method_refs().into_iter().flatten().map(|method| method.to_string()).take(TEXTS_MAX);
        let verified = claims.email_verified() == Some(true);
        let email = claims.email().filter(|_| verified).map(|email| email.to_string());
        let named = claims.name().and_then(|name| name.get(None)).map(|name| name.to_string());
        Person {
            subject: claims.subject().to_string(),
            name: named
                .or_else(|| claims.preferred_username().map(|name| name.to_string()))
                .or_else(|| claims.email().map(|email| email.to_string())),
            email,
            groups,
            signed_in_at: claims.auth_time().map(|at| at.timestamp()),
            acr: claims.auth_context_ref().map(|acr| acr.to_string()).filter(|acr| acr.len() <= TEXT_BYTES_MAX),
            amr: amr.collect(),
            forge_ids: forge_ids.collect(),
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
