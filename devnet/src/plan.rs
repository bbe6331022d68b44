//! What a devnet is made of, and how large it may be.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::DevnetError;

/// Validators that a machine of two cores runs.
pub const VALIDATORS: RangeInclusive<usize> = 1..=7;
pub const GATEWAYS: RangeInclusive<usize> = 1..=5;
/// The Things of all gateways together.
pub const THINGS: RangeInclusive<usize> = 1..=200;

/// What a devnet is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    pub validators: usize,
    pub gateways: usize,
    pub things: usize,
    /// The image to roll out; one is made up if there is none.
    pub firmware: Option<PathBuf>,
    /// Everything is kept in it; emptied if an earlier devnet made it.
    pub dir: PathBuf,
    /// The binary `lamplighter`.
    pub program: PathBuf,
    /// Bytes per second of each mesh; none for the usual rate of the devnet.
    pub rate_bytes_per_s: Option<u32>,
}

impl Plan {
    /// A ledger alone, without gateways and Things, is possible too.
    pub(crate) fn check(&self) -> Result<(), DevnetError> {
        let (validators, gateways, things) = (self.validators, self.gateways, self.things);
        let field = GATEWAYS.contains(&gateways) && THINGS.contains(&things);
        match VALIDATORS.contains(&validators) && (field || (gateways, things) == (0, 0)) {
            true => Ok(()),
            false => Err(DevnetError::Size {
                validators,
                gateways,
                things,
            }),
        }
    }
}
