//! The replay window of a context (RFC 8613, section 7.4).

/// Numbers below the highest one that are remembered.
const WINDOW: u64 = 64;

/// The numbers of requests that were received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReplayWindow {
    highest: u64,
    /// Bit n: `highest - n` was received.
    received: u64,
}

impl ReplayWindow {
    /// A window in which this number, and all before it, count as received: what came before a
    /// restart is not known any more.
    pub(super) fn after(number: u64) -> ReplayWindow {
        ReplayWindow {
            highest: number,
            received: u64::MAX,
        }
    }

    /// True if the number was certainly not received.
    pub(super) fn is_new(&self, number: u64) -> bool {
        match self.highest.checked_sub(number) {
            None => true,
            Some(before) => before < WINDOW && self.received & (1 << before) == 0,
        }
    }

    /// Records a number whose message was verified.
    pub(super) fn record(&mut self, number: u64) {
        match self.highest.checked_sub(number) {
            None => {
                let ahead = number - self.highest;
                let shifted = if ahead < WINDOW {
                    self.received << ahead
                } else {
                    0
                };
                self.received = shifted | 1;
                self.highest = number;
            }
            Some(before) if before < WINDOW => self.received |= 1 << before,
            Some(_) => {}
        }
    }
}
