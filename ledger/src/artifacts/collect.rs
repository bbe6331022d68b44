//! Removal of complete artifacts that are not needed any more.

use std::time::SystemTime;

use lamplighter_types::Hash;

use super::index::{Charge, StoredArtifact};
use super::{ArtifactError, ArtifactLimits, Artifacts, Uploader, blocking, run_to_completion};

impl Artifacts {
    /// Counts the bytes of a complete artifact to `charge` from now on.
    pub(super) fn set_charge(&self, digest: &Hash, charge: Charge) {
        if let Some(stored) = self.index().complete.get_mut(digest) {
            stored.charge = charge;
        }
    }

    /// Tells whether an artifact that no release names has been here for too long.
    pub(super) fn is_abandoned(&self, digest: &Hash, now: SystemTime) -> bool {
        let index = self.index();
        let stored = index.complete.get(digest);
        stored.is_some_and(|stored| is_abandoned(stored, now, &self.0.limits))
    }

    /// Drops a complete artifact that no release names, for the organization that uploaded it.
    ///
    /// # Errors
    /// There is none, or another organization uploaded it.
    pub async fn drop_unpublished(
        &self,
        uploader: &Uploader,
        digest: Hash,
    ) -> Result<(), ArtifactError> {
        let is_owner = {
            let index = self.index();
            let stored = index.complete.get(&digest);
            stored.is_some_and(|stored| stored.owner.as_ref() == uploader.organization())
        };
        if !is_owner {
            return Err(ArtifactError::Missing(digest));
        }
        self.remove_complete(digest).await
    }

    /// Removes a complete artifact with its files.
    ///
    /// The index comes first, so that no read and no upload meets half of it. After a crash the
    /// next start finds the artifact whole, and it is collected again, or its companions alone,
    /// which it removes.
    pub(super) async fn remove_complete(&self, digest: Hash) -> Result<(), ArtifactError> {
        let artifacts = self.clone();
        run_to_completion(async move {
            // An upload that is completed meanwhile would write the same files.
            let _completing = artifacts.0.completing.lock().await;
            let removed = artifacts.index().complete.remove(&digest);
            let Some(stored) = removed else {
                return Ok(());
            };
            let files = artifacts.0.files.clone();
            let result = blocking(move || files.remove_complete(&digest)).await;
            if result.is_err() {
                // The bytes still count, and the next pass tries again.
                artifacts.index().complete.insert(digest, stored);
            }
            result
        })
        .await
    }
}

fn is_abandoned(stored: &StoredArtifact, now: SystemTime, limits: &ArtifactLimits) -> bool {
    // A clock that was set back drops nothing.
    now.duration_since(stored.modified)
        .is_ok_and(|age| age > limits.unpublished_max)
}
