//! What a service tells the program that supervises it (`sd_notify(3)`): a text in a datagram, to
//! the socket that the environment names. systemd, and what imitates it, read it.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

/// The connection to the supervisor of this process.
#[derive(Debug)]
pub struct Supervisor {
    socket: UnixDatagram,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The supervisor that the environment names; none without one.
    ///
    /// # Errors
    /// It names a socket that can't be reached.
    pub fn from_environment() -> io::Result<Option<Self>> {
        let Some(socket) = env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else {
            return Ok(None);
        };
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        // A watchdog for another process of the service is none for this one.
        let is_meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| is_meant && *micros > 0);
        Self::connect(&socket, watchdog.map(Duration::from_micros)).map(Some)
    }

    /// Connects to a socket: a path, or `@` and a name of Linux without a file. `watchdog` is the
    /// time within which the supervisor wants a sign of life.
    ///
    /// # Errors
    /// Nobody has that socket.
    pub fn connect(socket: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match socket.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(socket)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // A supervisor that does not read must not hold up the service.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, watchdog })
    }

    /// The time within which the supervisor wants a sign of life; none: it wants none.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Sends one or more assignments, a line each, for example `READY=1`.
    ///
    /// # Errors
    /// The supervisor has ended, or does not read.
    pub fn notify(&self, state: &str) -> io::Result<()> {
        self.socket.send(state.as_bytes()).map(drop)
    }
}
