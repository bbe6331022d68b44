use std::time::{SystemTime, UNIX_EPOCH};

/// The node's clock: for the leader's timestamps and the judgement of others', never for execution.
pub trait Clock: Send + Sync + 'static {
    /// Unix time in ms.
    fn now_ms(&self) -> u64;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis() as u64)
    }
}
