use super::changes::check_address;
use super::{OBSERVERS_MAX, keys, observers, validator_set};
use crate::tests::city::{empty, id, installed, secret};
use lamplighter_types::Observer;

#[test]
fn addresses_are_host_and_port() {
    for good in [
        "localhost:7000",
        "10.0.0.1:1",
        "[::1]:65535",
        "node-1.example:7000",
    ] {
        assert_eq!(check_address(good), Ok(()), "{good}");
    }
    let long = format!("{}:7000", "a".repeat(300));
    for bad in [
        "",
        "localhost",
        ":7000",
        "localhost:0",
        "localhost:65536",
        "a b:7",
        &long,
    ] {
        assert!(check_address(bad).is_err(), "{bad}");
    }
}

#[test]
fn observers_are_read_in_the_order_of_their_ids() {
    let mut overlay = installed();
    for node in [256, 2, 65_536, 3] {
        let account = id(&format!("o-{node}"));
        let key = secret(account.as_str()).public();
        let observer = Observer {
            node,
            account,
            key,
            address: "localhost:1".to_owned(),
        };
        overlay.put(&keys::observer(node), &observer);
    }
    let nodes: Vec<_> = observers(&overlay)
        .unwrap()
        .iter()
        .map(|o| o.node)
        .collect();
    assert_eq!(nodes, [2, 3, 256, 65_536]);
    assert!(nodes.len() < OBSERVERS_MAX);
}

#[test]
fn without_a_genesis_there_is_no_validator_set() {
    assert!(validator_set(&empty()).is_err());
}
