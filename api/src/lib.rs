//! The edge of a node: HTTP for the CMS, MQTT for gateways, and the operator's listener.

mod admin;
mod http;
mod listen;
pub mod mqtt;
mod settings;
mod token;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use lamplighter_ledger::Handle;
use lamplighter_tls::Identity;
use lamplighter_types::SecretKey;
pub use prometheus_client::collector::Collector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::App;
use crate::listen::listen;
use crate::mqtt::{Edge, Listen};
pub use crate::settings::{HttpSettings, SettingsError};
pub use crate::token::Tokens;

/// Settings of the edge.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    pub node: u64,
    /// The node's key: for the TLS certificate and the tokens.
    pub secret: SecretKey,
    pub http_listen: SocketAddr,
    pub admin_listen: SocketAddr,
    /// Plain MQTT, on loopback only.
    pub mqtt_listen: SocketAddr,
    /// MQTT over TLS 1.3.
    pub mqtts_listen: Option<SocketAddr>,
    /// Longest time from the TCP connection to the complete CONNECT.
    pub mqtt_connect_time: Duration,
    pub read_needs_token: bool,
    pub http: HttpSettings,
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
}

/// Starts all listeners. They end with `stop`, and their tasks are in `tasks`. `/metrics` has the
/// metrics of `collectors` beside those of the ledger.
pub async fn serve(
    config: EdgeConfig,
    handle: Handle,
    collectors: Vec<Box<dyn Collector>>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<EdgeAddresses, ServeError> {
    let tokens = Tokens::new(&config.secret, handle.chain_id(), config.node);
    let app = App::new(
        handle.clone(),
        tokens.clone(),
        config.read_needs_token,
        config.http.clone(),
        stop.clone(),
    );
    let http = listen(config.http_listen, http::router(app), tasks, stop).await?;
    let admin = listen(
        config.admin_listen,
        admin::router(handle.clone(), collectors),
        tasks,
        stop,
    )
    .await?;
    let mqtt = serve_mqtt(&config, handle, tokens, tasks, stop)?;
    Ok(EdgeAddresses { http, admin, mqtt })
}

fn serve_mqtt(
    config: &EdgeConfig,
    handle: Handle,
    tokens: Tokens,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Vec<SocketAddr>, ServeError> {
    let plain = Listen {
        address: config.mqtt_listen,
        tls: false,
    };
    let tls = config
        .mqtts_listen
        .map(|address| Listen { address, tls: true });
    let identity = match tls {
        Some(_) => Some(Identity::new(&config.secret, "localhost")?),
        None => None,
    };
    let settings = mqtt::MqttConfig {
        listen: std::iter::once(plain).chain(tls).collect(),
        identity,
        connect_time: config.mqtt_connect_time,
        ..mqtt::MqttConfig::default()
    };
    let edge = Edge::start(settings, handle, tokens)?;
    let addresses = edge.addresses().to_vec();
    let stop = stop.clone();
    tasks.spawn(async move {
        stop.cancelled().await;
        edge.stop().await;
    });
    Ok(addresses)
}
