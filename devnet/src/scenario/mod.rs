//! The demonstration, from empty machines to confirmed firmware: each step through the real
//! interfaces.

mod field;
mod people;
mod proof;
mod release;

use lamplighter_types::{Hash, Id, Version};

use crate::DevnetError;
use crate::city::id;
use crate::feed::Observer;
use crate::journal::Journal;
use crate::network::Devnet;

pub use proof::head as agree;
pub(crate) use proof::tampered;
pub use release::Begun;
pub(crate) use release::{begin, manifest_of, plan_for, publish, stored, try_approve};

/// What the simulated lamps are.
pub const HARDWARE_CLASS: &str = "acme-lamp-v2";
pub(crate) const MODEL: &str = "glow-40";
pub(crate) const RELEASE: &str = "lamp-firmware-1.1.0";
pub(crate) const VERSION: Version = Version {
    major: 1,
    minor: 1,
    patch: 0,
};
pub(crate) const ROLLOUT: &str = "spring-update";

/// The name of the Thing with this number: `lamp-001` is the first.
pub(crate) fn lamp(number: usize) -> Id {
    id(&format!("lamp-{number:03}"))
}

/// The Things of a gateway: all gateways take turns.
pub fn things(devnet: &Devnet, gateway: usize) -> Vec<Id> {
    let gateways = devnet.plan.gateways;
    let numbers = (0..devnet.plan.things).filter(|n| n % gateways.max(1) == gateway);
    numbers.map(|n| lamp(n + 1)).collect()
}

/// The rollout of the demonstration.
pub fn rollout() -> Id {
    id(ROLLOUT)
}

/// The account of a gateway.
pub fn gateway_name(gateway: usize) -> String {
    format!("gateway-{}", gateway + 1)
}

/// Starts the validators, registers everybody and starts gateways and Things.
pub async fn bring_up(devnet: &mut Devnet, journal: &mut Journal) -> Result<Observer, DevnetError> {
    let passed = "the validators have a leader and serve";
    journal
        .step("validators", passed, people::validators(devnet))
        .await?;
    let observer = Observer::start(&devnet.client("auditor")?);
    let passed = "people and gateways are registered";
    journal
        .step("accounts", passed, people::register(devnet))
        .await?;
    let passed = "the Things are registered";
    journal
        .step("devices", passed, people::register_devices(devnet))
        .await?;
    let passed = "every Thing has reported through its gateway what it runs";
    journal
        .step("field", passed, field::start(devnet, &observer))
        .await?;
    Ok(observer)
}

/// Upload, publication, approvals, rollout, configuration, alarm, proof.
pub async fn run(
    devnet: &mut Devnet,
    observer: &Observer,
    journal: &mut Journal,
) -> Result<(), DevnetError> {
    release(devnet, observer, journal).await?;
    roll_out(devnet, observer, journal).await?;
    let passed = "every Thing has applied a new configuration";
    let work = field::configure(devnet, observer);
    journal.step("configuration", passed, work).await?;
    let passed = "an alarm was raised, acknowledged and cleared; another one waits for a person";
    let work = field::alarm(devnet, observer);
    journal.step("alarm", passed, work).await?;
    let passed = "a proof of a deployment holds, and does not with one bit changed";
    journal.step("proof", passed, proof::check(devnet)).await?;
    let passed = "all validators have the same certified block";
    journal.step("head", passed, proof::head(devnet)).await?;
    let passed = "a subscriber was told of everything, in order";
    journal
        .step("events", passed, field::events(observer))
        .await
        .map(drop)
}

/// The image uploaded by the vendor, published, stored by a quorum of validators, approved by two
/// people.
pub async fn release(
    devnet: &Devnet,
    observer: &Observer,
    journal: &mut Journal,
) -> Result<(), DevnetError> {
    let passed = "the vendor has uploaded a firmware image";
    journal
        .step("upload", passed, release::upload(devnet))
        .await?;
    let passed = format!("the vendor has published the release {RELEASE}");
    journal
        .step("publish", &passed, release::publish_ours(devnet))
        .await?;
    let digest = Hash::of(&devnet.firmware.1);
    let passed = "a quorum of validators stores the image";
    let work = release::stored(devnet, observer, digest);
    journal.step("stored", passed, work).await?;
    let passed = "two people have approved the release";
    journal
        .step("approve", passed, release::approve(devnet))
        .await
        .map(drop)
}

/// Rolled out to every Thing, and each active slot compared with the file.
pub async fn roll_out(
    devnet: &mut Devnet,
    observer: &Observer,
    journal: &mut Journal,
) -> Result<(), DevnetError> {
    let begun = start(devnet, journal).await?;
    finish(devnet, observer, journal, &begun).await
}

/// The rollout planned, approved and started.
pub async fn start(devnet: &Devnet, journal: &mut Journal) -> Result<Begun, DevnetError> {
    let passed = format!("the rollout {ROLLOUT} is planned, approved and started");
    let work = release::begin(devnet, plan_for(ROLLOUT, RELEASE));
    journal.step("rollout begins", &passed, work).await
}

/// Waits for the end of the rollout and compares the active slots with the file.
pub async fn finish(
    devnet: &mut Devnet,
    observer: &Observer,
    journal: &mut Journal,
    begun: &Begun,
) -> Result<(), DevnetError> {
    let passed = "every Thing has confirmed the release";
    let work = release::finish(devnet, observer, begun, journal.progress());
    journal.step("rollout", passed, work).await?;
    let passed = "every Thing runs the image, compared byte by byte";
    journal
        .step("images", passed, field::compare(devnet))
        .await
        .map(drop)
}
