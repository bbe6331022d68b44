//! The random choices of the simulation itself (SplitMix64; Steele, Lea, Flood, "Fast splittable
//! pseudorandom number generators", OOPSLA 2014).

use std::time::Duration;

/// The next state of a generator.
pub fn step(state: u64) -> u64 {
    state.wrapping_add(0x9e37_79b9_7f4a_7c15)
}

/// The output for a state.
pub fn mix(state: u64) -> u64 {
    let mut z = state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stream of choices.
#[derive(Clone, Debug)]
pub struct SimRng(u64);

impl SimRng {
    /// Each purpose has its own stream, so that a change of one does not change the others.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let start = purpose.bytes().fold(mix(step(seed)), |state, byte| {
            mix(step(state ^ u64::from(byte)))
        });
        Self(start)
    }

    fn next(&mut self) -> u64 {
        self.0 = step(self.0);
        mix(self.0)
    }

    /// Any of the first `end` numbers.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Any number of the range, both ends included.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True in so many of a thousand cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// One of the choices.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// A duration between these, in ms.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.between(from, to))
    }
}
