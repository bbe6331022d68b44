//! Every limit of the MQTT edge, each with its reason.

use std::time::Duration;

use lamplighter_types::limits::TRANSACTION_BYTES_MAX;

/// From TCP connection to complete CONNECT, unless configured. A slow mobile link has round trips
/// of seconds, and small processors need as long for the arithmetic of TLS.
pub const CONNECT_TIME: Duration = Duration::from_secs(30);
/// The same while more than half of [`PENDING_MAX`] are taken: an attacker that opens connections
/// and sends nothing must open hundreds a second to keep others out.
pub const CONNECT_TIME_BUSY: Duration = Duration::from_secs(10);
/// From the first byte of a packet to its last, unless configured: the largest at 1 KB a second,
/// which NB-IoT carries at its edge. Until then the packet keeps the connection alive.
pub const PACKET_TIME: Duration = Duration::from_secs(300);
/// Bytes that the kernel keeps for a client that does not read, of which Linux makes twice as many:
/// left to itself it takes megabytes, and the write time would not begin to run.
pub const SEND_BUFFER_BYTES: u32 = 64 * 1024;
/// A client has this long to take `WRITE_BYTES`, unless configured: 1 KB a second. One that does
/// not read is cut, so that its memory is freed.
pub const WRITE_TIME: Duration = Duration::from_secs(60);
/// Most bytes that are encoded before they are written, so that a slow reader holds little memory.
pub const WRITE_BYTES: usize = 64 * 1024;
/// Time for the last DISCONNECT: a takeover waits behind it.
pub const CLOSE_TIME: Duration = Duration::from_millis(250);
/// A new connection waits this long until the old one of the same account has ended.
pub const TAKEOVER_TIME: Duration = Duration::from_secs(5);
/// Keepalive of a client that asks for none, unless configured, so that half-open connections do
/// not pile up.
pub const KEEPALIVE_DEFAULT: u16 = 60;
/// Longest keepalive of an MQTT 5 client, unless configured, which learns it from CONNACK; that of
/// 3.1.1 has no place for it.
pub const KEEPALIVE_MAX: u16 = 600;
/// A session without a connection is kept this long; after that the ledger is asked again.
pub const SESSION_TIME: Duration = Duration::from_secs(3600);
/// Interval at which expired sessions are removed.
pub const SWEEP_TIME: Duration = Duration::from_secs(30);

/// Connections that have not yet proven who they are. They hold at most `CONNECT_BYTES` each.
pub const PENDING_MAX: usize = 4096;
/// Connections of one address among them, unless configured: half, as a fleet may be behind one.
pub const PENDING_PER_ADDRESS: usize = 2_048;
/// Connections of known accounts; 5,000 fit in 300 MB.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Queue of the kernel for connections that were not yet accepted, for a whole fleet coming back.
pub const BACKLOG: u32 = 4096;

/// Largest CONNECT: room for a token and a signed transaction as will, too small for a flood.
pub const CONNECT_BYTES: usize = 16 * 1024;
/// Largest PUBLISH: the largest transaction with its signature, topic and properties.
pub const PACKET_BYTES: usize = TRANSACTION_BYTES_MAX + 1024;
/// Largest packet of any other kind: 64 filters of 256 bytes with their options and properties.
pub const CONTROL_BYTES: usize = 24 * 1024;
/// Total bytes of MQTT 5 properties in one packet; the codec allocates for each user property.
pub const PROPERTIES_BYTES: usize = 4 * 1024;
/// Longest topic or filter.
pub const TOPIC_BYTES: usize = 256;
/// Longest level of a topic and longest client id: that of an account id.
pub const LEVEL_BYTES: usize = 64;
/// Longest MQTT 5 correlation data that is kept until the receipt comes.
pub const CORRELATION_BYTES: usize = 256;
/// Filters of one session, unless configured.
pub const FILTERS_MAX: usize = 64;

/// Publications of one client whose admission is not yet known (MQTT 5 receive maximum). QoS 2
/// ids that wait for their PUBREL count against the same number.
pub const RECEIVE_MAX: u16 = 100;
/// QoS 1 messages on their way to one client.
pub const SEND_MAX: usize = 100;
/// Receipts and work that wait for one gateway. One sequence window (1,024 transactions) may be
/// answered at once.
pub const MAILBOX_ITEMS: usize = 1024;
/// Bytes that wait for one gateway.
pub const MAILBOX_BYTES: usize = 1024 * 1024;
/// Work is put into a mailbox up to here; the rest waits at the ledger. One message fits, and
/// receipts always have room.
pub const MAILBOX_WORK_BYTES: usize = 256 * 1024;
/// A sender that waits for room in a mailbox tries again after so long, as it may be the room of
/// all mailboxes that is short.
pub const ROOM_TIME: Duration = Duration::from_secs(1);
/// From here on nothing more is read from a gateway that does not fetch its receipts.
pub const MAILBOX_HIGH: usize = 512;
/// Bytes that wait for all gateways together.
pub const MAILBOXES_BYTES: usize = 64 * 1024 * 1024;
/// Transactions whose receipt is still to be sent: no more than the pool holds.
pub const RECEIPTS_MAX: usize = 20_000;
/// Response topics and correlation data that wait for a receipt: one sequence window.
pub const REPLIES_MAX: usize = 1024;

/// Packets a second of one account, on average. A gateway with 1,000 Things that each report
/// every second stays below, even without batches.
pub const PACKETS_PER_SECOND: u32 = 5_000;
/// Bytes a second of one account, on average.
pub const BYTES_PER_SECOND: u32 = 4 * 1024 * 1024;
/// Times a second that a gateway may ask for its work, which costs the ledger a scan and proofs.
pub const SYNCS_PER_SECOND: u32 = 5;
/// Seconds whose amount may come at once after a silence.
pub const BURST_SECONDS: f64 = 2.0;

/// Time for which a transaction of an MQTT 3.1.1 client is submitted again to a full mempool before
/// the connection is closed without PUBACK: 3.1.1 has no answer that means "busy".
pub const BUSY_TIME: Duration = Duration::from_secs(5);
/// First pause between two attempts; it doubles up to `BUSY_PAUSE_MAX`.
pub const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between two attempts.
pub const BUSY_PAUSE_MAX: Duration = Duration::from_millis(800);

/// Notifications that are kept for connections to send. A connection that falls behind further
/// reads the feed. They are about 500 bytes each.
pub const NOTIFICATION_RING: usize = 4096;
/// Notifications of a block that any connection may hold while it reads the feed.
pub const REPLAY_MESSAGES: usize = 256;
/// Notifications beyond these that all connections may hold together, so that each reads a large
/// block once: about 16 MB. While they are taken the rest of a block is read again, as slow readers
/// must not fill the memory.
pub const REPLAY_MESSAGES_SHARED: usize = 32 * 1024;
