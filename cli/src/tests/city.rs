//! A ledger of one node, and accounts that run commands on it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lamplighter_client::{Client, ClientConfig};
use lamplighter_node::{Node, NodeConfig, key};
use lamplighter_system::unix_ms;
use lamplighter_types::{
    Action, Fact, GENESIS_VERSION, Genesis, GenesisAccount, GovernanceChange, Grant, Hash, Id,
    KeyPurpose, Policies, Role, Scope, SecretKey, Transaction, Validator, ValidatorSet,
};
use tempfile::TempDir;

use crate::failure::Failure;
use crate::{Arguments, carry_out};

/// Longest that any step may take; only a failing test gets there.
const TIMEOUT: Duration = Duration::from_secs(60);

const PEOPLE: [(&str, Option<Role>); 9] = [
    ("admin-1", Some(Role::Administrator)),
    ("admin-2", Some(Role::Administrator)),
    ("operator", Some(Role::Operator)),
    ("approver", Some(Role::Approver)),
    ("vendor", Some(Role::Vendor)),
    ("security", Some(Role::Security)),
    ("auditor", Some(Role::Auditor)),
    // The account of commands without `--as`; it may do nothing that follows.
    ("nobody", None),
    ("node-1", None),
];

pub struct City {
    pub dir: TempDir,
    pub genesis: Genesis,
    pub node: Node,
    /// Up to here blocks were looked at.
    seen_height: u64,
}

pub fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

impl City {
    pub async fn found() -> Self {
        let dir = TempDir::new().unwrap();
        let keys = dir.path().join("keys");
        std::fs::create_dir(&keys).unwrap();
        let secrets = PEOPLE.map(|(account, _)| new_key(&keys.join(format!("{account}.key"))));
        let genesis = genesis(&secrets);
        let text = serde_json::to_vec_pretty(&genesis).unwrap();
        std::fs::write(dir.path().join("genesis.json"), text).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let config = NodeConfig {
            node: 1,
            genesis: dir.path().join("genesis.json"),
            key: keys.join("node-1.key"),
            data_dir: dir.path().join("data"),
            peer_listen: any,
            http_listen: any,
            http: Default::default(),
            admin_listen: any,
            mqtt_listen: any,
            mqtts_listen: None,
            mqtt_connect_s: 30,
            read_needs_token: true,
            quotas: Default::default(),
            mqtt: Default::default(),
            heartbeat_ms: 1_000,
            clock_offset_max_ms: 30_000,
            disk: Default::default(),
        };
        let node = Node::start(config).await.unwrap();
        node.handle.wait_certified(1, TIMEOUT).await.unwrap();
        let profile = format!(
            "nodes = [\"https://{}\"]\ngenesis = \"genesis.json\"\nkeys = \"keys\"\n\
             account = \"nobody\"\n",
            node.edges.http
        );
        std::fs::write(dir.path().join("client.toml"), profile).unwrap();
        Self {
            dir,
            genesis,
            node,
            seen_height: 0,
        }
    }

    pub async fn stop(self) {
        self.node.shutdown().await.unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The proof by which the key in the file `key` becomes that of a device.
    pub fn device_proof(&self, key: &str, device: &str) -> String {
        let file = self.path("keys").join(format!("{key}.key"));
        let chain_id = self.genesis.chain_id();
        let secret = key::read(&file).unwrap();
        let proof = secret.prove(KeyPurpose::Device, &chain_id, &id(device));
        proof.to_string()
    }

    /// Makes a key in the folder of keys and returns the public one in hexadecimal digits.
    pub fn key(&self, account: &str) -> String {
        let file = self.path("keys").join(format!("{account}.key"));
        let secret = if file.exists() {
            key::read(&file).unwrap()
        } else {
            new_key(&file)
        };
        secret.public().to_string()
    }

    fn secret(&self, name: &str) -> SecretKey {
        self.key(name);
        key::read(&self.path("keys").join(format!("{name}.key"))).unwrap()
    }

    /// The options with a key and its proof for an account.
    pub fn proven_key(&self, name: &str, account: &str) -> String {
        let secret = self.secret(name);
        let proof = secret.prove(KeyPurpose::Account, &self.genesis.chain_id(), &id(account));
        format!("--public-key {} --proof {proof}", secret.public())
    }

    /// The options with the key of a node and its proof.
    pub fn node_key(&self, name: &str) -> String {
        let secret = self.secret(name);
        let proof = secret.prove(KeyPurpose::Node, &self.genesis.chain_id(), &id(name));
        format!("--public-key {} --proof {proof}", secret.public())
    }

    /// The change that recovers an account with a key.
    pub fn recovery(&self, name: &str, account: &str) -> GovernanceChange {
        let (secret, account) = (self.secret(name), id(account));
        GovernanceChange::Recover {
            proof: secret.prove(KeyPurpose::Account, &self.genesis.chain_id(), &account),
            new_key: secret.public(),
            account,
        }
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Runs a command: words separated by spaces, `{name}` for a file of the city's folder.
    pub async fn run(&self, account: &str, command: &str) -> Result<ExitCode, Failure> {
        let folder = self.dir.path().display().to_string();
        let in_braces = |word: &str| {
            let name = word.strip_prefix('{')?.strip_suffix('}')?;
            Some(format!("{folder}/{name}"))
        };
        let words = command.split_whitespace();
        // A tilde is a blank inside an argument.
        let words = words.map(|word| in_braces(word).unwrap_or_else(|| word.replace('~', " ")));
        let profile = self.path("client.toml").display().to_string();
        let state = self.path("state").display().to_string();
        let begin = ["lamplighter", "--as", account, "--profile", &profile];
        let begin = [&begin[..], &["--state", &state]].concat().into_iter();
        let all: Vec<_> = begin.map(str::to_owned).chain(words).collect();
        // On a stack of its own, as in `main`: without optimisation both together need more than a
        // test's thread has.
        let parsed = std::thread::spawn(|| Arguments::try_parse_from(all)).join();
        let arguments = parsed.expect("the parser does not panic");
        let arguments = arguments.unwrap_or_else(|error| panic!("{command}: {error}"));
        // A test runs many commands one after the other: none of them is part of its stack.
        tokio::time::timeout(TIMEOUT, Box::pin(carry_out(arguments)))
            .await
            .unwrap_or_else(|_| panic!("{command} did not end"))
    }

    /// Runs a command that must succeed, like [`run`](Self::run).
    pub async fn done(&self, account: &str, command: &str) {
        let done = self.run(account, command).await;
        if let Err(failure) = done {
            panic!("{account}: {command}: {failure}");
        }
    }

    /// Transactions that came into blocks since it was last asked, but for those of the node.
    pub fn new_transactions(&mut self) -> Vec<Transaction> {
        let head = self.node.handle.head().height;
        let heights = self.seen_height + 1..=head;
        self.seen_height = head;
        let blocks = heights.map(|height| self.node.handle.block(height).unwrap().unwrap());
        let all = blocks.flat_map(|block| block.transactions);
        let all = all.map(|signed| signed.decode_payload().unwrap());
        all.filter(|transaction| transaction.sender.as_str() != "node-1")
            .collect()
    }

    /// Waits until a quorum of validators, which is the node, holds an image.
    pub async fn holds(&self, image: &Hash) {
        let handle = &self.node.handle;
        let mut head = handle.watch_head();
        let is_it = |fact: &Fact| match fact {
            Fact::ArtifactHeld { artifact, .. } => artifact == image,
            _ => false,
        };
        let held = async {
            loop {
                let receipts = (1..=handle.head().height)
                    .flat_map(|height| handle.receipts(height).unwrap())
                    .flat_map(|receipt| receipt.notifications);
                if receipts
                    .into_iter()
                    .any(|notification| is_it(&notification.fact))
                {
                    return;
                }
                head.changed().await.unwrap();
            }
        };
        tokio::time::timeout(TIMEOUT, held).await.unwrap();
    }

    /// A client for what is no command of people.
    pub fn client(&self, account: &str) -> Client {
        let secret = key::read(&self.path("keys").join(format!("{account}.key"))).unwrap();
        let config = ClientConfig::new(vec![format!("https://{}", self.node.edges.http)])
            .with_genesis(self.genesis.clone())
            .with_key(id(account), secret);
        Client::new(config).unwrap()
    }

    /// Writes the JSON of an action, for `transaction sign`.
    pub fn write_action(&self, name: &str, action: &Action) {
        self.write(name, serde_json::to_vec(action).unwrap());
    }
}

fn new_key(file: &std::path::Path) -> SecretKey {
    let secret = key::generate().unwrap();
    key::write(file, &secret).unwrap();
    secret
}

fn genesis(secrets: &[SecretKey; PEOPLE.len()]) -> Genesis {
    let [people @ .., node] = secrets;
    let accounts = PEOPLE.iter().zip(people).map(|((account, role), secret)| {
        let grants = role
            .iter()
            .map(|role| Grant::founding(*role, Scope::city()));
        GenesisAccount {
            account: id(account),
            name: (*account).to_owned(),
            key: secret.public(),
            grants: grants.collect(),
        }
    });
    Genesis {
        version: GENESIS_VERSION,
        name: "Test City".into(),
        created_ms: unix_ms(),
        validators: ValidatorSet {
            validators: vec![Validator {
                node: 1,
                account: id("node-1"),
                key: node.public(),
                address: "127.0.0.1:7400".into(),
            }],
        },
        organization: id("city"),
        accounts: accounts.collect(),
        policies: {
            let mut policies = Policies::default();
            policies.approvals.releases.approvals = 1;
            policies
        },
    }
}
