use std::io;
use std::sync::{Arc, Mutex};

use lamplighter_types::{
    AlarmChange, DeviceEvent, Encoding, Hash, Id, SecretKey, Severity, SignedTransaction,
    Transaction,
};
use proptest::prelude::*;
use tokio::time::Instant;

use super::{BATCH_ITEMS_MAX, Disk, OutgoingReport, Spool, SpoolError, SpoolRecord, SpoolState};
use crate::submission::{DeferredReports, next_batch};

const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The way in which a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The disk has nothing of it.
    Failed,
    /// The disk has all of it.
    Persisted,
    /// The disk has half of it.
    Torn,
}

#[derive(Default)]
struct Files {
    /// The bytes that survive a crash.
    durable: Vec<u8>,
    /// The bytes that this process reads.
    log: Vec<u8>,
    new: Option<Vec<u8>>,
    /// Steps until the fault.
    fault: Option<(usize, Fault)>,
}

impl Files {
    /// The fault of the next step; `None` if it works.
    fn step(&mut self) -> Option<Fault> {
        let (left, fault) = self.fault?;
        self.fault = (left > 0).then(|| (left - 1, fault));
        (left == 0).then_some(fault)
    }
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Files>>);

impl Memory {
    fn fail_after(&self, steps: usize, fault: Fault) {
        self.0.lock().unwrap().fault = Some((steps, fault));
    }

    /// Power loss: only synced bytes are left.
    fn crash(&self) -> Self {
        let durable = self.0.lock().unwrap().durable.clone();
        Self(Arc::new(Mutex::new(Files {
            log: durable.clone(),
            durable,
            ..Files::default()
        })))
    }
}

fn error() -> io::Error {
    io::Error::other("the disk fails")
}

impl Disk for Memory {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.0.lock().unwrap().log.clone())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        let fault = files.step();
        let kept = match fault {
            None | Some(Fault::Persisted) => bytes.len(),
            Some(Fault::Torn) => bytes.len() / 2,
            Some(Fault::Failed) => 0,
        };
        files.log.extend(&bytes[..kept]);
        if fault.is_some() {
            // The system may write it back at any time.
            files.durable = files.log.clone();
            return Err(error());
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        match files.step() {
            None => files.durable = files.log.clone(),
            Some(Fault::Failed) => return Err(error()),
            Some(Fault::Persisted) => {
                files.durable = files.log.clone();
                return Err(error());
            }
            Some(Fault::Torn) => {
                let half = (files.durable.len() + files.log.len()) / 2;
                files.durable = files.log[..half.min(files.log.len())].to_vec();
                return Err(error());
            }
        }
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        match files.step() {
            Some(Fault::Failed | Fault::Torn) => Err(error()),
            Some(Fault::Persisted) => {
                files.log.truncate(length as usize);
                files.durable.truncate(length as usize);
                Err(error())
            }
            None => {
                files.log.truncate(length as usize);
                Ok(())
            }
        }
    }

    fn write_replacement(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        let fault = files.step();
        if fault != Some(Fault::Failed) {
            files.new = Some(bytes.to_vec());
        }
        fault.map_or(Ok(()), |_| Err(error()))
    }

    fn install_replacement(&mut self) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        let fault = files.step();
        if fault != Some(Fault::Failed) {
            files.log = files.new.take().unwrap();
            files.durable = files.log.clone();
        }
        fault.map_or(Ok(()), |_| Err(error()))
    }
}

fn event(device: u64, sequence: u64) -> OutgoingReport {
    OutgoingReport::Event(DeviceEvent {
        device: Id::new(format!("lamp-{device}")).unwrap(),
        sequence,
        time_ms: 1,
        kind: "x-test".to_owned(),
        severity: Severity::Minor,
        alarm: AlarmChange::None,
        data: "d".repeat(50),
        signature: None,
    })
}

fn add(number: u64) -> SpoolRecord {
    let outgoing = Box::new(event(number % 3, number));
    SpoolRecord::Add {
        number,
        batch_max: BATCH_ITEMS_MAX,
        outgoing,
    }
}

fn sign(state: &SpoolState) -> SpoolRecord {
    let batch = next_batch(state, &DeferredReports::default(), Instant::now()).unwrap();
    let (chain, secret) = (Hash::of(b"chain"), SecretKey::from_seed([1; 32]));
    let sequence = state.sequence() + 1;
    let sender = Id::new("gw").unwrap();
    let content = Transaction {
        sender,
        sequence,
        expires_ms: 1,
        action: batch.action,
    };
    let envelope = SignedTransaction::sign(&content, Encoding::Bincode, &chain, &secret);
    let transaction = envelope.hash(&chain);
    SpoolRecord::Sign {
        sequence,
        items: batch.items,
        transaction,
        envelope: Box::new(envelope),
    }
}

fn resolve(state: &SpoolState) -> SpoolRecord {
    let transaction = state.in_flight().values().next().unwrap();
    SpoolRecord::Resolve {
        transaction: transaction.transaction,
    }
}

fn open(memory: &Memory) -> Spool {
    Spool::with_disk(Box::new(memory.clone()), BYTES_MAX).unwrap()
}

#[test]
fn a_committed_record_survives_a_crash() {
    let memory = Memory::default();
    let mut spool = open(&memory);
    spool.commit(vec![add(1), add(2), add(3), add(4)]).unwrap();
    let signed = sign(spool.state());
    spool.commit(vec![signed]).unwrap();
    spool.commit(vec![add(5)]).unwrap();
    let again = open(&memory.crash());
    assert_eq!(again.state(), spool.state());
    assert_eq!(
        (
            again.state().waiting().len(),
            again.state().in_flight().len()
        ),
        (1, 1)
    );
    assert_eq!((again.state().sequence(), again.state().number()), (1, 5));
    spool.commit(vec![resolve(spool.state())]).unwrap();
    let again = open(&memory.crash());
    assert_eq!(
        again.state().waiting().keys().copied().collect::<Vec<_>>(),
        [5]
    );
    assert!(again.state().contains(&event(2, 5)) && !again.state().contains(&event(1, 1)));
}

/// Each durable step × (failed, failed but persisted, half persisted), then the process goes on or
/// dies.
#[test]
fn every_step_may_fail() {
    for fault in [Fault::Failed, Fault::Persisted, Fault::Torn] {
        // Append and sync of the commit; then cutting and syncing of its repair.
        for step in 0..2 {
            for (steps_of_commit, name) in [(0, "add"), (1, "sign"), (2, "resolve")] {
                let memory = Memory::default();
                let mut spool = open(&memory);
                spool.commit(vec![add(1), add(2)]).unwrap();
                if steps_of_commit == 2 {
                    spool.commit(vec![sign(spool.state())]).unwrap();
                }
                let record = match steps_of_commit {
                    0 => add(3),
                    1 => sign(spool.state()),
                    _ => resolve(spool.state()),
                };
                let before = spool.state().clone();
                memory.fail_after(step, fault);
                let result = spool.commit(vec![record.clone()]);
                let what = format!("{name}, step {step}, {fault:?}");
                assert!(matches!(result, Err(SpoolError::Disk { .. })), "{what}");
                assert_eq!(spool.state(), &before, "{what}");
                // The process dies right here: no Thing has an answer yet, so either state is
                // right.
                let after_crash = open(&memory.crash());
                let mut done = before.clone();
                done.apply(record.clone()).unwrap();
                let state = after_crash.state();
                assert!(*state == before || *state == done, "{what}: {state:?}");
                // The process goes on and commits the same record again.
                spool.commit(vec![record]).unwrap();
                assert_eq!(spool.state(), &done, "{what}");
                assert_eq!(open(&memory.crash()).state(), &done, "{what}");
            }
        }
    }
}

#[test]
fn nothing_is_committed_while_the_file_can_not_be_cut_back() {
    let memory = Memory::default();
    let mut spool = open(&memory);
    spool.commit(vec![add(1)]).unwrap();
    memory.fail_after(1, Fault::Persisted);
    assert!(spool.commit(vec![add(2)]).is_err());
    spool.torn = true;
    memory.fail_after(0, Fault::Failed);
    assert!(spool.commit(vec![add(3)]).is_err());
    spool.commit(vec![add(4)]).unwrap();
    let numbers: Vec<_> = open(&memory.crash())
        .state()
        .waiting()
        .keys()
        .copied()
        .collect();
    assert_eq!(numbers, [1, 4]);
}

#[test]
fn compaction_may_fail_at_each_step() {
    for fault in [Fault::Failed, Fault::Persisted] {
        for step in 0..2 {
            let memory = Memory::default();
            let mut spool = open(&memory);
            spool.commit((1..=300).map(add).collect()).unwrap();
            for _ in 0..2 {
                spool.commit(vec![sign(spool.state())]).unwrap();
                spool.commit(vec![resolve(spool.state())]).unwrap();
            }
            let before = spool.state().clone();
            memory.fail_after(step, fault);
            assert!(spool.compact().is_err());
            assert_eq!(
                open(&memory.crash()).state(),
                &before,
                "step {step}, {fault:?}"
            );
            spool.commit(vec![add(301)]).unwrap();
            spool.compact().unwrap();
            spool.commit(vec![add(302)]).unwrap();
            assert_eq!(open(&memory.crash()).state(), spool.state());
        }
    }
}

#[test]
fn an_emptied_spool_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), BYTES_MAX).unwrap();
    for round in 0..100 {
        spool
            .commit((1..=100).map(|n| add(round * 100 + n)).collect())
            .unwrap();
        while !spool.state().waiting().is_empty() {
            spool.commit(vec![sign(spool.state())]).unwrap();
            spool.commit(vec![resolve(spool.state())]).unwrap();
        }
    }
    let size = std::fs::metadata(dir.path().join("log")).unwrap().len();
    assert!(size < 2 * super::COMPACT_FROM_BYTES, "{size} bytes");
    assert_eq!(spool.state().bytes(), 0);
    drop(spool);
    assert_eq!(
        Spool::open(dir.path(), BYTES_MAX).unwrap().state().number(),
        10_000
    );
}

#[test]
fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let first = Spool::open(dir.path(), BYTES_MAX).unwrap();
    assert!(matches!(
        Spool::open(dir.path(), BYTES_MAX),
        Err(SpoolError::Open { .. })
    ));
    drop(first);
    Spool::open(dir.path(), BYTES_MAX).unwrap();
}

#[test]
fn a_full_spool_refuses_new_reports_and_keeps_the_others() {
    let mut spool = Spool::with_disk(Box::new(Memory::default()), 3_000).unwrap();
    let mut number = 0;
    while spool.check_capacity(200).is_ok() {
        number += 1;
        spool.commit(vec![add(number)]).unwrap();
    }
    assert!(number > 2);
    assert_eq!(spool.state().waiting().len() as u64, number);
}

#[test]
fn damage_before_the_end_is_not_taken_for_a_torn_end() {
    let memory = Memory::default();
    let mut spool = open(&memory);
    spool.commit(vec![add(1)]).unwrap();
    spool.commit(vec![add(2)]).unwrap();
    let damaged = memory.crash();
    damaged.0.lock().unwrap().log[20] ^= 1;
    let opened = Spool::with_disk(Box::new(damaged), BYTES_MAX);
    assert!(matches!(opened, Err(SpoolError::Damaged { at: 0 })));
    let torn = memory.crash();
    let last = torn.0.lock().unwrap().log.len() - 1;
    torn.0.lock().unwrap().log[last] ^= 1;
    assert_eq!(open(&torn).state().waiting().len(), 1);
    let zeros = memory.crash();
    zeros.0.lock().unwrap().log.extend([0; 5_000]);
    assert_eq!(open(&zeros).state().waiting().len(), 2);
}

proptest! {
    #[test]
    fn any_cut_leaves_a_prefix(cut: usize) {
        let memory = Memory::default();
        let mut spool = open(&memory);
        for number in 1..=5 {
            spool.commit(vec![add(number)]).unwrap();
        }
        let cutted = memory.crash();
        let length = cutted.0.lock().unwrap().log.len();
        cutted.0.lock().unwrap().log.truncate(cut % (length + 1));
        let numbers: Vec<_> = open(&cutted).state().waiting().keys().copied().collect();
        prop_assert_eq!(&numbers[..], &[1, 2, 3, 4, 5][..numbers.len()]);
    }
}
