use std::sync::Arc;

use lamplighter_state::tables::{self, Authorship, HistoryEntry, Subject};
use lamplighter_store::{Direction, KvView};
use lamplighter_types::*;

use crate::fixture::{Content, TestChain, about, id, receipt, secret, transaction};
use crate::tables::chain;

#[test]
fn the_history_of_a_device_is_paged_both_ways() {
    let chain = chain();
    let kv = &*chain.kv;
    let subject = Subject::Device(id("lamp-2"));
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = tables::history(kv, &subject, cursor, Direction::Forward, 10).unwrap();
        let Some(last) = page.last() else { break };
        cursor = Some((last.height, last.index));
        all.extend(page);
    }
    assert_eq!(all.len(), 21 + 21 + 66);
    for entry in &all {
        assert_eq!(entry.index % 3, 2);
        assert_eq!(entry.receipt.notifications.len(), 2);
        let whole = tables::receipt(kv, entry.height, entry.index)
            .unwrap()
            .unwrap();
        assert_eq!(whole.transaction, entry.receipt.transaction);
    }
    let places: Vec<_> = all.iter().map(|e| (e.height, e.index)).collect();
    assert!(places.is_sorted());
    let newest = tables::history(kv, &subject, None, Direction::Backward, 1).unwrap();
    assert_eq!(newest, all[all.len() - 1..]);
    let back = tables::history(kv, &subject, Some(places[30]), Direction::Backward, 30).unwrap();
    assert!(back.iter().rev().eq(&all[..30]));
    // Appended events have their own index and would bury the rest.
    let events_only = Subject::Device(id("lamp-9"));
    let none = tables::history(kv, &events_only, None, Direction::Forward, 9).unwrap();
    assert!(none.is_empty());
}

fn fact(fact: Fact) -> Notification {
    Notification { place: None, fact }
}

fn target(device: &str) -> ConfigTarget {
    ConfigTarget::Device { device: id(device) }
}

fn alarm(sequence: u64) -> AlarmId {
    AlarmId {
        device: id("lamp-1"),
        sequence,
    }
}

/// Facts about many subjects, each of which one transaction and then the block itself cause.
fn facts() -> Vec<(Subject, Notification)> {
    let rollout = || id("spring");
    let reason = || "too windy".to_owned();
    let moved = Fact::DeploymentMoved {
        rollout: rollout(),
        from: None,
        to: DeploymentState::Assigned,
        attested: false,
        code: 0,
    };
    let desired = Fact::DesiredSet {
        target: target("lamp-2"),
        version: 1,
    };
    let raised = Fact::AlarmRaised {
        alarm: alarm(7),
        kind: "x-door".to_owned(),
        severity: Severity::Major,
    };
    let paused = Fact::RolloutPaused {
        rollout: rollout(),
        reason: reason(),
    };
    let proposal = Fact::ChangeProposed {
        proposal: id("join-5"),
    };
    let organization = Fact::OrganizationRegistered {
        organization: id("spring"),
    };
    let account = Fact::AccountEnabled {
        account: id("spring"),
    };
    let release = Fact::ReleaseReleased {
        release: id("spring"),
    };
    vec![
        (Subject::Rollout(rollout()), fact(paused)),
        (Subject::Device(id("lamp-1")), about("lamp-1", moved)),
        (
            Subject::DeviceRecord(id("lamp-3")),
            about("lamp-3", Fact::DeviceTagged),
        ),
        (Subject::Config(target("lamp-2")), fact(desired)),
        (Subject::Alarm(alarm(7)), fact(raised)),
        (Subject::Proposal(id("join-5")), fact(proposal)),
        (Subject::Governance, fact(Fact::PoliciesSet)),
        (Subject::Organization(id("spring")), fact(organization)),
        (Subject::Account(id("spring")), fact(account)),
        (Subject::Release(id("spring")), fact(release)),
    ]
}

fn all_of(kv: &dyn KvView, subject: &Subject) -> Vec<HistoryEntry> {
    tables::history(kv, subject, None, Direction::Backward, 10).unwrap()
}

#[test]
fn every_record_has_the_author_time_and_transaction_of_its_changes() {
    let mut chain = TestChain::new();
    let signed = transaction(5, &chain.genesis.chain_id());
    let notifications: Vec<_> = facts()
        .into_iter()
        .map(|(_, notification)| notification)
        .collect();
    chain.push(Content {
        transactions: vec![signed.clone()],
        receipts: vec![
            receipt(signed.hash(), notifications.clone()),
            receipt(Hash::ZERO, notifications),
        ],
        ..Content::default()
    });
    let kv = &*chain.kv;
    let time_ms = chain.headers[1].timestamp_ms;
    for (subject, notification) in facts() {
        let found = all_of(kv, &subject);
        let [by_block, by_alice] = &found[..] else {
            panic!("{subject:?}: {found:?}");
        };
        let about = std::slice::from_ref(&notification);
        assert_eq!(by_block.receipt.notifications, about, "{subject:?}");
        assert_eq!(by_alice.receipt.notifications, about);
        assert_eq!(by_alice.receipt.transaction, signed.hash());
        let alice = Authorship {
            time_ms,
            author: Some(id("alice")),
            key: Some(secret(100).public()),
        };
        assert_eq!((by_alice.index, &by_alice.authorship), (0, &alice));
        let without_author = Authorship {
            time_ms,
            author: None,
            key: None,
        };
        assert_eq!(
            (by_block.index, &by_block.authorship),
            (1, &without_author),
            "{subject:?}"
        );
    }
    let others = [
        Subject::Rollout(id("spring-2")),
        Subject::Alarm(alarm(8)),
        Subject::Config(ConfigTarget::Fleet),
        Subject::Config(ConfigTarget::Model {
            model: "lamp-2".to_owned(),
        }),
        Subject::Device(id("lamp-2")),
        // A deployment that moved is no change of the device's record.
        Subject::DeviceRecord(id("lamp-1")),
    ];
    for other in others {
        assert_eq!(all_of(kv, &other), [], "{other:?}");
    }
}

#[test]
fn a_receipt_about_no_record_is_in_no_history() {
    let mut chain = TestChain::new();
    let held = Fact::ArtifactHeld {
        artifact: Hash::ZERO,
        node: 1,
        holders: 1,
    };
    let silent = Arc::new(Receipt {
        transaction: Hash::ZERO,
        outcome: Outcome::Succeeded,
        notifications: vec![fact(held)],
    });
    chain.push(Content {
        receipts: vec![silent],
        ..Content::default()
    });
    assert_eq!(all_of(&*chain.kv, &Subject::Governance), []);
}
