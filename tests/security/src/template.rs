//! `$name`, `$name(argument)` and `$name+60` inside a text; `$$` is a dollar. A name that nobody knows fails the test.

/// What a name, with its argument, stands for.
pub type Known<'k> = dyn Fn(&str, Option<&str>) -> Option<Vec<u8>> + 'k;

/// Fills a text in.
pub fn fill(text: &str, known: &Known<'_>) -> Vec<u8> {
    let mut filled = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        filled.extend(before.as_bytes());
        if let Some(after) = after.strip_prefix('$') {
            filled.push(b'$');
            rest = after;
            continue;
        }
        let end = after.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(after.len());
        let (name, mut tail) = after.split_at(end);
        let mut argument = None;
        if let Some(inner) = tail.strip_prefix('(') {
            let (inside, behind) = inner.split_once(')').unwrap_or_else(|| panic!("`(` without `)` in `{text}`"));
            (argument, tail) = (Some(inside), behind);
        } else if name == "now" && tail.starts_with(['+', '-']) {
            let end = tail[1..].find(|c: char| !c.is_ascii_digit()).map_or(tail.len(), |at| at + 1);
            (argument, tail) = (Some(&tail[..end]), &tail[end..]);
        }
        let value = known(name, argument).unwrap_or_else(|| panic!("nobody knows `${name}` of `{text}`"));
        filled.extend(value);
        rest = tail;
    }
    filled.extend(rest.as_bytes());
    filled
}

/// What a number in an argument says.
pub fn number(argument: Option<&str>) -> usize {
    let text = argument.expect("a count in parentheses");
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no count"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_arguments_and_dollars_are_filled_in() {
        let known = |name: &str, argument: Option<&str>| match (name, argument) {
            ("iss", None) => Some(b"I".to_vec()),
            ("now", argument) => Some(format!("<{argument:?}>").into_bytes()),
            ("x", argument) => Some(vec![b'x'; number(argument)]),
            _ => None,
        };
        assert_eq!(fill("$iss/$x(3)$$(id)", &known), b"I/xxx$(id)");
        assert_eq!(fill("$now+60,$now", &known), b"<Some(\"+60\")>,<None>");
    }

    #[test]
    #[should_panic(expected = "nobody knows `$oops`")]
    fn an_unknown_name_fails() {
        fill("$oops", &|_, _| None);
    }
}
