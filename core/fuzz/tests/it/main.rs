//! A bounded round of each target: the same inputs in every run.

use claimbound_fuzz::{ALL, Budget, Target, drive};

/// Of the ordinary test run. `scripts/fuzz` takes another each time.
const SEED: u64 = 1;

fn bounded(name: &str) {
    let target: &Target = ALL.iter().find(|target| target.name == name).expect("a target of this name");
    let report = drive(target, Budget::Runs(target.runs), SEED);
    assert!(report.failure.is_none(), "{report}");
    assert!(report.kept > report.begun_with, "nothing new was ever seen: {report}");
    eprintln_report(&report.to_string());
}

#[expect(clippy::print_stderr, reason = "shown when asked for, with `--no-capture`")]
fn eprintln_report(report: &str) {
    eprintln!("{report}");
}

macro_rules! bounded {
    ($($name:ident)*) => {
        $(#[test] fn $name() { bounded(stringify!($name)); })*
        #[test]
        fn every_target_has_its_round() {
            assert_eq!(ALL.map(|target| target.name), [$(stringify!($name)),*]);
        }
    };
}

bounded! { token signed jwks claims translate mapping }

#[test]
fn a_broken_invariant_is_found_shrunk_and_told() {
    fn broken(bytes: &[u8]) -> String {
        assert!(!bytes.windows(2).any(|pair| pair == b"ok"), "an invariant");
        bytes.len().to_string()
    }
    let target = Target {
        name: "self-test",
        run: broken,
        seeds: || vec![b"so far all is well".to_vec()],
        dictionary: &["ok"],
        input_bytes_max: 100,
        runs: 10_000,
    };
    let one = drive(&target, Budget::Runs(target.runs), SEED);
    let failure = one.failure.clone().expect("the word is found");
    assert_eq!((failure.input.as_slice(), failure.message.as_str()), (&b"ok"[..], "an invariant"));
    assert!(one.to_string().contains("keep it as a regression"));
    assert_eq!(std::fs::read(&failure.file).expect("it is written"), b"ok");
    std::fs::remove_file(&failure.file).expect("it was only a test");
    let again = drive(&target, Budget::Runs(target.runs), SEED);
    assert_eq!((again.runs, again.outcomes), (one.runs, one.outcomes), "one seed, one sequence");
    std::fs::remove_file(&failure.file).expect("it was only a test");
}
