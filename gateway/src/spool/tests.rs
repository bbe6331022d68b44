use std::cell::Cell;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use lamplighter_types::{
    AlarmChange, DeviceEvent, Encoding, Hash, Id, SecretKey, Severity, SignedTransaction,
    Transaction,
};
use proptest::prelude::*;
use tokio::time::Instant;

use super::format::{FILE_HEAD, LogFormat};
use super::{
    BATCH_ITEMS_MAX, DEVICE_REPORTS_MAX, DeviceShare, Disk, FileDisk, OutgoingReport, Spool,
    SpoolError, SpoolRecord, SpoolState,
};
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
    /// The log is the replacement, and a power loss would bring the former one back.
    unconfirmed: bool,
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
            None if files.unconfirmed => {}
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
            // Torn: the file has the new name, but the directory is not synced.
            files.unconfirmed = fault == Some(Fault::Torn);
            if !files.unconfirmed {
                files.durable = files.log.clone();
            }
        }
        fault.map_or(Ok(()), |_| Err(error()))
    }

    fn confirm(&mut self) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        if !files.unconfirmed {
            return Ok(());
        }
        if files.step().is_some() {
            return Err(error());
        }
        files.unconfirmed = false;
        files.durable = files.log.clone();
        Ok(())
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
    spool.log.torn = true;
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
    for fault in [Fault::Failed, Fault::Persisted, Fault::Torn] {
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
            if memory.0.lock().unwrap().unconfirmed {
                // Nothing is acknowledged that a power loss would take back.
                memory.fail_after(0, Fault::Failed);
                assert!(spool.commit(vec![add(301)]).is_err());
                assert_eq!(open(&memory.crash()).state(), &before);
            }
            spool.commit(vec![add(301)]).unwrap();
            assert_eq!(open(&memory.crash()).state(), spool.state());
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
    damaged.0.lock().unwrap().log[FILE_HEAD + 40] ^= 1;
    let opened = Spool::with_disk(Box::new(damaged), BYTES_MAX);
    assert!(matches!(opened, Err(SpoolError::Damaged { at }) if at == FILE_HEAD as u64));
    for byte in 0..FILE_HEAD {
        let head = memory.crash();
        head.0.lock().unwrap().log[byte] ^= 1;
        let opened = Spool::with_disk(Box::new(head), BYTES_MAX);
        assert!(
            matches!(opened, Err(SpoolError::Damaged { at: 0 })),
            "byte {byte}"
        );
    }
    let torn = memory.crash();
    let last = torn.0.lock().unwrap().log.len() - 1;
    torn.0.lock().unwrap().log[last] ^= 1;
    assert_eq!(open(&torn).state().waiting().len(), 1);
    let zeros = memory.crash();
    zeros.0.lock().unwrap().log.extend([0; 5_000]);
    assert_eq!(open(&zeros).state().waiting().len(), 2);
}

/// A body of ASCII characters whose frame of the first format is a text.
fn frame_in_a_text() -> String {
    let mut texts = (0..).map(|nonce: u32| format!("{nonce:08}"));
    let is_ascii = |body: &String| blake3::hash(body.as_bytes()).as_bytes()[..8].is_ascii();
    let body = texts.find(is_ascii).unwrap();
    let mut frame = (body.len() as u32).to_le_bytes().to_vec();
    frame.extend(&blake3::hash(body.as_bytes()).as_bytes()[..8]);
    frame.extend(body.as_bytes());
    String::from_utf8(frame).unwrap()
}

#[test]
fn a_thing_makes_no_frames_of_its_texts() {
    let memory = Memory::default();
    let mut spool = open(&memory);
    spool.commit(vec![add(1)]).unwrap();
    let OutgoingReport::Event(mut hostile) = event(1, 2) else {
        unreachable!()
    };
    hostile.data = frame_in_a_text();
    spool
        .commit(vec![SpoolRecord::Add {
            number: 2,
            batch_max: 1,
            outgoing: Box::new(OutgoingReport::Event(hostile)),
        }])
        .unwrap();
    // A power loss tears the frame, behind the text.
    let torn = memory.crash();
    let last = torn.0.lock().unwrap().log.len() - 1;
    torn.0.lock().unwrap().log.truncate(last);
    assert_eq!(open(&torn).state().waiting().len(), 1);
    // The frames of another file are none of this one.
    let other = Memory::default();
    open(&other).commit(vec![add(7)]).unwrap();
    let frames = other.0.lock().unwrap().log[FILE_HEAD..].to_vec();
    torn.0.lock().unwrap().log.extend(frames);
    assert_eq!(open(&torn).state().waiting().len(), 1);
}

#[test]
fn a_log_of_the_first_format_is_read_and_written_again() {
    let format = LogFormat::First;
    let mut log = Vec::new();
    for number in 1..=3 {
        format.write_frame(&mut log, 0, &[add(number)]).unwrap();
    }
    let whole = log.len();
    log.extend([9; 30]);
    let memory = Memory::default();
    memory.0.lock().unwrap().log = log.clone();
    let mut spool = open(&memory);
    assert_eq!(spool.state().waiting().len(), 3);
    spool.commit(vec![add(4)]).unwrap();
    let after_crash = memory.crash();
    assert!(after_crash.0.lock().unwrap().log.starts_with(b"LLSPOOL2"));
    assert_eq!(open(&after_crash).state(), spool.state());
    for damaged in [0, whole / 2] {
        let mut bytes = log.clone();
        bytes[damaged] ^= 1;
        let memory = Memory::default();
        memory.0.lock().unwrap().log = bytes;
        let opened = Spool::with_disk(Box::new(memory), BYTES_MAX);
        assert!(matches!(opened, Err(SpoolError::Damaged { .. })));
    }
}

#[test]
fn one_device_fills_only_its_share() {
    let mut spool = open(&Memory::default());
    let device = Id::new("lamp-0").unwrap();
    let one = DeviceShare {
        reports: 1,
        bytes: 100,
    };
    let mut number = 0;
    while spool.check_share(&device, one).is_ok() {
        number += 3;
        spool.commit(vec![add(number)]).unwrap();
    }
    let share = spool.state().share_of(&device);
    assert_eq!(share.reports, DEVICE_REPORTS_MAX);
    let long = DeviceShare {
        reports: 1,
        bytes: 300 * 1024,
    };
    let other = Id::new("lamp-1").unwrap();
    assert!(spool.check_share(&other, one).is_ok() && spool.check_share(&other, long).is_err());
    // Its share is free again once the ledger has its reports, also after a restart.
    spool.commit(vec![sign(spool.state())]).unwrap();
    let transaction = spool.state().in_flight().values().next().unwrap();
    let kept: Vec<u64> = transaction.items.keys().copied().skip(1).collect();
    let (transaction, kept_len) = (transaction.transaction, kept.len());
    spool
        .commit(vec![SpoolRecord::ResolvePart { transaction, kept }])
        .unwrap();
    assert_eq!(
        spool.state().share_of(&device).reports,
        DEVICE_REPORTS_MAX - 1
    );
    assert_eq!(spool.state().waiting().len(), DEVICE_REPORTS_MAX - 1);
    assert!(kept_len > 0);
    spool.compact().unwrap();
    let mut again = SpoolState::default();
    for record in spool.state().records() {
        again.apply(record).unwrap();
    }
    assert_eq!(&again, spool.state());
    let mut empty = spool;
    while !empty.state().waiting().is_empty() {
        empty.commit(vec![sign(empty.state())]).unwrap();
        empty.commit(vec![resolve(empty.state())]).unwrap();
    }
    assert_eq!(empty.state().share_of(&device), DeviceShare::default());
}

thread_local! {
    static DIRECTORY_BROKEN: Cell<bool> = const { Cell::new(false) };
}

fn sync_directory(file: &Path) -> io::Result<()> {
    if DIRECTORY_BROKEN.get() {
        return Err(error());
    }
    lamplighter_system::files::sync_parent(file)
}

/// The log as a restart finds it.
fn found(dir: &Path) -> Vec<u8> {
    std::fs::read(dir.join("log")).unwrap()
}

#[test]
fn after_a_rename_the_new_file_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = FileDisk::with_directory_sync(dir.path(), sync_directory).unwrap();
    disk.append(b"old").unwrap();
    disk.sync().unwrap();
    disk.write_replacement(b"new").unwrap();
    DIRECTORY_BROKEN.set(true);
    assert!(disk.install_replacement().is_err());
    assert!(disk.confirm().is_err(), "the directory is still not synced");
    DIRECTORY_BROKEN.set(false);
    disk.confirm().unwrap();
    disk.append(b"+").unwrap();
    disk.sync().unwrap();
    assert_eq!(found(dir.path()), b"new+");
    assert_eq!(disk.read().unwrap(), b"new+");
    // A rename that fails leaves the log.
    disk.write_replacement(b"lost").unwrap();
    std::fs::remove_file(dir.path().join("log.new")).unwrap();
    assert!(disk.install_replacement().is_err());
    disk.confirm().unwrap();
    disk.append(b"+").unwrap();
    assert_eq!(found(dir.path()), b"new++");
    // Neither of the two: somebody else has moved the log away.
    disk.write_replacement(b"newest").unwrap();
    std::fs::remove_file(dir.path().join("log.new")).unwrap();
    std::fs::write(dir.path().join("log.other"), b"other").unwrap();
    std::fs::rename(dir.path().join("log.other"), dir.path().join("log")).unwrap();
    assert!(disk.install_replacement().is_err());
    assert!(disk.confirm().is_err());
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
