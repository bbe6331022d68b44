//! A child process. It ends when our end of its standard input is closed, so that nothing is left
//! behind however we end; it has its own process group, so that Ctrl-C reaches it only through us.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use crate::DevnetError;

/// How long a process may take to end by itself.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// A program that can be started, killed and started again.
#[derive(Debug)]
pub struct Process {
    pub name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    log: PathBuf,
    /// Whether its standard output is for us; otherwise it goes to the log.
    talks: bool,
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
            talks: false,
            child: None,
            stdin: None,
        }
    }

    /// Its standard output and input are for us.
    pub fn talking(mut self) -> Self {
        self.talks = true;
        self
    }

    /// Starts it; its log goes on in the same file.
    pub fn start(&mut self) -> Result<(), DevnetError> {
        let open = || OpenOptions::new().create(true).append(true).open(&self.log);
        let log = || {
            open()
                .map(Stdio::from)
                .map_err(DevnetError::file("opening", &self.log))
        };
        let stdout = if self.talks { Stdio::piped() } else { log()? };
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

    /// Its standard input and output, once after each start.
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

    /// What it has logged so far.
    pub fn read_log(&self) -> Result<String, DevnetError> {
        let bytes = fs::read(&self.log).map_err(DevnetError::file("reading", &self.log))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// An error if it has ended.
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
        DevnetError::Ended {
            name: self.name.clone(),
            status,
            log: self.log.clone(),
        }
    }

    /// `kill -9`; returns when it is gone.
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

    /// Waits until it ends by itself; true if it ended well.
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

    /// Ends it in order, by closing its standard input; killed if it takes too long.
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

/// Cancels the token when standard input ends, which is how a parent process tells that it has
/// ended or wants us to. What comes before the end is not looked at.
pub fn until_stdin_ends(stop: CancellationToken) {
    // A thread: a read of standard input can't be taken back, and must not hold up the runtime's
    // end.
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while std::io::stdin()
            .read(&mut buffer)
            .is_ok_and(|read| read > 0)
        {}
        stop.cancel();
    });
}
