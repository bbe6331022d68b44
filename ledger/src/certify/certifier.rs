//! Verifies attestations and certificates of this node and its peers, and stores the certificates.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use lamplighter_state::{StateError, tables};
use lamplighter_types::crypto::{SignedMessage, verify_all};
use lamplighter_types::proof::CertifiedHeader;
use lamplighter_types::{
    Attestation, Certificate, CertificateError, HEADER_VERSION, Header, ValidatorSet,
};

use super::collector::{Collected, Collector};
use super::pace::Demands;
use crate::alarms::{Alarms, NodeAlarm};
use crate::chain::{Chain, Halt};
use crate::evidence::EvidenceStore;
use crate::message::{ATTESTATIONS_MAX, PeerGossip};

pub(crate) struct Certifier {
    chain: Arc<Chain>,
    alarms: Arc<Alarms>,
    evidence: Arc<EvidenceStore>,
    /// Used by this node's attester and by every message of a peer; held for one attestation.
    collector: Mutex<Collector>,
    /// The newest validators that a peer proved.
    learned: RwLock<Option<ValidatorSet>>,
    demands: Demands,
}

impl Certifier {
    pub fn new(chain: Arc<Chain>, alarms: Arc<Alarms>, evidence: Arc<EvidenceStore>) -> Self {
        let mut collector = Collector::default();
        collector.prune_certified(chain.certified_height());
        Self {
            chain,
            alarms,
            evidence,
            collector: Mutex::new(collector),
            learned: RwLock::default(),
            demands: Demands::default(),
        }
    }

    /// Why headers are signed that are not by their time.
    pub fn demands(&self) -> &Demands {
        &self.demands
    }

    /// Returns whether an attestation of this height came in that no certificate covers.
    pub fn is_attested(&self, height: u64) -> bool {
        self.collector().is_attested(height)
    }

    fn collector(&self) -> MutexGuard<'_, Collector> {
        self.collector
            .lock()
            .expect("the lock is not poisoned: no holder panics")
    }

    /// The highest block that is proven to be certified, here or by a peer. A certificate of
    /// validators that this node does not know yet is not counted.
    pub fn peer_certified_height(&self) -> u64 {
        self.chain.peer_certified_height()
    }

    /// Takes the validators that a peer proved, of a height that this node's chain has not reached.
    pub fn learn_validators(&self, certified: u64, validators: &ValidatorSet) {
        if self.chain.raise_peer_certified(certified) {
            *self
                .learned
                .write()
                .expect("the lock is not poisoned: no holder panics") = Some(validators.clone());
        }
    }

    /// Handles a broadcast of a peer, of which nothing is believed. Verifies signatures, so it is
    /// not for an async thread.
    pub fn handle_gossip(&self, gossip: PeerGossip) -> Result<(), StateError> {
        if gossip.is_demand() {
            self.demands.record_remote();
        }
        let PeerGossip {
            attestations,
            certified,
        } = gossip;
        if let Some(certified) = certified {
            self.handle_certified_header(certified)?;
        }
        let wanted = self.wanted(attestations)?;
        let messages: Vec<_> = wanted.iter().map(Attestation::message).collect();
        let items: Vec<_> = wanted
            .iter()
            .zip(&messages)
            .map(|(a, message)| SignedMessage {
                key: a.key,
                message,
                signature: a.signature,
            })
            .collect();
        let valid = verify_all(&items);
        for (attestation, valid) in wanted.into_iter().zip(valid) {
            if valid {
                let height = attestation.height;
                self.add_attestation(attestation)?;
                // Of a block to come, the collector knows it.
                if height <= self.chain.head().height {
                    self.demands.record_attested(height);
                }
            } else {
                tracing::warn!(key = %attestation.key, "an attestation with a wrong signature");
            }
        }
        Ok(())
    }

    /// The attestations that are worth the verification of a signature: of a validator, for a
    /// height that this node collects, and not known already.
    fn wanted(&self, mut attestations: Vec<Attestation>) -> Result<Vec<Attestation>, StateError> {
        attestations.truncate(ATTESTATIONS_MAX);
        let certified = self.chain.certified_height();
        self.collector().advance_head(self.chain.head().height);
        let mut wanted: Vec<Attestation> = Vec::new();
        for attestation in attestations {
            let height = attestation.height;
            let known = || self.collector().has(&attestation) || wanted.contains(&attestation);
            if height <= certified || known() {
                continue;
            }
            let is_near = self.collector().is_near(height);
            if !is_near && !self.chain.lacks_certificate(height)? {
                continue;
            }
            if self
                .chain
                .validators_at(height)?
                .by_key(&attestation.key)
                .is_some()
            {
                wanted.push(attestation);
            }
        }
        Ok(wanted)
    }

    /// Collects an attestation whose signature was verified. One that does not fit this node's
    /// header of that height is not collected.
    pub fn add_attestation(&self, attestation: Attestation) -> Result<(), StateError> {
        let (height, hash) = (attestation.height, attestation.header);
        let set = self.chain.validators_at(height)?;
        if set.by_key(&attestation.key).is_none() {
            return Ok(());
        }
        self.look_for_evidence(&attestation);
        if let Some(header) = tables::header(&*self.chain.store(), height)?
            && header.hash() != hash
        {
            if height > self.chain.certified_height() {
                let alarm = NodeAlarm::Divergence(attestation);
                tracing::error!(height, "{alarm}");
                self.alarms.raise_until_certified(alarm, height);
            }
            return Ok(());
        }
        let collected = {
            let mut collector = self.collector();
            collector.advance_head(self.chain.head().height);
            if !collector.is_near(height) && self.chain.lacks_certificate(height)? {
                collector.await_height(height);
            }
            collector.add(attestation, &set)
        };
        match collected {
            // Each of its signatures was verified as an attestation.
            Collected::Certificate(certificate) => {
                self.keep_certificate(certificate, Certificate::check_signers)
            }
            Collected::Ignored | Collected::Kept => Ok(()),
        }
    }

    /// Raises an alarm if the validator signed another header for this height, too.
    fn look_for_evidence(&self, attestation: &Attestation) {
        let Some(other) = self.collector().other_of(attestation) else {
            return;
        };
        let both = Box::new([other, attestation.clone()]);
        let alarm = NodeAlarm::DoubleAttestation(both.clone());
        tracing::error!(height = attestation.height, "{alarm}");
        self.alarms.raise(alarm);
        self.evidence.add_attestations(&both);
    }

    /// Stores the certificate of a peer's header, if this node computed the same header. If a
    /// quorum certified another one, this node or the quorum is wrong: the node stops applying. If
    /// this node is behind, it learns how far.
    fn handle_certified_header(&self, certified: CertifiedHeader) -> Result<(), StateError> {
        let CertifiedHeader {
            header,
            certificate,
        } = certified;
        let height = header.height;
        if certificate.height != height || certificate.header != header.hash() {
            tracing::warn!(height, "a certificate that is not of its header");
            return Ok(());
        }
        match tables::header(&*self.chain.store(), height)? {
            Some(computed) if computed == header => {
                self.add_certificate(certificate)?;
            }
            Some(computed) => {
                let set = self.chain.validators_at(height)?;
                if header.chain_id == computed.chain_id && certificate.verify(&set).is_ok() {
                    tracing::error!(
                        height,
                        "a certificate contradicts this node's header: it stops applying"
                    );
                    self.chain.halt(Halt::Contradiction {
                        height,
                        certified: certificate.header,
                    });
                }
            }
            None if height > self.peer_certified_height()
                && self.is_certified_by_known(&header, &certificate) =>
            {
                self.chain.raise_peer_certified(height);
            }
            None => {}
        }
        Ok(())
    }

    /// Returns whether a header above this node's chain is certified by validators that it knows:
    /// those after its newest block, or those that a peer proved.
    fn is_certified_by_known(&self, header: &Header, certificate: &Certificate) -> bool {
        if header.version != HEADER_VERSION || header.chain_id != self.chain.chain_id() {
            return false;
        }
        let newest = self.chain.read_head().validators.clone();
        let learned = self.learned.read();
        let learned = learned.expect("the lock is not poisoned: no holder panics");
        let named = |set: &&ValidatorSet| set.hash() == header.validators_hash;
        let set = Some(&*newest).filter(named);
        let set = set.or(learned.as_ref().filter(named));
        set.is_some_and(|set| certificate.verify(set).is_ok())
    }

    /// Verifies and stores a certificate, if it is newer than the newest and this node computed the
    /// same header.
    pub fn add_certificate(&self, certificate: Certificate) -> Result<(), StateError> {
        self.keep_certificate(certificate, Certificate::verify)
    }

    /// Stores a certificate that passes `check` against the validators of its height.
    fn keep_certificate(
        &self,
        certificate: Certificate,
        check: impl FnOnce(&Certificate, &ValidatorSet) -> Result<(), CertificateError>,
    ) -> Result<(), StateError> {
        let height = certificate.height;
        if height <= self.chain.certified_height() {
            return Ok(());
        }
        let Some(header) = tables::header(&*self.chain.store(), height)? else {
            // This node is behind: the certificate comes again when it has caught up.
            return Ok(());
        };
        let set = self.chain.validators_at(height)?;
        if header.hash() != certificate.header {
            return Ok(());
        }
        if let Err(error) = check(&certificate, &set) {
            tracing::warn!(height, %error, "a certificate that does not certify");
            return Ok(());
        }
        // Even if a change of the validators below holds it up: then it says that the certificate
        // of the change is to be had.
        self.chain.raise_peer_certified(height);
        self.chain.add_certificate(&certificate)?;
        let certified = self.chain.certified_height();
        self.collector().prune_certified(certified);
        Ok(())
    }
}
