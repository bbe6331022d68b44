//! The standings of nodes, kept from one command to the next: a node that is down, or that lies, is
//! not called first by each of them. They decide about the order of the calls alone, so that a file
//! that is lost or damaged costs a short wait and nothing else.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use lamplighter_client::{Client, NodeStanding};
use lamplighter_system::{error_chain, files};
use lamplighter_types::codec;

use crate::output::warn;

/// Nodes that are remembered, of all ledgers of this user together: those of the last commands.
const NODES_MAX: usize = 64;
/// Largest file that is read: more than so many nodes take.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The name of the file in the folder of the state.
const FILE: &str = "nodes.json";

/// Takes up the standings that an earlier command kept.
pub fn restore(client: &Client, state: &Path) {
    client.restore_standings(&read(&state.join(FILE)));
}

/// Keeps the standings for the next command, if they have changed.
pub fn keep(client: &Client, state: &Path) {
    let mut known = client.standings();
    if known.len() < 2 {
        // There is no order.
        return;
    }
    let path = state.join(FILE);
    let before = read(&path);
    let has_news = |node: &NodeStanding| node.until_ms > 0;
    if before.is_empty() && client.first_node() == 0 && !known.iter().any(has_news) {
        return;
    }
    let urls: BTreeSet<String> = known.iter().map(|node| node.url.clone()).collect();
    known.extend(
        before
            .iter()
            .filter(|node| !urls.contains(&node.url))
            .cloned(),
    );
    known.truncate(NODES_MAX);
    if known == before {
        return;
    }
    if let Err(error) = write(&path, &known) {
        let (path, error) = (path.display(), error_chain(&error));
        warn(&format!(
            "the standings of the nodes are not kept in {path}: {error}"
        ));
    }
}

fn write(path: &Path, known: &[NodeStanding]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder)?;
    }
    files::replace(path, &serde_json::to_vec(known)?)
}

/// The standings in a file; none if there is none, or none that can be used.
fn read(path: &Path) -> Vec<NodeStanding> {
    let bytes = || {
        let mut bytes = Vec::new();
        fs::File::open(path)?
            .take(FILE_BYTES_MAX)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let ignored = |error: &dyn std::error::Error| {
        let (path, error) = (path.display(), error_chain(error));
        warn(&format!("{path} is ignored, and made anew: {error}"));
        Vec::new()
    };
    let bytes: io::Result<Vec<u8>> = bytes();
    match bytes {
        Ok(bytes) => {
            let known: Result<Vec<NodeStanding>, _> = codec::decode_json(&bytes);
            known.unwrap_or_else(|error| ignored(&error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => ignored(&error),
    }
}

#[cfg(test)]
mod tests;
