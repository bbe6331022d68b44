//! Counters of the edge, for the metrics page and for tests.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;

/// One number that other threads may read at any time.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Subtracts (gauges only).
    pub fn sub(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the start; `connected` and `mailbox_bytes` go down too.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl Counters {
            /// Every count with its name, for a metrics page.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Connections of known accounts now.
    connected,
    /// Bytes that wait for gateways now.
    mailbox_bytes,
    /// TCP connections that were accepted.
    accepted,
    /// Connections that were closed because all places were taken.
    refused_full,
    /// Connections that did not get as far as an accepted CONNECT.
    refused_connect,
    /// Publications from clients.
    published,
    /// Transactions that the ledger admitted.
    admitted,
    /// Transactions that the ledger refused for good.
    invalid,
    /// Transactions that met a full mempool at their last attempt.
    busy,
    /// Publications, filters and wills on topics that are not the client's.
    forbidden,
    /// Connections closed because of what they sent.
    violations,
    /// Connections closed because they did not read.
    write_timeouts,
    /// Connections closed because they were silent for too long.
    keepalive_timeouts,
    /// Connections that were replaced by a newer one of the same account.
    takeovers,
    /// Connections closed because their key was revoked.
    revoked,
    /// Times a client was made to wait because it sent too much.
    throttled,
    /// Messages sent to clients.
    delivered,
    /// Receipts that found no room in their mailbox, and messages too large for the client.
    dropped,
    /// Wills that were submitted to the ledger.
    wills,
    /// Reads of the ledger for work of gateways: pages of devices, and open work that was looked at
    /// again.
    work_reads,
    /// Times a connection read notifications from the feed because it was behind or away.
    replays,
}

/// The counters in `/metrics`, as `mqtt_*`.
#[derive(Debug)]
pub struct EdgeMetrics(pub Arc<Counters>);

impl Collector for EdgeMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for (name, value) in self.0.all() {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let (name, kind) = (format!("mqtt_{name}"), gauge.metric_type());
            let encoder =
                encoder.encode_descriptor(&name, "A count of the MQTT edge", None, kind)?;
            gauge.encode(encoder)?;
        }
        Ok(())
    }
}
