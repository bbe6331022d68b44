//! Registration of Things (LwM2M 1.1 transport, section 6.4.3) without IO: requests and time go
//! in, registrations come out. The table is bounded and entries end with their lifetime.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use super::agent;
use super::link_format::{self, LinkFormatError, WebLink};
use crate::coap::{Code, Request};

/// Things that one gateway serves: a mesh has a few hundred.
pub const REGISTRATIONS_MAX: usize = 1024;
/// Longest endpoint name: an id, or a URN around one.
pub const ENDPOINT_BYTES_MAX: usize = 128;
/// Most segments of the path below which a Thing has its objects: with object, instance and
/// resource the path must fit into a request.
pub const ROOT_SEGMENTS_MAX: usize = 4;
/// Most bytes of these segments together.
pub const ROOT_BYTES_MAX: usize = 128;
/// Lifetime when the Thing names none (LwM2M 1.1, table 6.2.1-1), in seconds.
pub const LIFETIME_DEFAULT_S: u64 = 86_400;
/// Longest lifetime: a Thing that is silent for longer is reported lost.
pub const LIFETIME_MAX_S: u64 = 30 * 86_400;
/// Shortest lifetime: faster updates would load the mesh for nothing.
pub const LIFETIME_MIN_S: u64 = 5;

/// A registration was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistrationError {
    /// `ep` is missing, too long, or has other characters than those of a URN.
    #[error("no valid endpoint name")]
    Endpoint,
    /// `lt` is no number of seconds.
    #[error("no valid lifetime")]
    Lifetime,
    /// `lwm2m` is not 1.0, 1.1 or 1.2.
    #[error("LwM2M version is not supported")]
    Version,
    /// UDP (`U`) is not among the transports in `b`.
    #[error("binding is not supported, U must be among its letters")]
    Binding,
    /// The list of objects is malformed.
    #[error("reading the list of objects")]
    Links(#[source] LinkFormatError),
    /// The path of the objects (`rt="oma.lwm2m"`) is too long.
    #[error("the root of the objects has too many or too long segments")]
    Root,
    /// The table is full.
    #[error("this gateway serves {REGISTRATIONS_MAX} Things already")]
    Full,
    /// The location has no registration, or no longer.
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

/// The objects that a Thing lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects {
    /// True if it has object 33000.
    pub agent: bool,
    /// True if it has object 5.
    pub updatable: bool,
    /// Segments of the path below which its objects are; usually empty.
    pub root: Vec<String>,
}

/// A Thing that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The device's id, whichever spelling of its name the Thing used.
    pub endpoint: String,
    /// Its address; `None` once another Thing registered from that address.
    pub peer: Option<SocketAddr>,
    /// The time that it lasts without an update.
    pub lifetime: Duration,
    /// The objects of the Thing.
    pub objects: Objects,
    /// The instant at which it ends.
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
    /// Registers the Thing `endpoint` under a location that cannot be guessed and that no earlier
    /// run used. A second registration of the same Thing replaces the first.
    pub fn register(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        endpoint: String,
        request: &Request,
        location: String,
    ) -> Result<Registration, RegistrationError> {
        let lifetime = lifetime(request)?.unwrap_or(Duration::from_secs(LIFETIME_DEFAULT_S));
        if !matches!(request.argument("lwm2m"), Some("1.0" | "1.1" | "1.2")) {
            return Err(RegistrationError::Version);
        }
        if !request.argument("b").is_none_or(has_udp) {
            return Err(RegistrationError::Binding);
        }
        let objects = objects(&request.payload)?;
        let known = self.by_endpoint.contains_key(&endpoint);
        if !known && self.by_location.len() >= REGISTRATIONS_MAX {
            return Err(RegistrationError::Full);
        }
        self.remove(&endpoint);
        let registration = Registration {
            endpoint,
            peer: Some(peer),
            lifetime,
            objects,
            expires: now + lifetime,
        };
        self.insert(location, peer, registration.clone());
        Ok(registration)
    }

    /// Extends a registration; address, lifetime and objects may change.
    pub fn update(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        location: &str,
        request: &Request,
    ) -> Result<Registration, RegistrationError> {
        let lifetime = lifetime(request)?;
        let objects = (!request.payload.is_empty())
            .then(|| objects(&request.payload))
            .transpose()?;
        let mut registration = self
            .remove_location(location)
            .ok_or(RegistrationError::Unknown)?;
        registration.peer = Some(peer);
        registration.lifetime = lifetime.unwrap_or(registration.lifetime);
        registration.expires = now + registration.lifetime;
        registration.objects = objects.unwrap_or(registration.objects);
        self.insert(location.to_owned(), peer, registration.clone());
        Ok(registration)
    }

    /// Ends a registration at the Thing's request.
    pub fn deregister(&mut self, location: &str) -> Result<Registration, RegistrationError> {
        let registration = self
            .by_location
            .get(location)
            .ok_or(RegistrationError::Unknown)?;
        let endpoint = registration.endpoint.clone();
        self.remove(&endpoint).ok_or(RegistrationError::Unknown)
    }

    /// Ends the registration of a Thing, if it has one.
    pub fn remove(&mut self, endpoint: &str) -> Option<Registration> {
        let location = self.by_endpoint.get(endpoint)?.clone();
        self.remove_location(&location)
    }

    /// Removes the registrations that have expired.
    pub fn expire(&mut self, now: Instant) -> Vec<Registration> {
        let expired = self.by_location.values().filter(|r| r.expires <= now);
        let endpoints: Vec<String> = expired.map(|r| r.endpoint.clone()).collect();
        endpoints
            .iter()
            .filter_map(|endpoint| self.remove(endpoint))
            .collect()
    }

    /// The instant at which the next one expires, unless updated.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.by_location.values().map(|r| r.expires).min()
    }

    /// The Thing of a location.
    pub fn find_by_location(&self, location: &str) -> Option<&Registration> {
        self.by_location.get(location)
    }

    /// The Thing at an address.
    pub fn find_by_peer(&self, peer: SocketAddr) -> Option<&Registration> {
        self.by_location.get(self.by_peer.get(&peer)?)
    }

    /// The Thing of a name.
    pub fn find_by_endpoint(&self, endpoint: &str) -> Option<&Registration> {
        self.by_location.get(self.by_endpoint.get(endpoint)?)
    }

    /// Inserts a registration. If another Thing had this address before, messages for that Thing
    /// must not go there any more: it loses the address.
    fn insert(&mut self, location: String, peer: SocketAddr, registration: Registration) {
        if let Some(before) = self.by_peer.insert(peer, location.clone())
            && let Some(other) = self.by_location.get_mut(&before)
        {
            other.peer = None;
        }
        self.by_endpoint
            .insert(registration.endpoint.clone(), location.clone());
        self.by_location.insert(location, registration);
    }

    /// Removes a registration with its name, and its address unless another Thing has it now.
    fn remove_location(&mut self, location: &str) -> Option<Registration> {
        let registration = self.by_location.remove(location)?;
        self.by_endpoint.remove(&registration.endpoint);
        if let Some(peer) = registration.peer {
            self.by_peer.remove(&peer);
        }
        Some(registration)
    }
}

/// The endpoint name of a registration, as the Thing spells it.
pub fn endpoint_name(request: &Request) -> Result<&str, RegistrationError> {
    // The characters that RFC 8141 allows in a URN.
    let marks = "._:-+,;=@~!$&'()*%/";
    let allowed = |c: char| c.is_ascii_alphanumeric() || marks.contains(c);
    request
        .argument("ep")
        .filter(|name| !name.is_empty() && name.len() <= ENDPOINT_BYTES_MAX)
        .filter(|name| name.chars().all(allowed))
        .ok_or(RegistrationError::Endpoint)
}

/// True if UDP is among the transports of a binding. `Q` (queue mode, LwM2M 1.0) is no transport.
fn has_udp(binding: &str) -> bool {
    binding.contains('U') && binding.chars().all(|c| "UTSNMHQ".contains(c))
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

/// Reads the list of objects. They are below the root, which is the link with the resource type
/// `oma.lwm2m` (LwM2M 1.1 core, section 6.2.1.2).
fn objects(payload: &[u8]) -> Result<Objects, RegistrationError> {
    let links = link_format::parse(payload).map_err(RegistrationError::Links)?;
    let is_root = |link: &&WebLink| {
        let mut types = link.attributes.iter().filter(|(name, _)| name == "rt");
        types.any(|(_, value)| value.split(' ').any(|word| word == "oma.lwm2m"))
    };
    let root = links.iter().find(is_root).map(|link| &link.target);
    let root = segments(root.map_or("", String::as_str));
    let bytes: usize = root.iter().map(|segment| segment.len()).sum();
    if root.len() > ROOT_SEGMENTS_MAX || bytes > ROOT_BYTES_MAX {
        return Err(RegistrationError::Root);
    }
    let has = |object: u16| {
        let object = object.to_string();
        let wanted = |link: &WebLink| {
            let path = segments(&link.target);
            let below = path.strip_prefix(root.as_slice());
            below.and_then(<[&str]>::first) == Some(&object.as_str())
        };
        links.iter().any(wanted)
    };
    Ok(Objects {
        agent: has(agent::OBJECT),
        updatable: has(5),
        root: root.into_iter().map(str::to_owned).collect(),
    })
}

fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).collect()
}
