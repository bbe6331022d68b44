//! The testbed: a gateway's south side, a reader of its events that checks every signature, and
//! Things.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_gateway::coap::simulated::{Faults, SimulatedNetwork};
use lamplighter_gateway::lwm2m::agent::{Offer, ThingReport};
use lamplighter_gateway::south::{
    InstallLimits, ServedDevices, South, SouthCommand, SouthConfig, SouthEvent, StorageReply,
    Transfer, WorkNotice,
};
use lamplighter_types::{
    DeploymentReport, DeploymentState, DeviceEvent, DeviceSigned, Hash, Id, ReleaseManifest,
    SecretKey, SignedRelease, Version, codec,
};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use super::super::{Factory, Socket, Thing, ThingConfig, VendorKeys};

pub const CHAIN: Hash = Hash([7; 32]);

/// The events that the south side sent to the north side.
#[derive(Debug, Default, Clone)]
pub struct Log {
    pub reports: Vec<ThingReport>,
    pub events: Vec<DeviceEvent>,
    pub notices: Vec<(String, WorkNotice)>,
    pub registered: Vec<String>,
    pub lost: Vec<String>,
}

impl Log {
    pub fn deployments(&self, device: &str) -> Vec<DeploymentReport> {
        let of = |report: &ThingReport| match report {
            ThingReport::Deployment(r) if r.device.as_str() == device => Some(r.clone()),
            _ => None,
        };
        self.reports.iter().filter_map(of).collect()
    }

    pub fn states(&self, device: &str) -> Vec<DeploymentState> {
        self.deployments(device)
            .iter()
            .map(|report| report.to)
            .collect()
    }

    pub fn ended(&self, device: &str) -> Option<DeploymentReport> {
        self.deployments(device)
            .into_iter()
            .find(|report| report.to.is_end())
    }

    pub fn progress(&self) -> u64 {
        let sent = |(_, notice): &(String, WorkNotice)| match notice {
            WorkNotice::Progress { sent_bytes, .. } => *sent_bytes,
            _ => 0,
        };
        self.notices.iter().map(sent).max().unwrap_or(0)
    }
}

pub struct Testbed {
    pub network: SimulatedNetwork,
    pub folder: TempDir,
    pub log: watch::Receiver<Log>,
    writer: Arc<watch::Sender<Log>>,
    pub south: Option<South>,
    /// The south side's settings but for its directory.
    pub settings: SouthConfig,
}

pub fn gateway() -> SocketAddr {
    ([10, 0, 0, 1], 5683).into()
}

pub fn key(device: &str) -> SecretKey {
    SecretKey::from_seed(Hash::of(device.as_bytes()).0)
}

pub fn vendor() -> SecretKey {
    key("vendor")
}

pub fn image(seed: &str, bytes: usize) -> Vec<u8> {
    let mut image = vec![0; bytes];
    blake3::Hasher::new()
        .update(seed.as_bytes())
        .finalize_xof()
        .fill(&mut image);
    image
}

pub fn version(minor: u32) -> Version {
    Version {
        major: 1,
        minor,
        patch: 0,
    }
}

/// The manifest of an image that a lamp with the factory image may install.
pub fn manifest(image: &[u8]) -> ReleaseManifest {
    ReleaseManifest {
        release: Id::new("lamp-fw-1.1.0").unwrap(),
        vendor: Id::new("lumen").unwrap(),
        version: version(1),
        artifact: Hash::of(image),
        size_bytes: image.len() as u64,
        hardware_classes: vec!["lamp-a1".to_owned()],
        security_counter: 2,
        replaces_from: None,
        depends_on: vec![],
        expires_ms: None,
        critical: false,
        provenance: None,
    }
}

pub fn offer(device: &str, manifest: &ReleaseManifest, signer: &SecretKey) -> Vec<u8> {
    codec::encode(&Offer {
        rollout: Id::new("spring").unwrap(),
        device: Id::new(device).unwrap(),
        release: SignedRelease::sign(manifest, signer),
        state: DeploymentState::Downloading,
        seen_height: 40,
    })
}

impl Testbed {
    pub fn new(seed: u64, faults: Faults) -> Testbed {
        Testbed::with(seed, faults, SouthConfig::default())
    }

    pub fn with(seed: u64, faults: Faults, settings: SouthConfig) -> Testbed {
        let network = SimulatedNetwork::new(seed, faults);
        let (writer, log) = watch::channel(Log::default());
        let folder = tempfile::tempdir().unwrap();
        let mut testbed = Testbed {
            network,
            folder,
            log,
            writer: Arc::new(writer),
            south: None,
            settings,
        };
        testbed.start_gateway();
        testbed
    }

    pub fn start_gateway(&mut self) {
        self.start_gateway_for(Arc::new(|_: &str| true));
    }

    /// Starts a gateway that serves these devices, and asks for signatures where it knows keys.
    pub fn start_gateway_for(&mut self, served: Arc<dyn ServedDevices>) {
        let (sender, receiver) = mpsc::channel(64);
        let link = self.network.attach(gateway());
        let config = SouthConfig {
            artifacts: self.folder.path().to_owned(),
            ..self.settings.clone()
        };
        let south = South::start(link, config, served, sender).unwrap();
        self.south = Some(south);
        self.read_events(receiver);
    }

    /// Reads the events of a gateway into the log.
    pub fn read_events(&self, events: mpsc::Receiver<SouthEvent>) {
        tokio::spawn(read(events, self.writer.clone()));
    }

    pub async fn stop_gateway(&mut self) {
        self.south.take().unwrap().close().await;
    }

    pub fn config(&self, device: &str, host: u8) -> ThingConfig {
        let addr = ([10, 0, 0, host], 5683).into();
        let factory = Factory {
            image: image("factory", 5_000),
            version: version(0),
            security_counter: 1,
        };
        let mut config = ThingConfig::new(
            Id::new(device).unwrap(),
            "lamp-a1",
            key(device),
            CHAIN,
            self.folder.path().join(device),
            gateway(),
            Arc::new(VendorKeys(vec![vendor().public()])),
            factory,
        );
        config.socket = Socket::Simulated(self.network.clone(), addr);
        config
    }

    pub async fn lamp(&self, device: &str, host: u8) -> Thing {
        Thing::spawn(self.config(device, host)).await.unwrap()
    }

    pub async fn command(&self, command: SouthCommand) {
        self.south.as_ref().unwrap().command(command).await.unwrap();
    }

    pub async fn transfer(&self, device: &str, image: &[u8], manifest: &ReleaseManifest) {
        let offer = offer(device, manifest, &vendor());
        self.transfer_offer(device, image, offer).await;
    }

    pub async fn transfer_offer(&self, device: &str, image: &[u8], offer: Vec<u8>) {
        let transfer = Transfer {
            offer,
            ..self.transfer_of(device, image)
        };
        self.command(SouthCommand::Transfer(transfer)).await;
    }

    /// The transfer of an image, which is among the artifacts then.
    pub fn transfer_of(&self, device: &str, image: &[u8]) -> Transfer {
        let artifact = Hash::of(image);
        let path = self.folder.path().join(artifact.to_string());
        // While it is written again, another Thing may be getting it.
        if !path.exists() {
            std::fs::write(path, image).unwrap();
        }
        Transfer {
            endpoint: device.to_owned(),
            deployment: "spring".to_owned(),
            artifact,
            size_bytes: image.len() as u64,
            offer: offer(device, &manifest(image), &vendor()),
        }
    }

    pub async fn install(&self, device: &str) {
        let (endpoint, deployment) = (device.to_owned(), "spring".to_owned());
        self.command(SouthCommand::Install {
            endpoint,
            deployment,
            version: version(1),
            limits: InstallLimits::default(),
        })
        .await;
    }

    /// Waits, in virtual time, until the log fulfils a condition.
    pub async fn until(&self, what: &str, done: impl FnMut(&Log) -> bool) -> Log {
        let limit = Duration::from_secs(24 * 3600);
        let mut log = self.log.clone();
        let found = tokio::time::timeout(limit, log.wait_for(done)).await;
        match found.map(|log| log.unwrap().clone()) {
            Ok(log) => log,
            Err(_) => panic!("never: {what}; {:#?}", *self.log.borrow()),
        }
    }
}

/// Stores events in place of the gateway's north side, and checks that the Thing signed them.
async fn read(mut events: mpsc::Receiver<SouthEvent>, log: Arc<watch::Sender<Log>>) {
    while let Some(event) = events.recv().await {
        let note = |change: &dyn Fn(&mut Log)| log.send_modify(|log| change(log));
        match event {
            SouthEvent::Registered {
                endpoint, agent, ..
            } => {
                assert!(agent);
                note(&|log| log.registered.push(endpoint.clone()));
            }
            SouthEvent::Values { .. } => panic!("our Things send no bare values"),
            SouthEvent::Lost { endpoint } => note(&|log| log.lost.push(endpoint.clone())),
            SouthEvent::Work { endpoint, notice } => {
                note(&|log| log.notices.push((endpoint.clone(), notice.clone())));
            }
            SouthEvent::Report {
                endpoint,
                bytes,
                stored,
            } => {
                let report: ThingReport = codec::decode(&bytes).unwrap();
                assert!(is_signed(&report, &endpoint));
                stored.send(StorageReply::Stored).unwrap();
                note(&|log| {
                    // A report may come twice when its acknowledgement was lost.
                    if !log.reports.contains(&report) {
                        log.reports.push(report.clone());
                    }
                });
            }
            SouthEvent::Event {
                endpoint,
                bytes,
                stored,
            } => {
                let event: DeviceEvent = codec::decode(&bytes).unwrap();
                assert!(
                    event
                        .verify_device(&CHAIN, Some(&key(&endpoint).public()))
                        .unwrap()
                );
                stored.send(StorageReply::Stored).unwrap();
                note(&|log| {
                    if !log.events.contains(&event) {
                        log.events.push(event.clone());
                    }
                });
            }
        }
    }
}

fn is_signed(report: &ThingReport, endpoint: &str) -> bool {
    let key = key(endpoint).public();
    let verdict = match report {
        ThingReport::Inventory(report) => report.verify_device(&CHAIN, Some(&key)),
        ThingReport::Deployment(report) => report.verify_device(&CHAIN, Some(&key)),
        ThingReport::Config(report) => report.verify_device(&CHAIN, Some(&key)),
        ThingReport::KeyRotation(rotation) => rotation.verify_device(&CHAIN, Some(&key)),
    };
    verdict.unwrap()
}
