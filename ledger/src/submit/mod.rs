//! First stage: a client's signed transaction is verified, admitted to the mempool, and gets a
//! ticket. The resolver gives the ticket its verdict.

pub(crate) mod admission;
pub(crate) mod mempool;
pub(crate) mod node_account;
pub(crate) mod resolver;
