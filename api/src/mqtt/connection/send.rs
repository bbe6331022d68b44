//! Packets on their way to one client: encoded bytes that are not written yet, and QoS 1 messages
//! that the client has not acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;
use rumqttd::protocol::Packet;

use crate::mqtt::codec::{self, Version};
use crate::mqtt::counters::Counters;
use crate::mqtt::limits::WRITE_BYTES;
use crate::mqtt::session::QueuedMessage;

/// See the module.
pub(super) struct Outgoing {
    version: Version,
    /// QoS 1 messages that the client takes at a time.
    window: usize,
    /// Largest packet that the client takes.
    packet_max: usize,
    buffer: BytesMut,
    unacknowledged: VecDeque<(u16, QueuedMessage)>,
    last_id: u16,
    counters: Arc<Counters>,
}

impl Outgoing {
    pub fn new(
        version: Version,
        window: usize,
        packet_max: usize,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            version,
            window,
            packet_max,
            buffer: BytesMut::new(),
            unacknowledged: VecDeque::new(),
            last_id: 0,
            counters,
        }
    }

    /// The bytes to write.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// True if so much is encoded that it must be written first.
    pub fn is_full(&self) -> bool {
        self.buffer.len() >= WRITE_BYTES
    }

    /// True if the client takes another QoS 1 message.
    pub fn has_window(&self) -> bool {
        self.unacknowledged.len() < self.window
    }

    /// Encodes a packet that is no message.
    pub fn packet(&mut self, packet: Packet) {
        codec::write(self.version, packet, &mut self.buffer);
    }

    /// Encodes a message, unless it is larger than the client takes.
    pub fn message(&mut self, queued: QueuedMessage) {
        if codec::publish_bytes(&queued.message) > self.packet_max {
            self.counters.dropped.add(1);
            return;
        }
        let id = (queued.qos > 0).then(|| self.next_id());
        let QueuedMessage {
            message,
            redelivered,
            ..
        } = &queued;
        codec::publish(self.version, message, id, *redelivered, &mut self.buffer);
        self.counters.delivered.add(1);
        if let Some(id) = id {
            self.unacknowledged.push_back((id, queued));
        }
    }

    /// Takes the client's acknowledgement of a message. False if there is no such message.
    pub fn acknowledge(&mut self, id: u16) -> bool {
        let position = self
            .unacknowledged
            .iter()
            .position(|(other, _)| *other == id);
        position
            .and_then(|at| self.unacknowledged.remove(at))
            .is_some()
    }

    /// The messages that the client has not acknowledged, in the order in which they were sent.
    pub fn into_unacknowledged(self) -> Vec<QueuedMessage> {
        self.unacknowledged
            .into_iter()
            .map(|(_, message)| message)
            .collect()
    }

    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self
                .unacknowledged
                .iter()
                .all(|(id, _)| *id != self.last_id)
            {
                return self.last_id;
            }
        }
    }
}
