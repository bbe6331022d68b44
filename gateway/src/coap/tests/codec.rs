use proptest::collection::vec;
use proptest::prelude::*;

use super::super::block::{BLOCK_NUMBER_MAX, Block};
use super::super::message::{
    Code, DATAGRAM_BYTES_MAX, DecodeError, Message, MessageType, Token, confirmable_id,
    decode_uint, encode_uint,
};
use super::super::request::{Request, Response, format};

fn any_message() -> impl Strategy<Value = Message> {
    let kinds = prop::sample::select(vec![
        MessageType::Confirmable,
        MessageType::NonConfirmable,
        MessageType::Acknowledgement,
        MessageType::Reset,
    ]);
    let options = vec((any::<u16>(), vec(any::<u8>(), 0..40)), 0..16);
    let token = vec(any::<u8>(), 0..=8);
    (
        kinds,
        1..=255u8,
        any::<u16>(),
        token,
        options,
        vec(any::<u8>(), 0..300),
    )
        .prop_map(|(message_type, code, id, token, mut options, payload)| {
            options.sort_by_key(|(number, _)| *number);
            let token = Token::new(&token).unwrap();
            Message {
                message_type,
                code: Code(code),
                id,
                token,
                options,
                payload,
            }
        })
}

proptest! {
    #[test]
    fn encoded_messages_decode_to_themselves(message in any_message()) {
        let bytes = message.encode().unwrap();
        prop_assert_eq!(Message::decode(&bytes).unwrap(), message);
    }

    #[test]
    fn any_bytes_are_refused_or_have_one_form(bytes in vec(any::<u8>(), 0..1300)) {
        let _ = confirmable_id(&bytes);
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(message.encode().unwrap(), bytes);
            let _ = Request::from_message(&message);
            let _ = Response::from_message(&message);
        }
    }

    #[test]
    fn a_changed_byte_never_panics(message in any_message(), at in any::<prop::sample::Index>(),
                                   flip in 1..=255u8) {
        let mut bytes = message.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(message.encode().unwrap(), bytes);
            let _ = Request::from_message(&message);
        }
    }

    #[test]
    fn blocks_keep_their_place(number in 0..=BLOCK_NUMBER_MAX, more: bool, szx in 0..=6u8) {
        let block = Block { number, more, szx };
        prop_assert_eq!(Block::decode(&block.encode()), Some(block));
    }

    #[test]
    fn numbers_are_as_short_as_can_be(value: u32) {
        let bytes = encode_uint(value);
        prop_assert_eq!(decode_uint(&bytes), Some(value));
        prop_assert_ne!(bytes.first(), Some(&0));
    }
}

#[test]
fn messages_that_the_rfc_forbids_are_refused() {
    let refused: &[&[u8]] = &[
        b"",
        &[0x40, 1, 0],                               // shorter than a header
        &[0x49, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], // token of 9 bytes
        &[0x44, 1, 0, 1, 0xAA],                      // token cut off
        &[0x40, 1, 0, 1, 0xFF],                      // marker without payload
        &[0x40, 0, 0, 1, 0x00],                      // empty message with an option
        &[0x41, 0, 0, 1, 0x00],                      // empty message with a token
        &[0x40, 1, 0, 1, 0xF0],                      // reserved option delta
        &[0x40, 1, 0, 1, 0x0F],                      // reserved option length
        &[0x40, 1, 0, 1, 0xE0, 0xFF],                // extended delta cut off
        &[0x40, 1, 0, 1, 0xE0, 0xFF, 0xFF],          // option number beyond 16 bits
        &[0x40, 1, 0, 1, 0xB5, b'a'],                // option value cut off
    ];
    for bytes in refused {
        assert!(Message::decode(bytes).is_err(), "{bytes:02x?}");
    }
    assert!(matches!(
        Message::decode(&[0x80, 1, 0, 1]),
        Err(DecodeError::Version(2))
    ));
    let long = vec![0x40; DATAGRAM_BYTES_MAX + 1];
    assert!(matches!(
        Message::decode(&long),
        Err(DecodeError::TooLong { .. })
    ));
    let options = [&[0x40, 1, 0, 1][..], &[0x00; 40]].concat();
    assert!(matches!(
        Message::decode(&options),
        Err(DecodeError::TooManyOptions(40))
    ));
    assert_eq!(Block::decode(&[7]), None, "size exponent 7 is reserved");
    assert_eq!(Block::decode(&[0; 4]), None);
}

#[test]
fn a_request_survives_its_message() {
    let block = Some(Block {
        number: 5000,
        more: true,
        szx: 6,
    });
    let mut request = Request::new(Code::PUT, "/5/0/0").with_payload(format::OCTETS, vec![7; 1024]);
    request = request
        .with_query("ep=lamp-1".to_owned())
        .with_accept(format::TEXT);
    request.block1 = block;
    request.size1 = Some(70_000);
    let token = Token::new(b"token").unwrap();
    let message = request.to_message(MessageType::Confirmable, 9, token);
    let bytes = message.encode().unwrap();
    let read = Request::from_message(&Message::decode(&bytes).unwrap()).unwrap();
    assert_eq!(read, request);
    assert_eq!(read.argument("ep"), Some("lamp-1"));
    assert_eq!(read.argument("e"), None);
}

#[test]
fn requests_beyond_the_limits_are_answered_with_an_error() {
    let code_of = |options: Vec<(u16, Vec<u8>)>| {
        let token = Token::default();
        let message_type = MessageType::Confirmable;
        let message = Message {
            message_type,
            code: Code::GET,
            id: 1,
            token,
            options,
            payload: vec![],
        };
        Request::from_message(&message).unwrap_err().code
    };
    assert_eq!(code_of(vec![(11, b"a".to_vec()); 9]), Code::BAD_REQUEST);
    assert_eq!(code_of(vec![(11, vec![b'a'; 256])]), Code::BAD_REQUEST);
    assert_eq!(code_of(vec![(11, vec![0xFF])]), Code::BAD_REQUEST);
    assert_eq!(code_of(vec![(27, vec![7])]), Code::BAD_REQUEST);
    assert_eq!(code_of(vec![(12, vec![1, 2, 3])]), Code::BAD_REQUEST);
    assert_eq!(code_of(vec![(9, vec![1])]), Code::BAD_OPTION);
    assert_eq!(code_of(vec![(35, b"coap://x".to_vec())]), Code::NO_PROXY);
}
