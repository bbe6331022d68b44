//! The reception of an image that is sent to several Things at once: its blocks come in any order,
//! and a map shows which are there.
//!
//! Whoever is in a cast has its key and can make blocks. So a group of 16 KiB is checked as soon as
//! it is complete. One that is false is forgotten, and the Thing takes no other cast for this
//! update. With the first block that comes by unicast it leaves the cast: what the gateway sends to
//! it alone, nobody else can make.

use std::net::SocketAddr;
use std::ops::Range;

use lamplighter_gateway::cast::{self, BlockMap, CastCipher, Invitation};
use lamplighter_gateway::coap::block::{SZX_MAX, size_bytes};
use lamplighter_gateway::coap::qblock::{BlockReceiver, SET_BLOCKS, encode_missing};
use lamplighter_gateway::coap::{Block, Code, Request, Response, format};
use lamplighter_types::artifact::{GROUP_BYTES, Groups};
use lamplighter_types::{HexBytes, ReleaseManifest};
use serde::{Deserialize, Serialize};

use super::ThingError;
use super::machine::Machine;
use super::state::UpdatePhase;
use super::update::PACKAGE_FILE;

/// The map of the package, beside it.
const MAP_FILE: &str = "package.map";
/// Missing blocks in one answer to a set: two sets.
const MISSING_MAX: usize = 2 * SET_BLOCKS as usize;

/// The blocks of a package that comes in any order.
#[derive(Debug)]
pub(super) struct PackageMap {
    szx: u8,
    pub(super) blocks: BlockMap,
    /// The values of the groups; they are not kept over a boot.
    groups: Option<Groups>,
    /// Bytes that came since the map was written to the disk.
    unsaved_bytes: u64,
    /// Blocks of sets that came since the last answer.
    unanswered: u32,
}

/// The map on the disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredMap {
    szx: u8,
    blocks: u32,
    map: HexBytes,
}

/// The cast that the Thing is in.
#[derive(Debug)]
pub(super) struct CastReception {
    address: SocketAddr,
    cipher: CastCipher,
}

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlockFate {
    /// It was there already.
    Repeated,
    New,
    /// It was the last one of a group whose bytes are not those of the image.
    FalseGroup,
}

impl Machine {
    /// The number and the address of the cast that it is in.
    pub(super) fn cast_address(&self) -> Option<(u32, SocketAddr)> {
        let cast = self.cast.as_ref()?;
        Some((cast.cipher.cast(), cast.address))
    }

    /// Leaves the cast: its socket can't be opened.
    pub(super) fn leave_cast(&mut self) -> Result<(), ThingError> {
        self.cast = None;
        Ok(())
    }

    /// Handles an invitation to a cast. The answer has what is there already.
    pub(super) fn accept_invitation(&mut self, bytes: &[u8]) -> Result<Response, ThingError> {
        let refused = |code, reason: &str| Ok(Response::error(code, reason));
        let (invitation, groups) = match Invitation::decode(bytes) {
            Ok(read) => read,
            Err(error) => return refused(Code::BAD_REQUEST, &error.to_string()),
        };
        let update = self.state.update.as_ref();
        let Some(update) = update.filter(|update| update.phase == UpdatePhase::Downloading) else {
            return refused(Code::METHOD_NOT_ALLOWED, "no package is awaited");
        };
        if update.without_casts || !self.config.takes_casts {
            return refused(Code::METHOD_NOT_ALLOWED, "no cast");
        }
        let manifest = self.offer().map(|offer| self.verified_manifest(&offer));
        let Some(Ok(manifest)) = manifest else {
            return refused(Code::FORBIDDEN, "no release was offered");
        };
        let subject = (invitation.artifact, invitation.size_bytes);
        if subject != (manifest.artifact, manifest.size_bytes) {
            return refused(Code::FORBIDDEN, "another image was offered");
        }
        if invitation.szx > self.config.coap.szx {
            return refused(Code::TOO_LARGE, "smaller blocks");
        }
        if !self.has_map_of(invitation.szx)? {
            self.map = self.map_of_package(&manifest, invitation.szx);
            self.blocks = BlockReceiver::default();
            // Before the first gap: without its map the package would count as far as it reaches.
            self.save_map(true)?;
        }
        let Some(map) = self.map.as_mut() else {
            return refused(Code::FORBIDDEN, "too many blocks");
        };
        map.groups = Some(groups);
        let held = map.blocks.encode();
        self.cast = Some(CastReception {
            address: invitation.address(),
            cipher: CastCipher::new(invitation.cast, &invitation.key),
        });
        Ok(Response {
            code: Code::CHANGED,
            ..Response::content(format::OCTETS, held)
        })
    }

    /// A map of what has come in order so far.
    fn map_of_package(&self, manifest: &ReleaseManifest, szx: u8) -> Option<PackageMap> {
        let count = cast::block_count(manifest.size_bytes, szx)?;
        let mut blocks = BlockMap::new(count)?;
        let in_order = self.received_bytes() / size_bytes(szx) as u64;
        (0..count).take(in_order as usize).for_each(|number| {
            blocks.hold(number);
        });
        Some(PackageMap {
            szx,
            blocks,
            groups: None,
            unsaved_bytes: 0,
            unanswered: 0,
        })
    }

    /// The encoded map of the package; `None` if what has come of it came in order.
    pub(super) fn held_blocks(&self) -> Option<Vec<u8>> {
        match self.state.update.as_ref()?.phase {
            UpdatePhase::Downloading => Some(self.map.as_ref()?.blocks.encode()),
            UpdatePhase::Downloaded => Some(BlockMap::encode_full()),
            _ => None,
        }
    }

    /// Bytes from the first on that have come, of a package with a map.
    pub(super) fn mapped_bytes(&self) -> Option<u64> {
        let map = self.map.as_ref()?;
        let bytes = u64::from(map.blocks.prefix()) * size_bytes(map.szx) as u64;
        Some(bytes.min(self.disk.size(PACKAGE_FILE)))
    }

    /// Takes a datagram of the cast. Anybody can have sent it.
    pub(super) fn accept_cast(&mut self, datagram: &[u8]) -> Result<(), ThingError> {
        let opened = self
            .cast
            .as_ref()
            .and_then(|cast| cast.cipher.open(datagram));
        let (Some((number, bytes)), Some(offer)) = (opened, self.offer()) else {
            return Ok(());
        };
        let Ok(manifest) = self.verified_manifest(&offer) else {
            return Ok(());
        };
        self.hold_block(number, &bytes, &manifest)?;
        if self.map.as_ref().is_some_and(|map| map.blocks.is_full()) {
            self.complete(&manifest)?;
        }
        Ok(())
    }

    /// Takes a block of a package with a map that comes by unicast, to repair what a cast lacks.
    pub(super) fn accept_repair(
        &mut self,
        request: &Request,
        block: Block,
        manifest: &ReleaseManifest,
    ) -> Result<Response, ThingError> {
        self.cast = None;
        let fate = self.hold_block(block.number, &request.payload, manifest)?;
        if self.map.as_ref().is_some_and(|map| map.blocks.is_full()) {
            let refusal = self.complete(manifest)?;
            return Ok(refusal.unwrap_or_else(|| Response {
                block1: request.block1,
                ..Response::new(Code::CHANGED)
            }));
        }
        if request.q_block1.is_none() {
            return Ok(match block.more {
                true => Response {
                    block1: request.block1,
                    ..Response::new(Code::CONTINUE)
                },
                false => Response::error(Code::INCOMPLETE, "blocks before it are missing"),
            });
        }
        let Some(map) = self.map.as_mut() else {
            return Ok(Response::new(Code::EMPTY));
        };
        // The gateway sends a set again that had no answer. The last block of another one may end
        // a set that is shorter.
        map.unanswered += 1;
        let is_end = (block.number + 1).is_multiple_of(SET_BLOCKS);
        if fate == BlockFate::New && map.unanswered < SET_BLOCKS && !is_end {
            return Ok(Response::new(Code::EMPTY));
        }
        map.unanswered = 0;
        let missing = map.blocks.missing().take(MISSING_MAX);
        Ok(Response {
            code: Code::INCOMPLETE,
            ..Response::content(format::MISSING_BLOCKS, encode_missing(missing))
        })
    }

    fn hold_block(
        &mut self,
        number: u32,
        bytes: &[u8],
        manifest: &ReleaseManifest,
    ) -> Result<BlockFate, ThingError> {
        let Some(map) = self.map.as_mut() else {
            return Ok(BlockFate::Repeated);
        };
        let size = size_bytes(map.szx);
        let start = u64::from(number) * size as u64;
        let expected = manifest.size_bytes.saturating_sub(start).min(size as u64);
        // A member of the cast can make any block.
        if bytes.len() as u64 != expected || !map.blocks.hold(number) {
            return Ok(BlockFate::Repeated);
        }
        map.unsaved_bytes += expected;
        self.write_block(start, bytes, start + expected)?;
        if !self.check_group(number, size)? {
            return Ok(BlockFate::FalseGroup);
        }
        self.save_map(false)?;
        Ok(BlockFate::New)
    }

    /// Checks the group of a block if it is complete; false if it is not that of the image, and was
    /// forgotten.
    fn check_group(&mut self, number: u32, size: usize) -> Result<bool, ThingError> {
        let Some(map) = self.map.as_mut() else {
            return Ok(true);
        };
        let in_group = (GROUP_BYTES / size) as u32;
        let group = number / in_group;
        let numbers = group * in_group..((group + 1) * in_group).min(map.blocks.blocks());
        let Some(groups) = map
            .groups
            .as_ref()
            .filter(|_| map.blocks.has_all(numbers.clone()))
        else {
            return Ok(true);
        };
        let offset = u64::from(group) * GROUP_BYTES as u64;
        let length = groups.group_bytes(u64::from(group));
        let bytes = self.disk.read_at(PACKAGE_FILE, offset, length)?;
        if groups.verify(u64::from(group), &bytes).is_ok() {
            return Ok(true);
        }
        self.forget_group(numbers)?;
        Ok(false)
    }

    fn forget_group(&mut self, numbers: Range<u32>) -> Result<(), ThingError> {
        tracing::warn!(device = %self.config.device, ?numbers, "a cast had false blocks");
        if let Some(map) = self.map.as_mut() {
            map.blocks.forget(numbers);
        }
        self.refuse_casts()?;
        self.save_map(true)
    }

    /// Takes no other cast for this update.
    fn refuse_casts(&mut self) -> Result<(), ThingError> {
        if let Some(update) = self.state.update.as_mut() {
            update.without_casts = true;
        }
        self.save()
    }

    /// Begins again without casts: the whole package with a map is not the image that was signed.
    pub(super) fn restart_without_casts(&mut self) -> Result<Response, ThingError> {
        tracing::warn!(device = %self.config.device, "a cast made another image");
        self.refuse_casts()?;
        self.drop_package()?;
        Ok(Response::error(Code::INCOMPLETE, "blocks were false"))
    }

    /// Writes the map now and then: a boot loses the blocks since. What it names is durable before.
    fn save_map(&mut self, at_once: bool) -> Result<(), ThingError> {
        let Some(map) = self.map.as_mut() else {
            return Ok(());
        };
        if !at_once && map.unsaved_bytes < super::package::SYNC_EVERY_BYTES {
            return Ok(());
        }
        map.unsaved_bytes = 0;
        let stored = StoredMap {
            szx: map.szx,
            blocks: map.blocks.blocks(),
            map: HexBytes(map.blocks.encode()),
        };
        let bytes = serde_json::to_vec(&stored).expect("the map has only text keys");
        self.disk.sync(PACKAGE_FILE)?;
        self.disk.replace(MAP_FILE, &bytes)
    }

    /// Reads the map of a package that a boot interrupted. One that does not read is of no use, nor
    /// is its package, whose gaps it would show.
    pub(super) fn load_map(&mut self) -> Result<(), ThingError> {
        let Some(bytes) = self.disk.read(MAP_FILE)? else {
            return Ok(());
        };
        let stored = serde_json::from_slice::<StoredMap>(&bytes).ok();
        let is_awaited = self.state.update.as_ref().map(|u| u.phase);
        let read = stored
            .filter(|stored| is_awaited == Some(UpdatePhase::Downloading) && stored.szx <= SZX_MAX)
            .and_then(|stored| {
                let mut blocks = BlockMap::decode(stored.blocks, &stored.map.0)?;
                // A power cut may have come between the end of the package and that of its map.
                let whole = self.disk.size(PACKAGE_FILE) / size_bytes(stored.szx) as u64;
                blocks.forget(u32::try_from(whole).ok()?..stored.blocks);
                Some((stored.szx, blocks))
            });
        match read {
            Some((szx, blocks)) => {
                self.map = Some(PackageMap {
                    szx,
                    blocks,
                    groups: None,
                    unsaved_bytes: 0,
                    unanswered: 0,
                });
                Ok(())
            }
            // It is complete, and the map was about to be removed.
            None if is_awaited != Some(UpdatePhase::Downloading) => self.disk.remove(MAP_FILE),
            None => self.drop_package(),
        }
    }

    /// Keeps of a package with a map what is in order, as if it had come so.
    fn straighten_package(&mut self) -> Result<(), ThingError> {
        if let Some(bytes) = self.mapped_bytes() {
            self.disk.truncate(PACKAGE_FILE, bytes)?;
            self.forget_map()?;
        }
        Ok(())
    }

    /// Forgets the map; its package is in order, or about to be removed.
    pub(super) fn forget_map(&mut self) -> Result<(), ThingError> {
        (self.map, self.cast) = (None, None);
        self.disk.remove(MAP_FILE)
    }

    /// Removes the package and all that is known of its blocks.
    pub(super) fn drop_package(&mut self) -> Result<(), ThingError> {
        self.disk.remove(PACKAGE_FILE)?;
        self.forget_map()
    }

    /// True if the package has a map of blocks of this size. One of another size is of no use.
    pub(super) fn has_map_of(&mut self, szx: u8) -> Result<bool, ThingError> {
        if self.map.as_ref().is_some_and(|map| map.szx != szx) {
            self.straighten_package()?;
        }
        Ok(self.map.is_some())
    }
}
