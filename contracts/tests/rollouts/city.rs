//! A city to test in: four validators, an operator, two approvers, a vendor, two gateways.

use std::collections::BTreeMap;
use std::sync::Arc;

use lamplighter_contracts::{
    BlockContext, Context, ExecutionError, Refusal, devices, execute, firmware, genesis, rollouts,
    users,
};
use lamplighter_state::{Overlay, View};
use lamplighter_store::{Cf, Durability, Kv, MemoryKv, WriteBatch};
use lamplighter_types::*;

pub const HOUR_MS: u64 = 3_600_000;
pub const NORTH: &str = "north";

pub fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

pub fn scope(text: &str) -> Scope {
    Scope::new(text).unwrap()
}

/// The secret key that has this name.
pub fn secret(name: &str) -> SecretKey {
    SecretKey::from_seed(Hash::of(name.as_bytes()).0)
}

fn account(name: &str, grants: &[(Role, &str)]) -> GenesisAccount {
    let grants = grants
        .iter()
        .map(|(role, district)| Grant::founding(*role, scope(district)));
    GenesisAccount {
        account: id(name),
        name: name.to_owned(),
        key: secret(name).public(),
        grants: grants.collect(),
    }
}

fn validator(node: u64) -> Validator {
    let name = format!("validator-{node}");
    Validator {
        node,
        account: id(&name),
        key: secret(&name).public(),
        address: format!("127.0.0.1:{}", 7000 + node),
    }
}

/// One administrator governs, and newcomers need not wait.
fn policies() -> Policies {
    Policies {
        approvals: ApprovalPolicies {
            power: Policies::of_one_person().approvals.power,
            ..ApprovalPolicies::default()
        },
        newcomer_wait_ms: 0,
        ..Policies::default()
    }
}

fn the_genesis() -> Genesis {
    let accounts = vec![
        account("admin", &[(Role::Administrator, "")]),
        account("anna", &[(Role::Approver, "")]),
        account("ben", &[(Role::Approver, ""), (Role::Operator, "")]),
        account("carl", &[(Role::Approver, NORTH)]),
        account("olga", &[(Role::Operator, "")]),
        account("nora", &[(Role::Operator, NORTH)]),
        account("sina", &[(Role::Security, "")]),
        account("acme", &[(Role::Vendor, ""), (Role::Approver, "")]),
        account("rival", &[(Role::Vendor, "")]),
    ];
    Genesis {
        version: GENESIS_VERSION,
        name: "Test City".to_owned(),
        created_ms: 1,
        validators: ValidatorSet {
            validators: (1..=4).map(validator).collect(),
        },
        organization: id("city"),
        accounts,
        policies: policies(),
    }
}

/// Notifications, or the code of the refusal.
pub type ActResult = Result<Vec<Fact>, &'static str>;

pub struct City {
    kv: Arc<MemoryKv>,
    pub overlay: Overlay,
    pub chain_id: Hash,
    pub height: u64,
    pub time_ms: u64,
    /// Numbers of reports, by device.
    counters: BTreeMap<Id, u64>,
    /// Records that the last block changed.
    pub last_writes: usize,
}

impl City {
    pub fn new() -> Self {
        let kv = Arc::new(MemoryKv::new());
        let genesis = the_genesis();
        let mut city = Self {
            overlay: Overlay::new(View::new(kv.clone())),
            kv,
            chain_id: genesis.chain_id(),
            height: 1,
            time_ms: 1_000_000,
            counters: BTreeMap::new(),
            last_writes: 0,
        };
        genesis::install(&mut city.overlay, &genesis).unwrap();
        for gateway in ["gw-1", "gw-2"] {
            let action = UsersAction::RegisterGateway {
                account: id(gateway),
                organization: id("city"),
                district: scope(""),
                key: secret(gateway).public(),
                proof: secret(gateway).prove(KeyPurpose::Account, &city.chain_id, &id(gateway)),
            };
            city.act("admin", Action::Users(action)).unwrap();
        }
        city
    }

    /// With a released release `r1` of version 1.1.0 and `count` devices `lamp-0`.. at `gw-1`, all
    /// with keys.
    pub fn with_lamps(count: usize) -> Self {
        let mut city = Self::new();
        city.lamps(0..count, NORTH, true);
        city.released(&manifest("r1"));
        city
    }

    pub fn block_context(&self) -> BlockContext {
        BlockContext {
            chain_id: self.chain_id,
            height: self.height,
            time_ms: self.time_ms,
        }
    }

    /// Executes one transaction of `who`. A refused one changes nothing.
    pub fn act(&mut self, who: &str, action: Action) -> ActResult {
        let sender = users::account(&self.overlay, &id(who)).unwrap().unwrap();
        let context = Context {
            block: self.block_context(),
            transaction: Hash::of(who.as_bytes()),
            // Who has no key any more signs with the one that it had.
            key: (sender.keys.first()).map_or(secret(who).public(), |key| key.key),
            sender,
        };
        execute::check(&action).map_err(|refusal| refusal.code)?;
        let done = execute::run(&mut self.overlay, &context, &action);
        match done {
            Ok(notifications) => {
                self.overlay.commit();
                Ok(notifications.into_iter().map(|n| n.fact).collect())
            }
            Err(ExecutionError::Refused(Refusal { code, fields: _ })) => {
                self.overlay.rollback();
                Err(code)
            }
            Err(ExecutionError::Fatal(error)) => panic!("{error}"),
        }
    }

    pub fn firmware(&mut self, who: &str, action: FirmwareAction) -> ActResult {
        self.act(who, Action::Firmware(action))
    }

    pub fn rollouts(&mut self, who: &str, action: RolloutsAction) -> ActResult {
        self.act(who, Action::Rollouts(action))
    }

    /// Makes the next block, `ms` later: due work is done, and all changes are stored.
    pub fn block(&mut self, ms: u64) -> Vec<Fact> {
        self.height += 1;
        self.time_ms += ms;
        let block = self.block_context();
        let facts = rollouts::tick(&mut self.overlay, &block).unwrap();
        self.overlay.commit();
        self.store();
        facts.into_iter().map(|n| n.fact).collect()
    }

    /// Blocks of one millisecond until nothing is due.
    pub fn run_until_idle(&mut self) -> Vec<Fact> {
        let mut facts = Vec::new();
        for _ in 0..1_000 {
            let due_ms = rollouts::due_ms(&self.overlay).unwrap();
            if due_ms.is_none_or(|due_ms| due_ms > self.time_ms) {
                return facts;
            }
            facts.extend(self.block(1));
        }
        panic!("there is always something due")
    }

    fn store(&mut self) {
        let fresh = Overlay::new(View::new(self.kv.clone()));
        let changes = std::mem::replace(&mut self.overlay, fresh).into_changes();
        self.last_writes = changes.writes.len();
        let mut batch = WriteBatch::new();
        for (key, value) in changes.writes {
            match value {
                Some(value) => batch.put(Cf::State, key, value),
                None => batch.delete(Cf::State, key),
            }
        }
        self.kv.write(batch, Durability::Unsynced).unwrap();
    }

    /// Registers `lamp-N` for each N, at `gw-1`.
    pub fn lamps(&mut self, numbers: std::ops::Range<usize>, district: &str, keyed: bool) {
        let all: Vec<NewDevice> = numbers.map(|n| lamp(n, district, keyed)).collect();
        for some in all.chunks(500) {
            let action = DevicesAction::Register {
                devices: some.to_vec(),
            };
            self.act("olga", Action::Devices(action)).unwrap();
        }
    }

    pub fn publish(&mut self, manifest: &ReleaseManifest) -> ActResult {
        let release = SignedRelease::sign(manifest, &secret(manifest.vendor.as_str()));
        self.firmware(
            manifest.vendor.clone().as_str(),
            FirmwareAction::Publish { release },
        )
    }

    pub fn hold(&mut self, node: u64, manifest: &ReleaseManifest) -> ActResult {
        let action = FirmwareAction::HoldArtifact {
            artifact: manifest.artifact,
            size_bytes: manifest.size_bytes,
        };
        self.firmware(&format!("validator-{node}"), action)
    }

    pub fn approve_release(&mut self, who: &str, manifest: &ReleaseManifest) -> ActResult {
        let release = manifest.release.clone();
        let manifest = codec::digest(manifest);
        self.firmware(who, FirmwareAction::Approve { release, manifest })
    }

    pub fn released(&mut self, manifest: &ReleaseManifest) {
        self.publish(manifest).unwrap();
        for node in 1..=3 {
            self.hold(node, manifest).unwrap();
        }
        self.approve_release("anna", manifest).unwrap();
        self.approve_release("ben", manifest).unwrap();
    }

    /// Renews the approvals of a released release.
    pub fn released_again(&mut self, release: &str) {
        let manifest = manifest(release);
        self.approve_release("anna", &manifest).unwrap();
        self.approve_release("ben", &manifest).unwrap();
    }

    pub fn plan(&mut self, who: &str, plan: &RolloutPlan) -> ActResult {
        self.rollouts(who, RolloutsAction::Plan { plan: plan.clone() })
    }

    pub fn approve(&mut self, who: &str, plan: &RolloutPlan) -> ActResult {
        let rollout = plan.rollout.clone();
        self.rollouts(
            who,
            RolloutsAction::Approve {
                rollout,
                plan: codec::digest(plan),
            },
        )
    }

    /// Plans, approves and starts, and makes the blocks that assign all devices.
    pub fn started(&mut self, plan: &RolloutPlan) {
        let rollout = plan.rollout.clone();
        self.plan("olga", plan).unwrap();
        self.approve("anna", plan).unwrap();
        self.rollouts("olga", RolloutsAction::Start { rollout })
            .unwrap();
        self.run_until_idle();
    }

    pub fn plan_groups(&mut self, who: &str, plan: &GroupedPlan) -> ActResult {
        self.rollouts(who, RolloutsAction::PlanGroups { plan: plan.clone() })
    }

    pub fn approve_groups(&mut self, who: &str, plan: &GroupedPlan) -> ActResult {
        let rollout = plan.base.rollout.clone();
        let plan = codec::digest(plan);
        self.rollouts(who, RolloutsAction::Approve { rollout, plan })
    }

    /// Plans, approves and starts, and makes the blocks that assign the first group.
    pub fn started_in_groups(&mut self, plan: &GroupedPlan) {
        let rollout = plan.base.rollout.clone();
        self.plan_groups("olga", plan).unwrap();
        self.approve_groups("anna", plan).unwrap();
        self.rollouts("olga", RolloutsAction::Start { rollout })
            .unwrap();
        self.run_until_idle();
    }

    pub fn groups(&self, name: &str) -> RolloutGroups {
        rollouts::groups(&self.overlay, &id(name)).unwrap().unwrap()
    }

    /// The status of each group.
    pub fn group_statuses(&self, name: &str) -> Vec<GroupStatus> {
        let groups = self.groups(name).groups;
        groups.iter().map(|group| group.status).collect()
    }

    /// The devices of a group: those that were assigned while it was the last open one.
    pub fn members(&self, name: &str, group: usize) -> Vec<String> {
        let groups = self.groups(name).groups;
        let opened = |at: usize| groups.get(at).and_then(|group| group.opened_height);
        let Some(from) = opened(group) else {
            return Vec::new();
        };
        let until = opened(group + 1).unwrap_or(u64::MAX);
        let all = rollouts::deployments(&self.overlay, &id(name), None, 10_000).unwrap();
        let of_group = all.iter().filter(|d| {
            let at = d.assigned_height;
            from < at && at <= until
        });
        of_group.map(|d| d.device.to_string()).collect()
    }

    /// Puts a later protocol version into force.
    pub fn set_protocol(&mut self, version: u32) {
        let protocol = Protocol {
            version,
            next: None,
        };
        let key = lamplighter_contracts::governance::keys::protocol();
        self.overlay.put(&key, &protocol);
        self.overlay.commit();
    }

    pub fn account(&self, name: &str) -> Account {
        users::account(&self.overlay, &id(name)).unwrap().unwrap()
    }

    /// The proof that an account has a new key.
    pub fn possession(&self, key: &SecretKey, account: &str) -> Signature {
        key.prove(KeyPurpose::Account, &self.chain_id, &id(account))
    }

    pub fn rollout(&self, name: &str) -> Rollout {
        rollouts::rollout(&self.overlay, &id(name))
            .unwrap()
            .unwrap()
    }

    pub fn deployment(&self, rollout: &str, device: &str) -> Option<Deployment> {
        rollouts::deployment(&self.overlay, &id(rollout), &id(device)).unwrap()
    }

    pub fn state_of(&self, rollout: &str, device: &str) -> DeploymentState {
        self.deployment(rollout, device)
            .expect("the device is part of the rollout")
            .state
    }

    pub fn device_state(&self, device: &str) -> DeviceState {
        devices::state(&self.overlay, &id(device)).unwrap().unwrap()
    }

    /// The number of the next report of a device.
    pub fn next_counter(&mut self, device: &str) -> u64 {
        let counter = self.counters.entry(id(device)).or_default();
        *counter += 1;
        *counter
    }

    /// The report that leads to `to`, as the device would make it: the right digest, its next
    /// number, signed if it has a key and must.
    pub fn next_report(
        &mut self,
        rollout: &str,
        device: &str,
        to: DeploymentState,
    ) -> DeploymentReport {
        use DeploymentState::*;
        let from = self.state_of(rollout, device);
        let release = self.rollout(rollout).plan.release;
        let artifact = firmware::release(&self.overlay, &release)
            .unwrap()
            .unwrap()
            .manifest
            .artifact;
        let counter = self.next_counter(device);
        let mut report = DeploymentReport {
            rollout: id(rollout),
            device: id(device),
            from,
            to,
            code: 0,
            digest: matches!(to, Downloaded | Trial | Confirmed | NotNeeded).then_some(artifact),
            seen_height: self.height,
            counter,
            detail: String::new(),
            signature: None,
        };
        let keyed = devices::device(&self.overlay, &id(device))
            .unwrap()
            .unwrap()
            .key
            .is_some();
        if keyed && !matches!(to, Offered | Downloading) {
            report.sign(&self.chain_id, &secret(device));
        }
        report
    }

    /// The Thing reports that it runs the image of a release.
    pub fn inventory(&mut self, device: &str, release: &str) -> Vec<Fact> {
        let mut report = InventoryReport {
            device: id(device),
            version: None,
            digest: Hash::of(release.as_bytes()),
            security_counter: 0,
            counter: self.next_counter(device),
            signature: None,
        };
        report.sign(&self.chain_id, &secret(device));
        let reports = vec![report];
        let action = DevicesAction::ReportInventory { reports };
        self.act("gw-1", Action::Devices(action)).unwrap()
    }

    pub fn send(&mut self, gateway: &str, reports: Vec<DeploymentReport>) -> ActResult {
        self.rollouts(gateway, RolloutsAction::Report { reports })
    }

    /// Reports the step as it should be reported.
    pub fn step(&mut self, rollout: &str, device: &str, to: DeploymentState) -> ActResult {
        let report = self.next_report(rollout, device, to);
        self.send("gw-1", vec![report])
    }

    /// Reports one step after the other.
    pub fn walk(&mut self, rollout: &str, device: &str, steps: &[DeploymentState]) {
        for to in steps {
            self.step(rollout, device, *to)
                .unwrap_or_else(|code| panic!("{device} {to:?}: {code}"));
        }
    }
}

/// From assigned to confirmed.
pub const ALL_THE_WAY: [DeploymentState; 7] = [
    DeploymentState::Offered,
    DeploymentState::Downloading,
    DeploymentState::Downloaded,
    DeploymentState::Installing,
    DeploymentState::Staged,
    DeploymentState::Trial,
    DeploymentState::Confirmed,
];

pub fn lamp(n: usize, district: &str, keyed: bool) -> NewDevice {
    let name = format!("lamp-{n}");
    NewDevice {
        device: id(&name),
        owner: id("city"),
        model: "glow".to_owned(),
        hardware_class: "acme-lamp-v2".to_owned(),
        district: scope(district),
        gateway: Some(id("gw-1")),
        key: keyed.then(|| secret(&name).public()),
        proof: keyed.then(|| {
            let secret = secret(&name);
            secret.prove(KeyPurpose::Device, &the_genesis().chain_id(), &id(&name))
        }),
        tags: vec![Tag {
            name: "ring".to_owned(),
            value: (n % 2).to_string(),
        }],
    }
}

/// `rN` has the version 1.N.0 and the security counter N.
pub fn manifest(release: &str) -> ReleaseManifest {
    let n: u32 = release[1..].parse().unwrap();
    ReleaseManifest {
        release: id(release),
        vendor: id("acme"),
        version: Version {
            major: 1,
            minor: n,
            patch: 0,
        },
        artifact: Hash::of(release.as_bytes()),
        size_bytes: 1000,
        hardware_classes: vec!["acme-lamp-v2".to_owned()],
        security_counter: n.into(),
        replaces_from: None,
        depends_on: Vec::new(),
        expires_ms: None,
        critical: false,
        provenance: None,
    }
}

pub fn list(devices: &[&str]) -> Selection {
    Selection::List {
        devices: devices.iter().map(|device| id(device)).collect(),
    }
}

pub fn whole_city() -> Selection {
    Selection::Filter {
        district: scope(""),
        model: None,
        hardware_class: None,
        tag: None,
    }
}

/// Never pauses, waits an hour for each step.
pub fn plan(rollout: &str, release: &str, selection: Selection) -> RolloutPlan {
    RolloutPlan {
        rollout: id(rollout),
        release: id(release),
        selection,
        error_percent_max: 100,
        error_sample_min: 1,
        deferral: DeferralPolicy {
            count_max: 2,
            total_ms_max: 10 * HOUR_MS,
        },
        timers: StepTimers {
            offer_ms: HOUR_MS,
            download_ms: HOUR_MS,
            install_ms: HOUR_MS,
            trial_ms: HOUR_MS,
        },
        retries_max: 0,
    }
}

/// A gate that wants `percent` of the devices, at least `sample` ends and `hours` of soak.
pub fn gate(percent: u8, sample: u32, hours: u64) -> GroupGate {
    GroupGate {
        success_percent_min: percent,
        sample_min: sample,
        soak_ms: hours * HOUR_MS,
        next_by_hand: false,
    }
}

pub fn group(members: GroupMembers, gate: GroupGate) -> Group {
    Group { members, gate }
}

pub fn canaries(devices: &[&str]) -> GroupMembers {
    GroupMembers::Selected {
        selection: list(devices),
    }
}

/// A plan in groups for the whole city, without limits but that of its base.
pub fn grouped(rollout: &str, groups: Vec<Group>) -> GroupedPlan {
    GroupedPlan {
        base: plan(rollout, "r1", whole_city()),
        groups,
        limits: PauseLimits {
            error_count_max: None,
            silence_percent_max: None,
        },
        retry: RetryPolicy {
            backoff_ms: 0,
            codes: Vec::new(),
        },
        continuous: false,
        stop_ms: None,
    }
}

/// The moves of deployments among facts, as (from, to).
pub fn moves(facts: &[Fact]) -> Vec<(Option<DeploymentState>, DeploymentState)> {
    let moves = facts.iter().filter_map(|fact| match fact {
        Fact::DeploymentMoved {
            rollout: _,
            from,
            to,
            attested: _,
            code: _,
        } => Some((*from, *to)),
        _ => None,
    });
    moves.collect()
}
