//! The change from a message to its protected form and back (RFC 8613, sections 4 and 5.3). Code,
//! payload and nearly all options are encrypted; type, message id and token stay outside.

use super::context::{Nonce, RequestBinding, SecurityContext};
use super::option::{OSCORE, OscoreOption};
use crate::coap::message::{CoapOption, Code, DecodeError, Message, MessageType, Token};

/// Number of the option Observe, which stands inside and outside.
const OBSERVE: u16 = 6;
/// The bytes before the token.
const HEADER_BYTES: usize = 4;

/// True for the options that stay outside: what a proxy has to read.
fn is_outer(number: u16) -> bool {
    use CoapOption::{ProxyScheme, ProxyUri, UriHost, UriPort};
    matches!(
        CoapOption::from(number),
        UriHost | UriPort | ProxyUri | ProxyScheme
    )
}

/// Protects a message. `nonce` is one that the sender's key was never used with.
///
/// # Errors
/// The plaintext is too long for a datagram.
pub fn protect(
    context: &SecurityContext,
    message: &Message,
    option: &OscoreOption,
    nonce: &Nonce,
    binding: &RequestBinding,
) -> Result<Message, DecodeError> {
    let (mut outer, inner): (Vec<_>, Vec<_>) = message
        .options
        .iter()
        .cloned()
        .partition(|(number, _)| is_outer(*number));
    let observe = inner.iter().find(|(number, _)| *number == OBSERVE).cloned();
    let plaintext = plaintext(message.code, inner, &message.payload)?;
    let code = match (message.code.is_request(), &observe) {
        (true, Some(_)) => Code::FETCH,
        (true, None) => Code::POST,
        (false, Some(_)) => Code::CONTENT,
        (false, None) => Code::CHANGED,
    };
    outer.extend(observe);
    outer.push((OSCORE, option.encode()));
    outer.sort_by_key(|(number, _)| *number);
    Ok(Message {
        message_type: message.message_type,
        code,
        id: message.id,
        token: message.token,
        options: outer,
        payload: context.seal(nonce, binding, plaintext),
    })
}

/// Decrypts a protected message; `None` if the other side did not make it, or it has an option that
/// does not belong inside.
pub fn unprotect(
    context: &SecurityContext,
    message: &Message,
    nonce: &Nonce,
    binding: &RequestBinding,
) -> Option<Message> {
    let plaintext = context.open(nonce, binding, &message.payload)?;
    let (&code, rest) = plaintext.split_first()?;
    let head = Message {
        code: Code(code),
        options: Vec::new(),
        payload: Vec::new(),
        ..message.clone()
    };
    let bytes = [head.encode().ok()?, rest.to_vec()].concat();
    let mut inner = Message::decode(&bytes).ok()?;
    let foreign = |(number, _): &(u16, Vec<u8>)| *number == OSCORE || is_outer(*number);
    if inner.options.iter().any(foreign) {
        return None;
    }
    let outer = message.options.iter();
    inner
        .options
        .extend(outer.filter(|(number, _)| is_outer(*number)).cloned());
    inner.options.sort_by_key(|(number, _)| *number);
    Some(inner)
}

/// Code, options and payload, as a message has them (section 5.3).
fn plaintext(
    code: Code,
    options: Vec<(u16, Vec<u8>)>,
    payload: &[u8],
) -> Result<Vec<u8>, DecodeError> {
    let message = Message {
        message_type: MessageType::NonConfirmable,
        code,
        id: 0,
        token: Token::default(),
        options,
        payload: payload.to_vec(),
    };
    let bytes = message.encode()?;
    Ok([&[code.0], &bytes[HEADER_BYTES..]].concat())
}
