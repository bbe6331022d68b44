//! Attacks with transactions that are replayed, late, forged, cut, too long or not allowed.

use lamplighter_client::{Submitted, Wait};
use lamplighter_system::unix_ms;
use lamplighter_types::limits::TRANSACTION_BYTES_MAX;
use lamplighter_types::{
    Action, ConfigAction, ConfigTarget, DevicesAction, Encoding, Hash, HexBytes, SignedTransaction,
    Tag, Transaction, codec,
};
use serde_json::{Value, json};

use super::must_refuse;
use crate::DevnetError;
use crate::city::id;
use crate::journal::Journal;
use crate::network::Devnet;
use crate::scenario::lamp;

const MALFORMED: &[&str] = &["transaction.malformed", "transaction.invalid"];

/// A harmless action that sets the tags of the first lamp.
fn tag_action(value: &str) -> Action {
    let tags = vec![Tag {
        name: "note".to_owned(),
        value: value.to_owned(),
    }];
    Action::Devices(DevicesAction::Tag {
        device: lamp(1),
        tags,
    })
}

/// Signs transactions as the operator, with freely chosen fields.
struct Forge<'a> {
    devnet: &'a Devnet,
    sequence: u64,
    expires_ms: u64,
    chain_id: Hash,
    encoding: Encoding,
}

impl<'a> Forge<'a> {
    async fn new(devnet: &'a Devnet) -> Result<Self, DevnetError> {
        let key = devnet.city.member("operator").secret.public();
        let info = devnet.client("auditor")?.key(&key).await;
        let info = info.map_err(DevnetError::client("asking for a sequence number"))?;
        Ok(Self {
            devnet,
            sequence: info.value.highest_sequence + 1,
            expires_ms: unix_ms() + 60_000,
            chain_id: devnet.city.genesis.chain_id(),
            encoding: Encoding::Bincode,
        })
    }

    fn transaction(&self, value: &str) -> Transaction {
        Transaction {
            sender: id("operator"),
            sequence: self.sequence,
            expires_ms: self.expires_ms,
            action: tag_action(value),
        }
    }

    fn sign(&self, value: &str) -> SignedTransaction {
        let secret = &self.devnet.city.member("operator").secret;
        SignedTransaction::sign(
            &self.transaction(value),
            self.encoding,
            &self.chain_id,
            secret,
        )
    }

    /// Signs any bytes as a payload.
    fn sign_bytes(&self, payload: Vec<u8>) -> SignedTransaction {
        let mut signed = self.sign("");
        signed.payload = HexBytes(payload);
        let secret = &self.devnet.city.member("operator").secret;
        signed.signature = secret.sign(&signed.signing_bytes(&self.chain_id));
        signed
    }
}

async fn send(
    devnet: &Devnet,
    signed: &SignedTransaction,
) -> Result<Result<Submitted, lamplighter_client::ClientError>, DevnetError> {
    Ok(devnet
        .client("operator")?
        .submit_signed(signed, Wait::Committed)
        .await)
}

/// Posts raw bytes; returns status and problem.
async fn post(devnet: &Devnet, kind: &str, body: Vec<u8>) -> Result<(u16, Value), DevnetError> {
    let url = format!("{}/v1/transactions", devnet.nodes[0].url());
    let request = devnet
        .http()?
        .post(url)
        .header("content-type", kind)
        .body(body);
    let failed = |error: reqwest::Error| DevnetError::Unexpected(format!("posting: {error}"));
    let response = request.send().await.map_err(failed)?;
    let status = response.status().as_u16();
    let text = response.text().await.map_err(failed)?;
    Ok((
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    ))
}

/// Posts raw bytes that must be refused with a status of 4xx and one of the codes.
async fn must_refuse_bytes(
    devnet: &Devnet,
    kind: &str,
    body: Vec<u8>,
    codes: &[&str],
) -> Result<String, DevnetError> {
    let (status, answer) = post(devnet, kind, body).await?;
    let code = answer["code"].as_str().unwrap_or_default();
    let words = answer["detail"].as_str().unwrap_or_default();
    if (400..500).contains(&status) && codes.contains(&code) {
        Ok(format!("{status} {code}: {words}"))
    } else {
        Err(DevnetError::Unexpected(format!("{status} {answer}")))
    }
}

/// Sends the same bytes again, and other bytes under the same sequence number.
async fn replays(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let forge = Forge::new(devnet).await?;
    let first = forge.sign("first");
    let placed = send(devnet, &first)
        .await?
        .map_err(DevnetError::client("the first one"))?;
    let again = send(devnet, &first)
        .await?
        .map_err(DevnetError::client("the same bytes"))?;
    let once = (again.height, again.index) == (placed.height, placed.index);
    let verdict = match again.height {
        Some(height) if once => Ok(format!(
            "the receipt of block {height} again, nothing done twice"
        )),
        _ => Err(DevnetError::NotRefused("a replay".to_owned())),
    };
    journal.attack("the same transaction sent again", verdict);
    let other = send(devnet, &forge.sign("second")).await?;
    let verdict = must_refuse(other, &["admission.sequence_used"]);
    journal.attack("a sequence number used again", verdict);
    Ok(())
}

pub(super) async fn run(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    replays(devnet, journal).await?;
    let late = Forge {
        expires_ms: unix_ms() - 1_000,
        ..Forge::new(devnet).await?
    };
    let verdict = must_refuse(
        send(devnet, &late.sign("late")).await?,
        &["admission.expired"],
    );
    journal.attack("an expired transaction", verdict);

    let elsewhere = Forge {
        chain_id: Hash([7; 32]),
        ..Forge::new(devnet).await?
    };
    let bytes = codec::encode(&elsewhere.sign("elsewhere"));
    let octets = "application/octet-stream";
    let verdict = must_refuse_bytes(devnet, octets, bytes, &["transaction.invalid"]).await;
    journal.attack("a transaction signed for another chain", verdict);

    let mut changed = Forge::new(devnet).await?.sign("changed");
    if let Some(last) = changed.payload.0.last_mut() {
        *last ^= 1;
    }
    let verdict = must_refuse_bytes(devnet, octets, codec::encode(&changed), MALFORMED).await;
    journal.attack("a transaction with one byte changed", verdict);

    let mut trailing = codec::encode(&Forge::new(devnet).await?.sign("trailing"));
    trailing.push(0);
    let verdict = must_refuse_bytes(devnet, octets, trailing, MALFORMED).await;
    journal.attack("a transaction with trailing bytes", verdict);

    let forge = Forge::new(devnet).await?;
    let mut payload = codec::encode(&forge.transaction("trailing"));
    payload.push(0);
    let bytes = codec::encode(&forge.sign_bytes(payload));
    let verdict = must_refuse_bytes(devnet, octets, bytes, MALFORMED).await;
    journal.attack("a signed payload with trailing bytes", verdict);

    let bytes = codec::encode(&forge.sign_bytes(vec![0; TRANSACTION_BYTES_MAX + 1]));
    let verdict = must_refuse_bytes(devnet, octets, bytes, MALFORMED).await;
    journal.attack("a transaction over the size limit", verdict);

    let config = ConfigAction::SetDesired {
        target: ConfigTarget::Fleet,
        document: "{}".to_owned(),
        replaces_version: 1,
    };
    let approver = devnet.client("approver-1")?;
    let verdict = super::must_fail(&approver, Action::Config(config), &["forbidden"]).await;
    journal.attack("a configuration by a user without the role", verdict);
    Ok(())
}

/// Attacks on the JSON forms: unknown, doubled and missing fields, and bytes that are no JSON.
pub(super) async fn json(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let forge = Forge {
        encoding: Encoding::Json,
        ..Forge::new(devnet).await?
    };
    let kind = "application/json";
    let envelope = |signed: &SignedTransaction| {
        serde_json::to_string(signed).expect("our types have JSON forms")
    };
    let good =
        serde_json::to_string(&forge.transaction("json")).expect("our types have JSON forms");

    let mut extra = json!(forge.sign("extra"));
    extra["note"] = json!("unknown");
    let body = extra.to_string().into_bytes();
    let verdict = must_refuse_bytes(devnet, kind, body, MALFORMED).await;
    journal.attack("an envelope with an unknown field", verdict);

    let doubled = envelope(&forge.sign("double")).replacen('{', "{\"encoding\":\"json\",", 1);
    let verdict = must_refuse_bytes(devnet, kind, doubled.into_bytes(), MALFORMED).await;
    journal.attack("an envelope with a doubled field", verdict);

    let unknown = good.replacen('{', "{\"fee\":0,", 1).into_bytes();
    let body = envelope(&forge.sign_bytes(unknown)).into_bytes();
    let verdict = must_refuse_bytes(devnet, kind, body, MALFORMED).await;
    journal.attack("a signed payload with an unknown field", verdict);

    let doubled = good
        .replacen('{', "{\"sender\":\"admin-1\",", 1)
        .into_bytes();
    let body = envelope(&forge.sign_bytes(doubled)).into_bytes();
    let verdict = must_refuse_bytes(devnet, kind, body, MALFORMED).await;
    journal.attack("a signed payload with a doubled field", verdict);

    let garbage: Vec<u8> = (0..4_096u32).map(|n| (n * 31 % 251) as u8).collect();
    let verdict = must_refuse_bytes(devnet, kind, garbage.clone(), MALFORMED).await;
    journal.attack("bytes that are no JSON", verdict);
    let octets = "application/octet-stream";
    let verdict = must_refuse_bytes(devnet, octets, garbage, MALFORMED).await;
    journal.attack("bytes that are no transaction", verdict);
    let deep = "[".repeat(100_000).into_bytes();
    let verdict = must_refuse_bytes(devnet, kind, deep, MALFORMED).await;
    journal.attack("JSON nested 100,000 deep", verdict);
    Ok(())
}
