//! The evidence as questions read it: every record once, in order, with bounded memory; the folders that judged.

use super::Loaded;
use crate::{config, folder, store::Reader};
use anyhow::{Context as _, Result, bail};
use claimbound_core::{
    evidence::{Body, DecisionId, details_digest, hex, unhex},
    mapping,
    time::{Seconds, UnixSeconds},
    workload::Profiles,
};
use serde_json::{Value, json};
use std::{cell::RefCell, rc::Rc, sync::Arc};

/// The period that is looked at unless another is named.
pub const SINCE: &str = "90d";
/// Folders that are kept compiled: records come in order of time, so a change of folder is rare.
const FOLDERS_KEPT: usize = 3;
/// How the body of every record that is no answer begins: folders are found without reading the rest.
const NO_DECISION: &[u8] = br#"{"v":1,"decision":null"#;

/// A folder by its version, or why there is none.
type Kept = ([u8; 32], Result<Rc<Loaded>, String>);

/// The evidence of one store.
pub struct Log {
    pub reader: Arc<dyn Reader>,
    /// The last ones asked for, the latest first.
    folders: RefCell<Vec<Kept>>,
}

/// A folder began to judge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Activation {
    pub at: i64,
    pub version: [u8; 32],
}

/// How far the log reaches.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Reach {
    pub records: u64,
    /// Records that this program cannot read: damaged, or of a later version.
    pub unreadable: u64,
    pub first: Option<i64>,
    pub last: Option<i64>,
}

impl Reach {
    /// Whether something that was done at `from` would be on record.
    pub fn covers(&self, from: i64) -> bool {
        self.first.is_some_and(|first| first <= from)
    }

    fn note(&mut self, at: i64) {
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
    }

    /// What a reader must know before believing "never": one line for each, to stand before everything else.
    pub fn warnings(&self, from: i64) -> Vec<String> {
        let mut told = Vec::new();
        match self.first {
            None => told.push("the log is empty: nothing is known of any use".to_owned()),
            Some(first) if first > from => told.push(format!(
                "the log reaches back only to {}, not to {}: nothing is known of the time before",
                date(first),
                date(from)
            )),
            Some(_) => {}
        }
        if self.unreadable > 0 {
            told.push(format!(
                "{} cannot be read and were passed over; `claimbound audit verify` says which",
                counted(self.unreadable, "record")
            ));
        }
        told
    }

    pub fn to_json(self, from: i64) -> Value {
        json!({
            "records": self.records,
            "unreadable": self.unreadable,
            "first_at": self.first,
            "last_at": self.last,
            "covers_period": self.covers(from),
        })
    }
}

impl Log {
    /// Over a store.
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Self { reader, folders: RefCell::default() }
    }

    /// Shows every record that can be read, oldest first.
    ///
    /// # Errors
    /// The store's, and those of `each`, which end the walk.
    pub fn walk(&self, mut each: impl FnMut(&Body<'_>, &[u8]) -> Result<()>) -> Result<Reach> {
        let mut reach = Reach::default();
        let mut failed = None;
        self.reader.records(&mut |body, details| {
            reach.records += 1;
            let Ok(body) = Body::parse(body) else {
                reach.unreadable += 1;
                return true;
            };
            reach.note(body.at);
            failed = each(&body, details).err();
            failed.is_none()
        })?;
        match failed {
            Some(error) => Err(error),
            None => Ok(reach),
        }
    }

    /// Every change of the folder that judges, oldest first; a restart with the same folder is none.
    ///
    /// # Errors
    /// The store's.
    pub fn activations(&self) -> Result<Vec<Activation>> {
        let mut found: Vec<Activation> = Vec::new();
        self.reader.records(&mut |body, _| {
            if !body.starts_with(NO_DECISION) {
                return true;
            }
            let read = Body::parse(body).ok().filter(|body| body.kind == "mappings_activated");
            let version = read.as_ref().and_then(|body| unhex(body.version.as_deref()?));
            if let (Some(body), Some(version)) = (read, version)
                && found.last().is_none_or(|last| last.version != version)
            {
                found.push(Activation { at: body.at, version });
            }
            true
        })?;
        Ok(found)
    }

    /// The folder of a version, compiled; the store keeps each that ever judged.
    pub fn folder(&self, version: &[u8; 32]) -> Result<Rc<Loaded>, String> {
        let mut kept = self.folders.borrow_mut();
        match kept.iter().position(|(own, _)| own == version) {
            Some(0) => {}
            Some(at) => {
                let found = kept.remove(at);
                kept.insert(0, found);
            }
            None => {
                let read = self.read(version).map(Rc::new).map_err(|error| format!("{error:#}"));
                kept.insert(0, (*version, read));
                kept.truncate(FOLDERS_KEPT);
            }
        }
        kept[0].1.clone()
    }

    fn read(&self, version: &[u8; 32]) -> Result<Loaded> {
        let name = hex(version);
        let archive = self.reader.folder(version)?;
        let archive = archive.with_context(|| format!("the store does not keep the folder of version {name}"))?;
        let folder = folder::unarchive(&archive).with_context(|| format!("version {name}"))?;
        if folder.version() != *version {
            bail!("the kept folder of version {name} is not the one that judged");
        }
        let compiled = mapping::load(&folder, &Profiles::builtin());
        let set = compiled.set.with_context(|| format!("the kept folder of version {name} does not load here"))?;
        Ok(Loaded { folder, set, profiles: compiled.profiles })
    }
}

/// The details of a record, or why there are none to be had.
pub fn details(body: &Body<'_>, stored: &[u8]) -> Result<Value, &'static str> {
    if stored.is_empty() {
        return Err(if body.details.is_some() { "their details are erased" } else { "they hold no details" });
    }
    let digest = details_digest(stored).map(|digest| hex(&digest));
    if digest.is_none() || digest.as_deref() != body.details.as_deref() {
        return Err("their details are damaged; `claimbound audit verify` says which");
    }
    serde_json::from_slice(stored).map_err(|_| "their details cannot be read")
}

/// How often, first and last when, and one of them to look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    pub count: u64,
    pub first: i64,
    pub last: i64,
    pub example: Option<DecisionId>,
}

impl Times {
    pub fn once(at: i64, example: Option<DecisionId>) -> Self {
        Self { count: 1, first: at, last: at, example }
    }

    /// The latest is the example: its folder and claims are the nearest to today's.
    pub fn add(&mut self, other: Self) {
        if other.last >= self.last {
            self.example = other.example.or(self.example);
        }
        self.count += other.count;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }

    pub fn to_json(self) -> Value {
        json!({ "count": self.count, "first_at": self.first, "last_at": self.last, "example": self.example })
    }

    pub fn to_text(self) -> String {
        let often = counted(self.count, "time");
        match self.first == self.last {
            true => format!("{often}, {}", date(self.first)),
            false => format!("{often}, {} to {}", date(self.first), date(self.last)),
        }
    }
}

pub fn date(at: i64) -> String {
    UnixSeconds(at).rfc3339()
}

pub fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A length of time as it is asked for.
pub fn since(text: &str) -> Result<Seconds, String> {
    let seconds = config::seconds(text).and_then(|seconds| u32::try_from(seconds).ok());
    seconds.map(Seconds).ok_or_else(|| "write an integer and one of s, m, h, d, like `90d`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_the_ends_and_the_latest_example() {
        let id = |number| Some(DecisionId(number));
        let mut times = Times::once(5, id(5));
        times.add(Times::once(3, id(3)));
        times.add(Times::once(9, None));
        assert_eq!((times.count, times.first, times.last, times.example), (3, 3, 9, id(5)));
        assert_eq!(times.to_text(), "3 times, 1970-01-01T00:00:03Z to 1970-01-01T00:00:09Z");
        assert_eq!(Times::once(0, None).to_text(), "1 time, 1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_young_or_empty_log_is_said_aloud() {
        let mut reach = Reach::default();
        assert!(!reach.covers(5) && reach.warnings(5)[0].contains("the log is empty"));
        reach.note(10);
        assert_eq!((reach.covers(9), reach.covers(10)), (false, true));
        assert!(reach.warnings(9)[0].starts_with("the log reaches back only to 1970-01-01T00:00:10Z"));
        assert!(reach.warnings(10).is_empty());
        reach.unreadable = 2;
        assert!(reach.warnings(10)[0].starts_with("2 records cannot be read"));
    }

    #[test]
    fn a_period_is_a_duration() {
        assert_eq!(since("90d"), Ok(Seconds(90 * 86_400)));
        for text in ["", "90", "d", "-1d", "0d", "1w", "99999999999d", "50000d"] {
            assert!(since(text).is_err(), "{text}");
        }
    }
}
