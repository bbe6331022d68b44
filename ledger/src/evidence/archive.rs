use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use lamplighter_consensus::{EVIDENCE_BYTES_MAX, EVIDENCE_MAX, EvidenceArchive, LeaderEvidence};
use lamplighter_system::files;
use lamplighter_types::{Attestation, Hash, PublicKey};

use super::{Evidence, TwoHeaders, TwoLogs};
use crate::alarms::{Alarms, NodeAlarm};
use crate::chain::Chain;

/// One piece as it is kept and passed on.
struct KeptEvidence {
    evidence: Evidence,
    bytes: Bytes,
    path: PathBuf,
}

/// The evidence of this node: the files of a directory, by the hash of their bytes.
///
/// The file is the durable record of an exclusion: it is synced before the node is excluded, and
/// read at each start. A crash before it is written loses nothing, as the comparison of logs finds
/// the same again, here or on another node.
pub(crate) struct EvidenceStore {
    dir: PathBuf,
    chain: Arc<Chain>,
    alarms: Arc<Alarms>,
    kept: Mutex<BTreeMap<[u8; 32], KeptEvidence>>,
}

impl EvidenceStore {
    /// Reads the directory, which need not exist.
    pub fn open(dir: PathBuf, chain: Arc<Chain>, alarms: Arc<Alarms>) -> io::Result<Self> {
        let store = Self {
            dir,
            chain,
            alarms,
            kept: Mutex::default(),
        };
        for path in files_in(&store.dir)? {
            if store.kept().len() >= EVIDENCE_MAX {
                tracing::warn!(path = %path.display(), "more evidence than is kept");
                break;
            }
            match store.read_file(&path) {
                Some(kept) => store.keep(kept),
                None => tracing::warn!(path = %path.display(), "a file that is no evidence"),
            }
        }
        Ok(store)
    }

    fn read_file(&self, path: &Path) -> Option<KeptEvidence> {
        let metadata = fs::metadata(path).ok()?;
        if metadata.len() > EVIDENCE_BYTES_MAX as u64 {
            return None;
        }
        let bytes = Bytes::from(fs::read(path).ok()?);
        let evidence = Evidence::from_json(&bytes).ok()?;
        evidence.check_signatures(&self.chain.chain_id()).ok()?;
        Some(KeptEvidence {
            evidence,
            bytes,
            path: path.to_owned(),
        })
    }

    /// True if a node is proven to have signed two contents for one place.
    pub fn is_excluded(&self, node: u64) -> bool {
        let kept = self.kept();
        kept.values().any(|kept| kept.evidence.node() == node)
    }

    /// Keeps two attestations of one validator for one height.
    pub fn add_attestations(&self, attestations: &[Attestation; 2]) {
        let key = attestations[0].key;
        if let Some(node) = self.node_of(&key) {
            let chain_id = self.chain.chain_id();
            self.add(Evidence::TwoHeaders(TwoHeaders::new(
                chain_id,
                node,
                attestations,
            )));
        }
    }

    fn node_of(&self, key: &PublicKey) -> Option<u64> {
        let membership = self.chain.watch_membership();
        let membership = membership.borrow();
        let named = membership.named.validators.by_key(key);
        let validator = named.or_else(|| membership.voters.by_key(key));
        validator.map(|validator| validator.node)
    }

    fn key_of(&self, node: u64) -> Option<PublicKey> {
        let membership = self.chain.watch_membership();
        let membership = membership.borrow();
        let named = membership.named.validators.by_node(node);
        let validator = named.or_else(|| membership.voters.by_node(node));
        validator.map(|validator| validator.key)
    }

    /// Checks a piece and keeps it, unless it says nothing new.
    fn add(&self, evidence: Evidence) {
        let node = evidence.node();
        if self.key_of(node) != Some(evidence.key()) || !self.is_wanted(&evidence) {
            return;
        }
        if let Err(error) = evidence.check_signatures(&self.chain.chain_id()) {
            tracing::warn!(%error, node, "what was said to be evidence is none");
            return;
        }
        self.make_room();
        let bytes = Bytes::from(evidence.to_json());
        let hash = Hash::of(&bytes);
        let kind = match evidence {
            Evidence::TwoLogs(_) => "two-logs",
            Evidence::TwoHeaders(_) => "two-headers",
        };
        let name = format!("{kind}-node-{node}-{}.json", &hash.to_string()[..16]);
        let path = self.dir.join(name);
        let written = fs::create_dir_all(&self.dir).and_then(|()| files::replace(&path, &bytes));
        if let Err(error) = written {
            // The node stays excluded until the next start; the others have the evidence too.
            tracing::error!(%error, path = %path.display(), "evidence can't be written");
        }
        self.keep(KeptEvidence {
            evidence,
            bytes,
            path,
        });
    }

    /// Returns whether a piece says something new: the first about a node, which excludes it, or,
    /// while there is space, the first of its kind about a node.
    fn is_wanted(&self, evidence: &Evidence) -> bool {
        let kept = self.kept();
        let of_node = kept
            .values()
            .map(|kept| &kept.evidence)
            .filter(|kept| kept.node() == evidence.node());
        let of_node: Vec<_> = of_node.collect();
        let same = |kept: &&Evidence| kept.log_index().is_some() == evidence.log_index().is_some();
        of_node.is_empty() || kept.len() < EVIDENCE_MAX && !of_node.iter().any(same)
    }

    /// If there is no space, drops a piece, with its file: about a node that is no validator any
    /// more, or else one of several about a node, which the others exclude. A ledger has fewer
    /// validators than there are places, so there always is one.
    fn make_room(&self) {
        let dropped = {
            let kept = self.kept();
            if kept.len() < EVIDENCE_MAX {
                return;
            }
            let retired = |kept: &KeptEvidence| {
                self.key_of(kept.evidence.node()) != Some(kept.evidence.key())
            };
            let is_one_of_several = |one: &KeptEvidence| {
                let node = one.evidence.node();
                kept.values()
                    .filter(|kept| kept.evidence.node() == node)
                    .count()
                    > 1
            };
            let found = kept.iter().find(|(_, kept)| retired(kept));
            let found = found.or_else(|| kept.iter().find(|(_, kept)| is_one_of_several(kept)));
            found.map(|(hash, kept)| (*hash, kept.path.clone()))
        };
        let Some((hash, path)) = dropped else { return };
        self.kept().remove(&hash);
        if let Err(error) = fs::remove_file(&path) {
            // It is read again at the next start, and takes its place then.
            tracing::warn!(%error, path = %path.display(), "evidence can't be removed");
        }
    }

    fn keep(&self, kept: KeptEvidence) {
        let alarm = NodeAlarm::Equivocation {
            node: kept.evidence.node(),
            key: kept.evidence.key(),
            file: kept.path.display().to_string(),
        };
        tracing::error!("{alarm}");
        self.alarms.raise(alarm);
        let hash = Hash::of(&kept.bytes).0;
        self.kept().insert(hash, kept);
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<[u8; 32], KeptEvidence>> {
        self.kept
            .lock()
            .expect("the lock is not poisoned: no holder panics")
    }
}

/// The JSON files of a directory, by name.
fn files_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

impl EvidenceArchive for EvidenceStore {
    fn accused(&self) -> Vec<u64> {
        let kept = self.kept();
        let accused: BTreeSet<u64> = kept.values().map(|kept| kept.evidence.node()).collect();
        accused.into_iter().collect()
    }

    fn read(&self, accused: u64) -> Option<Bytes> {
        let kept = self.kept();
        let mut pieces = kept.values();
        let of_node = pieces.find(|kept| kept.evidence.node() == accused);
        of_node.map(|kept| kept.bytes.clone())
    }

    fn add_found(&self, evidence: &LeaderEvidence) {
        if let Some(key) = self.key_of(evidence.leader()) {
            let logs = TwoLogs::new(self.chain.chain_id(), key, evidence);
            self.add(Evidence::TwoLogs(logs));
        }
    }

    fn add_received(&self, from: u64, evidence: &Bytes) {
        match Evidence::from_json(evidence) {
            Ok(evidence) => self.add(evidence),
            Err(error) => tracing::warn!(from, %error, "evidence that can't be read"),
        }
    }
}
