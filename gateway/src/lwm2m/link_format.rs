//! Link format (RFC 6690), as a Thing lists its objects: `</3/0>,</5/0>;ver=1.1`.

use thiserror::Error;

/// Most attributes of one link.
pub const ATTRIBUTES_MAX: usize = 16;
/// Longest document in bytes. It bounds the number of links too: a gateway of other devices may
/// list hundreds, and the longest body that is put together from blocks has as many bytes.
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// One link and its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What is between the angle brackets.
    pub target: String,
    /// Names with their values, quotes removed.
    pub attributes: Vec<(String, Option<String>)>,
}

/// Why a document is not in link format.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkError {
    /// Too long.
    #[error("link document of {0} bytes, the limit is {DOCUMENT_BYTES_MAX}")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("link document is not UTF-8")]
    NotText,
    /// Too many attributes.
    #[error("more than {ATTRIBUTES_MAX} attributes of one link")]
    TooMany,
    /// Not `<target>;name=value,...`.
    #[error("link document is malformed at byte {0}")]
    Malformed(usize),
}

/// Parses a document.
pub fn parse(document: &[u8]) -> Result<Vec<Link>, LinkError> {
    if document.len() > DOCUMENT_BYTES_MAX {
        return Err(LinkError::TooLong(document.len()));
    }
    let text = std::str::from_utf8(document).map_err(|_| LinkError::NotText)?;
    let mut parser = Parser { text, at: 0 };
    let mut links = Vec::new();
    if text.trim().is_empty() {
        return Ok(links);
    }
    loop {
        links.push(parser.link()?);
        if !parser.take(',') {
            break;
        }
    }
    if parser.at == text.len() {
        Ok(links)
    } else {
        Err(parser.malformed())
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn link(&mut self) -> Result<Link, LinkError> {
        self.skip_spaces();
        if !self.take('<') {
            return Err(self.malformed());
        }
        let target = self.until('>')?.to_owned();
        let mut attributes = Vec::new();
        self.skip_spaces();
        while self.take(';') {
            if attributes.len() >= ATTRIBUTES_MAX {
                return Err(LinkError::TooMany);
            }
            attributes.push(self.attribute()?);
            self.skip_spaces();
        }
        Ok(Link { target, attributes })
    }

    fn attribute(&mut self) -> Result<(String, Option<String>), LinkError> {
        self.skip_spaces();
        let name = self.word().to_owned();
        if name.is_empty() {
            return Err(self.malformed());
        }
        if !self.take('=') {
            return Ok((name, None));
        }
        let value = if self.take('"') {
            self.until('"')?
        } else {
            self.word()
        };
        Ok((name, Some(value.to_owned())))
    }

    fn word(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let ends = |c: char| matches!(c, ';' | ',' | '=' | '"' | '<' | '>') || c.is_whitespace();
        let word = &rest[..rest.find(ends).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn until(&mut self, end: char) -> Result<&'a str, LinkError> {
        let rest = &self.text[self.at..];
        let length = rest.find(end).ok_or(self.malformed())?;
        self.at += length + end.len_utf8();
        Ok(&rest[..length])
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.text[self.at..].starts_with(wanted);
        self.at += if found { wanted.len_utf8() } else { 0 };
        found
    }

    fn skip_spaces(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn malformed(&self) -> LinkError {
        LinkError::Malformed(self.at)
    }
}
