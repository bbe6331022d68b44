//! Fetches the missing certificate of a header that changes the validators from a peer.
//!
//! For any other header a later certificate does as well. This one holds up all above it, and the
//! validators who could sign it again may be removed.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_state::StateError;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::certifier::Certifier;
use crate::chain::{Chain, Halt};
use crate::message::{PeerAnswer, PeerRequest, Peers};

/// Time between two checks whether a certificate is missing.
const CHECK_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct CertificateFetcher {
    pub chain: Arc<Chain>,
    pub certifier: Arc<Certifier>,
    pub peers: Arc<dyn Peers>,
}

impl CertificateFetcher {
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.fetch_repeatedly()).await;
    }

    async fn fetch_repeatedly(&self) {
        let mut ticks = tokio::time::interval(CHECK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.fetch_missing().await {
                self.chain.halt(Halt::Store(error.to_string()));
                tracing::error!(%error, "no certificates can be looked for: the store failed");
                return;
            }
        }
    }

    /// Asks the connected nodes for the first missing certificate, if a peer reported one at or
    /// above it.
    async fn fetch_missing(&self) -> Result<(), StateError> {
        let Some(height) = self.chain.first_uncertified_change()? else {
            return Ok(());
        };
        if self.certifier.peer_certified_height() < height {
            return Ok(());
        }
        for node in self.peers.connected() {
            let request = PeerRequest::Certificate { height };
            if let Ok(PeerAnswer::Certificate(certificate)) =
                self.peers.request(node, request).await
            {
                self.certifier.add_certificate(*certificate)?;
            }
            if self.chain.certified_height() >= height {
                return Ok(());
            }
        }
        Ok(())
    }
}
