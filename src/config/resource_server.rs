//! `[[resource_server]]`: who may introspect, and tokens of which audience.

use super::{Judge, VALUE, signing::PlaceFile};
use crate::secret::Place;
use serde::{Deserialize, Serialize};
use std::path::Path;
use toml::Spanned;

/// A resource server (RFC 7662): a relying party that asks whether a token is still good.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ResourceServer {
    /// Of the tokens that it may ask about: those of `jwt` roles with this `audience`.
    pub audience: String,
    pub client_id: String,
    pub client_secret: Place,
}

#[derive(Deserialize)]
pub(super) struct ResourceServerFile {
    audience: Spanned<String>,
    client_id: Spanned<String>,
    client_secret: Spanned<PlaceFile>,
}

/// A name that is sent in every request.
const CLIENT_ID_BYTES_MAX: usize = 128;

impl Judge {
    pub(super) fn resource_servers(&mut self, all: Vec<ResourceServerFile>, directory: &Path) -> Vec<ResourceServer> {
        let mut judged: Vec<ResourceServer> = Vec::with_capacity(all.len());
        for ResourceServerFile { audience, client_id, client_secret } in all {
            if audience.get_ref().is_empty() {
                let help = "write the `audience` of the `jwt` roles whose tokens it is given";
                self.error(VALUE, audience.span(), "`audience` is empty".to_owned(), help);
            }
            let id = client_id.get_ref();
            // What survives every client's way of writing it: RFC 6749 section 2.3.1 escapes all else.
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if id.is_empty() || id.len() > CLIENT_ID_BYTES_MAX || !id.bytes().all(plain) {
                let help = format!("write up to {CLIENT_ID_BYTES_MAX} letters, digits, `-`, `.` and `_`");
                self.error(VALUE, client_id.span(), format!("`{id}` can be no `client_id`"), help);
            }
            if judged.iter().any(|other| other.client_id == *id) {
                let help = "give each resource server a `client_id` and a secret of its own";
                self.error(VALUE, client_id.span(), format!("there are two resource servers `{id}`"), help);
            }
            let Some(place) = self.place(client_secret, "client_secret", directory) else { continue };
            let (audience, client_id) = (audience.into_inner(), client_id.into_inner());
            judged.push(ResourceServer { audience, client_id, client_secret: place });
        }
        judged
    }
}
