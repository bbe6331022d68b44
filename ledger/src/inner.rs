use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use lamplighter_consensus::Consensus;
use tokio::sync::watch;

use crate::alarms::Alarms;
use crate::artifacts::Artifacts;
use crate::attest::Attester;
use crate::blocking::Blocking;
use crate::chain::Chain;
use crate::clock::Clock;
use crate::config::Config;
use crate::feed::Feeds;
use crate::later::Later;
use crate::message::Peers;
use crate::own::Own;
use crate::pool::Pool;
use crate::progress::Progress;
use crate::snapshot::Installation;
use crate::verifier::Verifier;

/// What the tasks of one node share.
pub(crate) struct Inner {
    pub config: Config,
    pub chain: Arc<Chain>,
    pub pool: Arc<Pool>,
    pub feeds: Feeds,
    pub verifier: Verifier,
    pub peers: Arc<dyn Peers>,
    pub clock: Arc<dyn Clock>,
    pub blocking: Blocking,
    pub attester: Attester,
    pub alarms: Alarms,
    pub own: Own,
    pub artifacts: Artifacts,
    pub consensus: OnceLock<Consensus>,
    /// How far the installation of an image has come, while there is one.
    pub installation: watch::Receiver<Option<Installation>>,
    pub progress: watch::Sender<Progress>,
    /// The highest certified block that another node told of; only to show how far there is to go.
    pub told_height: AtomicU64,
    /// Why others may not take this node for who it says it is.
    pub identity_trouble: watch::Sender<Option<String>>,
    /// Whom others proved to validate beyond this node's head.
    pub later: watch::Sender<Option<Later>>,
}

impl Inner {
    /// Consensus starts after the ledger, whose state machine it drives.
    pub fn consensus(&self) -> &Consensus {
        self.consensus
            .get()
            .expect("tasks begin after consensus has started")
    }
}
