//! The proof that a request to `/rd` comes from the device that it names: the signature of the
//! device's key on the ledger.
//!
//! 1. The Thing posts its request. The gateway answers 4.01 with a nonce in the option Echo.
//! 2. The Thing sends the same request with this Echo and the argument `sig`, 128 hexadecimal
//!    digits: its signature over chain, device, nonce and everything that the request says.
//!
//! The nonce is bound to the peer (address, or session) and to the time, so that the signature is
//! worth nothing from elsewhere or later. The gateway stores nothing for it.

use std::net::IpAddr;
use std::time::Duration;

use lamplighter_types::{Domain, Hash, PublicKey, SecretKey, Signature};

use crate::coap::{Code, Peer, Request};

/// The argument with the signature.
const ARGUMENT: &str = "sig";
/// The time for the second request, over a slow mesh.
const NONCE_AGE_MAX: Duration = Duration::from_secs(120);
const NUMBER_BYTES: usize = 8;
const MAC_BYTES: usize = 16;

/// A proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Without nonce or signature, or with a nonce of another peer or an earlier time.
    #[error("the device's signature over this nonce is missing")]
    Missing,
    /// The signature is wrong.
    #[error("the signature is not that of the device's key")]
    Signature,
}

/// Makes nonces and verifies them.
#[derive(Debug)]
pub struct Nonces {
    secret: [u8; 32],
    /// The number of the newest nonce: milliseconds since the start, and always higher than before.
    newest: u64,
}

impl Nonces {
    /// With a random secret; nonces of another one are worth nothing.
    pub fn new(secret: [u8; 32]) -> Nonces {
        Nonces { secret, newest: 0 }
    }

    /// A nonce for a peer, at a time since the start.
    pub fn issue(&mut self, now: Duration, peer: Peer) -> Vec<u8> {
        self.newest = (self.newest + 1).max(now.as_millis() as u64);
        let number = self.newest.to_be_bytes();
        [number.as_slice(), &self.mac(number, peer)].concat()
    }

    /// The number of a nonce, if it is this peer's and recent. Later nonces have higher numbers.
    pub fn verify(&self, now: Duration, peer: Peer, nonce: &[u8]) -> Option<u64> {
        let (number, mac) = nonce.split_first_chunk::<NUMBER_BYTES>()?;
        // The peer can't find the right bytes one by one: each failure gives it a new number.
        if mac != self.mac(*number, peer) {
            return None;
        }
        let number = u64::from_be_bytes(*number);
        let recent = number + NONCE_AGE_MAX.as_millis() as u64 >= now.as_millis() as u64;
        (recent && number <= self.newest).then_some(number)
    }

    fn mac(&self, number: [u8; NUMBER_BYTES], peer: Peer) -> [u8; MAC_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(&number);
        match peer.address.ip() {
            IpAddr::V4(ip) => hasher.update(&ip.octets()),
            IpAddr::V6(ip) => hasher.update(&ip.octets()),
        };
        hasher.update(&peer.address.port().to_be_bytes());
        hasher.update(&peer.session.unwrap_or_default().to_be_bytes());
        let mut mac = [0; MAC_BYTES];
        hasher.finalize_xof().fill(&mut mac);
        mac
    }
}

/// True if the request has a signature.
pub fn is_signed(request: &Request) -> bool {
    request.argument(ARGUMENT).is_some()
}

/// The request with the nonce and the Thing's signature.
pub fn sign(
    mut request: Request,
    nonce: Vec<u8>,
    chain_id: &Hash,
    device: &str,
    secret: &SecretKey,
) -> Request {
    let signature = secret.sign(&message(chain_id, device, &nonce, &request));
    request.echo = Some(nonce);
    request.with_query(format!("{ARGUMENT}={}", hex::encode(signature.0)))
}

/// Verifies the signature of a request; the nonce is verified by [`Nonces`].
pub fn verify(
    request: &Request,
    chain_id: &Hash,
    device: &str,
    key: &PublicKey,
) -> Result<(), ProofError> {
    let (Some(nonce), Some(text)) = (&request.echo, request.argument(ARGUMENT)) else {
        return Err(ProofError::Missing);
    };
    let mut signature = [0; 64];
    hex::decode_to_slice(text, &mut signature).map_err(|_| ProofError::Signature)?;
    let message = message(chain_id, device, nonce, request);
    key.verify(&message, &Signature(signature))
        .map_err(|_| ProofError::Signature)
}

/// The bytes that are signed: each part with its length before it.
fn message(chain_id: &Hash, device: &str, nonce: &[u8], request: &Request) -> Vec<u8> {
    let Code(method) = request.method;
    let path = request.path_text();
    let prefix = format!("{ARGUMENT}=");
    let arguments: Vec<&String> = request
        .query
        .iter()
        .filter(|argument| !argument.starts_with(&prefix))
        .collect();
    let count = (arguments.len() as u32).to_be_bytes();
    let mut parts: Vec<&[u8]> = vec![device.as_bytes(), nonce, path.as_bytes(), &count];
    parts.extend(arguments.iter().map(|argument| argument.as_bytes()));
    parts.push(&request.payload);
    let mut bytes = Domain::Registration.message(&[&chain_id.0, &[method]]);
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}
