//! A thief in the field: with the key of a Thing, or with that of the gateway [`ROGUE`], which
//! serves a device with a key and one without.

use lamplighter_system::unix_ms;
use lamplighter_types::limits::{ALARMS_PER_DEVICE_MAX, LIST_ITEMS_MAX, NUMBER_MAX};
use lamplighter_types::{
    Action, Alarm, AlarmChange, DeviceEvent, DeviceSigned, DevicesAction, EventsAction, Hash, Id,
    InventoryReport, KeyPurpose, KeyRotation, NewDevice, SecretKey, Severity,
};

use super::foreign_proof;
use crate::DevnetError;
use crate::attacks::events::{PROBE, ROGUE};
use crate::attacks::{must_fail, unregistered_key};
use crate::city::{district, id};
use crate::journal::Journal;
use crate::network::{Devnet, submit_action};
use crate::scenario::lamp;

/// A device without a key of the same gateway.
const KEYLESS: &str = "probe-keyless";
/// Alarms of a thief, in this many transactions of as many events as one may have.
const FLOODS: u64 = 4;

pub(super) async fn run(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let device = new_device(KEYLESS, None);
    let action = Action::Devices(DevicesAction::Register {
        devices: vec![device],
    });
    submit_action(&devnet.client("operator")?, "registering a device", action).await?;
    thing(devnet, journal).await?;
    rotation(devnet, journal).await?;
    numbers(devnet, journal).await?;
    let verdict = alarms(devnet).await;
    journal.attack("4,000 permanent alarms of one device", verdict);
    Ok(())
}

fn new_device(name: &str, key: Option<&SecretKey>) -> NewDevice {
    NewDevice {
        device: id(name),
        owner: id("city"),
        model: "probe".to_owned(),
        hardware_class: "probe".to_owned(),
        district: district("north"),
        gateway: Some(id(ROGUE)),
        key: key.map(SecretKey::public),
        proof: None,
        tags: Vec::new(),
    }
}

/// A report of an inventory; with a key it is signed by it.
fn inventory(
    devnet: &Devnet,
    device: &Id,
    counter: u64,
    security_counter: u64,
    key: Option<&SecretKey>,
) -> Action {
    let mut report = InventoryReport {
        device: device.clone(),
        version: None,
        digest: Hash::of(b"whatever"),
        security_counter,
        counter,
        signature: None,
    };
    if let Some(key) = key {
        report.sign(&devnet.city.genesis.chain_id(), key);
    }
    let reports = vec![report];
    Action::Devices(DevicesAction::ReportInventory { reports })
}

fn event(device: &Id, sequence: u64, kind: String, alarm: AlarmChange) -> DeviceEvent {
    DeviceEvent {
        device: device.clone(),
        sequence,
        time_ms: unix_ms(),
        kind,
        severity: Severity::Critical,
        alarm,
        data: String::new(),
        signature: None,
    }
}

async fn thing(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let rogue = devnet.client(ROGUE)?;
    let (probe, key) = (id(PROBE), &devnet.city.member(PROBE).secret);
    let far = inventory(devnet, &probe, NUMBER_MAX, 1, Some(key));
    let verdict = must_fail(&rogue, far, &["devices.counter_too_far"]).await;
    journal.attack("a stolen Thing that counts to 2^53-1", verdict);
    let floor = inventory(devnet, &probe, 2, u64::MAX, Some(key));
    let verdict = must_fail(&rogue, floor, &["devices.security_counter"]).await;
    journal.attack("a stolen Thing whose security counter is 2^64-1", verdict);
    let other = inventory(devnet, &lamp(1), 1_000, 1, Some(key));
    let verdict = must_fail(&rogue, other, &["devices.not_your_device"]).await;
    journal.attack("a stolen Thing that reports for a lamp", verdict);
    Ok(())
}

/// Keys of devices that nobody shows to have, or that their holder does not replace.
async fn rotation(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let rogue = devnet.client(ROGUE)?;
    let (probe, chain_id) = (id(PROBE), devnet.city.genesis.chain_id());
    let stranger = unregistered_key()?;
    let rotate = |rotation| {
        let rotations = vec![rotation];
        Action::Devices(DevicesAction::RotateKeys { rotations })
    };
    let mut rotation = KeyRotation {
        device: probe.clone(),
        new_key: stranger.public(),
        proof: stranger.prove(KeyPurpose::Device, &chain_id, &probe),
        counter: 2,
        signature: None,
    };
    let unsigned = rotate(rotation.clone());
    let verdict = must_fail(&rogue, unsigned, &["devices.unsigned"]).await;
    journal.attack("a Thing's key rotated by its gateway", verdict);
    rotation.sign(&chain_id, &stranger);
    let verdict = must_fail(&rogue, rotate(rotation), &["devices.wrong_signature"]).await;
    journal.attack("a Thing's key rotated by a stranger", verdict);

    let mut device = new_device("probe-claimed", Some(&stranger));
    device.proof = Some(foreign_proof(devnet, KeyPurpose::Device, &device.device)?);
    let action = Action::Devices(DevicesAction::Register {
        devices: vec![device],
    });
    let operator = devnet.client("operator")?;
    let verdict = must_fail(&operator, action, &["devices.wrong_proof"]).await;
    journal.attack("a device's key entered without having it", verdict);
    Ok(())
}

/// Numbers that only grow, of a device without a key and of one with a key.
async fn numbers(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let rogue = devnet.client(ROGUE)?;
    let keyless = id(KEYLESS);
    let largest = inventory(devnet, &keyless, u64::MAX, 1, None);
    let verdict = must_fail(&rogue, largest, &["shape.too_large"]).await;
    journal.attack("the counter of a keyless device set to 2^64-1", verdict);
    let far = inventory(devnet, &keyless, NUMBER_MAX, 1, None);
    let verdict = must_fail(&rogue, far, &["devices.counter_too_far"]).await;
    journal.attack("the counter of a keyless device set to 2^53-1", verdict);
    let append = |event| {
        let events = vec![event];
        Action::Events(EventsAction::Append { events })
    };
    let kind = "x-probe".to_owned();
    let far = event(&keyless, NUMBER_MAX, kind.clone(), AlarmChange::None);
    let verdict = must_fail(&rogue, append(far), &["events.sequence_too_far"]).await;
    journal.attack(
        "the event number of a keyless device set to 2^53-1",
        verdict,
    );
    let unsigned = event(&id(PROBE), 2, kind, AlarmChange::None);
    let verdict = must_fail(&rogue, append(unsigned), &["events.unsigned"]).await;
    journal.attack("numbers of a Thing used up by its gateway", verdict);
    // An honest report is taken after all that.
    let honest = inventory(devnet, &keyless, 1, 1, None);
    submit_action(&rogue, "an honest report", honest)
        .await
        .map(drop)
}

/// Raises alarms, each of a kind of its own, and counts those that stay in the state.
async fn alarms(devnet: &Devnet) -> Result<String, DevnetError> {
    let rogue = devnet.client(ROGUE)?;
    let keyless = id(KEYLESS);
    let each = LIST_ITEMS_MAX as u64;
    for flood in 0..FLOODS {
        let numbers = flood * each + 1..=(flood + 1) * each;
        let raise = |n| event(&keyless, n, format!("x-{n}"), AlarmChange::Raise);
        let events = numbers.map(raise).collect();
        let action = Action::Events(EventsAction::Append { events });
        submit_action(&rogue, "raising alarms", action).await?;
    }
    let path = format!("/v1/devices/{KEYLESS}/alarms?limit=1000");
    let auditor = devnet.client("auditor")?;
    let open = auditor.get::<lamplighter_types::wire::Page<Alarm>>(&path);
    let open = open
        .await
        .map_err(DevnetError::client("reading the alarms"))?;
    let (kept, raised) = (open.value.items.len(), FLOODS * each);
    if kept <= ALARMS_PER_DEVICE_MAX {
        Ok(format!("{kept} of {raised} alarms stay in the state"))
    } else {
        Err(DevnetError::NotRefused(format!("{kept} of {raised}")))
    }
}
