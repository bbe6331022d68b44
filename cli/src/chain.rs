//! `status`, `proof`, `transaction`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use lamplighter_client::{Subject, Wait};
use lamplighter_types::{Action, Hash, Id, SignedTransaction, codec};
use serde_json::json;

use crate::failure::Failure;
use crate::keys::write_new;
use crate::output::emit;
use crate::session::{Session, asking};

/// Where the nodes stand.
pub async fn status(session: &Session) -> Result<ExitCode, Failure> {
    let status: serde_json::Value = session
        .client
        .get("/v1/status")
        .await
        .map_err(asking)?
        .value;
    session.output.record(&status);
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Subcommand)]
pub enum ProofCommand {
    /// Fetches a proof, checks it against the genesis file, and writes it to a file.
    Get {
        /// The file to write (JSON); it must not exist.
        #[arg(long, global = true, default_value = "proof.json")]
        out: PathBuf,
        #[command(subcommand)]
        subject: SubjectCommand,
    },
}

#[derive(Debug, Subcommand)]
pub enum SubjectCommand {
    /// The receipt of a transaction.
    Receipt {
        transaction: Hash,
    },
    Device {
        device: Id,
    },
    Release {
        release: Id,
    },
    Rollout {
        rollout: Id,
    },
    Deployment {
        rollout: Id,
        device: Id,
    },
    User {
        account: Id,
    },
    /// An event, by its block and its place there.
    Event {
        height: u64,
        index: u32,
    },
}

impl From<SubjectCommand> for Subject {
    fn from(command: SubjectCommand) -> Self {
        match command {
            SubjectCommand::Receipt { transaction } => Self::Receipt(transaction),
            SubjectCommand::Device { device } => Self::Device(device),
            SubjectCommand::Release { release } => Self::Release(release),
            SubjectCommand::Rollout { rollout } => Self::Rollout(rollout),
            SubjectCommand::Deployment { rollout, device } => Self::Deployment { rollout, device },
            SubjectCommand::User { account } => Self::User(account),
            SubjectCommand::Event { height, index } => Self::Event { height, index },
        }
    }
}

pub async fn proof(session: &Session, command: ProofCommand) -> Result<ExitCode, Failure> {
    let ProofCommand::Get { out, subject } = command;
    if session.genesis.is_none() {
        return Err(Failure::plain(
            "a proof is checked against the genesis file: give --genesis",
        ));
    }
    if out.exists() {
        let words = format!("{} exists already: give another --out", out.display());
        return Err(Failure::plain(words));
    }
    let (bundle, proven) = session
        .client
        .proof(&subject.into())
        .await
        .map_err(asking)?;
    write_new(&out, bundle.to_json().as_ref())?;
    session
        .output
        .record(&json!({ "holds": true, "height": proven.height,
        "head_height": proven.head_height, "head": proven.head, "file": out }));
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Subcommand)]
pub enum TransactionCommand {
    /// What became of a transaction.
    Show { transaction: Hash },
    /// Submits a signed transaction from a file: the JSON that `POST /v1/transactions` takes.
    Send { file: PathBuf },
    /// Signs an action from a file (JSON) and prints the signed transaction.
    Sign { file: PathBuf },
}

pub async fn transaction(
    session: &Session,
    command: TransactionCommand,
) -> Result<ExitCode, Failure> {
    match command {
        TransactionCommand::Show { transaction } => {
            session.tell(session.client.transaction(&transaction).await)?;
        }
        TransactionCommand::Send { file } => {
            let signed: SignedTransaction = read_json(&file)?;
            session.tell(session.client.submit_signed(&signed, Wait::Committed).await)?;
        }
        TransactionCommand::Sign { file } => {
            session.account()?;
            let action: Action = read_json(&file)?;
            let signed = session.client.sign(action).await.map_err(asking)?;
            emit(&format!("{}", json!(signed)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read_json<T: serde::de::DeserializeOwned>(path: &PathBuf) -> Result<T, Failure> {
    let doing = || format!("reading {}", path.display());
    let bytes = std::fs::read(path).map_err(Failure::doing(doing()))?;
    codec::decode_json(&bytes).map_err(Failure::doing(doing()))
}
