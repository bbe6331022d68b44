//! Registration of Things (LwM2M 1.1 transport, section 6.4.3) without IO: requests and time go
//! in, registrations come out. The table is bounded and entries end with their lifetime.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use super::link_format::LinkFormatError;
use super::objects::objects;
use super::proof::ProofError;
use super::resource::InstancePath;
use crate::coap::{Code, Peer, Request};

/// Things that one gateway serves: as many as it knows devices, some of which may be behind
/// several border routers.
pub const REGISTRATIONS_MAX: usize = 10_000;
/// Longest endpoint name: an id, or a URN around one.
pub const ENDPOINT_BYTES_MAX: usize = 128;
/// Most segments of the path below which a Thing has its objects: with object, instance and
/// resource the path must fit into a request.
pub const ROOT_SEGMENTS_MAX: usize = 4;
/// Most bytes of these segments together.
pub const ROOT_BYTES_MAX: usize = 128;
/// Objects whose values are observed: the IPSO objects for sensors, actuators and lights.
pub const OBSERVABLE_OBJECTS: std::ops::RangeInclusive<u16> = 3200..=3350;
/// Observed instances of one Thing; each notification costs the mesh and the ledger.
pub const OBSERVABLE_MAX: usize = 8;
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
    /// The session belongs to another device.
    #[error("the session's key is that of another device")]
    OtherDevice,
    /// The device has a key in this gateway's file and came without a session of it.
    #[error("this device registers over DTLS or OSCORE, with its key for that")]
    NoSession,
    /// The device has a key on the ledger, or is registered with a proof, and gave none.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// What shows that a request comes from the device that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// Nothing: the device is unattested. Anybody on the mesh can register in its name.
    Unattested,
    /// The signature of its key on the ledger, over the nonce with this number.
    Signed(u64),
    /// A session, for which it has proven a key of the gateway's file.
    Session,
}

impl Proof {
    /// True if only the device itself could give it.
    pub fn attests(self) -> bool {
        self != Proof::Unattested
    }
}

/// The sender of a request: where it is, and what it has proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Where it is.
    pub peer: Peer,
    /// What it has proven.
    pub proof: Proof,
}

impl From<Peer> for Sender {
    fn from(peer: Peer) -> Sender {
        Sender {
            peer,
            proof: Proof::Unattested,
        }
    }
}

impl RegistrationError {
    /// The response code for it.
    pub fn code(&self) -> Code {
        match self {
            RegistrationError::Version => Code::PRECONDITION_FAILED,
            RegistrationError::Full => Code::UNAVAILABLE,
            RegistrationError::Unknown => Code::NOT_FOUND,
            RegistrationError::Foreign | RegistrationError::OtherDevice => Code::FORBIDDEN,
            RegistrationError::NoSession | RegistrationError::Proof(_) => Code::UNAUTHORIZED,
            _ => Code::BAD_REQUEST,
        }
    }
}

/// The objects that a Thing lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects {
    /// True if it has object 33000.
    pub agent: bool,
    /// True if it takes orders with a proof alone: its object 33000 has version 1.1.
    pub checks_orders: bool,
    /// True if it takes images that are sent to several Things at once.
    pub takes_casts: bool,
    /// True if it has object 5.
    pub updatable: bool,
    /// Instances of sensors and actuators whose values are observed, such as `/3311/0`.
    pub observable: Vec<String>,
    /// Instances of the objects in which it says what it is.
    pub inventory: Vec<InstancePath>,
    /// Segments of the path below which its objects are; usually empty.
    pub root: Vec<String>,
}

/// A Thing that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The device's id, whichever spelling of its name the Thing used.
    pub endpoint: String,
    /// Its address or session; `None` once another Thing registered from there.
    pub peer: Option<Peer>,
    /// What the Thing has proven. A request that proves less never changes the registration.
    pub proof: Proof,
    /// The time that it lasts without an update.
    pub lifetime: Duration,
    /// The objects of the Thing.
    pub objects: Objects,
    /// True if it listens only for some time after its own messages.
    pub queue_mode: bool,
    /// The instant at which it ends.
    pub expires: Instant,
}

/// The table of registrations.
#[derive(Debug, Default)]
pub struct Registry {
    by_location: HashMap<String, Registration>,
    by_endpoint: HashMap<String, String>,
    /// The Things that proved who they are, and the others: one of each kind may be at an address.
    attested: HashMap<Peer, String>,
    unattested: HashMap<Peer, String>,
    /// The locations, with those that end next first.
    by_expiry: BTreeSet<(Instant, String)>,
}

impl Registry {
    /// Registers the Thing `endpoint` under a location that cannot be guessed and that no earlier
    /// run used. A second registration of the same Thing replaces the first.
    pub fn register(
        &mut self,
        now: Instant,
        sender: impl Into<Sender>,
        endpoint: String,
        request: &Request,
        location: String,
    ) -> Result<Registration, RegistrationError> {
        let Sender { peer, proof } = sender.into();
        let lifetime = lifetime(request)?.unwrap_or(Duration::from_secs(LIFETIME_DEFAULT_S));
        // LwM2M 1.0 lets a Thing leave it out.
        if !matches!(
            request.argument("lwm2m"),
            None | Some("1.0" | "1.1" | "1.2")
        ) {
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
            proof,
            lifetime,
            objects,
            queue_mode: has_queue_mode(request).unwrap_or(false),
            expires: now + lifetime,
        };
        self.insert(location, peer, registration.clone());
        Ok(registration)
    }

    /// Extends a registration; address, lifetime and objects may change.
    pub fn update(
        &mut self,
        now: Instant,
        sender: impl Into<Sender>,
        location: &str,
        request: &Request,
    ) -> Result<Registration, RegistrationError> {
        let Sender { peer, proof } = sender.into();
        let lifetime = lifetime(request)?;
        let objects = (!request.payload.is_empty())
            .then(|| objects(&request.payload))
            .transpose()?;
        if !request.argument("b").is_none_or(has_udp) {
            return Err(RegistrationError::Binding);
        }
        let mut registration = self
            .remove_location(location)
            .ok_or(RegistrationError::Unknown)?;
        (registration.peer, registration.proof) = (Some(peer), proof);
        registration.lifetime = lifetime.unwrap_or(registration.lifetime);
        registration.expires = now + registration.lifetime;
        registration.objects = objects.unwrap_or(registration.objects);
        registration.queue_mode = has_queue_mode(request).unwrap_or(registration.queue_mode);
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
        let mut expired = Vec::new();
        while let Some((at, location)) = self.by_expiry.first()
            && *at <= now
        {
            let location = location.clone();
            expired.extend(self.remove_location(&location));
        }
        expired
    }

    /// The instant at which the next one expires, unless updated.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.by_expiry.first().map(|(at, _)| *at)
    }

    /// The Thing of a location.
    pub fn find_by_location(&self, location: &str) -> Option<&Registration> {
        self.by_location.get(location)
    }

    /// The Thing at an address, or of a session. If two are there, the one that proved nothing:
    /// only that one is known by its address alone.
    pub fn find_by_peer(&self, peer: Peer) -> Option<&Registration> {
        let location = self.unattested.get(&peer);
        self.by_location
            .get(location.or_else(|| self.attested.get(&peer))?)
    }

    /// The other Things that a sender displaces: those at its address that have proven no more.
    pub fn displaced_by(&self, sender: Sender, endpoint: &str) -> Vec<String> {
        let attested = self.attested.get(&sender.peer);
        let attested = attested.filter(|_| sender.proof.attests());
        let there = self
            .unattested
            .get(&sender.peer)
            .into_iter()
            .chain(attested);
        let names = there.filter_map(|location| self.by_location.get(location));
        let others = names.filter(|other| other.endpoint != endpoint);
        others.map(|other| other.endpoint.clone()).collect()
    }

    /// The location of a Thing's registration.
    pub fn location(&self, endpoint: &str) -> Option<String> {
        self.by_endpoint.get(endpoint).cloned()
    }

    /// True if a Thing is registered from this host, whatever its port.
    pub fn has_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let peers = self.attested.keys().chain(self.unattested.keys());
        let mut addresses = peers.map(|peer| peer.address.ip().to_canonical());
        addresses.any(|other| other == address)
    }

    /// The Thing of a name.
    pub fn find_by_endpoint(&self, endpoint: &str) -> Option<&Registration> {
        self.by_location.get(self.by_endpoint.get(endpoint)?)
    }

    /// Inserts a registration. A Thing that had this address before, and has proven no more, loses
    /// it: messages for it must not go there any more.
    fn insert(&mut self, location: String, peer: Peer, registration: Registration) {
        let mut before = vec![self.unattested.remove(&peer)];
        let places = if registration.proof.attests() {
            &mut self.attested
        } else {
            &mut self.unattested
        };
        before.push(places.insert(peer, location.clone()));
        for before in before.into_iter().flatten() {
            if let Some(other) = self.by_location.get_mut(&before) {
                other.peer = None;
            }
        }
        self.insert_entry(location, registration);
    }

    fn insert_entry(&mut self, location: String, registration: Registration) {
        self.by_endpoint
            .insert(registration.endpoint.clone(), location.clone());
        self.by_expiry
            .insert((registration.expires, location.clone()));
        self.by_location.insert(location, registration);
    }

    /// Takes up a registration from before a restart, at no address: whoever is at its former one
    /// now has to prove that it is this Thing. A Thing that is registered already keeps the newer
    /// one.
    pub fn restore(&mut self, location: String, registration: Registration) {
        let is_known = self.by_endpoint.contains_key(&registration.endpoint)
            || self.by_location.contains_key(&location);
        if !is_known && self.by_location.len() < REGISTRATIONS_MAX {
            let peer = None;
            self.insert_entry(
                location,
                Registration {
                    peer,
                    ..registration
                },
            );
        }
    }

    /// All registrations with their locations, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Registration)> {
        self.by_location.iter()
    }

    /// Removes a registration with its name, and its address unless another Thing has it now.
    fn remove_location(&mut self, location: &str) -> Option<Registration> {
        let registration = self.by_location.remove(location)?;
        self.by_endpoint.remove(&registration.endpoint);
        self.by_expiry
            .remove(&(registration.expires, location.to_owned()));
        let places = [&mut self.attested, &mut self.unattested];
        if let Some(peer) = registration.peer {
            places.into_iter().for_each(|places| {
                if places.get(&peer).is_some_and(|there| there == location) {
                    places.remove(&peer);
                }
            });
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

/// True if the Thing asks for queue mode, as in `b=UQ` of LwM2M 1.0 or `b=U&Q` of 1.1; `None` if it
/// does not name its binding.
fn has_queue_mode(request: &Request) -> Option<bool> {
    let bare = |name: &String| name == "Q" || name.starts_with("Q=");
    if request.query.iter().any(bare) {
        return Some(true);
    }
    Some(request.argument("b")?.contains('Q'))
}

fn lifetime(request: &Request) -> Result<Option<Duration>, RegistrationError> {
    let Some(text) = request.argument("lt") else {
        return Ok(None);
    };
    let seconds: u64 = text.parse().map_err(|_| RegistrationError::Lifetime)?;
    // LwM2M 1.1: a lifetime without end.
    let seconds = if seconds == 0 {
        LIFETIME_MAX_S
    } else {
        seconds
    };
    Ok(Some(Duration::from_secs(
        seconds.clamp(LIFETIME_MIN_S, LIFETIME_MAX_S),
    )))
}
