//! The YAML that trust policies are written in, as JSON: tables, lists and texts. Anchors, tags and a second document have
//! no place in a policy, and a key that stands twice would hide a condition; all are errors. Plain scalars are texts.

use anyhow::{Result, bail};
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

const DEPTH_MAX: usize = 16;

/// A table or list that is being read.
enum Open {
    Table(Map<String, Value>, Option<String>),
    List(Vec<Value>),
}

/// Reads one document.
///
/// # Errors
/// When it is not YAML, or more than this.
pub fn parse(text: &str) -> Result<Value> {
    let mut open: Vec<Open> = Vec::new();
    let mut document = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event?;
        let line = span.start.line();
        let value = match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                continue;
            }
            Event::Alias(_) => bail!("line {line}: an alias"),
            Event::Scalar(_, _, 1.., _) | Event::SequenceStart(1.., _) | Event::MappingStart(1.., _) => {
                bail!("line {line}: an anchor")
            }
            Event::Scalar(.., Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                bail!("line {line}: a tag")
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= DEPTH_MAX => {
                bail!("line {line}: nested deeper than {DEPTH_MAX}")
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Table(Map::new(), None));
                continue;
            }
            Event::Scalar(text, ScalarStyle::Plain, ..) if matches!(&*text, "" | "~" | "null") => Value::Null,
            Event::Scalar(text, ..) => Value::String(text.into_owned()),
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list)) => Value::Array(list),
                Some(Open::Table(table, _)) => Value::Object(table),
                None => bail!("line {line}: an end without a beginning"),
            },
        };
        match open.last_mut() {
            None if document.is_some() => bail!("line {line}: a second document"),
            None => document = Some(value),
            Some(Open::List(list)) => list.push(value),
            Some(Open::Table(table, key)) => match key.take() {
                None => match value {
                    Value::String(text) if !table.contains_key(&text) => *key = Some(text),
                    Value::String(text) => bail!("line {line}: `{text}` stands twice"),
                    _ => bail!("line {line}: a key that is no text"),
                },
                Some(key) => {
                    table.insert(key, value);
                }
            },
        }
    }
    document.ok_or_else(|| anyhow::anyhow!("it is empty"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn policies_are_tables_of_texts() {
        let text = "# why\nissuer: https://a.example\nclaim_pattern:\n  ref: 'refs/heads/.*'\n  flag: true\nrepositories:\n  - a\n  - \"b\"\n";
        let expected = json!({
            "issuer": "https://a.example",
            "claim_pattern": { "ref": "refs/heads/.*", "flag": "true" },
            "repositories": ["a", "b"],
        });
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("a: ~\nb:\n").unwrap(), json!({ "a": null, "b": null }));
    }

    #[test]
    fn whatever_could_hide_a_condition_is_refused() {
        for (text, why) in [
            ("a: 1\na: 2\n", "line 2: `a` stands twice"),
            ("a: &x 1\nb: *x\n", "an anchor"),
            ("a: !!str 1\n", "a tag"),
            ("a: 1\n---\nb: 2\n", "a second document"),
            ("[a]: 1\n", "a key that is no text"),
            ("", "empty"),
        ] {
            let told = parse(text).unwrap_err().to_string();
            assert!(told.contains(why), "{text}: {told}");
        }
        assert!(parse(&"[".repeat(50)).is_err());
        assert!(parse("a: [").is_err());
    }
}
