//! Figures of the tree: `cargo test --release -p lamplighter-state -- --ignored --nocapture
//! tree_speed`.

use std::time::{Duration, Instant};

use lamplighter_state::tree::{FetchedPages, Tree};
use lamplighter_types::Hash;

const KEYS: u64 = 1_000_000;

fn digest(n: u64) -> Hash {
    Hash::of(&n.to_be_bytes())
}

/// Time that this thread was at work, so that a busy machine does not blur the figures.
struct Watch(Instant, Option<u64>);

impl Watch {
    fn start() -> Self {
        Self(Instant::now(), Self::on_cpu_ns())
    }

    /// Linux tells it; elsewhere it is the time on the clock.
    fn on_cpu_ns() -> Option<u64> {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        stat.split(' ').next()?.parse().ok()
    }

    fn elapsed(&self) -> Duration {
        match (self.1, Self::on_cpu_ns()) {
            (Some(start), Some(now)) => Duration::from_nanos(now - start),
            _ => self.0.elapsed(),
        }
    }
}

#[test]
#[ignore = "prints figures; takes seconds"]
fn tree_speed() {
    let entries: Vec<_> = (0..KEYS).map(|n| (digest(n), digest(n + KEYS))).collect();
    let started = Watch::start();
    let mut tree = Tree::of(entries).unwrap();
    let bytes = tree.memory_bytes() / tree.len();
    println!(
        "rebuild of {KEYS} keys: {:?}, {bytes} B a key",
        started.elapsed()
    );
    for block in [100, 1_000, 10_000] {
        let rounds = 100_000 / block;
        let started = Watch::start();
        for round in 0..rounds {
            let at = |n: u64| digest((round * block + n) * 7_919 % KEYS);
            let changes = (0..block).map(|n| (at(n), Some(digest(n))));
            let updated = tree.update(&changes.collect(), FetchedPages::default());
            updated.unwrap();
        }
        let each = started.elapsed() / (rounds * block) as u32;
        println!("blocks of {block} updates: {each:?} an update");
    }
    let started = Watch::start();
    let hashes: usize = (0..10_000u64)
        .map(|n| tree.prove(&n.to_be_bytes()).unwrap().siblings.len())
        .sum();
    let each = started.elapsed() / 10_000;
    println!("proofs: {each:?} each, {} B", hashes * 32 / 10_000);
}
