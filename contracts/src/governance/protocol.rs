//! The protocol version of the chain: see [`lamplighter_types::protocol`].

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::Protocol;
use lamplighter_types::protocol::PROTOCOL_VERSION;

use super::{keys, protocol};
use crate::BlockContext;

/// Puts the next protocol version into force when its height has come.
///
/// # Errors
/// The state can't be read, or the version in force is above the newest one of this program: the
/// node stops, and nothing of the block is executed.
pub(super) fn begin_block(overlay: &mut Overlay, block: &BlockContext) -> Result<(), StateError> {
    let Protocol { version, next } = protocol(overlay)?;
    let height_has_come = |(_, from_height): &(u32, u64)| *from_height <= block.height;
    let begins = next.filter(height_has_come).map(|(version, _)| version);
    let in_force = begins.unwrap_or(version);
    if in_force > PROTOCOL_VERSION {
        return Err(StateError::NewerProtocol {
            height: block.height,
            chain: in_force,
            program: PROTOCOL_VERSION,
        });
    }
    if let Some(version) = begins {
        let next = None;
        overlay.put(&keys::protocol(), &Protocol { version, next });
    }
    Ok(())
}
