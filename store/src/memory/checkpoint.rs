//! The image of a [`super::MemoryKv`] on disk: one file, written once.
//!
//! Layout, numbers little-endian: magic (8 bytes), then for each column family in the order of
//! [`Cf::ALL`] the number of entries (u64) and per entry key length (u32), key, value length (u32),
//! value. Nothing follows.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use bytes::{Buf, Bytes};

use super::{Table, Tables};
use crate::{Cf, StoreError};

const FILE_NAME: &str = "memory.kv";
const MAGIC: &[u8; 8] = b"LMPMEM01";

pub(super) fn write(tables: &Tables, dir: &Path) -> Result<(), StoreError> {
    fs::create_dir(dir).map_err(StoreError::io("create checkpoint directory", dir))?;
    let path = dir.join(FILE_NAME);
    let write_all = || -> std::io::Result<()> {
        let mut file = File::create_new(&path)?;
        file.write_all(&encode(tables))?;
        file.sync_all()?;
        File::open(dir)?.sync_all()
    };
    write_all().map_err(StoreError::io("write checkpoint", &path))
}

fn encode(tables: &Tables) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for cf in Cf::ALL {
        let table = tables.table(cf);
        out.extend_from_slice(&(table.size() as u64).to_le_bytes());
        for (key, value) in table.iter() {
            for part in [key, value] {
                out.extend_from_slice(&(part.len() as u32).to_le_bytes());
                out.extend_from_slice(part);
            }
        }
    }
    out
}

pub(super) fn read(dir: &Path) -> Result<Tables, StoreError> {
    let path = dir.join(FILE_NAME);
    let content = fs::read(&path).map_err(StoreError::io("read checkpoint", &path))?;
    decode(Bytes::from(content)).ok_or_else(|| StoreError::Corrupt {
        path,
        what: "the checkpoint is cut short or has bytes too many".to_owned(),
        source: None,
    })
}

fn decode(mut rest: Bytes) -> Option<Tables> {
    if rest.len() < MAGIC.len() || rest.split_to(MAGIC.len()) != MAGIC[..] {
        return None;
    }
    let mut tables = Tables::new();
    for cf in Cf::ALL {
        let mut table = Table::new_sync();
        for _ in 0..rest.try_get_u64_le().ok()? {
            let key = read_part(&mut rest)?;
            table.insert_mut(key, read_part(&mut rest)?);
        }
        tables.0[cf as usize] = table;
    }
    rest.is_empty().then_some(tables)
}

fn read_part(rest: &mut Bytes) -> Option<Bytes> {
    let len = rest.try_get_u32_le().ok()? as usize;
    (len <= rest.len()).then(|| rest.split_to(len))
}
