//! The durable state of a Thing.

use std::collections::{BTreeMap, VecDeque};

use lamplighter_gateway::verify::LedgerPin;
use lamplighter_types::{DeploymentState, Hash, HexBytes, Version};
use serde::{Deserialize, Serialize};

/// One of the two places for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Slot {
    /// The slot of the factory image.
    A,
    /// The other slot.
    B,
}

impl Slot {
    /// The other slot.
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

/// The content of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Image {
    pub(super) digest: Hash,
    pub(super) version: Version,
    pub(super) security_counter: u64,
}

/// The phase of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum UpdatePhase {
    Downloading,
    Downloaded,
    Installing,
    /// The image is written to the other slot, to be booted.
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
    pub(super) phase: UpdatePhase,
    /// The state of the deployment after the last report; the next report starts from it.
    pub(super) reported: DeploymentState,
    /// A cast had false blocks: it takes no other.
    #[serde(default)]
    pub(super) without_casts: bool,
}

/// A report or event that the gateway has not stored yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OutboxMessage {
    pub(super) number: u64,
    /// True for an event, false for a report.
    pub(super) event: bool,
    pub(super) bytes: HexBytes,
}

/// The configuration document that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppliedConfiguration {
    pub(super) digest: Hash,
    /// True until the gateway was reached with it: a boot reverts to the document before.
    pub(super) on_trial: bool,
    pub(super) before: Option<Hash>,
}

/// The durable state except for the images and documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ThingState {
    pub(super) active: Slot,
    pub(super) slot_a: Image,
    pub(super) slot_b: Option<Image>,
    /// Number of boots.
    pub(super) boots: u64,
    /// The lowest security counter of releases that are accepted.
    pub(super) floor: u64,
    /// Number of the last report.
    pub(super) report_counter: u64,
    /// Number of the last event.
    pub(super) event_sequence: u64,
    /// The seed of the key that took the place of the factory's.
    #[serde(default)]
    pub(super) key_seed: Option<[u8; 32]>,
    /// The seed of the key before that one.
    #[serde(default)]
    pub(super) former_key_seed: Option<[u8; 32]>,
    /// What it has proven of the ledger, if it checks orders.
    #[serde(default)]
    pub(super) ledger: Option<LedgerPin>,
    /// When the refusal of an order was last reported, by its code, in Unix ms.
    #[serde(default)]
    pub(super) refusals: BTreeMap<String, u64>,
    /// Number of the last message in the outbox.
    #[serde(rename = "letter")]
    pub(super) message_number: u64,
    /// Newest height that an offer named.
    pub(super) seen_height: u64,
    /// Value of `/5/0/5`.
    pub(super) result: u8,
    pub(super) update: Option<Update>,
    pub(super) applied: Option<AppliedConfiguration>,
    pub(super) outbox: VecDeque<OutboxMessage>,
}

impl ThingState {
    pub(super) fn new(factory: Image) -> ThingState {
        ThingState {
            active: Slot::A,
            slot_a: factory,
            slot_b: None,
            boots: 0,
            floor: factory.security_counter,
            report_counter: 0,
            event_sequence: 0,
            key_seed: None,
            former_key_seed: None,
            ledger: None,
            refusals: BTreeMap::new(),
            message_number: 0,
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
