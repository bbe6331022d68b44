//! The datagram socket below an endpoint: UDP, or the simulated network of the tests.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::net::UdpSocket;

/// A socket for datagrams.
#[async_trait]
pub trait DatagramSocket: Send + Sync + 'static {
    /// Waits for one datagram and returns its size and sender. A longer one is cut to the buffer.
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)>;
    /// Sends one datagram.
    async fn send(&self, bytes: &[u8], peer: SocketAddr) -> io::Result<()>;
    /// Its own address.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

#[async_trait]
impl DatagramSocket for UdpSocket {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from(buffer).await
    }

    async fn send(&self, bytes: &[u8], peer: SocketAddr) -> io::Result<()> {
        self.send_to(bytes, peer).await.map(|_| ())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        UdpSocket::local_addr(self)
    }
}
