//! The commands that wait for one Thing, in order. A Thing may be away for days: what was in force
//! when a command came need not be in force any more, so each has an instant at which it expires.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::{EncodedOrder, SouthCommand};

/// Commands that wait for one Thing: a few deployments and configurations.
pub const WORK_MAX: usize = 16;

/// A command, and the instant from which on it must be proven again before it is carried out.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) command: SouthCommand,
    pub(super) proof: Option<EncodedOrder>,
    pub(super) expires: Instant,
}

/// The queue of one Thing.
#[derive(Debug, Default)]
pub(super) struct OrderQueue(VecDeque<Order>);

impl OrderQueue {
    /// Adds a command at the end, or in the place of the same one: its proof is newer. False if
    /// there is no room.
    pub(super) fn push(&mut self, order: Order) -> bool {
        let same = |other: &&mut Order| is_same(&other.command, &order.command);
        if let Some(waits) = self.0.iter_mut().find(same) {
            *waits = order;
            return true;
        }
        if self.0.len() >= WORK_MAX {
            return false;
        }
        self.0.push_back(order);
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a command before all others.
    pub(super) fn push_front(&mut self, order: Order) {
        self.0.push_front(order);
    }

    /// Takes the next command.
    pub(super) fn pop(&mut self) -> Option<Order> {
        self.0.pop_front()
    }

    /// Removes the next command if it has expired.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<SouthCommand> {
        let expired = |order: &Order| order.expires <= now && must_be_fresh(&order.command);
        self.0.front().filter(|order| expired(order))?;
        self.0.pop_front().map(|order| order.command)
    }

    /// Removes what is about a deployment.
    pub(super) fn remove(&mut self, deployment: &str) {
        self.0
            .retain(|order| order.command.deployment() != Some(deployment));
    }

    /// Removes what installs the package of a deployment: pointless when its transfer failed.
    pub(super) fn remove_installation(&mut self, deployment: &str) {
        self.0.retain(|order| !installs(&order.command, deployment));
    }
}

/// True if the command changes the Thing, and so must have been proven just now.
fn must_be_fresh(command: &SouthCommand) -> bool {
    match command {
        SouthCommand::Transfer(_)
        | SouthCommand::Install { .. }
        | SouthCommand::Configure { .. }
        | SouthCommand::Apply { .. } => true,
        SouthCommand::Watch { .. }
        | SouthCommand::Inspect { .. }
        | SouthCommand::Observe { .. }
        | SouthCommand::Proven { .. }
        | SouthCommand::Lead { .. }
        | SouthCommand::Cancel { .. }
        | SouthCommand::Release { .. } => false,
    }
}

/// True if both commands want the same, though perhaps with offers of different times.
fn is_same(one: &SouthCommand, other: &SouthCommand) -> bool {
    match (one, other) {
        (SouthCommand::Transfer(one), SouthCommand::Transfer(other)) => {
            one.deployment == other.deployment
        }
        (
            SouthCommand::Install { deployment, .. },
            SouthCommand::Install {
                deployment: same, ..
            },
        ) => deployment == same,
        // What counts is the newest document.
        (SouthCommand::Apply { .. }, SouthCommand::Apply { .. })
        | (SouthCommand::Configure { .. }, SouthCommand::Configure { .. }) => true,
        _ => one == other,
    }
}

fn installs(command: &SouthCommand, of: &str) -> bool {
    let installs = matches!(
        command,
        SouthCommand::Install { .. } | SouthCommand::Watch { .. }
    );
    installs && command.deployment() == Some(of)
}
