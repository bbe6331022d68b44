//! One image for several Things at once: over links that lose, with hostile members and neighbours,
//! and with Things and gateways that leave in the middle.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lamplighter_gateway::cast::{self, BlockMap, CastCipher, Invitation};
use lamplighter_gateway::coap::simulated::Faults;
use lamplighter_gateway::coap::{
    BodyPolicy, CoapConfig, CoapEndpoint, CoapService, Code, DatagramSocket, Peer, Request,
    Response, format,
};
use lamplighter_gateway::credentials::CredentialStore;
use lamplighter_gateway::dtls::{DtlsSocket, SouthSocket};
use lamplighter_gateway::lwm2m::agent;
use lamplighter_gateway::south::{
    CastSettings, CastSocket, SessionConfig, South, SouthCommand, SouthConfig, WorkNotice,
};
use lamplighter_types::DeploymentState::*;
use tokio::time::Instant;

use super::super::{Psk, Socket, Thing, ThingMesh};
use super::testbed::{Log, Testbed, gateway, image, manifest};

const KIB: usize = 1024;
const LOSSY: Faults = Faults {
    drop: 0.05,
    duplicate: 0.0,
    delay_max: Duration::from_millis(30),
};

fn group() -> SocketAddr {
    ([239, 255, 77, 80], 5690).into()
}

fn lamp(number: usize) -> String {
    format!("lamp-{number}")
}

/// Blocks of 64 bytes, as on a radio.
fn settings() -> SouthConfig {
    SouthConfig {
        session: SessionConfig {
            szx: 2,
            // Many wait for the others, and nobody proves their orders again here.
            order_age_max: Duration::from_secs(86_400),
            ..SessionConfig::default()
        },
        ..SouthConfig::default()
    }
}

async fn casting(seed: u64, faults: Faults) -> Testbed {
    casting_with(seed, faults, settings()).await
}

async fn casting_with(seed: u64, faults: Faults, settings: SouthConfig) -> Testbed {
    let mut testbed = Testbed::with(seed, faults, settings);
    testbed.stop_gateway().await;
    let socket = testbed.network.attach(([10, 0, 0, 1], 5690).into());
    testbed.settings.casts = Some(CastSettings {
        address: group(),
        rate_bytes_per_s: 4_000,
        gather: Duration::from_secs(30),
        socket: CastSocket(socket),
    });
    testbed.start_gateway();
    testbed
}

async fn things(testbed: &Testbed, count: usize) -> ThingMesh {
    let configs = (0..count).map(|n| testbed.config(&lamp(n), 10 + n as u8));
    let mesh = ThingMesh::spawn(configs.collect()).await.unwrap();
    testbed
        .until("registered", |log| {
            (0..count).all(|n| log.registered.contains(&lamp(n)))
        })
        .await;
    mesh
}

async fn transfer_to(testbed: &Testbed, count: usize, image: &[u8]) {
    for number in 0..count {
        testbed
            .transfer(&lamp(number), image, &manifest(image))
            .await;
    }
}

fn have_all(log: &Log, count: usize) -> bool {
    (0..count).all(|n| log.states(&lamp(n)).contains(&Downloaded))
}

/// Installs it everywhere: each Thing runs exactly the image.
async fn install(testbed: &Testbed, mesh: &ThingMesh, count: usize, image: &[u8]) {
    for number in 0..count {
        testbed.install(&lamp(number)).await;
    }
    let ended = |log: &Log| (0..count).all(|n| log.ended(&lamp(n)).is_some());
    let log = testbed.until("the end", ended).await;
    for number in 0..count {
        assert_eq!(log.ended(&lamp(number)).unwrap().to, Confirmed);
        let thing = mesh.get(&lamp(number).parse().unwrap()).unwrap();
        assert_eq!(thing.active_image().await.unwrap(), image, "byte for byte");
    }
}

fn print_figures(way: &str, figures: &Figures) {
    let Figures {
        time,
        datagrams,
        bytes,
        on_air,
    } = figures;
    let seconds = time.as_secs();
    println!("{way}: {seconds} s, {datagrams} datagrams, {bytes} bytes, {on_air} on air");
}

struct Figures {
    time: Duration,
    datagrams: u64,
    bytes: u64,
    on_air: u64,
}

/// From the orders until each Thing has reported the package.
async fn measure(testbed: &Testbed, count: usize, bytes: usize) -> Figures {
    let mesh = things(testbed, count).await;
    let new = image("new", bytes);
    let network = &testbed.network;
    let before = (network.sent(), network.sent_bytes(), network.sent_on_air());
    let begun = Instant::now();
    transfer_to(testbed, count, &new).await;
    testbed
        .until("downloaded", |log| have_all(log, count))
        .await;
    let figures = Figures {
        time: begun.elapsed(),
        datagrams: network.sent() - before.0,
        bytes: network.sent_bytes() - before.1,
        on_air: network.sent_on_air() - before.2,
    };
    install(testbed, &mesh, count, &new).await;
    mesh.kill().await;
    figures
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The figures of docs/mesh.md: `CAST_THINGS=50 CAST_IMAGE_BYTES=131072`.
#[tokio::test(start_paused = true)]
async fn one_image_for_many_is_sent_about_once() {
    let count = number("CAST_THINGS", 8);
    let bytes = number("CAST_IMAGE_BYTES", 16 * KIB);
    let faults = Faults {
        drop: number("CAST_LOSS_PERCENT", 5) as f64 / 100.0,
        ..LOSSY
    };
    let cast = measure(&casting(1, faults).await, count, bytes).await;
    print_figures("cast", &cast);
    let unicast = measure(&Testbed::with(1, faults, settings()), count, bytes).await;
    print_figures("one by one", &unicast);
    // With 50 Things the difference is larger.
    assert!(3 * cast.datagrams < unicast.datagrams);
    assert!(3 * cast.on_air < unicast.on_air);
}

#[tokio::test(start_paused = true)]
async fn those_that_take_no_casts_and_those_alone_get_their_package_as_before() {
    let testbed = casting(1, Faults::NONE).await;
    let mut config = testbed.config("lamp-1", 11);
    config.takes_casts = false;
    let mesh = ThingMesh::spawn(vec![testbed.config("lamp-0", 10), config]);
    let mesh = mesh.await.unwrap();
    let new = image("new", 16 * KIB);
    transfer_to(&testbed, 2, &new).await;
    testbed.until("downloaded", |log| have_all(log, 2)).await;
    assert_eq!(testbed.network.bytes_to(group()), 0, "nothing was cast");
    install(&testbed, &mesh, 2, &new).await;
}

/// It hears everything and sends what it likes from any address, but has no key.
#[tokio::test(start_paused = true)]
async fn a_neighbour_without_the_key_changes_nothing_of_a_cast() {
    let testbed = casting(2, Faults::NONE).await;
    let mesh = things(&testbed, 4).await;
    let new = image("new", 32 * KIB);
    let network = testbed.network.clone();
    let ear = network.join(group(), ([10, 0, 0, 200], 5690).into());
    tokio::spawn(async move {
        let mut buffer = [0; 2_000];
        let from: SocketAddr = ([10, 0, 0, 200], 9).into();
        while let Ok((count, peer)) = ear.receive(&mut buffer).await {
            if peer.address == from {
                continue;
            }
            network.spoof(from, group(), &buffer[..count]);
            for at in [0, 4, 7, 8, count - 1] {
                let mut changed = buffer[..count].to_vec();
                changed[at] ^= 1;
                network.spoof(from, group(), &changed);
            }
        }
    });
    transfer_to(&testbed, 4, &new).await;
    testbed.until("downloaded", |log| have_all(log, 4)).await;
    install(&testbed, &mesh, 4, &new).await;
}

/// A member that knows the key, as whoever breaks into a Thing does.
#[derive(Default)]
struct Insider {
    invited: Mutex<Option<Invitation>>,
}

#[async_trait]
impl CoapService for Insider {
    fn body_policy(&self, _peer: Peer, _request: &Request) -> BodyPolicy {
        BodyPolicy::Registered
    }

    async fn handle(&self, _peer: Peer, request: Request) -> Response {
        let text = |text: &str| Response::content(format::TEXT, text.into());
        match (request.method, request.path_text().as_str()) {
            (Code::PUT, cast::INVITATION) => {
                let (invitation, _) = Invitation::decode(&request.payload).unwrap();
                let blocks = cast::block_count(invitation.size_bytes, invitation.szx).unwrap();
                *self.invited.lock().unwrap() = Some(invitation);
                let nothing = BlockMap::new(blocks).unwrap().encode();
                Response {
                    code: Code::CHANGED,
                    ..Response::content(format::OCTETS, nothing)
                }
            }
            (Code::GET, cast::HELD_BLOCKS) => Response::new(Code::NOT_FOUND),
            (Code::GET, agent::RECEIVED_BYTES) => text("0"),
            (Code::GET, _) => text("0"),
            _ => Response::new(Code::CHANGED),
        }
    }
}

/// A member with the key beside three Things that get an image.
async fn insider(testbed: &Testbed, new: &[u8]) -> (CoapEndpoint, ThingMesh, Invitation) {
    let mesh = things(testbed, 3).await;
    let insider = Arc::new(Insider::default());
    let socket = testbed.network.attach(([10, 0, 0, 99], 5683).into());
    let coap = CoapConfig {
        q_block: true,
        ..CoapConfig::default()
    };
    let endpoint = CoapEndpoint::start(socket, coap, insider.clone()).unwrap();
    let register = Request::new(Code::POST, "/rd")
        .with_query("ep=insider".to_owned())
        .with_query("lwm2m=1.1".to_owned())
        .with_query("b=U".to_owned())
        .with_payload(format::LINK_FORMAT, b"</5/0>,</33000/0>;cast=1".to_vec());
    let answer = endpoint.handle().request(gateway(), register).await;
    assert_eq!(answer.unwrap().code, Code::CREATED);
    testbed.transfer("insider", new, &manifest(new)).await;
    transfer_to(testbed, 3, new).await;
    let invitation = loop {
        if let Some(invitation) = insider.invited.lock().unwrap().clone() {
            break invitation;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    // The others are invited too before the cast begins.
    tokio::time::sleep(Duration::from_secs(10)).await;
    (endpoint, mesh, invitation)
}

/// Sends blocks as the cast does, of zeros, and one that is empty.
fn send_false(testbed: &Testbed, invitation: &Invitation, numbers: &[u32], round: u8) {
    let cipher = CastCipher::new(invitation.cast, &invitation.key);
    for number in numbers {
        let datagram = cipher.seal(round, *number, &[0; 64]);
        testbed.network.spoof(gateway(), group(), &datagram);
        let empty = cipher.seal(round, *number, &[]);
        testbed.network.spoof(gateway(), group(), &empty);
    }
}

/// It makes a false block of each group before the true one comes: these groups are sent again.
#[tokio::test(start_paused = true)]
async fn a_member_that_makes_false_blocks_costs_their_groups() {
    let testbed = casting(3, Faults::NONE).await;
    let new = image("new", 96 * KIB);
    let (_insider, mesh, invitation) = insider(&testbed, &new).await;
    let sent = testbed.network.sent();
    send_false(&testbed, &invitation, &[3, 300, 1_536, 16_000_000], 200);
    testbed.until("downloaded", |log| have_all(log, 3)).await;
    let sent = testbed.network.sent() - sent;
    // 1,536 blocks, two of six groups again, and some questions.
    assert!(sent < 1_536 + 2 * 256 + 100, "{sent} datagrams");
    install(&testbed, &mesh, 3, &new).await;
}

/// It never stops. The others get everything by unicast then, which it can't reach.
#[tokio::test(start_paused = true)]
async fn a_member_that_never_stops_to_make_false_blocks_stops_no_other() {
    let testbed = casting(3, Faults::NONE).await;
    let new = image("new", 32 * KIB);
    let (_insider, mesh, invitation) = insider(&testbed, &new).await;
    let attack = async {
        for round in (0..=255).cycle() {
            send_false(&testbed, &invitation, &[3, 300], round);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let downloaded = testbed.until("downloaded", |log| have_all(log, 3));
    let most = tokio::time::sleep(Duration::from_secs(600));
    tokio::select! {
        () = attack => {}
        () = most => panic!("the others have no package"),
        _ = downloaded => {}
    }
    install(&testbed, &mesh, 3, &new).await;
}

/// A Thing has false blocks of a group that was not complete when its gateway ended. Without the
/// values of the groups it finds them by the digest, and is no package rejected for that.
#[tokio::test(start_paused = true)]
async fn false_blocks_that_a_cast_left_behind_are_found_by_the_digest() {
    let mut testbed = casting(9, Faults::NONE).await;
    let new = image("new", 48 * KIB);
    let (_insider, mut mesh, invitation) = insider(&testbed, &new).await;
    send_false(&testbed, &invitation, &[300, 301], 200);
    let name = lamp(0).parse().unwrap();
    held_bytes(mesh.get(&name).unwrap(), 17 * 1_024).await;
    testbed.stop_gateway().await;
    mesh.add(testbed.config(&lamp(0), 10)).await.unwrap();
    let held = mesh.get(&name).unwrap().status().await.unwrap().held_bytes;
    assert!(held >= 15 * 1_024, "{held}");
    testbed.settings.casts = None;
    let registered = testbed.log.borrow().registered.len();
    testbed.start_gateway();
    let again = |log: &Log| log.registered[registered..].contains(&lamp(0));
    testbed.until("registered again", again).await;
    let sent = testbed.network.sent();
    transfer_to(&testbed, 1, &new).await;
    testbed.until("downloaded", |log| have_all(log, 1)).await;
    let sent = testbed.network.sent() - sent;
    assert!(
        sent > 768,
        "{sent} datagrams: the whole image after the rest"
    );
    install(&testbed, &mesh, 1, &new).await;
}

#[tokio::test(start_paused = true)]
async fn members_that_leave_hold_up_no_other() {
    let testbed = casting(4, LOSSY).await;
    let mut mesh = things(&testbed, 5).await;
    let new = image("new", 48 * KIB);
    transfer_to(&testbed, 5, &new).await;
    let thing = |mesh: &mut ThingMesh, n: usize| mesh.remove(&lamp(n).parse().unwrap()).unwrap();
    held_bytes(mesh.get(&lamp(3).parse().unwrap()).unwrap(), 1).await;
    thing(&mut mesh, 4).kill().await;
    let cancel = SouthCommand::Cancel {
        endpoint: lamp(3),
        deployment: "spring".to_owned(),
    };
    testbed.command(cancel).await;
    let begun = Instant::now();
    testbed.until("downloaded", |log| have_all(log, 3)).await;
    assert!(
        begun.elapsed() < Duration::from_secs(180),
        "{:?}",
        begun.elapsed()
    );
    install(&testbed, &mesh, 3, &new).await;
    let cancelled = thing(&mut mesh, 3);
    assert_eq!(
        cancelled.status().await.unwrap().held_bytes,
        0,
        "it keeps nothing"
    );
    // The one that was off comes back, and gets the rest.
    let back = testbed.lamp(&lamp(4), 14).await;
    let downloaded = |log: &Log| log.states(&lamp(4)).contains(&Downloaded);
    testbed.until("the rest", downloaded).await;
    back.kill().await;
}

/// A rollout that is stopped: nothing is sent for nobody.
#[tokio::test(start_paused = true)]
async fn a_cast_without_members_stops() {
    let testbed = casting(10, Faults::NONE).await;
    let mesh = things(&testbed, 2).await;
    let new = image("new", 48 * KIB);
    transfer_to(&testbed, 2, &new).await;
    held_bytes(mesh.get(&lamp(0).parse().unwrap()).unwrap(), 1).await;
    for number in 0..2 {
        let (endpoint, deployment) = (lamp(number), "spring".to_owned());
        let cancel = SouthCommand::Cancel {
            endpoint,
            deployment,
        };
        testbed.command(cancel).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sent = testbed.network.sent();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let sent = testbed.network.sent() - sent;
    assert!(sent < 10, "{sent} datagrams");
}

/// Waits until a Thing has so many bytes from the first on.
async fn held_bytes(thing: &Thing, bytes: u64) {
    while thing.status().await.unwrap().held_bytes < bytes {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Starts a cast to three Things and waits until each has blocks of the second half.
async fn a_half(testbed: &Testbed, new: &[u8]) {
    transfer_to(testbed, 3, new).await;
    for number in 0..3 {
        let package = testbed.folder.path().join(lamp(number)).join("package");
        let is_short = || package.metadata().map_or(0, |data| data.len()) < new.len() as u64 / 2;
        while is_short() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_gateway_in_the_middle_loses_no_block() {
    let mut testbed = casting(5, LOSSY).await;
    let mesh = things(&testbed, 3).await;
    let new = image("new", 64 * KIB);
    a_half(&testbed, &new).await;
    testbed.stop_gateway().await;
    testbed.start_gateway();
    let registered = testbed.log.borrow().registered.len();
    let again = |log: &Log| log.registered.len() >= registered + 3;
    testbed.until("registered again", again).await;
    let sent = testbed.network.sent();
    transfer_to(&testbed, 3, &new).await;
    testbed.until("downloaded", |log| have_all(log, 3)).await;
    let sent = testbed.network.sent() - sent;
    // 512 blocks, what was lost of them and before, and the questions; all of it would be 1,200.
    assert!(sent < 1_000, "{sent} datagrams");
    install(&testbed, &mesh, 3, &new).await;
}

#[tokio::test(start_paused = true)]
async fn a_thing_that_boots_in_the_middle_keeps_what_it_has() {
    let testbed = casting(6, Faults::NONE).await;
    let mut mesh = things(&testbed, 3).await;
    let new = image("new", 64 * KIB);
    a_half(&testbed, &new).await;
    let held = mesh.get(&lamp(1).parse().unwrap()).unwrap().status();
    let held = held.await.unwrap().held_bytes;
    mesh.add(testbed.config(&lamp(1), 11)).await.unwrap();
    let after = mesh.get(&lamp(1).parse().unwrap()).unwrap().status();
    let after = after.await.unwrap().held_bytes;
    assert!(
        after > 0 && after + 16 * 1_024 >= held,
        "{after} of {held} bytes"
    );
    testbed.until("downloaded", |log| have_all(log, 3)).await;
    install(&testbed, &mesh, 3, &new).await;
}

/// It waits for others, and its order must be in force at the end of the wait.
#[tokio::test(start_paused = true)]
async fn an_order_that_waits_for_a_cast_is_proven_again() {
    let mut settings = settings();
    settings.session.order_age_max = Duration::from_secs(20);
    let testbed = casting_with(7, Faults::NONE, settings).await;
    let mesh = things(&testbed, 2).await;
    let new = image("new", 16 * KIB);
    transfer_to(&testbed, 2, &new).await;
    let expired = |log: &Log| {
        let is_expired =
            |(_, notice): &&(String, WorkNotice)| matches!(notice, WorkNotice::Expired { .. });
        log.notices.iter().filter(is_expired).count() >= 2
    };
    testbed.until("expired", expired).await;
    transfer_to(&testbed, 2, &new).await;
    testbed.until("downloaded", |log| have_all(log, 2)).await;
    install(&testbed, &mesh, 2, &new).await;
}

/// A gateway at real sockets, plain and DTLS, and Things at them; how many casts there were, and
/// the Things that got blocks by unicast.
async fn over_udp(secured: &[bool]) -> (usize, Vec<usize>) {
    let local: SocketAddr = ([127, 0, 0, 1], 0).into();
    let testbed = Testbed::with(8, Faults::NONE, settings());
    let key = vec![0x5A; 16];
    let file = testbed.folder.path().join("things.toml");
    let entry = |n: usize| {
        let (name, key) = (lamp(n), hex::encode(&key));
        format!("[[psk]]\nidentity = \"{name}\"\nkey = \"{key}\"\ndevice = \"{name}\"\n")
    };
    let entries: String = (0..secured.len()).map(entry).collect();
    std::fs::write(&file, entries).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let bind = || tokio::net::UdpSocket::bind(local);
    let (plain, secure) = (bind().await.unwrap(), bind().await.unwrap());
    let ports = [&plain, &secure].map(|socket| socket.local_addr().unwrap());
    let secure = DtlsSocket::start(secure, CredentialStore::open(file).unwrap()).unwrap();
    // A port of this test alone.
    let group = ([239, 255, 77, 80], ports[0].port()).into();
    let ear = cast::receiving_socket(group, local).unwrap();
    let config = SouthConfig {
        artifacts: testbed.folder.path().to_owned(),
        casts: Some(CastSettings {
            address: group,
            rate_bytes_per_s: 100_000,
            gather: Duration::from_secs(3),
            socket: CastSocket(Arc::new(cast::sending_socket(local).unwrap())),
        }),
        ..settings()
    };
    let (sender, events) = tokio::sync::mpsc::channel(64);
    let link = Arc::new(SouthSocket::new(Some(plain), Some(secure)));
    let south = South::start(link, config, Arc::new(|_: &str| true), sender).unwrap();
    testbed.read_events(events);
    let configs = secured.iter().enumerate().map(|(n, is_secured)| {
        let mut config = testbed.config(&lamp(n), 10);
        config.gateway = ports[usize::from(*is_secured)];
        let identity = lamp(n);
        config.socket = match is_secured {
            true => Socket::Secure(
                local,
                config.gateway,
                Psk {
                    identity,
                    key: key.clone(),
                },
            ),
            false => Socket::Udp(local),
        };
        config
    });
    let mesh = ThingMesh::spawn(configs.collect()).await.unwrap();
    let registered = |log: &Log| (0..secured.len()).all(|n| log.registered.contains(&lamp(n)));
    testbed.until("registered", registered).await;
    let new = image("new", 20_000);
    for number in 0..secured.len() {
        let transfer = testbed.transfer_of(&lamp(number), &new);
        south
            .command(SouthCommand::Transfer(transfer))
            .await
            .unwrap();
    }
    let done = |log: &Log| have_all(log, secured.len());
    let mut casts = BTreeSet::new();
    let mut buffer = [0; 2_000];
    while !done(&testbed.log.borrow()) {
        let pause = tokio::time::sleep(Duration::from_millis(20));
        tokio::select! {
            received = ear.receive(&mut buffer) => {
                received.unwrap();
                casts.insert(buffer[..4].to_vec());
            }
            () = pause => {}
        }
    }
    let log = testbed.log.borrow().clone();
    let has_progress = |n: usize| {
        let of_it = |(name, notice): &(String, WorkNotice)| {
            *name == lamp(n) && matches!(notice, WorkNotice::Progress { .. })
        };
        log.notices.iter().any(of_it)
    };
    let by_unicast = (0..secured.len()).filter(|n| has_progress(*n)).collect();
    mesh.kill().await;
    south.close().await;
    (casts.len(), by_unicast)
}

#[tokio::test]
async fn a_cast_crosses_real_sockets() {
    assert_eq!(over_udp(&[false, false, false]).await, (1, vec![]));
}

/// A neighbour hears how Things without sessions are invited.
#[tokio::test]
async fn things_with_sessions_are_in_no_cast_with_those_without() {
    assert_eq!(over_udp(&[true, true, false]).await, (1, vec![2]));
}
