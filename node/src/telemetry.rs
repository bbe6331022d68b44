//! The log. It contains text that others sent, so an entry is one line without characters that a
//! terminal would execute.

use std::io::{self, Write};

use lamplighter_types::{printable, printable_json};
use tracing::Dispatch;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

#[cfg(test)]
mod tests;

/// The filter unless `RUST_LOG` sets another. openraft logs every attempt to reach a node that is
/// down, several a second; our own crates log leaders, connections, images and failures.
const FILTER: &str = "info,openraft=off,libp2p=warn,rumqttd=warn";

/// Writes logs to standard error: at level `info` unless `RUST_LOG` sets another, as JSON with
/// `json`.
pub fn init(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER));
    if let Err(error) = dispatch(json, filter, io::stderr).try_init() {
        tracing::debug!(%error, "logs go where they went before");
    }
}

fn dispatch<W: Write + 'static>(
    json: bool,
    filter: EnvFilter,
    open: impl Fn() -> W + Send + Sync + 'static,
) -> Dispatch {
    // Without colours: in a file or a journal they are noise.
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(move || LineWriter { json, to: open() });
    if json {
        Dispatch::new(logs.json().finish())
    } else {
        Dispatch::new(logs.finish())
    }
}

/// Writes one line of the log for each call of `write`.
struct LineWriter<W> {
    json: bool,
    to: W,
}

impl<W: Write> Write for LineWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches('\n');
        let text = if self.json {
            printable_json(text)
        } else {
            printable(text)
        };
        self.to.write_all(format!("{text}\n").as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
