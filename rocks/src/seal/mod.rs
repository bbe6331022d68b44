//! Checks of stored bytes that RocksDB's own checks leave out.
//!
//! A write-ahead log and a manifest are files that grow, and a reader cannot tell a byte that
//! changed near their end from a record that a crash tore: RocksDB drops what follows without a
//! word, and with it a vote, a log entry or a signature that was acknowledged. So while the store
//! runs, the lengths up to which these files are synced are written down with digests of the bytes,
//! beside the store, and the next opening compares ([`check`]). Beyond the sealed length nothing
//! was acknowledged for longer than a moment, and there RocksDB may cut off what is torn.
//!
//! - A length is taken first and sealed after a sync that *began* later. The seal never claims what
//!   was not synced, so an honest crash is never taken for damage.
//! - The seal is rewritten a few hundredths of a second after each sync (`sealed-now`, unsynced:
//!   outlives a `kill -9`), and each second in a way that outlives a cut of the power (`sealed`).
//!   One case is left: damage to bytes that were synced in the moment before looks like a torn
//!   end.
//!
//! Table files never change. Their digests are taken when they are first seen and kept with the
//! name of their column family ([`tables`]), so that a scrubber finds any changed byte and knows to
//! which column family it belongs.

pub(crate) mod check;
pub(crate) mod digests;
pub(crate) mod files;
pub(crate) mod image;
pub(crate) mod tables;
pub(crate) mod writer;
