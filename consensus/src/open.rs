//! Opens what a node has on its disk.

use std::sync::Arc;

use lamplighter_store::{Cf, Durability, Kv, WriteBatch};

use crate::blocking_io::BlockingIo;
use crate::codec;
use crate::config::ConsensusConfig;
use crate::election::Elections;
use crate::electorate::Electorate;
use crate::error::ConsensusError;
use crate::log::LogStore;
use crate::snapshot::SnapshotStore;
use crate::types::NodeId;

const NODE_ID: &[u8] = b"raft/node_id";

/// Opens the log and the snapshots, if the data directory is this node's.
pub(crate) async fn open_disk(
    config: &ConsensusConfig,
    kv: Arc<dyn Kv>,
    io: BlockingIo,
) -> Result<(LogStore, Arc<SnapshotStore>), ConsensusError> {
    let (node_id, store) = (config.node_id, kv.clone());
    io.run(move || claim(&*store, node_id)).await?;
    let dir = config.snapshot_dir.clone();
    let snapshots = io.run(move || SnapshotStore::open(&dir)).await;
    let snapshots = snapshots.map_err(|error| ConsensusError::Snapshots(error.into()))?;
    let mut log = LogStore::open(kv, io, config.limits.clone()).await?;
    let resigned = log.resign(node_id).await;
    resigned.map_err(|error| ConsensusError::Raft(error.into()))?;
    Ok((log, Arc::new(snapshots)))
}

/// Opens what this node knows of elections.
pub(crate) async fn open_elections(
    config: &ConsensusConfig,
    electorate: Arc<dyn Electorate>,
    kv: Arc<dyn Kv>,
    log: LogStore,
) -> Result<Arc<Elections>, ConsensusError> {
    let io = BlockingIo::new(config);
    let opened = Elections::open(config.node_id, electorate, kv, io, log).await;
    opened.map_err(|source| ConsensusError::Store {
        operation: "read the proofs of elections",
        source,
    })
}

/// Writes the node's id into an empty store; compares it with the one in another store.
fn claim(kv: &dyn Kv, node_id: NodeId) -> Result<(), ConsensusError> {
    let failed = |source| ConsensusError::Store {
        operation: "claim the data directory",
        source,
    };
    match kv.get(Cf::Meta, NODE_ID).map_err(failed)? {
        Some(found) => {
            let found = codec::decode("node id", &found)
                .map_err(|error| ConsensusError::Corrupt(error.to_string()))?;
            if found == node_id {
                Ok(())
            } else {
                Err(ConsensusError::WrongNode {
                    expected: node_id,
                    found,
                })
            }
        }
        None => {
            let mut batch = WriteBatch::new();
            batch.put(Cf::Meta, NODE_ID, codec::encode(&node_id));
            kv.write(batch, Durability::Synced).map_err(failed)
        }
    }
}
