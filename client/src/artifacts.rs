//! Artifacts: uploads that go on where they stopped, downloads from any node, checked while they
//! arrive.

use std::collections::BTreeSet;
use std::io::{self, SeekFrom};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use lamplighter_types::Hash;
use lamplighter_types::artifact::{
    ArtifactMismatch, GROUP_BYTES, Groups, GroupsBuilder, group_count,
};
use lamplighter_types::limits::ARTIFACT_BYTES_MAX;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::Client;
use crate::calls::{Call, problem, read_body};
use crate::error::ClientError;

/// Bytes of one piece of an upload.
const PIECE_BYTES: usize = 1024 * 1024;
/// Bytes asked for at a time; what is lost with a broken connection is less than a group anyway.
const RANGE_BYTES: u64 = 4 * 1024 * 1024;
/// Values of the groups of the largest artifact.
const GROUPS_BYTES_MAX: usize = ARTIFACT_BYTES_MAX as usize / GROUP_BYTES * 32;
/// First pause after no node brought a download on; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Longest pause between two rounds.
const PAUSE_MAX: Duration = Duration::from_secs(2);
const OFFSET: &str = "upload-offset";

/// Told after each piece: bytes so far and in all.
pub type UploadProgress<'a> = &'a mut (dyn FnMut(u64, u64) + Send);
/// Told after each checked range: bytes so far and in all.
pub type DownloadProgress<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

/// Where an upload stands.
#[derive(Deserialize)]
struct Upload {
    offset: u64,
}

fn file_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ClientError {
    move |source| ClientError::File {
        doing,
        path: path.to_owned(),
        source,
    }
}

impl Client {
    /// Uploads a file and gives its digest and size. The nodes fetch it from each other.
    ///
    /// # Errors
    /// The file can't be read or has a size that artifacts do not have; refused; no node reachable.
    pub async fn upload(
        &self,
        path: &Path,
        progress: UploadProgress<'_>,
    ) -> Result<(Hash, u64), ClientError> {
        let groups = groups_of_file(path).await?;
        let (digest, size_bytes) = (groups.digest(), groups.size_bytes());
        let until = Instant::now() + self.inner.config.deadline;
        let mut last = ClientError::NoAddress;
        // An upload lives on one node. Another one begins anew.
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
            .map_err(file_error("opening", path))?;
        let mut offset = self.begin_upload(index, digest, size_bytes).await?;
        let mut failures = 0;
        while offset < size_bytes {
            progress(offset, size_bytes);
            let piece = read_piece(&mut file, offset)
                .await
                .map_err(file_error("reading", path))?;
            let patch = Call::new(Method::PATCH, format!("/v1/artifacts/{digest}/upload"))
                .header(OFFSET, offset)
                .octets(piece);
            match self.at_node(index, patch).await {
                Ok(answer) => {
                    offset = answer.json::<Upload>()?.offset;
                    failures = 0;
                }
                // It may have arrived all the same: the node says how far it is.
                Err(error) if failures < 3 && (error.is_transient() || is_conflict(&error)) => {
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

    /// Announces an upload, or finds it again. Gives the bytes that the node has.
    async fn begin_upload(
        &self,
        index: usize,
        digest: Hash,
        size_bytes: u64,
    ) -> Result<u64, ClientError> {
        let body = serde_json::json!({ "digest": digest, "size_bytes": size_bytes });
        let answer = self
            .at_node(index, Call::new(Method::POST, "/v1/artifacts").json(&body))
            .await?;
        Ok(answer.json::<Upload>()?.offset)
    }

    /// A call to one node, with a login where it wants one.
    async fn at_node(&self, index: usize, call: Call) -> Result<crate::calls::Answer, ClientError> {
        let until = Instant::now() + self.inner.config.deadline;
        match self.once(index, &call, until).await {
            Err(ClientError::Problem { problem, .. })
                if problem.status == 401 && self.signer().is_ok() =>
            {
                self.log_in(index, until).await?;
                self.once(index, &call, until).await
            }
            result => result,
        }
    }

    /// The values of an artifact's groups, checked against its digest.
    ///
    /// # Errors
    /// No node has them, or those that have them lie.
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
            let checked = match self.at_node(index, call).await {
                Ok(answer) if answer.body.len() <= GROUPS_BYTES_MAX => {
                    Groups::from_bytes(digest, size_bytes, &answer.body).map_err(|source| {
                        ClientError::Artifact {
                            node: answer.node,
                            source,
                        }
                    })
                }
                Ok(answer) => Err(ClientError::TooLong {
                    node: answer.node,
                    limit: GROUPS_BYTES_MAX,
                }),
                Err(error) => Err(error),
            };
            match checked {
                Ok(groups) => return Ok(groups),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Brings an artifact into the file `part`, going on after what is there and right, and syncs
    /// it. Each group of 16 KiB is checked before it is written. A node that breaks off or sends
    /// wrong bytes is left for the next one.
    ///
    /// # Errors
    /// No node brings the download on within the deadline, all that do lie, or the file can't be
    /// written.
    pub async fn download(
        &self,
        digest: Hash,
        size_bytes: u64,
        part: &Path,
        progress: DownloadProgress<'_>,
    ) -> Result<(), ClientError> {
        let groups = self.artifact_groups(digest, size_bytes).await?;
        let mut sink = Sink::open(part, groups).await?;
        let mut liars = BTreeSet::new();
        let mut until = Instant::now() + self.inner.config.deadline;
        let mut pause = PAUSE_FIRST;
        while !sink.is_complete() {
            let before = sink.offset();
            let failed = self.round(&mut sink, &mut liars, progress).await?;
            if sink.offset() > before {
                (until, pause) = (Instant::now() + self.inner.config.deadline, PAUSE_FIRST);
            }
            let Some(error) = failed.filter(|_| !sink.is_complete()) else {
                continue;
            };
            if liars.len() == self.inner.nodes.list.len() || Instant::now() + pause >= until {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        sink.file
            .sync_all()
            .await
            .map_err(file_error("syncing", part))
    }

    /// Asks one node after the other until one gives the next range; otherwise tells what the last
    /// one met.
    async fn round(
        &self,
        sink: &mut Sink,
        liars: &mut BTreeSet<usize>,
        progress: DownloadProgress<'_>,
    ) -> Result<Option<ClientError>, ClientError> {
        let mut failed = None;
        let nodes: Vec<_> = self
            .inner
            .nodes
            .in_turn()
            .filter(|i| !liars.contains(i))
            .collect();
        for index in nodes {
            let fetched = self.fetch(index, sink).await;
            progress(sink.offset(), sink.groups.size_bytes());
            match fetched {
                Ok(()) => {
                    self.inner.nodes.prefer(index);
                    return Ok(None);
                }
                Err(error @ ClientError::File { .. }) => return Err(error),
                Err(error) => {
                    tracing::info!(%error, "a node failed to send an artifact");
                    if matches!(error, ClientError::Artifact { .. }) {
                        liars.insert(index);
                    }
                    self.inner.nodes.turn_from(index);
                    failed = Some(error);
                }
            }
        }
        Ok(failed)
    }

    /// Brings one range from one node into the sink.
    async fn fetch(&self, index: usize, sink: &mut Sink) -> Result<(), ClientError> {
        let node = self.inner.nodes.list[index].url.clone();
        let (begin, size) = (sink.offset(), sink.groups.size_bytes());
        let end = (begin + RANGE_BYTES).min(size);
        let digest = sink.groups.digest();
        let call = Call::get(format!("/v1/artifacts/{digest}"))
            .header("range", format!("bytes={begin}-{}", end - 1));
        let until = Instant::now() + self.inner.config.deadline;
        let mut response = self.open(index, &call, Some(until)).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.signer().is_ok() {
            self.log_in(index, until).await?;
            response = self.open(index, &call, Some(until)).await?;
        }
        let whole = begin == 0 && response.status() == StatusCode::OK;
        if response.status() != StatusCode::PARTIAL_CONTENT && !whole {
            return Err(problem(&read_body(&node, response, 64 * 1024).await?));
        }
        let broken = |source| ClientError::Transport {
            node: node.clone(),
            source,
        };
        let mut pending = Vec::with_capacity(2 * GROUP_BYTES);
        while sink.offset() < end {
            let Some(chunk) = response.chunk().await.map_err(broken)? else {
                return Err(ClientError::Missing {
                    node,
                    what: "the rest of a range",
                });
            };
            pending.extend_from_slice(&chunk);
            sink.take(&mut pending, &node).await?;
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
    match piece.is_empty() {
        true => Err(io::ErrorKind::UnexpectedEof.into()),
        false => Ok(piece.into()),
    }
}

async fn groups_of_file(path: &Path) -> Result<Groups, ClientError> {
    let mut file = File::open(path)
        .await
        .map_err(file_error("opening", path))?;
    let mut builder = GroupsBuilder::default();
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let read = file
            .read(&mut buffer)
            .await
            .map_err(file_error("reading", path))?;
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
struct Sink {
    file: File,
    path: std::path::PathBuf,
    groups: Groups,
    /// Groups that are written.
    done: u64,
}

impl Sink {
    /// Keeps what is there as far as it is right.
    async fn open(path: &Path, groups: Groups) -> Result<Self, ClientError> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options
            .open(path)
            .await
            .map_err(file_error("opening", path))?;
        let mut done = 0;
        let mut group = vec![0; GROUP_BYTES];
        while done < groups.count() {
            let group = &mut group[..groups.group_bytes(done)];
            match file.read_exact(group).await {
                Ok(_) if groups.verify(done, group).is_ok() => done += 1,
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(file_error("reading", path)(error)),
            }
        }
        let mut sink = Self {
            file,
            path: path.to_owned(),
            groups,
            done,
        };
        let offset = sink.offset();
        sink.file
            .set_len(offset)
            .await
            .map_err(file_error("cutting", path))?;
        sink.file
            .seek(SeekFrom::Start(offset))
            .await
            .map_err(file_error("seeking in", path))?;
        Ok(sink)
    }

    fn offset(&self) -> u64 {
        (self.done * GROUP_BYTES as u64).min(self.groups.size_bytes())
    }

    fn is_complete(&self) -> bool {
        self.done == group_count(self.groups.size_bytes())
    }

    /// Checks and writes the whole groups at the beginning of `pending`.
    async fn take(&mut self, pending: &mut Vec<u8>, node: &str) -> Result<(), ClientError> {
        let taken = self.write(pending, node).await;
        // tokio writes behind our back. A later error must not be lost, nor what was good before a
        // group that is not.
        let flushed = self.file.flush().await;
        taken.and(flushed.map_err(file_error("writing", &self.path)))
    }

    async fn write(&mut self, pending: &mut Vec<u8>, node: &str) -> Result<(), ClientError> {
        let mut used = 0;
        while !self.is_complete() {
            let length = self.groups.group_bytes(self.done);
            let Some(group) = pending.get(used..used + length) else {
                break;
            };
            let verdict = self.groups.verify(self.done, group);
            verdict.map_err(|source| ClientError::Artifact {
                node: node.to_owned(),
                source,
            })?;
            let written = self.file.write_all(group).await;
            written.map_err(file_error("writing", &self.path))?;
            used += length;
            self.done += 1;
        }
        pending.drain(..used);
        Ok(())
    }
}
