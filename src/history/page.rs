//! A comment on a pull request: whoever wrote the folder's texts writes no Markdown here.

/// A comment may be no longer: GitHub takes 65,536 characters.
pub const COMMENT_BYTES_MAX: usize = 60_000;
/// Kept for what is said at the end.
const END_BYTES: usize = 400;
/// Bytes of one text of the folder.
const TEXT_BYTES_MAX: usize = 1_000;

/// A comment within its bound.
pub struct Page {
    text: String,
    left_out: usize,
}

impl Page {
    pub fn new(heading: String) -> Self {
        Self { text: heading, left_out: 0 }
    }

    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        self.left_out > 0
    }

    /// Closes what was opened, whether or not it fits.
    pub fn close(&mut self, part: &str) {
        self.text.push_str(part);
    }

    /// A part goes in whole or not at all.
    pub fn put(&mut self, part: &str) {
        if self.left_out == 0 && self.text.len() + part.len() + END_BYTES <= COMMENT_BYTES_MAX {
            self.text.push_str(part);
        } else {
            self.left_out += 1;
        }
    }

    /// `command`: what shows the rest.
    pub fn end(mut self, command: &str) -> String {
        if self.left_out > 0 {
            let more = self.left_out;
            self.text.push_str(&format!("\n{more} lines more do not fit here; `{command}` shows all.\n"));
        }
        self.text
    }
}

pub fn code(text: &str) -> String {
    format!("<code>{}</code>", inert(text))
}

/// A sentence with names in backticks.
pub fn prose(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in cut(text).split('`').enumerate() {
        match at % 2 {
            0 => out.push_str(&inert(part)),
            _ => out.push_str(&code(part)),
        }
    }
    out
}

/// Text that is nothing but text, in a table's cell, too.
fn inert(text: &str) -> String {
    let mut out = String::new();
    for letter in cut(text).chars() {
        match letter {
            ' ' | '-' | '.' | ',' | ':' | ';' | '/' | '=' | '(' | ')' => out.push(letter),
            _ if letter.is_alphanumeric() => out.push(letter),
            _ if letter.is_control() => out.push(' '),
            _ => out.push_str(&format!("&#{};", u32::from(letter))),
        }
    }
    out
}

fn cut(text: &str) -> String {
    match text.char_indices().find(|(at, _)| *at >= TEXT_BYTES_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_folder_are_inert() {
        assert_eq!(inert("a|b<img>@x_y\n*"), "a&#124;b&#60;img&#62;&#64;x&#95;y &#42;");
        assert_eq!(prose("by `a` and `b"), "by <code>a</code> and <code>b</code>");
        assert!(inert(&"é".repeat(9_000)).len() <= TEXT_BYTES_MAX + 10);
    }
}
