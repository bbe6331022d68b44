//! The ledger behind the MQTT guard: who a client is, its transactions, and what it is told.

mod bell;
mod notifications;
mod pending;
mod queue;
mod work;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use lamplighter_contracts::{ContractError, users};
use lamplighter_ledger::{Handle, Ticket, Verdict};
use lamplighter_tls::Identity;
use lamplighter_types::login::Audience;
use lamplighter_types::{
    Account as AccountRecord, AccountKind as Kind, Id, PublicKey, SignedTransaction, codec,
};
use serde_json::json;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::chain as causes;
use crate::mqtt::{
    Account, AccountKind, Admitted, Backend, Config as MqttConfig, Edge, Encoding, Listen, Login,
    LoginError, Publisher, Reach, Submission, SubmitError, SyncReason,
};
use crate::token::Tokens;
use crate::{Config, ServeError};
use queue::WorkQueue;

/// Transactions whose receipt is still to be published: no more than the pool holds.
const RECEIPTS_MAX: usize = 20_000;
/// How long a receipt is waited for. AnnouncedValidators ones are found by the transaction's hash.
const RECEIPT_WITHIN: Duration = Duration::from_secs(120);

/// Starts the MQTT edge on the ledger.
pub(crate) fn start(
    config: &Config,
    handle: Handle,
    tokens: Tokens,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Vec<SocketAddr>, ServeError> {
    let plain = Listen {
        address: config.mqtt_listen,
        tls: false,
    };
    let tls = config
        .mqtts_listen
        .map(|address| Listen { address, tls: true });
    let identity = match config.mqtts_listen {
        Some(_) => Some(Identity::new(&config.secret, "localhost")?),
        None => None,
    };
    let listen = std::iter::once(plain).chain(tls).collect();
    let settings = MqttConfig {
        listen,
        identity,
        connect_time: config.mqtt_connect_time,
        ..MqttConfig::default()
    };
    let backend = Arc::new(LedgerBackend {
        handle: handle.clone(),
        tokens,
        publisher: OnceLock::new(),
        work: OnceLock::new(),
        receipts: Arc::new(Semaphore::new(RECEIPTS_MAX)),
        tasks: tasks.clone(),
        stop: stop.clone(),
    });
    let edge = Edge::start(settings, backend.clone())?;
    let publisher = edge.publisher();
    let first = backend.publisher.set(publisher.clone());
    assert!(first.is_ok(), "the publisher is set once");
    let work = WorkQueue::new(
        handle.clone(),
        publisher.clone(),
        tasks.clone(),
        stop.clone(),
    );
    let first = backend.work.set(work.clone());
    assert!(first.is_ok(), "the queue is set once");
    tasks.spawn(bell::heads(handle.clone(), publisher.clone(), stop.clone()));
    tasks.spawn(notifications::notifications(
        handle.clone(),
        publisher.clone(),
        stop.clone(),
    ));
    let wide = Arc::new(Notify::new());
    tasks.spawn(bell::reminders(
        publisher.clone(),
        work.clone(),
        wide.clone(),
        stop.clone(),
    ));
    tasks.spawn(bell::work(handle, publisher, work, wide, stop.clone()));
    let addresses = edge.addresses().to_vec();
    let stop = stop.clone();
    tasks.spawn(async move {
        stop.cancelled().await;
        edge.stop().await;
    });
    Ok(addresses)
}

#[derive(Clone)]
struct LedgerBackend {
    handle: Handle,
    tokens: Tokens,
    /// Known right after the edge has started.
    publisher: OnceLock<Publisher>,
    work: OnceLock<WorkQueue>,
    receipts: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What topics depend on; none for accounts that do not use MQTT.
fn account(record: AccountRecord) -> Option<Account> {
    if record.disabled {
        return None;
    }
    let kind = match record.kind {
        Kind::Gateway => AccountKind::Gateway,
        Kind::User => {
            let scopes = || record.grants.iter().map(|grant| grant.scope.as_str());
            match scopes().any(str::is_empty) {
                true => AccountKind::User(Reach::All),
                false => AccountKind::User(Reach::Districts(scopes().map(str::to_owned).collect())),
            }
        }
        Kind::Node => return None,
    };
    Some(Account {
        id: record.account.to_string(),
        kind,
    })
}

fn decode(submission: &Submission) -> Result<SignedTransaction, SubmitError> {
    let decoded = match submission.encoding {
        Encoding::Json => codec::decode_json(&submission.payload),
        Encoding::Bincode => codec::decode(&submission.payload),
    };
    decoded.map_err(|error| SubmitError::Invalid(causes(&error)))
}

impl LedgerBackend {
    fn owner(&self, key: &PublicKey) -> Option<AccountRecord> {
        let (view, _) = self.handle.view().ok()?;
        users::account_of_key(&view, key).ok().flatten()
    }

    /// Publishes the receipt when it is there.
    fn follow(self: &Arc<Self>, gateway: String, ticket: Ticket) -> Result<(), SubmitError> {
        let permit = self
            .receipts
            .clone()
            .try_acquire_owned()
            .map_err(|_| SubmitError::Busy)?;
        let this = self.clone();
        self.tasks.spawn(async move {
            let _permit = permit;
            let hash = ticket.hash;
            let verdict = tokio::select! {
                verdict = tokio::time::timeout(RECEIPT_WITHIN, ticket.verdict()) => verdict,
                () = this.stop.cancelled() => return,
            };
            let Some(payload) = verdict.ok().and_then(|v| receipt(&hash, v)) else {
                return;
            };
            let Some(publisher) = this.publisher.get() else {
                return;
            };
            if let Err(error) = publisher.publish_receipt(&gateway, hash.0, payload) {
                tracing::debug!(%error, gateway, "a receipt was not delivered");
            }
        });
        Ok(())
    }
}

/// The JSON of a receipt message; none when nothing is known.
fn receipt(hash: &lamplighter_types::Hash, verdict: Verdict) -> Option<Bytes> {
    let value = match verdict {
        Verdict::Committed(c) => json!({
            "transaction": hash, "height": c.height, "index": c.index, "receipt": *c.receipt,
        }),
        Verdict::Refused(refusal) => json!({
            "transaction": hash,
            "refused": { "code": refusal.code(), "message": refusal.to_string() },
        }),
        Verdict::Unknown => return None,
    };
    Some(Bytes::from(value.to_string()))
}

impl Backend for LedgerBackend {
    fn account_of_key(&self, key: &[u8; 32]) -> Option<Account> {
        account(self.owner(&PublicKey(*key))?)
    }

    fn verify_token(&self, id: &str, token: &[u8]) -> Result<Login, LoginError> {
        let refused = |reason: &str| LoginError::Refused(reason.to_owned());
        let text = std::str::from_utf8(token).map_err(|_| refused("not text"))?;
        let now_ms = bell::now_ms();
        let bearer = self
            .tokens
            .check(text, Audience::Mqtt, now_ms)
            .map_err(|e| refused(&e.to_string()))?;
        if bearer.account.as_str() != id {
            return Err(refused("the token is of another account"));
        }
        let owner = self
            .owner(&bearer.key)
            .filter(|owner| owner.account == bearer.account);
        let owner = owner.ok_or_else(|| refused("the key is no longer registered"))?;
        let account = account(owner).ok_or_else(|| refused("the account is disabled"))?;
        Ok(Login {
            account,
            key: bearer.key.0,
            valid_for: Some(Duration::from_millis(bearer.expires_ms - now_ms)),
        })
    }

    fn identify(&self, submission: &Submission) -> Result<[u8; 32], SubmitError> {
        Ok(decode(submission)?.hash(&self.handle.chain_id()).0)
    }

    fn submit(&self, submission: Submission) -> BoxFuture<'static, Result<Admitted, SubmitError>> {
        let this = Arc::new(self.clone());
        async move { this.admit(submission).await }.boxed()
    }

    fn sync(&self, gateway: &str, why: SyncReason) -> BoxFuture<'static, Result<(), SubmitError>> {
        let (work, gateway) = (self.work.get().cloned(), Id::new(gateway));
        async move {
            let gateway = gateway.map_err(|e| SubmitError::Invalid(e.to_string()))?;
            let work = work.ok_or(SubmitError::Busy)?;
            // What is open is told, whatever the gateway has seen: the ledger is the queue.
            match why {
                SyncReason::Listens => work.listens(&gateway),
                SyncReason::Asks { held: None, .. } => work.list(&gateway),
                SyncReason::Asks {
                    held: Some(held), ..
                } => work.compare(&gateway, held).await.map_err(|e| {
                    tracing::error!(error = causes(&e), "the work of a gateway can't be read");
                    SubmitError::Busy
                })?,
            }
            Ok(())
        }
        .boxed()
    }
}

impl LedgerBackend {
    async fn admit(self: Arc<Self>, submission: Submission) -> Result<Admitted, SubmitError> {
        let signed = decode(&submission)?;
        let owner = self
            .owner(&signed.key)
            .map(|owner| owner.account.to_string());
        if owner.as_deref() != Some(submission.account.as_str()) {
            let detail = "the transaction is signed by a key of another account";
            return Err(SubmitError::Unauthorized(detail.to_owned()));
        }
        let ticket = self
            .handle
            .submit(signed)
            .await
            .map_err(|error| match error {
                lamplighter_ledger::SubmitError::Busy(_) => SubmitError::Busy,
                lamplighter_ledger::SubmitError::State(_) => SubmitError::Busy,
                other => SubmitError::Invalid(causes(&other)),
            })?;
        let transaction = ticket.hash.0;
        self.follow(submission.account, ticket)?;
        Ok(Admitted {
            transaction,
            receipt: None,
        })
    }
}
