use serde::{Deserialize, Serialize};

use super::Cursor;
use crate::{Hash, Id, Notification};

/// A notification with its position in the feed. The data of one server-sent event; the id of the
/// event is the cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FeedEvent {
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub cursor: Cursor,
    /// Block time, Unix ms.
    pub time_ms: u64,
    /// The transaction that caused it; zero when the block's time alone was the cause.
    pub transaction: Hash,
    /// The account that signed the transaction; null when the block's time alone was the cause.
    pub author: Option<Id>,
    pub notification: Notification,
}

/// A notification as MQTT subscribers get it, with the cursor of the one before it in the same
/// district. A subscriber that has not seen that one has a gap, which the feed fills.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationMessage {
    #[serde(flatten)]
    pub event: FeedEvent,
    /// `None` when the node does not know it.
    pub previous: Option<Cursor>,
}

impl NotificationMessage {
    /// The JSON form.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("our types have JSON forms")
    }
}
