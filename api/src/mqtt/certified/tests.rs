#![allow(clippy::unwrap_used)]

use lamplighter_types::Id;

use super::CertifiedGateways;

fn id(name: &str) -> Id {
    Id::new(name).unwrap()
}

#[test]
fn gateways_are_remembered_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("certified-gateways");
    let first = CertifiedGateways::open(&file).unwrap();
    for (name, is_new) in [
        ("gateway-2", true),
        ("gateway-1", true),
        ("gateway-2", false),
    ] {
        assert_eq!(first.add(&id(name)), is_new);
        if is_new {
            first.save().unwrap();
        }
    }
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        "gateway-1\ngateway-2\n"
    );
    let second = CertifiedGateways::open(&file).unwrap();
    assert!(second.contains(&id("gateway-1")) && second.contains(&id("gateway-2")));
    assert!(!second.contains(&id("gateway-3")));
}

#[test]
fn lines_that_are_no_ids_are_put_aside_and_the_others_count() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("certified-gateways");
    // A control character, bytes that are no text, and the rest of a write that a crash cut.
    let damaged = b"gateway-1\n\x1b[2J\ngate\xff\ngateway-2\r\ngatew";
    std::fs::write(&file, damaged).unwrap();
    let gateways = CertifiedGateways::open(&file).unwrap();
    assert!(gateways.contains(&id("gateway-1")) && gateways.contains(&id("gateway-2")));
    assert!(!gateways.contains(&id("gatew")));
    let whole = std::fs::read_to_string(&file).unwrap();
    assert_eq!(whole, "gateway-1\ngateway-2\n");
    let aside = std::fs::read(dir.path().join("certified-gateways.damaged")).unwrap();
    assert_eq!(aside, damaged);
}

#[test]
fn a_write_that_fails_leaves_the_file_whole_and_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("certified-gateways");
    let gateways = CertifiedGateways::open(&file).unwrap();
    gateways.add(&id("gateway-1"));
    gateways.save().unwrap();
    // A folder where the new content is written first.
    let obstacle = file.with_extension("new");
    std::fs::create_dir(&obstacle).unwrap();
    gateways.add(&id("gateway-2"));
    gateways.save().unwrap_err();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "gateway-1\n");
    assert!(gateways.contains(&id("gateway-2")), "until the node ends");
    std::fs::remove_dir(&obstacle).unwrap();
    gateways.save().unwrap();
    let again = CertifiedGateways::open(&file).unwrap();
    for name in ["gateway-1", "gateway-2"] {
        assert!(again.contains(&id(name)), "{name}");
    }
}
