//! Signs the headers that this node computed, and broadcasts the attestations until they are
//! certified. `pace` says which headers.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lamplighter_state::{StateError, prove, tables};
use lamplighter_store::{Durability, WriteBatch};
use lamplighter_types::{Attestation, Hash, Header, SecretKey};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::certifier::Certifier;
use super::pace::{UNCERTIFIED_AFTER, begins_interval};
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
/// Headers that are considered with one sync of the disk.
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

/// What the attester keeps in memory. All of it may be lost.
#[derive(Default)]
struct Attesting {
    /// This node's last attestations without a certificate, by height; at most
    /// [`UNCERTIFIED_MAX`].
    uncertified: BTreeMap<u64, Attestation>,
    /// The highest header that was considered. One that was passed over is signed only if it is
    /// still the newest.
    considered: u64,
    /// The highest height at which this node signed; none before it was read from the disk.
    last_signed: Option<u64>,
    /// When the newest header without a certificate is signed, whatever its time.
    sign_newest_at: Option<Instant>,
    announcements: u64,
}

impl Attester {
    /// Signs new headers as they come, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut attesting = Attesting::default();
        let mut head = self.chain.watch_head();
        let mut certified = self.chain.watch_certified();
        let mut demand = self.certifier.demands().watch();
        // A crash may have come between a block and its signature.
        head.mark_changed();
        // A timer, not a pause: with a new block all the time there is never a pause.
        let mut rebroadcast = tokio::time::interval(REBROADCAST_EVERY);
        rebroadcast.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let result = tokio::select! {
                changed = head.changed() => match changed {
                    Ok(()) => {
                        self.set_timer(&mut attesting);
                        self.sign_new(&mut attesting, false).await
                    }
                    Err(_) => return,
                },
                changed = certified.changed() => match changed {
                    // What is above a change of the validators may be signed now.
                    Ok(()) => {
                        attesting.sign_newest_at = None;
                        self.set_timer(&mut attesting);
                        self.sign_new(&mut attesting, false).await
                    }
                    Err(_) => return,
                },
                changed = demand.changed() => match changed {
                    Ok(()) => {
                        self.announce(&mut attesting);
                        self.sign_new(&mut attesting, false).await
                    }
                    Err(_) => return,
                },
                () = until(attesting.sign_newest_at) => {
                    attesting.sign_newest_at = None;
                    self.sign_new(&mut attesting, true).await
                }
                _ = rebroadcast.tick() => self.rebroadcast(&mut attesting).await,
                () = stop.cancelled() => return,
            };
            if let Err(error) = result {
                self.chain.halt(Halt::Store(error.to_string()));
                tracing::error!(%error, "headers can't be signed: the store failed");
                return;
            }
        }
    }

    /// Announces to the other nodes that a caller of this one waits for a certificate.
    fn announce(&self, attesting: &mut Attesting) {
        let announcements = self.certifier.demands().newest().announcements;
        if announcements > attesting.announcements {
            attesting.announcements = announcements;
            self.peers.broadcast(PeerGossip::demand());
        }
    }

    /// Makes (height, hash) durable for each header that is to be signed, then signs and
    /// broadcasts.
    ///
    /// A crash before the write leaves nothing signed. A crash after it leaves a record that
    /// forbids another header at that height; the same one is signed again, to the same bytes.
    async fn sign_new(&self, attesting: &mut Attesting, newest: bool) -> Result<(), StateError> {
        let headers = self.headers_to_sign(attesting, newest)?;
        if headers.is_empty() {
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        for (height, hash) in &headers {
            tables::put_attested(&mut batch, *height, hash);
            self.certifier.demands().record_signed(*height);
        }
        let store = self.chain.kv().clone();
        self.blocking
            .run(move || store.write(batch, Durability::Synced))
            .await?;
        let attestations: Vec<_> = headers
            .iter()
            .map(|(height, hash)| Attestation::sign(*height, *hash, &self.secret))
            .collect();
        attesting.last_signed = headers.last().map(|(height, _)| *height);
        self.alarms.clear_clock_offset();
        self.drop_certified(attesting);
        let uncertified = &mut attesting.uncertified;
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

    /// Sets when the newest header is signed, whatever its time, unless it is certified.
    fn set_timer(&self, attesting: &mut Attesting) {
        if self.chain.certified_height() >= self.chain.head().height {
            attesting.sign_newest_at = None;
        } else if attesting.sign_newest_at.is_none() {
            attesting.sign_newest_at = Some(Instant::now() + UNCERTIFIED_AFTER);
        }
    }

    /// The headers to sign: worth a signature, with a plausible time, and certified by a set that
    /// this node is in.
    fn headers_to_sign(
        &self,
        attesting: &mut Attesting,
        newest: bool,
    ) -> Result<Vec<(u64, Hash)>, StateError> {
        let store = &*self.chain.store();
        let mut headers = Vec::new();
        for height in self.heights_to_sign(attesting, newest)? {
            if let Some(header) = tables::header(store, height)?
                && self.may_sign(&header)?
            {
                headers.push((height, header.hash()));
            }
        }
        Ok(headers)
    }

    /// The heights to sign at, all above those at which this node signed; with `newest` the newest
    /// one too, if it is not certified.
    ///
    /// Nothing is signed above a change of the validators that has no certificate of its own. So a
    /// signature of an honest validator vouches for every change below it, and a verifier may skip
    /// those (`types::proof` has the argument).
    fn heights_to_sign(
        &self,
        attesting: &mut Attesting,
        newest: bool,
    ) -> Result<BTreeSet<u64>, StateError> {
        let head = self.chain.head().height;
        let held_up_at = self.chain.first_uncertified_change()?;
        let head = held_up_at.map_or(head, |change| head.min(change));
        let last = match attesting.last_signed {
            Some(last) => last,
            None => {
                let last = tables::last_attested(&*self.chain.store())?;
                *attesting
                    .last_signed
                    .insert(last.map_or(0, |(height, _)| height))
            }
        };
        // Far behind, only the newest: their certificates cover the others through the history
        // root. The change that holds up the others is the newest of them.
        let first = (last + 1).max(head.saturating_sub(SIGN_MAX - 1));
        let demand = self.certifier.demands().newest();
        let mut heights = BTreeSet::new();
        if (first..=head).contains(&demand.attested) {
            heights.insert(demand.attested);
        }
        let wanted = newest || demand.lasts();
        if wanted && head >= first && head > self.chain.certified_height() {
            heights.insert(head);
        }
        for height in first.max(attesting.considered + 1)..=head {
            if demand.lasts() || self.is_worth_signing(height)? {
                heights.insert(height);
            }
        }
        attesting.considered = attesting.considered.max(head);
        Ok(heights)
    }

    /// Returns whether a new header is signed at once: the same on every node, unless another
    /// validator has signed it already.
    fn is_worth_signing(&self, height: u64) -> Result<bool, StateError> {
        if self.certifier.is_attested(height) || self.chain.lacks_certificate(height)? {
            return Ok(true);
        }
        let store = &*self.chain.store();
        let parent = match height.checked_sub(1) {
            Some(parent) => tables::header(store, parent)?,
            None => None,
        };
        let (Some(parent), Some(header)) = (parent, tables::header(store, height)?) else {
            return Ok(true);
        };
        Ok(begins_interval(parent.timestamp_ms, header.timestamp_ms))
    }

    /// Returns whether this node certifies the header, and its time is plausible.
    fn may_sign(&self, header: &Header) -> Result<bool, StateError> {
        let (height, key) = (header.height, self.secret.public());
        if self.chain.validators_at(height)?.by_key(&key).is_none() {
            return Ok(false);
        }
        let offset_ms = header.timestamp_ms.abs_diff(self.clock.now_ms());
        let is_far_off = offset_ms > self.config.clock_offset_max_ms;
        if is_far_off && !self.chain.lacks_certificate(height)? {
            let alarm = NodeAlarm::ClockOffset { height, offset_ms };
            tracing::warn!(height, offset_ms, "{alarm}");
            self.alarms.raise(alarm);
            return Ok(false);
        }
        Ok(true)
    }

    fn drop_certified(&self, attesting: &mut Attesting) {
        let certified = self.chain.certified_height();
        attesting.uncertified = attesting.uncertified.split_off(&(certified + 1));
    }

    /// This node's attestations without a certificate: the newest, and that of the set change that
    /// holds up the others, which no other node may be able to certify. Those of before the last
    /// start are signed again, to the same bytes: the hash is on disk.
    fn to_rebroadcast(
        &self,
        mut uncertified: BTreeMap<u64, Attestation>,
    ) -> Result<Vec<Attestation>, StateError> {
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
    /// too: when they were made, the height may not have been one that it collects. The newest
    /// header is signed if it was not: its time may have become plausible, and the validators may
    /// have signed different heights when messages were lost.
    async fn rebroadcast(&self, attesting: &mut Attesting) -> Result<(), StateError> {
        if self.chain.head().height > self.chain.certified_height() {
            self.sign_new(attesting, true).await?;
        }
        self.drop_certified(attesting);
        let attestations = self.to_rebroadcast(attesting.uncertified.clone())?;
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

/// Waits until a moment; for ever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
