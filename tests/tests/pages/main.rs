//! The commands of README.md and docs/tour.md work as they are printed: each is run in its order,
//! line by line, against a devnet; those that start a cluster on four machines with nothing on
//! them but the package (`cluster.rs`). `page.rs` says how a page marks what is run and how.

mod cluster;
mod machine;
mod metrics;
mod package;
mod page;
mod shell;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use lamplighter_tests::{lamplighter, repository};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use page::{Block, blocks, fits};
use shell::{Shell, lines_of};

/// For the devnet to come up, or to end, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(180);

/// `lamplighter devnet up`, as `make devnet` runs it.
struct City {
    child: Child,
    lines: Receiver<String>,
}

impl City {
    /// Returns the lines printed before its first step, when it is up.
    fn start(folder: &Path) -> (Self, String) {
        let mut child = Command::new("target/debug/lamplighter")
            .args(["devnet", "up", "--dir", "devnet-data"])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        let city = Self { child, lines };
        let mut printed = String::new();
        while !printed.contains("up until Ctrl-C") {
            let line = city.lines.recv_timeout(TIMEOUT);
            printed += &line.unwrap_or_else(|_| panic!("the devnet does not come up: {printed}"));
            printed.push('\n');
        }
        let (places, _) = printed.split_once("\n[").unwrap();
        let places = places.to_owned();
        (city, places)
    }

    /// Ctrl-C.
    fn interrupt(mut self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).unwrap();
        while self.lines.recv_timeout(TIMEOUT).is_ok() {}
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for City {
    fn drop(&mut self) {
        // It may have ended by itself. Its processes end when it does.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn read(page: &str) -> Vec<Block> {
    blocks(&std::fs::read_to_string(repository().join(page)).unwrap())
}

/// Runs all blocks of a page in one shell, as a reader would who copies them.
fn run(page: &str, folder: &Path) {
    let mut shell = Shell::new(folder);
    for block in read(page) {
        match block {
            Block::Commands(commands) => {
                for command in commands {
                    let (code, printed) = shell.run(&command);
                    assert_eq!(code, 0, "{page}: {command}\n{printed}");
                }
            }
            Block::UntilInterrupted(commands) => {
                commands.iter().for_each(|command| shell.start(command));
            }
            Block::Session(session) => {
                for (command, shown) in session {
                    let (code, printed) = shell.run(&command);
                    let what = format!("{page}: {command}\n{printed}");
                    assert_eq!(code, exit_code(&shown), "{what}");
                    assert!(fits(&shown, &printed), "{what} is not as shown: {shown}");
                }
            }
            Block::Machines { .. } => panic!("{page}: there is one machine"),
            Block::NotRun => {}
        }
    }
    shell.interrupt();
}

/// The documented exit codes: 3 for a refusal, 1 for a failure.
fn exit_code(shown: &str) -> i32 {
    match shown {
        _ if shown.starts_with("lamplighter: refused: ") => 3,
        _ if shown.starts_with("lamplighter: ") => 1,
        _ => 0,
    }
}

#[test]
fn the_commands_of_the_pages_work_as_they_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let programs = folder.join("target/debug");
    std::fs::create_dir_all(&programs).unwrap();
    std::os::unix::fs::symlink(lamplighter(), programs.join("lamplighter")).unwrap();
    let (city, places) = City::start(folder);
    for place in [
        "node-4 ",
        "/docs",
        "gateway-2 ",
        "coap://",
        "MQTT",
        "devnet-data/client.toml",
    ] {
        assert!(places.contains(place), "{place} comes first: {places}");
    }
    for page in ["README.md", "docs/tour.md"] {
        run(page, folder);
    }
    city.interrupt();
}
