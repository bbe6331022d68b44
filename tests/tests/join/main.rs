//! Nodes that come: refused when they lost their memory, let in as new ones, and caught up while
//! others work. Real processes and sockets.

mod city;

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use city::{City, Load, SNAPSHOT_EVERY_BATCHES, print_line, wait_for, wipe};
use lamplighter_node::{key, mark_path};
use lamplighter_types::{Id, KeyPurpose};
use serde_json::Value;

const WRITERS: usize = 16;
/// The log line of a node whose image begins to come in or resumes.
const BEGINS: &str = "an image begins";
/// Elections until a certain one of three has won, in all but one of a million cases.
const ELECTIONS_MAX: u32 = 35;
/// Times that the joining node is killed.
const KILLS_MAX: u64 = 6;
/// A leader keeps its log for a node that it heard of within 60 s.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(62);

fn phase(status: &Value) -> &str {
    status["progress"]["phase"].as_str().unwrap_or_default()
}

async fn started(validators: u64, writers: usize) -> City {
    let mut city = City::found(validators, writers);
    for node in 1..=validators {
        city.start(node);
    }
    for node in 1..=validators {
        let others = validators as usize - 1;
        let ready = |status: &Value| {
            let connected = status["connected"].as_array().map_or(0, Vec::len);
            status["leader"].is_u64() && connected == others
        };
        city.until(&city.url(node), ready).await;
    }
    city
}

/// A wiped node is refused by itself; without the mark beside its key by the others; a new node
/// takes its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_comes_back_as_a_new_one_only() {
    let mut city = started(4, WRITERS).await;
    let load = Load::start(&city, WRITERS, &[1, 2, 3]);
    load.more(300).await;
    city.kill(4);
    wipe(&city.home(4));

    city.start(4);
    assert_eq!(city.ended(4), Some(1));
    let log = city.log(4);
    assert!(log.contains("node join") && log.contains("wiped"), "{log}");
    assert!(!city.home(4).join("data").exists());

    fs::remove_file(mark_path(&city.home(4).join("node.key"))).unwrap();
    city.start(4);
    assert_eq!(city.ended(4), Some(1));
    let log = city.log(4);
    assert!(log.contains("the other nodes refuse this one"), "{log}");
    assert!(
        log.contains("this key came with another one before"),
        "{log}"
    );

    // The old one is removed, a new one joins and becomes a validator.
    let propose = ["governance", "propose", "gone-4", "remove-validator", "4"];
    let printed = city.done("anna", &propose);
    let digest = printed.trim().rsplit(' ').next().unwrap();
    let approve = ["governance", "approve", "gone-4", "--digest", digest];
    city.done("bert", &approve);
    let begun = Instant::now();
    city.join(5, &["--validator"]);
    city.approve_as_printed(5, "join-5");
    wait_for(|| city.file(5, "out").contains("node 5 follows").then_some(()));
    print_line(&format!("joined and followed within {:?}", begun.elapsed()));
    city.approve_as_printed(5, "promote-5");
    wait_for(|| {
        city.file(5, "out")
            .contains("node 5 validates")
            .then_some(())
    });
    let acknowledged = load.finish().await;
    print_line(&format!(
        "validated within {:?}, {acknowledged} acknowledged",
        begun.elapsed()
    ));

    let listed = city.done("anna", &["governance", "nodes", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let ids: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|n| &n[1]["node"])
        .collect();
    assert_eq!(ids, [1, 2, 3, 5]);
    let urls = [city.url(1), city.url(2), city.url(3), city.joined_url(5)];
    city.are_equal(&urls).await;
    // It has a vote that counts: with one of the old ones down there is still a quorum of three.
    city.stop(2);
    let load = Load::start_from(&city, 2, &[1, 3], 1_000_000);
    load.more(20).await;
    load.finish().await;
    city.are_equal(&[city.url(1), city.url(3), city.joined_url(5)])
        .await;
}

/// A validator that is not there would have to sign for every certificate: a second one of two. It
/// is refused when it is proposed, and when it is approved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_that_is_not_there_is_not_let_in() {
    let mut city = started(1, 1).await;
    let propose = |city: &City, name: &str| {
        let secret = key::read(&city.home(2).join("node.key")).unwrap();
        let account = Id::new("node-2").unwrap();
        let proof = secret.prove(KeyPurpose::Node, &city.genesis.chain_id(), &account);
        let (key, proof) = (secret.public().to_string(), proof.to_string());
        let address = format!("{}:7400", city.ip(2));
        let new = ["--node", "2", "--public-key", &key, "--proof", &proof];
        let place = ["--address", &address];
        let words = ["governance", "propose", name, "add-validator"];
        let words = [&words[..], &new, &place].concat();
        city.command("anna", &words)
    };
    let refused = |output: &Output| {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains("node 2 is not connected"), "{words}");
    };
    city.join(2, &[]);
    city.approve_as_printed(2, "join-2");
    wait_for(|| city.file(2, "out").contains("node 2 follows").then_some(()));
    let proposed = propose(&city, "second");
    assert!(proposed.status.success());
    let printed = String::from_utf8(proposed.stdout).unwrap();
    let digest = printed.trim().rsplit(' ').next().unwrap();

    city.kill(2);
    let alone = |status: &Value| status["connected"].as_array().is_some_and(Vec::is_empty);
    city.until(&city.url(1), alone).await;
    refused(&propose(&city, "third"));
    let approve = ["governance", "approve", "second", "--digest", digest];
    refused(&city.command("bert", &approve));
    city.register_devices(1).await;
    let height = city.height(1).await;
    let certified = |status: &Value| status["certified_height"].as_u64() >= Some(height);
    city.until(&city.url(1), certified).await;

    // With the node the same is done, and both sign.
    city.start(2);
    let both = |status: &Value| status["connected"] == serde_json::json!([2]);
    city.until(&city.url(1), both).await;
    city.done("bert", &approve);
    city.done("anna", &["device", "tag", "lamp-0-0", "ring=2"]);
    let height = city.height(1).await;
    let certified = |status: &Value| status["certified_height"].as_u64() >= Some(height);
    city.until(&city.url(1), certified).await;
}

/// The leader is a node that joined, was made a validator and led while another one was away: the
/// one that comes back has never heard of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_learns_of_a_leader_that_it_does_not_know() {
    let mut city = started(5, WRITERS).await;
    let load = Load::start(&city, WRITERS, &[1, 2, 3, 5]);
    load.more(50).await;
    city.kill(4);
    city.join(6, &["--validator"]);
    city.approve_as_printed(6, "join-6");
    wait_for(|| city.file(6, "out").contains("node 6 follows").then_some(()));
    city.approve_as_printed(6, "promote-6");
    let validates = || city.file(6, "out").contains("node 6 validates");
    wait_for(|| validates().then_some(()));
    load.finish().await;

    // With 4 and a leader down four of six are left, a quorum, and one of them is 6.
    let led = |status: &Value| status["leader"].is_u64();
    let new = city.joined_url(6);
    let mut leader = city.until(&new, led).await["leader"].as_u64();
    for _ in 0..ELECTIONS_MAX {
        let Some(other) = leader.filter(|leader| *leader != 6) else {
            break;
        };
        city.kill(other);
        let follower = |s: &Value| led(s) && s["leader"] != other;
        leader = city.until(&new, follower).await["leader"].as_u64();
        city.start(other);
        let back = |s: &Value| phase(s) == "following";
        city.until(&city.url(other), back).await;
    }
    // By the log or by an image: both come from 6.
    city.start(4);
    let follows = |s: &Value| phase(s) == "following" && s["leader"] == 6;
    city.until(&city.url(4), follows).await;
    let urls = [1, 2, 3, 4, 5].map(|node| city.url(node));
    city.are_equal(&[&urls[..], &[new]].concat()).await;
}

/// All are new when a cluster starts: also when one starts late, and when all are killed before the
/// first transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_nodes_are_no_wiped_nodes() {
    let mut city = City::found(4, 1);
    for node in 1..=3 {
        city.start(node);
    }
    let led = |status: &Value| status["leader"].is_u64();
    for node in 1..=3 {
        city.until(&city.url(node), led).await;
    }
    for node in 1..=3 {
        city.kill(node);
    }
    for node in 1..=3 {
        city.start(node);
    }
    let load = Load::start(&city, 1, &[1, 2, 3]);
    load.more(10).await;
    load.finish().await;
    city.start(4);
    city.are_equal(&[1, 2, 3, 4].map(|node| city.url(node)))
        .await;
}

/// An observer that starts empty, killed again and again, and a validator that was away for so long
/// that its log is purged, while 16 clients work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_catch_up_under_load_and_resume_transfers() {
    let mut city = started(4, WRITERS).await;
    city.register_devices(100).await;
    let load = Load::start(&city, WRITERS, &[1, 2, 3]);
    // Enough for images, so that the log does not begin with the first block.
    load.blocks(&city, 3 * SNAPSHOT_EVERY_BATCHES).await;
    city.stop(4);
    let (left, left_at) = (Instant::now(), city.height(1).await);

    let mut seen = Transfers::default();
    city.join(5, &[]);
    city.approve_as_printed(5, "join-5");
    let begun = Instant::now();
    for _ in 0..KILLS_MAX {
        let before = seen.gets_on(&city).await;
        if before.is_nearly_here() {
            break;
        }
        city.kill(5);
        seen.kills += 1;
        let logged = city.log(5).len();
        city.join(5, &[]);
        let resumes = wait_for(|| {
            let log = city.log(5);
            let line = log[logged..].lines().find(|line| line.contains(BEGINS));
            line.map(str::to_owned)
        });
        seen.compare(before, &resumes);
    }
    assert!(seen.resumed > 0, "every transfer began anew: {seen:?}");
    let url = city.joined_url(5);
    city.until(&url, |status| phase(status) == "following")
        .await;
    print_line(&format!("empty: {:?}, {seen:?}", begun.elapsed()));
    assert!(city.log(5).contains("an image"), "{}", city.log(5));

    // Until then the leader keeps the log for it.
    tokio::time::sleep(FORGOTTEN_AFTER.saturating_sub(left.elapsed())).await;
    load.blocks(&city, 3 * SNAPSHOT_EVERY_BATCHES).await;
    let (begun, blocks) = (Instant::now(), city.height(1).await - left_at);
    city.start(4);
    city.until(&city.url(4), |status| phase(status) == "following")
        .await;
    print_line(&format!("away for {blocks} blocks: {:?}", begun.elapsed()));
    assert!(city.log(4).contains("an image"), "{}", city.log(4));
    let acknowledged = load.finish().await;
    print_line(&format!("{acknowledged} acknowledged meanwhile"));
    let urls = [city.url(1), city.url(2), city.url(3), city.url(4), url];
    city.are_equal(&urls).await;
}

/// An image that comes in: its size, and the bytes of it that are here.
#[derive(Clone, Copy, Debug)]
struct Incoming {
    total: u64,
    bytes: u64,
}

impl Incoming {
    /// The rest of a transfer may be complete before the check.
    fn is_nearly_here(&self) -> bool {
        3 * (self.total - self.bytes) < self.total
    }
}

/// The observed transfers of images.
#[derive(Debug, Default)]
struct Transfers {
    kills: u32,
    /// The bytes received when the last transfer began or resumed.
    before: u64,
    /// The number of resumed transfers, and the bytes that were not sent again.
    resumed: u32,
    spared_bytes: u64,
}

impl Transfers {
    /// Waits until a transfer is under way and has brought something.
    async fn gets_on(&self, city: &City) -> Incoming {
        let figures = |status: &Value| {
            let progress = &status["progress"];
            let bytes = progress["bytes"].as_u64()?;
            let total = progress["bytes_total"].as_u64()?;
            Some(Incoming { total, bytes })
        };
        let url = city.joined_url(5);
        let got_on = |status: &Value| figures(status).is_some_and(|now| now.bytes > self.before);
        figures(&city.until(&url, got_on).await).expect("it had figures")
    }

    /// The bytes of an image received before a kill are not sent again.
    fn compare(&mut self, had: Incoming, line: &str) {
        self.before = figure(line, "bytes_before");
        if figure(line, "bytes_total") == had.total {
            assert!(self.before >= had.bytes, "{had:?} was here: {line}");
            self.resumed += 1;
            self.spared_bytes += self.before;
        }
    }
}

/// A number in a line of the log, whose names and numbers have colours around them.
fn figure(line: &str, name: &str) -> u64 {
    let plain: String = without_colours(line);
    let (_, rest) = plain
        .split_once(&format!("{name}="))
        .expect("the line has it");
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

fn without_colours(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (_, after) = part.split_once('m').unwrap_or(("", part));
        text + after
    })
}
