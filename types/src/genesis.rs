//! The genesis file: the first state of a ledger and the root of trust. A program that has this
//! file can check everything that follows.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::limits::{
    GRANTS_PER_ACCOUNT_MAX, NUMBER_MAX, SMALL_LIST_MAX, TEXT_BYTES_MAX, VALIDATORS_MAX,
};
use crate::record::{ApprovalPolicy, Policies, PolicyError};
use crate::{Grant, Hash, Id, PublicKey, Role, Scope, Validator, ValidatorSet, is_unseen};

/// Version of the formats of a ledger: of its genesis file and of all that follows from it.
pub const GENESIS_VERSION: u32 = 2;

/// The genesis file (JSON). Its digest is the chain id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Genesis {
    /// [`GENESIS_VERSION`].
    pub version: u32,
    /// Name for people, e.g. `Harbour City`.
    pub name: String,
    pub created_ms: u64,
    pub validators: ValidatorSet,
    /// The organization of the accounts below.
    pub organization: Id,
    pub accounts: Vec<GenesisAccount>,
    pub policies: Policies,
}

/// A first user. At least one is an administrator of the whole city.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GenesisAccount {
    pub account: Id,
    pub name: String,
    pub key: PublicKey,
    pub grants: Vec<Grant>,
}

/// Why a genesis file can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GenesisError {
    #[error("the file has version {0}, this program reads version {GENESIS_VERSION}")]
    Version(u32),
    #[error("a ledger has 1 to {VALIDATORS_MAX} validators, not {0}")]
    ValidatorCount(usize),
    #[error("validators must be in the order of their node ids, each once: {after} follows {node}")]
    Order { node: u64, after: u64 },
    #[error("the node id {0} is above {NUMBER_MAX} (2^53 - 1)")]
    Node(u64),
    #[error("the account {account} is there twice: of {first} and of {second}")]
    SameAccount {
        account: Id,
        first: String,
        second: String,
    },
    #[error("the key {key} is there twice: of {first} and of {second}")]
    SameKey {
        key: PublicKey,
        first: String,
        second: String,
    },
    #[error("node {first} and node {second} have the same address {address}")]
    SameAddress {
        address: String,
        first: u64,
        second: u64,
    },
    #[error("the address {address:?} of node {node} is not of the form host:port")]
    Address { node: u64, address: String },
    #[error("at most {SMALL_LIST_MAX} first accounts, not {0}")]
    AccountCount(usize),
    #[error("the key {key} of {of} is no usable ed25519 key")]
    Key { key: PublicKey, of: String },
    #[error("no account is an administrator of the whole city")]
    NoAdministrator,
    #[error("the name of {of} must be one line of 1 to {TEXT_BYTES_MAX} bytes")]
    Name { of: String },
    #[error("{account} has {got} roles, more than the {GRANTS_PER_ACCOUNT_MAX} allowed")]
    Grants { account: Id, got: usize },
    #[error("a role of {account} has since_ms {since_ms}, in a genesis file it is 0")]
    Since { account: Id, since_ms: u64 },
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// A part of a genesis file that is valid, and that the founders may not have meant.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GenesisWarning {
    #[error("{0} has no role: it can do nothing until an administrator grants it one")]
    NoRole(Id),
    #[error(
        "the policy {policy} wants {wanted} to approve, and the file has {have} with the role \
         {role}: nothing is ever approved by it until there are more"
    )]
    TooFewPeople {
        policy: &'static str,
        wanted: u8,
        have: usize,
        role: &'static str,
    },
    #[error(
        "{have} administrators of the whole city, and {wanted} must agree: when one loses a key or \
         has it stolen, nobody can be appointed or recovered any more"
    )]
    NoSpare { have: usize, wanted: u8 },
    #[error("the policy {policy} wants one to approve: one stolen key is enough")]
    OneApproval { policy: &'static str },
    #[error(
        "{power} people can appoint administrators, and the policy {policy} wants {wanted}: those \
         {power} can appoint the missing ones"
    )]
    WeakPower {
        policy: &'static str,
        wanted: u8,
        power: u8,
    },
    #[error("newcomers do not wait: nobody has the time to stop a false one")]
    NoWait,
    #[error(
        "the address {address} of node {node} leads each machine to itself: no other reaches it"
    )]
    Local { node: u64, address: String },
    #[error("{nodes} nodes: when one is down, nothing is committed; four go on without one")]
    NoneDown { nodes: usize },
    #[error(
        "{nodes} nodes go on without one, but a single liar can get two blocks certified that \
         contradict each other; four withstand one"
    )]
    NoLiar { nodes: usize },
    #[error("{nodes} nodes withstand no more faults than four: take four, or seven")]
    NoBetter { nodes: usize },
}

/// The text that names a node of the file in an error.
fn node(validator: &Validator) -> String {
    format!("node {}", validator.node)
}

fn user(account: &GenesisAccount) -> String {
    format!("the user {}", account.account)
}

/// Whether an address leads to the machine that uses it.
fn is_local(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_local = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_local)
}

impl Genesis {
    pub fn chain_id(&self) -> Hash {
        codec::digest(self)
    }

    /// Checks what execution and the network rely on.
    ///
    /// # Errors
    /// The first fault, with the names that it is about.
    pub fn check(&self) -> Result<(), GenesisError> {
        if self.version != GENESIS_VERSION {
            return Err(GenesisError::Version(self.version));
        }
        if self.name.len() > TEXT_BYTES_MAX {
            let of = "the city".to_owned();
            return Err(GenesisError::Name { of });
        }
        self.check_validators()?;
        self.check_accounts()?;
        self.check_names()?;
        self.policies.check()?;
        match self.administrators() {
            0 => Err(GenesisError::NoAdministrator),
            _ => Ok(()),
        }
    }

    fn check_validators(&self) -> Result<(), GenesisError> {
        let validators = &self.validators.validators;
        if validators.is_empty() || validators.len() > VALIDATORS_MAX {
            return Err(GenesisError::ValidatorCount(validators.len()));
        }
        for pair in validators.windows(2) {
            let (node, after) = (pair[0].node, pair[1].node);
            if node >= after {
                return Err(GenesisError::Order { node, after });
            }
        }
        if let Some(last) = validators.last().filter(|last| last.node > NUMBER_MAX) {
            return Err(GenesisError::Node(last.node));
        }
        let mut addresses = BTreeMap::new();
        for Validator { node, address, .. } in validators {
            let (second, address) = (*node, address.clone());
            if !Validator::is_address(&address) {
                return Err(GenesisError::Address {
                    node: second,
                    address,
                });
            }
            if let Some(first) = addresses.insert(address.clone(), second) {
                return Err(GenesisError::SameAddress {
                    address,
                    first,
                    second,
                });
            }
        }
        Ok(())
    }

    fn check_accounts(&self) -> Result<(), GenesisError> {
        if self.accounts.len() > SMALL_LIST_MAX {
            return Err(GenesisError::AccountCount(self.accounts.len()));
        }
        for account in &self.accounts {
            let name = &account.name;
            let is_line = !name.is_empty() && !name.chars().any(is_unseen);
            if !is_line || name.len() > TEXT_BYTES_MAX {
                let of = user(account);
                return Err(GenesisError::Name { of });
            }
            let got = account.grants.len();
            if got > GRANTS_PER_ACCOUNT_MAX {
                let account = account.account.clone();
                return Err(GenesisError::Grants { account, got });
            }
            if let Some(grant) = account.grants.iter().find(|grant| grant.since_ms != 0) {
                let (account, since_ms) = (account.account.clone(), grant.since_ms);
                return Err(GenesisError::Since { account, since_ms });
            }
        }
        Ok(())
    }

    /// Checks that each account and key belongs to one node or user.
    fn check_names(&self) -> Result<(), GenesisError> {
        let validators = self.validators.validators.iter();
        let nodes = validators.map(|v| (&v.account, v.key, node(v)));
        let users = self.accounts.iter().map(|a| (&a.account, a.key, user(a)));
        let (mut accounts, mut keys) = (BTreeMap::new(), BTreeMap::new());
        for (account, key, second) in nodes.chain(users) {
            if !key.is_acceptable() {
                return Err(GenesisError::Key { key, of: second });
            }
            if let Some(first) = accounts.insert(account, second.clone()) {
                let account = account.clone();
                return Err(GenesisError::SameAccount {
                    account,
                    first,
                    second,
                });
            }
            if let Some(first) = keys.insert(key, second.clone()) {
                return Err(GenesisError::SameKey { key, first, second });
            }
        }
        Ok(())
    }

    fn with_role(&self, role: Role) -> impl Iterator<Item = &GenesisAccount> {
        let has = move |a: &&GenesisAccount| a.grants.iter().any(|grant| grant.role == role);
        self.accounts.iter().filter(has)
    }

    /// Number of administrators of the whole city.
    fn administrators(&self) -> usize {
        let city = Grant::founding(Role::Administrator, Scope::city());
        let administers = |a: &&GenesisAccount| a.grants.contains(&city);
        self.accounts.iter().filter(administers).count()
    }

    /// The points that the founders should look at before they begin.
    pub fn warnings(&self) -> Vec<GenesisWarning> {
        let idle = self.accounts.iter().filter(|a| a.grants.is_empty());
        let idle = idle.map(|a| GenesisWarning::NoRole(a.account.clone()));
        let mut warnings: Vec<_> = idle.collect();
        warnings.extend(self.node_warnings());
        warnings.extend(self.people_warnings());
        warnings.extend(self.policy_warnings());
        warnings
    }

    fn node_warnings(&self) -> Vec<GenesisWarning> {
        let validators = &self.validators.validators;
        let local = validators.iter().filter(|v| is_local(&v.address));
        let mut warnings: Vec<_> = local
            .map(|Validator { node, address, .. }| GenesisWarning::Local {
                node: *node,
                address: address.clone(),
            })
            .collect();
        // A ledger on one machine, to try it.
        if warnings.len() == validators.len() {
            warnings.clear();
        }
        let nodes = validators.len();
        warnings.extend(match nodes {
            2 => Some(GenesisWarning::NoneDown { nodes }),
            3 => Some(GenesisWarning::NoLiar { nodes }),
            5 | 6 => Some(GenesisWarning::NoBetter { nodes }),
            _ => None,
        });
        warnings
    }

    fn people_warnings(&self) -> Vec<GenesisWarning> {
        let approvers = self.with_role(Role::Approver).count();
        let administrators = self.administrators();
        let mut warnings = Vec::new();
        for (policy, ApprovalPolicy { approvals, .. }) in self.policies.approvals.named() {
            let wanted = approvals;
            let (have, role) = match policy {
                "releases" | "rollouts" => (approvers, "approver"),
                _ => (administrators, "administrator of the whole city"),
            };
            if have < usize::from(wanted) {
                warnings.push(GenesisWarning::TooFewPeople {
                    policy,
                    wanted,
                    have,
                    role,
                });
            }
        }
        let wanted = self.policies.approvals.administrators();
        let have = administrators;
        if have == usize::from(wanted) {
            warnings.push(GenesisWarning::NoSpare { have, wanted });
        }
        warnings
    }

    fn policy_warnings(&self) -> Vec<GenesisWarning> {
        let Policies {
            approvals,
            newcomer_wait_ms,
            allowances: _,
            retention: _,
        } = &self.policies;
        let power = approvals.power.approvals;
        let mut warnings = Vec::new();
        for (policy, ApprovalPolicy { approvals, .. }) in approvals.named() {
            let wanted = approvals;
            // One approver is enough for a rollout of what two have released.
            if wanted == 1 && policy != "rollouts" {
                warnings.push(GenesisWarning::OneApproval { policy });
            }
            if wanted > power {
                warnings.push(GenesisWarning::WeakPower {
                    policy,
                    wanted,
                    power,
                });
            }
        }
        if *newcomer_wait_ms == 0 {
            warnings.push(GenesisWarning::NoWait);
        }
        warnings
    }
}
