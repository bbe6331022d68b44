//! The notifications of the newest blocks, decoded once for all subscriptions. The node itself has
//! three, and outside readers mostly wait for the next block as well.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use lamplighter_state::StateError;
use lamplighter_types::wire::{Cursor, FeedEvent};

/// Blocks that are kept: subscriptions that wait for the next block are no further apart.
pub(super) const BLOCKS_MAX: usize = 4;
/// Notifications of a block that is kept; a larger one is read by each subscription. It bounds the
/// memory, and the time for which an async thread searches a block.
pub(super) const NOTIFICATIONS_MAX: usize = 256;

/// A block and its notifications.
type DecodedBlock = (u64, Arc<[FeedEvent]>);

/// The newest blocks, by height. A block never changes while the process runs: a node that drops
/// its log starts again.
#[derive(Default)]
pub(super) struct RecentBlocks(Mutex<VecDeque<DecodedBlock>>);

impl RecentBlocks {
    /// The notifications of a block, if they are in memory and nobody adds some right now.
    pub fn get(&self, height: u64) -> Option<Arc<[FeedEvent]>> {
        let blocks = self.0.try_lock().ok()?;
        find(&blocks, height)
    }

    /// The notifications of a block, read if they are not in memory. Subscriptions that come to the
    /// same block at once wait for the first one.
    pub fn get_or_read(
        &self,
        height: u64,
        read: impl FnOnce() -> Result<Vec<FeedEvent>, StateError>,
    ) -> Result<Arc<[FeedEvent]>, StateError> {
        // A panic of `read` leaves the blocks as they were.
        let mut blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(events) = find(&blocks, height) {
            return Ok(events);
        }
        let events: Arc<[FeedEvent]> = read()?.into();
        if events.len() <= NOTIFICATIONS_MAX {
            blocks.push_back((height, events.clone()));
            if blocks.len() > BLOCKS_MAX {
                blocks.pop_front();
            }
        }
        Ok(events)
    }

    /// Returns whether a block is so new that its notifications are kept.
    pub fn keeps(height: u64, newest: u64) -> bool {
        newest.saturating_sub(height) < BLOCKS_MAX as u64
    }
}

fn find(blocks: &VecDeque<DecodedBlock>, height: u64) -> Option<Arc<[FeedEvent]>> {
    let found = blocks.iter().find(|(of, _)| *of == height);
    found.map(|(_, events)| events.clone())
}

/// The events from `first` on that match.
pub(super) fn matching(
    events: &[FeedEvent],
    first: Cursor,
    matches: impl Fn(&FeedEvent) -> bool,
) -> Vec<FeedEvent> {
    let wanted = |event: &&FeedEvent| event.cursor >= first && matches(event);
    events.iter().filter(wanted).cloned().collect()
}
