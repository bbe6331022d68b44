use lamplighter_state::tables::Subject;
use lamplighter_state::tree::Tree;
use lamplighter_state::{StateError, tables};
use lamplighter_store::{Cf, Direction, Durability, KeyRange, Kv, KvView, MemoryKv, WriteBatch};
use lamplighter_types::*;

use crate::fixture::{Content, TestChain, about, event, receipt, transaction, validators};

/// A block with `count` transactions and events; every receipt is about the lamp of its number
/// modulo 3.
pub fn block(chain: &TestChain, count: u64) -> Content {
    let chain_id = chain.genesis.chain_id();
    let transactions: Vec<_> = (0..count).map(|n| transaction(n + 1, &chain_id)).collect();
    let receipts = transactions.iter().zip(0u64..).map(|(t, n)| {
        let lamp = format!("lamp-{}", n % 3);
        let appended = Fact::EventAppended {
            kind: "x-test".to_owned(),
            severity: Severity::Minor,
            sequence: n,
            attested: false,
        };
        let facts = vec![
            about(&lamp, Fact::DeviceResumed),
            about(&lamp, Fact::DeviceTagged),
            about("lamp-9", appended),
        ];
        receipt(t.hash(), facts)
    });
    let height = chain.height() + 1;
    let events = (0..count).map(|n| event(&format!("lamp-{}", n % 3), height * 1_000 + n));
    Content {
        receipts: receipts.collect(),
        events: events.collect(),
        transactions,
        ..Content::default()
    }
}

pub fn chain() -> TestChain {
    let mut chain = TestChain::new();
    for count in [1, 0, 64, 65, 200] {
        let content = block(&chain, count);
        chain.push(content);
    }
    chain
}

#[test]
fn blocks_are_read_as_they_were_written() {
    let mut chain = TestChain::new();
    for count in [0, 1, 63, 64, 65, 128, 200] {
        let content = block(&chain, count);
        let (transactions, receipts, events) = (
            content.transactions.clone(),
            content.receipts.clone(),
            content.events.clone(),
        );
        chain.push(content);
        let (kv, height) = (&*chain.kv, chain.height());
        let read = tables::block(kv, height).unwrap().unwrap();
        assert_eq!(read.header, chain.headers[height as usize]);
        assert!(
            read.transactions
                .iter()
                .eq(transactions.iter().map(|t| &**t.envelope()))
        );
        assert!(
            tables::receipts(kv, height)
                .unwrap()
                .iter()
                .eq(receipts.iter().map(|r| &**r))
        );
        assert_eq!(tables::events(kv, height).unwrap(), events);
        for (at, index) in (0..count as usize).zip(0u32..) {
            let one = tables::transaction(kv, height, index).unwrap();
            assert_eq!(one.as_ref(), Some(&**transactions[at].envelope()));
            assert_eq!(
                tables::receipt(kv, height, index).unwrap().unwrap(),
                *receipts[at]
            );
            assert_eq!(
                tables::event(kv, height, index).unwrap().as_ref(),
                Some(&events[at])
            );
            let place = tables::transaction_place(kv, &transactions[at].hash()).unwrap();
            assert_eq!(place, Some((height, index)));
        }
        assert_eq!(tables::transaction(kv, height, count as u32).unwrap(), None);
        assert_eq!(tables::receipt(kv, height, u32::MAX).unwrap(), None);
        assert_eq!(tables::head_height(kv).unwrap(), Some(height));
    }
    let kv = &*chain.kv;
    assert_eq!(tables::block(kv, 100).unwrap(), None);
    assert_eq!(
        tables::header_hash(kv, 3).unwrap(),
        Some(chain.headers[3].hash())
    );
    assert_eq!(tables::transaction_place(kv, &Hash::ZERO).unwrap(), None);
    assert_eq!(tables::event(kv, 100, 0).unwrap(), None);
}

#[test]
fn large_items_begin_new_rows() {
    let mut chain = TestChain::new();
    let long = |n: u64| {
        let mut event = event("lamp-1", n);
        event.event.data = "x".repeat(300_000);
        event
    };
    let events: Vec<_> = (0..9).map(long).collect();
    chain.push(Content {
        events: events.clone(),
        ..Content::default()
    });
    assert_eq!(tables::events(&*chain.kv, 1).unwrap(), events);
    for (event, index) in events.iter().zip(0u32..) {
        assert_eq!(
            tables::event(&*chain.kv, 1, index).unwrap().as_ref(),
            Some(event)
        );
    }
    assert_eq!(tables::event(&*chain.kv, 1, 9).unwrap(), None);
}

#[test]
fn headers_are_paged_both_ways() {
    let chain = chain();
    let heights = |headers: Vec<Header>| headers.iter().map(|h| h.height).collect::<Vec<_>>();
    let kv = &*chain.kv;
    assert_eq!(
        heights(tables::headers_after(kv, None, 3).unwrap()),
        [0, 1, 2]
    );
    assert_eq!(
        heights(tables::headers_after(kv, Some(2), 9).unwrap()),
        [3, 4, 5]
    );
    assert_eq!(
        heights(tables::headers_before(kv, None, 2).unwrap()),
        [5, 4]
    );
    assert_eq!(
        heights(tables::headers_before(kv, Some(4), 9).unwrap()),
        [3, 2, 1, 0]
    );
    assert!(
        tables::headers_after(kv, Some(u64::MAX), 9)
            .unwrap()
            .is_empty()
    );
    assert!(tables::headers_before(kv, Some(0), 9).unwrap().is_empty());
}

#[test]
fn events_of_a_device_are_paged_both_ways() {
    let chain = chain();
    let kv = &*chain.kv;
    let lamp: Id = "lamp-1".parse().unwrap();
    let mut all = Vec::new();
    let mut cursor = None;
    loop {
        let page = tables::device_events(kv, &lamp, cursor, Direction::Forward, 7).unwrap();
        let Some(last) = page.last() else { break };
        cursor = Some(last.record.event.sequence);
        all.extend(page);
    }
    let in_order = |pair: &[tables::DeviceEventEntry]| {
        pair[0].record.event.sequence < pair[1].record.event.sequence
    };
    assert_eq!(all.len(), 21 + 22 + 67);
    assert!(all.windows(2).all(in_order));
    for entry in &all {
        let record = tables::event(kv, entry.height, entry.index)
            .unwrap()
            .unwrap();
        assert_eq!((&record.event.device, &record), (&lamp, &entry.record));
        let sequence = record.event.sequence;
        let found = tables::device_event(kv, &lamp, sequence).unwrap();
        assert_eq!(found.as_ref(), Some(entry));
    }
    let sequence = all[50].record.event.sequence;
    let back = tables::device_events(kv, &lamp, Some(sequence), Direction::Backward, 50).unwrap();
    assert!(back.iter().rev().eq(&all[..50]));
    let newest = tables::device_events(kv, &lamp, None, Direction::Backward, 1).unwrap();
    assert_eq!(newest, all[all.len() - 1..]);
    assert_eq!(tables::device_event(kv, &lamp, 1).unwrap(), None);
    let other: Id = "lamp-10".parse().unwrap();
    assert!(
        tables::device_events(kv, &other, None, Direction::Forward, 9)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn where_the_chain_stands_is_kept() {
    let kv = MemoryKv::new();
    assert_eq!(tables::head_height(&kv).unwrap(), None);
    assert_eq!(tables::marker(&kv).unwrap(), None);
    assert_eq!(tables::position(&kv).unwrap(), None);
    assert_eq!(tables::installing(&kv).unwrap(), None);
    assert_eq!(tables::last_attested(&kv).unwrap(), None);
    assert_eq!(tables::newest_certified(&kv, 0).unwrap(), None);
    let mut batch = WriteBatch::new();
    tables::put_marker(&mut batch, b"entry 7");
    tables::put_position(&mut batch, b"entry 6");
    tables::put_installing(&mut batch, Some("images/7"));
    for height in [1, 2, 300] {
        tables::put_attested(&mut batch, height, &Hash([height as u8; 32]));
    }
    kv.write(batch, Durability::Synced).unwrap();
    assert_eq!(tables::marker(&kv).unwrap().unwrap(), b"entry 7");
    assert_eq!(tables::position(&kv).unwrap().unwrap(), b"entry 6");
    assert_eq!(
        tables::installing(&kv).unwrap().as_deref(),
        Some("images/7")
    );
    assert_eq!(
        tables::last_attested(&kv).unwrap(),
        Some((300, Hash([44; 32])))
    );
    assert_eq!(tables::attested(&kv, 2).unwrap(), Some(Hash([2; 32])));
    let mut batch = WriteBatch::new();
    tables::prune_attested(&mut batch, 300);
    tables::put_installing(&mut batch, None);
    kv.write(batch, Durability::Synced).unwrap();
    assert_eq!(tables::attested(&kv, 2).unwrap(), None);
    assert_eq!(
        tables::last_attested(&kv).unwrap(),
        Some((300, Hash([44; 32])))
    );
    assert_eq!(tables::installing(&kv).unwrap(), None);
}

/// Only the old validators can certify the header that brings new ones: without that certificate
/// those above can't be proven, and do not count.
#[test]
fn a_change_of_validators_without_a_certificate_holds_up_those_above() {
    let mut chain = TestChain::new();
    chain.push(Content::default());
    chain.certify();
    chain.push(Content {
        next: Some(validators(2..=5)),
        ..Content::default()
    });
    chain.push(Content::default());
    chain.certify();
    let kv = &*chain.kv;
    assert_eq!(tables::newest_certified(kv, 0).unwrap(), Some(3));
    let of_change = tables::certificate(kv, 2).unwrap().unwrap();
    let mut lost = WriteBatch::new();
    for entry in kv
        .scan(Cf::Certificates, KeyRange::all(), Direction::Forward)
        .unwrap()
    {
        let (key, value) = entry.unwrap();
        if codec::decode::<Certificate>(&value).unwrap() == of_change {
            lost.delete(Cf::Certificates, key);
        }
    }
    kv.write(lost, Durability::Synced).unwrap();
    assert_eq!(tables::newest_certified(kv, 0).unwrap(), Some(1));
    let mut found = WriteBatch::new();
    tables::put_certificate(&mut found, &of_change);
    kv.write(found, Durability::Synced).unwrap();
    assert_eq!(tables::newest_certified(kv, 0).unwrap(), Some(3));
}

#[test]
fn certificates_and_validators_are_found_by_height() {
    let mut chain = TestChain::new();
    chain.push(Content::default());
    chain.push(Content {
        next: Some(validators(2..=5)),
        ..Content::default()
    });
    chain.push(Content::default());
    chain.certify();
    chain.push(Content::default());
    let kv = &*chain.kv;
    assert_eq!(tables::newest_certified(kv, 0).unwrap(), Some(3));
    let certificate = |height| tables::certificate(kv, height).unwrap();
    assert_eq!(certificate(2).unwrap().height, 2);
    assert_eq!((certificate(1), certificate(4)), (None, None));
    for (height, set) in [
        (0, 1..=4),
        (1, 1..=4),
        (2, 1..=4),
        (3, 2..=5),
        (4, 2..=5),
        (99, 2..=5),
    ] {
        assert_eq!(
            tables::validators_at(kv, height).unwrap(),
            validators(set),
            "at {height}"
        );
    }
    let changes = |heights| {
        let changes = tables::set_changes(kv, heights).unwrap();
        changes.collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert!(changes(0..2).is_empty());
    assert_eq!(changes(0..3)[0].0, 2);
    assert_eq!(changes(0..3)[0].1, validators(2..=5));
    assert_eq!(changes(2..99), changes(0..3));
    assert!(changes(3..99).is_empty());
    let last = |below| tables::last_set_change(kv, below).unwrap();
    assert_eq!(
        (last(0), last(2), last(3), last(99)),
        (None, None, Some(2), Some(2))
    );
    assert!(tables::set_change(kv, 2).unwrap().is_some());
    assert_eq!(
        tables::set_change(kv, 0).unwrap(),
        None,
        "the genesis block changes none"
    );
}

#[test]
fn the_history_is_loaded_as_it_was() {
    let chain = chain();
    for size in 0..=chain.headers.len() as u64 {
        let history = tables::load_history(&*chain.kv, size).unwrap();
        assert_eq!(history.size(), size);
        if let Some(header) = chain.headers.get(size as usize) {
            assert_eq!(history.root(), header.history_root);
        }
    }
    let missing = tables::load_history(&*chain.kv, 7);
    assert!(matches!(missing, Err(StateError::Missing { .. })));
}

#[test]
fn the_tree_is_loaded_as_it_was() {
    let mut chain = TestChain::new();
    let writes = (0..100u8).map(|n| (vec![n], Some(vec![n; 3]))).collect();
    chain.push(Content {
        writes,
        ..Content::default()
    });
    let writes = (0..50u8).map(|n| (vec![n * 2], None)).collect();
    chain.push(Content {
        writes,
        ..Content::default()
    });
    let loaded = Tree::new().load(&*chain.kv).unwrap();
    assert_eq!(loaded.root(), chain.tree.root());
    assert_eq!(loaded.root(), chain.headers[2].state_root);
    assert_eq!(loaded.len(), chain.tree.len());
}

/// Replaces every stored value in turn, and asks for everything.
#[test]
fn damaged_rows_are_reported() {
    let mut chain = TestChain::new();
    let content = block(&chain, 3);
    chain.push(content);
    chain.certify();
    let lamp: Id = "lamp-1".parse().unwrap();
    let mut reported = 0;
    for cf in [
        Cf::Blocks,
        Cf::Receipts,
        Cf::Events,
        Cf::Transactions,
        Cf::Certificates,
        Cf::Chain,
        Cf::Index,
        Cf::History,
    ] {
        let entries = chain
            .kv
            .scan(cf, lamplighter_store::KeyRange::all(), Direction::Forward);
        let entries: Vec<_> = entries.unwrap().map(|entry| entry.unwrap()).collect();
        for (key, value) in entries {
            for damaged in [vec![0xff; 40], vec![], value[..value.len() / 2].to_vec()] {
                if damaged[..] == value[..] {
                    continue;
                }
                put(&chain.kv, cf, &key, &damaged);
                reported += usize::from(read_all(&*chain.kv, &lamp).is_err());
                put(&chain.kv, cf, &key, &value);
            }
            let cut = key[..key.len() - 1].to_vec();
            put(&chain.kv, cf, &cut, &value);
            let _either_way_without_panic = read_all(&*chain.kv, &lamp);
            let mut batch = WriteBatch::new();
            batch.delete(cf, cut);
            chain.kv.write(batch, Durability::Synced).unwrap();
        }
    }
    assert!(reported > 40, "only {reported} damages were seen");
    read_all(&*chain.kv, &lamp).unwrap();
}

fn put(kv: &MemoryKv, cf: Cf, key: &[u8], value: &[u8]) {
    let mut batch = WriteBatch::new();
    batch.put(cf, key.to_vec(), value.to_vec());
    kv.write(batch, Durability::Synced).unwrap();
}

fn read_all(kv: &dyn KvView, lamp: &Id) -> Result<(), StateError> {
    tables::head_height(kv)?;
    tables::headers_after(kv, None, 10)?;
    tables::newest_certified(kv, 0)?;
    tables::set_changes(kv, 1..10)?.collect::<Result<Vec<_>, _>>()?;
    tables::load_history(kv, 2)?;
    tables::history_node(kv, 0, 0)?;
    tables::history_node(kv, 0, 1)?;
    tables::device_events(kv, lamp, None, Direction::Forward, 10)?;
    let subject = Subject::Device(lamp.clone());
    tables::history(kv, &subject, None, Direction::Backward, 10)?;
    for height in 0..2 {
        tables::validators_at(kv, height)?;
        let block = tables::block(kv, height)?;
        tables::receipts(kv, height)?;
        tables::events(kv, height)?;
        for (signed, index) in block.iter().flat_map(|b| &b.transactions).zip(0u32..) {
            tables::transaction(kv, height, index)?;
            tables::receipt(kv, height, index)?;
            let chain_id = block.as_ref().map_or(Hash::ZERO, |b| b.header.chain_id);
            tables::transaction_place(kv, &signed.hash(&chain_id))?;
        }
    }
    Ok(())
}
