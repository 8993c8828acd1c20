//! The loop: take a kept input, change it, run it, keep it if it showed something new.
//!
//! One seed gives one sequence of inputs, so a run of a stated number of inputs finds the same every time.

use crate::seeds;
use std::{
    any::Any,
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    path::PathBuf,
    time::{Duration, Instant},
};

/// What could be seen of an input: equal ones are one behaviour. Short, and free of the input's own text.
pub type Outcome = String;

/// Inputs that are kept at most; beyond it new behaviour is counted and not kept.
const KEPT_INPUTS_MAX: usize = 4096;
/// Changes that are made to one input at most, on top of each other.
const CHANGES_MAX: usize = 6;
/// Of the ordinary test run.
const SEED: u64 = 1;
/// Attempts at making a failing input smaller.
const SHRINK_RUNS_MAX: usize = 2_000;

/// A target and what helps to reach into it.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    /// Panics where an invariant breaks.
    pub run: fn(&[u8]) -> Outcome,
    /// Inputs to begin with; those in `corpus/NAME/` join them.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words of the format.
    pub dictionary: &'static [&'static str],
    pub input_bytes_max: usize,
    /// Runs of the bounded round in the ordinary tests.
    pub runs: u64,
}

/// When a drive ends.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    Runs(u64),
    Time(Duration),
}

/// What a drive did.
#[derive(Clone, Debug)]
pub struct Report {
    pub target: &'static str,
    pub seed: u64,
    /// Inputs that were run, those to begin with included.
    pub runs: u64,
    /// Inputs to begin with.
    pub begun_with: usize,
    /// Different outcomes seen, and inputs kept because of them.
    pub outcomes: BTreeSet<Outcome>,
    pub kept: usize,
    pub took: Duration,
    pub slowest: Duration,
    pub failure: Option<Failure>,
}

/// An input that broke an invariant, made as small as a few runs could.
#[derive(Clone, Debug)]
pub struct Failure {
    pub message: String,
    pub input: Vec<u8>,
    /// Where the input was written.
    pub file: PathBuf,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {} runs in {:.1} s, {} outcomes, {} inputs kept of which {} to begin with, slowest {} ms, seed {}",
            self.target,
            self.runs,
            self.took.as_secs_f64(),
            self.outcomes.len(),
            self.kept,
            self.begun_with,
            self.slowest.as_millis(),
            self.seed
        )?;
        if let Some(failure) = &self.failure {
            let Failure { message, file, .. } = failure;
            let (file, target) = (file.display(), self.target);
            write!(
                f,
                "\n{target} FAILED: {message}\n  input: {file}\n  \
                 keep it as a regression: mv {file} core/fuzz/corpus/{target}/WHAT-IT-SHOWS"
            )?;
        }
        Ok(())
    }
}

/// xorshift64*: enough for picking changes, and the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9E37_79B9_7F4A_7C15 | 1)
    }
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
    /// Below `bound`; 0 if that is 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11).checked_rem(bound as u64).unwrap_or_default() as usize
    }
    fn of<'s, T>(&mut self, all: &'s [T]) -> &'s T {
        &all[self.below(all.len())]
    }
    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[7]
    }
}

/// A target's round in the tests: the same inputs each time, or what `scripts/fuzz` asks for in the environment
/// (`CLAIMBOUND_FUZZ_SECONDS`, `CLAIMBOUND_FUZZ_SEED`). Panics with the report if an invariant broke.
#[expect(clippy::print_stderr, reason = "what `scripts/fuzz` shows")]
pub fn round(target: &Target) {
    let asked = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("`{name}` is a number, not `{text}`")))
    };
    let seconds = asked("CLAIMBOUND_FUZZ_SECONDS").map(Duration::from_secs);
    let seed = asked("CLAIMBOUND_FUZZ_SEED").unwrap_or(SEED);
    let report = drive(target, seconds.map_or(Budget::Runs(target.runs), Budget::Time), seed);
    assert!(report.failure.is_none(), "{report}");
    assert!(report.kept > report.begun_with, "nothing new was ever seen: {report}");
    eprintln!("{report}");
}

/// Feeds a target until the budget is spent or an input breaks it.
pub fn drive(target: &Target, budget: Budget, seed: u64) -> Report {
    let begun = Instant::now();
    let mut random = Random::new(seed);
    let mut kept: Vec<Vec<u8>> = (target.seeds)();
    kept.extend(seeds::corpus(target.name));
    assert!(!kept.is_empty(), "{}: nothing to begin with", target.name);
    let mut report = Report {
        target: target.name,
        seed,
        runs: 0,
        begun_with: kept.len(),
        outcomes: BTreeSet::new(),
        kept: kept.len(),
        took: Duration::ZERO,
        slowest: Duration::ZERO,
        failure: None,
    };
    for input in kept.clone() {
        if report.run(target, &input).is_none() {
            report.took = begun.elapsed();
            return report;
        }
    }
    let spent = |runs: u64| match budget {
        Budget::Runs(most) => runs >= most,
        Budget::Time(most) => begun.elapsed() >= most,
    };
    while !spent(report.runs) {
        let input = changed(&kept, target, &mut random);
        match report.run(target, &input) {
            None => break,
            Some(true) if kept.len() < KEPT_INPUTS_MAX => kept.push(input),
            Some(_) => {}
        }
    }
    report.kept = kept.len();
    report.took = begun.elapsed();
    report
}

impl Report {
    /// Whether the input showed something new; `None` when it broke an invariant.
    fn run(&mut self, target: &Target, input: &[u8]) -> Option<bool> {
        let begun = Instant::now();
        self.runs += 1;
        match catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
            Ok(outcome) => {
                self.slowest = self.slowest.max(begun.elapsed());
                Some(self.outcomes.insert(outcome))
            }
            Err(_) => {
                let input = shrunk(target, input.to_vec());
                let message = match catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) {
                    Ok(_) => "an invariant that breaks only sometimes".to_owned(),
                    Err(panic) => message(&*panic),
                };
                let file = seeds::write_crash(target.name, &input);
                self.failure = Some(Failure { message, input, file });
                None
            }
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without text").to_owned()
}

/// Takes pieces out as long as the input still breaks. The panics of the attempts are not printed.
fn shrunk(target: &Target, mut input: Vec<u8>) -> Vec<u8> {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let mut runs = 0;
    let mut piece = input.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < input.len() && runs < SHRINK_RUNS_MAX {
            let mut smaller = input.clone();
            smaller.drain(at..(at + piece).min(input.len()));
            runs += 1;
            if catch_unwind(AssertUnwindSafe(|| (target.run)(&smaller))).is_err() {
                input = smaller;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    set_hook(hook);
    input
}

/// A kept input with some changes.
fn changed(kept: &[Vec<u8>], target: &Target, random: &mut Random) -> Vec<u8> {
    let mut input = random.of(kept).clone();
    for _ in 0..=random.below(CHANGES_MAX) {
        change(&mut input, kept, target.dictionary, random);
    }
    input.truncate(target.input_bytes_max);
    input
}

fn change(input: &mut Vec<u8>, kept: &[Vec<u8>], dictionary: &[&str], random: &mut Random) {
    let at = random.below(input.len() + 1);
    match random.below(12) {
        // One byte: a bit, any value, a neighbour.
        0 | 1 if at < input.len() => match random.below(3) {
            0 => input[at] ^= 1 << random.below(8),
            1 => input[at] = random.byte(),
            _ => input[at] = input[at].wrapping_add_signed(*random.of(&[1, -1])),
        },
        // A byte that formats care for.
        2 => input.insert(at, *random.of(b"\"\\{}[]:,.=&%+-_/@#*? \t\n\r\0\x7f\x80\xc3\xed\xffaZ09")),
        // Something out, something twice.
        3 | 4 => {
            let end = at + random.below(input.len() - at + 1).min(1 << random.below(9));
            input.drain(at..end);
        }
        5 => {
            let end = at + random.below(input.len() - at + 1).min(1 << random.below(9));
            let piece = input[at..end].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, piece);
        }
        // A word of the format, beside or in place of what stands there.
        6 | 7 if !dictionary.is_empty() => {
            let word = random.of(dictionary).bytes();
            let end = if random.below(2) == 0 { at } else { word_end(input, at) };
            input.splice(at..end, word);
        }
        // A whole word becomes another of the same or another input.
        8 | 9 => {
            let other = random.of(kept);
            let from = word_start(other, random.below(other.len() + 1));
            let piece = other[from..word_end(other, from)].to_vec();
            let start = word_start(input, at);
            let end = word_end(input, start);
            input.splice(start..end, piece);
        }
        // The tail of another input.
        10 => {
            let other = random.of(kept);
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let start = word_start(input, at);
            let end = word_end(input, start);
            let number =
                random.of(&["0", "1", "-1", "9223372036854775807", "18446744073709551616", "1e3", "007", "0.5"]);
            input.splice(start..end, number.bytes());
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' || byte >= 0x80
}

fn word_start(input: &[u8], at: usize) -> usize {
    input[..at].iter().rposition(|byte| !is_word(*byte)).map_or(0, |before| before + 1)
}

fn word_end(input: &[u8], from: usize) -> usize {
    input[from..].iter().position(|byte| !is_word(*byte)).map_or(input.len(), |length| from + length)
}
