use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::super::{
    Admits, Notice, South, SouthCommand, SouthConfig, SouthEvent, Stored, Transfer,
};
use crate::coap::simulated::{Faults, SimulatedNetwork};
use crate::coap::{Code, Config, Endpoint, Handle, Request, Response, Service, format};
use crate::lwm2m::{Stage, UpdateResult, agent, path};

/// A LwM2M device that knows nothing of us: it takes any package, answers in TLV, and runs as its
/// version the first word of its image.
#[derive(Default)]
struct Foreign(Mutex<Inside>);

#[derive(Default)]
struct Inside {
    state: u8,
    result: u8,
    package: Vec<u8>,
    version: String,
    breaks: bool,
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
impl Service for Foreign {
    async fn handle(&self, _peer: SocketAddr, request: Request) -> Response {
        let mut inside = self.0.lock().unwrap();
        match (request.method, request.path_text().as_str()) {
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

struct Bed {
    network: SimulatedNetwork,
    south: South,
    events: mpsc::Receiver<SouthEvent>,
    device: Arc<Foreign>,
    endpoint: Endpoint,
}

fn bed(faults: Faults) -> Bed {
    let network = SimulatedNetwork::new(5, faults);
    let (sender, events) = mpsc::channel(64);
    let admits: Admits = Arc::new(|name: &str| name.starts_with("urn:lamp:"));
    let south = South::start(
        network.attach(at(1)),
        SouthConfig::default(),
        admits,
        sender,
    );
    let device = Arc::new(Foreign::default());
    device.0.lock().unwrap().version = "1.0".to_owned();
    let config = Config {
        body_bytes_max: 1 << 20,
        szx: 4,
        ..Config::default()
    };
    let endpoint = Endpoint::start(network.attach(at(2)), config, device.clone()).unwrap();
    Bed {
        network,
        south: south.unwrap(),
        events,
        device,
        endpoint,
    }
}

async fn register(handle: &Handle, queries: &[&str]) -> Response {
    let request = Request::new(Code::POST, path::REGISTRATION);
    let links = b"</1/0>,</3/0>,</5/0>".to_vec();
    let request = queries
        .iter()
        .fold(request, |r, q| r.with_query((*q).to_owned()));
    handle
        .request(at(1), request.with_payload(format::LINK_FORMAT, links))
        .await
        .unwrap()
}

const NAME: [&str; 4] = ["ep=urn:lamp:7", "lt=300", "lwm2m=1.1", "b=U"];

impl Bed {
    async fn next(&mut self) -> SouthEvent {
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

    async fn update(&self, image: &[u8], folder: &tempfile::TempDir) {
        let artifact = folder.path().join("image");
        std::fs::write(&artifact, image).unwrap();
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
            })
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_knows_nothing_of_us_is_updated() {
    let faults = Faults {
        drop: 0.1,
        duplicate: 0.1,
        delay_max: Duration::from_millis(100),
    };
    let mut bed = bed(faults);
    let folder = tempfile::tempdir().unwrap();
    let image = [b"2.0 ".to_vec(), vec![0xA5; 30_000]].concat();
    bed.update(&image, &folder).await;
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
    let version = bed.next().await;
    assert!(matches!(version, SouthEvent::Version { version, .. } if version == "1.0"));
    let stages = bed.stages(|stage| stage == Stage::Installing).await;
    assert_eq!(stages, [Stage::Downloaded, Stage::Installing]);
    assert_eq!(bed.device.0.lock().unwrap().package, image);
    bed.device.installs();
    register(&bed.endpoint.handle(), &NAME).await;
    let stages = bed.stages(|stage| stage == Stage::Confirmed).await;
    assert_eq!(stages, [Stage::Trial, Stage::Confirmed]);
    assert_eq!(bed.device.0.lock().unwrap().version, "2.0");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_fails_says_so_and_one_that_vanishes_is_lost() {
    let mut bed = bed(Faults::NONE);
    let folder = tempfile::tempdir().unwrap();
    bed.device.0.lock().unwrap().breaks = true;
    register(&bed.endpoint.handle(), &NAME).await;
    bed.update(b"2.0 image", &folder).await;
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
async fn strangers_are_not_registered_and_their_letters_not_taken() {
    let mut bed = bed(Faults::NONE);
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
        handle.request(at(1), post(0)).await.unwrap().code,
        Code::BAD_REQUEST
    );
    assert_eq!(
        handle.request(at(1), post(20_000)).await.unwrap().code,
        Code::BAD_REQUEST
    );
    let gone = handle
        .request(at(1), Request::new(Code::POST, "/rd/nothing"))
        .await
        .unwrap();
    assert_eq!(gone.code, Code::NOT_FOUND);

    let answers = tokio::spawn(async move {
        let kept = handle.request(at(1), post(9)).await.unwrap().code;
        let refused = handle.request(at(1), post(9)).await.unwrap().code;
        let dropped = handle.request(at(1), post(9)).await.unwrap().code;
        (kept, refused, dropped)
    });
    let mut said = vec![
        Some(Stored::Kept),
        Some(Stored::Refused("forged".to_owned())),
        None,
    ];
    while !said.is_empty() {
        if let SouthEvent::Event { bytes, stored, .. } = bed.next().await {
            assert_eq!(bytes, [1; 9]);
            if let Some(answer) = said.remove(0) {
                stored.send(answer).unwrap();
            }
        }
    }
    let expected = (Code::CHANGED, Code::BAD_REQUEST, Code::UNAVAILABLE);
    assert_eq!(answers.await.unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_north_side_that_does_not_read_makes_things_wait() {
    let bed = bed(Faults::NONE);
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

#[tokio::test(start_paused = true)]
async fn a_configuration_needs_the_agent() {
    let mut bed = bed(Faults::NONE);
    register(&bed.endpoint.handle(), &NAME).await;
    let (endpoint, document) = ("urn:lamp:7".to_owned(), b"{}".to_vec());
    bed.south
        .command(SouthCommand::Configure { endpoint, document })
        .await
        .unwrap();
    loop {
        if let SouthEvent::Notice {
            notice: Notice::Configured { accepted, detail },
            ..
        } = bed.next().await
        {
            assert!(!accepted && detail.contains("no place"), "{detail}");
            return;
        }
    }
}
