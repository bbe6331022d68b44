//! Records of what a deployment waits for before it is installed.

use serde::{Deserialize, Serialize};

use crate::Id;

/// Consent to one deployment of a plan with guards, and how often it was put off. Who did it, and
/// with which words, is in the steps of the deployment and in the history of the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InstallRecord {
    pub rollout: Id,
    pub device: Id,
    /// Unix time in ms at which it ends if it still waits to be installed; none before it is
    /// downloaded.
    pub wait_until_ms: Option<u64>,
    /// The last consent that was given and not withdrawn or refused.
    pub consent: Option<Consent>,
    /// The number of times that somebody consented.
    pub granted: u32,
    pub withdrawn: u32,
    pub refused: u32,
    /// How many of the deployment's postponements its Thing asked for.
    pub postponed_by_thing: u32,
}

/// A consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Consent {
    /// The account of the person, or of the gateway that passed the Thing's consent on.
    pub by: Id,
    /// The Thing itself consented, with its signature.
    pub by_thing: bool,
    /// Block time in Unix ms.
    pub granted_ms: u64,
    /// Unix time in ms until which the device may install.
    pub until_ms: u64,
}
