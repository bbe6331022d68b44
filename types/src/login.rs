//! The login of a client that has a registered key. It gets a token for reading over HTTP, or for
//! use as the MQTT password of a client without a TLS certificate.
//!
//! 1. `POST /v1/auth/challenge` with [`ChallengeRequest`] gives a [`Challenge`].
//! 2. `POST /v1/auth/token` with [`TokenRequest`] gives a [`Token`].
//!
//! The signature covers chain, node, account, audience and challenge, so that it is worth nothing
//! at another node, and a token for one [`Audience`] is worth nothing to the other.

use serde::{Deserialize, Serialize};

use crate::crypto::{BadSignature, Domain, SecretKey};
use crate::{Hash, Id, PublicKey, SessionId, Signature};

/// The purpose of a token. Tokens cross the network in clear where there is no TLS: one that was
/// read on its way over HTTP must not open the MQTT edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Audience {
    /// Reading over HTTP, with `Authorization: Bearer`.
    HttpRead,
    /// The password of an MQTT connection.
    Mqtt,
}

impl Audience {
    /// The text in JSON and in the signed message.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HttpRead => "http-read",
            Self::Mqtt => "mqtt",
        }
    }
}

/// The request for a challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChallengeRequest {
    pub account: Id,
    pub key: PublicKey,
}

/// The challenge that the client signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Challenge {
    /// Derived from account, key and minute: it can be answered for two minutes at most.
    pub challenge: Hash,
    /// The node that asks.
    pub node: u64,
    /// Unix time in ms until when it can be answered.
    pub expires_ms: u64,
}

/// The signed answer to a challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenRequest {
    pub account: Id,
    pub key: PublicKey,
    pub audience: Audience,
    pub challenge: Hash,
    /// Covers [`login_message`].
    pub signature: Signature,
}

/// A token for the audience that was signed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Token {
    pub token: String,
    /// Unix time in ms from which on it is refused.
    pub expires_ms: u64,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token(until {})", self.expires_ms)
    }
}

/// A login of an account at one node, which lasts as long as its token is valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LoginSession {
    pub session: SessionId,
    /// The key that signed the challenge.
    pub key: PublicKey,
    pub audience: Audience,
    /// Unix time in ms when the token was given.
    pub issued_ms: u64,
    /// Unix time in ms from which on the token is refused.
    pub expires_ms: u64,
    /// The address that asked for the token; behind a proxy, the proxy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Streams and MQTT connections that the token has open.
    pub connections: u64,
    /// The request that lists it was sent with its token.
    pub current: bool,
}

/// The sessions of an account at one node, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LoginSessions {
    pub items: Vec<LoginSession>,
}

/// The number of sessions that a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EndedSessions {
    pub ended: u64,
}

/// The bytes that are signed.
pub fn login_message(
    chain_id: &Hash,
    node: u64,
    account: &Id,
    audience: Audience,
    challenge: &Hash,
) -> Vec<u8> {
    let node = node.to_le_bytes();
    Domain::Token.message(&[
        &chain_id.0,
        &node,
        account.as_str().as_bytes(),
        b"\0",
        audience.as_str().as_bytes(),
        b"\0",
        &challenge.0,
    ])
}

impl TokenRequest {
    /// Signs the challenge that `node` gave, for a token for `audience`.
    pub fn sign(
        chain_id: &Hash,
        account: &Id,
        audience: Audience,
        challenge: &Challenge,
        secret: &SecretKey,
    ) -> Self {
        let message = login_message(
            chain_id,
            challenge.node,
            account,
            audience,
            &challenge.challenge,
        );
        Self {
            account: account.clone(),
            key: secret.public(),
            audience,
            challenge: challenge.challenge,
            signature: secret.sign(&message),
        }
    }

    /// Checks that the key signed this challenge for `node`.
    pub fn verify(&self, chain_id: &Hash, node: u64) -> Result<(), BadSignature> {
        let message = login_message(
            chain_id,
            node,
            &self.account,
            self.audience,
            &self.challenge,
        );
        self.key.verify(&message, &self.signature)
    }
}
