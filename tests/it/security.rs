//! The table of attacks (`tests/security`) over HTTP: the first variant of each recipe against one broker per group,
//! and after every one of them what must hold of every refusal. What recipes cannot say stands in `by_hand`.

mod bench;
mod by_hand;

use bench::Bench;
use claimbound_attacks as table;
use futures_util::future::join_all;
use std::collections::BTreeSet;

/// Everything that differs from the table, told together.
async fn run(group: &str) {
    let attacks = table::group(group);
    let mut bench = Bench::start(&attacks).await;
    let mut wrong =
        bench.attack(None, "payments-release", &table::Recipe::default(), &table::Expected::granted()).await;
    for attack in &attacks {
        for recipe in attack.recipe.iter().filter(|recipe| recipe.only_in_process.is_none()) {
            let expected = attack.expected_of(recipe);
            wrong.extend(bench.attack(Some(attack), &attack.role_of(recipe), recipe, &expected).await);
        }
    }
    wrong.extend(bench.aftermath().await);
    assert!(wrong.is_empty(), "{} findings in {} requests:\n{}", wrong.len(), bench.requests(), wrong.join("\n"));
}

#[tokio::test]
async fn group_1a_over_http() {
    run("1a").await;
}

#[tokio::test]
async fn group_1b_over_http() {
    run("1b").await;
}

#[tokio::test]
async fn group_1c_over_http() {
    run("1c").await;
}

#[tokio::test]
async fn group_1d_over_http() {
    run("1d").await;
}

/// A folder that the table says must not load stops a start.
#[tokio::test]
async fn folders_that_must_not_load_stop_a_start() {
    /// Starts at one time.
    const AT_ONCE: usize = 4;
    let attacks = table::all();
    // Rules on issuers' URLs are others for a development issuer: those folders load in process alone.
    let here = |load: &table::Load| load.mapping.is_some() && load.refused.is_some() && !load.edits_issuers();
    let loads = attacks.iter().flat_map(|attack| attack.load.iter().map(move |load| (attack, load)));
    let loads: Vec<_> = loads.filter(|(_, load)| here(load)).collect();
    let profiles = loads.iter().map(|(attack, load)| attack.profile_in(load).to_owned());
    let issuers = bench::issuers(profiles.chain([table::GITHUB.to_owned()]).collect::<BTreeSet<_>>());
    for some in loads.chunks(AT_ONCE) {
        join_all(some.iter().map(async |(attack, load)| {
            let exit = bench::refused(&issuers, attack, load).await;
            let code = load.refused.as_deref().unwrap_or_default();
            assert_eq!(exit.code, Some(2), "{}: {}", attack.test(), exit.stderr);
            assert!(exit.stderr.contains(code), "{}: no {code} in {}", attack.test(), exit.stderr);
        }))
        .await;
    }
}
