//! From nothing to a genesis file and a node's configuration, with the program itself.

use std::path::Path;
use std::process::{Command, Output};

fn lamplighter(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lamplighter"));
    command
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = lamplighter(folder, arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn failed(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = lamplighter(folder, arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn describe(folder: &Path, node_key: &str, admin_key: &str, grant: &str) {
    let text = format!(
        r#"
name = "Harbour City"
organization = "city"

[[validators]]
node = 1
account = "node-1"
key = "{node_key}"
address = "127.0.0.1:7400"

[[accounts]]
account = "admin"
name = "First administrator"
key = "{admin_key}"
grants = ["{grant}"]
"#
    );
    std::fs::write(folder.join("city.toml"), text).unwrap();
}

#[test]
fn a_ledger_is_founded() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let admin = done(folder, &["key", "new", "admin.key"]);
    assert_eq!(done(folder, &["key", "show", "admin.key"]), admin);
    let init = [
        "node",
        "init",
        "node-1",
        "--node",
        "1",
        "--genesis",
        "genesis.json",
    ];
    let told = done(folder, &init);
    let node = told.lines().next().unwrap().rsplit(' ').next().unwrap();
    describe(folder, node, &admin, "administrator");
    let made = done(
        folder,
        &[
            "genesis",
            "new",
            "city.toml",
            "--out",
            "genesis.json",
            "--json",
        ],
    );
    let checked = done(folder, &["genesis", "check", "genesis.json", "--json"]);
    assert_eq!(made, checked);
    let checked: serde_json::Value = serde_json::from_str(&checked).unwrap();
    assert_eq!(
        (&checked["validators"], &checked["quorum"]),
        (&1.into(), &1.into())
    );
    let config = lamplighter_node::Config::read(&folder.join("node-1/node.toml")).unwrap();
    assert_eq!(config.read_genesis().unwrap().name, "Harbour City");
}

#[test]
fn what_can_not_be_is_told_with_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let key = done(folder, &["key", "new", "a.key"]);
    assert!(failed(folder, &["key", "new", "a.key"], 1).contains("File exists"));
    describe(folder, &key, &key, "administrator");
    let new = ["genesis", "new", "city.toml", "--out", "genesis.json"];
    assert!(failed(folder, &new, 1).contains("contradicts itself"));
    describe(folder, &key, &key, "king");
    assert!(failed(folder, &new, 1).contains("the role \"king\""));
    assert!(!folder.join("genesis.json").exists());
    assert!(failed(folder, &["status"], 1).contains("no node is known"));
    failed(folder, &["device", "show", "Not An Id"], 2);
    let verify = ["audit", "verify", "--genesis", "none.json", "proof.json"];
    assert!(failed(folder, &verify, 1).contains("No such file"));
}
