//! What a Thing without our agent says, made fit for the ledger.

/// The text without characters that the ledger refuses (control characters but for line breaks and
/// tabs), cut to at most `bytes_max` bytes.
pub(super) fn clean(text: &str, bytes_max: usize) -> String {
    let mut cleaned = String::with_capacity(text.len().min(bytes_max));
    for c in text.chars() {
        let fits = !c.is_control() || matches!(c, '\n' | '\t');
        let c = if fits { c } else { char::REPLACEMENT_CHARACTER };
        if cleaned.len() + c.len_utf8() > bytes_max {
            break;
        }
        cleaned.push(c);
    }
    cleaned
}
