//! Durable changes of files: what these functions did survives a crash after they returned.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// The mark that some editors write before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Bytes of a text file, at most: five times the largest of them, a proof with all it may have.
pub const TEXT_BYTES_MAX: u64 = 64 << 20;

/// Replaces the file's content, or makes the file.
///
/// Writes a new file beside it (extension `new`), syncs it, renames it, and syncs the directory. A
/// crash at any point leaves the old content whole or the new content whole. Two writers of the
/// same path must exclude each other.
///
/// # Errors
/// The first step that failed; the old content is still there then.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    rename(&beside, path)
}

/// Renames a file within its directory and syncs the directory.
///
/// # Errors
/// The rename, or the sync after it: then the new name may be lost in a crash.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_parent(to)
}

/// Syncs the directory that holds the path: files made, renamed or deleted there stay so.
///
/// # Errors
/// Opening or syncing the directory.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Reads a text file that people edit, or got from others. A byte order mark before it is left out;
/// line ends stay as they are.
///
/// # Errors
/// The file can't be read, has more than [`TEXT_BYTES_MAX`], or is no UTF-8: then the error names
/// the first such byte, and says what to do.
pub fn read_text(path: &Path) -> io::Result<String> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut bytes = Vec::new();
    File::open(path)?
        .take(TEXT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        let what = format!("it has more than {TEXT_BYTES_MAX} bytes, so it is not the file meant");
        return Err(invalid(what));
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(invalid(
            "the text is in UTF-16; save it as UTF-8".to_owned(),
        ));
    }
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
    let mark = bytes.len() - text.len();
    String::from_utf8(text.to_vec()).map_err(|error| {
        let at = mark + error.utf8_error().valid_up_to();
        invalid(format!("byte {at} is no UTF-8; save the file as UTF-8"))
    })
}
