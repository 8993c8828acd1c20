//! `scripts/fuzz` for the targets of the core.

#![expect(clippy::print_stdout, clippy::exit, reason = "a command line for developers")]

use claimbound_fuzz::{ALL, Budget, drive};
use std::time::Duration;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, seconds, seed) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => {
            ALL.iter().for_each(|target| println!("{}", target.name));
            return;
        }
        [name, seconds, seed] => (name, seconds.parse(), seed.parse()),
        _ => usage(),
    };
    let (Ok(seconds), Ok(seed)) = (seconds, seed) else { usage() };
    let Some(target) = ALL.iter().find(|target| target.name == name) else { usage() };
    let report = drive(target, Budget::Time(Duration::from_secs(seconds)), seed);
    println!("{report}");
    if report.failure.is_some() {
        std::process::exit(1);
    }
}

fn usage() -> ! {
    println!("claimbound-fuzz --list | TARGET SECONDS SEED");
    std::process::exit(2);
}
