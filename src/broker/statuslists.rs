//! The signed status lists (draft-ietf-oauth-status-list, section 5): which tokens of `jwt` roles were ended, for relying
//! parties that would rather fetch a list now and then than ask about each token.
//!
//! Any replica answers for every list: what was ended is in the store. A signed list is kept and handed out again until
//! the store, which is asked every second at most, says something else.

use super::Broker;
use crate::{issuance::status, keys::signing::SigningAlgorithm, store::Down};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use claimbound_core::time::UnixSeconds;
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Mutex as Turn;

/// The header's `typ` (draft-ietf-oauth-status-list, section 5.1).
const TYP: &str = "statuslist+jwt";
/// How long a list counts without asking the store: every replica knows of an end within this, and some milliseconds.
const FRESH: Duration = Duration::from_secs(1);
/// How long relying parties may keep a list, in seconds: `ttl`, and `max-age` over HTTP.
pub const TTL_SECONDS: u32 = 10;
/// A list is good for so long after it was signed; and is signed again, unchanged, long before that.
const LIFE_SECONDS: i64 = 300;
const SIGN_AGAIN_SECONDS: i64 = 60;
const _: () =
    assert!(SIGN_AGAIN_SECONDS + TTL_SECONDS as i64 * 2 < LIFE_SECONDS, "what is handed out is good for a while");
/// Lists that are kept signed; brokers open one a day each, and after every start.
const LISTS_MAX: usize = 256;

/// A signed list, ready to be sent.
pub struct StatusList {
    pub token: String,
    /// Tells it from any other, without quotes.
    pub tag: String,
}

/// A list as it was built last.
struct Built {
    ended: Vec<u16>,
    signed: UnixSeconds,
    looked: Instant,
    list: Arc<StatusList>,
}

/// One list's turn: who looks for it while another does waits for that one's answer.
type Slot = Arc<Turn<Option<Built>>>;

#[derive(Default)]
pub(super) struct Lists(Mutex<HashMap<u128, Slot>>);

impl Lists {
    fn slot(&self, list: u128) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= LISTS_MAX && !slots.contains_key(&list) {
            // Whoever reads one of them has it built again.
            slots.clear();
        }
        Arc::clone(slots.entry(list).or_default())
    }

    fn forget(&self, list: u128) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&list);
    }
}

impl Broker {
    /// The signed list of this name; `None` if there is none, or none any more.
    ///
    /// # Errors
    /// The store cannot be asked, or no key signs: an old list is not handed out as if it were the present one.
    pub async fn status_list(&self, name: &str) -> Result<Option<Arc<StatusList>>, Down> {
        let Some(list) = status::named(name) else { return Ok(None) };
        let slot = self.lists.slot(list);
        let mut built = slot.lock().await;
        if let Some(built) = built.as_ref().filter(|built| built.looked.elapsed() < FRESH) {
            return Ok(Some(Arc::clone(&built.list)));
        }
        // From before the look: what is ended during it shows in the next one.
        let (looked, now) = (Instant::now(), self.clock.now());
        let Some(ended) = self.read(move |reader| reader.ended_in(list)).await? else {
            self.lists.forget(list);
            return Ok(None);
        };
        if let Some(built) = built.as_mut()
            && built.ended == ended
            && (0..SIGN_AGAIN_SECONDS).contains(&now.0.saturating_sub(built.signed.0))
        {
            built.looked = looked;
            return Ok(Some(Arc::clone(&built.list)));
        }
        let signed = Arc::new(self.sign_list(list, &ended, now)?);
        *built = Some(Built { ended, signed: now, looked, list: Arc::clone(&signed) });
        Ok(Some(signed))
    }

    fn sign_list(&self, list: u128, ended: &[u16], now: UnixSeconds) -> Result<StatusList, Down> {
        let claims = json!({
            "iss": self.config.issuer_url,
            "sub": self.places.uri(list),
            "iat": now.0,
            "exp": now.plus(LIFE_SECONDS).0,
            "ttl": TTL_SECONDS,
            "status_list": { "bits": 1, "lst": BASE64_URL_SAFE_NO_PAD.encode(status::compressed(ended)) },
        });
        let signed = self.signer.sign(TYP, SigningAlgorithm::Es256, &claims, now);
        let token = signed.map_err(|error| Down::new(error.to_string()))?.reveal().to_owned();
        let tag = BASE64_URL_SAFE_NO_PAD.encode(&digest(&SHA256, token.as_bytes()).as_ref()[..16]);
        Ok(StatusList { token, tag })
    }
}
