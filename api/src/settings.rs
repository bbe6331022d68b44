//! Settings of the edge that an operator chooses, with their ranges.

use serde::{Deserialize, Serialize};

use crate::token::TOKEN_TIME;

/// Settings of the HTTP interface: the table `[http]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Origins of browsers' pages that may read answers and open the feed, e.g.
    /// `https://cms.example.org`; none by default.
    pub cors_origins: Vec<String>,
    /// Connections of one address, of 8,192 in all.
    pub connections_per_address: u32,
    /// Seconds in which a client must take a part of what it is sent.
    pub write_timeout_s: u64,
    /// Seconds in which the body of a request must arrive.
    pub body_timeout_s: u64,
    /// Seconds for which a token is valid.
    pub token_s: u64,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            cors_origins: Vec::new(),
            // A proxy is one address.
            connections_per_address: 1_024,
            write_timeout_s: 30,
            // A piece of an artifact at 1.1 Mbit/s.
            body_timeout_s: 30,
            token_s: TOKEN_TIME.as_secs(),
        }
    }
}

/// Quotas of each account: the table `[quotas]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaSettings {
    /// Requests a second over HTTP with the account's tokens; twice as many at once after a pause.
    pub requests_per_second: u32,
    /// Requests of the account that are being answered at once, open streams among them.
    pub requests_at_once: u32,
    /// Requests a second of one address, whoever sends them: submissions, and what needs no token.
    pub address_requests_per_second: u32,
    /// Bytes of answers a second over HTTP; more are delayed.
    pub bytes_per_second: u32,
    /// Bytes of requests a second over HTTP with the account's tokens, of uploads above all; more
    /// are read later.
    pub upload_bytes_per_second: u32,
    /// Streams of the feed.
    pub streams: u32,
    /// Transactions that wait for their block.
    pub pending_transactions: u32,
    /// Unfinished uploads.
    pub uploads: u32,
    /// Filters of an MQTT session.
    pub subscriptions: u32,
    /// MQTT packets a second; more are read later.
    pub mqtt_packets_per_second: u32,
    /// Bytes a second over MQTT; more are read later.
    pub mqtt_bytes_per_second: u32,
}

impl Default for QuotaSettings {
    fn default() -> Self {
        Self {
            requests_per_second: 500,
            requests_at_once: 256,
            address_requests_per_second: 5_000,
            bytes_per_second: 32 * 1024 * 1024,
            // The largest artifact within half a minute, and less than a disk writes.
            upload_bytes_per_second: 8 * 1024 * 1024,
            streams: 64,
            // Two keys, each with its whole replay window.
            pending_transactions: 2_048,
            uploads: 8,
            subscriptions: 64,
            // A gateway with 1,000 Things that each report every second stays below, even without
            // batches.
            mqtt_packets_per_second: 5_000,
            mqtt_bytes_per_second: 4 * 1024 * 1024,
        }
    }
}

/// Times of MQTT that depend on the links to the gateways: the table `[mqtt]`. The defaults suit
/// NB-IoT: round trips of seconds, and 2 KB a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MqttSettings {
    /// Longest time for TLS and CONNECT, in seconds, while more than half of the places before the
    /// CONNECT are taken.
    pub busy_connect_s: u64,
    /// Connections of one address that have not sent their CONNECT, of 4,096 in all.
    pub pending_per_address: u32,
    /// Seconds in which a client must take 64 KiB that it is sent.
    pub write_s: u64,
    /// Seconds in which one packet must arrive; until then it keeps the connection alive.
    pub packet_s: u64,
    /// Keepalive in seconds of a client that asks for none.
    pub keepalive_default_s: u16,
    /// Longest keepalive in seconds of an MQTT 5 client.
    pub keepalive_max_s: u16,
}

impl Default for MqttSettings {
    fn default() -> Self {
        Self {
            busy_connect_s: 10,
            pending_per_address: 2_048,
            write_s: 60,
            packet_s: 300,
            keepalive_default_s: 60,
            keepalive_max_s: 600,
        }
    }
}

/// The reason why settings can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("http.cors_origins: {0:?} is no origin, e.g. https://cms.example.org")]
    Origin(String),
    #[error("{name} must be between {min} and {max}")]
    Range {
        name: &'static str,
        min: u64,
        max: u64,
    },
}

fn in_range(name: &'static str, value: u64, min: u64, max: u64) -> Result<(), SettingsError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(SettingsError::Range { name, min, max })
}

impl HttpSettings {
    /// Checks the values.
    ///
    /// # Errors
    /// A value that is out of range or has another form.
    pub fn check(&self) -> Result<(), SettingsError> {
        if let Some(origin) = self.cors_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(SettingsError::Origin(origin.clone()));
        }
        let connections = self.connections_per_address.into();
        in_range("http.connections_per_address", connections, 1, 8_192)?;
        in_range("http.write_timeout_s", self.write_timeout_s, 1, 600)?;
        in_range("http.body_timeout_s", self.body_timeout_s, 1, 600)?;
        in_range("http.token_s", self.token_s, 180, TOKEN_TIME.as_secs())
    }
}

impl QuotaSettings {
    /// Checks the values.
    ///
    /// # Errors
    /// A value that is out of range: 0 would lock everybody out.
    pub fn check(&self) -> Result<(), SettingsError> {
        let Self {
            requests_per_second,
            requests_at_once,
            address_requests_per_second,
            bytes_per_second,
            upload_bytes_per_second,
            streams,
            pending_transactions,
            uploads,
            subscriptions,
            mqtt_packets_per_second,
            mqtt_bytes_per_second,
        } = *self;
        let all = [
            ("quotas.requests_per_second", requests_per_second, 1_000_000),
            ("quotas.requests_at_once", requests_at_once, 4_096),
            (
                "quotas.address_requests_per_second",
                address_requests_per_second,
                1_000_000,
            ),
            ("quotas.streams", streams, 1_024),
            ("quotas.pending_transactions", pending_transactions, 20_000),
            ("quotas.uploads", uploads, 64),
            ("quotas.subscriptions", subscriptions, 1_024),
            (
                "quotas.mqtt_packets_per_second",
                mqtt_packets_per_second,
                1_000_000,
            ),
        ];
        for (name, value, max) in all {
            in_range(name, value.into(), 1, max)?;
        }
        let bytes = [
            ("quotas.bytes_per_second", bytes_per_second),
            ("quotas.upload_bytes_per_second", upload_bytes_per_second),
            ("quotas.mqtt_bytes_per_second", mqtt_bytes_per_second),
        ];
        for (name, value) in bytes {
            in_range(name, value.into(), 1_024, u32::MAX.into())?;
        }
        Ok(())
    }
}

impl MqttSettings {
    /// Checks the values.
    ///
    /// # Errors
    /// A value that is out of range.
    pub fn check(&self) -> Result<(), SettingsError> {
        in_range("mqtt.busy_connect_s", self.busy_connect_s, 1, 300)?;
        let pending = u64::from(self.pending_per_address);
        in_range("mqtt.pending_per_address", pending, 1, 4_096)?;
        in_range("mqtt.write_s", self.write_s, 1, 600)?;
        in_range("mqtt.packet_s", self.packet_s, 1, 3_600)?;
        let keepalive = u64::from(self.keepalive_default_s);
        in_range("mqtt.keepalive_default_s", keepalive, 1, 65_535)?;
        let keepalive = u64::from(self.keepalive_max_s);
        in_range("mqtt.keepalive_max_s", keepalive, 1, 65_535)
    }
}

/// Tells whether a text has the form in which browsers send an origin: scheme, host and port, with
/// nothing after them.
fn is_origin(text: &str) -> bool {
    let host = ["https://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    host.is_some_and(|host| {
        let is_allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:[]".contains(c);
        !host.is_empty() && host.chars().all(is_allowed)
    })
}
