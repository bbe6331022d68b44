//! Why connections end, and what the client learns of it.

use std::io;

use rumqttd::protocol::DisconnectReasonCode;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum CloseReason {
    /// The client sent DISCONNECT.
    #[error("the client disconnected")]
    Disconnected {
        /// The client wants its will published all the same.
        with_will: bool,
    },
    /// The transport broke or was closed.
    #[error("the connection was lost")]
    Lost(#[source] io::Error),
    /// The same account connected again.
    #[error("taken over by a newer connection")]
    TakenOver,
    /// The key that proved it is no longer the account's.
    #[error("the key was revoked")]
    Revoked,
    /// The token expired.
    #[error("the token expired")]
    TokenExpired,
    /// Somebody ended the session of its token.
    #[error("the session of its token was ended")]
    SessionEnded,
    /// No packet for one and a half keepalives.
    #[error("silent for too long")]
    KeepaliveTimeout,
    /// The client did not read what it was sent.
    #[error("did not read for too long")]
    WriteTimeout,
    /// The client sent something that is not allowed.
    #[error("{1}")]
    Violation(DisconnectReasonCode, &'static str),
    /// The ledger was busy for too long; the PUBACK of MQTT 3.1.1 has no reason for that.
    #[error("the ledger was busy for too long")]
    Busy,
    /// The node stops.
    #[error("the node stops")]
    Stopping,
}

impl CloseReason {
    /// The reason in the DISCONNECT to an MQTT 5 client; none if the client cannot get one.
    pub fn code(&self) -> Option<DisconnectReasonCode> {
        use DisconnectReasonCode as Code;
        match self {
            Self::Disconnected { .. } | Self::Lost(_) | Self::WriteTimeout => None,
            Self::TakenOver => Some(Code::SessionTakenOver),
            Self::Revoked | Self::SessionEnded => Some(Code::NotAuthorized),
            Self::TokenExpired => Some(Code::MaximumConnectTime),
            Self::KeepaliveTimeout => Some(Code::KeepAliveTimeout),
            Self::Violation(code, _) => Some(*code),
            Self::Busy => Some(Code::ServerBusy),
            Self::Stopping => Some(Code::ServerShuttingDown),
        }
    }

    /// True if the will of the client is submitted.
    pub fn publishes_will(&self) -> bool {
        match self {
            Self::Disconnected { with_will } => *with_will,
            Self::Stopping | Self::Revoked | Self::SessionEnded => false,
            _ => true,
        }
    }
}
