//! Pages of certified blocks, for those who execute them again.

#[cfg(test)]
mod tests;

use lamplighter_types::wire::{ARCHIVE_BYTES_MAX, ArchivedBlock, header, read_archive_page};

use crate::Client;
use crate::calls::{Call, NodeResponse};
use crate::error::ClientError;
use crate::trust::off_the_async_threads;

/// Blocks of the archive. Nothing of them is checked.
#[derive(Clone, Debug)]
pub struct ArchiveAnswer {
    pub blocks: Vec<ArchivedBlock>,
    /// The height of the last certified block of the node.
    pub certified: u64,
}

impl Client {
    /// Some certified blocks from a height on; none if the block before is the last one that is
    /// certified.
    ///
    /// # Errors
    /// Every node is behind that height, or none answers with a page.
    pub async fn archive_page(&self, from: u64) -> Result<ArchiveAnswer, ClientError> {
        let call = Call::get(format!("/v1/archive/{from}")).answer_bytes_max(ARCHIVE_BYTES_MAX);
        let read = async |answer: NodeResponse| read_answer(answer, from).await;
        Box::pin(self.call_checked(call, read)).await
    }
}

async fn read_answer(answer: NodeResponse, from: u64) -> Result<ArchiveAnswer, ClientError> {
    let certified = answer.number(header::CERTIFIED_HEIGHT);
    let certified = certified.ok_or_else(|| ClientError::Missing {
        node: answer.node.clone(),
        what: header::CERTIFIED_HEIGHT,
    })?;
    if certified.saturating_add(1) < from {
        return Err(ClientError::Behind {
            node: answer.node,
            certified,
            wanted: from,
        });
    }
    let NodeResponse { node, body, .. } = answer;
    let read = off_the_async_threads(move || read_archive_page(&body)).await;
    let blocks = match read {
        Ok(blocks) => blocks,
        Err(source) => return Err(ClientError::Archive { node, source }),
    };
    let heights = blocks.iter().map(|block| block.header.height);
    if let Some((wanted, got)) = out_of_place(heights, from) {
        return Err(ClientError::ArchiveOrder { node, wanted, got });
    }
    Ok(ArchiveAnswer { blocks, certified })
}

/// The first height that is not the next one, behind the one that was wanted there. Pages are kept
/// under the height of their first block: one out of place would take the place of another.
fn out_of_place(heights: impl Iterator<Item = u64>, from: u64) -> Option<(u64, u64)> {
    (from..).zip(heights).find(|(wanted, got)| wanted != got)
}
