use proptest::prelude::*;

use super::*;

const KEPT: LogVerdict = LogVerdict::Keep { index: DISPUTED };
/// The index at which the logs of these tests differ; they are equal before.
const DISPUTED: u64 = 9;
/// A proven liar, and none of the voters: the maker of all entries.
const MAKER: NodeId = 0;

fn digests(content: u8) -> BTreeMap<u64, LogDigest> {
    BTreeMap::from([
        (DISPUTED - 1, LogDigest([0; 32])),
        (DISPUTED, LogDigest([content; 32])),
    ])
}

fn held(content: u8) -> HeldDigests {
    let held = digests(content);
    HeldDigests {
        leaders: held
            .keys()
            .map(|index| (*index, LeaderId::new(1, MAKER)))
            .collect(),
        held,
        dropped: BTreeSet::new(),
    }
}

/// A node that has no log any more, and dropped a content.
fn dropped(content: u8) -> HeldDigests {
    let dead = LogContent {
        index: DISPUTED,
        digest: LogDigest([content; 32]),
    };
    HeldDigests {
        dropped: BTreeSet::from([dead]),
        ..HeldDigests::default()
    }
}

/// The verdict that a node's log goes; it refuses these contents from then on.
fn drops(replaced: &[u8]) -> LogVerdict {
    LogVerdict::Drop {
        index: DISPUTED,
        replaced: replaced.iter().map(|c| LogDigest([*c; 32])).collect(),
    }
}

/// A node after a verdict: without a log, if that goes.
fn after(verdict: LogVerdict, content: u8) -> HeldDigests {
    let LogVerdict::Drop { index, replaced } = verdict else {
        return held(content);
    };
    let dead = |digest| LogContent { index, digest };
    HeldDigests {
        dropped: replaced.into_iter().map(dead).collect(),
        ..HeldDigests::default()
    }
}

fn nodes(range: std::ops::RangeInclusive<NodeId>) -> BTreeSet<NodeId> {
    range.collect()
}

/// The decision of one node; `logs` has the contents that the nodes show, the excluded included.
fn decision(n: u64, excluded: &[NodeId], local: NodeId, logs: &BTreeMap<NodeId, u8>) -> LogVerdict {
    let others = logs.iter().filter(|(node, _)| **node != local);
    let shown = others.map(|(node, content)| (*node, held(*content)));
    decision_of(n, excluded, (local, logs[&local]), &shown.collect())
}

fn decision_of(
    n: u64,
    excluded: &[NodeId],
    (local, content): (NodeId, u8),
    shown: &BTreeMap<NodeId, HeldDigests>,
) -> LogVerdict {
    let (all, excluded) = (nodes(1..=n), excluded.iter().copied().collect());
    let voters = Voters {
        all: &all,
        excluded: &excluded,
        local,
    };
    decide(&voters, &digests(content), DISPUTED, shown)
}

/// Up to where the logs are found to be equal.
fn equal_upto(index: u64, differs: bool) -> LogVerdict {
    LogVerdict::Equal {
        upto: Some(index),
        differs,
    }
}

fn logs(contents: &[u8]) -> BTreeMap<NodeId, u8> {
    (1..).zip(contents.iter().copied()).collect()
}

#[test]
fn the_one_that_differs_is_dropped() {
    // Node 4 led and lied, node 3 got the other content.
    let logs = logs(&[1, 1, 2, 1]);
    assert_eq!(decision(4, &[4], 3, &logs), drops(&[2]));
    assert_eq!(decision(4, &[4], 1, &logs), KEPT);
    assert_eq!(decision(4, &[4], 2, &logs), KEPT);
}

#[test]
fn one_liar_that_shows_another_log_drives_no_node_out() {
    let logs = logs(&[1, 1, 1, 2]);
    for node in 1..=3 {
        let verdict = decision(4, &[], node, &logs);
        assert!(!matches!(verdict, LogVerdict::Drop { .. }), "{verdict:?}");
    }
    assert_eq!(
        decision(4, &[4], 1, &logs),
        equal_upto(DISPUTED, false),
        "a proven liar is not asked"
    );
}

#[test]
fn of_three_contents_one_stays() {
    let logs = logs(&[5, 3, 4, 9]);
    assert_eq!(decision(4, &[4], 1, &logs), drops(&[4, 5]));
    assert_eq!(decision(4, &[4], 2, &logs), KEPT);
    assert_eq!(decision(4, &[4], 3, &logs), drops(&[4, 5]));
}

#[test]
fn a_content_that_an_honest_node_dropped_is_dead() {
    // Of five, node 5 lied. Node 1 found the content 7 dead and dropped it; it has no log yet.
    let shown = |by: NodeId| {
        BTreeMap::from([
            (1, if by == 1 { dropped(7) } else { held(3) }),
            (3, held(3)),
            (4, held(7)),
        ])
    };
    assert_eq!(decision_of(5, &[5], (2, 7), &shown(1)), drops(&[7]));
    // Without its word the node that still has it would wait for what node 1 will hold, and could
    // be the leader that node 1 gets it from once more.
    let mut silent = shown(1);
    silent.insert(1, HeldDigests::default());
    assert_eq!(decision_of(5, &[5], (2, 7), &silent), KEPT);
    // One unproven liar may say so without a reason.
    let lie = BTreeMap::from([(1, dropped(7)), (3, held(7)), (4, held(7))]);
    assert_eq!(
        decision_of(7, &[5], (2, 7), &lie),
        LogVerdict::Equal {
            upto: None,
            differs: false
        }
    );
    // A content that was dropped takes the place of none.
    let only = BTreeMap::from([(1, dropped(3)), (3, held(3)), (4, held(3))]);
    assert_eq!(decision_of(5, &[5], (2, 7), &only), KEPT);
}

/// A city of five: node 5 lied, two hold 7, one 3, one 9. All are dead, and 3 stays.
#[test]
fn no_node_waits_for_what_an_empty_one_will_take() {
    let logs = logs(&[7, 7, 3, 9]);
    let decided = decision(5, &[5], 4, &logs);
    assert_eq!(decided, drops(&[7, 9]));
    let shown = |local: NodeId| {
        let others = logs.iter().filter(|(node, _)| **node != local);
        let mut shown: BTreeMap<NodeId, HeldDigests> = others
            .map(|(node, content)| (*node, held(*content)))
            .collect();
        shown.insert(4, after(decided.clone(), 9));
        shown
    };
    for node in [1, 2] {
        assert_eq!(
            decision_of(5, &[5], (node, 7), &shown(node)),
            drops(&[7, 9])
        );
    }
    assert_eq!(decision_of(5, &[5], (3, 3), &shown(3)), KEPT);
}

/// A city of seven: node 7 is proven to lie, and one more may.
#[test]
fn the_refusal_of_an_empty_node_counts_once_among_the_others() {
    let refuses = |content: u8, refused: u8| HeldDigests {
        dropped: dropped(refused).dropped,
        ..held(content)
    };
    let shown = |third: HeldDigests, sixth: HeldDigests| {
        let all = [held(7), third, held(3), held(3), sixth];
        (2..=6).zip(all).collect::<BTreeMap<NodeId, HeldDigests>>()
    };
    let local = (1, 7);
    let verdict = |third, sixth| decision_of(7, &[7], local, &shown(third, sixth));
    assert_eq!(verdict(dropped(7), held(3)), drops(&[7]));
    assert_eq!(verdict(HeldDigests::default(), held(3)), KEPT);
    assert_eq!(verdict(HeldDigests::default(), refuses(3, 7)), KEPT);
    assert_eq!(verdict(dropped(9), held(3)), KEPT, "it may take 7");
}

/// What a node without an entry at the dispute refuses; its log ends before it or is empty.
fn refused_by(
    n: u64,
    excluded: &[NodeId],
    local: NodeId,
    shown: &BTreeMap<NodeId, HeldDigests>,
) -> Vec<u8> {
    refused_after(n, excluded, (local, None), shown)
}

fn refused_after(
    n: u64,
    excluded: &[NodeId],
    (local, end): (NodeId, Option<LogContent>),
    shown: &BTreeMap<NodeId, HeldDigests>,
) -> Vec<u8> {
    let all = nodes(1..=n);
    let excluded = excluded.iter().copied().chain([MAKER]).collect();
    let voters = Voters {
        all: &all,
        excluded: &excluded,
        local,
    };
    let dead = refusals(&voters, end, shown, DISPUTED);
    let digests = dead.into_iter().flat_map(|dead| dead.digests);
    digests.map(|digest| digest.0[0]).collect()
}

/// A city of five: node 5 lied, one holds 7, one 3, and two hold nothing there.
#[test]
fn an_empty_node_refuses_what_it_would_drop() {
    let shown = BTreeMap::from([(3, held(7)), (4, held(3)), (2, HeldDigests::default())]);
    assert_eq!(refused_by(5, &[5], 1, &shown), [7]);
    // With its word the holder need not wait for an election.
    let shown_too = BTreeMap::from([(1, dropped(7)), (2, HeldDigests::default()), (4, held(3))]);
    assert_eq!(decision_of(5, &[5], (3, 7), &shown_too), drops(&[7]));
    assert_eq!(decision_of(5, &[5], (4, 3), &shown), KEPT);
    let alone = BTreeMap::from([(4, held(3))]);
    assert_eq!(refused_by(5, &[5], 1, &alone), [0; 0], "no split is shown");
    // Two hold 7, so it may have a certificate if an unproven node holds it, too.
    let pair = BTreeMap::from([(2, held(7)), (3, held(7)), (4, held(3))]);
    assert_eq!(refused_by(5, &[5], 1, &pair), [7]);
    let three = BTreeMap::from([(2, held(3)), (3, held(3)), (4, held(7))]);
    assert_eq!(refused_by(5, &[5], 1, &three), [7]);
    let certified = BTreeMap::from([(2, held(7)), (3, held(7)), (4, held(7)), (6, held(3))]);
    assert_eq!(refused_by(6, &[5], 1, &certified), [3]);
}

#[test]
fn an_empty_node_refuses_nothing_but_lies_after_equal_logs() {
    let split = |change: &dyn Fn(&mut HeldDigests)| {
        let mut other = held(7);
        change(&mut other);
        BTreeMap::from([(3, other), (4, held(3))])
    };
    let refused = |change: &dyn Fn(&mut HeldDigests)| refused_by(5, &[5], 1, &split(change));
    assert_eq!(refused(&|_| ()), [7]);
    let newer = LeaderId::new(2, MAKER);
    let honest = LeaderId::new(1, 2);
    for leader in [newer, honest] {
        let other = move |held: &mut HeldDigests| {
            held.leaders.insert(DISPUTED, leader);
        };
        assert_eq!(refused(&other), [0; 0], "{leader}: an election decides");
    }
    let all_honest = |held: HeldDigests| HeldDigests {
        leaders: BTreeMap::from([(DISPUTED, honest)]),
        ..held
    };
    let shown = BTreeMap::from([(3, all_honest(held(7))), (4, all_honest(held(3)))]);
    assert_eq!(refused_by(5, &[5], 1, &shown), [0; 0]);
    let earlier = |held: &mut HeldDigests| {
        held.held.insert(DISPUTED - 1, LogDigest([9; 32]));
    };
    assert_eq!(refused(&earlier), [0; 0], "they differ before");
    let unknown = |held: &mut HeldDigests| {
        held.held.remove(&(DISPUTED - 1));
    };
    assert_eq!(refused(&unknown), [0; 0], "they may differ before");

    let end = |index, digest| {
        let digest = LogDigest([digest; 32]);
        Some(LogContent { index, digest })
    };
    let after = |end| refused_after(5, &[5], (1, end), &split(&|_| ()));
    assert_eq!(after(end(DISPUTED - 1, 0)), [7]);
    assert_eq!(after(end(DISPUTED - 1, 5)), [0; 0], "its own log differs");
    assert_eq!(after(end(DISPUTED, 7)), [0; 0], "it holds an entry there");
    assert_eq!(refused_by(4, &[4], 5, &split(&|_| ())), [0; 0], "no voter");
}

/// A city of seven: node 7 is proven to lie, and one more may show whatever it likes.
#[test]
fn an_empty_node_refuses_nothing_that_one_liar_can_bring_about() {
    let shown = |contents: &[u8]| {
        let logs = (2..).zip(contents.iter().map(|content| match content {
            0 => HeldDigests::default(),
            content => held(*content),
        }));
        logs.collect::<BTreeMap<NodeId, HeldDigests>>()
    };
    assert_eq!(refused_by(7, &[7], 1, &shown(&[7, 7, 3, 3, 3])), [7]);
    assert_eq!(refused_by(7, &[7], 1, &shown(&[7, 7, 3, 3, 0])), [0; 0]);
    assert_eq!(refused_by(7, &[7], 1, &shown(&[7, 3, 3, 3, 3])), [0; 0]);
    assert_eq!(refused_by(7, &[7], 1, &shown(&[7, 7, 7, 3, 3])), [7; 0]);
}

#[test]
fn a_difference_behind_a_gap_is_looked_for_first() {
    let local = BTreeMap::from([1, 2, 50, 100].map(|index| (index, LogDigest([1; 32]))));
    let all = nodes(1..=4);
    let excluded = BTreeSet::from([4]);
    let voters = Voters {
        all: &all,
        excluded: &excluded,
        local: 1,
    };
    let verdict = |differs_at: u64| {
        let content = |(index, digest): (&u64, &LogDigest)| match *index >= differs_at {
            true => (*index, LogDigest([2; 32])),
            false => (*index, *digest),
        };
        let held = HeldDigests {
            held: local.iter().map(content).collect(),
            ..HeldDigests::default()
        };
        let shown = BTreeMap::from([(2, held.clone()), (3, held)]);
        decide(&voters, &local, 2, &shown)
    };
    assert_eq!(verdict(101), equal_upto(100, false));
    assert_eq!(verdict(100), equal_upto(50, true));
    assert_eq!(verdict(30), equal_upto(2, true));
    let replaced = BTreeSet::from([LogDigest([1; 32])]);
    assert_eq!(verdict(2), LogVerdict::Drop { index: 2, replaced });
}

#[test]
fn with_an_unproven_liar_an_even_split_is_for_people() {
    let even = logs(&[1, 1, 1, 2, 2, 2, 9]);
    for node in 1..=6 {
        assert_eq!(decision(7, &[7], node, &even), KEPT, "node {node}");
    }
    // The second liar is among those of the second content, and proven too: it is none any more.
    assert_eq!(decision(7, &[7, 6], 1, &even), KEPT);
    assert_eq!(decision(7, &[7, 6], 4, &even), drops(&[2]));
    let mut missing = even.clone();
    missing.remove(&6);
    for node in 1..=5 {
        assert_eq!(decision(7, &[7], node, &missing), KEPT, "node {node}");
    }
}

#[test]
fn nothing_is_dropped_while_a_log_is_unknown() {
    let mut logs = logs(&[1, 1, 2, 1]);
    logs.remove(&2);
    assert_eq!(decision(4, &[4], 3, &logs), KEPT);
}

#[test]
fn two_proven_liars_of_seven() {
    let logs = logs(&[1, 1, 1, 1, 2, 9, 9]);
    assert_eq!(decision(7, &[6, 7], 5, &logs), drops(&[2]));
    assert_eq!(
        decision(7, &[6], 5, &logs),
        drops(&[2, 9]),
        "the second liar is not proven yet"
    );
    assert_eq!(decision(7, &[6], 1, &logs), KEPT);
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

/// A step of one honest node: it decides, or, if it holds nothing, takes what another one holds.
#[derive(Clone, Debug)]
struct Step {
    node: NodeId,
    from: NodeId,
    /// It refuses what it need not take, without having heard of the other one.
    refuses: bool,
}

/// A city with all its liars proven, in which nodes drop their logs and take others.
#[derive(Clone, Debug)]
struct Changes {
    n: u64,
    /// What the honest nodes hold, who are the first; 0 is nothing yet.
    contents: Vec<u8>,
    steps: Vec<Step>,
}

fn changes() -> impl Strategy<Value = Changes> {
    prop::sample::select(vec![4u64, 5, 6, 7, 10]).prop_flat_map(|n| {
        let honest = n - (n - 1) / 3;
        let step = (1..=honest, 1..=honest, any::<bool>());
        let step = step.prop_map(|(node, from, refuses)| Step {
            node,
            from,
            refuses,
        });
        let contents = prop::collection::vec(0u8..5, honest as usize);
        let steps = prop::collection::vec(step, 1..40);
        (contents, steps).prop_map(move |(contents, steps)| Changes { n, contents, steps })
    })
}

struct HonestNodes {
    n: u64,
    held: BTreeMap<NodeId, HeldDigests>,
    /// What each of them ever held, and so may have signed.
    ever: BTreeSet<(NodeId, u8)>,
}

impl HonestNodes {
    fn new(changes: &Changes) -> Self {
        let log = |content: &u8| match content {
            0 => HeldDigests::default(),
            content => held(*content),
        };
        let contents = (1..).zip(&changes.contents);
        let ever = contents.clone().filter(|(_, content)| **content > 0);
        Self {
            n: changes.n,
            ever: ever.map(|(node, content)| (node, *content)).collect(),
            held: contents
                .map(|(node, content)| (node, log(content)))
                .collect(),
        }
    }

    fn content(&self, node: NodeId) -> Option<u8> {
        let digest = self.held[&node].held.get(&DISPUTED);
        digest.map(|digest| digest.0[0])
    }

    fn refuses(&self, node: NodeId, content: u8) -> bool {
        let dead = dropped(content).dropped;
        !self.held[&node].dropped.is_disjoint(&dead)
    }

    fn step(&mut self, step: &Step) {
        match self.content(step.node) {
            Some(content) => self.decide(step, content),
            None if step.refuses => self.refuse(step),
            None => self.accept(step.node, self.content(step.from)),
        }
    }

    fn refuse(&mut self, step: &Step) {
        let answered = |node: &NodeId| *node != step.node && *node != step.from;
        let shown = self.held.iter().filter(|(node, _)| answered(node));
        let shown = shown.map(|(node, log)| (*node, log.clone())).collect();
        let proven: Vec<NodeId> = (self.held.len() as u64 + 1..=self.n).collect();
        let refused = refused_by(self.n, &proven, step.node, &shown);
        let log = self.held.get_mut(&step.node).expect("it is honest");
        for content in refused {
            log.dropped.extend(dropped(content).dropped);
        }
    }

    fn accept(&mut self, node: NodeId, content: Option<u8>) {
        if let Some(content) = content.filter(|content| !self.refuses(node, *content)) {
            let log = self.held.get_mut(&node).expect("it is honest");
            log.held = digests(content);
            log.leaders = held(content).leaders;
            self.ever.insert((node, content));
        }
    }

    fn decide(&mut self, step: &Step, content: u8) {
        let others = self.held.iter().filter(|(node, _)| **node != step.node);
        let shown = others.map(|(node, log)| (*node, log.clone())).collect();
        let proven: Vec<NodeId> = (self.held.len() as u64 + 1..=self.n).collect();
        let verdict = decision_of(self.n, &proven, (step.node, content), &shown);
        if let LogVerdict::Drop { .. } = verdict {
            let log = self.held.get_mut(&step.node).expect("it is honest");
            log.held.clear();
            log.leaders.clear();
            log.dropped.extend(after(verdict, content).dropped);
        }
    }

    /// Checks that no node refuses what those that ever held it and all liars may have signed, and
    /// that some log is left.
    fn check(&self) -> Result<(), String> {
        let liars = self.n as usize - self.held.len();
        for content in 1..5 {
            let holders = self
                .ever
                .iter()
                .filter(|(_, held)| *held == content)
                .count();
            let refused = self.held.keys().any(|node| self.refuses(*node, content));
            if refused && holders + liars >= quorum(self.n as usize) {
                return Err(format!("{content} is refused"));
            }
        }
        let left = self.held.keys().any(|node| self.content(*node).is_some());
        match left || self.ever.is_empty() {
            true => Ok(()),
            false => Err("no log is left".to_owned()),
        }
    }

    /// The contents that are left in the end.
    fn resolve(&mut self) -> BTreeSet<Option<u8>> {
        let nodes: Vec<NodeId> = self.held.keys().copied().collect();
        for from in nodes.iter().cycle().take(20 * nodes.len()) {
            for node in &nodes {
                self.step(&Step {
                    node: *node,
                    from: *from,
                    refuses: false,
                });
            }
        }
        nodes.iter().map(|node| self.content(*node)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Nodes decide one after the other, by the answers of all, and those that dropped a log take
    /// what they don't refuse: what may be certified is refused by none, and one content is left.
    #[test]
    fn what_empty_nodes_take_brings_nothing_dead_to_life(changes in changes()) {
        let mut honest = HonestNodes::new(&changes);
        for step in &changes.steps {
            honest.step(step);
            prop_assert_eq!(honest.check(), Ok(()));
        }
        let left = honest.resolve();
        prop_assert_eq!(honest.check(), Ok(()));
        prop_assert_eq!(left.len(), 1, "{:?}", left);
    }
}
