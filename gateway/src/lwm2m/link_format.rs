//! The CoRE link format (RFC 6690) in which a Thing lists its objects: `</3/0>,</5/0>;ver=1.1`.
//!
//! `coap-lite` parses it in one pass over the text and never panics, but it is lenient: it accepts
//! a bracket or a quote that is never closed, text between a link and its first attribute, and
//! stray semicolons. This module refuses those and bounds the document and the attributes of a
//! link. Values are unquoted with `to_string`, because `Unquote::to_cow` of `coap-lite` panics on
//! a quote that is never closed.

use coap_lite::link_format::LinkFormatParser;
use thiserror::Error;

/// Most attributes of one link.
pub const ATTRIBUTES_MAX: usize = 16;
/// Longest document in bytes. It bounds the number of links too: a gateway of other devices may
/// list hundreds, and the longest body that is put together from blocks has as many bytes.
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// One link and its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebLink {
    /// The text between the angle brackets.
    pub target: String,
    /// Names with their values, quotes removed; a value is empty where the document has none.
    pub attributes: Vec<(String, String)>,
}

/// Why a document is not in link format.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkFormatError {
    /// The document is too long.
    #[error("link document of {0} bytes, the limit is {DOCUMENT_BYTES_MAX}")]
    TooLong(usize),
    /// The document is not UTF-8.
    #[error("link document is not UTF-8")]
    NotText,
    /// A link has too many attributes.
    #[error("more than {ATTRIBUTES_MAX} attributes of one link")]
    TooManyAttributes,
    /// The document is not `<target>;name=value,...`.
    #[error("link document is malformed")]
    Malformed,
}

/// Parses a document.
pub fn parse(document: &[u8]) -> Result<Vec<WebLink>, LinkFormatError> {
    if document.len() > DOCUMENT_BYTES_MAX {
        return Err(LinkFormatError::TooLong(document.len()));
    }
    let text = std::str::from_utf8(document).map_err(|_| LinkFormatError::NotText)?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    // An empty link at the end: a bracket or a quote that is never closed swallows it.
    let terminated = format!("{},<>", text.trim());
    let (mut links, mut parsed) = (Vec::new(), String::new());
    for link in LinkFormatParser::new(&terminated) {
        let (target, attribute_parser) = link.map_err(|_| LinkFormatError::Malformed)?;
        parsed.extend([",<", target, ">"]);
        let mut attributes = Vec::new();
        for (name, value) in attribute_parser {
            match (name, value.clone().into_raw_str()) {
                ("", "") => continue,
                ("", _) => return Err(LinkFormatError::Malformed),
                (_, raw_value) => parsed.extend([";", name, raw_value]),
            }
            if attributes.len() >= ATTRIBUTES_MAX {
                return Err(LinkFormatError::TooManyAttributes);
            }
            attributes.push((name.to_owned(), value.to_string()));
        }
        links.push(WebLink {
            target: target.to_owned(),
            attributes,
        });
    }
    let end = links.pop().filter(|end| end.target.is_empty());
    // Text that the parser skipped is missing from its result; blanks and `=` are not compared.
    let significant = |c: &char| !c.is_whitespace() && *c != '=';
    let significant_text = terminated.chars().filter(significant);
    let complete = parsed
        .chars()
        .skip(1)
        .filter(significant)
        .eq(significant_text);
    if end.is_some() && complete {
        Ok(links)
    } else {
        Err(LinkFormatError::Malformed)
    }
}
