//! The size and the files of a devnet.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::DevnetError;

/// Validators that a machine of two cores runs.
pub const VALIDATORS: RangeInclusive<usize> = 1..=7;
pub const GATEWAYS: RangeInclusive<usize> = 1..=5;
/// The Things of all gateways together.
pub const THINGS: RangeInclusive<usize> = 1..=200;

/// The size and the files of a devnet.
#[derive(Clone, Debug)]
pub struct Plan {
    pub validators: usize,
    pub gateways: usize,
    pub things: usize,
    /// The image to roll out; none for a generated one.
    pub firmware: Option<PathBuf>,
    /// The directory of everything; emptied if an earlier devnet made it.
    pub dir: PathBuf,
    /// The binary `lamplighter`.
    pub program: PathBuf,
    /// Bytes per second of each mesh; none for the usual rate of the devnet.
    pub rate_bytes_per_s: Option<u32>,
}

impl Plan {
    /// Checks the size. A ledger alone, without gateways and Things, is possible too.
    pub(crate) fn check(&self) -> Result<(), DevnetError> {
        let (validators, gateways, things) = (self.validators, self.gateways, self.things);
        let field = GATEWAYS.contains(&gateways) && THINGS.contains(&things);
        if VALIDATORS.contains(&validators) && (field || (gateways, things) == (0, 0)) {
            Ok(())
        } else {
            Err(DevnetError::Size {
                validators,
                gateways,
                things,
            })
        }
    }
}
