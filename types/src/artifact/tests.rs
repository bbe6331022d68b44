use proptest::prelude::*;

use super::{ArtifactMismatch, GROUP_BYTES, Groups, GroupsBuilder};
use crate::Hash;

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 % 251) as u8).collect()
}

fn groups(bytes: &[u8]) -> Groups {
    let mut builder = GroupsBuilder::default();
    bytes.chunks(1_000).for_each(|chunk| builder.update(chunk));
    builder.finish().unwrap()
}

#[test]
fn groups_hash_to_the_digest_at_every_shape_of_the_tree() {
    let group = GROUP_BYTES;
    for len in [
        1,
        1_024,
        group - 1,
        group,
        group + 1,
        2 * group,
        3 * group,
        5 * group + 7,
    ] {
        let bytes = bytes(len);
        let made = groups(&bytes);
        assert_eq!(made.digest(), Hash::of(&bytes), "{len} bytes");
        let read = Groups::from_bytes(made.digest(), len as u64, &made.to_bytes()).unwrap();
        assert_eq!(read, made);
        for (index, part) in bytes.chunks(group).enumerate() {
            read.verify(index as u64, part).unwrap();
        }
    }
}

#[test]
fn a_flipped_bit_is_found_in_its_group() {
    let mut bytes = bytes(4 * GROUP_BYTES);
    let groups = groups(&bytes);
    bytes[2 * GROUP_BYTES + 5] ^= 1;
    let verdicts: Vec<_> = bytes
        .chunks(GROUP_BYTES)
        .zip(0..)
        .map(|(part, n)| groups.verify(n, part))
        .collect();
    let bad = Err(ArtifactMismatch::Group(2));
    assert_eq!(verdicts, [Ok(()), Ok(()), bad, Ok(())]);
}

#[test]
fn nonsense_is_refused() {
    let groups = groups(&bytes(3 * GROUP_BYTES));
    let (digest, good) = (groups.digest(), groups.to_bytes());
    assert!(Groups::from_bytes(digest, 0, &[]).is_err());
    assert!(Groups::from_bytes(digest, u64::MAX, &good).is_err());
    assert!(Groups::from_bytes(digest, 2 * GROUP_BYTES as u64, &good).is_err());
    assert!(Groups::from_bytes(digest, 3 * GROUP_BYTES as u64 - 1, &good[1..]).is_err());
    assert!(groups.verify(3, &[]).is_err());
    assert!(groups.verify(u64::MAX, &[1]).is_err());
}

proptest! {
    #[test]
    fn any_changed_value_is_refused(
        len in GROUP_BYTES + 1..10 * GROUP_BYTES,
        at: usize,
        bit in 0..8u8,
    ) {
        let groups = groups(&bytes(len));
        let mut values = groups.to_bytes();
        let at = at % values.len();
        values[at] ^= 1 << bit;
        prop_assert!(Groups::from_bytes(groups.digest(), len as u64, &values).is_err());
    }
}
