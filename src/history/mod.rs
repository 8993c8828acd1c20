//! Questions to the evidence: what was answered and why, what a proposed folder would have answered, what nobody used, who
//! could and did. The command line asks a store, the operator listener asks for it over HTTP; both get the same words.

pub mod access;
pub mod decision;
pub mod explanation;
pub mod find;
pub mod log;
pub mod page;
pub mod plan;
pub mod unused;

use claimbound_core::{
    mapping::{Folder, MappingSet},
    time::Seconds,
    workload::Profiles,
};
use serde_json::Value;

/// How a question is answered.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Human,
    /// For programs: one JSON object.
    #[default]
    Json,
    /// For a comment on a pull request; where a question has no such answer, for people.
    Markdown,
}

/// An answer, and what a command exits with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    pub code: u8,
    pub answer: Answer,
}

/// In the form that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Text(String),
    Json(Value),
}

impl Answer {
    /// As a command prints it.
    pub fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Json(value) => format!("{value:#}\n"),
        }
    }
}

/// A folder that loads.
pub struct Loaded {
    pub folder: Folder,
    pub set: MappingSet,
    pub profiles: Profiles,
}

/// A duration as the mapping language writes it.
pub fn duration(seconds: Seconds) -> String {
    match seconds.0 {
        s if s != 0 && s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s != 0 && s % 3600 == 0 => format!("{}h", s / 3600),
        s if s != 0 && s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_the_largest_unit_that_fits() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (90, "90s"), (900, "15m"), (3600, "1h"), (172_800, "2d")] {
            assert_eq!(duration(Seconds(seconds)), text);
        }
    }
}
