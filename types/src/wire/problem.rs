//! Problem details (RFC 9457): how a node says over HTTP why it did not do what was asked.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A problem of a request (RFC 9457), `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Always `about:blank`: `code` names the kind.
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    /// The title of the status.
    pub title: Cow<'static, str>,
    pub status: u16,
    /// Stable, e.g. `transaction.invalid`.
    pub code: String,
    /// For people.
    pub detail: String,
}

/// The text of an answer that is not a problem is shown up to this length.
const DETAIL_BYTES_MAX: usize = 200;

impl Problem {
    /// A problem whose title is that of its status.
    pub fn new(
        status: u16,
        title: &'static str,
        code: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            kind: Cow::Borrowed("about:blank"),
            title: Cow::Borrowed(title),
            status,
            code: code.into(),
            detail: detail.into(),
        }
    }

    /// Reads the answer to a request that failed. Proxies answer in other forms: a field that is
    /// missing is empty, and a body that is no problem at all becomes the detail.
    pub fn from_answer(status: u16, body: &[u8]) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Fields {
            title: String,
            code: String,
            detail: String,
        }
        let Fields {
            title,
            code,
            detail,
        } = serde_json::from_slice(body).unwrap_or_else(|_| {
            let shown = &body[..body.len().min(DETAIL_BYTES_MAX)];
            Fields {
                detail: String::from_utf8_lossy(shown).into_owned(),
                ..Fields::default()
            }
        });
        Self {
            title: title.into(),
            ..Self::new(status, "", code, detail)
        }
    }
}

/// Codes of problems that do not come from a contract. They are stable.
pub mod code {
    /// A filter that is not understood; the detail names the place.
    pub const FILTER: &str = "filter";
    /// The request has no token where one is needed.
    pub const AUTH_MISSING: &str = "auth.missing";
    /// The token or the signature for it is not accepted.
    pub const AUTH_REFUSED: &str = "auth.refused";
    /// The body ended early.
    pub const BODY_INCOMPLETE: &str = "body.incomplete";
    /// The body is not of the expected form.
    pub const BODY_MALFORMED: &str = "body.malformed";
    /// The body did not arrive in time.
    pub const BODY_TIMEOUT: &str = "body.timeout";
    /// The body is longer than the limit.
    pub const BODY_TOO_LARGE: &str = "body.too_large";
    /// The node has too much to do.
    pub const BUSY: &str = "busy";
    /// The body is of another media type.
    pub const CONTENT_TYPE: &str = "content_type";
    /// A height, leader or certificate did not come in time.
    pub const DEADLINE: &str = "deadline";
    /// The cursor is ahead of the node's ledger.
    pub const FEED_AHEAD: &str = "feed.ahead";
    /// The account may not do this.
    pub const FORBIDDEN: &str = "forbidden";
    /// The node has halted: another node has to be asked.
    pub const HALTED: &str = "halted";
    /// The node failed; its log has the cause.
    pub const INTERNAL: &str = "internal";
    /// The path has other methods.
    pub const METHOD: &str = "method";
    /// Plain HTTP was spoken to a port that speaks HTTPS.
    pub const NEEDS_TLS: &str = "needs_tls";
    /// The record does not exist.
    pub const NOT_FOUND: &str = "not_found";
    /// The node has known no leader for long: another node has to be asked.
    pub const NO_LEADER: &str = "no_leader";
    /// The page of a browser is of an origin that the node does not serve.
    pub const ORIGIN: &str = "origin";
    /// A part of the path or query is not understood.
    pub const PARAMETER: &str = "parameter";
    /// The node's newest certificate is below the validators that the verifier trusts.
    pub const PROOF_BEHIND: &str = "proof.behind";
    /// The changes of the validators do not fit into one proof; `/v1/proofs/validators` has pages.
    pub const PROOF_MANY_CHANGES: &str = "proof.many_changes";
    /// The account has as many requests at once as it may.
    pub const QUOTA_REQUESTS: &str = "quota.requests";
    /// The account has as many streams as it may.
    pub const QUOTA_STREAMS: &str = "quota.streams";
    /// The account has as many transactions waiting as it may.
    pub const QUOTA_TRANSACTIONS: &str = "quota.transactions";
    /// The account may not read this record.
    pub const READ_SCOPE: &str = "read.scope";
    /// The requests exceed a rate limit.
    pub const RATE_LIMITED: &str = "rate_limited";
    /// The disk of the node is nearly full.
    pub const READ_ONLY: &str = "read_only";
    /// The transaction is not signed for this chain, or breaks a limit.
    pub const TRANSACTION_INVALID: &str = "transaction.invalid";
    /// The bytes are no signed transaction.
    pub const TRANSACTION_MALFORMED: &str = "transaction.malformed";
    /// The transaction is signed by a key of another account.
    pub const TRANSACTION_UNAUTHORIZED: &str = "transaction.unauthorized";
    /// The request asks for no WebSocket.
    pub const WEBSOCKET: &str = "websocket";
}

/// Beginning of the codes that say that a sequence number can't be used.
pub const SEQUENCE_CODES: &str = "admission.sequence_";
