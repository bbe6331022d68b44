//! Registrations across a restart of the gateway: they are written down while it runs, and taken up
//! again when it starts, without the addresses.
//!
//! A Thing gets its address back by its next update: only it knows its location, and one that has
//! proven who it is has to prove it again. So that this does not take half a lifetime, each Thing
//! is asked once to update its registration (LwM2M 1.1, resource `/1/0/8`), which another device
//! that is at the address by now can't do for it. Until then no order goes to the address. Nobody
//! is asked who sleeps, or has only a session, which ended with the process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lamplighter_system::unix_ms;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::ServedDevices;
use super::registration_file::{RegistrationFile, StoredRegistration};
use super::registry::SharedRegistry;
use crate::coap::{CoapHandle, Code, Request};
use crate::lwm2m::path;

/// Time between two looks for changes. What a power loss takes with it costs the Things another
/// registration.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// Time between two Things that are asked: 10,000 in 8 minutes, some 2 KB/s.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Things that are asked at once; one that does not answer takes a minute and a half.
const ASKED_MAX: usize = 512;

/// A Thing whose address is to be proven.
#[derive(Debug)]
struct Unproven {
    endpoint: String,
    location: String,
    address: SocketAddr,
    root: Vec<String>,
}

/// The registrations of before the start, and the file of those of now.
#[derive(Debug)]
pub(super) struct Recovery {
    file: RegistrationFile,
    unproven: Vec<Unproven>,
}

impl Recovery {
    /// Takes up the registrations of the file, of Things that are still served.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn open(
        path: PathBuf,
        registry: &SharedRegistry,
        served: &dyn ServedDevices,
    ) -> std::io::Result<Self> {
        let file = RegistrationFile::open(path)?;
        let (now, now_ms) = (Instant::now(), unix_ms());
        let mut unproven = Vec::new();
        let mut registry = registry.write();
        for (endpoint, stored) in file.registrations() {
            let Some(registration) = stored.restore(endpoint, now, now_ms) else {
                continue;
            };
            if served.serves(endpoint) {
                registry.restore(stored.location.clone(), registration);
                unproven.extend(Unproven::of(endpoint, stored));
            }
        }
        drop(registry);
        Ok(Self { file, unproven })
    }

    /// Asks the Things whose addresses are not proven, and writes changes until `stop` and once
    /// more then.
    pub async fn run(self, ask: AskContext, stop: CancellationToken) {
        let registry = ask.registry.clone();
        let asking = stop.run_until_cancelled(ask_all(self.unproven, ask));
        tokio::join!(asking, keep(self.file, registry, &stop));
    }
}

async fn keep(file: RegistrationFile, registry: SharedRegistry, stop: &CancellationToken) {
    let mut every = tokio::time::interval(SAVE_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut file = file;
    loop {
        let stops = tokio::select! {
            () = stop.cancelled() => true,
            _ = every.tick() => false,
        };
        let changes = file.changes(&registry.read(), Instant::now(), unix_ms());
        let saving = tokio::task::spawn_blocking(move || {
            if let Err(error) = file.save(changes) {
                tracing::error!(%error, "registrations can't be written");
            }
            file
        });
        match saving.await {
            Ok(saved) if !stops => file = saved,
            Ok(_) => return,
            Err(error) => {
                return tracing::error!(%error, "registrations are not kept any more");
            }
        }
    }
}

impl Unproven {
    /// The Thing, if it can be asked: one that sleeps is sent nothing until it comes by itself.
    fn of(endpoint: &str, stored: &StoredRegistration) -> Option<Self> {
        Some(Self {
            endpoint: endpoint.to_owned(),
            location: stored.location.clone(),
            address: stored.address.filter(|_| !stored.queue_mode)?,
            root: stored.root.clone(),
        })
    }
}

/// The handles for asking.
#[derive(Clone)]
pub(super) struct AskContext {
    pub handle: CoapHandle,
    pub registry: SharedRegistry,
}

/// Asks one Thing after the other, without waiting for those that are silent.
async fn ask_all(unproven: Vec<Unproven>, context: AskContext) {
    let mut asked = JoinSet::new();
    for unproven in unproven {
        if asked.len() >= ASKED_MAX {
            asked.join_next().await;
        }
        if context.is_open(&unproven) {
            let context = context.clone();
            asked.spawn(async move { context.ask(unproven).await });
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
    asked.join_all().await;
}

impl AskContext {
    /// True if the Thing has not come by itself, and nobody else is at its address.
    fn is_open(&self, unproven: &Unproven) -> bool {
        let registry = self.registry.read();
        let registration = registry.find_by_location(&unproven.location);
        registration.is_some_and(|registration| registration.peer.is_none())
            && registry.find_by_peer(unproven.address.into()).is_none()
    }

    /// Asks the Thing to update its registration. It does so by itself, whatever it answers.
    async fn ask(&self, unproven: Unproven) {
        let Unproven {
            endpoint,
            address,
            root,
            ..
        } = unproven;
        let request = Request::new(Code::POST, path::UPDATE_TRIGGER).below(&root);
        if let Err(error) = self.handle.request(address, request).await {
            tracing::debug!(endpoint, %error, "a Thing of before the start is silent");
        }
    }
}
