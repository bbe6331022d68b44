//! Text from outside, made safe for a terminal or a log: characters that a person would not see, or
//! that would command the terminal, are written as escapes.

use std::borrow::Cow;
use std::fmt::Write;

/// Tells whether a character commands a terminal, hides, or changes the order of others:
/// controls (C0, DEL, C1), bidirectional marks, characters without width, separators of lines.
///
/// Contracts refuse names with them, so the ranges are fixed here: those of a library would differ
/// from one version of Unicode to the next.
pub fn is_unseen(c: char) -> bool {
    matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}'
        | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Tells whether a text has seen characters of ASCII alone, as most have: [`is_unseen`] need not be
/// asked for each.
pub fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// The text in one line for a person, with such characters as `\u{1b}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, is_unseen, |into, c| {
        write!(into, "{}", c.escape_unicode())
    })
}

/// The JSON text with such characters as `\u001b`, so that it stays the same JSON. Line ends
/// between its parts stay.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    let unseen = |c| c != '\n' && is_unseen(c);
    escape(json, unseen, |into, c| {
        let mut units = [0; 2];
        let mut units = c.encode_utf16(&mut units).iter();
        units.try_for_each(|unit| write!(into, "\\u{unit:04x}"))
    })
}

fn escape(
    text: &str,
    escaped: impl Fn(char) -> bool,
    write: impl Fn(&mut String, char) -> std::fmt::Result,
) -> Cow<'_, str> {
    if is_plain(text) || !text.chars().any(&escaped) {
        return Cow::Borrowed(text);
    }
    let mut printed = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if escaped(c) {
            write(&mut printed, c).expect("a String takes everything")
        } else {
            printed.push(c)
        }
    }
    Cow::Owned(printed)
}
