//! Artifacts: uploads that continue where they stopped, and downloads from any node, checked while
//! they arrive.

use std::collections::BTreeSet;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use lamplighter_system::Backoff;
use lamplighter_types::Hash;
use lamplighter_types::artifact::{
    ArtifactMismatch, GROUP_BYTES, Groups, GroupsBuilder, group_count,
};
use lamplighter_types::limits::ARTIFACT_BYTES_MAX;
use lamplighter_types::wire::{NewArtifact, UnfinishedUpload, UnfinishedUploads, Upload, header};
use reqwest::{Method, StatusCode};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::Client;
use crate::calls::{AttemptTimeouts, Call, NodeResponse};
use crate::error::ClientError;
use crate::standing::Fault;

/// Bytes of one piece of an upload.
const PIECE_BYTES: usize = 1024 * 1024;
/// Bytes requested at a time. A broken connection loses less than a group anyway.
const RANGE_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes of the group values of the largest artifact.
const GROUPS_BYTES_MAX: usize = ARTIFACT_BYTES_MAX as usize / GROUP_BYTES * 32;
/// A piece is sent again at most this many times in a row.
const PIECE_RETRIES_MAX: u32 = 3;
/// First pause after no node continued a download.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause between two rounds.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A callback after each piece, with the bytes so far and in all.
pub type UploadProgress<'a> = &'a mut (dyn FnMut(u64, u64) + Send);
/// A callback after each checked range, with the bytes so far and in all.
pub type DownloadProgress<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

impl Client {
    /// Uploads a file and returns its digest and size. The nodes fetch it from each other.
    ///
    /// # Errors
    /// The file can't be read or has a size that artifacts do not have, a node refused it, or no
    /// node is reachable.
    pub async fn upload(
        &self,
        path: &Path,
        progress: UploadProgress<'_>,
    ) -> Result<(Hash, u64), ClientError> {
        let groups = groups_of_file(path).await?;
        let (digest, size_bytes) = (groups.digest(), groups.size_bytes());
        let until = Instant::now() + self.inner.config.deadline;
        let mut last = ClientError::NoAddress;
        // An upload belongs to one node. The next node starts from the beginning.
        for index in self.inner.nodes.in_turn() {
            match self
                .upload_to(index, path, digest, size_bytes, progress)
                .await
            {
                Ok(()) => return Ok((digest, size_bytes)),
                Err(error) if error.is_transient() => last = error,
                Err(error) => return Err(error),
            }
            if Instant::now() >= until {
                break;
            }
        }
        Err(last)
    }

    /// The unfinished uploads of this account, at each node that answers: uploads belong to a node.
    ///
    /// # Errors
    /// A node refused the question, or none answered.
    pub async fn uploads(&self) -> Result<Vec<(String, UnfinishedUpload)>, ClientError> {
        let (mut found, mut answered) = (Vec::new(), false);
        let mut last = ClientError::NoAddress;
        for index in self.inner.nodes.in_turn() {
            match self.call_node(index, Call::get("/v1/uploads")).await {
                Ok(answer) => {
                    let UnfinishedUploads { items } = answer.json()?;
                    found.extend(items.into_iter().map(|item| (answer.node.clone(), item)));
                    answered = true;
                }
                Err(error) if error.is_transient() => last = error,
                Err(error) => return Err(error),
            }
        }
        if answered { Ok(found) } else { Err(last) }
    }

    /// Drops an unfinished upload of this account at each node that has it. Returns how many had.
    ///
    /// # Errors
    /// A node refused it, or none that has it answered and another did not answer.
    pub async fn drop_upload(&self, digest: &Hash) -> Result<usize, ClientError> {
        let (mut dropped, mut last) = (0, None);
        for index in self.inner.nodes.in_turn() {
            let call = Call::new(Method::DELETE, format!("/v1/artifacts/{digest}/upload"));
            match self.call_node(index, call).await {
                Ok(_) => dropped += 1,
                Err(error) if error.is_not_found() => {}
                Err(error) if error.is_transient() => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        match last {
            Some(error) if dropped == 0 => Err(error),
            _ => Ok(dropped),
        }
    }

    async fn upload_to(
        &self,
        index: usize,
        path: &Path,
        digest: Hash,
        size_bytes: u64,
        progress: UploadProgress<'_>,
    ) -> Result<(), ClientError> {
        let mut file = File::open(path)
            .await
            .map_err(ClientError::file("opening", path))?;
        let mut offset = self.begin_upload(index, digest, size_bytes).await?;
        let mut failures = 0;
        while offset < size_bytes {
            progress(offset, size_bytes);
            let piece = read_piece(&mut file, offset)
                .await
                .map_err(ClientError::file("reading", path))?;
            let patch = Call::new(Method::PATCH, format!("/v1/artifacts/{digest}/upload"))
                .header(header::UPLOAD_OFFSET, offset)
                .bytes(piece);
            match self.call_node(index, patch).await {
                Ok(answer) => {
                    offset = answer.json::<Upload>()?.offset;
                    failures = 0;
                }
                // The piece may have arrived all the same: the node reports its offset.
                Err(error)
                    if failures < PIECE_RETRIES_MAX
                        && (error.is_transient() || is_conflict(&error)) =>
                {
                    tracing::debug!(%error, "a piece of an upload failed");
                    failures += 1;
                    offset = self.begin_upload(index, digest, size_bytes).await?;
                }
                Err(error) => return Err(error),
            }
        }
        progress(size_bytes, size_bytes);
        Ok(())
    }

    /// Begins an upload or continues one. Returns the number of bytes that the node has.
    async fn begin_upload(
        &self,
        index: usize,
        digest: Hash,
        size_bytes: u64,
    ) -> Result<u64, ClientError> {
        let body = NewArtifact { digest, size_bytes };
        let call = Call::new(Method::POST, "/v1/artifacts").json(&body);
        let answer = self.call_node(index, call).await?;
        Ok(answer.json::<Upload>()?.offset)
    }

    pub(crate) async fn call_node(
        &self,
        index: usize,
        call: Call,
    ) -> Result<NodeResponse, ClientError> {
        let timeouts = AttemptTimeouts {
            silence_max: self.silence_max(),
            until: Instant::now() + self.inner.config.deadline,
        };
        let answer = self.attempt(index, &call, timeouts).await;
        answer.map_err(|(error, _)| error)
    }

    /// The values of an artifact's groups, checked against its digest.
    ///
    /// # Errors
    /// No node has them, or the nodes that have them send wrong ones.
    pub async fn artifact_groups(
        &self,
        digest: Hash,
        size_bytes: u64,
    ) -> Result<Groups, ClientError> {
        if size_bytes == 0 || size_bytes > ARTIFACT_BYTES_MAX {
            let source = ArtifactMismatch::Size(size_bytes);
            return Err(ClientError::Artifact {
                node: "the caller".to_owned(),
                source,
            });
        }
        let mut last = ClientError::NoAddress;
        for index in self.inner.nodes.in_turn() {
            let call = Call::get(format!("/v1/artifacts/{digest}/groups"));
            let answer = self.call_node(index, call.answer_bytes_max(GROUPS_BYTES_MAX));
            let checked = answer.await.and_then(|answer| {
                let groups = Groups::from_bytes(digest, size_bytes, &answer.body);
                groups.map_err(|source| ClientError::Artifact {
                    node: answer.node,
                    source,
                })
            });
            match checked {
                Ok(groups) => return Ok(groups),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Downloads an artifact into the file `part` and syncs it. Correct groups that the file has
    /// already are kept. Each group of 16 KiB is checked before it is written. When a node breaks
    /// off or sends wrong bytes, the next one is called.
    ///
    /// # Errors
    /// No node continues the download within the deadline, all that do send wrong bytes, or the
    /// file can't be written.
    pub async fn download(
        &self,
        digest: Hash,
        size_bytes: u64,
        part: &Path,
        progress: DownloadProgress<'_>,
    ) -> Result<(), ClientError> {
        let groups = self.artifact_groups(digest, size_bytes).await?;
        let mut file = PartialFile::open(part, groups).await?;
        let mut dishonest = BTreeSet::new();
        let mut until = Instant::now() + self.inner.config.deadline;
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        while !file.is_complete() {
            let before = file.offset();
            let failed = self
                .fetch_range(&mut file, &mut dishonest, progress)
                .await?;
            if file.offset() > before {
                until = Instant::now() + self.inner.config.deadline;
                backoff.reset();
            }
            let Some(error) = failed.filter(|_| !file.is_complete()) else {
                continue;
            };
            let pause = backoff.next_pause();
            if dishonest.len() == self.inner.nodes.list.len() || Instant::now() + pause >= until {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
        let synced = file.file.sync_all().await;
        synced.map_err(ClientError::file("syncing", part))
    }

    /// Calls one node after the other until one sends the next range. Returns the error of the last
    /// one if none does.
    async fn fetch_range(
        &self,
        file: &mut PartialFile,
        dishonest: &mut BTreeSet<usize>,
        progress: DownloadProgress<'_>,
    ) -> Result<Option<ClientError>, ClientError> {
        let mut failed = None;
        let nodes = self.inner.nodes.in_turn();
        let nodes: Vec<_> = nodes.filter(|index| !dishonest.contains(index)).collect();
        for index in nodes {
            let fetched = self.fetch_range_from(index, file).await;
            progress(file.offset(), file.groups.size_bytes());
            match fetched {
                Ok(()) => {
                    self.inner.nodes.standings.served(index);
                    return Ok(None);
                }
                Err(error @ ClientError::File { .. }) => return Err(error),
                Err(error) => {
                    tracing::info!(%error, "a node failed to send an artifact");
                    if matches!(error, ClientError::Artifact { .. }) {
                        dishonest.insert(index);
                    }
                    let fault = error.fault().unwrap_or(Fault::Unserved);
                    self.inner.nodes.standings.failed(index, fault);
                    failed = Some(error);
                }
            }
        }
        Ok(failed)
    }

    /// Fetches one range from one node into the file.
    async fn fetch_range_from(
        &self,
        index: usize,
        file: &mut PartialFile,
    ) -> Result<(), ClientError> {
        let node = self.inner.nodes.list[index].url.clone();
        let (begin, size) = (file.offset(), file.groups.size_bytes());
        let end = (begin + RANGE_BYTES).min(size);
        let digest = file.groups.digest();
        let call = Call::get(format!("/v1/artifacts/{digest}"))
            .header("range", format!("bytes={begin}-{}", end - 1));
        let until = Instant::now() + self.inner.config.deadline;
        let begin_until = Instant::now() + self.silence_max();
        let response = self
            .open_stream(index, &call, begin_until, Some(until))
            .await?;
        if begin > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(ClientError::Missing {
                node,
                what: "the range that was requested",
            });
        }
        let mut response = response;
        let broken = |source| ClientError::Transport {
            node: node.clone(),
            source,
        };
        let silence_max = self.silence_max();
        let silent = |_| ClientError::Silent {
            node: node.clone(),
            waited: silence_max,
        };
        let mut pending = Vec::with_capacity(2 * GROUP_BYTES);
        while file.offset() < end {
            let chunk = tokio::time::timeout(silence_max, response.chunk()).await;
            let Some(chunk) = chunk.map_err(silent)?.map_err(broken)? else {
                return Err(ClientError::Missing {
                    node,
                    what: "the rest of a range",
                });
            };
            pending.extend_from_slice(&chunk);
            file.append(&mut pending, &node).await?;
        }
        Ok(())
    }
}

fn is_conflict(error: &ClientError) -> bool {
    error.problem().is_some_and(|problem| problem.status == 409)
}

async fn read_piece(file: &mut File, offset: u64) -> io::Result<Bytes> {
    file.seek(SeekFrom::Start(offset)).await?;
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    file.take(PIECE_BYTES as u64)
        .read_to_end(&mut piece)
        .await?;
    if piece.is_empty() {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(piece.into())
    }
}

async fn groups_of_file(path: &Path) -> Result<Groups, ClientError> {
    let mut file = File::open(path)
        .await
        .map_err(ClientError::file("opening", path))?;
    let mut builder = GroupsBuilder::default();
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let read = file
            .read(&mut buffer)
            .await
            .map_err(ClientError::file("reading", path))?;
        if read == 0 {
            break;
        }
        builder.update(&buffer[..read]);
    }
    let wrong = |source| ClientError::Artifact {
        node: path.display().to_string(),
        source,
    };
    builder.finish().map_err(wrong)
}

/// The file of a download: whole, checked groups from the beginning on.
struct PartialFile {
    file: File,
    path: PathBuf,
    groups: Groups,
    /// Groups that are written.
    done: u64,
}

impl PartialFile {
    /// Opens the file and keeps its correct groups up to the first wrong one.
    async fn open(path: &Path, groups: Groups) -> Result<Self, ClientError> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options
            .open(path)
            .await
            .map_err(ClientError::file("opening", path))?;
        let mut done = 0;
        let mut group = vec![0; GROUP_BYTES];
        while done < groups.count() {
            let group = &mut group[..groups.group_bytes(done)];
            match file.read_exact(group).await {
                Ok(_) if groups.verify(done, group).is_ok() => done += 1,
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(ClientError::file("reading", path)(error)),
            }
        }
        let mut partial = Self {
            file,
            path: path.to_owned(),
            groups,
            done,
        };
        let offset = partial.offset();
        partial
            .file
            .set_len(offset)
            .await
            .map_err(ClientError::file("cutting", path))?;
        partial
            .file
            .seek(SeekFrom::Start(offset))
            .await
            .map_err(ClientError::file("seeking in", path))?;
        Ok(partial)
    }

    fn offset(&self) -> u64 {
        (self.done * GROUP_BYTES as u64).min(self.groups.size_bytes())
    }

    fn is_complete(&self) -> bool {
        self.done == group_count(self.groups.size_bytes())
    }

    /// Checks and writes the whole groups at the beginning of `pending`.
    async fn append(&mut self, pending: &mut Vec<u8>, node: &str) -> Result<(), ClientError> {
        let written = self.write(pending, node).await;
        // tokio writes in the background. A later error must not be lost, nor the good groups
        // before a wrong one.
        let flushed = self.file.flush().await;
        written.and(flushed.map_err(ClientError::file("writing", &self.path)))
    }

    async fn write(&mut self, pending: &mut Vec<u8>, node: &str) -> Result<(), ClientError> {
        let mut used = 0;
        while !self.is_complete() {
            let length = self.groups.group_bytes(self.done);
            let Some(group) = pending.get(used..used + length) else {
                break;
            };
            let verified = self.groups.verify(self.done, group);
            verified.map_err(|source| ClientError::Artifact {
                node: node.to_owned(),
                source,
            })?;
            let written = self.file.write_all(group).await;
            written.map_err(ClientError::file("writing", &self.path))?;
            used += length;
            self.done += 1;
        }
        pending.drain(..used);
        Ok(())
    }
}
