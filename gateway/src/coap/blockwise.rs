//! Block-wise transfer on the serving side (RFC 7959), without IO. It assembles bodies of requests
//! from Block1 and cuts large responses for Block2. Both tables are bounded, have one entry for
//! each peer, and drop entries that are idle, or the oldest one to make room: a peer that leaves
//! bodies unfinished does not hold up the others.

use std::collections::HashMap;

use std::time::Duration;

use tokio::time::Instant;

use super::block::{Block, SZX_MAX, size_bytes};
use super::config::CoapConfig;
use super::message::Code;
use super::peer::Peer;
use super::request::{Request, Response};

/// Bodies of registered peers that are assembled at a time: a quarter of the largest mesh. With 64
/// KiB each this is 16 MiB at most.
const REGISTERED_BODIES_MAX: usize = 256;
/// Bodies of strangers that are assembled at a time, 4 MiB at most. Strangers have their own limit
/// so that they cannot displace the bodies of registered peers.
const STRANGER_BODIES_MAX: usize = 64;
/// Large responses that are cached for their next blocks.
const RESPONSES_MAX: usize = 64;
/// The time that an unfinished body or response is cached after its last block.
const IDLE: Duration = Duration::from_secs(60);

/// The handling of a request's blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyPolicy {
    /// The service takes each block by itself, and gives each block of its response by itself.
    SingleBlocks,
    /// Blocks are assembled, in the share of registered peers.
    Registered,
    /// Blocks are assembled, in the share of strangers.
    Stranger,
    /// Blocks are refused with this response.
    Refused(Response),
}

/// The result of accepting a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Assembled {
    /// The request is complete: handle it.
    Complete(Request),
    /// Send this response; there is nothing to handle.
    Reply(Response),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ResourceKey {
    method: Code,
    path: Vec<String>,
    query: Vec<String>,
}

#[derive(Debug)]
struct PartialBody {
    key: ResourceKey,
    known: bool,
    bytes: Vec<u8>,
    used_at: Instant,
}

#[derive(Debug)]
struct CachedResponse {
    key: ResourceKey,
    response: Response,
    used_at: Instant,
}

/// Unfinished bodies and responses of all peers.
#[derive(Debug)]
pub(super) struct Blockwise {
    szx: u8,
    body_bytes_max: usize,
    bodies: HashMap<Peer, PartialBody>,
    responses: HashMap<Peer, CachedResponse>,
}

impl Blockwise {
    pub(super) fn new(config: &CoapConfig) -> Blockwise {
        let (szx, body_bytes_max) = (config.szx.min(SZX_MAX), config.body_bytes_max);
        Blockwise {
            szx,
            body_bytes_max,
            bodies: HashMap::new(),
            responses: HashMap::new(),
        }
    }

    /// Takes a request: adds its block to a body, or finds the block of a response that was cut.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        peer: Peer,
        request: Request,
        policy: BodyPolicy,
    ) -> Assembled {
        self.drop_idle(now);
        if policy == BodyPolicy::SingleBlocks {
            return Assembled::Complete(request);
        }
        if request.q_block1.is_some() {
            // Only a service that takes single blocks takes them in sets.
            return Assembled::Reply(Response::error(Code::BAD_OPTION, "Q-Block1"));
        }
        if let Some(block) = request.block2.filter(|b| b.number > 0) {
            return self.next_block(now, peer, &request, block);
        }
        let Some(block) = request.block1 else {
            return Assembled::Complete(request);
        };
        match policy {
            BodyPolicy::SingleBlocks => Assembled::Complete(request),
            BodyPolicy::Registered => self.add_block(now, peer, request, block, true),
            BodyPolicy::Stranger => self.add_block(now, peer, request, block, false),
            BodyPolicy::Refused(response) => Assembled::Reply(response),
        }
    }

    /// Cuts a response that is larger than a block; small ones pass.
    pub(super) fn cut_response(
        &mut self,
        now: Instant,
        peer: Peer,
        request: &Request,
        mut response: Response,
    ) -> Response {
        if response.block1.is_none() {
            response.block1 = request.block1.map(|b| Block { more: false, ..b });
        }
        if response.block2.is_some() {
            return response;
        }
        let szx = request.block2.map_or(self.szx, |b| b.szx.min(self.szx));
        if response.payload.len() <= size_bytes(szx) {
            return response;
        }
        if response.payload.len() > self.body_bytes_max {
            return Response::error(Code::INTERNAL_ERROR, "response too large");
        }
        if !self.responses.contains_key(&peer) && self.responses.len() >= RESPONSES_MAX {
            let all = self.responses.iter();
            let oldest = all.min_by_key(|(_, cached)| cached.used_at);
            if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
                self.responses.remove(&oldest);
            }
        }
        let digest = blake3::hash(&response.payload);
        response.etag = Some(digest.as_bytes()[..8].to_vec());
        let first = block_of(
            &response,
            Block {
                number: 0,
                more: true,
                szx,
            },
        );
        response.block1 = None;
        let cached = CachedResponse {
            key: resource_key(request),
            response,
            used_at: now,
        };
        self.responses.insert(peer, cached);
        first.unwrap_or_else(|| Response::error(Code::INTERNAL_ERROR, "empty block"))
    }

    fn next_block(
        &mut self,
        now: Instant,
        peer: Peer,
        request: &Request,
        block: Block,
    ) -> Assembled {
        let szx = block.szx.min(self.szx);
        // A client that asked for larger blocks than ours counts in our size from then on.
        let number = (block.offset_bytes() / size_bytes(szx) as u64) as u32;
        let wanted = resource_key(request);
        let cached = self.responses.get_mut(&peer);
        let Some(cached) = cached.filter(|cached| cached.key == wanted) else {
            let missing = Response::error(Code::INCOMPLETE, "start again at block 0");
            return Assembled::Reply(missing);
        };
        cached.used_at = now;
        let answer = block_of(
            &cached.response,
            Block {
                number,
                more: false,
                szx,
            },
        );
        Assembled::Reply(answer.unwrap_or_else(|| Response::error(Code::BAD_REQUEST, "block")))
    }

    fn add_block(
        &mut self,
        now: Instant,
        peer: Peer,
        mut request: Request,
        block: Block,
        known: bool,
    ) -> Assembled {
        let key = resource_key(&request);
        let answer = |code, reason: &str| {
            let error = Response::error(code, reason);
            Assembled::Reply(Response {
                block1: Some(block),
                ..error
            })
        };
        let full = request.payload.len() == block.size_bytes();
        if request.payload.len() > block.size_bytes() || (block.more && !full) {
            return answer(Code::BAD_REQUEST, "payload does not fill its block");
        }
        if block.number == 0 {
            if !block.more {
                return Assembled::Complete(request);
            }
            self.begin_body(now, peer, key.clone(), known);
        }
        let body = self.bodies.get_mut(&peer);
        let Some(body) = body.filter(|body| body.key == key) else {
            return answer(Code::INCOMPLETE, "start again at block 0");
        };
        if body.bytes.len() as u64 != block.offset_bytes() {
            return answer(Code::INCOMPLETE, "a block is missing");
        }
        if body.bytes.len() + request.payload.len() > self.body_bytes_max {
            self.bodies.remove(&peer);
            return answer(Code::TOO_LARGE, "body too large");
        }
        body.bytes.append(&mut request.payload);
        body.used_at = now;
        if !block.more {
            let body = self.bodies.remove(&peer);
            request.payload = body.map(|body| body.bytes).unwrap_or_default();
            return Assembled::Complete(request);
        }
        // Asking for smaller blocks is only possible at the first one (section 2.3).
        let szx = match block.number {
            0 => block.szx.min(self.szx),
            _ => block.szx,
        };
        let block1 = Some(Block { szx, ..block });
        Assembled::Reply(Response {
            block1,
            ..Response::new(Code::CONTINUE)
        })
    }

    /// Starts an empty body. It replaces the peer's earlier one, or the oldest of the same kind if
    /// there is no room.
    fn begin_body(&mut self, now: Instant, peer: Peer, key: ResourceKey, known: bool) {
        self.bodies.remove(&peer);
        let max = if known {
            REGISTERED_BODIES_MAX
        } else {
            STRANGER_BODIES_MAX
        };
        let same = self.bodies.iter().filter(|(_, body)| body.known == known);
        if same.clone().count() >= max {
            let oldest = same.min_by_key(|(_, body)| body.used_at);
            if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
                self.bodies.remove(&oldest);
            }
        }
        let body = PartialBody {
            key,
            known,
            bytes: Vec::new(),
            used_at: now,
        };
        self.bodies.insert(peer, body);
    }

    fn drop_idle(&mut self, now: Instant) {
        self.bodies
            .retain(|_, body| now.duration_since(body.used_at) < IDLE);
        self.responses
            .retain(|_, cached| now.duration_since(cached.used_at) < IDLE);
    }
}

fn resource_key(request: &Request) -> ResourceKey {
    let Request {
        method,
        path,
        query,
        ..
    } = request;
    ResourceKey {
        method: *method,
        path: path.clone(),
        query: query.clone(),
    }
}

/// One block of a response; `None` if the block lies beyond its end.
fn block_of(whole: &Response, block: Block) -> Option<Response> {
    let start = usize::try_from(block.offset_bytes()).ok()?;
    let end = whole
        .payload
        .len()
        .min(start.checked_add(block.size_bytes())?);
    let payload = whole
        .payload
        .get(start..end)
        .filter(|p| !p.is_empty())?
        .to_vec();
    let more = end < whole.payload.len();
    let size2 = (block.number == 0).then_some(whole.payload.len() as u32);
    Some(Response {
        block2: Some(Block { more, ..block }),
        size2,
        payload,
        ..whole.clone()
    })
}
