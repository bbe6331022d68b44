//! The demonstration, from empty machines to confirmed firmware: each step through the real
//! interfaces.

mod field;
mod people;
mod proof;
mod release;

use lamplighter_types::{Hash, Id, Version};

use crate::DevnetError;
use crate::city::id;
use crate::feed::FeedSubscriber;
use crate::journal::Journal;
use crate::network::Devnet;

pub(crate) use proof::tampered;
pub use proof::{check as deployment_proof, head as same_head};
pub use release::StartedRollout;
pub(crate) use release::{approve_as, begin, manifest_of, plan_for, publish, wait_stored};

/// Hardware class of the simulated lamps.
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

/// The Things of a gateway; they are dealt out to the gateways in turn.
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

/// Starts the validators, registers all accounts and devices, and starts gateways and Things.
pub async fn bring_up(
    devnet: &mut Devnet,
    journal: &mut Journal,
) -> Result<FeedSubscriber, DevnetError> {
    let passed = "the validators have a leader and serve";
    journal
        .step("validators", passed, people::validators(devnet))
        .await?;
    let feed = FeedSubscriber::start(&devnet.client("auditor")?);
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
        .step("field", passed, field::start(devnet, &feed))
        .await?;
    Ok(feed)
}

/// Runs all steps: upload, publication, approvals, rollout, configuration, alarm, key, proof.
pub async fn run(
    devnet: &mut Devnet,
    feed: &FeedSubscriber,
    journal: &mut Journal,
) -> Result<(), DevnetError> {
    release(devnet, feed, journal).await?;
    roll_out(devnet, feed, journal).await?;
    let passed = "every Thing has applied a new configuration";
    let work = field::configure(devnet, feed);
    journal.step("configuration", passed, work).await?;
    let passed = "an alarm was raised, acknowledged and cleared; another one waits for a person";
    let work = field::alarm(devnet, feed);
    journal.step("alarm", passed, work).await?;
    let passed =
        "a lamp has replaced its key, and the ledger accepts what it signs with the new one";
    let work = field::rotate_key(devnet, feed);
    journal.step("key", passed, work).await?;
    let passed = "a proof of a deployment holds, and does not with one bit changed";
    journal.step("proof", passed, proof::check(devnet)).await?;
    let passed = "all validators have the same certified block";
    journal.step("head", passed, proof::head(devnet)).await?;
    let passed = "a subscriber was told of everything, in order";
    journal
        .step("events", passed, field::events(feed))
        .await
        .map(drop)
}

/// Uploads and publishes the image as the vendor, waits until a quorum of validators stores it, and
/// approves it as two people.
pub async fn release(
    devnet: &Devnet,
    feed: &FeedSubscriber,
    journal: &mut Journal,
) -> Result<(), DevnetError> {
    let passed = "the vendor has uploaded a firmware image";
    journal
        .step("upload", passed, release::upload(devnet))
        .await?;
    let passed = format!("the vendor has published the release {RELEASE}");
    journal
        .step("publish", &passed, release::publish_release(devnet))
        .await?;
    let digest = Hash::of(&devnet.firmware.1);
    let passed = "a quorum of validators stores the image";
    let work = release::wait_stored(devnet, feed, digest);
    journal.step("stored", passed, work).await?;
    let passed = "two people have approved the release";
    journal
        .step("approve", passed, release::approve(devnet))
        .await
        .map(drop)
}

/// Rolls the release out to every Thing, and compares each active slot with the file.
pub async fn roll_out(
    devnet: &mut Devnet,
    feed: &FeedSubscriber,
    journal: &mut Journal,
) -> Result<(), DevnetError> {
    let begun = start(devnet, journal).await?;
    finish(devnet, feed, journal, &begun).await
}

/// Plans, approves and starts the rollout.
pub async fn start(devnet: &Devnet, journal: &mut Journal) -> Result<StartedRollout, DevnetError> {
    let passed = format!("the rollout {ROLLOUT} is planned, approved and started");
    let mut plan = plan_for(ROLLOUT, RELEASE);
    plan.timers.download_ms = devnet.link.rollout_within().as_millis() as u64;
    let work = release::begin(devnet, plan);
    journal.step("rollout begins", &passed, work).await
}

/// Waits for the end of the rollout and compares the active slots with the file.
pub async fn finish(
    devnet: &mut Devnet,
    feed: &FeedSubscriber,
    journal: &mut Journal,
    begun: &StartedRollout,
) -> Result<(), DevnetError> {
    let passed = "every Thing has confirmed the release";
    let work = release::finish(devnet, feed, begun, journal.progress());
    journal.step("rollout", passed, work).await?;
    let passed = "every Thing runs the image, compared byte by byte";
    journal
        .step("images", passed, field::compare(devnet))
        .await
        .map(drop)
}
