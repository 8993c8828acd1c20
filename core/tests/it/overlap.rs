//! Two mappings that can give one role to one job do not load.

use crate::decide::sample;
use claimbound_core::{diag::Diagnostic, mapping::load, workload::Profiles};

fn findings(more: &str) -> Vec<Diagnostic> {
    let found = load(&sample(more), &Profiles::builtin()).diagnostics;
    found.into_iter().filter(|one| one.code.to_string() == "CB0701").collect()
}

fn mapping(table: &str) -> String {
    format!(
        "[[mapping]]\nname = \"second\"\ndescription = \"Deploys too\"\nroles = [\"payments-deploy.production\"]\n\
         [mapping.match]\n{table}\n"
    )
}

#[test]
fn security_113_an_overlap_is_an_error_at_both_places_with_a_job_that_shows_it() {
    let found = findings(&mapping("branch = [\"dev\", \"main\"]"));
    let [one] = &*found else { panic!("one finding: {found:?}") };
    for part in [
        "`payments-production`",
        "`second`",
        "`branch = \"main\"`",
        "`environment = \"production\"`",
        "`repository_id = \"740000001\"`",
    ] {
        assert!(one.message.contains(part), "{part} in {}", one.message);
    }
    let text =
        String::from_utf8(sample(&mapping("branch = [\"dev\", \"main\"]")).files["teams/payments/deploy.toml"].clone());
    let text = text.expect("UTF-8");
    let at = |span: &claimbound_core::diag::Span| text[span.bytes().start..].chars().take(300).collect::<String>();
    assert!(one.span.as_ref().is_some_and(|span| at(span).contains("second")));
    assert!(at(&one.others[0].span).contains("payments-production"));
}

#[test]
fn mappings_apart_are_none() {
    for table in [
        "branch = \"dev\"",
        "tag = \"v1\"\nenvironment = \"production\"\nref_protected = true",
        "branch = \"main\"\nenvironment = \"staging\"",
    ] {
        assert_eq!(findings(&mapping(table)), [], "{table}");
    }
}
