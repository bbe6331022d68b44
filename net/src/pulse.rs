//! The link stream after the hello: pings, and the goodbye with its reason.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::Limits;
use crate::error::{LinkError, cut, text_of};
use crate::frame::{Frame, FrameError, Kind};
use crate::handshake::{LINK, LinkReader, LinkWriter};
use crate::link::{BYE_MAX, Link};

/// Pongs that wait to be written; a peer that pings faster than it reads gets no more of them.
const PONGS_WAITING_MAX: usize = 8;

/// Every so many pings the lanes are searched for requests that were never answered.
const OVERDUE_EVERY: u64 = 10;

/// What the reading and the writing side know of each other.
struct Pulse {
    link: Arc<Link>,
    limits: Limits,
    heard: Mutex<Instant>,
    pinged: Mutex<(u64, Instant)>,
    pongs: mpsc::Sender<u64>,
}

/// Keeps the link alive and watches it, until it ends; then says goodbye.
pub(crate) async fn run(limits: Limits, link: Arc<Link>, reader: LinkReader, writer: LinkWriter) {
    let now = Instant::now();
    let (pongs, waiting) = mpsc::channel(PONGS_WAITING_MAX);
    let (heard, pinged) = (Mutex::new(now), Mutex::new((0, now)));
    let pulse = Pulse {
        link: link.clone(),
        limits,
        heard,
        pinged,
        pongs,
    };
    // Whichever ends first ends the link, and with it the other one.
    let listen = async {
        if let Some(Err(why)) = link.stop.run_until_cancelled(pulse.listen(reader)).await {
            link.close(why);
        }
    };
    let beat = async {
        // A write fails as soon as the peer is gone, but its goodbye may still be unread.
        if let Err(why) = pulse.beat(writer, waiting).await
            && timeout(BYE_MAX, link.stop.cancelled()).await.is_err()
        {
            link.close(why);
        }
    };
    tokio::join!(listen, beat);
}

impl Pulse {
    async fn listen(&self, mut reader: LinkReader) -> Result<(), LinkError> {
        loop {
            let frame = reader
                .next()
                .await
                .map_err(broken)?
                .ok_or(LinkError::Closed)?;
            *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            match frame.kind {
                Kind::Ping => match self.pongs.try_send(frame.id) {
                    Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
                    Err(mpsc::error::TrySendError::Closed(_)) => return Err(LinkError::Closed),
                },
                Kind::Pong => self.measure(frame.id),
                Kind::Bye => return Err(LinkError::Bye(text_of(&frame.body))),
                kind => return Err(LinkError::UnexpectedFrame { stream: LINK, kind }),
            }
        }
    }

    async fn beat(
        &self,
        mut writer: LinkWriter,
        mut pongs: mpsc::Receiver<u64>,
    ) -> Result<(), LinkError> {
        let mut ticks = interval(self.limits.ping_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0;
        loop {
            let (kind, id) = tokio::select! {
                () = self.link.stop.cancelled() => return self.say_goodbye(writer).await,
                Some(id) = pongs.recv() => (Kind::Pong, id),
                _ = ticks.tick() => {
                    number += 1;
                    if let Err(why) = self.check(number) {
                        self.link.close(why);
                        return self.say_goodbye(writer).await;
                    }
                    let mut pinged = self.pinged.lock().unwrap_or_else(PoisonError::into_inner);
                    *pinged = (number, Instant::now());
                    (Kind::Ping, number)
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
            .heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed();
        if silent > self.limits.silence_max {
            return Err(LinkError::Silent(silent));
        }
        if number.is_multiple_of(OVERDUE_EVERY)
            && let Some(lane) = self.link.overdue_lane()
        {
            return Err(LinkError::NeverAnswered(lane));
        }
        Ok(())
    }

    fn measure(&self, id: u64) {
        let (number, at) = *self.pinged.lock().unwrap_or_else(PoisonError::into_inner);
        if id == number {
            self.link.set_round_trip(at.elapsed());
        }
    }

    async fn say_goodbye(&self, mut writer: LinkWriter) -> Result<(), LinkError> {
        let text = self.link.why().to_string();
        let body = Bytes::copy_from_slice(cut(&text).as_bytes());
        send(
            &mut writer,
            Frame {
                kind: Kind::Bye,
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
