//! The node's side: what the ledger tells clients.

use std::sync::Arc;

use bytes::Bytes;

use super::Shared;
use super::limits::{PACKET_BYTES, ROOM_TIME};
use super::seat::Undelivered;
use super::topics;
use super::wire::Message;

/// Why a message was not taken for delivery.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The gateway does not listen on this node, or its mailbox is full.
    #[error("delivering to `{account}`")]
    Undelivered {
        /// The gateway.
        account: String,
        /// Why.
        #[source]
        source: Undelivered,
    },
    /// Larger than a packet.
    #[error("{bytes} bytes are more than the {PACKET_BYTES} of a packet")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// An event kind, district or device id that cannot be a level of a topic.
    #[error("`{0}` cannot be part of a topic")]
    BadName(String),
}

impl PublishError {
    /// Whether the account has so much waiting that this has to wait as well.
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Undelivered {
                source: Undelivered::Full,
                ..
            }
        )
    }

    /// Whether the account simply is not connected to this node, which is no fault.
    pub fn is_nobody_there(&self) -> bool {
        matches!(
            self,
            Self::Undelivered {
                source: Undelivered::NobodyThere,
                ..
            }
        )
    }
}

/// Publishes to clients and closes their connections. Cheap to clone; nothing here waits for a
/// client, and everything is bounded: a message finds its place or is refused with an error.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

impl Publisher {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Sends the receipt of a transaction to the gateway that signed it, on its `receipt` topic or
    /// the response topic that came with the transaction. Kept for a gateway that is away as
    /// long as its session.
    pub fn publish_receipt(
        &self,
        gateway: &str,
        transaction: [u8; 32],
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let message = self.message(topics::receipt(gateway), payload)?;
        match self.shared.seats.find(gateway) {
            Some(seat) => seat.deliver_receipt(message, Some(transaction)),
            None => Err(Undelivered::NobodyThere),
        }
        .map_err(|source| PublishError::Undelivered {
            account: gateway.to_owned(),
            source,
        })
    }

    /// Sends work to a gateway that is connected here; the ledger keeps it for the others.
    pub fn publish_work(&self, gateway: &str, payload: Bytes) -> Result<(), PublishError> {
        let message = self.message(topics::work(gateway), payload)?;
        match self.shared.seats.find(gateway) {
            Some(seat) => seat.deliver_work(message),
            None => Err(Undelivered::NobodyThere),
        }
        .map_err(|source| PublishError::Undelivered {
            account: gateway.to_owned(),
            source,
        })
    }

    /// Waits until a gateway has taken something out of its mailbox, or [`ROOM_TIME`] at most.
    pub async fn room(&self, gateway: &str) {
        let seat = self.shared.seats.find(gateway);
        let taken = async {
            match &seat {
                Some(seat) => seat.room.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::time::timeout(ROOM_TIME, taken).await.ok();
    }

    /// Sends the newest certified header to everybody who wants it, now or later.
    pub fn publish_head(&self, payload: Bytes) -> Result<(), PublishError> {
        let message = self.message(topics::HEAD.to_owned(), payload)?;
        // Kept first: who subscribes between the two gets it twice rather than not at all.
        self.shared.keep_head(message.payload.clone());
        self.shared
            .broker
            .publish(topics::HEAD_ROUTE, topics::HEAD, &message.payload);
        Ok(())
    }

    /// Sends a notification or event to the users whose roles cover the district: a path such as
    /// `north/harbour`, empty for the whole city. In the topic it is one level, `north:harbour` or
    /// `-`.
    pub fn notify(
        &self,
        kind: &str,
        district: &str,
        device: &str,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let topic = topics::notification(kind, district, device)
            .ok_or_else(|| PublishError::BadName(format!("{kind}/{district}/{device}")))?;
        let message = self.message(topic, payload)?;
        let route = topics::notify_route(district);
        self.shared
            .broker
            .publish(&route, &message.topic, &message.payload);
        Ok(())
    }

    /// Closes the connection of an account whose rights have changed, and forgets its session.
    pub fn revoked(&self, account: &str) {
        if let Some(seat) = self.shared.seats.find(account) {
            seat.revoke();
        }
    }

    /// Closes the connection that proved itself with this key.
    pub fn revoked_key(&self, key: &[u8; 32]) {
        for seat in self.shared.seats.all() {
            if seat.has_key(key) {
                seat.revoke();
            }
        }
    }

    /// The accounts that are connected to this node now.
    pub fn connected(&self) -> Vec<String> {
        let seats = self.shared.seats.all();
        seats
            .iter()
            .filter(|seat| seat.is_taken())
            .map(|seat| seat.id.clone())
            .collect()
    }

    /// Whether an account is connected to this node now.
    pub fn is_connected(&self, account: &str) -> bool {
        self.shared
            .seats
            .find(account)
            .is_some_and(|seat| seat.is_taken())
    }

    fn message(&self, topic: String, payload: Bytes) -> Result<Message, PublishError> {
        if payload.len() + topic.len() > PACKET_BYTES {
            return Err(PublishError::TooLarge {
                bytes: payload.len(),
            });
        }
        Ok(Message {
            topic,
            payload,
            ..Message::default()
        })
    }
}
