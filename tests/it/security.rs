//! The table of attacks (`tests/security`) over HTTP: the first variant of each recipe against one broker per group,
//! and after every one of them what must hold of every refusal. What recipes cannot say stands in `by_hand`.

mod bench;
mod by_hand;

use bench::Bench;
use claimbound_attacks as table;

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
    for attack in table::all() {
        // Rules on issuers' URLs are others for a development issuer: those folders load in process alone.
        for load in attack.load.iter().filter(|load| load.mapping.is_some() && !load.edits_issuers()) {
            let Some(code) = &load.refused else { continue };
            let exit = bench::refused(&attack, load).await;
            assert_eq!(exit.code, Some(2), "{}: {}", attack.test(), exit.stderr);
            assert!(exit.stderr.contains(code.as_str()), "{}: no {code} in {}", attack.test(), exit.stderr);
        }
    }
}
