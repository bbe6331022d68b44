//! The faults, each on a schedule of its own that follows from the seed.

use std::time::{Duration, Instant};

use lamplighter_client::Client;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::cluster::{self, CLOCK_OFFSET_MAX_MS, Status};
use crate::error::ChaosError;
use crate::fleet::now_ms;
use crate::links::{Links, SHAPES, Shape};
use crate::world::Field;

/// How long the leader is looked for.
const LEADER_WITHIN: Duration = Duration::from_secs(30);
/// Looks at one clock that was set off, until something can be said.
const CLOCK_LOOKS_MAX: u32 = 3;
/// libfaketime looks at its file once a second.
const CLOCK_SETTLES: Duration = Duration::from_millis(2_500);
/// A chain whose time is nearer to the true one than this shows a clock that is off.
const CHAIN_TIME_MS: u64 = 5_000;

/// What the schedules share.
#[derive(Clone)]
pub struct Nemesis {
    pub field: Field,
    pub http: reqwest::Client,
    pub nodes: usize,
    /// Reads certificates, for each node another one that asks that node alone.
    pub readers: Vec<Client>,
}

fn between(rng: &mut StdRng, from_ms: u64, to_ms: u64) -> Duration {
    Duration::from_millis(rng.random_range(from_ms..=to_ms))
}

/// Sleeps, at most until the end; false when the end has come.
async fn pause(length: Duration, until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now());
    tokio::time::sleep(length.min(left)).await;
    Instant::now() < until
}

impl Nemesis {
    /// The leader as most nodes see it.
    async fn leader(&self) -> Option<usize> {
        let begun = Instant::now();
        while begun.elapsed() < LEADER_WITHIN {
            if let Some(leader) = cluster::leader(&self.http, self.nodes).await {
                return Some(leader);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    /// Kills a random node every 1 to 5 s and starts it again within a second.
    pub async fn kills(self, until: Instant, mut rng: StdRng) -> Result<(), ChaosError> {
        loop {
            let (every, down) = (between(&mut rng, 1_000, 5_000), between(&mut rng, 0, 900));
            if !pause(every - down, until).await {
                return Ok(());
            }
            let node = rng.random_range(0..self.nodes);
            let leader = cluster::leader(&self.http, self.nodes).await;
            self.field
                .lock()
                .await
                .kill(node, leader == Some(node))
                .await?;
            tokio::time::sleep(down).await;
            self.field.lock().await.restart(&self.field, node)?;
        }
    }

    /// Stops the leader for a few seconds, again and again.
    pub async fn stops(self, until: Instant, mut rng: StdRng) -> Result<(), ChaosError> {
        while pause(between(&mut rng, 1_000, 3_000), until).await {
            let Some(leader) = self.leader().await else {
                continue;
            };
            self.field.lock().await.stop_leader(leader)?;
            pause(between(&mut rng, 3_000, 7_000), until).await;
            self.field.lock().await.let_go(leader)?;
            pause(between(&mut rng, 1_000, 3_000), until).await;
        }
        Ok(())
    }

    /// One shape of partition after the other, in an order from the seed.
    pub async fn partitions(self, until: Instant, mut rng: StdRng) -> Result<(), ChaosError> {
        let mut shapes = Vec::new();
        while pause(between(&mut rng, 500, 2_000), until).await {
            if shapes.is_empty() {
                shapes = SHAPES.to_vec();
                shapes.shuffle(&mut rng);
            }
            let shape = shapes.pop().expect("filled above");
            self.partition(shape, until, &mut rng).await?;
        }
        Ok(())
    }

    async fn partition(
        &self,
        shape: Shape,
        until: Instant,
        rng: &mut StdRng,
    ) -> Result<(), ChaosError> {
        let Some(leader) = self.leader().await else {
            return Ok(());
        };
        let links = shape.links(self.nodes, leader, rng);
        let ends = until.min(Instant::now() + between(rng, 2_500, 6_000));
        {
            let mut world = self.field.lock().await;
            *world.counts.partitions.entry(shape).or_default() += 1;
            world.tell(format_args!("{shape:?}, leader {}", leader + 1));
            let takes_leader = matches!(shape, Shape::LeaderAlone | Shape::LeaderGone);
            world.link(links.clone(), takes_leader.then_some(leader))?;
        }
        if shape == Shape::Flapping {
            while pause(between(rng, 100, 600), ends).await {
                self.field
                    .lock()
                    .await
                    .link(Links::whole(self.nodes), None)?;
                pause(between(rng, 100, 600), ends).await;
                self.field.lock().await.link(links.clone(), None)?;
            }
        } else {
            pause(ends.saturating_duration_since(Instant::now()), ends).await;
        }
        self.field.lock().await.link(Links::whole(self.nodes), None)
    }

    /// Moves the clock of a follower, then of the leader, then of anyone, far and a little.
    /// With `strict` nothing else goes on, and what the node makes of it is looked at.
    pub async fn clocks(
        self,
        until: Instant,
        mut rng: StdRng,
        strict: bool,
    ) -> Result<(), ChaosError> {
        for turn in 0u32.. {
            if !pause(between(&mut rng, 500, 1_500), until).await {
                break;
            }
            let Some(leader) = self.leader().await else {
                continue;
            };
            let (node, offset_s) = match turn % 3 {
                0 => ((leader + rng.random_range(1..self.nodes)) % self.nodes, 45),
                1 => (leader, [-45, 20][rng.random_range(0..2)]),
                _ => (
                    rng.random_range(0..self.nodes),
                    rng.random_range(-3_600..=15),
                ),
            };
            self.set_clock(node, offset_s).await?;
            if strict && turn % 3 == 0 {
                self.look_at_clock(node).await;
            }
            pause(between(&mut rng, 2_000, 5_000), until).await;
            self.set_clock(node, 0).await?;
            pause(CLOCK_SETTLES, until).await;
        }
        Ok(())
    }

    async fn set_clock(&self, node: usize, offset_s: i64) -> Result<(), ChaosError> {
        let mut world = self.field.lock().await;
        world.counts.clock_changes += u64::from(offset_s != 0);
        world.tell(format_args!("clock of node {} {offset_s:+} s", node + 1));
        world.cluster.nodes[node].set_clock(offset_s)
    }

    /// A follower whose clock is too far off raises an alarm, and does not sign.
    async fn look_at_clock(&self, node: usize) {
        let mut said = None;
        for _ in 0..CLOCK_LOOKS_MAX {
            match self.clock_look(node).await {
                Some(Ok(())) => {
                    self.field.lock().await.counts.clocks_noticed += 1;
                    return;
                }
                Some(Err(error)) => said = Some(error),
                None => {}
            }
        }
        let number = node + 1;
        let nothing = || format!("clock of node {number} 45 s ahead: nothing can be said");
        let mut world = self.field.lock().await;
        world.counts.note(said.unwrap_or_else(nothing));
    }

    /// What is wrong, if anything is; none while nothing can be said, since its chain stands.
    async fn clock_look(&self, node: usize) -> Option<Result<(), String>> {
        tokio::time::sleep(CLOCK_SETTLES).await;
        let near = |status: &Status| {
            status.head_time_ms.abs_diff(now_ms()) < CHAIN_TIME_MS.min(CLOCK_OFFSET_MAX_MS)
        };
        let before = cluster::status(&self.http, node).await.filter(near)?;
        tokio::time::sleep(CLOCK_SETTLES).await;
        let after = cluster::status(&self.http, node).await.filter(near)?;
        let certificate = self.readers[node].certificate(None).await.ok()?;
        let alarm = after.alarms.iter().any(|a| a.kind == "clock_offset");
        let newer = certificate.height > before.height;
        let key = self.field.lock().await.cluster.nodes[node].key;
        let signed = certificate.signatures.iter().any(|s| s.key == key);
        let (number, at) = (node + 1, certificate.height);
        let error = || {
            format!("clock of node {number} 45 s ahead: alarm {alarm}, signed block {at}: {signed}")
        };
        newer.then(|| {
            if alarm && !signed {
                Ok(())
            } else {
                Err(error())
            }
        })
    }
}
