//! HTTP headers of our own, in lower case.

/// The height of the state that an answer shows.
pub const LEDGER_HEIGHT: &str = "ledger-height";
/// The offset in an artifact at which a piece of an upload begins.
pub const UPLOAD_OFFSET: &str = "upload-offset";
/// The cursor after which a reader of the feed continues (HTML standard, 9.2).
pub const LAST_EVENT_ID: &str = "last-event-id";
/// The height of the last certified block of the node that answers.
pub const CERTIFIED_HEIGHT: &str = "certified-height";
