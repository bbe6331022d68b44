//! From nothing to a genesis file and a node's configuration, with the program itself.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn lamplighter(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lamplighter"));
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
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
    let json = done(folder, &["key", "show", "admin.key", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["key"], admin.as_str());
    let init = [
        "node",
        "init",
        "node-1",
        "--node",
        "1",
        "--address",
        "127.0.0.1:7400",
        "--genesis",
        "genesis.json",
    ];
    let output = done(folder, &init);
    let node = output.lines().next().unwrap().rsplit(' ').next().unwrap();
    describe(folder, node, &admin, "administrator");
    let made = done(
        folder,
        &[
            "genesis",
            "create",
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
    // With one administrator and no approver each of the seven policies needs more people.
    assert_eq!(checked["warnings"], 7);
    let output = lamplighter(folder, &["genesis", "check", "genesis.json"]).stderr;
    let output = String::from_utf8(output).unwrap();
    assert!(
        output.contains("warning: the policy power wants 2 to approve, and the file has 1"),
        "{output}"
    );
    let config = lamplighter_node::NodeConfig::read(&folder.join("node-1/node.toml")).unwrap();
    assert_eq!(config.read_genesis().unwrap().name, "Harbour City");
    // As a file for programs that take authorities: lines are lines.
    let printed = done(
        folder,
        &["node", "certificate", "--config", "node-1/node.toml"],
    );
    let certificate = lamplighter_node::certificate(&config).unwrap();
    assert_eq!(printed, certificate.trim_end());
}

#[test]
fn an_impossible_genesis_is_refused_with_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let key = done(folder, &["key", "new", "a.key"]);
    assert!(failed(folder, &["key", "new", "a.key"], 1).contains("File exists"));
    describe(folder, &key, &key, "administrator");
    let new = ["genesis", "create", "city.toml", "--out", "genesis.json"];
    let output = failed(folder, &new, 1);
    let twice = format!("the key {key} is there twice: of node 1 and of the user admin");
    assert!(output.contains(&twice), "{output}");
    describe(folder, &key, &key, "king");
    assert!(failed(folder, &new, 1).contains("the role \"king\""));
    assert!(!folder.join("genesis.json").exists());
    assert!(failed(folder, &["status"], 1).contains("no node is known"));
    failed(folder, &["device", "show", "Not An Id"], 2);
    let verify = ["audit", "verify", "--genesis", "none.json", "proof.json"];
    assert!(failed(folder, &verify, 1).contains("No such file"));
}

/// A genesis file that a node would die of later is refused by name.
#[test]
fn a_genesis_file_is_checked_before_a_node_starts_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let key = |n: u8| done(folder, &["key", "new", &format!("{n}.key")]);
    describe(folder, &key(1), &key(2), "administrator");
    let one = std::fs::read_to_string(folder.join("city.toml")).unwrap();
    let validator = |node: u64, address: &str| {
        let key = key(10 + node as u8);
        format!(
            "[[validators]]\nnode = {node}\naccount = \"node-{node}\"\nkey = \"{key}\"\n\
             address = \"{address}\"\n\n[[accounts]]"
        )
    };
    let cases = [
        (
            validator(2, "127.0.0.1:7400"),
            "node 1 and node 2 have the same address 127.0.0.1:7400",
        ),
        (
            validator(3, "127.0.0.1"),
            "the address \"127.0.0.1\" of node 3 is not of the form host:port",
        ),
    ];
    let new = ["genesis", "create", "city.toml", "--out", "genesis.json"];
    for (more, wanted) in cases {
        let text = one.replacen("[[accounts]]", &more, 1);
        std::fs::write(folder.join("city.toml"), text).unwrap();
        let output = failed(folder, &new, 1);
        assert!(output.contains(wanted), "{output}");
    }
    // The same for a file made elsewhere.
    let text = one.replacen("[[accounts]]", &validator(4, "127.0.0.1:7401"), 1);
    std::fs::write(folder.join("city.toml"), text).unwrap();
    done(folder, &new);
    let file = folder.join("genesis.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(":7401", ":7400")).unwrap();
    let output = failed(folder, &["genesis", "check", "genesis.json"], 1);
    assert!(
        output.contains("node 1 and node 4 have the same address"),
        "{output}"
    );
}

/// Makes the files of a party in its folder, and returns where its party file is.
fn party(folder: &Path, node: u8, address: &str) -> std::path::PathBuf {
    let home = folder.join(format!("party-{node}"));
    std::fs::create_dir(&home).unwrap();
    let (number, account) = (node.to_string(), format!("admin-{node}"));
    let init = ["node", "init", "node", "--node", &number];
    let names = ["--address", address, "--administrator", &account];
    done(&home, &[&init[..], &names[..]].concat());
    home.join("node/party.toml")
}

const NAMES: [&str; 4] = ["--name", "Harbour City", "--organization", "city"];

/// `genesis create` of the files, and what it says.
fn create(folder: &Path, files: &[std::path::PathBuf], code: i32) -> String {
    let files = files.iter().map(|file| file.to_str().unwrap());
    let arguments: Vec<_> = ["genesis", "create"].into_iter().chain(files).collect();
    let all = [&arguments[..], &NAMES[..], &["--out", "genesis.json"]].concat();
    failed(folder, &all, code)
}

/// Each party makes its file, and one of them the genesis file of all.
#[test]
fn parties_found_a_ledger_by_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let address = |node: u8| format!("10.77.0.{node}:7400");
    let files: Vec<_> = [4, 2, 1, 3]
        .into_iter()
        .map(|node| party(folder, node, &address(node)))
        .collect();
    let made = create(folder, &files, 0);
    assert!(!made.contains("proof") && !made.contains("nodes"), "{made}");
    let genesis = std::fs::read_to_string(folder.join("genesis.json")).unwrap();
    let genesis: lamplighter_types::Genesis = serde_json::from_str(&genesis).unwrap();
    let nodes: Vec<_> = genesis
        .validators
        .validators
        .iter()
        .map(|v| v.node)
        .collect();
    assert_eq!(nodes, [1, 2, 3, 4]);
    assert_eq!(genesis.validators.validators[1].address, address(2));
    assert_eq!(genesis.accounts.len(), 4);
    let admin = done(&folder.join("party-2"), &["key", "show", "admin-2.key"]);
    let key = |account: &str| {
        let account = genesis
            .accounts
            .iter()
            .find(|a| a.account.as_str() == account);
        account.unwrap().key.to_string()
    };
    assert_eq!(key("admin-2"), admin);
    // Each node finds the file in its folder.
    let config = folder.join("party-3/node/node.toml");
    let config = lamplighter_node::NodeConfig::read(&config).unwrap();
    let wanted = folder.join("party-3/node/genesis.json");
    assert_eq!(config.genesis, wanted);
}

/// What does not fit together is refused, with the files or the nodes by name.
#[test]
fn parties_that_do_not_fit_together_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let files: Vec<_> = (1..=4)
        .map(|node| party(folder, node, &format!("10.77.0.{node}:7400")))
        .collect();
    let twice = create(folder, &[&files[..], &files[1..2]].concat(), 1);
    assert!(twice.contains("node 2 is there twice, in "), "{twice}");
    let changed = |from: &str, to: &str| {
        let text = std::fs::read_to_string(&files[2]).unwrap();
        assert!(text.contains(from));
        let path = folder.join("changed.toml");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        [&files[..2], &[path][..]].concat()
    };
    // Nobody changes an entry on its way.
    for (from, to, what) in [
        ("10.77.0.3", "10.77.0.9", "node 3 in "),
        ("admin-3", "admin-9", "the account admin-9 in "),
        ("\"administrator\"", "\"vendor\"", "the account admin-3 in "),
    ] {
        let refused = create(folder, &changed(from, to), 1);
        assert!(refused.contains(what), "{refused}");
        assert!(
            refused.contains("changed after its party signed it"),
            "{refused}"
        );
    }
    let unproven = changed("proof = ", "# proof = ");
    let warned = create(folder, &unproven, 0);
    assert!(
        warned.contains("nothing shows that somebody has the key of node 3"),
        "{warned}"
    );
    // Three nodes, too.
    assert!(
        warned.contains("3 nodes go on without one, but a single liar"),
        "{warned}"
    );
    let policies = folder.join("policies.toml");
    std::fs::write(
        &policies,
        "name = \"A\"\n[policies]\nnewcomer_wait_ms = 1\n",
    )
    .unwrap();
    let both = create(
        folder,
        &[&files[..], &[policies.clone(), policies][..]].concat(),
        1,
    );
    assert!(both.contains("policies.toml both have a name"), "{both}");
    let unnamed = [
        "genesis",
        "create",
        files[0].to_str().unwrap(),
        "--out",
        "b.json",
    ];
    assert!(failed(folder, &unnamed, 1).contains("--name"));
    let wrong = ["node", "init", "n", "--node", "7", "--address", "here"];
    assert!(failed(folder, &wrong, 1).contains("\"here\" is not of the form host:port"));
}

/// An address that leads each machine to itself, beside others.
#[test]
fn founders_are_warned_of_addresses_and_numbers_of_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let local = [
        "10.77.0.1:7400",
        "127.0.0.1:7400",
        "0.0.0.0:7400",
        "localhost:7400",
    ];
    let places = (1..=5).zip(local.into_iter().chain(["10.77.0.5:7400"]));
    let files: Vec<_> = places
        .map(|(node, address)| party(folder, node, address))
        .collect();
    let warned = create(folder, &files, 0);
    for (node, address) in [(2, local[1]), (3, local[2]), (4, local[3])] {
        let wanted = format!("the address {address} of node {node} leads each machine to itself");
        assert!(warned.contains(&wanted), "{warned}");
    }
    assert!(!warned.contains("of node 1 "), "{warned}");
    assert!(
        warned.contains("5 nodes withstand no more faults than four"),
        "{warned}"
    );
}

/// In a file or a journal colours are noise.
#[test]
fn logs_have_colours_on_terminals_only() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let init = [
        "node",
        "init",
        "n",
        "--node",
        "1",
        "--address",
        "127.0.0.1:7400",
        "--genesis",
        "genesis.json",
    ];
    let node = done(folder, &init);
    let node = node
        .lines()
        .next()
        .unwrap()
        .rsplit(' ')
        .next()
        .unwrap()
        .to_owned();
    let admin = done(folder, &["key", "new", "admin.key"]);
    describe(folder, &node, &admin, "administrator");
    done(
        folder,
        &["genesis", "create", "city.toml", "--out", "genesis.json"],
    );
    let path = folder.join("n/node.toml");
    let mut config = lamplighter_node::NodeConfig::read(&path).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    (config.peer_listen, config.http_listen) = (any, any);
    (config.admin_listen, config.mqtt_listen) = (any, any);
    config.mqtts_listen = None;
    std::fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
    let run = [
        "node",
        "run",
        "--until-stdin-ends",
        "--config",
        "n/node.toml",
    ];
    let output = lamplighter(folder, &run);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert!(log.contains("the node is up"), "{log}");
    assert!(!log.contains('\u{1b}'), "{log:?}");
}

/// What a description leaves out of the policies is as by default, and `genesis create` shows all.
#[test]
fn policies_may_be_described_in_part() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (admin, node) = (
        done(folder, &["key", "new", "admin.key"]),
        done(folder, &["key", "new", "node.key"]),
    );
    describe(folder, &node, &admin, "administrator");
    let described = std::fs::read_to_string(folder.join("city.toml")).unwrap();
    let with = |policies: &str| {
        let text = format!("{described}\n[policies]\n{policies}\n");
        std::fs::write(folder.join("city.toml"), text).unwrap();
    };
    with(
        "newcomer_wait_ms = 1000\nretention.open_plan_ms = 7200000\napprovals.power.approvals = 1",
    );
    let new = [
        "genesis",
        "create",
        "city.toml",
        "--out",
        "genesis.json",
        "--json",
    ];
    let made: serde_json::Value = serde_json::from_str(&done(folder, &new)).unwrap();
    let mut wanted = lamplighter_types::Policies {
        newcomer_wait_ms: 1_000,
        ..Default::default()
    };
    wanted.retention.open_plan_ms = 7_200_000;
    wanted.approvals.power.approvals = 1;
    assert_eq!(made["policies"], serde_json::json!(wanted));

    let again = ["genesis", "create", "city.toml", "--out", "other.json"];
    with("newcomer_wait_s = 1");
    let refused = failed(folder, &again, 1);
    assert!(refused.contains("newcomer_wait_s"), "{refused}");
    with("approvals.power = 2");
    let refused = failed(folder, &again, 1);
    assert!(refused.contains("power"), "{refused}");
    assert!(!folder.join("other.json").exists());
}

/// Files that other editors wrote: a byte order mark before the text, other line ends.
#[test]
fn files_of_other_editors_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (admin, node) = (
        done(folder, &["key", "new", "admin.key"]),
        done(folder, &["key", "new", "node.key"]),
    );
    describe(folder, &node, &admin, "administrator");
    let edited = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let text = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        std::fs::write(folder.join(name), text).unwrap();
    };
    edited("admin.key");
    assert_eq!(done(folder, &["key", "show", "admin.key"]), admin);
    edited("city.toml");
    let new = [
        "genesis",
        "create",
        "city.toml",
        "--out",
        "genesis.json",
        "--json",
    ];
    let made = done(folder, &new);
    edited("genesis.json");
    assert_eq!(
        done(folder, &["genesis", "check", "genesis.json", "--json"]),
        made
    );

    let utf16: Vec<u8> = "\u{feff}name"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    std::fs::write(folder.join("city.toml"), utf16).unwrap();
    let refused = failed(
        folder,
        &["genesis", "create", "city.toml", "--out", "a.json"],
        1,
    );
    assert!(refused.contains("reading city.toml"), "{refused}");
    assert!(refused.contains("UTF-16; save it as UTF-8"), "{refused}");
    std::fs::write(folder.join("city.toml"), b"name = \"K\xf6ln\"").unwrap();
    let refused = failed(
        folder,
        &["genesis", "create", "city.toml", "--out", "a.json"],
        1,
    );
    assert!(
        refused.contains("byte 9 is no UTF-8; save the file as UTF-8"),
        "{refused}"
    );
}
