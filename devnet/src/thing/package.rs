//! The reception of a package, block by block, into a file that survives interruptions.

use lamplighter_gateway::coap::{Block, Code, Request, Response};
use lamplighter_types::DeploymentState;

use super::ThingError;
use super::checks::ReleaseRefusal;
use super::machine::Machine;
use super::state::UpdatePhase;
use super::update::PACKAGE_FILE;

/// The file is synced each time that so many bytes have arrived. A power cut loses little, and the
/// digest shows bytes that it corrupted.
const SYNC_EVERY_BYTES: u64 = 16 * 1024;

impl Machine {
    /// Bytes of the offered package that have arrived.
    pub(super) fn received_bytes(&self) -> u64 {
        match self.state.update.as_ref().map(|u| u.phase) {
            Some(UpdatePhase::Downloading | UpdatePhase::Downloaded) => {
                self.disk.size(PACKAGE_FILE)
            }
            _ => 0,
        }
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
        let block = request.block1.unwrap_or(whole);
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
        let (received, start) = (self.received_bytes(), block.offset_bytes());
        let end = start + request.payload.len() as u64;
        if start > received {
            return Ok(answer(Code::INCOMPLETE, "a block is missing"));
        }
        // More or fewer bytes than signed are an attack or a fault of the gateway.
        if end > manifest.size_bytes || (!block.more && end != manifest.size_bytes) {
            return self.refused(&ReleaseRefusal::Image);
        }
        if end > received {
            self.write_block(start, &request.payload, end)?;
        }
        if end < manifest.size_bytes {
            return Ok(echo(Code::CONTINUE));
        }
        if self.disk.digest(PACKAGE_FILE)? != (manifest.artifact, manifest.size_bytes) {
            return self.refused(&ReleaseRefusal::Image);
        }
        self.phase(UpdatePhase::Downloaded);
        let digest = Some(manifest.artifact);
        self.report_deployment(DeploymentState::Downloaded, 0, digest, "")?;
        self.save()?;
        Ok(echo(Code::CHANGED))
    }

    fn write_block(&mut self, start: u64, payload: &[u8], end: u64) -> Result<(), ThingError> {
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
