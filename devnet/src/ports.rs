//! Ports for processes that are started, killed and started again: outside the range from which the
//! system gives ports to outgoing connections, so that nobody else is given one while its process
//! is down.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use rand::Rng;

use crate::DevnetError;

/// Linux gives outgoing connections ports from 32768 on.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Gives out ports, each once.
#[derive(Debug)]
pub(crate) struct Ports {
    next: u16,
    left: usize,
}

impl Ports {
    /// Begins at a random place, so that several devnets on one machine rarely meet.
    pub fn new() -> Self {
        Self {
            next: rand::rng().random_range(RANGE),
            left: RANGE.len(),
        }
    }

    /// An address of this machine on which nobody listens, by TCP or UDP.
    pub fn take(&mut self) -> Result<SocketAddr, DevnetError> {
        while self.left > 0 {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.next));
            self.next = if self.next + 1 < RANGE.end {
                self.next + 1
            } else {
                RANGE.start
            };
            self.left -= 1;
            if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
                return Ok(address);
            }
        }
        Err(DevnetError::Port)
    }
}
