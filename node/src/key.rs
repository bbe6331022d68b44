//! The secret key of a node or a gateway, in a file that only its owner can read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use lamplighter_types::SecretKey;
use rand::TryRngCore;
use rand::rngs::OsRng;

/// The reason why a key file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("reading the key file {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("writing the key file {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the key file {} is not 64 hexadecimal digits", path.display())]
    Malformed { path: PathBuf },
    #[error("the key file {} can be read by others (mode {mode:o}); set it to 600", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("the system gives no random numbers")]
    Random(#[source] rand::rand_core::OsError),
}

/// A new key from the system's random numbers.
pub fn generate() -> Result<SecretKey, KeyError> {
    let mut seed = [0; 32];
    OsRng.try_fill_bytes(&mut seed).map_err(KeyError::Random)?;
    Ok(SecretKey::from_seed(seed))
}

/// Writes a key to a file that must not exist yet, mode 600, synced.
pub fn write(path: &Path, secret: &SecretKey) -> Result<(), KeyError> {
    let failed = |source| KeyError::Write {
        path: path.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let text = format!("{}\n", hex::encode(secret.seed()));
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)
}

/// Reads a key; refuses a file that others can read.
pub fn read(path: &Path) -> Result<SecretKey, KeyError> {
    let failed = |source| KeyError::Read {
        path: path.to_owned(),
        source,
    };
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let text = lamplighter_system::files::read_text(path).map_err(failed)?;
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim(), &mut seed).map_err(|_| KeyError::Malformed {
        path: path.to_owned(),
    })?;
    Ok(SecretKey::from_seed(seed))
}

/// Reads a key, or creates one if there is no file.
pub fn read_or_create(path: &Path) -> Result<SecretKey, KeyError> {
    if path.exists() {
        return read(path);
    }
    let secret = generate()?;
    write(path, &secret)?;
    Ok(secret)
}
