//! The north side: an MQTT connection to one of several nodes. Transactions and requests go out;
//! receipts, work and heads come in.
//!
//! MQTT 3.1.1: with MQTT 5, rumqttc takes a refused publication for an error of the whole
//! connection and drops it; with 3.1.1 the node acknowledges the publication and sends the refusal
//! on the receipt topic. Each connection is a clean session: the owner of the transactions in
//! flight has them on disk and sends them again.
//!
//! A connection without TLS ends with its token; before that happens the gateway connects to the
//! same node again.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lamplighter_client::{Client, ClientError, TrustAnchor};
use lamplighter_system::{Backoff, error_chain, unix_ms};
use lamplighter_tls::{self as tls, Identity};
use lamplighter_types::login::Audience;
use lamplighter_types::wire::topics::{self, GatewayTopic};
use lamplighter_types::wire::work::{SyncRequest, WORK_BYTES_MAX};
use lamplighter_types::{Id, PublicKey, SecretKey, SignedTransaction};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, MqttOptions, QoS, Transport,
};
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::NodeAddress;

/// Largest packet either way: the node's own limit, with its topic.
const PACKET_BYTES_MAX: usize = WORK_BYTES_MAX + 1024;
/// Publications that wait inside the MQTT client.
const REQUESTS_MAX: usize = 128;
/// Publications that the node has not acknowledged; it allows 100.
const INFLIGHT_MAX: u16 = 96;
/// Shortest and longest pause after no node could be reached.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// After a connection that lasted this long, the next pause is short again.
const STABLE_AFTER: Duration = Duration::from_secs(30);
/// A TLS certificate needs a name. Nobody checks it.
const CERTIFICATE_NAME: &str = "gateway.invalid";
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Time that a node has at first for TCP, TLS and MQTT, so that a node that is down does not hold
/// up the others. As long as no node is reached it doubles with each round, up to the configured
/// time.
const CONNECT_TIMEOUT_MIN: Duration = Duration::from_secs(5);
/// The gateway connects again this long before its token ends.
const RENEW_BEFORE: Duration = Duration::from_secs(60);

/// A message to the node.
#[derive(Clone, Debug)]
pub enum NodeRequest {
    /// A signed transaction, JSON.
    Transaction(Bytes),
    /// A request for work, JSON.
    Sync(Bytes),
}

impl NodeRequest {
    pub fn transaction(envelope: &SignedTransaction) -> Self {
        Self::Transaction(json(envelope))
    }

    pub fn sync(request: &SyncRequest) -> Self {
        Self::Sync(json(request))
    }
}

fn json(message: &impl Serialize) -> Bytes {
    let json = serde_json::to_vec(message).expect("our types have JSON forms");
    json.into()
}

/// An event of the connection, or a message from the node.
#[derive(Clone, Debug)]
pub enum NodeEvent {
    /// The gateway is connected to the node at this index of the configuration; the transactions in
    /// flight have to be sent again.
    Connected(usize),
    Disconnected,
    Receipt(Bytes),
    Work(Bytes),
    Head(Bytes),
}

/// Why a connection failed or broke.
#[derive(Debug, thiserror::Error)]
enum NodeLinkError {
    #[error("the address {0:?} is not host:port")]
    Address(String),
    #[error("getting a token")]
    Token(#[source] ClientError),
    #[error("setting up TLS")]
    Tls(#[source] tls::SetupError),
    #[error("the MQTT connection")]
    Connection(#[source] Box<ConnectionError>),
    #[error("the MQTT client has ended")]
    Ended,
    #[error("no answer for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the node makes no progress")]
    NoProgress,
}

/// The link to the nodes.
pub struct NodeLink {
    pub account: Id,
    pub secret: SecretKey,
    pub nodes: Vec<NodeAddress>,
    /// The validators that nodes without a key in the configuration must be.
    pub anchor: Arc<TrustAnchor>,
    /// The client that gets tokens; its nodes are in the order of `nodes`.
    pub client: Client,
    /// Longest time to connect.
    pub connect_timeout_max: Duration,
    /// The number of the newest connection that has to be left, counted from 1 on as
    /// [`NodeEvent::Connected`] reports them.
    pub leave: watch::Receiver<u64>,
}

/// Why a connection ended without a fault.
enum SessionEnd {
    /// Its token would have ended soon.
    Renewal,
    /// The gateway stops.
    Closed,
}

/// Time after which a connection is renewed whose token ends at `expires_ms`, Unix time. None if
/// that is so soon that the clocks of node and gateway must differ: the node ends the connection
/// then.
fn renew_after(expires_ms: u64, now_ms: u64) -> Option<Duration> {
    let left = Duration::from_millis(expires_ms.saturating_sub(now_ms));
    (left > 2 * RENEW_BEFORE).then(|| left - RENEW_BEFORE)
}

/// The state of the link for one connection.
struct Session<'a> {
    /// The position of the node in the configuration.
    index: usize,
    /// Connections so far.
    connections: &'a mut u64,
    /// Longest time to connect; set for the next connection.
    timeout: &'a mut Duration,
}

impl NodeLink {
    /// Connects to one node after the other, until the token is cancelled.
    pub async fn run(
        self,
        mut requests: mpsc::Receiver<NodeRequest>,
        events: mpsc::Sender<NodeEvent>,
        stop: CancellationToken,
    ) {
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        let mut timeout = CONNECT_TIMEOUT_MIN.min(self.connect_timeout_max);
        let (mut index, mut connections) = (0, 0);
        loop {
            let started = Instant::now();
            let session = Session {
                index,
                connections: &mut connections,
                timeout: &mut timeout,
            };
            let end = tokio::select! {
                end = self.session(session, &mut requests, &events) => end,
                () = stop.cancelled() => return,
            };
            if events.send(NodeEvent::Disconnected).await.is_err() {
                return;
            }
            let mut next = (index + 1) % self.nodes.len();
            match end {
                Ok(SessionEnd::Renewal) => continue,
                Ok(SessionEnd::Closed) => {}
                Err(error) => {
                    if matches!(error, NodeLinkError::NoProgress) {
                        next = self.next_after(index);
                    }
                    let error = error_chain(&error);
                    tracing::info!(node = self.nodes[index].mqtt, error, "not connected");
                }
            }
            index = next;
            if started.elapsed() > STABLE_AFTER.max(timeout) {
                backoff.reset();
            } else if index > 0 {
                continue;
            }
            timeout = (timeout * 2).min(self.connect_timeout_max);
            let pause = async {
                tokio::time::sleep(backoff.next_pause()).await;
                self.follow_validators().await;
            };
            tokio::select! {
                () = pause => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// The node after one that made no progress: the one that has proven most to the client, if
    /// that is another.
    fn next_after(&self, index: usize) -> usize {
        let first = self.client.first_node();
        if first == index {
            (index + 1) % self.nodes.len()
        } else {
            first
        }
    }

    fn validator_keys(&self) -> BTreeSet<PublicKey> {
        let trusted = self.anchor.current();
        trusted.set.validators.iter().map(|v| v.key).collect()
    }

    /// Asks for the validators in force, after no node could be connected to: the nodes may be
    /// validators of which this gateway does not know.
    async fn follow_validators(&self) {
        if !self.nodes.iter().any(|node| node.tls && node.key.is_none()) {
            return;
        }
        if let Err(error) = self.client.follow_validators().await {
            let error = error_chain(&error);
            tracing::info!(error, "the validators in force are not known");
        }
    }

    /// The options to connect to a node, and the time after which the connection is renewed.
    async fn mqtt_options(
        &self,
        index: usize,
    ) -> Result<(MqttOptions, Option<Duration>), NodeLinkError> {
        let node = &self.nodes[index];
        let malformed = || NodeLinkError::Address(node.mqtt.clone());
        let (host, port) = node.host_port().ok_or_else(malformed)?;
        let mut options = MqttOptions::new(self.account.as_str(), host, port);
        options
            .set_clean_session(true)
            .set_keep_alive(KEEP_ALIVE)
            .set_inflight(INFLIGHT_MAX)
            .set_request_channel_capacity(REQUESTS_MAX)
            .set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
        let mut renewal = None;
        if node.tls {
            // A pinned key is the only one.
            let pinned = node.key.map(|key| BTreeSet::from([key]));
            let keys = pinned.unwrap_or_else(|| self.validator_keys());
            let identity =
                Identity::new(&self.secret, CERTIFICATE_NAME).map_err(NodeLinkError::Tls)?;
            let tls = tls::client(Some(&identity), keys).map_err(NodeLinkError::Tls)?;
            options.set_transport(Transport::tls_with_config(tls.into()));
        } else {
            let token = self.client.token(index, Audience::Mqtt).await;
            let token = token.map_err(NodeLinkError::Token)?;
            renewal = renew_after(token.expires_ms, unix_ms());
            options.set_credentials(self.account.as_str(), token.token);
        }
        Ok((options, renewal))
    }

    /// One connection, until it breaks.
    async fn session(
        &self,
        session: Session<'_>,
        requests: &mut mpsc::Receiver<NodeRequest>,
        events: &mpsc::Sender<NodeEvent>,
    ) -> Result<SessionEnd, NodeLinkError> {
        let Session {
            index,
            connections,
            timeout,
        } = session;
        // With a token; a node may take the connection for it and never answer.
        let options = tokio::time::timeout(*timeout, self.mqtt_options(index)).await;
        let (options, renewal) = options.map_err(|_| NodeLinkError::Silent(*timeout))??;
        let (client, mut mqtt) = AsyncClient::new(options, REQUESTS_MAX);
        let (started, seconds) = (Instant::now(), timeout.as_secs().max(1));
        mqtt.network_options.set_connection_timeout(seconds);
        let accepted = async {
            while !matches!(
                next_event(&mut mqtt).await?,
                Event::Incoming(Incoming::ConnAck(_))
            ) {}
            Ok(())
        };
        let accepted = tokio::time::timeout(*timeout, accepted).await;
        accepted.map_err(|_| NodeLinkError::Silent(*timeout))??;
        // The next connection may take twice as long as this one.
        *timeout = CONNECT_TIMEOUT_MIN
            .max(started.elapsed() * 2)
            .min(self.connect_timeout_max);
        for topic in [
            GatewayTopic::Receipt.of(&self.account),
            GatewayTopic::Work.of(&self.account),
            topics::HEAD.to_owned(),
        ] {
            client
                .try_subscribe(topic, QoS::AtLeastOnce)
                .map_err(|_| NodeLinkError::Ended)?;
        }
        tracing::info!(node = self.nodes[index].mqtt, "connected");
        *connections += 1;
        if events.send(NodeEvent::Connected(index)).await.is_err() {
            return Ok(SessionEnd::Closed);
        }
        let mut leave = self.leave.clone();
        let left = leave.wait_for(|left| *left >= *connections);
        // Two futures, so that messages and keep-alives are received while a publication waits.
        let receiving = self.receive(&mut mqtt, events);
        let sending = self.send(&client, requests);
        let renewed = async {
            match renewal {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = receiving => ended.map(|()| SessionEnd::Closed),
            ended = sending => ended.map(|()| SessionEnd::Closed),
            () = renewed => Ok(SessionEnd::Renewal),
            // An error: the gateway has ended.
            left = left => left.map_or(Ok(SessionEnd::Closed), |_| Err(NodeLinkError::NoProgress)),
        }
    }

    async fn receive(
        &self,
        mqtt: &mut EventLoop,
        events: &mpsc::Sender<NodeEvent>,
    ) -> Result<(), NodeLinkError> {
        loop {
            let Event::Incoming(Incoming::Publish(publish)) = next_event(mqtt).await? else {
                continue;
            };
            let payload = publish.payload;
            let message = match GatewayTopic::parse(&publish.topic, &self.account) {
                Some(GatewayTopic::Receipt) => NodeEvent::Receipt(payload),
                Some(GatewayTopic::Work) => NodeEvent::Work(payload),
                None if publish.topic == topics::HEAD => NodeEvent::Head(payload),
                // Not subscribed to; a node that sends it anyway gains nothing.
                _ => continue,
            };
            if events.send(message).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn send(
        &self,
        client: &AsyncClient,
        requests: &mut mpsc::Receiver<NodeRequest>,
    ) -> Result<(), NodeLinkError> {
        while let Some(request) = requests.recv().await {
            let (topic, payload) = match request {
                NodeRequest::Transaction(payload) => (GatewayTopic::Transaction, payload),
                NodeRequest::Sync(payload) => (GatewayTopic::Sync, payload),
            };
            let published = client
                .publish_bytes(topic.of(&self.account), QoS::AtLeastOnce, false, payload)
                .await;
            published.map_err(|_| NodeLinkError::Ended)?;
        }
        Ok(())
    }
}

async fn next_event(mqtt: &mut EventLoop) -> Result<Event, NodeLinkError> {
    let event = mqtt.poll().await;
    event.map_err(|error| NodeLinkError::Connection(Box::new(error)))
}
