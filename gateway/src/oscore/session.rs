//! A context at one address: which request a response belongs to, and what was answered already.
//! All of it is bounded; what falls out is repeated by the Thing, or fails as after a loss. Nothing
//! is forgotten after a time: what came once never comes again.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::context::RequestBinding;
use super::option::PartialIv;
use crate::coap::message::{Message, MessageType, Token};

/// Requests of a Thing that are answered or repeated; a Thing has one at a time.
const EXCHANGES_MAX: usize = 4;
/// Requests to a Thing whose responses are understood: two sets of blocks.
const REQUESTS_MAX: usize = 32;
/// Requests that observe, beside them: twice as many as a Thing has observed instances.
const OBSERVATIONS_MAX: usize = 16;
/// Datagrams of requests that may have to be sent again. The endpoint has one unanswered request to
/// a Thing at a time; when it gave one up is not known here.
const UNANSWERED_MAX: usize = 2;
/// Confirmable messages to a Thing whose acknowledgements are its own.
const CONFIRMABLES_MAX: usize = 32;

/// A request of the Thing.
#[derive(Debug)]
pub(super) struct Incoming {
    id: u16,
    token: Token,
    content: blake3::Hash,
    binding: RequestBinding,
    reply: Option<Vec<u8>>,
}

/// What is known of a datagram from its exchange.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Repetition {
    New,
    /// It came before; with its reply, if there is one yet.
    Repeated(Option<Vec<u8>>),
}

/// A request to the Thing.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) id: u16,
    pub(super) token: Token,
    pub(super) partial_iv: PartialIv,
    /// The responses that were taken.
    pub(super) answers: Answers,
}

/// A confirmable request that is not answered yet: a repetition has the same bytes, or the Thing
/// could answer a number that is forgotten.
#[derive(Debug)]
struct Unanswered {
    id: u16,
    token: Token,
    content: blake3::Hash,
    datagram: Vec<u8>,
}

/// What was answered to a request: one response, or the notifications of a resource.
#[derive(Debug)]
pub(super) struct Answers {
    observes: bool,
    newest: Option<u64>,
    count: u32,
}

impl Answers {
    /// None so far.
    pub(super) fn new(observes: bool) -> Answers {
        Answers {
            observes,
            newest: None,
            count: 0,
        }
    }

    /// True if the request observes.
    pub(super) fn observes(&self) -> bool {
        self.observes
    }

    /// Takes a response that the Thing made; returns its place among those that were taken. `None`
    /// if it is not newer than all of them (section 7.4.1), however long ago that was.
    pub(super) fn accept(&mut self, partial_iv: Option<&PartialIv>) -> Option<u32> {
        let number = partial_iv.map(PartialIv::number);
        let is_new = self.count == 0 || (self.observes && number > self.newest);
        if !is_new {
            return None;
        }
        self.newest = number;
        self.count += 1;
        Some(self.count)
    }
}

/// The exchanges of one context at one address.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) address: SocketAddr,
    pub(super) thing_id: Vec<u8>,
    /// Counts up with each message that a Thing made, in any session.
    pub(super) used: u64,
    /// Its address is the Thing's.
    pub(super) is_proven: bool,
    incoming: VecDeque<Incoming>,
    outgoing: VecDeque<Outgoing>,
    unanswered: VecDeque<Unanswered>,
    confirmables: VecDeque<u16>,
}

impl Session {
    pub(super) fn new(address: SocketAddr, thing_id: Vec<u8>) -> Session {
        Session {
            address,
            thing_id,
            used: 0,
            is_proven: false,
            incoming: VecDeque::new(),
            outgoing: VecDeque::new(),
            unanswered: VecDeque::new(),
            confirmables: VecDeque::new(),
        }
    }

    /// Looks a request's datagram up.
    pub(super) fn repetition(&self, id: u16, content: &blake3::Hash) -> Repetition {
        let same = |one: &&Incoming| one.id == id && one.content == *content;
        match self.incoming.iter().find(same) {
            Some(known) => Repetition::Repeated(known.reply.clone()),
            None => Repetition::New,
        }
    }

    /// Keeps a request of the Thing.
    pub(super) fn begin_incoming(
        &mut self,
        message: &Message,
        content: blake3::Hash,
        binding: RequestBinding,
    ) {
        make_room(&mut self.incoming, EXCHANGES_MAX);
        self.incoming.push_back(Incoming {
            id: message.id,
            token: message.token,
            content,
            binding,
            reply: None,
        });
    }

    /// The request that a response is for.
    pub(super) fn answered(&self, response: &Message) -> Option<&RequestBinding> {
        let by_id = response.message_type == MessageType::Acknowledgement;
        let mut newest_first = self.incoming.iter().rev();
        let found = newest_first.find(|one| match by_id {
            true => one.id == response.id,
            false => one.token == response.token,
        });
        found.map(|one| &one.binding)
    }

    /// Keeps what is sent for a request with this message id, for repetitions of it.
    pub(super) fn keep_reply(&mut self, message: &Message, bytes: &[u8]) {
        let is_reply = matches!(
            message.message_type,
            MessageType::Acknowledgement | MessageType::Reset
        );
        let mut newest_first = self.incoming.iter_mut().rev();
        let found = newest_first.find(|one| is_reply && one.id == message.id);
        if let Some(incoming) = found {
            incoming.reply = Some(bytes.to_vec());
        }
    }

    /// Keeps a request to the Thing, as this datagram.
    pub(super) fn begin_outgoing(
        &mut self,
        request: Outgoing,
        message: &Message,
        content: blake3::Hash,
        datagram: &[u8],
    ) {
        if message.message_type == MessageType::Confirmable {
            make_room(&mut self.unanswered, UNANSWERED_MAX);
            self.unanswered.push_back(Unanswered {
                id: message.id,
                token: message.token,
                content,
                datagram: datagram.to_vec(),
            });
        }
        let observes = request.answers.observes;
        let limit = if observes {
            OBSERVATIONS_MAX
        } else {
            REQUESTS_MAX
        };
        let of_kind = |one: &Outgoing| one.answers.observes == observes;
        if self.outgoing.iter().filter(|one| of_kind(one)).count() >= limit
            && let Some(oldest) = self.outgoing.iter().position(of_kind)
        {
            self.outgoing.remove(oldest);
        }
        self.outgoing.push_back(request);
    }

    /// The datagram of a request that is repeated.
    pub(super) fn sent_before(&self, request: &Message, content: &blake3::Hash) -> Option<&[u8]> {
        let mut requests = self.unanswered.iter();
        let same = |one: &&Unanswered| (one.id, one.token) == (request.id, request.token);
        let known = requests.find(same)?;
        (known.content == *content).then_some(&known.datagram)
    }

    /// Forgets the datagram of a request that is acknowledged, answered or refused.
    pub(super) fn end_transmission(&mut self, id: u16) {
        self.unanswered.retain(|one| one.id != id);
    }

    /// The request that a response of the Thing is for.
    pub(super) fn request(&mut self, token: Token) -> Option<&mut Outgoing> {
        let mut newest_first = self.outgoing.iter_mut().rev();
        newest_first.find(|one| one.token == token)
    }

    /// Remembers the id of a confirmable message to the Thing.
    pub(super) fn expect_acknowledgement(&mut self, message: &Message) {
        if message.message_type == MessageType::Confirmable
            && !self.confirmables.contains(&message.id)
        {
            make_room(&mut self.confirmables, CONFIRMABLES_MAX);
            self.confirmables.push_back(message.id);
        }
    }

    /// True if an acknowledgement or reset with this id is for a message of this session.
    pub(super) fn expects(&self, id: u16) -> bool {
        self.confirmables.contains(&id)
    }
}

fn make_room<T>(queue: &mut VecDeque<T>, limit: usize) {
    if queue.len() >= limit {
        queue.pop_front();
    }
}
