//! The task around [`Sessions`], and the socket that joins it with plain UDP.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use rand::TryRngCore;
use rand::rngs::OsRng;
use tokio::net::UdpSocket;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::counters::{Counters, SessionCounts};
use super::sessions::{SessionOutput, Sessions};
use crate::coap::{Code, DatagramSocket, Overhead, Peer};
use crate::credentials::{CredentialStore, KeyHolder, Protection, Purpose};
use crate::oscore::OscoreSocket;

/// Decrypted messages that wait for the endpoint, as a kernel's buffer would hold.
const RECEIVED_MAX: usize = 512;
/// Messages that wait to be encrypted.
const SENT_MAX: usize = 256;
/// Largest datagram of a record that this gateway takes.
const DATAGRAM_BYTES_MAX: usize = 2048;
/// The interval of the timers of handshakes.
const TICK: Duration = Duration::from_millis(250);
/// The interval at which a change of the keys' file is looked for, and counts are logged.
const REFRESH: Duration = Duration::from_secs(10);

/// Holders of the keys of the sessions that exist.
type Holders = Arc<RwLock<HashMap<u64, KeyHolder>>>;

/// A socket that speaks DTLS with Things whose key it knows. Dropping it ends its sessions.
#[derive(Debug)]
pub struct DtlsSocket {
    local_addr: SocketAddr,
    sent: mpsc::Sender<(Peer, Vec<u8>)>,
    received: Mutex<mpsc::Receiver<(Peer, Vec<u8>)>>,
    holders: Holders,
    counters: Arc<Counters>,
    stop: CancellationToken,
    _stop: DropGuard,
    task: Mutex<Option<JoinHandle<Option<()>>>>,
}

impl DtlsSocket {
    /// Serves a UDP socket.
    ///
    /// # Errors
    /// The operating system gives no address or no randomness, or the library's test of its
    /// cryptography fails.
    pub fn start(socket: UdpSocket, credentials: CredentialStore) -> io::Result<DtlsSocket> {
        let local_addr = socket.local_addr()?;
        let mut secret = [0; 32];
        OsRng
            .try_fill_bytes(&mut secret)
            .map_err(io::Error::other)?;
        let (sent, commands) = mpsc::channel(SENT_MAX);
        let (messages, received) = mpsc::channel(RECEIVED_MAX);
        let (holders, counters) = (Holders::default(), Arc::new(Counters::default()));
        let stop = CancellationToken::new();
        let now = Instant::now().into_std();
        let sessions = Sessions::new(now, secret, credentials.clone(), counters.clone());
        let generation = credentials.generation();
        let task = SocketTask {
            socket,
            sessions: sessions.map_err(io::Error::other)?,
            credentials,
            messages,
            holders: holders.clone(),
            counters: counters.clone(),
            logged: SessionCounts::default(),
            generation,
        };
        let task = tokio::spawn(stop.clone().run_until_cancelled_owned(task.run(commands)));
        Ok(DtlsSocket {
            local_addr,
            sent,
            received: Mutex::new(received),
            holders,
            counters,
            stop: stop.clone(),
            _stop: stop.drop_guard(),
            task: Mutex::new(Some(task)),
        })
    }

    /// The device of a session whose key is for this purpose.
    fn device(&self, peer: Peer, purpose: Purpose) -> Option<String> {
        let holders = self.holders.read().unwrap_or_else(PoisonError::into_inner);
        let holder = holders.get(&peer.session?)?;
        (holder.purpose == purpose).then(|| holder.device.to_string())
    }

    /// Counts of what happened so far.
    pub fn counts(&self) -> SessionCounts {
        self.counters.counts()
    }
}

#[async_trait]
impl DatagramSocket for DtlsSocket {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Peer)> {
        let received = self.received.lock().await.recv().await;
        let (peer, message) = received.ok_or(io::ErrorKind::ConnectionAborted)?;
        let count = message.len().min(buffer.len());
        buffer[..count].copy_from_slice(&message[..count]);
        Ok((count, peer))
    }

    async fn send(&self, bytes: &[u8], peer: Peer) -> io::Result<()> {
        let sent = self.sent.send((peer, bytes.to_vec())).await;
        sent.map_err(|_| io::ErrorKind::ConnectionAborted.into())
    }

    fn identity(&self, peer: Peer) -> Option<String> {
        self.device(peer, Purpose::Registration)
    }

    fn bootstrapped(&self, peer: Peer) -> Option<(String, Protection)> {
        Some((self.device(peer, Purpose::Bootstrap)?, Protection::Dtls))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local_addr)
    }

    async fn close(&self) {
        self.stop.cancel();
        if let Some(task) = self.task.lock().await.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the DTLS socket ended badly");
        }
    }
}

struct SocketTask {
    socket: UdpSocket,
    sessions: Sessions,
    credentials: CredentialStore,
    messages: mpsc::Sender<(Peer, Vec<u8>)>,
    holders: Holders,
    counters: Arc<Counters>,
    logged: SessionCounts,
    /// The reading of the keys that the sessions were compared with.
    generation: u64,
}

impl SocketTask {
    async fn run(mut self, mut commands: mpsc::Receiver<(Peer, Vec<u8>)>) {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        let mut tick = tokio::time::interval(TICK);
        let mut refresh = tokio::time::interval(REFRESH);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = || Instant::now().into_std();
            let output = tokio::select! {
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((count, address)) => {
                        self.sessions.receive(now(), address, &buffer[..count])
                    }
                    Err(error) => {
                        // As on the endpoint's own socket: an ICMP answer, or a broken socket.
                        tracing::debug!(%error, "receiving a datagram");
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        continue;
                    }
                },
                command = commands.recv() => match command {
                    Some((peer, message)) => self.sessions.send(now(), peer, &message),
                    None => return,
                },
                _ = tick.tick() => self.sessions.tick(now()),
                _ = refresh.tick() => self.refresh().await,
            };
            self.flush(output).await;
        }
    }

    async fn flush(&mut self, output: SessionOutput) {
        if !output.begun.is_empty() || !output.ended.is_empty() {
            let mut holders = self.holders.write().unwrap_or_else(PoisonError::into_inner);
            holders.extend(output.begun);
            output.ended.iter().for_each(|number| {
                holders.remove(number);
            });
        }
        for message in output.messages {
            // The endpoint is busy, and the Thing sends it again, as after any loss.
            if self.messages.try_send(message).is_err() {
                Counters::add(&self.counters.overflowed);
            }
        }
        for (address, datagram) in output.datagrams {
            if let Err(error) = self.socket.send_to(&datagram, address).await {
                tracing::debug!(%address, %error, "sending a datagram");
            }
        }
    }

    /// Reads the keys again if their file has changed, and logs the counts if they have.
    async fn refresh(&mut self) -> SessionOutput {
        let counts = self.counters.counts();
        if counts != self.logged {
            let (handshakes, sessions) = self.sessions.len();
            tracing::info!(handshakes, sessions, ?counts, "DTLS");
            self.logged = counts;
        }
        let credentials = self.credentials.clone();
        credentials.refresh_logged().await;
        let generation = credentials.generation();
        if std::mem::replace(&mut self.generation, generation) == generation {
            return SessionOutput::default();
        }
        self.sessions.end_revoked()
    }
}

/// The gateway's socket towards Things: plain UDP, on which there may be OSCORE, DTLS, or both.
pub struct SouthSocket {
    plain: Option<Box<dyn DatagramSocket>>,
    secure: Option<DtlsSocket>,
}

impl SouthSocket {
    /// Joins the sockets; one at least is given.
    pub fn new(plain: Option<UdpSocket>, secure: Option<DtlsSocket>) -> SouthSocket {
        let plain = plain.map(|udp| Box::new(udp) as Box<dyn DatagramSocket>);
        SouthSocket { plain, secure }
    }

    /// Joins the sockets. The numbers of their sessions are never the same.
    pub fn with_oscore(plain: OscoreSocket, secure: Option<DtlsSocket>) -> SouthSocket {
        let plain = Some(Box::new(plain) as Box<dyn DatagramSocket>);
        SouthSocket { plain, secure }
    }

    /// The socket that a session, or the lack of one, belongs to.
    fn socket_of(&self, peer: Peer) -> Option<&dyn DatagramSocket> {
        let secure = self
            .secure
            .as_ref()
            .map(|secure| secure as &dyn DatagramSocket);
        match peer.protection() {
            Some(Protection::Dtls) => secure,
            Some(Protection::Oscore) | None => self.plain.as_deref(),
        }
    }
}

#[async_trait]
impl DatagramSocket for SouthSocket {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Peer)> {
        match (&self.plain, &self.secure) {
            (Some(plain), Some(secure)) => {
                // Each writes into a buffer of its own, since the other is dropped unfinished.
                let mut other = vec![0; buffer.len()];
                let (count, peer) = tokio::select! {
                    received = plain.receive(buffer) => return received,
                    received = secure.receive(&mut other) => received?,
                };
                buffer[..count].copy_from_slice(&other[..count]);
                Ok((count, peer))
            }
            (Some(plain), None) => plain.receive(buffer).await,
            (None, Some(secure)) => secure.receive(buffer).await,
            (None, None) => std::future::pending().await,
        }
    }

    async fn send(&self, bytes: &[u8], peer: Peer) -> io::Result<()> {
        match self.socket_of(peer) {
            Some(socket) => socket.send(bytes, peer).await,
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn identity(&self, peer: Peer) -> Option<String> {
        self.socket_of(peer)?.identity(peer)
    }

    fn bootstrapped(&self, peer: Peer) -> Option<(String, Protection)> {
        self.socket_of(peer)?.bootstrapped(peer)
    }

    fn proves_address(&self, peer: Peer) -> bool {
        let socket = self.socket_of(peer);
        socket.is_some_and(|socket| socket.proves_address(peer))
    }

    fn address_proven(&self, peer: Peer) {
        if let Some(socket) = self.socket_of(peer) {
            socket.address_proven(peer);
        }
    }

    fn overhead(&self, peer: Peer, code: Code) -> Overhead {
        let socket = self.socket_of(peer);
        let overhead = socket.map(|socket| socket.overhead(peer, code));
        overhead.unwrap_or_default()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match (&self.plain, &self.secure) {
            (Some(plain), _) => plain.local_addr(),
            (None, Some(secure)) => secure.local_addr(),
            (None, None) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    async fn close(&self) {
        if let Some(plain) = &self.plain {
            plain.close().await;
        }
        if let Some(secure) = &self.secure {
            secure.close().await;
        }
    }
}
