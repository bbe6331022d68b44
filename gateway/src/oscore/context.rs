//! The security context of two endpoints (RFC 8613, section 3): keys that are derived from what
//! they share, and the nonces and authenticated data of sections 5.2 and 5.4. The algorithms are
//! those that every endpoint has: AES-CCM-16-64-128 and HKDF with SHA-256.

use ccm::aead::{AeadInOut, KeyInit};
use ccm::consts::{U8, U13};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::option::PartialIv;
use crate::credentials::OscoreKeys;

/// Bytes by which a ciphertext is longer than its plaintext.
pub const TAG_BYTES: usize = 8;
const KEY_BYTES: usize = 16;
const NONCE_BYTES: usize = 13;
/// Number of AES-CCM-16-64-128 (COSE), below 24: one byte of CBOR.
const ALGORITHM: u8 = 10;
const CBOR_NULL: u8 = 0xF6;

type AesCcm = ccm::Ccm<aes::Aes128, U8, U13>;

/// A nonce.
pub type Nonce = [u8; NONCE_BYTES];

/// What a message is bound to beside its own content: the request that it is, or answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestBinding {
    /// Sender id of the client.
    pub kid: Vec<u8>,
    /// The number of the request.
    pub partial_iv: PartialIv,
}

/// Keys and ids of one side. For the other side the ids, and with them the keys, are exchanged.
pub struct SecurityContext {
    sender_id: Vec<u8>,
    recipient_id: Vec<u8>,
    id_context: Option<Vec<u8>>,
    sender: AesCcm,
    recipient: AesCcm,
    common_iv: Nonce,
}

impl std::fmt::Debug for SecurityContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecurityContext({})", hex::encode(&self.recipient_id))
    }
}

impl SecurityContext {
    /// Derives the context of the gateway (section 3.2.1).
    pub fn derive(keys: &OscoreKeys) -> SecurityContext {
        let hkdf = Hkdf::<Sha256>::new(Some(&keys.salt), &keys.secret);
        let context = keys.id_context.as_deref();
        let key = |id: &[u8]| {
            let mut key = Zeroizing::new([0; KEY_BYTES]);
            expand(&hkdf, &info(id, context, "Key", KEY_BYTES), &mut *key);
            AesCcm::new_from_slice(&*key).expect("the key has the cipher's length")
        };
        let mut common_iv = [0; NONCE_BYTES];
        expand(
            &hkdf,
            &info(&[], context, "IV", NONCE_BYTES),
            &mut common_iv,
        );
        SecurityContext {
            sender: key(&keys.gateway_id),
            recipient: key(&keys.thing_id),
            sender_id: keys.gateway_id.clone(),
            recipient_id: keys.thing_id.clone(),
            id_context: keys.id_context.clone(),
            common_iv,
        }
    }

    /// The id that stands in requests of this side.
    pub fn sender_id(&self) -> &[u8] {
        &self.sender_id
    }

    /// The id context, which requests have with them.
    pub fn id_context(&self) -> Option<&[u8]> {
        self.id_context.as_deref()
    }

    /// The nonce of a message whose number was counted by this side.
    pub fn sender_nonce(&self, partial_iv: &PartialIv) -> Nonce {
        nonce(&self.common_iv, &self.sender_id, partial_iv)
    }

    /// The nonce of a message whose number was counted by the other side.
    pub fn recipient_nonce(&self, partial_iv: &PartialIv) -> Nonce {
        nonce(&self.common_iv, &self.recipient_id, partial_iv)
    }

    /// Encrypts in place of the plaintext, and appends the tag. A nonce is used once.
    pub fn seal(&self, nonce: &Nonce, binding: &RequestBinding, plaintext: Vec<u8>) -> Vec<u8> {
        let mut bytes = plaintext;
        let tag = self.sender.encrypt_inout_detached(
            &(*nonce).into(),
            &authenticated(binding),
            bytes.as_mut_slice().into(),
        );
        let tag = tag.expect("a datagram is shorter than what the cipher takes");
        bytes.extend_from_slice(&tag);
        bytes
    }

    /// Decrypts; `None` if the other side did not make this, or not for this request.
    pub fn open(
        &self,
        nonce: &Nonce,
        binding: &RequestBinding,
        ciphertext: &[u8],
    ) -> Option<Vec<u8>> {
        let at = ciphertext.len().checked_sub(TAG_BYTES)?;
        let (ciphertext, tag) = ciphertext.split_at(at);
        let tag: [u8; TAG_BYTES] = tag.try_into().ok()?;
        let mut bytes = ciphertext.to_vec();
        let opened = self.recipient.decrypt_inout_detached(
            &(*nonce).into(),
            &authenticated(binding),
            bytes.as_mut_slice().into(),
            &tag.into(),
        );
        opened.ok().map(|()| bytes)
    }

    #[cfg(test)]
    pub(super) fn common_iv(&self) -> Nonce {
        self.common_iv
    }
}

fn expand(hkdf: &Hkdf<Sha256>, info: &[u8], to: &mut [u8]) {
    hkdf.expand(info, to).expect("HKDF gives far more bytes");
}

/// `[id, id_context, alg_aead, type, L]` (section 3.2.1).
pub(super) fn info(id: &[u8], id_context: Option<&[u8]>, kind: &str, bytes: usize) -> Vec<u8> {
    let mut info = vec![0x85];
    push_bytes(&mut info, id);
    match id_context {
        Some(context) => push_bytes(&mut info, context),
        None => info.push(CBOR_NULL),
    }
    info.extend([ALGORITHM, 0x60 | kind.len() as u8]);
    info.extend(kind.as_bytes());
    info.push(bytes as u8);
    info
}

/// The structure `Encrypt0` around `[1, [alg_aead], request_kid, request_piv, options]`; there is
/// no option of class I.
pub(super) fn authenticated(binding: &RequestBinding) -> Vec<u8> {
    let mut array = vec![0x85, 1, 0x81, ALGORITHM];
    push_bytes(&mut array, &binding.kid);
    push_bytes(&mut array, binding.partial_iv.bytes());
    push_bytes(&mut array, &[]);
    let mut structure = vec![0x83, 0x68];
    structure.extend(b"Encrypt0");
    push_bytes(&mut structure, &[]);
    push_bytes(&mut structure, &array);
    structure
}

/// Length, id and number, each in its place (section 5.2).
fn nonce(common_iv: &Nonce, id: &[u8], partial_iv: &PartialIv) -> Nonce {
    const NUMBER_AT: usize = NONCE_BYTES - PartialIv::BYTES_MAX;
    let mut nonce = [0; NONCE_BYTES];
    nonce[0] = id.len() as u8;
    nonce[NUMBER_AT - id.len()..NUMBER_AT].copy_from_slice(id);
    let number = partial_iv.bytes();
    nonce[NONCE_BYTES - number.len()..].copy_from_slice(number);
    nonce.iter_mut().zip(common_iv).for_each(|(n, iv)| *n ^= iv);
    nonce
}

/// A byte string of CBOR, of at most 255 bytes.
fn push_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        length @ 0..24 => to.push(0x40 | length as u8),
        length => to.extend([0x58, length as u8]),
    }
    to.extend(bytes);
}
