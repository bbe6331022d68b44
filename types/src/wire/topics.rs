//! MQTT topics of a node's edge. Who may publish or read which is for the edge to decide.
//!
//! | topic | from, to |
//! |---|---|
//! | `lamplighter/1/gw/{gateway}/tx` | a signed transaction, to the node |
//! | `lamplighter/1/gw/{gateway}/sync` | [`SyncRequest`](super::work::SyncRequest), to the node |
//! | `lamplighter/1/gw/{gateway}/receipt` | [`ReceiptMessage`](super::ReceiptMessage), to the gateway |
//! | `lamplighter/1/gw/{gateway}/work` | [`WorkMessage`](super::work::WorkMessage), to the gateway |
//! | `lamplighter/1/head` | [`CertifiedHeader`](crate::proof::CertifiedHeader), to everybody, retained |
//! | `lamplighter/1/notify/{kind}/{district}/{device}` | [`NotificationMessage`](super::NotificationMessage), to users |

use std::fmt;

use crate::{Id, Scope};

/// The newest certified header.
pub const HEAD: &str = "lamplighter/1/head";
/// Beginning of the topics of all gateways.
pub const GATEWAY_PREFIX: &str = "lamplighter/1/gw/";
/// Beginning of the topics of all notifications.
pub const NOTIFICATION_PREFIX: &str = "lamplighter/1/notify/";

/// The level that stands for the whole city, where others have a district.
const CITY_LEVEL: &str = "-";
/// Longest kind of a notification.
const KIND_BYTES_MAX: usize = 64;

/// A topic that each gateway has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayTopic {
    /// Signed transactions to the node.
    Transaction,
    /// Requests for work to the node.
    Sync,
    /// Receipts of the gateway's transactions.
    Receipt,
    /// Deployments and configuration for the gateway's devices.
    Work,
}

impl GatewayTopic {
    /// The topic of one gateway.
    pub fn of(self, gateway: &Id) -> String {
        let level = match self {
            Self::Transaction => "tx",
            Self::Sync => "sync",
            Self::Receipt => "receipt",
            Self::Work => "work",
        };
        format!("{GATEWAY_PREFIX}{gateway}/{level}")
    }

    /// The topic with this last level.
    pub fn from_level(level: &str) -> Option<Self> {
        match level {
            "tx" => Some(Self::Transaction),
            "sync" => Some(Self::Sync),
            "receipt" => Some(Self::Receipt),
            "work" => Some(Self::Work),
            _ => None,
        }
    }

    /// Which topic of `gateway` this is; `None` for any other topic.
    pub fn parse(topic: &str, gateway: &Id) -> Option<Self> {
        Self::from_level(gateway_suffix(topic, gateway)?)
    }
}

/// The rest of a topic or filter of `gateway` after the gateway's id and a slash.
pub fn gateway_suffix<'a>(topic: &'a str, gateway: &Id) -> Option<&'a str> {
    let after_id = topic
        .strip_prefix(GATEWAY_PREFIX)?
        .strip_prefix(gateway.as_str())?;
    after_id.strip_prefix('/')
}

/// The topic of a notification about a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationTopic {
    /// Kind of the fact, e.g. `alarm_raised`.
    pub kind: String,
    pub district: Scope,
    pub device: Id,
}

impl fmt::Display for NotificationTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            district,
            device,
        } = self;
        let district = district_level(district);
        write!(f, "{NOTIFICATION_PREFIX}{kind}/{district}/{device}")
    }
}

impl NotificationTopic {
    /// Reads a topic; `None` for any other topic, and for a filter with wildcards.
    pub fn parse(topic: &str) -> Option<Self> {
        let mut levels = topic.strip_prefix(NOTIFICATION_PREFIX)?.split('/');
        let (kind, district, device) = (levels.next()?, levels.next()?, levels.next()?);
        if levels.next().is_some() || !is_kind(kind) {
            return None;
        }
        Some(Self {
            kind: kind.to_owned(),
            district: parse_district_level(district)?,
            device: Id::new(device).ok()?,
        })
    }
}

/// True if the text can be the kind of a notification: lower-case letters, digits and `_`.
pub fn is_kind(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (1..=KIND_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

/// A district as one level of a topic: `north/harbour` is `north:harbour`, the whole city is `-`.
pub fn district_level(district: &Scope) -> String {
    match district.as_str() {
        "" => CITY_LEVEL.to_owned(),
        path => path.replace('/', ":"),
    }
}

/// The district that a level of a topic stands for.
pub fn parse_district_level(level: &str) -> Option<Scope> {
    match level {
        CITY_LEVEL => Some(Scope::city()),
        // Neither the empty text nor a slash is a level.
        "" => None,
        level if level.contains('/') => None,
        level => Scope::new(level.replace(':', "/")).ok(),
    }
}
