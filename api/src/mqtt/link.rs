//! One client's link with the router. Towards the router every message is QoS 1, whatever the
//! client asked for: so it never has more than 100 on their way, and slow readers hold it back
//! instead of losing messages.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use rumqttd::Notification;
use rumqttd::local::{LinkError, LinkRx, LinkTx};
use rumqttd::protocol::{
    Disconnect, DisconnectReasonCode, Filter, Packet, PubAck, PubAckReason, QoS, RetainForwardRule,
    Subscribe, Unsubscribe,
};

use super::broker::{Broker, Saved, open};
use super::limits::TAKEOVER_TIME;

/// The router is gone. Boxed, because rumqttd puts a whole router event into it.
pub type Lost = Box<LinkError>;

/// A loss that rumqttd did not report itself.
pub fn lost(reason: &str) -> Lost {
    Box::new(LinkError::ConnectionAck(reason.to_owned()))
}

/// A message that many read, on its way to one client.
#[derive(Debug)]
pub struct Delivery {
    /// Topic that the client sees.
    pub topic: String,
    /// Content.
    pub payload: Bytes,
    /// The router's packet id, for [`Link::acknowledge`].
    pub slot: u16,
}

/// See the module.
pub struct Link {
    broker: Arc<Broker>,
    number: u64,
    tx: LinkTx,
    rx: LinkRx,
    routes: BTreeSet<String>,
    /// The router's packet ids in its order, with whether the client took the message.
    order: VecDeque<(u16, bool)>,
    open: bool,
}

impl Link {
    /// Wraps what the router gave; the flag tells whether it remembered the client's filters.
    pub fn new(
        broker: Arc<Broker>,
        number: u64,
        tx: LinkTx,
        rx: LinkRx,
        hello: Notification,
    ) -> (Self, bool) {
        let remembered = match hello.into() {
            Some(Packet::ConnAck(ack, _)) => ack.session_present,
            _ => false,
        };
        let (routes, order) = (BTreeSet::new(), VecDeque::new());
        (
            Self {
                broker,
                number,
                tx,
                rx,
                routes,
                order,
                open: true,
            },
            remembered,
        )
    }

    /// The router restored these filters from an earlier connection.
    pub fn restored(&mut self, saved: &Saved) {
        self.routes.clone_from(&saved.routes);
    }

    /// Makes the router's filters equal to `wanted`.
    pub fn route(&mut self, wanted: &BTreeSet<String>) -> Result<(), Lost> {
        let gone: Vec<String> = self.routes.difference(wanted).cloned().collect();
        let new: Vec<Filter> = wanted.difference(&self.routes).map(|r| filter(r)).collect();
        if !gone.is_empty() {
            self.send(Packet::Unsubscribe(
                Unsubscribe {
                    pkid: 1,
                    filters: gone,
                },
                None,
            ))?;
        }
        if !new.is_empty() {
            self.send(Packet::Subscribe(
                Subscribe {
                    pkid: 1,
                    filters: new,
                },
                None,
            ))?;
        }
        self.routes.clone_from(wanted);
        Ok(())
    }

    /// The next message; `None` for signals without one. May be dropped at any await.
    pub async fn next(&mut self) -> Result<Option<Delivery>, Lost> {
        match self.rx.next().await? {
            Some(Notification::Forward(forward)) => {
                let mut publish = forward.publish;
                let sealed = std::mem::take(&mut publish.payload);
                // The packet id is private, but this form begins with it: flags, id, topic.
                let head = publish.serialize();
                let slot = u16::from_be_bytes([head[1], head[2]]);
                self.order.push_back((slot, false));
                let Some((topic, payload)) = open(sealed) else {
                    self.acknowledge(slot)?;
                    return Ok(None);
                };
                Ok(Some(Delivery {
                    topic,
                    payload,
                    slot,
                }))
            }
            Some(Notification::Unschedule) => {
                self.rx.ready()?;
                Ok(None)
            }
            Some(Notification::Disconnect(..)) => {
                self.open = false;
                Err(lost("the router closed the link"))
            }
            // Its SUBACK and UNSUBACK: the guard has already answered.
            _ => Ok(None),
        }
    }

    /// The client took the message of this slot. The router drops a link whose acknowledgements
    /// are not in its order, so they are put into that order here.
    pub fn acknowledge(&mut self, slot: u16) -> Result<(), Lost> {
        if let Some(entry) = self
            .order
            .iter_mut()
            .find(|(id, taken)| *id == slot && !taken)
        {
            entry.1 = true;
        }
        while let Some((pkid, true)) = self.order.front().copied() {
            self.order.pop_front();
            let ack = PubAck {
                pkid,
                reason: PubAckReason::Success,
            };
            self.send(Packet::PubAck(ack, None))?;
        }
        Ok(())
    }

    /// Leaves the router and waits until it has let go, so that the account may link again.
    pub async fn detach(mut self) -> Saved {
        self.leave();
        let gone = async { while self.rx.next().await.is_ok() {} };
        if tokio::time::timeout(TAKEOVER_TIME, gone).await.is_err() {
            tracing::error!("the message router does not let go of a client");
        }
        self.broker.tick();
        Saved {
            number: self.number,
            routes: std::mem::take(&mut self.routes),
        }
    }

    fn leave(&mut self) {
        if std::mem::replace(&mut self.open, false) {
            let reason_code = DisconnectReasonCode::NormalDisconnection;
            // Fails only when the router is gone, and then so is the link.
            self.send(Packet::Disconnect(Disconnect { reason_code }, None))
                .ok();
        }
    }

    fn send(&mut self, packet: Packet) -> Result<(), Lost> {
        // An async function that never awaits: polled once it is done. It blocks while 1,000
        // events are queued at the router, whose thread never waits for us.
        match self.tx.send(packet).now_or_never() {
            Some(result) => result.map(drop).map_err(Box::new),
            None => Err(lost("the link did not take a packet")),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.leave();
    }
}

fn filter(route: &str) -> Filter {
    Filter {
        path: route.to_owned(),
        qos: QoS::AtLeastOnce,
        nolocal: false,
        preserve_retain: false,
        retain_forward_rule: RetainForwardRule::Never,
    }
}
