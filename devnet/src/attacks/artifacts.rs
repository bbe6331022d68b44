//! Attacks with one flipped bit in an image: at the artifact store, at the gateway, at the Thing.

use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lamplighter_types::login::Audience;
use lamplighter_types::{DeploymentState, Id, RolloutStatus, SignedRelease, Version};
use serde_json::{Value, json};

use super::lying_node::{LieControl, LyingNode};
use super::releases::plan_for_list;
use super::{image_of, problem_text};
use crate::DevnetError;
use crate::city::id;
use crate::feed::{FeedSubscriber, name_of};
use crate::field::ThingCommand;
use crate::journal::Journal;
use crate::network::Devnet;
use crate::scenario::{approve_as, begin, lamp, manifest_of, publish, things, wait_stored};

/// Time for a gateway to try a download.
const TRIED_WITHIN: Duration = Duration::from_secs(60);
/// Time for the rollout to end after that.
const DONE_WITHIN: Duration = Duration::from_secs(180);
/// The result code of LwM2M for a failed integrity check.
const INTEGRITY: u32 = 5;

/// Uploads an image with a flipped bit under the digest of the right one.
pub(super) async fn store(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let (mut image, digest) = image_of("an image that is never right");
    image[1_000] ^= 1;
    let failed = |error: reqwest::Error| DevnetError::Unexpected(format!("uploading: {error}"));
    let token = devnet.client("vendor")?.token(0, Audience::HttpRead).await;
    let token = token.map_err(DevnetError::client("getting a token"))?.token;
    let http = devnet.http()?;
    let url = format!("{}/v1/artifacts", devnet.nodes[0].url());
    let announced = json!({ "digest": digest, "size_bytes": image.len() });
    let begun = http
        .post(&url)
        .bearer_auth(&token)
        .json(&announced)
        .send()
        .await;
    begun
        .and_then(reqwest::Response::error_for_status)
        .map_err(failed)?;
    let sent = http
        .patch(format!("{url}/{digest}/upload"))
        .bearer_auth(&token)
        .header("upload-offset", "0")
        .header("content-type", "application/octet-stream")
        .body(image)
        .send()
        .await
        .map_err(failed)?;
    let status = sent.status().as_u16();
    let answer: Value = sent.json().await.map_err(failed)?;
    let there = http
        .get(format!("{url}/{digest}"))
        .send()
        .await
        .map_err(failed)?
        .status();
    let words = format!("{status} {}", problem_text(&answer));
    let verdict = if status == 422 && answer["code"] == "artifact.digest" && there == 404 {
        Ok(words)
    } else {
        Err(DevnetError::NotRefused(words))
    };
    journal.attack("one flipped bit at the artifact store", verdict);
    Ok(())
}

/// Rolls a new release out to two lamps. The gateway of the first reaches only nodes that lie, and
/// a bit flips on the way to the second. The first gets the right image once the nodes are honest;
/// the second refuses the release, and installs it in the next rollout.
pub(super) async fn field(
    devnet: &mut Devnet,
    feed: &FeedSubscriber,
    journal: &mut Journal,
) -> Result<(), DevnetError> {
    let (first, second) = (lamp(1), lamp(devnet.plan.things));
    // With a single lamp the gateway refuses first, and then the lamp itself.
    let mut devices = vec![first.clone(), second.clone()];
    devices.dedup();
    let (image, artifact) = image_of("lamp firmware 1.2.0");
    release(devnet, feed, &image).await?;
    let control = Arc::new(LieControl::default());
    let lying_nodes = interpose(devnet, &control).await?;
    let command = ThingCommand::CorruptNextBlock {
        device: second.clone(),
    };
    devnet.mesh_of(&second)?.command(&command).await?;
    let rollout = id("flipped-bits");
    let plan = plan_for_list("flipped-bits", &id(NEXT), &devices);
    begin(devnet, plan).await?;
    let verdict = gateway_refused(devnet, feed, &control, &rollout, &first).await;
    journal.attack("one flipped bit at the gateway", verdict);
    control.stop_lying();
    power_cycle_first_gateway(devnet, &devices).await?;
    let seen = wait_rollout_end(feed, &rollout).await?;
    let reported = (rollout.clone(), second.clone(), INTEGRITY);
    let kept = devnet.mesh_of(&second)?.image(&second).await? == devnet.firmware.1;
    let verdict = if seen.failures.contains(&reported) && kept {
        Ok(format!(
            "{second} reports result {INTEGRITY} and keeps its image"
        ))
    } else {
        Err(DevnetError::NotRefused(format!("{:?}", seen.failures)))
    };
    journal.attack("one flipped bit at the Thing", verdict);
    // Without the flipped bit it installs the same release.
    let second_rollout = id("without-flipped-bits");
    begin(
        devnet,
        plan_for_list(second_rollout.as_str(), &id(NEXT), slice::from_ref(&second)),
    )
    .await?;
    wait_rollout_end(feed, &second_rollout).await?;
    for device in devices {
        let runs = devnet.mesh_of(&device)?.image(&device).await?;
        if runs != image {
            return Err(DevnetError::Unexpected(format!(
                "{device} does not run {artifact}"
            )));
        }
    }
    restore(devnet).await?;
    drop(lying_nodes);
    Ok(())
}

/// Power-cycles the Things of the first gateway. A gateway tries a download again when a Thing
/// registers; after a boot each registers at once.
async fn power_cycle_first_gateway(devnet: &mut Devnet, devices: &[Id]) -> Result<(), DevnetError> {
    for device in things(devnet, 0) {
        if devices.contains(&device) {
            let command = ThingCommand::PowerCycle {
                device: device.clone(),
            };
            devnet.mesh_of(&device)?.command(&command).await?;
        }
    }
    Ok(())
}

async fn wait_rollout_end(
    feed: &FeedSubscriber,
    rollout: &Id,
) -> Result<crate::FeedState, DevnetError> {
    let ended = |seen: &crate::FeedState| {
        seen.rollouts
            .get(rollout)
            .is_some_and(|status| *status != RolloutStatus::Running)
    };
    feed.until("the rollout ends", DONE_WITHIN, ended).await
}

/// A release that the lamps run in the end.
pub(super) const NEXT: &str = "lamp-firmware-1.2.0";

async fn release(devnet: &Devnet, feed: &FeedSubscriber, image: &[u8]) -> Result<(), DevnetError> {
    let vendor = devnet.client("vendor")?;
    let path = devnet.files.write("lamp-firmware-1.2.0.bin", image)?;
    let uploaded = vendor.upload(&path, &mut |_, _| {}).await;
    uploaded.map_err(DevnetError::client("uploading an image"))?;
    let mut manifest = manifest_of(NEXT, "vendor", image);
    manifest.version = Version {
        major: 1,
        minor: 2,
        patch: 0,
    };
    manifest.security_counter = 3;
    publish(
        &vendor,
        SignedRelease::sign(&manifest, &devnet.city.member("vendor").secret),
    )
    .await?;
    wait_stored(devnet, feed, manifest.artifact).await?;
    for approver in ["approver-1", "approver-2"] {
        approve_as(&devnet.client(approver)?, &manifest).await?;
    }
    Ok(())
}

/// Restarts the first gateway, with a lying node in front of each node.
async fn interpose(
    devnet: &mut Devnet,
    control: &Arc<LieControl>,
) -> Result<Vec<LyingNode>, DevnetError> {
    let mut config = devnet.gateways[0].config.clone();
    let mut lying_nodes = Vec::new();
    for node in &mut config.nodes {
        let address = devnet.ports.allocate()?;
        let real = devnet.nodes.iter().find(|n| n.url() == node.http);
        let real =
            real.ok_or_else(|| DevnetError::Unexpected(format!("{} is no node", node.http)))?;
        let key = lamplighter_node::key::read(&real.config.key)?.public();
        let real = (real.config.http_listen, key);
        let lying_node = LyingNode::start(address, real, control.clone()).await;
        let lying_node = lying_node.map_err(|source| DevnetError::Start {
            name: "a liar".to_owned(),
            source,
        })?;
        node.http = format!("http://{}", lying_node.address);
        lying_nodes.push(lying_node);
    }
    devnet.files.write_toml(config.account.as_str(), &config)?;
    restart_first_gateway(devnet).await?;
    Ok(lying_nodes)
}

async fn restore(devnet: &mut Devnet) -> Result<(), DevnetError> {
    let config = devnet.gateways[0].config.clone();
    devnet.files.write_toml(config.account.as_str(), &config)?;
    restart_first_gateway(devnet).await
}

async fn restart_first_gateway(devnet: &mut Devnet) -> Result<(), DevnetError> {
    let process = &mut devnet.gateways[0].process;
    process.stop().await?;
    process.start()
}

/// Checks that the gateway received wrong bytes, logged it, and passed nothing to the Thing.
async fn gateway_refused(
    devnet: &Devnet,
    feed: &FeedSubscriber,
    control: &LieControl,
    rollout: &Id,
    device: &Id,
) -> Result<String, DevnetError> {
    let process = &devnet.gateways[0].process;
    let begun = Instant::now();
    let refusal = loop {
        let log = process.read_log()?;
        let line = log
            .lines()
            .rev()
            .find(|line| line.contains("are not those of the artifact"));
        if let (true, Some(line)) = (control.flipped() > 0, line) {
            break line.to_owned();
        }
        if begun.elapsed() > TRIED_WITHIN {
            let what = "the gateway refuses a download".to_owned();
            let seen = format!("{} flipped bits", control.flipped());
            return Err(DevnetError::Deadline {
                what,
                within: TRIED_WITHIN,
                seen,
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let state = feed
        .seen()
        .deployments
        .get(&(rollout.clone(), device.clone()))
        .copied();
    match state {
        Some(state) if state > DeploymentState::Downloading => Err(DevnetError::NotRefused(
            format!("{device} is {}", name_of(&state)),
        )),
        _ => {
            let words = refusal
                .find("the bytes that")
                .map_or("", |at| &refusal[at..]);
            Ok(format!(
                "{} ranges with a flipped bit: {words}",
                control.flipped()
            ))
        }
    }
}
