//! The nodes, genesis file, account and key of a command, from the command line or a profile.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use lamplighter_client::{
    Client, ClientConfig, ClientError, Cursor, Feed, FeedFilter, Submitted, TrustAnchor, Wait,
};
use lamplighter_node::key;
use lamplighter_system::{error_chain, files, unix_ms};
use lamplighter_types::{Action, Genesis, Hash, Id, Outcome, SecretKey, SignedTransaction, codec};
use serde::Deserialize;

use crate::describe;
use crate::failure::Failure;
use crate::kept::{self, KeptTransactions};
use crate::output::{Output, warn};
use crate::{pending, standings};

/// Options of every command that talks to nodes.
///
/// clap takes a global option and an argument of a command that have one id for the same: the
/// command would then act as the account that it is about. So these have ids that no argument of a
/// command has, and a test walks all commands to see it.
#[derive(Clone, Debug, Args)]
pub struct SessionArguments {
    /// A file with nodes, genesis and keys (TOML), as `devnet up` writes it: client.toml.
    #[arg(
        id = "session_profile",
        long = "profile",
        value_name = "FILE",
        global = true,
        env = "LAMPLIGHTER_PROFILE"
    )]
    profile: Option<PathBuf>,
    /// Base address of a node, e.g. https://10.0.0.1:8080; may be repeated. A node that is no
    /// validator needs its public key behind it: https://10.0.0.9:8080#KEY.
    #[arg(
        id = "session_nodes",
        long = "node-url",
        value_name = "URL",
        global = true,
        env = "LAMPLIGHTER_NODES",
        value_delimiter = ','
    )]
    nodes: Vec<String>,
    /// The genesis file, the trust root of every proof.
    #[arg(
        id = "session_genesis",
        long = "genesis",
        value_name = "FILE",
        global = true,
        env = "LAMPLIGHTER_GENESIS"
    )]
    genesis: Option<PathBuf>,
    /// A file of certificates (PEM) of authorities, if nodes show certificates of theirs.
    #[arg(
        id = "session_authorities",
        long = "cacert",
        value_name = "FILE",
        global = true,
        env = "LAMPLIGHTER_CACERT"
    )]
    authorities: Option<PathBuf>,
    /// Lets addresses of other machines begin with http://, where a tunnel encrypts.
    #[arg(
        id = "session_plain_http",
        long = "plain-http-beyond-loopback",
        global = true
    )]
    plain_http_beyond_loopback: bool,
    /// A file with the newest validators that were proven (JSON): older ones are not believed.
    /// Without it proofs are checked from the validators of the genesis file.
    #[arg(
        id = "session_trusted",
        long = "trusted",
        value_name = "FILE",
        global = true,
        env = "LAMPLIGHTER_TRUSTED"
    )]
    trusted: Option<PathBuf>,
    /// Writes newer validators that a proof shows to the file of `--trusted`, or makes it.
    #[arg(id = "session_update_trusted", long = "update-trusted", global = true)]
    update_trusted: bool,
    /// The account that acts.
    #[arg(
        id = "session_account",
        long = "as",
        value_name = "ACCOUNT",
        global = true,
        env = "LAMPLIGHTER_ACCOUNT"
    )]
    account: Option<Id>,
    /// The file with its secret key; by default ACCOUNT.key in the profile's folder of keys.
    #[arg(
        id = "session_key",
        long = "key",
        value_name = "FILE",
        global = true,
        env = "LAMPLIGHTER_KEY"
    )]
    key: Option<PathBuf>,
    /// The folder in which commands keep the transactions that they sent until they know the
    /// outcome, and which nodes served; by default ~/.local/state/lamplighter.
    #[arg(
        id = "session_state",
        long = "state",
        value_name = "FOLDER",
        global = true,
        env = "LAMPLIGHTER_STATE"
    )]
    state: Option<PathBuf>,
    /// The deadline for all nodes together, in seconds.
    #[arg(
        id = "session_timeout",
        long = "timeout",
        value_name = "SECONDS",
        global = true,
        default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=3_600)
    )]
    timeout: u64,
    /// Prints JSON in place of text for people.
    #[arg(id = "session_json", long = "json", global = true)]
    json: bool,
}

/// A profile; relative paths are relative to it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    #[serde(default)]
    nodes: Vec<String>,
    genesis: Option<PathBuf>,
    authorities: Option<PathBuf>,
    #[serde(default)]
    plain_http_beyond_loopback: bool,
    keys: Option<PathBuf>,
    account: Option<Id>,
}

/// A client with its settings.
pub struct Session {
    pub client: Client,
    pub genesis: Option<Genesis>,
    /// The account that acts, with its key.
    pub signer: Option<(Id, SecretKey)>,
    /// The file to which newer validators that are proven are written.
    pub updated_file: Option<PathBuf>,
    /// The folder for transactions whose outcome is not known; none if the user has none.
    pub state_folder: Option<PathBuf>,
    pub output: Output,
}

pub fn read_genesis(path: &Path) -> Result<Genesis, Failure> {
    let operation = format!("reading {}", path.display());
    let text = files::read_text(path).map_err(Failure::during(operation))?;
    let genesis: Genesis = codec::decode_json(text.as_bytes())
        .map_err(Failure::during("the genesis file is not usable"))?;
    genesis
        .check()
        .map_err(Failure::during("the genesis file contradicts itself"))?;
    Ok(genesis)
}

impl Profile {
    fn read(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let operation = || format!("reading the profile {}", path.display());
        let text = files::read_text(path).map_err(Failure::during(operation()))?;
        let mut profile: Self = toml::from_str(&text).map_err(Failure::during(operation()))?;
        let base = path.parent().unwrap_or(Path::new("."));
        let Self {
            genesis,
            authorities,
            keys,
            ..
        } = &mut profile;
        for file in [genesis, authorities, keys].into_iter().flatten() {
            *file = base.join(&*file);
        }
        Ok(profile)
    }
}

impl SessionArguments {
    pub fn output(&self) -> Output {
        Output { json: self.json }
    }

    /// Where the genesis file is.
    pub fn genesis_file(&self) -> Result<PathBuf, Failure> {
        let profile = Profile::read(self.profile.as_deref())?;
        let file = self.genesis.clone().or(profile.genesis);
        file.ok_or_else(|| Failure::plain("this needs the trust root: give --genesis"))
    }

    /// The genesis file that the command itself names; a profile is of a ledger that exists.
    pub fn genesis_option(&self) -> Option<&Path> {
        self.genesis.as_deref()
    }

    /// The nodes that the command itself names.
    pub fn nodes_option(&self) -> &[String] {
        &self.nodes
    }

    pub fn read_genesis(&self) -> Result<Genesis, Failure> {
        read_genesis(&self.genesis_file()?)
    }

    /// The validators from which proofs are checked: those in the file of `--trusted`, or those of
    /// the genesis file.
    pub fn trust_anchor(&self, genesis: &Genesis) -> Result<Arc<TrustAnchor>, Failure> {
        let anchor = match &self.trusted {
            Some(path) if self.update_trusted => TrustAnchor::open(path.clone(), genesis)?,
            Some(path) => {
                let trusted = TrustAnchor::read(path, genesis)?;
                let missing = || {
                    let path = path.display();
                    Failure::plain(format!(
                        "there is no file {path} of trusted validators: --update-trusted makes it, \
                         from the genesis file"
                    ))
                };
                TrustAnchor::in_memory(trusted.ok_or_else(missing)?)
            }
            None if self.update_trusted => {
                let words = "--update-trusted needs the file to write: give --trusted";
                return Err(Failure::plain(words));
            }
            None => TrustAnchor::in_memory(genesis.into()),
        };
        Ok(Arc::new(anchor))
    }

    /// The file of `--trusted`, if it is kept up to date.
    pub fn updated_file(&self) -> Option<&Path> {
        self.trusted.as_deref().filter(|_| self.update_trusted)
    }

    /// Sets the client up; nothing is sent yet.
    pub fn open(&self) -> Result<Session, Failure> {
        let profile = Profile::read(self.profile.as_deref())?;
        let nodes = if self.nodes.is_empty() {
            profile.nodes
        } else {
            self.nodes.clone()
        };
        if nodes.is_empty() {
            return Err(Failure::plain(
                "no node is known: give --profile or --node-url",
            ));
        }
        let genesis = self.genesis.clone().or(profile.genesis);
        let genesis = genesis.as_deref().map(read_genesis).transpose()?;
        let account = self.account.clone().or(profile.account);
        let in_profile = |account: &Id| Some(profile.keys.as_ref()?.join(format!("{account}.key")));
        let file = self
            .key
            .clone()
            .or_else(|| account.as_ref().and_then(in_profile));
        let signer = match (account, file) {
            (Some(account), Some(file)) => {
                let secret = key::read(&file).map_err(Failure::during("the account's key"))?;
                Some((account, secret))
            }
            (Some(_), None) => return Err(Failure::plain("the account needs --key or a profile")),
            (None, _) => None,
        };
        let mut config = ClientConfig::new(nodes);
        config.plain_http_beyond_loopback =
            self.plain_http_beyond_loopback || profile.plain_http_beyond_loopback;
        if let Some(file) = self.authorities.as_ref().or(profile.authorities.as_ref()) {
            let operation = format!("reading {}", file.display());
            config.authorities = Some(std::fs::read(file).map_err(Failure::during(operation))?);
        }
        config.deadline = Duration::from_secs(self.timeout);
        if let Some(genesis) = genesis.clone() {
            let anchor = self.trust_anchor(&genesis)?;
            config = config.with_genesis(genesis).with_trust(anchor);
        }
        if let Some((account, secret)) = signer.clone() {
            config = config.with_key(account, secret);
        }
        let client = Client::new(config).map_err(Failure::during("setting up the client"))?;
        let state_folder = self.state.clone().or_else(kept::state_folder);
        if let Some(folder) = &state_folder {
            standings::restore(&client, folder);
        }
        Ok(Session {
            client,
            genesis,
            signer,
            updated_file: self.updated_file().map(Path::to_owned),
            state_folder,
            output: self.output(),
        })
    }
}

impl Drop for Session {
    /// Keeps what the command has learned of the nodes.
    fn drop(&mut self) {
        if let Some(folder) = &self.state_folder {
            standings::keep(&self.client, folder);
        }
    }
}

impl Session {
    /// The account that acts, with its key.
    pub fn account(&self) -> Result<&(Id, SecretKey), Failure> {
        let missing = "this needs an account: give --as, and --key or a profile";
        self.signer.as_ref().ok_or_else(|| Failure::plain(missing))
    }

    /// The feed from now on, or after a cursor; an outage of all nodes is printed as a warning.
    pub fn feed(&self, filter: &FeedFilter, after: Option<Cursor>) -> Feed {
        let feed = self.client.feed(filter, after);
        feed.on_outage(|error| {
            let error = error_chain(error);
            warn(&format!("no node answers, trying again: {error}"));
        })
    }

    /// Submits an action and prints its outcome.
    pub async fn act(&self, action: Action) -> Result<(), Failure> {
        self.output.submitted(&self.perform(action).await?);
        Ok(())
    }

    /// Submits an action; a refusal is a failure of the command, which names the block of the
    /// record.
    pub async fn perform(&self, action: Action) -> Result<Submitted, Failure> {
        self.account()?;
        let kept = self.kept().await?;
        let mut noted = Vec::new();
        let note = |signed: &SignedTransaction, hash| {
            noted.push(hash);
            keep(kept.as_ref(), &hash, signed);
        };
        let submitted = self.client.submit_noted(action, self.wait(), note).await;
        self.resolve(kept.as_ref(), &noted, submitted)
    }

    /// Submits a signed transaction, as [`perform`](Self::perform) does.
    pub async fn send(&self, signed: &SignedTransaction) -> Result<Submitted, Failure> {
        let kept = self.kept().await?;
        let hash = signed.hash(&self.client.chain_id().await.map_err(asking)?);
        keep(kept.as_ref(), &hash, signed);
        let submitted = self.client.submit_signed(signed, self.wait()).await;
        self.resolve(kept.as_ref(), &[hash], submitted)
    }

    /// The transactions of this ledger that are kept; `None` without a folder for them.
    pub async fn kept(&self) -> Result<Option<KeptTransactions>, Failure> {
        let Some(folder) = &self.state_folder else {
            return Ok(None);
        };
        let chain_id = self.client.chain_id().await.map_err(asking)?;
        Ok(Some(KeptTransactions::new(folder, chain_id)))
    }

    /// Forgets the transactions whose outcome is known.
    fn resolve(
        &self,
        kept: Option<&KeptTransactions>,
        sent: &[Hash],
        submitted: Result<Submitted, ClientError>,
    ) -> Result<Submitted, Failure> {
        let pending = match &submitted {
            Err(ClientError::Pending(pending)) => Some(pending.transaction),
            _ => None,
        };
        for hash in sent.iter().filter(|hash| Some(**hash) != pending) {
            if let Some(Err(error)) = kept.map(|kept| kept.forget(hash)) {
                warn(&format!(
                    "the transaction {hash} stays in the list of pending ones: {error}"
                ));
            }
        }
        match submitted {
            Err(ClientError::Pending(pending)) => {
                Err(pending::failure(&pending, kept, self.output))
            }
            submitted => self.outcome(submitted),
        }
    }

    /// With the genesis file a receipt is proven, so that no node can invent one.
    pub fn wait(&self) -> Wait {
        match self.genesis {
            Some(_) => Wait::Certified,
            None => Wait::Committed,
        }
    }

    fn outcome(&self, submitted: Result<Submitted, ClientError>) -> Result<Submitted, Failure> {
        let submitted = submitted.map_err(asking)?;
        if let Some(Outcome::Failed { code, fields }) =
            submitted.receipt.as_ref().map(|receipt| &receipt.outcome)
        {
            let mut words = describe::refusal(code, fields, submitted.message.as_deref());
            if let (Some(height), Some(index)) = (submitted.height, submitted.index) {
                let hash = submitted.transaction;
                words +=
                    &format!(", on the record in block {height} (transaction {index}): {hash}");
            }
            if self.output.json {
                self.output.submitted(&submitted);
            }
            return Err(Failure::refused(words));
        }
        Ok(submitted)
    }
}

/// Keeps a transaction before it is sent. Without that it is sent all the same.
fn keep(kept: Option<&KeptTransactions>, hash: &Hash, signed: &SignedTransaction) {
    if let Some(Err(error)) = kept.map(|kept| kept.keep(hash, signed, unix_ms())) {
        warn(&format!("the transaction {hash} can't be kept: {error}"));
    }
}

/// How a later version of the protocol comes into force.
const OTHER_PROTOCOL: &str = "`lamplighter status` shows the version in force and the next one. \
     Two administrators put one into force: `lamplighter governance propose NAME set-protocol \
     --version 2 --from-height +100`";

/// The failure for an error of the client: a node's refusal, or no node was reached.
pub fn asking(error: ClientError) -> Failure {
    match error.problem() {
        Some(problem) if (400..500).contains(&problem.status) => {
            let refused =
                Failure::refused(format!("refused: {} ({})", problem.detail, problem.code));
            match problem.code.as_str() {
                "admission.protocol_version" => refused.with_note(OTHER_PROTOCOL),
                _ => refused,
            }
        }
        _ => Failure::new("asking the ledger", error),
    }
}
