//! Places in status lists (draft-ietf-oauth-status-list): each token of a `jwt` role has one, where relying parties look
//! up whether its lease was ended.
//!
//! A list is one process's: it draws places at random, without another, from a list that only it fills. So no two brokers
//! ask each other, an exchange needs no more writes than before, and a place tells neither when nor how often tokens are
//! issued. Which places are *ended* is in the store.

use crate::keys::signing::CREDENTIAL_SECONDS_MAX;
use aws_lc_rs::rand;
use claimbound_core::{evidence::hex, time::UnixSeconds};
use serde::Serialize;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// Below the broker's public URL; the list's name follows.
pub const PATH: &str = "/statuslists";
/// Places of one list: 8 KiB of bits.
pub const PLACES: usize = 1 << 16;
/// How long a list takes tokens.
const OPEN_SECONDS: i64 = 24 * 3600;
/// For clocks that differ.
const MARGIN_SECONDS: i64 = 3600;

/// Where places come from: one for all `jwt` roles of a broker.
pub struct StatusLists {
    public_url: String,
    open: Mutex<Option<Open>>,
}

/// The list that takes tokens now.
struct Open {
    list: u128,
    opened: UnixSeconds,
    /// Places not drawn yet, the rest of a shuffle that goes on with each.
    free: Vec<u16>,
    kept: Arc<AtomicBool>,
}

/// A place that no other token has.
#[derive(Clone, Debug)]
pub struct Place {
    pub list: u128,
    pub index: u16,
    /// When no token that names the list can be valid any more.
    pub until: UnixSeconds,
    kept: Arc<AtomicBool>,
}

/// The `status` claim.
#[derive(Serialize)]
pub(super) struct Status {
    status: Listed,
}

#[derive(Serialize)]
struct Listed {
    status_list: Reference,
}

#[derive(Serialize)]
struct Reference {
    idx: u16,
    uri: String,
}

impl Place {
    /// Whether the store knows the list.
    pub fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    /// The store does.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl StatusLists {
    pub fn new(public_url: &str) -> Arc<Self> {
        Arc::new(Self { public_url: public_url.to_owned(), open: Mutex::default() })
    }

    /// Another place, of another list when this one is full or has had its time.
    pub(super) fn draw(&self, now: UnixSeconds) -> Place {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let fits =
            |open: &Open| !open.free.is_empty() && (0..OPEN_SECONDS).contains(&now.0.saturating_sub(open.opened.0));
        if !open.as_ref().is_some_and(fits) {
            *open = None;
        }
        let open = open.get_or_insert_with(|| Open {
            list: u128::from_be_bytes(random()),
            opened: now,
            free: (0..=u16::MAX).collect(),
            kept: Arc::default(),
        });
        let at = usize::try_from(u64::from_be_bytes(random()) % open.free.len() as u64).unwrap_or_default();
        let until = open.opened.plus(OPEN_SECONDS + i64::from(CREDENTIAL_SECONDS_MAX) + MARGIN_SECONDS);
        Place { list: open.list, index: open.free.swap_remove(at), until, kept: Arc::clone(&open.kept) }
    }

    /// What the token says (draft-ietf-oauth-status-list, section 6.2).
    pub(super) fn claim(&self, place: &Place) -> Status {
        Status { status: Listed { status_list: Reference { idx: place.index, uri: self.uri(place.list) } } }
    }

    /// Where the list stands: its `sub`.
    pub fn uri(&self, list: u128) -> String {
        format!("{}{PATH}/{}", self.public_url, name(list))
    }
}

fn name(list: u128) -> String {
    hex(&list.to_be_bytes())
}

/// The list of this name, as it is written and not otherwise.
pub fn named(text: &str) -> Option<u128> {
    u128::from_str_radix(text, 16).ok().filter(|list| name(*list) == text)
}

/// The `lst` of a list (draft-ietf-oauth-status-list, section 4.1): one bit for each place, the first in the lowest bit of the
/// first byte, 1 where it was ended; compressed with zlib.
pub fn compressed(ended: &[u16]) -> Vec<u8> {
    let mut bits = vec![0_u8; PLACES / 8];
    for index in ended {
        bits[usize::from(*index) / 8] |= 1 << (index % 8);
    }
    miniz_oxide::deflate::compress_to_vec_zlib(&bits, COMPRESSION_LEVEL)
}

/// The best, as the draft recommends: it is paid once for a change.
const COMPRESSION_LEVEL: u8 = 9;

fn random<const N: usize>() -> [u8; N] {
    let mut random = [0; N];
    rand::fill(&mut random).expect("the system's random source answers");
    random
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    #[test]
    fn every_place_is_drawn_once_and_then_comes_another_list() {
        let lists = StatusLists::new("https://cb.example");
        let drawn: Vec<Place> = (0..PLACES).map(|_| lists.draw(NOW)).collect();
        assert_eq!(drawn.iter().map(|place| (place.list, place.index)).collect::<HashSet<_>>().len(), PLACES);
        assert!(drawn.iter().all(|place| place.list == drawn[0].list));
        assert!(drawn.windows(2).filter(|pair| pair[1].index == pair[0].index.wrapping_add(1)).count() < PLACES / 100);
        let next = lists.draw(NOW);
        assert_ne!(next.list, drawn[0].list);
        assert!(!next.is_kept());
        lists.draw(NOW).keep();
        assert!(next.is_kept() && !drawn[0].is_kept(), "of one list, and of no other");
        let later = lists.draw(NOW.plus(OPEN_SECONDS));
        assert_ne!(later.list, next.list, "a list has its time");
        assert_ne!(lists.draw(NOW).list, later.list, "a clock that was set back begins another");
        assert!(next.until >= NOW.plus(OPEN_SECONDS + i64::from(CREDENTIAL_SECONDS_MAX)));
    }

    #[test]
    fn a_list_is_found_by_its_name_alone() {
        let lists = StatusLists::new("https://cb.example");
        let uri = lists.uri(0xab);
        assert_eq!(uri, format!("https://cb.example/statuslists/{:0>32}", "ab"));
        let name = uri.rsplit('/').next().unwrap_or_default();
        assert_eq!(named(name), Some(0xab));
        for other in ["", "ab", &name.to_uppercase(), &name.replacen('0', "+", 1), &format!("{name}0")] {
            assert_eq!(named(other), None, "{other}");
        }
    }

    #[test]
    fn bits_stand_where_the_draft_says() {
        let inflate = |ended: &[u16]| miniz_oxide::inflate::decompress_to_vec_zlib(&compressed(ended)).expect("zlib");
        // The draft's example of one bit each, section 4.1: 0xb9, 0xa3.
        let bits = inflate(&[0, 3, 4, 5, 7, 8, 9, 13, 15]);
        assert_eq!((bits.len(), &bits[..3]), (PLACES / 8, &[0xb9, 0xa3, 0][..]));
        assert_eq!(inflate(&[u16::MAX]).last(), Some(&0x80));
        assert!(compressed(&[]).len() < 100, "an empty list is small");
    }
}
