//! Text from elsewhere, made fit to be shown: it can neither begin a line of its own (runners obey lines that begin with
//! `::`), nor steer a terminal, nor fill the log.

use serde_json::Value;

const SHOWN_CHARS_MAX: usize = 600;
const WORD_BYTES_MAX: usize = 64;

/// One line of limited length.
pub fn plain(text: &str) -> String {
    let steers = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut line = String::new();
    let parts = text.split(steers).map(str::trim).filter(|part| !part.is_empty());
    for part in parts {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(part);
    }
    // Runners look past the blanks at a line's beginning for their own commands.
    let line = line.trim_start_matches([':', '#']);
    match line.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// A JSON value as one line; empty where there is none.
pub fn plain_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => plain(text),
        other => plain(&other.to_string()),
    }
}

/// A word of the broker's closed lists (`reason`, `error`); what has another form counts as absent.
pub fn word<'a>(body: &'a Value, name: &str) -> Option<&'a str> {
    let fits = |text: &&str| {
        (1..=WORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    body[name].as_str().filter(fits)
}

/// The id of a decision; what has another form counts as absent.
pub fn decision_id(body: &Value) -> &str {
    let fits = |text: &&str| {
        text.len() <= WORD_BYTES_MAX && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'))
    };
    body["decision_id"].as_str().filter(fits).unwrap_or_default()
}

/// In single quotes, as a shell reads them.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_of_others_stays_one_line_and_short() {
        let evil = "x\r\n::set-output name=a::b\u{2028}\u{0}\u{1b}[2Jy";
        assert_eq!(plain(evil), "x ::set-output name=a::b [2Jy");
        assert_eq!((plain("::add-mask::x"), plain("##[group]x")), ("add-mask::x".to_owned(), "[group]x".to_owned()));
        assert_eq!(plain(&"y".repeat(5000)).chars().count(), SHOWN_CHARS_MAX + 1);
        assert_eq!(plain_of(&json!(7)), "7");
        let body = json!({ "reason": "no_mapping\n::x", "error": "invalid_target", "decision_id": "0192-ab" });
        assert_eq!((word(&body, "reason"), word(&body, "error")), (None, Some("invalid_target")));
        assert_eq!((decision_id(&body), decision_id(&json!({ "decision_id": "x y" }))), ("0192-ab", ""));
        assert_eq!(quoted("a'b c"), r"'a'\''b c'");
    }
}
