use clap::ValueEnum;
use lamplighter_types::limits::ARTIFACT_BYTES_MAX;

use crate::image::{Format, check};

const ELF: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0";
const INTEL_HEX: &[u8] = b":10010000214601360121470136007EFE09D2190140\r\n:00000001FF\r\n";
const SREC: &[u8] = b"S00F000068656C6C6F202020202000003C\nS9030000FC\n";
const UF2: &[u8] = b"UF2\x0aWQ\x5d\x9e\0\0\0\0";

fn checked(bytes: &[u8], declared: Option<Format>) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    std::fs::write(&path, bytes).unwrap();
    check(&path, declared).map_err(|failure| failure.to_string())
}

#[test]
fn what_no_device_flashes_is_refused_unless_it_is_meant() {
    let all = [
        (ELF, Format::Elf, "an ELF file"),
        (INTEL_HEX, Format::IntelHex, "an Intel HEX file"),
        (SREC, Format::Srec, "a Motorola S-record file"),
        (UF2, Format::Uf2, "a UF2 file"),
    ];
    for (bytes, format, name) in all {
        let refused = checked(bytes, None).unwrap_err();
        let value = format.to_possible_value().unwrap();
        let option = format!("--format {}", value.get_name());
        assert!(
            refused.contains(name) && refused.contains(&option),
            "{refused}"
        );
        checked(bytes, Some(format)).unwrap();
        let refused = checked(bytes, Some(Format::Binary)).unwrap_err();
        assert!(refused.contains("a plain binary image"), "{refused}");
        assert!(checked(b"\x04\x20\x00\x08", Some(format)).is_err());
    }
}

#[test]
fn plain_images_are_taken() {
    let almost_hex = INTEL_HEX.to_ascii_uppercase();
    let mut wrong_sum = almost_hex.clone();
    wrong_sum[3] = b'2';
    for bytes in [
        b"\x00\x04\x00\x20".as_slice(),
        b":",
        b":\n:\n",
        b"S1",
        &wrong_sum,
        b"\n",
    ] {
        checked(bytes, None).unwrap();
        checked(bytes, Some(Format::Binary)).unwrap();
    }
}

#[test]
fn an_image_has_at_least_a_byte_and_at_most_256_mib() {
    assert!(checked(b"", None).unwrap_err().contains("is empty"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(ARTIFACT_BYTES_MAX).unwrap();
    check(&path, None).unwrap();
    file.set_len(ARTIFACT_BYTES_MAX + 1).unwrap();
    let refused = check(&path, None).unwrap_err().to_string();
    assert!(
        refused.contains("256 MiB") && refused.contains("268435457"),
        "{refused}"
    );
}
