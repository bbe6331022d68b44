//! `status`, `transaction`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use lamplighter_client::Wait;
use lamplighter_types::{Action, Hash, SignedTransaction, codec};
use serde_json::json;

use crate::failure::Failure;
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
