//! Casts: one image that is sent once to several Things, by IP multicast. What each of them lacks
//! afterwards it gets by unicast, as every Thing gets its package.
//!
//! A Thing that is to get a package joins the cast of this image. The first one opens it, and it
//! begins when others had time to come. In each round the blocks are sent that several members
//! lack, and each member is asked afterwards for what it has. The cast is over when another round
//! would cost more than it saves. A member may leave at any time, by being dropped, and one that
//! does not answer is not waited for. Nothing here is kept over a restart: a Thing keeps the blocks
//! that it has.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lamplighter_types::Hash;
use lamplighter_types::artifact::{Groups, GroupsBuilder};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::pacing::Pacing;
use super::rate::datagram_on_air;
use super::worker::read_block;
use super::{SouthConfig, TransferRate};
use crate::cast::{BlockMap, CastCipher, CastKey, Invitation, block_count};
use crate::coap::{Block, DatagramSocket};

/// Casts at once: each has a place among the transfers of the mesh while it sends.
const CASTS_MAX: usize = 8;
/// Members of a cast: as many Things as a mesh has, each with a map of 2 KiB.
const MEMBERS_MAX: usize = 1_000;
/// With fewer members a cast is no better than their transfers.
const MEMBERS_MIN: usize = 2;
/// Rounds of a cast. After two a link that loses a fifth has 4 % to repair.
const ROUNDS_MAX: u8 = 4;
/// Datagrams that a member costs after a round, the question and its answer: a round that saves
/// fewer than that is left out.
const QUESTION_DATAGRAMS: u64 = 2;
/// The time for the answers after a round. Whoever has not answered then is not in the next one.
const ANSWERS_TIMEOUT: Duration = Duration::from_secs(30);

/// How images are cast.
#[derive(Debug, Clone)]
pub struct CastSettings {
    /// The multicast address and port.
    pub address: SocketAddr,
    /// Bytes per second of a cast on air, with headers: each router of the mesh repeats them.
    pub rate_bytes_per_s: u32,
    /// The time for others to join after the first one.
    pub gather: Duration,
    /// The socket that sends.
    pub socket: CastSocket,
}

/// A socket for datagrams to a multicast address.
#[derive(Clone)]
pub struct CastSocket(pub Arc<dyn DatagramSocket>);

impl fmt::Debug for CastSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CastSocket")
    }
}

/// The image of a cast, in blocks of one size, for Things with sessions or for those without: who
/// can listen gets the key of the others by the first of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CastSubject {
    pub(super) artifact: Hash,
    pub(super) size_bytes: u64,
    pub(super) szx: u8,
    pub(super) is_secured: bool,
}

/// How far a cast is, for its members.
#[derive(Debug, Clone, Default)]
struct CastStanding {
    invitation: Option<Arc<Vec<u8>>>,
    /// How often the members were asked for what they have.
    asked: u32,
    is_over: bool,
}

#[derive(Debug, Clone, Default)]
struct Member {
    /// The blocks that it had when it was asked last.
    map: Option<BlockMap>,
}

#[derive(Debug)]
struct CastEntry {
    members: BTreeMap<String, Member>,
    standing: watch::Sender<CastStanding>,
    /// Wakes the cast when a member has answered, or left.
    changed: Arc<Notify>,
}

/// What the casts need of the gateway.
#[derive(Debug)]
struct CastTable {
    settings: CastSettings,
    artifacts: PathBuf,
    /// The bytes per second of a cast, and of all transfers of the mesh.
    pace: TransferRate,
    rate: Arc<TransferRate>,
    pacing: Arc<Pacing>,
    stop: CancellationToken,
    entries: Mutex<BTreeMap<CastSubject, CastEntry>>,
}

/// The casts of a mesh; clones are the same. Without settings there are none.
#[derive(Debug, Clone)]
pub(super) struct Casts(Option<Arc<CastTable>>);

/// What a member does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CastTurn {
    /// The Thing is to be invited.
    Invite(Arc<Vec<u8>>),
    /// The Thing is to be asked for what it has.
    Ask,
    /// The cast has ended.
    Over {
        /// Nothing was sent since the member was asked.
        is_fresh: bool,
    },
}

/// The place of a Thing in a cast; dropping it leaves the cast.
#[derive(Debug)]
pub(super) struct Membership {
    table: Arc<CastTable>,
    subject: CastSubject,
    endpoint: String,
    standing: watch::Receiver<CastStanding>,
    is_invited: bool,
    /// The question that it answered last; none before the answer to its invitation.
    answered: Option<u32>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.change(|members, endpoint| {
            members.remove(endpoint);
        });
    }
}

impl Membership {
    /// Waits for what the member is to do.
    pub(super) async fn turn(&mut self) -> CastTurn {
        let (is_invited, answered) = (self.is_invited, self.answered);
        let is_asked = |asked| is_invited && answered.is_some_and(|answered| answered < asked);
        let next = |standing: &CastStanding| {
            let invites = !is_invited && standing.invitation.is_some();
            standing.is_over || invites || is_asked(standing.asked)
        };
        let Ok(standing) = self.standing.wait_for(next).await else {
            return CastTurn::Over { is_fresh: false };
        };
        if standing.is_over {
            let is_fresh = answered == Some(standing.asked);
            return CastTurn::Over { is_fresh };
        }
        match &standing.invitation {
            Some(invitation) if !is_invited => {
                self.is_invited = true;
                CastTurn::Invite(invitation.clone())
            }
            _ => CastTurn::Ask,
        }
    }

    /// Answers with what the Thing has.
    pub(super) fn report(&mut self, map: BlockMap) {
        self.answered = Some(self.standing.borrow().asked);
        self.change(|members, endpoint| {
            if let Some(member) = members.get_mut(endpoint) {
                member.map = Some(map);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Member>, &str)) {
        let mut entries = self.table.lock();
        let entry = entries.get_mut(&self.subject);
        // Another cast of the same image is not its concern.
        if let Some(entry) =
            entry.filter(|entry| self.standing.same_channel(&entry.standing.subscribe()))
        {
            change(&mut entry.members, &self.endpoint);
            entry.changed.notify_one();
        }
    }
}

impl Casts {
    /// The casts within the limits of the mesh.
    pub(super) fn new(
        config: &SouthConfig,
        (rate, pacing): (&Arc<TransferRate>, &Arc<Pacing>),
        stop: CancellationToken,
    ) -> Casts {
        Casts(config.casts.clone().map(|settings| {
            Arc::new(CastTable {
                pace: TransferRate::new(settings.rate_bytes_per_s, Instant::now()),
                settings,
                artifacts: config.artifacts.clone(),
                rate: rate.clone(),
                pacing: pacing.clone(),
                stop,
                entries: Mutex::default(),
            })
        }))
    }

    /// True if images are cast.
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Joins the cast of an image, or opens one; `None` if there is none for this Thing.
    pub(super) fn join(
        &self,
        endpoint: &str,
        subject: CastSubject,
        may_open: bool,
    ) -> Option<Membership> {
        let table = self.0.as_ref()?;
        let mut entries = table.lock();
        if !entries.contains_key(&subject) {
            if !may_open || entries.len() >= CASTS_MAX {
                return None;
            }
            let entry = CastEntry {
                members: BTreeMap::new(),
                standing: watch::Sender::new(CastStanding::default()),
                changed: Arc::default(),
            };
            let cast = RunningCast {
                table: table.clone(),
                subject: subject.clone(),
                changed: entry.changed.clone(),
            };
            entries.insert(subject.clone(), entry);
            let stop = table.stop.clone();
            tokio::spawn(stop.run_until_cancelled_owned(cast.run()));
        }
        let entry = entries.get_mut(&subject)?;
        let names = [endpoint.to_owned()];
        let fits = table.pacing.are_apart(&names, entry.members.keys());
        if entry.members.len() >= MEMBERS_MAX || !fits {
            return None;
        }
        entry.members.insert(endpoint.to_owned(), Member::default());
        Some(Membership {
            standing: entry.standing.subscribe(),
            table: table.clone(),
            subject,
            endpoint: endpoint.to_owned(),
            is_invited: false,
            answered: None,
        })
    }
}

impl CastTable {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<CastSubject, CastEntry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of a cast. Its end, whatever the reason, is the end of the cast.
struct RunningCast {
    table: Arc<CastTable>,
    subject: CastSubject,
    changed: Arc<Notify>,
}

impl Drop for RunningCast {
    fn drop(&mut self) {
        if let Some(entry) = self.table.lock().remove(&self.subject) {
            entry
                .standing
                .send_modify(|standing| standing.is_over = true);
        }
    }
}

impl RunningCast {
    async fn run(self) {
        let artifact = self.subject.artifact;
        match self.cast().await {
            Ok(blocks) => tracing::info!(%artifact, blocks, "a cast has ended"),
            Err(error) => tracing::warn!(%artifact, %error, "a cast can't be sent"),
        }
    }

    /// Runs the cast; the number of blocks that it sent.
    async fn cast(&self) -> io::Result<u64> {
        let groups = self.groups().await?;
        let key = CastKey::generate()?;
        let number = rand::random();
        let (at, szx) = (self.table.settings.address, self.subject.szx);
        let invitation = Invitation::new(number, at, key.clone(), &groups, szx).encode();
        let invitation = Some(Arc::new(invitation));
        self.publish(|standing| standing.invitation = invitation);
        tokio::time::sleep(self.table.settings.gather).await;
        let members = self.members();
        if members.len() < MEMBERS_MIN {
            return Ok(0);
        }
        let permit = self.table.pacing.request(members).await;
        let _permit = permit.map_err(io::Error::other)?;
        let (cipher, mut sent) = (CastCipher::new(number, &key), 0);
        for round in 0..ROUNDS_MAX {
            self.answers().await;
            let Some(numbers) = self.next_round() else {
                break;
            };
            sent += self.send(&cipher, round, &numbers).await?;
            self.ask();
        }
        Ok(sent)
    }

    /// The values of the image's groups.
    async fn groups(&self) -> io::Result<Groups> {
        let artifact = self.subject.artifact;
        let path = self.table.artifacts.join(artifact.to_string());
        let read = move || {
            let mut groups = GroupsBuilder::default();
            groups.update(&std::fs::read(path)?);
            groups.finish().map_err(io::Error::other)
        };
        let read = tokio::task::spawn_blocking(read).await;
        let groups = read.map_err(io::Error::other)??;
        let is_wanted =
            (groups.digest(), groups.size_bytes()) == (artifact, self.subject.size_bytes);
        match is_wanted {
            true => Ok(groups),
            false => Err(io::Error::other(
                "the artifact is not what its digest stands for",
            )),
        }
    }

    fn publish(&self, change: impl FnOnce(&mut CastStanding)) {
        if let Some(entry) = self.table.lock().get(&self.subject) {
            entry.standing.send_modify(change);
        }
    }

    fn members(&self) -> Vec<String> {
        let entries = self.table.lock();
        let entry = entries.get(&self.subject);
        entry.map_or_else(Vec::new, |entry| entry.members.keys().cloned().collect())
    }

    /// Waits until all members have answered, or the time for that is over.
    async fn answers(&self) {
        let all = async {
            while self.maps(|member| member.map.is_none()) > 0 {
                self.changed.notified().await;
            }
        };
        let _ = tokio::time::timeout(ANSWERS_TIMEOUT, all).await;
    }

    fn maps(&self, is_counted: impl Fn(&Member) -> bool) -> usize {
        let entries = self.table.lock();
        let entry = entries.get(&self.subject);
        let count = |entry: &CastEntry| entry.members.values().filter(|m| is_counted(m)).count();
        entry.map_or(0, count)
    }

    /// The blocks that several members lack, if to send them saves more than to ask afterwards.
    fn next_round(&self) -> Option<Vec<u32>> {
        let blocks = block_count(self.subject.size_bytes, self.subject.szx)?;
        let entries = self.table.lock();
        let maps: Vec<&BlockMap> = entries
            .get(&self.subject)?
            .members
            .values()
            .filter_map(|member| member.map.as_ref())
            .collect();
        let mut lacking = vec![0_u32; blocks as usize];
        for map in &maps {
            map.missing()
                .for_each(|number| lacking[number as usize] += 1);
        }
        let saved: u64 = lacking
            .iter()
            .map(|count| u64::from(count.saturating_sub(1)))
            .sum();
        let numbers = (0..blocks).filter(|number| lacking[*number as usize] > 1);
        (saved > maps.len() as u64 * QUESTION_DATAGRAMS).then(|| numbers.collect())
    }

    /// Sends blocks, as long as there are members for whom it is worth it.
    async fn send(&self, cipher: &CastCipher, round: u8, numbers: &[u32]) -> io::Result<u64> {
        let (table, subject) = (&self.table, &self.subject);
        let path = table.artifacts.join(subject.artifact.to_string());
        let mut sent = 0;
        for number in numbers.iter().copied() {
            if self.maps(|_| true) < MEMBERS_MIN {
                break;
            }
            let (more, szx) = (true, subject.szx);
            let block = Block { number, more, szx };
            let bytes = read_block(path.clone(), subject.size_bytes, block).await?;
            let datagram = cipher.seal(round, number, &bytes);
            let on_air = datagram_on_air(datagram.len());
            table.pace.acquire_on_air(on_air).await;
            table.rate.acquire_on_air(on_air).await;
            let to = table.settings.address.into();
            if let Err(error) = table.settings.socket.0.send(&datagram, to).await {
                // As lost on the way: what is missing afterwards is repaired.
                tracing::debug!(%error, "sending a block of a cast");
            }
            sent += 1;
        }
        Ok(sent)
    }

    /// Asks all members for what they have now.
    fn ask(&self) {
        if let Some(entry) = self.table.lock().get_mut(&self.subject) {
            entry
                .members
                .values_mut()
                .for_each(|member| member.map = None);
            entry.standing.send_modify(|standing| standing.asked += 1);
        }
    }
}
