//! The ledger of one node: takes transactions, orders them through consensus, executes blocks,
//! attests and certifies them, and tells subscribers. The only writer of the state.
//!
//! A transaction's way: [`Handle::submit`], `verifier`, `pool`, (`forward` to the leader),
//! `sequencer`, consensus, `machine` on every node; then the ticket's verdict, `attest`, `feed`.

mod alarms;
pub mod artifacts;
mod attest;
mod batch;
mod blocking;
mod certify;
mod chain;
mod clock;
mod config;
mod feed;
mod forward;
mod handle;
mod inner;
mod later;
mod machine;
mod membership;
mod message;
mod own;
mod pool;
mod progress;
mod prove;
mod replicate;
mod sequencer;
mod serve;
mod settle;
mod snapshot;
mod space;
mod start;
mod ticket;
mod verifier;

pub use alarms::{NodeAlarm, Noticed};
pub use chain::{Halt, HeadInfo};
pub use clock::{Clock, SystemClock};
#[cfg(feature = "planted")]
pub use config::Planted;
pub use config::{Config, PoolLimits};
pub use feed::{
    AHEAD_MAX, BLOCKS_PER_STEP, Cursor, CursorAhead, CursorError, FeedEvent, Filter, Part,
    Subscription,
};
pub use handle::{Handle, Status, SubmitError, WaitError};
pub use later::Later;
pub use membership::{Membership, NamedNodes, RaftMembers};
pub use message::{Acceptance, PeerAnswer, PeerError, PeerNotice, PeerRequest, Peers};
pub use pool::Busy;
pub use progress::{Phase, Progress};
pub use prove::{ProveError, Subject};
pub use snapshot::{ImageError, Installation};
pub use space::DiskFull;
pub use start::{Identity, Ledger, OpenError};
pub use ticket::{Commitment, Ticket, Verdict};
