//! Messages that the node sends by itself: the newest head, notifications, work, and receipts.

pub mod head;
pub mod notifications;
mod open_work;
mod pending;
pub mod receipts;
mod reminders;
#[cfg(test)]
mod tests;
pub mod work_feed;
pub mod work_queue;
