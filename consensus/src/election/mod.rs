//! Proven leadership: a vote is signed, and a leader shows the votes of a quorum.
//!
//! - `proof` signed votes and the proof that they make.

mod proof;

pub use self::proof::{ElectionProof, SignatureBytes, SignedVote, quorum};
