//! What a client sends, packet by packet.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use rumqttd::protocol::{
    DisconnectReasonCode as Code, Filter, Packet, PubAck, PubAckProperties, PubAckReason, PubComp,
    PubCompReason, PubRec, PubRecReason, PublishProperties, QoS, RetainForwardRule, SubAck,
    SubscribeReasonCode, UnsubAck, UnsubAckReason,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::backend::{Encoding, Submission};
use super::connection::{Connection, Origin};
use super::ending::Ending;
use super::intake::{self, Answer, Patience, Verdict};
use super::limits::{CORRELATION_BYTES, RECEIVE_MAX};
use super::seat::Reply;
use super::topics::{self, Inbound, Interest, Refusal};
use super::wire::{self, Message, Publication, Version};

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// PUBLISH: to the ledger if it may, with an answer in the order of arrival.
    pub(super) fn on_publish(&mut self, publication: Publication) -> Result<(), Ending> {
        self.shared.counters.published.add(1);
        if publication.qos == 2 && !self.take_id(publication.id)? {
            return Ok(());
        }
        let topic = match topics::inbound(&self.hello.account, &publication.topic) {
            Ok(_) if publication.retain && self.hello.version == Version::V5 => {
                // MQTT 5 has no PUBACK for this; CONNACK has told that nothing is kept.
                self.shared.counters.forbidden.add(1);
                let text = "asked to keep a message";
                return Err(Ending::Violation(Code::RetainNotSupported, text));
            }
            Ok(topic) if !publication.retain => topic,
            Err(Refusal::Malformed) => {
                return Err(Ending::Violation(
                    Code::TopicNameInvalid,
                    "sent an invalid topic",
                ));
            }
            _ => return self.forbid(&publication),
        };
        match topic {
            Inbound::Transaction => self.on_transaction(publication),
            Inbound::Sync => {
                let patience = Patience::of(self.hello.version, publication.qos);
                let (shared, seat) = (Arc::clone(&self.shared), Arc::clone(&self.seat));
                let (qos, id) = (publication.qos, publication.id);
                let asked = intake::sync(shared, seat, publication.payload, patience);
                self.answers.push_back(
                    asked
                        .map(move |v| Answer {
                            qos,
                            id,
                            verdict: v,
                        })
                        .boxed(),
                );
                Ok(())
            }
        }
    }

    fn on_transaction(&mut self, publication: Publication) -> Result<(), Ending> {
        let Publication {
            qos,
            id,
            payload,
            properties,
            ..
        } = publication;
        let (encoding, reply) = match self.check_transaction(&payload, properties) {
            Ok(checked) => checked,
            Err(verdict) => return self.settle(qos, id, verdict),
        };
        let submission = Submission {
            account: self.seat.id.clone(),
            encoding,
            payload,
        };
        let patience = Patience::of(self.hello.version, qos);
        let told = self.hello.version == Version::V5 && qos > 0;
        let (shared, seat) = (Arc::clone(&self.shared), Arc::clone(&self.seat));
        let answer = async move {
            let copy = submission.clone();
            let (for_ledger, of_seat) = (Arc::clone(&shared), Arc::clone(&seat));
            let handed = intake::transaction(for_ledger, of_seat, submission, reply, patience);
            let verdict = handed.await;
            if let (Verdict::Refused(_, detail), false) = (&verdict, told) {
                intake::refusal(&shared, &seat, &copy, detail);
            }
            Answer { qos, id, verdict }
        };
        self.answers.push_back(answer.boxed());
        Ok(())
    }

    /// What the guard itself demands of a transaction's publication.
    fn check_transaction(
        &self,
        payload: &Bytes,
        properties: PublishProperties,
    ) -> Result<(Encoding, Option<Reply>), Verdict> {
        let refuse = |reason, detail: &str| Err(Verdict::Refused(reason, detail.to_owned()));
        let malformed = PubAckReason::PayloadFormatInvalid;
        let PublishProperties {
            response_topic,
            correlation_data,
            content_type,
            ..
        } = properties;
        let own = |topic: &str| topics::response(&self.hello.account, topic).is_ok();
        if !response_topic.as_deref().is_none_or(own) {
            self.shared.counters.forbidden.add(1);
            let detail = "the response topic is not the client's own";
            return refuse(PubAckReason::NotAuthorized, detail);
        }
        let Some(encoding) = Encoding::from_content_type(content_type.as_deref()) else {
            let detail = "content type is neither application/json nor application/x-bincode";
            return refuse(malformed, detail);
        };
        if payload.is_empty() {
            return refuse(malformed, "empty payload");
        }
        if correlation_data
            .as_ref()
            .is_some_and(|data| data.len() > CORRELATION_BYTES)
        {
            return refuse(malformed, "correlation data is too long");
        }
        let wanted = response_topic.is_some() || correlation_data.is_some();
        let reply = Reply {
            topic: response_topic,
            correlation: correlation_data,
        };
        Ok((encoding, wanted.then_some(reply)))
    }

    /// Refuses what the client may not publish. MQTT 3.1.1 and QoS 0 have no answer for that.
    fn forbid(&mut self, publication: &Publication) -> Result<(), Ending> {
        self.shared.counters.forbidden.add(1);
        if self.hello.version == Version::V4 || publication.qos == 0 {
            return Err(Ending::Violation(
                Code::NotAuthorized,
                "published what it may not",
            ));
        }
        let detail = "not a topic of this account".to_owned();
        let verdict = Verdict::Refused(PubAckReason::NotAuthorized, detail);
        self.settle(publication.qos, publication.id, verdict)
    }

    /// Answers at once, but in the order of the publications (MQTT-4.6.0-2).
    fn settle(&mut self, qos: u8, id: u16, verdict: Verdict) -> Result<(), Ending> {
        self.answers
            .push_back(futures::future::ready(Answer { qos, id, verdict }).boxed());
        Ok(())
    }

    /// Remembers a QoS 2 packet id. False when it was already taken: then it is only answered.
    fn take_id(&mut self, id: u16) -> Result<bool, Ending> {
        let (new, count) = self.seat.with_session(|session| {
            let new = session.taken_ids.insert(id);
            (new, session.taken_ids.len())
        });
        if count > usize::from(RECEIVE_MAX) {
            let text = "too many QoS 2 messages without PUBREL";
            return Err(Ending::Violation(Code::ReceiveMaximumExceeded, text));
        }
        if !new {
            self.settle(2, id, Verdict::Taken)?;
        }
        Ok(new)
    }

    /// Writes this answer and all others that are ready by now.
    pub(super) fn answer_all(&mut self, first: Answer) -> Result<(), Ending> {
        use futures::StreamExt;
        let mut next = Some(first);
        while let Some(answer) = next {
            self.answer(answer)?;
            next = self.answers.next().now_or_never().flatten();
        }
        Ok(())
    }

    fn answer(&mut self, answer: Answer) -> Result<(), Ending> {
        let Answer { qos, id, verdict } = answer;
        let (reason, detail) = match verdict {
            Verdict::Taken => (PubAckReason::Success, None),
            _ if qos == 0 => return Ok(()),
            Verdict::Busy if self.hello.version == Version::V4 => return Err(Ending::Busy),
            Verdict::Busy => (PubAckReason::QuotaExceeded, None),
            Verdict::Refused(reason, detail) => (reason, Some(detail)),
        };
        let properties = detail.filter(|_| self.hello.explain).map(|mut detail| {
            detail.truncate(detail.floor_char_boundary(REASON_BYTES));
            PubAckProperties {
                reason_string: Some(detail),
                user_properties: Vec::new(),
            }
        });
        let packet = match qos {
            1 => Packet::PubAck(PubAck { pkid: id, reason }, properties),
            2 => {
                if reason != PubAckReason::Success && self.hello.version == Version::V5 {
                    self.seat
                        .with_session(|session| session.taken_ids.remove(&id));
                }
                Packet::PubRec(
                    PubRec {
                        pkid: id,
                        reason: received(reason),
                    },
                    None,
                )
            }
            _ => return Ok(()),
        };
        wire::write(self.hello.version, packet, &mut self.tx);
        Ok(())
    }

    /// PUBREL: the packet id of a QoS 2 publication is free again.
    pub(super) fn on_pubrel(&mut self, id: u16) -> Result<(), Ending> {
        let known = self
            .seat
            .with_session(|session| session.taken_ids.remove(&id));
        let reason = match known {
            true => PubCompReason::Success,
            false => PubCompReason::PacketIdentifierNotFound,
        };
        wire::write(
            self.hello.version,
            Packet::PubComp(PubComp { pkid: id, reason }, None),
            &mut self.tx,
        );
        Ok(())
    }

    /// PUBACK of a message that was sent to the client.
    pub(super) fn on_puback(&mut self, id: u16) -> Result<(), Ending> {
        let place = self
            .unacknowledged
            .iter()
            .position(|message| message.id == id);
        let message = place.and_then(|place| self.unacknowledged.remove(place));
        match message.map(|message| message.origin) {
            Some(Origin::Mailbox(_)) => Ok(()),
            Some(Origin::Router(slot)) => self.acknowledge(slot),
            None => Err(Ending::Violation(
                Code::ProtocolError,
                "acknowledged what was not sent",
            )),
        }
    }

    /// SUBSCRIBE: each filter is granted or refused by itself.
    pub(super) async fn on_subscribe(
        &mut self,
        id: u16,
        filters: Vec<Filter>,
        identified: bool,
    ) -> Result<(), Ending> {
        let mut codes = Vec::with_capacity(filters.len());
        let mut begun = BTreeSet::new();
        for filter in &filters {
            codes.push(match self.add_filter(filter, identified) {
                Ok((qos, interest, resend)) => {
                    if resend {
                        begun.insert(interest as u8);
                    }
                    SubscribeReasonCode::Success(qos)
                }
                Err(_) if self.hello.version == Version::V4 => SubscribeReasonCode::Failure,
                Err(code) => code,
            });
        }
        self.reroute().await?;
        let ack = SubAck {
            pkid: id,
            return_codes: codes,
        };
        wire::write(self.hello.version, Packet::SubAck(ack, None), &mut self.tx);
        if begun.contains(&(Interest::Head as u8)) {
            self.send_head();
        }
        if begun.contains(&(Interest::Work as u8)) {
            self.ask_for_work();
        }
        Ok(())
    }

    fn add_filter(
        &mut self,
        filter: &Filter,
        identified: bool,
    ) -> Result<(QoS, Interest, bool), SubscribeReasonCode> {
        use SubscribeReasonCode as Reason;
        if identified {
            return Err(Reason::SubscriptionIdNotSupported);
        }
        let interest = topics::interest(&self.hello.account, &filter.path).map_err(|refusal| {
            self.shared.counters.forbidden.add(1);
            match refusal {
                Refusal::Malformed => Reason::TopicFilterInvalid,
                Refusal::NotAllowed => Reason::NotAuthorized,
                Refusal::Shared => Reason::SharedSubscriptionsNotSupported,
            }
        })?;
        // QoS 2 is granted as QoS 1: receipts and work carry their own identity.
        let qos = if filter.qos == QoS::AtMostOnce {
            QoS::AtMostOnce
        } else {
            QoS::AtLeastOnce
        };
        let added = self.seat.with_session(|session| {
            session
                .subscriptions
                .insert(&filter.path, interest, qos as u8)
        });
        let new = added.ok_or(Reason::QuotaExceeded)?;
        let resend = match filter.retain_forward_rule {
            RetainForwardRule::OnEverySubscribe => true,
            RetainForwardRule::OnNewSubscribe => new,
            RetainForwardRule::Never => interest != Interest::Head,
        };
        Ok((qos, interest, resend))
    }

    fn send_head(&mut self) {
        let Some(payload) = self.shared.head() else {
            return;
        };
        let topic = topics::HEAD.to_owned();
        let message = Message {
            topic,
            payload,
            retained: true,
            ..Message::default()
        };
        self.send(&message, None, false);
    }

    /// UNSUBSCRIBE, answered by the guard: the router answers only for filters that it knows.
    pub(super) async fn on_unsubscribe(
        &mut self,
        id: u16,
        filters: Vec<String>,
    ) -> Result<(), Ending> {
        let removed = |filter: &String| {
            let known = self
                .seat
                .with_session(|session| session.subscriptions.remove(filter));
            if known {
                UnsubAckReason::Success
            } else {
                UnsubAckReason::NoSubscriptionExisted
            }
        };
        let reasons = filters.iter().map(removed).collect();
        self.reroute().await?;
        let ack = UnsubAck { pkid: id, reasons };
        wire::write(
            self.hello.version,
            Packet::UnsubAck(ack, None),
            &mut self.tx,
        );
        Ok(())
    }
}

/// Longest reason string; who wants more reads the receipt topic or the HTTP answer.
const REASON_BYTES: usize = 256;

fn received(reason: PubAckReason) -> PubRecReason {
    match reason {
        PubAckReason::Success => PubRecReason::Success,
        PubAckReason::NoMatchingSubscribers => PubRecReason::NoMatchingSubscribers,
        PubAckReason::UnspecifiedError => PubRecReason::UnspecifiedError,
        PubAckReason::ImplementationSpecificError => PubRecReason::ImplementationSpecificError,
        PubAckReason::NotAuthorized => PubRecReason::NotAuthorized,
        PubAckReason::TopicNameInvalid => PubRecReason::TopicNameInvalid,
        PubAckReason::PacketIdentifierInUse => PubRecReason::PacketIdentifierInUse,
        PubAckReason::QuotaExceeded => PubRecReason::QuotaExceeded,
        PubAckReason::PayloadFormatInvalid => PubRecReason::PayloadFormatInvalid,
    }
}
