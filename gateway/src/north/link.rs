//! The MQTT connection to one of several nodes.
//!
//! MQTT 3.1.1: with MQTT 5, rumqttc takes a refused publication for an error of the whole
//! connection and drops it; with 3.1.1 the node acknowledges the publication and tells the refusal
//! on the receipt topic. Each connection is a clean session: what was under way is sent again by
//! its owner, who has it on disk.
//!
//! A connection without TLS ends with its token; before that happens the gateway connects to the
//! same node anew.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lamplighter_client::{Client, ClientError};
use lamplighter_tls::{self as tls, Identity};
use lamplighter_types::login::Audience;
use lamplighter_types::work::WORK_BYTES_MAX;
use lamplighter_types::{Id, PublicKey, SecretKey};
use rand::Rng;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, MqttOptions, QoS, Transport,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::NodeAddress;

/// Largest packet either way: the node's own limit, with its topic.
const PACKET_BYTES_MAX: usize = WORK_BYTES_MAX + 1024;
/// Publications that wait inside the MQTT client.
const REQUESTS_MAX: usize = 128;
/// Publications that the node has not acknowledged; it allows 100.
const INFLIGHT_MAX: u16 = 96;
/// First pause after no node could be reached; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// Longest pause between two rounds.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A connection that lasted so long was a good one: the next pause is short again.
const GOOD_AFTER: Duration = Duration::from_secs(30);
/// A TLS certificate needs a name. Nobody looks at it.
const CERTIFICATE_NAME: &str = "gateway.invalid";
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// What a node has for TCP, TLS and MQTT at first, so that one that is gone does not hold up the
/// others. As long as no node is reached it doubles with each round, up to the configured time.
const CONNECT_FIRST: Duration = Duration::from_secs(5);
/// A connection is made anew so long before its token ends.
const RENEW_BEFORE: Duration = Duration::from_secs(60);

/// What the gateway sends.
#[derive(Clone, Debug)]
pub enum ToNode {
    /// A signed transaction, JSON.
    Transaction(Bytes),
    /// Asks for work, JSON.
    Sync(Bytes),
}

/// What comes of the link.
#[derive(Clone, Debug)]
pub enum FromNode {
    /// To the node at this index of the configuration; what was under way has to be sent again.
    Connected(usize),
    Lost,
    Receipt(Bytes),
    Work(Bytes),
    Head(Bytes),
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
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
}

/// A link to the nodes.
pub struct Link {
    pub account: Id,
    pub secret: SecretKey,
    pub nodes: Vec<NodeAddress>,
    /// Keys of the validators in the genesis file.
    pub known: BTreeSet<PublicKey>,
    /// Gives tokens; its nodes are in the order of `nodes`.
    pub client: Client,
    /// Longest time to connect.
    pub connect_time: Duration,
}

/// How a connection came to its end without a fault.
enum Ended {
    /// Its token would not have lasted.
    Renewal,
    /// The gateway stops.
    Closed,
}

/// Runs until the token is cancelled, to one node after the other.
pub async fn run(
    link: Link,
    mut commands: mpsc::Receiver<ToNode>,
    events: mpsc::Sender<FromNode>,
    stop: CancellationToken,
) {
    let (mut pause, mut patience) = (PAUSE_FIRST, CONNECT_FIRST.min(link.connect_time));
    let mut index = 0;
    loop {
        let begun = Instant::now();
        let ended = tokio::select! {
            ended = link.session(index, &mut patience, &mut commands, &events) => ended,
            () = stop.cancelled() => return,
        };
        if events.send(FromNode::Lost).await.is_err() {
            return;
        }
        match ended {
            Ok(Ended::Renewal) => continue,
            Ok(Ended::Closed) => {}
            Err(error) => {
                let error = crate::chain(&error);
                tracing::info!(node = link.nodes[index].mqtt, error, "not connected");
            }
        }
        index = (index + 1) % link.nodes.len();
        if begun.elapsed() > GOOD_AFTER.max(patience) {
            pause = PAUSE_FIRST;
        } else if index > 0 {
            continue;
        }
        patience = (patience * 2).min(link.connect_time);
        let rest = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        pause = (pause * 2).min(PAUSE_MAX);
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// After what time a connection is made anew whose token ends at `expires_ms`, Unix time. None if
/// that is so soon that the clocks of node and gateway must differ: the node ends it then.
pub(super) fn renew_after(expires_ms: u64, now_ms: u64) -> Option<Duration> {
    let left = Duration::from_millis(expires_ms.saturating_sub(now_ms));
    (left > 2 * RENEW_BEFORE).then(|| left - RENEW_BEFORE)
}

impl Link {
    fn topic(&self, level: &str) -> String {
        format!("lamplighter/1/gw/{}/{level}", self.account)
    }

    /// How to connect to a node, and after what time it has to be done anew.
    async fn options(&self, index: usize) -> Result<(MqttOptions, Option<Duration>), LinkError> {
        let node = &self.nodes[index];
        let wrong = || LinkError::Address(node.mqtt.clone());
        let (host, port) = node.host_port().ok_or_else(wrong)?;
        let mut options = MqttOptions::new(self.account.as_str(), host, port);
        options
            .set_clean_session(true)
            .set_keep_alive(KEEP_ALIVE)
            .set_inflight(INFLIGHT_MAX)
            .set_request_channel_capacity(REQUESTS_MAX)
            .set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
        let mut renewal = None;
        if node.tls {
            let mut keys = self.known.clone();
            // A pinned key is the only one.
            if let Some(key) = node.key {
                keys = BTreeSet::from([key]);
            }
            let own = Identity::new(&self.secret, CERTIFICATE_NAME).map_err(LinkError::Tls)?;
            let tls = tls::client(Some(&own), keys).map_err(LinkError::Tls)?;
            options.set_transport(Transport::tls_with_config(tls.into()));
        } else {
            let token = self.client.token(index, Audience::Mqtt).await;
            let token = token.map_err(LinkError::Token)?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now_ms = now.map_or(0, |now| now.as_millis() as u64);
            renewal = renew_after(token.expires_ms, now_ms);
            options.set_credentials(self.account.as_str(), token.token);
        }
        Ok((options, renewal))
    }

    /// One connection, until it breaks.
    async fn session(
        &self,
        index: usize,
        patience: &mut Duration,
        commands: &mut mpsc::Receiver<ToNode>,
        events: &mpsc::Sender<FromNode>,
    ) -> Result<Ended, LinkError> {
        let (options, renewal) = self.options(index).await?;
        let (client, mut mqtt) = AsyncClient::new(options, REQUESTS_MAX);
        let (begun, seconds) = (Instant::now(), patience.as_secs().max(1));
        mqtt.network_options.set_connection_timeout(seconds);
        loop {
            let event = mqtt
                .poll()
                .await
                .map_err(|e| LinkError::Connection(Box::new(e)))?;
            if matches!(event, Event::Incoming(Incoming::ConnAck(_))) {
                break;
            }
        }
        // The next connection may take twice as long as this one.
        *patience = CONNECT_FIRST
            .max(begun.elapsed() * 2)
            .min(self.connect_time);
        for topic in [
            self.topic("receipt"),
            self.topic("work"),
            "lamplighter/1/head".to_owned(),
        ] {
            client
                .try_subscribe(topic, QoS::AtLeastOnce)
                .map_err(|_| LinkError::Ended)?;
        }
        tracing::info!(node = self.nodes[index].mqtt, "connected");
        if events.send(FromNode::Connected(index)).await.is_err() {
            return Ok(Ended::Closed);
        }
        // Apart, so that receiving goes on while a publication waits for its place, and keep-alives
        // too.
        let receiving = receive(&mut mqtt, events, self);
        let sending = send(&client, commands, self);
        let renewed = async {
            match renewal {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = receiving => ended.map(|()| Ended::Closed),
            ended = sending => ended.map(|()| Ended::Closed),
            () = renewed => Ok(Ended::Renewal),
        }
    }
}

async fn receive(
    mqtt: &mut EventLoop,
    events: &mpsc::Sender<FromNode>,
    link: &Link,
) -> Result<(), LinkError> {
    let (receipt, work) = (link.topic("receipt"), link.topic("work"));
    loop {
        let event = mqtt
            .poll()
            .await
            .map_err(|e| LinkError::Connection(Box::new(e)))?;
        let Event::Incoming(Incoming::Publish(publish)) = event else {
            continue;
        };
        let message = match publish.topic.as_str() {
            topic if topic == receipt => FromNode::Receipt(publish.payload),
            topic if topic == work => FromNode::Work(publish.payload),
            "lamplighter/1/head" => FromNode::Head(publish.payload),
            // Not subscribed to; a node that sends it anyway gains nothing.
            _ => continue,
        };
        if events.send(message).await.is_err() {
            return Ok(());
        }
    }
}

async fn send(
    client: &AsyncClient,
    commands: &mut mpsc::Receiver<ToNode>,
    link: &Link,
) -> Result<(), LinkError> {
    while let Some(command) = commands.recv().await {
        let (level, payload) = match command {
            ToNode::Transaction(payload) => ("tx", payload),
            ToNode::Sync(payload) => ("sync", payload),
        };
        let topic = link.topic(level);
        let published = client
            .publish_bytes(topic, QoS::AtLeastOnce, false, payload)
            .await;
        published.map_err(|_| LinkError::Ended)?;
    }
    Ok(())
}
