//! The registrations on disk, so that a restart of the gateway does not end them: one JSON object
//! in each line, the newest line of a Thing counts.
//!
//! Nothing in the file is believed: an address counts again once the Thing at it has proven who it
//! is (`recovery`). So a line that is damaged, or was lost with the last seconds before a power
//! loss, costs one Thing a registration, and no more. Unknown fields are left out, and new fields
//! need a default, so that older and newer gateways read each other's files.
//!
//! A registration that is prolonged unchanged is written again after half of its lifetime at the
//! earliest, and not before an hour: 10,000 Things that update every minute cost 36 MB a day.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lamplighter_system::files;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::lwm2m::inventory::INSTANCES_MAX;
use crate::lwm2m::registration::{
    ENDPOINT_BYTES_MAX, LIFETIME_MAX_S, LIFETIME_MIN_S, OBSERVABLE_MAX, Objects, Proof,
    REGISTRATIONS_MAX, ROOT_BYTES_MAX, ROOT_SEGMENTS_MAX, Registration, Registry,
};
use crate::lwm2m::resource::InstancePath;

/// Version of the lines. A file of another version is put aside.
const VERSION: u32 = 1;
/// Longest path of an instance, two numbers of 16 bits.
const INSTANCE_BYTES_MAX: usize = "/65535/65535".len();
/// Longest file that is read: all registrations, and as many lines again that are out of date.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Longest line that is read: the longest names together are shorter.
const LINE_BYTES_MAX: usize = 4 * 1024;
/// The file is written anew beyond this length, if most of its lines are out of date.
const REWRITE_FROM_BYTES: u64 = 256 * 1024;
/// A prolonged registration is not written again before this time.
const PROLONGED_MIN: Duration = Duration::from_secs(3600);

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    version: u32,
}

/// A registration in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredRegistration {
    pub location: String,
    /// The last address of the Thing, unless another Thing has it now.
    #[serde(default)]
    pub address: Option<SocketAddr>,
    pub lifetime_s: u64,
    #[serde(default)]
    pub agent: bool,
    #[serde(default)]
    pub checks_orders: bool,
    #[serde(default)]
    pub takes_casts: bool,
    #[serde(default)]
    pub updatable: bool,
    #[serde(default)]
    pub root: Vec<String>,
    #[serde(default)]
    pub observable: Vec<String>,
    /// Object and instance.
    #[serde(default)]
    pub inventory: Vec<(u16, u16)>,
    #[serde(default)]
    pub queue_mode: bool,
    #[serde(default)]
    pub proof: StoredProof,
    /// When it ends, by the clock of the gateway (Unix ms).
    pub until_ms: u64,
}

/// What the Thing had proven. A request that proves less does not take its registration away, also
/// after the restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoredProof {
    #[default]
    Unattested,
    Signed,
    Session,
}

impl From<Proof> for StoredProof {
    fn from(proof: Proof) -> Self {
        match proof {
            Proof::Unattested => Self::Unattested,
            Proof::Signed(_) => Self::Signed,
            Proof::Session => Self::Session,
        }
    }
}

impl From<StoredProof> for Proof {
    fn from(proof: StoredProof) -> Self {
        match proof {
            StoredProof::Unattested => Self::Unattested,
            // The numbers of nonces begin again.
            StoredProof::Signed => Self::Signed(0),
            StoredProof::Session => Self::Session,
        }
    }
}

/// A line about a Thing; without a registration it has ended.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    endpoint: String,
    #[serde(default)]
    registration: Option<StoredRegistration>,
}

/// The file, and what is in it.
#[derive(Debug)]
pub(super) struct RegistrationFile {
    path: PathBuf,
    written: HashMap<String, StoredRegistration>,
    length: u64,
}

impl RegistrationFile {
    /// Reads the file, which may not exist, and writes it anew without what is out of date. What
    /// can't be read is left out, with a message in the log.
    ///
    /// # Errors
    /// The file can't be read or written at all.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let mut file = Self {
            written: HashMap::new(),
            length: 0,
            path,
        };
        match read_bounded(&file.path) {
            Ok(Some(bytes)) => file.written = parse(&bytes),
            Ok(None) => {
                let path = file.path.display();
                tracing::error!(%path, "the registrations are put aside: the file is too long");
                fs::rename(&file.path, file.path.with_extension("damaged"))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        file.rewrite()?;
        Ok(file)
    }

    /// What the file holds, by the Things.
    pub fn registrations(&self) -> impl Iterator<Item = (&String, &StoredRegistration)> {
        self.written.iter()
    }

    /// Writes what is different in the table, all with one sync. Blocks on the disk.
    ///
    /// # Errors
    /// The disk failed; it can be tried again.
    pub fn save(&mut self, changes: Vec<Change>) -> io::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        // A line that an earlier failure tore must not swallow the first one.
        let mut bytes = vec![b'\n'];
        for (endpoint, registration) in &changes {
            let line = Line {
                endpoint: endpoint.clone(),
                registration: registration.clone(),
            };
            write_line(&mut bytes, &line)?;
        }
        let mut file = OpenOptions::new().append(true).open(&self.path)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        self.length += bytes.len() as u64;
        for (endpoint, registration) in changes {
            match registration {
                Some(registration) => self.written.insert(endpoint, registration),
                None => self.written.remove(&endpoint),
            };
        }
        let live = self.written.len() as u64 * 256;
        if self.length > REWRITE_FROM_BYTES.max(2 * live) {
            self.rewrite()?;
        }
        Ok(())
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        write_line(&mut bytes, &Head { version: VERSION })?;
        for (endpoint, registration) in &self.written {
            let line = Line {
                endpoint: endpoint.clone(),
                registration: Some(registration.clone()),
            };
            write_line(&mut bytes, &line)?;
        }
        files::replace(&self.path, &bytes)?;
        self.length = bytes.len() as u64;
        Ok(())
    }

    /// The differences between the table and the file.
    pub fn changes(&self, registry: &Registry, now: Instant, now_ms: u64) -> Vec<Change> {
        let present = registry.iter().filter_map(|(location, registration)| {
            let before = self.written.get(&registration.endpoint);
            let stored = stored(location, registration, before, now, now_ms);
            let is_written = before.is_some_and(|before| is_same(before, &stored));
            (!is_written).then(|| (registration.endpoint.clone(), Some(stored)))
        });
        let has_ended = |endpoint: &&String| registry.find_by_endpoint(endpoint).is_none();
        let ended = self.written.keys().filter(has_ended);
        let ended = ended.map(|endpoint| (endpoint.clone(), None));
        present.chain(ended).collect()
    }
}

/// A Thing and its registration; none if it has ended.
pub(super) type Change = (String, Option<StoredRegistration>);

fn stored(
    location: &str,
    registration: &Registration,
    before: Option<&StoredRegistration>,
    now: Instant,
    now_ms: u64,
) -> StoredRegistration {
    let left = registration.expires.saturating_duration_since(now);
    let Objects {
        agent,
        checks_orders,
        takes_casts,
        updatable,
        observable,
        inventory,
        root,
    } = &registration.objects;
    // After a restart a Thing has no address until it has proven one; the former one stays, for the
    // next restart.
    let former = before.filter(|before| before.location == location);
    StoredRegistration {
        location: location.to_owned(),
        address: registration
            .peer
            .filter(|peer| peer.session.is_none())
            .map(|peer| peer.address)
            .or_else(|| former.and_then(|former| former.address)),
        lifetime_s: registration.lifetime.as_secs(),
        agent: *agent,
        checks_orders: *checks_orders,
        takes_casts: *takes_casts,
        updatable: *updatable,
        observable: observable.clone(),
        inventory: inventory
            .iter()
            .map(|path| (path.object, path.instance))
            .collect(),
        root: root.clone(),
        queue_mode: registration.queue_mode,
        proof: registration.proof.into(),
        until_ms: now_ms.saturating_add(left.as_millis() as u64),
    }
}

/// True if the line that is in the file will do.
fn is_same(written: &StoredRegistration, stored: &StoredRegistration) -> bool {
    let pause = Duration::from_secs(stored.lifetime_s / 2).max(PROLONGED_MIN);
    let late_ms = stored.until_ms.saturating_sub(written.until_ms);
    let same_time = StoredRegistration {
        until_ms: written.until_ms,
        ..stored.clone()
    };
    *written == same_time && u128::from(late_ms) < pause.as_millis()
}

impl StoredRegistration {
    /// The registration for the table. It gets its whole lifetime again, since prolongations are
    /// not written at once; `None` if it had ended for longer than that can explain.
    pub fn restore(&self, endpoint: &str, now: Instant, now_ms: u64) -> Option<Registration> {
        let lifetime = Duration::from_secs(self.lifetime_s);
        let unwritten = PROLONGED_MIN.max(lifetime / 2) + lifetime;
        let until_ms = u128::from(self.until_ms) + unwritten.as_millis();
        (u128::from(now_ms) < until_ms).then(|| Registration {
            endpoint: endpoint.to_owned(),
            peer: None,
            proof: self.proof.into(),
            lifetime,
            objects: Objects {
                agent: self.agent,
                checks_orders: self.checks_orders,
                takes_casts: self.takes_casts,
                updatable: self.updatable,
                observable: self.observable.clone(),
                inventory: self
                    .inventory
                    .iter()
                    .map(|(object, instance)| InstancePath {
                        object: *object,
                        instance: *instance,
                    })
                    .collect(),
                root: self.root.clone(),
            },
            queue_mode: self.queue_mode,
            expires: now + lifetime,
        })
    }

    fn is_valid(&self) -> bool {
        let root_bytes: usize = self.root.iter().map(String::len).sum();
        let is_location =
            self.location.len() == 16 && self.location.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_location
            && (LIFETIME_MIN_S..=LIFETIME_MAX_S).contains(&self.lifetime_s)
            && self.root.len() <= ROOT_SEGMENTS_MAX
            && root_bytes <= ROOT_BYTES_MAX
            && self.observable.len() <= OBSERVABLE_MAX
            && self.inventory.len() <= INSTANCES_MAX
            && self
                .observable
                .iter()
                .all(|path| path.len() <= INSTANCE_BYTES_MAX)
    }
}

/// The content of the file; `None` if it is too long.
fn read_bounded(path: &std::path::Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let mut file = File::open(path)?.take(FILE_BYTES_MAX + 1);
    file.read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= FILE_BYTES_MAX).then_some(bytes))
}

fn parse(bytes: &[u8]) -> HashMap<String, StoredRegistration> {
    let mut found = HashMap::new();
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let head = lines
        .next()
        .and_then(|head| serde_json::from_slice::<Head>(head).ok());
    if head.is_none_or(|head| head.version != VERSION) {
        tracing::warn!("the registrations can't be read: Things register again");
        return found;
    }
    let mut damaged = 0;
    for line in lines.filter(|line| !line.is_empty()) {
        let is_bounded = line.len() <= LINE_BYTES_MAX;
        match is_bounded.then(|| serde_json::from_slice::<Line>(line)) {
            Some(Ok(line)) if is_valid(&line) => match line.registration {
                None => drop(found.remove(&line.endpoint)),
                Some(registration)
                    if found.len() < REGISTRATIONS_MAX || found.contains_key(&line.endpoint) =>
                {
                    found.insert(line.endpoint, registration);
                }
                Some(_) => damaged += 1,
            },
            _ => damaged += 1,
        }
    }
    if damaged > 0 {
        tracing::warn!(damaged, "lines of the registrations can't be read");
    }
    found
}

fn is_valid(line: &Line) -> bool {
    let registration = line.registration.as_ref();
    (1..=ENDPOINT_BYTES_MAX).contains(&line.endpoint.len())
        && registration.is_none_or(StoredRegistration::is_valid)
}

fn write_line(into: &mut Vec<u8>, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *into, line).map_err(io::Error::other)?;
    into.push(b'\n');
    Ok(())
}
