//! Errors in a genesis file name the faulty part, before a node starts with the file.

use lamplighter_types::*;

use crate::fixture::{genesis, secret};

fn refused(change: impl FnOnce(&mut Genesis)) -> String {
    let mut genesis = genesis();
    assert_eq!(genesis.check(), Ok(()));
    change(&mut genesis);
    genesis.check().unwrap_err().to_string()
}

fn user(name: &str, key: u8, role: Role) -> GenesisAccount {
    GenesisAccount {
        account: name.parse().unwrap(),
        name: name.to_owned(),
        key: secret(key).public(),
        grants: vec![Grant::founding(role, Scope::city())],
    }
}

#[test]
fn each_fault_names_those_that_it_is_about() {
    let set = |genesis: &mut Genesis| genesis.validators.validators.clone();
    let key = secret(2).public();
    let cases: [(&str, String); 17] = [
        (
            "node 2 and node 4 have the same address 10.0.0.2:7000",
            refused(|g| g.validators.validators[3].address = set(g)[1].address.clone()),
        ),
        (
            "the account validator-1 is there twice: of node 1 and of node 3",
            refused(|g| g.validators.validators[2].account = set(g)[0].account.clone()),
        ),
        (
            "the account validator-1 is there twice: of node 1 and of the user validator-1",
            refused(|g| g.accounts[0].account = set(g)[0].account.clone()),
        ),
        (
            &format!("the key {key} is there twice: of node 2 and of the user alice"),
            refused(|g| g.accounts[0].key = key),
        ),
        (
            &format!("the key {key} is there twice: of node 2 and of node 4"),
            refused(|g| g.validators.validators[3].key = key),
        ),
        (
            "each once: 2 follows 2",
            refused(|g| g.validators.validators[0].node = 2),
        ),
        (
            "0000 of node 3 is no usable",
            refused(|g| g.validators.validators[2].key = PublicKey([0; 32])),
        ),
        (
            "the name of the user alice must be one line",
            refused(|g| g.accounts[0].name = "Alice\n".to_owned()),
        ),
        (
            "the approvals of power are 0, they must be 1 to 16",
            refused(|g| g.policies.approvals.power.approvals = 0),
        ),
        (
            "the approvals of releases are 17, they must be 1 to 16",
            refused(|g| g.policies.approvals.releases.approvals = 17),
        ),
        (
            "approvals of recovery expire after 59999 ms, it must be 60000 to",
            refused(|g| g.policies.approvals.recovery.expires_ms = 59_999),
        ),
        (
            "allowances.gateways must be from 100 records",
            refused(|g| g.policies.allowances.gateways.records = 99),
        ),
        (
            "a role of alice has since_ms 1, in a genesis file it is 0",
            refused(|g| g.accounts[0].grants[0].since_ms = 1),
        ),
        (
            "newcomers wait 7776000001 ms, it must be at most 7776000000",
            refused(|g| g.policies.newcomer_wait_ms = 90 * 24 * 3_600_000 + 1),
        ),
        (
            "the file has version 1, this program reads version 2",
            refused(|g| g.version = 1),
        ),
        (
            "alice has 65 roles",
            refused(|g| g.accounts[0].grants = vec![g.accounts[0].grants[0].clone(); 65]),
        ),
        (
            "no account is an administrator",
            refused(|g| g.accounts[0].grants[0].scope = Scope::new("north").unwrap()),
        ),
    ];
    for (wanted, message) in cases {
        assert!(message.contains(wanted), "{message}, not {wanted}");
    }
}

#[test]
fn an_address_has_a_host_and_a_port() {
    for wrong in [
        "10.0.0.1",
        "10.0.0.1:",
        ":7000",
        "",
        "a b:1",
        "h:0",
        "h:65536",
        "h:7000 ",
    ] {
        let message = refused(|g| g.validators.validators[2].address = wrong.to_owned());
        let wanted = format!("the address {wrong:?} of node 3 is not of the form host:port");
        assert_eq!(message, wanted);
    }
    for right in ["node-3.city.example:7000", "[2001:db8::3]:1"] {
        let mut genesis = genesis();
        genesis.validators.validators[2].address = right.to_owned();
        assert_eq!(genesis.check(), Ok(()));
    }
}

fn warnings(genesis: &Genesis) -> Vec<String> {
    assert_eq!(genesis.check(), Ok(()));
    genesis.warnings().iter().map(ToString::to_string).collect()
}

/// The city of the fixture with its people: two approvers, and three administrators.
fn staffed() -> Genesis {
    let mut genesis = genesis();
    genesis.accounts.push(user("ada", 101, Role::Administrator));
    genesis.accounts.push(user("ben", 102, Role::Approver));
    genesis.accounts.push(user("cyd", 103, Role::Approver));
    genesis.accounts.push(user("dan", 104, Role::Administrator));
    genesis
}

#[test]
fn warnings_name_what_founders_may_not_have_meant() {
    assert_eq!(warnings(&staffed()), [""; 0]);
    let mut genesis = staffed();
    genesis.accounts[0].grants.clear();
    assert_eq!(
        warnings(&genesis),
        [
            "alice has no role: it can do nothing until an administrator grants it one",
            "2 administrators of the whole city, and 2 must agree: when one loses a key or has it \
             stolen, nobody can be appointed or recovered any more",
        ]
    );
    let mut genesis = staffed();
    genesis.accounts.truncate(3);
    genesis.policies.approvals.recovery.approvals = 3;
    assert_eq!(
        warnings(&genesis),
        [
            "the policy releases wants 2 to approve, and the file has 1 with the role approver: \
             nothing is ever approved by it until there are more",
            "the policy recovery wants 3 to approve, and the file has 2 with the role \
             administrator of the whole city: nothing is ever approved by it until there are more",
            "2 people can appoint administrators, and the policy recovery wants 3: those 2 can \
             appoint the missing ones",
        ]
    );
}

#[test]
fn warnings_name_policies_by_which_one_key_is_enough() {
    let mut genesis = staffed();
    genesis.policies = Policies::of_one_person();
    let warned = warnings(&genesis);
    let kinds = "releases power recovery validators policies devices";
    let expected = kinds.split(' ');
    let expected = expected
        .map(|kind| format!("the policy {kind} wants one to approve: one stolen key is enough"));
    let wait = "newcomers do not wait: nobody has the time to stop a false one";
    let expected: Vec<_> = expected.chain([wait.to_owned()]).collect();
    assert_eq!(warned, expected);
}

#[test]
fn warnings_name_addresses_and_numbers_of_nodes() {
    let warned_by = |change: &dyn Fn(&mut Genesis)| {
        let mut genesis = staffed();
        change(&mut genesis);
        warnings(&genesis)
    };
    let local = |address: &'static str| {
        warned_by(&|g| g.validators.validators[1].address = address.to_owned())
    };
    for address in [
        "127.0.0.1:7000",
        "[::1]:7000",
        "0.0.0.0:1",
        "[::]:1",
        "LOCALHOST:9",
    ] {
        let wanted = format!(
            "the address {address} of node 2 leads each machine to itself: no other reaches it"
        );
        assert_eq!(local(address), [wanted]);
    }
    assert_eq!(local("localhost.city.example:7000"), [""; 0]);
    // A ledger on one machine.
    let one_machine = warned_by(&|g| {
        for validator in &mut g.validators.validators {
            validator.address = format!("127.0.0.1:{}", validator.node);
        }
    });
    assert_eq!(one_machine, [""; 0]);
    let nodes = |count: usize| warned_by(&|g| g.validators.validators.truncate(count));
    assert_eq!(nodes(1), [""; 0]);
    assert!(nodes(2)[0].starts_with("2 nodes: when one is down"));
    assert!(nodes(3)[0].starts_with("3 nodes go on without one"));
    assert_eq!(nodes(4), [""; 0]);
}
