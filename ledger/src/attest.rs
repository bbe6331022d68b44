//! Signs the headers that this node computed, and gathers the others' signatures into certificates.
//! Off the critical path: transactions are acknowledged by Raft, certificates follow a little
//! later.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lamplighter_state::{StateError, prove, tables};
use lamplighter_store::{Batch, Durability};
use lamplighter_types::crypto::{SignedMessage, verify_all};
use lamplighter_types::proof::CertifiedHeader;
use lamplighter_types::{Attestation, Certificate, Hash, SecretKey};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::alarms::NodeAlarm;
use crate::certify::{Collected, Collector};
use crate::chain::Halt;
use crate::inner::Inner;
use crate::message::{ATTESTATIONS_MAX, PeerNotice};

/// How often what was not certified is told again.
const TELL_AGAIN_EVERY: Duration = Duration::from_secs(1);
/// Changes of the validators that are told in one message: everything above waits for each of them.
const CHANGES_TOLD: usize = 64;
/// Of other headers the newest are told again: the certificate of one does for those below.
const OWN_MAX: usize = ATTESTATIONS_MAX - CHANGES_TOLD - 1;
/// Headers signed with one sync of the disk.
const SIGN_MAX: u64 = 256;

/// The attester's memory.
pub(crate) struct Attester {
    secret: SecretKey,
    collector: Mutex<Collector>,
    /// What this node signed last and is not certified yet, to be told again; at most [`OWN_MAX`].
    own: Mutex<BTreeMap<u64, Attestation>>,
}

impl Attester {
    pub fn new(secret: SecretKey, certified: u64) -> Self {
        let mut collector = Collector::default();
        collector.settle(certified);
        Self {
            secret,
            collector: Mutex::new(collector),
            own: Mutex::default(),
        }
    }

    fn own(&self) -> MutexGuard<'_, BTreeMap<u64, Attestation>> {
        self.own.lock().expect("no panic with the lock")
    }

    fn collector(&self) -> MutexGuard<'_, Collector> {
        self.collector.lock().expect("no panic with the lock")
    }
}

/// Signs new headers as they come, until `stop`.
pub(crate) async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    let mut head = inner.chain.watch_head();
    // A crash may have come between a block and its signature.
    head.mark_changed();
    // Of its own, whatever else happens: with a new block all the time there is never a pause.
    let mut again = tokio::time::interval(TELL_AGAIN_EVERY);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let done = tokio::select! {
            changed = head.changed() => match changed {
                Ok(()) => sign_new(&inner).await,
                Err(_) => return,
            },
            _ = again.tick() => tell_again(&inner),
            () = stop.cancelled() => return,
        };
        if let Err(error) = done {
            inner.chain.halt(Halt::Store(error.to_string()));
            tracing::error!(%error, "headers can't be signed: the store failed");
            return;
        }
    }
}

/// Makes (height, hash) durable for each new header, then signs and tells.
///
/// A crash before the write leaves nothing signed. A crash after it leaves a record that forbids
/// another header at that height; the same one is signed again, to the same bytes.
async fn sign_new(inner: &Arc<Inner>) -> Result<(), StateError> {
    let due = due(inner)?;
    if due.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new();
    for (height, hash) in &due {
        tables::put_attested(&mut batch, *height, hash);
    }
    let store = inner.chain.kv().clone();
    inner
        .blocking
        .run(move || store.write(batch, Durability::Synced))
        .await?;
    let secret = &inner.attester.secret;
    let attestations: Vec<_> = due
        .iter()
        .map(|(height, hash)| Attestation::sign(*height, *hash, secret))
        .collect();
    {
        let mut own = inner.attester.own();
        own.extend(attestations.iter().map(|a| (a.height, a.clone())));
        while own.len() > OWN_MAX {
            own.pop_first();
        }
    }
    inner.peers.tell_all(PeerNotice {
        attestations: attestations.clone(),
        certified: None,
    });
    for attestation in attestations {
        collect(inner, attestation)?;
    }
    Ok(())
}

/// The headers to sign: new, of a height at which none was signed, with a believable time, and in
/// whose set this node is.
fn due(inner: &Arc<Inner>) -> Result<Vec<(u64, Hash)>, StateError> {
    let head = inner.chain.head().height;
    let store = &*inner.chain.store();
    let last = tables::last_attested(store)?.map_or(0, |(height, _)| height);
    // Far behind, only the newest: its certificate covers the others through the history root. A
    // header that changes the validators is never left out.
    let recent = head.saturating_sub(SIGN_MAX - 1);
    let first = (last + 1).max(recent);
    let key = inner.attester.secret.public();
    let now_ms = inner.clock.now_ms();
    let mut due = Vec::new();
    let changes = inner.chain.changes_in(last + 1..first)?;
    for height in changes.into_iter().chain(first..=head) {
        let Some(header) = tables::header(store, height)? else {
            continue;
        };
        if inner.chain.validators_at(height)?.by_key(&key).is_none() {
            continue;
        }
        let offset_ms = header.timestamp_ms.abs_diff(now_ms);
        let changes_validators = inner.chain.lacks_certificate(height)?;
        if offset_ms > inner.config.clock_offset_max_ms && !changes_validators {
            let alarm = NodeAlarm::ClockOffset { height, offset_ms };
            tracing::warn!(height, offset_ms, "{alarm}");
            inner.alarms.raise(alarm, now_ms);
            continue;
        }
        due.push((height, header.hash()));
    }
    Ok(due)
}

/// Takes what another node told.
pub(crate) fn take_notice(inner: &Arc<Inner>, notice: PeerNotice) -> Result<(), StateError> {
    if let Some(certified) = notice.certified {
        take_certified(inner, certified)?;
    }
    let PeerNotice {
        mut attestations, ..
    } = notice;
    attestations.truncate(ATTESTATIONS_MAX);
    let certified = inner.chain.certified_height();
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
    let good = verify_all(&items);
    for (attestation, good) in attestations.into_iter().zip(good) {
        if good {
            collect(inner, attestation)?;
        } else {
            tracing::warn!(key = %attestation.key, "an attestation with a wrong signature");
        }
    }
    Ok(())
}

/// The height in an attestation is not signed, the header's hash is: what does not fit this node's
/// header of that height proves nothing by itself, and is not collected.
fn collect(inner: &Arc<Inner>, attestation: Attestation) -> Result<(), StateError> {
    let (height, header) = (attestation.height, attestation.header);
    let set = inner.chain.validators_at(height)?;
    if let Some(own) = tables::header(&*inner.chain.store(), height)?
        && own.hash() != header
    {
        if set.by_key(&attestation.key).is_some() {
            let alarm = NodeAlarm::Contradiction(attestation);
            tracing::error!(height, "{alarm}");
            inner.alarms.raise(alarm, inner.clock.now_ms());
        }
        return Ok(());
    }
    let collected = {
        let mut collector = inner.attester.collector();
        collector.reach(inner.chain.head().height);
        if !collector.is_near(height) && inner.chain.lacks_certificate(height)? {
            collector.await_height(height);
        }
        collector.add(attestation, &set)
    };
    match collected {
        Collected::Certificate(certificate) => take_certificate(inner, certificate),
        Collected::Ignored | Collected::Kept => Ok(()),
    }
}

/// Takes a certified header from another node. One that a quorum certified and that is not this
/// node's own is the proof that this node, or the quorum, is wrong: the node stops applying.
fn take_certified(inner: &Arc<Inner>, certified: CertifiedHeader) -> Result<(), StateError> {
    let CertifiedHeader {
        header,
        certificate,
    } = certified;
    let height = header.height;
    if certificate.height != height || certificate.header != header.hash() {
        tracing::warn!(height, "a certificate that is not of its header");
        return Ok(());
    }
    let Some(own) = tables::header(&*inner.chain.store(), height)? else {
        return Ok(());
    };
    if own == header {
        return take_certificate(inner, certificate);
    }
    let set = inner.chain.validators_at(height)?;
    if header.chain_id == own.chain_id && certificate.verify(&set).is_ok() {
        tracing::error!(
            height,
            "a certificate contradicts this node's header: it stops applying"
        );
        inner.chain.halt(Halt::Contradiction {
            height,
            certified: certificate.header,
        });
    }
    Ok(())
}

/// Stores a certificate for a header that this node computed too.
pub(crate) fn take_certificate(
    inner: &Arc<Inner>,
    certificate: Certificate,
) -> Result<(), StateError> {
    let height = certificate.height;
    if height <= inner.chain.certified_height() {
        return Ok(());
    }
    let Some(header) = tables::header(&*inner.chain.store(), height)? else {
        // Not there yet: the certificate comes again when this node has caught up.
        return Ok(());
    };
    let set = inner.chain.validators_at(height)?;
    if header.hash() != certificate.header {
        return Ok(());
    }
    if let Err(error) = certificate.verify(&set) {
        tracing::warn!(height, %error, "a certificate that does not certify");
        return Ok(());
    }
    inner.chain.certify(&certificate)?;
    let certified = inner.chain.certified_height();
    inner.attester.collector().settle(certified);
    let mut own = inner.attester.own();
    *own = own.split_off(&(certified + 1));
    Ok(())
}

/// What this node signed and is not certified: the newest, and whatever changes the validators,
/// which nobody else may be able to certify. What it signed before it started last is signed again,
/// to the same bytes: the hash is on disk.
fn uncertified(inner: &Inner) -> Result<Vec<Attestation>, StateError> {
    let store = &*inner.chain.store();
    let mut own = inner.attester.own().clone();
    let Some((last, _)) = tables::last_attested(store)? else {
        return Ok(Vec::new());
    };
    let certified = inner.chain.certified_height();
    let changes = inner.chain.changes_in(certified + 1..last)?;
    let secret = &inner.attester.secret;
    let key = secret.public();
    for height in changes.into_iter().take(CHANGES_TOLD).chain([last]) {
        if height <= certified || own.contains_key(&height) {
            continue;
        }
        let Some(hash) = tables::attested(store, height)? else {
            continue;
        };
        if inner.chain.validators_at(height)?.by_key(&key).is_some() {
            own.insert(height, Attestation::sign(height, hash, secret));
        }
    }
    Ok(own.into_values().collect())
}

/// A lost message must not leave the head uncertified for ever. This node counts its own again,
/// too: when they were made, the height may not have been one that it collects.
fn tell_again(inner: &Arc<Inner>) -> Result<(), StateError> {
    let attestations = uncertified(inner)?;
    for attestation in &attestations {
        collect(inner, attestation.clone())?;
    }
    let store = &*inner.chain.store();
    let certified = prove::certified_header(store, inner.chain.certified_height()).ok();
    if !attestations.is_empty() || certified.is_some() {
        inner.peers.tell_all(PeerNotice {
            attestations,
            certified,
        });
    }
    Ok(())
}
