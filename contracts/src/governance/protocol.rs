//! The version of the rules.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{Notification, Protocol};

use super::{keys, protocol};
use crate::BlockContext;

/// The version of the rules in this software.
pub const PROTOCOL_VERSION: u32 = 1;

/// Begins the next version when its height has come.
///
/// # Errors
/// The state can't be read, or the version in force is not [`PROTOCOL_VERSION`].
pub fn begin_block(
    overlay: &mut Overlay,
    block: &BlockContext,
) -> Result<Vec<Notification>, StateError> {
    let mut now = protocol(overlay)?;
    if let Some((version, from_height)) = now.next
        && from_height <= block.height
    {
        now = Protocol {
            version,
            next: None,
        };
        overlay.put(&keys::protocol(), &now);
    }
    if now.version != PROTOCOL_VERSION {
        return Err(StateError::Mismatch {
            what: "the protocol version of this software",
            expected: now.version.to_string(),
            got: PROTOCOL_VERSION.to_string(),
        });
    }
    Ok(Vec::new())
}
