//! Accounts of the ledger as MQTT clients, found by a key or a token.

use std::time::Duration;

use lamplighter_contracts::users;
use lamplighter_ledger::Handle;
use lamplighter_system::unix_ms;
use lamplighter_types::login::Audience;
use lamplighter_types::{Account, AccountKind, Id, PublicKey, Scope};

use crate::rights::Rights;
use crate::sessions::OpenSession;
use crate::token::{TokenError, Tokens};

/// The accounts of the newest state. Lookups read memory in the usual case, so they run inside
/// connection tasks and TLS handshakes.
pub struct Accounts {
    handle: Handle,
    tokens: Tokens,
}

/// An account that proved itself.
#[derive(Debug)]
pub struct Login {
    pub account: Account,
    /// The registered key behind the certificate or the token; its revocation ends the connection.
    pub key: PublicKey,
    /// The connection ends after this time; `None` if only with the key.
    pub valid_for: Option<Duration>,
    /// The session of the token, with which the connection ends.
    pub token_session: Option<OpenSession>,
}

/// Why a token was refused. The client learns only that it was.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error("the token is not text")]
    Encoding,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the token is of another account")]
    OtherAccount,
    #[error("the key of the token is no longer registered, or its account is disabled")]
    Revoked,
}

impl Accounts {
    pub fn new(handle: Handle, tokens: Tokens) -> Self {
        Self { handle, tokens }
    }

    /// The account that a key belongs to, whatever its state.
    pub fn owner(&self, key: &PublicKey) -> Option<Account> {
        let (view, _) = self.handle.view().ok()?;
        users::account_of_key(&view, key).ok().flatten()
    }

    /// The account that may connect with a key: `None` if the key is unknown or revoked, the
    /// account is disabled, or it is a node's.
    pub fn by_key(&self, key: &PublicKey) -> Option<Account> {
        let owner = self.owner(key)?;
        (!owner.disabled && owner.kind != AccountKind::Node).then_some(owner)
    }

    /// True if a key still belongs to the account and the account may connect.
    pub fn is_valid(&self, key: &PublicKey, account: &Id) -> bool {
        self.by_key(key)
            .is_some_and(|owner| owner.account == *account)
    }

    /// The account of a token that a client sent as the password of the user `name`.
    ///
    /// # Errors
    /// The token is not one of this node for MQTT, has expired, or is of another account; or its
    /// key was revoked meanwhile.
    pub fn by_token(&self, name: &str, token: &[u8]) -> Result<Login, LoginError> {
        let text = std::str::from_utf8(token).map_err(|_| LoginError::Encoding)?;
        let now_ms = unix_ms();
        let bearer = self.tokens.check(text, Audience::Mqtt, now_ms)?;
        if bearer.account.as_str() != name {
            return Err(LoginError::OtherAccount);
        }
        let token_session = self.tokens.open(&bearer).ok_or(TokenError::Ended)?;
        let owner = self.by_key(&bearer.key);
        let account = owner.filter(|owner| owner.account == bearer.account);
        Ok(Login {
            account: account.ok_or(LoginError::Revoked)?,
            key: bearer.key,
            valid_for: Some(Duration::from_millis(bearer.expires_ms - now_ms)),
            token_session: Some(token_session),
        })
    }
}

/// The districts whose notifications an account may read; none for a gateway.
pub fn readable_districts(account: &Account) -> Vec<Scope> {
    match account.kind {
        AccountKind::User => Rights::of(account).districts(),
        AccountKind::Gateway | AccountKind::Node => Vec::new(),
    }
}
