//! The streams that a client subscribed to and reads at its own pace: the head and notifications.

use std::sync::Arc;

use bytes::Bytes;
use lamplighter_types::Account;
use lamplighter_types::wire::Cursor;
use lamplighter_types::wire::topics::HEAD;
use tokio::sync::watch;

use crate::mqtt::Shared;
use crate::mqtt::codec::Message;
use crate::mqtt::push::notifications::NotificationReader;
use crate::mqtt::session::AccountSession;
use crate::mqtt::topics::Interest;

/// The streams of one connection; each is there while a filter of the session asks for it.
#[derive(Default)]
pub(super) struct Streams {
    head: Option<watch::Receiver<Option<Bytes>>>,
    notifications: Option<NotificationReader>,
}

impl Streams {
    /// Opens and closes streams as the session's filters ask for them. The notifications of a
    /// resumed session continue where it ended.
    pub fn update(&mut self, shared: &Shared, account: &Account, session: &AccountSession) {
        let (head, notifications, read) = session.with_session(|session| {
            (
                session.subscriptions.has(Interest::Head),
                session.subscriptions.has(Interest::Notifications),
                session.notifications_read.take(),
            )
        });
        if !head {
            self.head = None;
        } else if self.head.is_none() {
            self.head = Some(shared.head.subscribe());
        }
        if !notifications {
            self.notifications = None;
        } else if self.notifications.is_none() {
            self.notifications = Some(shared.notifications.reader(account, read));
        }
    }

    /// Makes [`Streams::next`] return the present head: it may have changed while the client was
    /// away.
    pub fn repeat_head(&mut self) {
        if let Some(head) = &mut self.head {
            head.mark_changed();
        }
    }

    /// The present head as a message for a new subscriber, if there is one.
    pub fn retained_head(&mut self) -> Option<Message> {
        let message = head_message(self.head.as_mut()?)?;
        Some(Message {
            retained: true,
            ..message
        })
    }

    /// Up to where the notifications were read, if there are any.
    pub fn notifications_read(&self) -> Option<Cursor> {
        self.notifications.as_ref().map(NotificationReader::cursor)
    }

    /// The next message: the newest head, once for each change, or the next notification. A call
    /// that is dropped loses nothing.
    pub async fn next(&mut self) -> Message {
        let Self {
            head,
            notifications,
        } = self;
        loop {
            let changed = async {
                match head {
                    Some(head) => head.changed().await,
                    None => std::future::pending().await,
                }
            };
            let notification = async {
                match notifications {
                    Some(reader) => reader.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = changed => if let Some(message) = head.as_mut().and_then(head_message) {
                    return message;
                },
                published = notification => return Message {
                    topic: Arc::clone(&published.topic),
                    payload: published.payload.clone(),
                    ..Message::default()
                },
            }
        }
    }
}

fn head_message(head: &mut watch::Receiver<Option<Bytes>>) -> Option<Message> {
    let payload = head.borrow_and_update().clone()?;
    Some(Message {
        topic: HEAD.into(),
        payload,
        ..Message::default()
    })
}
