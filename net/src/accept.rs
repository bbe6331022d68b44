//! Accepting connections, with limits on those that have not proved who they are.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::error::{LinkError, chain};
use crate::handshake;
use crate::link;
use crate::shared::{Shared, count};

/// Pause after an error of `accept` that concerns the whole process, such as too many open files:
/// it would come again at once.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Handshakes under way, in all and by IP address.
#[derive(Default)]
struct Pending {
    all: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// One handshake's place; given back when it is dropped.
struct Place {
    pending: Arc<Mutex<Pending>>,
    ip: IpAddr,
}

/// Accepts connections until the network stops.
pub(crate) async fn run(shared: Arc<Shared>, listener: TcpListener) {
    let pending = Arc::new(Mutex::new(Pending::default()));
    while let Some(accepted) = shared.stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((tcp, from)) => match Place::take(&shared, &pending, from.ip()) {
                Some(place) => {
                    let served = serve(shared.clone(), tcp, from, place);
                    shared.tasks.spawn(served);
                }
                None => {
                    count(&shared.counts.dropped_connections);
                    tracing::debug!(%from, "too many handshakes, connection dropped");
                }
            },
            Err(error) => {
                tracing::warn!("accepting a connection failed: {}", chain(&error));
                sleep(ACCEPT_ERROR_PAUSE).await;
            }
        }
    }
}

async fn serve(shared: Arc<Shared>, tcp: TcpStream, from: SocketAddr, place: Place) {
    let handshake = handshake::in_time(&shared, handshake::accept(&shared, tcp));
    match shared.stop.run_until_cancelled(handshake).await {
        None => {}
        Some(Err(LinkError::Ourselves)) => {}
        Some(Err(LinkError::KeyInUse)) => shared.key_in_use(&format!("connects from {from}")),
        Some(Err(error)) => shared.refused(from, &error),
        Some(Ok(established)) => {
            drop(place);
            link::run(&shared, established).await;
        }
    }
}

impl Place {
    fn take(shared: &Shared, pending: &Arc<Mutex<Pending>>, ip: IpAddr) -> Option<Place> {
        let mut counts = pending.lock().unwrap_or_else(PoisonError::into_inner);
        let of_ip = counts.by_ip.get(&ip).copied().unwrap_or(0);
        let limits = &shared.limits;
        if counts.all >= limits.handshakes_max || of_ip >= limits.handshakes_per_ip_max {
            return None;
        }
        counts.all += 1;
        counts.by_ip.insert(ip, of_ip + 1);
        Some(Place {
            pending: pending.clone(),
            ip,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(of_ip) = counts.by_ip.get_mut(&self.ip) {
            *of_ip -= 1;
            if *of_ip == 0 {
                counts.by_ip.remove(&self.ip);
            }
        }
    }
}
