//! Which node hears which, and whether a majority can work: pure.

use std::fmt;

use rand::Rng;
use rand::seq::SliceRandom;
use serde::Serialize;

/// One direction between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Whole,
    /// Nothing arrives.
    Cut,
    /// So many of a hundred packets do not arrive.
    Lossy {
        percent: u8,
    },
}

/// All links of a network of nodes, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    /// By receiver and sender.
    between: Vec<Vec<Link>>,
    from_clients: Vec<Link>,
}

impl Links {
    /// Everybody hears everybody.
    pub fn whole(nodes: usize) -> Self {
        Self {
            between: vec![vec![Link::Whole; nodes]; nodes],
            from_clients: vec![Link::Whole; nodes],
        }
    }

    pub fn nodes(&self) -> usize {
        self.from_clients.len()
    }

    pub fn between(&self, from: usize, to: usize) -> Link {
        self.between[to][from]
    }

    pub fn from_clients(&self, to: usize) -> Link {
        self.from_clients[to]
    }

    fn cut(&mut self, from: usize, to: usize) {
        self.between[to][from] = Link::Cut;
    }

    fn cut_both(&mut self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Whether two nodes hear each other well.
    fn joined(&self, one: usize, other: usize) -> bool {
        one == other
            || (self.between(one, other) == Link::Whole && self.between(other, one) == Link::Whole)
    }

    /// Whether there is a majority of all nodes, each of them up, hearing each other well, and one
    /// of them heard by the clients. Then the ledger has to serve.
    pub fn majority(&self, up: &[bool]) -> bool {
        let nodes = self.nodes();
        let usable = |set: &u32| {
            let members: Vec<usize> = (0..nodes).filter(|node| set >> node & 1 == 1).collect();
            let joined = |one: &usize| members.iter().all(|other| self.joined(*one, *other));
            members.len() * 2 > nodes
                && members.iter().all(|node| up[*node])
                && members.iter().all(joined)
                && members
                    .iter()
                    .any(|node| self.from_clients(*node) == Link::Whole)
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
                    Link::Whole => {}
                    Link::Cut => write!(f, " {}-x>{}", from + 1, to + 1)?,
                    Link::Lossy { percent } => write!(f, " {}-{percent}%>{}", from + 1, to + 1)?,
                }
            }
            if self.from_clients[from] != Link::Whole {
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
    /// One node does not hear another, which hears it.
    OneWay,
    /// Two nodes do not hear each other; all others hear both.
    TwoWay,
    /// The leader and the other nodes do not hear each other; clients reach it.
    LeaderAlone,
    /// The leader hears nobody, while all hear it.
    LeaderDeaf,
    /// All hear nothing of the leader, while it hears them.
    LeaderMute,
    /// Nobody reaches the leader, clients neither.
    LeaderGone,
    /// One node against all others.
    Minority,
    /// Two halves: nobody has a majority.
    Halves,
    /// One node hears all; the others are in two groups that do not hear each other.
    Bridge,
    /// Each hears two neighbours only.
    Ring,
    /// The leader is cut off and joined again several times a second.
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
    Shape::LeaderGone,
    Shape::Minority,
    Shape::Halves,
    Shape::Bridge,
    Shape::Ring,
    Shape::Flapping,
    Shape::Lossy,
];

const LOSS_PERCENT: u8 = 20;

impl Shape {
    /// The links of this shape around a leader; who else is meant is left to chance.
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
            Self::LeaderGone => {
                others(leader).for_each(|other| links.cut_both(leader, other));
                links.from_clients[leader] = Link::Cut;
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
                let lossy = Link::Lossy {
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
