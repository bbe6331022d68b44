//! Clients that each send one request after the other, with a warm-up that is not counted.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::usage::{Figures, Processes, Usage};
use crate::error::BenchError;
use crate::report::percentile;

/// The warm-up: at most this, and at most a fifth of the phase.
const WARM_UP_MAX: Duration = Duration::from_secs(2);
/// Latencies that one client keeps; 10 million in all would be 40 MB.
const TIMES_PER_CLIENT_MAX: usize = 1_000_000;

/// The counted time of a phase.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub counts_from: Instant,
    pub ends: Instant,
}

impl Window {
    pub fn begin(seconds: u64) -> Self {
        let length = Duration::from_secs(seconds);
        let counts_from = Instant::now() + WARM_UP_MAX.min(length / 5);
        Self {
            counts_from,
            ends: counts_from + length,
        }
    }

    pub fn is_open(&self) -> bool {
        Instant::now() < self.ends
    }
}

/// The latencies of one client, of the requests that were answered in the counted time.
#[derive(Debug, Default)]
pub struct Latencies(pub Vec<u32>);

impl Latencies {
    pub fn record(&mut self, window: &Window, begun: Instant) {
        let now = Instant::now();
        if now >= window.counts_from && now <= window.ends && self.0.len() < TIMES_PER_CLIENT_MAX {
            self.0.push((now - begun).as_micros() as u32);
        }
    }
}

/// Runs the clients of a phase; `client` makes the one with a number.
///
/// # Errors
/// A client failed: the rates would not be those of the load.
pub async fn run<C>(
    processes: &Processes,
    clients: usize,
    window: Window,
    client: impl Fn(usize, Window) -> C,
) -> Result<Figures, BenchError>
where
    C: Future<Output = Result<Latencies, BenchError>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for number in 0..clients {
        tasks.spawn(client(number, window));
    }
    sleep_until(window.counts_from).await;
    let before = Usage::now(processes)?;
    sleep_until(window.ends).await;
    let after = Usage::now(processes)?;
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done.expect("clients do not panic")?.0);
    }
    let figures = before.until(&after, clients, all.len() as u64);
    Ok(with_latencies(figures, all))
}

/// Adds the percentiles.
pub fn with_latencies(figures: Figures, mut times_us: Vec<u32>) -> Figures {
    times_us.sort_unstable();
    let ms = |percent| f64::from(percentile(&times_us, percent)) / 1_000.0;
    Figures {
        p50_ms: ms(50.0),
        p99_ms: ms(99.0),
        max_ms: ms(100.0),
        ..figures
    }
}
