//! The topics table: who may publish and read what. Whatever is not listed here is refused.

use std::collections::{BTreeMap, BTreeSet};

use rumqttd::protocol::{matches, valid_filter, valid_topic};

use super::backend::{Account, AccountKind, Reach};
use super::limits::{DISTRICT_BYTES, FILTERS_MAX, LEVEL_BYTES, ROUTES_MAX, TOPIC_BYTES};

/// Newest certified header, for everybody.
pub const HEAD: &str = "lamplighter/1/head";
const GATEWAYS: &str = "lamplighter/1/gw/";
const NOTIFY: &str = "lamplighter/1/notify/";

/// What a client publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inbound {
    /// A signed transaction for the ledger.
    Transaction,
    /// The gateway asks for its work since a cursor.
    Sync,
}

/// What a client subscribes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Receipts of its own transactions.
    Receipt,
    /// Deployments and configuration for its devices.
    Work,
    /// The newest certified header.
    Head,
    /// Notifications of one or all districts.
    Notify,
}

/// Why a topic or filter is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not a topic or filter of MQTT, or longer or of other letters than ours are.
    Malformed,
    /// Well formed, but not for this account.
    NotAllowed,
    /// `$share`, which we do not have.
    Shared,
}

/// The topic on which a gateway gets its receipts.
pub fn receipt(gateway: &str) -> String {
    format!("{GATEWAYS}{gateway}/receipt")
}

/// The topic on which a gateway gets its work.
pub fn work(gateway: &str) -> String {
    format!("{GATEWAYS}{gateway}/work")
}

/// The topic of a notification; `None` when a part cannot be a level of a topic. A district such
/// as `north/harbour` is one level, `north:harbour`, and the whole city is `-`.
pub fn notification(kind: &str, district: &str, device: &str) -> Option<String> {
    let level = if district.is_empty() {
        "-".to_owned()
    } else {
        district.replace('/', ":")
    };
    (is_name(kind) && is_district(&level) && is_name(device))
        .then(|| format!("{NOTIFY}{kind}/{level}/{device}"))
}

/// The district (as the ledger writes it) of a notification's topic.
pub fn district(topic: &str) -> Option<String> {
    Some(written(topic.strip_prefix(NOTIFY)?.split('/').nth(1)?))
}

fn written(level: &str) -> String {
    if level == "-" {
        String::new()
    } else {
        level.replace(':', "/")
    }
}

fn is_district(level: &str) -> bool {
    level == "-" || level.len() <= DISTRICT_BYTES && level.split(':').all(is_name)
}

/// Letters, digits, `.`, `_`, `-`, at most 64: ids of accounts, devices, districts, event kinds.
pub fn is_name(text: &str) -> bool {
    let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !text.is_empty() && text.len() <= LEVEL_BYTES && text.bytes().all(letters)
}

/// Checks the topic of a publication or a will.
pub fn inbound(account: &Account, topic: &[u8]) -> Result<Inbound, Refusal> {
    let topic = plain(topic)?;
    if topic.starts_with('$') || !valid_topic(topic) {
        return Err(Refusal::Malformed);
    }
    match own_level(account, topic) {
        Some("tx") => Ok(Inbound::Transaction),
        Some("sync") => Ok(Inbound::Sync),
        _ => Err(Refusal::NotAllowed),
    }
}

/// Checks an MQTT 5 response topic: the gateway's receipt topic, or one level below it.
pub fn response(account: &Account, topic: &str) -> Result<(), Refusal> {
    let topic = plain(topic.as_bytes())?;
    match own_level(account, topic) {
        Some("receipt") => Ok(()),
        Some(rest) if rest.strip_prefix("receipt/").is_some_and(is_name) => Ok(()),
        _ => Err(Refusal::NotAllowed),
    }
}

/// Checks a filter of a subscription.
pub fn interest(account: &Account, filter: &str) -> Result<Interest, Refusal> {
    let filter = plain(filter.as_bytes())?;
    if filter.starts_with("$share/") {
        return Err(Refusal::Shared);
    }
    if filter.starts_with('$') || !valid_filter(filter) {
        return Err(Refusal::Malformed);
    }
    if filter == HEAD {
        return Ok(Interest::Head);
    }
    if let Some(rest) = filter.strip_prefix(NOTIFY) {
        return notify_interest(account, rest);
    }
    match own_level(account, filter) {
        Some("receipt") => Ok(Interest::Receipt),
        Some("work") => Ok(Interest::Work),
        Some(rest) if rest.strip_prefix("receipt/").is_some_and(is_name_or_any) => {
            Ok(Interest::Receipt)
        }
        _ => Err(Refusal::NotAllowed),
    }
}

fn notify_interest(account: &Account, rest: &str) -> Result<Interest, Refusal> {
    let levels: Vec<&str> = rest.split('/').collect();
    let AccountKind::User(reach) = &account.kind else {
        return Err(Refusal::NotAllowed);
    };
    let [kind, district, device] = levels[..] else {
        return Err(Refusal::NotAllowed);
    };
    let shaped = is_name_or_any(kind) && is_name_or_any(device);
    let allowed = match (district, reach) {
        ("+", Reach::Districts(own)) => !own.is_empty(),
        ("+", Reach::All) => true,
        (level, _) => is_district(level) && account.sees(&written(level)),
    };
    if shaped && allowed {
        Ok(Interest::Notify)
    } else {
        Err(Refusal::NotAllowed)
    }
}

fn own_level<'a>(account: &Account, topic: &'a str) -> Option<&'a str> {
    if account.kind != AccountKind::Gateway {
        return None;
    }
    topic
        .strip_prefix(GATEWAYS)?
        .strip_prefix(account.id.as_str())?
        .strip_prefix('/')
}

fn plain(topic: &[u8]) -> Result<&str, Refusal> {
    if topic.is_empty() || topic.len() > TOPIC_BYTES || !topic.iter().all(u8::is_ascii_graphic) {
        return Err(Refusal::Malformed);
    }
    std::str::from_utf8(topic).map_err(|_| Refusal::Malformed)
}

fn is_name_or_any(level: &str) -> bool {
    level == "+" || is_name(level)
}

/// The filters of one session with the QoS that was granted for each.
#[derive(Debug, Clone, Default)]
pub struct Subscriptions {
    filters: BTreeMap<String, (Interest, u8)>,
}

impl Subscriptions {
    /// Adds or replaces a filter. `None` when the session has too many, else whether it is new.
    pub fn insert(&mut self, filter: &str, interest: Interest, qos: u8) -> Option<bool> {
        let new = !self.filters.contains_key(filter);
        if new && self.filters.len() >= FILTERS_MAX {
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
        let hits = self
            .filters
            .iter()
            .filter(|(filter, _)| matches(topic, filter));
        hits.map(|(_, (_, qos))| *qos).max()
    }

    /// Whether any filter has this interest.
    pub fn wants(&self, interest: Interest) -> bool {
        self.filters.values().any(|(found, _)| *found == interest)
    }

    /// The filters that the router must know for these subscriptions. They depend on the
    /// account's own districts and never on what a client wrote, because the router never frees
    /// the log of a filter; the guard compares each message with the client's filters itself.
    pub fn routes(&self, account: &Account) -> BTreeSet<String> {
        let mut routes = BTreeSet::new();
        if self.wants(Interest::Head) {
            routes.insert(HEAD_ROUTE.to_owned());
        }
        if self.wants(Interest::Notify) {
            match &account.kind {
                AccountKind::User(Reach::Districts(own)) if own.len() < ROUTES_MAX => {
                    routes.extend(own.iter().map(|district| notify_route(district)));
                }
                _ => drop(routes.insert(NOTIFY_ROUTES.to_owned())),
            }
        }
        routes
    }
}

/// The router's own topic for headers.
pub const HEAD_ROUTE: &str = "head";
/// The router's filter for the notifications of all districts.
pub const NOTIFY_ROUTES: &str = "notify/+";

/// The router's own topic for the notifications of a district: that of the outermost district it
/// lies in, so that the router has few of them and a role covers what lies inside.
pub fn notify_route(district: &str) -> String {
    let outermost = district.split('/').next().filter(|part| !part.is_empty());
    format!("notify/{}", outermost.unwrap_or("-"))
}
