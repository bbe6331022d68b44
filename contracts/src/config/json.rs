//! JSON (RFC 8259) as configuration may have it, read and written in one way only.
//!
//! Read by hand: whether a document is accepted must not depend on the version or the features of
//! a library.

use std::collections::BTreeMap;
use std::fmt::Write;

use lamplighter_types::limits::CONFIG_DEPTH_MAX;

/// A JSON value without fractions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(i64),
    Text(String),
    List(Vec<Value>),
    Object(BTreeMap<String, Value>),
}

/// Where a text is not JSON of the allowed kind, and why not.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("byte {at}: {problem}")]
pub struct JsonError {
    /// Offset in bytes.
    pub at: usize,
    pub problem: Problem,
}

#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Problem {
    #[error("a value was expected")]
    Value,
    #[error("{:?} was expected", char::from(*.0))]
    Expected(u8),
    #[error("the text goes on after the value")]
    Trailing,
    #[error("the nesting is deeper than {CONFIG_DEPTH_MAX}")]
    TooDeep,
    #[error("only whole numbers are allowed, without leading zero or exponent")]
    NotWhole,
    #[error("the number does not fit into 64 bits")]
    TooLarge,
    #[error("the string is not closed")]
    Unclosed,
    #[error("a control character must be escaped")]
    ControlCharacter,
    #[error("the escape is unknown or stands for no character")]
    Escape,
    #[error("the name occurs twice in its object")]
    Repeated,
}

/// Reads a JSON text.
///
/// # Errors
/// The first place where it is not JSON of the allowed kind.
pub fn parse(text: &str) -> Result<Value, JsonError> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(0)?;
    parser.space();
    if parser.at < text.len() {
        return Err(parser.error(Problem::Trailing));
    }
    Ok(value)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self, problem: Problem) -> JsonError {
        JsonError {
            at: self.at,
            problem,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    fn require(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(self.error(Problem::Expected(byte)))
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.space();
        match self.peek() {
            Some(b'{' | b'[') if depth >= CONFIG_DEPTH_MAX => Err(self.error(Problem::TooDeep)),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.list(depth + 1),
            Some(b'"') => Ok(Value::Text(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Value, JsonError> {
        let words = [
            ("null", Value::Null),
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
        ];
        for (word, value) in words {
            if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.error(Problem::Value))
    }

    fn object(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.require(b'{')?;
        let mut members = BTreeMap::new();
        self.space();
        if self.take(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.space();
            let name_at = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.error(Problem::Expected(b'"')));
            }
            let name = self.string()?;
            self.space();
            self.require(b':')?;
            let value = self.value(depth)?;
            if members.insert(name, value).is_some() {
                return Err(JsonError {
                    at: name_at,
                    problem: Problem::Repeated,
                });
            }
            self.space();
            if !self.take(b',') {
                self.require(b'}')?;
                return Ok(Value::Object(members));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.require(b'[')?;
        let mut items = Vec::new();
        self.space();
        if self.take(b']') {
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.space();
            if !self.take(b',') {
                self.require(b']')?;
                return Ok(Value::List(items));
            }
        }
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.at;
        let negative = self.take(b'-');
        let digits_at = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        let digits = &self.text[digits_at..self.at];
        let leading_zero = digits.starts_with('0') && (digits.len() > 1 || negative);
        let goes_on = matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        if digits.is_empty() || leading_zero || goes_on {
            return Err(JsonError {
                at: start,
                problem: Problem::NotWhole,
            });
        }
        let number = self.text[start..self.at].parse();
        number.map(Value::Number).map_err(|_| JsonError {
            at: start,
            problem: Problem::TooLarge,
        })
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.require(b'"')?;
        let mut text = String::new();
        loop {
            let Some(c) = self.text[self.at..].chars().next() else {
                return Err(self.error(Problem::Unclosed));
            };
            match c {
                '"' => {
                    self.at += 1;
                    return Ok(text);
                }
                '\\' => text.push(self.escape()?),
                '\0'..='\u{1f}' => return Err(self.error(Problem::ControlCharacter)),
                other => {
                    text.push(other);
                    self.at += other.len_utf8();
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.require(b'\\')?;
        let c = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.error(Problem::Escape)),
        };
        self.at += 1;
        Ok(c)
    }

    /// One character as `uXXXX`, or as two such that are a surrogate pair.
    fn unicode(&mut self) -> Result<char, JsonError> {
        let first = self.unit()?;
        let mut units = vec![first];
        if (0xd800..0xdc00).contains(&first) {
            if !self.take(b'\\') {
                return Err(self.error(Problem::Escape));
            }
            units.push(self.unit()?);
        }
        match &char::decode_utf16(units).collect::<Vec<_>>()[..] {
            [Ok(c)] => Ok(*c),
            _ => Err(self.error(Problem::Escape)),
        }
    }

    fn unit(&mut self) -> Result<u16, JsonError> {
        let digits = self.text.as_bytes().get(self.at + 1..self.at + 5);
        let digits = digits.filter(|_| self.peek() == Some(b'u'));
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits else {
            return Err(self.error(Problem::Escape));
        };
        self.at += 5;
        let digit = |b: &u8| match b {
            b'0'..=b'9' => b - b'0',
            b'a'..=b'f' => b - b'a' + 10,
            _ => b - b'A' + 10,
        };
        Ok(digits
            .iter()
            .fold(0, |unit, b| unit << 4 | u16::from(digit(b))))
    }
}

impl Value {
    /// Merges `patch` into this value (RFC 7396): objects member by member, `null` removes, all
    /// else replaces.
    pub fn merge(&mut self, patch: Value) {
        let Value::Object(changes) = patch else {
            *self = patch;
            return;
        };
        if !matches!(self, Value::Object(_)) {
            *self = Value::Object(BTreeMap::new());
        }
        let Value::Object(members) = self else {
            unreachable!("made an object above");
        };
        for (name, change) in changes {
            if change == Value::Null {
                members.remove(&name);
            } else {
                members.entry(name).or_insert(Value::Null).merge(change);
            }
        }
    }

    /// The one text of this value.
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) {
        match self {
            Value::Null => text.push_str("null"),
            Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Value::Number(number) => text.push_str(&number.to_string()),
            Value::Text(string) => write_string(text, string),
            Value::List(items) => {
                text.push('[');
                for (at, item) in items.iter().enumerate() {
                    separate(text, at);
                    item.write(text);
                }
                text.push(']');
            }
            Value::Object(members) => {
                text.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    separate(text, at);
                    write_string(text, name);
                    text.push(':');
                    value.write(text);
                }
                text.push('}');
            }
        }
    }
}

fn separate(text: &mut String, at: usize) {
    if at > 0 {
        text.push(',');
    }
}

fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\0'..='\u{1f}' => {
                write!(text, "\\u{:04x}", u32::from(c)).expect("writing to a string can't fail");
            }
            other => text.push(other),
        }
    }
    text.push('"');
}
