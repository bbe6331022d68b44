//! Tokens for accounts that signed a challenge with a registered key. They are short-lived, and
//! valid at this node for the one audience that was signed.
//!
//! A token is `base64url(payload) "." base64url(tag)`. The tag is blake3 keyed with a secret that
//! this node derives from its key and never reveals. The payload names a session of this node
//! ([`Sessions`]), and the token is refused once that has ended. Sessions are in memory: a restart
//! of the node ends them all, and clients log in again.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lamplighter_types::login::{Audience, Challenge, Token, TokenRequest};
use lamplighter_types::{Hash, Id, PublicKey, SecretKey, SessionId};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};

use crate::sessions::{NewSession, OpenSession, Sessions};

/// A challenge is valid for one to two of these periods.
const CHALLENGE_MS: u64 = 60_000;
/// Validity of a token, unless configured shorter.
pub const TOKEN_TIME: Duration = Duration::from_secs(15 * 60);
/// Longest token that is decoded.
const TOKEN_BYTES_MAX: usize = 1_024;

/// Issues and checks tokens.
#[derive(Clone)]
pub struct Tokens {
    secret: [u8; 32],
    chain_id: Hash,
    node: u64,
    valid_for: Duration,
    sessions: Sessions,
}

/// The content of a token: its session, account, key, audience and node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bearer {
    pub session: SessionId,
    pub account: Id,
    /// The key that signed the challenge; the token is invalid once the key is revoked.
    pub key: PublicKey,
    pub audience: Audience,
    pub node: u64,
    pub expires_ms: u64,
}

/// The reason why a token or a request for one is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is malformed or of another node")]
    Malformed,
    #[error("the token or challenge has expired")]
    Expired,
    #[error("the session of this token has ended, or the node was restarted: log in again")]
    Ended,
    #[error("the signature is not over this challenge")]
    Signature,
    #[error("the token is for {}, not for {}", .got.as_str(), .expected.as_str())]
    Audience { got: Audience, expected: Audience },
}

/// The system gives no random numbers, so that nobody can log in.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomness(#[source] rand::rand_core::OsError);

impl Tokens {
    pub fn new(secret: &SecretKey, chain_id: Hash, node: u64) -> Self {
        let secret = blake3::derive_key("lamplighter 2026 tokens of one node", &secret.seed());
        Self {
            secret,
            chain_id,
            node,
            valid_for: TOKEN_TIME,
            sessions: Sessions::default(),
        }
    }

    /// Sets how long the tokens are valid that are issued from now on.
    pub fn with_validity(self, valid_for: Duration) -> Self {
        Self { valid_for, ..self }
    }

    /// The sessions of the accounts that have a token.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    fn tag(&self, purpose: &[u8], bytes: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher
            .update(&self.chain_id.0)
            .update(&self.node.to_le_bytes());
        hasher.update(purpose).update(bytes);
        hasher.finalize()
    }

    /// The challenge for an account to sign. It is bound to account, key and minute, so that
    /// nothing is kept, and is valid during its minute and the next one.
    pub fn challenge(&self, account: &Id, key: &PublicKey, now_ms: u64) -> Challenge {
        let minute = now_ms / CHALLENGE_MS;
        let challenge = self.challenge_of(account, key, minute);
        Challenge {
            challenge,
            node: self.node,
            expires_ms: (minute + 2) * CHALLENGE_MS,
        }
    }

    fn challenge_of(&self, account: &Id, key: &PublicKey, minute: u64) -> Hash {
        let minute = minute.to_le_bytes();
        let bytes = [&minute[..], &key.0, account.as_str().as_bytes()].concat();
        Hash(*self.tag(b"challenge", &bytes).as_bytes())
    }

    /// Checks the signed challenge in a request.
    pub fn check_request(&self, request: &TokenRequest, now_ms: u64) -> Result<(), TokenError> {
        let TokenRequest {
            account,
            key,
            audience: _,
            challenge,
            signature: _,
        } = request;
        let minute = now_ms / CHALLENGE_MS;
        let valid = [minute, minute.saturating_sub(1)];
        if !valid
            .iter()
            .any(|m| self.challenge_of(account, key, *m) == *challenge)
        {
            return Err(TokenError::Expired);
        }
        request
            .verify(&self.chain_id, self.node)
            .map_err(|_| TokenError::Signature)
    }

    /// Issues a token for an account that signed a challenge, and begins its session. `address` is
    /// where the request came from.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn issue(
        &self,
        account: Id,
        key: PublicKey,
        audience: Audience,
        address: Option<IpAddr>,
        now_ms: u64,
    ) -> Result<Token, NoRandomness> {
        let mut session = SessionId([0; SessionId::LEN]);
        OsRng.try_fill_bytes(&mut session.0).map_err(NoRandomness)?;
        let valid_ms = u64::try_from(self.valid_for.as_millis()).unwrap_or(u64::MAX);
        let expires_ms = now_ms.saturating_add(valid_ms);
        let new = NewSession {
            session,
            key,
            audience,
            issued_ms: now_ms,
            expires_ms,
            address,
        };
        self.sessions.begin(&account, new);
        let bearer = Bearer {
            session,
            account,
            key,
            audience,
            node: self.node,
            expires_ms,
        };
        let payload = serde_json::to_vec(&bearer).expect("our types have JSON forms");
        let tag = self.tag(b"token", &payload);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let token = format!("{}.{}", encode(&payload), encode(tag.as_bytes()));
        Ok(Token { token, expires_ms })
    }

    /// The session of a token that was checked, for a stream or connection that lasts; nothing if
    /// it has ended meanwhile.
    pub fn open(&self, bearer: &Bearer) -> Option<OpenSession> {
        self.sessions.open(&bearer.account, &bearer.session)
    }

    /// Checks a token and returns its content. The caller checks that the key is still registered.
    ///
    /// # Errors
    /// The token is not one of this node, has expired, is of a session that has ended, or is for
    /// another audience than `expected`.
    pub fn check(
        &self,
        token: &str,
        expected: Audience,
        now_ms: u64,
    ) -> Result<Bearer, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let (payload, tag) = token.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |text| {
            URL_SAFE_NO_PAD
                .decode(text)
                .map_err(|_| TokenError::Malformed)
        };
        let (payload, tag) = (decode(payload)?, decode(tag)?);
        let tag: [u8; 32] = tag.try_into().map_err(|_| TokenError::Malformed)?;
        if self.tag(b"token", &payload) != blake3::Hash::from(tag) {
            return Err(TokenError::Malformed);
        }
        let bearer: Bearer = serde_json::from_slice(&payload).map_err(|_| TokenError::Malformed)?;
        if bearer.expires_ms <= now_ms || bearer.node != self.node {
            return Err(TokenError::Expired);
        }
        if bearer.audience != expected {
            return Err(TokenError::Audience {
                got: bearer.audience,
                expected,
            });
        }
        if self.open(&bearer).is_none() {
            return Err(TokenError::Ended);
        }
        Ok(bearer)
    }
}
