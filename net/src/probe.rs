//! Detects another process that uses this node's key.
//!
//! Peers dial a node at the address that the ledger has for it, and a node with the highest key
//! dials no peer. So a second process with the same key, started elsewhere, may meet no peer that
//! could refuse it, and would wait for ever. So a node dials its own address: if another process
//! answers there with this key, both report that the key is in use. Only an owner of the key can
//! cause that report, and it stops no node.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_system::error_chain;
use tokio::time::sleep;

use crate::dial::attempt;
use crate::error::LinkError;
use crate::handshake;
use crate::network_state::NetworkState;

/// The time between two probes; a report that two of them did not confirm is withdrawn.
pub(crate) const PROBE_EVERY: Duration = Duration::from_secs(60);

/// Probes periodically until the network stops.
pub(crate) async fn run(state: Arc<NetworkState>) {
    let probes = async {
        loop {
            if let Some(address) = state.advertised_address() {
                probe(&state, &address).await;
            }
            state.expire_key_conflict();
            tokio::select! {
                () = state.address_changed.notified() => {}
                () = sleep(PROBE_EVERY) => {}
            }
        }
    };
    state.stop.run_until_cancelled(probes).await;
}

async fn probe(state: &NetworkState, address: &str) {
    let dialed = handshake::with_timeout(state, attempt(state, state.key, address)).await;
    match dialed {
        Err(LinkError::SelfConnection) => {}
        Ok(_) | Err(LinkError::KeyInUse) => {
            state.report_key_conflict(&format!("answers at {address}"))
        }
        Err(LinkError::WrongKey { found, .. }) => tracing::warn!(
            %address, %found,
            "the address that the ledger has for this node belongs to another one"
        ),
        // The address may not be reachable from here, as behind a router.
        Err(error) => {
            tracing::debug!(%address, "no look at the own address: {}", error_chain(&error))
        }
    }
}
