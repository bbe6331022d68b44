use lamplighter_state::Overlay;
use lamplighter_types::{
    Action, DeviceSigned, DevicesAction, Hash, Id, InventoryReport, KeyPurpose, NewDevice,
    ReleaseManifest, SignedRelease, UsersAction, Version,
};
use lamplighter_types::{Release, ReleaseStatus};

use super::{by_gateway, by_key, by_owner, devices, in_district, iotregistry_query, keys, state};
use crate::firmware;
use crate::tests::city::{act, genesis, id, installed, proof, scope, secret};

fn new_device(name: &str, district: &str) -> NewDevice {
    NewDevice {
        device: id(name),
        owner: id("city"),
        model: "lamp".to_owned(),
        hardware_class: "lamp-v2".to_owned(),
        district: scope(district),
        gateway: Some(id("gw-1")),
        key: Some(secret(name).public()),
        proof: Some(secret(name).prove(KeyPurpose::Device, &genesis().chain_id(), &id(name))),
        tags: Vec::new(),
    }
}

fn register(overlay: &mut Overlay, devices: Vec<NewDevice>) -> Result<(), &'static str> {
    act(
        overlay,
        "olga",
        Action::Devices(DevicesAction::Register { devices }),
    )
}

/// A city with one gateway and lamps in nested districts.
fn city() -> Overlay {
    let mut overlay = installed();
    let gateway = UsersAction::RegisterGateway {
        account: id("gw-1"),
        organization: id("city"),
        district: scope(""),
        key: secret("gw-1").public(),
        proof: proof("gw-1", "gw-1"),
    };
    act(&mut overlay, "ada", Action::Users(gateway)).unwrap();
    let lamps = [
        ("a", "north"),
        ("b", "north/harbour"),
        ("c", "northern"),
        ("d", ""),
        ("e", "south"),
        ("harbour", "north"),
    ];
    let lamps = lamps.map(|(name, district)| new_device(name, district));
    register(&mut overlay, lamps.to_vec()).unwrap();
    overlay
}

fn names(found: Vec<lamplighter_types::Device>) -> Vec<String> {
    found
        .iter()
        .map(|device| device.device.to_string())
        .collect()
}

#[test]
fn a_district_has_its_devices_and_those_below() {
    let overlay = city();
    let within = |district: &str, after: Option<&Id>, limit| {
        names(in_district(&overlay, &scope(district), after, limit).unwrap())
    };
    assert_eq!(within("north", None, 10), ["a", "harbour", "b"]);
    assert_eq!(within("north", Some(&id("a")), 1), ["harbour"]);
    assert_eq!(within("north", Some(&id("harbour")), 10), ["b"]);
    assert_eq!(within("north/harbour", None, 10), ["b"]);
    assert_eq!(within("", None, 10), ["d", "a", "harbour", "b", "c", "e"]);
    assert_eq!(within("nor", None, 10), Vec::<String>::new());
    assert_eq!(
        within("north", Some(&id("unknown")), 10),
        Vec::<String>::new()
    );
}

#[test]
fn devices_are_found_by_gateway_owner_and_key() {
    let overlay = city();
    let all = ["a", "b", "c", "d", "e", "harbour"];
    assert_eq!(names(devices(&overlay, None, 10).unwrap()), all);
    assert_eq!(
        names(by_gateway(&overlay, &id("gw-1"), None, 10).unwrap()),
        all
    );
    assert_eq!(
        names(by_owner(&overlay, &id("city"), Some(&id("c")), 2).unwrap()),
        ["d", "e"]
    );
    let found = by_key(&overlay, &secret("e").public()).unwrap().unwrap();
    assert_eq!(found.device, id("e"));
    assert!(
        by_key(&overlay, &secret("gw-1").public())
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_thousand_devices_are_registered_at_once_and_not_one_more() {
    let mut overlay = city();
    let lamps = |n| {
        (0..n)
            .map(|n| new_device(&format!("lamp-{n}"), "west"))
            .collect()
    };
    assert_eq!(register(&mut overlay, lamps(1_001)), Err("shape.too_long"));
    register(&mut overlay, lamps(1_000)).unwrap();
    assert_eq!(
        in_district(&overlay, &scope("west"), None, 2_000)
            .unwrap()
            .len(),
        1_000
    );
}

fn released(overlay: &mut Overlay, name: &str, image: &[u8]) {
    let manifest = ReleaseManifest {
        release: id(name),
        vendor: id("acme"),
        version: Version {
            major: 1,
            minor: 0,
            patch: 0,
        },
        artifact: Hash::of(image),
        size_bytes: image.len() as u64,
        hardware_classes: vec!["lamp-v2".to_owned()],
        security_counter: 1,
        replaces_from: None,
        depends_on: Vec::new(),
        expires_ms: None,
        critical: false,
        provenance: None,
    };
    let signed = SignedRelease::sign(&manifest, &secret("acme"));
    let release = Release {
        manifest_digest: signed.manifest_digest(),
        manifest,
        signed,
        status: ReleaseStatus::Released,
        author: id("acme"),
        approvals: Vec::new(),
        reason: String::new(),
        organization: id("city"),
        published_height: 1,
        published_ms: 1,
        released_ms: Some(1),
        ended_ms: None,
    };
    overlay.put(&firmware::keys::release(&id(name)), &release);
    overlay.commit();
}

fn report(
    overlay: &mut Overlay,
    device: &str,
    image: &[u8],
    counter: u64,
) -> Result<(), &'static str> {
    let mut report = InventoryReport {
        device: id(device),
        version: None,
        digest: Hash::of(image),
        security_counter: 0,
        counter,
        signature: None,
    };
    report.sign(&genesis().chain_id(), &secret(device));
    let action = DevicesAction::ReportInventory {
        reports: vec![report],
    };
    act(overlay, "gw-1", Action::Devices(action))
}

#[test]
fn a_device_that_runs_something_else_than_confirmed_has_drifted() {
    let mut overlay = city();
    released(&mut overlay, "r-1", b"image one");
    report(&mut overlay, "a", b"factory image", 1).unwrap();
    let drifted = |overlay: &Overlay| state(overlay, &id("a")).unwrap().unwrap().drifted;
    assert!(!drifted(&overlay), "nothing is confirmed yet");
    let mut confirmed = state(&overlay, &id("a")).unwrap().unwrap();
    confirmed.release = Some(id("r-1"));
    overlay.put(&keys::state(&id("a")), &confirmed);
    overlay.commit();
    report(&mut overlay, "a", b"image one", 2).unwrap();
    assert!(!drifted(&overlay));
    report(&mut overlay, "a", b"something else", 3).unwrap();
    assert!(drifted(&overlay));
    report(&mut overlay, "a", b"image one", 4).unwrap();
    assert!(!drifted(&overlay));
    assert_eq!(
        report(&mut overlay, "a", b"image one", 4),
        Err("devices.counter_used")
    );
}

#[test]
fn a_report_of_another_chain_is_refused() {
    let mut overlay = city();
    let mut report = InventoryReport {
        device: id("a"),
        version: None,
        digest: Hash::ZERO,
        security_counter: 0,
        counter: 1,
        signature: None,
    };
    report.sign(&Hash::of(b"another city"), &secret("a"));
    let action = DevicesAction::ReportInventory {
        reports: vec![report],
    };
    let refused = act(&mut overlay, "gw-1", Action::Devices(action));
    assert_eq!(refused, Err("devices.wrong_signature"));
}

#[derive(serde::Deserialize)]
struct Vector {
    kind: String,
    function: String,
    note: String,
    arg: String,
    ok: bool,
    result: Option<String>,
}

#[test]
fn all_vectors_of_iotregistry_hold_on_the_state() {
    let text = include_str!("../../../tests/data/iotregistry/vectors.json");
    let vectors: Vec<Vector> = serde_json::from_str(text).unwrap();
    assert_eq!(vectors.len(), 64);
    let mut overlay = installed();
    for Vector {
        kind,
        function,
        note,
        arg,
        ok,
        result,
    } in vectors
    {
        if kind == "invoke" {
            let invoke = DevicesAction::IotRegistry {
                function,
                argument: arg,
            };
            let done = act(&mut overlay, "node-1", Action::Devices(invoke));
            assert_eq!(done.is_ok(), ok, "{note}: {done:?}");
        } else {
            let reply = iotregistry_query(&overlay, &function, &arg).ok();
            assert_eq!(reply.is_some(), ok, "{note}");
            assert_eq!(reply, result, "{note}");
        }
    }
}
