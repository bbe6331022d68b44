//! One connected client, one task. Everything that can happen to it is waited for in one place,
//! and nothing is done while it does not read: so a client can only ever delay itself.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::FutureExt;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use rumqttd::protocol::{Disconnect, Packet};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::Shared;
use super::backend::SyncReason;
use super::connect::Hello;
use super::ending::Ending;
use super::intake::{self, Answer, Patience, Verdict};
use super::limits::{FAREWELL_TIME, RECEIVE_MAX, WRITE_BYTES};
use super::link::{Delivery, Link};
use super::seat::{Item, Orders, Seat};
use super::topics::Interest;
use super::wire::{self, Received};

/// Bytes that are read at a time; an idle connection keeps no more.
const READ_BYTES: usize = 4 * 1024;

/// A QoS 1 message that the client has not acknowledged.
pub(super) struct Unacknowledged {
    pub id: u16,
    pub origin: Origin,
}

/// Where an unacknowledged message came from.
pub(super) enum Origin {
    Mailbox(Item),
    Router(u16),
}

enum Woken {
    Read,
    Answered(Answer),
    Message(Option<Delivery>),
    Other,
}

/// See the module.
pub struct Connection<S> {
    pub(super) shared: Arc<Shared>,
    pub(super) stream: S,
    pub(super) rx: BytesMut,
    pub(super) tx: BytesMut,
    pub(super) hello: Hello,
    pub(super) seat: Arc<Seat>,
    pub(super) link: Option<Link>,
    pub(super) unacknowledged: VecDeque<Unacknowledged>,
    pub(super) last_id: u16,
    pub(super) answers: FuturesOrdered<BoxFuture<'static, Answer>>,
    pub(super) expiry_override: Option<Duration>,
    pub(super) resumed: bool,
    greeted: bool,
    arrival: u64,
    orders: watch::Receiver<Orders>,
    heard: Instant,
    /// What is in `rx` is not a whole packet: only the client can bring more.
    drained: bool,
    paused_until: Option<Instant>,
    ends: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// A connection whose CONNECT was accepted and whose seat is free.
    pub fn new(
        shared: Arc<Shared>,
        stream: S,
        rx: BytesMut,
        hello: Hello,
        seat: Arc<Seat>,
        arrival: u64,
    ) -> Self {
        let now = Instant::now();
        Self {
            orders: seat.orders(),
            ends: hello.valid_for.map(|time| now + time),
            tx: BytesMut::new(),
            link: None,
            unacknowledged: VecDeque::new(),
            last_id: 0,
            answers: FuturesOrdered::new(),
            expiry_override: None,
            resumed: false,
            greeted: false,
            heard: now,
            drained: false,
            paused_until: None,
            shared,
            stream,
            rx,
            hello,
            seat,
            arrival,
        }
    }

    /// Serves the client until the end.
    pub async fn run(mut self) {
        let ending = match self.serve().await {
            Ok(never) => match never {},
            Err(ending) => ending,
        };
        self.finish(ending).await;
    }

    async fn serve(&mut self) -> Result<Infallible, Ending> {
        self.obey()?;
        self.greet().await?;
        loop {
            let full = self.read_packets().await?;
            let more = self.pump();
            self.flush().await?;
            if full || more {
                self.obey()?;
                continue;
            }
            match self.wait().await? {
                Woken::Read | Woken::Other => {}
                Woken::Answered(answer) => self.answer_all(answer)?,
                Woken::Message(delivery) => self.forward_all(delivery)?,
            }
            self.obey()?;
        }
    }

    async fn greet(&mut self) -> Result<(), Ending> {
        let Hello {
            key, clean, expiry, ..
        } = self.hello;
        self.resumed = self.seat.begin(key, clean, expiry);
        let accept = self.hello.accept(self.resumed);
        wire::write(self.hello.version, accept, &mut self.tx);
        self.greeted = true;
        self.reroute().await?;
        if self
            .seat
            .with_session(|session| session.subscriptions.wants(Interest::Work))
        {
            self.ask_for_work();
        }
        Ok(())
    }

    /// The ledger is the queue of work: it is asked whenever a gateway begins to listen.
    pub(super) fn ask_for_work(&mut self) {
        let (shared, seat) = (Arc::clone(&self.shared), Arc::clone(&self.seat));
        let asked = intake::work(shared, seat, SyncReason::Listens, Patience::Some);
        self.answers.push_back(
            asked
                .map(|_| Answer {
                    qos: 0,
                    id: 0,
                    verdict: Verdict::Taken,
                })
                .boxed(),
        );
    }

    /// Decodes what was read, as far as the client may go on. True when the output is full.
    async fn read_packets(&mut self) -> Result<bool, Ending> {
        self.drained = false;
        while self.may_read() {
            if self.tx.len() >= WRITE_BYTES {
                return Ok(true);
            }
            let before = self.rx.len();
            let packet = wire::next(self.hello.version, &mut self.rx).map_err(|error| {
                Ending::Violation(error.reason(), "sent a packet that is not allowed")
            })?;
            let Some(packet) = packet else {
                self.drained = true;
                break;
            };
            self.heard = Instant::now();
            let wait = self.seat.charge(before - self.rx.len());
            if !wait.is_zero() {
                self.shared.counters.throttled.add(1);
                self.paused_until = Some(self.heard + wait);
            }
            self.on_packet(packet).await?;
        }
        Ok(false)
    }

    async fn on_packet(&mut self, packet: Received) -> Result<(), Ending> {
        match packet {
            Received::Publish(publication) => self.on_publish(publication),
            Received::PubAck(id) => self.on_puback(id),
            Received::PubRel(id) => self.on_pubrel(id),
            Received::Subscribe {
                id,
                filters,
                identified,
            } => self.on_subscribe(id, filters, identified).await,
            Received::Unsubscribe { id, filters } => self.on_unsubscribe(id, filters).await,
            Received::Ping => {
                let pong = Packet::PingResp(rumqttd::protocol::PingResp);
                wire::write(self.hello.version, pong, &mut self.tx);
                Ok(())
            }
            Received::Disconnect { with_will, expiry } => {
                self.expiry_override = expiry.map(|seconds| Duration::from_secs(seconds.into()));
                Err(Ending::Left { with_will })
            }
        }
    }

    fn may_read(&mut self) -> bool {
        if self
            .paused_until
            .is_some_and(|until| until > Instant::now())
        {
            return false;
        }
        self.paused_until = None;
        self.answers.len() < usize::from(RECEIVE_MAX)
    }

    /// The one place where a connection waits.
    async fn wait(&mut self) -> Result<Woken, Ending> {
        let may_read = self.may_read();
        if may_read && !self.drained {
            // The pause has ended since `read_packets`, which has left whole packets behind.
            return Ok(Woken::Other);
        }
        let may_send = self.unacknowledged.len() < self.hello.window;
        let timer = self.next_deadline(may_read);
        let Self {
            stream,
            rx,
            link,
            answers,
            seat,
            orders,
            shared,
            ..
        } = self;
        if rx.is_empty() && rx.capacity() > READ_BYTES {
            *rx = BytesMut::new();
        }
        if may_read {
            rx.reserve(READ_BYTES);
        }
        let next = async {
            match link {
                Some(link) if may_send => link.next().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            read = stream.read_buf(rx), if may_read => match read {
                Ok(0) => Err(Ending::Lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => Ok(Woken::Read),
                Err(error) => Err(Ending::Lost(error)),
            },
            Some(answer) = answers.next(), if !answers.is_empty() => Ok(Woken::Answered(answer)),
            message = next => message.map(Woken::Message).map_err(Ending::Router),
            () = seat.bell.notified(), if may_send => Ok(Woken::Other),
            _ = orders.changed() => Ok(Woken::Other),
            () = shared.stop.cancelled() => Err(Ending::Stopping),
            () = sleep_until(timer) => self.on_timer(),
        }
    }

    fn next_deadline(&mut self, may_read: bool) -> Instant {
        // Who is not read cannot be heard.
        if !may_read {
            self.heard = Instant::now();
        }
        let mut timer = self.silent_at();
        for other in [self.ends, self.paused_until].into_iter().flatten() {
            timer = timer.min(other);
        }
        timer
    }

    /// One and a half keepalives after the last whole packet.
    fn silent_at(&self) -> Instant {
        self.heard + Duration::from_millis(u64::from(self.hello.keepalive) * 1500)
    }

    fn on_timer(&mut self) -> Result<Woken, Ending> {
        match self.silent_at() <= Instant::now() {
            true => Err(Ending::Silent),
            // The pause is over, or the token: `obey` is next.
            false => Ok(Woken::Other),
        }
    }

    /// Leaves if a newer connection, a revocation or the end of its token says so.
    fn obey(&mut self) -> Result<(), Ending> {
        if self.ends.is_some_and(|ends| ends <= Instant::now()) {
            return Err(Ending::TokenEnded);
        }
        let orders = *self.orders.borrow_and_update();
        match orders {
            Orders { revoked, .. } if revoked >= self.arrival => Err(Ending::Revoked),
            Orders { latest, .. } if latest > self.arrival => Err(Ending::TakenOver),
            _ => Ok(()),
        }
    }

    /// Writes all that is encoded. Nothing else happens meanwhile, except orders to leave.
    async fn flush(&mut self) -> Result<(), Ending> {
        if self.tx.is_empty() {
            return Ok(());
        }
        let pieces = self.tx.len().div_ceil(WRITE_BYTES) as u32;
        let time = self.shared.config.write_time * pieces;
        let Self {
            stream,
            tx,
            orders,
            shared,
            ..
        } = self;
        let write = async {
            stream.write_all_buf(tx).await?;
            stream.flush().await
        };
        tokio::select! {
            biased;
            written = timeout(time, write) => match written {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(Ending::Lost(error)),
                Err(_) => return Err(Ending::Stuck),
            },
            _ = orders.changed() => {
                // Orders always mean somebody has to leave; half a packet may be out.
                self.orders.mark_changed();
                self.tx.clear();
                self.obey()?;
                return Err(Ending::TakenOver);
            }
            () = shared.stop.cancelled() => return Err(Ending::Stopping),
        }
        if self.tx.capacity() > READ_BYTES {
            self.tx = BytesMut::new();
        }
        Ok(())
    }

    async fn finish(mut self, ending: Ending) {
        self.record(&ending);
        // Before its CONNACK a client must not be sent anything else.
        if let Some(reason_code) = ending.reason().filter(|_| self.greeted) {
            let farewell = Packet::Disconnect(Disconnect { reason_code }, None);
            wire::write(self.hello.version, farewell, &mut self.tx);
        }
        let Self { stream, tx, .. } = &mut self;
        let farewell = async {
            if !matches!(ending, Ending::Lost(_) | Ending::Stuck) {
                stream.write_all_buf(tx).await.ok();
            }
            stream.shutdown().await.ok();
        };
        timeout(FAREWELL_TIME, farewell).await.ok();
        if matches!(ending, Ending::Left { .. } | Ending::Lost(_)) {
            self.settle_rest().await;
        }
        let saved = match self.link.take() {
            Some(link) => Some(link.detach().await),
            None => None,
        };
        if let Some(expiry) = self
            .expiry_override
            .filter(|_| !self.hello.expiry.is_zero())
        {
            let most = self.shared.config.session_time;
            self.seat
                .with_session(|session| session.expiry = expiry.min(most));
        }
        let unsent = self
            .unacknowledged
            .into_iter()
            .filter_map(|message| match message.origin {
                Origin::Mailbox(item) => Some(Item {
                    again: true,
                    ..item
                }),
                Origin::Router(_) => None,
            });
        self.seat.end(unsent.collect(), saved);
        let left = self.greeted && ending.leaves_will();
        if let Some(will) = self.hello.will.filter(|_| left) {
            // Nobody else can begin a session before this returns.
            let begun = self.seat.begun();
            let last = super::will::leave(self.shared.clone(), self.seat, begun, will);
            self.shared.tasks.spawn(last);
        }
    }

    /// What was sent before the client left is still handed in: at QoS 0 a client does not wait,
    /// and what is admitted now need not be sent again. A newer connection goes before.
    async fn settle_rest(&mut self) {
        let Self {
            answers,
            orders,
            shared,
            ..
        } = self;
        let rest = async { while answers.next().await.is_some() {} };
        tokio::select! {
            () = rest => {}
            _ = orders.changed() => {}
            () = shared.stop.cancelled() => {}
        }
    }

    fn record(&self, ending: &Ending) {
        let counters = &self.shared.counters;
        match ending {
            Ending::TakenOver => counters.takeovers.add(1),
            Ending::Revoked => counters.revoked.add(1),
            Ending::Violation(..) => counters.violations.add(1),
            Ending::Stuck => counters.write_timeouts.add(1),
            Ending::Silent => counters.keepalive_timeouts.add(1),
            _ => {}
        }
        tracing::debug!(account = self.hello.account.id, %ending, "MQTT connection ended");
    }
}
