//! Attacks with forged and repeated events.

use lamplighter_system::unix_ms;
use lamplighter_types::{
    Action, AlarmChange, DeviceEvent, DeviceSigned, DevicesAction, EventsAction, Id, KeyPurpose,
    NewDevice, SecretKey, Severity, UsersAction,
};

use super::{client_with, must_fail, unregistered_key};
use crate::DevnetError;
use crate::city::{district, id};
use crate::journal::Journal;
use crate::network::{Devnet, submit_action};
use crate::scenario::lamp;

/// A registered gateway that serves one device, but no lamps.
pub(super) const ROGUE: &str = "gateway-rogue";
pub(super) const PROBE: &str = "probe";

async fn set_up(devnet: &mut Devnet) -> Result<(), DevnetError> {
    let keys = devnet.files.keys();
    let (rogue, probe) = (
        devnet.city.add_key(&keys, ROGUE)?,
        devnet.city.add_key(&keys, PROBE)?,
    );
    let action = UsersAction::RegisterGateway {
        proof: devnet.city.proof(&rogue),
        account: rogue.account.clone(),
        organization: id("city"),
        district: district(""),
        key: rogue.secret.public(),
    };
    submit_action(
        &devnet.client("admin-1")?,
        "registering a gateway",
        Action::Users(action),
    )
    .await?;
    let chain_id = devnet.city.genesis.chain_id();
    let proof = probe
        .secret
        .prove(KeyPurpose::Device, &chain_id, &probe.account);
    let device = NewDevice {
        device: probe.account,
        owner: id("city"),
        model: "probe".to_owned(),
        hardware_class: "probe".to_owned(),
        district: district("north"),
        gateway: Some(rogue.account),
        key: Some(probe.secret.public()),
        proof: Some(proof),
        tags: Vec::new(),
    };
    let action = Action::Devices(DevicesAction::Register {
        devices: vec![device],
    });
    submit_action(&devnet.client("operator")?, "registering a device", action)
        .await
        .map(drop)
}

fn event(devnet: &Devnet, device: &Id, sequence: u64, key: &SecretKey) -> Action {
    let mut event = DeviceEvent {
        device: device.clone(),
        sequence,
        time_ms: unix_ms(),
        kind: "x-probe".to_owned(),
        severity: Severity::Warning,
        alarm: AlarmChange::None,
        data: String::new(),
        signature: None,
    };
    event.sign(&devnet.city.genesis.chain_id(), key);
    Action::Events(EventsAction::Append {
        events: vec![event],
    })
}

pub(super) async fn run(devnet: &mut Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    set_up(devnet).await?;
    let rogue = devnet.client(ROGUE)?;
    let (probe, probe_key) = (id(PROBE), devnet.city.member(PROBE).secret.clone());
    submit_action(
        &rogue,
        "a first event",
        event(devnet, &probe, 1, &probe_key),
    )
    .await?;
    let again = event(devnet, &probe, 1, &probe_key);
    let verdict = must_fail(&rogue, again, &["events.sequence_used"]).await;
    journal.attack("an event with a used sequence number", verdict);

    let forged = event(devnet, &probe, 2, &unregistered_key()?);
    let verdict = must_fail(&rogue, forged, &["events.wrong_signature"]).await;
    journal.attack("an event signed by another key", verdict);

    let lamp = lamp(1);
    let lamp_key = &devnet.city.member(lamp.as_str()).secret;
    let foreign = event(devnet, &lamp, 1_000, lamp_key);
    let verdict = must_fail(&rogue, foreign, &["devices.not_your_device"]).await;
    journal.attack("an event for a device of another gateway", verdict);
    let stranger_key = unregistered_key()?;
    let stranger = client_with(devnet, &id("gateway-nobody"), &stranger_key)?;
    let verdict = must_fail(
        &stranger,
        event(devnet, &probe, 2, &probe_key),
        &["admission.unknown_key"],
    )
    .await;
    journal.attack("an event from an unregistered gateway", verdict);
    let pretender = client_with(devnet, &id("gateway-1"), &devnet.city.member(ROGUE).secret)?;
    let action = event(devnet, &probe, 2, &probe_key);
    let verdict = must_fail(&pretender, action, &["admission.not_your_key"]).await;
    journal.attack("a transaction in another account's name", verdict);
    Ok(())
}
