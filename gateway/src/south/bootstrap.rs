//! The bootstrap server of the gateway (LwM2M 1.1 core, section 6.1): a Thing that has a key for
//! bootstraps alone gets the account of this gateway, with its key for registrations, over the
//! session that it began with the first one. The keys are those of the gateway's file.
//!
//! [`BootstrapServer`] answers requests at `/bs`; [`run`] is the task that writes to the Things
//! once they have their answers. A bootstrap touches no registration, not even of the same Thing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ServedDevices;
use super::pull::reached_address;
use crate::coap::{
    CoapHandle, Code, DatagramSocket, Peer, Request, Response, TransferError, format,
};
use crate::credentials::{DeviceKey, Protection};
use crate::lwm2m::bootstrap::{DELETED, FreeInstances, ServerAccount};
use crate::lwm2m::registration::endpoint_name;
use crate::lwm2m::resource;

/// The path at which Things ask, and at which they are told the end.
pub(super) const PATH: &str = "bs";
/// Bootstraps at a time: a dozen requests of some hundred bytes each, on a mesh with work to do.
pub(super) const BOOTSTRAPS_MAX: usize = 32;
/// The time for one bootstrap, with repetitions; a Thing begins again after as long.
const TIME_MAX: Duration = Duration::from_secs(247);
/// Time between two lines about refusals.
const REFUSALS_EVERY: Duration = Duration::from_secs(10);

/// Where a Thing registers with a key for one protocol.
#[derive(Debug, Clone)]
pub struct ServerAddress {
    /// The address that is listened on. Any address stands for the one from which packets are sent
    /// to the Thing.
    pub listen: SocketAddr,
    /// The URI that Things get in place of it, behind a router for example.
    pub uri: Option<String>,
}

/// What Things get beside their keys.
#[derive(Debug, Clone)]
pub struct BootstrapConfig {
    /// For keys for DTLS.
    pub dtls: Option<ServerAddress>,
    /// For keys for OSCORE.
    pub oscore: Option<ServerAddress>,
    /// The lifetime of registrations.
    pub lifetime_s: u64,
}

impl BootstrapConfig {
    /// The URI for a Thing; `None` if the protocol is not spoken, or the Thing can't be reached.
    fn uri(&self, protection: Protection, peer: Peer) -> Option<String> {
        let (scheme, address) = match protection {
            Protection::Dtls => ("coaps", self.dtls.as_ref()?),
            Protection::Oscore => ("coap", self.oscore.as_ref()?),
        };
        if let Some(uri) = &address.uri {
            return Some(uri.clone());
        }
        let address = reached_address(address.listen, peer.address)?;
        Some(format!("{scheme}://{address}"))
    }
}

/// A bootstrap was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
enum BootstrapError {
    #[error("a bootstrap takes DTLS or OSCORE, with a key for bootstraps")]
    NoSession,
    #[error("this key is not for bootstraps")]
    OtherPurpose,
    #[error("no valid endpoint name")]
    Endpoint,
    #[error("not a Thing of this gateway")]
    Foreign,
    #[error("the session's key is that of another device")]
    OtherDevice,
    #[error("this gateway has no key for the registrations of this device")]
    NoKey,
    #[error("busy with {BOOTSTRAPS_MAX} bootstraps")]
    Busy,
}

impl BootstrapError {
    fn code(&self) -> Code {
        match self {
            BootstrapError::NoSession => Code::UNAUTHORIZED,
            BootstrapError::Endpoint => Code::BAD_REQUEST,
            BootstrapError::Busy => Code::UNAVAILABLE,
            _ => Code::FORBIDDEN,
        }
    }
}

/// When a refusal is logged: anybody can ask, as often as he likes.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    logged: Option<Instant>,
    /// Refusals since then.
    count: u64,
}

impl RefusalLog {
    /// Counts a refusal; returns how many there were since the last one that was logged, if this
    /// one is.
    pub(super) fn count(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        let logged = self.logged;
        if logged.is_some_and(|logged| now.saturating_duration_since(logged) < REFUSALS_EVERY) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

/// A bootstrap that a Thing asked for.
pub(super) struct Bootstrap {
    peer: Peer,
    device: String,
    account: ServerAccount,
    _permit: OwnedSemaphorePermit,
}

/// Answers requests for bootstraps.
pub(super) struct BootstrapServer {
    config: Option<BootstrapConfig>,
    link: Arc<dyn DatagramSocket>,
    served: Arc<dyn ServedDevices>,
    permits: Arc<Semaphore>,
    /// Accepted, and not answered yet: a Thing takes nothing before its answer.
    accepted: Mutex<HashMap<Peer, Bootstrap>>,
    refusals: Mutex<RefusalLog>,
    answered: mpsc::Sender<Bootstrap>,
}

impl BootstrapServer {
    /// A server; what it accepts comes out at the receiver.
    pub(super) fn new(
        config: Option<BootstrapConfig>,
        link: Arc<dyn DatagramSocket>,
        served: Arc<dyn ServedDevices>,
    ) -> (BootstrapServer, mpsc::Receiver<Bootstrap>) {
        // Each has a permit, so that there is always room.
        let (answered, receiver) = mpsc::channel(BOOTSTRAPS_MAX);
        let server = BootstrapServer {
            config,
            link,
            served,
            permits: Arc::new(Semaphore::new(BOOTSTRAPS_MAX)),
            accepted: Mutex::default(),
            refusals: Mutex::default(),
            answered,
        };
        (server, receiver)
    }

    /// The response to a request at `/bs`.
    pub(super) fn respond(&self, peer: Peer, request: &Request) -> Response {
        if request.method != Code::POST {
            return Response::new(Code::METHOD_NOT_ALLOWED);
        }
        match self.accept(peer, request) {
            Ok(bootstrap) => {
                let mut accepted = self.lock();
                accepted.insert(peer, bootstrap);
                Response::new(Code::CHANGED)
            }
            Err(error) => {
                self.log_refusal(peer, &error);
                Response::error(error.code(), &error.to_string())
            }
        }
    }

    /// Takes note that a response to a request at `/bs` is on its way. If it is a challenge in
    /// place of ours, the Thing asks again, and has not been told that anything begins.
    pub(super) fn responded(&self, peer: Peer, code: Code) {
        if !matches!(code, Code::CHANGED | Code::UNAUTHORIZED) {
            return;
        }
        let accepted = self.lock().remove(&peer);
        if let Some(bootstrap) = accepted.filter(|_| code == Code::CHANGED)
            && self.answered.try_send(bootstrap).is_err()
        {
            tracing::debug!(%peer, "the gateway ends");
        }
    }

    fn log_refusal(&self, peer: Peer, error: &BootstrapError) {
        let refusals = self.refusals.lock();
        let mut refusals = refusals.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = refusals.count(Instant::now()) {
            tracing::info!(%peer, %error, count, "a bootstrap is refused");
        }
    }

    fn accept(&self, peer: Peer, request: &Request) -> Result<Bootstrap, BootstrapError> {
        let Some((device, protection)) = self.link.bootstrapped(peer) else {
            return Err(match self.link.identity(peer) {
                Some(_) => BootstrapError::OtherPurpose,
                None => BootstrapError::NoSession,
            });
        };
        let name = match request.argument("ep") {
            Some(_) => endpoint_name(request).map_err(|_| BootstrapError::Endpoint)?,
            // LwM2M 1.2 lets a Thing leave it out: the session has its name.
            None => &device,
        };
        let named = self.served.resolve(name).ok_or(BootstrapError::Foreign)?;
        if named != device {
            return Err(BootstrapError::OtherDevice);
        }
        let key = self.served.device_key(&device, protection);
        let account = key.and_then(|key| self.account(key, peer));
        let account = account.ok_or(BootstrapError::NoKey)?;
        let permit = self.permits.clone().try_acquire_owned();
        Ok(Bootstrap {
            peer,
            device,
            account,
            _permit: permit.map_err(|_| BootstrapError::Busy)?,
        })
    }

    fn account(&self, key: DeviceKey, peer: Peer) -> Option<ServerAccount> {
        let config = self.config.as_ref()?;
        Some(ServerAccount {
            uri: config.uri(key.protection(), peer)?,
            lifetime_s: config.lifetime_s,
            key,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Peer, Bootstrap>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a bootstrap stopped. The Thing keeps the account of its bootstrap server, and asks again.
#[derive(Debug, Error)]
enum BootstrapFailure {
    #[error("{method} {path} was answered {code}")]
    Refused {
        method: &'static str,
        path: String,
        code: Code,
    },
    #[error("a request got no answer")]
    Unanswered(#[source] TransferError),
    #[error("it took more than {} s", TIME_MAX.as_secs())]
    TooSlow,
}

/// Writes to the Things until the gateway ends. A Thing that asks again begins again.
pub(super) async fn run(
    mut accepted: mpsc::Receiver<Bootstrap>,
    handle: CoapHandle,
    stop: CancellationToken,
) {
    let mut tasks = JoinSet::new();
    let mut running: HashMap<String, AbortHandle> = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = tasks.join_next() => {
                running.retain(|_, task| !task.is_finished());
                if let Err(error) = ended
                    && !tokio::task::JoinError::is_cancelled(&error)
                {
                    tracing::error!(%error, "a bootstrap panicked");
                }
            }
            Some(bootstrap) = accepted.recv() => {
                let device = bootstrap.device.clone();
                let task = tasks.spawn(complete(bootstrap, handle.clone()));
                if let Some(earlier) = running.insert(device, task) {
                    earlier.abort();
                }
            }
        }
    }
    tasks.shutdown().await;
}

/// Does one bootstrap and logs how it ended.
async fn complete(bootstrap: Bootstrap, handle: CoapHandle) {
    let Bootstrap { device, peer, .. } = &bootstrap;
    tracing::info!(device, %peer, "a bootstrap begins");
    let writing = write(&bootstrap, &handle);
    let written = tokio::time::timeout(TIME_MAX, writing).await;
    match written.unwrap_or(Err(BootstrapFailure::TooSlow)) {
        Ok(()) => tracing::info!(device, %peer, "a Thing has its account for this gateway"),
        Err(failure) => {
            let failure = &failure as &dyn std::error::Error;
            tracing::warn!(device, %peer, failure, "a bootstrap failed");
        }
    }
}

async fn write(bootstrap: &Bootstrap, handle: &CoapHandle) -> Result<(), BootstrapFailure> {
    let Bootstrap { peer, account, .. } = bootstrap;
    let ask = async |request: Request| {
        let response = handle.request(*peer, request).await;
        response.map_err(BootstrapFailure::Unanswered)
    };
    for object in DELETED {
        let request = Request::new(Code::DELETE, &format!("/{object}"));
        // A Thing without this object, or without instances of it, says so.
        let missing = [Code::NOT_FOUND, Code::METHOD_NOT_ALLOWED, Code::BAD_REQUEST];
        let response = ask(request).await?;
        expect(&response, "DELETE", &format!("/{object}"), &missing)?;
    }
    let list = ask(Request::get("/").with_accept(format::LINK_FORMAT)).await?;
    let list = (list.code == Code::CONTENT).then_some(&list.payload[..]);
    for (instance, values) in account.instances(FreeInstances::of(list)) {
        let path = instance.to_string();
        let payload = resource::write_all(&values, format::LWM2M_TLV).unwrap_or_default();
        let request = Request::new(Code::PUT, &path).with_payload(format::LWM2M_TLV, payload);
        expect(&ask(request).await?, "PUT", &path, &[])?;
    }
    let finish = ask(Request::new(Code::POST, PATH)).await?;
    expect(&finish, "POST", "/bs", &[])
}

fn expect(
    response: &Response,
    method: &'static str,
    path: &str,
    others: &[Code],
) -> Result<(), BootstrapFailure> {
    let (code, path) = (response.code, path.to_owned());
    match code.is_success() || others.contains(&code) {
        true => Ok(()),
        false => Err(BootstrapFailure::Refused { method, path, code }),
    }
}
