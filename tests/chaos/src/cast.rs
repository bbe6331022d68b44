//! The hostile nodes of a run: a validator that the genesis document names, and an observer that
//! the administrators admit. Each attack is a process of its own in the node's namespace.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lamplighter_devnet::Process;
use lamplighter_devnet::hostile::Attack;
use lamplighter_node::key;
use lamplighter_types::{
    Action, GovernanceAction, GovernanceChange, Id, KeyPurpose, Observer, SecretKey, Validator,
};
use rand::rngs::StdRng;

use crate::client::ChaosClient;
use crate::cluster::{PEER_PORT, account};
use crate::error::ChaosError;
use crate::fleet;
use crate::network::{TestNetwork, address};

/// Hostile nodes beside the honest ones.
pub const HOSTILE_NODES: usize = 2;
/// The time beyond an attack until its process has ended.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// The hostile nodes; they follow the honest ones, the validator first.
#[derive(Clone, Debug)]
pub struct Cast {
    honest: usize,
    program: PathBuf,
    folder: PathBuf,
    namespaces: Vec<String>,
}

/// The role with which a hostile node attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostileRole {
    Validator,
    Observer,
}

impl Cast {
    pub fn new(network: &TestNetwork, honest: usize, program: &Path, folder: &Path) -> Self {
        Self {
            honest,
            program: program.to_owned(),
            folder: folder.to_owned(),
            namespaces: (honest..honest + HOSTILE_NODES)
                .map(|node| network.namespace(node))
                .collect(),
        }
    }

    fn place(&self, role: HostileRole) -> usize {
        self.honest + role as usize
    }

    fn key_path(&self, role: HostileRole) -> PathBuf {
        let node = self.place(role) + 1;
        self.folder.join(format!("node-{node}.key"))
    }

    fn secret(&self, role: HostileRole) -> Result<SecretKey, ChaosError> {
        let secret = key::read_or_create(&self.key_path(role));
        secret.map_err(|error| ChaosError::Setup(error.to_string()))
    }

    fn listen(&self, role: HostileRole) -> SocketAddr {
        SocketAddr::from((address(self.place(role)), PEER_PORT))
    }

    /// The hostile validator, for the genesis document.
    ///
    /// # Errors
    /// Its key can't be written.
    pub fn validator(&self) -> Result<Validator, ChaosError> {
        let role = HostileRole::Validator;
        let node = self.place(role);
        Ok(Validator {
            node: node as u64 + 1,
            account: account(node),
            key: self.secret(role)?.public(),
            address: self.listen(role).to_string(),
        })
    }

    /// Admits the hostile observer by two administrators.
    ///
    /// # Errors
    /// Its key can't be written, or the ledger does not admit it.
    pub async fn admit_observer(
        &self,
        client: &ChaosClient,
        rng: &mut StdRng,
    ) -> Result<(), ChaosError> {
        let role = HostileRole::Observer;
        let node = self.place(role);
        let (secret, account) = (self.secret(role)?, account(node));
        let changes = vec![GovernanceChange::AddObserver {
            proof: secret.prove(KeyPurpose::Node, &client.shared.chain_id, &account),
            observer: Observer {
                node: node as u64 + 1,
                account,
                key: secret.public(),
                address: self.listen(role).to_string(),
            },
        }];
        let proposal = Id::new("admit").expect("a plain name");
        let approval = GovernanceAction::Approve {
            proposal: proposal.clone(),
            changes: GovernanceChange::digest(&changes),
        };
        let propose = GovernanceAction::Propose { proposal, changes };
        for (signer, action) in fleet::governors().into_iter().zip([propose, approval]) {
            let action = Action::Governance(action);
            if !client.submit(&signer, action, rng).await {
                let reason = "the hostile observer was not admitted".to_owned();
                return Err(ChaosError::Setup(reason));
            }
        }
        Ok(())
    }

    /// Attacks for some seconds, and waits until the attacker has ended.
    ///
    /// # Errors
    /// The program can't be started, or it failed.
    pub async fn attack(
        &self,
        role: HostileRole,
        attack: Attack,
        seconds: u64,
    ) -> Result<(), ChaosError> {
        let node = self.place(role) + 1;
        let name = clap::ValueEnum::to_possible_value(&attack).expect("no attack is hidden");
        let namespace = &self.namespaces[role as usize];
        let mut arguments: Vec<OsString> = ["netns", "exec", namespace].map(Into::into).into();
        arguments.push(self.program.clone().into());
        let mut add = |option: &str, value: OsString| {
            arguments.extend([OsString::from(option), value]);
        };
        add("--genesis", self.folder.join("genesis.json").into());
        add("--key", self.key_path(role).into());
        add("--node", node.to_string().into());
        add("--listen", self.listen(role).to_string().into());
        add("--attack", name.get_name().into());
        add("--seconds", seconds.to_string().into());
        let logs = self.folder.join("logs");
        let name = format!("hostile-{node}");
        let mut process = Process::new(&name, Path::new("ip"), arguments, &logs);
        process.start()?;
        let within = Duration::from_secs(seconds) + ENDS_WITHIN;
        match process.wait(within).await? {
            true => Ok(()),
            false => Err(ChaosError::Setup(format!("{name} failed, see its log"))),
        }
    }
}
