//! The changes that `governance propose` proposes.

use std::str::FromStr;

use clap::{Args, Subcommand};
use lamplighter_types::{
    Allowances, ApprovalPolicies, DeviceCounters, GovernanceChange, Id, Observer, Policies,
    PublicKey, Role, Scope, Signature, Validator,
};

use crate::failure::Failure;
use crate::governance;
use crate::keys::{NewKey, grant};
use crate::session::{Session, asking};

#[derive(Debug, Subcommand)]
pub enum ChangeCommand {
    /// An observer: a node that follows. A validator begins as one.
    AddObserver(NewNode),
    /// A validator: a node that orders and signs. An observer with the same id and key becomes one.
    AddValidator(NewNode),
    /// An observer that leaves.
    RemoveObserver { node: u64 },
    /// A validator that leaves; the validators before the change must certify it.
    RemoveValidator { node: u64 },
    /// Numbers of approvals, times and allowances; an omitted one stays as it is when the proposal
    /// is made.
    SetPolicies(NewPolicies),
    /// Other rules of execution from a block on, which every node must know by then.
    SetProtocol {
        #[arg(long)]
        version: u32,
        /// The first block under them, or `+100` for so many blocks after the newest one.
        #[arg(long)]
        from_height: FromHeight,
    },
    /// A new user with roles.
    Register {
        account: Id,
        #[arg(long)]
        organization: Id,
        #[arg(long)]
        name: String,
        #[command(flatten)]
        key: NewKey,
        /// e.g. `approver`, `vendor@north`; may be given several times.
        #[arg(long = "role")]
        roles: Vec<String>,
    },
    /// A role, e.g. `approver`, `vendor@north`; without a district for the whole city.
    Grant { account: Id, role: String },
    /// A role that an account loses.
    Revoke { account: Id, role: String },
    /// An account that can do nothing any more.
    Disable { account: Id },
    /// A disabled account that acts again.
    Enable { account: Id },
    /// A new key for an account that lost its keys; all others are revoked.
    Recover {
        account: Id,
        #[command(flatten)]
        key: NewKey,
    },
    /// Other counters of a device, e.g. after its electronics were exchanged.
    ResetDevice(NewCounters),
    /// Another key of a device.
    ReplaceDeviceKey {
        device: Id,
        #[command(flatten)]
        key: NewKey,
    },
    /// The key of a decommissioned device may be registered under another id.
    ReuseHardware { device: Id },
}

#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = true)]
pub struct NewPolicies {
    /// Approvals of a release by others than its author.
    #[arg(long)]
    releases: Option<u8>,
    /// Approvals of a rollout's plan by others than its author.
    #[arg(long)]
    rollouts: Option<u8>,
    /// Administrators who must approve a role of power, or that an account is enabled.
    #[arg(long)]
    power: Option<u8>,
    /// Administrators who must approve the recovery of an account.
    #[arg(long)]
    recovery: Option<u8>,
    /// Administrators who must approve a change of the nodes.
    #[arg(long)]
    validators: Option<u8>,
    /// Administrators who must approve other policies or another protocol version.
    #[arg(long)]
    policies: Option<u8>,
    /// Administrators who must approve the reset or a new key of a device.
    #[arg(long)]
    devices: Option<u8>,
    /// Milliseconds from the grant of a role to the first approval that counts by it.
    #[arg(long)]
    newcomer_wait_ms: Option<u64>,
    /// New records that a user may make in a day of block time, e.g. six for each device that is
    /// registered.
    #[arg(long)]
    user_records: Option<u64>,
    /// Bytes that a user may add to the state in a day.
    #[arg(long)]
    user_bytes: Option<u64>,
    /// New records that a gateway may make in a day.
    #[arg(long)]
    gateway_records: Option<u64>,
    /// Bytes that a gateway may add to the state in a day.
    #[arg(long)]
    gateway_bytes: Option<u64>,
    /// New records that a node may make in a day, for those that it relays.
    #[arg(long)]
    node_records: Option<u64>,
    /// Bytes that a node may add to the state in a day.
    #[arg(long)]
    node_bytes: Option<u64>,
    /// Milliseconds after which an approval no longer counts, e.g. `releases=2592000000`; the kinds
    /// are those above. May be given several times.
    #[arg(long = "expires-ms", value_name = "KIND=MS")]
    expires_ms: Vec<Expiry>,
    /// Milliseconds after which a release lapses that nobody approves.
    #[arg(long)]
    open_release_ms: Option<u64>,
    /// Milliseconds after which a plan lapses that nobody starts.
    #[arg(long)]
    open_plan_ms: Option<u64>,
    /// Milliseconds from the end of a release to the collection of its bytes.
    #[arg(long)]
    ended_release_ms: Option<u64>,
}

/// The expiry of the approvals of one kind.
#[derive(Clone, Debug)]
pub struct Expiry {
    kind: String,
    ms: u64,
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kinds = ApprovalPolicies::default().named().map(|(name, _)| name);
        let (kind, ms) = text
            .split_once('=')
            .ok_or("write KIND=MS, e.g. releases=2592000000")?;
        if !kinds.contains(&kind) {
            return Err(format!("the kinds are {}", kinds.join(", ")));
        }
        let ms = ms.parse().map_err(|_| "MS is a whole number")?;
        let kind = kind.to_owned();
        Ok(Self { kind, ms })
    }
}

/// A height, or so many blocks after the newest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromHeight {
    Block(u64),
    After(u64),
}

impl FromStr for FromHeight {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let read = match text.strip_prefix('+') {
            Some(blocks) => blocks.parse().map(Self::After),
            None => text.parse().map(Self::Block),
        };
        read.map_err(|_| "write the number of a block, or +100 for blocks after the newest one")
    }
}

impl FromHeight {
    async fn at(self, session: &Session) -> Result<u64, Failure> {
        match self {
            Self::Block(height) => Ok(height),
            Self::After(blocks) => {
                let newest = session.client.status().await.map_err(asking)?.height;
                Ok(newest.saturating_add(blocks))
            }
        }
    }
}

impl NewPolicies {
    fn over(&self, mut now: Policies) -> Policies {
        let Self {
            releases,
            rollouts,
            power,
            recovery,
            validators,
            policies,
            devices,
            newcomer_wait_ms,
            user_records,
            user_bytes,
            gateway_records,
            gateway_bytes,
            node_records,
            node_bytes,
            expires_ms,
            open_release_ms,
            open_plan_ms,
            ended_release_ms,
        } = self;
        let kinds = &mut now.approvals;
        for (name, policy, approvals) in [
            ("releases", &mut kinds.releases, releases),
            ("rollouts", &mut kinds.rollouts, rollouts),
            ("power", &mut kinds.power, power),
            ("recovery", &mut kinds.recovery, recovery),
            ("validators", &mut kinds.validators, validators),
            ("policies", &mut kinds.policies, policies),
            ("devices", &mut kinds.devices, devices),
        ] {
            policy.approvals = approvals.unwrap_or(policy.approvals);
            let expiry = expires_ms.iter().rfind(|expiry| expiry.kind == name);
            policy.expires_ms = expiry.map_or(policy.expires_ms, |expiry| expiry.ms);
        }
        let kept = &mut now.retention;
        for (time_ms, wanted) in [
            (&mut kept.open_release_ms, open_release_ms),
            (&mut kept.open_plan_ms, open_plan_ms),
            (&mut kept.ended_release_ms, ended_release_ms),
        ] {
            *time_ms = wanted.unwrap_or(*time_ms);
        }
        now.newcomer_wait_ms = newcomer_wait_ms.unwrap_or(now.newcomer_wait_ms);
        let Allowances {
            users,
            gateways,
            nodes,
        } = &mut now.allowances;
        for (allowance, records, bytes) in [
            (users, user_records, user_bytes),
            (gateways, gateway_records, gateway_bytes),
            (nodes, node_records, node_bytes),
        ] {
            allowance.records = records.unwrap_or(allowance.records);
            allowance.bytes = bytes.unwrap_or(allowance.bytes);
        }
        now
    }
}

#[derive(Clone, Debug, Args)]
pub struct NewCounters {
    device: Id,
    /// The highest report counter used.
    #[arg(long)]
    report_counter: Option<u64>,
    /// The security counter below which no release is installed.
    #[arg(long)]
    security_counter: Option<u64>,
    /// The highest sequence number of its events.
    #[arg(long)]
    event_sequence: Option<u64>,
}

/// The new node, as `node join` prints it.
#[derive(Clone, Debug, Args)]
pub struct NewNode {
    /// An id that no node ever had.
    #[arg(long)]
    pub node: u64,
    #[arg(long = "public-key")]
    pub public_key: PublicKey,
    /// The new key's proof of possession.
    #[arg(long)]
    pub proof: Signature,
    /// Where the other nodes reach it, host:port.
    #[arg(long)]
    pub address: String,
}

impl NewNode {
    /// The account of every node that is added after genesis.
    pub fn account(node: u64) -> Result<Id, Failure> {
        Id::new(format!("node-{node}")).map_err(Failure::during("the account of the node"))
    }

    pub fn observer(&self) -> Result<GovernanceChange, Failure> {
        let observer = Observer {
            node: self.node,
            account: Self::account(self.node)?,
            key: self.public_key,
            address: self.address.clone(),
        };
        let proof = self.proof;
        Ok(GovernanceChange::AddObserver { observer, proof })
    }

    pub fn validator(&self) -> Result<GovernanceChange, Failure> {
        let validator = Validator {
            node: self.node,
            account: Self::account(self.node)?,
            key: self.public_key,
            address: self.address.clone(),
        };
        let proof = self.proof;
        Ok(GovernanceChange::AddValidator { validator, proof })
    }
}

impl ChangeCommand {
    pub async fn changes(self, session: &Session) -> Result<Vec<GovernanceChange>, Failure> {
        let change = match self {
            Self::AddObserver(new) => new.observer()?,
            Self::AddValidator(new) => new.validator()?,
            Self::RemoveObserver { node } => GovernanceChange::RemoveObserver { node },
            Self::RemoveValidator { node } => GovernanceChange::RemoveValidator { node },
            Self::SetPolicies(new) => GovernanceChange::SetPolicies {
                policies: new.over(governance::policies(session).await?),
            },
            Self::SetProtocol {
                version,
                from_height,
            } => GovernanceChange::SetProtocol {
                version,
                from_height: from_height.at(session).await?,
            },
            Self::Register {
                account,
                organization,
                name,
                key,
                roles,
            } => return register(account, organization, name, &key, &roles),
            Self::Grant { account, role } => grant_change(account, &role)?,
            Self::Revoke { account, role } => {
                let (role, scope) = role_of(&role)?;
                GovernanceChange::Revoke {
                    account,
                    role,
                    scope,
                }
            }
            Self::Disable { account } => GovernanceChange::Disable { account },
            Self::Enable { account } => GovernanceChange::Enable { account },
            Self::Recover { account, key } => GovernanceChange::Recover {
                account,
                new_key: key.public_key,
                proof: key.proof,
            },
            Self::ResetDevice(new) => new.change(),
            Self::ReplaceDeviceKey { device, key } => GovernanceChange::ReplaceDeviceKey {
                device,
                key: key.public_key,
                proof: key.proof,
            },
            Self::ReuseHardware { device } => GovernanceChange::ReuseHardware { device },
        };
        Ok(vec![change])
    }
}

impl NewCounters {
    fn change(self) -> GovernanceChange {
        let Self {
            device,
            report_counter,
            security_counter,
            event_sequence,
        } = self;
        let counters = DeviceCounters {
            report_counter,
            security_counter,
            event_sequence,
        };
        GovernanceChange::ResetDevice { device, counters }
    }
}

fn register(
    account: Id,
    organization: Id,
    name: String,
    key: &NewKey,
    roles: &[String],
) -> Result<Vec<GovernanceChange>, Failure> {
    let mut changes = vec![GovernanceChange::RegisterUser {
        account: account.clone(),
        organization,
        name,
        key: key.public_key,
        proof: key.proof,
    }];
    for role in roles {
        changes.push(grant_change(account.clone(), role)?);
    }
    Ok(changes)
}

fn grant_change(account: Id, role: &str) -> Result<GovernanceChange, Failure> {
    let (role, scope) = role_of(role)?;
    Ok(GovernanceChange::Grant {
        account,
        role,
        scope,
    })
}

fn role_of(text: &str) -> Result<(Role, Scope), Failure> {
    let grant = grant(text)?;
    Ok((grant.role, grant.scope))
}
