use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use lamplighter_store::{
    Batch, Cf, Direction, Durability, KeyRange, Kv, KvView, MemoryKv, Scan, StoreError,
};
use lamplighter_types::{
    Action, Encoding, EventsAction, Fact, Genesis, GenesisAccount, Grant, Hash, Header, Outcome,
    Policies, Receipt, Role, Scope, SecretKey, SignedTransaction, Transaction, Validator,
    ValidatorSet,
};

use super::*;

/// Longest that any step may take; only a failing test gets there.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store that notes who reads the receipts of blocks, and can fail to.
struct Watched {
    kv: MemoryKv,
    readers: Mutex<Vec<ThreadId>>,
    reads: AtomicUsize,
    fails: AtomicBool,
}

impl KvView for Watched {
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

impl Kv for Watched {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
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
            grants: vec![Grant {
                role: Role::Administrator,
                scope: Scope::city(),
            }],
        }],
        policies: Policies::default(),
    }
}

/// A chain whose blocks are empty, except the one that has what it is given.
struct City {
    store: Arc<Watched>,
    chain: Arc<Chain>,
    feeds: Feeds,
}

impl City {
    fn new(blocking: Blocking, height: u64) -> Self {
        let store = Arc::new(Watched {
            kv: MemoryKv::new(),
            readers: Mutex::default(),
            reads: AtomicUsize::new(0),
            fails: AtomicBool::new(false),
        });
        let kv: Arc<dyn Kv> = store.clone();
        let mut head = crate::start::begin(&kv, &genesis()).unwrap();
        for height in 1..=height {
            head.header.height = height;
            put(&kv, &head.header, &[], &[]);
        }
        let chain = Arc::new(Chain::new(kv, genesis(), head).unwrap());
        let feeds = Feeds::new(chain.clone(), blocking);
        Self {
            store,
            chain,
            feeds,
        }
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

    fn outside(&self, after: Cursor, filter: Filter) -> Subscription {
        self.feeds.outside(Some(after), filter, 0).unwrap()
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
    let mut batch = Batch::new();
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

fn everything() -> Filter {
    Arc::new(|_| true)
}

fn nothing() -> Filter {
    Arc::new(|_| false)
}

async fn read_to(feed: &mut Subscription, height: u64) {
    while feed.cursor().height < height {
        let part = tokio::time::timeout(PATIENCE, feed.next()).await.unwrap();
        assert!(part.unwrap().unwrap().deliveries.is_empty());
    }
}

/// All work is on one thread, as on a machine with one processor: between two turns of another
/// task each reader has read one step at most, however long the chain is.
#[tokio::test]
async fn readers_of_a_long_chain_leave_others_their_turns() {
    const READERS: usize = 16;
    const HEIGHT: u64 = 20 * BLOCKS_PER_STEP;
    let city = Arc::new(City::new(Blocking::Inline, HEIGHT));
    let readers = (0..READERS).map(|_| {
        let city = city.clone();
        tokio::spawn(async move {
            let mut feed = city.outside(Cursor::end_of(0), nothing());
            read_to(&mut feed, HEIGHT).await;
        })
    });
    let mut readers = join_all(readers.collect::<Vec<_>>());
    let mut most = 0;
    while (&mut readers).now_or_never().is_none() {
        let before = city.reads();
        tokio::task::yield_now().await;
        most = most.max(city.reads() - before);
    }
    assert_eq!(city.reads(), READERS * HEIGHT as usize, "all was read");
    let bound = READERS * BLOCKS_PER_STEP as usize;
    assert!(most <= bound, "{most} blocks between two turns");
}

#[tokio::test]
async fn the_chain_is_not_read_on_the_async_threads() {
    let city = City::new(Blocking::Threads, 500);
    city.add(&["alice"], &[receipt(Hash::of(b"t"), 1)]);
    let mut feed = city.outside(Cursor::end_of(0), everything());
    while feed.next().await.unwrap().unwrap().deliveries.is_empty() {}
    let readers = city.store.readers.lock().unwrap();
    assert_eq!(readers.len(), 501);
    assert!(!readers.contains(&thread::current().id()));
}

/// However many readers from outside wait, the node's own subscriptions go on: they close the
/// connections of those whose key was revoked, and bring gateways their work.
#[tokio::test]
async fn readers_from_outside_take_turns_and_the_node_itself_does_not_wait() {
    let city = City::new(Blocking::Inline, 10);
    let all = city.feeds.turns.clone().acquire_many_owned(2).await;
    let mut outside = city.outside(Cursor::end_of(0), everything());
    let mut waiting = Box::pin(outside.next());
    let mut own = city.feeds.own(Some(Cursor::end_of(0)));
    let part = own.next().await.unwrap().unwrap();
    assert_eq!(part.cursor, Cursor::end_of(10));
    assert!((&mut waiting).now_or_never().is_none());
    tokio::task::yield_now().await;
    assert!((&mut waiting).now_or_never().is_none(), "no turn is free");
    drop(all);
    assert_eq!(waiting.await.unwrap().unwrap().cursor, Cursor::end_of(10));
}

#[tokio::test]
async fn other_long_reads_for_those_outside_take_the_same_turns() {
    let city = City::new(Blocking::Inline, 0);
    let all = city.feeds.turns.clone().acquire_many_owned(2).await;
    let mut waiting = Box::pin(city.feeds.read_in_turn(|| 7));
    assert!((&mut waiting).now_or_never().is_none());
    drop(all);
    assert_eq!(waiting.await, 7);
    let free = || city.feeds.turns.available_permits();
    let read = city.feeds.turns.clone();
    let during = city.feeds.read_in_turn(move || read.available_permits());
    assert_eq!((during.await, free()), (1, 2));
}

#[tokio::test]
async fn a_step_is_bounded_in_blocks_and_in_notifications() {
    let city = City::new(Blocking::Inline, 100);
    let mut feed = city.outside(Cursor::end_of(0), nothing());
    let part = feed.next().await.unwrap().unwrap();
    assert_eq!(part.cursor, Cursor::end_of(BLOCKS_PER_STEP));
    let part = feed.next().await.unwrap().unwrap();
    assert_eq!(part.cursor, Cursor::end_of(100));
    let many = NOTIFICATIONS_PER_STEP / 2 + 1;
    for _ in 0..3 {
        city.add(&["alice"], &[receipt(Hash::of(b"t"), many)]);
    }
    let part = feed.next().await.unwrap().unwrap();
    assert_eq!(part.cursor, Cursor::end_of(102), "two large blocks");
}

#[tokio::test]
async fn each_notification_names_its_author() {
    let city = City::new(Blocking::Inline, 0);
    let (first, second) = (Hash::of(b"1"), Hash::of(b"2"));
    let receipts = [
        receipt(first, 2),
        receipt(second, 1),
        receipt(Hash::ZERO, 1),
    ];
    city.add(&["alice", "bob"], &receipts);
    let mut feed = city.outside(Cursor::end_of(0), everything());
    let part = feed.next().await.unwrap().unwrap();
    let seen: Vec<_> = part
        .deliveries
        .iter()
        .map(|d| (d.cursor.index, d.author.as_ref().map(Id::as_str)))
        .collect();
    let expected = [
        (0, Some("alice")),
        (1, Some("alice")),
        (2, Some("bob")),
        (3, None),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_cursor_that_nobody_can_have_given_is_refused() {
    let city = City::new(Blocking::Inline, 10);
    let at = |height| Some(Cursor { height, index: 3 });
    let near = 10 + AHEAD_MAX;
    let mut waits = city.feeds.outside(at(near), everything(), 0).unwrap();
    assert!(waits.next().now_or_never().is_none());
    let refused = city.feeds.outside(at(near + 1), everything(), 0);
    let Err(CursorAhead { after, height }) = refused else {
        panic!("it is ahead");
    };
    assert_eq!((Some(after), height), (at(near + 1), 10));
    // This node is behind, and has been told so.
    assert!(city.feeds.outside(at(near + 1), everything(), 11).is_ok());
    assert!(city.feeds.outside(at(u64::MAX), everything(), 11).is_err());
}

#[tokio::test]
async fn a_read_that_fails_or_is_given_up_loses_nothing() {
    let city = City::new(Blocking::Inline, 0);
    city.add(&["alice"], &[receipt(Hash::of(b"t"), 1)]);
    let mut feed = city.feeds.own(Some(Cursor::end_of(0)));
    city.store.fails.store(true, Ordering::SeqCst);
    assert!(feed.next().await.is_err());
    city.store.fails.store(false, Ordering::SeqCst);
    assert!(feed.next().now_or_never().is_none(), "it yields first");
    assert_eq!(feed.next().await.unwrap().unwrap().deliveries.len(), 1);
    assert!(feed.next().now_or_never().is_none(), "and only once");
}
