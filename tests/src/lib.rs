//! Helpers of the whole system's tests: the paths of the programs that they start.

use std::path::{Path, PathBuf};

/// Firmware images of Debian's packages, of 8,120 and 51,008 bytes. `scripts/setup --test` installs
/// them.
pub const FIRMWARE_IMAGES: [&str; 2] = [
    "/usr/share/sigrok-firmware/fx2lafw-saleae-logic.fw",
    "/lib/firmware/ath9k_htc/htc_9271-1.4.0.fw",
];

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize()
        .expect("this crate lies in the repository")
}

/// The program `lamplighter`, built by `make test` or `cargo build -p lamplighter-cli`.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn lamplighter() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let folder = test
        .ancestors()
        .nth(2)
        .expect("tests lie in deps, below the programs");
    let program = folder.join("lamplighter");
    assert!(
        program.exists(),
        "{} is missing: cargo build -p lamplighter-cli",
        program.display()
    );
    program
}

/// A Python with the packages of `tests/requirements.txt`.
///
/// # Panics
/// When `scripts/setup --test` has not been run.
#[must_use]
pub fn python() -> PathBuf {
    let program = repository().join(".venv/bin/python");
    assert!(
        program.exists(),
        "{} is missing: scripts/setup --test",
        program.display()
    );
    program
}
