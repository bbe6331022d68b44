//! Finds out whether another process uses this node's key.
//!
//! Peers dial a node at the address that the ledger has for it, and a node with the highest key
//! dials nobody. So a second process with the same key, started elsewhere, may meet no peer that
//! could refuse it, and would wait for ever. It dials its own address instead: who answers there
//! with this key and is another process is told, and tells, that the key is in use. Only who has
//! the key can say so, and nothing more than a report comes of it: it stops no node.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::dial::attempt;
use crate::error::{LinkError, chain};
use crate::handshake;
use crate::shared::Shared;

/// Between two looks; a report that nothing confirmed for two of them is taken back.
pub(crate) const PROBE_EVERY: Duration = Duration::from_secs(60);

/// Looks again and again until the network stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let look_on = async {
        loop {
            if let Some(address) = shared.own_address() {
                look(&shared, &address).await;
            }
            shared.forget_old_use();
            tokio::select! {
                () = shared.moved.notified() => {}
                () = sleep(PROBE_EVERY) => {}
            }
        }
    };
    shared.stop.run_until_cancelled(look_on).await;
}

async fn look(shared: &Shared, address: &str) {
    let dialed = handshake::in_time(shared, attempt(shared, shared.key, address)).await;
    match dialed {
        Err(LinkError::Ourselves) => {}
        Ok(_) | Err(LinkError::KeyInUse) => shared.key_in_use(&format!("answers at {address}")),
        Err(LinkError::WrongKey { found, .. }) => tracing::warn!(
            %address, %found,
            "the address that the ledger has for this node belongs to another one"
        ),
        // It may not be reachable from here, as behind a router.
        Err(error) => tracing::debug!(%address, "no look at the own address: {}", chain(&error)),
    }
}
