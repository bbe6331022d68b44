use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use lamplighter_state::tree::Tree;
use lamplighter_store::{
    Cf, Direction, Durability, KeyRange, Kv, KvView, MemoryKv, Scan, StoreError, WriteBatch,
};
use lamplighter_types::{
    Action, Encoding, EventsAction, Fact, GENESIS_VERSION, Genesis, GenesisAccount, Grant, Hash,
    Header, Outcome, Place, Policies, Receipt, Role, Scope, SecretKey, SignedTransaction,
    Transaction, Validator, ValidatorSet,
};

use super::*;

/// Longest that any step may take; only a failing test gets there.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A store that records which threads read the receipts of blocks, and can fail to.
struct RecordingStore {
    kv: MemoryKv,
    readers: Mutex<Vec<ThreadId>>,
    reads: AtomicUsize,
    fails: AtomicBool,
}

impl KvView for RecordingStore {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.kv.get(cf, key)
    }

    fn scan(&self, cf: Cf, range: KeyRange, direction: Direction) -> Result<Scan<'_>, StoreError> {
        if cf == Cf::Receipts {
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.readers.lock().unwrap().push(thread::current().id());
            if self.fails.load(Ordering::SeqCst) {
                let broken = std::io::Error::other("broken");
                return Err(StoreError::io("read", "disk")(broken));
            }
        }
        self.kv.scan(cf, range, direction)
    }
}

impl Kv for RecordingStore {
    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StoreError> {
        self.kv.write(batch, durability)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.kv.sync()
    }

    fn view(&self) -> Result<Arc<dyn KvView>, StoreError> {
        self.kv.view()
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError> {
        self.kv.checkpoint(dir)
    }

    fn read_checkpoint(&self, dir: &Path) -> Result<Arc<dyn KvView>, StoreError> {
        self.kv.read_checkpoint(dir)
    }
}

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn genesis() -> Genesis {
    let key = SecretKey::from_seed([1; 32]).public();
    Genesis {
        version: GENESIS_VERSION,
        name: "Test City".into(),
        created_ms: 1_000,
        validators: ValidatorSet {
            validators: vec![Validator {
                node: 1,
                account: id("node-1"),
                key,
                address: "127.0.0.1:9001".into(),
            }],
        },
        organization: id("city"),
        accounts: vec![GenesisAccount {
            account: id("admin"),
            name: "Administrator".into(),
            key: SecretKey::from_seed([2; 32]).public(),
            grants: vec![Grant::founding(Role::Administrator, Scope::city())],
        }],
        policies: Policies::default(),
    }
}

/// A chain whose blocks are empty, except those that a test adds.
struct TestChain {
    store: Arc<RecordingStore>,
    chain: Arc<Chain>,
    feed: Feed,
}

impl TestChain {
    fn new(blocking: Blocking, height: u64) -> Self {
        let store = Arc::new(RecordingStore {
            kv: MemoryKv::new(),
            readers: Mutex::default(),
            reads: AtomicUsize::new(0),
            fails: AtomicBool::new(false),
        });
        let kv: Arc<dyn Kv> = store.clone();
        let mut head = crate::start::create_genesis_block(&kv, &genesis(), Tree::new()).unwrap();
        for height in 1..=height {
            head.header.height = height;
            put(&kv, &head.header, &[], &[]);
        }
        let chain = Arc::new(Chain::new(kv, genesis(), head).unwrap());
        let feed = Feed::new(chain.clone(), blocking);
        Self { store, chain, feed }
    }

    /// Adds a block.
    fn add(&self, senders: &[&str], receipts: &[Receipt]) {
        let add = |head: &mut crate::chain::Head| {
            head.header.height += 1;
            put(self.chain.kv(), &head.header, senders, receipts);
            Ok::<_, StateError>(())
        };
        self.chain.advance(add).unwrap();
    }

    fn follow(&self, after: Cursor, filter: NotificationFilter) -> Subscription {
        self.feed.follow(Some(after), filter, 0).unwrap()
    }

    fn reads(&self) -> usize {
        self.store.reads.load(Ordering::SeqCst)
    }
}

fn put(kv: &Arc<dyn Kv>, header: &Header, senders: &[&str], receipts: &[Receipt]) {
    let signed = (1..).zip(senders).map(|(sequence, sender)| {
        let transaction = Transaction {
            sender: id(sender),
            sequence,
            expires_ms: 2_000,
            action: Action::Events(EventsAction::Append { events: Vec::new() }),
        };
        let (chain, secret) = (Hash::ZERO, SecretKey::from_seed([9; 32]));
        let signed = SignedTransaction::sign(&transaction, Encoding::Json, &chain, &secret);
        Arc::new(signed.verify(&chain).unwrap())
    });
    let receipts: Vec<_> = receipts.iter().cloned().map(Arc::new).collect();
    let signed: Vec<_> = signed.collect();
    let mut batch = WriteBatch::new();
    tables::put_block(&mut batch, header, &signed, &receipts, &[]);
    kv.write(batch, Durability::Unsynced).unwrap();
}

fn receipt(transaction: Hash, count: usize) -> Receipt {
    let notification = Notification {
        place: None,
        fact: Fact::PoliciesSet,
    };
    Receipt {
        transaction,
        outcome: Outcome::Succeeded,
        notifications: vec![notification; count],
    }
}

fn everything() -> NotificationFilter {
    Arc::new(|_| true)
}

fn nothing() -> NotificationFilter {
    Arc::new(|_| false)
}

async fn all_turns(test: &TestChain) -> tokio::sync::OwnedSemaphorePermit {
    let all = long_reads_at_once() as u32;
    let reads = test.feed.turns.reads().clone();
    reads.acquire_many_owned(all).await.unwrap()
}

async fn read_to(feed: &mut Subscription, height: u64) {
    while feed.cursor().height < height {
        let step = tokio::time::timeout(TIMEOUT, feed.next()).await.unwrap();
        assert!(step.unwrap().unwrap().events.is_empty());
    }
}

/// All work is on one thread, as on a machine with one processor: between two turns of another
/// task each reader has read one step at most, however long the chain is.
#[tokio::test]
async fn readers_of_a_long_chain_let_other_tasks_run() {
    const READERS: usize = 16;
    const HEIGHT: u64 = 20 * BLOCKS_PER_STEP;
    let test = Arc::new(TestChain::new(Blocking::Inline, HEIGHT));
    let readers = (0..READERS).map(|_| {
        let test = test.clone();
        tokio::spawn(async move {
            let mut feed = test.follow(Cursor::end_of(0), nothing());
            read_to(&mut feed, HEIGHT).await;
        })
    });
    let mut readers = join_all(readers.collect::<Vec<_>>());
    let mut most = 0;
    while (&mut readers).now_or_never().is_none() {
        let before = test.reads();
        tokio::task::yield_now().await;
        most = most.max(test.reads() - before);
    }
    // The newest blocks are read once for all.
    let shared = (READERS - 1) * recent::BLOCKS_MAX;
    let expected = READERS * HEIGHT as usize - shared;
    assert_eq!(test.reads(), expected, "all was read");
    let bound = READERS * BLOCKS_PER_STEP as usize;
    assert!(most <= bound, "{most} blocks between two turns");
}

#[tokio::test]
async fn a_new_block_is_read_once_for_all_subscriptions() {
    let test = TestChain::new(Blocking::Inline, 0);
    test.add(&["alice"], &[receipt(Hash::of(b"t"), 3)]);
    let before = test.reads();
    for from in [
        Cursor::end_of(0),
        Cursor {
            height: 1,
            index: 1,
        },
    ] {
        let mut feeds = [
            test.feed.subscribe(Some(from)),
            test.feed.subscribe(Some(from)).matching(everything()),
            test.follow(from, everything()),
        ];
        for feed in &mut feeds {
            let step = feed.next().await.unwrap().unwrap();
            assert_eq!(step.cursor, Cursor::end_of(1));
            assert!(step.events.iter().all(|event| event.cursor > from));
            let expected = if from.height == 0 { 3 } else { 1 };
            assert_eq!(step.events.len(), expected);
        }
    }
    let mut none = test
        .feed
        .subscribe(Some(Cursor::end_of(0)))
        .matching(nothing());
    let step = none.next().await.unwrap().unwrap();
    assert!(step.events.is_empty() && step.cursor == Cursor::end_of(1));
    assert_eq!(test.reads() - before, 1);
}

#[tokio::test]
async fn the_chain_is_not_read_on_the_async_threads() {
    let test = TestChain::new(Blocking::Threads, 500);
    test.add(&["alice"], &[receipt(Hash::of(b"t"), 1)]);
    let mut feed = test.follow(Cursor::end_of(0), everything());
    while feed.next().await.unwrap().unwrap().events.is_empty() {}
    let readers = test.store.readers.lock().unwrap();
    assert_eq!(readers.len(), 501);
    assert!(!readers.contains(&thread::current().id()));
}

/// However many outside readers wait, the subscriptions of the node itself go on: they close the
/// connections of revoked keys, and send gateways their work.
#[tokio::test]
async fn outside_readers_wait_for_permits_and_the_node_itself_does_not() {
    let test = TestChain::new(Blocking::Inline, 10);
    let all = all_turns(&test).await;
    let mut outside = test.follow(Cursor::end_of(0), everything());
    let mut waiting = Box::pin(outside.next());
    let mut internal = test.feed.subscribe(Some(Cursor::end_of(0)));
    let step = internal.next().await.unwrap().unwrap();
    assert_eq!(step.cursor, Cursor::end_of(10));
    assert!((&mut waiting).now_or_never().is_none());
    tokio::task::yield_now().await;
    assert!((&mut waiting).now_or_never().is_none(), "no permit is free");
    drop(all);
    assert_eq!(waiting.await.unwrap().unwrap().cursor, Cursor::end_of(10));
}

#[tokio::test]
async fn other_long_reads_of_outside_readers_need_the_same_permits() {
    let test = TestChain::new(Blocking::Inline, 0);
    let all = all_turns(&test).await;
    let mut waiting = Box::pin(test.feed.read_in_turn(None, || 7));
    assert!((&mut waiting).now_or_never().is_none());
    drop(all);
    assert_eq!(waiting.await, 7);
    let free = || test.feed.turns.reads().available_permits();
    let read = test.feed.turns.reads().clone();
    let during = test
        .feed
        .read_in_turn(None, move || read.available_permits());
    let all = long_reads_at_once();
    assert_eq!((during.await, free()), (all - 1, all));
}

#[tokio::test]
async fn a_step_is_bounded_in_blocks_and_in_notifications() {
    let test = TestChain::new(Blocking::Inline, 100);
    let mut feed = test.follow(Cursor::end_of(0), nothing());
    let step = feed.next().await.unwrap().unwrap();
    assert_eq!(step.cursor, Cursor::end_of(BLOCKS_PER_STEP));
    let step = feed.next().await.unwrap().unwrap();
    assert_eq!(step.cursor, Cursor::end_of(100));
    let many = NOTIFICATIONS_PER_STEP / 2 + 1;
    for _ in 0..3 {
        test.add(&["alice"], &[receipt(Hash::of(b"t"), many)]);
    }
    let step = feed.next().await.unwrap().unwrap();
    assert_eq!(step.cursor, Cursor::end_of(102), "two large blocks");
}

#[tokio::test]
async fn each_notification_names_its_author() {
    let test = TestChain::new(Blocking::Inline, 0);
    let (first, second) = (Hash::of(b"1"), Hash::of(b"2"));
    let receipts = [
        receipt(first, 2),
        receipt(second, 1),
        receipt(Hash::ZERO, 1),
    ];
    test.add(&["alice", "bob"], &receipts);
    let mut feed = test.follow(Cursor::end_of(0), everything());
    let step = feed.next().await.unwrap().unwrap();
    let authors: Vec<_> = step
        .events
        .iter()
        .map(|d| (d.cursor.index, d.author.as_ref().map(Id::as_str)))
        .collect();
    let expected = [
        (0, Some("alice")),
        (1, Some("alice")),
        (2, Some("bob")),
        (3, None),
    ];
    assert_eq!(authors, expected);
}

#[tokio::test]
async fn a_cursor_ahead_of_every_node_is_refused() {
    let test = TestChain::new(Blocking::Inline, 10);
    let at = |height| Some(Cursor { height, index: 3 });
    let near = 10 + AHEAD_MAX;
    let mut waits = test.feed.follow(at(near), everything(), 0).unwrap();
    assert!(waits.next().now_or_never().is_none());
    let refused = test.feed.follow(at(near + 1), everything(), 0);
    let Err(CursorAhead { after, height }) = refused else {
        panic!("it is ahead");
    };
    assert_eq!((Some(after), height), (at(near + 1), 10));
    // A peer reported a higher block.
    assert!(test.feed.follow(at(near + 1), everything(), 11).is_ok());
    assert!(test.feed.follow(at(u64::MAX), everything(), 11).is_err());
}

#[tokio::test]
async fn a_read_that_fails_or_is_dropped_loses_nothing() {
    let test = TestChain::new(Blocking::Inline, 0);
    test.add(&["alice"], &[receipt(Hash::of(b"t"), 1)]);
    let mut feed = test.feed.subscribe(Some(Cursor::end_of(0)));
    test.store.fails.store(true, Ordering::SeqCst);
    assert!(feed.next().await.is_err());
    test.store.fails.store(false, Ordering::SeqCst);
    assert!(feed.next().now_or_never().is_none(), "it yields first");
    assert_eq!(feed.next().await.unwrap().unwrap().events.len(), 1);
    assert!(feed.next().now_or_never().is_none(), "and only once");
}

fn about(transaction: Hash, device: &str, district: &str, fact: Fact) -> Receipt {
    let place = Place {
        device: id(device),
        district: Scope::new(district).unwrap(),
        gateway: None,
    };
    Receipt {
        transaction,
        outcome: Outcome::Succeeded,
        notifications: vec![Notification {
            place: Some(place),
            fact,
        }],
    }
}

/// A filter by kind, device and district, with the keys under which the index has its blocks.
fn narrow(
    kind: Option<&str>,
    device: Option<&str>,
    district: Option<&str>,
) -> (NotificationFilter, Vec<Vec<FeedKey>>) {
    let (kind, device) = (kind.map(str::to_owned), device.map(id));
    let district = district.map(|district| Scope::new(district).unwrap());
    let keys = [
        kind.clone().map(FeedKey::Kind),
        device.clone().map(FeedKey::Device),
        district.clone().map(FeedKey::District),
    ];
    let filter = move |n: &Notification| {
        let place = n.place.as_ref();
        kind.as_ref().is_none_or(|kind| *kind == n.fact.kind())
            && device
                .as_ref()
                .is_none_or(|d| place.is_some_and(|p| p.device == *d))
            && district
                .as_ref()
                .is_none_or(|d| place.is_some_and(|p| d.covers(&p.district)))
    };
    let keys = keys.into_iter().flatten().map(|key| vec![key]);
    (Arc::new(filter), keys.collect())
}

async fn heights(feed: &mut Subscription, until: u64) -> Vec<u64> {
    let mut found = Vec::new();
    while feed.cursor() < Cursor::end_of(until) {
        let step = feed.next().await.unwrap().unwrap();
        found.extend(step.events.iter().map(|event| event.cursor.height));
    }
    found
}

/// Blocks of every kind, device and district, in an order that no filter has by itself.
fn varied(test: &TestChain, blocks: u64) {
    for number in 0..blocks {
        let device = format!("d{}", number % 7);
        let district = ["north", "north/harbour", "south", "northern"][(number % 4) as usize];
        let fact = match number % 3 {
            0 => Fact::DeviceRegistered,
            1 => Fact::DeviceResumed,
            _ => Fact::HardwareReleased,
        };
        test.add(
            &["alice"],
            &[about(Hash::of(b"t"), &device, district, fact)],
        );
    }
}

/// With and without the index each filter finds the same.
#[tokio::test]
async fn the_index_finds_what_reading_every_block_finds() {
    let test = TestChain::new(Blocking::Inline, 0);
    varied(&test, 300);
    let mut found_any = 0;
    for kind in [None, Some("device_resumed"), Some("no_such_kind")] {
        for device in [None, Some("d3"), Some("d33")] {
            for district in [None, Some("north"), Some("")] {
                let (filter, keys) = narrow(kind, device, district);
                let mut plain = test.follow(Cursor::end_of(0), filter.clone());
                let mut indexed = test.follow(Cursor::end_of(0), filter).indexed_by(keys);
                let plain = heights(&mut plain, 300).await;
                let indexed = heights(&mut indexed, 300).await;
                assert_eq!(plain, indexed, "{kind:?} {device:?} {district:?}");
                found_any += indexed.len();
            }
        }
    }
    assert!(found_any > 300, "{found_any}");
}

#[tokio::test]
async fn a_filter_that_matches_nothing_reads_no_block() {
    let test = TestChain::new(Blocking::Inline, 10_000);
    varied(&test, 20);
    for filter in [
        narrow(None, Some("missing"), None),
        narrow(Some("device_resumed"), Some("missing"), Some("north")),
    ] {
        let before = test.reads();
        let (filter, keys) = filter;
        let mut feed = test.follow(Cursor::end_of(0), filter).indexed_by(keys);
        let step = feed.next().await.unwrap().unwrap();
        assert_eq!(step.cursor, Cursor::end_of(10_020), "one step");
        assert_eq!(test.reads(), before);
    }
}

/// Two keys that are never in one block: the search goes from one to the other and finds nothing.
#[tokio::test]
async fn a_search_between_two_keys_is_bounded_by_its_step() {
    let test = TestChain::new(Blocking::Inline, 0);
    for number in 0..2_000 {
        let (device, fact) = match number % 2 {
            0 => ("even", Fact::DeviceRegistered),
            _ => ("odd", Fact::DeviceResumed),
        };
        test.add(&["alice"], &[about(Hash::of(b"t"), device, "north", fact)]);
    }
    let (filter, keys) = narrow(Some("device_registered"), Some("odd"), None);
    let mut feed = test.follow(Cursor::end_of(0), filter).indexed_by(keys);
    let step = feed.next().await.unwrap().unwrap();
    assert!(step.cursor < Cursor::end_of(1_000), "{}", step.cursor);
    assert_eq!(heights(&mut feed, 2_000).await, [0u64; 0]);
}

/// A store that is older than the index gets it when it is opened, also after a crash in between.
#[tokio::test]
async fn the_index_is_made_when_it_is_missing() {
    let test = TestChain::new(Blocking::Inline, 0);
    varied(&test, 50);
    let kv = test.chain.kv();
    let rows = || {
        let rows = kv.scan(Cf::Index, KeyRange::all(), Direction::Forward);
        rows.unwrap().map(Result::unwrap).collect::<Vec<_>>()
    };
    let complete = rows();
    for indexed_before in [None, Some(20u64)] {
        let mut batch = WriteBatch::new();
        // The rows of the index are those under `f`, its height is `n`.
        batch.delete_range(Cf::Index, KeyRange::prefix("f"));
        batch.delete_range(Cf::Index, KeyRange::prefix("n"));
        for height in 0..=indexed_before.unwrap_or(0) {
            if indexed_before.is_some() {
                tables::index_feed_block(&**kv, &mut batch, height).unwrap();
            }
        }
        kv.write(batch, Durability::Unsynced).unwrap();
        assert_ne!(rows(), complete);
        complete_index(&**kv, 50).unwrap();
        assert_eq!(rows(), complete);
    }
    let reads = test.reads();
    complete_index(&**kv, 50).unwrap();
    assert_eq!(test.reads(), reads, "nothing is read when it is complete");
}

/// An account with many readers has no more turns than one with a single reader.
#[tokio::test]
async fn accounts_read_alternately() {
    const HEIGHT: u64 = 10 * BLOCKS_PER_STEP;
    let test = Arc::new(TestChain::new(Blocking::Threads, HEIGHT));
    let all = all_turns(&test).await;
    let steps = Arc::new(AtomicUsize::new(0));
    let many = (0..100).map(|_| {
        let (test, steps) = (test.clone(), steps.clone());
        tokio::spawn(async move {
            let feed = test.follow(Cursor::end_of(0), nothing());
            let mut feed = feed.for_account(Some(&id("many")));
            while feed.cursor() < Cursor::end_of(HEIGHT) {
                feed.next().await.unwrap();
                steps.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    let many: Vec<_> = many.collect();
    tokio::task::yield_now().await;
    let one = test.follow(Cursor::end_of(0), nothing());
    let mut one = one.for_account(Some(&id("one")));
    drop(all);
    read_to(&mut one, HEIGHT).await;
    let of_many = steps.load(Ordering::SeqCst);
    // In the order of arrival each of its ten steps would wait for a hundred.
    assert!(of_many <= 200, "{of_many} of 1,000");
    for reader in many {
        reader.await.unwrap();
    }
}
