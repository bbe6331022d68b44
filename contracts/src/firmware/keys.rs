//! State keys of releases and artifacts.

use lamplighter_state::Key;
use lamplighter_types::{Artifact, Hash, Id, Release};

use crate::tables::Table;

pub fn releases() -> Key<Release> {
    Key::table(Table::Release as u8)
}

pub fn release(release: &Id) -> Key<Release> {
    releases().id(release)
}

pub fn artifacts() -> Key<Artifact> {
    Key::table(Table::Artifact as u8)
}

/// The records of a digest: one for each size that a release names.
pub fn artifacts_of(digest: &Hash) -> Key<Artifact> {
    artifacts().hash(digest)
}

pub fn artifact(digest: &Hash, size_bytes: u64) -> Key<Artifact> {
    artifacts_of(digest).number(size_bytes)
}

/// The releases that name an artifact.
pub fn releases_of(digest: &Hash) -> Key<Id> {
    Key::table(Table::ReleaseByArtifact as u8).hash(digest)
}

pub fn release_of(digest: &Hash, release: &Id) -> Key<Id> {
    releases_of(digest).id(release)
}

/// The releases that accounts of an organization have published and that nobody has released or
/// revoked yet.
pub fn open_releases(organization: &Id) -> Key<Id> {
    Key::table(Table::OpenRelease as u8).id(organization)
}

pub fn open_release(organization: &Id, release: &Id) -> Key<Id> {
    open_releases(organization).id(release)
}
