//! One connected client, served by one task. The task waits for everything in one place, and does
//! nothing else while it writes, so that a client delays only itself.

mod close_reason;
pub mod handshake;
mod receive;
mod send;
mod streams;
mod will;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::FutureExt;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use rumqttd::protocol::{Disconnect, Packet, PingResp};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::Shared;
use super::codec::{self, Message, ReceivedPacket};
use super::limits::{CLOSE_TIME, RECEIVE_MAX, WRITE_BYTES};
use super::session::{AccountSession, ControlSignal, QueuedMessage};
use super::submit::{self, BusyPolicy, PublishOutcome, WorkRequest};
use super::topics::Interest;
use close_reason::CloseReason;
use handshake::ConnectInfo;
use receive::Acknowledgement;
use send::Outgoing;
use streams::Streams;

/// Bytes that are read at a time; an idle connection keeps no more.
const READ_BYTES: usize = 4 * 1024;

/// The event that ended the wait of a connection.
enum Wakeup {
    Read,
    Acknowledge(Acknowledgement),
    Message(Message),
    Other,
}

/// See the module.
pub struct Connection<S> {
    shared: Arc<Shared>,

    // The account, which this connection holds until its end.
    session: Arc<AccountSession>,
    info: ConnectInfo,
    /// Number of the connection among those of its account.
    number: u64,
    control: watch::Receiver<ControlSignal>,
    token_expires_at: Option<Instant>,

    // From the client.
    stream: S,
    received: BytesMut,
    /// `received` holds no whole packet: only the client can bring more.
    drained: bool,
    /// When the client last proved to be alive: by a whole packet, or a part of one.
    last_received_at: Instant,
    /// Since when `received` has a part of a packet.
    packet_began_at: Option<Instant>,
    paused_until: Option<Instant>,
    /// Session expiry that came with DISCONNECT.
    expiry_override: Option<Duration>,

    // To the client.
    out: Outgoing,
    /// CONNACK is sent.
    accepted: bool,
    /// Acknowledgements of publications, in the order of the publications.
    acknowledgements: FuturesOrdered<BoxFuture<'static, Acknowledgement>>,
    streams: Streams,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// A connection whose CONNECT was accepted and that holds its account.
    pub fn new(
        shared: Arc<Shared>,
        stream: S,
        received: BytesMut,
        info: ConnectInfo,
        session: Arc<AccountSession>,
        number: u64,
    ) -> Self {
        let now = Instant::now();
        let counters = Arc::clone(&shared.counters);
        Self {
            control: session.control(),
            token_expires_at: info.valid_for.map(|time| now + time),
            out: Outgoing::new(info.version, info.window, info.packet_max, counters),
            acknowledgements: FuturesOrdered::new(),
            streams: Streams::default(),
            expiry_override: None,
            accepted: false,
            last_received_at: now,
            packet_began_at: None,
            drained: false,
            paused_until: None,
            shared,
            stream,
            received,
            info,
            session,
            number,
        }
    }

    /// Serves the client until the end.
    pub async fn run(mut self) {
        let reason = match self.serve().await {
            Ok(never) => match never {},
            Err(reason) => reason,
        };
        self.finish(reason).await;
    }

    async fn serve(&mut self) -> Result<Infallible, CloseReason> {
        self.check_control()?;
        self.accept();
        loop {
            let full = self.read_packets()?;
            let more = self.send_waiting()?;
            self.flush().await?;
            if full || more {
                self.check_control()?;
                continue;
            }
            match self.wait().await? {
                Wakeup::Read | Wakeup::Other => {}
                Wakeup::Acknowledge(first) => self.acknowledge_all(first)?,
                Wakeup::Message(message) => self.send(message),
            }
            self.check_control()?;
        }
    }

    fn accept(&mut self) {
        let ConnectInfo {
            key, clean, expiry, ..
        } = self.info;
        let resumed = self.session.begin(key, clean, expiry);
        self.out.packet(self.info.accept(resumed));
        self.accepted = true;
        self.update_streams();
        self.streams.repeat_head();
        if self
            .session
            .with_session(|session| session.subscriptions.has(Interest::Work))
        {
            self.request_work();
        }
    }

    fn update_streams(&mut self) {
        let (account, session) = (&self.info.account, &self.session);
        self.streams.update(&self.shared, account, session);
    }

    /// Requests the gateway's work. The ledger is the queue of work: it is asked whenever a gateway
    /// subscribes.
    fn request_work(&mut self) {
        let (shared, session) = (Arc::clone(&self.shared), Arc::clone(&self.session));
        let request = submit::work(shared, session, WorkRequest::Subscribed, BusyPolicy::Retry);
        let no_answer = Acknowledgement {
            qos: 0,
            id: 0,
            outcome: PublishOutcome::Accepted,
        };
        self.acknowledgements
            .push_back(request.map(|_| no_answer).boxed());
    }

    /// Decodes what was read, as far as the client may go on. True when the output is full.
    fn read_packets(&mut self) -> Result<bool, CloseReason> {
        self.drained = false;
        while self.may_read() {
            if self.out.is_full() {
                return Ok(true);
            }
            let before = self.received.len();
            let packet = codec::next(self.info.version, &mut self.received).map_err(|error| {
                CloseReason::Violation(error.reason(), "sent a packet that is not allowed")
            })?;
            let now = Instant::now();
            let Some(packet) = packet else {
                self.drained = true;
                let is_part = !self.received.is_empty();
                self.packet_began_at = is_part.then(|| self.packet_began_at.unwrap_or(now));
                break;
            };
            self.packet_began_at = None;
            self.last_received_at = now;
            let wait = self.session.charge(before - self.received.len());
            if !wait.is_zero() {
                self.shared.counters.throttled.add(1);
                self.paused_until = Some(now + wait);
            }
            self.on_packet(packet)?;
        }
        Ok(false)
    }

    fn on_packet(&mut self, packet: ReceivedPacket) -> Result<(), CloseReason> {
        match packet {
            ReceivedPacket::Publish(publication) => self.on_publish(publication),
            ReceivedPacket::PubAck(id) => self.on_puback(id),
            ReceivedPacket::PubRel(id) => self.on_pubrel(id),
            ReceivedPacket::Subscribe {
                id,
                filters,
                has_identifier,
            } => self.on_subscribe(id, &filters, has_identifier),
            ReceivedPacket::Unsubscribe { id, filters } => self.on_unsubscribe(id, &filters),
            ReceivedPacket::Ping => {
                self.out.packet(Packet::PingResp(PingResp));
                Ok(())
            }
            ReceivedPacket::Disconnect { with_will, expiry } => {
                self.expiry_override = expiry.map(|seconds| Duration::from_secs(seconds.into()));
                Err(CloseReason::Disconnected { with_will })
            }
        }
    }

    fn may_read(&mut self) -> bool {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| until > now) {
            return false;
        }
        self.paused_until = None;
        self.acknowledgements.len() < usize::from(RECEIVE_MAX)
    }

    /// Encodes messages that are ready: the mailbox first, then the streams. True when more could
    /// be sent after a write.
    fn send_waiting(&mut self) -> Result<bool, CloseReason> {
        while self.out.has_window() {
            if self.out.is_full() {
                return Ok(true);
            }
            if let Some(queued) = self.session.next_message() {
                self.out.message(queued);
                continue;
            }
            match self.streams.next().now_or_never() {
                Some(message) => self.send(message),
                None => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Encodes a message of a stream, if a filter of the session matches.
    fn send(&mut self, message: Message) {
        let granted = self
            .session
            .with_session(|session| session.subscriptions.qos_of(&message.topic));
        if let Some(qos) = granted {
            // The retained head is part of the answer to SUBSCRIBE, and does not wait for the
            // window.
            let qos = if message.retained { 0 } else { qos };
            self.out.message(QueuedMessage::new(message, qos));
        }
    }

    /// The one place where a connection waits.
    async fn wait(&mut self) -> Result<Wakeup, CloseReason> {
        let may_read = self.may_read();
        if may_read && !self.drained {
            // The pause has ended since `read_packets`, which has left whole packets behind.
            return Ok(Wakeup::Other);
        }
        let may_send = self.out.has_window();
        let timer = self.next_deadline(may_read);
        let Self {
            stream,
            received,
            acknowledgements,
            streams,
            session,
            control,
            shared,
            last_received_at,
            info,
            ..
        } = self;
        if received.is_empty() && received.capacity() > READ_BYTES {
            *received = BytesMut::new();
        }
        if may_read {
            received.reserve(READ_BYTES);
        }
        tokio::select! {
            read = stream.read_buf(received), if may_read => match read {
                Ok(0) => Err(CloseReason::Lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {
                    *last_received_at = Instant::now();
                    Ok(Wakeup::Read)
                }
                Err(error) => Err(CloseReason::Lost(error)),
            },
            Some(ack) = acknowledgements.next(), if !acknowledgements.is_empty() => {
                Ok(Wakeup::Acknowledge(ack))
            }
            message = streams.next(), if may_send => Ok(Wakeup::Message(message)),
            () = session.mailbox_ready.notified(), if may_send => Ok(Wakeup::Other),
            _ = control.changed() => Ok(Wakeup::Other),
            () = info.session_end() => Err(CloseReason::SessionEnded),
            () = shared.stop.cancelled() => Err(CloseReason::Stopping),
            () = sleep_until(timer) => self.on_timer(),
        }
    }

    fn next_deadline(&mut self, may_read: bool) -> Instant {
        // A client that is not read cannot prove that it is alive.
        if !may_read {
            let now = Instant::now();
            self.last_received_at = now;
            self.packet_began_at = self.packet_began_at.map(|_| now);
        }
        let others = [
            self.token_expires_at,
            self.paused_until,
            self.packet_deadline(),
        ];
        let others = others.into_iter().flatten();
        others.fold(self.keepalive_deadline(), Instant::min)
    }

    /// When the packet that is under way has to be whole.
    fn packet_deadline(&self) -> Option<Instant> {
        let began_at = self.packet_began_at?;
        Some(began_at + self.shared.config.packet_time)
    }

    /// One and a half keepalives after the last bytes: a large packet on a slow link may take
    /// longer than that.
    fn keepalive_deadline(&self) -> Instant {
        self.last_received_at + Duration::from_millis(u64::from(self.info.keepalive) * 1500)
    }

    fn on_timer(&mut self) -> Result<Wakeup, CloseReason> {
        let now = Instant::now();
        let packet_is_late = self.packet_deadline().is_some_and(|end| end <= now);
        if packet_is_late || self.keepalive_deadline() <= now {
            return Err(CloseReason::KeepaliveTimeout);
        }
        // The pause or the token has ended; `check_control` is next.
        Ok(Wakeup::Other)
    }

    /// Ends the connection if a newer connection, a revocation or the end of its token asks for it.
    fn check_control(&mut self) -> Result<(), CloseReason> {
        let now = Instant::now();
        if self.token_expires_at.is_some_and(|end| end <= now) {
            return Err(CloseReason::TokenExpired);
        }
        if self.info.session_has_ended() {
            return Err(CloseReason::SessionEnded);
        }
        let signal = *self.control.borrow_and_update();
        match signal {
            ControlSignal { revoked, .. } if revoked >= self.number => Err(CloseReason::Revoked),
            ControlSignal { newest, .. } if newest > self.number => Err(CloseReason::TakenOver),
            _ => Ok(()),
        }
    }

    /// Writes all that is encoded. Nothing else happens meanwhile, except control signals.
    async fn flush(&mut self) -> Result<(), CloseReason> {
        let bytes = self.out.buffer().len();
        if bytes == 0 {
            return Ok(());
        }
        let time = self.shared.config.write_time * bytes.div_ceil(WRITE_BYTES) as u32;
        let Self {
            stream,
            out,
            control,
            shared,
            info,
            ..
        } = self;
        let write = async {
            stream.write_all_buf(out.buffer()).await?;
            stream.flush().await
        };
        tokio::select! {
            biased;
            written = timeout(time, write) => match written {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(CloseReason::Lost(error)),
                Err(_) => return Err(CloseReason::WriteTimeout),
            },
            _ = control.changed() => {
                // A signal always ends this connection; half a packet may be written.
                self.control.mark_changed();
                self.out.buffer().clear();
                self.check_control()?;
                return Err(CloseReason::TakenOver);
            }
            () = info.session_end() => {
                self.out.buffer().clear();
                return Err(CloseReason::SessionEnded);
            }
            () = shared.stop.cancelled() => return Err(CloseReason::Stopping),
        }
        if self.out.buffer().capacity() > READ_BYTES {
            *self.out.buffer() = BytesMut::new();
        }
        Ok(())
    }

    async fn finish(mut self, reason: CloseReason) {
        self.count(&reason);
        // Before its CONNACK a client must not be sent anything else.
        if let Some(reason_code) = reason.code().filter(|_| self.accepted) {
            self.out
                .packet(Packet::Disconnect(Disconnect { reason_code }, None));
        }
        let Self { stream, out, .. } = &mut self;
        let close = async {
            if !matches!(reason, CloseReason::Lost(_) | CloseReason::WriteTimeout) {
                stream.write_all_buf(out.buffer()).await.ok();
            }
            stream.shutdown().await.ok();
        };
        timeout(CLOSE_TIME, close).await.ok();
        if !self.accepted {
            // The session before is that of the next connection, with its position.
            return;
        }
        if matches!(
            reason,
            CloseReason::Disconnected { .. } | CloseReason::Lost(_)
        ) {
            self.complete_submissions().await;
        }
        if let Some(expiry) = self.expiry_override.filter(|_| !self.info.expiry.is_zero()) {
            let most = self.shared.config.session_time;
            self.session
                .with_session(|session| session.expiry = expiry.min(most));
        }
        let read = self.streams.notifications_read();
        self.session.end(self.out.into_unacknowledged(), read);
        if let Some(will) = self.info.will.filter(|_| reason.publishes_will()) {
            // No other connection can begin before this returns.
            let starts = self.session.starts();
            let publish = will::publish(self.shared.clone(), self.session, starts, will);
            self.shared.tasks.spawn(publish);
        }
    }

    /// Completes what the client sent before it left: at QoS 0 a client does not wait, and what is
    /// admitted now need not be sent again. A newer connection does not wait for it.
    async fn complete_submissions(&mut self) {
        let Self {
            acknowledgements,
            control,
            shared,
            ..
        } = self;
        let rest = async { while acknowledgements.next().await.is_some() {} };
        tokio::select! {
            () = rest => {}
            _ = control.changed() => {}
            () = shared.stop.cancelled() => {}
        }
    }

    fn count(&self, reason: &CloseReason) {
        let counters = &self.shared.counters;
        match reason {
            CloseReason::TakenOver => counters.takeovers.add(1),
            CloseReason::Revoked | CloseReason::SessionEnded => counters.revoked.add(1),
            CloseReason::Violation(..) => counters.violations.add(1),
            CloseReason::WriteTimeout => counters.write_timeouts.add(1),
            CloseReason::KeepaliveTimeout => counters.keepalive_timeouts.add(1),
            _ => {}
        }
        let account = &self.info.account.account;
        tracing::debug!(%account, %reason, "MQTT connection ended");
    }
}
