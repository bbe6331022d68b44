use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lamplighter_types::{Hash, Version};
use tokio::sync::mpsc;

use super::super::{
    InstallLimits, ServedDevices, South, SouthCommand, SouthConfig, SouthEvent, StorageReply,
    Transfer,
};
use crate::coap::simulated::{Faults, SimulatedNetwork};
use crate::coap::{
    Block, CoapConfig, CoapEndpoint, CoapHandle, CoapService, Code, Peer, Request, Response, format,
};
use crate::lwm2m::{Stage, UpdateResult, agent, path};

/// A LwM2M device without our agent: it accepts any package, answers in TLV, and its version is the
/// first word of its image.
#[derive(Default)]
struct Foreign(Mutex<ForeignState>);

#[derive(Default)]
struct ForeignState {
    state: u8,
    result: u8,
    package: Vec<u8>,
    version: String,
    breaks: bool,
    root: String,
    requests: usize,
}

impl Foreign {
    fn installs(&self) {
        let mut inside = self.0.lock().unwrap();
        inside.state = 0;
        inside.result = if inside.breaks { 8 } else { 1 };
        if !inside.breaks {
            let word = inside
                .package
                .split(|b| *b == b' ')
                .next()
                .unwrap_or_default()
                .to_vec();
            inside.version = String::from_utf8(word).unwrap();
        }
    }
}

fn tlv(id: u8, value: &[u8]) -> Response {
    let head = [0xC8, id, value.len() as u8];
    Response::content(format::LWM2M_TLV, [&head, value].concat())
}

#[async_trait]
impl CoapService for Foreign {
    async fn handle(&self, _peer: Peer, request: Request) -> Response {
        let mut inside = self.0.lock().unwrap();
        inside.requests += 1;
        let target = request.path_text();
        let target = target.strip_prefix(&inside.root).unwrap_or_default();
        match (request.method, target) {
            (Code::GET, path::STATE) => tlv(3, &[inside.state]),
            (Code::GET, path::RESULT) => tlv(5, &[inside.result]),
            (Code::GET, path::FIRMWARE_VERSION) => tlv(3, inside.version.as_bytes()),
            (Code::PUT, path::PACKAGE) => {
                (inside.state, inside.result) = (2, 0);
                if request.payload.is_empty() {
                    inside.state = 0;
                }
                inside.package = request.payload;
                Response::new(Code::CHANGED)
            }
            (Code::POST, path::UPDATE) if inside.state == 2 => {
                inside.state = 3;
                Response::new(Code::CHANGED)
            }
            (Code::POST, path::UPDATE) => Response::new(Code::METHOD_NOT_ALLOWED),
            _ => Response::new(Code::NOT_FOUND),
        }
    }
}

fn at(host: u8) -> SocketAddr {
    ([10, 0, 0, host], 5683).into()
}

pub(super) struct Testbed {
    network: SimulatedNetwork,
    south: South,
    events: mpsc::Receiver<SouthEvent>,
    device: Arc<Foreign>,
    pub(super) endpoint: CoapEndpoint,
    served: Arc<Served>,
    artifacts: tempfile::TempDir,
}

pub(super) fn testbed(faults: Faults) -> Testbed {
    let network = SimulatedNetwork::new(5, faults);
    let (sender, events) = mpsc::channel(64);
    let served = Arc::new(Served(Mutex::new(true)));
    let artifacts = tempfile::tempdir().unwrap();
    let south_config = SouthConfig {
        artifacts: artifacts.path().to_owned(),
        ..SouthConfig::default()
    };
    let south = South::start(network.attach(at(1)), south_config, served.clone(), sender);
    let device = Arc::new(Foreign::default());
    device.0.lock().unwrap().version = "1.0.0".to_owned();
    let config = CoapConfig {
        body_bytes_max: 1 << 20,
        szx: 4,
        ..CoapConfig::default()
    };
    let endpoint = CoapEndpoint::start(network.attach(at(2)), config, device.clone()).unwrap();
    Testbed {
        network,
        south: south.unwrap(),
        events,
        device,
        endpoint,
        served,
        artifacts,
    }
}

/// Serves all names that begin with `urn:lamp:`, until the flag is cleared.
struct Served(Mutex<bool>);

impl ServedDevices for Served {
    fn resolve(&self, endpoint_name: &str) -> Option<String> {
        let name = endpoint_name.to_ascii_lowercase();
        (name.starts_with("urn:lamp:") && self.serves(&name)).then_some(name)
    }

    fn serves(&self, _endpoint: &str) -> bool {
        *self.0.lock().unwrap()
    }
}

pub(super) async fn register(handle: &CoapHandle, queries: &[&str]) -> Response {
    register_objects(handle, queries, "</1/0>,</3/0>,</5/0>").await
}

async fn register_objects(handle: &CoapHandle, queries: &[&str], links: &str) -> Response {
    let request = Request::new(Code::POST, path::REGISTRATION);
    let links = links.as_bytes().to_vec();
    let request = queries
        .iter()
        .fold(request, |r, q| r.with_query((*q).to_owned()));
    handle
        .request(at(1), request.with_payload(format::LINK_FORMAT, links))
        .await
        .unwrap()
}

pub(super) const NAME: [&str; 4] = ["ep=urn:lamp:7", "lt=300", "lwm2m=1.1", "b=U"];

impl Testbed {
    pub(super) async fn next(&mut self) -> SouthEvent {
        let limit = Duration::from_secs(24 * 3600);
        tokio::time::timeout(limit, self.events.recv())
            .await
            .expect("an event")
            .unwrap()
    }

    async fn stages(&mut self, until: fn(Stage) -> bool) -> Vec<Stage> {
        let mut stages = vec![];
        loop {
            if let Some((_, stage)) = self.next().await.stage() {
                stages.push(stage);
                if until(stage) {
                    return stages;
                }
            }
        }
    }

    pub(super) async fn update(&self, image: &[u8]) {
        let artifact = Hash::of(image);
        std::fs::write(self.artifacts.path().join(artifact.to_string()), image).unwrap();
        let (endpoint, deployment) = ("urn:lamp:7".to_owned(), "d".to_owned());
        let transfer = Transfer {
            endpoint: endpoint.clone(),
            deployment: deployment.clone(),
            artifact,
            size_bytes: image.len() as u64,
            offer: vec![],
        };
        self.south
            .command(SouthCommand::Transfer(transfer))
            .await
            .unwrap();
        self.south
            .command(SouthCommand::Install {
                endpoint,
                deployment,
                version: "2.0.0".parse::<Version>().unwrap(),
                limits: InstallLimits::default(),
            })
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_without_our_agent_is_updated() {
    let faults = Faults {
        drop: 0.1,
        duplicate: 0.1,
        delay_max: Duration::from_millis(100),
    };
    let mut bed = testbed(faults);
    let image = [b"2.0.0 ".to_vec(), vec![0xA5; 30_000]].concat();
    bed.update(&image).await;
    assert_eq!(
        register(&bed.endpoint.handle(), &NAME).await.code,
        Code::CREATED
    );
    let registered = bed.next().await;
    assert!(matches!(
        registered,
        SouthEvent::Registered {
            agent: false,
            updatable: true,
            ..
        }
    ));
    let stages = bed.stages(|stage| stage == Stage::Installing).await;
    assert_eq!(stages, [Stage::Downloaded, Stage::Installing]);
    assert_eq!(bed.device.0.lock().unwrap().package, image);
    bed.device.installs();
    register(&bed.endpoint.handle(), &NAME).await;
    let stages = bed.stages(|stage| stage == Stage::Confirmed).await;
    assert_eq!(stages, [Stage::Trial, Stage::Confirmed]);
    assert_eq!(bed.device.0.lock().unwrap().version, "2.0.0");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_fails_reports_it_and_one_that_vanishes_is_lost() {
    let mut bed = testbed(Faults::NONE);
    bed.device.0.lock().unwrap().breaks = true;
    register(&bed.endpoint.handle(), &NAME).await;
    bed.update(b"2.0.0 image").await;
    bed.stages(|stage| stage == Stage::Installing).await;
    bed.device.installs();
    let failed = |stage| matches!(stage, Stage::Failed(_));
    let stages = bed.stages(failed).await;
    assert_eq!(stages, [Stage::Failed(UpdateResult::UpdateFailed)]);
    bed.network.set_faults(Faults {
        drop: 1.0,
        ..Faults::NONE
    });
    while !matches!(bed.next().await, SouthEvent::Lost { .. }) {}
}

#[tokio::test(start_paused = true)]
async fn strangers_are_not_registered_and_their_messages_not_stored() {
    let mut bed = testbed(Faults::NONE);
    let handle = bed.endpoint.handle();
    assert_eq!(
        register(&handle, &["ep=stranger", "lwm2m=1.1"]).await.code,
        Code::FORBIDDEN
    );
    let post = |bytes: usize| {
        Request::new(Code::POST, agent::EVENTS).with_payload(format::OCTETS, vec![1; bytes])
    };
    assert_eq!(
        handle.request(at(1), post(9)).await.unwrap().code,
        Code::UNAUTHORIZED
    );
    assert_eq!(register(&handle, &NAME).await.code, Code::CREATED);
    assert_eq!(
        handle.request(at(1), post(20_000)).await.unwrap().code,
        Code::TOO_LARGE,
        "nobody wrote it down, so it is not to be forgotten"
    );
    let empty = tokio::spawn({
        let (handle, empty) = (handle.clone(), post(0));
        async move { handle.request(at(1), empty).await.unwrap().code }
    });
    loop {
        if let SouthEvent::Event { bytes, stored, .. } = bed.next().await {
            assert!(bytes.is_empty(), "the north side says what becomes of it");
            stored
                .send(StorageReply::Refused("empty".to_owned()))
                .unwrap();
            break;
        }
    }
    assert_eq!(empty.await.unwrap(), Code::BAD_REQUEST);
    let unknown = handle
        .request(at(1), Request::new(Code::POST, "/rd/nothing"))
        .await
        .unwrap();
    assert_eq!(unknown.code, Code::NOT_FOUND);

    let answers = tokio::spawn(async move {
        let mut codes = vec![];
        for _ in 0..5 {
            codes.push(handle.request(at(1), post(9)).await.unwrap().code);
        }
        codes
    });
    let mut replies = vec![
        Some(StorageReply::Stored),
        Some(StorageReply::Refused("junk".to_owned())),
        Some(StorageReply::Unregistered("of another device".to_owned())),
        Some(StorageReply::Unavailable("not with this key".to_owned())),
        None,
    ];
    while !replies.is_empty() {
        if let SouthEvent::Event { bytes, stored, .. } = bed.next().await {
            assert_eq!(bytes, [1; 9]);
            if let Some(answer) = replies.remove(0) {
                stored.send(answer).unwrap();
            }
        }
    }
    let expected = [
        Code::CHANGED,
        Code::BAD_REQUEST,
        Code::UNAUTHORIZED,
        Code::UNAVAILABLE,
        Code::UNAVAILABLE,
    ];
    assert_eq!(answers.await.unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_north_side_that_does_not_read_makes_things_wait() {
    let bed = testbed(Faults::NONE);
    let handle = bed.endpoint.handle();
    register(&handle, &["ep=urn:lamp:7", "lt=86400", "lwm2m=1.1"]).await;
    let mut busy = 0;
    for _ in 0..70 {
        let post = Request::new(Code::POST, agent::EVENTS).with_payload(format::OCTETS, vec![1]);
        let response = handle.request(at(1), post).await.unwrap();
        assert_eq!(response.code, Code::UNAVAILABLE);
        busy += usize::from(response.text() == "busy");
    }
    assert!(busy > 0);
}

fn event(bytes: usize) -> Request {
    Request::new(Code::POST, agent::EVENTS).with_payload(format::OCTETS, vec![1; bytes])
}

/// Acknowledges every event of the Things.
async fn store_all(mut events: mpsc::Receiver<SouthEvent>) {
    while let Some(event) = events.recv().await {
        if let SouthEvent::Event { stored, .. } = event {
            stored.send(StorageReply::Stored).unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reassigned_thing_keeps_its_messages_and_registers_elsewhere() {
    let bed = testbed(Faults::NONE);
    let handle = bed.endpoint.handle();
    tokio::spawn(store_all(bed.events));
    let ask = async |request| handle.request(at(1), request).await.unwrap().code;
    let location = register(&handle, &NAME).await.location.join("/");
    let update = Request::new(Code::POST, &location);
    assert_eq!(ask(update.clone()).await, Code::CHANGED);
    assert_eq!(ask(event(9)).await, Code::CHANGED);
    *bed.served.0.lock().unwrap() = false;
    assert_eq!(
        ask(event(9)).await,
        Code::UNAUTHORIZED,
        "it keeps its event"
    );
    assert_eq!(ask(update.clone()).await, Code::NOT_FOUND);
    assert_eq!(register(&handle, &NAME).await.code, Code::FORBIDDEN);
    // Served here again, the Thing just registers.
    *bed.served.0.lock().unwrap() = true;
    assert_eq!(ask(event(9)).await, Code::UNAUTHORIZED);
    assert_eq!(register(&handle, &NAME).await.code, Code::CREATED);
    assert_eq!(ask(event(9)).await, Code::CHANGED);
}

#[tokio::test(start_paused = true)]
async fn a_released_thing_gets_no_more_requests() {
    let mut bed = testbed(Faults::NONE);
    let handle = bed.endpoint.handle();
    let location = register(&handle, &NAME).await.location.join("/");
    bed.update(&vec![7; 200_000]).await;
    while !matches!(bed.next().await, SouthEvent::Work { .. }) {}
    let endpoint = "urn:lamp:7".to_owned();
    bed.south
        .command(SouthCommand::Release { endpoint })
        .await
        .unwrap();
    let update = Request::new(Code::POST, &location);
    while handle.request(at(1), update.clone()).await.unwrap().code != Code::NOT_FOUND {}
    let before = bed.device.0.lock().unwrap().requests;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(bed.device.0.lock().unwrap().requests <= before + 1);
}

#[tokio::test(start_paused = true)]
async fn packages_never_go_to_another_thing_at_the_same_address() {
    let mut bed = testbed(Faults::NONE);
    let handle = bed.endpoint.handle();
    register(&handle, &NAME).await;
    let other = ["ep=urn:lamp:8", "lt=86400", "lwm2m=1.1"];
    register(&handle, &other).await;
    while !matches!(bed.next().await, SouthEvent::Lost { endpoint } if endpoint == "urn:lamp:7") {}
    bed.update(&[7; 5_000]).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(bed.device.0.lock().unwrap().requests, 0);
    // It comes back at another address.
    let device = bed.device.clone();
    let again =
        CoapEndpoint::start(bed.network.attach(at(3)), CoapConfig::default(), device).unwrap();
    register(&again.handle(), &NAME).await;
    bed.stages(|stage| stage == Stage::Downloaded).await;
}

#[tokio::test(start_paused = true)]
async fn unfinished_bodies_do_not_block_other_peers() {
    let bed = testbed(Faults::NONE);
    let handle = bed.endpoint.handle();
    tokio::spawn(store_all(bed.events));
    register(&handle, &NAME).await;
    let first_block = |path: &str| {
        let block = Block {
            number: 0,
            more: true,
            szx: 0,
        };
        Request {
            block1: Some(block),
            ..Request::new(Code::POST, path).with_payload(format::OCTETS, vec![1; 16])
        }
    };
    // From 200 addresses, to existing and other resources.
    let mut strangers = vec![];
    for n in 0..200u16 {
        let peer = SocketAddr::from(([10, 0, 1, 1], 10_000 + n));
        let service = Arc::new(Foreign::default());
        let endpoint =
            CoapEndpoint::start(bed.network.attach(peer), CoapConfig::default(), service);
        strangers.push(endpoint.unwrap());
        let stranger = strangers[usize::from(n)].handle();
        for (path, code) in [
            ("/x", Code::NOT_FOUND),
            (agent::EVENTS, Code::UNAUTHORIZED),
            (path::REGISTRATION, Code::CONTINUE),
        ] {
            let answer = stranger.request(at(1), first_block(path)).await.unwrap();
            assert_eq!(answer.code, code, "{path}");
        }
    }
    let event = handle.request(at(1), event(3_000)).await.unwrap();
    assert_eq!(event.code, Code::CHANGED);
    // A long registration as well, of a Thing that is not known yet.
    let peer = SocketAddr::from(([10, 0, 0, 9], 5683));
    let service = Arc::new(Foreign::default());
    let late =
        CoapEndpoint::start(bed.network.attach(peer), CoapConfig::default(), service).unwrap();
    let links: Vec<String> = (0..300).map(|n| format!("</3300/{n}>")).collect();
    let queries = ["ep=urn:lamp:9", "lwm2m=1.1"];
    let answer = register_objects(&late.handle(), &queries, &links.join(",")).await;
    assert_eq!(answer.code, Code::CREATED);
}

#[tokio::test(start_paused = true)]
async fn more_things_with_work_than_workers_are_all_served() {
    let mut bed = testbed(Faults::NONE);
    for n in 0..3_000 {
        let cancel = SouthCommand::Cancel {
            endpoint: format!("urn:lamp:away-{n}"),
            deployment: "d".to_owned(),
        };
        bed.south.command(cancel).await.unwrap();
    }
    let registered = register(&bed.endpoint.handle(), &NAME).await;
    assert_eq!(registered.code, Code::CREATED);
    assert!(matches!(
        bed.next().await,
        SouthEvent::Registered { fresh: true, .. }
    ));
    bed.update(b"2.0.0 image").await;
    bed.stages(|stage| stage == Stage::Downloaded).await;
}

#[tokio::test(start_paused = true)]
async fn objects_below_another_root_are_found_there() {
    let mut bed = testbed(Faults::NONE);
    bed.device.0.lock().unwrap().root = "/lwm2m".to_owned();
    let links = r#"</lwm2m>;rt="oma.lwm2m",</lwm2m/3/0>,</lwm2m/5/0>"#;
    register_objects(&bed.endpoint.handle(), &NAME, links).await;
    bed.update(b"2.0.0 image").await;
    bed.stages(|stage| stage == Stage::Installing).await;
    bed.device.installs();
    let stages = bed.stages(|stage| stage == Stage::Confirmed).await;
    assert_eq!(stages.last(), Some(&Stage::Confirmed));
}

#[tokio::test(start_paused = true)]
async fn a_refused_registration_or_discovery_names_the_reason() {
    let bed = testbed(Faults::NONE);
    let handle = bed.endpoint.handle();
    assert_eq!(
        register(&handle, &["lwm2m=1.1"]).await.code,
        Code::BAD_REQUEST
    );
    let discovery = Request::get("/.well-known/core");
    for (accept, code) in [
        (None, Code::CONTENT),
        (Some(format::LINK_FORMAT), Code::CONTENT),
        (Some(41), Code::NOT_ACCEPTABLE),
    ] {
        let accept = accept.map_or(discovery.clone(), |a| discovery.clone().with_accept(a));
        assert_eq!(handle.request(at(1), accept).await.unwrap().code, code);
    }
    // Two spellings of one name are one Thing.
    let first = register(&handle, &NAME).await.location.join("/");
    register(&handle, &["ep=URN:LAMP:7", "lwm2m=1.1"]).await;
    let update = Request::new(Code::POST, &first);
    assert_eq!(
        handle.request(at(1), update).await.unwrap().code,
        Code::NOT_FOUND
    );
}

#[tokio::test(start_paused = true)]
async fn blocks_that_break_the_rules_are_refused() {
    let bed = testbed(Faults::NONE);
    let handle = bed.endpoint.handle();
    register(&handle, &NAME).await;
    let block = |number, more, szx, bytes| Request {
        block1: Some(Block { number, more, szx }),
        ..event(bytes)
    };
    for (request, code) in [
        (block(0, true, 7, 16), Code::BAD_REQUEST),
        (block(0, true, 1, 16), Code::BAD_REQUEST),
        (block(0, false, 0, 17), Code::BAD_REQUEST),
        (block(3, true, 0, 16), Code::INCOMPLETE),
        (block(0, true, 0, 16), Code::CONTINUE),
        (block(2, true, 0, 16), Code::INCOMPLETE),
    ] {
        let answer = handle.exchange(at(1), request).await.unwrap();
        assert_eq!(answer.code, code);
    }
}

/// Registers in queue mode; returns the request with which the Thing updates its registration.
async fn register_sleeper(handle: &CoapHandle) -> Request {
    let name = ["ep=urn:lamp:7", "lt=86400", "lwm2m=1.1", "b=U", "Q"];
    let location = register(handle, &name).await.location.join("/");
    Request::new(Code::POST, &location)
}

#[tokio::test(start_paused = true)]
async fn a_sleeper_gets_its_work_within_a_second_of_each_message() {
    let mut bed = testbed(Faults::NONE);
    let handle = bed.endpoint.handle();
    let update = register_sleeper(&handle).await;
    let requests = |bed: &Testbed| bed.device.0.lock().unwrap().requests;
    tokio::time::sleep(Duration::from_secs(94)).await;
    bed.update(b"2.0.0 image").await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(requests(&bed), 0, "it sleeps");
    let woke = tokio::time::Instant::now();
    assert_eq!(
        handle.request(at(1), update.clone()).await.unwrap().code,
        Code::CHANGED
    );
    bed.stages(|stage| stage == Stage::Installing).await;
    assert!(
        woke.elapsed() < Duration::from_secs(1),
        "{:?}",
        woke.elapsed()
    );
    // An event wakes it as well as an update.
    bed.device.installs();
    bed.endpoint.close().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_again_to_a_thing_that_fell_asleep() {
    let bed = testbed(Faults::NONE);
    let handle = bed.endpoint.handle();
    register_sleeper(&handle).await;
    drop(handle);
    tokio::time::sleep(Duration::from_secs(90)).await;
    // It closes its radio 3 s before it must, so that it does not see the first request.
    bed.endpoint.close().await;
    let counted = bed.network.attach(at(2));
    bed.south
        .command(SouthCommand::Transfer(Transfer {
            endpoint: "urn:lamp:7".to_owned(),
            deployment: "d".to_owned(),
            artifact: Hash::ZERO,
            size_bytes: 100,
            offer: vec![],
        }))
        .await
        .unwrap();
    let mut datagrams = 0;
    let mut buffer = [0; 2_000];
    let hour = tokio::time::Instant::now() + Duration::from_secs(3_600);
    while tokio::time::timeout_at(hour, counted.receive(&mut buffer))
        .await
        .is_ok()
    {
        datagrams += 1;
    }
    assert!(
        (1..=2).contains(&datagrams),
        "{datagrams} datagrams in an hour"
    );
}

#[tokio::test(start_paused = true)]
async fn a_registered_thing_fetches_its_package_in_the_size_of_its_blocks() {
    let faults = Faults {
        drop: 0.02,
        duplicate: 0.1,
        delay_max: Duration::from_millis(50),
    };
    let bed = testbed(faults);
    let handle = bed.endpoint.handle();
    let image: Vec<u8> = (0..30_000u32).map(|n| (n % 251) as u8).collect();
    let artifact = Hash::of(&image);
    std::fs::write(bed.artifacts.path().join(artifact.to_string()), &image).unwrap();
    let partial = bed
        .artifacts
        .path()
        .join(format!("{}.part", Hash::of(b"x")));
    std::fs::write(partial, b"not yet").unwrap();
    let name = |artifact: &Hash| format!("/fw/{}", &artifact.to_string()[..16]);
    let get = Request::get(&name(&artifact));
    let stranger = handle.request(at(1), get.clone()).await.unwrap();
    assert_eq!(stranger.code, Code::UNAUTHORIZED);
    register(&handle, &NAME).await;
    // Another socket of the same Thing fetches.
    let fetcher = SocketAddr::from(([10, 0, 0, 2], 40_000));
    let config = CoapConfig::default();
    let fetcher =
        CoapEndpoint::start(bed.network.attach(fetcher), config, Arc::new(Silent)).unwrap();
    for szx in [2, 6] {
        let block = Block {
            number: 0,
            more: false,
            szx,
        };
        let get = Request {
            block2: Some(block),
            ..get.clone()
        };
        let fetched = fetcher.handle().request(at(1), get).await.unwrap();
        assert_eq!(fetched.code, Code::CONTENT);
        assert!(fetched.payload == image, "other bytes");
    }
    let ask = async |request: Request| fetcher.handle().request(at(1), request).await.unwrap();
    let absent = Request::get(&name(&Hash::of(b"x")));
    assert_eq!(ask(absent).await.code, Code::NOT_FOUND);
    let beyond = Block {
        number: 30,
        more: false,
        szx: 6,
    };
    let beyond = Request {
        block2: Some(beyond),
        ..get.clone()
    };
    assert_eq!(ask(beyond).await.code, Code::BAD_REQUEST);
    let put = Request::new(Code::PUT, &name(&artifact));
    assert_eq!(ask(put).await.code, Code::METHOD_NOT_ALLOWED);
}

/// A Thing without resources.
struct Silent;

#[async_trait]
impl CoapService for Silent {
    async fn handle(&self, _peer: Peer, _request: Request) -> Response {
        Response::new(Code::NOT_FOUND)
    }
}

#[tokio::test]
async fn a_registered_thing_fetches_its_package_over_http() {
    let artifacts = tempfile::tempdir().unwrap();
    let image: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
    let artifact = Hash::of(&image).to_string();
    std::fs::write(artifacts.path().join(&artifact), &image).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let free = std::net::TcpListener::bind(any)
        .unwrap()
        .local_addr()
        .unwrap();
    let config = SouthConfig {
        artifacts: artifacts.path().to_owned(),
        http_listen: Some(free),
        rate_bytes_per_s: 10_000_000,
        ..SouthConfig::default()
    };
    let (sender, mut events) = mpsc::channel(64);
    let socket = Arc::new(tokio::net::UdpSocket::bind(any).await.unwrap());
    let south = South::start(socket, config, Arc::new(|_: &str| true), sender).unwrap();
    let url = format!("http://{free}/fw/{}", &artifact[..16]);
    let get = async |range: Option<&str>| {
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["-s", "-S", "--max-time", "20", &url]);
        curl.args(range.iter().flat_map(|range| ["-r", range]));
        curl.output().await.unwrap().stdout
    };
    assert_eq!(get(None).await, b"", "nobody is registered");
    let thing = CoapEndpoint::bind(any, CoapConfig::default(), Arc::new(Silent));
    let thing = thing.await.unwrap();
    let register = Request::new(Code::POST, path::REGISTRATION).with_query("ep=lamp".to_owned());
    let answer = thing.handle().request(south.local_addr(), register).await;
    assert_eq!(answer.unwrap().code, Code::CREATED);
    events.recv().await.unwrap();
    assert!(get(None).await == image, "other bytes");
    assert!(get(Some("99990-")).await == image[99_990..], "other bytes");
    south.close().await;
}
