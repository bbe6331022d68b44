//! Attacks by a gateway on a Thing that checks the ledger itself. The gateway lies, and has what
//! every gateway can have: proofs of all records.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lamplighter_client::{Client, Subject};
use lamplighter_contracts::config;
use lamplighter_gateway::coap::{
    CoapConfig, CoapEndpoint, CoapService, Code, Peer, Request, Response, format,
};
use lamplighter_gateway::lwm2m::agent::{self, Offer};
use lamplighter_gateway::lwm2m::order::{ORDER, OrderAction, OrderMessage};
use lamplighter_gateway::lwm2m::path;
use lamplighter_types::proof::ProvenRecord;
use lamplighter_types::wire::work::ProofSet;
use lamplighter_types::{
    Action, ConfigAction, ConfigTarget, Deployment, DeploymentState, DesiredConfig, DeviceEvent,
    DevicesAction, EventsAction, Hash, KeyPurpose, NewDevice, RolloutsAction, SignedRelease,
    Version, codec,
};
use serde::de::DeserializeOwned;
use tokio::net::UdpSocket;

use super::events::ROGUE;
use super::releases::plan_for_list;
use crate::DevnetError;
use crate::city::{district, id};
use crate::journal::Journal;
use crate::network::{Devnet, submit_action};
use crate::scenario::{HARDWARE_CLASS, RELEASE, begin, lamp, manifest_of, tampered};
use crate::thing::{Factory, Thing, ThingConfig, VendorKeys};

/// A device of the gateway [`ROGUE`], with its own model and district.
const PINNED: &str = "pinned";
const ROLLOUT: &str = "pinned-update";
/// Time for the ledger, and for the Thing, to do what is waited for.
const WITHIN: Duration = Duration::from_secs(60);
/// The refusals that the Thing must report, each once.
const REPORTED: [&str; 6] = [
    "order.several_blocks",
    "order.unproven",
    "order.records",
    "order.older",
    "order.proof",
    "order.not_open",
];

/// The south side of the lying gateway: it takes every registration, and keeps the events.
#[derive(Default)]
struct Registrar {
    events: Mutex<Vec<DeviceEvent>>,
    thing: Mutex<Option<Peer>>,
}

#[async_trait]
impl CoapService for Registrar {
    async fn handle(&self, peer: Peer, request: Request) -> Response {
        let lock = |error: PoisonError<_>| error.into_inner();
        match request.path_text().as_str() {
            path::REGISTRATION => {
                *self.thing.lock().unwrap_or_else(PoisonError::into_inner) = Some(peer);
                Response {
                    location: vec!["rd".to_owned(), "1".to_owned()],
                    ..Response::new(Code::CREATED)
                }
            }
            agent::EVENTS => {
                if let Ok(event) = codec::decode::<DeviceEvent>(&request.payload) {
                    self.events.lock().unwrap_or_else(lock).push(event);
                }
                Response::new(Code::CHANGED)
            }
            _ => Response::new(Code::CHANGED),
        }
    }
}

/// The lying gateway with its Thing.
struct Field {
    registrar: Arc<Registrar>,
    endpoint: CoapEndpoint,
    thing: Thing,
}

impl Field {
    async fn start(devnet: &Devnet) -> Result<Self, DevnetError> {
        let start = |source| DevnetError::Start {
            name: "a lying gateway".to_owned(),
            source,
        };
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let socket = Arc::new(socket.map_err(start)?);
        let registrar = Arc::new(Registrar::default());
        let endpoint = CoapEndpoint::start(socket, CoapConfig::default(), registrar.clone());
        let endpoint = endpoint.map_err(start)?;
        let vendor = devnet.city.member("vendor").secret.public();
        let factory = Factory {
            image: crate::files::synthetic_image("pinned firmware 1.0.0"),
            version: Version {
                major: 1,
                minor: 0,
                patch: 0,
            },
            security_counter: 1,
        };
        let mut config = ThingConfig::new(
            id(PINNED),
            HARDWARE_CLASS,
            devnet.city.member(PINNED).secret.clone(),
            devnet.city.genesis.chain_id(),
            devnet.files.root.join(PINNED),
            endpoint.handle().local_addr(),
            Arc::new(VendorKeys(vec![vendor])),
            factory,
        );
        config.ledger = Some((&devnet.city.genesis).into());
        let thing = Thing::spawn(config).await.map_err(thing_error)?;
        let field = Self {
            registrar,
            endpoint,
            thing,
        };
        until("the Thing registers", async || field.peer()).await?;
        Ok(field)
    }

    fn peer(&self) -> Option<Peer> {
        let thing = &self.registrar.thing;
        *thing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn events(&self) -> Vec<DeviceEvent> {
        let events = &self.registrar.events;
        let events = events.lock().unwrap_or_else(PoisonError::into_inner);
        events.clone()
    }

    async fn request(&self, request: Request) -> Result<Response, DevnetError> {
        let handle = self.endpoint.handle();
        let answer = handle.request(self.thing.addr(), request).await;
        answer.map_err(|error| DevnetError::Unexpected(format!("the Thing is silent: {error}")))
    }

    async fn put(&self, target: &str, bytes: Vec<u8>) -> Result<Response, DevnetError> {
        self.request(Request::new(Code::PUT, target).with_payload(format::OCTETS, bytes))
            .await
    }

    /// Gives an order that the Thing must take.
    async fn order(&self, order: &OrderMessage) -> Result<(), DevnetError> {
        let answer = self.put(ORDER, order.to_bytes()).await?;
        match answer.code {
            Code::CHANGED => Ok(()),
            code => Err(DevnetError::Unexpected(format!(
                "an honest order: {code} {}",
                answer.text()
            ))),
        }
    }

    /// Gives an order that the Thing must refuse for this reason.
    async fn lie(
        &self,
        order: &OrderMessage,
        code: Code,
        name: &str,
    ) -> Result<String, DevnetError> {
        refused(&self.put(ORDER, order.to_bytes()).await?, code, name)
    }

    async fn stop(self) {
        self.thing.kill().await;
        self.endpoint.close().await;
    }
}

fn thing_error(error: crate::thing::ThingError) -> DevnetError {
    let error = lamplighter_system::error_chain(&error);
    DevnetError::Unexpected(format!("the Thing: {error}"))
}

fn refused(answer: &Response, code: Code, name: &str) -> Result<String, DevnetError> {
    let text = answer.text();
    match answer.code == code && text.starts_with(name) {
        true => Ok(format!("{code} {text}")),
        false => Err(DevnetError::NotRefused(format!("{} {text}", answer.code))),
    }
}

/// Polls a condition until it has a value.
async fn until<T>(
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> Result<T, DevnetError> {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return Ok(value);
        }
        if begun.elapsed() > WITHIN {
            return Err(DevnetError::Deadline {
                what: what.to_owned(),
                within: WITHIN,
                seen: "not yet".to_owned(),
            });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub(super) async fn run(devnet: &mut Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    set_up(devnet).await?;
    let field = Field::start(devnet).await?;
    let tried = attempts(devnet, &field, journal).await;
    field.stop().await;
    tried
}

async fn set_up(devnet: &mut Devnet) -> Result<(), DevnetError> {
    let keys = devnet.files.keys();
    let member = devnet.city.add_key(&keys, PINNED)?;
    let chain_id = devnet.city.genesis.chain_id();
    let proof = member
        .secret
        .prove(KeyPurpose::Device, &chain_id, &id(PINNED));
    let device = NewDevice {
        device: id(PINNED),
        owner: id("city"),
        model: PINNED.to_owned(),
        hardware_class: HARDWARE_CLASS.to_owned(),
        district: district(PINNED),
        gateway: Some(id(ROGUE)),
        key: Some(member.secret.public()),
        proof: Some(proof),
        tags: Vec::new(),
    };
    let action = Action::Devices(DevicesAction::Register {
        devices: vec![device],
    });
    let operator = devnet.client("operator")?;
    submit_action(&operator, "registering a device", action).await?;
    for target in &targets()[1..] {
        set_document(&operator, target, 0, r#"{"dim":10}"#).await?;
    }
    let devices = [id(PINNED)];
    let plan = plan_for_list(ROLLOUT, &id(RELEASE), &devices);
    begin(devnet, plan).await.map(drop)
}

/// The targets whose documents the Thing gets. That of the fleet is there already.
fn targets() -> [ConfigTarget; 4] {
    [
        ConfigTarget::Fleet,
        ConfigTarget::Model {
            model: PINNED.to_owned(),
        },
        ConfigTarget::District {
            district: district(PINNED),
        },
        device_target(),
    ]
}

fn device_target() -> ConfigTarget {
    ConfigTarget::Device { device: id(PINNED) }
}

async fn set_document(
    operator: &Client,
    target: &ConfigTarget,
    replaces_version: u64,
    document: &str,
) -> Result<(), DevnetError> {
    let action = ConfigAction::SetDesired {
        target: target.clone(),
        document: document.to_owned(),
        replaces_version,
    };
    submit_action(operator, "setting a document", Action::Config(action))
        .await
        .map(drop)
}

/// Waits until a node proves a record that is as wanted, by its value.
async fn wait_proven<T: DeserializeOwned>(
    client: &Client,
    subject: &Subject,
    is_wanted: impl Fn(&T) -> bool,
) -> Result<(), DevnetError> {
    until("a record is proven", async || {
        let (_, proven) = client.proof(subject).await.ok()?;
        let ProvenRecord::State {
            value: Some(value), ..
        } = proven.record
        else {
            return None;
        };
        let record: T = codec::decode_stored(&value).ok()?;
        is_wanted(&record).then_some(())
    })
    .await
}

/// Proofs of the records of one block. A node proves each at its newest one, which may be another
/// one for the next record.
async fn proofs(client: &Client, subjects: Vec<Subject>) -> Result<ProofSet, DevnetError> {
    until("records of one block are proven", async || {
        let (mut set, mut heights) = (ProofSet::default(), BTreeSet::new());
        for subject in &subjects {
            let (bundle, proven) = client.proof(subject).await.ok()?;
            heights.insert(proven.height);
            set.add(bundle);
        }
        (heights.len() == 1).then_some(set)
    })
    .await
}

/// The configuration of the Thing, once the one of the device has this text.
async fn configuration(client: &Client, text: &str) -> Result<OrderMessage, DevnetError> {
    let subject = Subject::Config(device_target());
    wait_proven(client, &subject, |desired: &DesiredConfig| {
        desired.document == text
    })
    .await?;
    let targets = targets().into_iter().map(Subject::Config);
    let subjects = targets.chain([Subject::Device(id(PINNED))]).collect();
    Ok(configure(proofs(client, subjects).await?))
}

fn configure(proofs: ProofSet) -> OrderMessage {
    let action = OrderAction::Configure;
    OrderMessage { action, proofs }
}

fn deployment() -> Subject {
    Subject::Deployment {
        rollout: id(ROLLOUT),
        device: id(PINNED),
    }
}

/// The offer of a release, with the records that the ledger has.
async fn offer(client: &Client, release: &str) -> Result<OrderMessage, DevnetError> {
    let subjects = vec![
        deployment(),
        Subject::Device(id(PINNED)),
        Subject::Release(id(release)),
        Subject::User(id("vendor")),
    ];
    Ok(OrderMessage {
        action: OrderAction::Offer {
            rollout: id(ROLLOUT),
            state: DeploymentState::Assigned,
        },
        proofs: proofs(client, subjects).await?,
    })
}

async fn attempts(
    devnet: &Devnet,
    field: &Field,
    journal: &mut Journal,
) -> Result<(), DevnetError> {
    let (auditor, operator) = (devnet.client("auditor")?, devnet.client("operator")?);
    let older = configuration(&auditor, r#"{"dim":10}"#).await?;
    field.order(&older).await?;
    let open = |deployment: &Deployment| !deployment.state.is_end();
    wait_proven(&auditor, &deployment(), open).await?;
    let offered = offer(&auditor, RELEASE).await?;
    field.order(&offered).await?;
    set_document(&operator, &device_target(), 1, r#"{"dim":90}"#).await?;
    let newest = configuration(&auditor, r#"{"dim":90}"#).await?;
    field.order(&newest).await?;

    journal.attack("orders without a proof", unproven(devnet, field).await);
    let verdict = of_two_blocks(&operator, &auditor, field, &newest).await;
    journal.attack("a configuration of the records of two blocks", verdict);
    let other = offer(&auditor, super::artifacts::NEXT).await?;
    let verdict = field.lie(&other, Code::FORBIDDEN, "order.records").await;
    journal.attack("a release that the ledger gives to others", verdict);
    let subjects = vec![
        Subject::Device(lamp(1)),
        Subject::Config(ConfigTarget::Fleet),
    ];
    let foreign = configure(proofs(&auditor, subjects).await?);
    let verdict = field.lie(&foreign, Code::FORBIDDEN, "order.records").await;
    journal.attack("the order of another device", verdict);
    let outdated = Code::PRECONDITION_FAILED;
    let verdict = field.lie(&older, outdated, "order.older").await;
    journal.attack("an older configuration", verdict);
    let verdict = field.lie(&offered, outdated, "order.older").await;
    journal.attack("an order that is repeated after a newer one", verdict);
    let bundles = (0..newest.proofs.records.len()).filter_map(|at| newest.proofs.bundle(at));
    let changed = configure(ProofSet::from_bundles(bundles.map(tampered)));
    let verdict = field.lie(&changed, Code::FORBIDDEN, "order.proof").await;
    journal.attack("an order with changed documents", verdict);
    let verdict = stopped(&operator, &auditor, field).await;
    journal.attack("an order of a stopped rollout", verdict);
    unharmed(field).await?;
    let begun = Instant::now();
    let reported = reported(devnet, field).await;
    let passed = "the Thing reported each kind of refused order to the ledger";
    journal.record("refused orders are reported", passed, begun, &reported);
    reported.map(drop)
}

/// The orders as a Thing gets them that checks the vendor's signature alone.
async fn unproven(devnet: &Devnet, field: &Field) -> Result<String, DevnetError> {
    let manifest = manifest_of(RELEASE, "vendor", &devnet.firmware.1);
    let offer = codec::encode(&Offer {
        rollout: id(ROLLOUT),
        device: id(PINNED),
        release: SignedRelease::sign(&manifest, &devnet.city.member("vendor").secret),
        state: DeploymentState::Downloading,
        seen_height: 1,
    });
    let (code, name) = (Code::FORBIDDEN, "order.unproven");
    refused(&field.put(agent::OFFER, offer).await?, code, name)?;
    let document = br#"{"dim":0}"#.to_vec();
    refused(
        &field.put(agent::CONFIGURATION, document).await?,
        code,
        name,
    )?;
    let install = Request::new(Code::POST, path::UPDATE);
    refused(&field.request(install).await?, code, name)
}

/// The documents after a change, with that of the device from before it: each was in force, and
/// none is older than what the Thing took, but together they never were.
async fn of_two_blocks(
    operator: &Client,
    auditor: &Client,
    field: &Field,
    before: &OrderMessage,
) -> Result<String, DevnetError> {
    set_document(operator, &device_target(), 2, r#"{"dim":80}"#).await?;
    let after = configuration(auditor, r#"{"dim":80}"#).await?;
    let moved = config::keys::desired(&device_target());
    let is_moved = |key: &[u8]| key == moved.as_bytes();
    let mut proofs = after.proofs.select(|key| !is_moved(key));
    let one = before.proofs.select(is_moved).bundle(0);
    proofs.add(one.ok_or_else(|| DevnetError::Unexpected("it is not proven".to_owned()))?);
    let (order, code) = (configure(proofs), Code::PRECONDITION_FAILED);
    field.lie(&order, code, "order.several_blocks").await
}

async fn stopped(
    operator: &Client,
    auditor: &Client,
    field: &Field,
) -> Result<String, DevnetError> {
    let cancel = RolloutsAction::Cancel {
        rollout: id(ROLLOUT),
        reason: "a test".to_owned(),
    };
    submit_action(operator, "stopping a rollout", Action::Rollouts(cancel)).await?;
    let ended = |deployment: &Deployment| deployment.state == DeploymentState::Cancelled;
    wait_proven(auditor, &deployment(), ended).await?;
    let order = offer(auditor, RELEASE).await?;
    field.lie(&order, Code::FORBIDDEN, "order.not_open").await
}

/// Checks that the Thing runs its image, with the newest configuration that it was ordered.
async fn unharmed(field: &Field) -> Result<(), DevnetError> {
    let status = field.thing.status().await.map_err(thing_error)?;
    let boots = status.boots;
    match (status.configuration, boots) {
        (Some(document), 1) if document != Hash::of(br#"{"dim":0}"#) => Ok(()),
        found => Err(DevnetError::NotRefused(format!("{found:?}"))),
    }
}

/// Brings the events of the Thing to the ledger, which must take each of them.
async fn reported(devnet: &Devnet, field: &Field) -> Result<serde_json::Value, DevnetError> {
    let names = |events: &[DeviceEvent]| -> Vec<String> {
        let name = |event: &DeviceEvent| {
            let data: serde_json::Value = serde_json::from_str(&event.data).ok()?;
            Some(data["code"].as_str()?.to_owned())
        };
        events.iter().filter_map(name).collect()
    };
    let events = until("the refusals are reported", async || {
        let events = field.events();
        let found = names(&events);
        let has = |name: &str| found.iter().any(|found| found == name);
        REPORTED.iter().all(|name| has(name)).then_some(events)
    })
    .await?;
    let found = names(&events);
    let append = Action::Events(EventsAction::Append { events });
    submit_action(&devnet.client(ROGUE)?, "reporting refusals", append).await?;
    Ok(serde_json::json!({ "codes": found }))
}
