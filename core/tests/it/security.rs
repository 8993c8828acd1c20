//! The table of attacks (`tests/security`) in process: every variant of every recipe, from the token's bytes to the
//! decision, as `exchange` goes. One named test per entry; what no recipe can say stands in `by_hand`.

mod bench;
mod by_hand;

use bench::Bench;
use claimbound_attacks as table;
use std::collections::BTreeMap;

macro_rules! attacks {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run(stringify!($name)); })*
        /// The tests that this macro makes.
        const TESTS: &[&str] = &[$(stringify!($name)),*];
    };
}

attacks! {
    security_001_alg_none
    security_002_hmac_with_the_public_key
    security_003_algorithm_of_another_family
    security_004_kid_is_only_compared
    security_005_key_by_address
    security_006_key_in_the_header
    security_007_crit
    security_008_unencoded_payload
    security_009_token_of_another_kind
    security_010_our_own_token
    security_011_nested
    security_012_encrypted
    security_013_bombs
    security_014_json_serialisation
    security_015_dots
    security_016_size_and_depth
    security_017_duplicate_members
    security_018_strict_json
    security_019_other_spellings_of_a_token
    security_021_ecdsa_edge_values
    security_022_rsa_signature_variants
    security_023_one_kid_one_key
    security_024_no_result_is_reused
    security_025_unverified_claims_are_not_used
    security_026_issuer_that_looks_like_another
    security_027_issuer_with_a_slash
    security_029_issuers_with_a_path
    security_030_no_audience
    security_031_several_audiences
    security_032_audience_of_somebody_else
    security_034_expiry_missing_or_mistyped
    security_035_expiry_far_ahead
    security_036_issue_time
    security_037_not_yet_valid
    security_038_one_leeway
    security_040_no_identifier
    security_044_tenant_of_somebody_else
    security_045_mapping_without_a_pin
    security_046_name_registered_again
    security_047_first_use_binding
    security_048_rename_and_transfer
    security_049_ids_inside_the_subject
    security_050_wildcard_for_the_ids
    security_051_pattern_beyond_its_segment
    security_052_whole_organisation
    security_053_no_regular_expressions
    security_054_a_dot_is_a_dot
    security_055_workflow_file_that_begins_alike
    security_056_branch_and_tag_of_one_name
    security_057_ref_of_a_pull_request_or_of_nothing
    security_058_odd_branch_names
    security_059_environment_with_a_colon
    security_060_nothing_is_decoded
    security_061_environment_from_any_branch
    security_062_environment_in_another_case
    security_063_repository_in_another_case
    security_064_characters_beyond_ascii
    security_065_pull_request_for_a_branch
    security_066_events_that_outsiders_start
    security_067_event_missing_or_mistyped
    security_068_reusable_workflow
    security_069_subject_of_the_author_s_making
    security_070_properties_of_a_repository
    security_071_booleans_as_text
    security_072_protection_alone
    security_073_actor_alone
    security_074_self_hosted_runner
    security_075_old_run_again
    security_076_repository_turned_public
    security_077_mapping_that_has_had_its_time
    security_078_claims_that_contradict
    security_079_conditions_on_what_is_absent
    security_080_job_of_a_fork
    security_081_branch_that_anybody_may_push
    security_082_subject_that_says_less
    security_083_path_that_is_somebody_else_s
    security_084_person_as_authority
    security_085_tag_called_as_the_branch_is
    security_086_configuration_from_elsewhere
    security_087_environment_that_nobody_protects
    security_088_instances_that_share_a_key
    security_089_origin_of_a_fork
    security_090_conditions_of_another_issuer
    security_091_provider_where_people_log_in
    security_092_shared_issuer_without_a_pin
}

/// Every variant of an attack, judged; all that differ from the table are told together.
fn run(test: &str) {
    let attack = table::of_test(test);
    let bench = Bench::new(std::slice::from_ref(&attack));
    let mut wrong = Vec::new();
    let mut tried = 0;
    for recipe in &attack.recipe {
        let expected = attack.expected_of(recipe);
        let expected = expected.reason.map_or(Ok(()), Err);
        for variant in bench.world.variants(attack.profile_of(recipe), recipe) {
            tried += 1;
            let got = bench.judge(&variant.token, &attack.role_of(recipe), recipe.keys);
            if got != expected {
                let label: String = variant.label.chars().take(300).collect();
                wrong.push(format!("{got:?} in place of {expected:?}: {label}"));
            }
        }
    }
    for load in &attack.load {
        tried += 1;
        wrong.extend(bench::load_differs(&attack, load));
    }
    assert!(tried > 0, "{test}: nothing was tried");
    assert!(wrong.is_empty(), "{} of {tried} variants:\n{}", wrong.len(), wrong.join("\n"));
}

/// What each number comes to: a test by the table, tests by hand, or a line in the list of what has none.
#[test]
fn every_number_is_tested_or_excused() {
    let attacks = table::all();
    let mut wrong = Vec::new();
    let by_hand = by_hand_tests();
    let mut numbers: BTreeMap<u16, usize> = table::NUMBERS.map(|number| (number, 0)).collect();
    for attack in &attacks {
        let name = attack.test();
        match numbers.get_mut(&attack.number) {
            Some(count) => *count += 1,
            None => wrong.push(format!("{name}: no number of these groups")),
        }
        let by_table = !attack.recipe.is_empty() || !attack.load.is_empty();
        if by_table != TESTS.contains(&name.as_str()) {
            wrong.push(format!(
                "{name}: {} recipes, and {} in `attacks!`",
                attack.recipe.len(),
                if by_table { "not" } else { "yet" }
            ));
        }
        if !by_table && attack.by_hand.is_empty() {
            wrong.push(format!("{name}: neither recipes nor a test by hand"));
        }
        for hand in &attack.by_hand {
            let named = by_hand.iter().any(|(module, test)| format!("{module}::{test}") == *hand);
            if !named {
                wrong.push(format!("{name}: there is no test `{hand}`"));
            }
        }
    }
    for test in TESTS {
        if !attacks.iter().any(|attack| attack.test() == *test) {
            wrong.push(format!("{test}: not in the table"));
        }
    }
    for (module, test) in &by_hand {
        let listed = attacks.iter().flat_map(|attack| &attack.by_hand).any(|hand| *hand == format!("{module}::{test}"));
        let plain = test.strip_prefix("heavy_").unwrap_or(test);
        let number = plain.strip_prefix("security_").and_then(|rest| rest.get(..3)?.parse().ok());
        if number.is_some_and(|number| table::NUMBERS.contains(&number)) && !listed {
            wrong.push(format!("{module}::{test}: the table's `by_hand` does not name it"));
        }
    }
    for excuse in table::not_applicable() {
        assert!(!excuse.reason.is_empty());
        match (numbers.get_mut(&excuse.number), &excuse.variant) {
            (Some(count), None) => *count += 1,
            (Some(count), Some(_)) if *count == 1 => {}
            _ => wrong.push(format!("{}: an excuse for what is not there", excuse.number)),
        }
    }
    wrong.extend(
        numbers
            .iter()
            .filter(|(_, count)| **count != 1)
            .map(|(number, count)| format!("{number}: stands {count} times")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Tests written by hand, of both crates: the last part of their module, and their name.
fn by_hand_tests() -> Vec<(String, String)> {
    let files = [
        ("security", include_str!("security/by_hand.rs")),
        ("keys", include_str!("keys.rs")),
        ("trust", include_str!("trust.rs")),
        ("workload", include_str!("workload.rs")),
        ("profiles", include_str!("profiles.rs")),
        ("issuers", include_str!("../../../src/keys/issuers/tests.rs")),
        ("net", include_str!("../../../src/net.rs")),
        ("security_keys", include_str!("../../../tests/it/security_keys.rs")),
        ("postgres", include_str!("../../../tests/it/postgres.rs")),
        ("flood", include_str!("../../../tests/it/flood.rs")),
        ("http", include_str!("../../../tests/it/http.rs")),
        ("exchange", include_str!("../../../tests/it/exchange.rs")),
        ("security", include_str!("../../../tests/it/security.rs")),
        ("security", include_str!("../../../tests/it/security/by_hand.rs")),
        ("attacks", include_str!("../../../tests/it/attacks.rs")),
        ("cloud_action", include_str!("../../../tests/it/cloud_action.rs")),
        ("delegation", include_str!("../../../tests/it/delegation.rs")),
        ("downstream", include_str!("../../../tests/it/downstream.rs")),
        ("aws", include_str!("../../../tests/it/aws.rs")),
        ("ceremony", include_str!("../../../tests/it/ceremony.rs")),
        ("claim_pages", include_str!("../../../tests/it/claim_pages.rs")),
        ("cloud_browser", include_str!("../../../tests/it/cloud_browser.rs")),
        ("security_claims", include_str!("../../../tests/it/security_claims.rs")),
        ("webhooks", include_str!("../../../src/webhooks/tests.rs")),
        ("overlap", include_str!("overlap.rs")),
    ];
    let mut tests = Vec::new();
    for (module, text) in files {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for pair in
            lines.windows(2).filter(|pair| pair[0].starts_with("#[test]") || pair[0].starts_with("#[tokio::test"))
        {
            let name = pair[1].trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            tests.extend(name.map(|name| (module.to_owned(), name.to_owned())));
        }
    }
    tests
}
