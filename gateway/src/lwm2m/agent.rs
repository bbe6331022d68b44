//! Object 33000, "Lamplighter agent", and the messages that a Thing with this object posts to its
//! gateway. The number is not registered with OMA. Things without it are served through objects 3
//! and 5 alone; the gateway's reports about them are not attested.
//!
//! | path | operations | type | meaning |
//! |---|---|---|---|
//! | `/33000/0/0` | W | opaque | [`Offer`]: the signed release that the next package must be |
//! | `/33000/0/1` | W | opaque | desired configuration document |
//! | `/33000/0/2` | R | text | blake3 of the applied configuration, or empty |
//! | `/33000/0/3` | R | integer | boot counter |
//! | `/33000/0/4` | R | text | active slot, `A` or `B` |
//! | `/33000/0/5` | R | text | blake3 of the active slot |
//! | `/33000/0/6` | R | integer | bytes of the offered package that have arrived |
//! | `/33000/0/7` | R | integer | security counter floor |
//! | `/33000/0/8` | R | text | the Thing's ed25519 public key, hexadecimal |
//! | `/33000/0/9` | R | text | hardware class |
//! | `/33000/0/10` | E | - | give up the package; refused (4.05) once it is being installed |
//! | `/33000/0/11` to `13` | | | orders with a proof: module [`super::order`] |
//! | `/33000/0/14`, `15` | | | one image for several Things at once: module [`crate::cast`] |
//! | `/33000/0/16` | R | integer | update lock: seconds for which the Thing is busy; 0 or missing: it is not |
//!
//! The gateway's own resources: `/rp` takes a [`ThingReport`], `/ev` a [`DeviceEvent`], both in the
//! binary encoding of `lamplighter_types::codec` and signed by the Thing. 2.04 means that the
//! gateway has it on disk; 4.00 that the gateway will never accept it; after any other code the
//! Thing sends it again.

use lamplighter_types::{
    ConfigReport, DeploymentReport, DeploymentState, DeviceEvent, Id, InventoryReport, KeyRotation,
    SignedRelease,
};
use serde::{Deserialize, Serialize};

/// Number of the object.
pub const OBJECT: u16 = 33000;
/// The signed release that the next package must be.
pub const OFFER: &str = "/33000/0/0";
/// Desired configuration document.
pub const CONFIGURATION: &str = "/33000/0/1";
/// Digest of the applied configuration document.
pub const CONFIGURATION_DIGEST: &str = "/33000/0/2";
/// Boot counter.
pub const BOOT_COUNTER: &str = "/33000/0/3";
/// Active slot.
pub const SLOT: &str = "/33000/0/4";
/// Digest of the active slot.
pub const RUNNING_DIGEST: &str = "/33000/0/5";
/// Bytes of the offered package that have arrived.
pub const RECEIVED_BYTES: &str = "/33000/0/6";
/// Security counter floor.
pub const SECURITY_COUNTER: &str = "/33000/0/7";
/// The Thing's public key.
pub const PUBLIC_KEY: &str = "/33000/0/8";
/// Hardware class.
pub const HARDWARE_CLASS: &str = "/33000/0/9";
/// Update lock: seconds for which the Thing is busy. Asked before the order to install where the
/// plan has guards.
pub const UPDATE_LOCK: &str = "/33000/0/16";
/// Give up the package.
pub const CANCEL: &str = "/33000/0/10";
/// On the gateway: takes events.
pub const EVENTS: &str = "/ev";
/// On the gateway: takes reports.
pub const REPORTS: &str = "/rp";

/// Longest offer, report or event in bytes: a manifest with 32 hardware classes and dependencies,
/// or an event with its largest body, with room to spare.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// The message that the gateway sends a Thing before a package. It names the release that the
/// package must be and the deployment that the Thing's reports are about. The Thing trusts only the
/// vendor's signature in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The rollout of the deployment.
    pub rollout: Id,
    /// The device, as the ledger names it.
    pub device: Id,
    /// Manifest with the vendor's signature.
    pub release: SignedRelease,
    /// The state of the deployment on the ledger: the first report goes from here.
    pub state: DeploymentState,
    /// Height of the newest certified header that the gateway has seen.
    pub seen_height: u64,
}

/// A message that a Thing posts to `/rp`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ThingReport {
    /// The running image; sent after each boot.
    Inventory(InventoryReport),
    /// A step of a deployment.
    Deployment(DeploymentReport),
    /// A configuration was applied or not.
    Config(ConfigReport),
    /// The Thing wants to sign with another key. It sends this when everything that it has signed
    /// before was answered, and signs with the new key from then on. The gateway answers that it is
    /// unavailable until the ledger has the new key.
    KeyRotation(KeyRotation),
}

/// The message that a Thing posts to `/ev`.
pub type ThingEvent = DeviceEvent;
