//! The steps that check a proof offline in another process, and compare the heads of the chain.

use std::time::{Duration, Instant};

use lamplighter_client::Subject;
use lamplighter_types::proof::{ProofBundle, RecordProof};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{ROLLOUT, lamp};
use crate::DevnetError;
use crate::city::id;
use crate::network::Devnet;

/// Time for all validators to reach one head.
const SAME_WITHIN: Duration = Duration::from_secs(30);

/// Fetches the proof of one deployment, and has `lamplighter audit verify` check it with nothing
/// but the bundle and the genesis file; the same bundle with one byte changed must not hold.
pub async fn check(devnet: &Devnet) -> Result<Value, DevnetError> {
    let subject = Subject::Deployment {
        rollout: id(ROLLOUT),
        device: lamp(1),
    };
    let asked = devnet.client("auditor")?.proof(&subject).await;
    let (bundle, proven) = asked.map_err(DevnetError::client("fetching a proof"))?;
    let path = devnet.files.write("proof.json", &bundle.to_json())?;
    let (good, words) = verify(devnet, &path).await?;
    if !good {
        return Err(DevnetError::Unexpected(format!(
            "the proof does not hold: {words}"
        )));
    }
    let bad = devnet
        .files
        .write("proof-tampered.json", &tampered(bundle).to_json())?;
    let (good, refusal) = verify(devnet, &bad).await?;
    if good {
        return Err(DevnetError::NotRefused(
            "a proof with one byte changed".to_owned(),
        ));
    }
    Ok(json!({
        "record_height": proven.height, "head_height": proven.head_height,
        "file": path, "verdict": words.trim(), "tampered": refusal.trim(),
    }))
}

/// Runs `lamplighter audit verify`; returns whether the proof holds, and the output.
async fn verify(devnet: &Devnet, path: &std::path::Path) -> Result<(bool, String), DevnetError> {
    let name = "audit verify".to_owned();
    let output = Command::new(&devnet.plan.program)
        .args(["audit", "verify", "--genesis"])
        .arg(devnet.files.genesis())
        .arg(path)
        .output()
        .await
        .map_err(|source| DevnetError::Start { name, source })?;
    let words = if output.status.success() {
        output.stdout
    } else {
        output.stderr
    };
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&words).into_owned(),
    ))
}

/// A bundle with one bit of its record changed.
pub(crate) fn tampered(mut bundle: ProofBundle) -> ProofBundle {
    let bytes = match &mut bundle.record {
        RecordProof::Transaction { transaction, .. } => Some(&mut transaction.payload),
        RecordProof::Receipt { receipt: bytes, .. } | RecordProof::Event { event: bytes, .. } => {
            Some(bytes)
        }
        RecordProof::State { value, .. } => value.as_mut(),
    };
    if let Some(last) = bytes.and_then(|bytes| bytes.0.last_mut()) {
        *last ^= 1;
    }
    bundle
}

/// Checks that all validators have the same block at one height; returns its signers.
pub async fn head(devnet: &Devnet) -> Result<Value, DevnetError> {
    let auditor = devnet.client("auditor")?;
    let head = auditor
        .certified_head()
        .await
        .map_err(DevnetError::client("reading the head"))?;
    let height = head.header.height;
    let begun = Instant::now();
    for at in 0..devnet.nodes.len() {
        let client = devnet.client_at("auditor", at)?;
        loop {
            match client.header(Some(height)).await {
                Ok(header) if header == head.header => break,
                Ok(_) => {
                    let found = format!("validators differ at height {height}");
                    return Err(DevnetError::Unexpected(found));
                }
                Err(error) if error.is_not_found() && begun.elapsed() < SAME_WITHIN => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(DevnetError::client("reading a header")(error)),
            }
        }
    }
    let set = &devnet.city.genesis.validators;
    head.certificate
        .verify(set)
        .map_err(|error| DevnetError::Unexpected(error.to_string()))?;
    let signers = head
        .certificate
        .signatures
        .iter()
        .filter_map(|s| set.by_key(&s.key));
    let signers: Vec<_> = signers.map(|validator| validator.account.clone()).collect();
    Ok(
        json!({ "height": height, "header": head.header.hash(), "signers": signers,
        "quorum": set.quorum() }),
    )
}
