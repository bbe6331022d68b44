//! What the south side asks about devices, whose records are those of the ledger.

use lamplighter_types::{Hash, PublicKey};

use crate::credentials::{DeviceKey, Protection};

/// The devices that this gateway serves.
pub trait ServedDevices: Send + Sync + 'static {
    /// The Thing that an endpoint name stands for, by its name in commands and events; `None` if it
    /// is not served here.
    fn resolve(&self, endpoint_name: &str) -> Option<String>;

    /// True if the Thing with this name in commands and events is still served here.
    fn serves(&self, endpoint: &str) -> bool;

    /// The Thing's key on the ledger, if it has one: then it registers with a signature of this
    /// key, or over a session.
    fn key(&self, _endpoint: &str) -> Option<ThingKey> {
        None
    }

    /// The key that the Thing is to have for its registrations: one for this protocol, if there is
    /// any.
    fn device_key(&self, _endpoint: &str, _preferred: Protection) -> Option<DeviceKey> {
        None
    }

    /// True if the Thing may register without a session.
    fn admits_plain(&self, _endpoint: &str) -> bool {
        true
    }
}

/// The key of a Thing, and the ledger that it signs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThingKey {
    /// The ledger.
    pub chain_id: Hash,
    /// The public key.
    pub key: PublicKey,
}

/// Resolves each accepted name to itself.
impl<F: Fn(&str) -> bool + Send + Sync + 'static> ServedDevices for F {
    fn resolve(&self, endpoint_name: &str) -> Option<String> {
        self(endpoint_name).then(|| endpoint_name.to_owned())
    }

    fn serves(&self, endpoint: &str) -> bool {
        self(endpoint)
    }
}
