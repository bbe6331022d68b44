//! Checks of MQTT 5 properties (section 2.2.2.2): which a client may send in which packet, their
//! form, and that each comes once. The codec of rumqttd does not check them.

use super::{CodecError, FixedHeader, number, variable_integer};

/// A part of a client's packets that carries properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    Connect,
    Will,
    Publish,
    /// PUBACK and PUBREL.
    Acknowledgement,
    Subscribe,
    Unsubscribe,
    Disconnect,
}

/// The form of a property's value.
#[derive(Clone, Copy)]
enum ValueForm {
    Byte,
    Number,
    LongNumber,
    VariableInteger,
    /// Text or bytes behind their length.
    Bytes,
    TwoTexts,
}

const SUBSCRIPTION_IDENTIFIER: u8 = 11;
const AUTHENTICATION_METHOD: u8 = 21;
const AUTHENTICATION_DATA: u8 = 22;
const RECEIVE_MAXIMUM: u8 = 33;
const USER_PROPERTY: u8 = 38;
const MAXIMUM_PACKET_SIZE: u8 = 39;
/// Payload format, request problem information, request response information: 0 or 1.
const FLAGS: [u8; 3] = [1, 23, 25];

/// ValueForm and carriers of the properties that a client may send.
fn rule(id: u8) -> Option<(ValueForm, &'static [Carrier])> {
    use Carrier::*;
    Some(match id {
        1 => (ValueForm::Byte, &[Publish, Will]),
        2 => (ValueForm::LongNumber, &[Publish, Will]),
        3 | 8 | 9 => (ValueForm::Bytes, &[Publish, Will]),
        SUBSCRIPTION_IDENTIFIER => (ValueForm::VariableInteger, &[Subscribe]),
        17 => (ValueForm::LongNumber, &[Connect, Disconnect]),
        AUTHENTICATION_METHOD | AUTHENTICATION_DATA => (ValueForm::Bytes, &[Connect]),
        23 | 25 => (ValueForm::Byte, &[Connect]),
        24 => (ValueForm::LongNumber, &[Will]),
        31 => (ValueForm::Bytes, &[Acknowledgement, Disconnect]),
        RECEIVE_MAXIMUM | 34 => (ValueForm::Number, &[Connect]),
        35 => (ValueForm::Number, &[Publish]),
        USER_PROPERTY => (
            ValueForm::TwoTexts,
            &[
                Connect,
                Will,
                Publish,
                Acknowledgement,
                Subscribe,
                Unsubscribe,
                Disconnect,
            ],
        ),
        MAXIMUM_PACKET_SIZE => (ValueForm::LongNumber, &[Connect]),
        _ => return None,
    })
}

/// Checks the properties of a packet, without their length field.
pub fn check(carrier: Carrier, mut bytes: &[u8]) -> Result<(), CodecError> {
    let mut seen = 0u64;
    while let Some((&id, rest)) = bytes.split_first() {
        let (form, carriers) = rule(id).ok_or(CodecError::Malformed)?;
        if !carriers.contains(&carrier) {
            // MQTT-3.3.4-6 forbids it to clients only, so it is well-formed.
            if carrier == Carrier::Publish && id == SUBSCRIPTION_IDENTIFIER {
                return Err(CodecError::NotAllowed);
            }
            return Err(CodecError::Malformed);
        }
        let bit = 1 << id;
        if id != USER_PROPERTY && seen & bit != 0 {
            return Err(CodecError::NotAllowed);
        }
        seen |= bit;
        let length = length(form, rest)?;
        let value = rest.get(..length).ok_or(CodecError::Malformed)?;
        if !is_allowed(id, value) {
            return Err(CodecError::NotAllowed);
        }
        bytes = &rest[length..];
    }
    let has = |id: u8| seen & (1 << id) != 0;
    match (has(AUTHENTICATION_METHOD), has(AUTHENTICATION_DATA)) {
        (true, _) => Err(CodecError::Authentication),
        (false, true) => Err(CodecError::NotAllowed),
        (false, false) => Ok(()),
    }
}

/// Values that the standard makes a protocol error.
fn is_allowed(id: u8, value: &[u8]) -> bool {
    match id {
        RECEIVE_MAXIMUM | MAXIMUM_PACKET_SIZE | SUBSCRIPTION_IDENTIFIER => {
            value.iter().any(|byte| *byte != 0)
        }
        id if FLAGS.contains(&id) => value[0] <= 1,
        _ => true,
    }
}

fn length(form: ValueForm, bytes: &[u8]) -> Result<usize, CodecError> {
    let text = |at: usize| Ok(at + 2 + usize::from(number(bytes, at)?));
    Ok(match form {
        ValueForm::Byte => 1,
        ValueForm::Number => 2,
        ValueForm::LongNumber => 4,
        ValueForm::VariableInteger => variable_integer(bytes)?.ok_or(CodecError::Malformed)?.1,
        ValueForm::Bytes => text(0)?,
        ValueForm::TwoTexts => text(text(0)?)?,
    })
}

/// Checks the properties of a whole CONNECT and of its will.
pub fn check_connect(header: FixedHeader, frame: &[u8]) -> Result<(), CodecError> {
    const WILL_FLAG: u8 = 4;
    // Name, level, flags, keepalive.
    let flags = *frame.get(header.start + 7).ok_or(CodecError::Malformed)?;
    let at = section(Carrier::Connect, frame, header.start + 10)?;
    let client_id = 2 + usize::from(number(frame, at)?);
    if flags & WILL_FLAG != 0 {
        section(Carrier::Will, frame, at + client_id)?;
    }
    Ok(())
}

/// Checks the properties whose length field is at `at`, and returns the position behind them.
pub fn section(carrier: Carrier, frame: &[u8], at: usize) -> Result<usize, CodecError> {
    let rest = frame.get(at..).ok_or(CodecError::Malformed)?;
    let (bytes, length) = variable_integer(rest)?.ok_or(CodecError::Malformed)?;
    let properties = rest.get(length..length + bytes);
    check(carrier, properties.ok_or(CodecError::Malformed)?)?;
    Ok(at + length + bytes)
}
