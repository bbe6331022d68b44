//! The Debian package: it is made of the program that was built, and is what Debian expects.

use std::path::{Path, PathBuf};
use std::process::Command;

use lamplighter_tests::{lamplighter, repository};

/// Files that the package must have.
const FILES: [&str; 12] = [
    "./etc/default/lamplighter",
    "./usr/bin/lamplighter",
    "./usr/lib/sysusers.d/lamplighter.conf",
    "./usr/lib/tmpfiles.d/lamplighter.conf",
    "./usr/lib/systemd/system/lamplighter-gateway.service",
    "./usr/lib/systemd/system/lamplighter-node.service",
    "./usr/share/bash-completion/completions/lamplighter",
    "./usr/share/fish/vendor_completions.d/lamplighter.fish",
    "./usr/share/man/man1/lamplighter-node-init.1.gz",
    "./usr/share/man/man1/lamplighter.1.gz",
    "./usr/share/doc/lamplighter/copyright",
    "./usr/share/zsh/vendor-completions/_lamplighter",
];

/// Runs a command to its end; panics unless it succeeds.
pub fn done(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {printed}{errors}");
    printed
}

/// Makes the package in a folder, as `make package` does, of the program that the tests run.
pub fn build(folder: &Path) -> PathBuf {
    let package = folder.join("lamplighter.deb");
    let mut script = Command::new(repository().join("scripts/package"));
    done(script.arg(lamplighter()).arg(&package).arg("--fast"));
    package
}

/// The package has what it should, and Debian's checker of packages finds no error.
pub fn check(package: &Path) {
    let listed = done(Command::new("dpkg-deb").arg("--contents").arg(package));
    for file in FILES {
        assert!(
            listed
                .lines()
                .any(|line| line.ends_with(&format!(" {file}"))),
            "{file}: {listed}"
        );
    }
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error"]).arg(package);
    done(&mut lintian);
}

/// What is not in the package: the image and how it is run, and the scripts.
#[test]
fn what_packages_is_free_of_faults() {
    let packaging = repository().join("packaging");
    let check = repository().join("tests/packaging");
    done(
        Command::new("node")
            .arg(check.join("check.mjs"))
            .arg(packaging.join("Dockerfile")),
    );
    let rules = "{extends: default, rules: {line-length: disable, braces: disable}}";
    let files = [
        "compose.yaml",
        "prometheus/alerts.yml",
        "prometheus/alerts.test.yml",
    ];
    let files = files.map(|file| packaging.join(file));
    done(
        Command::new("yamllint")
            .args(["--strict", "-d", rules])
            .args(files),
    );
    for script in ["postinst", "postrm"] {
        done(
            Command::new("sh")
                .arg("-n")
                .arg(packaging.join("debian").join(script)),
        );
    }
}
