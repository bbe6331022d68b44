//! The threads and the settings of the edges. The threads are separate from those of consensus:
//! under any load of clients, a leader sends its heartbeats, and transactions are committed.

use std::io;
use std::time::Duration;

use lamplighter_api as api;
use lamplighter_ledger::Handle;
use lamplighter_types::SecretKey;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{CertificateFiles, HttpTls, NamedTls, NodeConfig};
use crate::key;
use crate::run::NodeError;

/// A runtime with as many threads as there are processors.
pub(crate) struct EdgeThreads(Option<Runtime>);

impl EdgeThreads {
    pub fn start() -> io::Result<Self> {
        let threads = Builder::new_multi_thread()
            .thread_name("edge")
            .enable_all()
            .build()?;
        Ok(Self(Some(threads)))
    }

    /// Starts the edges; the tasks that they spawn run here as well.
    pub async fn serve(
        &self,
        config: api::EdgeConfig,
        handle: Handle,
        figures: Vec<Box<dyn api::Collector>>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<api::EdgeAddresses, api::ServeError> {
        let (tasks, stop) = (tasks.clone(), stop.clone());
        let threads = self.0.as_ref().expect("taken when dropped");
        let served =
            threads.spawn(async move { api::serve(config, handle, figures, &tasks, &stop).await });
        served.await.expect("starting to listen does not panic")
    }
}

impl Drop for EdgeThreads {
    /// Their tasks have ended with the node's. An async thread must not wait, so this does not.
    fn drop(&mut self) {
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

/// The TLS certificate that a node with this configuration shows, as PEM text.
///
/// # Errors
/// The key can't be read, or a name in the configuration is not usable.
pub fn certificate(config: &NodeConfig) -> Result<String, NodeError> {
    let secret = key::read(&config.key)?;
    let identity = edge_config(config, &secret).identity();
    let identity = identity.map_err(api::ServeError::from)?;
    Ok(identity.to_pem())
}

/// The settings of the edges, with the node's key.
pub(crate) fn edge_config(config: &NodeConfig, secret: &SecretKey) -> api::EdgeConfig {
    api::EdgeConfig {
        node: config.node,
        secret: secret.clone(),
        http_listen: config.http_listen,
        http_tls: match &config.http.tls {
            HttpTls::Named(NamedTls::Ledger) => api::HttpTls::Ledger,
            HttpTls::Named(NamedTls::Off) => api::HttpTls::Off,
            HttpTls::Files(CertificateFiles { certificate, key }) => api::HttpTls::Files {
                certificate: certificate.clone(),
                key: key.clone(),
            },
        },
        http_handshake_time: Duration::from_secs(config.http.handshake_s),
        names: config.http.names.clone(),
        admin_listen: config.admin_listen,
        mqtt_listen: config.mqtt_listen,
        mqtts_listen: config.mqtts_listen,
        mqtt_connect_time: Duration::from_secs(config.mqtt_connect_s),
        read_needs_token: config.read_needs_token,
        http: config.http.settings.clone(),
        quotas: config.quotas.clone(),
        mqtt: config.mqtt.clone(),
        certified_gateways: config.data_dir.join("certified-gateways"),
    }
}
