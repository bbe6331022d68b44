//! Keys and signatures. ed25519-dalek makes keys and signs; every verification follows ZIP-215
//! through ed25519-zebra, under which single and batch verification agree, so that no two nodes can
//! disagree.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{LazyLock, Mutex, PoisonError};

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use ed25519_zebra::{VerificationKey, VerificationKeyBytes, batch};
use rand_core::{TryCryptoRng, TryRng};

use crate::{Hash, Id, PublicKey, Signature};

/// The purpose of a signature. Its text, closed by a zero byte, precedes the signed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    Transaction,
    Attestation,
    Release,
    DeviceReport,
    DeviceEvent,
    KeyPossession,
    Token,
    /// A Thing's registration at its gateway; never on the ledger.
    Registration,
}

impl Domain {
    /// The bytes that precede what is signed.
    pub const fn prefix(self) -> &'static [u8] {
        match self {
            Domain::Transaction => b"lamplighter/transaction/1\0",
            Domain::Attestation => b"lamplighter/attestation/2\0",
            Domain::Release => b"lamplighter/release/1\0",
            Domain::DeviceReport => b"lamplighter/device-report/1\0",
            Domain::DeviceEvent => b"lamplighter/device-event/1\0",
            Domain::KeyPossession => b"lamplighter/key-possession/2\0",
            Domain::Token => b"lamplighter/token/2\0",
            Domain::Registration => b"lamplighter/registration/1\0",
        }
    }

    /// The bytes that are signed: prefix and parts, joined.
    pub fn message(self, parts: &[&[u8]]) -> Vec<u8> {
        let length = self.prefix().len() + parts.iter().map(|part| part.len()).sum::<usize>();
        let mut message = Vec::with_capacity(length);
        message.extend_from_slice(self.prefix());
        parts
            .iter()
            .for_each(|part| message.extend_from_slice(part));
        message
    }
}

/// The kind of the subject for which a key is introduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPurpose {
    /// A user or a gateway.
    Account,
    /// A validator or an observer, by the name of its account.
    Node,
    Device,
}

impl KeyPurpose {
    /// The text that is signed.
    pub const fn text(self) -> &'static [u8] {
        match self {
            Self::Account => b"account",
            Self::Node => b"node",
            Self::Device => b"device",
        }
    }

    /// The bytes that `key` signs to show that its holder wants it for `subject` of this ledger.
    /// Otherwise anybody who may register could claim the key of somebody else, who then could
    /// never be registered.
    pub fn message(self, chain_id: &Hash, subject: &Id, key: &PublicKey) -> Vec<u8> {
        let (text, subject) = (self.text(), subject.as_str().as_bytes());
        Domain::KeyPossession.message(&[&chain_id.0, text, b"\0", subject, b"\0", &key.0])
    }

    /// Verifies a proof of possession.
    ///
    /// # Errors
    /// The signature is not one of `key` over [`message`](Self::message).
    pub fn verify(
        self,
        chain_id: &Hash,
        subject: &Id,
        key: &PublicKey,
        proof: &Signature,
    ) -> Result<(), BadSignature> {
        key.verify(&self.message(chain_id, subject, key), proof)
    }
}

/// The error of a signature that does not fit key and message, or of a key that is no curve point.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the signature does not verify under the key {key}")]
pub struct BadSignature {
    pub key: PublicKey,
}

/// A secret key. Wiped from memory when dropped; never printed.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

impl SecretKey {
    /// Makes the key of 32 bytes from a cryptographic random source (RFC 8032 seed).
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// The proof of possession of this key, for `subject` of the ledger `chain_id`.
    pub fn prove(&self, purpose: KeyPurpose, chain_id: &Hash, subject: &Id) -> Signature {
        self.sign(&purpose.message(chain_id, subject, &self.public()))
    }

    /// Signs `message`, which begins with a [`Domain`]'s prefix.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

/// Keys whose points are kept: those of the validators, and of gateways that send one transaction
/// at a time. A key takes some 200 bytes; one more than these, and all are found anew.
const KEPT_KEYS_MAX: usize = 1_024;

/// The points of the keys under which signatures were verified lately. To find the point of a key
/// takes a sixth of a verification, and the same few keys sign again and again.
static KEPT_KEYS: LazyLock<Mutex<HashMap<PublicKey, VerificationKey>>> =
    LazyLock::new(Mutex::default);

/// The point of a key, kept or found.
fn verification_key(key: &PublicKey) -> Result<VerificationKey, ed25519_zebra::Error> {
    // What another thread left half done can't be wrong: a key has one point.
    let kept = || KEPT_KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(point) = kept().get(key) {
        return Ok(*point);
    }
    let point = VerificationKey::try_from(key.0)?;
    let mut kept = kept();
    if kept.len() >= KEPT_KEYS_MAX {
        kept.clear();
    }
    kept.insert(*key, point);
    Ok(point)
}

impl PublicKey {
    /// Verifies one signature (ZIP-215).
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let refused = |_| BadSignature { key: *self };
        let key = verification_key(self).map_err(refused)?;
        key.verify(&signature.0.into(), message).map_err(refused)
    }

    /// Tells whether an account may have this key: a curve point that is not of small order.
    pub fn is_acceptable(&self) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| !key.is_weak())
    }
}

/// One signature to verify among others.
#[derive(Clone, Copy, Debug)]
pub struct SignedMessage<'a> {
    pub key: PublicKey,
    pub message: &'a [u8],
    pub signature: Signature,
}

/// Number of signatures verified together. Larger batches gain little and cost more to search when
/// one fails.
pub const VERIFY_BATCH: usize = 256;

/// Verifies many signatures; the answers are those of [`PublicKey::verify`], one by one.
///
/// Batches of [`VERIFY_BATCH`]; a batch that fails is searched singly.
pub fn verify_all(items: &[SignedMessage<'_>]) -> Vec<bool> {
    let mut verdicts = Vec::with_capacity(items.len());
    for chunk in items.chunks(VERIFY_BATCH) {
        if chunk.len() > 1 && verify_batch(chunk) {
            verdicts.resize(verdicts.len() + chunk.len(), true);
        } else {
            verdicts.extend(
                chunk
                    .iter()
                    .map(|i| i.key.verify(i.message, &i.signature).is_ok()),
            );
        }
    }
    verdicts
}

fn verify_batch(items: &[SignedMessage<'_>]) -> bool {
    let mut verifier = batch::Verifier::new();
    let mut seed = blake3::Hasher::new();
    for item in items {
        seed.update(&item.key.0);
        seed.update(&item.signature.0);
        seed.update(blake3::hash(item.message).as_bytes());
        let key = VerificationKeyBytes::from(item.key.0);
        verifier.queue((key, item.signature.0.into(), item.message));
    }
    verifier.verify(Coefficients(seed.finalize_xof())).is_ok()
}

/// The random coefficients of a batch, drawn from a hash of all that is verified: nobody can choose
/// signatures after the coefficients, and no source of randomness is needed.
struct Coefficients(blake3::OutputReader);

impl TryRng for Coefficients {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Coefficients {}
