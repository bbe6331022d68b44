//! Permissions for topics: which account may publish to and read which. All others are refused.

use std::collections::BTreeMap;

use lamplighter_types::wire::topics::{
    self, GatewayTopic, HEAD, NOTIFICATION_PREFIX, gateway_suffix,
};
use lamplighter_types::{Account, AccountKind};
use rumqttd::protocol::{matches, valid_filter, valid_topic};

use super::accounts::readable_districts;
use super::limits::{LEVEL_BYTES, TOPIC_BYTES};

/// A kind of publication from clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inbound {
    /// A signed transaction for the ledger.
    Transaction,
    /// A gateway's request for its work.
    Sync,
}

/// A kind of subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Receipts of its own transactions.
    Receipt,
    /// Deployments and configuration for its devices.
    Work,
    /// The newest certified header.
    Head,
    /// Notifications of one or all districts.
    Notifications,
}

/// Why a topic or filter is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicError {
    /// No topic or filter of MQTT, or longer or of other letters than ours are.
    Malformed,
    /// Well formed, but not for this account.
    NotAllowed,
    /// `$share`, which is not supported.
    Shared,
}

/// Letters, digits, `.`, `_`, `-`, at most 64: names of response topics.
pub fn is_name(text: &str) -> bool {
    let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !text.is_empty() && text.len() <= LEVEL_BYTES && text.bytes().all(letters)
}

/// Checks the topic of a publication or a will.
pub fn inbound(account: &Account, topic: &[u8]) -> Result<Inbound, TopicError> {
    let topic = check_text(topic)?;
    if topic.starts_with('$') || !valid_topic(topic) {
        return Err(TopicError::Malformed);
    }
    match suffix(account, topic).and_then(GatewayTopic::from_level) {
        Some(GatewayTopic::Transaction) => Ok(Inbound::Transaction),
        Some(GatewayTopic::Sync) => Ok(Inbound::Sync),
        _ => Err(TopicError::NotAllowed),
    }
}

/// Checks an MQTT 5 response topic: the gateway's receipt topic, or one level below it.
pub fn response(account: &Account, topic: &str) -> Result<(), TopicError> {
    let topic = check_text(topic.as_bytes())?;
    match suffix(account, topic) {
        Some("receipt") => Ok(()),
        Some(rest) if rest.strip_prefix("receipt/").is_some_and(is_name) => Ok(()),
        _ => Err(TopicError::NotAllowed),
    }
}

/// Checks a filter of a subscription.
pub fn interest(account: &Account, filter: &str) -> Result<Interest, TopicError> {
    let filter = check_text(filter.as_bytes())?;
    if filter.starts_with("$share/") {
        return Err(TopicError::Shared);
    }
    if filter.starts_with('$') || !valid_filter(filter) {
        return Err(TopicError::Malformed);
    }
    if filter == HEAD {
        return Ok(Interest::Head);
    }
    if let Some(rest) = filter.strip_prefix(NOTIFICATION_PREFIX) {
        return notification_interest(account, rest);
    }
    match suffix(account, filter) {
        Some("receipt") => Ok(Interest::Receipt),
        Some("work") => Ok(Interest::Work),
        Some(rest) if rest.strip_prefix("receipt/").is_some_and(is_name_or_any) => {
            Ok(Interest::Receipt)
        }
        _ => Err(TopicError::NotAllowed),
    }
}

fn notification_interest(account: &Account, levels: &str) -> Result<Interest, TopicError> {
    let levels: Vec<&str> = levels.split('/').collect();
    let [kind, district, device] = levels[..] else {
        return Err(TopicError::NotAllowed);
    };
    let readable = readable_districts(account);
    let allowed = match district {
        "+" => !readable.is_empty(),
        level => topics::parse_district_level(level)
            .is_some_and(|district| readable.iter().any(|d| d.covers(&district))),
    };
    if allowed && is_name_or_any(kind) && is_name_or_any(device) {
        Ok(Interest::Notifications)
    } else {
        Err(TopicError::NotAllowed)
    }
}

/// The rest of a topic after the prefix of the account, if that is a gateway.
fn suffix<'a>(account: &Account, topic: &'a str) -> Option<&'a str> {
    match account.kind {
        AccountKind::Gateway => gateway_suffix(topic, &account.account),
        AccountKind::User | AccountKind::Node => None,
    }
}

fn check_text(topic: &[u8]) -> Result<&str, TopicError> {
    if topic.is_empty() || topic.len() > TOPIC_BYTES || !topic.iter().all(u8::is_ascii_graphic) {
        return Err(TopicError::Malformed);
    }
    std::str::from_utf8(topic).map_err(|_| TopicError::Malformed)
}

fn is_name_or_any(level: &str) -> bool {
    level == "+" || is_name(level)
}

/// The filters of one session with the QoS that was granted for each.
#[derive(Debug, Clone)]
pub struct Subscriptions {
    filters: BTreeMap<String, (Interest, u8)>,
    most: usize,
}

impl Subscriptions {
    /// None yet, and at most so many.
    pub fn new(most: usize) -> Self {
        Self {
            filters: BTreeMap::new(),
            most,
        }
    }

    /// Adds or replaces a filter. `None` when the session has too many, else whether it is new.
    pub fn insert(&mut self, filter: &str, interest: Interest, qos: u8) -> Option<bool> {
        let new = !self.filters.contains_key(filter);
        if new && self.filters.len() >= self.most {
            return None;
        }
        self.filters.insert(filter.to_owned(), (interest, qos));
        Some(new)
    }

    /// Removes a filter; false when there was none.
    pub fn remove(&mut self, filter: &str) -> bool {
        self.filters.remove(filter).is_some()
    }

    /// The highest QoS of the filters that match a topic; `None` when none does.
    pub fn qos_of(&self, topic: &str) -> Option<u8> {
        let matching = self
            .filters
            .iter()
            .filter(|(filter, _)| matches(topic, filter));
        matching.map(|(_, (_, qos))| *qos).max()
    }

    /// True if any filter has this interest.
    pub fn has(&self, interest: Interest) -> bool {
        self.filters.values().any(|(other, _)| *other == interest)
    }
}
