//! The demonstration, from empty machines to confirmed firmware: each step through the real
//! interfaces.

mod field;
mod people;
mod proof;
mod release;

use lamplighter_types::{Id, Version};

use crate::DevnetError;
use crate::city::id;
use crate::feed::Observer;
use crate::journal::Journal;
use crate::network::Devnet;

pub use proof::head as agree;
pub(crate) use proof::tampered;
pub use release::Begun;
pub(crate) use release::{begin, held, manifest_of, plan_for, publish, try_approve};

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

/// Names of the Things, `lamp-001` and so on, and the gateway of each: they take turns.
pub fn things(devnet: &Devnet, gateway: usize) -> Vec<Id> {
    let gateways = devnet.plan.gateways;
    let numbers = (0..devnet.plan.things).filter(|n| n % gateways.max(1) == gateway);
    numbers.map(|n| id(&format!("lamp-{:03}", n + 1))).collect()
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
    journal
        .step("validators", people::validators(devnet))
        .await?;
    let observer = Observer::start(&devnet.client("auditor")?);
    journal.step("accounts", people::register(devnet)).await?;
    journal
        .step("devices", people::register_devices(devnet))
        .await?;
    journal
        .step("field", field::start(devnet, &observer))
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
    journal
        .step("configuration", field::configure(devnet, observer))
        .await?;
    journal
        .step("alarm", field::alarm(devnet, observer))
        .await?;
    journal.step("proof", proof::check(devnet)).await?;
    journal.step("head", proof::head(devnet)).await?;
    journal.step("events", field::events(observer)).await?;
    Ok(())
}

/// The image uploaded by the vendor, published, held by a quorum of validators, approved by two
/// people.
pub async fn release(
    devnet: &Devnet,
    observer: &Observer,
    journal: &mut Journal,
) -> Result<(), DevnetError> {
    journal.step("upload", release::upload(devnet)).await?;
    journal
        .step("publish", release::publish_ours(devnet))
        .await?;
    let digest = lamplighter_types::Hash::of(&devnet.firmware.1);
    journal
        .step("held", release::held(devnet, observer, digest))
        .await?;
    journal
        .step("approve", release::approve(devnet))
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
    journal
        .step(
            "rollout begins",
            release::begin(devnet, plan_for(ROLLOUT, RELEASE)),
        )
        .await
}

/// Waits for the end of the rollout and compares the active slots with the file.
pub async fn finish(
    devnet: &mut Devnet,
    observer: &Observer,
    journal: &mut Journal,
    begun: &Begun,
) -> Result<(), DevnetError> {
    let told = journal.voice();
    journal
        .step("rollout", release::finish(devnet, observer, begun, &told))
        .await?;
    journal
        .step("images", field::compare(devnet))
        .await
        .map(drop)
}
