//! The application's hello and the opening of the lanes.

use bytes::{Bytes, BytesMut};
use futures::AsyncReadExt;
use futures::io::{ReadHalf, WriteHalf};
use multistream_select::{Version, dialer_select_proto, listener_select_proto};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::{LinkError, cut, text_of};
use crate::frame::{Frame, FrameError, FrameReader, FrameWriter, Kind};
use crate::shared::Shared;
use crate::upgrade::{self, Mux, STREAMS, Stream};
use crate::{Lane, NodeKey};

/// Longest greeting of a service.
pub const GREETING_BYTES_MAX: usize = 1024;

pub(crate) const LINK: &str = "/lamplighter/link/1";
const LINK_FRAME_BYTES_MAX: usize = 4096;
const CHAIN_ID_BYTES: usize = 32;

pub(crate) type LinkReader = FrameReader<ReadHalf<Stream>>;
pub(crate) type LinkWriter = FrameWriter<WriteHalf<Stream>>;

/// A connection that has everything a link needs.
pub(crate) struct Established {
    pub key: NodeKey,
    pub greeting: Bytes,
    pub mux: Mux,
    pub reader: LinkReader,
    pub writer: LinkWriter,
    pub lanes: Vec<(Lane, Stream)>,
}

/// The dialer's part, from the TCP connection on.
pub(crate) async fn dial(
    shared: &Shared,
    tcp: TcpStream,
    key: NodeKey,
) -> Result<Established, LinkError> {
    let (mux, mut streams) = upgrade::outbound(shared, tcp, key).await?;
    let lane_streams = streams.split_off(1);
    let stream = streams.pop().expect("split_off left one stream");
    let stream = dialer_select_proto(stream, [LINK], Version::V1Lazy).await;
    let (_, stream) = stream.map_err(|_hung_up| LinkError::ClosedBeforeHello)?;
    let (mut reader, mut writer) = link_halves(stream);
    let ours = hello(shared, key);
    send(&mut writer, ours)
        .await
        .map_err(|_hung_up| LinkError::ClosedBeforeHello)?;
    let theirs = match reader.next().await {
        Ok(Some(frame)) => frame,
        Err(source) if source.is_violation() => return Err(broken(source)),
        Ok(None) | Err(_) => return Err(LinkError::ClosedBeforeHello),
    };
    let greeting = judge_or_refuse(shared, key, theirs, &mut writer).await?;
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
    Ok(Established {
        key,
        greeting,
        mux,
        reader,
        writer,
        lanes,
    })
}

/// The listener's part, from the TCP connection on.
pub(crate) async fn accept(shared: &Shared, tcp: TcpStream) -> Result<Established, LinkError> {
    let (key, mut mux) = upgrade::inbound(shared, tcp, |key| shared.admit(key)).await?;
    let (reader, writer, greeting, lanes) = match accept_streams(shared, key, &mut mux).await {
        Ok(accepted) => accepted,
        Err(error) => {
            shared.table.note(key, &error);
            return Err(error);
        }
    };
    Ok(Established {
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
    shared: &Shared,
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
    let theirs = reader
        .next()
        .await
        .map_err(broken)?
        .ok_or(LinkError::Closed)?;
    let greeting = judge_or_refuse(shared, key, theirs, &mut writer).await?;
    send(&mut writer, hello(shared, key)).await?;
    let mut lanes: Vec<(Lane, Stream)> = Vec::with_capacity(STREAMS - 1);
    while lanes.len() < STREAMS - 1 {
        // The dialer opens its lanes now, unless it refuses us.
        let stream = tokio::select! {
            stream = next_stream(mux) => stream?,
            answer = reader.next() => return Err(in_place_of_lanes(shared, key, answer)),
        };
        let names = Lane::ALL.map(Lane::protocol);
        let (name, stream) = listener_select_proto(stream, names)
            .await
            .map_err(|source| LinkError::Negotiate {
                protocol: "a lane",
                source,
            })?;
        let lane = Lane::from_protocol(name).expect("one of the offered names");
        if lanes.iter().any(|(known, _)| *known == lane) {
            return Err(LinkError::DuplicateLane(lane));
        }
        lanes.push((lane, stream));
    }
    Ok((reader, writer, greeting, lanes))
}

/// What a frame on the link means before the lanes are open.
fn in_place_of_lanes(
    shared: &Shared,
    key: NodeKey,
    answer: Result<Option<Frame>, FrameError>,
) -> LinkError {
    match answer {
        Ok(Some(frame)) if frame.kind == Kind::Refuse => refused_by(shared, key, &frame),
        Ok(Some(Frame { kind, .. })) => LinkError::UnexpectedFrame { stream: LINK, kind },
        Ok(None) => LinkError::Closed,
        Err(source) => broken(source),
    }
}

fn refused_by(shared: &Shared, key: NodeKey, frame: &Frame) -> LinkError {
    let reason = text_of(&frame.body);
    if key == shared.key {
        return match reason == LinkError::Ourselves.to_string() {
            true => LinkError::Ourselves,
            false => LinkError::KeyInUse,
        };
    }
    shared.service.refused(key, &reason);
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

fn hello(shared: &Shared, to: NodeKey) -> Frame {
    let mut greeting = match to == shared.key {
        true => Bytes::copy_from_slice(&shared.instance),
        false => shared.service.greeting(),
    };
    if greeting.len() > GREETING_BYTES_MAX {
        tracing::error!(
            bytes = greeting.len(),
            GREETING_BYTES_MAX,
            "the greeting is cut"
        );
        greeting.truncate(GREETING_BYTES_MAX);
    }
    let mut body = BytesMut::with_capacity(CHAIN_ID_BYTES + greeting.len());
    body.extend_from_slice(&shared.chain_id);
    body.extend_from_slice(&greeting);
    Frame {
        kind: Kind::Hello,
        id: 0,
        aux: shared.protocol,
        body: body.freeze(),
    }
}

/// The greeting in the peer's hello; or the reason to part, which the peer is told as well.
async fn judge_or_refuse(
    shared: &Shared,
    key: NodeKey,
    theirs: Frame,
    writer: &mut LinkWriter,
) -> Result<Bytes, LinkError> {
    let error = match judge(shared, key, theirs).await {
        Ok(greeting) => return Ok(greeting),
        Err(error) => error,
    };
    if !matches!(error, LinkError::RefusedByPeer(_)) {
        let body = Bytes::copy_from_slice(cut(&refusal_text(&error)).as_bytes());
        let refusal = Frame {
            kind: Kind::Refuse,
            id: 0,
            aux: 0,
            body,
        };
        // The peer may be gone already; the reason for us to part stays the same.
        if let Err(gone) = send(writer, refusal).await {
            tracing::debug!(error = %gone, "a refusal could not be delivered");
        }
    }
    Err(error)
}

/// The reason as the refused peer shall read it.
fn refusal_text(error: &LinkError) -> String {
    match error {
        LinkError::OtherChain { ours, theirs } => format!("it is of chain {ours}, not {theirs}"),
        LinkError::OtherProtocol { ours, theirs } => {
            format!("it speaks protocol version {ours}, not {theirs}")
        }
        LinkError::Greeting { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}

async fn judge(shared: &Shared, key: NodeKey, theirs: Frame) -> Result<Bytes, LinkError> {
    match theirs.kind {
        Kind::Hello => {}
        Kind::Refuse => return Err(refused_by(shared, key, &theirs)),
        kind => return Err(LinkError::UnexpectedFrame { stream: LINK, kind }),
    }
    if theirs.body.len() < CHAIN_ID_BYTES {
        return Err(LinkError::MalformedHello("it has no chain id"));
    }
    if theirs.body.len() > CHAIN_ID_BYTES + GREETING_BYTES_MAX {
        return Err(LinkError::MalformedHello("its greeting is too long"));
    }
    let mut chain = theirs.body;
    let greeting = chain.split_off(CHAIN_ID_BYTES);
    if chain[..] != shared.chain_id {
        let (ours, theirs) = (hex::encode(shared.chain_id), hex::encode(&chain));
        return Err(LinkError::OtherChain { ours, theirs });
    }
    if theirs.aux != shared.protocol {
        return Err(LinkError::OtherProtocol {
            ours: shared.protocol,
            theirs: theirs.aux,
        });
    }
    if key == shared.key {
        return Err(match greeting[..] == shared.instance {
            true => LinkError::Ourselves,
            false => LinkError::KeyInUse,
        });
    }
    let judged = shared.service.judge(key, greeting.clone()).await;
    judged.map_err(|reason| LinkError::Greeting { peer: key, reason })?;
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

/// Bounds a handshake in time.
pub(crate) async fn in_time<T>(
    shared: &Shared,
    handshake: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    let limit = shared.limits.handshake_max;
    match timeout(limit, handshake).await {
        Ok(result) => result,
        Err(_) => Err(LinkError::HandshakeTimeout(limit)),
    }
}
