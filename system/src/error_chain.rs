use std::error::Error;

/// The error and its causes on one line, separated by `: `.
///
/// A cause whose text the line contains already is left out: some libraries print the cause within
/// the error itself.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
