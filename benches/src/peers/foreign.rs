//! Programs of Debian's packages: where they are, and their processes.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::error::BenchError;

/// Where Debian puts programs, also those that are not in every account's `PATH`.
const DIRECTORIES: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
/// Libraries of unpacked packages, beside those of the machine.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu"];
/// Time for a program to answer after its start.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Interval between two attempts.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Time to end after SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A program that was found.
#[derive(Clone, Debug)]
pub struct Program {
    pub path: PathBuf,
    /// For `LD_LIBRARY_PATH`, if the package was unpacked and not installed.
    libraries: Option<String>,
}

/// The folder in which `scripts/setup --bench` unpacks packages.
fn unpacked() -> Option<PathBuf> {
    let of = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = of("LAMPLIGHTER_CACHE")
        .or_else(|| Some(of("XDG_CACHE_HOME")?.join("lamplighter")))
        .or_else(|| Some(of("HOME")?.join(".cache/lamplighter")))?;
    Some(cache.join("peers"))
}

impl Program {
    /// Finds a program of a package: in the folder `packages` if there is one, else installed or
    /// unpacked by `scripts/setup --bench`.
    ///
    /// # Errors
    /// It is in none of these places; the error has the command that brings it.
    pub fn find(
        name: &'static str,
        package: &'static str,
        packages: Option<&Path>,
    ) -> Result<Self, BenchError> {
        let installed = DIRECTORIES.iter().map(|dir| Path::new(dir).join(name));
        let installed = installed.into_iter().find(|path| path.exists());
        if let (None, Some(path)) = (packages, installed) {
            let libraries = None;
            return Ok(Self { path, libraries });
        }
        let root = packages.map(Path::to_owned).or_else(unpacked);
        let root = root.unwrap_or_default();
        let path = ["usr/bin", "usr/sbin"]
            .iter()
            .map(|dir| root.join(dir).join(name))
            .find(|path| path.exists())
            .ok_or(BenchError::Missing { name, package })?;
        let libraries = LIBRARIES.map(|dir| root.join(dir).display().to_string());
        let libraries = Some(libraries.join(":"));
        Ok(Self { path, libraries })
    }
}

impl Program {
    /// The first line that the program prints about itself.
    pub async fn version(&self, option: &str) -> Result<String, BenchError> {
        let output = self.command_of(&self.path).arg(option).output().await;
        let output = output.map_err(BenchError::io("starting", &self.path))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    /// The program ends with this one, also if this one is killed: util-linux, which every Debian
    /// has, asks the kernel for that and becomes the program.
    fn bound_to_this(&self) -> Command {
        let mut command = self.command_of("setpriv".as_ref());
        command.args(["--pdeathsig", "TERM"]).arg(&self.path);
        command
    }

    fn command_of(&self, path: &Path) -> Command {
        let mut command = Command::new(path);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }
}

/// A running program, which is killed when the value is dropped.
pub struct Foreign {
    pub pid: u32,
    pub data: PathBuf,
    pub address: SocketAddr,
    child: Child,
    log: PathBuf,
}

impl Foreign {
    /// Starts a program with a data directory that exists; its output goes to a log beside it.
    pub fn start(
        program: &Program,
        arguments: &[String],
        data: &Path,
        address: SocketAddr,
    ) -> Result<Self, BenchError> {
        let log = data.with_extension("log");
        let file = File::create(&log).map_err(BenchError::io("making", &log))?;
        let errors = file.try_clone().map_err(BenchError::io("opening", &log))?;
        let child = program
            .bound_to_this()
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(BenchError::io("starting", &program.path))?;
        Ok(Self {
            pid: child.id().expect("the process has not been waited for"),
            data: data.to_owned(),
            address,
            child,
            log,
        })
    }

    /// Waits until `is_ready` says so.
    ///
    /// # Errors
    /// The program ended, or the time is over.
    pub async fn ready<F: Future<Output = bool>>(
        &mut self,
        is_ready: impl Fn(SocketAddr) -> F,
    ) -> Result<(), BenchError> {
        let until = Instant::now() + READY_WITHIN;
        while !is_ready(self.address).await {
            let status = self.child.try_wait();
            if let Some(status) = status.map_err(BenchError::io("waiting for", &self.log))? {
                return Err(self.ended(status.to_string()));
            }
            if Instant::now() >= until {
                return Err(self.ended("it does not answer".to_owned()));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(())
    }

    /// Ends the program by its process id.
    pub async fn stop(mut self) -> Result<(), BenchError> {
        let pid = Pid::from_raw(self.pid as i32);
        // It has not been waited for, so that the id is still that of this program.
        if let Err(error) = kill(pid, Signal::SIGTERM) {
            return Err(self.ended(error.to_string()));
        }
        if tokio::time::timeout(STOP_WITHIN, self.child.wait())
            .await
            .is_err()
        {
            let killed = self.child.kill().await;
            killed.map_err(BenchError::io("killing the program of", &self.log))?;
        }
        Ok(())
    }

    fn ended(&self, status: String) -> BenchError {
        BenchError::Foreign {
            log: fs::read_to_string(&self.log).unwrap_or_default(),
            status,
        }
    }
}
