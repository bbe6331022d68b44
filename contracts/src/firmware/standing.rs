//! What the releases of an artifact say about its bytes.

use lamplighter_state::StateError;
use lamplighter_types::{Hash, Id, Release, ReleaseStatus, Retention};

use super::keys;
use super::read::{is_expired, is_lapsed, release};
use crate::{Reader, governance};

/// Releases read at once.
const PAGE: usize = 256;

/// What the releases of an artifact say about its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No release names it.
    Unpublished,
    /// All its releases have ended.
    Ended {
        /// The organization that published one of them.
        organization: Id,
        /// One of them was approved.
        was_released: bool,
        /// The policy's time to keep the bytes is over.
        collectable: bool,
    },
    /// A release waits for approval.
    Unapproved {
        /// The organization that published it.
        organization: Id,
    },
    /// A release is approved.
    Released,
}

impl Standing {
    /// What two releases say together: the one that needs the bytes more decides.
    fn join(self, other: Self) -> Self {
        use Standing::*;
        match (self, other) {
            (Released, _) | (_, Released) => Released,
            (Unapproved { organization }, _) | (_, Unapproved { organization }) => {
                Unapproved { organization }
            }
            (
                Ended {
                    organization,
                    was_released,
                    collectable,
                },
                Ended {
                    organization: _,
                    was_released: also,
                    collectable: both,
                },
            ) => Ended {
                organization,
                was_released: was_released || also,
                collectable: collectable && both,
            },
            (Unpublished, other) | (other, Unpublished) => other,
        }
    }
}

/// What the releases of an artifact say about its bytes at `time_ms`. It reads all of them, so it
/// is for nodes and not for contracts.
///
/// # Errors
/// The state can't be read, or no genesis was installed.
pub fn standing(reader: &impl Reader, digest: &Hash, time_ms: u64) -> Result<Standing, StateError> {
    let retention = governance::policies(reader)?.retention;
    let mut standing = Standing::Unpublished;
    let mut after: Option<Id> = None;
    loop {
        let from = after.map(|name| keys::release_of(digest, &name));
        let page = reader.page(&keys::releases_of(digest), from.as_ref(), PAGE)?;
        for name in &page {
            if let Some(release) = release(reader, name)? {
                standing = standing.join(of_release(&release, time_ms, &retention));
            }
        }
        after = page.last().cloned();
        if page.len() < PAGE || standing == Standing::Released {
            return Ok(standing);
        }
    }
}

fn of_release(release: &Release, time_ms: u64, retention: &Retention) -> Standing {
    let expires_ms = release.manifest.expires_ms;
    let lapses_ms = release
        .published_ms
        .saturating_add(retention.open_release_ms);
    let is_over = is_expired(&release.manifest, time_ms) || is_lapsed(release, time_ms, retention);
    let ended_ms = match release.status {
        ReleaseStatus::Signed if !is_over => {
            return Standing::Unapproved {
                organization: release.organization.clone(),
            };
        }
        ReleaseStatus::Released | ReleaseStatus::Deprecated if !is_over => {
            return Standing::Released;
        }
        ReleaseStatus::Signed => expires_ms.map_or(lapses_ms, |expires| expires.min(lapses_ms)),
        ReleaseStatus::Released | ReleaseStatus::Deprecated => expires_ms.unwrap_or(time_ms),
        ReleaseStatus::Revoked => release.ended_ms.unwrap_or(time_ms),
    };
    Standing::Ended {
        organization: release.organization.clone(),
        was_released: release.released_ms.is_some(),
        collectable: ended_ms.saturating_add(retention.ended_release_ms) <= time_ms,
    }
}
