//! `{ glob = … }`, `{ under = … }` and `{ not_prefix = … }`.

use super::{
    conditions::Shape,
    values::{Spot, Values},
};
use crate::{
    diag::Span,
    lang::pattern::{Lang, PatternError, Segments},
    mapping::{Test, codes, syntax::Value},
    workload::{Claim, Kind},
};

impl Values<'_, '_> {
    pub(super) fn pattern(
        &mut self,
        claim: Claim,
        prefix: &str,
        spot: &Spot<'_, '_>,
        operator: &str,
        value: &Value<'_>,
    ) {
        if matches!(claim.kind(), Kind::Id | Kind::Boolean) {
            self.bad(
                spot,
                value,
                format!("`{}` takes no patterns", spot.name),
                "write exact values: part of an id says nothing about what it belongs to",
            );
            return;
        }
        let at = spot.source.span(value.span());
        let Some(text) = value.get_ref().as_str() else {
            self.bad(spot, value, format!("`{operator}` must be a text"), format!("write `{{ {operator} = \"…\" }}`"));
            return;
        };
        let starts_as_ref = text.starts_with("refs/") || text.starts_with('*');
        if matches!(claim, Claim::Ref | Claim::WorkflowRef | Claim::JobWorkflowRef)
            && prefix.is_empty()
            && !starts_as_ref
        {
            self.text(claim, prefix, spot, &at, text);
            return;
        }
        if !self.pattern_owner(claim, operator, spot, &at, text) {
            return;
        }
        let fold = self.ground.folds() && claim.kind() == Kind::Name;
        let whole = format!("{prefix}{text}");
        let segments = if claim == Claim::Subject { Segments::Subject } else { Segments::Path };
        let compile = || match operator {
            "glob" => Lang::glob(&whole, segments, fold),
            "under" => Lang::under(&whole, fold),
            // Of what stands below the prefix.
            _ => Lang::not_prefix(text, fold)
                .and_then(|lang| if prefix.is_empty() { Ok(lang) } else { lang.after(prefix) }),
        };
        let lang = match self.ground.known {
            Some(known) => known.pattern((claim, fold, [operator, prefix, text].map(str::to_owned)), compile),
            None => compile(),
        };
        match lang {
            Ok(lang) => self.push(claim, Test::Text(lang), Shape::Other, spot),
            Err(error) => self.no_pattern(spot, value, text, &error),
        }
    }

    pub(super) fn no_pattern(&mut self, spot: &Spot<'_, '_>, value: &Value<'_>, text: &str, error: &PatternError) {
        self.findings.error(
            codes::BAD_PATTERN,
            spot.source.span(value.span()),
            format!("`{text}` is no pattern: {error}"),
            "`*` stays inside one segment, `**` is any run of characters, `{num}` a run of digits; everything else is literal",
        );
    }

    /// Owners that a pattern on repositories fixes must be listed too.
    fn pattern_owner(&mut self, claim: Claim, operator: &str, spot: &Spot<'_, '_>, at: &Span, text: &str) -> bool {
        let of_repositories =
            matches!(claim, Claim::Repository | Claim::WorkflowRepository | Claim::JobWorkflowRepository);
        if !of_repositories {
            return true;
        }
        let name = &spot.name;
        if operator == "under" {
            let text = text.trim_end_matches('/');
            // A group below a listed one, or one that holds a listed one.
            let inside = |listed: &str| {
                let (listed, text) = (listed.to_ascii_lowercase(), text.to_ascii_lowercase());
                text == listed || text.starts_with(&format!("{listed}/")) || listed.starts_with(&format!("{text}/"))
            };
            let known = self.ground.issuers.iter().any(|(issuer, _)| issuer.owners.keys().any(|listed| inside(listed)));
            return known || self.listed(name, at, text);
        }
        match text.rsplit_once('/').filter(|_| operator == "glob") {
            Some((owner, _)) if !owner.contains(['*', '{']) => self.listed(name, at, owner),
            _ if self.ground.deny || self.ground.owners_open() => true,
            _ => {
                let message = format!("the pattern of `{name}` leaves the owner open");
                let help = format!(
                    "write the owner out, `{name} = {{ glob = \"owner/*\" }}`: whoever may choose an owner's name is no listed owner"
                );
                self.findings.error(codes::OWNER_NOT_LISTED, at.clone(), message, help);
                false
            }
        }
    }
}
