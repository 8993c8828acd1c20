//! Introspection (RFC 7662): whether a token that the broker signed is still good, for the resource server that it is for.
//!
//! Every answer asks the store, so an end that one replica recorded is what all of them say at once. Whoever asks about
//! anything but a live token of its own audience learns one thing: that it is not good.

use super::Broker;
use crate::{
    config::Config,
    issuance::own::TYP,
    secret::{Place, Secret},
    store::{Down, LeaseState},
};
use arc_swap::ArcSwap;
use aws_lc_rs::{
    constant_time,
    digest::{SHA256, digest},
};
use claimbound_core::time::UnixSeconds;
use serde_json::{Map, Value};
use std::sync::Arc;

/// The longest secret that is read, in bytes; and the shortest that is taken, so that it cannot be guessed.
const SECRET_BYTES_MAX: u64 = 1024;
const SECRET_BYTES_MIN: usize = 16;

/// What an answer repeats of a token's claims: RFC 7662 section 2.2, and our own.
const MEMBERS: [&str; 12] =
    ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "role", "mapping", "lease_id", "principal", "act"];

/// The resource servers, each with the SHA-256 of its secret.
#[derive(Default)]
pub(super) struct Clients(Vec<Client>);

struct Client {
    id: String,
    audience: String,
    place: Place,
    secret: ArcSwap<[u8; 32]>,
}

impl Clients {
    /// # Errors
    /// A secret that cannot be read, or can be guessed.
    pub(super) fn read(config: &Config) -> Result<Self, String> {
        let client = |server: &crate::config::ResourceServer| {
            let (id, place) = (server.client_id.clone(), server.client_secret.clone());
            let secret = hash(read(&place).map_err(|why| format!("`client_secret` of resource server `{id}`: {why}"))?);
            Ok(Client { id, audience: server.audience.clone(), place, secret: ArcSwap::from_pointee(secret) })
        };
        config.resource_servers.iter().map(client).collect::<Result<_, _>>().map(Self)
    }

    /// Secrets may be replaced while the broker runs; the old one stays in use where the new one cannot be read.
    pub(super) fn read_again(&self) {
        for client in &self.0 {
            match read(&client.place) {
                Ok(secret) => client.secret.store(Arc::new(hash(secret))),
                Err(why) => tracing::error!(client_id = client.id, why, "its secret cannot be read again"),
            }
        }
    }

    /// The number of the resource server that has this id and this secret. As long for a wrong secret as for the right one.
    fn find(&self, id: &str, secret: &str) -> Option<usize> {
        let given = digest(&SHA256, secret.as_bytes());
        let at = self.0.iter().position(|client| client.id == id);
        let known = at.map_or([0; 32], |at| **self.0[at].secret.load());
        let same = constant_time::verify_slices_are_equal(given.as_ref(), &known).is_ok();
        at.filter(|_| same)
    }
}

fn hash(secret: Secret) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.reveal().as_bytes()).as_ref());
    hash
}

/// The text without the end of its line.
fn read(place: &Place) -> Result<Secret, String> {
    let bytes = place.read(SECRET_BYTES_MAX).map_err(|why| format!("{place} {why}"))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("{place} holds no text"))?;
    let secret = Secret::new(text.trim_end_matches(['\r', '\n']).to_owned());
    if secret.reveal().len() < SECRET_BYTES_MIN {
        return Err(format!("it has less than {SECRET_BYTES_MIN} bytes; make one with `openssl rand -hex 32`"));
    }
    Ok(secret)
}

impl Broker {
    /// The resource server that proves itself by this secret, as [`Broker::introspect`] wants it.
    pub fn resource_server(&self, id: &str, secret: &str) -> Option<usize> {
        self.clients.find(id, secret)
    }

    /// What a token of the resource server's audience says, as long as it is good; `None` for anything else.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn introspect(&self, server: usize, token: &Secret) -> Result<Option<Map<String, Value>>, Down> {
        let found = self.live_claims(server, token, self.clock.now()).await?;
        self.metrics.introspected(found.is_some());
        Ok(found)
    }

    async fn live_claims(
        &self,
        server: usize,
        token: &Secret,
        now: UnixSeconds,
    ) -> Result<Option<Map<String, Value>>, Down> {
        let (Some(Value::Object(mut claims)), Some(client)) =
            (self.signer.verify(TYP, token.reveal(), now), self.clients.0.get(server))
        else {
            return Ok(None);
        };
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let time = |name: &str| claims.get(name).and_then(Value::as_i64);
        let lasts = time("exp").is_some_and(|exp| now.0 < exp) && time("nbf").is_some_and(|nbf| nbf <= now.0);
        let lease = text("lease_id").and_then(|lease| lease.parse().ok());
        let (Some(lease), true) = (lease, lasts && text("aud") == Some(client.audience.as_str())) else {
            return Ok(None);
        };
        let found = self.read(move |reader| reader.lease(lease)).await?;
        let alive = found.is_some_and(|lease| {
            let lives = !matches!(lease.state, LeaseState::Failed | LeaseState::Ended) && lease.expires > now;
            lives && lease.handle.is_some() && lease.handle.as_deref() == text("jti")
        });
        claims.retain(|name, _| MEMBERS.contains(&name.as_str()));
        Ok(alive.then_some(claims))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: &str, secret: &str) -> Client {
        let place = Place::Variable(id.to_owned());
        let secret = ArcSwap::from_pointee(hash(Secret::new(secret.to_owned())));
        Client { id: id.to_owned(), audience: String::new(), place, secret }
    }

    #[test]
    fn a_resource_server_is_found_by_both_halves() {
        let clients = Clients(vec![client("a", "secret-of-a"), client("b", "secret-of-b")]);
        assert_eq!((clients.find("a", "secret-of-a"), clients.find("b", "secret-of-b")), (Some(0), Some(1)));
        for (id, secret) in [("a", "secret-of-b"), ("a", ""), ("", ""), ("c", "secret-of-a"), ("A", "secret-of-a")] {
            assert_eq!(clients.find(id, secret), None, "{id} {secret}");
        }
        assert_eq!(Clients::default().find("", ""), None);
    }

    #[test]
    fn a_secret_is_read_from_its_place_and_long_enough() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let place = Place::File(path.clone());
        assert!(read(&place).unwrap_err().contains("secret` cannot be read"));
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        assert_eq!(read(&place).unwrap().reveal(), "0123456789abcdef");
        for (text, why) in [("short".to_owned(), "less than 16"), ("x".repeat(1025), "longer than 1024")] {
            std::fs::write(&path, text).unwrap();
            let told = read(&place).unwrap_err();
            assert!(told.contains(why) && !told.contains("short"), "{told}");
        }
        assert!(read(&Place::Variable("CLAIMBOUND_NO_SUCH".to_owned())).unwrap_err().contains("CLAIMBOUND_NO_SUCH"));
    }
}
