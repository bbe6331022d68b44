//! The index of the artifact folder in memory, and its limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lamplighter_types::{Hash, Id};
use tokio::sync::Mutex as AsyncMutex;

use super::error::ArtifactError;
use super::files::{CompleteFile, FolderScan, UploadFile, Uploader};

/// Bounds of the store.
#[derive(Clone, Debug)]
pub struct ArtifactLimits {
    /// Unfinished uploads of all clients.
    pub uploads_max: usize,
    /// Unfinished uploads of the accounts of one organization: none can use up the limit of all.
    pub uploads_per_organization_max: usize,
    /// Unfinished uploads of one account: several people may use it, and it can't use up the limit
    /// of its organization.
    pub uploads_per_account_max: usize,
    /// Bytes of all artifacts and uploads, as announced.
    pub bytes_max: u64,
    /// Bytes of what no approver has released. The rest is for releases, so that uploads can't hold
    /// up a repair.
    pub unreleased_bytes_max: u64,
    /// Bytes of one organization that no approver has released: 32 of the largest artifacts, twice
    /// its unapproved releases.
    pub bytes_per_organization_max: u64,
    /// An upload that is idle for longer is dropped, or abandoned ones would use up the limits and
    /// the disk for ever. A day: an upload that broke off can be continued the next morning.
    pub idle_max: Duration,
    /// A complete artifact that no release names is dropped after this time. A week: who prepares
    /// a release uploads first and publishes afterwards.
    pub unpublished_max: Duration,
}

impl Default for ArtifactLimits {
    fn default() -> Self {
        Self {
            uploads_max: 64,
            uploads_per_organization_max: 16,
            uploads_per_account_max: 8,
            bytes_max: 64 << 30,
            unreleased_bytes_max: 32 << 30,
            bytes_per_organization_max: 8 << 30,
            idle_max: Duration::from_secs(24 * 3600),
            unpublished_max: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// The party to which bytes are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// The whole city: the release is approved.
    City,
    /// The organization that uploaded or published them.
    Organization(Id),
    /// An unknown client.
    Unknown,
}

impl Charge {
    fn of(organization: Option<&Id>) -> Self {
        match organization {
            Some(organization) => Self::Organization(organization.clone()),
            None => Self::Unknown,
        }
    }
}

/// A complete artifact.
#[derive(Debug)]
pub(super) struct StoredArtifact {
    pub size_bytes: u64,
    /// The organization that uploaded it, if that is known.
    pub owner: Option<Id>,
    pub charge: Charge,
    /// Time of the last write.
    pub modified: SystemTime,
}

impl StoredArtifact {
    pub fn new(size_bytes: u64, owner: Option<Id>, modified: SystemTime) -> Self {
        let charge = Charge::of(owner.as_ref());
        Self {
            size_bytes,
            owner,
            charge,
            modified,
        }
    }
}

/// An unfinished upload.
#[derive(Debug)]
pub(super) struct Upload {
    /// The announced size.
    pub size_bytes: u64,
    /// The bytes that count: the announced size, or what is on disk of a fetch that no peer has
    /// confirmed since the start.
    pub reserved_bytes: u64,
    pub charge: Charge,
    /// Time of the last call that began, continued or extended it.
    pub modified: SystemTime,
    /// Held while the upload's file is written or removed.
    pub writer: Arc<AsyncMutex<()>>,
}

pub(super) type UploadKey = (Hash, Uploader);

#[derive(Debug)]
pub(super) struct Index {
    pub complete: BTreeMap<Hash, StoredArtifact>,
    pub uploads: BTreeMap<UploadKey, Upload>,
}

fn scanned_upload(file: UploadFile) -> (UploadKey, Upload) {
    let by_node = file.uploader == Uploader::Node;
    let upload = Upload {
        size_bytes: file.size_bytes,
        reserved_bytes: if by_node {
            file.length
        } else {
            file.size_bytes
        },
        charge: Charge::of(file.uploader.organization()),
        modified: file.modified,
        writer: Arc::default(),
    };
    ((file.digest, file.uploader), upload)
}

fn scanned_artifact((digest, file): (Hash, CompleteFile)) -> (Hash, StoredArtifact) {
    let CompleteFile {
        size_bytes,
        modified,
        owner,
    } = file;
    (digest, StoredArtifact::new(size_bytes, owner, modified))
}

impl Index {
    pub fn new(scan: FolderScan) -> Self {
        let FolderScan {
            complete, uploads, ..
        } = scan;
        Self {
            complete: complete.into_iter().map(scanned_artifact).collect(),
            uploads: uploads.into_iter().map(scanned_upload).collect(),
        }
    }

    /// Adds a client's upload, if the limits allow it.
    pub fn reserve_upload(
        &mut self,
        key: &UploadKey,
        size_bytes: u64,
        limits: &ArtifactLimits,
    ) -> Result<(), ArtifactError> {
        let uploaders = self.uploads.keys().map(|(_, uploader)| uploader);
        let clients: Vec<_> = uploaders.filter(|by| **by != Uploader::Node).collect();
        let of_account = clients.iter().filter(|by| ***by == key.1).count();
        if of_account >= limits.uploads_per_account_max {
            return Err(ArtifactError::TooManyAccountUploads(of_account));
        }
        let organization = key.1.organization();
        let of_organization = clients
            .iter()
            .filter(|by| by.organization() == organization);
        let of_organization = of_organization.count();
        if of_organization >= limits.uploads_per_organization_max {
            return Err(ArtifactError::TooManyOrganizationUploads(of_organization));
        }
        if clients.len() >= limits.uploads_max {
            return Err(ArtifactError::TooManyUploads(clients.len()));
        }
        self.reserve(key, size_bytes, Charge::of(organization), limits)
    }

    /// Adds an upload or a fetch, or enlarges what it has reserved, if the limits of bytes allow
    /// it.
    pub fn reserve(
        &mut self,
        key: &UploadKey,
        size_bytes: u64,
        charge: Charge,
        limits: &ArtifactLimits,
    ) -> Result<(), ArtifactError> {
        let mut before = self.uploads.remove(key);
        let checked = self.check_bytes(size_bytes, &charge, limits);
        if let Err(error) = checked {
            self.uploads
                .extend(before.map(|upload| (key.clone(), upload)));
            return Err(error);
        }
        let writer = before.as_mut().map(|upload| upload.writer.clone());
        let upload = Upload {
            size_bytes,
            reserved_bytes: size_bytes,
            charge,
            modified: SystemTime::now(),
            writer: writer.unwrap_or_default(),
        };
        self.uploads.insert(key.clone(), upload);
        Ok(())
    }

    /// Checks that `size_bytes` more fit within the limits of `charge`.
    fn check_bytes(
        &self,
        size_bytes: u64,
        charge: &Charge,
        limits: &ArtifactLimits,
    ) -> Result<(), ArtifactError> {
        let (mut all, mut unreleased, mut charged) = (size_bytes, size_bytes, size_bytes);
        let complete = self.complete.values().map(|a| (a.size_bytes, &a.charge));
        let uploads = self.uploads.values().map(|u| (u.reserved_bytes, &u.charge));
        for (bytes, to) in complete.chain(uploads) {
            all = all.saturating_add(bytes);
            if *to != Charge::City {
                unreleased = unreleased.saturating_add(bytes);
            }
            if to == charge {
                charged = charged.saturating_add(bytes);
            }
        }
        let bytes_max = limits.bytes_max;
        if all > bytes_max {
            return Err(ArtifactError::Quota { bytes_max });
        }
        if *charge == Charge::City {
            return Ok(());
        }
        let bytes_max = limits.unreleased_bytes_max;
        if unreleased > bytes_max {
            return Err(ArtifactError::Quota { bytes_max });
        }
        let bytes_max = limits.bytes_per_organization_max;
        if charged > bytes_max {
            return Err(ArtifactError::OrganizationQuota { bytes_max });
        }
        Ok(())
    }
}
