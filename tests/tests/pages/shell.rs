//! A shell that runs one command after the other.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than any command of a page takes on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(180);
/// The most unread lines: more than a devnet prints.
const LINES_MAX: usize = 1_000;
/// Exit code of a process that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Lines of a process, read while it runs.
pub fn lines_of(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = sync_channel(LINES_MAX);
    std::thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        // The receiver is dropped when the test has ended.
        lines
            .take_while(|line| sender.send(line.clone()).is_ok())
            .count();
    });
    lines
}

/// Something that runs until Ctrl-C.
struct Background {
    command: String,
    pid: Pid,
    output: PathBuf,
}

pub struct Shell {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
    folder: PathBuf,
    background: Vec<Background>,
}

impl Shell {
    /// In this folder, and with no settings of the person who runs the test.
    pub fn new(folder: &Path) -> Self {
        Self::within(Command::new("bash"), folder)
    }

    /// A bash that the command starts, which sees this folder under the same path.
    pub fn within(mut command: Command, folder: &Path) -> Self {
        let mut child = command
            .args(["--noprofile", "--norc"])
            .current_dir(folder)
            .env_remove("LAMPLIGHTER_PROFILE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // The shell's messages about background processes.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut shell = Self {
            stdin: child.stdin.take().unwrap(),
            answers: lines_of(child.stdout.take().unwrap()),
            child,
            folder: folder.to_owned(),
            background: Vec::new(),
        };
        // As at a terminal: aliases work, and what runs in the background can be interrupted.
        shell.ask("shopt -s expand_aliases; set -m; echo");
        shell
    }

    /// The process of the shell.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Returns the line that the shell answers.
    fn ask(&mut self, command: &str) -> String {
        writeln!(self.stdin, "{command}").unwrap();
        let answer = self.answers.recv_timeout(TIMEOUT);
        answer.unwrap_or_else(|_| panic!("the shell does not answer: {command}"))
    }

    /// The exit code of a command and everything that it printed.
    pub fn run(&mut self, command: &str) -> (i32, String) {
        let output = self.folder.join("printed");
        let path = output.display();
        let code = self.ask(&format!(
            "{{ {command}\n}} > {path} 2>&1 < /dev/null; echo $?"
        ));
        let printed = fs::read(&output).unwrap();
        let printed = String::from_utf8_lossy(&printed).into_owned();
        (code.parse().unwrap(), printed)
    }

    /// Starts a command that runs until Ctrl-C.
    pub fn start(&mut self, command: &str) {
        let output = self
            .folder
            .join(format!("printed-{}", self.background.len()));
        let path = output.display();
        let pid = self.ask(&format!("{command} > {path} 2>&1 < /dev/null &\necho $!"));
        self.background.push(Background {
            command: command.to_owned(),
            pid: Pid::from_raw(pid.parse().unwrap()),
            output,
        });
    }

    /// Interrupts what runs in the background: it must run still, have printed something, and end.
    pub fn interrupt(mut self) {
        for Background {
            command,
            pid,
            output,
        } in std::mem::take(&mut self.background)
        {
            let printed = fs::read_to_string(output).unwrap();
            assert!(!printed.is_empty(), "{command} has printed nothing");
            kill(pid, Signal::SIGINT)
                .unwrap_or_else(|error| panic!("{command}: {error}: {printed}"));
            let code = self.ask(&format!("wait {pid} 2> /dev/null; echo $?"));
            let code: i32 = code.parse().unwrap();
            assert!([0, INTERRUPTED].contains(&code), "{command}: {code}");
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        for Background { pid, .. } in &self.background {
            // It may have ended by itself.
            kill(*pid, Signal::SIGKILL).ok();
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
