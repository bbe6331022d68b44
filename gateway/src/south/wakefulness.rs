//! The time during which a Thing in queue mode listens (LwM2M 1.1 core, section 6.5). Any message
//! of it shows that it is awake; some time after its last message it sleeps, and what is sent then
//! is lost and costs the mesh its air time.

use std::time::Duration;

use tokio::time::Instant;

/// Whether a Thing listens.
#[derive(Debug)]
pub(super) struct Wakefulness {
    /// The time that a Thing listens after its last message.
    awake: Duration,
    queue_mode: bool,
    /// The end of that time; none while it sleeps.
    until: Option<Instant>,
}

impl Wakefulness {
    /// A Thing that always listens, unless it registers in queue mode.
    pub(super) fn new(awake: Duration) -> Wakefulness {
        Wakefulness {
            awake,
            queue_mode: false,
            until: None,
        }
    }

    /// Takes note of a registration, which is a message too.
    pub(super) fn registered(&mut self, now: Instant, queue_mode: bool) {
        self.queue_mode = queue_mode;
        self.observe_message(now);
    }

    /// True if it listens only for some time after its messages.
    pub(super) fn is_limited(&self) -> bool {
        self.queue_mode
    }

    /// Takes note of a message of the Thing.
    pub(super) fn observe_message(&mut self, now: Instant) {
        self.until = Some(now + self.awake);
    }

    /// Takes note that it did not answer; true if it therefore sleeps.
    pub(super) fn silent(&mut self) -> bool {
        self.until = None;
        self.queue_mode
    }

    /// True if it does not listen now.
    pub(super) fn is_asleep(&self, now: Instant) -> bool {
        self.queue_mode && self.until.is_none_or(|until| until <= now)
    }

    /// The instant at which it falls asleep; `None` if it does not, or sleeps already.
    pub(super) fn sleeps_at(&self) -> Option<Instant> {
        self.until.filter(|_| self.queue_mode)
    }
}
