//! Grants for a long time: whether memory stays flat, and whether all that was written verifies.

use crate::{
    load::{self, Pace},
    machine::{Moment, children_cpu_us, resident_kib},
    rows::{configuration, form, job, secrets},
    tokens::{Mint, SOAK_LIFETIME_SECONDS, stream},
};
use claimbound_test_support::{broker::Broker, issuer::Issuer};
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Looks at the memory, over the whole time.
const LOOKS: u64 = 20;

/// Runs it, says what it sees, and returns it for programs.
pub async fn run(binary: &Path, seconds: u64) -> Value {
    let (github, gitlab) = (Arc::new(Issuer::github()), Issuer::gitlab());
    let mut broker = Broker::start(binary, configuration(10, &github, &gitlab)).await;
    let (pid, database) = (broker.pid(), broker.database());
    let rest_kib = resident_kib(pid);
    let signs = github.clone();
    let minted = stream(move || Mint::new(&signs, [job(&signs, 0)], SOAK_LIFETIME_SECONDS));
    let answered = Arc::new(AtomicU64::new(0));
    let shape = form(broker.url(), &secrets(0), 200);

    println!("grants for {seconds} s; tokens are minted meanwhile\n");
    println!("{:>8} {:>12} {:>10} {:>14}", "seconds", "exchanges", "RSS MiB", "database MiB");
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let before = Moment::now(&[pid]);
    let looks = tokio::spawn({
        let (answered, database) = (answered.clone(), database.clone());
        async move {
            let (began, every) = (Instant::now(), Duration::from_secs_f64(seconds as f64 / LOOKS as f64));
            let mut seen = vec![];
            for _ in 0..LOOKS {
                tokio::time::sleep(every).await;
                let (count, rss) = (answered.load(Ordering::Relaxed), resident_kib(pid));
                let stored = fs::metadata(&database).map_or(0, |file| file.len());
                println!(
                    "{:>8.0} {count:>12} {:>10.1} {:>14.1}",
                    began.elapsed().as_secs_f64(),
                    mib(rss * 1024),
                    mib(stored)
                );
                seen.push(rss);
            }
            seen
        }
    });
    let most = Duration::from_secs(seconds) + Duration::from_millis(100);
    let done = load::run(&shape, minted.source.clone(), Pace::Saturating, most, answered).await;
    let span = before.until_now();
    let seen = looks.await.expect("looking does not panic");
    let (mint_us, mint_count) = (minted.cost.0.load(Ordering::Relaxed), minted.cost.1.load(Ordering::Relaxed));
    drop(minted);
    let per = |us: u64| us as f64 / done.count as f64;
    println!(
        "\n{} exchanges, {:.0} a second, p50 {:.2} ms, p99 {:.2} ms; broker {:.1} µs each; load {:.1} µs each; minting {:.0} µs a token;\n\
         others used {:.2} processors",
        done.count,
        done.count as f64 / done.seconds,
        done.quantile_ms(0.5),
        done.quantile_ms(0.99),
        per(span.cpu_us[1]),
        per(span.cpu_us[0].saturating_sub(mint_us)),
        mint_us as f64 / mint_count.max(1) as f64,
        span.others,
    );
    let (early, late) = (seen.first().copied().unwrap_or(0), seen.last().copied().unwrap_or(0));
    println!(
        "memory: {:.1} MiB at rest, {:.1} after the first part, {:.1} at the end",
        mib(rest_kib * 1024),
        mib(early * 1024),
        mib(late * 1024)
    );

    broker.terminate().await;
    let (began, cpu) = (Instant::now(), children_cpu_us());
    let store = broker.store();
    let verify = broker.prepared(&["audit", "verify", "--store", &store]).output().await.expect("the program starts");
    let took = began.elapsed().as_secs_f64();
    let cpu = (children_cpu_us() - cpu) as f64 / 1e6;
    print!("{}{}", String::from_utf8_lossy(&verify.stdout), String::from_utf8_lossy(&verify.stderr));
    assert!(verify.status.success(), "the evidence of a soak verifies");
    println!("verified in {took:.1} s ({cpu:.1} s of processor time)");
    json!({
        "count": done.count, "seconds": done.seconds, "cpu_us_per_exchange": per(span.cpu_us[1]), "rss_rest_kib": rest_kib,
        "rss_kib": seen, "audit_seconds": took, "audit_cpu_seconds": cpu, "other_cores": span.others,
    })
}
