//! The failure of a command whose transaction was sent and is in no block yet.

use lamplighter_client::Pending;
use lamplighter_system::{error_chain, unix_ms};
use serde_json::json;

use crate::failure::Failure;
use crate::kept::KeptTransactions;
use crate::output::{Output, print};
use crate::time;

/// Explains how to ask for the transaction, and how to send the same bytes again.
pub fn failure(pending: &Pending, kept: Option<&KeptTransactions>, output: Output) -> Failure {
    let Pending {
        transaction,
        signed,
        expires_ms,
        taken_by,
        sent_to,
        refused_by,
        ..
    } = pending;
    let file = kept.map(|kept| kept.file(transaction));
    let file = file.filter(|file| file.exists());
    if output.json {
        print(
            &json!({ "transaction": transaction, "expires_ms": expires_ms, "taken_by": taken_by,
            "sent_to": sent_to, "refused_by": refused_by, "file": file, "signed": signed }),
        );
    }
    let again = match file {
        Some(_) => format!(
            "Send the same bytes again, as often as you like; it happens once:\n  \
             lamplighter transaction resume {transaction}"
        ),
        None => format!(
            "To send the same bytes again put this line into a file for `lamplighter transaction \
             send FILE`; it happens once:\n{}",
            json!(signed)
        ),
    };
    Failure::pending(words(pending)).with_note(format!(
        "It may still happen, until {}. Ask what became of it:\n  \
         lamplighter transaction show {transaction}\n{again}\n\
         The same command given again before then would be a second transaction.",
        until(*expires_ms, unix_ms()),
    ))
}

/// The nodes that have the transaction, and the last error.
fn words(pending: &Pending) -> String {
    let Pending {
        transaction,
        taken_by,
        sent_to,
        refused_by,
        waited,
        last,
        ..
    } = pending;
    let waited = waited.as_secs_f64();
    let mut parts = Vec::new();
    if !taken_by.is_empty() {
        parts.push(format!("taken by {}", taken_by.join(", ")));
    }
    if !sent_to.is_empty() {
        parts.push(format!(
            "sent to {} without an answer to rely on",
            sent_to.join(", ")
        ));
    }
    if !refused_by.is_empty() {
        parts.push(format!(
            "refused by {}, which no other node confirms",
            refused_by.join(", ")
        ));
    }
    let mut words = format!(
        "the transaction {transaction} was {}, but is not known to be in a block after \
         {waited:.0} s",
        parts.join(", and ")
    );
    if let Some(last) = last {
        words += &format!(" (last: {})", error_chain(last));
    }
    words
}

/// A time, and how far it is from now.
fn until(time_ms: u64, now_ms: u64) -> String {
    let left = time_ms.saturating_sub(now_ms) / 1_000;
    let (hours, minutes) = (left / 3_600, left / 60 % 60);
    let left = format!("{hours:02}:{minutes:02}:{:02}", left % 60);
    format!("{} (in {left})", time::local(time_ms))
}
