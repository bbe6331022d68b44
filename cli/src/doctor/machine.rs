//! The machine of a node: its disk and its ports.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lamplighter_node::{DiskSpace, NodeConfig};

use super::Finding;

/// Syncs of which the median is taken, unless they take too long together.
const SYNCS: usize = 15;
const SYNCS_WITHIN: Duration = Duration::from_secs(5);
/// Bytes before each sync: as many as a small batch has.
const SYNC_BYTES: usize = 4_096;
/// Below so many times the reserve the operator is warned.
const RESERVES_WARNED: u64 = 4;
const MIB: u64 = 1 << 20;

/// Space and speed of the disk that the data are on, or will be.
pub fn disk(config: &NodeConfig, sync_ms_max: u64) -> Vec<Finding> {
    let dir = existing(&config.data_dir);
    vec![space(config, dir), speed(dir, sync_ms_max)]
}

/// The folder, or the nearest one around it that exists.
fn existing(path: &Path) -> &Path {
    let found = path.ancestors().find(|path| path.is_dir());
    found.unwrap_or(Path::new("."))
}

fn space(config: &NodeConfig, dir: &Path) -> Finding {
    let shown = dir.display();
    let DiskSpace {
        free_bytes,
        reserve_bytes,
    } = match config.disk.space(dir) {
        Ok(space) => space,
        Err(error) => {
            let found = format!("the space of {shown} is not known: {error}");
            return Finding::fault("disk space", found, "look whether the disk is mounted");
        }
    };
    let found = format!(
        "{} MiB free in {shown}, {} MiB are the reserve (disk.reserve_bytes)",
        free_bytes / MIB,
        reserve_bytes / MIB
    );
    if free_bytes < reserve_bytes {
        let remedy = "free some space, or move data_dir to a larger disk: below the reserve the \
                      node takes no part";
        return Finding::fault("disk space", found, remedy);
    }
    if free_bytes < reserve_bytes.saturating_mul(RESERVES_WARNED) {
        return Finding::warning("disk space", found, "plan a larger disk; it only grows");
    }
    Finding::good("disk space", found)
}

fn speed(dir: &Path, sync_ms_max: u64) -> Finding {
    let shown = dir.display();
    let median = match median_sync(dir) {
        Ok(median) => median,
        Err(error) => {
            let found = format!("a file can't be written in {shown}: {error}");
            let remedy = "run this as root, or as the user of the service; look at the mount";
            return Finding::fault("disk speed", found, remedy);
        }
    };
    let millis = median.as_secs_f64() * 1e3;
    let found = format!("a sync of {SYNC_BYTES} bytes in {shown} takes {millis:.1} ms");
    match median > Duration::from_millis(sync_ms_max) {
        true => Finding::warning(
            "disk speed",
            found,
            format!(
                "use a disk that syncs within {sync_ms_max} ms: each block waits for a sync of \
                 a quorum"
            ),
        ),
        false => Finding::good("disk speed", found),
    }
}

/// A file that is removed when it is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            crate::output::warn(&format!("{} stays: {error}", self.0.display()));
        }
    }
}

fn median_sync(dir: &Path) -> io::Result<Duration> {
    let path = dir.join(format!(".doctor-{}", std::process::id()));
    let mut file = File::create_new(&path)?;
    let _removed = Scratch(path);
    let begun = Instant::now();
    let mut times = Vec::with_capacity(SYNCS);
    while times.is_empty() || (times.len() < SYNCS && begun.elapsed() < SYNCS_WITHIN) {
        file.write_all(&[0; SYNC_BYTES])?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

/// Whether the node can listen where its settings say; a node that runs does so already.
pub fn ports(config: &NodeConfig, runs: bool) -> Finding {
    if runs {
        return Finding::good("ports", "the node runs, and has them");
    }
    let mut wanted = vec![
        ("peer_listen", config.peer_listen),
        ("http_listen", config.http_listen),
        ("admin_listen", config.admin_listen),
        ("mqtt_listen", config.mqtt_listen),
    ];
    wanted.extend(config.mqtts_listen.map(|address| ("mqtts_listen", address)));
    let mut open: Vec<(&str, SocketAddr, TcpListener)> = Vec::new();
    for (name, address) in &wanted {
        match TcpListener::bind(address) {
            Ok(listener) => open.push((name, *address, listener)),
            Err(error) => return port_fault(name, *address, &error, &open),
        }
    }
    let shown: Vec<_> = wanted.iter().map(|(_, a)| a.port().to_string()).collect();
    Finding::good("ports", format!("{} are free", shown.join(" ")))
}

fn port_fault(
    name: &str,
    address: SocketAddr,
    error: &io::Error,
    open: &[(&str, SocketAddr, TcpListener)],
) -> Finding {
    let same = open
        .iter()
        .find(|(_, other, _)| other.port() == address.port());
    if let Some((other, ..)) = same {
        return Finding::fault(
            "ports",
            format!("{name} and {other} both have port {}", address.port()),
            "give each its own port in the configuration",
        );
    }
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "`ss -ltnp 'sport = :{}'` names the process that has it: stop it, or choose another \
             {name}",
            address.port()
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine does not have that address: correct {name}")
        }
        io::ErrorKind::PermissionDenied => "choose a port from 1024 on".to_owned(),
        _ => format!("correct {name}"),
    };
    Finding::fault(
        "ports",
        format!("{name} = {address} can't be used: {error}"),
        remedy,
    )
}
