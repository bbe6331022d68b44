//! The validators that a verifier trusts: the newest that it has seen proven, kept in a file if one
//! is named.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lamplighter_system::files;
use lamplighter_types::proof::{
    CertifiedHeader, SetPath, TrustedSet, TrustedSetError, verify_head,
};
use lamplighter_types::{Certificate, Genesis, Header};
use tokio::time::Instant;

use crate::Client;
use crate::calls::{AttemptTimeouts, Call, NodeResponse};
use crate::error::ClientError;

/// A node whose stream is silent for so long is compared with the others, again and again.
const COMPARED_EVERY: Duration = Duration::from_secs(15);
/// A node whose newest certified block is older by this than another's is behind.
const BEHIND_MS: u64 = 10_000;

/// The keeper of the newest trusted set. It only moves to newer sets, and what a proof shows is
/// returned only once the set that it leads to is on disk: after a crash no proof of an older set
/// is believed, however many of its keys were stolen meanwhile.
#[derive(Debug)]
pub struct TrustAnchor {
    file: Option<PathBuf>,
    /// Held while the file is written.
    trusted: Mutex<TrustedSet>,
}

/// Why a trusted set can't be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum TrustAnchorError {
    #[error("reading the trusted validators in {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "the trusted validators in {} can't be used: without the file the genesis file is trusted",
        path.display()
    )]
    Contents {
        path: PathBuf,
        source: TrustedSetError,
    },
    #[error("writing the trusted validators to {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl TrustAnchor {
    /// Keeps the newest set in memory alone.
    pub fn in_memory(trusted: TrustedSet) -> Self {
        Self {
            file: None,
            trusted: Mutex::new(trusted),
        }
    }

    /// Reads the newest set from a file and keeps it there; begins with that of the genesis file if
    /// there is no such file.
    ///
    /// # Errors
    /// The file can't be read, or is of another chain.
    pub fn open(path: PathBuf, genesis: &Genesis) -> Result<Self, TrustAnchorError> {
        let trusted = Self::read(&path, genesis)?;
        Ok(Self {
            file: Some(path),
            trusted: Mutex::new(trusted.unwrap_or_else(|| genesis.into())),
        })
    }

    /// The set in a file; `None` if there is no such file.
    ///
    /// # Errors
    /// The file can't be read, or is of another chain.
    pub fn read(path: &Path, genesis: &Genesis) -> Result<Option<TrustedSet>, TrustAnchorError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let path = path.to_owned();
                return Err(TrustAnchorError::Read { path, source });
            }
        };
        let trusted = TrustedSet::from_json(&bytes, genesis);
        trusted.map(Some).map_err(|source| {
            let path = path.to_owned();
            TrustAnchorError::Contents { path, source }
        })
    }

    fn lock(&self) -> MutexGuard<'_, TrustedSet> {
        self.trusted
            .lock()
            .expect("the lock is not poisoned: no holder panics")
    }

    /// The newest set.
    pub fn current(&self) -> TrustedSet {
        self.lock().clone()
    }

    /// Verifies something from the newest set, and keeps the set that `verify` reached, in the file
    /// first. Blocks on the disk then.
    ///
    /// If another verification has moved the newest set meanwhile, this one is done again from
    /// there: from the older set a quorum of keys that have retired since may have led elsewhere.
    ///
    /// # Errors
    /// Those of `verify`; the file can't be written.
    pub fn verify<T, E: From<TrustAnchorError>>(
        &self,
        verify: impl Fn(&TrustedSet) -> Result<(T, TrustedSet), E>,
    ) -> Result<T, E> {
        loop {
            let from = self.current();
            let (value, reached) = verify(&from)?;
            let mut trusted = self.lock();
            if *trusted != from {
                continue;
            }
            if reached.height > trusted.height {
                if let Some(path) = &self.file {
                    files::replace(path, &reached.to_json()).map_err(|source| {
                        let path = path.clone();
                        TrustAnchorError::Write { path, source }
                    })?;
                }
                *trusted = reached;
            }
            return Ok(value);
        }
    }
}

impl Client {
    /// The validators that proofs are checked from; those of the genesis file at first.
    ///
    /// # Errors
    /// There is no genesis file.
    pub fn trusted(&self) -> Result<TrustedSet, ClientError> {
        Ok(self.trust_anchor()?.current())
    }

    /// Fetches the changes of the validators since those that are trusted, page by page, and trusts
    /// the newest ones from then on.
    ///
    /// # Errors
    /// No genesis file, no node answered, or changes that do not hold.
    pub async fn follow_validators(&self) -> Result<TrustedSet, ClientError> {
        loop {
            let anchor = self.trust_anchor()?.clone();
            let before = anchor.current().height;
            let call = Call::get(format!("/v1/proofs/validators?trusted={before}"));
            let check = async |answer: NodeResponse| verify_path(anchor.clone(), answer).await;
            let call = call.confirming_refusals();
            let (reached, more) = Box::pin(self.call_checked(call, check)).await?;
            if !more || reached.height <= before {
                return Ok(reached);
            }
        }
    }
}

impl Client {
    /// True if another node than `urls[index]` shows a header that was made after this Unix time in
    /// ms and is certified by the validators that are trusted.
    pub async fn others_have_head(&self, index: usize, newer_than_ms: u64) -> bool {
        let others = self.inner.nodes.in_turn().filter(|other| *other != index);
        for other in others {
            match self.certified_head_at(other).await {
                Ok(head) if head.timestamp_ms > newer_than_ms => return true,
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "a node showed no certified head"),
            }
        }
        false
    }

    /// Waits until another node has certified blocks that are newer by far than those of
    /// `urls[index]`: that one is cut off or halted. Waits for ever without the genesis file.
    pub(crate) async fn falls_behind(&self, index: usize) {
        if self.trust_anchor().is_err() || self.inner.nodes.list.len() == 1 {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(COMPARED_EVERY).await;
            let local = self.certified_head_at(index).await;
            let local_ms = local.map_or(0, |head| head.timestamp_ms);
            if self.others_have_head(index, local_ms + BEHIND_MS).await {
                return;
            }
        }
    }

    /// The newest certified header of one node, verified.
    async fn certified_head_at(&self, index: usize) -> Result<Header, ClientError> {
        let until = Instant::now() + self.silence_max();
        let get = async |path: String| {
            let call = Call::get(path);
            let answer = self
                .attempt(index, &call, AttemptTimeouts::until(until))
                .await;
            answer.map_err(|(error, _)| error)
        };
        let certificate = get("/v1/certificates/latest".to_owned()).await?;
        let (node, certificate) = (certificate.node.clone(), certificate.json::<Certificate>()?);
        let header = get(format!("/v1/headers/{}", certificate.height)).await?;
        let head = CertifiedHeader {
            header: header.json()?,
            certificate,
        };
        let trusted = self.trusted()?;
        verify_head(&head, &[], &trusted)
            .map_err(|source| ClientError::Validators { node, source })?;
        Ok(head.header)
    }
}

/// Checks a page of changes of the validators and trusts what it leads to; also returns whether
/// more changes follow.
pub(crate) async fn verify_path(
    anchor: Arc<TrustAnchor>,
    answer: NodeResponse,
) -> Result<(TrustedSet, bool), ClientError> {
    let node = answer.node;
    let path = SetPath::from_json(&answer.body).map_err(|source| ClientError::Answer {
        node: node.clone(),
        source,
    })?;
    let more = path.more;
    let verify = move || {
        anchor.verify(|trusted| {
            let reached = path.verify(trusted).map_err(|source| {
                let node = node.clone();
                ClientError::Validators { node, source }
            })?;
            Ok::<_, ClientError>((reached.clone(), reached))
        })
    };
    let reached = off_the_async_threads(verify).await?;
    Ok((reached, more))
}

/// Runs work that takes milliseconds of a processor, or of the disk.
pub(crate) async fn off_the_async_threads<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("the work does not panic")
}
