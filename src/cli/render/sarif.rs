//! Findings as SARIF 2.1.0, which code scanning services take.
//! <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>

use super::{Place, shown};
use claimbound_core::{
    diag::{Code, Diagnostic, Severity, Span},
    mapping::Folder,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// One run with all findings. Places are relative to the working directory, which `%SRCROOT%` stands for.
pub fn sarif(findings: &[Diagnostic], folder: &Folder, root: &str) -> Value {
    let rules: BTreeMap<Code, Value> = findings.iter().map(|finding| (finding.code, rule(finding.code))).collect();
    let results: Vec<_> = findings.iter().map(|finding| result(finding, folder, root, &rules)).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "claimbound",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules.into_values().collect::<Vec<_>>(),
            } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

/// A rule is a code: its page, as `check --explain` prints it.
fn rule(code: Code) -> Value {
    let mut rule = json!({ "id": code.to_string() });
    if let Some(page) = crate::cli::pages::page(&code.to_string()) {
        let title = page.lines().next().unwrap_or_default().trim_start_matches("# ");
        rule["shortDescription"] = json!({ "text": title });
        rule["help"] = json!({ "text": page, "markdown": page });
    }
    rule
}

fn result(finding: &Diagnostic, folder: &Folder, root: &str, rules: &BTreeMap<Code, Value>) -> Value {
    let level = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let text = finding.help.as_ref().map_or(finding.message.clone(), |help| format!("{}: {help}", finding.message));
    let mut result = json!({
        "ruleId": finding.code.to_string(),
        "ruleIndex": rules.keys().position(|code| *code == finding.code),
        "level": level,
        "message": { "text": text },
    });
    // A finding about the folder as a whole still needs a file to stand at.
    let whole = Span::new("policy.toml", 0..0);
    result["locations"] =
        json!([{ "physicalLocation": physical(finding.span.as_ref().unwrap_or(&whole), folder, root) }]);
    if !finding.others.is_empty() {
        let others = finding.others.iter().enumerate().map(|(id, other)| {
            let place = physical(&other.span, folder, root);
            json!({ "id": id, "physicalLocation": place, "message": { "text": other.text } })
        });
        result["relatedLocations"] = others.collect();
    }
    if let Some(suggestion) = &finding.suggestion {
        let place = physical(&suggestion.span, folder, root);
        let replacement =
            json!({ "deletedRegion": place["region"], "insertedContent": { "text": suggestion.replacement } });
        result["fixes"] = json!([{
            "description": { "text": suggestion.text },
            "artifactChanges": [{ "artifactLocation": place["artifactLocation"], "replacements": [replacement] }],
        }]);
    }
    result
}

fn physical(span: &Span, folder: &Folder, root: &str) -> Value {
    let Place { line, column, end_line, end_column } = Place::of(folder, span);
    json!({
        "artifactLocation": { "uri": uri(&shown(root, span)), "uriBaseId": "%SRCROOT%" },
        "region": { "startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column },
    })
}

/// A relative reference (RFC 3986 section 4.2): everything but path characters is escaped.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use claimbound_core::diag::{Label, Suggestion};

    #[test]
    fn a_finding_has_rule_place_relations_and_edit() {
        let text = "fromat = 1\n# ü\n";
        let folder = Folder { files: [("a b.toml".to_owned(), text.into())].into() };
        let span = |bytes| Span::new("a b.toml", bytes);
        let mut finding = Diagnostic::error(Code(103), span(0..6), "`fromat` is unknown", "write it so");
        finding.others.push(Label { span: span(13..15), text: "here".into() });
        finding.suggestion =
            Some(Suggestion { span: span(0..6), replacement: "format".into(), text: "write `format`".into() });
        let other = Diagnostic::error(Code(101), span(0..0), "another", "mend it");
        let sarif = sarif(&[finding, other], &folder, "mappings");
        let run = &sarif["runs"][0];
        assert_eq!(run["tool"]["driver"]["rules"][1]["id"], "CB0103");
        let result = &run["results"][0];
        assert_eq!(
            (&result["ruleId"], &result["ruleIndex"], &result["level"]),
            (&json!("CB0103"), &json!(1), &json!("error"))
        );
        assert_eq!(result["message"]["text"], "`fromat` is unknown: write it so");
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"], json!({ "uri": "mappings/a%20b.toml", "uriBaseId": "%SRCROOT%" }));
        assert_eq!(place["region"], json!({ "startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 7 }));
        let related = &result["relatedLocations"][0];
        assert_eq!(related["physicalLocation"]["region"]["endColumn"], 4, "columns count characters: {related}");
        assert_eq!(result["fixes"][0]["artifactChanges"][0]["replacements"][0]["insertedContent"]["text"], "format");
    }
}
