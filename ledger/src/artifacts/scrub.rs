use lamplighter_types::Hash;

use super::{Artifacts, RANGE_BYTES_MAX};

/// A scrubber's position in the artifacts. It goes through all of them and starts over.
#[derive(Clone, Debug, Default)]
pub struct ArtifactScrub {
    digest: Option<Hash>,
    offset: u64,
}

impl Artifacts {
    /// Reads and verifies about `bytes` bytes; a damaged artifact is moved aside as in
    /// [`Artifacts::read`].
    pub async fn scrub(&self, at: &mut ArtifactScrub, bytes: u64) {
        let mut remaining = bytes;
        while remaining > 0 {
            let next = self
                .list()
                .into_iter()
                .find(|(digest, _)| at.digest.is_none_or(|current| *digest >= current));
            let Some((digest, size)) = next else {
                *at = ArtifactScrub::default();
                return;
            };
            if at.digest != Some(digest) {
                (at.digest, at.offset) = (Some(digest), 0);
            }
            let length = size.saturating_sub(at.offset).clamp(1, RANGE_BYTES_MAX);
            if let Err(error) = self.read(digest, at.offset, length).await {
                tracing::debug!(%digest, %error, "an artifact is gone");
            }
            at.offset += length;
            remaining = remaining.saturating_sub(length);
            if at.offset >= size {
                at.digest = Some(after(digest));
                at.offset = 0;
                if at.digest == Some(Hash::ZERO) {
                    *at = ArtifactScrub::default();
                    return;
                }
            }
        }
    }
}

/// The next digest there could be; zero after the last one.
fn after(digest: Hash) -> Hash {
    let mut bytes = digest.0;
    for byte in bytes.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    Hash(bytes)
}
