//! Fourth stage: validators attest the headers they computed, and a quorum of attestations becomes
//! a certificate. Off the critical path: Raft acknowledges transactions, certificates follow a
//! little later.

pub(crate) mod attester;
pub(crate) mod certifier;
pub(crate) mod collector;
pub(crate) mod fetch;
pub(crate) mod pace;
