//! The socket of a Thing that encrypts everything to its gateway: DTLS 1.2 with a pre-shared key.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dimpl::crypto::Dtls12CipherSuite;
use dimpl::{Config, Dtls, Output, PskResolver, SecurityError};
use lamplighter_gateway::coap::{DatagramSocket, Peer};
use tokio::net::UdpSocket;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Messages in each direction that wait for the other side, as a kernel's buffer would hold.
const QUEUE_MAX: usize = 64;
/// Messages that wait for the end of the handshake. CoAP repeats those that are dropped.
const WAITING_MAX: usize = 8;
/// A gateway that restarted has forgotten the session, and says nothing: after this time of sending
/// without an answer another handshake begins. Longer than CoAP waits for an answer.
const SILENCE: Duration = Duration::from_secs(60);
/// Largest datagram that is received.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// The identity and the key of a Thing.
#[derive(Clone)]
pub struct Psk {
    /// Sent in clear.
    pub identity: String,
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Psk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Psk({})", self.identity)
    }
}

impl PskResolver for Psk {
    fn resolve(&self, _identity: &[u8]) -> Option<Vec<u8>> {
        Some(self.key.clone())
    }
}

/// A socket that speaks DTLS with one gateway. Dropping it ends its session.
pub(super) struct SecureSocket {
    local_addr: SocketAddr,
    gateway: SocketAddr,
    sent: mpsc::Sender<Vec<u8>>,
    received: Mutex<mpsc::Receiver<Vec<u8>>>,
    _stop: DropGuard,
}

impl SecureSocket {
    /// Serves a UDP socket; the handshake begins with the first message.
    pub(super) fn start(udp: UdpSocket, gateway: SocketAddr, psk: Psk) -> io::Result<SecureSocket> {
        Self::start_with(udp, gateway, psk, SILENCE)
    }

    /// The same, with another time without an answer before another handshake.
    pub(super) fn start_with(
        udp: UdpSocket,
        gateway: SocketAddr,
        psk: Psk,
        silence: Duration,
    ) -> io::Result<SecureSocket> {
        let local_addr = udp.local_addr()?;
        let config = Config::builder()
            .with_psk_client(psk.identity.as_bytes().to_vec(), Arc::new(psk))
            .dtls12_cipher_suites(&[Dtls12CipherSuite::PSK_AES128_CCM_8])
            .dtls13_cipher_suites(&[])
            .build();
        let (sent, commands) = mpsc::channel(QUEUE_MAX);
        let (messages, received) = mpsc::channel(QUEUE_MAX);
        let session = Session {
            udp,
            gateway,
            silence,
            config: Arc::new(config.map_err(io::Error::other)?),
            dtls: None,
            deadline: None,
            is_connected: false,
            unanswered_since: None,
            waiting: VecDeque::new(),
            messages,
        };
        let stop = CancellationToken::new();
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(session.run(commands)),
        );
        Ok(SecureSocket {
            local_addr,
            gateway,
            sent,
            received: Mutex::new(received),
            _stop: stop.drop_guard(),
        })
    }
}

#[async_trait]
impl DatagramSocket for SecureSocket {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Peer)> {
        let received = self.received.lock().await.recv().await;
        let message = received.ok_or(io::ErrorKind::ConnectionAborted)?;
        let count = message.len().min(buffer.len());
        buffer[..count].copy_from_slice(&message[..count]);
        Ok((count, self.gateway.into()))
    }

    async fn send(&self, bytes: &[u8], _peer: Peer) -> io::Result<()> {
        let sent = self.sent.send(bytes.to_vec()).await;
        sent.map_err(|_| io::ErrorKind::ConnectionAborted.into())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local_addr)
    }
}

struct Session {
    udp: UdpSocket,
    gateway: SocketAddr,
    silence: Duration,
    config: Arc<Config>,
    /// The library's state; none before the first message, and after a failure.
    dtls: Option<Dtls>,
    deadline: Option<Instant>,
    is_connected: bool,
    /// The first message since the last one that decrypted, or since the handshake.
    unanswered_since: Option<Instant>,
    waiting: VecDeque<Vec<u8>>,
    messages: mpsc::Sender<Vec<u8>>,
}

impl Session {
    async fn run(mut self, mut commands: mpsc::Receiver<Vec<u8>>) {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        loop {
            let deadline = self.deadline.map(tokio::time::Instant::from_std);
            tokio::select! {
                received = self.udp.recv_from(&mut buffer) => match received {
                    Ok((count, from)) if from == self.gateway => {
                        self.on_datagram(&buffer[..count]).await;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, "receiving a datagram");
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                },
                command = commands.recv() => match command {
                    Some(message) => self.send(message).await,
                    None => return,
                },
                () = tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)),
                    if deadline.is_some() =>
                {
                    self.deadline = None;
                    self.call(|_| Ok(())).await;
                }
            }
        }
    }

    async fn send(&mut self, message: Vec<u8>) {
        let now = Instant::now();
        let since = *self.unanswered_since.get_or_insert(now);
        if self.dtls.is_none() || now - since > self.silence {
            let mut dtls = Dtls::new_12_psk(self.config.clone(), now);
            dtls.set_active(true);
            (self.dtls, self.is_connected, self.unanswered_since) = (Some(dtls), false, Some(now));
        }
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(message);
        self.call(|_| Ok(())).await;
    }

    /// Hands a datagram to the library. Anybody can have sent it from the gateway's address: in a
    /// session only an alert ends it, which the library has decrypted.
    async fn on_datagram(&mut self, datagram: &[u8]) {
        let is_connected = self.is_connected;
        let hand = |dtls: &mut Dtls| match dtls.handle_packet(datagram) {
            Err(error) if is_connected && !is_alert(&error) => {
                tracing::debug!(%error, "a datagram is dropped");
                Ok(())
            }
            result => result,
        };
        self.call(hand).await;
    }

    /// Calls the library, sends what it wants to send, and hands over what it has decrypted. An
    /// error ends the session; the next message begins another one.
    async fn call(&mut self, call: impl FnOnce(&mut Dtls) -> Result<(), dimpl::Error>) {
        let Some(dtls) = self.dtls.as_mut() else {
            return;
        };
        let now = Instant::now();
        let mut result = dtls.handle_timeout(now).and_then(|()| call(dtls));
        let mut packets = Vec::new();
        if result.is_ok() {
            self.drain(&mut packets);
            while self.is_connected && result.is_ok() {
                let (Some(dtls), Some(message)) = (self.dtls.as_mut(), self.waiting.pop_front())
                else {
                    break;
                };
                result = dtls.send_application_data(&message).map(drop);
            }
            self.drain(&mut packets);
        }
        if let Err(error) = result {
            tracing::info!(%error, "the DTLS session ended");
            (self.dtls, self.is_connected, self.deadline) = (None, false, None);
        }
        for packet in packets {
            if let Err(error) = self.udp.send_to(&packet, self.gateway).await {
                tracing::debug!(%error, "sending a datagram");
            }
        }
    }

    fn drain(&mut self, packets: &mut Vec<Vec<u8>>) {
        let mut buffer = vec![0; 2 * DATAGRAM_BYTES_MAX];
        while let Some(dtls) = self.dtls.as_mut() {
            match dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => packets.push(packet.to_vec()),
                Output::ApplicationData(data) => {
                    self.unanswered_since = None;
                    // The endpoint is busy, and the gateway sends it again, as after any loss.
                    let _ = self.messages.try_send(data.to_vec());
                }
                Output::Connected => (self.is_connected, self.unanswered_since) = (true, None),
                Output::CloseNotify => (self.dtls, self.is_connected) = (None, false),
                Output::Timeout(at) => {
                    self.deadline = Some(at);
                    return;
                }
                _ => {}
            }
        }
        self.deadline = None;
    }
}

fn is_alert(error: &dimpl::Error) -> bool {
    matches!(
        error,
        dimpl::Error::SecurityError(SecurityError::FatalAlert { .. })
    )
}
