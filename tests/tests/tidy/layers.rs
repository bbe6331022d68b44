//! The layering of the crates, from `cargo metadata`.

use std::process::Command;

use serde_json::Value;

use crate::tree::root;

/// From the highest to the lowest: a crate uses only crates before it.
const ORDER: [&str; 21] = [
    "types",
    "system",
    "tls",
    "store",
    "rocks",
    "state",
    "contracts",
    "consensus",
    "net",
    "ledger",
    "sim",
    "api",
    "node",
    "gateway",
    "client",
    "devnet",
    "cli",
    "tests",
    "chaos",
    "mesh",
    "benches",
];

/// Uses of a crate that comes later.
const ALSO_ALLOWED: [(&str, &str); 1] = [("gateway", "client")];

/// Uses that the order would allow: crate, used crate, why not.
const FORBIDDEN: [(&str, &str, &str); 6] = [
    (
        "consensus",
        "state",
        "consensus sees batches as opaque bytes",
    ),
    (
        "consensus",
        "contracts",
        "consensus sees batches as opaque bytes",
    ),
    ("cli", "contracts", "the command line is a client"),
    ("contracts", "system", "contracts see no clock and no file"),
    ("state", "system", "state sees no clock and no file"),
    (
        "gateway",
        "ledger",
        "a gateway verifies, it does not keep the ledger",
    ),
];

/// The crates that may compile RocksDB. No other crate may wait for it.
const USERS_OF_ROCKS: [&str; 3] = ["node", "benches", "tests"];

/// A crate of this repository and what it is built from.
pub struct Package {
    /// Without the prefix.
    pub name: String,
    /// Crates of this repository that it uses outside of tests, without the prefix.
    pub uses: Vec<String>,
}

/// Reads the workspace.
pub fn packages_of_this_repository() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs this test, so it can be started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(package).collect()
}

fn package(value: &Value) -> Package {
    let dependencies = value["dependencies"].as_array().unwrap().iter();
    let uses = dependencies
        .filter(|dependency| dependency["kind"] != "dev")
        .filter_map(|dependency| crate_name(&dependency["name"]))
        .collect();
    Package {
        name: crate_name(&value["name"]).expect("our packages have the prefix"),
        uses,
    }
}

fn crate_name(name: &Value) -> Option<String> {
    name.as_str()?
        .strip_prefix("lamplighter-")
        .map(str::to_owned)
}

/// Uses that break the layering.
pub fn forbidden_edges(packages: &[Package]) -> Vec<String> {
    let mut found = Vec::new();
    for Package { name, uses } in packages {
        let Some(place) = ORDER.iter().position(|layer| layer == name) else {
            found.push(format!("{name} is not in the order of the layers"));
            continue;
        };
        for used in uses {
            if let Some(reason) = why_not(name, place, used) {
                found.push(format!("{name} uses {used}: {reason}"));
            }
        }
    }
    found
}

fn why_not(name: &str, place: usize, used: &str) -> Option<&'static str> {
    let forbidden = FORBIDDEN
        .iter()
        .find(|(from, to, _)| *from == name && *to == used);
    if let Some((_, _, reason)) = forbidden {
        return Some(reason);
    }
    if used == "rocks" && !USERS_OF_ROCKS.contains(&name) {
        return Some("RocksDB is compiled for the node only");
    }
    let above = ORDER[..place].contains(&used) || ALSO_ALLOWED.contains(&(name, used));
    (!above).then_some("it is not above it")
}
