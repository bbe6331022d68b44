//! The commands of docs/operations.md lead from four machines with nothing on them to a committed
//! transaction.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use lamplighter_tests::repository;

use crate::machine::{Machine, SHARED, isolate};
use crate::page::{Block, blocks};
use crate::{metrics, package};

/// The heading above the commands.
const HEADING: &str = "### From nothing to four nodes";
/// The most different commands that the page may need.
const COMMANDS_MAX: usize = 8;
/// The page says it; on a busy machine with the program of the tests.
const WITHIN: Duration = Duration::from_secs(300);
const MACHINES: usize = 4;
/// The exposure that `systemd-analyze security` may find in the services, of 100.
const EXPOSURE_MAX: u32 = 15;

/// The blocks below the heading, up to the next one.
fn founding() -> Vec<Block> {
    let page = repository().join("docs/operations.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, below) = page.split_once(HEADING).expect("the page has the heading");
    let below = below.split("\n#").next().unwrap();
    blocks(below)
        .into_iter()
        .filter(|block| *block != Block::NotRun)
        .collect()
}

/// The command of the first machine as another types it: the page says what differs.
fn on_machine(command: &str, number: usize) -> String {
    let names = [
        ("--node 1", "--node "),
        ("10.77.0.1", "10.77.0."),
        ("admin-1", "admin-"),
    ];
    let replaced = |text: String, (first, other): (&str, &str)| {
        text.replace(first, &format!("{other}{number}"))
    };
    names.into_iter().fold(command.to_owned(), replaced)
}

/// Sends the files that the page says are sent.
fn exchange(machines: &[Machine]) {
    let first = &machines[0].home;
    for (index, machine) in machines.iter().enumerate() {
        let party = first.join(format!("party-{}.toml", index + 1));
        let made = machine.root.join("var/lib/lamplighter/node/party.toml");
        if made.exists() && !party.exists() {
            fs::copy(made, party).unwrap();
        }
        let genesis = first.join("genesis.json");
        if genesis.exists() && index > 0 {
            fs::copy(genesis, machine.home.join("genesis.json")).unwrap();
        }
    }
}

#[test]
fn four_machines_reach_a_committed_transaction_by_the_commands_of_the_page() {
    isolate();
    let deb = package::build(Path::new(SHARED));
    package::check(&deb);
    let mut machines: Vec<_> = (1..=MACHINES).map(Machine::start).collect();
    for machine in &machines {
        fs::copy(&deb, machine.home.join("lamplighter.deb")).unwrap();
    }
    let (mut commands, mut printed) = (BTreeSet::new(), String::new());
    let begun = Instant::now();
    for block in founding() {
        let Block::Machines {
            all,
            commands: lines,
        } = block
        else {
            panic!("the page says on which machines: {block:?}");
        };
        let count = if all { MACHINES } else { 1 };
        for (index, machine) in machines.iter_mut().take(count).enumerate() {
            for line in &lines {
                printed = machine.run(&on_machine(line, index + 1));
            }
        }
        exchange(&machines);
        commands.extend(lines);
    }
    let took = begun.elapsed();
    println!(
        "{} commands, {:.1} s from the package on",
        commands.len(),
        took.as_secs_f64()
    );
    assert!(printed.contains("done in block"), "{printed}");
    assert!(commands.len() <= COMMANDS_MAX, "{commands:#?}");
    assert!(took < WITHIN, "{took:?}");
    check_machines(&mut machines);
    metrics::check(&mut machines[0]);
    machines.iter_mut().for_each(Machine::stop_services);
}

/// What the package made, what the doctor says of nodes that run, and what systemd says of the
/// units.
fn check_machines(machines: &mut [Machine]) {
    for machine in machines.iter_mut() {
        let doctor = machine.run("lamplighter doctor --config /var/lib/lamplighter/node/node.toml");
        for good in [
            "runs, at block",
            "all 3 others are reached",
            "that of 3 nodes",
        ] {
            assert!(doctor.contains(good), "{doctor}");
        }
    }
    let machine = &mut machines[0];
    let owner = machine.run("stat -c '%U %a' /var/lib/lamplighter/node/node.key");
    assert_eq!(owner.trim(), "lamplighter 600");
    assert!(
        machine
            .run("man -P cat lamplighter-doctor")
            .contains("--config")
    );
    for unit in ["lamplighter-node", "lamplighter-gateway"] {
        let path = format!("/lib/systemd/system/{unit}.service");
        machine.run(&format!("systemd-analyze verify --man=no {path}"));
        machine.run(&format!(
            "systemd-analyze security --offline=true --threshold={EXPOSURE_MAX} {path}"
        ));
    }
}
