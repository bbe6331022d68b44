//! Verifies attestations and certificates of this node and its peers, and stores the certificates.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use lamplighter_state::{StateError, tables};
use lamplighter_types::crypto::{SignedMessage, verify_all};
use lamplighter_types::proof::CertifiedHeader;
use lamplighter_types::{Attestation, Certificate};

use super::collector::{Collected, Collector};
use crate::alarms::{Alarms, NodeAlarm};
use crate::chain::{Chain, Halt};
use crate::message::{ATTESTATIONS_MAX, PeerGossip};

pub(crate) struct Certifier {
    chain: Arc<Chain>,
    alarms: Arc<Alarms>,
    /// Used by this node's attester and by every message of a peer; held for one attestation.
    collector: Mutex<Collector>,
    peer_certified_height: AtomicU64,
}

impl Certifier {
    pub fn new(chain: Arc<Chain>, alarms: Arc<Alarms>) -> Self {
        let mut collector = Collector::default();
        collector.prune_certified(chain.certified_height());
        Self {
            chain,
            alarms,
            collector: Mutex::new(collector),
            peer_certified_height: AtomicU64::new(0),
        }
    }

    fn collector(&self) -> MutexGuard<'_, Collector> {
        self.collector
            .lock()
            .expect("the lock is not poisoned: no holder panics")
    }

    /// The highest certified block that a peer reported, unverified: it only shows how far there is
    /// to go.
    pub fn peer_certified_height(&self) -> u64 {
        self.peer_certified_height.load(Ordering::Relaxed)
    }

    /// Handles a broadcast of a peer.
    pub fn handle_gossip(&self, gossip: PeerGossip) -> Result<(), StateError> {
        let PeerGossip {
            mut attestations,
            certified,
        } = gossip;
        if let Some(certified) = certified {
            self.peer_certified_height
                .fetch_max(certified.header.height, Ordering::Relaxed);
            self.handle_certified_header(certified)?;
        }
        attestations.truncate(ATTESTATIONS_MAX);
        let certified = self.chain.certified_height();
        attestations.retain(|a| a.height > certified);
        let messages: Vec<_> = attestations.iter().map(Attestation::message).collect();
        let items: Vec<_> = attestations
            .iter()
            .zip(&messages)
            .map(|(a, message)| SignedMessage {
                key: a.key,
                message,
                signature: a.signature,
            })
            .collect();
        let valid = verify_all(&items);
        for (attestation, valid) in attestations.into_iter().zip(valid) {
            if valid {
                self.add_attestation(attestation)?;
            } else {
                tracing::warn!(key = %attestation.key, "an attestation with a wrong signature");
            }
        }
        Ok(())
    }

    /// Collects an attestation whose signature was verified.
    ///
    /// The height in an attestation is not signed, the header's hash is: an attestation that does
    /// not fit this node's header of that height proves nothing by itself, and is not collected.
    pub fn add_attestation(&self, attestation: Attestation) -> Result<(), StateError> {
        let (height, hash) = (attestation.height, attestation.header);
        let set = self.chain.validators_at(height)?;
        if let Some(header) = tables::header(&*self.chain.store(), height)?
            && header.hash() != hash
        {
            if set.by_key(&attestation.key).is_some() {
                let alarm = NodeAlarm::Contradiction(attestation);
                tracing::error!(height, "{alarm}");
                self.alarms.raise(alarm);
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
            Collected::Certificate(certificate) => self.add_certificate(certificate),
            Collected::Ignored | Collected::Kept => Ok(()),
        }
    }

    /// Stores the certificate of a peer's header, if this node computed the same header. If a
    /// quorum certified another one, this node or the quorum is wrong: the node stops applying.
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
        let Some(computed) = tables::header(&*self.chain.store(), height)? else {
            return Ok(());
        };
        if computed == header {
            return self.add_certificate(certificate);
        }
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
        Ok(())
    }

    /// Verifies and stores a certificate, if it is newer than the newest and this node computed the
    /// same header.
    pub fn add_certificate(&self, certificate: Certificate) -> Result<(), StateError> {
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
        if let Err(error) = certificate.verify(&set) {
            tracing::warn!(height, %error, "a certificate that does not certify");
            return Ok(());
        }
        self.chain.add_certificate(&certificate)?;
        let certified = self.chain.certified_height();
        self.collector().prune_certified(certified);
        Ok(())
    }
}
