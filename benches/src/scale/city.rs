//! A city with many devices, made by real transactions: devices by the thousand, an event of each,
//! alarms, histories, and one release that is rolled out to all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lamplighter_system::unix_ms;
use lamplighter_types::login::Audience;
use lamplighter_types::{
    Action, AlarmChange, ConfigAction, ConfigTarget, DeferralPolicy, DeviceEvent, DevicesAction,
    EventsAction, FirmwareAction, Hash, Id, KeyPurpose, NewDevice, ReleaseManifest, Role,
    RolloutPlan, RolloutsAction, Scope, SecretKey, Selection, Severity, SignedRelease,
    SignedTransaction, StepTimers, Tag, UsersAction, codec,
};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::error::BenchError;
use crate::fleet::{
    DEVICES_PER_LIST, Fleet, administrator, administrator_key, id, key_of, organization,
};
use crate::http::Connection;
use crate::load::{self, SubmitOutcome};
use crate::peers::gateways::{AT_ONCE, submit_all, token};

/// Gateways with a thousand devices each, or more.
const GATEWAYS_MAX: u64 = 1_000;
/// Organizations that own devices, besides that of the gateways.
const OWNERS: u64 = 20;
const DISTRICTS: u64 = 50;
/// Each so many devices has an open alarm.
const ALARM_EACH: u64 = 10;
/// Events of the device with the longest history, a thousand in each transaction.
const LONG_HISTORY_BATCHES: u64 = 10;
/// Documents and changes of tags in the longest histories of their kinds.
const CHANGES: u64 = 300;
/// Transactions at once of a list of a thousand: each has 100 KB and takes a block's time.
const LISTS_AT_ONCE: usize = 4;
/// Time for the node to report that it holds the image.
const HELD_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);
const DAY_MS: u64 = 24 * 3_600_000;
const IMAGE: &[u8] = b"the image that is rolled out to the fleet";
const CLASS: &str = "scale-lamp-v1";
pub const RELEASE: &str = "r-1";
pub const ROLLOUT: &str = "ro-1";
/// An account that reads two districts of fifty.
pub const READER: &str = "reader";

/// A gateway with the devices of one list or more.
struct Field {
    account: Id,
    secret: SecretKey,
    district: Scope,
    sequence: AtomicU64,
}

/// The city and its signers.
pub struct City {
    pub fleet: Arc<Fleet>,
    pub lists: u64,
    fields: Vec<Field>,
    /// Last sequence numbers of the events of a list's devices.
    events: Vec<AtomicU64>,
    /// Events that the first device has had besides.
    more: AtomicU64,
    approver: AtomicU64,
    vendor: AtomicU64,
}

/// The used part of a rollout.
#[derive(Deserialize)]
struct RolloutRecord {
    record: RolloutProgress,
}

#[derive(Deserialize)]
struct RolloutProgress {
    expanded: bool,
}

pub fn district(number: u64) -> Scope {
    let text = format!("area-{}/d-{:02}", number % 5, number % DISTRICTS);
    text.parse().expect("names of the benchmark are districts")
}

pub fn device(list: u64, number: u64) -> Id {
    id(&format!("pole-{list:04}-{number:03}"))
}

pub fn gateway(number: u64) -> Id {
    id(&format!("field-{number:05}"))
}

pub fn owner(number: u64) -> Id {
    id(&format!("owner-{:02}", number % OWNERS))
}

impl City {
    pub fn new(fleet: Arc<Fleet>, devices: u64) -> Self {
        let lists = devices.div_ceil(DEVICES_PER_LIST);
        let field = |number| Field {
            account: gateway(number),
            secret: key_of(gateway(number).as_str()),
            district: district(number),
            sequence: AtomicU64::new(0),
        };
        Self {
            fleet,
            lists,
            fields: (0..lists.min(GATEWAYS_MAX)).map(field).collect(),
            events: (0..lists).map(|_| AtomicU64::new(0)).collect(),
            more: AtomicU64::new(0),
            approver: AtomicU64::new(0),
            vendor: AtomicU64::new(0),
        }
    }

    pub fn gateways(&self) -> usize {
        self.fields.len()
    }

    fn field(&self, list: u64) -> &Field {
        &self.fields[list as usize % self.fields.len()]
    }

    fn admin(&self, action: Action) -> SignedTransaction {
        self.fleet.sign_as_administrator(action)
    }

    fn as_member(&self, name: &str, sequence: &AtomicU64, action: Action) -> SignedTransaction {
        let number = sequence.fetch_add(1, Ordering::Relaxed) + 1;
        self.fleet.sign(&id(name), &key_of(name), number, action)
    }

    /// Registers everything and makes events, alarms and histories.
    ///
    /// # Errors
    /// A transaction was refused or failed.
    pub async fn build(&self, cluster: &Cluster) -> Result<(), BenchError> {
        let node = cluster.nodes[0].http;
        submit_all(node, AT_ONCE, self.members()).await?;
        submit_all(node, 1, self.grants()).await?;
        let lists = (0..self.lists).map(|list| self.registration(list));
        submit_all(node, LISTS_AT_ONCE, lists).await?;
        let raised = (0..self.lists).map(|list| self.events_of(list, ALARM_EACH));
        submit_all(node, LISTS_AT_ONCE, raised).await?;
        let long = (0..LONG_HISTORY_BATCHES).map(|_| self.many_events_of_one());
        submit_all(node, 1, long).await?;
        submit_all(node, 1, self.changes()).await
    }

    /// The organizations, the gateways, and an account that reads little.
    fn members(&self) -> impl Iterator<Item = SignedTransaction> {
        let owners = (0..OWNERS).map(owner).chain([id("owner-without")]);
        let owners = owners.map(|organization| UsersAction::RegisterOrganization {
            name: organization.to_string(),
            organization,
        });
        let chain = self.fleet.chain_id;
        let fields = self
            .fields
            .iter()
            .map(move |field| UsersAction::RegisterGateway {
                account: field.account.clone(),
                organization: organization(),
                district: field.district.clone(),
                key: field.secret.public(),
                proof: field
                    .secret
                    .prove(KeyPurpose::Account, &chain, &field.account),
            });
        let reader = UsersAction::RegisterUser {
            account: id(READER),
            organization: organization(),
            name: READER.to_owned(),
            key: key_of(READER).public(),
            proof: key_of(READER).prove(KeyPurpose::Account, &chain, &id(READER)),
        };
        let actions = owners.chain(fields).chain([reader]);
        actions.map(|action| self.admin(Action::Users(action)))
    }

    fn grants(&self) -> impl Iterator<Item = SignedTransaction> {
        let last = [DISTRICTS - 1, DISTRICTS - 2].map(district);
        last.into_iter().map(|scope| {
            self.admin(Action::Users(UsersAction::Grant {
                account: id(READER),
                role: Role::Operator,
                scope,
            }))
        })
    }

    fn registration(&self, list: u64) -> SignedTransaction {
        let field = self.field(list);
        let device = |number| NewDevice {
            device: device(list, number),
            owner: owner(list),
            model: "Benchmark pole".to_owned(),
            hardware_class: CLASS.to_owned(),
            district: field.district.clone(),
            gateway: Some(field.account.clone()),
            key: None,
            proof: None,
            tags: Vec::new(),
        };
        let devices = (0..DEVICES_PER_LIST).map(device).collect();
        self.admin(Action::Devices(DevicesAction::Register { devices }))
    }

    /// One event of each device of a list; each so many raises an alarm, unless that is 0.
    pub fn events_of(&self, list: u64, alarm_each: u64) -> SignedTransaction {
        let sequence = self.events[list as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let event = |number: u64| {
            let alarm = number.checked_rem(alarm_each) == Some(0);
            let more = match (list, number) {
                (0, 0) => self.more.load(Ordering::Relaxed),
                _ => 0,
            };
            event(device(list, number), sequence + more, alarm)
        };
        let events = (0..DEVICES_PER_LIST).map(event).collect();
        self.as_field(list, events)
    }

    fn many_events_of_one(&self) -> SignedTransaction {
        let last = self.events[0].load(Ordering::Relaxed);
        let last = last + self.more.fetch_add(DEVICES_PER_LIST, Ordering::Relaxed);
        let event = |number| event(device(0, 0), last + number + 1, false);
        self.as_field(0, (0..DEVICES_PER_LIST).map(event).collect())
    }

    fn as_field(&self, list: u64, events: Vec<DeviceEvent>) -> SignedTransaction {
        let field = self.field(list);
        let number = field.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let action = Action::Events(EventsAction::Append { events });
        self.fleet
            .sign(&field.account, &field.secret, number, action)
    }

    /// Documents and tags of one device, one after the other.
    fn changes(&self) -> impl Iterator<Item = SignedTransaction> {
        let target = |of: u64| match of % 3 {
            0 => ConfigTarget::Device {
                device: device(0, 0),
            },
            1 => ConfigTarget::District {
                district: district(0),
            },
            _ => ConfigTarget::Fleet,
        };
        let documents = (0..CHANGES).map(move |number| {
            Action::Config(ConfigAction::SetDesired {
                target: target(number),
                document: format!(r#"{{"dim":{number},"schedule":"dusk to dawn"}}"#),
                replaces_version: number / 3,
            })
        });
        let tags = (0..CHANGES).map(|number| {
            Action::Devices(DevicesAction::Tag {
                device: device(0, 0),
                tags: vec![Tag {
                    name: "round".to_owned(),
                    value: number.to_string(),
                }],
            })
        });
        documents.chain(tags).map(|action| self.admin(action))
    }

    /// Uploads an image and publishes a release of it, and has it approved.
    pub async fn release(&self, cluster: &Cluster) -> Result<(), BenchError> {
        let mut connection = load::open(cluster.nodes[0].http).await?;
        let artifact = self.upload(&mut connection).await?;
        let manifest = ReleaseManifest {
            release: id(RELEASE),
            vendor: id("vendor"),
            version: "2.0.0".parse().expect("a version"),
            artifact,
            size_bytes: IMAGE.len() as u64,
            hardware_classes: vec![CLASS.to_owned()],
            security_counter: 1,
            replaces_from: None,
            depends_on: Vec::new(),
            expires_ms: None,
            critical: false,
            provenance: None,
        };
        let release = SignedRelease::sign(&manifest, &key_of("vendor"));
        let digest = release.manifest_digest();
        let publish = Action::Firmware(FirmwareAction::Publish { release });
        let signed = self.as_member("vendor", &self.vendor, publish);
        commit(&mut connection, &signed).await?;
        // The node reports that it holds the bytes in a block of its own.
        let begun = Instant::now();
        loop {
            let approve = Action::Firmware(FirmwareAction::Approve {
                release: id(RELEASE),
                manifest: digest,
            });
            let signed = self.as_member("approver", &self.approver, approve);
            match commit(&mut connection, &signed).await {
                Err(BenchError::Failures(..)) if begun.elapsed() < HELD_WITHIN => {
                    sleep(load::BUSY_PAUSE).await;
                }
                approved => return approved,
            }
        }
    }

    async fn upload(&self, connection: &mut Connection) -> Result<Hash, BenchError> {
        let digest = Hash::of(IMAGE);
        let (account, secret) = (administrator(), administrator_key());
        let audience = Audience::HttpRead;
        let token = token(connection, &self.fleet, &account, &secret, audience).await?;
        connection.token = Some(token);
        let new = lamplighter_types::wire::NewArtifact {
            digest,
            size_bytes: IMAGE.len() as u64,
        };
        let begun: serde_json::Value =
            crate::peers::gateways::post(connection, "/v1/artifacts", &new).await?;
        let path = format!("/v1/artifacts/{digest}/upload");
        let offset = begun["offset"].as_u64().unwrap_or(0);
        let headers =
            format!("content-type: application/octet-stream\r\nupload-offset: {offset}\r\n");
        let node = connection.address;
        let answer = connection.send("PATCH", &path, &headers, IMAGE).await;
        let answer = answer.map_err(|source| BenchError::Http { node, source })?;
        connection.token = None;
        if answer.status == 200 {
            return Ok(digest);
        }
        Err(BenchError::Answer {
            node,
            status: answer.status,
            body: String::from_utf8_lossy(&answer.body).into_owned(),
        })
    }

    /// Plans, approves and starts the rollout to all devices; blocks then assign them bit by bit.
    pub async fn start_rollout(&self, cluster: &Cluster) -> Result<(), BenchError> {
        let mut connection = load::open(cluster.nodes[0].http).await?;
        let (rollout, plan) = (id(ROLLOUT), plan());
        let approve = Action::Rollouts(RolloutsAction::Approve {
            rollout: rollout.clone(),
            plan: codec::digest(&plan),
        });
        let planned = self.admin(Action::Rollouts(RolloutsAction::Plan { plan }));
        commit(&mut connection, &planned).await?;
        let approved = self.as_member("approver", &self.approver, approve);
        commit(&mut connection, &approved).await?;
        let started = self.admin(Action::Rollouts(RolloutsAction::Start { rollout }));
        commit(&mut connection, &started).await
    }

    /// True once every device of the rollout has been looked at.
    pub async fn is_rolled_out(&self, connection: &mut Connection) -> Result<bool, BenchError> {
        let node = connection.address;
        let answer = connection.get(&format!("/v1/rollouts/{ROLLOUT}")).await;
        let answer = answer.map_err(|source| BenchError::Http { node, source })?;
        let rollout: Result<RolloutRecord, _> = serde_json::from_slice(&answer.body);
        let rollout = rollout.map_err(|_| BenchError::Answer {
            node,
            status: answer.status,
            body: String::from_utf8_lossy(&answer.body).into_owned(),
        })?;
        Ok(rollout.record.expanded)
    }
}

fn event(device: Id, sequence: u64, raises: bool) -> DeviceEvent {
    let (kind, alarm) = if raises {
        ("lampFailure", AlarmChange::Raise)
    } else {
        ("lightStateChange", AlarmChange::None)
    };
    DeviceEvent {
        device,
        sequence,
        time_ms: unix_ms(),
        kind: kind.to_owned(),
        severity: Severity::Major,
        alarm,
        data: r#"{"level":80}"#.to_owned(),
        signature: None,
    }
}

fn plan() -> RolloutPlan {
    RolloutPlan {
        rollout: id(ROLLOUT),
        release: id(RELEASE),
        selection: Selection::Filter {
            district: Scope::city(),
            model: None,
            hardware_class: Some(CLASS.to_owned()),
            tag: None,
        },
        error_percent_max: 50,
        error_sample_min: 100,
        deferral: DeferralPolicy {
            count_max: 2,
            total_ms_max: DAY_MS,
        },
        timers: StepTimers {
            offer_ms: DAY_MS,
            download_ms: DAY_MS,
            install_ms: DAY_MS,
            trial_ms: DAY_MS,
        },
        retries_max: 2,
    }
}

async fn commit(connection: &mut Connection, signed: &SignedTransaction) -> Result<(), BenchError> {
    let outcome = load::submit_until_accepted(connection, &codec::encode(signed)).await?;
    match outcome {
        SubmitOutcome::Failed(why) => Err(BenchError::Failures(1, "the making", why)),
        SubmitOutcome::Committed(_) | SubmitOutcome::Busy => Ok(()),
    }
}
