//! The states of the links between nodes, and whether a majority is connected; without IO.

use std::fmt;

use rand::Rng;
use rand::seq::SliceRandom;
use serde::Serialize;

/// The state of one direction between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    Whole,
    /// No packet arrives.
    Cut,
    /// This percentage of packets is lost.
    Lossy {
        percent: u8,
    },
}

/// All links of a network of nodes, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    /// Link states by receiver and sender.
    between: Vec<Vec<LinkState>>,
    from_clients: Vec<LinkState>,
}

impl Links {
    /// All links are whole.
    pub fn whole(nodes: usize) -> Self {
        Self {
            between: vec![vec![LinkState::Whole; nodes]; nodes],
            from_clients: vec![LinkState::Whole; nodes],
        }
    }

    pub fn nodes(&self) -> usize {
        self.from_clients.len()
    }

    pub fn between(&self, from: usize, to: usize) -> LinkState {
        self.between[to][from]
    }

    pub fn from_clients(&self, to: usize) -> LinkState {
        self.from_clients[to]
    }

    fn cut(&mut self, from: usize, to: usize) {
        self.between[to][from] = LinkState::Cut;
    }

    fn cut_both(&mut self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// True if two nodes are connected in both directions, without loss.
    fn connected(&self, one: usize, other: usize) -> bool {
        one == other
            || (self.between(one, other) == LinkState::Whole
                && self.between(other, one) == LinkState::Whole)
    }

    /// True if a majority of all nodes is up and connected without loss, and the clients reach one
    /// of them. Then the ledger has to serve.
    pub fn majority(&self, up: &[bool]) -> bool {
        let nodes = self.nodes();
        let usable = |set: &u32| {
            let members: Vec<usize> = (0..nodes).filter(|node| set >> node & 1 == 1).collect();
            let connected = |one: &usize| members.iter().all(|other| self.connected(*one, *other));
            members.len() * 2 > nodes
                && members.iter().all(|node| up[*node])
                && members.iter().all(connected)
                && members
                    .iter()
                    .any(|node| self.from_clients(*node) == LinkState::Whole)
        };
        (0..1u32 << nodes).any(|set| usable(&set))
    }
}

impl fmt::Display for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "links:")?;
        for from in 0..self.nodes() {
            for to in (0..self.nodes()).filter(|to| *to != from) {
                match self.between(from, to) {
                    LinkState::Whole => {}
                    LinkState::Cut => write!(f, " {}-x>{}", from + 1, to + 1)?,
                    LinkState::Lossy { percent } => {
                        write!(f, " {}-{percent}%>{}", from + 1, to + 1)?
                    }
                }
            }
            if self.from_clients[from] != LinkState::Whole {
                write!(f, " clients-x>{}", from + 1)?;
            }
        }
        Ok(())
    }
}

/// A shape of partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// One node receives nothing from another, which receives its packets.
    OneWay,
    /// Two nodes are disconnected; all other links are whole.
    TwoWay,
    /// The leader is disconnected from the other nodes; clients reach it.
    LeaderAlone,
    /// The leader receives nothing, while all receive its packets.
    LeaderDeaf,
    /// The leader's packets are lost, while it receives all others.
    LeaderMute,
    /// The leader is disconnected from all nodes and clients.
    #[serde(rename = "leader_gone")]
    LeaderIsolated,
    /// One node against all others.
    Minority,
    /// Two halves: there is no majority.
    Halves,
    /// One node is connected to all; the others are in two disconnected groups.
    Bridge,
    /// Each node is connected to two neighbours only.
    Ring,
    /// The leader is cut off and connected again several times a second.
    Flapping,
    /// A fifth of all packets between nodes is lost.
    Lossy,
}

/// Every shape.
pub const SHAPES: [Shape; 12] = [
    Shape::OneWay,
    Shape::TwoWay,
    Shape::LeaderAlone,
    Shape::LeaderDeaf,
    Shape::LeaderMute,
    Shape::LeaderIsolated,
    Shape::Minority,
    Shape::Halves,
    Shape::Bridge,
    Shape::Ring,
    Shape::Flapping,
    Shape::Lossy,
];

const LOSS_PERCENT: u8 = 20;

impl Shape {
    /// The links of this shape around a leader; the other nodes are chosen at random.
    pub fn links(self, nodes: usize, leader: usize, rng: &mut impl Rng) -> Links {
        let mut links = Links::whole(nodes);
        let mut order: Vec<usize> = (0..nodes).collect();
        order.shuffle(rng);
        let others = |of: usize| (0..nodes).filter(move |node| *node != of);
        match self {
            Self::OneWay => links.cut(order[0], order[1]),
            Self::TwoWay => links.cut_both(order[0], order[1]),
            Self::LeaderAlone | Self::Flapping => {
                others(leader).for_each(|other| links.cut_both(leader, other));
            }
            Self::LeaderDeaf => others(leader).for_each(|other| links.cut(other, leader)),
            Self::LeaderMute => others(leader).for_each(|other| links.cut(leader, other)),
            Self::LeaderIsolated => {
                others(leader).for_each(|other| links.cut_both(leader, other));
                links.from_clients[leader] = LinkState::Cut;
            }
            Self::Minority => others(order[0]).for_each(|other| links.cut_both(order[0], other)),
            Self::Halves => {
                let (one, other) = order.split_at(nodes / 2);
                split(&mut links, one, other);
            }
            Self::Bridge => {
                let (one, other) = order[1..].split_at((nodes - 1).div_ceil(2));
                split(&mut links, one, other);
            }
            Self::Ring => {
                for (at, one) in order.iter().enumerate() {
                    for (to, other) in order.iter().enumerate() {
                        let steps = at.abs_diff(to);
                        if steps > 1 && steps < nodes - 1 {
                            links.cut(*one, *other);
                        }
                    }
                }
            }
            Self::Lossy => {
                let lossy = LinkState::Lossy {
                    percent: LOSS_PERCENT,
                };
                links.between = vec![vec![lossy; nodes]; nodes];
            }
        }
        links
    }
}

fn split(links: &mut Links, one: &[usize], other: &[usize]) {
    for a in one {
        for b in other {
            links.cut_both(*a, *b);
        }
    }
}
