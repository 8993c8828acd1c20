//! `{ any = […] }` and `{ class = … }`: several forms of one value.

use super::{
    conditions::{Compiled, Shape},
    values::{Spot, Values},
};
use crate::{
    diag::{Diagnostic, did_you_mean},
    lang::pattern::{Lang, PatternError, Segments},
    mapping::{
        Condition, Test, codes,
        syntax::{Entry, Value},
    },
    workload::{Claim, Mark, Profile},
};
use std::ops::Range;
use toml::de::DeValue;

/// What of the elements of one `any` has been gathered.
#[derive(Default)]
struct Mix {
    /// Of all texts and patterns, one set.
    texts: Option<Lang>,
    repositories: Vec<(String, String)>,
    owners: Vec<(String, String)>,
    others: Vec<Test>,
    shapes: Vec<Shape>,
    /// Each element by itself, with its place.
    elements: Vec<(Test, Range<usize>)>,
}

impl Values<'_, '_> {
    /// `{ any = […] }`: one condition that holds if one of its elements does.
    pub(super) fn any(&mut self, claim: Claim, prefix: &str, spot: &Spot<'_, '_>, value: &Value<'_>) {
        let list = match value.get_ref() {
            DeValue::Array(list) if !list.is_empty() => list,
            _ => {
                return self.bad(
                    spot,
                    value,
                    "`any` must be a list that is not empty".into(),
                    "write `{ any = [ … ] }`",
                );
            }
        };
        let before = self.findings.errors();
        let mut mix = Mix::default();
        for element in list.iter() {
            let mut own = Vec::new();
            let within = Spot { source: spot.source, name: spot.name.clone(), span: spot.span.clone(), ignore: false };
            let mut values =
                Values { ground: self.ground, origin: self.origin, findings: &mut *self.findings, out: &mut own };
            values.value(claim, prefix, &within, element);
            if own.iter().any(|compiled| compiled.condition.if_unknown_ignore) {
                let message = "`if_unknown` stands inside `any`".to_owned();
                self.bad(spot, element, message, "write it beside `any`: `{ any = [ … ], if_unknown = \"ignore\" }`");
            }
            self.add(&mut mix, own, spot, element);
        }
        if self.findings.errors() == before {
            self.wider_beside(&mix, spot);
            let (test, shape) = mix.finish();
            self.push(claim, test, shape, spot);
        }
    }

    /// Takes one element in. Several conditions of one element come of `all`; of texts alone they are one set.
    fn add(&mut self, mix: &mut Mix, own: Vec<Compiled>, spot: &Spot<'_, '_>, element: &Value<'_>) {
        let mut own = own.into_iter();
        let Some(Compiled { condition: Condition { mut test, .. }, mut shape }) = own.next() else { return };
        for Compiled { condition, .. } in own {
            let (Test::Text(all), Test::Text(other)) = (&test, &condition.test) else {
                let message = "`all` inside `any` holds more than texts and patterns".to_owned();
                return self.bad(spot, element, message, "write an alternative for each: `[[mapping.any]]`");
            };
            match all.intersect(other) {
                Ok(both) => (test, shape) = (Test::Text(both), Shape::Other),
                Err(error) => return self.too_large(spot, element, &error),
            }
        }
        mix.elements.push((test.clone(), element.span()));
        match test {
            Test::Text(lang) => match mix.texts.take().map_or(Ok(lang.clone()), |texts| texts.union(&lang)) {
                Ok(texts) => mix.texts = Some(texts),
                Err(error) => return self.too_large(spot, element, &error),
            },
            Test::Repository(pairs) => mix.repositories.extend(pairs.iter().cloned()),
            Test::Owner(pairs) => mix.owners.extend(pairs.iter().cloned()),
            Test::Any(tests) => mix.others.extend(tests),
            test => mix.others.push(test),
        }
        mix.shapes.push(shape);
    }

    /// A narrow value beside a wide one that holds it already: who reads it believes that it is what counts. A deny
    /// that says a thing twice denies no less.
    fn wider_beside(&mut self, mix: &Mix, spot: &Spot<'_, '_>) {
        if self.ground.deny {
            return;
        }
        let all = || mix.elements.iter().enumerate();
        for (at, (test, place)) in all() {
            // Of two that say the same, the later one is too much.
            let swallows = |(other, (wider, _)): &(usize, &(Test, Range<usize>))| {
                *other != at && test.is_within(wider) && (*other < at || !wider.is_within(test))
            };
            let Some((_, (_, wider))) = all().find(swallows) else { continue };
            let written = |place: &Range<usize>| spot.source.text.get(place.clone()).unwrap_or("…").to_owned();
            let finding = Diagnostic::error(
                codes::WIDER_BESIDE,
                spot.source.span(place.clone()),
                format!("`{}` is any of these, and `{}` holds `{}` already", spot.name, written(wider), written(place)),
                "remove the wider one, if the narrower is what is meant; else the narrower, which changes nothing",
            );
            let wider = spot.source.span(wider.clone());
            self.findings.push(finding.and(wider, "the wider one").warning());
        }
    }

    fn too_large(&mut self, spot: &Spot<'_, '_>, element: &Value<'_>, error: &PatternError) {
        let at = spot.source.span(element.span());
        let message = format!("the patterns of `{}` are too much together: {error}", spot.name);
        self.findings.error(codes::BAD_PATTERN, at, message, "write fewer wildcards, or a mapping for each");
    }

    /// `{ class = "default" }`: the events of a class, or its initiators, as the issuer's profile has them.
    pub(super) fn class(&mut self, claim: Claim, spot: &Spot<'_, '_>, entry: Entry<'_, '_>) {
        let (known, of): (&[&str], _) = match claim {
            Claim::EventName if self.ground.deny => (&["default", "outsider"], "events"),
            Claim::EventName => (&["default"], "events"),
            Claim::Initiator => (&["person", "automation"], "initiators"),
            _ => {
                let help = "classes are of events and of initiators: `event_name = { class = \"default\" }`, \
                            `initiator = { class = \"person\" }`";
                return self.bad(spot, entry.value, format!("`{}` has no classes", spot.name), help);
            }
        };
        let Some((name, span)) = entry.text(self.findings) else { return };
        if !known.contains(&name) {
            let message = format!("`{name}` is no class of {of} that can stand here");
            let help = match (did_you_mean(name, known.iter().copied()), name) {
                (Some(meant), _) => format!("did you mean `{meant}`?"),
                (None, "outsider") => {
                    "name the events: what outsiders may start is never granted as a class".to_owned()
                }
                _ => format!("write {}", known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")),
            };
            self.findings.error(codes::BAD_OPERATOR, span, message, help);
            return;
        }
        if claim == Claim::Initiator {
            return self.initiators(name == "person", spot, &entry);
        }
        let mut events: Vec<String> = Vec::new();
        for (_, profile) in &self.ground.issuers {
            let of = if name == "default" { profile.default_events() } else { profile.outsider_events() };
            events.extend(of.iter().filter(|event| !events.contains(event)).cloned().collect::<Vec<_>>());
        }
        if events.is_empty() {
            let message = format!("{} have no events of class `{name}`", self.ground.issuer_names());
            return self.bad(spot, entry.value, message, "name the events; `claimbound profile show` lists them");
        }
        let lang = Lang::one_of(events.iter().map(String::as_str), false);
        self.push(claim, Test::Text(lang), Shape::Exact(events), spot);
    }

    /// Whom any of the issuers marks as automation, or whom none of them does.
    fn initiators(&mut self, person: bool, spot: &Spot<'_, '_>, entry: &Entry<'_, '_>) {
        let marks = |(_, profile): &(_, &Profile)| !profile.automation().is_empty();
        let issuers = &self.ground.issuers;
        if !(if person { issuers.iter().all(marks) } else { issuers.iter().any(marks) }) {
            let message = format!("{} mark no automation among their initiators", self.ground.issuer_names());
            return self.bad(spot, entry.value, message, "name whom you mean by `initiator_id`");
        }
        let marked = automation(issuers.iter().map(|(_, profile)| *profile));
        match marked.and_then(|marked| if person { marked.complement() } else { Ok(marked) }) {
            Ok(lang) => self.push(Claim::Initiator, Test::Text(lang), Shape::Other, spot),
            Err(error) => self.too_large(spot, entry.value, &error),
        }
    }
}

/// The initiators that the profiles mark as automation.
fn automation<'p>(profiles: impl Iterator<Item = &'p Profile>) -> Result<Lang, PatternError> {
    let lang = |mark: &Mark| match mark {
        Mark::Glob(glob) => Lang::glob(glob, Segments::Path, false),
        Mark::Ends(end) => Lang::ending(end),
    };
    profiles.flat_map(Profile::automation).try_fold(Lang::nothing(), |all, mark| all.union(&lang(mark)?))
}

/// Whether this is `initiator = { class = "person" }`: it names nobody.
pub(crate) fn is_person_class(profile: &Profile, lang: &Lang) -> bool {
    let person = || automation(std::iter::once(profile))?.complement();
    !profile.automation().is_empty()
        && person()
            .is_ok_and(|person| lang.is_subset(&person).unwrap_or(false) && person.is_subset(lang).unwrap_or(false))
}

impl Mix {
    fn finish(self) -> (Test, Shape) {
        let exact = |shape: &Shape| match shape {
            Shape::Exact(texts) => Some(texts.clone()),
            _ => None,
        };
        let exact: Option<Vec<Vec<String>>> = self.shapes.iter().map(exact).collect();
        let only = |wanted: Shape| self.shapes.iter().all(|shape| *shape == wanted);
        let shape = match exact {
            Some(texts) => Shape::Exact(texts.concat()),
            None if only(Shape::Pin) => Shape::Pin,
            None if only(Shape::Owner) => Shape::Owner,
            None => Shape::Other,
        };
        let mut tests = self.others;
        tests.extend(self.texts.map(Test::Text));
        tests.extend(
            (!self.repositories.is_empty()).then_some(Test::Repository(self.repositories.into_iter().collect())),
        );
        tests.extend((!self.owners.is_empty()).then_some(Test::Owner(self.owners.into_iter().collect())));
        match <[Test; 1]>::try_from(tests) {
            Ok([test]) => (test, shape),
            Err(tests) => (Test::Any(tests.into()), shape),
        }
    }
}
