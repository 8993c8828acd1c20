//! What of the mapping folder nobody used.

mod things;

use super::{
    Answer, Format, Loaded, Told,
    log::{Activation, Log, Reach, counted, date},
};
use anyhow::{Context as _, Result};
use claimbound_core::evidence::hex;
use serde_json::{Value, json};
use std::{fmt::Write as _, rc::Rc};
use things::{Tally, Thing, Things};

/// Something is unused.
const UNUSED: u8 = 1;

/// What was found.
struct Found {
    source: String,
    version: String,
    from: i64,
    reach: Reach,
    /// Each with its last use, whenever that was.
    unused: Vec<(Thing, Option<i64>)>,
    /// Each with the time when a folder with it was activated; `None`: none was yet.
    new: Vec<(Thing, Option<i64>)>,
    used: usize,
    notes: Vec<String>,
}

/// What nobody used since `from`, of the folder that was activated last or of one that is given with its name; code 1 if
/// there is something.
///
/// # Errors
/// When the store cannot be read, or knows no folder.
pub fn answer(log: &Log, given: Option<(Loaded, String)>, from: i64, format: Format) -> Result<Told> {
    let activations = log.activations()?;
    let (loaded, source) = match given {
        Some((loaded, name)) => (Rc::new(loaded), format!("`{name}`")),
        None => {
            let last =
                activations.last().context("the store knows no mapping folder yet; name one with `--mappings`")?;
            let loaded = log.folder(&last.version).map_err(anyhow::Error::msg)?;
            (loaded, format!("the folder that was activated at {}", date(last.at)))
        }
    };
    let things = Things::of(&loaded);
    let mut tally = Tally::new(&things, &loaded, from);
    let reach = log.walk(|body, details| {
        tally.record(body, details);
        Ok(())
    })?;
    let mut found = Found {
        source,
        version: hex(&loaded.set.version),
        from,
        reach,
        unused: Vec::new(),
        new: Vec::new(),
        used: tally.used(),
        notes: tally.notes(),
    };
    let idle = tally.idle();
    let ages = ages(log, &activations, &things, &idle, from, &mut found.notes);
    for ((at, last), age) in idle.into_iter().zip(ages) {
        let thing = things.get(at).clone();
        match age {
            Age::Old => found.unused.push((thing, last)),
            Age::New(since) => found.new.push((thing, since)),
        }
    }
    let told = match format {
        Format::Json => Answer::Json(found.to_json()),
        Format::Human | Format::Markdown => Answer::Text(found.to_text()),
    };
    Ok(Told { code: if found.unused.is_empty() { 0 } else { UNUSED }, answer: told })
}

/// Since when something stands in the folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Age {
    /// For the whole period, or as long as the log tells.
    Old,
    /// It came within the period; `None`: no activated folder has it.
    New(Option<i64>),
}

/// Goes back through the folders of the period, as long as something is in doubt.
fn ages(
    log: &Log,
    activations: &[Activation],
    things: &Things,
    idle: &[(usize, Option<i64>)],
    from: i64,
    notes: &mut Vec<String>,
) -> Vec<Age> {
    let mut ages = vec![Age::Old; idle.len()];
    // Those that stand in every later folder, and since when.
    let mut pending: Vec<(usize, Option<i64>)> = (0..idle.len()).map(|at| (at, None)).collect();
    for activation in activations.iter().rev() {
        if pending.is_empty() {
            break;
        }
        let folder = match log.folder(&activation.version) {
            Ok(folder) => folder,
            Err(why) => {
                notes.push(format!("what is new is known only since {}: {why}", date(activation.at)));
                break;
            }
        };
        let before = Things::of(&folder);
        pending.retain_mut(|(at, since)| {
            let stood = before.has(things, idle[*at].0);
            match stood {
                true => *since = Some(activation.at),
                false => ages[*at] = Age::New(*since),
            }
            stood
        });
        if activation.at <= from {
            break;
        }
    }
    ages
}

impl Found {
    fn to_json(&self) -> Value {
        let told = |all: &[(Thing, Option<i64>)], when: &str| {
            let one = |(thing, at): &(Thing, Option<i64>)| {
                let mut told = thing.to_json();
                told[when] = json!(at);
                told
            };
            all.iter().map(one).collect::<Vec<_>>()
        };
        json!({
            "folder": { "source": self.source, "version": self.version },
            "since_at": self.from,
            "log": self.reach.to_json(self.from),
            "used": self.used,
            "unused": told(&self.unused, "last_used_at"),
            "new": told(&self.new, "activated_at"),
            "notes": self.notes,
        })
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a string takes all text");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        for warning in self.reach.warnings(self.from) {
            writeln!(text, "warning: {warning}")?;
        }
        let new = if self.new.is_empty() { String::new() } else { format!(", {} new", self.new.len()) };
        writeln!(text, "{} unused, {} used{new} since {}", self.unused.len(), self.used, date(self.from))?;
        writeln!(text, "judged: {} (version {:.12})", self.source, self.version)?;
        for (heading, all) in [("unused", &self.unused), ("new", &self.new)] {
            if !all.is_empty() {
                writeln!(text, "\n{heading}:")?;
            }
            for (thing, at) in all {
                let when = match (heading, at) {
                    ("new", Some(at)) => format!("since {}", date(*at)),
                    ("new", None) => "not activated yet".to_owned(),
                    (_, Some(at)) => format!("last used {}", date(*at)),
                    (_, None) if self.reach.covers(self.from) => "never used".to_owned(),
                    (_, None) => "not used since the log begins".to_owned(),
                };
                writeln!(text, "  {thing}: {when}")?;
            }
        }
        self.notes.iter().try_for_each(|note| writeln!(text, "\nnote: {note}"))
    }
}

/// How many grants could not be told apart.
fn untold(count: u64) -> Option<String> {
    (count > 0).then(|| {
        format!(
            "of {} by mappings with `[[mapping.any]]` the alternative is not known: their details are erased or damaged, or \
             the folder judges them otherwise now",
            counted(count, "grant")
        )
    })
}
