//! The link stream after the handshake: pings, and the close frame with its reason.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::NetLimits;
use crate::error::{LinkError, sanitize, truncate};
use crate::frame::{Frame, FrameError, FrameKind};
use crate::handshake::{LINK, LinkReader, LinkWriter};
use crate::link::{CLOSE_REASON_MAX, PeerLink};

/// Pongs that wait to be written; a peer that pings faster than it reads gets no more.
const PONGS_WAITING_MAX: usize = 8;

/// Pings between two searches for requests that were never answered.
const OVERDUE_CHECK_PINGS: u64 = 10;

/// The state that the reading and the writing side share.
struct Keepalive {
    link: Arc<PeerLink>,
    limits: NetLimits,
    last_received: Mutex<Instant>,
    last_ping: Mutex<(u64, Instant)>,
    pongs: mpsc::Sender<u64>,
}

/// Keeps the link alive and monitors it until it ends; then sends the close frame.
pub(crate) async fn run(
    limits: NetLimits,
    link: Arc<PeerLink>,
    reader: LinkReader,
    writer: LinkWriter,
) {
    let now = Instant::now();
    let (pongs, waiting) = mpsc::channel(PONGS_WAITING_MAX);
    let (last_received, last_ping) = (Mutex::new(now), Mutex::new((0, now)));
    let keepalive = Keepalive {
        link: link.clone(),
        limits,
        last_received,
        last_ping,
        pongs,
    };
    // Whichever ends first ends the link, and with it the other one.
    let reading = async {
        if let Some(Err(reason)) = link.stop.run_until_cancelled(keepalive.read(reader)).await {
            link.close(reason);
        }
    };
    let writing = async {
        // A write fails as soon as the peer disconnects, but its close frame may still be unread.
        if let Err(reason) = keepalive.write(writer, waiting).await
            && timeout(CLOSE_REASON_MAX, link.stop.cancelled())
                .await
                .is_err()
        {
            link.close(reason);
        }
    };
    tokio::join!(reading, writing);
}

impl Keepalive {
    async fn read(&self, mut reader: LinkReader) -> Result<(), LinkError> {
        loop {
            let frame = reader
                .next()
                .await
                .map_err(broken)?
                .ok_or(LinkError::Closed)?;
            *self
                .last_received
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Instant::now();
            match frame.kind {
                FrameKind::Ping => match self.pongs.try_send(frame.id) {
                    Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
                    Err(mpsc::error::TrySendError::Closed(_)) => return Err(LinkError::Closed),
                },
                FrameKind::Pong => self.measure(frame.id),
                FrameKind::Close => return Err(LinkError::ClosedByPeer(sanitize(&frame.body))),
                kind => return Err(LinkError::UnexpectedFrame { stream: LINK, kind }),
            }
        }
    }

    async fn write(
        &self,
        mut writer: LinkWriter,
        mut pongs: mpsc::Receiver<u64>,
    ) -> Result<(), LinkError> {
        let mut ticks = interval(self.limits.ping_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0;
        loop {
            let (kind, id) = tokio::select! {
                () = self.link.stop.cancelled() => return self.send_close(writer).await,
                Some(id) = pongs.recv() => (FrameKind::Pong, id),
                _ = ticks.tick() => {
                    number += 1;
                    if let Err(reason) = self.check(number) {
                        self.link.close(reason);
                        return self.send_close(writer).await;
                    }
                    let last_ping = self.last_ping.lock();
                    let mut last_ping = last_ping.unwrap_or_else(PoisonError::into_inner);
                    *last_ping = (number, Instant::now());
                    (FrameKind::Ping, number)
                }
            };
            send(
                &mut writer,
                Frame {
                    kind,
                    id,
                    aux: 0,
                    body: Bytes::new(),
                },
            )
            .await?;
        }
    }

    fn check(&self, number: u64) -> Result<(), LinkError> {
        let silent = self
            .last_received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed();
        if silent > self.limits.silence_max {
            return Err(LinkError::Silent(silent));
        }
        if number.is_multiple_of(OVERDUE_CHECK_PINGS)
            && let Some(lane) = self.link.overdue_lane()
        {
            return Err(LinkError::NeverAnswered(lane));
        }
        Ok(())
    }

    fn measure(&self, id: u64) {
        let (number, at) = *self
            .last_ping
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if id == number {
            self.link.set_round_trip(at.elapsed());
        }
    }

    async fn send_close(&self, mut writer: LinkWriter) -> Result<(), LinkError> {
        let text = self.link.close_reason().to_string();
        let body = Bytes::copy_from_slice(truncate(&text).as_bytes());
        send(
            &mut writer,
            Frame {
                kind: FrameKind::Close,
                id: 0,
                aux: 0,
                body,
            },
        )
        .await
    }
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
