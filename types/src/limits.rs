//! All limits on input, with their reasons. Bytes from outside are measured against them before
//! they are decoded.

/// Ids appear in topics, paths and keys; 64 is what MQTT client ids of common brokers allow.
pub const ID_BYTES_MAX: usize = 64;
/// A district path fits one MQTT topic level with room for the rest of the topic.
pub const SCOPE_BYTES_MAX: usize = 160;
/// Deeper nesting has no use in a city and would lengthen every merge of configurations.
pub const SCOPE_PARTS_MAX: usize = 6;
/// Free text that a person reads: names, reasons, comments.
pub const TEXT_BYTES_MAX: usize = 1_000;
/// Bytes of one signed transaction: large enough for 1,000 devices or events, small beside a batch.
pub const TRANSACTION_BYTES_MAX: usize = 256 * 1024;
/// Bytes of one Raft entry: as much as four validators on one small disk replicate in a heartbeat.
pub const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Transactions in one batch: bounds the time a block takes to execute (about 0.2 s).
pub const BATCH_TRANSACTIONS_MAX: usize = 8_192;
/// Longest time in ms from block time to the expiry of a transaction, so that a replay window need
/// not be kept longer.
pub const EXPIRES_AFTER_MS_MAX: u64 = 24 * 3600 * 1000;
/// Latest time of a block, Unix ms: the year 2200. A batch with a later one is void, so that no
/// leader's clock brings a chain near the end of numbers: every time that a contract computes from
/// block time stays far below.
pub const BLOCK_TIME_MS_MAX: u64 = 7_258_118_400_000;
/// Sequence numbers in the replay window of a key (RFC 4303 appendix A2).
pub const REPLAY_WINDOW: u64 = 1_024;
/// Number of devices, events, reports or ids in one transaction.
pub const LIST_ITEMS_MAX: usize = 1_000;
/// Number of devices that a rollout may name one by one; a filter names larger sets.
pub const ROLLOUT_LIST_MAX: usize = 1_000;
/// Number of groups of a rollout: a person must be able to read them.
pub const GROUPS_MAX: usize = 16;
/// Number of maintenance windows of a plan: a person must be able to read them.
pub const WINDOWS_MAX: usize = 8;
/// Longest maintenance window in minutes: a week. A longer one is no window.
pub const WINDOW_MINUTES_MAX: u32 = 7 * 24 * 60;
/// Number of devices that rollouts in groups look at in one block. To look is to read two records,
/// which is quick beside an assignment.
pub const DEVICES_LOOKED_AT_PER_BLOCK_MAX: usize = 1_024;
/// Number of deployments of one device that stay in the state: the updates of some years.
pub const DEPLOYMENTS_PER_DEVICE_MAX: usize = 16;
/// Number of devices added to running rollouts, and of timers that expire, in one block.
pub const STEPS_PER_BLOCK_MAX: usize = 256;
/// Bytes of the data of one device event.
pub const EVENT_DATA_BYTES_MAX: usize = 1_024;
/// Largest security counter: MCUboot and similar boot loaders keep it in 32 bits, and no report or
/// release may raise a floor to where nothing follows.
pub const SECURITY_COUNTER_MAX: u64 = u32::MAX as u64;
/// Number of times that a device may rotate its key: once a year for as long as electronics last.
/// Each former key stays known, so that what it signed is never accepted again.
pub const KEY_ROTATIONS_PER_DEVICE_MAX: u32 = 32;
/// Number of gaps kept of the sequence numbers of one device; the oldest are merged into one.
pub const EVENT_GAPS_MAX: usize = 16;
/// Number of open alarms of one device: above it there is one cause, not as many, and a gateway
/// that makes them up must not fill the memory of all validators.
pub const ALARMS_PER_DEVICE_MAX: usize = 32;
/// Number of kinds of alarms of which a device's last change is kept. Those without an active alarm
/// make room for others, and there are always some.
pub const ALARM_KINDS_PER_DEVICE_MAX: usize = 2 * ALARMS_PER_DEVICE_MAX;
/// Longest value of a tag: a label, not a document.
pub const TAG_VALUE_BYTES_MAX: usize = 256;
/// Bytes of a desired configuration document: as much as a Thing takes in a few block-wise
/// exchanges.
pub const CONFIG_BYTES_MAX: usize = 16 * 1024;
/// Nesting of objects and lists in a configuration document.
pub const CONFIG_DEPTH_MAX: usize = 8;
/// Nesting of objects and lists in any other JSON text: an order above that of the types, and
/// little of the stack.
pub const JSON_DEPTH_MAX: usize = 127;
/// Bytes of the largest artifact: an order above today's firmware of street-light controllers.
pub const ARTIFACT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Number of hardware classes, dependencies, tags or aliases of one record.
pub const SMALL_LIST_MAX: usize = 32;
/// Number of keys of one account: the one in use and three spares.
pub const KEYS_PER_ACCOUNT_MAX: usize = 4;
/// Number of roles of one account.
pub const GRANTS_PER_ACCOUNT_MAX: usize = 64;
/// Number of approvals collected for one subject.
pub const APPROVALS_MAX: usize = 16;
/// Shortest time in ms after which an approval expires: people must have time to read.
pub const APPROVAL_EXPIRES_MS_MIN: u64 = 60 * 1000;
/// Longest time in ms after which an approval expires: a year, the longest preparation of a change.
pub const APPROVAL_EXPIRES_MS_MAX: u64 = 366 * 24 * 3600 * 1000;
/// Longest wait in ms of newcomers: a longer one would keep a city from replacing its people.
pub const NEWCOMER_WAIT_MS_MAX: u64 = 90 * 24 * 3600 * 1000;
/// Number of changes in one proposal: a person must be able to read them.
pub const CHANGES_MAX: usize = 32;
/// Number of open proposals of one author, so that no one fills the list of all.
pub const PROPOSALS_PER_AUTHOR_MAX: usize = 8;
/// Number of open proposals: a person must be able to look through them.
pub const PROPOSALS_MAX: usize = 128;
/// Number of accounts that administer the whole city, and of those that approve for it: some
/// actions count them.
pub const HOLDERS_MAX: usize = 64;
/// Number of validators: a certificate carries one signature of each.
pub const VALIDATORS_MAX: usize = 31;
/// Largest number that people and devices choose: above it JavaScript, `jq` and whatever else reads
/// JSON numbers as doubles (RFC 8259 section 6) would show another one.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;
/// Longest `host:port` of a node: a DNS name has at most 253 bytes (RFC 1035), then comes the port.
pub const ADDRESS_BYTES_MAX: usize = 253 + 6;
/// Bytes of a proof bundle: paths of 64-bit trees, one record, and the changes of the validator set
/// on the way.
pub const PROOF_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Number of changes of the validator set in one proof bundle. A bundle needs few, since others are
/// left out; it may have so many where validators that were replaced long ago signed none of them.
pub const SET_CHANGES_MAX: usize = 1_024;
/// Number of changes of the validator set in one page for a verifier that is far behind: 1 MB of
/// JSON with sets of the largest size, and a second of work for a small processor.
pub const SET_PATH_MAX: usize = 64;
/// Bytes of any single encoded value that the codec reads.
pub const ENCODED_BYTES_MAX: usize = 16 * 1024 * 1024;
