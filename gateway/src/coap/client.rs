//! Block-wise transfer on the requesting side (RFC 7959): whole bodies in and out, and uploads
//! that start at any block.

use thiserror::Error;

use super::block::{BLOCK_NUMBER_MAX, Block, SZX_MAX, size_bytes};
use super::exchange::RequestError;
use super::handle::CoapHandle;
use super::message::Code;
use super::peer::Peer;
use super::request::{Request, Response};

/// A body could not be transferred.
#[derive(Debug, Error)]
pub enum TransferError {
    /// A message received no response.
    #[error("asking {path}")]
    Request {
        /// The resource.
        path: String,
        /// The cause.
        #[source]
        source: RequestError,
    },
    /// The body is longer than the limit of this endpoint, or than 2^20 blocks.
    #[error("the body of {path} exceeds {bytes_max} bytes")]
    TooLarge {
        /// The resource.
        path: String,
        /// The limit.
        bytes_max: usize,
    },
    /// The peer changed the representation while it was read, or sent the wrong block.
    #[error("the blocks of {path} do not fit together")]
    BlocksDiffer {
        /// The resource.
        path: String,
    },
}

/// The party that answers a challenge, a response 4.01 with the option Echo (RFC 9175).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChallengeAnswer {
    /// The endpoint repeats the request with the challenge.
    Repetition,
    /// The caller gets the response, since it has more to add than the challenge.
    Caller,
}

impl CoapHandle {
    /// Sends a request with its whole body and returns the response with its whole body. Bodies
    /// larger than a block travel in blocks. Bodies are bounded by `CoapConfig::body_bytes_max`.
    pub async fn request(
        &self,
        peer: impl Into<Peer>,
        request: Request,
    ) -> Result<Response, TransferError> {
        self.transfer(peer.into(), request, ChallengeAnswer::Repetition)
            .await
    }

    /// The same for a request that is signed when it is challenged: the challenge is returned.
    /// To repeat the request without a signature first would cost a round trip.
    pub async fn request_to_sign(
        &self,
        peer: impl Into<Peer>,
        request: Request,
    ) -> Result<Response, TransferError> {
        self.transfer(peer.into(), request, ChallengeAnswer::Caller)
            .await
    }

    async fn transfer(
        &self,
        peer: Peer,
        request: Request,
        challenges: ChallengeAnswer,
    ) -> Result<Response, TransferError> {
        let path = request.path_text();
        let bytes_max = self.config().body_bytes_max;
        if request.payload.len() > bytes_max {
            return Err(TransferError::TooLarge { path, bytes_max });
        }
        let szx = self.config().szx.min(SZX_MAX);
        let response = if request.payload.len() > size_bytes(szx) {
            self.send_blocks(peer, &request, szx, challenges).await?
        } else {
            self.ask(peer, request.clone(), challenges).await?
        };
        self.read_rest(peer, &request, response).await
    }

    /// Sends one block of a body that the caller holds. The first block announces `total_bytes`.
    /// The block size that the peer asks for is in the response's `block1`.
    pub async fn send_block(
        &self,
        peer: impl Into<Peer>,
        template: &Request,
        block: Block,
        payload: Vec<u8>,
        total_bytes: u64,
    ) -> Result<Response, TransferError> {
        let whole = (payload, total_bytes);
        let challenges = ChallengeAnswer::Repetition;
        self.ask_block(peer.into(), template, block, whole, challenges)
            .await
    }

    async fn ask_block(
        &self,
        peer: Peer,
        template: &Request,
        block: Block,
        (payload, total_bytes): (Vec<u8>, u64),
        challenges: ChallengeAnswer,
    ) -> Result<Response, TransferError> {
        if block.number > BLOCK_NUMBER_MAX {
            let bytes_max = size_bytes(block.szx) << 20;
            return Err(TransferError::TooLarge {
                path: template.path_text(),
                bytes_max,
            });
        }
        let size1 = if block.number == 0 {
            u32::try_from(total_bytes).ok()
        } else {
            None
        };
        let request = Request {
            block1: Some(block),
            size1,
            payload,
            ..template.clone()
        };
        self.ask(peer, request, challenges).await
    }

    async fn send_blocks(
        &self,
        peer: Peer,
        request: &Request,
        mut szx: u8,
        challenges: ChallengeAnswer,
    ) -> Result<Response, TransferError> {
        let body = &request.payload;
        let template = Request {
            payload: Vec::new(),
            ..request.clone()
        };
        let mut sent = 0;
        loop {
            let end = body.len().min(sent + size_bytes(szx));
            let number = (sent / size_bytes(szx)) as u32;
            let more = end < body.len();
            let block = Block { number, more, szx };
            let payload = body[sent..end].to_vec();
            let whole = (payload, body.len() as u64);
            let response = self
                .ask_block(peer, &template, block, whole, challenges)
                .await?;
            let answered = response.block1.map_or(szx, |b| b.szx);
            if response.code == Code::TOO_LARGE && answered < szx && number == 0 {
                szx = answered;
                continue;
            }
            if !more || response.code != Code::CONTINUE {
                return Ok(response);
            }
            sent = end;
            szx = szx.min(answered);
        }
    }

    async fn read_rest(
        &self,
        peer: Peer,
        request: &Request,
        first: Response,
    ) -> Result<Response, TransferError> {
        let Some(mut block) = first.block2 else {
            return Ok(first);
        };
        let path = request.path_text();
        let bytes_max = self.config().body_bytes_max;
        let mut whole = first;
        let template = Request {
            payload: Vec::new(),
            block1: None,
            ..request.clone()
        };
        while block.more {
            if whole.payload.len() + block.size_bytes() > bytes_max {
                return Err(TransferError::TooLarge { path, bytes_max });
            }
            let number = (whole.payload.len() / block.size_bytes()) as u32;
            let wanted = Block {
                number,
                more: false,
                szx: block.szx,
            };
            let next = self
                .ask(
                    peer,
                    Request {
                        block2: Some(wanted),
                        ..template.clone()
                    },
                    ChallengeAnswer::Repetition,
                )
                .await?;
            let fits = next
                .block2
                .filter(|b| b.offset_bytes() == whole.payload.len() as u64);
            let Some(received) = fits.filter(|b| !b.more || next.payload.len() == b.size_bytes())
            else {
                return Err(TransferError::BlocksDiffer { path });
            };
            if next.etag != whole.etag || next.code != whole.code {
                return Err(TransferError::BlocksDiffer { path });
            }
            whole.payload.extend_from_slice(&next.payload);
            block = received;
        }
        whole.block2 = None;
        Ok(whole)
    }

    /// Sends one request, once more if the peer wants the address to be proven.
    async fn ask(
        &self,
        peer: Peer,
        mut request: Request,
        challenges: ChallengeAnswer,
    ) -> Result<Response, TransferError> {
        let path = request.path_text();
        let mut result = self.exchange(peer, request.clone()).await;
        if let Ok(response) = &mut result
            && response.code == Code::UNAUTHORIZED
            && challenges == ChallengeAnswer::Repetition
            && request.echo.is_none()
            && let Some(challenge) = response.echo.take()
        {
            request.echo = Some(challenge);
            result = self.exchange(peer, request).await;
        }
        result.map_err(|source| TransferError::Request { path, source })
    }
}
