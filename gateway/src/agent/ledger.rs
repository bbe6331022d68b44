//! Transactions on their way to the ledger, and what it says of them.

use std::time::Duration;

use lamplighter_client::ClientError;
use lamplighter_types::proof::{CertifiedHeader, verify_head};
use lamplighter_types::work::SyncRequest;
use lamplighter_types::{
    DeploymentState, Encoding, Hash, Receipt, SignedTransaction, Transaction, codec,
};
use serde::Deserialize;
use tokio::time::Instant;

use super::GatewayError;
use super::actor::{Actor, Done, now_ms, on_disk};
use super::jobs::Effect;
use crate::north::link::{FromNode, ToNode};
use crate::north::outbox::{self, Batch, Landing, Settled};
use crate::spool::{Outgoing, Record};

/// How long a transaction may be on its way: a gateway may be cut off right after it signed.
const EXPIRES_AFTER_MS: u64 = 12 * 3600 * 1000;
/// A transaction without receipt is sent again after so long.
const RESEND_AFTER: Duration = Duration::from_secs(15);
/// While nothing seems to be missing the node is told so often what we hold.
const SYNC_EVERY: Duration = Duration::from_secs(300);
/// After a node refused a transaction nothing is signed for so long.
const HOLD: Duration = Duration::from_secs(1);
/// The node that is asked for a proof may be some blocks behind the one that told of the receipt:
/// it is asked again after this pause, doubled up to [`LAG_MAX`].
const LAG_FIRST: Duration = Duration::from_millis(100);
const LAG_MAX: Duration = Duration::from_secs(2);
/// Receipts whose proofs are fetched at once.
const PROVING_MAX: usize = 8;

/// What a node says of a transaction. Only a hint: a receipt counts when it is proven.
#[derive(Deserialize)]
struct ReceiptMessage {
    transaction: Option<Hash>,
    /// The guard of the edge did not admit it.
    status: Option<String>,
    /// The ledger left it out.
    refused: Option<serde::de::IgnoredAny>,
}

impl Actor {
    pub(super) async fn on_node(&mut self, event: FromNode) -> Result<(), GatewayError> {
        match event {
            FromNode::Connected(node) => {
                // What it says over MQTT it can prove over HTTP, while others may be a block
                // behind.
                self.parts.client.prefer(node);
                self.connected = true;
                self.sync();
                let flights = self.parts.spool.state().flights().values();
                self.outgoing = flights.map(|flight| flight.transaction).collect();
                self.ask_sequence();
            }
            FromNode::Lost => {
                self.connected = false;
                self.syncs.clear();
                self.outgoing.clear();
            }
            FromNode::Receipt(payload) => self.on_receipt(&payload).await?,
            FromNode::Work(payload) => self.on_work(&payload),
            FromNode::Head(payload) => self.on_head(&payload),
        }
        Ok(())
    }

    pub(super) fn has_message(&self) -> bool {
        self.connected && !(self.syncs.is_empty() && self.outgoing.is_empty())
    }

    /// Says which devices we hold; the node tells where the ledger differs.
    pub(super) fn sync(&mut self) {
        self.syncs = self.parts.devices.held().into();
        self.sync_at = Instant::now() + SYNC_EVERY;
    }

    /// What is to be sent next.
    pub(super) fn next_message(&mut self) -> Option<ToNode> {
        if let Some(held) = self.syncs.pop_front() {
            let asked = SyncRequest {
                since: None,
                devices: Some(held),
            };
            let json = serde_json::to_vec(&asked).expect("our types have JSON forms");
            return Some(ToNode::Sync(json.into()));
        }
        let transaction = self.outgoing.pop_front()?;
        let flight = self.parts.spool.state().flight(&transaction)?;
        let json = serde_json::to_vec(&flight.envelope).expect("our types have JSON forms");
        self.sent.insert(transaction, Instant::now());
        Some(ToNode::Transaction(json.into()))
    }

    /// Sends again what got no receipt for long.
    pub(super) fn resend_old(&mut self) {
        if !self.connected {
            return;
        }
        let now = Instant::now();
        let flights = self.parts.spool.state().flights().values();
        let old = flights
            .map(|flight| flight.transaction)
            .filter(|transaction| {
                let sent = self.sent.get(transaction);
                sent.is_some_and(|at| now - *at > RESEND_AFTER)
            });
        let old: Vec<_> = old.collect();
        for transaction in old {
            self.sent.insert(transaction, now);
            self.outgoing.push_back(transaction);
            // It may be the receipt that was lost.
            self.prove(transaction);
        }
    }

    /// Signs what waits, batch by batch. The signed bytes are on disk before they are sent.
    pub(super) async fn sign_waiting(&mut self) -> Result<(), GatewayError> {
        let may = self.connected && self.sequence_known && Instant::now() >= self.hold_until;
        while let Some(Batch { items, action }) = may
            .then(|| outbox::next_batch(self.parts.spool.state(), &self.held, Instant::now()))
            .flatten()
        {
            let sequence = self.parts.spool.state().sequence() + 1;
            let content = Transaction {
                sender: self.parts.config.account.clone(),
                sequence,
                expires_ms: now_ms() + EXPIRES_AFTER_MS,
                action,
            };
            let (chain, secret) = (&self.chain_id, &self.parts.secret);
            let envelope = SignedTransaction::sign(&content, Encoding::Bincode, chain, secret);
            let transaction = envelope.hash(chain);
            let envelope = Box::new(envelope);
            let record = Record::Sign {
                sequence,
                items,
                transaction,
                envelope,
            };
            if !self.commit(vec![record]).await? {
                self.hold_until = Instant::now() + HOLD;
                return Ok(());
            }
            self.outgoing.push_back(transaction);
        }
        Ok(())
    }

    async fn on_receipt(&mut self, payload: &[u8]) -> Result<(), GatewayError> {
        let Ok(message) = serde_json::from_slice::<ReceiptMessage>(payload) else {
            tracing::warn!("a node sent something that is no receipt");
            return Ok(());
        };
        let Some(transaction) = message.transaction else {
            return Ok(());
        };
        if self.parts.spool.state().flight(&transaction).is_none() {
            return Ok(());
        }
        if message.status.is_none() && message.refused.is_none() {
            self.hinted.insert(transaction);
            self.prove(transaction);
            return Ok(());
        }
        let text = String::from_utf8_lossy(&payload[..payload.len().min(300)]).into_owned();
        tracing::warn!(%transaction, text, "a node refused a transaction; it is signed anew");
        self.requeue(transaction).await
    }

    /// A transaction that was not admitted is signed anew, with a number that the ledger has not
    /// seen. Should it have happened all the same, the ledger knows its reports by their counters.
    async fn requeue(&mut self, transaction: Hash) -> Result<(), GatewayError> {
        let batch_max = crate::spool::BATCH_ITEMS_MAX;
        if self
            .commit(vec![Record::Requeue {
                transaction,
                batch_max,
            }])
            .await?
        {
            self.sent.remove(&transaction);
        }
        self.hold_until = Instant::now() + HOLD;
        self.sequence_known = false;
        self.ask_sequence();
        Ok(())
    }

    /// Fetches the proven receipt of a transaction under way. Without a proof a node could make the
    /// gateway forget reports that never happened.
    fn prove(&mut self, transaction: Hash) {
        if self.proving.len() >= PROVING_MAX || !self.proving.insert(transaction) {
            return;
        }
        let client = self.parts.client.clone();
        self.tasks.spawn(async move {
            let mut pause = LAG_FIRST;
            loop {
                let result = client.proven_receipt(&transaction).await;
                if result.as_ref().is_err_and(ClientError::is_not_found) && pause < LAG_MAX {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    continue;
                }
                let result = result.map(|(receipt, proven)| (receipt, proven.height));
                return Done::Proved {
                    transaction,
                    result,
                };
            }
        });
    }

    pub(super) async fn on_proved(
        &mut self,
        transaction: Hash,
        result: Result<(Receipt, u64), ClientError>,
    ) -> Result<Vec<Effect>, GatewayError> {
        let (receipt, height) = match result {
            Ok(proven) => proven,
            Err(error) => {
                let error = crate::chain(&error);
                tracing::info!(%transaction, error, "a receipt is not proven yet");
                return Ok(Vec::new());
            }
        };
        let state = self.parts.spool.state();
        let Some(flight) = state.flight(&transaction) else {
            return Ok(Vec::new());
        };
        let Landing { record, settled } =
            outbox::land(flight, &receipt, state, &mut self.held, Instant::now());
        // Otherwise it stays under way: it is sent again, and proven again, until it can be buried.
        if !self.bury(&settled) || !self.commit(vec![record]).await? {
            return Ok(Vec::new());
        }
        self.held.settled(&settled, self.parts.spool.state());
        self.sent.remove(&transaction);
        self.prove_others();
        let now = now_ms();
        let effects = settled.iter().flat_map(|done| {
            self.jobs
                .settled(&done.outgoing, done.refused.is_some(), height, now)
        });
        Ok(effects.collect())
    }

    /// Receipts that came while too many proofs were under way are looked for now.
    fn prove_others(&mut self) {
        let state = self.parts.spool.state();
        let mut waiting = Vec::new();
        self.hinted.retain(|transaction| {
            let open = state.flight(transaction).is_some();
            if open && !self.proving.contains(transaction) {
                waiting.push(*transaction);
            }
            open
        });
        waiting
            .into_iter()
            .take(PROVING_MAX)
            .for_each(|transaction| self.prove(transaction));
    }

    /// Writes down for a person what the ledger refused for ever. False if the disk did not take
    /// all of it: then nothing may be forgotten. What it took is there twice after the next time.
    fn bury(&mut self, settled: &[Settled]) -> bool {
        for Settled { outgoing, refused } in settled {
            let Some(reason) = refused else { continue };
            let (device, (code, message)) = (outgoing.device(), reason);
            tracing::warn!(%device, code, message, "the ledger refused a report");
            // Offers of the gateway itself are made again; nothing is lost with them.
            if is_own_offer(outgoing) {
                continue;
            }
            let letters = &mut self.parts.refused;
            if let Err(error) = on_disk(|| letters.add(outgoing, reason, now_ms())) {
                tracing::error!(%error, %device, "a refused report could not be written down");
                return false;
            }
        }
        true
    }

    /// After a failure, once some time has passed.
    pub(super) fn ask_sequence_again(&mut self) {
        if self.connected && Instant::now() >= self.hold_until {
            self.ask_sequence();
        }
    }

    fn ask_sequence(&mut self) {
        if self.sequence_known || std::mem::replace(&mut self.asking_sequence, true) {
            return;
        }
        let (client, key) = (self.parts.client.clone(), self.parts.secret.public());
        self.tasks.spawn(async move {
            let known = client.key(&key).await;
            Done::Highest(known.map(|known| known.value.highest_sequence))
        });
    }

    pub(super) async fn on_highest(
        &mut self,
        result: Result<u64, ClientError>,
    ) -> Result<(), GatewayError> {
        self.asking_sequence = false;
        match result {
            Ok(highest) => {
                let state = self.parts.spool.state();
                let (mine, number) = (state.sequence(), state.number());
                // A node that lies must not use the numbers up: they only have to be above our own.
                let sequence = mine.max(highest.min(mine.saturating_add(JUMP_MAX)));
                let record = Record::Counters { sequence, number };
                self.sequence_known = self.commit(vec![record]).await?;
            }
            Err(error) => {
                let error = crate::chain(&error);
                tracing::warn!(error, "the key's sequence number is not known");
                self.hold_until = Instant::now() + HOLD;
            }
        }
        Ok(())
    }

    /// Takes a head that is certified by the validators that we know of; new ones come with the
    /// next work.
    fn on_head(&mut self, payload: &[u8]) {
        let Ok(head) = codec::decode_json::<CertifiedHeader>(payload) else {
            return;
        };
        match verify_head(&head, &self.set_changes, &self.parts.genesis) {
            Ok(_) => self.jobs.saw(head.header.height),
            Err(error) => tracing::debug!(error = crate::chain(&error), "a head is not proven"),
        }
    }
}

/// The ledger itself allows no larger step of sequence numbers.
const JUMP_MAX: u64 = 1 << 32;

fn is_own_offer(outgoing: &Outgoing) -> bool {
    let Outgoing::Deployment(report) = outgoing else {
        return false;
    };
    let own = matches!(
        report.to,
        DeploymentState::Offered | DeploymentState::Downloading
    );
    own && report.signature.is_none()
}
