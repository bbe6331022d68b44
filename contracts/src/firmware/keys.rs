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

pub fn artifact(digest: &Hash) -> Key<Artifact> {
    artifacts().hash(digest)
}
