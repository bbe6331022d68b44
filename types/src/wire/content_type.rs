//! Content types of HTTP bodies and of MQTT publications.

use crate::Encoding;

/// JSON.
pub const JSON: &str = "application/json";
/// JSON texts, one in a line.
pub const JSON_LINES: &str = "application/x-ndjson";
/// Bytes: a piece of an artifact, or a signed transaction in the ledger's binary encoding.
pub const BYTES: &str = "application/octet-stream";
/// A problem (RFC 9457).
pub const PROBLEM: &str = "application/problem+json";
/// Server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// The former name of [`BYTES`] on MQTT, still accepted.
const BINCODE_FORMER: &str = "application/x-bincode";

/// The encoding of a signed transaction that is sent with a content type, without parameters. The
/// same for HTTP and MQTT.
pub fn transaction_encoding(content_type: &str) -> Option<Encoding> {
    match content_type {
        JSON => Some(Encoding::Json),
        BYTES | BINCODE_FORMER => Some(Encoding::Bincode),
        _ => None,
    }
}
