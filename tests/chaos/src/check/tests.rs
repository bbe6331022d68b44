//! Tests of the checker: a good history passes, and each fault is found.

use lamplighter_types::{Hash, Id};

use super::{ALL, ActionEffect, ChainBlock, ChainEntry, Corruption, Evidence, Fault, check};
use crate::history::{
    History, ReadRecord, ReadResult, ReceiptPosition, SubmitAnswer, TimedAnswer, WriteRecord,
};

fn hash(text: &str) -> Hash {
    Hash::of(text.as_bytes())
}

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn set(name: &str, replaces: u64) -> ActionEffect {
    ActionEffect::Set {
        register: "r".to_owned(),
        document: hash(name),
        replaces,
    }
}

fn entry(name: &str, succeeded: bool, effect: ActionEffect) -> ChainEntry {
    ChainEntry {
        transaction: hash(name),
        expires_ms: 100_000,
        receipt: hash(&format!("receipt of {name}")),
        succeeded,
        effect,
    }
}

/// A chain whose block h has the time h s.
fn chain(blocks: Vec<Vec<ChainEntry>>) -> Vec<ChainBlock> {
    let header = |height: u64| hash(&format!("header {height}"));
    (1..)
        .zip(blocks)
        .map(|(height, entries)| ChainBlock {
            height,
            header: header(height),
            parent: header(height - 1),
            timestamp_ms: height * 1_000,
            content: hash(&format!("content {height}")),
            entries,
        })
        .collect()
}

/// A transaction sent at `from`, answered at `to` with its position in the chain.
fn write(chain: &[ChainBlock], name: &str, from: u64, to: u64) -> WriteRecord {
    let found = chain.iter().find_map(|block| {
        let mut entries = (0..).zip(&block.entries);
        let (index, entry) = entries.find(|(_, e)| e.transaction == hash(name))?;
        Some(ReceiptPosition {
            height: block.height,
            index,
            receipt: entry.receipt,
            succeeded: entry.succeeded,
        })
    });
    WriteRecord {
        transaction: hash(name),
        invoked_us: from,
        expires_ms: 100_000,
        answers: vec![TimedAnswer {
            at_us: to,
            answer: SubmitAnswer::Receipt(found.unwrap()),
        }],
    }
}

fn read(from: u64, to: u64, height: u64, version: u64, name: &str) -> ReadRecord {
    ReadRecord {
        invoked_us: from,
        at_us: to,
        height,
        min_height: 0,
        linearizable: true,
        result: ReadResult::Register {
            name: "r".to_owned(),
            version,
            document: hash(name),
        },
    }
}

/// A good history: two writers replace a document in turn, one loses a race; events; an
/// organization; reads of all.
fn good() -> Evidence {
    let lamp = || id("lamp");
    let chain = chain(vec![
        vec![entry("a", true, set("a", 0))],
        vec![
            entry("b", true, set("b", 1)),
            entry("c", false, set("c", 1)),
            entry(
                "events",
                true,
                ActionEffect::Append(vec![(lamp(), 2), (lamp(), 1)]),
            ),
        ],
        vec![entry("org", true, ActionEffect::Organization(id("org")))],
        vec![entry("d", true, set("d", 2))],
    ]);
    let writes = vec![
        write(&chain, "a", 0, 10),
        write(&chain, "b", 20, 40),
        write(&chain, "c", 20, 40),
        write(&chain, "events", 20, 41),
        write(&chain, "org", 50, 60),
        write(&chain, "d", 50, 70),
    ];
    let device = ReadRecord {
        result: ReadResult::Device {
            device: lamp(),
            count: 2,
            highest: 2,
        },
        ..read(45, 48, 2, 0, "")
    };
    let organization = ReadRecord {
        result: ReadResult::Organization(id("org")),
        ..read(61, 62, 3, 0, "")
    };
    let not_yet = ReadRecord {
        result: ReadResult::NoOrganization(id("org")),
        ..read(42, 49, 0, 0, "")
    };
    let reads = vec![
        read(12, 15, 1, 1, "a"),
        read(42, 44, 2, 2, "b"),
        device,
        organization,
        not_yet,
        read(71, 80, 4, 3, "d"),
    ];
    let others = (0..3)
        .map(|_| chain.iter().map(ChainBlock::digest).collect())
        .collect();
    Evidence {
        history: History { writes, reads },
        chain,
        others,
    }
}

fn check_all(evidence: &Evidence) -> super::Findings {
    check(&evidence.history, &evidence.chain, &evidence.others)
}

fn assert_found(evidence: &Evidence, fault: Fault) {
    let findings = check_all(evidence);
    assert!(findings.count(fault) > 0, "{fault:?} not in {findings:?}");
}

#[test]
fn a_good_history_is_good() {
    let findings = check_all(&good());
    assert!(findings.is_good(), "{findings:?}");
    assert_eq!(findings.acknowledged, 5);
    assert_eq!(findings.acknowledged_failed, 1);
    assert_eq!((findings.reads, findings.linearizable_reads), (6, 6));
}

#[test]
fn each_corruption_of_a_good_history_is_found() {
    for corruption in ALL {
        let mut evidence = good();
        let fault = evidence.corrupt(corruption).expect("it has such a record");
        assert_found(&evidence, fault);
    }
}

#[test]
fn a_lost_acknowledgement_is_reported_by_name() {
    let mut evidence = good();
    evidence.corrupt(Corruption::Lost).unwrap();
    let findings = check_all(&evidence);
    assert_eq!(findings.count(Fault::Lost), 1);
    let sample = &findings.faults[&Fault::Lost].samples[0];
    assert!(
        evidence
            .history
            .writes
            .iter()
            .any(|write| sample.contains(&write.transaction.to_string()))
    );
}

#[test]
fn a_second_answer_that_differs_is_a_changed_receipt() {
    let mut evidence = good();
    let mut second = evidence.history.writes[1].answers[0].clone();
    let SubmitAnswer::Receipt(place) = &mut second.answer else {
        unreachable!("the good history has receipts");
    };
    place.index += 1;
    evidence.history.writes[1].answers.push(second);
    assert_found(&evidence, Fault::Changed);
}

#[test]
fn a_second_answer_that_is_equal_is_compared() {
    let mut evidence = good();
    let second = evidence.history.writes[1].answers[0].clone();
    evidence.history.writes[1].answers.push(second);
    let findings = check_all(&evidence);
    assert!(findings.is_good());
    assert_eq!(findings.compared_again, 1);
}

#[test]
fn an_unanswered_transaction_is_there_or_has_expired() {
    let mut evidence = good();
    evidence.history.writes[5].answers.clear();
    assert!(check_all(&evidence).is_good());
    assert_eq!(check_all(&evidence).unknown_there, 1);
    evidence.chain[3].entries.clear();
    evidence.history.reads.pop();
    assert_found(&evidence, Fault::Undecided);
    evidence.history.writes[5].expires_ms = 4_000;
    assert!(!check_all(&evidence).faults.contains_key(&Fault::Undecided));
}

#[test]
fn a_transaction_in_a_block_after_it_expired_is_found() {
    let mut evidence = good();
    evidence.chain[3].entries[0].expires_ms = 4_000;
    assert_found(&evidence, Fault::Expired);
}

#[test]
fn an_outcome_that_the_rules_forbid_is_found() {
    let mut evidence = good();
    evidence.chain[1].entries[1].succeeded = true;
    assert_found(&evidence, Fault::WrongOutcome);
    let mut evidence = good();
    let events = evidence.chain[1].entries[2].effect.clone();
    evidence.chain[3].entries[0].effect = events;
    assert_found(&evidence, Fault::WrongOutcome);
    let mut evidence = good();
    let twice = entry("org again", true, ActionEffect::Organization(id("org")));
    evidence.chain[3].entries.push(twice);
    assert_found(&evidence, Fault::WrongOutcome);
}

#[test]
fn reads_that_go_back_in_time_are_stale() {
    let mut evidence = good();
    // A read showed height 4; another one began after that and shows height 2.
    evidence.history.reads.push(read(81, 82, 2, 2, "b"));
    assert_found(&evidence, Fault::Stale);
    // A read that is not linearizable may.
    evidence.history.reads.last_mut().unwrap().linearizable = false;
    assert!(check_all(&evidence).is_good());
}

#[test]
fn a_read_that_misses_an_acknowledged_write_is_stale() {
    let mut evidence = good();
    evidence.history.reads[5] = read(71, 80, 3, 2, "b");
    assert_found(&evidence, Fault::Stale);
}

#[test]
fn concurrent_reads_may_differ() {
    let mut evidence = good();
    evidence.history.reads[5] = read(65, 80, 3, 2, "b");
    assert!(check_all(&evidence).is_good());
}

#[test]
fn an_organization_that_is_missing_after_its_receipt_is_stale() {
    let mut evidence = good();
    evidence.history.reads[4].invoked_us = 61;
    assert_found(&evidence, Fault::Stale);
}

#[test]
fn reads_below_the_height_asked_for_and_of_the_future_are_wrong() {
    let mut evidence = good();
    evidence.history.reads[1].min_height = 3;
    assert_found(&evidence, Fault::WrongRead);
    let mut evidence = good();
    evidence.history.reads[5].height = 5;
    assert_found(&evidence, Fault::WrongRead);
    for at in [2, 3] {
        let mut evidence = good();
        evidence.history.reads[at].height = 1;
        assert_found(&evidence, Fault::WrongRead);
    }
}

#[test]
fn a_chain_with_a_gap_a_fork_or_time_that_stands_still_is_broken() {
    let mut evidence = good();
    evidence.chain[2].height = 7;
    assert_found(&evidence, Fault::BrokenChain);
    let mut evidence = good();
    evidence.chain[2].parent = hash("another");
    assert_found(&evidence, Fault::BrokenChain);
    let mut evidence = good();
    evidence.chain[2].timestamp_ms = 2_000;
    assert_found(&evidence, Fault::BrokenChain);
}

#[test]
fn a_node_that_lacks_a_block_or_has_another_differs() {
    let mut evidence = good();
    evidence.others[1].pop();
    assert_found(&evidence, Fault::NodesDiffer);
    let mut evidence = good();
    evidence.others[2][1].content = hash("another");
    assert_found(&evidence, Fault::NodesDiffer);
}
