//! How connections end, and what the client is told.

use std::io;

use rumqttd::protocol::DisconnectReasonCode;

use super::broker::BrokerError;
use super::link::Lost;

/// How a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Ending {
    /// The client sent DISCONNECT.
    #[error("the client left")]
    Left {
        /// It wants its will published all the same.
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
    /// The token ran out.
    #[error("the token ran out")]
    TokenEnded,
    /// No packet for one and a half keepalives.
    #[error("silent for too long")]
    Silent,
    /// It did not read what it was sent.
    #[error("did not read for too long")]
    Stuck,
    /// It sent something that is not allowed.
    #[error("{1}")]
    Violation(DisconnectReasonCode, &'static str),
    /// MQTT 3.1.1 cannot be told that the ledger is busy.
    #[error("the ledger was busy for too long")]
    Busy,
    /// The router died.
    #[error("the message router is gone")]
    Router(#[source] Lost),
    /// The router took no link.
    #[error("the message router took no link")]
    Unlinked(#[source] BrokerError),
    /// The node stops.
    #[error("the node stops")]
    Stopping,
}

impl Ending {
    /// What an MQTT 5 client is told; none to one that left or does not read.
    pub fn reason(&self) -> Option<DisconnectReasonCode> {
        use DisconnectReasonCode as Code;
        match self {
            Self::Left { .. } | Self::Lost(_) | Self::Stuck => None,
            Self::TakenOver => Some(Code::SessionTakenOver),
            Self::Revoked => Some(Code::NotAuthorized),
            Self::TokenEnded => Some(Code::MaximumConnectTime),
            Self::Silent => Some(Code::KeepAliveTimeout),
            Self::Violation(code, _) => Some(*code),
            Self::Busy | Self::Router(_) | Self::Unlinked(_) => Some(Code::ServerBusy),
            Self::Stopping => Some(Code::ServerShuttingDown),
        }
    }

    /// Whether its will is handed in.
    pub fn leaves_will(&self) -> bool {
        match self {
            Self::Left { with_will } => *with_will,
            Self::Stopping | Self::Revoked => false,
            _ => true,
        }
    }
}
