//! The simulation finds each planted bug.

use std::path::Path;

use lamplighter_sim::fleet::{self, FleetPlan, Variant};
use lamplighter_sim::planted::Planted;

/// Within so many seeds.
const SEEDS: u64 = 500;

fn found(planted: Planted, liars: u64) -> String {
    let plan = FleetPlan {
        first: 1,
        seeds: SEEDS,
        jobs: fleet::cores(),
        variant: Variant {
            planted: Some(planted),
            liars,
            lie: None,
        },
        stop_at_failure: true,
    };
    let program = Path::new(env!("CARGO_BIN_EXE_lamplighter-sim"));
    let outcome = fleet::run(program, &plan);
    let failure = outcome.failures.first();
    let failure = failure.unwrap_or_else(|| panic!("{planted:?} was not found: {outcome}"));
    let invariant = failure.invariant();
    let invariant = invariant.unwrap_or_else(|| panic!("{planted:?}: {}", failure.output));
    println!("{planted:?}: found by seed {}: {invariant}", failure.seed);
    invariant.to_owned()
}

#[test]
fn a_vote_that_is_not_persisted_is_found() {
    found(Planted::VoteNotPersisted, 0);
}

#[test]
fn an_attestation_before_it_is_on_disk_is_found() {
    let invariant = found(Planted::AttestationBeforeDisk, 0);
    assert_eq!(invariant, "what a node signed is on its disk");
}

#[test]
fn windows_that_are_not_in_the_snapshot_are_found() {
    let invariant = found(Planted::WindowsNotInSnapshot, 0);
    assert_eq!(invariant, "the image of an honest node is accepted");
}
