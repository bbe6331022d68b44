use proptest::prelude::*;

use super::*;

/// The index at which the logs of these tests differ; they are equal before.
const DISPUTED: u64 = 9;

fn held(content: u8) -> HeldDigests {
    HeldDigests {
        first: DISPUTED - 1,
        digests: vec![LogDigest([0; 32]), LogDigest([content; 32])],
    }
}

fn nodes(range: std::ops::RangeInclusive<NodeId>) -> BTreeSet<NodeId> {
    range.collect()
}

/// The decision of one node; `logs` has the contents that the nodes show, the excluded included.
fn decision(n: u64, excluded: &[NodeId], local: NodeId, logs: &BTreeMap<NodeId, u8>) -> LogVerdict {
    let (all, excluded) = (nodes(1..=n), excluded.iter().copied().collect());
    let voters = Voters {
        all: &all,
        excluded: &excluded,
        local,
    };
    let others = logs.iter().filter(|(node, _)| **node != local);
    let shown = others.map(|(node, content)| (*node, held(*content)));
    decide(&voters, &held(logs[&local]), &shown.collect())
}

fn logs(contents: &[u8]) -> BTreeMap<NodeId, u8> {
    (1..).zip(contents.iter().copied()).collect()
}

#[test]
fn the_one_that_differs_is_dropped() {
    // Node 4 led and lied, node 3 got the other content.
    let logs = logs(&[1, 1, 2, 1]);
    let dropped = LogVerdict::Drop { index: DISPUTED };
    assert_eq!(decision(4, &[4], 3, &logs), dropped);
    assert_eq!(decision(4, &[4], 1, &logs), LogVerdict::Keep);
    assert_eq!(decision(4, &[4], 2, &logs), LogVerdict::Keep);
}

#[test]
fn one_liar_that_shows_another_log_drives_no_node_out() {
    let logs = logs(&[1, 1, 1, 2]);
    for node in 1..=3 {
        assert_eq!(decision(4, &[], node, &logs), LogVerdict::Keep);
    }
    assert_eq!(
        decision(4, &[4], 1, &logs),
        LogVerdict::Equal,
        "a proven liar is not asked"
    );
}

#[test]
fn of_three_contents_one_stays() {
    let logs = logs(&[5, 3, 4, 9]);
    let dropped = LogVerdict::Drop { index: DISPUTED };
    assert_eq!(decision(4, &[4], 1, &logs), dropped);
    assert_eq!(decision(4, &[4], 2, &logs), LogVerdict::Keep);
    assert_eq!(decision(4, &[4], 3, &logs), dropped);
}

#[test]
fn nothing_is_dropped_while_a_log_is_unknown() {
    let mut logs = logs(&[1, 1, 2, 1]);
    logs.remove(&2);
    assert_eq!(decision(4, &[4], 3, &logs), LogVerdict::Keep);
}

#[test]
fn two_proven_liars_of_seven() {
    let logs = logs(&[1, 1, 1, 1, 2, 9, 9]);
    let dropped = LogVerdict::Drop { index: DISPUTED };
    assert_eq!(decision(7, &[6, 7], 5, &logs), dropped);
    assert_eq!(
        decision(7, &[6], 5, &logs),
        dropped,
        "the second liar is not proven yet"
    );
    assert_eq!(decision(7, &[6], 1, &logs), LogVerdict::Keep);
}

/// A city: its size, the liars, which of them are proven, what every node holds, and what each
/// liar shows to each node (0 is no answer).
#[derive(Clone, Debug)]
struct City {
    n: u64,
    liars: Vec<NodeId>,
    proven: usize,
    contents: Vec<u8>,
    shown: Vec<u8>,
    /// Honest answers that are lost, by receiver and sender.
    lost: Vec<bool>,
}

fn city() -> impl Strategy<Value = City> {
    prop::sample::select(vec![4u64, 5, 6, 7, 10]).prop_flat_map(|n| {
        let f = (n as usize - 1) / 3;
        let count = n as usize;
        (
            prop::sample::subsequence((1..=n).collect::<Vec<_>>(), 1..=f),
            0..=f,
            prop::collection::vec(1u8..5, count),
            prop::collection::vec(0u8..6, count * count),
            prop::collection::vec(prop::bool::weighted(0.2), count * count),
        )
            .prop_map(move |(liars, proven, contents, shown, lost)| City {
                n,
                proven: proven.min(liars.len()),
                liars,
                contents,
                shown,
                lost,
            })
    })
}

impl City {
    fn honest(&self) -> Vec<NodeId> {
        (1..=self.n)
            .filter(|node| !self.liars.contains(node))
            .collect()
    }

    fn content(&self, node: NodeId) -> u8 {
        self.contents[node as usize - 1]
    }

    fn decision(&self, node: NodeId, loss: bool) -> LogVerdict {
        let mut logs = BTreeMap::new();
        for other in 1..=self.n {
            let at = ((node - 1) * self.n + other - 1) as usize;
            let content = match self.liars.contains(&other) {
                true => self.shown[at],
                false if loss && self.lost[at] && other != node => 0,
                false => self.content(other),
            };
            if content > 0 {
                logs.insert(other, content);
            }
        }
        decision(self.n, &self.liars[..self.proven], node, &logs)
    }

    fn stays(&self, loss: bool) -> Vec<NodeId> {
        let dropped = |node| matches!(self.decision(node, loss), LogVerdict::Drop { .. });
        self.honest()
            .into_iter()
            .filter(|node| !dropped(*node))
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever liars show and whatever answers are lost, nobody drops a content that could be
    /// certified: one that its honest holders and all liars together make a quorum for.
    #[test]
    fn what_may_be_certified_stays(city in city()) {
        let stays = city.stays(true);
        for node in city.honest() {
            let same = |other: &NodeId| city.content(*other) == city.content(node);
            let holders = city.honest().into_iter().filter(same).count();
            if holders + city.liars.len() >= quorum(city.n as usize) {
                prop_assert!(stays.contains(&node), "node {node} of {city:?}");
            }
        }
    }

    /// Not all go, so nothing that all agreed on before is lost.
    #[test]
    fn some_node_stays(city in city()) {
        prop_assert!(!city.stays(true).is_empty(), "{city:?}");
    }

    /// With all liars proven and all answers there, the honest nodes that stay hold one content.
    #[test]
    fn one_content_stays(mut city in city()) {
        city.proven = city.liars.len();
        let f = (city.n as usize - 1) / 3;
        prop_assume!(city.liars.len() == f);
        let stays = city.stays(false);
        let contents: BTreeSet<u8> = stays.iter().map(|node| city.content(*node)).collect();
        prop_assert_eq!(contents.len(), 1, "{:?}", city);
    }
}
