//! The first packet: who is it, and on what terms.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use rumqttd::protocol::{
    ConnAck, ConnAckProperties, Connect, ConnectProperties, ConnectReturnCode, LastWill,
    LastWillProperties, Login as Credentials, Packet,
};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Shared;
use super::backend::{Account, Encoding, Login, LoginError, Submission};
use super::limits::{
    CONNECT_BYTES, KEEPALIVE_DEFAULT, KEEPALIVE_MAX, PACKET_BYTES, RECEIVE_MAX, SEND_MAX,
};
use super::properties;
use super::topics::{self, Inbound, Refusal};
use super::wire::{self, Version, WireError};

/// The terms of a connection.
#[derive(Debug, Clone)]
pub struct Hello {
    /// Protocol version.
    pub version: Version,
    /// Who it is.
    pub account: Account,
    /// The key that proves it.
    pub key: [u8; 32],
    /// The connection ends after this time.
    pub valid_for: Option<Duration>,
    /// The client wants no earlier session.
    pub clean: bool,
    /// How long its session is kept afterwards.
    pub expiry: Duration,
    /// Seconds without a packet after which it counts as gone, before the tolerance of one half.
    pub keepalive: u16,
    /// QoS 1 messages that it takes at a time.
    pub window: usize,
    /// Largest packet that it takes.
    pub packet_max: usize,
    /// Reason strings may be sent.
    pub explain: bool,
    /// Published when the connection ends without a DISCONNECT.
    pub will: Option<Will>,
    answer: Answer,
}

#[derive(Debug, Clone, Default)]
struct Answer {
    assigned: Option<String>,
    keepalive: Option<u16>,
    expiry: Option<u32>,
}

/// A transaction that the client signed for the case that it vanishes.
#[derive(Debug, Clone)]
pub struct Will {
    /// The transaction.
    pub submission: Submission,
    /// It is only handed in after this time, if the client does not come back before.
    pub delay: Duration,
}

/// Why there is no connection. The client is told the code, the log the reason.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// Version and code of the CONNACK; none to somebody who does not speak MQTT.
    pub answer: Option<(Version, ConnectReturnCode)>,
    reason: String,
}

impl Refused {
    fn silent(reason: impl Into<String>) -> Self {
        Self {
            answer: None,
            reason: reason.into(),
        }
    }

    /// A refusal with a code of MQTT 5; 3.1.1 gets the nearest of its five.
    pub fn with(version: Version, code: ConnectReturnCode, reason: impl Into<String>) -> Self {
        let code = match version {
            Version::V5 => code,
            Version::V4 => v4_code(code),
        };
        Self {
            answer: Some((version, code)),
            reason: reason.into(),
        }
    }
}

fn v4_code(code: ConnectReturnCode) -> ConnectReturnCode {
    use ConnectReturnCode as Code;
    match code {
        Code::UnsupportedProtocolVersion => Code::RefusedProtocolVersion,
        Code::ServerBusy | Code::ServerUnavailable => Code::ServiceUnavailable,
        Code::ClientIdentifierNotValid | Code::BadUserNamePassword => code,
        _ => Code::NotAuthorized,
    }
}

type Parts = (
    Connect,
    Option<ConnectProperties>,
    Option<LastWill>,
    Option<LastWillProperties>,
    Option<Credentials>,
);

/// Reads CONNECT and checks who sent it. `peer` is the key of the TLS client certificate.
pub async fn receive(
    shared: &Arc<Shared>,
    stream: &mut (impl AsyncRead + Unpin),
    rx: &mut BytesMut,
    peer: Option<[u8; 32]>,
) -> Result<Hello, Refused> {
    let (version, parts) = read(stream, rx).await?;
    let (connect, properties, will, will_properties, credentials) = parts;
    let id = &connect.client_id;
    if version == Version::V4 && id.is_empty() && !connect.clean_session {
        // MQTT-3.1.3-8: a session that is to be kept needs a name.
        let code = ConnectReturnCode::ClientIdentifierNotValid;
        return Err(Refused::with(version, code, "a session without client id"));
    }
    let login = authenticate(shared, version, peer, credentials)?;
    // An empty id asks the server for one, and an account has only one.
    if !id.is_empty() && *id != login.account.id {
        let reason = format!("client id is not the account `{}`", login.account.id);
        return Err(Refused::with(
            version,
            ConnectReturnCode::ClientIdentifierNotValid,
            reason,
        ));
    }
    let will = match will {
        Some(will) => Some(check_will(
            shared,
            version,
            &login.account,
            will,
            will_properties,
        )?),
        None => None,
    };
    Ok(terms(
        version,
        login,
        connect,
        properties.as_ref(),
        will,
        shared.config.session_time,
    ))
}

async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    rx: &mut BytesMut,
) -> Result<(Version, Parts), Refused> {
    let header = loop {
        let header = wire::header(rx).map_err(|e| Refused::silent(e.to_string()))?;
        if let Some(header) = header {
            if header.first != 0x10 || header.body > CONNECT_BYTES {
                return Err(Refused::silent(
                    "the first packet is no CONNECT of allowed size",
                ));
            }
            if rx.len() >= header.start + header.body {
                break header;
            }
        }
        let read = stream
            .read_buf(rx)
            .await
            .map_err(|e| Refused::silent(e.to_string()))?;
        if read == 0 {
            return Err(Refused::silent("closed before CONNECT"));
        }
    };
    let mut frame = rx.split_to(header.start + header.body);
    let version = version(&frame[header.start..])?;
    if version == Version::V5 {
        properties::check_connect(header, &frame).map_err(|error| {
            let code = match error {
                WireError::Authentication => ConnectReturnCode::BadAuthenticationMethod,
                WireError::NotAllowed => ConnectReturnCode::ProtocolError,
                _ => ConnectReturnCode::MalformedPacket,
            };
            Refused::with(version, code, error.to_string())
        })?;
    }
    match wire::read(version, &mut frame) {
        Ok(Packet::Connect(connect, properties, will, will_properties, login)) => {
            Ok((version, (connect, properties, will, will_properties, login)))
        }
        _ => Err(Refused::with(
            version,
            ConnectReturnCode::MalformedPacket,
            "malformed CONNECT",
        )),
    }
}

fn version(body: &[u8]) -> Result<Version, Refused> {
    let mut body = body;
    let unsupported = |reason: &str| {
        let code = ConnectReturnCode::UnsupportedProtocolVersion;
        Err(Refused::with(Version::V4, code, reason))
    };
    // MQTT 3.1 had another name. Its clients are told, so that they do not try for ever.
    if body.starts_with(b"\0\x06MQIsdp") {
        return unsupported("MQTT 3.1");
    }
    if body.len() < 8 || body[..6] != *b"\0\x04MQTT" {
        return Err(Refused::silent("not MQTT 3.1.1 or 5"));
    }
    body.advance(6);
    let version = match body[0] {
        4 => Version::V4,
        5 => Version::V5,
        _ => return unsupported("unknown protocol level"),
    };
    if body[1] & 1 != 0 {
        return Err(Refused::silent("reserved CONNECT flag is set"));
    }
    Ok(version)
}

fn authenticate(
    shared: &Shared,
    version: Version,
    peer: Option<[u8; 32]>,
    credentials: Option<Credentials>,
) -> Result<Login, Refused> {
    use ConnectReturnCode as Code;
    if let Some(key) = peer {
        let unknown = || Refused::with(version, Code::NotAuthorized, "key is not registered");
        let account = shared.backend.account_of_key(&key).ok_or_else(unknown)?;
        let named = credentials
            .map(|c| c.username)
            .filter(|name| !name.is_empty());
        if named.is_some_and(|name| name != account.id) {
            let reason = "user name is not the account of the certificate";
            return Err(Refused::with(version, Code::BadUserNamePassword, reason));
        }
        shared.seats.saw_certificate(&account);
        return Ok(Login {
            account,
            key,
            valid_for: None,
        });
    }
    by_token(shared, version, credentials)
}

/// A client without a certificate: user name and token.
fn by_token(
    shared: &Shared,
    version: Version,
    credentials: Option<Credentials>,
) -> Result<Login, Refused> {
    use ConnectReturnCode as Code;
    let none = || {
        Refused::with(
            version,
            Code::NotAuthorized,
            "neither certificate nor token",
        )
    };
    let credentials = credentials.ok_or_else(none)?;
    if !topics::is_name(&credentials.username) {
        let reason = "user name is no account id";
        return Err(Refused::with(version, Code::BadUserNamePassword, reason));
    }
    let token = credentials.password.as_bytes();
    let login = shared
        .backend
        .verify_token(&credentials.username, token)
        .map_err(|error| {
            let code = match error {
                LoginError::Refused(_) => Code::BadUserNamePassword,
                LoginError::Unavailable(_) => Code::ServerUnavailable,
            };
            Refused::with(version, code, error.to_string())
        })?;
    if login.account.id != credentials.username {
        let reason = "the token is another account's";
        return Err(Refused::with(version, Code::BadUserNamePassword, reason));
    }
    if shared.seats.has_certificate(&login.account) {
        let reason = "this gateway logs in by its certificate";
        return Err(Refused::with(version, Code::NotAuthorized, reason));
    }
    Ok(login)
}

fn check_will(
    shared: &Shared,
    version: Version,
    account: &Account,
    will: LastWill,
    properties: Option<LastWillProperties>,
) -> Result<Will, Refused> {
    use ConnectReturnCode as Code;
    let refuse = |code, reason: &str| {
        shared.counters.forbidden.add(1);
        Err(Refused::with(version, code, reason))
    };
    if will.retain {
        return refuse(Code::RetainNotSupported, "only the node keeps messages");
    }
    match topics::inbound(account, &will.topic) {
        Ok(Inbound::Transaction) => {}
        Err(Refusal::Malformed) => return refuse(Code::TopicNameInvalid, "topic of the will"),
        _ => {
            return refuse(
                Code::NotAuthorized,
                "a will goes to the client's own tx topic",
            );
        }
    }
    let (content_type, delay) = properties
        .map(|p| (p.content_type, p.delay_interval.unwrap_or(0)))
        .unwrap_or_default();
    let Some(encoding) = Encoding::from_content_type(content_type.as_deref()) else {
        return refuse(Code::PayloadFormatInvalid, "content type of the will");
    };
    let payload: Bytes = will.message;
    if payload.is_empty() {
        return refuse(Code::PayloadFormatInvalid, "empty will");
    }
    let submission = Submission {
        account: account.id.clone(),
        encoding,
        payload,
    };
    Ok(Will {
        submission,
        delay: Duration::from_secs(delay.into()),
    })
}

fn terms(
    version: Version,
    login: Login,
    connect: Connect,
    properties: Option<&ConnectProperties>,
    will: Option<Will>,
    session_time: Duration,
) -> Hello {
    let most = u32::try_from(session_time.as_secs()).unwrap_or(u32::MAX);
    let wanted = match version {
        Version::V4 if connect.clean_session => 0,
        Version::V4 => most,
        Version::V5 => properties
            .and_then(|p| p.session_expiry_interval)
            .unwrap_or(0),
    };
    let expiry = wanted.min(most);
    let keepalive = match (version, connect.keep_alive) {
        (_, 0) => KEEPALIVE_DEFAULT,
        (Version::V5, asked) => asked.min(KEEPALIVE_MAX),
        (Version::V4, asked) => asked,
    };
    let window = properties
        .and_then(|p| p.receive_maximum)
        .map_or(SEND_MAX, usize::from);
    let packet_max = properties
        .and_then(|p| p.max_packet_size)
        .map(|max| max as usize);
    let answer = Answer {
        assigned: connect
            .client_id
            .is_empty()
            .then(|| login.account.id.clone()),
        keepalive: (keepalive != connect.keep_alive).then_some(keepalive),
        expiry: (expiry != wanted).then_some(expiry),
    };
    Hello {
        version,
        account: login.account,
        key: login.key,
        valid_for: login.valid_for,
        clean: connect.clean_session,
        expiry: Duration::from_secs(expiry.into()),
        keepalive,
        window: window.clamp(1, SEND_MAX),
        packet_max: packet_max.unwrap_or(usize::MAX),
        explain: properties.and_then(|p| p.request_problem_info) != Some(0),
        will,
        answer,
    }
}

impl Hello {
    /// The CONNACK that accepts these terms.
    pub fn accept(&self, session_present: bool) -> Packet {
        let ack = ConnAck {
            session_present,
            code: ConnectReturnCode::Success,
        };
        let properties = ConnAckProperties {
            session_expiry_interval: self.answer.expiry,
            receive_max: Some(RECEIVE_MAX),
            max_packet_size: Some(PACKET_BYTES as u32),
            assigned_client_identifier: self.answer.assigned.clone(),
            retain_available: Some(0),
            topic_alias_max: Some(0),
            subscription_identifiers_available: Some(0),
            shared_subscription_available: Some(0),
            server_keep_alive: self.answer.keepalive,
            ..ConnAckProperties::default()
        };
        Packet::ConnAck(ack, Some(properties))
    }
}

/// The CONNACK that refuses.
pub fn refusal(code: ConnectReturnCode) -> Packet {
    Packet::ConnAck(
        ConnAck {
            session_present: false,
            code,
        },
        None,
    )
}
