use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;

use k256::ecdsa::signature::Signer;
use k256::ecdsa::{Signature, SigningKey};
use proptest::prelude::*;
use prost::Message;
use serde::Deserialize;

use super::json::Object;
use super::message::{CreateRegistrant, RegisterSpec, RegisterThing};
use super::signature::{compress, parse_key, verify};
use super::*;
use crate::ContractError;

#[derive(Clone, Debug, Default, PartialEq)]
struct Memory(BTreeMap<Vec<u8>, Vec<u8>>);

impl Records for Memory {
    type Error = Infallible;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.0.get(key).cloned())
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Infallible> {
        self.0.insert(key, value);
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    kind: String,
    function: String,
    note: String,
    arg: String,
    ok: bool,
    result: Option<String>,
}

fn vectors() -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/iotregistry/vectors.json");
    #[allow(clippy::disallowed_methods, reason = "a test reads its data")]
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn ledger_of_all_vectors() -> Memory {
    ledger_of(&vectors())
}

fn ledger_of(vectors: &[Vector]) -> Memory {
    let mut records = Memory::default();
    for vector in vectors
        .iter()
        .filter(|vector| vector.kind == "invoke" && vector.ok)
    {
        invoke(&vector.function, &vector.arg, &mut records).unwrap();
    }
    records
}

#[test]
fn every_recorded_operation_and_query_has_the_verdict_and_reply_of_the_original() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 64);
    let mut records = Memory::default();
    for (index, vector) in vectors.iter().enumerate() {
        let name = format!(
            "{index} {} {}: {}",
            vector.kind, vector.function, vector.note
        );
        if vector.kind == "query" {
            let reply = query(&vector.function, &vector.arg, &records);
            assert_eq!(reply.is_ok(), vector.ok, "{name}: {reply:?}");
            assert_eq!(reply.ok(), vector.result, "{name}");
            continue;
        }
        let before = records.clone();
        let outcome = invoke(&vector.function, &vector.arg, &mut records);
        assert_eq!(outcome.is_ok(), vector.ok, "{name}: {outcome:?}");
        assert_eq!(
            before == records,
            outcome.is_err(),
            "{name}: changed if and only if accepted"
        );
    }
}

#[test]
fn refusals_name_the_broken_rule() {
    let expected = [
        (8, "iotregistry.registrant_exists"),
        (9, "iotregistry.wrong_signature"),
        (13, "iotregistry.empty_field"),
        (14, "iotregistry.empty_field"),
        (15, "iotregistry.empty_field"),
        (16, "iotregistry.bad_key"),
        (17, "iotregistry.wrong_signature"),
        (18, "iotregistry.wrong_signature"),
        (22, "iotregistry.not_hex"),
        (23, "iotregistry.not_protobuf"),
        (24, "iotregistry.empty_field"),
        (37, "iotregistry.nonce_exists"),
        (38, "iotregistry.alias_exists"),
        (42, "iotregistry.unknown_registrant"),
        (45, "iotregistry.wrong_signature"),
        (47, "iotregistry.unknown_registrant"),
        (57, "iotregistry.spec_exists"),
        (59, "iotregistry.unknown_registrant"),
    ];
    let vectors = vectors();
    for (index, code) in expected {
        let Vector { function, arg, .. } = &vectors[index];
        let refusal = refused(function, arg, &mut ledger_of(&vectors[..index]));
        assert_eq!(refusal.code(), code, "vector {index}: {refusal}");
    }
}

#[test]
fn records_have_the_keys_and_bytes_of_the_format() {
    let records = ledger_of_all_vectors();
    let pubkey = "02284f0583b915c1587d121420417894f41591c2584bc96b062bd8356a34c3fc32";
    let mut registrant = vec![0x0a, 23];
    registrant.extend(b"Dept of Street Lighting");
    registrant.extend([0x1a, 33]);
    registrant.extend(hex::decode(pubkey).unwrap());
    let key = format!("RegistrantPubkey:{pubkey}").into_bytes();
    assert_eq!(records.0.get(&key), Some(&registrant));

    let nonce = "617b0feda7e1647796ff022bea8ed02a";
    let mut alias = vec![0x0a, 16];
    alias.extend(hex::decode(nonce).unwrap());
    assert_eq!(
        records.0.get(b"Alias:urn:lamp:760004799".as_slice()),
        Some(&alias)
    );

    let mut thing = vec![0x0a, 18];
    thing.extend(b"urn:lamp:760004799");
    thing.extend([0x12, 66]);
    thing.extend(pubkey.as_bytes());
    thing.extend([0x1a, 15]);
    thing.extend(b"{\"lumens\":4200}");
    thing.extend([0x22, 7]);
    thing.extend(b"lamp-v1");
    assert_eq!(
        records.0.get(format!("Thing:{nonce}").as_bytes()),
        Some(&thing)
    );

    let spec = records.0.get(b"Spec:spec:2".as_slice()).unwrap();
    assert_eq!(spec[..2], [0x12, 66], "an empty data field is left out");
    assert_eq!(spec.len(), 68);
}

#[test]
fn an_accepted_operation_names_what_it_added() {
    let (key, mut records) = ledger_with_registrant();
    let pubkey = pubkey_text(&key);
    let message = thing(&key, &[7, 8], &["a", "b"]);
    assert_eq!(
        invoke("registerThing", &argument(&message), &mut records).unwrap(),
        Registered::Thing {
            nonce: "0708".into(),
            aliases: vec!["a".into(), "b".into()],
            registrant: pubkey.clone(),
        }
    );
    let message = spec(&key, "lamp", "data");
    assert_eq!(
        invoke("registerSpec", &argument(&message), &mut records).unwrap(),
        Registered::Spec {
            name: "lamp".into(),
            registrant: pubkey
        }
    );
}

#[test]
fn keys_are_read_in_every_form_that_btcec_took() {
    let odd_and_even: Vec<_> = (1..20).map(signing_key).collect();
    for key in &odd_and_even {
        let compressed = compress(key.verifying_key());
        let uncompressed = key.verifying_key().to_sec1_point(false).as_bytes().to_vec();
        let parity = uncompressed[64] & 1;
        for (first, taken) in [
            (4, true),
            (5, true),
            (6 + parity, true),
            (7 - parity, false),
            (2, false),
            (8, false),
            (0, false),
        ] {
            let mut form = uncompressed.clone();
            form[0] = first;
            match parse_key(&form) {
                Ok(key) => assert!(taken && compress(&key) == compressed, "first byte {first}"),
                Err(refusal) => assert!(!taken, "first byte {first}: {refusal}"),
            }
        }
        assert_eq!(compress(&parse_key(&compressed).unwrap()), compressed);
        for first in [0, 1, 4, 5, 6, 7] {
            let mut form = compressed.clone();
            form[0] = first;
            assert!(
                parse_key(&form).is_err(),
                "33 bytes with first byte {first}"
            );
        }
    }
    assert!(parse_key(&[]).is_err());
    assert!(parse_key(&[0]).is_err(), "the point at infinity");
    let mut too_large = [0xff; 33];
    too_large[0] = 2;
    assert!(
        parse_key(&too_large).is_err(),
        "x is not below the field's prime"
    );
    let mut off_curve = signing_key(1)
        .verifying_key()
        .to_sec1_point(false)
        .as_bytes()
        .to_vec();
    off_curve[64] ^= 2;
    assert!(parse_key(&off_curve).is_err());
}

#[test]
fn signatures_are_read_as_btcec_read_them() {
    let key = signing_key(3);
    let public = key.verifying_key();
    let signature: Signature = key.sign(b"message");
    let der = signature.to_der().as_bytes().to_vec();
    assert_eq!(verify(public, &der, "message"), Ok(()));
    assert_eq!(
        verify(public, &der, "massage"),
        Err(RegistryError::WrongSignature)
    );

    let mut with_more = der.clone();
    with_more.extend([1, 2, 3]);
    assert_eq!(
        verify(public, &with_more, "message"),
        Ok(()),
        "bytes after the end are ignored"
    );
    for length in 0..der.len() {
        let cut = verify(public, &der[..length], "message");
        assert_eq!(cut, Err(RegistryError::BadSignatureForm), "{length} bytes");
    }
    let mut long_form = vec![0x30, 0x81, der[1]];
    long_form.extend(&der[2..]);
    assert!(
        verify(public, &long_form, "message").is_err(),
        "length in the long form"
    );
    let mut padded = vec![0x30, der[1] + 1, 2, der[3] + 1, 0];
    padded.extend(&der[4..]);
    assert!(
        verify(public, &padded, "message").is_err(),
        "a zero byte too many before r"
    );
    let zero = [0x30, 6, 2, 1, 0, 2, 1, 1];
    assert_eq!(
        verify(public, &zero, "message"),
        Err(RegistryError::BadSignatureForm),
        "r is zero"
    );
}

#[test]
fn messages_are_read_as_proto3() {
    let (key, records) = ledger_with_registrant();
    let good = spec(&key, "lamp", "data").encode_to_vec();
    let with = |more: &[u8]| hex::encode([good.as_slice(), more].concat());

    let accepted = |argument: String| {
        invoke("registerSpec", &argument, &mut records.clone()).unwrap();
    };
    accepted(hex::encode(&good).to_ascii_uppercase());
    accepted(with(&[0x50, 0x01])); // unknown field 10, a number
    accepted(with(&[0x5a, 0x02, b'a', b'b'])); // unknown field 11, bytes
    accepted(with(&[0x0a, 4, b'l', b'a', b'm', b'p'])); // SpecName twice
    accepted(hex::encode([&[0x22, 1, b'x'], good.as_slice()].concat())); // the last Data counts

    let code = |argument: String| refused("registerSpec", &argument, &mut records.clone()).code();
    assert_eq!(
        code(with(&[0x22, 1, b'x'])),
        "iotregistry.wrong_signature",
        "the last Data counts"
    );
    assert_eq!(
        code(with(&[0x08, 1])),
        "iotregistry.not_protobuf",
        "field 1 as a number"
    );
    assert_eq!(
        code(with(&[0x22, 1, 0xff])),
        "iotregistry.not_protobuf",
        "text is not UTF-8"
    );
    assert_eq!(
        code(with(&[0x00])),
        "iotregistry.not_protobuf",
        "field number 0"
    );
    assert_eq!(
        code(with(&[0x22, 9])),
        "iotregistry.not_protobuf",
        "cut short"
    );
    assert_eq!(
        code(format!("{}0", with(&[]))),
        "iotregistry.not_hex",
        "odd number of digits"
    );
}

#[test]
fn every_limit_holds_at_its_edge() {
    let (key, mut records) = ledger_with_registrant();
    let long = "x".repeat(NAME_BYTES_MAX);
    let longer = "x".repeat(NAME_BYTES_MAX + 1);
    let names: Vec<String> = (0..=ALIASES_MAX).map(|index| index.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();

    for message in [
        thing(&key, &[1; NONCE_BYTES_MAX + 1], &[]),
        thing(&key, &[1], &[&longer]),
        thing(&key, &[1], &names),
    ] {
        let refusal = refused("registerThing", &argument(&message), &mut records);
        assert!(
            matches!(refusal, RegistryError::TooLarge { .. }),
            "{refusal}"
        );
    }
    invoke(
        "registerThing",
        &argument(&thing(&key, &[1; NONCE_BYTES_MAX], &[&long])),
        &mut records,
    )
    .unwrap();
    invoke(
        "registerThing",
        &argument(&thing(&key, &[2], &names[1..])),
        &mut records,
    )
    .unwrap();
    let refusal = refused(
        "registerSpec",
        &argument(&spec(&key, &longer, "")),
        &mut records,
    );
    assert!(matches!(
        refusal,
        RegistryError::TooLarge {
            field: "SpecName",
            ..
        }
    ));
    let refusal = refused(
        "createRegistrant",
        &argument(&registrant(&signing_key(9), &longer)),
        &mut records,
    );
    assert!(matches!(
        refusal,
        RegistryError::TooLarge {
            field: "RegistrantName",
            ..
        }
    ));

    let full = "0".repeat(ARGUMENT_BYTES_MAX);
    assert!(matches!(
        refused("registerSpec", &full, &mut records),
        RegistryError::NotProtobuf
    ));
    let over = format!("{full}00");
    assert!(matches!(
        refused("registerSpec", &over, &mut records),
        RegistryError::TooLarge { .. }
    ));
    let Err(RegistryFailure::Refused(refusal)) = query("thing", &over, &records) else {
        panic!("a query over the limit was answered")
    };
    assert!(matches!(refusal, RegistryError::TooLarge { .. }));
}

#[test]
fn unknown_functions_are_refused() {
    let mut records = ledger_of_all_vectors();
    for name in ["", "owner", "createregistrant", "registerOwner"] {
        assert_eq!(
            refused(name, "", &mut records),
            RegistryError::UnknownFunction
        );
    }
    for name in ["", "Owner", "registrant", "createRegistrant"] {
        let reply = query(name, "", &records);
        assert!(
            matches!(
                reply,
                Err(RegistryFailure::Refused(RegistryError::UnknownFunction))
            ),
            "{name}"
        );
    }
}

#[test]
fn names_that_people_do_not_see_are_refused() {
    let (key, mut records) = ledger_with_registrant();
    for name in ["a\u{1b}[2J", "a\u{202e}b", "a\u{200b}", "\n", "\u{feff}a"] {
        let of_spec = RegisterThing {
            spec: name.to_owned(),
            ..thing(&key, &[1], &[])
        };
        for (function, argument) in [
            (
                "createRegistrant",
                argument(&registrant(&signing_key(9), name)),
            ),
            ("registerThing", argument(&thing(&key, &[1], &[name]))),
            ("registerThing", argument(&of_spec)),
            ("registerSpec", argument(&spec(&key, name, ""))),
        ] {
            let refusal = refused(function, &argument, &mut records);
            assert!(
                matches!(refusal, RegistryError::Unseen { .. }),
                "{function} {name:?}: {refusal:?}"
            );
        }
    }
}

#[test]
fn replies_are_escaped_as_go_did() {
    let text = "<a href=\"x\">&\\/\u{8}\u{c}\n\r\t\u{0}\u{1f}\u{7f}\u{2028}\u{2029}é😀";
    assert_eq!(
        Object::new().text("A", text).finish(),
        concat!(
            "{\"A\":\"\\u003ca href=\\\"x\\\"\\u003e\\u0026\\\\/\\u0008\\u000c\\n\\r\\t\\u0000",
            "\\u001f\u{7f}\\u2028\\u2029é😀\"}"
        )
    );
    let reply = Object::new().text("A", text).finish();
    let read: serde_json::Value = serde_json::from_str(&reply).unwrap();
    assert_eq!(read["A"], text);
    assert_eq!(
        Object::new()
            .text_if_any("A", "")
            .list_if_any("B", &[])
            .finish(),
        "{}"
    );
}

#[test]
fn a_failing_store_is_no_verdict() {
    struct Broken;
    impl Records for Broken {
        type Error = &'static str;
        fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
            Err("disk")
        }
        fn put(&mut self, _: Vec<u8>, _: Vec<u8>) -> Result<(), &'static str> {
            Err("disk")
        }
    }
    let message = argument(&registrant(&signing_key(1), "name"));
    let outcome = invoke("createRegistrant", &message, &mut Broken);
    assert!(matches!(outcome, Err(RegistryFailure::Records("disk"))));
    assert!(matches!(
        query("owner", "00", &Broken),
        Err(RegistryFailure::Records("disk"))
    ));
}

#[test]
fn a_damaged_record_is_named() {
    let mut records = Memory::default();
    records.put(b"Spec:s".to_vec(), vec![0xff]).unwrap();
    let reply = query("spec", "s", &records);
    assert!(matches!(
        reply,
        Err(RegistryFailure::Refused(RegistryError::DamagedRecord))
    ));
}

proptest! {
    #[test]
    fn random_input_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        text: String,
    ) {
        let mut records = ledger_of_all_vectors();
        let before = records.clone();
        for function in ["createRegistrant", "registerThing", "registerSpec"] {
            prop_assert!(invoke(function, &hex::encode(&bytes), &mut records).is_err());
            prop_assert!(invoke(function, &text, &mut records).is_err());
        }
        for function in ["owner", "thing", "spec"] {
            let _ = query(function, &text, &records);
        }
        let _ = parse_key(&bytes);
        let _ = verify(signing_key(1).verifying_key(), &bytes, &text);
        prop_assert_eq!(before, records);
    }

    #[test]
    fn a_changed_byte_never_gets_another_thing_registered(
        position: prop::sample::Index,
        flip in 1u8..,
    ) {
        let (key, records) = ledger_with_registrant();
        let message = thing(&key, &[1, 2, 3], &["alias"]);
        let mut bytes = message.encode_to_vec();
        let position = position.index(bytes.len());
        bytes[position] ^= flip;
        let mut after = records.clone();
        if invoke("registerThing", &hex::encode(&bytes), &mut after).is_ok() {
            // What the original does not sign: the nonce, and bytes after the signature's end.
            let read = RegisterThing::decode(bytes.as_slice()).unwrap();
            prop_assert_eq!(read.aliases, message.aliases);
            prop_assert_eq!(read.registrant_pubkey, message.registrant_pubkey);
            prop_assert_eq!(read.data, message.data);
            prop_assert_eq!(read.spec, message.spec);
        } else {
            prop_assert_eq!(after, records);
        }
    }

    #[test]
    fn a_reply_is_json_with_the_same_text(name in ".{1,40}", data: String, alias in ".{0,40}") {
        let key = signing_key(5);
        let mut records = Memory::default();
        let seen = |text: &str| text.replace(lamplighter_types::is_unseen, "x");
        let (name, alias) = (seen(&name), seen(&alias));
        invoke("createRegistrant", &argument(&registrant(&key, &name)), &mut records).unwrap();
        let mut message = RegisterThing {
            nonce: vec![1],
            aliases: vec![alias.clone()],
            registrant_pubkey: pubkey_text(&key),
            data: data.clone(),
            ..RegisterThing::default()
        };
        let signed = format!("{}:{alias}:{data}:", message.registrant_pubkey);
        message.signature = sign(&key, &signed);
        invoke("registerThing", &argument(&message), &mut records).unwrap();

        let owner = query("owner", &pubkey_text(&key), &records).unwrap();
        let owner: serde_json::Value = serde_json::from_str(&owner).unwrap();
        prop_assert_eq!(&owner["RegistrantName"], &name);
        let thing = query("thing", &alias, &records).unwrap();
        let thing: serde_json::Value = serde_json::from_str(&thing).unwrap();
        prop_assert_eq!(&thing["Aliases"][0], &alias);
        prop_assert_eq!(thing.get("Data").is_none(), data.is_empty());
    }
}

fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

fn pubkey_text(key: &SigningKey) -> String {
    hex::encode(compress(key.verifying_key()))
}

fn sign(key: &SigningKey, message: &str) -> Vec<u8> {
    let signature: Signature = key.sign(message.as_bytes());
    signature.to_der().as_bytes().to_vec()
}

fn registrant(key: &SigningKey, name: &str) -> CreateRegistrant {
    let signed = format!("{name}:{}:", pubkey_text(key));
    CreateRegistrant {
        registrant_name: name.into(),
        registrant_pubkey: compress(key.verifying_key()),
        data: String::new(),
        signature: sign(key, &signed),
    }
}

fn thing(key: &SigningKey, nonce: &[u8], aliases: &[&str]) -> RegisterThing {
    let mut signed = pubkey_text(key);
    for alias in aliases {
        signed.push(':');
        signed.push_str(alias);
    }
    signed.push_str(":data:spec");
    RegisterThing {
        nonce: nonce.to_vec(),
        aliases: aliases.iter().map(ToString::to_string).collect(),
        registrant_pubkey: pubkey_text(key),
        signature: sign(key, &signed),
        data: "data".into(),
        spec: "spec".into(),
    }
}

fn spec(key: &SigningKey, name: &str, data: &str) -> RegisterSpec {
    let signed = format!("{name}:{}:{data}", pubkey_text(key));
    RegisterSpec {
        spec_name: name.into(),
        registrant_pubkey: pubkey_text(key),
        signature: sign(key, &signed),
        data: data.into(),
    }
}

fn ledger_with_registrant() -> (SigningKey, Memory) {
    let key = signing_key(1);
    let mut records = Memory::default();
    invoke(
        "createRegistrant",
        &argument(&registrant(&key, "name")),
        &mut records,
    )
    .unwrap();
    (key, records)
}

fn argument(message: &impl Message) -> String {
    hex::encode(message.encode_to_vec())
}

fn refused(function: &str, argument: &str, records: &mut Memory) -> RegistryError {
    let before = records.clone();
    match invoke(function, argument, records) {
        Err(RegistryFailure::Refused(refusal)) => {
            assert_eq!(before, *records, "a refusal changes nothing");
            refusal
        }
        Err(RegistryFailure::Records(never)) => match never {},
        Ok(added) => panic!("accepted: {added:?}"),
    }
}
