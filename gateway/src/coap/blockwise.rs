//! Block-wise transfer on the serving side (RFC 7959), without IO: bodies of requests are put
//! together from Block1, large responses are cut for Block2. Both tables are bounded and forget.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::block::{Block, SZX_MAX, size_bytes};
use super::config::Config;
use super::message::Code;
use super::request::{Request, Response};

/// Bodies that are being put together at a time; with 64 KiB each this is 4 MiB at most.
const ASSEMBLIES_MAX: usize = 64;
/// Large responses that are kept for their next blocks.
const RESPONSES_MAX: usize = 64;
/// How long an unfinished body or response is kept after its last block.
const IDLE: Duration = Duration::from_secs(60);

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Assembled {
    /// It is complete: handle it.
    Whole(Request),
    /// Answer this; nothing is to be handled.
    Answer(Response),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    peer: SocketAddr,
    method: Code,
    path: Vec<String>,
    query: Vec<String>,
}

#[derive(Debug)]
struct Body {
    bytes: Vec<u8>,
    used_at: Instant,
}

#[derive(Debug)]
struct Kept {
    response: Response,
    used_at: Instant,
}

/// Bodies and responses under way.
#[derive(Debug)]
pub(super) struct Blockwise {
    szx: u8,
    body_bytes_max: usize,
    bodies: HashMap<Key, Body>,
    responses: HashMap<Key, Kept>,
}

impl Blockwise {
    pub(super) fn new(config: &Config) -> Blockwise {
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
        peer: SocketAddr,
        request: Request,
        takes_blocks: bool,
    ) -> Assembled {
        self.forget(now);
        if let Some(block) = request.block2.filter(|b| b.number > 0) {
            return self.next_block(now, peer, &request, block);
        }
        match request.block1 {
            Some(block) if !takes_blocks => self.add_block(now, peer, request, block),
            _ => Assembled::Whole(request),
        }
    }

    /// Cuts a response that is larger than a block; small ones pass.
    pub(super) fn slice(
        &mut self,
        now: Instant,
        peer: SocketAddr,
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
        if self.responses.len() >= RESPONSES_MAX {
            return Response::error(Code::UNAVAILABLE, "too many large responses under way");
        }
        let digest = blake3::hash(&response.payload);
        response.etag = Some(digest.as_bytes()[..8].to_vec());
        let first = cut(
            &response,
            Block {
                number: 0,
                more: true,
                szx,
            },
        );
        response.block1 = None;
        self.responses.insert(
            key(peer, request),
            Kept {
                response,
                used_at: now,
            },
        );
        first.unwrap_or_else(|| Response::error(Code::INTERNAL_ERROR, "empty block"))
    }

    fn next_block(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        request: &Request,
        block: Block,
    ) -> Assembled {
        let szx = block.szx.min(self.szx);
        // A client that asked for larger blocks than we give counts in ours from then on.
        let number = (block.offset_bytes() / size_bytes(szx) as u64) as u32;
        let kept = self.responses.get_mut(&key(peer, request));
        let Some(kept) = kept else {
            let gone = Response::error(Code::INCOMPLETE, "start again at block 0");
            return Assembled::Answer(gone);
        };
        kept.used_at = now;
        let answer = cut(
            &kept.response,
            Block {
                number,
                more: false,
                szx,
            },
        );
        Assembled::Answer(answer.unwrap_or_else(|| Response::error(Code::BAD_REQUEST, "block")))
    }

    fn add_block(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        mut request: Request,
        block: Block,
    ) -> Assembled {
        let key = key(peer, &request);
        let answer = |code, reason: &str| {
            let error = Response::error(code, reason);
            Assembled::Answer(Response {
                block1: Some(block),
                ..error
            })
        };
        if block.number == 0 {
            self.bodies.remove(&key);
        }
        let full = request.payload.len() == block.size_bytes();
        if request.payload.len() > block.size_bytes() || (block.more && !full) {
            return answer(Code::BAD_REQUEST, "payload does not fill its block");
        }
        if block.number == 0 && self.bodies.len() >= ASSEMBLIES_MAX {
            return answer(Code::UNAVAILABLE, "too many bodies under way");
        }
        let fresh = || Body {
            bytes: Vec::new(),
            used_at: now,
        };
        let body = match block.number {
            0 => self.bodies.entry(key.clone()).or_insert_with(fresh),
            _ => match self.bodies.get_mut(&key) {
                Some(body) => body,
                None => return answer(Code::INCOMPLETE, "start again at block 0"),
            },
        };
        if body.bytes.len() as u64 != block.offset_bytes() {
            return answer(Code::INCOMPLETE, "a block is missing");
        }
        if body.bytes.len() + request.payload.len() > self.body_bytes_max {
            self.bodies.remove(&key);
            return answer(Code::TOO_LARGE, "body too large");
        }
        body.bytes.append(&mut request.payload);
        body.used_at = now;
        if block.more {
            // Asking for smaller blocks is only possible at the first one (section 2.3).
            let szx = if block.number == 0 {
                block.szx.min(self.szx)
            } else {
                block.szx
            };
            let block1 = Some(Block { szx, ..block });
            return Assembled::Answer(Response {
                block1,
                ..Response::new(Code::CONTINUE)
            });
        }
        request.payload = self
            .bodies
            .remove(&key)
            .map(|b| b.bytes)
            .unwrap_or_default();
        Assembled::Whole(request)
    }

    fn forget(&mut self, now: Instant) {
        self.bodies
            .retain(|_, body| now.duration_since(body.used_at) < IDLE);
        self.responses
            .retain(|_, kept| now.duration_since(kept.used_at) < IDLE);
    }
}

fn key(peer: SocketAddr, request: &Request) -> Key {
    let Request {
        method,
        path,
        query,
        ..
    } = request;
    Key {
        peer,
        method: *method,
        path: path.clone(),
        query: query.clone(),
    }
}

/// One block of a response; `None` if the block lies beyond its end.
fn cut(whole: &Response, block: Block) -> Option<Response> {
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
