//! What a Thing remembers over a power cut.

use std::collections::VecDeque;

use lamplighter_types::{DeploymentState, Hash, HexBytes, Version};
use serde::{Deserialize, Serialize};

/// One of the two places for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Slot {
    /// The factory's.
    A,
    /// The other.
    B,
}

impl Slot {
    /// The slot that this one is not.
    pub fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    /// `A` or `B`.
    pub fn name(self) -> &'static str {
        match self {
            Slot::A => "A",
            Slot::B => "B",
        }
    }

    pub(super) fn file(self) -> &'static str {
        match self {
            Slot::A => "slot-a",
            Slot::B => "slot-b",
        }
    }
}

/// What is in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Image {
    pub(super) digest: Hash,
    pub(super) version: Version,
    pub(super) security_counter: u64,
}

/// How far an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    Downloading,
    Downloaded,
    Installing,
    /// Written to the other slot, to be booted.
    Staged,
    /// The new image has booted once and must confirm itself before the next boot.
    Trial,
}

/// The update under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Update {
    /// The encoded offer.
    pub(super) offer: HexBytes,
    pub(super) phase: Phase,
    /// The state of the deployment after our last report: the next one goes from here.
    pub(super) reported: DeploymentState,
}

/// A report or event that the gateway has not taken yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Letter {
    pub(super) number: u64,
    /// An event; otherwise a report.
    pub(super) event: bool,
    pub(super) bytes: HexBytes,
}

/// The configuration document that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Applied {
    pub(super) digest: Hash,
    /// Not yet proven by reaching the gateway: after a boot the one before is taken again.
    pub(super) on_trial: bool,
    pub(super) before: Option<Hash>,
}

/// Everything that is durable but the files themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) active: Slot,
    pub(super) slot_a: Image,
    pub(super) slot_b: Option<Image>,
    /// How often it booted.
    pub(super) boots: u64,
    /// No release with a lower security counter is taken.
    pub(super) floor: u64,
    /// Number of the last report.
    pub(super) report_counter: u64,
    /// Number of the last event.
    pub(super) event_sequence: u64,
    /// Number of the last letter.
    pub(super) letter: u64,
    /// Newest height that an offer named.
    pub(super) seen_height: u64,
    /// Value of `/5/0/5`.
    pub(super) result: u8,
    pub(super) update: Option<Update>,
    pub(super) applied: Option<Applied>,
    pub(super) outbox: VecDeque<Letter>,
}

impl State {
    pub(super) fn new(factory: Image) -> State {
        State {
            active: Slot::A,
            slot_a: factory,
            slot_b: None,
            boots: 0,
            floor: factory.security_counter,
            report_counter: 0,
            event_sequence: 0,
            letter: 0,
            seen_height: 0,
            result: 0,
            update: None,
            applied: None,
            outbox: VecDeque::new(),
        }
    }

    pub(super) fn image(&self, slot: Slot) -> Option<Image> {
        match slot {
            Slot::A => Some(self.slot_a),
            Slot::B => self.slot_b,
        }
    }

    pub(super) fn running(&self) -> Image {
        self.image(self.active).unwrap_or(self.slot_a)
    }

    pub(super) fn set_image(&mut self, slot: Slot, image: Image) {
        match slot {
            Slot::A => self.slot_a = image,
            Slot::B => self.slot_b = Some(image),
        }
    }
}
