//! What the edge needs from the ledger. The edge knows MQTT, the backend knows the registry.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use lamplighter_types::wire::Cursor;
use lamplighter_types::work::DevicesHeld;

/// The ledger as the edge sees it. The plain methods run inside connection tasks and during TLS
/// handshakes, so they read memory and never wait.
pub trait Backend: Send + Sync + 'static {
    /// The account that an Ed25519 key belongs to now; `None` for unknown, revoked or disabled.
    fn account_of_key(&self, key: &[u8; 32]) -> Option<Account>;

    /// Checks the signed token that a client sent as its password.
    fn verify_token(&self, account: &str, token: &[u8]) -> Result<Login, LoginError>;

    /// The hash under which the receipt of a transaction will come, without admitting it.
    fn identify(&self, submission: &Submission) -> Result<[u8; 32], SubmitError>;

    /// Admits a signed transaction. The guard sends PUBACK when this resolves to `Ok`.
    fn submit(&self, submission: Submission) -> BoxFuture<'static, Result<Admitted, SubmitError>>;

    /// The gateway is to be told its work. The backend answers through
    /// [`super::Publisher::publish_work`], also after this resolves.
    fn sync(&self, gateway: &str, why: SyncReason) -> BoxFuture<'static, Result<(), SubmitError>>;
}

/// Why a gateway is told its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncReason {
    /// It begins to listen, and may ask at once as well.
    Listens,
    /// It asks for what changed after a place, or for all that is open.
    Asks {
        /// What it has seen.
        since: Option<Cursor>,
        /// What it holds of its devices.
        held: Option<DevicesHeld>,
    },
}

/// A registered account, as far as topics depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The account id, which is the client id too.
    pub id: String,
    /// What the account may publish and read.
    pub kind: AccountKind,
}

/// Decides which rows of the topics table apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountKind {
    /// Publishes transactions, reads its own receipts and work.
    Gateway,
    /// Reads notifications of the districts that its roles cover.
    User(Reach),
}

/// The districts whose notifications a user may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// A role for the whole city.
    All,
    /// Roles with these scopes, each with the districts inside it; empty for a user without roles.
    Districts(BTreeSet<String>),
}

impl Account {
    /// Whether notifications of `district` (a path such as `north/harbour`) may go to this account.
    pub fn sees(&self, district: &str) -> bool {
        match &self.kind {
            AccountKind::Gateway => false,
            AccountKind::User(Reach::All) => true,
            AccountKind::User(Reach::Districts(own)) => own.iter().any(|own| {
                district
                    .strip_prefix(own.as_str())
                    .is_some_and(|r| r.is_empty() || r.starts_with('/'))
            }),
        }
    }
}

/// An account that proved itself with a token.
#[derive(Debug, Clone)]
pub struct Login {
    /// Who it is.
    pub account: Account,
    /// The registered key that signed the token; revoking it closes the connection.
    pub key: [u8; 32],
    /// The connection ends after this time; `None`: when the key is revoked.
    pub valid_for: Option<Duration>,
}

/// Why a token was not taken. The client only learns that it was not.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Wrong signature, chain, node or account, expired, or the key is not registered.
    #[error("the token was refused: {0}")]
    Refused(String),
    /// The node cannot read its registry now.
    #[error("tokens cannot be checked now: {0}")]
    Unavailable(String),
}

/// How the payload of a transaction is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Content type `application/json`, and none at all.
    Json,
    /// Content type `application/x-bincode`.
    Bincode,
}

impl Encoding {
    /// Reads the MQTT 5 content type of a publication.
    pub fn from_content_type(content_type: Option<&str>) -> Option<Self> {
        match content_type {
            None | Some("" | "application/json") => Some(Self::Json),
            Some("application/x-bincode") => Some(Self::Bincode),
            Some(_) => None,
        }
    }
}

/// One signed transaction from a client.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The account whose connection it came over.
    pub account: String,
    /// How `payload` is encoded.
    pub encoding: Encoding,
    /// The signed transaction, untouched.
    pub payload: Bytes,
}

/// The ledger took a transaction.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Its hash.
    pub transaction: [u8; 32],
    /// The receipt, where the same bytes were executed before; else it comes through
    /// [`super::Publisher::publish_receipt`].
    pub receipt: Option<Bytes>,
}

/// The ledger did not take a transaction.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubmitError {
    /// The mempool is full; the same bytes may be sent again.
    #[error("the ledger is busy")]
    Busy,
    /// These bytes can never be admitted.
    #[error("the transaction was refused: {0}")]
    Invalid(String),
    /// The account may not do this.
    #[error("not authorized: {0}")]
    Unauthorized(String),
}
