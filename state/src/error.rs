use lamplighter_store::StoreError;
use lamplighter_types::codec::CodecError;

/// A failure of the node itself, which stops it. It is never the fault of a transaction and never
/// in a receipt.
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
    /// The rules of the chain are newer than this program. By the old ones this node would make
    /// another block than the others.
    #[error(
        "from height {height} on this chain runs protocol version {chain}; this program knows \
         versions up to {program}: install a newer release of Lamplighter"
    )]
    NewerProtocol {
        height: u64,
        chain: u32,
        program: u32,
    },
    /// No fault of the node: the verifier has to go the way in parts.
    #[error(
        "the changes of the validators since height {trusted} are more than one proof can have"
    )]
    ManyChanges { trusted: u64 },
    /// A change of the state tree failed in its middle. The next start makes the tree anew.
    #[error("the state tree is incomplete, because an earlier change of it failed")]
    TreeIncomplete,
    #[error("{what} is missing")]
    Missing { what: String },
    #[error("{what} does not fit: {expected} was expected, {got} found")]
    Mismatch {
        what: &'static str,
        expected: String,
        got: String,
    },
}
