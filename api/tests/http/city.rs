//! A city with accounts of each role, and with records of each kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use lamplighter_ledger::{LedgerConfig, SystemClock};
use lamplighter_types::{
    Action, AlarmChange, ConfigAction, ConfigTarget, ConsentChoice, ConsentDecision, ConsentFrom,
    DeferralPolicy, DeploymentReport, DeploymentState, DeviceEvent, DevicesAction, Encoding,
    EventsAction, FirmwareAction, GenesisAccount, GovernanceAction, GovernanceChange, Grant, Group,
    GroupGate, GroupMembers, GroupedPlan, GuardedPlan, Hash, Id, InstallRules, KeyPurpose,
    PauseLimits, ReleaseManifest, RetryPolicy, Role, RolloutPlan, RolloutsAction, Scope, SecretKey,
    Selection, Severity, SignedRelease, SignedTransaction, StepTimers, Transaction, UsersAction,
    codec,
};
use reqwest::Method;
use serde_json::Value;

use crate::artifacts::upload;
use crate::node::{Answer, Node, STEP_TIMEOUT, admin, genesis, id, now_ms};

/// The accounts of the tests with their role and district.
pub const PEOPLE: [(&str, Option<(Role, &str)>); 9] = [
    ("auditor", Some((Role::Auditor, "city"))),
    ("north-auditor", Some((Role::Auditor, "city/north"))),
    ("north", Some((Role::Operator, "city/north"))),
    ("south", Some((Role::Approver, "city/south"))),
    ("vendor", Some((Role::Vendor, "city"))),
    ("maker", Some((Role::Vendor, "city"))),
    ("nobody", None),
    ("pia", Some((Role::Approver, "city"))),
    ("ben", Some((Role::Administrator, "city"))),
];
const GATEWAYS: [(&str, &str, &str); 2] =
    [("gw", "north", "lamp-1"), ("gw-south", "south", "lamp-2")];

pub fn secret(name: &str) -> SecretKey {
    let mut seed = [9; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    SecretKey::from_seed(seed)
}

fn scope(name: &str) -> Scope {
    match name {
        "city" => Scope::city(),
        district => district["city/".len()..].parse().unwrap(),
    }
}

pub struct City {
    pub node: Node,
    pub tokens: BTreeMap<&'static str, String>,
}

/// Records of which each kind has one.
pub struct Samples {
    /// A transaction of the administrator.
    transaction: String,
    artifact: Hash,
    /// The block of an event.
    event_height: u64,
}

impl Samples {
    /// The path of a route, for a record that exists.
    pub fn fill(&self, path: &str) -> String {
        let (artifact, height) = (self.artifact.to_string(), self.event_height.to_string());
        let parts = [
            ("{account}", "gw"),
            ("{device}", "lamp-1"),
            ("{height}", &*height),
            ("{index}", "0"),
            ("{sequence}", "1"),
            ("{release}", "r-1"),
            ("{rollout}", "ro-1"),
            ("{proposal}", "p-1"),
            ("{digest}", &*artifact),
            ("{hash}", &*self.transaction),
        ];
        let filled = parts.iter().fold(path.to_owned(), |text, (name, value)| {
            text.replace(name, value)
        });
        assert!(!filled.contains('{'), "a sample for {filled}");
        filled
    }
}

impl City {
    /// Two districts with a lamp and a gateway each.
    pub async fn start() -> Self {
        let mut genesis = genesis();
        // So that a proposal stays open.
        genesis.policies.approvals.power.approvals = 2;
        for (name, role) in PEOPLE {
            let grants = role.map(|(role, district)| Grant::founding(role, scope(district)));
            genesis.accounts.push(GenesisAccount {
                account: id(name),
                name: name.to_owned(),
                key: secret(name).public(),
                grants: grants.into_iter().collect(),
            });
        }
        let reader = (id("admin"), admin());
        let clock = Arc::new(SystemClock);
        let node = Node::start_in(LedgerConfig::new(1), genesis, clock, reader).await;
        let chain_id = node.genesis.chain_id();
        for (gateway, district, lamp) in GATEWAYS {
            let register = UsersAction::RegisterGateway {
                account: id(gateway),
                organization: id("city"),
                district: district.parse().unwrap(),
                key: secret(gateway).public(),
                proof: secret(gateway).prove(KeyPurpose::Account, &chain_id, &id(gateway)),
            };
            node.act(Action::Users(register)).await;
            node.act(node.devices(&[lamp], district)).await;
            let (device, gateway) = (id(lamp), Some(id(gateway)));
            let assign = DevicesAction::AssignGateway { device, gateway };
            node.act(Action::Devices(assign)).await;
        }
        let mut tokens = BTreeMap::new();
        let people = PEOPLE.iter().map(|(name, _)| *name);
        for name in people.chain(GATEWAYS.map(|(name, ..)| name)) {
            tokens.insert(name, node.login(&id(name), &secret(name)).await);
        }
        Self { node, tokens }
    }

    pub async fn get(&self, account: &str, path: &str) -> Answer {
        let request = self.node.open(Method::GET, path);
        let sent = request.bearer_auth(&self.tokens[account]).send();
        Answer::of(sent.await.unwrap()).await
    }

    /// The values of a field of the items of a list.
    pub async fn names(&self, account: &str, path: &str, field: &[&str]) -> Vec<String> {
        let list = self.get(account, path).await.ok();
        let name = |item: &Value| {
            let value = field.iter().fold(item, |value, name| &value[*name]);
            value.as_str().unwrap().to_owned()
        };
        list["items"].as_array().unwrap().iter().map(name).collect()
    }

    /// Submits an action of an account; its sequence numbers are counted by the caller.
    async fn act_as(&self, name: &str, sequence: u64, action: Action) -> Value {
        let transaction = Transaction {
            sender: id(name),
            sequence,
            expires_ms: now_ms() + 600_000,
            action,
        };
        let chain_id = self.node.genesis.chain_id();
        let signed =
            SignedTransaction::sign(&transaction, Encoding::Json, &chain_id, &secret(name));
        self.node.submit(&signed, "").await.ok()
    }

    pub async fn must_act(&self, name: &str, sequence: u64, action: Action) -> Value {
        let answer = self.act_as(name, sequence, action).await;
        assert_eq!(answer["receipt"]["outcome"], "succeeded", "{answer}");
        answer
    }

    /// Makes what there is to read: for each lamp a release of another vendor, a rollout with its
    /// deployment, documents, and an alarm; and an open proposal.
    pub async fn furnish(&self) -> Samples {
        let artifact = upload(&self.node, b"the image of both vendors").await;
        let mut event_height = 0;
        for (number, vendor) in [(1, "vendor"), (2, "maker")] {
            self.release(number, vendor, artifact).await;
            self.rollout(number).await;
            let (gateway, district, lamp) = GATEWAYS[number as usize - 1];
            for target in [
                ConfigTarget::District {
                    district: district.parse().unwrap(),
                },
                ConfigTarget::Device { device: id(lamp) },
            ] {
                self.configure(target).await;
            }
            let event = DeviceEvent {
                device: id(lamp),
                sequence: 1,
                time_ms: now_ms(),
                kind: "lampFailure".to_owned(),
                severity: Severity::Major,
                alarm: AlarmChange::Raise,
                data: String::new(),
                signature: None,
            };
            let events = EventsAction::Append {
                events: vec![event],
            };
            let answer = self.must_act(gateway, 1, Action::Events(events)).await;
            if number == 1 {
                event_height = answer["height"].as_u64().unwrap();
            }
        }
        self.configure(ConfigTarget::Fleet).await;
        // Carried out, it is in the history of the ledger itself.
        let mut policies = self.node.genesis.policies;
        policies.newcomer_wait_ms = 1_000;
        let changes = vec![GovernanceChange::SetPolicies { policies }];
        let approve = GovernanceAction::Approve {
            proposal: id("p-0"),
            changes: GovernanceChange::digest(&changes),
        };
        let propose = GovernanceAction::Propose {
            proposal: id("p-0"),
            changes,
        };
        self.node.act(Action::Governance(propose)).await;
        self.must_act("ben", 1, Action::Governance(approve)).await;
        let grant = GovernanceChange::Grant {
            account: id("nobody"),
            role: Role::Approver,
            scope: scope("city/north"),
        };
        let propose = GovernanceAction::Propose {
            proposal: id("p-1"),
            changes: vec![grant],
        };
        let proposed = self.node.act(Action::Governance(propose)).await;
        Samples {
            transaction: proposed["transaction"].as_str().unwrap().to_owned(),
            artifact,
            event_height,
        }
    }

    /// Puts the next protocol version into force.
    async fn raise_protocol(&self, version: u32) {
        let changes = vec![GovernanceChange::SetProtocol {
            version,
            from_height: self.node.handle.head().height + 2,
        }];
        let propose = GovernanceAction::Propose {
            proposal: id(&format!("p-{version}")),
            changes,
        };
        self.node.act(Action::Governance(propose)).await;
        // A block of the new version.
        let model = format!("other-{version}");
        self.configure(ConfigTarget::Model { model }).await;
    }

    /// Rolls out in one group with guards, which the third protocol version has, to a lamp whose
    /// owner consents; returns the name of the rollout.
    pub async fn roll_out_with_consent(&self) -> Id {
        self.raise_protocol(2).await;
        self.raise_protocol(3).await;
        let cancel = RolloutsAction::Cancel {
            rollout: id("ro-1"),
            reason: String::new(),
        };
        self.node.act(Action::Rollouts(cancel)).await;
        let mut base = plan(3, "lamp-1");
        base.release = id("r-1");
        let gate = GroupGate {
            success_percent_min: 95,
            sample_min: 1,
            soak_ms: 0,
            next_by_hand: false,
        };
        let members = GroupMembers::Rest;
        let name = base.rollout.clone();
        let plan = GroupedPlan {
            base,
            groups: vec![Group { members, gate }],
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
        };
        let rules = InstallRules {
            windows: Vec::new(),
            consent: vec![ConsentFrom::Owner],
            wait_ms_max: 604_800_000,
        };
        let plan = GuardedPlan { plan, rules };
        let digest = codec::digest(&plan);
        let plan = Box::new(plan);
        self.begin(3, digest, RolloutsAction::PlanGuarded { plan })
            .await;
        self.consent(&name).await;
        name
    }

    /// The gateway offers the release to its lamp, and the owner consents.
    async fn consent(&self, rollout: &Id) {
        let report = DeploymentReport {
            rollout: rollout.clone(),
            device: id("lamp-1"),
            from: DeploymentState::Assigned,
            to: DeploymentState::Offered,
            code: 0,
            digest: None,
            seen_height: 0,
            counter: 1,
            detail: String::new(),
            signature: None,
        };
        let reports = vec![report];
        let report = Action::Rollouts(RolloutsAction::Report { reports });
        self.must_act("gw", 2, report).await;
        let decision = ConsentDecision {
            rollout: rollout.clone(),
            device: id("lamp-1"),
            decision: ConsentChoice::Granted {
                until_ms: now_ms() + 86_400_000,
            },
            reason: "asked at the door".to_owned(),
        };
        let consent = RolloutsAction::Consent(decision);
        self.node.act(Action::Rollouts(consent)).await;
    }

    async fn configure(&self, target: ConfigTarget) {
        let set = ConfigAction::SetDesired {
            target,
            document: r#"{"dim":40}"#.to_owned(),
            replaces_version: 0,
        };
        self.node.act(Action::Config(set)).await;
    }

    /// Publishes a release, and has it approved when the node has its bytes.
    async fn release(&self, number: u64, vendor: &str, artifact: Hash) {
        let manifest = ReleaseManifest {
            release: id(&format!("r-{number}")),
            vendor: id(vendor),
            version: "2.0.0".parse().unwrap(),
            artifact,
            size_bytes: b"the image of both vendors".len() as u64,
            hardware_classes: vec!["lamp-v1".to_owned()],
            security_counter: 1,
            replaces_from: None,
            depends_on: Vec::new(),
            expires_ms: None,
            critical: false,
            provenance: None,
        };
        let release = SignedRelease::sign(&manifest, &secret(vendor));
        let approve = FirmwareAction::Approve {
            release: manifest.release,
            manifest: release.manifest_digest(),
        };
        let publish = FirmwareAction::Publish { release };
        self.must_act(vendor, 1, Action::Firmware(publish)).await;
        let begun = std::time::Instant::now();
        for sequence in number * 1_000.. {
            let answer = self.act_as("pia", sequence, Action::Firmware(approve.clone()));
            let answer = answer.await;
            if answer["receipt"]["outcome"] == "succeeded" {
                break;
            }
            // The node reports that it holds the bytes in a block of its own.
            assert!(begun.elapsed() < STEP_TIMEOUT, "{answer}");
            let height = answer["height"].as_u64().unwrap() + 1;
            self.node
                .handle
                .wait_height(height, STEP_TIMEOUT)
                .await
                .unwrap();
        }
    }

    /// Rolls a release out to one lamp, until it has its deployment.
    async fn rollout(&self, number: u64) {
        let lamp = format!("lamp-{number}");
        let plan = plan(number, &lamp);
        let digest = codec::digest(&plan);
        self.begin(number, digest, RolloutsAction::Plan { plan })
            .await;
    }

    /// Plans, approves and starts a rollout to one lamp, and waits until that has its deployment.
    async fn begin(&self, number: u64, plan: Hash, planned: RolloutsAction) {
        let rollout = id(&format!("ro-{number}"));
        let lamp = if number == 2 { "lamp-2" } else { "lamp-1" };
        let approve = RolloutsAction::Approve {
            rollout: rollout.clone(),
            plan,
        };
        self.node.act(Action::Rollouts(planned)).await;
        let sequence = number * 1_000 + 900;
        self.must_act("pia", sequence, Action::Rollouts(approve))
            .await;
        let start = RolloutsAction::Start {
            rollout: rollout.clone(),
        };
        self.node.act(Action::Rollouts(start)).await;
        let path = format!("/v1/deployments/{rollout}/{lamp}");
        let begun = std::time::Instant::now();
        while self.node.get(&path).await.status != 200 {
            assert!(begun.elapsed() < STEP_TIMEOUT, "never: {path}");
            let height = self.node.handle.head().height + 1;
            self.node
                .handle
                .wait_height(height, STEP_TIMEOUT)
                .await
                .unwrap();
        }
    }
}

fn plan(number: u64, lamp: &str) -> RolloutPlan {
    RolloutPlan {
        rollout: id(&format!("ro-{number}")),
        release: id(&format!("r-{number}")),
        selection: Selection::List {
            devices: vec![id(lamp)],
        },
        error_percent_max: 5,
        error_sample_min: 20,
        deferral: DeferralPolicy {
            count_max: 3,
            total_ms_max: 604_800_000,
        },
        timers: StepTimers {
            offer_ms: 86_400_000,
            download_ms: 86_400_000,
            install_ms: 3_600_000,
            trial_ms: 3_600_000,
        },
        retries_max: 2,
    }
}
