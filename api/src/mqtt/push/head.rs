//! The newest certified header, for every subscriber.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lamplighter_ledger::Handle;
use lamplighter_state::prove;
use lamplighter_system::error_chain;
use tokio::time::sleep;

use crate::mqtt::Shared;

/// A head is published at most this often: under load there are a hundred blocks a second.
const HEAD_INTERVAL: Duration = Duration::from_millis(500);

/// Publishes the newest certified header to `shared.head` until the node stops. Each connection
/// sends the newest one that it has not sent; a slow one skips those between.
pub async fn run(shared: Arc<Shared>) {
    let mut certified = shared.handle.watch_certified();
    loop {
        let height = *certified.borrow_and_update();
        if height > 0 {
            match read(&shared.handle, height) {
                Ok(head) => drop(shared.head.send_replace(Some(head))),
                Err(error) => {
                    let error = error_chain(&error);
                    tracing::error!(error, "the certified head can't be read");
                }
            }
        }
        let next = async {
            sleep(HEAD_INTERVAL).await;
            certified.changed().await
        };
        tokio::select! {
            changed = next => if changed.is_err() { return },
            () = shared.stop.cancelled() => return,
        }
    }
}

fn read(handle: &Handle, height: u64) -> Result<Bytes, lamplighter_state::StateError> {
    let (view, _) = handle.view()?;
    let head = prove::certified_header(&**view.store(), height)?;
    let json = serde_json::to_vec(&head).expect("our types have JSON forms");
    Ok(json.into())
}
