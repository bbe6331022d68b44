//! JSON objects as Go's `encoding/json` wrote them in 2017: no spaces, fields in the order given,
//! and `<`, `>`, `&`, U+2028 and U+2029 escaped, so that the text may stand in HTML and JavaScript.

use std::fmt::Write as _;

/// An object that is being written.
pub struct Object {
    text: String,
}

impl Object {
    /// An object without fields.
    pub fn new() -> Self {
        Object {
            text: String::from("{"),
        }
    }

    /// Adds a text field.
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        push_text(&mut self.text, value);
        self
    }

    /// Adds a text field unless it is empty.
    pub fn text_if_any(self, name: &str, value: &str) -> Self {
        if value.is_empty() {
            self
        } else {
            self.text(name, value)
        }
    }

    /// Adds a list of texts unless it is empty.
    pub fn list_if_any(mut self, name: &str, values: &[String]) -> Self {
        if values.is_empty() {
            return self;
        }
        self.name(name);
        for (index, value) in values.iter().enumerate() {
            self.text.push(if index == 0 { '[' } else { ',' });
            push_text(&mut self.text, value);
        }
        self.text.push(']');
        self
    }

    /// The finished text.
    pub fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }

    fn name(&mut self, name: &str) {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        push_text(&mut self.text, name);
        self.text.push(':');
    }
}

fn push_text(text: &mut String, value: &str) {
    text.push('"');
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                write!(text, "\\u{:04x}", u32::from(character))
                    .expect("writing to a String cannot fail");
            }
            _ => text.push(character),
        }
    }
    text.push('"');
}
