//! One block of a ledger with four validators, a vendor, a release and a device.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_contracts::{config, devices, firmware, rollouts, users};
use lamplighter_state::Key;
use lamplighter_state::tree::Tree;
use lamplighter_types::proof::{
    CertifiedHeader, PROOF_VERSION, ProofBundle, RecordProof, SetChange, VALIDATOR_SET_KEY,
};
use lamplighter_types::wire::Cursor;
use lamplighter_types::wire::work::{ProofSet, WORK_VERSION, WorkItem, WorkMessage};
use lamplighter_types::{
    Account, AccountKey, AccountKind, Attestation, Certificate, ConfigTarget, Deployment,
    DeploymentState, DesiredConfig, Device, DeviceState, DeviceStatus, GENESIS_VERSION, Genesis,
    GenesisAccount, Grant, HEADER_VERSION, Hash, Header, HexBytes, Id, KeyRecord, Policies,
    Release, ReleaseManifest, ReleaseStatus, Role, Scope, SecretKey, SignedRelease, Validator,
    ValidatorSet, Version, codec,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// When the tests happen.
pub const NOW_MS: u64 = 1_790_000_000_000;

pub fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

pub struct World {
    pub genesis: Genesis,
    pub vendor: SecretKey,
    pub manifest: ReleaseManifest,
    pub records: BTreeMap<Vec<u8>, Vec<u8>>,
    pub height: u64,
    pub time_ms: u64,
    validators: Vec<SecretKey>,
    /// The validators in force at the block.
    pub set: ValidatorSet,
}

fn grant(role: Role) -> Grant {
    Grant::founding(role, Scope::city())
}

fn set_of(validators: &[SecretKey]) -> ValidatorSet {
    let set = validators.iter().zip(1..).map(|(secret, node)| Validator {
        node,
        account: id(&format!("node-{node}")),
        key: secret.public(),
        address: String::new(),
    });
    ValidatorSet {
        validators: set.collect(),
    }
}

fn genesis(validators: &[SecretKey], admin: &SecretKey) -> Genesis {
    let account = GenesisAccount {
        account: id("admin"),
        name: "Admin".to_owned(),
        key: admin.public(),
        grants: vec![grant(Role::Administrator)],
    };
    Genesis {
        version: GENESIS_VERSION,
        name: "Test".to_owned(),
        created_ms: 1,
        validators: set_of(validators),
        organization: id("city"),
        accounts: vec![account],
        policies: Policies::default(),
    }
}

fn manifest(image: &[u8]) -> ReleaseManifest {
    ReleaseManifest {
        release: id("fw-2"),
        vendor: id("acme"),
        version: Version {
            major: 2,
            minor: 0,
            patch: 0,
        },
        artifact: Hash::of(image),
        size_bytes: image.len() as u64,
        hardware_classes: vec!["lamp-v1".to_owned()],
        security_counter: 2,
        replaces_from: None,
        depends_on: Vec::new(),
        expires_ms: None,
        critical: false,
        provenance: None,
    }
}

impl World {
    pub fn new() -> Self {
        Self::with_seed(1)
    }

    pub fn with_seed(seed: u8) -> Self {
        Self::with_validators(seed, 4)
    }

    pub fn with_validators(seed: u8, count: u8) -> Self {
        let secret = |n: u8| SecretKey::from_seed([seed, n].repeat(16).try_into().unwrap());
        let validators: Vec<_> = (20..20 + count).map(secret).collect();
        let vendor = secret(10);
        let mut world = Self {
            genesis: genesis(&validators, &secret(11)),
            manifest: manifest(&[7; 1_000]),
            records: BTreeMap::new(),
            height: 120,
            time_ms: NOW_MS - 1_000,
            set: set_of(&validators),
            validators,
            vendor: vendor.clone(),
        };
        world.put_vendor();
        world.put_device();
        world.sign_release(&vendor);
        world
    }

    fn put_vendor(&mut self) {
        let account = Account {
            account: id("acme"),
            kind: AccountKind::User,
            organization: id("acme-org"),
            name: "Acme".to_owned(),
            district: Scope::city(),
            keys: vec![AccountKey::first(self.vendor.public())],
            grants: vec![grant(Role::Vendor)],
            disabled: false,
            registered_height: 3,
        };
        self.put(&users::keys::account(&id("acme")), &account);
        let owner = KeyRecord {
            account: id("acme"),
            revoked: false,
        };
        self.put(&users::keys::key(&self.vendor.public()), &owner);
    }

    fn put_device(&mut self) {
        let device = Device {
            device: id("lamp-1"),
            owner: id("city"),
            offered_to: None,
            model: "lamp".to_owned(),
            hardware_class: "lamp-v1".to_owned(),
            district: Scope::new("north/harbour").unwrap(),
            gateway: Some(id("gw")),
            key: None,
            tags: Vec::new(),
            status: DeviceStatus::Active,
            registered_height: 4,
        };
        self.put(&devices::keys::device(&id("lamp-1")), &device);
        let state = DeviceState {
            version: None,
            release: None,
            digest: None,
            security_counter: 1,
            report_counter: 41,
            drifted: false,
            active_rollout: Some(id("r1")),
            confirmed: Vec::new(),
            key_rotations: 0,
        };
        self.put(&devices::keys::state(&id("lamp-1")), &state);
        let deployment = Deployment {
            rollout: id("r1"),
            device: id("lamp-1"),
            release: id("fw-2"),
            state: DeploymentState::Assigned,
            assigned_height: 100,
            steps: Vec::new(),
            retries: 0,
            postponed_count: 0,
            postponed_until_ms: None,
            postponed_from: None,
            first_offered_ms: None,
            deadline_ms: None,
        };
        self.put(
            &rollouts::keys::deployment(&id("r1"), &id("lamp-1")),
            &deployment,
        );
    }

    /// Puts the manifest on the ledger, signed by `secret`.
    pub fn sign_release(&mut self, secret: &SecretKey) {
        let signed = SignedRelease::sign(&self.manifest, secret);
        let release = Release {
            manifest: self.manifest.clone(),
            manifest_digest: signed.manifest_digest(),
            signed,
            status: ReleaseStatus::Released,
            author: id("acme"),
            organization: id("city"),
            approvals: Vec::new(),
            reason: String::new(),
            published_height: 50,
            published_ms: 50,
            released_ms: Some(60),
            ended_ms: None,
        };
        self.put(&firmware::keys::release(&id("fw-2")), &release);
    }

    pub fn set_document(&mut self, target: &ConfigTarget, document: &str) {
        let desired = DesiredConfig {
            target: target.clone(),
            document: document.to_owned(),
            version: 1,
            author: id("admin"),
            height: 60,
        };
        self.put(&config::keys::desired(target), &desired);
    }

    pub fn account(&self, name: &str) -> Account {
        codec::decode(&self.records[users::keys::account(&id(name)).as_bytes()]).unwrap()
    }

    pub fn put<T: Serialize>(&mut self, key: &Key<T>, record: &T) {
        self.records
            .insert(key.as_bytes().to_vec(), codec::encode(record));
    }

    pub fn remove<T>(&mut self, key: &Key<T>) {
        self.records.remove(key.as_bytes()).unwrap();
    }

    pub fn change<T: Serialize + DeserializeOwned>(
        &mut self,
        key: &Key<T>,
        change: impl FnOnce(&mut T),
    ) {
        let mut record: T = codec::decode(&self.records[key.as_bytes()]).unwrap();
        change(&mut record);
        self.put(key, &record);
    }

    fn tree(&self) -> Tree {
        let entries = self
            .records
            .iter()
            .map(|(key, value)| (Hash::of(key), Hash::of(value)));
        Tree::of(entries).unwrap()
    }

    /// Replaces all validators by others, and returns the change, which those before certified.
    pub fn replace_validators(&mut self, seed: u8) -> SetChange {
        let secret = |n: u8| SecretKey::from_seed([seed, n].repeat(16).try_into().unwrap());
        let validators: Vec<_> = (0..4).map(secret).collect();
        let next = set_of(&validators);
        let key = VALIDATOR_SET_KEY.to_vec();
        self.records.insert(key, codec::encode(&next));
        let change = SetChange {
            certified: self.head(),
            in_force: self.set.clone(),
            next: next.clone(),
            path: self.tree().prove(VALIDATOR_SET_KEY).unwrap(),
        };
        (self.set, self.validators) = (next, validators);
        self.height += 1;
        change
    }

    /// The header of the block, certified by a quorum.
    pub fn head(&self) -> CertifiedHeader {
        let header = Header {
            version: HEADER_VERSION,
            chain_id: self.genesis.chain_id(),
            height: self.height,
            parent: Hash::of(b"parent"),
            timestamp_ms: self.time_ms,
            tx_root: Hash::ZERO,
            receipt_root: Hash::ZERO,
            event_root: Hash::ZERO,
            state_root: self.tree().root(),
            history_root: Hash::of(b"history"),
            validators_hash: self.set.hash(),
            batch: Hash::of(b"batch"),
            position: Hash::of(b"position"),
        };
        let hash = header.hash();
        let sign = |secret| Attestation::sign(self.height, hash, secret);
        let attestations: Vec<_> = self
            .validators
            .iter()
            .take(self.set.quorum())
            .map(sign)
            .collect();
        let certificate = Certificate::from_attestations(self.height, hash, &attestations);
        CertifiedHeader {
            header,
            certificate,
        }
    }

    fn bundle(&self, tree: &Tree, key: Vec<u8>) -> ProofBundle {
        let value = self.records.get(&key).cloned().map(HexBytes);
        let path = tree.prove(&key).unwrap();
        ProofBundle {
            version: PROOF_VERSION,
            record: RecordProof::State {
                key: HexBytes(key),
                value,
                path,
            },
            ancestor: None,
            head: self.head(),
            set_changes: Vec::new(),
        }
    }

    /// The records that an item needs, as `types::wire::work` lists them.
    fn keys(&self, item: &WorkItem) -> Vec<Vec<u8>> {
        let bytes = |key: &[u8]| key.to_vec();
        match item {
            WorkItem::Range { .. } => Vec::new(),
            WorkItem::Device { device } => vec![bytes(devices::keys::device(device).as_bytes())],
            WorkItem::Deployment { rollout, device } => {
                vec![
                    bytes(rollouts::keys::deployment(rollout, device).as_bytes()),
                    bytes(rollouts::keys::install_rules(rollout).as_bytes()),
                    bytes(devices::keys::device(device).as_bytes()),
                    bytes(devices::keys::state(device).as_bytes()),
                    bytes(firmware::keys::release(&id("fw-2")).as_bytes()),
                    bytes(users::keys::account(&id("acme")).as_bytes()),
                    bytes(users::keys::key(&self.vendor.public()).as_bytes()),
                ]
            }
            WorkItem::Config { device } => {
                let district = |name| ConfigTarget::District {
                    district: Scope::new(name).unwrap(),
                };
                let targets = [
                    ConfigTarget::Fleet,
                    ConfigTarget::Model {
                        model: "lamp".to_owned(),
                    },
                    district("north"),
                    district("north/harbour"),
                    ConfigTarget::Device {
                        device: device.clone(),
                    },
                ];
                let mut keys = vec![
                    bytes(devices::keys::device(device).as_bytes()),
                    bytes(config::keys::reported(device).as_bytes()),
                ];
                let desired = targets.iter().map(config::keys::desired);
                keys.extend(desired.map(|key| bytes(key.as_bytes())));
                keys
            }
        }
    }

    /// Work as a node would send it.
    pub fn message(&self, items: Vec<WorkItem>) -> WorkMessage {
        let tree = self.tree();
        let keys: BTreeSet<_> = items.iter().flat_map(|item| self.keys(item)).collect();
        let bundles = keys.into_iter().map(|key| self.bundle(&tree, key));
        WorkMessage {
            version: WORK_VERSION,
            gateway: id("gw"),
            cursor: Cursor {
                height: self.height,
                index: 0,
            },
            items,
            proofs: ProofSet::from_bundles(bundles),
        }
    }
}
