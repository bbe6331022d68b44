//! Signs the headers that this node computed, and broadcasts the attestations until they are
//! certified.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_state::{StateError, prove, tables};
use lamplighter_store::{Durability, WriteBatch};
use lamplighter_types::{Attestation, Hash, SecretKey};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::certifier::Certifier;
use crate::alarms::{Alarms, NodeAlarm};
use crate::blocking::Blocking;
use crate::chain::{Chain, Halt};
use crate::clock::Clock;
use crate::config::LedgerConfig;
use crate::message::{ATTESTATIONS_MAX, PeerGossip, Peers};

/// Time between two broadcasts of the uncertified attestations.
const REBROADCAST_EVERY: Duration = Duration::from_secs(1);
/// Attestations in one broadcast, the newest: one certificate covers the headers below it. There is
/// space for that of a set change and that of before the last start.
const UNCERTIFIED_MAX: usize = ATTESTATIONS_MAX - 2;
/// Headers signed with one sync of the disk.
const SIGN_MAX: u64 = 256;

pub(crate) struct Attester {
    pub config: LedgerConfig,
    pub secret: SecretKey,
    pub chain: Arc<Chain>,
    pub certifier: Arc<Certifier>,
    pub peers: Arc<dyn Peers>,
    pub alarms: Arc<Alarms>,
    pub clock: Arc<dyn Clock>,
    pub blocking: Blocking,
}

/// This node's last attestations without a certificate, by height; at most [`UNCERTIFIED_MAX`].
type Uncertified = BTreeMap<u64, Attestation>;

impl Attester {
    /// Signs new headers as they come, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut uncertified = Uncertified::new();
        let mut head = self.chain.watch_head();
        let mut certified = self.chain.watch_certified();
        // A crash may have come between a block and its signature.
        head.mark_changed();
        // A timer, not a pause: with a new block all the time there is never a pause.
        let mut rebroadcast = tokio::time::interval(REBROADCAST_EVERY);
        rebroadcast.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let result = tokio::select! {
                changed = head.changed() => match changed {
                    Ok(()) => self.sign_new(&mut uncertified).await,
                    Err(_) => return,
                },
                changed = certified.changed() => match changed {
                    // What is above a change of the validators may be signed now.
                    Ok(()) if self.has_unsigned() => self.sign_new(&mut uncertified).await,
                    Ok(()) => Ok(()),
                    Err(_) => return,
                },
                _ = rebroadcast.tick() => self.rebroadcast(&mut uncertified),
                () = stop.cancelled() => return,
            };
            if let Err(error) = result {
                self.chain.halt(Halt::Store(error.to_string()));
                tracing::error!(%error, "headers can't be signed: the store failed");
                return;
            }
        }
    }

    /// Makes (height, hash) durable for each new header, then signs and broadcasts.
    ///
    /// A crash before the write leaves nothing signed. A crash after it leaves a record that
    /// forbids another header at that height; the same one is signed again, to the same bytes.
    async fn sign_new(&self, uncertified: &mut Uncertified) -> Result<(), StateError> {
        let headers = self.headers_to_sign()?;
        if headers.is_empty() {
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        for (height, hash) in &headers {
            tables::put_attested(&mut batch, *height, hash);
        }
        let store = self.chain.kv().clone();
        self.blocking
            .run(move || store.write(batch, Durability::Synced))
            .await?;
        let attestations: Vec<_> = headers
            .iter()
            .map(|(height, hash)| Attestation::sign(*height, *hash, &self.secret))
            .collect();
        self.alarms.clear_clock_offset();
        self.drop_certified(uncertified);
        uncertified.extend(attestations.iter().map(|a| (a.height, a.clone())));
        while uncertified.len() > UNCERTIFIED_MAX {
            uncertified.pop_first();
        }
        self.peers.broadcast(PeerGossip {
            attestations: attestations.clone(),
            certified: None,
        });
        for attestation in attestations {
            self.certifier.add_attestation(attestation)?;
        }
        Ok(())
    }

    /// The headers to sign: new, at a height at which this node signed none, with a plausible time,
    /// and certified by a set that this node is in.
    ///
    /// Nothing is signed above a change of the validators that has no certificate of its own. So a
    /// signature of an honest validator vouches for every change below it, and a verifier may skip
    /// those (`types::proof` has the argument).
    fn headers_to_sign(&self) -> Result<Vec<(u64, Hash)>, StateError> {
        let head = self.chain.head().height;
        let held_up_at = self.chain.first_uncertified_change()?;
        let head = held_up_at.map_or(head, |change| head.min(change));
        let store = &*self.chain.store();
        let last = tables::last_attested(store)?.map_or(0, |(height, _)| height);
        // Far behind, only the newest: its certificate covers the others through the history root.
        // The change that holds up the others is the newest of them.
        let recent = head.saturating_sub(SIGN_MAX - 1);
        let first = (last + 1).max(recent);
        let key = self.secret.public();
        let now_ms = self.clock.now_ms();
        let mut headers = Vec::new();
        for height in first..=head {
            let Some(header) = tables::header(store, height)? else {
                continue;
            };
            if self.chain.validators_at(height)?.by_key(&key).is_none() {
                continue;
            }
            let offset_ms = header.timestamp_ms.abs_diff(now_ms);
            let changes_validators = self.chain.lacks_certificate(height)?;
            if offset_ms > self.config.clock_offset_max_ms && !changes_validators {
                let alarm = NodeAlarm::ClockOffset { height, offset_ms };
                tracing::warn!(height, offset_ms, "{alarm}");
                self.alarms.raise(alarm);
                continue;
            }
            headers.push((height, header.hash()));
        }
        Ok(headers)
    }

    /// True if the newest header is not signed yet.
    fn has_unsigned(&self) -> bool {
        let last = tables::last_attested(&*self.chain.store());
        // A store that fails is reported where headers are signed.
        !last.is_ok_and(|last| last.is_some_and(|(last, _)| last >= self.chain.head().height))
    }

    fn drop_certified(&self, uncertified: &mut Uncertified) {
        let certified = self.chain.certified_height();
        *uncertified = uncertified.split_off(&(certified + 1));
    }

    /// This node's attestations without a certificate: the newest, and that of the set change that
    /// holds up the others, which no other node may be able to certify. Those of before the last
    /// start are signed again, to the same bytes: the hash is on disk.
    fn to_rebroadcast(&self, mut uncertified: Uncertified) -> Result<Vec<Attestation>, StateError> {
        let store = &*self.chain.store();
        let Some((last, _)) = tables::last_attested(store)? else {
            return Ok(Vec::new());
        };
        let certified = self.chain.certified_height();
        let change = self.chain.first_uncertified_change()?;
        let key = self.secret.public();
        for height in change.into_iter().chain([last]) {
            if height <= certified || uncertified.contains_key(&height) {
                continue;
            }
            let Some(hash) = tables::attested(store, height)? else {
                continue;
            };
            // Of a log that was dropped since: this height is not attested again.
            if tables::header_hash(store, height)? != Some(hash) {
                continue;
            }
            if self.chain.validators_at(height)?.by_key(&key).is_some() {
                uncertified.insert(height, Attestation::sign(height, hash, &self.secret));
            }
        }
        Ok(uncertified.into_values().collect())
    }

    /// Broadcasts the uncertified attestations and the newest certificate: a lost message must not
    /// leave the head uncertified for ever. This node counts its own attestations a second time,
    /// too: when they were made, the height may not have been one that it collects.
    fn rebroadcast(&self, uncertified: &mut Uncertified) -> Result<(), StateError> {
        self.drop_certified(uncertified);
        let attestations = self.to_rebroadcast(uncertified.clone())?;
        for attestation in &attestations {
            self.certifier.add_attestation(attestation.clone())?;
        }
        let store = &*self.chain.store();
        let certified = prove::certified_header(store, self.chain.certified_height()).ok();
        if !attestations.is_empty() || certified.is_some() {
            self.peers.broadcast(PeerGossip {
                attestations,
                certified,
            });
        }
        Ok(())
    }
}
