use tracing_subscriber::EnvFilter;

/// Writes logs to standard error: level `info` unless `RUST_LOG` says otherwise, as JSON with
/// `json`.
pub fn init(json: bool) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,openraft=warn,libp2p=warn,rumqttd=warn"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let set = if json {
        logs.json().try_init()
    } else {
        logs.try_init()
    };
    if let Err(error) = set {
        tracing::debug!(%error, "logs go where they went before");
    }
}
