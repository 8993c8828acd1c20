//! What the stages of the judge cost on the clock, one by one: `cargo bench -p claimbound-core --bench stages`. The same stages
//! and inputs are counted in instructions by `scripts/instructions`; decisions among more mappings, loading and the table of
//! goals are the bench `mappings`.

#[path = "mappings/company.rs"]
#[allow(dead_code, reason = "the bench `mappings` uses more of it")]
mod company;
#[path = "../../bench/instructions/src/stages.rs"]
mod stages;

use claimbound_core::{
    evidence::{Chain, chain::ORIGIN},
    mapping::{Folder, Loaded, load},
    review::diff::{Side, diff},
    workload::Profiles,
};
use criterion::{BatchSize, Criterion, SamplingMode, criterion_group, criterion_main};
use std::hint::black_box;

/// Mappings of the folders that are compared.
const COMPARED: usize = 10_000;

fn exchange(criterion: &mut Criterion) {
    let input = stages::Input::new();
    let mut parsed = Vec::new();
    let token = stages::parse(input.token, &mut parsed);
    let claims = stages::verified(&input, &token).into_claims();
    let case = stages::translated(&input, claims.clone());
    let entry = stages::sealed(&input, &case);

    let mut decoded = Vec::new();
    criterion.bench_function("parse a token", |bench| {
        bench.iter(|| {
            black_box(stages::parse(input.token, &mut decoded));
        });
    });
    criterion.bench_function("verify it", |bench| bench.iter(|| stages::verified(&input, &token)));
    criterion.bench_function("translate its claims", |bench| {
        bench.iter_batched(|| claims.clone(), |claims| stages::translated(&input, claims), BatchSize::SmallInput);
    });
    criterion.bench_function("decide: grant", |bench| bench.iter(|| stages::granted(&input, &case)));
    criterion.bench_function("decide: refuse", |bench| bench.iter(|| stages::refused(&input, &case)));
    criterion.bench_function("seal a record", |bench| bench.iter(|| stages::sealed(&input, &case)));
    let mut chain = Chain { incarnation: 1, sequence: 0, head: ORIGIN };
    criterion.bench_function("link it", |bench| {
        bench.iter_batched(|| entry.clone(), |entry| stages::linked(&mut chain, entry), BatchSize::SmallInput);
    });
}

fn side<'a>(folder: &'a Folder, loaded: &'a Loaded) -> Side<'a> {
    Side { folder, set: loaded.set.as_ref().expect("the folder loads"), profiles: &loaded.profiles }
}

fn review(criterion: &mut Criterion) {
    let profiles = Profiles::builtin();
    let loaded = |folder: &Folder| load(folder, &profiles);
    let before = company::company(COMPARED);
    let after = company::edited(&before);
    let (old, new) = (loaded(&before), loaded(&after));
    let mut group = criterion.benchmark_group("review");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.bench_function(format!("diff of three edits in {COMPARED} mappings"), |bench| {
        bench.iter(|| diff(side(&before, &old), side(&after, &new)).expect("the evaluator confirms it"));
    });
    group.finish();
}

criterion_group!(benches, exchange, review);
criterion_main!(benches);
