use lamplighter_types::{Header, ValidatorSet};

use super::*;

fn block(height: u64) -> ArchivedBlock {
    let validators = Vec::new();
    let header = Header {
        version: 2,
        chain_id: Hash::ZERO,
        height,
        parent: Hash::ZERO,
        timestamp_ms: height,
        tx_root: Hash::ZERO,
        receipt_root: Hash::ZERO,
        event_root: Hash::ZERO,
        state_root: Hash::ZERO,
        history_root: Hash::ZERO,
        validators_hash: ValidatorSet { validators }.hash(),
        batch: Hash::ZERO,
        position: Hash::ZERO,
    };
    ArchivedBlock {
        header,
        transactions: Vec::new(),
        receipts: Vec::new(),
        certificate: None,
    }
}

fn heights(folder: &ArchiveFolder, from: u64) -> Vec<u64> {
    let blocks = folder.added_blocks(from).unwrap();
    blocks.iter().map(|block| block.header.height).collect()
}

/// A block that a lying node sent costs none that were compared: the archive goes on.
#[test]
fn only_the_blocks_above_the_last_accepted_one_leave_an_archive() {
    // Files have the blocks 1 to 3, 4 to 6 and 7 to 9.
    for (accepted, files) in [(9, 3), (8, 3), (6, 2), (5, 2), (3, 1), (0, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = ArchiveFolder::create(dir.path(), Hash::ZERO).unwrap();
        for first in [1, 4, 7] {
            let blocks: Vec<_> = (first..first + 3).map(block).collect();
            folder.add(&blocks).unwrap();
        }
        folder.refuse_above(accepted).unwrap();
        let again = ArchiveFolder::create(dir.path(), Hash::ZERO).unwrap();
        for folder in [&folder, &again] {
            assert_eq!(folder.last_added().unwrap(), accepted);
            assert_eq!(folder.names.len(), files, "{accepted}");
            let all: Vec<_> = folder.names.keys().copied().collect();
            let all: Vec<_> = all.into_iter().flat_map(|at| heights(folder, at)).collect();
            assert_eq!(all, (1..=accepted).collect::<Vec<_>>());
        }
    }
}
