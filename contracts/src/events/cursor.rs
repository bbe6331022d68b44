//! The sequence numbers of a device that have come.

use lamplighter_types::limits::EVENT_GAPS_MAX;
use lamplighter_types::{EventCursor, EventGap, Id};

use super::{EventsError, SEQUENCE_JUMP_MAX};

/// The order of an event among those that came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SequenceOrder {
    /// The next number.
    Next,
    /// A number after some that have not come.
    After(EventGap),
    /// A number that closes a gap or a part of one.
    Late,
}

pub(super) fn empty() -> EventCursor {
    EventCursor {
        highest: 0,
        count: 0,
        gaps: Vec::new(),
    }
}

/// Accepts a number; an error leaves the cursor as it was.
pub(super) fn accept(
    cursor: &mut EventCursor,
    device: &Id,
    sequence: u64,
) -> Result<SequenceOrder, EventsError> {
    let highest = cursor.highest;
    if sequence <= highest {
        fill(cursor, device, sequence)?;
        cursor.count += 1;
        return Ok(SequenceOrder::Late);
    }
    if sequence - highest > SEQUENCE_JUMP_MAX {
        return Err(EventsError::SequenceTooFar {
            device: device.clone(),
            sequence,
            highest,
        });
    }
    cursor.highest = sequence;
    cursor.count += 1;
    if sequence == highest + 1 {
        return Ok(SequenceOrder::Next);
    }
    let gap = EventGap {
        first: highest + 1,
        last: sequence - 1,
    };
    cursor.gaps.push(gap);
    merge_oldest(cursor);
    Ok(SequenceOrder::After(gap))
}

/// Removes a number from its gap, which shrinks, is split or disappears.
fn fill(cursor: &mut EventCursor, device: &Id, sequence: u64) -> Result<(), EventsError> {
    let closed = usize::from(first_is_merged(cursor));
    let within = |gap: &EventGap| (gap.first..=gap.last).contains(&sequence);
    let open = cursor.gaps.iter().enumerate().skip(closed);
    let Some((at, gap)) = open
        .map(|(at, gap)| (at, *gap))
        .find(|(_, gap)| within(gap))
    else {
        return Err(EventsError::SequenceUsed {
            device: device.clone(),
            sequence,
        });
    };
    let below = (gap.first < sequence).then(|| EventGap {
        last: sequence - 1,
        ..gap
    });
    let above = (gap.last > sequence).then(|| EventGap {
        first: sequence + 1,
        ..gap
    });
    cursor.gaps.splice(at..=at, below.into_iter().chain(above));
    merge_oldest(cursor);
    Ok(())
}

/// Merges the two oldest gaps if there are too many. At least one used number lies between them, so
/// that gaps and events together are more than the highest number from then on.
fn merge_oldest(cursor: &mut EventCursor) {
    if cursor.gaps.len() > EVENT_GAPS_MAX {
        let oldest = cursor.gaps.remove(0);
        cursor.gaps[0].first = oldest.first;
    }
}

fn first_is_merged(cursor: &EventCursor) -> bool {
    let missing: u64 = cursor.gaps.iter().map(|gap| gap.last - gap.first + 1).sum();
    cursor.count + missing > cursor.highest
}
