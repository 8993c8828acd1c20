//! A bounded round of each target: the same inputs in every run.

use claimbound_fuzz::{ALL, Budget, Target, drive, named, round};

macro_rules! bounded {
    ($($name:ident)*) => {
        $(#[test] fn $name() { round(named(stringify!($name))); })*
        #[test]
        fn every_target_has_its_round() {
            assert_eq!(ALL.each_ref().map(|target| target.name), [$(stringify!($name)),*]);
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
    let one = drive(&target, Budget::Runs(target.runs), 1);
    let failure = one.failure.clone().expect("the word is found");
    assert_eq!((failure.input.as_slice(), failure.message.as_str()), (&b"ok"[..], "an invariant"));
    assert!(one.to_string().contains("keep it as a regression"));
    assert_eq!(std::fs::read(&failure.file).expect("it is written"), b"ok");
    std::fs::remove_file(&failure.file).expect("it was only a test");
    let again = drive(&target, Budget::Runs(target.runs), 1);
    assert_eq!((again.runs, again.outcomes), (one.runs, one.outcomes), "one seed, one sequence");
    std::fs::remove_file(&failure.file).expect("it was only a test");
}
