//! Batches of messages of devices, each of which is accepted or refused on its own: a device that
//! is suspended, or sends what it must not, does not hold up the others of its gateway.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{Fact, Id, MessageKind, Notification};

use crate::{Context, ExecutionError, devices};

/// A message of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageName<'a> {
    pub message: MessageKind,
    pub device: &'a Id,
    /// Sequence number or counter.
    pub number: u64,
}

/// The notifications of a batch.
#[derive(Debug)]
pub(crate) struct MessageBatch {
    len: usize,
    notifications: Vec<Notification>,
}

impl MessageBatch {
    /// A batch of `len` messages.
    pub fn new(len: usize) -> Self {
        Self {
            len,
            notifications: Vec::new(),
        }
    }

    /// Adds what became of a message. A refused one must have changed nothing.
    ///
    /// # Errors
    /// The refusal of a message that came alone, or the state can't be read.
    pub fn add(
        &mut self,
        overlay: &Overlay,
        context: &Context,
        name: MessageName<'_>,
        result: Result<Vec<Notification>, ExecutionError>,
    ) -> Result<(), ExecutionError> {
        match result {
            Ok(notifications) => self.notifications.extend(notifications),
            Err(ExecutionError::Refused(refusal)) if self.len > 1 => {
                let refused = refused(overlay, context, name, refusal.code)?;
                self.notifications.push(refused);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub fn finish(self) -> Vec<Notification> {
        self.notifications
    }
}

/// The notification of a refusal. Those who follow a device hear of it only from its own gateway.
fn refused(
    overlay: &Overlay,
    context: &Context,
    name: MessageName<'_>,
    code: &str,
) -> Result<Notification, StateError> {
    let MessageName {
        message,
        device,
        number,
    } = name;
    let fact = Fact::MessageRefused {
        message,
        device: device.clone(),
        number,
        code: code.to_owned(),
    };
    let record = devices::device(overlay, device)?;
    let of_gateway =
        record.filter(|record| record.gateway.as_ref() == Some(&context.sender.account));
    Ok(match of_gateway {
        Some(record) => Notification::about_device(&record, fact),
        None => Notification::city(fact),
    })
}
