//! Artifacts on four nodes: what is held, what holds up nobody, what is collected.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lamplighter_contracts::firmware;
use lamplighter_ledger::artifacts::Uploader;
use lamplighter_types::limits::ARTIFACT_BYTES_MAX;
use lamplighter_types::{
    Action, FirmwareAction, Hash, Outcome, Receipt, ReleaseManifest, ReleaseStatus, SignedRelease,
    codec,
};

use crate::cluster::{Cluster, id, secret_of};
use crate::{WITHIN, committed};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn manifest(release: &str, image: &[u8]) -> ReleaseManifest {
    ReleaseManifest {
        release: id(release),
        vendor: id("acme"),
        version: "1.0.0".parse().unwrap(),
        artifact: Hash::of(image),
        size_bytes: image.len() as u64,
        hardware_classes: vec!["lamp-v2".to_owned()],
        security_counter: 1,
        replaces_from: None,
        depends_on: Vec::new(),
        expires_ms: None,
        critical: false,
        provenance: None,
    }
}

/// A manifest of the largest artifact, of which nobody has the bytes.
fn of_nothing(n: usize) -> ReleaseManifest {
    ReleaseManifest {
        size_bytes: ARTIFACT_BYTES_MAX,
        ..manifest(&format!("nothing-{n}"), format!("nothing {n}").as_bytes())
    }
}

async fn act(cluster: &Cluster, who: &str, action: FirmwareAction) -> Arc<Receipt> {
    let signed = cluster.sign_as(who, &secret_of(who), Action::Firmware(action));
    let ticket = cluster.handle(1).submit(signed).await.unwrap();
    committed(ticket).await.receipt
}

async fn publish(cluster: &Cluster, manifest: &ReleaseManifest) -> Arc<Receipt> {
    let release = SignedRelease::sign(manifest, &secret_of("acme"));
    act(cluster, "acme", FirmwareAction::Publish { release }).await
}

async fn succeeds(cluster: &Cluster, who: &str, action: FirmwareAction) {
    let receipt = act(cluster, who, action).await;
    assert_eq!(receipt.outcome, Outcome::Succeeded, "{who}");
}

async fn upload(cluster: &Cluster, node: u64, image: &[u8]) {
    let artifacts = cluster.handle(node).artifacts();
    let uploader = Uploader::Account {
        account: id("acme"),
        organization: id("city"),
    };
    let digest = Hash::of(image);
    let begun = artifacts.begin(&uploader, digest, image.len() as u64);
    assert_eq!(begun.await.unwrap(), 0);
    let bytes = Bytes::copy_from_slice(image);
    artifacts.append(&uploader, digest, 0, bytes).await.unwrap();
}

/// The nodes that the ledger has as holders, as node 1 sees it.
fn holders(cluster: &Cluster, manifest: &ReleaseManifest) -> Vec<u64> {
    let (view, _) = cluster.handle(1).view().unwrap();
    let artifact = firmware::artifact(&view, &manifest.artifact, manifest.size_bytes);
    artifact.unwrap().unwrap().holders
}

/// Waits for a condition, block by block.
async fn until(cluster: &Cluster, what: &str, is_so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < WITHIN, "never: {what}");
        let next = cluster.handle(1).head().height + 1;
        cluster.handle(1).wait_height(next, WITHIN).await.unwrap();
    }
}

/// Lets time pass, until a block has it.
async fn pass(cluster: &Cluster, time: Duration) {
    let before_ms = cluster.handle(1).head().timestamp_ms;
    cluster.clock.advance(time);
    let after_ms = before_ms + time.as_millis() as u64;
    let has_passed = || cluster.handle(1).head().timestamp_ms >= after_ms;
    until(cluster, "the time passes", has_passed).await;
}

#[tokio::test]
async fn manifests_of_nothing_hold_up_no_release_and_ended_bytes_are_collected() {
    let cluster = Cluster::start_calm(4).await;
    let published = async |n| publish(&cluster, &of_nothing(n)).await.outcome.clone();
    let mut accepted = 0;
    for n in 0..64 {
        accepted += usize::from(published(n).await == Outcome::Succeeded);
    }
    assert_eq!(accepted, firmware::OPEN_RELEASES_PER_ORGANIZATION_MAX);
    let withdraw = FirmwareAction::Withdraw {
        release: of_nothing(0).release,
    };
    succeeds(&cluster, "acme", withdraw).await;

    // All nodes fetch the one release of which there are bytes, and two people release it.
    let image: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
    let good = manifest("good", &image);
    upload(&cluster, 2, &image).await;
    assert_eq!(publish(&cluster, &good).await.outcome, Outcome::Succeeded);
    until(&cluster, "four holders", || {
        holders(&cluster, &good).len() == 4
    })
    .await;
    for approver in ["anna", "amir"] {
        let approve = FirmwareAction::Approve {
            release: good.release.clone(),
            manifest: codec::digest(&good),
        };
        succeeds(&cluster, approver, approve).await;
    }
    let (view, _) = cluster.handle(1).view().unwrap();
    let release = firmware::release(&view, &good.release).unwrap().unwrap();
    assert_eq!(release.status, ReleaseStatus::Released);

    // It is revoked, and nobody needs the bytes when the time of the policy has passed.
    let revoke = FirmwareAction::Revoke {
        release: good.release.clone(),
        reason: "a hole".to_owned(),
    };
    succeeds(&cluster, "sam", revoke).await;
    let has = |node| cluster.handle(node).artifacts().size(&good.artifact);
    pass(&cluster, 29 * DAY).await;
    let next = of_nothing(70);
    assert_eq!(publish(&cluster, &next).await.outcome, Outcome::Succeeded);
    assert!((1..=4).all(|node| has(node).is_some()));
    pass(&cluster, 2 * DAY).await;
    let next = of_nothing(71);
    assert_eq!(publish(&cluster, &next).await.outcome, Outcome::Succeeded);
    until(&cluster, "no holder", || {
        holders(&cluster, &good).is_empty()
    })
    .await;
    until(&cluster, "no bytes", || {
        (1..=4).all(|node| has(node).is_none())
    })
    .await;
    let mut cluster = cluster;
    cluster.crash(3).await;
    cluster.start_node(3).await;
    let again = cluster.handle(3).artifacts().size(&good.artifact);
    assert_eq!(again, None, "they do not come back");
    cluster.stop().await;
}
