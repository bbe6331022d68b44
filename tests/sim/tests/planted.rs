//! The simulation finds each planted bug.

use std::path::Path;

use lamplighter_sim::fleet::{self, FleetPlan, Variant};
use lamplighter_sim::lies::Lie;
use lamplighter_sim::planted::Planted;

/// Within so many seeds.
const SEEDS: u64 = 500;

fn found(planted: Planted, lie: Option<Lie>) -> String {
    let plan = FleetPlan {
        first: 1,
        seeds: SEEDS,
        jobs: fleet::cores(),
        variant: Variant {
            planted: Some(planted),
            liars: if lie.is_some() { 100 } else { 0 },
            lie,
        },
        stop_at_failure: true,
    };
    let program = Path::new(env!("CARGO_BIN_EXE_lamplighter-sim"));
    let outcome = fleet::run(program, &plan);
    let failure = outcome.failures.first();
    let failure = failure.unwrap_or_else(|| panic!("{planted:?} was not found: {outcome}"));
    let invariant = failure.invariant();
    let invariant = invariant.unwrap_or_else(|| panic!("{planted:?}: {}", failure.output));
    // It is the bug that is found: the same run without it passes.
    let sound = Variant {
        planted: None,
        ..plan.variant
    };
    let output = fleet::one(program, failure.seed, &sound).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    println!("{planted:?}: found by seed {}: {invariant}", failure.seed);
    invariant.to_owned()
}

#[test]
fn a_vote_that_is_not_persisted_is_found() {
    found(Planted::VoteNotPersisted, None);
}

#[test]
fn an_attestation_before_it_is_on_disk_is_found() {
    let invariant = found(Planted::AttestationBeforeDisk, None);
    assert_eq!(invariant, "what a node signed is on its disk");
}

#[test]
fn windows_that_are_not_in_the_snapshot_are_found() {
    let invariant = found(Planted::WindowsNotInSnapshot, None);
    assert_eq!(invariant, "the image of an honest node is accepted");
}

#[test]
fn a_leader_without_votes_is_found() {
    found(Planted::UnprovenLeader, Some(Lie::Lead));
}

#[test]
fn a_void_batch_that_is_passed_over_is_found() {
    let invariant = found(Planted::SilentVoid, Some(Lie::Garbage));
    assert_eq!(invariant, "a void batch is noticed");
}

#[test]
fn a_height_without_a_proof_that_is_believed_is_found() {
    let invariant = found(Planted::UnverifiedHeight, Some(Lie::Height));
    assert_eq!(invariant, "no height is believed that was not proven");
}
