use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing_subscriber::EnvFilter;

use super::dispatch;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const HOSTILE: &str = "door\u{1b}[2J\u{9b}1m\u{202e}\n2026 INFO forged\u{7f}";

fn logged(json: bool) -> String {
    let log = Log::default();
    let open = log.clone();
    let dispatch = dispatch(json, EnvFilter::new("info"), move || open.clone());
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::warn!(text = HOSTILE, shown = %HOSTILE, "of a Thing: {HOSTILE}");
    });
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn no_text_in_a_log_controls_a_terminal_or_begins_a_line() {
    for json in [false, true] {
        let text = logged(json);
        let line = text.strip_suffix('\n').unwrap();
        assert!(line.contains("of a Thing: door"), "{line}");
        let printable = |c: char| !c.is_control() && c != '\u{202e}';
        assert!(line.chars().all(printable), "{line:?}");
    }
}

#[test]
fn a_log_in_json_stays_json() {
    let line: serde_json::Value = serde_json::from_str(&logged(true)).unwrap();
    let message = line["fields"]["message"].as_str().unwrap();
    assert!(message.contains('\u{202e}'), "{line}");
}
