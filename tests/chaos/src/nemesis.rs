//! The faults, each on a separate schedule that follows from the seed.

use std::time::{Duration, Instant};

use lamplighter_client::Client;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::cast::{Cast, HostileRole};
use crate::cluster::{self, CLOCK_OFFSET_MAX_MS, NodeStatus};
use crate::error::ChaosError;
use crate::links::{Links, SHAPES, Shape};
use crate::world::SharedWorld;
use lamplighter_devnet::hostile::Attack;

/// Time to find the leader.
const LEADER_WITHIN: Duration = Duration::from_secs(30);
/// Checks of one clock that was moved, until there is a result.
const CLOCK_CHECKS_MAX: u32 = 3;
/// Time until a moved clock takes effect: libfaketime reads its file once a second.
const CLOCK_APPLIED_AFTER: Duration = Duration::from_millis(2_500);
/// Most distance of the chain's time from the true one for a check of a clock.
const CHAIN_TIME_MS: u64 = 5_000;

/// The state that the schedules share.
#[derive(Clone)]
pub struct Nemesis {
    pub world: SharedWorld,
    pub http: reqwest::Client,
    pub nodes: usize,
    /// Clients that each ask one node alone, to read certificates.
    pub readers: Vec<Client>,
    pub cast: Option<Cast>,
}

fn between(rng: &mut StdRng, from_ms: u64, to_ms: u64) -> Duration {
    Duration::from_millis(rng.random_range(from_ms..=to_ms))
}

/// Sleeps, at most until the end; false once the end has come.
async fn pause(length: Duration, until: Instant) -> bool {
    let remaining = until.saturating_duration_since(Instant::now());
    tokio::time::sleep(length.min(remaining)).await;
    Instant::now() < until
}

impl Nemesis {
    /// The leader by the majority of the nodes.
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
            self.world
                .lock()
                .await
                .kill(node, leader == Some(node))
                .await?;
            tokio::time::sleep(down).await;
            self.world.lock().await.restart(&self.world, node)?;
        }
    }

    /// Attacks as an observer, then as a validator, for half of the time each.
    pub async fn attacks(self, until: Instant, attack: Attack) -> Result<(), ChaosError> {
        let Some(cast) = &self.cast else {
            return Err(ChaosError::Setup("no hostile nodes in this run".to_owned()));
        };
        let remaining = until.saturating_duration_since(Instant::now());
        let seconds = remaining.as_secs().div_ceil(2);
        for role in [HostileRole::Observer, HostileRole::Validator] {
            let mut world = self.world.lock().await;
            world.log(format_args!("{} by the {role:?}", attack.name()));
            drop(world);
            cast.attack(role, attack, seconds).await?;
            self.world.lock().await.record_attack(attack);
        }
        Ok(())
    }

    /// Stops the leader for a few seconds, again and again.
    pub async fn stops(self, until: Instant, mut rng: StdRng) -> Result<(), ChaosError> {
        while pause(between(&mut rng, 1_000, 3_000), until).await {
            let Some(leader) = self.leader().await else {
                continue;
            };
            self.world.lock().await.stop_leader(leader)?;
            pause(between(&mut rng, 3_000, 7_000), until).await;
            self.world.lock().await.resume(leader)?;
            pause(between(&mut rng, 1_000, 3_000), until).await;
        }
        Ok(())
    }

    /// Applies one shape of partition after the other, in an order from the seed.
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
            let mut world = self.world.lock().await;
            *world.counts.partitions.entry(shape).or_default() += 1;
            world.log(format_args!("{shape:?}, leader {}", leader + 1));
            let takes_leader = matches!(shape, Shape::LeaderAlone | Shape::LeaderIsolated);
            world.set_links(links.clone(), takes_leader.then_some(leader))?;
        }
        if shape == Shape::Flapping {
            while pause(between(rng, 100, 600), ends).await {
                self.world
                    .lock()
                    .await
                    .set_links(Links::whole(self.nodes), None)?;
                pause(between(rng, 100, 600), ends).await;
                self.world.lock().await.set_links(links.clone(), None)?;
            }
        } else {
            pause(ends.saturating_duration_since(Instant::now()), ends).await;
        }
        self.world
            .lock()
            .await
            .set_links(Links::whole(self.nodes), None)
    }

    /// Moves the clock of a follower, then of the leader, then of any node, far and a little. With
    /// `strict` there are no other faults, and the reaction of the node is checked.
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
                self.check_clock(node).await;
            }
            pause(between(&mut rng, 2_000, 5_000), until).await;
            self.set_clock(node, 0).await?;
            pause(CLOCK_APPLIED_AFTER, until).await;
        }
        Ok(())
    }

    async fn set_clock(&self, node: usize, offset_s: i64) -> Result<(), ChaosError> {
        let mut world = self.world.lock().await;
        world.counts.clock_changes += u64::from(offset_s != 0);
        world.log(format_args!("clock of node {} {offset_s:+} s", node + 1));
        world.cluster.nodes[node].set_clock(offset_s)
    }

    /// Checks that a follower whose clock is too far off raises an alarm, and does not sign.
    async fn check_clock(&self, node: usize) {
        let mut error_text = None;
        for _ in 0..CLOCK_CHECKS_MAX {
            match self.observe_clock(node).await {
                Some(Ok(())) => {
                    self.world.lock().await.counts.clocks_noticed += 1;
                    return;
                }
                Some(Err(error)) => error_text = Some(error),
                None => {}
            }
        }
        let number = node + 1;
        let nothing = || format!("clock of node {number} 45 s ahead: nothing can be said");
        let mut world = self.world.lock().await;
        world.counts.add_note(error_text.unwrap_or_else(nothing));
    }

    /// Checks the node once: `None` while there is no result, since its chain does not grow.
    async fn observe_clock(&self, node: usize) -> Option<Result<(), String>> {
        tokio::time::sleep(CLOCK_APPLIED_AFTER).await;
        let near = |status: &NodeStatus| {
            status.head_time_ms.abs_diff(lamplighter_system::unix_ms())
                < CHAIN_TIME_MS.min(CLOCK_OFFSET_MAX_MS)
        };
        let before = cluster::status(&self.http, node).await.filter(near)?;
        tokio::time::sleep(CLOCK_APPLIED_AFTER).await;
        let after = cluster::status(&self.http, node).await.filter(near)?;
        let certificate = self.readers[node].certificate(None).await.ok()?;
        let alarm = after.alarms.iter().any(|a| a.kind == "clock_offset");
        let newer = certificate.height > before.height;
        let key = self.world.lock().await.cluster.nodes[node].key;
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
