//! Waits until the chain of this node reaches a height.

use std::time::Duration;

use crate::chain::Chain;

/// Why a wait ended without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    #[error("the height {height} was not reached within {:.1} s", waited.as_secs_f64())]
    Deadline { height: u64, waited: Duration },
    #[error(
        "the block {height} is there, but was not certified within {:.1} s: fewer validators than \
         a certificate needs have signed it",
        waited.as_secs_f64()
    )]
    Uncertified { height: u64, waited: Duration },
    #[error(
        "no leader confirmed within {waited:.1?} what is newest, or this node did not catch up"
    )]
    Unconfirmed { waited: Duration },
    #[error("the node is stopping")]
    Stopped,
}

/// Waits until this node has applied `height`.
pub(crate) async fn wait_height(
    chain: &Chain,
    height: u64,
    within: Duration,
) -> Result<(), WaitError> {
    let mut head = chain.watch_head();
    let reached = head.wait_for(|head| head.height >= height);
    with_deadline(reached, height, within).await
}

/// Waits until a certificate covers `height`.
pub(crate) async fn wait_certified(
    chain: &Chain,
    height: u64,
    within: Duration,
) -> Result<(), WaitError> {
    let mut certified = chain.watch_certified();
    let reached = certified.wait_for(|certified| *certified >= height);
    match with_deadline(reached, height, within).await {
        Err(WaitError::Deadline { height, waited }) if chain.head().height >= height => {
            Err(WaitError::Uncertified { height, waited })
        }
        result => result,
    }
}

async fn with_deadline<T, E>(
    reached: impl Future<Output = Result<T, E>>,
    height: u64,
    within: Duration,
) -> Result<(), WaitError> {
    match tokio::time::timeout(within, reached).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(WaitError::Stopped),
        Err(_) => Err(WaitError::Deadline {
            height,
            waited: within,
        }),
    }
}
