//! Second stage: the leader orders pending transactions into batches, followers forward theirs to
//! it, and Raft's members follow the membership of the ledger.

pub(crate) mod electorate;
pub(crate) mod forwarder;
pub(crate) mod leader_contact;
pub(crate) mod reconciler;
pub(crate) mod sequencer;
