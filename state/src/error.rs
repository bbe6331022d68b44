use lamplighter_store::StoreError;
use lamplighter_types::codec::CodecError;

/// The node can't go on with its own data: never the fault of a transaction, never in a receipt.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("reading or writing the store")]
    Store(#[from] StoreError),
    #[error("the record under {key} in {table} does not decode")]
    Corrupt {
        table: &'static str,
        /// The key in hexadecimal.
        key: String,
        #[source]
        source: CodecError,
    },
    /// The rules of the chain are newer than this program. To go on by the old ones would make
    /// another block than the other nodes do.
    #[error(
        "from height {height} on this chain runs protocol version {chain}; this program knows \
         versions up to {program}: install a newer release of Lamplighter"
    )]
    NewerProtocol {
        height: u64,
        chain: u32,
        program: u32,
    },
    #[error("{what} is missing")]
    Missing { what: String },
    #[error("{what} does not fit: {expected} was expected, {got} found")]
    Mismatch {
        what: &'static str,
        expected: String,
        got: String,
    },
}
