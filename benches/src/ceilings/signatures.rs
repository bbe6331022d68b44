//! The rates of signatures on one core: of real transactions, under as many keys as the load has.

use std::hint::black_box;
use std::time::{Duration, Instant};

use lamplighter_types::crypto::{SignedMessage, VERIFY_BATCH, verify_all};
use lamplighter_types::{Hash, PublicKey, Signature};

use crate::fleet::{Fleet, administrator_key};

/// 256 signed transactions of 64 keys.
pub struct SignedMessages(Vec<(PublicKey, Vec<u8>, Signature)>);

/// The rate of `work` per second; each call counts for `each`.
fn rate(within: Duration, each: usize, mut work: impl FnMut(usize)) -> f64 {
    let begun = Instant::now();
    let mut rounds = 0;
    while begun.elapsed() < within {
        work(rounds);
        rounds += 1;
    }
    (rounds * each) as f64 / begun.elapsed().as_secs_f64()
}

impl SignedMessages {
    pub fn new() -> Self {
        let fleet = Fleet::new(Hash::ZERO);
        let signed = (0..VERIFY_BATCH).map(|client| fleet.event(client));
        let parts = signed.map(|s| (s.key, s.signing_bytes(&Hash::ZERO), s.signature));
        Self(parts.collect())
    }

    pub fn sign(&self, within: Duration) -> f64 {
        let secret = administrator_key();
        rate(within, 1, |round| {
            let (_, message, _) = &self.0[round % self.0.len()];
            black_box(secret.sign(message));
        })
    }

    pub fn verify_single(&self, within: Duration) -> f64 {
        rate(within, 1, |round| {
            let (key, message, signature) = &self.0[round % self.0.len()];
            key.verify(message, signature)
                .expect("it was signed a moment ago");
        })
    }

    pub fn verify_batch(&self, within: Duration) -> f64 {
        let signed = self.0.iter();
        let items: Vec<_> = signed
            .map(|(key, message, signature)| SignedMessage {
                key: *key,
                message,
                signature: *signature,
            })
            .collect();
        rate(within, items.len(), |_| {
            let verdicts = verify_all(&items);
            assert!(
                verdicts.into_iter().all(|good| good),
                "they were signed a moment ago"
            );
        })
    }
}
