//! What a group commit costs, without the exchange around it: `cargo bench -p claimbound-bench --bench store`. Each commit
//! is what a grant writes but for its token's single use, which only a verified token can spend: a guard, a lease, a
//! record. How many wait at once is how many share one fsync, and the disk's fsync is most of it.
//!
//! `-- --write FILE COUNT` writes a store of so many grants instead, for measurements of `claimbound audit verify`.

use claimbound::store::{Change, Commit, Guard, Lease, LeaseState, Outcome, Writer, open};
use claimbound_core::{
    evidence::{DecisionId, Details, Eased, LeaseId, Party, Record, What},
    time::UnixSeconds,
};
use criterion::{BatchSize, Criterion, Throughput};
use std::{cell::Cell, sync::Arc};
use tokio::runtime::Runtime;

const NOW: UnixSeconds = UnixSeconds(1_790_000_000);
/// Commits of one batch of a store that is written whole.
const AT_ONCE: usize = 256;
/// How many wait at once.
const WAITING: [u64; 3] = [1, 16, 256];

fn grant(number: u128) -> Commit {
    let lease = LeaseId(number);
    let (mapping, role, expires) = ("billing-0-0-secrets", "billing-0-secrets", NOW.plus(900));
    let handle = format!("0193f0a4-0000-7000-8000-{number:012x}");
    let mut details = Details::default();
    details.json.insert("claims".into(), "what a token of GitHub's says, about as long. ".repeat(25).into());
    let entry = Record {
        decision: Some(DecisionId(number)),
        at: NOW,
        what: What::Granted {
            mapping,
            role,
            lease,
            parent: None,
            how: None,
            handle: Some(&handle),
            expires,
            family: None,
            ceremony: None,
            eased: Eased::default(),
        },
        principal: Some(Party { issuer: "github", id: "700000000", name: "acme/billing-0-0" }),
        actor: None,
        mappings_version: Some([9; 32]),
    }
    .seal(&details, [7; 32]);
    let opened = Lease {
        id: lease,
        role: role.into(),
        mapping: mapping.into(),
        team: "billing-0".into(),
        principal_issuer: "github".into(),
        principal_id: "700000000".into(),
        principal_name: "acme/billing-0-0".into(),
        repository_id: Some("700000000".into()),
        owner_id: Some("65".into()),
        run_id: Some("17000000001".into()),
        person: Some([5; 32]),
        acting: None,
        acting_person: None,
        parent: None,
        handoff: false,
        opened: NOW,
        expires,
        handle: Some(handle),
        state: LeaseState::Issued,
        token: None,
        family: None,
        status: None,
    };
    let subjects = (0..6).map(|subject| [subject; 32]).collect();
    let guards = vec![Guard::NotSuspended { subjects, at: NOW }];
    Commit { guards, changes: vec![Change::OpenLease(Box::new(opened))], entry: Some(entry) }
}

async fn written(writer: Arc<Writer>, commits: Vec<Commit>) {
    let tasks: Vec<_> = commits
        .into_iter()
        .map(|commit| {
            let writer = writer.clone();
            tokio::spawn(async move { writer.commit(commit).await })
        })
        .collect();
    for task in tasks {
        let outcome = task.await.expect("a commit does not panic").expect("the store is written");
        assert!(matches!(outcome, Outcome::Durable { .. }), "nothing stands against it");
    }
}

fn sqlite(criterion: &mut Criterion) {
    let home = tempfile::tempdir().expect("a directory can be made");
    let url = format!("sqlite:{}", home.path().join("claimbound.db").display());
    let writer = Arc::new(open(&url, NOW).expect("the store opens").writer);
    let runtime = Runtime::new().expect("a runtime can be built");
    let number = Cell::new(1 << 64);
    let mut group = criterion.benchmark_group("group commit, SQLite");
    for waiting in WAITING {
        let commits = || -> Vec<Commit> {
            (0..waiting)
                .map(|_| {
                    number.set(number.get() + 1);
                    grant(number.get())
                })
                .collect()
        };
        group.throughput(Throughput::Elements(waiting));
        group.bench_function(format!("{waiting} at once"), |bench| {
            let write = |commits| runtime.block_on(written(writer.clone(), commits));
            bench.iter_batched(commits, write, BatchSize::PerIteration);
        });
    }
    group.finish();
    runtime.block_on(writer.stop());
}

/// A store of so many grants.
fn write(file: &str, count: u128) {
    let writer = Arc::new(open(&format!("sqlite:{file}"), NOW).expect("the store opens").writer);
    let runtime = Runtime::new().expect("a runtime can be built");
    runtime.block_on(async {
        for first in (0..count).step_by(AT_ONCE) {
            let until = count.min(first + AT_ONCE as u128);
            written(writer.clone(), (first..until).map(|number| grant((1 << 64) + number)).collect()).await;
        }
        writer.stop().await;
    });
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, file, count, ..] = &arguments[..]
        && flag == "--write"
    {
        return write(file, count.parse().expect("`--write FILE COUNT`"));
    }
    let mut criterion = Criterion::default().configure_from_args();
    sqlite(&mut criterion);
    criterion.final_summary();
}
