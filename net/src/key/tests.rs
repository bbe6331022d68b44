use super::*;

fn key(seed: u8) -> NodeKey {
    NodeKey::of_secret(&[seed; 32]).unwrap()
}

#[test]
fn peer_id_round_trip() {
    for seed in 0..32 {
        let key = key(seed);
        let peer = key.peer_id().unwrap();
        assert_eq!(NodeKey::from_peer_id(&peer), Some(key));
    }
}

#[test]
fn order_of_keys_is_the_order_of_peer_ids() {
    let keys: Vec<NodeKey> = (0..64).map(key).collect();
    for a in &keys {
        for b in &keys {
            assert_eq!(a.cmp(b), a.peer_id().unwrap().cmp(&b.peer_id().unwrap()));
        }
    }
}

#[test]
fn known_public_key() {
    // RFC 8032, section 7.1, test 1.
    let secret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let secret: [u8; 32] = hex::decode(secret).unwrap().try_into().unwrap();
    assert_eq!(NodeKey::of_secret(&secret).unwrap().to_string(), public);
}

#[test]
fn bytes_off_the_curve_have_no_peer_id() {
    let mut bytes = [0u8; 32];
    bytes[0] = 2;
    assert_eq!(NodeKey(bytes).peer_id(), None);
}
