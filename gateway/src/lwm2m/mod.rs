//! The part of OMA LwM2M 1.1/1.2 that a gateway needs: registration, the objects Device (3) and
//! Firmware Update (5), and our own small object 33000 for Things that attest what they do.
//!
//! | path | operations | meaning |
//! |---|---|---|
//! | `/rd?ep=&lt=&lwm2m=&b=` | POST | register; `/rd/{id}` POST updates, DELETE ends it |
//! | `/3/0/3` | R | firmware version |
//! | `/3/0/9` | R | battery level in percent, optional |
//! | `/5/0/0` | W | package, block-wise; an empty write resets the object |
//! | `/5/0/1` | W | package URI, for a Thing that fetches its package; empty: reset |
//! | `/5/0/2` | E | update |
//! | `/5/0/3` | R | state: see [`FirmwareState`] |
//! | `/5/0/5` | R | result: see [`UpdateResult`] |
//! | `/5/0/6`, `/5/0/7` | R | name and version of the package, optional |
//! | `/5/0/8`, `/5/0/9` | R | protocols to fetch a package, and delivery method: see [`Delivery`] |
//!
//! A Thing may have its objects below another root, which it marks with `rt="oma.lwm2m"`.
//!
//! Object 33000 and the resources `/ev` and `/rp` of the gateway are described in [`agent`].

pub mod agent;
pub mod bootstrap;
pub mod endpoint;
pub mod firmware;
pub mod inventory;
pub mod link_format;
pub mod mapping;
mod objects;
pub mod order;
pub mod proof;
pub mod records;
pub mod registration;
pub mod resource;
pub mod senml;
#[cfg(test)]
mod tests;
pub mod value;
pub mod version;

pub use endpoint::Endpoints;
pub use firmware::{Delivery, FirmwareState, PullProtocol, Stage, UpdateResult};
pub use registration::{Registration, RegistrationError, Registry};

/// Paths of the standard objects, instance 0.
pub mod path {
    /// The resource at which Things register.
    pub const REGISTRATION: &str = "/rd";
    /// Execute: the Thing updates its registration (LwM2M 1.1, object 1).
    pub const UPDATE_TRIGGER: &str = "/1/0/8";
    /// Device: firmware version.
    pub const FIRMWARE_VERSION: &str = "/3/0/3";
    /// Device: battery level in percent.
    pub const BATTERY_LEVEL: &str = "/3/0/9";
    /// Firmware update: the package.
    pub const PACKAGE: &str = "/5/0/0";
    /// Firmware update: where the package is.
    pub const PACKAGE_URI: &str = "/5/0/1";
    /// Firmware update: the protocols by which the Thing can fetch a package.
    pub const PROTOCOLS: &str = "/5/0/8";
    /// Firmware update: whether packages are pushed to the Thing or fetched by it.
    pub const DELIVERY: &str = "/5/0/9";
    /// Firmware update: start installing.
    pub const UPDATE: &str = "/5/0/2";
    /// Firmware update: state.
    pub const STATE: &str = "/5/0/3";
    /// Firmware update: result.
    pub const RESULT: &str = "/5/0/5";
    /// Firmware update: name of the package.
    pub const PACKAGE_NAME: &str = "/5/0/6";
    /// Firmware update: version of the package.
    pub const PACKAGE_VERSION: &str = "/5/0/7";
}
