//! A context at one address: which request a response belongs to, and what was answered already.
//! All of it is bounded; what falls out is repeated by the Thing, or fails as after a loss.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::context::RequestBinding;
use super::option::PartialIv;
use crate::coap::message::{Message, MessageType, Token};

/// Requests of a Thing that are answered or repeated; a Thing has one at a time.
const EXCHANGES_MAX: usize = 4;
/// Requests to a Thing whose responses are understood: two sets of blocks.
const REQUESTS_MAX: usize = 32;
/// Requests among them that observe: twice as many as a Thing has observed instances.
const OBSERVATIONS_MAX: usize = 16;
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
    /// Plaintext and datagram of a confirmable message: a repetition has the same bytes, or the
    /// Thing could answer a number that is forgotten.
    pub(super) sent: Option<(blake3::Hash, Vec<u8>)>,
    /// The notifications, if the request observes.
    pub(super) observation: Option<Observation>,
}

/// The notifications of a resource.
#[derive(Debug, Default)]
pub(super) struct Observation {
    newest: Option<u64>,
    count: u32,
}

impl Observation {
    /// The place of a notification among those that were accepted; `None` if it is older than one
    /// of them (section 7.4.1). The newest one may be repeated, since its acknowledgement may be
    /// lost.
    pub(super) fn accept(&mut self, partial_iv: Option<&PartialIv>) -> Option<u32> {
        let number = partial_iv.map(PartialIv::number);
        if number < self.newest {
            return None;
        }
        if number > self.newest || self.count == 0 {
            self.newest = number;
            self.count += 1;
        }
        Some(self.count)
    }
}

/// The exchanges of one context at one address.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) address: SocketAddr,
    pub(super) thing_id: Vec<u8>,
    /// Counts up with each use of any session.
    pub(super) used: u64,
    incoming: VecDeque<Incoming>,
    outgoing: VecDeque<Outgoing>,
    confirmables: VecDeque<u16>,
}

impl Session {
    pub(super) fn new(address: SocketAddr, thing_id: Vec<u8>) -> Session {
        Session {
            address,
            thing_id,
            used: 0,
            incoming: VecDeque::new(),
            outgoing: VecDeque::new(),
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

    /// Keeps a request to the Thing.
    pub(super) fn begin_outgoing(&mut self, request: Outgoing) {
        let is_observation = |one: &Outgoing| one.observation.is_some();
        let is_one = is_observation(&request);
        let limit = if is_one {
            OBSERVATIONS_MAX
        } else {
            REQUESTS_MAX
        };
        let of_kind = |one: &Outgoing| is_observation(one) == is_one;
        if self.outgoing.iter().filter(|one| of_kind(one)).count() >= limit
            && let Some(oldest) = self.outgoing.iter().position(of_kind)
        {
            self.outgoing.remove(oldest);
        }
        self.outgoing.push_back(request);
    }

    /// The datagram of a request that is repeated.
    pub(super) fn sent_before(&self, request: &Message, content: &blake3::Hash) -> Option<&[u8]> {
        let mut requests = self.outgoing.iter();
        let known = requests.find(|one| (one.id, one.token) == (request.id, request.token))?;
        let (before, datagram) = known.sent.as_ref()?;
        (before == content).then_some(datagram)
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
