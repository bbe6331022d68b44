//! Accepts connections, with limits on those that have not proved an identity.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lamplighter_system::error_chain;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::error::LinkError;
use crate::handshake;
use crate::link;
use crate::network_state::{NetworkState, count};

/// The pause after an error of `accept` that concerns the whole process, such as too many open
/// files: it would recur at once.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(100);

/// The number of unfinished handshakes, in total and by IP address.
#[derive(Default)]
struct PendingHandshakes {
    total: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// The permission for one handshake, returned when it is dropped.
struct HandshakePermit {
    pending: Arc<Mutex<PendingHandshakes>>,
    ip: IpAddr,
}

/// Accepts connections until the network stops.
pub(crate) async fn run(state: Arc<NetworkState>, listener: TcpListener) {
    let pending = Arc::new(Mutex::new(PendingHandshakes::default()));
    while let Some(accepted) = state.stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((tcp, from)) => match HandshakePermit::acquire(&state, &pending, from.ip()) {
                Some(permit) => {
                    let served = serve(state.clone(), tcp, from, permit);
                    state.tasks.spawn(served);
                }
                None => {
                    count(&state.counts.dropped_connections);
                    tracing::debug!(%from, "too many handshakes, connection dropped");
                }
            },
            Err(error) => {
                tracing::warn!("accepting a connection failed: {}", error_chain(&error));
                sleep(ACCEPT_ERROR_PAUSE).await;
            }
        }
    }
}

async fn serve(
    state: Arc<NetworkState>,
    tcp: TcpStream,
    from: SocketAddr,
    permit: HandshakePermit,
) {
    let handshake = handshake::with_timeout(&state, handshake::accept(&state, tcp));
    match state.stop.run_until_cancelled(handshake).await {
        None => {}
        Some(Err(LinkError::SelfConnection)) => {}
        Some(Err(LinkError::KeyInUse)) => {
            state.report_key_conflict(&format!("connects from {from}"))
        }
        Some(Err(error)) => state.count_refused(from, &error),
        Some(Ok(established)) => {
            drop(permit);
            link::run(&state, established).await;
        }
    }
}

impl HandshakePermit {
    fn acquire(
        state: &NetworkState,
        pending: &Arc<Mutex<PendingHandshakes>>,
        ip: IpAddr,
    ) -> Option<Self> {
        let mut counts = pending.lock().unwrap_or_else(PoisonError::into_inner);
        let of_ip = counts.by_ip.get(&ip).copied().unwrap_or(0);
        let limits = &state.limits;
        if counts.total >= limits.handshakes_max || of_ip >= limits.handshakes_per_ip_max {
            return None;
        }
        counts.total += 1;
        counts.by_ip.insert(ip, of_ip + 1);
        Some(Self {
            pending: pending.clone(),
            ip,
        })
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        let mut counts = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        if let Some(of_ip) = counts.by_ip.get_mut(&self.ip) {
            *of_ip -= 1;
            if *of_ip == 0 {
                counts.by_ip.remove(&self.ip);
            }
        }
    }
}
