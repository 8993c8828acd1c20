mod company;
use claimbound_core::{
    mapping::{Ask, Decision, MappingSet, decide, load},
    review::{lint, run_tests},
    time::UnixSeconds,
    workload::Profiles,
};
use std::time::Instant;
fn main() {
    let n: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(10_000);
    let f = company::company(n);
    let bytes: usize = f.files.values().map(Vec::len).sum();
    println!("{} files {} bytes {} per mapping", f.files.len(), bytes, bytes / n);
    let p = Profiles::builtin();
    let t = Instant::now();
    let loaded = load(&f, &p);
    println!("load {:?}", t.elapsed());
    for d in loaded.diagnostics.iter().take(2) {
        println!("{:.200}", format!("{d:?}"));
    }
    let set: MappingSet = loaded.set.unwrap();
    let t = Instant::now();
    let l = lint(&set, &loaded.profiles);
    println!("lint {:?} {}", t.elapsed(), l.len());
    for d in l.iter().take(3) {
        println!("{d:?}");
    }
    let t = Instant::now();
    let r = run_tests(&set, &loaded.profiles, &loaded.tests);
    println!("tests {:?} {} failed {}", t.elapsed(), r.len(), r.iter().filter(|r| r.failure.is_some()).count());
    if let Some(f) = r.iter().find_map(|r| r.failure.as_ref()) {
        println!("{f:?}");
    }
    let w = |g: claimbound_core::review::Given| claimbound_core::workload::Case {
        principal: g.workload(&set, &loaded.profiles, set.issuer_named("github").unwrap().0).unwrap(),
        actors: vec![],
    };
    let case = w(company::production_job(0));
    let role = company::production_role(0);
    let t = Instant::now();
    for _ in 0..10000 {
        let d = decide(&set, &case, &Ask { role: Some(&role), ..Ask::default() }, UnixSeconds(0));
        assert!(matches!(d, Decision::Grant(_)), "{d:?}");
    }
    println!("decide {:?}", t.elapsed() / 10000);
    let case = w(company::stray_job(0));
    let t = Instant::now();
    for _ in 0..10000 {
        let d = decide(&set, &case, &Ask { role: Some(&role), ..Ask::default() }, UnixSeconds(0));
        assert!(matches!(d, Decision::Deny(_)), "{d:?}");
    }
    println!("miss {:?}", t.elapsed() / 10000);
}
