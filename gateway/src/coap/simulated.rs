//! A network in memory that loses, duplicates and reorders datagrams by a seed. With tokio's
//! paused clock a test over it is fast and repeatable.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;

use super::peer::Peer;
use super::socket::DatagramSocket;
use crate::south::datagram_on_air;

/// Datagrams that one socket holds before it drops more, as a kernel's buffer does.
const SOCKET_DATAGRAMS_MAX: usize = 1024;

/// The faults of the network.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// Share of datagrams that are lost, 0 to 1.
    pub drop: f64,
    /// Share of datagrams that arrive twice.
    pub duplicate: f64,
    /// The longest delay; each datagram gets a random one, so datagrams may overtake each other.
    pub delay_max: Duration,
}

impl Faults {
    /// A link that loses nothing and takes no time.
    pub const NONE: Faults = Faults {
        drop: 0.0,
        duplicate: 0.0,
        delay_max: Duration::ZERO,
    };
}

type Datagram = (SocketAddr, Vec<u8>);

#[derive(Debug)]
struct NetworkState {
    random: StdRng,
    faults: Faults,
    /// The shortest time of a datagram, beside the random delay.
    latency: Duration,
    sockets: HashMap<SocketAddr, mpsc::Sender<Datagram>>,
    /// The sockets that have joined a multicast address.
    members: HashMap<SocketAddr, Vec<mpsc::Sender<Datagram>>>,
    sent: u64,
    sent_bytes: u64,
    sent_on_air: u64,
    /// Bytes to addresses without a socket.
    lost_bytes: HashMap<SocketAddr, u64>,
}

/// The network; clones are the same network.
#[derive(Debug, Clone)]
pub struct SimulatedNetwork(Arc<Mutex<NetworkState>>);

impl SimulatedNetwork {
    /// A network whose faults follow from the seed.
    pub fn new(seed: u64, faults: Faults) -> SimulatedNetwork {
        let random = StdRng::seed_from_u64(seed);
        let state = NetworkState {
            random,
            faults,
            latency: Duration::ZERO,
            sockets: HashMap::new(),
            members: HashMap::new(),
            sent: 0,
            sent_bytes: 0,
            sent_on_air: 0,
            lost_bytes: HashMap::new(),
        };
        SimulatedNetwork(Arc::new(Mutex::new(state)))
    }

    /// A socket at this address; it replaces an earlier one there.
    pub fn attach(&self, addr: SocketAddr) -> Arc<dyn DatagramSocket> {
        let (sender, receiver) = mpsc::channel(SOCKET_DATAGRAMS_MAX);
        self.lock().sockets.insert(addr, sender);
        let receiver = tokio::sync::Mutex::new(receiver);
        Arc::new(SimulatedSocket {
            network: self.clone(),
            addr,
            receiver,
        })
    }

    /// A socket at this address that receives what is sent to a multicast address.
    pub fn join(&self, group: SocketAddr, addr: SocketAddr) -> Arc<dyn DatagramSocket> {
        let (sender, receiver) = mpsc::channel(SOCKET_DATAGRAMS_MAX);
        self.lock().members.entry(group).or_default().push(sender);
        let receiver = tokio::sync::Mutex::new(receiver);
        Arc::new(SimulatedSocket {
            network: self.clone(),
            addr,
            receiver,
        })
    }

    /// Sends a datagram from an address that need not be the sender's.
    pub fn spoof(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.send(from, to, bytes);
    }

    /// Bytes that were sent to an address at which no socket is.
    pub fn bytes_to(&self, to: SocketAddr) -> u64 {
        self.lock().lost_bytes.get(&to).copied().unwrap_or_default()
    }

    /// Changes the faults from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Sets the time that every datagram takes at least, so that they do not overtake each other.
    pub fn set_latency(&self, latency: Duration) {
        self.lock().latency = latency;
    }

    /// Bytes of the datagrams that were sent so far.
    pub fn sent_bytes(&self) -> u64 {
        self.lock().sent_bytes
    }

    /// The bytes that the datagrams so far would have on an 802.15.4 radio, with its headers.
    pub fn sent_on_air(&self) -> u64 {
        self.lock().sent_on_air
    }

    /// Datagrams that were sent so far, lost ones included.
    pub fn sent(&self) -> u64 {
        self.lock().sent
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, NetworkState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let mut state = self.lock();
        state.sent += 1;
        state.sent_bytes += bytes.len() as u64;
        state.sent_on_air += datagram_on_air(bytes.len()) as u64;
        let sockets: Vec<_> = match to.ip().is_multicast() {
            false => state.sockets.get(&to).cloned().into_iter().collect(),
            true => {
                let members = state.members.entry(to).or_default();
                members.retain(|member| !member.is_closed());
                members.clone()
            }
        };
        if sockets.is_empty() {
            *state.lost_bytes.entry(to).or_default() += bytes.len() as u64;
        }
        for socket in sockets {
            state.deliver(&socket, (from, bytes));
        }
    }
}

impl NetworkState {
    /// Brings a datagram to a socket, or loses it.
    fn deliver(&mut self, socket: &mpsc::Sender<Datagram>, (from, bytes): (SocketAddr, &[u8])) {
        let (latency, faults) = (self.latency, self.faults);
        let mut copies = usize::from(!self.random.random_bool(faults.drop));
        copies *= 1 + usize::from(self.random.random_bool(faults.duplicate));
        for _ in 0..copies {
            let share = self.random.random_range(0.0..=1.0);
            let delay = latency + faults.delay_max.mul_f64(share);
            let (socket, datagram) = (socket.clone(), (from, bytes.to_vec()));
            if delay.is_zero() {
                // A full or closed socket loses the datagram: that is what UDP does.
                let _ = socket.try_send(datagram);
            } else {
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let _ = socket.try_send(datagram);
                });
            }
        }
    }
}

struct SimulatedSocket {
    network: SimulatedNetwork,
    addr: SocketAddr,
    receiver: tokio::sync::Mutex<mpsc::Receiver<Datagram>>,
}

#[async_trait]
impl DatagramSocket for SimulatedSocket {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Peer)> {
        let received = self.receiver.lock().await.recv().await;
        let (from, bytes) = received.ok_or(io::ErrorKind::ConnectionAborted)?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        Ok((count, from.into()))
    }

    async fn send(&self, bytes: &[u8], peer: Peer) -> io::Result<()> {
        self.network.send(self.addr, peer.address, bytes);
        Ok(())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}
