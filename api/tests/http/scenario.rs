//! The actions of `docs/examples/actions.json`. In their order they are a scenario in which each
//! succeeds.
//!
//! Names and texts are written there by hand; derived values (keys, digests, signatures) are
//! computed here. `UPDATE_GOLDEN=1` writes them into the file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use lamplighter_ledger::{Clock, LedgerConfig};
use lamplighter_types::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::node::{Answer, Node, STEP_TIMEOUT, id, node_key};

/// The creation time of the ledger of the examples, Unix ms.
pub const BEGIN_MS: u64 = 1_800_000_000_000;
/// The image that the examples roll out.
const IMAGE: &[u8] = b"the image of lamp-2.0.0";

pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/examples")
        .join(name)
}

/// The key of a name: its letters, then zero bytes, are the seed.
pub fn secret(name: &str) -> SecretKey {
    if name == "node-1" {
        return node_key();
    }
    let mut seed = [0; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    SecretKey::from_seed(seed)
}

fn public(name: &str) -> PublicKey {
    secret(name).public()
}

pub fn genesis() -> Genesis {
    let account = |name: &str, role| GenesisAccount {
        account: id(name),
        name: name.to_owned(),
        key: public(name),
        grants: vec![Grant::founding(role, Scope::city())],
    };
    Genesis {
        version: GENESIS_VERSION,
        name: "Example City".into(),
        created_ms: BEGIN_MS,
        validators: ValidatorSet {
            validators: vec![Validator {
                node: 1,
                account: id("node-1"),
                key: public("node-1"),
                address: "127.0.0.1:9001".into(),
            }],
        },
        organization: id("city"),
        accounts: vec![
            account("ada", Role::Administrator),
            account("ben", Role::Administrator),
            account("olga", Role::Operator),
            account("acme", Role::Vendor),
            account("pia", Role::Approver),
            account("paul", Role::Approver),
            account("sam", Role::Security),
        ],
        policies: Policies::default(),
    }
}

/// A clock that runs from [`BEGIN_MS`] on, so that the times in the examples stay true.
struct ExampleClock(Instant);

impl Clock for ExampleClock {
    fn now_ms(&self) -> u64 {
        BEGIN_MS + self.0.elapsed().as_millis() as u64
    }
}

pub async fn node() -> Node {
    let clock = Arc::new(ExampleClock(Instant::now()));
    let reader = (id("olga"), secret("olga"));
    Node::start_in(LedgerConfig::new(1), genesis(), clock, reader).await
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Step {
    pub sender: String,
    pub by: String,
    pub action: Action,
}

/// The steps as they are printed.
pub fn printed() -> Vec<Value> {
    serde_json::from_str(&std::fs::read_to_string(path("actions.json")).unwrap()).unwrap()
}

/// The steps with their derived values.
pub fn computed() -> Vec<Step> {
    let mut known = Known {
        chain: genesis().chain_id(),
        plans: BTreeMap::new(),
        changes: BTreeMap::new(),
    };
    let mut steps: Vec<Step> = serde_json::from_value(printed().into()).unwrap();
    for Step { sender, action, .. } in &mut steps {
        known.compute(sender, action);
    }
    steps
}

/// The values that later actions name by their digest.
struct Known {
    chain: Hash,
    plans: BTreeMap<Id, Hash>,
    changes: BTreeMap<Id, Hash>,
}

impl Known {
    fn compute(&mut self, sender: &str, action: &mut Action) {
        match action {
            Action::Users(action) => self.users(sender, action),
            Action::Devices(action) => self.devices(action),
            Action::Firmware(action) => firmware(action),
            Action::Rollouts(action) => self.rollouts(action),
            Action::Config(ConfigAction::Report { reports }) => {
                for report in reports {
                    report.document = Hash::of(br#"{"dim":60,"schedule":{"on":"sunset"}}"#);
                    self.sign(&report.device.clone(), report);
                }
            }
            Action::Events(EventsAction::Append { events }) => {
                for event in events {
                    self.sign(&event.device.clone(), event);
                }
            }
            Action::Governance(action) => self.governance(action),
            Action::Config(_) | Action::Events(_) => {}
        }
    }

    /// Signs as the device where the example has a signature.
    fn sign<T: DeviceSigned>(&self, device: &Id, report: &mut T) {
        if report.signature().is_some() {
            report.sign(&self.chain, &secret(device.as_str()));
        }
    }

    /// A key with its proof for an account.
    fn introduced(&self, key: &str, account: &Id) -> (PublicKey, Signature) {
        let proof = secret(key).prove(KeyPurpose::Account, &self.chain, account);
        (public(key), proof)
    }

    fn users(&self, sender: &str, action: &mut UsersAction) {
        match action {
            UsersAction::RegisterUser {
                account,
                key,
                proof,
                ..
            }
            | UsersAction::RegisterGateway {
                account,
                key,
                proof,
                ..
            } => (*key, *proof) = self.introduced(account.as_str(), account),
            UsersAction::AddKey { key, proof, .. } => {
                (*key, *proof) = self.introduced("zoe-safe", &id(sender));
            }
            UsersAction::RotateKey { new_key, proof } => {
                (*new_key, *proof) = self.introduced("zoe-2", &id(sender));
            }
            UsersAction::RevokeKey { key, .. } => *key = public("zoe-2"),
            _ => {}
        }
    }

    fn devices(&self, action: &mut DevicesAction) {
        match action {
            DevicesAction::Register { devices } => {
                for new in devices.iter_mut().filter(|new| new.key.is_some()) {
                    let secret = secret(new.device.as_str());
                    new.key = Some(secret.public());
                    let proof = secret.prove(KeyPurpose::Device, &self.chain, &new.device);
                    new.proof = Some(proof);
                }
            }
            DevicesAction::RotateKeys { rotations } => {
                for rotation in rotations {
                    let secret = secret("lamp-1-rotated");
                    rotation.new_key = secret.public();
                    rotation.proof =
                        secret.prove(KeyPurpose::Device, &self.chain, &rotation.device);
                    self.sign(&rotation.device.clone(), rotation);
                }
            }
            DevicesAction::ReportInventory { reports } => {
                for report in reports {
                    report.digest = Hash::of(b"the image of lamp-1.4.0");
                    self.sign(&report.device.clone(), report);
                }
            }
            _ => {}
        }
    }

    fn rollouts(&mut self, action: &mut RolloutsAction) {
        match action {
            RolloutsAction::Plan { plan } => {
                self.plans.insert(plan.rollout.clone(), codec::digest(plan));
            }
            RolloutsAction::PlanGroups { plan } | RolloutsAction::Amend { plan } => {
                let rollout = plan.base.rollout.clone();
                self.plans.insert(rollout, codec::digest(plan));
            }
            RolloutsAction::PlanGuarded { plan } | RolloutsAction::AmendGuarded { plan } => {
                let rollout = plan.plan.base.rollout.clone();
                self.plans.insert(rollout, codec::digest(plan));
            }
            RolloutsAction::Approve { rollout, plan } => *plan = self.plans[rollout],
            RolloutsAction::Report { reports } => {
                for report in reports {
                    report.digest = report.digest.map(|_| Hash::of(IMAGE));
                    self.sign(&report.device.clone(), report);
                }
            }
            _ => {}
        }
    }

    fn governance(&mut self, action: &mut GovernanceAction) {
        match action {
            GovernanceAction::Propose { proposal, changes } => {
                changes.iter_mut().for_each(|change| self.change(change));
                self.changes
                    .insert(proposal.clone(), GovernanceChange::digest(changes));
            }
            GovernanceAction::Approve { proposal, changes } => *changes = self.changes[proposal],
            GovernanceAction::Withdraw { proposal: _ } => {}
        }
    }

    fn change(&self, change: &mut GovernanceChange) {
        let of_node = |account: &Id| {
            let secret = secret(account.as_str());
            let proof = secret.prove(KeyPurpose::Node, &self.chain, account);
            (secret.public(), proof)
        };
        match change {
            GovernanceChange::AddValidator { validator, proof } => {
                (validator.key, *proof) = of_node(&validator.account);
            }
            GovernanceChange::AddObserver { observer, proof } => {
                (observer.key, *proof) = of_node(&observer.account);
            }
            GovernanceChange::RegisterUser {
                account,
                key,
                proof,
                ..
            } => (*key, *proof) = self.introduced(account.as_str(), account),
            GovernanceChange::Recover {
                account,
                new_key,
                proof,
            } => (*new_key, *proof) = self.introduced("zoe-3", account),
            GovernanceChange::ReplaceDeviceKey { device, key, proof } => {
                let secret = secret("lamp-1-b");
                *proof = secret.prove(KeyPurpose::Device, &self.chain, device);
                *key = secret.public();
            }
            _ => {}
        }
    }
}

fn firmware(action: &mut FirmwareAction) {
    let signed = SignedRelease::sign(&manifest(), &secret("acme"));
    match action {
        FirmwareAction::Publish { release } => *release = signed,
        FirmwareAction::Approve { manifest, .. } => *manifest = signed.manifest_digest(),
        FirmwareAction::HoldArtifact {
            artifact,
            size_bytes,
        }
        | FirmwareAction::DropArtifact {
            artifact,
            size_bytes,
        } => (*artifact, *size_bytes) = (Hash::of(IMAGE), IMAGE.len() as u64),
        _ => {}
    }
}

fn manifest() -> ReleaseManifest {
    ReleaseManifest {
        release: id("lamp-2.0.0"),
        vendor: id("acme"),
        version: "2.0.0".parse().unwrap(),
        artifact: Hash::of(IMAGE),
        size_bytes: IMAGE.len() as u64,
        hardware_classes: vec!["acme-lamp-v2".into()],
        security_counter: 4,
        replaces_from: Some("1.0.0".parse().unwrap()),
        depends_on: Vec::new(),
        expires_ms: None,
        critical: false,
        provenance: None,
    }
}

/// A client that makes, signs and sends transactions with nothing but JSON and a key.
#[derive(Default)]
pub struct Client {
    sequences: BTreeMap<String, u64>,
}

impl Client {
    /// The next transaction of a sender, as JSON text.
    pub fn transaction(&mut self, sender: &str, action: &Value) -> Value {
        let sequence = self.sequences.entry(sender.to_owned()).or_default();
        *sequence += 1;
        serde_json::json!({
            "sender": sender, "sequence": *sequence, "expires_ms": BEGIN_MS + 3_600_000,
            "action": action,
        })
    }

    /// The envelope of a transaction.
    pub fn signed(&self, transaction: &Value, chain: &Hash) -> SignedTransaction {
        let secret = secret(transaction["sender"].as_str().unwrap());
        let mut signed = SignedTransaction {
            encoding: Encoding::Json,
            key: secret.public(),
            payload: HexBytes(transaction.to_string().into_bytes()),
            signature: Signature([0; 64]),
        };
        signed.signature = secret.sign(&signed.signing_bytes(chain));
        signed
    }

    /// Waits until a step can be performed: a report needs its deployment.
    pub async fn ready(&self, node: &Node, step: &Value) {
        let reports = &step["action"]["rollouts"]["report"]["reports"];
        for report in reports.as_array().into_iter().flatten() {
            let (rollout, device) = (report["rollout"].as_str(), report["device"].as_str());
            let path = format!("/v1/deployments/{}/{}", rollout.unwrap(), device.unwrap());
            until_found(node, &path).await;
        }
    }

    /// Performs one step of the scenario.
    pub async fn send(&mut self, node: &Node, step: &Value) -> Answer {
        self.ready(node, step).await;
        let sender = step["sender"].as_str().unwrap();
        let transaction = self.transaction(sender, &step["action"]);
        let signed = self.signed(&transaction, &node.genesis.chain_id());
        node.submit(&signed, "").await
    }
}

/// A started rollout assigns its devices in the blocks that follow.
async fn until_found(node: &Node, path: &str) {
    let begun = Instant::now();
    let mut height = node.handle.head().height;
    while node.get(path).await.status != 200 {
        assert!(begun.elapsed() < STEP_TIMEOUT, "never: {path}");
        height += 1;
        node.handle.wait_height(height, STEP_TIMEOUT).await.unwrap();
    }
}
