//! The handshake on the link stream, and the opening of the lanes.

use bytes::{Bytes, BytesMut};
use futures::AsyncReadExt;
use futures::io::{ReadHalf, WriteHalf};
use multistream_select::{Version, dialer_select_proto, listener_select_proto};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::{LinkError, sanitize, truncate};
use crate::frame::{Frame, FrameError, FrameKind, FrameReader, FrameWriter};
use crate::network_state::NetworkState;
use crate::upgrade::{self, Mux, STREAMS, Stream};
use crate::{Lane, NodeKey};

/// Bytes of a service's greeting.
pub const GREETING_BYTES_MAX: usize = 1024;

pub(crate) const LINK: &str = "/lamplighter/link/1";
const LINK_FRAME_BYTES_MAX: usize = 4096;
const CHAIN_ID_BYTES: usize = 32;

pub(crate) type LinkReader = FrameReader<ReadHalf<Stream>>;
pub(crate) type LinkWriter = FrameWriter<WriteHalf<Stream>>;

/// A connection that finished its handshake.
pub(crate) struct EstablishedConnection {
    pub key: NodeKey,
    pub greeting: Bytes,
    pub mux: Mux,
    pub reader: LinkReader,
    pub writer: LinkWriter,
    pub lanes: Vec<(Lane, Stream)>,
}

/// The dialer's side of the handshake, from the TCP connection on.
pub(crate) async fn dial(
    state: &NetworkState,
    tcp: TcpStream,
    key: NodeKey,
) -> Result<EstablishedConnection, LinkError> {
    let (mux, mut streams) = upgrade::outbound(state, tcp, key).await?;
    let lane_streams = streams.split_off(1);
    let stream = streams.pop().expect("split_off left one stream");
    let stream = dialer_select_proto(stream, [LINK], Version::V1Lazy).await;
    let (_, stream) = stream.map_err(|_closed| LinkError::ClosedBeforeHandshake)?;
    let (mut reader, mut writer) = link_halves(stream);
    send(&mut writer, handshake_frame(state, key))
        .await
        .map_err(|_closed| LinkError::ClosedBeforeHandshake)?;
    let remote = match reader.next().await {
        Ok(Some(frame)) => frame,
        Err(source) if source.is_violation() => return Err(broken(source)),
        Ok(None) | Err(_) => return Err(LinkError::ClosedBeforeHandshake),
    };
    let greeting = verify_or_refuse(state, key, remote, &mut writer).await?;
    let opening = Lane::ALL
        .into_iter()
        .zip(lane_streams)
        .map(|(lane, stream)| async move {
            let stream = dialer_select_proto(stream, [lane.protocol()], Version::V1).await;
            let negotiate = |source| LinkError::Negotiate {
                protocol: lane.protocol(),
                source,
            };
            Ok::<_, LinkError>((lane, stream.map_err(negotiate)?.1))
        });
    let lanes = futures::future::try_join_all(opening).await?;
    Ok(EstablishedConnection {
        key,
        greeting,
        mux,
        reader,
        writer,
        lanes,
    })
}

/// The listener's side of the handshake, from the TCP connection on.
pub(crate) async fn accept(
    state: &NetworkState,
    tcp: TcpStream,
) -> Result<EstablishedConnection, LinkError> {
    let (key, mut mux) = upgrade::inbound(state, tcp, |key| state.admit(key)).await?;
    let (reader, writer, greeting, lanes) = match accept_streams(state, key, &mut mux).await {
        Ok(accepted) => accepted,
        Err(error) => {
            state.table.record_error(key, &error);
            return Err(error);
        }
    };
    Ok(EstablishedConnection {
        key,
        greeting,
        mux,
        reader,
        writer,
        lanes,
    })
}

type Accepted = (LinkReader, LinkWriter, Bytes, Vec<(Lane, Stream)>);

async fn accept_streams(
    state: &NetworkState,
    key: NodeKey,
    mux: &mut Mux,
) -> Result<Accepted, LinkError> {
    let stream = next_stream(mux).await?;
    let stream = listener_select_proto(stream, [LINK]).await;
    let (_, stream) = stream.map_err(|source| LinkError::Negotiate {
        protocol: LINK,
        source,
    })?;
    let (mut reader, mut writer) = link_halves(stream);
    let remote = reader
        .next()
        .await
        .map_err(broken)?
        .ok_or(LinkError::Closed)?;
    let greeting = verify_or_refuse(state, key, remote, &mut writer).await?;
    send(&mut writer, handshake_frame(state, key)).await?;
    let mut lanes: Vec<(Lane, Stream)> = Vec::with_capacity(STREAMS - 1);
    while lanes.len() < STREAMS - 1 {
        // The dialer opens its lanes now, unless it refuses this node.
        let stream = tokio::select! {
            stream = next_stream(mux) => stream?,
            frame = reader.next() => return Err(frame_before_lanes(state, key, frame)),
        };
        let names = Lane::ALL.map(Lane::protocol);
        let (name, stream) = listener_select_proto(stream, names)
            .await
            .map_err(|source| LinkError::Negotiate {
                protocol: "a lane",
                source,
            })?;
        let lane = Lane::from_protocol(name).expect("one of the offered names");
        if lanes.iter().any(|(opened, _)| *opened == lane) {
            return Err(LinkError::DuplicateLane(lane));
        }
        lanes.push((lane, stream));
    }
    Ok((reader, writer, greeting, lanes))
}

/// The error that a frame on the link means before the lanes are open.
fn frame_before_lanes(
    state: &NetworkState,
    key: NodeKey,
    frame: Result<Option<Frame>, FrameError>,
) -> LinkError {
    match frame {
        Ok(Some(frame)) if frame.kind == FrameKind::Refuse => refused_by(state, key, &frame),
        Ok(Some(Frame { kind, .. })) => LinkError::UnexpectedFrame { stream: LINK, kind },
        Ok(None) => LinkError::Closed,
        Err(source) => broken(source),
    }
}

fn refused_by(state: &NetworkState, key: NodeKey, frame: &Frame) -> LinkError {
    let reason = sanitize(&frame.body);
    if key == state.key {
        return if reason == LinkError::SelfConnection.to_string() {
            LinkError::SelfConnection
        } else {
            LinkError::KeyInUse
        };
    }
    state.service.on_refused(key, &reason);
    LinkError::RefusedByPeer(reason)
}

async fn next_stream(mux: &mut Mux) -> Result<yamux::Stream, LinkError> {
    match mux.inbound.recv().await {
        Some(stream) => Ok(stream),
        None => Err((&mut mux.ended).await.unwrap_or(LinkError::Closed)),
    }
}

fn link_halves(stream: Stream) -> (LinkReader, LinkWriter) {
    let (read_half, write_half) = stream.split();
    (
        FrameReader::new(read_half, LINK_FRAME_BYTES_MAX),
        FrameWriter::new(write_half),
    )
}

fn handshake_frame(state: &NetworkState, to: NodeKey) -> Frame {
    let mut greeting = if to == state.key {
        Bytes::copy_from_slice(&state.instance)
    } else {
        state.service.greeting()
    };
    if greeting.len() > GREETING_BYTES_MAX {
        tracing::error!(
            bytes = greeting.len(),
            GREETING_BYTES_MAX,
            "the greeting is truncated"
        );
        greeting.truncate(GREETING_BYTES_MAX);
    }
    let mut body = BytesMut::with_capacity(CHAIN_ID_BYTES + greeting.len());
    body.extend_from_slice(&state.chain_id);
    body.extend_from_slice(&greeting);
    Frame {
        kind: FrameKind::Handshake,
        id: 0,
        aux: state.protocol,
        body: body.freeze(),
    }
}

/// Verifies the peer's handshake and returns its greeting. A reason to refuse the peer is also sent
/// to it.
async fn verify_or_refuse(
    state: &NetworkState,
    key: NodeKey,
    remote: Frame,
    writer: &mut LinkWriter,
) -> Result<Bytes, LinkError> {
    let error = match verify(state, key, remote).await {
        Ok(greeting) => return Ok(greeting),
        Err(error) => error,
    };
    if !matches!(error, LinkError::RefusedByPeer(_)) {
        let body = Bytes::copy_from_slice(truncate(&refusal_text(&error)).as_bytes());
        let refusal = Frame {
            kind: FrameKind::Refuse,
            id: 0,
            aux: 0,
            body,
        };
        // The peer may have disconnected already; the reason stays the same.
        if let Err(unsent) = send(writer, refusal).await {
            tracing::debug!(error = %unsent, "a refusal could not be delivered");
        }
    }
    Err(error)
}

/// The reason of a refusal from the refused peer's point of view.
fn refusal_text(error: &LinkError) -> String {
    match error {
        LinkError::OtherChain { local, remote } => format!("it is of chain {local}, not {remote}"),
        LinkError::OtherProtocol { local, remote } => {
            format!("it speaks protocol version {local}, not {remote}")
        }
        LinkError::Greeting { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}

async fn verify(state: &NetworkState, key: NodeKey, remote: Frame) -> Result<Bytes, LinkError> {
    match remote.kind {
        FrameKind::Handshake => {}
        FrameKind::Refuse => return Err(refused_by(state, key, &remote)),
        kind => return Err(LinkError::UnexpectedFrame { stream: LINK, kind }),
    }
    if remote.body.len() < CHAIN_ID_BYTES {
        return Err(LinkError::MalformedHandshake("it has no chain id"));
    }
    if remote.body.len() > CHAIN_ID_BYTES + GREETING_BYTES_MAX {
        return Err(LinkError::MalformedHandshake("its greeting is too long"));
    }
    let mut chain_id = remote.body;
    let greeting = chain_id.split_off(CHAIN_ID_BYTES);
    if chain_id[..] != state.chain_id {
        let (local, remote) = (hex::encode(state.chain_id), hex::encode(&chain_id));
        return Err(LinkError::OtherChain { local, remote });
    }
    if remote.aux != state.protocol {
        return Err(LinkError::OtherProtocol {
            local: state.protocol,
            remote: remote.aux,
        });
    }
    if key == state.key {
        return Err(if greeting[..] == state.instance {
            LinkError::SelfConnection
        } else {
            LinkError::KeyInUse
        });
    }
    let verified = state.service.verify_greeting(key, greeting.clone()).await;
    verified.map_err(|reason| LinkError::Greeting { peer: key, reason })?;
    Ok(greeting)
}

async fn send(writer: &mut LinkWriter, frame: Frame) -> Result<(), LinkError> {
    writer.push(&frame).await.map_err(broken)?;
    writer.flush().await.map_err(broken)
}

fn broken(source: FrameError) -> LinkError {
    LinkError::Stream {
        stream: LINK,
        source,
    }
}

/// Ends a handshake after its timeout.
pub(crate) async fn with_timeout<T>(
    state: &NetworkState,
    handshake: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    let limit = state.limits.handshake_max;
    match timeout(limit, handshake).await {
        Ok(result) => result,
        Err(_) => Err(LinkError::HandshakeTimeout(limit)),
    }
}
