//! A full disk: a small tmpfs is the data directory of one node.

use std::time::Duration;

use lamplighter_client::Wait;

use crate::city::{City, TIMEOUT, Tmpfs, until};

const MIB: u64 = 1 << 20;
const GATEWAY: &str = "gateway-1";

/// The reason code of the PUBACK that a gateway gets for a transaction, as mosquitto's client saw
/// it.
async fn published(city: &mut City, at: usize) -> Option<u8> {
    let output = city.publish(at, GATEWAY).await;
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let puback = output.lines().find(|line| line.contains("received PUBACK"));
    let code = puback.and_then(|line| line.split("RC:").nth(1)?.strip_suffix(')'));
    assert!(code.is_some(), "{output:?}");
    code?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_with_a_full_disk_is_read_only_until_there_is_space() {
    let mut city = City::found().await;
    // Each node has a separate disk; the disk of the first leader is filled.
    let disks: Vec<Tmpfs> = (0..4)
        .map(|at| Tmpfs::mount(&city.data_dir(at), 192))
        .collect();
    for at in 0..4 {
        city.configure(at, |disk| disk.reserve_bytes = Some(64 * MIB));
    }
    city.start().await;
    city.register_gateway(GATEWAY).await;
    city.work(20).await;
    let full = city.leader(0).await.expect("a ready node knows its leader");
    let logged = city.logged(full);
    let alive = usize::from(full == 0);

    disks[full].fill(48 * MIB);
    until("the node is read-only", async || {
        city.readiness(full)
            .await
            .is_some_and(|(status, _)| status == 503)
    })
    .await;
    let (_, body) = city.readiness(full).await.unwrap();
    let reason = body["read_only"].as_str().unwrap_or_default();
    assert!(
        reason.contains("MiB free and the reserve is 64 MiB"),
        "{body}"
    );
    refuses(&mut city, full).await;

    // The others have elected another leader and go on.
    until("another leader", async || {
        city.leader(alive)
            .await
            .is_some_and(|leader| leader != full)
    })
    .await;
    city.work(50).await;
    assert!(disks[full].free_bytes() > 32 * MIB, "it goes on writing");
    let log = city.node(full).process.read_log().unwrap()[logged..].to_owned();
    assert_eq!(log.matches("the reserve is").count(), 1, "said once: {log}");

    disks[full].free();
    city.devnet.ready(full).await.unwrap();
    city.work(10).await;
    assert_eq!(published(&mut city, full).await, Some(0));
    city.nothing_is_lost().await;
    let url = format!("{}/v1/status", city.node(full).url());
    let (_, status) = city.ask(&url).await.unwrap();
    assert_eq!(status["alarms"], serde_json::json!([]), "the alarm is over");
    city.stop().await;
}

/// Reads are answered, transactions and uploads are refused with the reason.
async fn refuses(city: &mut City, full: usize) {
    let url = city.node(full).url();
    let (status, head) = city.ask(&format!("{url}/v1/status")).await.unwrap();
    assert_eq!(status, 200);
    let alarm = &head["alarms"][0];
    assert_eq!(alarm["kind"], "disk_full", "{head}");
    assert!(
        alarm["free_bytes"].is_u64() && alarm["reserve_bytes"].is_u64(),
        "{alarm}"
    );
    let height = head["height"].as_u64().unwrap();
    let (status, _) = city
        .ask(&format!("{url}/v1/blocks/{height}"))
        .await
        .unwrap();
    assert_eq!(status, 200, "it can be read");

    let action = city.action();
    let client = city.client_of(full, Duration::from_secs(2));
    let signed = client.sign(action).await.unwrap();
    let body = lamplighter_types::codec::encode(&signed);
    let http = city.devnet.http().unwrap();
    let answer = http
        .post(format!("{url}/v1/transactions"))
        .header("content-type", "application/octet-stream")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    let problem: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "read_only", "{problem}");
    assert_eq!(problem["title"], "Read-only", "{problem}");
    // The same bytes elsewhere are taken.
    let elsewhere = city.client_of((full + 1) % 4, TIMEOUT);
    let taken = elsewhere.submit_signed(&signed, Wait::Committed).await;
    assert!(taken.unwrap().receipt.unwrap().succeeded());

    let artifact = serde_json::json!({ "digest": "00".repeat(32), "size_bytes": 1000 });
    let upload = http.post(format!("{url}/v1/artifacts")).json(&artifact);
    let answer = upload.send().await.unwrap();
    assert_eq!(answer.status(), 503, "{:?}", answer.text().await);
    let quota_exceeded = Some(0x97);
    assert_eq!(published(city, full).await, quota_exceeded);
    let metrics = format!("http://{}/metrics", city.node(full).config.admin_listen);
    let metrics = http
        .get(metrics)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(metrics.contains("lamplighter_read_only 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_any_space_ends_the_node_and_nothing_is_lost() {
    let mut city = City::found().await;
    let disk = Tmpfs::mount(&city.data_dir(3), 96);
    // Without a reserve the store itself meets the end of the disk.
    city.configure(3, |disk| disk.reserve_bytes = Some(0));
    city.start().await;
    city.work(20).await;
    let logged = city.logged(3);
    disk.fill(0);
    // Some of the log's space is taken in advance.
    city.work_until_ended(3, 2_000).await;
    let log = city.ended(3, logged).await;
    let last = log.trim_end().lines().last().unwrap_or_default();
    assert!(last.contains("No space left on device"), "{log}");
    let path = city.data_dir(3).join("db");
    assert!(last.contains(path.to_str().unwrap()), "{log}");

    // It does not start while there is no space, and names the reason. Closing has freed some.
    disk.fill(0);
    let logged = city.logged(3);
    city.node(3).process.start().unwrap();
    let log = city.ended(3, logged).await;
    assert!(log.contains("No space left on device"), "{log}");

    city.work(20).await;
    disk.free();
    city.start_again(3).await;
    city.work(5).await;
    city.nothing_is_lost().await;
    city.stop().await;
}

/// Only the artifacts' disk is full: the upload is refused with a reason, of the piece that did not
/// fit nothing stays, and it goes on when there is space.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_does_not_fit_leaves_nothing_half_done() {
    let mut city = City::found().await;
    let folder = city.data_dir(3).join("artifacts");
    let disk = Tmpfs::mount(&folder, 4);
    city.start().await;
    city.work(3).await;
    disk.fill(MIB + MIB / 2);
    let image: Vec<u8> = (0..2 * MIB).map(|n| (n % 251) as u8).collect();
    let digest = lamplighter_types::Hash::of(&image).to_string();
    let url = format!("{}/v1/artifacts", city.node(3).url());
    let http = city.devnet.http().unwrap();
    let new = serde_json::json!({ "digest": digest, "size_bytes": image.len() });
    let begun = http.post(&url).json(&new).send().await.unwrap();
    assert!(begun.status().is_success());
    let append = async |offset: usize| {
        let answer = http
            .patch(format!("{url}/{digest}/upload"))
            .header("content-type", "application/octet-stream")
            .header("upload-offset", offset.to_string())
            .body(image[offset..offset + MIB as usize].to_vec());
        let answer = answer.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, body) = append(0).await;
    assert!(status < 300, "{status}: {body}");
    let (status, body) = append(MIB as usize).await;
    assert_eq!(status, 507, "{body}");
    assert!(body.contains("artifact.disk_full"), "{body}");
    // Nodes of this test want no login.
    let part = folder.join(format!("{digest}.{}.ANYONE.part", image.len()));
    assert_eq!(
        std::fs::metadata(&part).unwrap().len(),
        MIB,
        "nothing of the piece stays"
    );
    city.work(3).await;
    disk.free();
    let (status, body) = append(MIB as usize).await;
    assert!(status < 300, "{status}: {body}");
    assert_eq!(std::fs::read(folder.join(&digest)).unwrap(), image);
    city.work(3).await;
    city.nothing_is_lost().await;
    city.stop().await;
}
