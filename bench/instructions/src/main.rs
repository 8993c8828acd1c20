//! Counts the instructions of each stage under valgrind and holds them to a budget.
//!
//! A machine's load does not change a count, so a change of a few percent is seen where no clock would show it. What stands
//! in the budget was counted by this program, built as releases are, on x86-64: valgrind shows programs the same
//! processor everywhere, as long as the real one has AVX2.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]

#[path = "../../../core/benches/mappings/company.rs"]
#[allow(dead_code, reason = "the core's own bench uses more of it")]
mod company;
mod stages;

use claimbound_core::evidence::{Chain, chain::ORIGIN};
use stages::Input;
use std::{
    collections::BTreeMap,
    env, fs,
    hint::black_box,
    path::Path,
    process::{Command, ExitCode},
};

/// How often each stage runs in a count: what only the first time costs vanishes among them.
const ROUNDS: u64 = 100;
/// More than this above its budget, and a stage fails; as much below it, and the budget should follow. Counts repeat to the
/// last digit on one machine; between machines the C library's ways to copy and compare differ.
const MARGIN_PERCENT: f64 = 8.0;
/// The same where the code depends on the processor: the crypto library has one way for each, in RSA and in SHA-256.
const MARGIN_OF_CRYPTO_PERCENT: f64 = 40.0;
/// Stages that are mostly the crypto library's.
const CRYPTO: [&str; 3] = ["verified", "sealed", "linked"];
/// Functions of [`stages`] that are counted.
const STAGES: [&str; 7] = ["parse", "verified", "translated", "granted", "refused", "sealed", "linked"];
const BUDGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/budget.toml");
const HEADER: &str = "\
# Instructions of one call of each stage (src/stages.rs), on x86-64, as callgrind counts them.
# Written by `scripts/instructions --update`; say in the commit why a number moved.

";

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        Some("run") => run(),
        Some("--update") => report(true),
        None => report(false),
        Some(_) => {
            eprintln!("usage: scripts/instructions [--update]");
            ExitCode::from(2)
        }
    }
}

/// What valgrind watches.
fn run() -> ExitCode {
    let input = Input::new();
    let mut chain = Chain { incarnation: 1, sequence: 0, head: ORIGIN };
    for _ in 0..ROUNDS {
        let mut decoded = Vec::new();
        let token = stages::parse(input.token, &mut decoded);
        let verified = stages::verified(&input, &token);
        let case = stages::translated(&input, verified.into_claims());
        stages::granted(&input, &case);
        stages::refused(&input, &case);
        let entry = stages::sealed(&input, &case);
        black_box(stages::linked(&mut chain, entry));
    }
    ExitCode::SUCCESS
}

fn report(update: bool) -> ExitCode {
    if !cfg!(target_arch = "x86_64") {
        println!("SKIPPED: the budget is of x86-64, and this is another processor");
        return ExitCode::SUCCESS;
    }
    let counted = match count() {
        Ok(counted) => counted,
        Err(why) => return fail(&why),
    };
    if update {
        let lines: String =
            STAGES.iter().map(|stage| format!("{stage} = {}\n", counted.get(*stage).copied().unwrap_or(0))).collect();
        return match fs::write(BUDGET, format!("{HEADER}{lines}")) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("{BUDGET}: {error}")),
        };
    }
    let budget = match budget() {
        Ok(budget) => budget,
        Err(why) => return fail(&why),
    };
    judge(&counted, &budget)
}

/// Compares and tells.
fn judge(counted: &BTreeMap<String, u64>, budget: &BTreeMap<String, u64>) -> ExitCode {
    println!("{:<12} {:>12} {:>12} {:>8}", "stage", "instructions", "budget", "");
    let (mut over, mut under) = (vec![], vec![]);
    for stage in STAGES {
        let (Some(now), Some(due)) = (counted.get(stage), budget.get(stage)) else {
            return fail(&format!("`{stage}` has no budget or was not counted: run `scripts/instructions --update`"));
        };
        let percent = (*now as f64 / *due as f64 - 1.0) * 100.0;
        println!("{stage:<12} {now:>12} {due:>12} {percent:>+7.1}%");
        let margin = if CRYPTO.contains(&stage) { MARGIN_OF_CRYPTO_PERCENT } else { MARGIN_PERCENT };
        if percent > margin {
            over.push(stage);
        } else if percent < -margin {
            under.push(stage);
        }
    }
    if !under.is_empty() {
        println!("\nbetter: {}. Keep it so: `scripts/instructions --update`, and commit the budget", under.join(", "));
    }
    if over.is_empty() {
        return ExitCode::SUCCESS;
    }
    fail(&format!(
        "over budget: {}. Find where it goes (`valgrind --tool=callgrind target/release/claimbound-instructions run`, then \
         callgrind_annotate), or, if it is worth it, `scripts/instructions --update` and say why in the commit",
        over.join(", ")
    ))
}

fn fail(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::FAILURE
}

fn budget() -> Result<BTreeMap<String, u64>, String> {
    let text = fs::read_to_string(BUDGET).map_err(|error| format!("{BUDGET}: {error}"))?;
    toml::from_str(&text).map_err(|error| format!("{BUDGET}: {error}"))
}

/// Instructions of one call of each stage, with all that it calls.
fn count() -> Result<BTreeMap<String, u64>, String> {
    let own = env::current_exe().map_err(|error| error.to_string())?;
    let out = env::temp_dir().join(format!("claimbound-instructions-{}", std::process::id()));
    let watched = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(own)
        .arg("run")
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    if !watched.status.success() {
        return Err(format!("valgrind: {}", String::from_utf8_lossy(&watched.stderr)));
    }
    let counted = read(&out);
    // A file that stays in the system's temporary folder harms nobody.
    let _ = fs::remove_file(&out);
    counted
}

/// Sums what calls of the stages cost, from callgrind's own format: after `cfn=NAME` and `calls=COUNT …` comes a line whose last
/// number is what those calls cost together.
fn read(out: &Path) -> Result<BTreeMap<String, u64>, String> {
    let text = fs::read_to_string(out).map_err(|error| format!("callgrind's file: {error}"))?;
    let (mut called, mut calls) = (None, None);
    let mut sums: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("cfn=") {
            called = STAGES.into_iter().find(|stage| name.contains(&format!("::stages::{stage}")));
        } else if let Some(rest) = line.strip_prefix("calls=") {
            calls = rest.split_whitespace().next().and_then(|count| count.parse::<u64>().ok());
        } else if let Some(count) = calls.take()
            && let Some(stage) = called
        {
            let cost = line.split_whitespace().last().and_then(|cost| cost.parse::<u64>().ok());
            let sum = sums.entry(stage).or_default();
            *sum = (sum.0 + count, sum.1 + cost.ok_or("callgrind's file is not as expected")?);
        }
    }
    match STAGES.iter().find(|stage| sums.get(*stage).is_none_or(|sum| sum.0 != ROUNDS)) {
        Some(stage) => Err(format!("`{stage}` was not found {ROUNDS} times in what callgrind wrote")),
        None => Ok(sums.into_iter().map(|(stage, (count, cost))| (stage.to_owned(), cost / count)).collect()),
    }
}
