//! The test vectors of RFC 8613, appendix C.

use super::super::context::{RequestBinding, SecurityContext, authenticated, info};
use super::super::message::{protect, unprotect};
use super::super::option::{OscoreOption, PartialIv};
use crate::coap::Message;
use crate::credentials::OscoreKeys;

fn bytes(digits: &str) -> Vec<u8> {
    hex::decode(digits).unwrap()
}

/// What both sides have in common in appendices C.1, C.2 and C.3, for a side with these ids.
fn keys(appendix: u8, sender: &str, recipient: &str) -> OscoreKeys {
    let salt = if appendix == 2 {
        ""
    } else {
        "9e7ca92223786340"
    };
    OscoreKeys {
        secret: bytes("0102030405060708090a0b0c0d0e0f10").into(),
        salt: bytes(salt),
        id_context: (appendix == 3).then(|| bytes("37cbf3210017a2d3")),
        gateway_id: bytes(sender),
        thing_id: bytes(recipient),
    }
}

/// Sender and recipient info, IV info, common IV, and the nonces of number 0.
#[test]
fn contexts_are_derived() {
    let with_context = "4837cbf3210017a2d3";
    for (appendix, sender, recipient, middle, common_iv, nonces) in [
        (
            1,
            "",
            "01",
            "f6",
            "4622d4dd6d944168eefb54987c",
            ["4622d4dd6d944168eefb54987c", "4722d4dd6d944169eefb54987c"],
        ),
        (
            1,
            "01",
            "",
            "f6",
            "4622d4dd6d944168eefb54987c",
            ["4722d4dd6d944169eefb54987c", "4622d4dd6d944168eefb54987c"],
        ),
        (
            2,
            "00",
            "01",
            "f6",
            "be35ae297d2dace910c52e99f9",
            ["bf35ae297d2dace910c52e99f9", "bf35ae297d2dace810c52e99f9"],
        ),
        (
            2,
            "01",
            "00",
            "f6",
            "be35ae297d2dace910c52e99f9",
            ["bf35ae297d2dace810c52e99f9", "bf35ae297d2dace910c52e99f9"],
        ),
        (
            3,
            "",
            "01",
            with_context,
            "2ca58fb85ff1b81c0b7181b85e",
            ["2ca58fb85ff1b81c0b7181b85e", "2da58fb85ff1b81d0b7181b85e"],
        ),
        (
            3,
            "01",
            "",
            with_context,
            "2ca58fb85ff1b81c0b7181b85e",
            ["2da58fb85ff1b81d0b7181b85e", "2ca58fb85ff1b81c0b7181b85e"],
        ),
    ] {
        let keys = keys(appendix, sender, recipient);
        let context = keys.id_context.as_deref();
        for id in [sender, recipient] {
            let length = 0x40 + id.len() / 2;
            let expected = format!("85{length:02x}{id}{middle}0a634b657910");
            assert_eq!(hex::encode(info(&bytes(id), context, "Key", 16)), expected);
        }
        let expected = format!("8540{middle}0a6249560d");
        assert_eq!(hex::encode(info(&[], context, "IV", 13)), expected);
        let security = SecurityContext::derive(&keys);
        assert_eq!(hex::encode(security.common_iv()), common_iv);
        let zero = PartialIv::new(0).unwrap();
        let made = [
            security.sender_nonce(&zero),
            security.recipient_nonce(&zero),
        ];
        assert_eq!(made.map(hex::encode), nonces, "C.{appendix}");
    }
}

/// The RFC has no context of 24 bytes or more, before which CBOR has its length.
#[test]
fn a_long_id_context_has_its_length_before_it() {
    let digits = "5a".repeat(24);
    let info = info(&[1], Some(&[0x5A; 24]), "Key", 16);
    let expected = format!("8541015818{digits}0a634b657910");
    assert_eq!(hex::encode(info), expected);
}

/// The infos and the keys themselves, as the RFC prints them.
#[test]
fn keys_are_those_of_the_rfc() {
    use hkdf::Hkdf;
    use sha2::Sha256;
    for (appendix, sender, recipient, keys_of_rfc) in [
        (
            1,
            "",
            "01",
            [
                "f0910ed7295e6ad4b54fc793154302ff",
                "ffb14e093c94c9cac9471648b4f98710",
            ],
        ),
        (
            2,
            "00",
            "01",
            [
                "321b26943253c7ffb6003b0b64d74041",
                "e57b5635815177cd679ab4bcec9d7dda",
            ],
        ),
        (
            3,
            "",
            "01",
            [
                "af2a1300a5e95788b356336eeecd2b92",
                "e39a0c7c77b43f03b4b39ab9a268699f",
            ],
        ),
    ] {
        let keys = keys(appendix, sender, recipient);
        let hkdf = Hkdf::<Sha256>::new(Some(&keys.salt), &keys.secret);
        for (id, expected) in [sender, recipient].into_iter().zip(keys_of_rfc) {
            let mut key = [0; 16];
            let info = info(&bytes(id), keys.id_context.as_deref(), "Key", 16);
            hkdf.expand(&info, &mut key).unwrap();
            assert_eq!(hex::encode(key), expected, "C.{appendix}");
        }
    }
}

fn message(digits: &str) -> Message {
    Message::decode(&bytes(digits)).unwrap()
}

struct RequestVector {
    appendix: u8,
    sender: &'static str,
    with_context: bool,
    plain: &'static str,
    authenticated: &'static str,
    nonce: &'static str,
    option: &'static str,
    protected: &'static str,
}

const REQUESTS: [RequestVector; 3] = [
    RequestVector {
        appendix: 1,
        sender: "",
        with_context: false,
        plain: "44015d1f00003974396c6f63616c686f737483747631",
        authenticated: "8368456e63727970743040488501810a40411440",
        nonce: "4622d4dd6d944168eefb549868",
        option: "0914",
        protected: "44025d1f00003974396c6f63616c686f7374620914ff612f1092f1776f1c1668b3825e",
    },
    RequestVector {
        appendix: 2,
        sender: "00",
        with_context: false,
        plain: "440171c30000b932396c6f63616c686f737483747631",
        authenticated: "8368456e63727970743040498501810a4100411440",
        nonce: "bf35ae297d2dace910c52e99ed",
        option: "091400",
        protected: "440271c30000b932396c6f63616c686f737463091400ff4ed339a5a379b0b8bc731fffb0",
    },
    RequestVector {
        appendix: 3,
        sender: "",
        with_context: true,
        plain: "44012f8eef9bbf7a396c6f63616c686f737483747631",
        authenticated: "8368456e63727970743040488501810a40411440",
        nonce: "2ca58fb85ff1b81c0b7181b84a",
        option: "19140837cbf3210017a2d3",
        protected: "44022f8eef9bbf7a396c6f63616c686f73746b19140837cbf3210017a2d3ff72cd7273fd331ac45cffbe55c3",
    },
];

#[test]
fn requests_are_protected_and_opened() {
    for vector in REQUESTS {
        let client = keys(vector.appendix, vector.sender, "01");
        let server = keys(vector.appendix, "01", vector.sender);
        let partial_iv = PartialIv::new(20).unwrap();
        let binding = RequestBinding {
            kid: bytes(vector.sender),
            partial_iv,
        };
        assert_eq!(hex::encode(authenticated(&binding)), vector.authenticated);
        let option = OscoreOption {
            partial_iv: Some(partial_iv),
            kid_context: client.id_context.clone().filter(|_| vector.with_context),
            kid: Some(bytes(vector.sender)),
        };
        assert_eq!(hex::encode(option.encode()), vector.option);
        let client = SecurityContext::derive(&client);
        let nonce = client.sender_nonce(&partial_iv);
        assert_eq!(hex::encode(nonce), vector.nonce);
        let plain = message(vector.plain);
        let protected = protect(&client, &plain, &option, &nonce, &binding).unwrap();
        assert_eq!(hex::encode(protected.encode().unwrap()), vector.protected);
        let server = SecurityContext::derive(&server);
        let nonce = server.recipient_nonce(&partial_iv);
        let opened = unprotect(&server, &protected, &nonce, &binding).unwrap();
        assert_eq!(opened, plain);
    }
}

#[test]
fn responses_are_protected_and_opened() {
    let server = SecurityContext::derive(&keys(1, "01", ""));
    let client = SecurityContext::derive(&keys(1, "", "01"));
    let request = PartialIv::new(20).unwrap();
    let binding = RequestBinding {
        kid: Vec::new(),
        partial_iv: request,
    };
    let plain = message("64455d1f00003974ff48656c6c6f20576f726c6421");
    let numbered = PartialIv::new(0).unwrap();
    for (partial_iv, nonce, value, expected) in [
        (
            None,
            server.recipient_nonce(&request),
            "",
            "64445d1f0000397490ffdbaad1e9a7e7b2a813d3c31524378303cdafae119106",
        ),
        (
            Some(numbered),
            server.sender_nonce(&numbered),
            "0100",
            "64445d1f00003974920100ff4d4c13669384b67354b2b6175ff4b8658c666a6cf88e",
        ),
    ] {
        let option = OscoreOption {
            partial_iv,
            ..OscoreOption::default()
        };
        assert_eq!(hex::encode(option.encode()), value);
        let protected = protect(&server, &plain, &option, &nonce, &binding).unwrap();
        assert_eq!(hex::encode(protected.encode().unwrap()), expected);
        let nonce = match partial_iv {
            Some(number) => client.recipient_nonce(&number),
            None => client.sender_nonce(&request),
        };
        let opened = unprotect(&client, &protected, &nonce, &binding).unwrap();
        assert_eq!(opened, plain);
    }
}

/// Section 6.3, and what is malformed by section 6.1.
#[test]
fn options_are_read_strictly() {
    let kid = OscoreOption::decode(&bytes("092525")).unwrap();
    assert_eq!(kid.kid, Some(vec![0x25]));
    assert_eq!(kid.partial_iv.unwrap().number(), 0x25);
    let context = OscoreOption::decode(&bytes("19050344616c25")).unwrap();
    assert_eq!(context.kid_context, Some(b"Dal".to_vec()));
    assert_eq!(OscoreOption::decode(&[]), Some(OscoreOption::default()));
    for malformed in [
        "00",
        "06010203040506",
        "07",
        "29",
        "290125",
        "8901",
        "09",
        "1901",
        "190105aa",
        "0101ff",
    ] {
        assert_eq!(OscoreOption::decode(&bytes(malformed)), None, "{malformed}");
    }
    for number in [0, 1, 255, 256, 65_536, PartialIv::COUNT - 1] {
        assert_eq!(PartialIv::new(number).unwrap().number(), number);
    }
    assert_eq!(PartialIv::new(0).unwrap().bytes(), [0]);
    assert_eq!(PartialIv::new(256).unwrap().bytes(), [1, 0]);
    assert!(PartialIv::new(PartialIv::COUNT).is_none());
}
