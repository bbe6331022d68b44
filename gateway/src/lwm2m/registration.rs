//! Registration of Things (LwM2M 1.1 transport, section 6.4.3) without IO: requests and time in,
//! answers out. The table is bounded and entries end with their lifetime.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use super::agent;
use super::link_format::{self, LinkError};
use crate::coap::{Code, Request};

/// Things that one gateway serves: a mesh has a few hundred.
pub const REGISTRATIONS_MAX: usize = 1024;
/// Longest endpoint name; `urn:imei:...` and device ids fit.
pub const ENDPOINT_BYTES_MAX: usize = 64;
/// Lifetime when the Thing names none (LwM2M 1.1, table 6.2.1-1), in seconds.
pub const LIFETIME_DEFAULT_S: u64 = 86_400;
/// Longest lifetime: a Thing that is silent for longer is reported lost.
pub const LIFETIME_MAX_S: u64 = 30 * 86_400;
/// Shortest lifetime: faster updates would load the mesh for nothing.
pub const LIFETIME_MIN_S: u64 = 5;

/// Why a registration was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistrationError {
    /// `ep` is missing, too long, or has other characters than letters, digits and `._:-`.
    #[error("no valid endpoint name")]
    Endpoint,
    /// `lt` is no number of seconds.
    #[error("no valid lifetime")]
    Lifetime,
    /// `lwm2m` is not 1.0, 1.1 or 1.2.
    #[error("LwM2M version is not supported")]
    Version,
    /// `b` is not UDP.
    #[error("binding is not supported, only U and UQ are")]
    Binding,
    /// The list of objects is malformed.
    #[error("reading the list of objects")]
    Links(#[source] LinkError),
    /// The table is full.
    #[error("this gateway serves {REGISTRATIONS_MAX} Things already")]
    Full,
    /// The location is not, or no longer, known.
    #[error("no such registration")]
    Unknown,
    /// The ledger does not assign this Thing to this gateway.
    #[error("not a Thing of this gateway")]
    Foreign,
}

impl RegistrationError {
    /// The response code for it.
    pub fn code(&self) -> Code {
        match self {
            RegistrationError::Version => Code::PRECONDITION_FAILED,
            RegistrationError::Full => Code::UNAVAILABLE,
            RegistrationError::Unknown => Code::NOT_FOUND,
            RegistrationError::Foreign => Code::FORBIDDEN,
            _ => Code::BAD_REQUEST,
        }
    }
}

/// A Thing that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The name that it gave.
    pub endpoint: String,
    /// Where it can be reached.
    pub peer: SocketAddr,
    /// How long it stays without an update.
    pub lifetime: Duration,
    /// Whether it has object 33000.
    pub agent: bool,
    /// Whether it has object 5.
    pub updatable: bool,
    /// When it ends.
    pub expires: Instant,
}

/// The table of registrations.
#[derive(Debug, Default)]
pub struct Registry {
    by_location: HashMap<String, Registration>,
    by_endpoint: HashMap<String, String>,
    by_peer: HashMap<SocketAddr, String>,
}

impl Registry {
    /// Registers a Thing under a location that nobody can guess, and that no earlier run gave away;
    /// a second registration of the same name replaces the first.
    pub fn register(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        request: &Request,
        location: String,
    ) -> Result<Registration, RegistrationError> {
        let endpoint = endpoint_name(request)?;
        let lifetime = lifetime(request)?.unwrap_or(Duration::from_secs(LIFETIME_DEFAULT_S));
        if !matches!(request.argument("lwm2m"), Some("1.0" | "1.1" | "1.2")) {
            return Err(RegistrationError::Version);
        }
        if !matches!(request.argument("b"), None | Some("U" | "UQ")) {
            return Err(RegistrationError::Binding);
        }
        let (agent, updatable) = objects(&request.payload)?;
        self.remove_endpoint(&endpoint);
        if self.by_location.len() >= REGISTRATIONS_MAX {
            return Err(RegistrationError::Full);
        }
        let expires = now + lifetime;
        let registration = Registration {
            endpoint,
            peer,
            lifetime,
            agent,
            updatable,
            expires,
        };
        self.insert(location, registration.clone());
        Ok(registration)
    }

    /// Prolongs a registration; address, lifetime and objects may change.
    pub fn update(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        location: &str,
        request: &Request,
    ) -> Result<Registration, RegistrationError> {
        let lifetime = lifetime(request)?;
        let links = (!request.payload.is_empty())
            .then(|| objects(&request.payload))
            .transpose()?;
        let mut registration = self
            .by_location
            .remove(location)
            .ok_or(RegistrationError::Unknown)?;
        self.by_peer.remove(&registration.peer);
        registration.peer = peer;
        registration.lifetime = lifetime.unwrap_or(registration.lifetime);
        registration.expires = now + registration.lifetime;
        if let Some((agent, updatable)) = links {
            (registration.agent, registration.updatable) = (agent, updatable);
        }
        self.insert(location.to_owned(), registration.clone());
        Ok(registration)
    }

    /// Ends a registration at the Thing's wish.
    pub fn deregister(&mut self, location: &str) -> Result<Registration, RegistrationError> {
        let registration = self
            .by_location
            .get(location)
            .ok_or(RegistrationError::Unknown)?;
        let endpoint = registration.endpoint.clone();
        self.remove_endpoint(&endpoint)
            .ok_or(RegistrationError::Unknown)
    }

    /// Takes out what has expired.
    pub fn expire(&mut self, now: Instant) -> Vec<Registration> {
        let expired = self.by_location.values().filter(|r| r.expires <= now);
        let endpoints: Vec<String> = expired.map(|r| r.endpoint.clone()).collect();
        endpoints
            .iter()
            .filter_map(|endpoint| self.remove_endpoint(endpoint))
            .collect()
    }

    /// When the next one expires, unless updated.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.by_location.values().map(|r| r.expires).min()
    }

    /// The Thing of a location.
    pub fn location(&self, location: &str) -> Option<&Registration> {
        self.by_location.get(location)
    }

    /// The Thing at an address.
    pub fn at(&self, peer: SocketAddr) -> Option<&Registration> {
        self.by_location.get(self.by_peer.get(&peer)?)
    }

    /// The Thing of a name.
    pub fn named(&self, endpoint: &str) -> Option<&Registration> {
        self.by_location.get(self.by_endpoint.get(endpoint)?)
    }

    fn insert(&mut self, location: String, registration: Registration) {
        // An address that another Thing had before is the newer one's now.
        self.by_peer.insert(registration.peer, location.clone());
        self.by_endpoint
            .insert(registration.endpoint.clone(), location.clone());
        self.by_location.insert(location, registration);
    }

    fn remove_endpoint(&mut self, endpoint: &str) -> Option<Registration> {
        let location = self.by_endpoint.remove(endpoint)?;
        let registration = self.by_location.remove(&location)?;
        if self.by_peer.get(&registration.peer) == Some(&location) {
            self.by_peer.remove(&registration.peer);
        }
        Some(registration)
    }
}

fn endpoint_name(request: &Request) -> Result<String, RegistrationError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
    let fits = |name: &&str| {
        !name.is_empty() && name.len() <= ENDPOINT_BYTES_MAX && name.chars().all(allowed)
    };
    let name = request
        .argument("ep")
        .filter(fits)
        .ok_or(RegistrationError::Endpoint)?;
    Ok(name.to_owned())
}

fn lifetime(request: &Request) -> Result<Option<Duration>, RegistrationError> {
    let Some(text) = request.argument("lt") else {
        return Ok(None);
    };
    let seconds: u64 = text.parse().map_err(|_| RegistrationError::Lifetime)?;
    Ok(Some(Duration::from_secs(
        seconds.clamp(LIFETIME_MIN_S, LIFETIME_MAX_S),
    )))
}

/// Whether the list has our object and object 5.
fn objects(payload: &[u8]) -> Result<(bool, bool), RegistrationError> {
    let links = link_format::parse(payload).map_err(RegistrationError::Links)?;
    let has = |object: u16| {
        let wanted = object.to_string();
        links
            .iter()
            .any(|l| l.target.trim_start_matches('/').split('/').next() == Some(&wanted))
    };
    Ok((has(agent::OBJECT), has(5)))
}
