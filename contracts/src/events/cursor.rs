//! The sequence numbers of a device that have come.

use lamplighter_types::limits::EVENT_GAPS_MAX;
use lamplighter_types::{EventCursor, EventGap, Id};

use super::EventsError;

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

/// Accepts a number that is at most `jump_max` above the highest one; an error leaves the cursor as
/// it was.
pub(super) fn accept(
    cursor: &mut EventCursor,
    device: &Id,
    sequence: u64,
    jump_max: u64,
) -> Result<SequenceOrder, EventsError> {
    let highest = cursor.highest;
    if sequence <= highest {
        fill(cursor, device, sequence)?;
        cursor.count = cursor.count.saturating_add(1);
        return Ok(SequenceOrder::Late);
    }
    if sequence - highest > jump_max {
        return Err(EventsError::SequenceTooFar {
            device: device.clone(),
            sequence,
            highest,
        });
    }
    cursor.highest = sequence;
    cursor.count = cursor.count.saturating_add(1);
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
    // Numbers end at 2^53, so that no sum of them overflows; saturated ones would say the same.
    let sizes = cursor.gaps.iter().map(|gap| gap.last - gap.first + 1);
    let missing = sizes.fold(0, u64::saturating_add);
    cursor.count.saturating_add(missing) > cursor.highest
}
