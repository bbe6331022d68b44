//! Dials peers: one task for each listed peer that this node has to dial.

use std::sync::Arc;

use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::NodeKey;
use crate::error::LinkError;
use crate::handshake::{self, EstablishedConnection};
use crate::link;
use crate::network_state::NetworkState;
use lamplighter_system::Backoff;

/// IP addresses of one host name that are tried in one attempt.
const ADDRESSES_TRIED_MAX: usize = 4;

/// Keeps the peer connected until `stop`; `address_changed` wakes it when the peer's address
/// changes.
pub(crate) async fn run(
    state: Arc<NetworkState>,
    key: NodeKey,
    address_changed: Arc<Notify>,
    stop: CancellationToken,
) {
    let limits = state.limits;
    let mut backoff = Backoff::new(limits.backoff_min, limits.backoff_max);
    loop {
        let Some(address) = state.table.find(&key).flatten() else {
            // The peer can't be dialed; it may dial this node.
            match stop.run_until_cancelled(address_changed.notified()).await {
                Some(()) => continue,
                None => return,
            }
        };
        let attempt = handshake::with_timeout(&state, attempt(&state, key, &address));
        match stop.run_until_cancelled(attempt).await {
            None => return,
            Some(Ok(established)) => {
                if link::run(&state, established).await >= limits.stable_after {
                    backoff.reset();
                }
            }
            Some(Err(error)) => {
                tracing::debug!(peer = ?key, %address, %error, "dialing failed");
                state.table.record_error(key, &error);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = address_changed.notified() => backoff.reset(),
            () = sleep(backoff.next_pause()) => {}
        }
    }
}

pub(crate) async fn attempt(
    state: &NetworkState,
    key: NodeKey,
    address: &str,
) -> Result<EstablishedConnection, LinkError> {
    let tcp = connect(address).await?;
    handshake::dial(state, tcp, key).await
}

async fn connect(address: &str) -> Result<TcpStream, LinkError> {
    let resolved = lookup_host(address).await;
    let resolved = resolved.map_err(|source| LinkError::Resolve {
        address: address.into(),
        source,
    })?;
    let mut last = LinkError::NoAddress {
        address: address.into(),
    };
    for ip in resolved.take(ADDRESSES_TRIED_MAX) {
        match TcpStream::connect(ip).await {
            Ok(tcp) => return Ok(tcp),
            Err(source) => {
                last = LinkError::Connect {
                    address: ip.to_string(),
                    source,
                }
            }
        }
    }
    Err(last)
}
