//! The datagram socket below an endpoint: UDP, or the simulated network of the tests.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::net::UdpSocket;

use super::message::Code;
use super::peer::Peer;
use crate::credentials::Protection;

/// Bytes around a message that are not the endpoint's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overhead {
    /// At least so many around a message from the peer.
    pub received: usize,
    /// At most so many around one to it.
    pub sent: usize,
}

/// A socket for datagrams.
#[async_trait]
pub trait DatagramSocket: Send + Sync + 'static {
    /// Waits for one datagram and returns its size and sender. A longer one is cut to the buffer.
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Peer)>;
    /// Sends one datagram.
    async fn send(&self, bytes: &[u8], peer: Peer) -> io::Result<()>;
    /// The device whose key the peer of a session has proven to have; `None` without a session.
    fn identity(&self, _peer: Peer) -> Option<String> {
        None
    }
    /// The device that may have its keys by a bootstrap in this session, which a key for bootstraps
    /// alone began; with the protocol of the session.
    fn bootstrapped(&self, _peer: Peer) -> Option<(String, Protection)> {
        None
    }
    /// True if what comes from the peer shows that its address is the sender's.
    fn proves_address(&self, peer: Peer) -> bool {
        // A handshake went to and fro.
        peer.session.is_some()
    }
    /// Takes note that a peer has shown in another way that its address is the sender's.
    fn address_proven(&self, _peer: Peer) {}
    /// Bytes that the protection of a peer adds to a message with this code: at least to one from
    /// it, and at most to one to it.
    fn overhead(&self, _peer: Peer, _code: Code) -> Overhead {
        Overhead::default()
    }
    /// Its own address.
    fn local_addr(&self) -> io::Result<SocketAddr>;
    /// Ends the tasks that hold the operating system's socket; dropping the last owner frees it.
    async fn close(&self) {}
}

#[async_trait]
impl DatagramSocket for UdpSocket {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Peer)> {
        let (count, address) = self.recv_from(buffer).await?;
        Ok((count, address.into()))
    }

    async fn send(&self, bytes: &[u8], peer: Peer) -> io::Result<()> {
        self.send_to(bytes, peer.address).await.map(|_| ())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        UdpSocket::local_addr(self)
    }
}
