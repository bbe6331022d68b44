//! The log. What others sent stands in it too: a line is one line, without anything that would
//! command the terminal of whoever reads it.

use std::io::{self, Write};

use lamplighter_types::{printable, printable_json};
use tracing::Dispatch;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

#[cfg(test)]
mod tests;

/// What is logged unless `RUST_LOG` says otherwise. openraft has a line for every attempt to reach
/// a node that is away, several a second; what matters of it (who leads, who is connected, images,
/// failures) is said by our own crates.
const FILTER: &str = "info,openraft=off,libp2p=warn,rumqttd=warn";

/// Writes logs to standard error: level `info` unless `RUST_LOG` says otherwise, as JSON with
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
        .with_writer(move || Line { json, to: open() });
    match json {
        true => Dispatch::new(logs.json().finish()),
        false => Dispatch::new(logs.finish()),
    }
}

/// Writes one line of the log, which comes in one piece.
struct Line<W> {
    json: bool,
    to: W,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches('\n');
        let text = match self.json {
            true => printable_json(text),
            false => printable(text),
        };
        self.to.write_all(format!("{text}\n").as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
