//! Nodes and gateways under a supervisor: they say when they serve, that they still make progress,
//! and that they end.

use std::fmt::Display;
use std::time::Duration;

use lamplighter_system::Supervisor;
use tokio::time::sleep;

/// Signs of life in the time within which the supervisor wants one.
const SIGNS: u32 = 3;
/// The longest start, as in the unit.
const START: Duration = Duration::from_secs(15 * 60);

/// The supervisor of this process, if it has one.
pub struct Supervision(Option<Supervisor>);

impl Supervision {
    /// Without the supervisor that the environment names the service runs all the same.
    pub fn begin() -> Self {
        Self(Supervisor::from_environment().unwrap_or_else(|error| {
            tracing::warn!(%error, "the supervisor that NOTIFY_SOCKET names can't be reached");
            None
        }))
    }

    fn send(&self, state: &str) {
        if let Some(Err(error)) = self.0.as_ref().map(|supervisor| supervisor.notify(state)) {
            tracing::warn!(%error, state, "the supervisor does not get the state");
        }
    }

    /// All listeners are open.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// The service starts again inside of its process, which may take as long as a first start.
    pub fn starting_again(&self) {
        self.expect_sign_within(START);
    }

    /// The next sign of life, and each after it, comes within this time.
    fn expect_sign_within(&self, time: Duration) {
        if self.watchdog().is_some() {
            let micros = time.as_micros();
            self.send(&format!("WATCHDOG_USEC={micros}\nWATCHDOG=1"));
        }
    }

    fn watchdog(&self) -> Option<Duration> {
        self.0.as_ref().and_then(Supervisor::watchdog)
    }

    /// The service ends in order.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Gives signs of life while `progress` succeeds within the time that it gets; never ends.
    pub async fn watch<E: Display>(
        &self,
        mut progress: impl AsyncFnMut(Duration) -> Result<(), E>,
    ) {
        let Some(time) = self.watchdog() else {
            return std::future::pending().await;
        };
        let every = time / SIGNS;
        self.expect_sign_within(time);
        loop {
            match progress(every).await {
                Ok(()) => self.send("WATCHDOG=1"),
                Err(reason) => tracing::error!(%reason, "no progress: no sign of life"),
            }
            sleep(every).await;
        }
    }
}
