use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is logged unless `RUST_LOG` says otherwise. openraft has a line for every attempt to reach
/// a node that is away, several a second; what matters of it (who leads, who is connected, images,
/// failures) is said by our own crates.
const FILTER: &str = "info,openraft=off,libp2p=warn,rumqttd=warn";

/// Writes logs to standard error: level `info` unless `RUST_LOG` says otherwise, as JSON with
/// `json`.
pub fn init(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER));
    // Colours are for terminals: in a file or a journal they are noise. https://no-color.org
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal() && !plain)
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
