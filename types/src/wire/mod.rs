//! Messages and names that cross HTTP, MQTT and CoAP, defined once: nodes write these types, and
//! clients and gateways read the same ones.
//!
//! A reader ignores fields that it does not know, unless the type says otherwise, so that a newer
//! node may send more. A field that is added later is optional, so that a newer reader understands
//! an older node. No message has a fraction: the strict reader refuses it, also in a field that it
//! does not know.

mod account;
mod archive;
mod artifact;
mod chain;
pub mod content_type;
mod cursor;
mod device;
mod governance;
pub mod header;
mod notification;
pub mod problem;
mod receipt;
mod record;
mod status;
mod submission;
pub mod topics;
pub mod work;

pub use account::{KeyInfo, NodeList};
pub use archive::{ARCHIVE_BYTES_MAX, ArchiveError, ArchivePage, ArchivedBlock, read_archive_page};
pub use artifact::{NewArtifact, UnfinishedUpload, UnfinishedUploads, Upload};
pub use chain::{
    DecodedTransaction, FullBlock, TransactionName, TransactionNameError, TransactionRecord,
};
pub use cursor::{Cursor, CursorError};
pub use device::{
    Decision, DeviceConfig, DeviceEvents, DeviceSummary, EventEntry, Exposure, TimelineEntry,
};
pub use governance::{ApprovalCounts, ApprovalStanding, Candidate, ProposalStanding};
pub use notification::{FeedEvent, NotificationMessage};
pub use problem::Problem;
pub use receipt::{ReceiptMessage, RefusalReason};
pub use record::{HistoryEntry, Page, RecordChange, RecordResponse};
pub use status::{
    NextProtocol, NodeAlarmKind, NodeAlarmStatus, ProtocolStatus, Status, SyncProgress,
};
pub use submission::{SubmissionAnswer, Submitted, Wait};
