//! The library's state of one peer, and its settings.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dimpl::crypto::Dtls12CipherSuite;
use dimpl::{Config, Dtls, Output, PskResolver};

use super::cookie::provider;
use crate::credentials::{Credential, CredentialStore};

/// The time for a handshake over a slow mesh.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest datagram that the library makes: as those of the endpoint, with a record around it.
const MTU: usize = 1232;

/// The credential that the identity in the newest call of the library led to.
pub(super) type Resolved = Arc<Mutex<Option<Credential>>>;

pub(super) struct Resolver {
    pub(super) credentials: CredentialStore,
    pub(super) resolved: Resolved,
}

impl PskResolver for Resolver {
    fn resolve(&self, identity: &[u8]) -> Option<Vec<u8>> {
        let credential = self.credentials.find(identity)?;
        let key = credential.key().to_vec();
        *self.resolved.lock().unwrap_or_else(PoisonError::into_inner) = Some(credential);
        Some(key)
    }
}

/// The library's state of one peer.
pub(super) struct Engine {
    dtls: Dtls,
    pub(super) deadline: Option<Instant>,
}

/// What an engine gave.
#[derive(Debug, Default)]
pub(super) struct EngineOutput {
    pub(super) packets: Vec<Vec<u8>>,
    pub(super) data: Vec<Vec<u8>>,
    pub(super) connected: bool,
    pub(super) closed: bool,
}

impl Engine {
    /// A server that has received nothing.
    pub(super) fn new(config: Arc<Config>, now: Instant) -> Engine {
        Engine {
            dtls: Dtls::new_12_psk(config, now),
            deadline: None,
        }
    }

    /// Calls the library, then takes its output. An error ends the engine; so does a panic, which
    /// must not end the gateway.
    pub(super) fn run(
        &mut self,
        now: Instant,
        call: impl FnOnce(&mut Dtls) -> Result<(), dimpl::Error>,
    ) -> Result<EngineOutput, EngineFailure> {
        let ran = catch_unwind(AssertUnwindSafe(|| {
            self.dtls.handle_timeout(now)?;
            call(&mut self.dtls)?;
            Ok::<_, dimpl::Error>(self.drain())
        }));
        match ran {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) => Err(EngineFailure::Refused(error)),
            Err(_) => Err(EngineFailure::Panicked),
        }
    }

    fn drain(&mut self) -> EngineOutput {
        let mut output = EngineOutput::default();
        let mut buffer = vec![0; 2 * MTU];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => output.packets.push(packet.to_vec()),
                Output::ApplicationData(data) => output.data.push(data.to_vec()),
                Output::Connected => output.connected = true,
                Output::CloseNotify => output.closed = true,
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::Timeout(at) => {
                    self.deadline = Some(at);
                    return output;
                }
                _ => {}
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum EngineFailure {
    #[error("the library ended it")]
    Refused(#[source] dimpl::Error),
    #[error("the library panicked")]
    Panicked,
}

/// The settings of all handshakes: the only suite that every LwM2M client with keys has.
pub(super) fn library_config(resolver: Resolver) -> Result<Config, dimpl::Error> {
    Config::builder()
        .with_crypto_provider(provider())
        .with_psk_server(None, Arc::new(resolver))
        .dtls12_cipher_suites(&[Dtls12CipherSuite::PSK_AES128_CCM_8])
        .dtls13_cipher_suites(&[])
        .use_server_cookie(true)
        .handshake_timeout(HANDSHAKE_TIMEOUT)
        .mtu(MTU)
        .build()
}
