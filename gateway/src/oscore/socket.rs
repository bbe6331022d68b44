//! A UDP socket on which protected and plain messages come.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lamplighter_system::unix_ms;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::counts::RejectCounts;
use super::numbers::{Numbers, NumbersError};
use super::table::{OscoreTable, Received, Sent};
use crate::coap::{Code, DatagramSocket, Overhead, Peer};
use crate::credentials::{CredentialStore, Protection, Purpose};

/// The interval at which a change of the keys' file is looked for, and counts are logged.
const REFRESH: Duration = Duration::from_secs(10);

/// A socket that knows the Things that protect their messages.
#[derive(Debug)]
pub struct OscoreSocket {
    udp: UdpSocket,
    shared: Arc<SharedTable>,
    /// Messages without protection are handed over too.
    accepts_plain: bool,
    stop: CancellationToken,
    _stop: DropGuard,
    task: tokio::sync::Mutex<Option<JoinHandle<Option<()>>>>,
}

struct SharedTable {
    table: Mutex<OscoreTable>,
    numbers: Numbers,
    /// Held by the one that raises the ceiling; true if that has failed since it worked.
    raising: Arc<tokio::sync::Mutex<bool>>,
}

impl std::fmt::Debug for SharedTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedTable({:?})", self.numbers)
    }
}

impl SharedTable {
    fn lock(&self) -> MutexGuard<'_, OscoreTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes more numbers durable, then allows them.
    async fn raise(&self) -> Result<(), NumbersError> {
        let before = self.lock().next_ceiling();
        let mut has_failed = self.raising.lock().await;
        let ceiling = self.lock().next_ceiling();
        match ceiling == before {
            true => self.raise_as_one(ceiling, &mut has_failed).await,
            false => Ok(()),
        }
    }

    async fn raise_as_one(&self, ceiling: u64, has_failed: &mut bool) -> Result<(), NumbersError> {
        let numbers = self.numbers.clone();
        let written = tokio::task::spawn_blocking(move || numbers.write(ceiling)).await;
        let written = written.unwrap_or_else(|error| {
            let path = self.numbers.path().to_owned();
            let source = io::Error::other(error);
            Err(NumbersError::Write { path, source })
        });
        let failed_before = std::mem::replace(has_failed, written.is_err());
        match &written {
            // Each message comes here: it is said once.
            Err(error) if !failed_before => {
                let error = error as &dyn std::error::Error;
                tracing::error!(error, "no more messages are protected");
            }
            Err(_) => {}
            Ok(()) => {
                self.lock().raise(ceiling);
                if failed_before {
                    tracing::info!("messages are protected again");
                }
            }
        }
        written
    }

    /// Logs what was refused, if it is more than `logged`.
    fn log_counts(&self, logged: &mut RejectCounts) {
        let table = self.lock();
        let (counts, newest) = table.rejected();
        let sessions = table.sessions.len();
        drop(table);
        if std::mem::replace(logged, counts) != counts {
            let newest = newest.map(|newest| newest.to_string()).unwrap_or_default();
            tracing::info!(sessions, ?counts, newest, "OSCORE");
        }
    }
}

impl OscoreSocket {
    /// Serves a UDP socket. The sender numbers are kept in the file `numbers`.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub async fn start(
        udp: UdpSocket,
        credentials: CredentialStore,
        numbers: &Path,
        accepts_plain: bool,
    ) -> Result<OscoreSocket, NumbersError> {
        let (numbers, start) = Numbers::open(numbers, unix_ms())?;
        let shared = Arc::new(SharedTable {
            table: Mutex::new(OscoreTable::new(credentials.clone(), start)),
            numbers,
            raising: Arc::default(),
        });
        shared.raise().await?;
        let stop = CancellationToken::new();
        let table = shared.clone();
        let refresh = async move {
            let mut logged = RejectCounts::default();
            loop {
                tokio::time::sleep(REFRESH).await;
                credentials.refresh_logged().await;
                table.log_counts(&mut logged);
            }
        };
        let task = tokio::spawn(stop.clone().run_until_cancelled_owned(refresh));
        Ok(OscoreSocket {
            udp,
            shared,
            accepts_plain,
            stop: stop.clone(),
            _stop: stop.drop_guard(),
            task: tokio::sync::Mutex::new(Some(task)),
        })
    }

    /// The device of a session whose key is for this purpose.
    fn device(&self, peer: Peer, purpose: Purpose) -> Option<String> {
        let table = self.shared.lock();
        let holder = table.holder(peer.session?)?;
        (holder.purpose == purpose).then(|| holder.device.to_string())
    }

    /// Raises the ceiling while nobody waits, unless that is under way: what needs it comes again.
    fn raise_behind(&self) {
        let Ok(mut has_failed) = self.shared.raising.clone().try_lock_owned() else {
            return;
        };
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let ceiling = shared.lock().next_ceiling();
            // An error is in the log.
            let _ = shared.raise_as_one(ceiling, &mut has_failed).await;
        });
    }
}

#[async_trait]
impl DatagramSocket for OscoreSocket {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Peer)> {
        loop {
            let (count, address) = self.udp.recv_from(buffer).await?;
            let received = self.shared.lock().receive(address, &buffer[..count]);
            match received {
                Received::Plain if self.accepts_plain => return Ok((count, address.into())),
                Received::Message(peer, message) => {
                    // Decrypted, it is shorter.
                    let count = message.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&message[..count]);
                    return Ok((count, peer));
                }
                Received::Reply(datagram) => {
                    if let Err(error) = self.udp.send_to(&datagram, address).await {
                        tracing::debug!(%address, %error, "sending a datagram");
                    }
                }
                Received::NoNumbers => self.raise_behind(),
                Received::Plain | Received::Nothing => {}
            }
        }
    }

    async fn send(&self, bytes: &[u8], peer: Peer) -> io::Result<()> {
        if peer.session.is_none() {
            return match self.accepts_plain {
                true => DatagramSocket::send(&self.udp, bytes, peer).await,
                false => Err(io::ErrorKind::NotConnected.into()),
            };
        }
        let mut sent = self.shared.lock().send(peer, bytes);
        if sent == Sent::NoNumbers {
            self.shared.raise().await.map_err(io::Error::other)?;
            sent = self.shared.lock().send(peer, bytes);
        }
        match sent {
            Sent::Datagram(address, datagram) => {
                self.udp.send_to(&datagram, address).await.map(|_| ())
            }
            Sent::Nothing | Sent::NoNumbers => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn identity(&self, peer: Peer) -> Option<String> {
        self.device(peer, Purpose::Registration)
    }

    fn bootstrapped(&self, peer: Peer) -> Option<(String, Protection)> {
        Some((self.device(peer, Purpose::Bootstrap)?, Protection::Oscore))
    }

    fn proves_address(&self, _peer: Peer) -> bool {
        // A message says who made it, and not where it was sent from.
        false
    }

    fn address_proven(&self, peer: Peer) {
        self.shared.lock().prove_address(peer);
    }

    fn overhead(&self, peer: Peer, code: Code) -> Overhead {
        self.shared.lock().overhead(peer, code)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    async fn close(&self) {
        self.stop.cancel();
        if let Some(task) = self.task.lock().await.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "reading the keys of Things ended badly");
        }
    }
}
