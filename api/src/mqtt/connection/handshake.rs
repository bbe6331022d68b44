//! The first packet: which account connects, and on what terms.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use lamplighter_types::{Account, PublicKey};
use rumqttd::protocol::{
    ConnAck, ConnAckProperties, Connect, ConnectProperties, ConnectReturnCode, LastWill,
    LastWillProperties, Login as Credentials, Packet,
};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::mqtt::MqttConfig;
use crate::mqtt::Shared;
use crate::mqtt::accounts::Login;
use crate::mqtt::codec::{self, CodecError, Version};
use crate::mqtt::limits::{CONNECT_BYTES, PACKET_BYTES, RECEIVE_MAX, SEND_MAX};
use crate::mqtt::submit::{SubmittedBytes, encoding};
use crate::mqtt::topics::{self, Inbound, TopicError};
use crate::sessions::OpenSession;

/// The terms of a connection.
#[derive(Debug, Clone)]
pub struct ConnectInfo {
    /// Protocol version.
    pub version: Version,
    /// The account, whose id is the client id too.
    pub account: Account,
    /// The key that proves it.
    pub key: PublicKey,
    /// The connection ends after this time.
    pub valid_for: Option<Duration>,
    /// The session of its token, with which the connection ends.
    pub token_session: Option<OpenSession>,
    /// The client does not continue an earlier session.
    pub clean: bool,
    /// Life of the session after the connection.
    pub expiry: Duration,
    /// Seconds without a packet after which the client counts as lost, before the tolerance of one
    /// half.
    pub keepalive: u16,
    /// QoS 1 messages that the client takes at a time.
    pub window: usize,
    /// Largest packet that the client takes.
    pub packet_max: usize,
    /// Reason strings may be sent.
    pub sends_reasons: bool,
    /// Published when the connection ends without a DISCONNECT.
    pub will: Option<Will>,
    connack: ConnAckTerms,
}

/// Terms in CONNACK that differ from those that the client asked for.
#[derive(Debug, Clone, Default)]
struct ConnAckTerms {
    client_id: Option<String>,
    keepalive: Option<u16>,
    expiry: Option<u32>,
}

/// A transaction that the client signed for the case that it disappears.
#[derive(Debug, Clone)]
pub struct Will {
    /// The signed transaction.
    pub submitted: SubmittedBytes,
    /// Time until it is submitted, if the client does not come back before.
    pub delay: Duration,
}

/// Why a CONNECT was refused. The client gets the code, the log the reason.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct ConnectRefused {
    /// Version and code of the CONNACK; none if the peer does not speak MQTT.
    pub connack: Option<(Version, ConnectReturnCode)>,
    reason: String,
}

impl ConnectRefused {
    fn silent(reason: impl Into<String>) -> Self {
        Self {
            connack: None,
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
            connack: Some((version, code)),
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

type ConnectParts = (
    Connect,
    Option<ConnectProperties>,
    Option<LastWill>,
    Option<LastWillProperties>,
    Option<Credentials>,
);

/// Code and reason of a refusal.
type ConnectRefusal = (ConnectReturnCode, String);

fn refusal<T>(code: ConnectReturnCode, reason: &str) -> Result<T, ConnectRefusal> {
    Err((code, reason.to_owned()))
}

/// Reads CONNECT and authenticates the client. `peer` is the key of the TLS client certificate.
pub async fn receive(
    shared: &Shared,
    stream: &mut (impl AsyncRead + Unpin),
    rx: &mut BytesMut,
    peer: Option<PublicKey>,
) -> Result<ConnectInfo, ConnectRefused> {
    let (version, parts) = read(stream, rx).await?;
    check(shared, version, parts, peer)
        .map_err(|(code, reason)| ConnectRefused::with(version, code, reason))
}

fn check(
    shared: &Shared,
    version: Version,
    parts: ConnectParts,
    peer: Option<PublicKey>,
) -> Result<ConnectInfo, ConnectRefusal> {
    let (connect, properties, will, will_properties, credentials) = parts;
    let id = &connect.client_id;
    if version == Version::V4 && id.is_empty() && !connect.clean_session {
        // MQTT-3.1.3-8: a session that is to be kept needs a name.
        let code = ConnectReturnCode::ClientIdentifierNotValid;
        return refusal(code, "a session without client id");
    }
    let login = match peer {
        Some(key) => by_certificate(shared, key, credentials)?,
        None => by_token(shared, credentials)?,
    };
    // An empty id asks the server for one, and an account has only one.
    if !id.is_empty() && *id != login.account.account.as_str() {
        let reason = format!("client id is not the account `{}`", login.account.account);
        return Err((ConnectReturnCode::ClientIdentifierNotValid, reason));
    }
    let will = match will {
        Some(will) => Some(check_will(shared, &login.account, will, will_properties)?),
        None => None,
    };
    Ok(terms(
        version,
        login,
        connect,
        properties.as_ref(),
        will,
        &shared.config,
    ))
}

async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    rx: &mut BytesMut,
) -> Result<(Version, ConnectParts), ConnectRefused> {
    let header = loop {
        let header = codec::header(rx).map_err(|e| ConnectRefused::silent(e.to_string()))?;
        if let Some(header) = header {
            if header.first != 0x10 || header.body > CONNECT_BYTES {
                return Err(ConnectRefused::silent(
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
            .map_err(|e| ConnectRefused::silent(e.to_string()))?;
        if read == 0 {
            return Err(ConnectRefused::silent("closed before CONNECT"));
        }
    };
    let mut frame = rx.split_to(header.start + header.body);
    let version = version(&frame[header.start..])?;
    if version == Version::V5 {
        codec::check_connect(header, &frame).map_err(|error| {
            let code = match error {
                CodecError::Authentication => ConnectReturnCode::BadAuthenticationMethod,
                CodecError::NotAllowed => ConnectReturnCode::ProtocolError,
                _ => ConnectReturnCode::MalformedPacket,
            };
            ConnectRefused::with(version, code, error.to_string())
        })?;
    }
    match codec::read(version, &mut frame) {
        Ok(Packet::Connect(connect, properties, will, will_properties, login)) => {
            Ok((version, (connect, properties, will, will_properties, login)))
        }
        _ => Err(ConnectRefused::with(
            version,
            ConnectReturnCode::MalformedPacket,
            "malformed CONNECT",
        )),
    }
}

fn version(body: &[u8]) -> Result<Version, ConnectRefused> {
    let mut body = body;
    let unsupported = |reason: &str| {
        let code = ConnectReturnCode::UnsupportedProtocolVersion;
        Err(ConnectRefused::with(Version::V4, code, reason))
    };
    // MQTT 3.1 had another name. Its clients get an answer, so that they do not try for ever.
    if body.starts_with(b"\0\x06MQIsdp") {
        return unsupported("MQTT 3.1");
    }
    if body.len() < 8 || body[..6] != *b"\0\x04MQTT" {
        return Err(ConnectRefused::silent("not MQTT 3.1.1 or 5"));
    }
    body.advance(6);
    let version = match body[0] {
        4 => Version::V4,
        5 => Version::V5,
        _ => return unsupported("unknown protocol level"),
    };
    if body[1] & 1 != 0 {
        return Err(ConnectRefused::silent("reserved CONNECT flag is set"));
    }
    Ok(version)
}

/// The account of a client with a certificate.
fn by_certificate(
    shared: &Shared,
    key: PublicKey,
    credentials: Option<Credentials>,
) -> Result<Login, ConnectRefusal> {
    use ConnectReturnCode as Code;
    let Some(account) = shared.accounts.by_key(&key) else {
        return refusal(Code::NotAuthorized, "key is not registered");
    };
    let name = credentials.map_or(String::new(), |c| c.username);
    if !name.is_empty() && name != account.account.as_str() {
        let reason = "user name is not the account of the certificate";
        return refusal(Code::BadUserNamePassword, reason);
    }
    shared.remember_certificate(&account);
    Ok(Login {
        account,
        key,
        valid_for: None,
        token_session: None,
    })
}

/// The account of a client without a certificate: user name and token.
fn by_token(shared: &Shared, credentials: Option<Credentials>) -> Result<Login, ConnectRefusal> {
    use ConnectReturnCode as Code;
    let Some(credentials) = credentials else {
        return refusal(Code::NotAuthorized, "neither certificate nor token");
    };
    let token = credentials.password.as_bytes();
    let login = shared.accounts.by_token(&credentials.username, token);
    let login = login.map_err(|error| (Code::BadUserNamePassword, error.to_string()))?;
    if shared.certified.contains(&login.account.account) {
        let reason = "this gateway connects with its certificate";
        return refusal(Code::NotAuthorized, reason);
    }
    Ok(login)
}

fn check_will(
    shared: &Shared,
    account: &Account,
    will: LastWill,
    properties: Option<LastWillProperties>,
) -> Result<Will, ConnectRefusal> {
    use ConnectReturnCode as Code;
    let refuse = |code, reason: &str| {
        shared.counters.forbidden.add(1);
        refusal(code, reason)
    };
    if will.retain {
        return refuse(Code::RetainNotSupported, "only the node retains messages");
    }
    match topics::inbound(account, &will.topic) {
        Ok(Inbound::Transaction) => {}
        Err(TopicError::Malformed) => return refuse(Code::TopicNameInvalid, "topic of the will"),
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
    let Some(encoding) = encoding(content_type.as_deref()) else {
        return refuse(Code::PayloadFormatInvalid, "content type of the will");
    };
    let payload: Bytes = will.message;
    if payload.is_empty() {
        return refuse(Code::PayloadFormatInvalid, "empty will");
    }
    Ok(Will {
        submitted: SubmittedBytes { encoding, payload },
        delay: Duration::from_secs(delay.into()),
    })
}

fn terms(
    version: Version,
    login: Login,
    connect: Connect,
    properties: Option<&ConnectProperties>,
    will: Option<Will>,
    config: &MqttConfig,
) -> ConnectInfo {
    let most = u32::try_from(config.session_time.as_secs()).unwrap_or(u32::MAX);
    let wanted = match version {
        Version::V4 if connect.clean_session => 0,
        Version::V4 => most,
        Version::V5 => properties
            .and_then(|p| p.session_expiry_interval)
            .unwrap_or(0),
    };
    let expiry = wanted.min(most);
    let keepalive = match (version, connect.keep_alive) {
        (_, 0) => config.keepalive_default,
        (Version::V5, asked) => asked.min(config.keepalive_max),
        (Version::V4, asked) => asked,
    };
    let window = properties
        .and_then(|p| p.receive_maximum)
        .map_or(SEND_MAX, usize::from);
    let packet_max = properties
        .and_then(|p| p.max_packet_size)
        .map(|max| max as usize);
    let connack = ConnAckTerms {
        client_id: connect
            .client_id
            .is_empty()
            .then(|| login.account.account.to_string()),
        keepalive: (keepalive != connect.keep_alive).then_some(keepalive),
        expiry: (expiry != wanted).then_some(expiry),
    };
    ConnectInfo {
        version,
        account: login.account,
        key: login.key,
        valid_for: login.valid_for,
        token_session: login.token_session,
        clean: connect.clean_session,
        expiry: Duration::from_secs(expiry.into()),
        keepalive,
        window: window.clamp(1, SEND_MAX),
        packet_max: packet_max.unwrap_or(usize::MAX),
        sends_reasons: properties.and_then(|p| p.request_problem_info) != Some(0),
        will,
        connack,
    }
}

impl ConnectInfo {
    /// Resolves when somebody ends the session of the client's token.
    pub async fn session_end(&self) {
        match &self.token_session {
            Some(session) => session.ended().await,
            None => std::future::pending().await,
        }
    }

    /// True if somebody has ended the session of the client's token.
    pub fn session_has_ended(&self) -> bool {
        let session = self.token_session.as_ref();
        session.is_some_and(OpenSession::has_ended)
    }

    /// The CONNACK that accepts these terms.
    pub fn accept(&self, session_present: bool) -> Packet {
        let ack = ConnAck {
            session_present,
            code: ConnectReturnCode::Success,
        };
        let properties = ConnAckProperties {
            session_expiry_interval: self.connack.expiry,
            receive_max: Some(RECEIVE_MAX),
            max_packet_size: Some(PACKET_BYTES as u32),
            assigned_client_identifier: self.connack.client_id.clone(),
            retain_available: Some(0),
            topic_alias_max: Some(0),
            subscription_identifiers_available: Some(0),
            shared_subscription_available: Some(0),
            server_keep_alive: self.connack.keepalive,
            ..ConnAckProperties::default()
        };
        Packet::ConnAck(ack, Some(properties))
    }
}

/// The CONNACK that refuses.
pub fn connack_refusal(code: ConnectReturnCode) -> Packet {
    Packet::ConnAck(
        ConnAck {
            session_present: false,
            code,
        },
        None,
    )
}
