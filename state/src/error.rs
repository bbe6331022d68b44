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
    #[error("{what} is missing")]
    Missing { what: String },
    #[error("{what} does not fit: {expected} was expected, {got} found")]
    Mismatch {
        what: &'static str,
        expected: String,
        got: String,
    },
}
