//! The formats of a cast.

use lamplighter_types::Hash;
use lamplighter_types::artifact::GroupsBuilder;
use proptest::prelude::*;

use super::*;

fn invitation(bytes: usize) -> Invitation {
    let mut groups = GroupsBuilder::default();
    groups.update(&vec![7; bytes]);
    let at = "[ff12::4c50]:5690".parse().unwrap();
    let key = CastKey::generate().unwrap();
    Invitation::new(9, at, key, &groups.finish().unwrap(), 2)
}

#[test]
fn an_invitation_is_checked_before_it_is_followed() {
    let good = invitation(40_000);
    let (read, groups) = Invitation::decode(&good.encode()).unwrap();
    assert_eq!((&read, groups.count()), (&good, 3));
    assert_eq!(read.address(), "[ff12::4c50]:5690".parse().unwrap());
    let refused = |change: &dyn Fn(&mut Invitation)| {
        let mut wrong = good.clone();
        change(&mut wrong);
        Invitation::decode(&wrong.encode()).unwrap_err()
    };
    let unicast = refused(&|wrong| wrong.address[0] = 0xFE);
    assert!(matches!(unicast, InvitationError::Address(_)));
    let v4 = refused(&|wrong| {
        wrong.address = "10.0.0.1"
            .parse::<std::net::Ipv4Addr>()
            .unwrap()
            .to_ipv6_mapped()
            .octets()
    });
    assert!(matches!(v4, InvitationError::Address(_)));
    assert!(matches!(
        refused(&|wrong| wrong.szx = 7),
        InvitationError::Size
    ));
    let groups = refused(&|wrong| wrong.groups.0[0] ^= 1);
    assert!(matches!(groups, InvitationError::Groups(_)));
    let groups = refused(&|wrong| wrong.artifact = Hash::of(b"another"));
    assert!(matches!(groups, InvitationError::Groups(_)));
    let long = vec![0; INVITATION_BYTES_MAX + 1];
    assert!(matches!(
        Invitation::decode(&long),
        Err(InvitationError::Length)
    ));
    assert!(matches!(
        Invitation::decode(&[1, 2]),
        Err(InvitationError::Malformed(_))
    ));
    let longest = invitation(IMAGE_BYTES_MAX as usize);
    let longest = Invitation { szx: 6, ..longest };
    assert!(longest.encode().len() <= INVITATION_BYTES_MAX);
    assert!(
        !format!("{good:?}").contains("key: CastKey("),
        "no key in a log"
    );
}

#[test]
fn an_image_is_cast_up_to_a_length_and_a_number_of_blocks() {
    assert_eq!(block_count(128 * 1024, 2), Some(2_048));
    assert_eq!(block_count(IMAGE_BYTES_MAX, 6), Some(4_096));
    assert_eq!(block_count(IMAGE_BYTES_MAX + 1, 6), None);
    assert_eq!(block_count(u64::from(BLOCKS_MAX) * 64 + 1, 2), None);
    assert_eq!((block_count(0, 2), block_count(10, 7)), (None, None));
}

#[test]
fn a_block_is_opened_by_members_alone_and_in_its_place() {
    let (key, other) = (CastKey::generate().unwrap(), CastKey::generate().unwrap());
    let cipher = CastCipher::new(3, &key);
    let sealed = cipher.seal(1, 0x01_0203, &[9; 64]);
    assert_eq!(sealed.len(), 64 + OVERHEAD_BYTES);
    assert_eq!(cipher.open(&sealed), Some((0x01_0203, vec![9; 64])));
    assert_eq!(CastCipher::new(3, &other).open(&sealed), None);
    assert_eq!(CastCipher::new(4, &key).open(&sealed), None);
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert_eq!(cipher.open(&changed), None, "byte {at}");
        assert_eq!(cipher.open(&sealed[..at]), None, "{at} bytes");
    }
    assert_ne!(
        cipher.seal(2, 0x01_0203, &[9; 64])[8..],
        sealed[8..],
        "another nonce"
    );
}

proptest! {
    #[test]
    fn a_map_has_what_it_holds_and_is_read_as_it_was(
        blocks in 1..=BLOCKS_MAX,
        numbers in prop::collection::vec(0..2 * BLOCKS_MAX, 0..400),
        all_but in any::<bool>(),
    ) {
        let mut map = BlockMap::new(blocks).unwrap();
        let mut expected = vec![all_but; blocks as usize];
        if all_but {
            (0..blocks).for_each(|number| assert!(map.hold(number)));
        }
        for number in numbers {
            match all_but {
                true => map.forget(number..number.saturating_add(3)),
                false => { map.hold(number); }
            }
            let end = if all_but { number + 3 } else { number + 1 };
            for at in number..end.min(blocks) {
                expected[at as usize] = !all_but;
            }
        }
        let held: Vec<bool> = (0..blocks).map(|number| map.has(number)).collect();
        prop_assert_eq!(&held, &expected);
        let count = expected.iter().filter(|there| **there).count() as u32;
        prop_assert_eq!((map.held(), map.is_full()), (count, count == blocks));
        let first = expected.iter().position(|there| !there).map_or(blocks, |at| at as u32);
        prop_assert_eq!(map.prefix(), first);
        let encoded = map.encode();
        prop_assert!(encoded.len() <= 1 + blocks.div_ceil(8) as usize);
        prop_assert_eq!(BlockMap::decode(blocks, &encoded), Some(map));
        let full = BlockMap::decode(blocks, &BlockMap::encode_full());
        prop_assert!(full.is_some_and(|full| full.is_full()));
    }

    #[test]
    fn any_bytes_are_a_map_or_none(
        blocks in 0..=2 * BLOCKS_MAX,
        bytes in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        if let Some(map) = BlockMap::decode(blocks, &bytes) {
            let missing = map.missing().count() as u32;
            prop_assert_eq!((map.blocks(), map.held() + missing), (blocks, blocks));
        }
    }
}
