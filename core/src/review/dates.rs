//! Dates that have passed. A folder loads at all times, so these are warnings for whoever looks at it now.

use crate::{
    diag::Diagnostic,
    mapping::{MappingSet, codes},
    time::UnixSeconds,
};

/// Warnings about mappings that have expired and files that somebody wanted to look at again.
pub fn passed(set: &MappingSet, now: UnixSeconds) -> Vec<Diagnostic> {
    let over = set.mappings.iter().filter(|mapping| mapping.is_first() && mapping.is_over(now)).map(|mapping| {
        let end = mapping.expires.unwrap_or(now).rfc3339();
        Diagnostic::error(
            codes::EXPIRED,
            mapping.span.clone(),
            format!("mapping `{}` expired at {end} and grants nothing any more", mapping.name),
            "remove it, or write a later `expires` if its jobs still need the roles",
        )
    });
    let due = set.reviews.iter().filter(|(day, _)| *day <= now).map(|(_, span)| {
        Diagnostic::error(
            codes::REVIEW_DUE,
            span.clone(),
            "the day of `review_by` has come",
            "look through the file: remove what nobody needs any more, then write the next date",
        )
    });
    over.chain(due).map(Diagnostic::warning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Builder, repositories, span};

    #[test]
    fn what_has_passed_is_told_and_nothing_else() {
        let mapping = |name, end| {
            move |builder: Builder| {
                let builder = builder.mapping(name, "r", [repositories(&[("acme/api", "1")])]);
                builder.with(|mapping| mapping.expires = end)
            }
        };
        let builder = mapping("old", Some(UnixSeconds(10)))(Builder::new());
        let builder = mapping("later", Some(UnixSeconds(11)))(builder);
        let mut set = mapping("ever", None)(builder).build();
        set.reviews = vec![(UnixSeconds(10), span("a.toml", 0)), (UnixSeconds(11), span("b.toml", 0))];
        let told: Vec<_> = passed(&set, UnixSeconds(10)).into_iter().map(|one| (one.code, one.severity)).collect();
        let warning = crate::diag::Severity::Warning;
        assert_eq!(told, [(codes::EXPIRED, warning), (codes::REVIEW_DUE, warning)]);
        assert_eq!(passed(&set, UnixSeconds(9)), []);
    }
}
