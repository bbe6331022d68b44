use lamplighter_contracts::ContractError;
use lamplighter_contracts::devices::DevicesError;
use lamplighter_types::{
    Action, AlarmChange, ConfigReport, DeploymentReport, DeploymentState, DeviceEvent,
    DeviceStatus, Encoding, EventsAction, Fact, Hash, Id, Notification, Outcome, Place, Receipt,
    RolloutsAction, Scope, SecretKey, Severity, SignedTransaction, Transaction,
};

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::held::{HELD_MAX, Held};
use super::link::renew_after;
use super::outbox::{self, Batch, FLIGHTS_MAX, Landing, Settled};
use crate::spool::{BATCH_ITEMS_MAX, Flight, Outgoing, Record, State};

fn next_batch(state: &State) -> Option<Batch> {
    outbox::next_batch(state, &Held::default(), Instant::now())
}

fn land(flight: &Flight, receipt: &Receipt) -> Landing {
    let state = State::default();
    outbox::land(
        flight,
        receipt,
        &state,
        &mut Held::default(),
        Instant::now(),
    )
}

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn event(device: &str, sequence: u64) -> Outgoing {
    Outgoing::Event(DeviceEvent {
        device: id(device),
        sequence,
        time_ms: 1,
        kind: "x-test".to_owned(),
        severity: Severity::Minor,
        alarm: AlarmChange::None,
        data: String::new(),
        signature: None,
    })
}

fn step(device: &str, to: DeploymentState, counter: u64) -> Outgoing {
    Outgoing::Deployment(DeploymentReport {
        rollout: id("r1"),
        device: id(device),
        from: DeploymentState::Assigned,
        to,
        code: 0,
        digest: None,
        seen_height: 1,
        counter,
        detail: String::new(),
        signature: None,
    })
}

fn config(device: &str, counter: u64) -> Outgoing {
    Outgoing::Config(ConfigReport {
        device: id(device),
        document: Hash::ZERO,
        applied: true,
        detail: String::new(),
        counter,
        signature: None,
    })
}

fn with(all: impl IntoIterator<Item = Outgoing>) -> State {
    let mut state = State::default();
    for (outgoing, number) in all.into_iter().zip(1..) {
        let outgoing = Box::new(outgoing);
        state
            .apply(Record::Add {
                number,
                batch_max: BATCH_ITEMS_MAX,
                outgoing,
            })
            .unwrap();
    }
    state
}

/// Signs the next batch; gives the numbers in it and the transaction.
fn take_off(state: &mut State) -> Option<(Vec<u64>, Hash)> {
    let batch = next_batch(state)?;
    Some(sign(state, batch))
}

fn sign(state: &mut State, batch: Batch) -> (Vec<u64>, Hash) {
    let (chain, secret) = (Hash::of(b"chain"), SecretKey::from_seed([1; 32]));
    let sequence = state.sequence() + 1;
    let content = Transaction {
        sender: id("gw"),
        sequence,
        expires_ms: 1,
        action: batch.action,
    };
    let envelope = SignedTransaction::sign(&content, Encoding::Bincode, &chain, &secret);
    let (transaction, items) = (envelope.hash(&chain), batch.items.clone());
    let envelope = Box::new(envelope);
    state
        .apply(Record::Sign {
            sequence,
            items,
            transaction,
            envelope,
        })
        .unwrap();
    (batch.items, transaction)
}

fn receipt(transaction: Hash, outcome: Outcome) -> Receipt {
    Receipt {
        transaction,
        outcome,
        notifications: Vec::new(),
    }
}

fn failed(transaction: Hash) -> Receipt {
    let (code, message) = ("events.sequence_used".to_owned(), "used".to_owned());
    receipt(transaction, Outcome::Failed { code, message })
}

#[test]
fn reports_of_one_device_go_out_in_their_order() {
    use DeploymentState::{Downloaded, Downloading, Offered};
    let all = [
        step("a", Offered, 1),
        step("a", Downloading, 2),
        config("a", 3),
        step("b", Offered, 1),
        step("a", Downloaded, 4),
        event("a", 1),
    ];
    let mut state = with(all);
    // What follows the configuration of `a` waits behind it, other devices do not, nor do events.
    let (first, transaction) = take_off(&mut state).unwrap();
    assert_eq!(first, [1, 2, 4]);
    assert_eq!(take_off(&mut state).unwrap().0, [6]);
    assert_eq!(take_off(&mut state), None);
    let flight = state.flight(&transaction).unwrap();
    let landing = land(flight, &receipt(transaction, Outcome::Succeeded));
    assert_eq!(landing.settled.len(), 3);
    state.apply(landing.record).unwrap();
    assert_eq!(take_off(&mut state).unwrap().0, [3]);
    assert_eq!(take_off(&mut state), None);
}

#[test]
fn a_bad_event_is_found_by_halving() {
    let mut state = with((1..=100).map(|n| event(&format!("lamp-{n}"), 1)));
    let (mut refused, mut taken, mut rounds) = (Vec::new(), 0, 0);
    while let Some((items, transaction)) = take_off(&mut state) {
        rounds += 1;
        let answer = match items.contains(&37) {
            true => failed(transaction),
            false => receipt(transaction, Outcome::Succeeded),
        };
        let landing = land(state.flight(&transaction).unwrap(), &answer);
        state.apply(landing.record).unwrap();
        for done in landing.settled {
            match done.refused {
                Some((code, _)) => refused.push((done.outgoing, code)),
                None => taken += 1,
            }
        }
    }
    assert_eq!(
        refused,
        [(event("lamp-37", 1), "events.sequence_used".to_owned())]
    );
    assert_eq!(taken, 99);
    assert!(rounds < 20, "{rounds} transactions");
}

/// A ledger that refuses what certain devices say, and the spool before it.
struct Bench {
    state: State,
    held: Held,
    now: Instant,
    out: BTreeMap<Id, DevicesError>,
    taken: Vec<Outgoing>,
    buried: Vec<Outgoing>,
    tries: usize,
}

impl Bench {
    fn new(all: impl IntoIterator<Item = Outgoing>) -> Self {
        Self {
            state: with(all),
            held: Held::default(),
            now: Instant::now(),
            out: BTreeMap::new(),
            taken: Vec::new(),
            buried: Vec::new(),
            tries: 0,
        }
    }

    /// Sends all that can be sent after this time.
    fn after(&mut self, pause: Duration) {
        self.now += pause;
        while let Some(batch) = outbox::next_batch(&self.state, &self.held, self.now) {
            let (_, transaction) = sign(&mut self.state, batch);
            let flight = self.state.flight(&transaction).unwrap();
            let mut devices = flight.items.values().map(|item| item.outgoing.device());
            let outcome = match devices.find_map(|device| self.out.get(device)) {
                Some(error) => Outcome::Failed {
                    code: error.code().to_owned(),
                    message: error.to_string(),
                },
                None => Outcome::Succeeded,
            };
            self.tries += 1;
            let answer = receipt(transaction, outcome);
            let Landing { record, settled } =
                outbox::land(flight, &answer, &self.state, &mut self.held, self.now);
            self.state.apply(record).unwrap();
            self.held.settled(&settled, &self.state);
            for Settled { outgoing, refused } in settled {
                match refused {
                    Some(_) => self.buried.push(outgoing),
                    None => self.taken.push(outgoing),
                }
            }
        }
    }
}

fn suspended(device: &str) -> DevicesError {
    let (device, status) = (id(device), DeviceStatus::Suspended);
    DevicesError::WrongStatus { device, status }
}

fn elsewhere(device: &str) -> DevicesError {
    let (device, account) = (id(device), id("gw"));
    DevicesError::NotYourDevice { device, account }
}

#[test]
fn what_is_refused_for_what_passes_is_kept_and_holds_no_other_up() {
    for error in [suspended("a"), elsewhere("a")] {
        let mut bench = Bench::new([event("a", 1), event("b", 1), event("a", 2), config("a", 1)]);
        bench.out.insert(id("a"), error);
        bench.after(Duration::ZERO);
        assert_eq!(bench.taken, [event("b", 1)]);
        assert!(bench.held.holds(&event("a", 3)) && bench.held.holds(&config("a", 2)));
        assert!(!bench.held.holds(&event("b", 2)));
        let tries = bench.tries;
        bench.after(Duration::from_secs(4));
        assert_eq!(bench.tries, tries, "not at once");
        for _ in 0..60 {
            bench.after(Duration::from_secs(60));
        }
        let tries = bench.tries - tries;
        assert!((4..40).contains(&tries), "{tries} in an hour");
        bench.out.clear();
        bench.held.hurry(&id("a"), bench.now);
        bench.after(Duration::ZERO);
        let events: Vec<_> = bench.taken.iter().filter(|o| o.is_event()).collect();
        assert_eq!(events, [&event("b", 1), &event("a", 1), &event("a", 2)]);
        assert_eq!((bench.taken.len(), bench.buried.len()), (4, 0));
        assert!(!bench.held.holds(&event("a", 3)) && !bench.held.holds(&config("a", 2)));
    }
}

#[test]
fn what_does_not_pass_is_given_up_after_a_day() {
    let mut bench = Bench::new([event("a", 1), event("a", 2)]);
    bench.out.insert(id("a"), suspended("a"));
    bench.after(Duration::ZERO);
    bench.after(HELD_MAX - Duration::from_secs(1));
    assert_eq!(bench.buried, []);
    bench.after(Duration::from_secs(601));
    assert_eq!(bench.buried, [event("a", 1), event("a", 2)]);
    assert!(!bench.held.holds(&event("a", 3)));
    // What can't pass is not kept at all.
    let mut bench = Bench::new([event("a", 1)]);
    bench
        .out
        .insert(id("a"), DevicesError::UnknownDevice(id("a")));
    bench.after(Duration::ZERO);
    assert_eq!(bench.buried, [event("a", 1)]);
}

#[test]
fn a_refused_report_of_a_batch_is_told_from_the_others() {
    let mut state = with([
        step("a", DeploymentState::Offered, 1),
        step("b", DeploymentState::Offered, 1),
    ]);
    let (_, transaction) = take_off(&mut state).unwrap();
    let mut answer = receipt(transaction, Outcome::Succeeded);
    answer.notifications.push(Notification {
        place: Some(Place {
            device: id("b"),
            district: Scope::city(),
            gateway: None,
        }),
        fact: Fact::ReportRefused {
            rollout: id("r1"),
            to: DeploymentState::Offered,
            counter: 1,
            code: "rollouts.stale".to_owned(),
        },
    });
    let landing = land(state.flight(&transaction).unwrap(), &answer);
    let refused: Vec<_> = landing
        .settled
        .iter()
        .map(|s| s.refused.is_some())
        .collect();
    assert_eq!(refused, [false, true]);
}

#[test]
fn transactions_are_bounded_in_number_and_size() {
    let mut state = with((0..20_000).map(|n| event(&format!("lamp-{n}"), 1)));
    for _ in 0..FLIGHTS_MAX {
        assert_eq!(
            take_off(&mut state).unwrap().0.len(),
            BATCH_ITEMS_MAX as usize
        );
    }
    assert_eq!(take_off(&mut state), None);
    let long = |n: u64| {
        let Outgoing::Event(mut event) = event(&format!("lamp-{n}"), 1) else {
            unreachable!()
        };
        event.data = "d".repeat(1_024);
        Outgoing::Event(event)
    };
    let batch = next_batch(&with((0..100).map(long))).unwrap();
    let Action::Events(EventsAction::Append { events }) = batch.action else {
        unreachable!()
    };
    assert!(events.len() < 100 && events.len() > 40, "{}", events.len());
}

#[test]
fn kinds_become_their_actions() {
    let action = |outgoing| next_batch(&with([outgoing])).unwrap().action;
    let reported = action(step("a", DeploymentState::Offered, 1));
    assert!(matches!(
        reported,
        Action::Rollouts(RolloutsAction::Report { .. })
    ));
    assert!(matches!(action(config("a", 1)), Action::Config(_)));
    assert!(matches!(action(event("a", 1)), Action::Events(_)));
    assert_eq!(next_batch(&State::default()), None);
}

#[test]
fn a_connection_is_made_anew_before_its_token_ends() {
    let minutes = |count: u64| count * 60_000;
    assert_eq!(
        renew_after(minutes(100 + 15), minutes(100)),
        Some(Duration::from_secs(14 * 60))
    );
    // A gateway whose clock is ahead, or a node that lies, must not make it connect without end.
    assert_eq!(renew_after(minutes(100) + 5, minutes(100)), None);
    assert_eq!(renew_after(minutes(100), minutes(102)), None);
    assert_eq!(renew_after(0, u64::MAX), None);
}
