//! An image with one flipped bit: at the artifact store, at the gateway, at the Thing.

use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lamplighter_types::login::Audience;
use lamplighter_types::{DeploymentState, Id, RolloutStatus, SignedRelease, Version};
use serde_json::{Value, json};

use super::liar::{Liar, Manners};
use super::releases::plan_for_list;
use super::{image_of, words_of};
use crate::DevnetError;
use crate::city::id;
use crate::feed::{Observer, name_of};
use crate::field::Order;
use crate::journal::Journal;
use crate::network::Devnet;
use crate::scenario::{begin, lamp, manifest_of, publish, stored, things, try_approve};

/// For a gateway to try a download.
const TRIED_WITHIN: Duration = Duration::from_secs(60);
/// For the rollout to go on after that.
const DONE_WITHIN: Duration = Duration::from_secs(180);
/// The result code that LwM2M has for a failed integrity check.
const INTEGRITY: u32 = 5;

/// Uploads an image with a flipped bit under the digest of the right one.
pub(super) async fn store(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let (mut image, digest) = image_of("an image that is never right");
    image[1_000] ^= 1;
    let failed = |error: reqwest::Error| DevnetError::Found(format!("uploading: {error}"));
    let token = devnet.client("vendor")?.token(0, Audience::HttpRead).await;
    let token = token.map_err(DevnetError::client("getting a token"))?.token;
    let http = reqwest::Client::new();
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
    let words = format!("{status} {}", words_of(&answer));
    let verdict = match status == 422 && answer["code"] == "artifact.digest" && there == 404 {
        true => Ok(words),
        false => Err(DevnetError::NotRefused(words)),
    };
    journal.attack("one flipped bit at the artifact store", verdict);
    Ok(())
}

/// A new release to two lamps: the gateway of the first hears only nodes that lie, and a bit flips
/// on the way to the second. The first ends with the right image once the nodes are honest; the
/// second refuses, and takes it from the next rollout.
pub(super) async fn field(
    devnet: &mut Devnet,
    observer: &Observer,
    journal: &mut Journal,
) -> Result<(), DevnetError> {
    let (first, second) = (lamp(1), lamp(devnet.plan.things));
    // Of a single lamp the gateway refuses first, and then the lamp itself.
    let mut devices = vec![first.clone(), second.clone()];
    devices.dedup();
    let (image, artifact) = image_of("lamp firmware 1.2.0");
    release(devnet, observer, &image).await?;
    let manners = Arc::new(Manners::default());
    let liars = surround(devnet, &manners).await?;
    let order = Order::CorruptNextBlock {
        device: second.clone(),
    };
    devnet.mesh_of(&second)?.order(&order).await?;
    let rollout = id("flipped-bits");
    let plan = plan_for_list("flipped-bits", &id(NEXT), &devices);
    begin(devnet, plan).await?;
    let verdict = gateway_refused(devnet, observer, &manners, &rollout, &first).await;
    journal.attack("one flipped bit at the gateway", verdict);
    manners.be_honest();
    register_again(devnet, &devices).await?;
    let seen = ends(observer, &rollout).await?;
    let told = (rollout.clone(), second.clone(), INTEGRITY);
    let kept = devnet.mesh_of(&second)?.image(&second).await? == devnet.firmware.1;
    let verdict = match seen.failures.contains(&told) && kept {
        true => Ok(format!(
            "{second} reports result {INTEGRITY} and keeps its image"
        )),
        false => Err(DevnetError::NotRefused(format!("{:?}", seen.failures))),
    };
    journal.attack("one flipped bit at the Thing", verdict);
    // Without the bad bit it takes the same release.
    let again = id("without-flipped-bits");
    begin(
        devnet,
        plan_for_list(again.as_str(), &id(NEXT), slice::from_ref(&second)),
    )
    .await?;
    ends(observer, &again).await?;
    for device in devices {
        let runs = devnet.mesh_of(&device)?.image(&device).await?;
        if runs != image {
            return Err(DevnetError::Found(format!(
                "{device} does not run {artifact}"
            )));
        }
    }
    restore(devnet).await?;
    drop(liars);
    Ok(())
}

/// Lets the Things of the first gateway boot: it tries a download again when a Thing registers,
/// which each does from time to time, and these at once.
async fn register_again(devnet: &mut Devnet, devices: &[Id]) -> Result<(), DevnetError> {
    for device in things(devnet, 0) {
        if devices.contains(&device) {
            let order = Order::PowerCycle {
                device: device.clone(),
            };
            devnet.mesh_of(&device)?.order(&order).await?;
        }
    }
    Ok(())
}

async fn ends(observer: &Observer, rollout: &Id) -> Result<crate::Seen, DevnetError> {
    let ended = |seen: &crate::Seen| {
        seen.rollouts
            .get(rollout)
            .is_some_and(|status| *status != RolloutStatus::Running)
    };
    observer.until("the rollout ends", DONE_WITHIN, ended).await
}

const NEXT: &str = "lamp-firmware-1.2.0";

async fn release(devnet: &Devnet, observer: &Observer, image: &[u8]) -> Result<(), DevnetError> {
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
    stored(devnet, observer, manifest.artifact).await?;
    for approver in ["approver-1", "approver-2"] {
        try_approve(&devnet.client(approver)?, &manifest).await?;
    }
    Ok(())
}

/// Starts the first gateway again, with a liar before each node.
async fn surround(devnet: &mut Devnet, manners: &Arc<Manners>) -> Result<Vec<Liar>, DevnetError> {
    let mut config = devnet.gateways[0].config.clone();
    let mut liars = Vec::new();
    for node in &mut config.nodes {
        let address = devnet.ports.take()?;
        let real = devnet.nodes.iter().find(|n| n.url() == node.http);
        let real = real.map(|n| n.config.http_listen);
        let real = real.ok_or_else(|| DevnetError::Found(format!("{} is no node", node.http)))?;
        let liar = Liar::start(address, real, manners.clone()).await;
        let liar = liar.map_err(|source| DevnetError::Start {
            name: "a liar".to_owned(),
            source,
        })?;
        node.http = format!("http://{}", liar.address);
        liars.push(liar);
    }
    devnet.files.write_toml(config.account.as_str(), &config)?;
    restart_first(devnet).await?;
    Ok(liars)
}

async fn restore(devnet: &mut Devnet) -> Result<(), DevnetError> {
    let config = devnet.gateways[0].config.clone();
    devnet.files.write_toml(config.account.as_str(), &config)?;
    restart_first(devnet).await
}

async fn restart_first(devnet: &mut Devnet) -> Result<(), DevnetError> {
    let process = &mut devnet.gateways[0].process;
    process.stop().await?;
    process.start()
}

/// The gateway has had wrong bytes, says so, and has passed nothing on.
async fn gateway_refused(
    devnet: &Devnet,
    observer: &Observer,
    manners: &Manners,
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
        if let (true, Some(line)) = (manners.flipped() > 0, line) {
            break line.to_owned();
        }
        if begun.elapsed() > TRIED_WITHIN {
            let what = "the gateway refuses a download".to_owned();
            let seen = format!("{} flipped bits", manners.flipped());
            return Err(DevnetError::Deadline {
                what,
                within: TRIED_WITHIN,
                seen,
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let state = observer
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
                manners.flipped()
            ))
        }
    }
}
