//! The gateways that have shown a certificate to this node. A gateway with a certificate has no use
//! for tokens, so one that comes in its name was stolen.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lamplighter_system::files;
use lamplighter_types::Id;

/// The gateways, in memory and in a file of one id a line. Only registered gateways get here, so
/// the ledger's registry bounds both.
#[derive(Debug, Default)]
pub struct CertifiedGateways {
    gateways: Mutex<BTreeSet<Id>>,
    file: Option<CertifiedFile>,
}

#[derive(Debug)]
struct CertifiedFile {
    path: PathBuf,
    /// The number of gateways in it. None leaves the set, so those of one number are the same.
    written: Mutex<usize>,
}

impl CertifiedGateways {
    /// Reads the gateways that an earlier run of the node wrote to `file`, which is made if it is
    /// missing. A file with lines that are no ids is kept beside it (extension `damaged`),
    /// and these are left out: a gateway of them is remembered again when it connects.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn open(file: &Path) -> io::Result<Self> {
        let bytes = match fs::read(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                files::replace(file, b"")?;
                Vec::new()
            }
            bytes => bytes?,
        };
        let (gateways, damaged) = parse(&bytes);
        if damaged > 0 {
            let aside = file.with_extension("damaged");
            let (text, path) = ("lines are no ids of gateways", aside.display());
            tracing::error!(damaged, %path, "{text}: the file is put aside");
            files::replace(&aside, &bytes)?;
            files::replace(file, text_of(&gateways).as_bytes())?;
        }
        Ok(Self {
            file: Some(CertifiedFile {
                path: file.to_owned(),
                written: Mutex::new(gateways.len()),
            }),
            gateways: Mutex::new(gateways),
        })
    }

    /// Remembers a gateway; true if it is new and has to be [saved](Self::save).
    pub fn add(&self, gateway: &Id) -> bool {
        self.lock().insert(gateway.clone())
    }

    /// Writes the gateways that are not in the file yet. They are on disk when this returns; not
    /// for an async thread.
    ///
    /// # Errors
    /// The file can't be written: it is as before, and the next call tries again. The gateways are
    /// remembered until the node ends.
    pub fn save(&self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let mut written = file.written.lock().unwrap_or_else(PoisonError::into_inner);
        let gateways = self.lock().clone();
        if gateways.len() > *written {
            files::replace(&file.path, text_of(&gateways).as_bytes())?;
            *written = gateways.len();
        }
        Ok(())
    }

    pub fn contains(&self, gateway: &Id) -> bool {
        self.lock().contains(gateway)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Id>> {
        self.gateways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The gateways in the bytes of a file, and the number of lines that are no ids.
fn parse(bytes: &[u8]) -> (BTreeSet<Id>, usize) {
    let text = String::from_utf8_lossy(bytes);
    let mut gateways = BTreeSet::new();
    let mut damaged = 0;
    for line in text.split_inclusive('\n') {
        // One without an end may be the beginning of another id.
        match line.strip_suffix('\n').map(|line| Id::new(line.trim())) {
            Some(Ok(gateway)) => drop(gateways.insert(gateway)),
            _ => damaged += 1,
        }
    }
    (gateways, damaged)
}

fn text_of(gateways: &BTreeSet<Id>) -> String {
    gateways
        .iter()
        .map(|gateway| format!("{gateway}\n"))
        .collect()
}
