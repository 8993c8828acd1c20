//! Session policies: judged when the folder loads, sent as the reviewers saw them, without the blanks.

use claimbound_core::claims::{Claims, Value};

/// AWS takes no more characters of an inline session policy, blanks counted.
pub const POLICY_CHARACTERS_MAX: usize = 2048;

/// Why a session policy cannot be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing that AWS would take as a session policy.
    Unfit(String),
    /// So many characters without blanks.
    TooLong(usize),
}

/// The policy without blanks between its tokens. Nothing else is changed, so what is sent says what was reviewed.
///
/// # Errors
/// What AWS would refuse at every exchange.
pub fn judge(text: &str) -> Result<String, Fault> {
    let unfit = |why: &str| Err(Fault::Unfit(why.to_owned()));
    let policy = match Claims::parse(text.as_bytes()) {
        Ok(policy) => policy,
        Err(error) => return Err(Fault::Unfit(format!("it is not one JSON object that can be read one way: {error}"))),
    };
    if let Some((key, _)) = policy.iter().find(|(key, _)| !matches!(*key, "Version" | "Id" | "Statement")) {
        return Err(Fault::Unfit(format!("`{key}` is no element of a policy; there are `Version`, `Id`, `Statement`")));
    }
    if !matches!(policy.get("Version").and_then(Value::as_text), Some("2012-10-17" | "2008-10-17")) {
        return unfit("it has no `\"Version\": \"2012-10-17\"`; without it AWS reads a policy by the rules of 2008");
    }
    let statements = match policy.get("Statement").map(Value::to_json) {
        Some(serde_json::Value::Array(list)) => list,
        Some(one @ serde_json::Value::Object(_)) => vec![one],
        _ => return unfit("it has no `Statement`"),
    };
    if statements.is_empty() {
        return unfit("its `Statement` is empty: a session could do nothing");
    }
    for statement in &statements {
        statement_fault(statement).map_or(Ok(()), |why| Err(Fault::Unfit(why)))?;
    }
    let minified = minify(text);
    if let Some(letter) = minified.chars().find(|letter| !matches!(letter, '\u{20}'..='\u{ff}')) {
        return Err(Fault::Unfit(format!("AWS takes no {letter:?} in a session policy")));
    }
    match minified.chars().count() {
        length if length > POLICY_CHARACTERS_MAX => Err(Fault::TooLong(length)),
        _ => Ok(minified),
    }
}

fn statement_fault(statement: &serde_json::Value) -> Option<String> {
    let Some(statement) = statement.as_object() else { return Some("a statement is no object".to_owned()) };
    if !matches!(statement.get("Effect").and_then(|effect| effect.as_str()), Some("Allow" | "Deny")) {
        return Some("a statement's `Effect` is neither `Allow` nor `Deny`".to_owned());
    }
    for (one, other) in [("Action", "NotAction"), ("Resource", "NotResource")] {
        if statement.contains_key(one) == statement.contains_key(other) {
            return Some(format!("a statement has `{one}` or `{other}`, one of them"));
        }
    }
    let known = ["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"];
    let stranger = statement.keys().find(|key| !known.contains(&key.as_str()))?;
    Some(match stranger.as_str() {
        "Principal" | "NotPrincipal" => "a session policy has no `Principal`: it narrows the role's own".to_owned(),
        _ => format!("a statement has no `{stranger}`"),
    })
}

/// JSON without blanks outside its strings.
fn minify(text: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    let keep = |letter: &char| {
        match (inside, escaped, letter) {
            (true, true, _) => escaped = false,
            (true, false, '\\') => escaped = true,
            (_, _, '"') => inside = !inside,
            _ => {}
        }
        inside || !matches!(letter, ' ' | '\t' | '\n' | '\r')
    };
    text.chars().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(statement: &str) -> String {
        format!(r#"{{ "Version": "2012-10-17", "Statement": [ {statement} ] }}"#)
    }

    #[test]
    fn blanks_go_and_nothing_else_does() {
        let text = "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [{\"Sid\": \"a \\\" b\\\\\", \"Effect\": \"Allow\", \"Action\": \"s3:*\", \"Resource\": \"*\" }]\r\n}";
        assert_eq!(
            judge(text).unwrap(),
            r#"{"Version":"2012-10-17","Statement":[{"Sid":"a \" b\\","Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#
        );
        let before: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(before, serde_json::from_str::<serde_json::Value>(&judge(text).unwrap()).unwrap());
    }

    #[test]
    fn what_aws_would_refuse_does_not_load() {
        for (text, why) in [
            ("[]".to_owned(), "JSON object"),
            (r#"{"Statement":[]}"#.to_owned(), "Version"),
            (r#"{"Version":"2012-10-17"}"#.to_owned(), "no `Statement`"),
            (r#"{"Version":"2012-10-17","Statement":[]}"#.to_owned(), "empty"),
            (r#"{"Version":"2012-10-17","Statement":[1]}"#.to_owned(), "no object"),
            (r#"{"Version":"2012-10-17","Statements":[]}"#.to_owned(), "`Statements` is no element"),
            (r#"{"Version":"2012-10-17","Version":"2008-10-17","Statement":[]}"#.to_owned(), "one way"),
            (with(r#"{"Effect":"allow","Action":"*","Resource":"*"}"#), "Effect"),
            (with(r#"{"Effect":"Allow","Resource":"*"}"#), "`Action`"),
            (with(r#"{"Effect":"Allow","Action":"*","NotAction":"*","Resource":"*"}"#), "`Action`"),
            (with(r#"{"Effect":"Allow","Action":"*"}"#), "`Resource`"),
            (with(r#"{"Effect":"Allow","Action":"*","Resource":"*","Principal":"*"}"#), "`Principal`"),
            (with(r#"{"Effect":"Allow","Action":"*","Resource":"*","Conditions":{}}"#), "`Conditions`"),
            (with(r#"{"Effect":"Allow","Effect":"Deny","Action":"*","Resource":"*"}"#), "one way"),
            (with(r#"{"Effect":"Allow","Action":"*","Resource":"\u65e5日"}"#), "takes no"),
        ] {
            match judge(&text) {
                Err(Fault::Unfit(told)) => assert!(told.contains(why), "{text}: {told}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn length_counts_without_blanks() {
        let bare = judge(&with(r#"{"Effect":"Allow","Action":"*","Resource":""}"#)).unwrap().len();
        let of = |length: usize| {
            let resource = "x".repeat(length - bare);
            judge(&with(&format!(r#"{{"Effect":"Allow","Action":"*",     "Resource":"{resource}"}}"#)))
        };
        assert_eq!(of(POLICY_CHARACTERS_MAX).unwrap().len(), POLICY_CHARACTERS_MAX);
        assert_eq!(of(POLICY_CHARACTERS_MAX + 1), Err(Fault::TooLong(POLICY_CHARACTERS_MAX + 1)));
    }
}
