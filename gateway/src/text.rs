//! Texts of Things without our agent, in a form that the ledger accepts.

use lamplighter_types::is_unseen;

/// Replaces the characters that the ledger refuses (those that are not seen or control a terminal,
/// except line breaks and tabs), and cuts the text to at most `bytes_max` bytes.
pub(crate) fn sanitize(text: &str, bytes_max: usize) -> String {
    let mut sanitized = String::with_capacity(text.len().min(bytes_max));
    for c in text.chars() {
        let is_allowed = !is_unseen(c) || matches!(c, '\n' | '\t');
        let c = if is_allowed {
            c
        } else {
            char::REPLACEMENT_CHARACTER
        };
        if sanitized.len() + c.len_utf8() > bytes_max {
            break;
        }
        sanitized.push(c);
    }
    sanitized
}
