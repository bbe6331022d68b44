//! The types of a city's ledger: ids, keys, hashes, transactions, blocks, receipts, certificates
//! and proofs, with their one encoding and their verification. The crate has no IO, no async code
//! and no clock, so that gateways, auditors and validators use the same code.

pub mod action;
pub mod artifact;
pub mod block;
mod bytes;
pub mod codec;
pub mod crypto;
pub mod filter;
pub mod genesis;
mod id;
pub mod json;
pub mod limits;
pub mod login;
pub mod merkle;
mod notification;
mod printable;
pub mod proof;
pub mod protocol;
pub mod record;
pub mod report;
pub mod schedule;
#[cfg(feature = "openapi")]
mod schema;
mod state_key;
pub mod tables;
pub mod transaction;
pub mod validate;
pub mod wire;

pub use action::*;
pub use block::{
    Attestation, Block, Certificate, CertificateError, CertificateSignature, HEADER_VERSION,
    Header, Outcome, Receipt, RefusalFields, Validator, ValidatorSet,
};
pub use bytes::{Hash, HexBytes, HexError, PublicKey, SessionId, Signature};
pub use crypto::{Domain, KeyPurpose, SecretKey};
pub use genesis::{GENESIS_VERSION, Genesis, GenesisAccount, GenesisError, GenesisWarning};
pub use id::{Id, NameError, Scope, Version};
pub use notification::{Fact, MessageKind, Notification, Place};
pub use printable::{is_plain, is_unseen, printable, printable_json};
pub use proof::{ProofBundle, ProofError, Proven, VALIDATOR_SET_KEY};
pub use record::*;
pub use report::DeviceSigned;
pub use state_key::StateKey;
pub use transaction::{
    Encoding, SignedTransaction, Transaction, TransactionError, UnverifiedTransaction, Verified,
};
