//! Ports for processes that are started, killed and started again. They are outside the range of
//! outgoing connections, so that the system does not give one away while its process is down.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use rand::Rng;

use crate::DevnetError;

/// Ports below 32768, from where Linux takes those of outgoing connections.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Allocates ports, each once.
#[derive(Debug)]
pub(crate) struct Ports {
    next: u16,
    remaining: usize,
}

impl Ports {
    /// Starts at a random port, so that several devnets on one machine rarely collide.
    pub fn new() -> Self {
        Self {
            next: rand::rng().random_range(RANGE),
            remaining: RANGE.len(),
        }
    }

    /// An address of this machine that is free for TCP and UDP.
    pub fn allocate(&mut self) -> Result<SocketAddr, DevnetError> {
        while self.remaining > 0 {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.next));
            self.next = if self.next + 1 < RANGE.end {
                self.next + 1
            } else {
                RANGE.start
            };
            self.remaining -= 1;
            if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
                return Ok(address);
            }
        }
        Err(DevnetError::Port)
    }
}
