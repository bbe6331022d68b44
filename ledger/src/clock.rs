/// The node's clock: for the leader's timestamps and to check those of others, never for execution.
pub trait Clock: Send + Sync + 'static {
    /// Unix time in ms.
    fn now_ms(&self) -> u64;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        lamplighter_system::unix_ms()
    }
}
