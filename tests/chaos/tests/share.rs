//! A short run with all faults, for every run of the tests: three minutes at most.

use std::path::PathBuf;
use std::time::Duration;

use lamplighter_chaos::check::Fault;
use lamplighter_chaos::{ChaosOptions, FaultKind, run};
use lamplighter_devnet::hostile::ATTACKS;

/// Faults in turn, 140 s in total.
const PARTS: [(FaultKind, u64); 6] = [
    (FaultKind::Calm, 4),
    (FaultKind::Kills, 40),
    (FaultKind::LeaderStops, 20),
    (FaultKind::Partitions, 42),
    (FaultKind::Clocks, 20),
    (FaultKind::Everything, 14),
];
/// A third of the rate of a machine with two busy cores: fewer would mean that nothing was tested.
const ACKNOWLEDGED_MIN: u64 = 2_000;
const KILLS_MIN: u64 = 8;

fn lamplighter() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap();
    let program = folder.join("lamplighter");
    assert!(
        program.exists(),
        "{} is missing: cargo build -p lamplighter-cli",
        program.display()
    );
    program
}

#[test]
fn nothing_acknowledged_is_lost_doubled_changed_or_stale() {
    let parts = PARTS.map(|(kind, seconds)| (kind, Duration::from_secs(seconds)));
    let report = run(ChaosOptions {
        nodes: 4,
        clients: 16,
        lanes: 4,
        seed: rand::random(),
        parts: parts.to_vec(),
        kills: 0,
        acknowledged: 0,
        longest: Duration::from_secs(1),
        program: lamplighter(),
        folder: None,
        hostile: None,
        prove_checker: true,
    })
    .unwrap();
    report.print();
    let findings = &report.findings;
    for fault in [Fault::Lost, Fault::Doubled, Fault::Changed, Fault::Stale] {
        assert_eq!(findings.count(fault), 0, "{fault:?}");
    }
    assert!(findings.is_good(), "{:?}", findings.faults);
    let counts = &report.counts;
    assert_eq!(counts.ended_by_themselves, 0, "{:?}", counts.notes);
    assert_eq!(report.corruptions_found, report.corruptions_tried);
    assert!(findings.acknowledged >= ACKNOWLEDGED_MIN);
    assert!(findings.linearizable_reads > 0 && findings.compared_again > 0);
    assert!(counts.kills >= KILLS_MIN && counts.leader_stops > 0);
    assert!(counts.partitions.len() > 4, "{:?}", counts.partitions);
    assert!(counts.clocks_noticed > 0, "{:?}", counts.notes);
}

/// Seconds of each attack, by an observer and by a validator.
const ATTACK_SECONDS: u64 = 6;
/// The longest time to service after an attack, in election timeouts.
const TIMEOUTS_MAX: f64 = 3.0;

#[test]
fn hostile_nodes_cost_nothing_that_was_acknowledged() {
    let parts = ATTACKS.map(|attack| {
        let length = Duration::from_secs(ATTACK_SECONDS);
        (FaultKind::Hostile(attack), length)
    });
    let report = run(ChaosOptions {
        nodes: 3,
        clients: 8,
        lanes: 2,
        seed: rand::random(),
        parts: parts.to_vec(),
        kills: 0,
        acknowledged: 0,
        longest: Duration::from_secs(1),
        program: lamplighter(),
        folder: None,
        hostile: Some(env!("CARGO_BIN_EXE_hostile").into()),
        prove_checker: false,
    })
    .unwrap();
    report.print();
    let findings = &report.findings;
    assert!(findings.is_good(), "{:?}", findings.faults);
    let counts = &report.counts;
    assert_eq!(counts.ended_by_themselves, 0, "{:?}", counts.notes);
    assert_eq!(counts.attacks.len(), ATTACKS.len());
    assert!(report.attacked.count >= ATTACKS.len());
    assert!(report.attacked.longest_timeouts <= TIMEOUTS_MAX);
}
