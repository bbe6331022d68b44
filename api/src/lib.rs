//! The edge of a node: HTTP for the CMS, MQTT for gateways, and the operator's listener.

mod address_shares;
mod admin;
mod deadline;
mod http;
mod https;
mod listen;
pub mod mqtt;
mod rights;
mod search;
mod sessions;
mod settings;
mod token;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use lamplighter_ledger::Handle;
use lamplighter_tls::Identity;
use lamplighter_types::SecretKey;
pub use prometheus_client::collector::Collector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::App;
use crate::https::HttpsAcceptor;
pub use crate::https::{CertificateFileError, HttpTls};
use crate::listen::listen;
use crate::mqtt::{Edge, EdgeMetrics, Listen};
pub use crate::settings::{HttpSettings, MqttSettings, QuotaSettings, SettingsError};
pub use crate::token::Tokens;

/// Settings of the edge.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    pub node: u64,
    /// The node's key: for the TLS certificate and the tokens.
    pub secret: SecretKey,
    pub http_listen: SocketAddr,
    pub http_tls: HttpTls,
    /// Longest time from the TCP connection to the end of the TLS handshake.
    pub http_handshake_time: Duration,
    /// More names and addresses for the node's certificate.
    pub names: Vec<String>,
    pub admin_listen: SocketAddr,
    /// Plain MQTT, on loopback only.
    pub mqtt_listen: SocketAddr,
    /// MQTT over TLS 1.3.
    pub mqtts_listen: Option<SocketAddr>,
    /// Longest time from the TCP connection to the complete CONNECT.
    pub mqtt_connect_time: Duration,
    pub read_needs_token: bool,
    pub http: HttpSettings,
    pub quotas: QuotaSettings,
    pub mqtt: MqttSettings,
    /// File of the gateways that have shown a certificate over MQTT.
    pub certified_gateways: PathBuf,
}

/// The addresses of the listeners, with the ports that the system chose.
#[derive(Clone, Debug)]
pub struct EdgeAddresses {
    pub http: SocketAddr,
    pub admin: SocketAddr,
    /// Plain MQTT first, then TLS if it is configured.
    pub mqtt: Vec<SocketAddr>,
}

/// The reason why the edge does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("listening on {address}")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("the MQTT edge")]
    Mqtt(#[from] mqtt::StartError),
    #[error("the TLS certificate")]
    Tls(#[from] lamplighter_tls::SetupError),
    #[error("the certificate of the HTTP interface")]
    Certificate(#[from] CertificateFileError),
}

impl EdgeConfig {
    /// The node's certificate, which both edges show.
    ///
    /// # Errors
    /// One of `names` is neither a DNS name nor an address.
    pub fn identity(&self) -> Result<Identity, lamplighter_tls::SetupError> {
        let listened = [Some(self.http_listen), self.mqtts_listen];
        let addresses: Vec<IpAddr> = listened.iter().flatten().map(SocketAddr::ip).collect();
        Identity::of_node(&self.secret, self.node, &addresses, &self.names)
    }
}

/// Starts all listeners. They end with `stop`, and their tasks are in `tasks`. `/metrics` has the
/// metrics of `collectors` beside those of the ledger.
pub async fn serve(
    config: EdgeConfig,
    handle: Handle,
    mut collectors: Vec<Box<dyn Collector>>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<EdgeAddresses, ServeError> {
    let valid_for = Duration::from_secs(config.http.token_s);
    let tokens = Tokens::new(&config.secret, handle.chain_id(), config.node);
    let tokens = tokens.with_validity(valid_for);
    let app = App::new(
        handle.clone(),
        tokens.clone(),
        config.read_needs_token,
        config.http.clone(),
        config.quotas.clone(),
        tasks.clone(),
        stop.clone(),
    );
    let identity = config.identity()?;
    let handshake_time = config.http_handshake_time;
    let tls = HttpsAcceptor::start(&config.http_tls, &identity, handshake_time, stop).await?;
    let router = http::router(app);
    let http = listen(config.http_listen, tls, router, &config.http, tasks, stop).await?;
    let (mqtt, metrics) = serve_mqtt(&config, identity, handle.clone(), tokens, tasks, stop)?;
    collectors.push(Box::new(metrics));
    let admin = listen(
        config.admin_listen,
        None,
        admin::router(handle, collectors),
        &config.http,
        tasks,
        stop,
    )
    .await?;
    Ok(EdgeAddresses { http, admin, mqtt })
}

fn serve_mqtt(
    config: &EdgeConfig,
    identity: Identity,
    handle: Handle,
    tokens: Tokens,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(Vec<SocketAddr>, EdgeMetrics), ServeError> {
    let plain = Listen {
        address: config.mqtt_listen,
        tls: false,
    };
    let tls = config
        .mqtts_listen
        .map(|address| Listen { address, tls: true });
    let settings = mqtt::MqttConfig {
        listen: std::iter::once(plain).chain(tls).collect(),
        identity: tls.map(|_| identity),
        connect_time: config.mqtt_connect_time,
        busy_connect_time: Duration::from_secs(config.mqtt.busy_connect_s),
        pending_per_address: config.mqtt.pending_per_address as usize,
        write_time: Duration::from_secs(config.mqtt.write_s),
        packet_time: Duration::from_secs(config.mqtt.packet_s),
        keepalive_default: config.mqtt.keepalive_default_s,
        keepalive_max: config.mqtt.keepalive_max_s,
        packets_per_second: config.quotas.mqtt_packets_per_second,
        bytes_per_second: config.quotas.mqtt_bytes_per_second,
        subscriptions_max: config.quotas.subscriptions as usize,
        certified_gateways: Some(config.certified_gateways.clone()),
        ..mqtt::MqttConfig::default()
    };
    let edge = Edge::start(settings, handle, tokens)?;
    let (addresses, metrics) = (edge.addresses().to_vec(), EdgeMetrics(edge.counters()));
    let stop = stop.clone();
    tasks.spawn(async move {
        stop.cancelled().await;
        edge.stop().await;
    });
    Ok((addresses, metrics))
}
