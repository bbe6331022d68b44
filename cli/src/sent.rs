//! `transaction pending` and `transaction resume`: transactions whose outcome no command learned.

use lamplighter_client::{ClientError, TransactionRecord};
use lamplighter_system::unix_ms;
use lamplighter_types::{Hash, Outcome};
use serde_json::json;

use crate::failure::Failure;
use crate::kept::{KeptTransaction, KeptTransactions};
use crate::output::{emit_table, print, remark_none};
use crate::session::{Session, asking};
use crate::time;

/// What is known of a transaction that was sent.
enum Fate {
    InBlock(Box<TransactionRecord>),
    /// In no block of the nodes that were asked.
    Waiting,
    /// In no block, and none can have it any more.
    Expired,
}

impl Fate {
    fn words(&self) -> String {
        match self {
            Self::InBlock(found) => {
                let outcome = match &found.receipt.outcome {
                    Outcome::Succeeded => "succeeded",
                    Outcome::Failed { code, .. } => code.as_str(),
                };
                format!("block {}: {outcome}", found.height)
            }
            Self::Waiting => "waiting".to_owned(),
            Self::Expired => "expired".to_owned(),
        }
    }
}

async fn kept(session: &Session) -> Result<KeptTransactions, Failure> {
    let missing = "there is no folder of transactions that were sent: give --state";
    session.kept().await?.ok_or_else(|| Failure::plain(missing))
}

fn list(kept: &KeptTransactions) -> Result<Vec<KeptTransaction>, Failure> {
    kept.list()
        .map_err(Failure::during("reading the transactions that were sent"))
}

async fn fate(session: &Session, one: &KeptTransaction) -> Result<Fate, Failure> {
    match session.client.transaction(one.transaction).await {
        Ok(found) => Ok(Fate::InBlock(Box::new(found))),
        Err(ClientError::Deadline { .. }) | Err(ClientError::Problem { .. })
            if unix_ms() <= one.expires_ms =>
        {
            Ok(Fate::Waiting)
        }
        Err(error) if error.is_not_found() => Ok(Fate::Expired),
        Err(error) => Err(asking(error)),
    }
}

/// Lists them, and forgets those that are in a block.
pub async fn pending(session: &Session) -> Result<(), Failure> {
    let kept = kept(session).await?;
    let (mut rows, mut records) = (Vec::new(), Vec::new());
    for one in list(&kept)? {
        let fate = fate(session, &one).await?;
        if matches!(fate, Fate::InBlock(_)) {
            let forgotten = kept.forget(&one.transaction);
            forgotten.map_err(Failure::during("forgetting a transaction"))?;
        }
        let sender = one.signed.decode_payload().map(|t| t.sender.to_string());
        let sender = sender.unwrap_or_default();
        records.push(json!({ "transaction": one.transaction, "sender": sender,
            "expires_ms": one.expires_ms, "state": fate.words() }));
        rows.push(vec![
            one.transaction.to_string(),
            sender,
            time::local(one.expires_ms),
            fate.words(),
        ]);
    }
    if session.output.json {
        print(&json!(records));
    } else {
        let is_empty = rows.is_empty();
        emit_table(
            &["transaction", "account", "may happen until", "state"],
            rows,
        );
        if is_empty {
            remark_none("pending transactions");
        }
    }
    Ok(())
}

/// Sends the same bytes again.
pub async fn resume(session: &Session, transaction: Option<Hash>) -> Result<(), Failure> {
    let mut selected = list(&kept(session).await?)?;
    match transaction {
        Some(transaction) => {
            selected.retain(|one| one.transaction == transaction);
            if selected.is_empty() {
                let words = format!(
                    "the transaction {transaction} is not kept here: its outcome is known, or it \
                     was sent by another user; `lamplighter transaction show` asks for it"
                );
                return Err(Failure::plain(words));
            }
        }
        None => selected.retain(|one| unix_ms() <= one.expires_ms),
    }
    if selected.is_empty() {
        remark_none("pending transactions");
    }
    for one in &selected {
        session.output.submitted(&session.send(&one.signed).await?);
    }
    Ok(())
}
