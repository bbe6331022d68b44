//! Packets from one client: each is checked, answered, or passed on to the ledger.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::StreamExt;
use futures::future::{BoxFuture, ready};
use rumqttd::protocol::{
    DisconnectReasonCode as Code, Filter, Packet, PubAck, PubAckProperties, PubAckReason, PubComp,
    PubCompReason, PubRec, PubRecReason, PublishProperties, QoS, RetainForwardRule, SubAck,
    SubscribeReasonCode, UnsubAck, UnsubAckReason,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Connection;
use super::close_reason::CloseReason;
use crate::mqtt::codec::{Publication, Version};
use crate::mqtt::limits::{CORRELATION_BYTES, RECEIVE_MAX};
use crate::mqtt::session::ReplyTarget;
use crate::mqtt::submit::{
    self, BusyPolicy, PublishOutcome, PublishRefusal, SubmittedBytes, encoding,
};
use crate::mqtt::topics::{self, Inbound, Interest, TopicError};

/// Longest reason string; the receipt topic and HTTP have the whole text.
const REASON_BYTES: usize = 256;

/// The acknowledgement of a publication.
#[derive(Debug)]
pub(super) struct Acknowledgement {
    /// QoS of the publication.
    pub qos: u8,
    /// Its packet id.
    pub id: u16,
    pub outcome: PublishOutcome,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// PUBLISH: to the ledger if the client may, with an acknowledgement in the order of arrival.
    pub(super) fn on_publish(&mut self, publication: Publication) -> Result<(), CloseReason> {
        self.shared.counters.published.add(1);
        if publication.qos == 2 && !self.receive_id(publication.id)? {
            return Ok(());
        }
        let topic = match topics::inbound(&self.info.account, &publication.topic) {
            Ok(_) if publication.retain && self.info.version == Version::V5 => {
                // MQTT 5 has no PUBACK for this; CONNACK said already that nothing is retained.
                self.shared.counters.forbidden.add(1);
                let text = "asked to retain a message";
                return Err(CloseReason::Violation(Code::RetainNotSupported, text));
            }
            Ok(topic) if !publication.retain => topic,
            Err(TopicError::Malformed) => {
                let text = "sent an invalid topic";
                return Err(CloseReason::Violation(Code::TopicNameInvalid, text));
            }
            _ => return self.forbid(&publication),
        };
        let (qos, id) = (publication.qos, publication.id);
        let outcome = match topic {
            Inbound::Transaction => self.submit(publication),
            Inbound::Sync => {
                let policy = BusyPolicy::of(self.info.version, qos);
                let (shared, session) = (Arc::clone(&self.shared), Arc::clone(&self.session));
                submit::sync(shared, session, publication.payload, policy).boxed()
            }
        };
        self.acknowledge_when_done(qos, id, outcome);
        Ok(())
    }

    /// Submits the transaction of a publication.
    fn submit(&self, publication: Publication) -> BoxFuture<'static, PublishOutcome> {
        let Publication {
            qos,
            payload,
            properties,
            ..
        } = publication;
        let (submitted, reply) = match self.check_transaction(payload, properties) {
            Ok(checked) => checked,
            Err(outcome) => return ready(outcome).boxed(),
        };
        let policy = BusyPolicy::of(self.info.version, qos);
        let has_reason = self.info.version == Version::V5 && qos > 0;
        let (shared, session) = (Arc::clone(&self.shared), Arc::clone(&self.session));
        submit::transaction(shared, session, submitted, reply, policy, !has_reason).boxed()
    }

    /// Checks what MQTT itself says about a transaction's publication.
    fn check_transaction(
        &self,
        payload: Bytes,
        properties: PublishProperties,
    ) -> Result<(SubmittedBytes, Option<ReplyTarget>), PublishOutcome> {
        let PublishProperties {
            response_topic,
            correlation_data,
            content_type,
            ..
        } = properties;
        let allowed = |topic: &str| topics::response(&self.info.account, topic).is_ok();
        if !response_topic.as_deref().is_none_or(allowed) {
            self.shared.counters.forbidden.add(1);
            let detail = "the response topic is not the client's own";
            return Err(PublishOutcome::unauthorized(detail));
        }
        let Some(encoding) = encoding(content_type.as_deref()) else {
            let detail = "content type is neither application/json nor application/octet-stream";
            return Err(PublishOutcome::malformed(detail));
        };
        if payload.is_empty() {
            return Err(PublishOutcome::malformed("empty payload"));
        }
        let correlation_bytes = correlation_data.as_ref().map_or(0, Bytes::len);
        if correlation_bytes > CORRELATION_BYTES {
            return Err(PublishOutcome::malformed("correlation data is too long"));
        }
        let has_target = response_topic.is_some() || correlation_data.is_some();
        let target = ReplyTarget {
            topic: response_topic,
            correlation: correlation_data,
        };
        let submitted = SubmittedBytes { encoding, payload };
        Ok((submitted, has_target.then_some(target)))
    }

    /// Refuses what the client may not publish. MQTT 3.1.1 and QoS 0 have no packet for that.
    fn forbid(&mut self, publication: &Publication) -> Result<(), CloseReason> {
        self.shared.counters.forbidden.add(1);
        if self.info.version == Version::V4 || publication.qos == 0 {
            let text = "published to a topic that is not its own";
            return Err(CloseReason::Violation(Code::NotAuthorized, text));
        }
        let outcome = PublishOutcome::unauthorized("not a topic of this account");
        self.acknowledge_when_done(publication.qos, publication.id, ready(outcome).boxed());
        Ok(())
    }

    /// Acknowledges a publication once its outcome is there, in the order of the publications
    /// (MQTT-4.6.0-2).
    fn acknowledge_when_done(
        &mut self,
        qos: u8,
        id: u16,
        outcome: BoxFuture<'static, PublishOutcome>,
    ) {
        let acknowledgement = outcome.map(move |outcome| Acknowledgement { qos, id, outcome });
        self.acknowledgements.push_back(acknowledgement.boxed());
    }

    /// Records the packet id of a QoS 2 publication. False when it was received before: then it is
    /// only acknowledged.
    fn receive_id(&mut self, id: u16) -> Result<bool, CloseReason> {
        let (new, count) = self.session.with_session(|session| {
            let new = session.received_ids.insert(id);
            (new, session.received_ids.len())
        });
        if count > usize::from(RECEIVE_MAX) {
            let text = "too many QoS 2 messages without PUBREL";
            return Err(CloseReason::Violation(Code::ReceiveMaximumExceeded, text));
        }
        if !new {
            self.acknowledge_when_done(2, id, ready(PublishOutcome::Accepted).boxed());
        }
        Ok(new)
    }

    /// Writes this acknowledgement and all others that are ready by now.
    pub(super) fn acknowledge_all(&mut self, first: Acknowledgement) -> Result<(), CloseReason> {
        let mut next = Some(first);
        while let Some(acknowledgement) = next {
            self.acknowledge(acknowledgement)?;
            next = self.acknowledgements.next().now_or_never().flatten();
        }
        Ok(())
    }

    fn acknowledge(&mut self, acknowledgement: Acknowledgement) -> Result<(), CloseReason> {
        let Acknowledgement { qos, id, outcome } = acknowledgement;
        let (reason, detail) = match outcome {
            PublishOutcome::Accepted => (PubAckReason::Success, None),
            _ if qos == 0 => return Ok(()),
            PublishOutcome::Busy if self.info.version == Version::V4 => {
                return Err(CloseReason::Busy);
            }
            PublishOutcome::Busy => (PubAckReason::QuotaExceeded, None),
            PublishOutcome::Refused(PublishRefusal { reason, detail, .. }) => {
                (reason, Some(detail))
            }
        };
        let properties = detail
            .filter(|_| self.info.sends_reasons)
            .map(|mut detail| {
                detail.truncate(detail.floor_char_boundary(REASON_BYTES));
                PubAckProperties {
                    reason_string: Some(detail),
                    user_properties: Vec::new(),
                }
            });
        match qos {
            1 => self
                .out
                .packet(Packet::PubAck(PubAck { pkid: id, reason }, properties)),
            2 => {
                if reason != PubAckReason::Success && self.info.version == Version::V5 {
                    self.session
                        .with_session(|session| session.received_ids.remove(&id));
                }
                let reason = pubrec_reason(reason);
                self.out
                    .packet(Packet::PubRec(PubRec { pkid: id, reason }, None));
            }
            _ => {}
        }
        Ok(())
    }

    /// PUBREL: the packet id of a QoS 2 publication is free again.
    pub(super) fn on_pubrel(&mut self, id: u16) -> Result<(), CloseReason> {
        let was_received = self
            .session
            .with_session(|session| session.received_ids.remove(&id));
        let reason = if was_received {
            PubCompReason::Success
        } else {
            PubCompReason::PacketIdentifierNotFound
        };
        self.out
            .packet(Packet::PubComp(PubComp { pkid: id, reason }, None));
        Ok(())
    }

    /// PUBACK of a message that was sent to the client.
    pub(super) fn on_puback(&mut self, id: u16) -> Result<(), CloseReason> {
        if self.out.acknowledge(id) {
            return Ok(());
        }
        let text = "acknowledged a message that was not sent";
        Err(CloseReason::Violation(Code::ProtocolError, text))
    }

    /// SUBSCRIBE: each filter is granted or refused by itself.
    pub(super) fn on_subscribe(
        &mut self,
        id: u16,
        filters: &[Filter],
        has_identifier: bool,
    ) -> Result<(), CloseReason> {
        let mut codes = Vec::with_capacity(filters.len());
        let (mut sends_head, mut sends_work) = (false, false);
        for filter in filters {
            codes.push(match self.add_filter(filter, has_identifier) {
                Ok((qos, interest, resend)) => {
                    sends_head |= resend && interest == Interest::Head;
                    sends_work |= resend && interest == Interest::Work;
                    SubscribeReasonCode::Success(qos)
                }
                Err(_) if self.info.version == Version::V4 => SubscribeReasonCode::Failure,
                Err(code) => code,
            });
        }
        self.update_streams();
        let ack = SubAck {
            pkid: id,
            return_codes: codes,
        };
        self.out.packet(Packet::SubAck(ack, None));
        // The head counts as sent once it is read.
        if sends_head && let Some(head) = self.streams.retained_head() {
            self.send(head);
        }
        if sends_work {
            self.request_work();
        }
        Ok(())
    }

    /// Adds a filter to the session. Returns the granted QoS, and whether what is kept for
    /// subscribers is sent now.
    fn add_filter(
        &mut self,
        filter: &Filter,
        has_identifier: bool,
    ) -> Result<(QoS, Interest, bool), SubscribeReasonCode> {
        use SubscribeReasonCode as Reason;
        if has_identifier {
            return Err(Reason::SubscriptionIdNotSupported);
        }
        let interest = topics::interest(&self.info.account, &filter.path).map_err(|error| {
            self.shared.counters.forbidden.add(1);
            match error {
                TopicError::Malformed => Reason::TopicFilterInvalid,
                TopicError::NotAllowed => Reason::NotAuthorized,
                TopicError::Shared => Reason::SharedSubscriptionsNotSupported,
            }
        })?;
        // QoS 2 is granted as QoS 1: receipts and work carry their own identity.
        let qos = if filter.qos == QoS::AtMostOnce {
            QoS::AtMostOnce
        } else {
            QoS::AtLeastOnce
        };
        let added = self.session.with_session(|session| {
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

    /// UNSUBSCRIBE.
    pub(super) fn on_unsubscribe(
        &mut self,
        id: u16,
        filters: &[String],
    ) -> Result<(), CloseReason> {
        let remove = |filter: &String| {
            let removed = self
                .session
                .with_session(|session| session.subscriptions.remove(filter));
            if removed {
                UnsubAckReason::Success
            } else {
                UnsubAckReason::NoSubscriptionExisted
            }
        };
        let reasons = filters.iter().map(remove).collect();
        self.update_streams();
        let ack = UnsubAck { pkid: id, reasons };
        self.out.packet(Packet::UnsubAck(ack, None));
        Ok(())
    }
}

fn pubrec_reason(reason: PubAckReason) -> PubRecReason {
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
