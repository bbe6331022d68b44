//! A child process. It ends when its standard input is closed, so that nothing is left behind
//! however its parent ends. It has a separate process group, so that Ctrl-C reaches only the
//! parent.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use crate::DevnetError;

/// Time for a process to end by itself.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// A program that can be started, killed and started again.
#[derive(Debug)]
pub struct Process {
    pub name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    log: PathBuf,
    /// True if its standard output is a pipe; otherwise it goes to the log.
    piped: bool,
    child: Option<Child>,
    stdin: Option<ChildStdin>,
}

impl Process {
    pub fn new(name: &str, program: &Path, arguments: Vec<OsString>, logs: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments,
            log: logs.join(format!("{name}.log")),
            piped: false,
            child: None,
            stdin: None,
        }
    }

    /// Makes pipes of its standard output and input.
    pub fn piped(mut self) -> Self {
        self.piped = true;
        self
    }

    /// Starts the process; its log is appended to the same file.
    pub fn start(&mut self) -> Result<(), DevnetError> {
        let open = || OpenOptions::new().create(true).append(true).open(&self.log);
        let log = || {
            open()
                .map(Stdio::from)
                .map_err(DevnetError::file("opening", &self.log))
        };
        let stdout = if self.piped { Stdio::piped() } else { log()? };
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(log()?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| DevnetError::Start {
                name: self.name.clone(),
                source,
            })?;
        self.stdin = child.stdin.take();
        self.child = Some(child);
        Ok(())
    }

    /// Takes its standard input and output, once after each start.
    pub(crate) fn take_pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        let stdout = self.child.as_mut()?.stdout.take()?;
        Some((self.stdin.take()?, stdout))
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref()?.id()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its log so far.
    pub fn read_log(&self) -> Result<String, DevnetError> {
        let bytes = fs::read(&self.log).map_err(DevnetError::file("reading", &self.log))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Checks that it has not ended.
    pub fn check(&mut self) -> Result<(), DevnetError> {
        let Some(child) = self.child.as_mut() else {
            return Ok(());
        };
        match child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(status.to_string())),
            Err(error) => Err(self.ended(error.to_string())),
        }
    }

    fn ended(&self, status: String) -> DevnetError {
        let log = self.read_log().unwrap_or_else(|error| error.to_string());
        DevnetError::Ended {
            name: self.name.clone(),
            status,
            log: self.log.clone(),
            last_line: log.lines().last().unwrap_or_default().to_owned(),
        }
    }

    /// `kill -9`; returns when it has ended.
    pub async fn kill(&mut self) -> Result<(), DevnetError> {
        self.stdin = None;
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        child
            .kill()
            .await
            .map_err(|error| self.ended(error.to_string()))
    }

    /// Waits until it ends by itself; true if its exit status is 0.
    pub async fn wait(&mut self, within: Duration) -> Result<bool, DevnetError> {
        let Some(child) = self.child.as_mut() else {
            return Ok(true);
        };
        match tokio::time::timeout(within, child.wait()).await {
            Ok(Ok(status)) => {
                self.child = None;
                Ok(status.success())
            }
            Ok(Err(error)) => Err(self.ended(error.to_string())),
            Err(_) => Err(DevnetError::Deadline {
                what: format!("the end of {}", self.name),
                within,
                seen: "it still runs".to_owned(),
            }),
        }
    }

    /// Stops it by closing its standard input; kills it if that takes too long.
    pub async fn stop(&mut self) -> Result<(), DevnetError> {
        self.stdin = None;
        if self.child.is_none() {
            return Ok(());
        }
        match self.wait(STOP_WITHIN).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.ended("with an error".to_owned())),
            Err(error) => {
                tracing::warn!(%error, "killing a process that does not end");
                self.kill().await
            }
        }
    }
}

/// Cancels the token when standard input ends: a parent process closes it to stop this process, and
/// the system closes it when the parent ends. The bytes before the end are ignored.
pub fn until_stdin_ends(stop: CancellationToken) {
    // A thread: a read of standard input cannot be cancelled, and must not delay the end of the
    // runtime.
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while std::io::stdin()
            .read(&mut buffer)
            .is_ok_and(|read| read > 0)
        {}
        stop.cancel();
    });
}

/// The arguments of a command that reads a configuration file.
pub(crate) fn arguments(words: &[&str], config: &std::path::Path) -> Vec<OsString> {
    let words = words.iter().map(OsString::from);
    words
        .chain([OsString::from("--config"), config.into()])
        .collect()
}
