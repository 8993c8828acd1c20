//! The part of CEL that attribute conditions are mostly made of: `==`, `in [ … ]`, `startsWith`, `has`, `&&` and `||` over
//! `assertion.NAME` and `attribute.NAME`. Anything else is an error; negations and functions above all.

use super::pattern::{Part, Pattern};

const DEPTH_MAX: usize = 16;

/// An expression in these terms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cel {
    /// All of them hold.
    And(Vec<Cel>),
    /// One of them holds.
    Or(Vec<Cel>),
    /// The claim or attribute is any of these.
    Is(Path, Vec<Pattern>),
    /// It is there.
    Has(Path),
}

/// What an expression speaks of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Path {
    Assertion(String),
    /// By its whole name, `attribute.repository` or `google.subject`.
    Attribute(String),
}

/// Reads an expression.
///
/// # Errors
/// What stands in it beyond these terms.
pub fn parse(text: &str) -> Result<Cel, String> {
    let tokens = tokens(text)?;
    let mut reader = Reader { rest: &tokens };
    let found = reader.any(0)?;
    match reader.rest.first() {
        None => Ok(found),
        Some(token) => Err(format!("`{}` stands where it has no counterpart", token.text())),
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    Name(String),
    Text(String),
    Sign(&'static str),
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Name(text) | Self::Text(text) => text,
            Self::Sign(sign) => sign,
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    const SIGNS: [&str; 9] = ["&&", "||", "==", "(", ")", "[", "]", ",", "."];
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            found.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        } else if first == '\'' || first == '"' {
            let (text, after) = rest[1..].split_once(first).ok_or("a text without its end")?;
            if text.contains('\\') || text.contains('\n') {
                return Err("escapes in texts have no counterpart".to_owned());
            }
            if found.last().is_some_and(|before| matches!(before, Token::Name(name) if name != "in")) {
                return Err("raw texts and bytes have no counterpart".to_owned());
            }
            found.push(Token::Text(text.to_owned()));
            rest = after;
        } else {
            let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(rest.len());
            if end == 0 || first.is_ascii_digit() {
                return Err(format!("`{first}` has no counterpart"));
            }
            found.push(Token::Name(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Ok(found)
}

struct Reader<'t> {
    rest: &'t [Token],
}

impl Reader<'_> {
    fn next_if(&mut self, sign: &'static str) -> bool {
        let is = self.rest.first() == Some(&Token::Sign(sign));
        if is {
            self.rest = &self.rest[1..];
        }
        is
    }
    fn expect(&mut self, sign: &'static str) -> Result<(), String> {
        if self.next_if(sign) { Ok(()) } else { Err(format!("`{sign}` is missing")) }
    }
    fn next(&mut self) -> Result<Token, String> {
        let (first, rest) = self.rest.split_first().ok_or("it ends too early")?;
        self.rest = rest;
        Ok(first.clone())
    }

    fn any(&mut self, depth: usize) -> Result<Cel, String> {
        if depth > DEPTH_MAX {
            return Err(format!("it is nested deeper than {DEPTH_MAX}"));
        }
        let mut all = vec![self.all(depth)?];
        while self.next_if("||") {
            all.push(self.all(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Cel::Or(all) })
    }

    fn all(&mut self, depth: usize) -> Result<Cel, String> {
        let mut all = vec![self.one(depth)?];
        while self.next_if("&&") {
            all.push(self.one(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Cel::And(all) })
    }

    fn one(&mut self, depth: usize) -> Result<Cel, String> {
        if self.next_if("(") {
            let found = self.any(depth + 1)?;
            self.expect(")")?;
            return Ok(found);
        }
        match self.next()? {
            Token::Name(name) if name == "has" => {
                self.expect("(")?;
                let first = self.next()?;
                let (path, _) = self.path(first)?;
                self.expect(")")?;
                Ok(Cel::Has(path))
            }
            Token::Text(text) => {
                self.expect("==")?;
                let first = self.next()?;
                let (path, call) = self.path(first)?;
                if call.is_some() { Err("a call has no counterpart here".to_owned()) } else { Ok(is(path, &[text])) }
            }
            first => self.comparison(first),
        }
    }

    fn comparison(&mut self, first: Token) -> Result<Cel, String> {
        let (path, call) = self.path(first)?;
        if let Some(call) = call {
            if call != "startsWith" {
                return Err(format!("`{call}` has no counterpart"));
            }
            self.expect("(")?;
            let Token::Text(prefix) = self.next()? else { return Err("`startsWith` takes a text".to_owned()) };
            self.expect(")")?;
            return Ok(Cel::Is(path, vec![[Part::Text(prefix), Part::Any].into_iter().collect()]));
        }
        if self.next_if("==") {
            return match self.next()? {
                Token::Text(text) => Ok(is(path, &[text])),
                Token::Name(name) if matches!(name.as_str(), "true" | "false") => Ok(is(path, &[name])),
                token => Err(format!("`{}` is no text to compare with", token.text())),
            };
        }
        match self.next()? {
            Token::Name(name) if name == "in" => {}
            token => return Err(format!("`{}` has no counterpart", token.text())),
        }
        self.expect("[")?;
        let mut texts = Vec::new();
        loop {
            let Token::Text(text) = self.next()? else { return Err("a list holds texts".to_owned()) };
            texts.push(text);
            if self.next_if("]") {
                return Ok(is(path, &texts));
            }
            self.expect(",")?;
        }
    }

    /// `assertion.NAME`, with the name of a call that follows.
    fn path(&mut self, first: Token) -> Result<(Path, Option<String>), String> {
        let Token::Name(root) = first else { return Err(format!("`{}` has no counterpart", first.text())) };
        let name = |reader: &mut Self| match reader.next()? {
            Token::Name(name) => Ok(name),
            token => Err(format!("`{}` is no name", token.text())),
        };
        if !matches!(root.as_str(), "assertion" | "attribute" | "google") {
            return Err(format!("`{root}` has no counterpart"));
        }
        let member = if self.next_if("[") {
            let Token::Text(member) = self.next()? else { return Err("`[ … ]` holds a text".to_owned()) };
            self.expect("]")?;
            member
        } else {
            self.expect(".")?;
            name(self)?
        };
        let path =
            if root == "assertion" { Path::Assertion(member) } else { Path::Attribute(format!("{root}.{member}")) };
        let call = if self.next_if(".") { Some(name(self)?) } else { None };
        Ok((path, call))
    }
}

fn is(path: Path, texts: &[String]) -> Cel {
    Cel::Is(path, texts.iter().map(|text| Pattern::exact(text)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_conditions_are_read() {
        let owner = |text: &str| is(Path::Assertion("repository_owner".to_owned()), &[text.to_owned()]);
        assert_eq!(parse("assertion.repository_owner == 'acme'"), Ok(owner("acme")));
        assert_eq!(parse("'acme' == assertion['repository_owner']"), Ok(owner("acme")));
        let both = parse(
            "(assertion.repository_owner==\"acme\" || attribute.ref.startsWith('refs/heads/')) && has(assertion.environment)",
        );
        let starts = Pattern::star("refs/heads/*");
        assert_eq!(
            both,
            Ok(Cel::And(vec![
                Cel::Or(vec![owner("acme"), Cel::Is(Path::Attribute("attribute.ref".to_owned()), vec![starts])]),
                Cel::Has(Path::Assertion("environment".to_owned())),
            ]))
        );
        let listed = parse("assertion.repository_owner in ['a', 'b']");
        assert_eq!(listed, Ok(is(Path::Assertion("repository_owner".to_owned()), &["a".to_owned(), "b".to_owned()])));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "assertion.ref != 'x'",
            "!has(assertion.x)",
            "assertion.ref.matches('x')",
            "assertion.ref.endsWith('x')",
            "true",
            "assertion.a == assertion.b",
            "assertion.a == 'x' ? true : false",
            "size(assertion.a) == 1",
            "assertion.a == 1",
            "assertion.a in []",
            "assertion.a == r'x'",
            r"assertion.a == 'x\'y'",
            "assertion.a == 'x' 'y'",
            "assertion.a.b == 'x'",
            "assertion.a",
            "",
            "(assertion.a == 'x'",
            "assertion.a == 'x' &&",
            "'x' in assertion.groups",
            "((((((((((((((((((assertion.a == 'x'))))))))))))))))))",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
    }
}
