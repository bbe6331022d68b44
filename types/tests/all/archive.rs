//! Pages of the archive, whole and not.

use lamplighter_types::wire::{
    ARCHIVE_BYTES_MAX, ArchiveError, ArchivePage, ArchivedBlock, read_archive_page,
};
use lamplighter_types::*;
use proptest::prelude::*;

fn block(height: u64, certified: bool) -> ArchivedBlock {
    let header = Header {
        version: HEADER_VERSION,
        chain_id: Hash::of(b"chain"),
        height,
        parent: Hash::ZERO,
        timestamp_ms: 1_800_000_000_000 + height,
        tx_root: Hash::ZERO,
        receipt_root: Hash::ZERO,
        event_root: Hash::ZERO,
        state_root: Hash::ZERO,
        history_root: Hash::ZERO,
        validators_hash: Hash::ZERO,
        batch: Hash::ZERO,
        position: Hash::ZERO,
    };
    let secret = SecretKey::from_seed([7; 32]);
    let attestation = Attestation::sign(height, header.hash(), &secret);
    let certificate = Certificate::from_attestations(height, header.hash(), &[attestation]);
    let transaction = SignedTransaction {
        encoding: Encoding::Bincode,
        key: secret.public(),
        payload: HexBytes(vec![height as u8; 5]),
        signature: Signature([1; 64]),
    };
    ArchivedBlock {
        header,
        transactions: vec![transaction; height as usize % 3],
        receipts: vec![vec![9; 4]; height as usize % 4],
        certificate: certified.then_some(certificate),
    }
}

fn page(blocks: &[ArchivedBlock]) -> Vec<u8> {
    let mut page = ArchivePage::default();
    blocks.iter().for_each(|block| page.push_block(block));
    page.into_bytes()
}

#[test]
fn a_page_is_read_as_it_was_written_and_a_cut_one_is_refused() {
    let blocks: Vec<_> = (1..6)
        .map(|height| block(height, height % 2 == 0))
        .collect();
    let bytes = page(&blocks);
    assert_eq!(read_archive_page(&bytes).unwrap(), blocks);
    assert!(read_archive_page(&[]).unwrap().is_empty());
    let ends: Vec<_> = (0..blocks.len())
        .map(|n| page(&blocks[..n]).len())
        .collect();
    for length in 0..bytes.len() {
        let read = read_archive_page(&bytes[..length]);
        match ends.iter().position(|end| *end == length) {
            Some(whole) => assert_eq!(read.unwrap(), blocks[..whole]),
            None => {
                let cut = matches!(read, Err(ArchiveError::Cut { .. }));
                assert!(cut, "cut to {length} bytes");
            }
        }
    }
}

#[test]
fn numbers_that_no_page_has_take_no_memory() {
    let one = page(&[block(3, true)]);
    let header = u64::from_le_bytes(one[..8].try_into().unwrap()) as usize;
    // The number of receipts, behind that of no transactions, and the length of the header.
    for at in [8 + header + 8, 0] {
        let mut bytes = one.clone();
        bytes[at..at + 8].fill(0xff);
        let read = read_archive_page(&bytes);
        assert!(matches!(read, Err(ArchiveError::Cut { block: 0 })));
    }
    let long = vec![0; ARCHIVE_BYTES_MAX + 1];
    let read = read_archive_page(&long);
    assert!(matches!(read, Err(ArchiveError::TooLong { .. })));
}

proptest! {
    #[test]
    fn no_bytes_of_a_page_panic(
        at in 0usize..2_000,
        with in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = page(&[block(2, true), block(5, false)]);
        let at = at % bytes.len();
        let end = (at + with.len()).min(bytes.len());
        bytes[at..end].copy_from_slice(&with[..end - at]);
        if let Ok(blocks) = read_archive_page(&bytes) {
            prop_assert!(page(&blocks).len() <= bytes.len());
        }
    }
}
