//! Dialing: one task for each listed peer that is ours to dial.

use std::sync::Arc;

use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::NodeKey;
use crate::backoff::Backoff;
use crate::error::LinkError;
use crate::handshake::{self, Established};
use crate::link;
use crate::shared::Shared;

/// IP addresses of one name that are tried in one attempt.
const ADDRESSES_TRIED_MAX: usize = 4;

/// Keeps the peer connected until `stop`; `moved` tells that its address has changed.
pub(crate) async fn run(
    shared: Arc<Shared>,
    key: NodeKey,
    moved: Arc<Notify>,
    stop: CancellationToken,
) {
    let limits = shared.limits;
    let mut backoff = Backoff::new(limits.backoff_min, limits.backoff_max);
    loop {
        let Some(address) = shared.table.find(&key).flatten() else {
            // Not to be dialed; it may dial us.
            match stop.run_until_cancelled(moved.notified()).await {
                Some(()) => continue,
                None => return,
            }
        };
        let attempt = handshake::in_time(&shared, attempt(&shared, key, &address));
        match stop.run_until_cancelled(attempt).await {
            None => return,
            Some(Ok(established)) => {
                if link::run(&shared, established).await >= limits.stable_after {
                    backoff.reset();
                }
            }
            Some(Err(error)) => {
                tracing::debug!(peer = ?key, %address, %error, "dialing failed");
                shared.table.note(key, &error);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = moved.notified() => backoff.reset(),
            () = sleep(backoff.pause()) => {}
        }
    }
}

pub(crate) async fn attempt(
    shared: &Shared,
    key: NodeKey,
    address: &str,
) -> Result<Established, LinkError> {
    let tcp = connect(address).await?;
    handshake::dial(shared, tcp, key).await
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
