//! Five hundred seeds, and a check that a seed is one run.

use std::collections::BTreeSet;
use std::path::Path;

use lamplighter_sim::fleet::{self, FleetPlan, Variant};
use lamplighter_sim::lies;

const SEEDS: u64 = 500;
/// Lies of each kind, at least.
const LIES_MIN: u64 = 10;

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_lamplighter-sim"))
}

#[test]
fn every_invariant_holds_in_every_seed() {
    let plan = FleetPlan {
        first: 1,
        seeds: SEEDS,
        jobs: fleet::cores(),
        variant: Variant::default(),
        stop_at_failure: false,
    };
    let outcome = fleet::run(program(), &plan);
    println!("{outcome}");
    assert!(outcome.failures.is_empty(), "{outcome}");
    for lie in lies::ALL {
        let count = outcome.counts.get(lie.name()).copied().unwrap_or(0);
        assert!(count >= LIES_MIN, "only {count} {}", lie.name());
    }
    // Faults that never happen prove nothing.
    for what in [
        "acknowledged",
        "blackouts",
        "certificates",
        "clock jumps",
        "failed writes",
        "joined nodes",
        "kills",
        "linearizable reads",
        "lost messages",
        "new validators",
        "partitions",
        "power cuts",
        "power losses",
        "removed nodes",
        "repeated messages",
        "snapshots installed",
        "stopped by a failed write",
        "strangers turned away",
    ] {
        let count = outcome.counts.get(what).copied().unwrap_or(0);
        assert!(count >= 20, "only {count} {what}");
    }
}

/// The output of one process: the hash of the trace and every count.
fn output(seed: u64) -> String {
    let output = fleet::one(program(), seed, &Variant::default()).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_seed_is_one_run() {
    let mut hashes = BTreeSet::new();
    for seed in 1..=6 {
        let first = output(seed);
        assert!(first.starts_with("trace="), "{first}");
        assert_eq!(
            output(seed),
            first,
            "seed {seed} ran otherwise the second time"
        );
        hashes.insert(first);
    }
    assert_eq!(hashes.len(), 6, "different seeds are different runs");
}
