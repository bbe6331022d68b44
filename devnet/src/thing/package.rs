//! The reception of a package, block by block, into a file that survives interruptions.

use lamplighter_gateway::coap::block::size_bytes;
use lamplighter_gateway::coap::qblock::{BlockReceipt, encode_missing};
use lamplighter_gateway::coap::{Block, Code, Request, Response, format};
use lamplighter_types::{DeploymentState, ReleaseManifest};

use super::ThingError;
use super::checks::ReleaseRefusal;
use super::machine::Machine;
use super::state::UpdatePhase;
use super::update::PACKAGE_FILE;

/// The file is synced each time that so many bytes have arrived. A power cut loses little, and the
/// digest shows bytes that it corrupted.
pub(super) const SYNC_EVERY_BYTES: u64 = 16 * 1024;

impl Machine {
    /// Bytes of the offered package that have arrived.
    pub(super) fn received_bytes(&self) -> u64 {
        match self.state.update.as_ref().map(|u| u.phase) {
            Some(UpdatePhase::Downloading | UpdatePhase::Downloaded) => {
                let mapped = self.mapped_bytes();
                mapped.unwrap_or_else(|| self.disk.size(PACKAGE_FILE))
            }
            _ => 0,
        }
    }

    /// True if no block of the package is there.
    pub(super) fn has_nothing(&self) -> bool {
        let mapped = self.map.as_ref().map(|map| map.blocks.held());
        mapped.unwrap_or_default() == 0 && self.received_bytes() == 0
    }

    /// Handles a write to `/5/0/0`: one block, a whole small package, or no bytes to reset the
    /// object.
    pub(super) fn accept_package(&mut self, request: &Request) -> Result<Response, ThingError> {
        let answer = |code, reason: &str| Response::error(code, reason);
        if request.payload.is_empty() {
            let (code, reason) = self.cancel()?;
            return Ok(answer(code, &reason));
        }
        let szx = self.config.coap.szx;
        let whole = Block {
            number: 0,
            more: false,
            szx: 6,
        };
        let block = request.q_block1.or(request.block1).unwrap_or(whole);
        let echo = |code| {
            let block1 = request.block1.map(|b| Block {
                szx: b.szx.min(szx),
                ..b
            });
            Response {
                block1,
                ..Response::new(code)
            }
        };
        let Some(offer) = self.offer() else {
            return Ok(answer(Code::FORBIDDEN, "no release was offered"));
        };
        match self.state.update.as_ref().map(|u| u.phase) {
            Some(UpdatePhase::Downloading) => {}
            Some(UpdatePhase::Downloaded) if request.q_block1.is_some() => {
                return Ok(Response::new(Code::CHANGED));
            }
            Some(UpdatePhase::Downloaded) if block.more => return Ok(echo(Code::CONTINUE)),
            Some(UpdatePhase::Downloaded) => return Ok(echo(Code::CHANGED)),
            _ => return Ok(answer(Code::METHOD_NOT_ALLOWED, "installing")),
        }
        let manifest = match self.verified_manifest(&offer) {
            Ok(manifest) => manifest,
            Err(refusal) => return self.refused(&refusal),
        };
        if block.more && request.payload.len() != block.size_bytes() {
            return Ok(answer(Code::BAD_REQUEST, "payload does not fill its block"));
        }
        let is_mapped = self.has_map_of(block.szx)?;
        let (received, start) = (self.received_bytes(), block.offset_bytes());
        let end = start + request.payload.len() as u64;
        if request.q_block1.is_none() && start > received && !is_mapped {
            return Ok(answer(Code::INCOMPLETE, "a block is missing"));
        }
        // More or fewer bytes than signed are an attack or a fault of the gateway.
        if end > manifest.size_bytes || (!block.more && end != manifest.size_bytes) {
            return self.refused(&ReleaseRefusal::Image);
        }
        if is_mapped {
            return self.accept_repair(request, block, &manifest);
        }
        if request.q_block1.is_some() {
            return self.accept_set_block(request, block, &manifest);
        }
        if end > received {
            self.write_block(start, &request.payload, end)?;
        }
        if end < manifest.size_bytes {
            return Ok(echo(Code::CONTINUE));
        }
        match self.complete(&manifest)? {
            Some(refusal) => Ok(refusal),
            None => Ok(echo(Code::CHANGED)),
        }
    }

    /// Takes a block of a set (RFC 9177). Blocks behind a missing one wait in memory, so that the
    /// file has no gaps: a boot loses them, and the gateway sends them again.
    fn accept_set_block(
        &mut self,
        request: &Request,
        block: Block,
        manifest: &ReleaseManifest,
    ) -> Result<Response, ThingError> {
        let szx = self.config.coap.szx;
        if block.szx > szx {
            return Ok(Response {
                q_block1: Some(Block { szx, ..block }),
                ..Response::new(Code::TOO_LARGE)
            });
        }
        let size = size_bytes(block.szx) as u64;
        let next = (self.received_bytes() / size) as u32;
        let tag = request.request_tag.as_deref().unwrap_or_default();
        let (mut ready, payload) = (Vec::new(), request.payload.clone());
        let receipt = self.blocks.accept(tag, block, next, payload, &mut ready);
        let mut start = u64::from(next) * size;
        for bytes in &ready {
            let end = start + bytes.len() as u64;
            self.write_block(start, bytes, end)?;
            start = end;
        }
        if start == manifest.size_bytes {
            let refusal = self.complete(manifest)?;
            return Ok(refusal.unwrap_or_else(|| Response::new(Code::CHANGED)));
        }
        let next = next + ready.len() as u32;
        Ok(match receipt {
            BlockReceipt::Silence => Response::new(Code::EMPTY),
            BlockReceipt::Continue => Response {
                q_block1: Some(Block {
                    number: next.saturating_sub(1),
                    more: true,
                    szx: block.szx,
                }),
                ..Response::new(Code::CONTINUE)
            },
            BlockReceipt::Missing(numbers) => Response {
                code: Code::INCOMPLETE,
                ..Response::content(format::MISSING_BLOCKS, encode_missing(numbers))
            },
        })
    }

    /// Checks the complete package and reports it; the answer if it is refused.
    pub(super) fn complete(
        &mut self,
        manifest: &ReleaseManifest,
    ) -> Result<Option<Response>, ThingError> {
        if self.disk.digest(PACKAGE_FILE)? != (manifest.artifact, manifest.size_bytes) {
            if self.map.is_some() {
                return self.restart_without_casts().map(Some);
            }
            return self.refused(&ReleaseRefusal::Image).map(Some);
        }
        self.phase(UpdatePhase::Downloaded);
        let digest = Some(manifest.artifact);
        self.report_deployment(DeploymentState::Downloaded, 0, digest, "")?;
        self.save()?;
        self.forget_map()?;
        Ok(None)
    }

    pub(super) fn write_block(
        &mut self,
        start: u64,
        payload: &[u8],
        end: u64,
    ) -> Result<(), ThingError> {
        let mut bytes = payload.to_vec();
        if std::mem::take(&mut self.corrupt_next) {
            bytes[payload.len() / 2] ^= 1;
        }
        let sync = start / SYNC_EVERY_BYTES != end / SYNC_EVERY_BYTES;
        self.disk.write_at(PACKAGE_FILE, start, &bytes, sync)
    }

    fn refused(&mut self, refusal: &ReleaseRefusal) -> Result<Response, ThingError> {
        let (code, reason) = self.refuse(refusal)?;
        Ok(Response::error(code, &reason))
    }
}
