//! Five hundred seeds, and a check that a seed is one run.

use std::collections::BTreeSet;
use std::path::Path;

use lamplighter_sim::fleet::{self, FleetPlan, Variant};
use lamplighter_sim::lies::{self, Lie};

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

/// Seeds in which honest nodes were split by contents of a leader, and waited too long: for what
/// empty nodes would take, for news of the evidence, for an answer of a node that was gone, or for
/// a candidate that raised its term by one each time to catch up with a voter that had been alone.
#[test]
fn nodes_that_a_leader_split_serve_soon_after_the_proof() {
    let variant = Variant {
        liars: 100,
        lie: Some(Lie::Equivocate),
        ..Variant::default()
    };
    for seed in [43, 112, 136, 145, 276, 284] {
        let output = output_of(seed, &variant);
        assert!(output.starts_with("trace="), "{seed}: {output}");
    }
}

/// A node has a step to a change of the validators by its own certificate, and then installs an
/// image with another one, which fewer of the first validators signed.
#[test]
fn an_image_leaves_the_certificates_by_which_proofs_skip() {
    let output = output(3_179);
    assert!(output.starts_with("trace="), "{output}");
}

/// The output of one process: the hash of the trace and every count.
fn output(seed: u64) -> String {
    output_of(seed, &Variant::default())
}

fn output_of(seed: u64, variant: &Variant) -> String {
    let output = fleet::one(program(), seed, variant).unwrap();
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
