//! The keys of Things, from the gateway's own file:
//!
//! ```toml
//! [[psk]]                            # for DTLS
//! identity = "lamp-101"              # sent by the Thing in clear, at most 128 bytes
//! key = "00112233445566778899aabbccddeeff" # 16 to 64 bytes, hexadecimal
//! device = "lamp-101"                # its id on the ledger
//!
//! [[oscore]]                         # for OSCORE (RFC 8613)
//! secret = "0102030405060708090a0b0c0d0e0f10" # 16 to 64 bytes, of this entry alone
//! salt = "9e7ca92223786340"          # optional, at most 64 bytes
//! context = "37cbf3210017a2d3"       # optional id context, at most 32 bytes
//! thing_id = "0a01"                  # sender id of the Thing, 0 to 7 bytes, of this entry alone
//! gateway_id = "01"                  # sender id of the gateway, another for each of a device's
//! device = "lamp-102"
//! purpose = "bootstrap"              # optional: this key gets the others by a bootstrap
//! ```
//!
//! A device may have several keys, so that its key can be changed in two steps. The file has mode
//! 600, and is read again when it has changed. [`file`] reads it.

mod file;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use lamplighter_system::files;
use serde::Deserialize;
use zeroize::Zeroizing;

/// Shortest key in bytes: 128 bits, as LwM2M asks for.
pub const PSK_BYTES_MIN: usize = 16;
/// Longest key in bytes, as RFC 4279 asks for.
const PSK_BYTES_MAX: usize = 64;
/// Longest identity in bytes, as RFC 4279 asks for.
const IDENTITY_BYTES_MAX: usize = 128;
/// Longest sender id: what the nonce of AES-CCM-16-64-128 has room for (RFC 8613, section 3.3).
const SENDER_ID_BYTES_MAX: usize = 7;
/// Longest salt.
const SALT_BYTES_MAX: usize = 64;
/// Longest id context: two random halves of 16 bytes, as RFC 8613, appendix B.2 has.
const ID_CONTEXT_BYTES_MAX: usize = 32;
/// Keys in the file: two for each device that a gateway can have.
const KEYS_MAX: usize = 20_000;
/// Size of the file in bytes: the most keys at their longest, with room for comments.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why the file of keys can't be used. No text of it has a key.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("reading the keys of Things in {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "the keys of Things in {} can be read by others (mode {mode:o}); set it to 600",
        path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("the keys of Things in {} are more than {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge { path: PathBuf },
    /// The text has keys in it, so that the parser's own words are left out.
    #[error("the keys of Things in {} are malformed near byte {at}", path.display())]
    Malformed { path: PathBuf, at: usize },
    #[error("the keys of Things: there may be {KEYS_MAX}")]
    TooMany,
    #[error("the keys of Things: the identity {0:?} has not 1 to {IDENTITY_BYTES_MAX} bytes")]
    Identity(String),
    #[error("the keys of Things: the identity {0:?} is there twice")]
    Twice(String),
    #[error(
        "the keys of Things: that of {0:?} is not {PSK_BYTES_MIN} to {PSK_BYTES_MAX} bytes in \
         hexadecimal"
    )]
    Key(String),
    #[error(
        "the keys of Things: an id of {0:?} for OSCORE is not 0 to {SENDER_ID_BYTES_MAX} bytes in \
         hexadecimal, or the same for both sides"
    )]
    SenderId(String),
    #[error("the keys of Things: salt or context of {0:?} is too long, or not hexadecimal")]
    Salt(String),
    #[error("the keys of Things: a thing_id, or a gateway_id of {0:?}, is there twice")]
    SenderIdTwice(String),
    /// Two contexts with one secret can encrypt two messages with one nonce.
    #[error("the keys of Things: the secret of {0:?} is there twice; each entry has its own")]
    SecretTwice(String),
}

/// The use of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// The device registers and reports with it.
    #[default]
    Registration,
    /// The device gets its other keys with it, and does nothing else.
    Bootstrap,
}

/// The protocol that a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// DTLS with a pre-shared key.
    Dtls,
    /// OSCORE.
    Oscore,
}

/// The device that a key stands for, and the use of the key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct KeyHolder {
    pub(crate) device: Arc<str>,
    pub(crate) purpose: Purpose,
}

/// The key of an identity, and the device that it stands for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    pub(crate) holder: KeyHolder,
    identity: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Credential {
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }
}

/// What both sides of an OSCORE context know beforehand (RFC 8613, section 3.2).
#[derive(Clone, PartialEq, Eq)]
pub struct OscoreKeys {
    /// The master secret.
    pub secret: Zeroizing<Vec<u8>>,
    /// The master salt; empty if there is none.
    pub salt: Vec<u8>,
    /// The id context.
    pub id_context: Option<Vec<u8>>,
    /// The Thing's sender id.
    pub thing_id: Vec<u8>,
    /// The gateway's sender id.
    pub gateway_id: Vec<u8>,
}

/// An entry for OSCORE.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct OscoreCredential {
    pub(crate) holder: KeyHolder,
    pub(crate) keys: OscoreKeys,
}

/// The key that a device is to have for its registrations.
#[derive(Clone, PartialEq, Eq)]
pub enum DeviceKey {
    /// For DTLS.
    Psk {
        /// Sent by the Thing in clear.
        identity: Vec<u8>,
        /// The key.
        key: Zeroizing<Vec<u8>>,
    },
    /// For OSCORE.
    Oscore(OscoreKeys),
}

impl DeviceKey {
    /// The protocol that it is for.
    pub fn protection(&self) -> Protection {
        match self {
            DeviceKey::Psk { .. } => Protection::Dtls,
            DeviceKey::Oscore(_) => Protection::Oscore,
        }
    }
}

#[derive(Default)]
struct Credentials {
    by_identity: HashMap<Vec<u8>, Credential>,
    /// By the Thing's sender id.
    oscore: HashMap<Vec<u8>, Arc<OscoreCredential>>,
    /// The devices with a key for registrations.
    devices: HashSet<Arc<str>>,
    /// Identities and sender ids of these keys; that of the last entry of a device.
    newest_identity: HashMap<Arc<str>, Vec<u8>>,
    newest_sender_id: HashMap<Arc<str>, Vec<u8>>,
}

/// What the file had when it was read last.
#[derive(Default)]
struct CurrentFile {
    stamp: Option<FileStamp>,
    /// The number of times that it was read.
    generation: u64,
    credentials: Credentials,
}

/// The newest content of the file; clones share it.
#[derive(Clone)]
pub struct CredentialStore {
    path: Arc<PathBuf>,
    current: Arc<RwLock<CurrentFile>>,
}

/// What shows that a file has changed: its number, its length, and seconds and nanoseconds of its
/// change, which no program sets. Where files are deployed with one fixed time, their time of
/// modification shows nothing.
type FileStamp = (u64, u64, i64, i64);

impl CredentialStore {
    /// Reads the file.
    ///
    /// # Errors
    /// It is missing, readable by others, or malformed.
    pub fn open(path: PathBuf) -> Result<CredentialStore, CredentialError> {
        let current = CurrentFile {
            stamp: Some(stamp(&path)?),
            generation: 1,
            credentials: read(&path)?,
        };
        Ok(CredentialStore {
            path: Arc::new(path),
            current: Arc::new(RwLock::new(current)),
        })
    }

    /// Reads the file again if it has changed; true if it was read. If it can't be used, the keys
    /// stay as they are.
    ///
    /// # Errors
    /// As at the start; once for each change.
    pub fn refresh(&self) -> Result<bool, CredentialError> {
        let newest = stamp(&self.path)?;
        if self.with(|current| current.stamp == Some(newest)) {
            return Ok(false);
        }
        let credentials = read(&self.path);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.stamp = Some(newest);
        current.credentials = credentials?;
        current.generation += 1;
        Ok(true)
    }

    /// The same on a thread of its own, with the outcome in the log.
    pub(crate) async fn refresh_logged(&self) {
        let store = self.clone();
        match tokio::task::spawn_blocking(move || store.refresh()).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => tracing::info!("the keys of Things were read again"),
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the keys of Things stay as they were");
            }
            Err(error) => tracing::error!(%error, "reading the keys of Things"),
        }
    }

    /// A number that is another one once the file was read again.
    pub(crate) fn generation(&self) -> u64 {
        self.with(|current| current.generation)
    }

    /// True if the device has a key for its registrations here.
    pub fn has_device(&self, device: &str) -> bool {
        self.with(|current| current.credentials.devices.contains(device))
    }

    /// True if the key is still that of the device.
    pub(crate) fn holds(&self, credential: &Credential) -> bool {
        let identity = &credential.identity;
        self.with(|current| current.credentials.by_identity.get(identity) == Some(credential))
    }

    /// The key of an identity.
    pub(crate) fn find(&self, identity: &[u8]) -> Option<Credential> {
        self.with(|current| current.credentials.by_identity.get(identity).cloned())
    }

    /// The entry for OSCORE of a Thing's sender id.
    pub(crate) fn find_oscore(&self, thing_id: &[u8]) -> Option<Arc<OscoreCredential>> {
        self.with(|current| current.credentials.oscore.get(thing_id).cloned())
    }

    /// The newest key of a device for its registrations: one for this protocol if it has any, else
    /// one for the other.
    pub fn device_key(&self, device: &str, preferred: Protection) -> Option<DeviceKey> {
        self.with(|current| {
            let credentials = &current.credentials;
            let psk = || {
                let identity = credentials.newest_identity.get(device)?;
                let credential = credentials.by_identity.get(identity)?;
                Some(DeviceKey::Psk {
                    identity: identity.clone(),
                    key: credential.key.clone(),
                })
            };
            let oscore = || {
                let thing_id = credentials.newest_sender_id.get(device)?;
                let credential = credentials.oscore.get(thing_id)?;
                Some(DeviceKey::Oscore(credential.keys.clone()))
            };
            match preferred {
                Protection::Dtls => psk().or_else(oscore),
                Protection::Oscore => oscore().or_else(psk),
            }
        })
    }

    fn with<T>(&self, read: impl FnOnce(&CurrentFile) -> T) -> T {
        read(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for CredentialStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CredentialStore({})", self.path.display())
    }
}

fn stamp(path: &Path) -> Result<FileStamp, CredentialError> {
    let failed = |source| CredentialError::Read {
        path: path.to_owned(),
        source,
    };
    let metadata = fs::metadata(path).map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(CredentialError::Exposed { path, mode });
    }
    if metadata.len() > FILE_BYTES_MAX {
        let path = path.to_owned();
        return Err(CredentialError::TooLarge { path });
    }
    let (second, nanosecond) = (metadata.ctime(), metadata.ctime_nsec());
    Ok((metadata.ino(), metadata.len(), second, nanosecond))
}

fn read(path: &Path) -> Result<Credentials, CredentialError> {
    let text = files::read_text(path).map_err(|source| CredentialError::Read {
        path: path.to_owned(),
        source,
    })?;
    file::parse(&Zeroizing::new(text), path)
}
