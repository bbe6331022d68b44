//! The reader: one pass over the text, with bounded depth.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::JsonValue;

/// The limits of a document. Fractions and exponents are refused in all documents: nothing on the
/// ledger has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonRules {
    /// Largest number of objects and lists within each other.
    pub depth_max: usize,
    pub numbers: RangeInclusive<i128>,
}

/// The first place where a text is not JSON of the allowed kind, and why not.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("byte {at}: {problem}")]
pub struct JsonError {
    /// Offset in bytes.
    pub at: usize,
    pub problem: JsonProblem,
}

/// Why a text is not JSON of the allowed kind.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum JsonProblem {
    #[error("a value was expected")]
    NoValue,
    #[error("'{}' was expected", char::from(*.0))]
    Expected(u8),
    #[error("the text goes on after the value")]
    Trailing,
    #[error("the nesting is deeper than {max}")]
    TooDeep { max: usize },
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

/// Parses a JSON text.
///
/// # Errors
/// The first place where it is not JSON of the allowed kind.
pub fn parse(text: &str, rules: &JsonRules) -> Result<JsonValue, JsonError> {
    let mut parser = Parser { text, at: 0, rules };
    let value = parser.value(0)?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(parser.error(JsonProblem::Trailing));
    }
    Ok(value)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    rules: &'a JsonRules,
}

impl Parser<'_> {
    fn error(&self, problem: JsonProblem) -> JsonError {
        JsonError {
            at: self.at,
            problem,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn skip_byte(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect_byte(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.skip_byte(byte) {
            Ok(())
        } else {
            Err(self.error(JsonProblem::Expected(byte)))
        }
    }

    fn value(&mut self, depth: usize) -> Result<JsonValue, JsonError> {
        self.skip_space();
        match self.peek() {
            Some(b'{' | b'[') if depth >= self.rules.depth_max => {
                let max = self.rules.depth_max;
                Err(self.error(JsonProblem::TooDeep { max }))
            }
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.list(depth + 1),
            Some(b'"') => Ok(JsonValue::Text(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<JsonValue, JsonError> {
        let words = [
            ("null", JsonValue::Null),
            ("true", JsonValue::Bool(true)),
            ("false", JsonValue::Bool(false)),
        ];
        for (word, value) in words {
            if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.error(JsonProblem::NoValue))
    }

    fn object(&mut self, depth: usize) -> Result<JsonValue, JsonError> {
        self.expect_byte(b'{')?;
        let mut members = BTreeMap::new();
        self.skip_space();
        if self.skip_byte(b'}') {
            return Ok(JsonValue::Object(members));
        }
        loop {
            self.skip_space();
            let name_at = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.error(JsonProblem::Expected(b'"')));
            }
            let name = self.string()?;
            self.skip_space();
            self.expect_byte(b':')?;
            let value = self.value(depth)?;
            if members.insert(name, value).is_some() {
                return Err(JsonError {
                    at: name_at,
                    problem: JsonProblem::Repeated,
                });
            }
            self.skip_space();
            if !self.skip_byte(b',') {
                self.expect_byte(b'}')?;
                return Ok(JsonValue::Object(members));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<JsonValue, JsonError> {
        self.expect_byte(b'[')?;
        let mut items = Vec::new();
        self.skip_space();
        if self.skip_byte(b']') {
            return Ok(JsonValue::List(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.skip_space();
            if !self.skip_byte(b',') {
                self.expect_byte(b']')?;
                return Ok(JsonValue::List(items));
            }
        }
    }

    fn number(&mut self) -> Result<JsonValue, JsonError> {
        let start = self.at;
        let negative = self.skip_byte(b'-');
        let digits_at = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        let digits = &self.text[digits_at..self.at];
        let leading_zero = digits.starts_with('0') && (digits.len() > 1 || negative);
        let is_fraction = matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        if digits.is_empty() || leading_zero || is_fraction {
            return Err(JsonError {
                at: start,
                problem: JsonProblem::NotWhole,
            });
        }
        let number = self.text[start..self.at].parse().ok();
        let number = number.filter(|number| self.rules.numbers.contains(number));
        number.map(JsonValue::Number).ok_or(JsonError {
            at: start,
            problem: JsonProblem::TooLarge,
        })
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.expect_byte(b'"')?;
        let mut text = String::new();
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
            let plain = rest.iter().position(is_special).unwrap_or(rest.len());
            text.push_str(&self.text[self.at..self.at + plain]);
            self.at += plain;
            match self.peek() {
                None => return Err(self.error(JsonProblem::Unclosed)),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => return Err(self.error(JsonProblem::ControlCharacter)),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.expect_byte(b'\\')?;
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
            _ => return Err(self.error(JsonProblem::Escape)),
        };
        self.at += 1;
        Ok(c)
    }

    /// One character as `uXXXX`, or as two such that are a surrogate pair.
    fn unicode(&mut self) -> Result<char, JsonError> {
        let first = self.unit()?;
        let mut units = vec![first];
        if (0xd800..0xdc00).contains(&first) {
            if !self.skip_byte(b'\\') {
                return Err(self.error(JsonProblem::Escape));
            }
            units.push(self.unit()?);
        }
        match &char::decode_utf16(units).collect::<Vec<_>>()[..] {
            [Ok(c)] => Ok(*c),
            _ => Err(self.error(JsonProblem::Escape)),
        }
    }

    fn unit(&mut self) -> Result<u16, JsonError> {
        let digits = self.text.as_bytes().get(self.at + 1..self.at + 5);
        let digits = digits.filter(|_| self.peek() == Some(b'u'));
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits else {
            return Err(self.error(JsonProblem::Escape));
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
