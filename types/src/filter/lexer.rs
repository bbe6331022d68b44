//! The signs of a filter, with their places.

use super::{FilterError, FilterFault, Operator};

/// Operators as they are written; those that begin others stand after them.
const OPERATORS: [(&str, Word); 11] = [
    ("==", Word::Compare(Operator::Equal)),
    ("!=", Word::Compare(Operator::NotEqual)),
    ("=lt=", Word::Compare(Operator::Less)),
    ("=le=", Word::Compare(Operator::AtMost)),
    ("=gt=", Word::Compare(Operator::More)),
    ("=ge=", Word::Compare(Operator::AtLeast)),
    ("=in=", Word::In),
    ("=out=", Word::Out),
    ("<=", Word::Compare(Operator::AtMost)),
    (">=", Word::Compare(Operator::AtLeast)),
    ("<", Word::Compare(Operator::Less)),
];

/// An operator between a field and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Compare(Operator),
    In,
    Out,
}

/// A text with its place.
pub(super) struct Value {
    pub text: String,
    pub position: usize,
    /// It stood in quotes: a `*` in it is a sign like others.
    pub is_quoted: bool,
}

/// The rest of a filter that is not read yet.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The place of the next sign, counted in characters from 1.
    pub fn position(&self) -> usize {
        self.text[..self.at].chars().count() + 1
    }

    pub fn error(&self, fault: FilterFault) -> FilterError {
        FilterError {
            position: self.position(),
            fault,
        }
    }

    /// What is not read yet.
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The next sign.
    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(' ').len();
    }

    /// Reads a sign if it is the next one but for blanks.
    pub fn accept(&mut self, sign: char) -> bool {
        let rest = self.rest().trim_start_matches(' ');
        let after = rest.strip_prefix(sign);
        if let Some(after) = after {
            self.at = self.text.len() - after.len();
        }
        after.is_some()
    }

    /// Reads a word between blanks, as ` and `, if it is the next one.
    pub fn accept_word(&mut self, word: &str) -> bool {
        let rest = self.rest();
        let found = rest
            .trim_start_matches(' ')
            .strip_prefix(word)
            .filter(|after| after.starts_with(' ') && rest.starts_with(' '));
        if let Some(after) = found {
            self.at = self.text.len() - after.len();
        }
        found.is_some()
    }

    /// Reads the name of a field.
    pub fn name(&mut self) -> Result<Value, FilterError> {
        self.skip_blanks();
        let wanted = "a field";
        self.plain(
            |sign| sign.is_ascii_alphanumeric() || "._-".contains(sign),
            wanted,
        )
    }

    pub fn operator(&mut self) -> Result<Word, FilterError> {
        self.skip_blanks();
        let rest = self.rest();
        let more = (">", Word::Compare(Operator::More));
        for (written, word) in OPERATORS.into_iter().chain([more]) {
            if rest.starts_with(written) {
                self.at += written.len();
                return Ok(word);
            }
        }
        let wanted = "an operator (== != =lt= =le= =gt= =ge= =in= =out=)";
        let fault = match rest.chars().next() {
            None => FilterFault::Missing { wanted },
            Some('=' | '!' | '~') => {
                let end = rest[1..].find('=').map_or(rest.len().min(4), |end| end + 2);
                FilterFault::UnknownOperator(rest.chars().take(end).collect())
            }
            Some(got) => FilterFault::Unexpected { got, wanted },
        };
        Err(self.error(fault))
    }

    /// Reads a value, in quotes or without.
    pub fn value(&mut self) -> Result<Value, FilterError> {
        self.skip_blanks();
        match self.peek() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote),
            _ => self.plain(is_plain, "a value"),
        }
    }

    fn plain(
        &mut self,
        accepts: impl Fn(char) -> bool,
        wanted: &'static str,
    ) -> Result<Value, FilterError> {
        let (rest, position) = (self.rest(), self.position());
        let end = rest.find(|sign| !accepts(sign)).unwrap_or(rest.len());
        if end == 0 {
            let missing = FilterFault::Missing { wanted };
            return Err(self.error(match rest.chars().next() {
                Some(got) if !")(;,".contains(got) => FilterFault::Unexpected { got, wanted },
                _ => missing,
            }));
        }
        self.at += end;
        Ok(Value {
            text: rest[..end].to_owned(),
            position,
            is_quoted: false,
        })
    }

    fn quoted(&mut self, quote: char) -> Result<Value, FilterError> {
        let open = self.error(FilterFault::OpenQuote);
        let (mut text, mut is_escaped) = (String::new(), false);
        for (at, sign) in self.rest().char_indices().skip(1) {
            if is_escaped || (sign != quote && sign != '\\') {
                text.push(sign);
                is_escaped = false;
            } else if sign == '\\' {
                is_escaped = true;
            } else {
                self.at += at + sign.len_utf8();
                return Ok(Value {
                    text,
                    position: open.position,
                    is_quoted: true,
                });
            }
        }
        Err(open)
    }
}

fn is_plain(sign: char) -> bool {
    sign.is_alphanumeric() || "._-/:+*~@".contains(sign)
}
