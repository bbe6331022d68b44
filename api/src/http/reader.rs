//! The account that a request reads for, for turns and limits.

use std::future::Future;

use lamplighter_types::Id;

tokio::task_local! {
    static READER: Option<Id>;
}

/// Handles a request of an account.
pub async fn scope<T>(account: Option<Id>, request: impl Future<Output = T>) -> T {
    READER.scope(account, request).await
}

/// The account of the request that this task handles; none for a reader without a token.
pub fn account() -> Option<Id> {
    READER.try_with(Clone::clone).ok().flatten()
}
