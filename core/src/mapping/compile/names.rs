//! Names, and references to them.

use crate::{
    diag::{Code, Span, did_you_mean},
    mapping::{codes, syntax::Findings},
};

/// Longest name, in bytes.
const NAME_MAX_BYTES: usize = 63;

/// `[a-z0-9][a-z0-9-]{0,62}`.
fn is_name(name: &str) -> bool {
    let letters = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    !name.is_empty() && name.len() <= NAME_MAX_BYTES && letters && !name.starts_with('-')
}

/// Reports a name outside the syntax.
pub(super) fn check(kind: &str, name: &str, span: &Span, findings: &mut Findings) {
    if is_name(name) {
        return;
    }
    let mended: String = name
        .to_ascii_lowercase()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
        .take(NAME_MAX_BYTES)
        .collect();
    let mended = mended.trim_matches('-');
    let message = format!("`{name}` is no name of {}", with_article(kind));
    let help =
        "names are 1 to 63 of `a-z`, `0-9` and `-`, not beginning with `-`; only the expansion of targets makes a dot";
    // The span of a key is the key's own, so the edit is a bare key; a value's is quoted by its caller's reader.
    if is_name(mended) {
        findings.error(codes::BAD_NAME, span.clone(), message, format!("write `{mended}`: {help}"));
    } else {
        findings.error(codes::BAD_NAME, span.clone(), message, help);
    }
}

/// Reports a reference to what does not exist; says whether it does.
pub(super) fn known<'n>(
    code: Code,
    kind: &str,
    name: &str,
    known: impl Iterator<Item = &'n str>,
    span: &Span,
    place: &str,
    findings: &mut Findings,
) -> bool {
    let known: Vec<&str> = known.collect();
    if known.contains(&name) {
        return true;
    }
    let message = format!("there is no {kind} `{name}`");
    match did_you_mean(name, known.iter().copied()) {
        Some(meant) => {
            let help = format!("did you mean `{meant}`?");
            findings.edit(code, span.clone(), message, help, format!("\"{meant}\""));
        }
        None if known.is_empty() => {
            findings.error(code, span.clone(), message, format!("declare it in {place} first; there is none yet"));
        }
        None => {
            /// More names than this would bury the remedy.
            const SHOWN_MAX: usize = 8;
            let mut shown = known.iter().take(SHOWN_MAX).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            if known.len() > SHOWN_MAX {
                shown.push_str(", …");
            }
            findings.error(code, span.clone(), message, format!("declare it in {place}, or use one of {shown}"));
        }
    }
    false
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_are_lower_case_without_dots() {
        for good in ["a", "0", "payments-deploy", &"a".repeat(63)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "A", "a.b", "a_b", "ä", " a", &"a".repeat(64)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
