//! What is sent to a client: its mailbox, and what the router carries.

use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Connection, Origin, Unacknowledged};
use super::ending::Ending;
use super::limits::WRITE_BYTES;
use super::link::Delivery;
use super::topics;
use super::wire::{self, Message};

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// Encodes waiting receipts and work. True when more could be sent after a write.
    pub(super) fn pump(&mut self) -> bool {
        while self.unacknowledged.len() < self.hello.window {
            if self.tx.len() >= WRITE_BYTES {
                return true;
            }
            let Some(item) = self.seat.take() else {
                return false;
            };
            if item.qos == 0 {
                self.send(&item.message, None, false);
                continue;
            }
            let id = self.next_id();
            if self.send(&item.message, Some(id), item.again) {
                self.unacknowledged.push_back(Unacknowledged {
                    id,
                    origin: Origin::Mailbox(item),
                });
            }
        }
        false
    }

    /// Sends this message of the router and all others that are ready by now.
    pub(super) fn forward_all(&mut self, first: Option<Delivery>) -> Result<(), Ending> {
        let mut next = first;
        loop {
            if let Some(delivery) = next {
                self.forward(delivery)?;
            }
            let room = self.unacknowledged.len() < self.hello.window;
            let Some(link) = self
                .link
                .as_mut()
                .filter(|_| room && self.tx.len() < WRITE_BYTES)
            else {
                return Ok(());
            };
            match link.next().now_or_never() {
                Some(Ok(delivery)) => next = delivery,
                Some(Err(error)) => return Err(Ending::Router(error)),
                None => return Ok(()),
            }
        }
    }

    fn forward(&mut self, delivery: Delivery) -> Result<(), Ending> {
        let Delivery {
            topic,
            payload,
            slot,
        } = delivery;
        let allowed = topics::district(&topic).is_none_or(|d| self.hello.account.sees(&d));
        let qos = self
            .seat
            .with_session(|session| session.subscriptions.qos_of(&topic));
        let message = Message {
            topic,
            payload,
            ..Message::default()
        };
        match qos.filter(|_| allowed) {
            Some(1) => {
                let id = self.next_id();
                if self.send(&message, Some(id), false) {
                    let origin = Origin::Router(slot);
                    self.unacknowledged.push_back(Unacknowledged { id, origin });
                    return Ok(());
                }
            }
            Some(_) => drop(self.send(&message, None, false)),
            // The router's filters are wider than the client's.
            None => {}
        }
        self.acknowledge(slot)
    }

    /// Tells the router that a message is done with.
    pub(super) fn acknowledge(&mut self, slot: u16) -> Result<(), Ending> {
        match &mut self.link {
            Some(link) => link.acknowledge(slot).map_err(Ending::Router),
            None => Ok(()),
        }
    }

    /// Encodes a message, unless it is larger than the client takes.
    pub(super) fn send(&mut self, message: &Message, id: Option<u16>, again: bool) -> bool {
        if wire::publish_bytes(message) > self.hello.packet_max {
            self.shared.counters.dropped.add(1);
            return false;
        }
        wire::publish(self.hello.version, message, id, again, &mut self.tx);
        self.shared.counters.delivered.add(1);
        true
    }

    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self
                .unacknowledged
                .iter()
                .all(|message| message.id != self.last_id)
            {
                return self.last_id;
            }
        }
    }

    /// Makes the router's filters fit the session's. Only who reads something that the router
    /// carries has a link with it.
    pub(super) async fn reroute(&mut self) -> Result<(), Ending> {
        let account = &self.hello.account;
        let wanted = self
            .seat
            .with_session(|session| session.subscriptions.routes(account));
        if self.link.is_none() {
            if wanted.is_empty() {
                return Ok(());
            }
            self.attach().await?;
        }
        match &mut self.link {
            Some(link) => link.route(&wanted).map_err(Ending::Router),
            None => Ok(()),
        }
    }

    async fn attach(&mut self) -> Result<(), Ending> {
        let broker = &self.shared.broker;
        let clean = self.hello.expiry.is_zero();
        let saved = self.seat.with_session(|session| session.saved.take());
        let saved = saved.filter(|saved| self.resumed && saved.number == broker.number());
        let id = &self.seat.id;
        let (mut link, remembered) = broker.attach(id, clean).await.map_err(Ending::Unlinked)?;
        match saved {
            Some(saved) if remembered => link.restored(&saved),
            _ if remembered => {
                // The router has a session that is no longer wanted; a clean link makes it forget.
                link.detach().await;
                let (forget, _) = broker.attach(id, true).await.map_err(Ending::Unlinked)?;
                forget.detach().await;
                (link, _) = broker.attach(id, clean).await.map_err(Ending::Unlinked)?;
            }
            _ => {}
        }
        self.link = Some(link);
        Ok(())
    }
}
