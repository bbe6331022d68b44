use openraft::CommittedLeaderId;

use super::*;
use crate::election::SignatureBytes;

fn content(index: u64) -> LogContent {
    LogContent {
        index,
        digest: LogDigest([index as u8; 32]),
    }
}

fn dead(index: u64, digests: &[u64]) -> DeadContents {
    let digests = digests.iter().map(|digest| content(*digest).digest);
    DeadContents {
        index,
        digests: digests.collect(),
    }
}

fn end(leader: NodeId, term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, leader), index)
}

fn statement(index: u64) -> LeaderStatement {
    LeaderStatement {
        term: 1,
        leader: 2,
        index,
        digest: LogDigest([7; 32]),
        signature: SignatureBytes([8; 64]),
    }
}

#[test]
fn a_content_that_was_dropped_is_refused_and_no_other() {
    let dropped = DroppedLogs::default().with(Some(&dead(4, &[4])), Vec::new(), Vec::new());
    assert!(dropped.is_dead(4, content(4).digest));
    assert!(!dropped.is_dead(4, content(5).digest));
    assert!(!dropped.is_dead(5, content(4).digest));
}

#[test]
fn a_content_that_others_have_to_drop_is_refused_too() {
    let dropped = DroppedLogs::default().with(Some(&dead(4, &[4, 6])), Vec::new(), Vec::new());
    let dropped = dropped.with(Some(&dead(4, &[5, 6])), Vec::new(), Vec::new());
    let refused = [4, 5, 6].map(|digest| dropped.is_dead(4, content(digest).digest));
    assert_eq!(refused, [true; 3]);
    assert_eq!(dropped.dead.len(), 3, "each is noted once");
}

#[test]
fn a_certificate_is_above_what_was_decided() {
    let dropped = DroppedLogs::default().with(Some(&dead(4, &[4])), vec![statement(4)], Vec::new());
    let dropped = dropped.with(None, vec![statement(4), statement(5)], Vec::new());
    assert!(!dropped.is_dead(4, content(4).digest));
    assert_eq!(dropped.statements, [statement(4), statement(5)]);
}

#[test]
fn the_record_is_bounded() {
    let mut dropped = DroppedLogs::default();
    for index in 0..200 {
        dropped = dropped.with(
            Some(&dead(index, &[index])),
            vec![statement(index)],
            Vec::new(),
        );
    }
    assert_eq!(dropped.dead.len(), DEAD_MAX);
    assert_eq!(dropped.statements.len(), STATEMENTS_MAX);
    assert!(dropped.is_dead(199, content(199).digest));
}

#[test]
fn a_log_is_good_up_to_the_last_leadership_of_a_liar() {
    let ends = vec![
        end(1, 1, 9),
        end(4, 2, 12),
        end(2, 5, 20),
        end(4, 6, 22),
        end(3, 7, 30),
    ];
    let dropped = DroppedLogs::default().with(None, Vec::new(), ends);
    let floor = |liar: NodeId| dropped.before_liars(|node| node == liar);
    assert_eq!(floor(4), Some(Some(end(2, 5, 20))));
    assert_eq!(floor(1), Some(None));
    assert_eq!(floor(5), None, "nobody in this log is proven to lie");
    let both = dropped.before_liars(|node| [2, 4].contains(&node));
    assert_eq!(both, Some(Some(end(1, 1, 9))), "one after the other");
}

/// It is the same liar that leads twice: it sends entries of the first time that nobody else has.
#[test]
fn a_log_is_good_up_to_the_first_of_the_last_leaderships_of_a_liar() {
    let ends = vec![end(1, 1, 9), end(4, 3, 12), end(4, 4, 20)];
    let dropped = DroppedLogs::default().with(None, Vec::new(), ends);
    let floor = dropped.before_liars(|node| node == 4);
    assert_eq!(floor, Some(Some(end(1, 1, 9))));
}
