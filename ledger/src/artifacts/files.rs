//! The files of the artifact store. All functions block.
//!
//! `<digest>` is complete and was verified; `<digest>.groups` are its group values, and
//! `<digest>.owner` is the organization that uploaded it;
//! `<digest>.<size>.<account>@<organization>.part` is being uploaded, `<digest>.<size>.part` is
//! being fetched by this node; `<digest>.damaged` was found damaged. A complete file appears by
//! rename after it was synced, so a crash leaves either a part that can be continued or the whole.
//! The complete file is removed first: a crash leaves the whole artifact, or companions without it,
//! which the next start removes.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lamplighter_system::files::sync_parent;
use lamplighter_types::artifact::{GROUP_BYTES, Groups, GroupsBuilder};
use lamplighter_types::limits::ID_BYTES_MAX;
use lamplighter_types::{Hash, Id};

use super::error::ArtifactError;

/// Bytes read at a time while hashing.
const READ_BYTES: usize = 256 * 1024;

/// The origin of an upload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Uploader {
    /// This node, which fetches from a peer.
    Node,
    /// An unknown client of a node without login.
    Anyone,
    Account {
        account: Id,
        /// The organization of the account; the limits of bytes are its.
        organization: Id,
    },
}

/// File name part for [`Uploader::Anyone`]; ids have no capital letters.
const ANYONE: &str = "ANYONE";

/// Separates account and organization in file names; ids do not have it.
const AT: char = '@';

impl Uploader {
    /// The uploader in file names; the node itself is not named.
    fn file_name(&self) -> Option<String> {
        match self {
            Self::Node => None,
            Self::Anyone => Some(ANYONE.to_owned()),
            Self::Account {
                account,
                organization,
            } => Some(format!("{account}{AT}{organization}")),
        }
    }

    fn from_file_name(name: &str) -> Option<Self> {
        if name == ANYONE {
            return Some(Self::Anyone);
        }
        let (account, organization) = name.split_once(AT)?;
        Some(Self::Account {
            account: Id::new(account).ok()?,
            organization: Id::new(organization).ok()?,
        })
    }

    /// The organization of the uploader, if it is known.
    pub(super) fn organization(&self) -> Option<&Id> {
        match self {
            Self::Node | Self::Anyone => None,
            Self::Account {
                account: _,
                organization,
            } => Some(organization),
        }
    }
}

/// The paths of one store.
#[derive(Clone, Debug)]
pub(super) struct ArtifactFiles {
    dir: PathBuf,
}

/// The artifacts and uploads in the folder.
#[derive(Debug, Default)]
pub(super) struct FolderScan {
    pub complete: BTreeMap<Hash, CompleteFile>,
    pub uploads: Vec<UploadFile>,
    /// Files that belong to complete artifacts, with the digests of these.
    companions: Vec<(Hash, PathBuf)>,
}

/// The file of a complete artifact.
#[derive(Debug)]
pub(super) struct CompleteFile {
    pub size_bytes: u64,
    /// Time of the last write.
    pub modified: SystemTime,
    /// The organization that uploaded it, if that is known.
    pub owner: Option<Id>,
}

/// The file of an unfinished upload.
#[derive(Debug)]
pub(super) struct UploadFile {
    pub digest: Hash,
    pub uploader: Uploader,
    /// The announced size.
    pub size_bytes: u64,
    /// Bytes in the file.
    pub length: u64,
    /// Time of the last write.
    pub modified: SystemTime,
}

/// Parses the name of a part after its digest: `<size>.part`, or
/// `<size>.<account>@<organization>.part`.
fn parse_part(name: &str) -> Option<(u64, Uploader)> {
    let name = name.strip_suffix(".part")?;
    let (size, uploader) = match name.split_once('.') {
        Some((size, uploader)) => (size, Uploader::from_file_name(uploader)?),
        None => (name, Uploader::Node),
    };
    Some((size.parse().ok()?, uploader))
}

impl ArtifactFiles {
    pub fn open(dir: PathBuf) -> Result<Self, ArtifactError> {
        fs::create_dir_all(&dir).map_err(ArtifactError::io("creating", &dir))?;
        Ok(Self { dir })
    }

    pub fn complete(&self, digest: &Hash) -> PathBuf {
        self.dir.join(digest.to_string())
    }

    pub fn groups(&self, digest: &Hash) -> PathBuf {
        self.dir.join(format!("{digest}.groups"))
    }

    pub fn part(&self, digest: &Hash, size_bytes: u64, uploader: &Uploader) -> PathBuf {
        let name = match uploader.file_name() {
            Some(name) => format!("{digest}.{size_bytes}.{name}.part"),
            None => format!("{digest}.{size_bytes}.part"),
        };
        self.dir.join(name)
    }

    /// Reads every name in the folder; files with other names are ignored.
    pub fn scan(&self) -> Result<FolderScan, ArtifactError> {
        let mut scan = FolderScan::default();
        let failed = || ArtifactError::io("listing", &self.dir);
        for entry in fs::read_dir(&self.dir).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let metadata = entry.metadata().map_err(failed())?;
            let (digest, rest) = match name.split_once('.') {
                Some((digest, rest)) => (digest, Some(rest)),
                None => (name, None),
            };
            let Ok(digest) = digest.parse() else { continue };
            let modified = metadata.modified().map_err(failed())?;
            match rest {
                None => {
                    let complete = CompleteFile {
                        size_bytes: metadata.len(),
                        modified,
                        owner: self.read_owner(&digest),
                    };
                    scan.complete.insert(digest, complete);
                }
                Some("groups" | "groups-new" | "owner") => {
                    scan.companions.push((digest, entry.path()));
                }
                Some(rest) => {
                    scan.uploads
                        .extend(parse_part(rest).map(|(size_bytes, uploader)| UploadFile {
                            digest,
                            uploader,
                            size_bytes,
                            length: metadata.len(),
                            modified,
                        }))
                }
            }
        }
        self.remove_strays(&scan)?;
        // The groups are written before the rename; without them the artifact is not complete.
        scan.complete
            .retain(|digest, _| self.groups(digest).exists());
        Ok(scan)
    }

    /// Removes what a crash has left of artifacts that were removed or not completed. A part that
    /// is completed afterwards writes its companions again.
    fn remove_strays(&self, scan: &FolderScan) -> Result<(), ArtifactError> {
        for (digest, path) in &scan.companions {
            if !scan.complete.contains_key(digest) {
                self.remove(path)?;
            }
        }
        Ok(())
    }

    fn owner(&self, digest: &Hash) -> PathBuf {
        self.dir.join(format!("{digest}.owner"))
    }

    /// The owner in the file, or `None` if there is no readable one: such bytes are only subject
    /// to more limits.
    fn read_owner(&self, digest: &Hash) -> Option<Id> {
        let mut text = String::new();
        let file = File::open(self.owner(digest)).ok()?;
        file.take(ID_BYTES_MAX as u64)
            .read_to_string(&mut text)
            .ok()?;
        Id::new(&text).ok()
    }

    /// Removes a complete artifact with all that belongs to it. The removal need not be durable:
    /// what comes back after a power failure is collected again.
    pub fn remove_complete(&self, digest: &Hash) -> Result<(), ArtifactError> {
        self.remove(&self.complete(digest))?;
        for companion in [
            self.groups(digest),
            self.owner(digest),
            self.damaged(digest),
        ] {
            if let Err(error) = self.remove(&companion) {
                tracing::warn!(%digest, %error, "a file of a removed artifact stays");
            }
        }
        Ok(())
    }

    fn damaged(&self, digest: &Hash) -> PathBuf {
        self.dir.join(format!("{digest}.damaged"))
    }

    pub fn length(&self, path: &Path) -> Result<u64, ArtifactError> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(ArtifactError::io("looking at", path)(error)),
        }
    }

    /// Appends at the end of a part, and syncs it: the offset that the client gets is durable.
    pub fn append(&self, path: &Path, offset: u64, bytes: &[u8]) -> Result<(), ArtifactError> {
        let failed = || ArtifactError::io("writing", path);
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(failed())?;
        file.seek(SeekFrom::Start(offset)).map_err(failed())?;
        if let Err(error) = file.write_all(bytes) {
            // A piece that does not fit on the disk is removed whole.
            file.set_len(offset).map_err(failed())?;
            return Err(failed()(error));
        }
        file.sync_data().map_err(ArtifactError::unsynced(path))
    }

    /// Hashes a part; if it is the artifact, makes it complete, otherwise removes it.
    ///
    /// Groups first, then the rename: after a crash between them the part is still there and is
    /// completed again.
    pub fn complete_part(
        &self,
        digest: &Hash,
        part: &Path,
        owner: Option<&Id>,
    ) -> Result<(), ArtifactError> {
        let groups = hash(part)?
            .finish()
            .map_err(ArtifactError::mismatch(*digest))?;
        if groups.digest() != *digest {
            self.remove(part)?;
            return Err(ArtifactError::WrongDigest {
                digest: *digest,
                got: groups.digest(),
            });
        }
        if let Some(owner) = owner {
            let path = self.owner(digest);
            fs::write(&path, owner.as_str()).map_err(ArtifactError::io("writing", &path))?;
        }
        self.write_groups(&groups)?;
        let complete = self.complete(digest);
        let file = File::open(part).map_err(ArtifactError::io("opening", part))?;
        file.sync_all().map_err(ArtifactError::unsynced(part))?;
        fs::rename(part, &complete).map_err(ArtifactError::io("renaming", part))?;
        sync_parent(&complete).map_err(ArtifactError::unsynced(&self.dir))
    }

    /// Removes a part, if there is a file of it.
    pub fn remove(&self, part: &Path) -> Result<(), ArtifactError> {
        match fs::remove_file(part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ArtifactError::io("removing", part)(error))
            }
            _ => Ok(()),
        }
    }

    /// Replaces the groups file durably. Unlike in `files::replace`, a failed sync is another error
    /// than a full disk.
    fn write_groups(&self, groups: &Groups) -> Result<(), ArtifactError> {
        let path = self.groups(&groups.digest());
        let temporary = path.with_extension("groups-new");
        let failed = || ArtifactError::io("writing", &path);
        let mut file = File::create(&temporary).map_err(failed())?;
        file.write_all(&groups.to_bytes()).map_err(failed())?;
        file.sync_all()
            .map_err(ArtifactError::unsynced(&temporary))?;
        fs::rename(&temporary, &path).map_err(failed())?;
        sync_parent(&path).map_err(ArtifactError::unsynced(&self.dir))
    }

    /// The groups of a complete artifact, checked against its digest.
    pub fn read_groups(&self, digest: &Hash, size_bytes: u64) -> Result<Groups, ArtifactError> {
        let path = self.groups(digest);
        let bytes = fs::read(&path).map_err(ArtifactError::io("reading", &path))?;
        Groups::from_bytes(*digest, size_bytes, &bytes).map_err(ArtifactError::mismatch(*digest))
    }

    /// Reads a range, checking every group that it touches.
    pub fn read(
        &self,
        groups: &Groups,
        offset: u64,
        length: u64,
    ) -> Result<Vec<u8>, ArtifactError> {
        let digest = groups.digest();
        let path = self.complete(&digest);
        let file = File::open(&path).map_err(ArtifactError::io("opening", &path))?;
        let group_bytes = GROUP_BYTES as u64;
        let mut out = Vec::with_capacity(length as usize);
        let mut buffer = vec![0; GROUP_BYTES];
        for group in offset / group_bytes..(offset + length).div_ceil(group_bytes) {
            let begins = group * group_bytes;
            let bytes = &mut buffer[..groups.group_bytes(group)];
            let read = file.read_exact_at(bytes, begins);
            if read.is_err() || groups.verify(group, bytes).is_err() {
                return Err(ArtifactError::Damaged { digest, group });
            }
            let from = offset.saturating_sub(begins).min(bytes.len() as u64) as usize;
            let to = (offset + length - begins).min(bytes.len() as u64) as usize;
            out.extend_from_slice(&bytes[from..to]);
        }
        Ok(out)
    }

    /// Takes a damaged artifact out of use; the file is kept for an analysis.
    pub fn quarantine(&self, digest: &Hash) -> Result<(), ArtifactError> {
        let path = self.complete(digest);
        fs::rename(&path, self.damaged(digest))
            .map_err(ArtifactError::io("moving aside", &path))?;
        sync_parent(&path).map_err(ArtifactError::unsynced(&self.dir))
    }
}

fn hash(path: &Path) -> Result<GroupsBuilder, ArtifactError> {
    let failed = || ArtifactError::io("reading", path);
    let mut file = File::open(path).map_err(failed())?;
    let (mut builder, mut buffer) = (GroupsBuilder::default(), vec![0; READ_BYTES]);
    loop {
        let read = file.read(&mut buffer).map_err(failed())?;
        if read == 0 {
            return Ok(builder);
        }
        builder.update(&buffer[..read]);
    }
}
