//! Checks of a firmware image before its upload: the output of a build is not always the format
//! that a device can write to its flash.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use clap::ValueEnum;
use lamplighter_types::limits::ARTIFACT_BYTES_MAX;

use crate::failure::Failure;

/// Bytes of the beginning that are looked at: several lines of a text format.
const HEAD_BYTES: u64 = 1_024;
/// Lines of a text format that are looked at.
const LINES: usize = 4;
const UF2_MAGIC: [u8; 8] = [0x55, 0x46, 0x32, 0x0a, 0x57, 0x51, 0x5d, 0x9e];

/// The form of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The bytes as they are in the flash of the device.
    Binary,
    /// With the headers of a linker.
    Elf,
    /// Text, a line with address and checksum for some bytes.
    IntelHex,
    /// Text of the same kind, by Motorola.
    Srec,
    /// Blocks for a USB boot loader.
    Uf2,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Binary => "a plain binary image",
            Self::Elf => "an ELF file",
            Self::IntelHex => "an Intel HEX file",
            Self::Srec => "a Motorola S-record file",
            Self::Uf2 => "a UF2 file",
        }
    }

    fn option(self) -> String {
        let value = self.to_possible_value();
        value.map_or(String::new(), |value| value.get_name().to_owned())
    }
}

/// Checks the size of an image, and that it is a plain binary or has the declared format.
pub fn check(path: &Path, declared: Option<Format>) -> Result<(), Failure> {
    let shown = path.display();
    let operation = || format!("reading {shown}");
    let file = File::open(path).map_err(Failure::during(operation()))?;
    let size = file.metadata().map_err(Failure::during(operation()))?.len();
    if size == 0 {
        return Err(Failure::plain(format!("the image {shown} is empty")));
    }
    if size > ARTIFACT_BYTES_MAX {
        return Err(Failure::plain(format!(
            "the image {shown} has {size} bytes, more than the {ARTIFACT_BYTES_MAX} (256 MiB) \
             that an image may have"
        )));
    }
    let mut head = Vec::new();
    let read = file.take(HEAD_BYTES).read_to_end(&mut head);
    read.map_err(Failure::during(operation()))?;
    let recognized = recognize(&head);
    match declared {
        Some(declared) if declared != recognized => Err(Failure::plain(format!(
            "--format says that {shown} is {}, but it looks like {}",
            declared.name(),
            recognized.name()
        ))),
        None if recognized != Format::Binary => Err(Failure::plain(format!(
            "{shown} is {}, and devices write the bytes of an image to their flash as they are: \
             convert it, e.g. with `objcopy -O binary`, or say --format {} if your devices take it",
            recognized.name(),
            recognized.option()
        ))),
        _ => Ok(()),
    }
}

/// Recognizes the format by the first bytes.
fn recognize(head: &[u8]) -> Format {
    if head.starts_with(b"\x7fELF") {
        return Format::Elf;
    }
    if head.starts_with(&UF2_MAGIC) {
        return Format::Uf2;
    }
    let lines = || {
        // The last one may be cut off.
        let whole = head.rsplitn(2, |byte| *byte == b'\n').last();
        let lines = whole.unwrap_or_default().split(|byte| *byte == b'\n');
        lines.map(<[u8]>::trim_ascii).take(LINES)
    };
    if lines().all(is_intel_hex) {
        return Format::IntelHex;
    }
    if lines().all(is_srec) {
        return Format::Srec;
    }
    Format::Binary
}

/// `:LLAAAATT..CC`: the bytes sum up to 0.
fn is_intel_hex(line: &[u8]) -> bool {
    let bytes = line
        .strip_prefix(b":")
        .and_then(|hex| hex::decode(hex).ok());
    bytes.is_some_and(|bytes| bytes.len() >= 5 && sum(&bytes) == 0)
}

/// `STLL..CC`: the bytes after the type sum up to 255.
fn is_srec(line: &[u8]) -> bool {
    let bytes = match line {
        [b'S', b'0'..=b'9', hex @ ..] => hex::decode(hex).ok(),
        _ => None,
    };
    bytes.is_some_and(|bytes| bytes.len() >= 4 && sum(&bytes) == 255)
}

fn sum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}
