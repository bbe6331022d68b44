//! A gateway that lies to a Thing, and the Thing's own check.

use lamplighter_contracts::{devices, firmware, rollouts, users};
use lamplighter_types::proof::{PROOF_VERSION, SetChange, SetPath, TrustedSet};
use lamplighter_types::wire::work::{ProofSet, WorkItem};
use lamplighter_types::{
    ConfigTarget, DeploymentState, DeviceStatus, Hash, Id, ReleaseStatus, SecretKey, codec,
};

use super::{AGE_MAX, NOW_MS, World, id, mixed, moved_limit, work};
use crate::coap::Code;
use crate::lwm2m::order::{CONFLICT, ORDER_BYTES_MAX, OrderAction, OrderMessage, encode_changes};
use crate::verify::{
    LedgerPin, OrderClock, OrderProof, OrderRefusal, ProvenOrder, VerifiedDeployment, deployment,
    device,
};

const CLOCK: Option<OrderClock> = Some(OrderClock {
    now_ms: NOW_MS,
    age_max: AGE_MAX,
});

fn pin(world: &World) -> LedgerPin {
    LedgerPin::new((&world.genesis).into())
}

fn documents() -> WorkItem {
    WorkItem::Config {
        device: id("lamp-1"),
    }
}

fn offer() -> OrderAction {
    OrderAction::Offer {
        rollout: id("r1"),
        state: DeploymentState::Downloading,
    }
}

fn install() -> OrderAction {
    let rollout = id("r1");
    OrderAction::Install { rollout }
}

/// The order that an honest gateway makes of a message of work.
fn order(world: &World, action: OrderAction) -> OrderMessage {
    let item = match action {
        OrderAction::Configure => documents(),
        _ => work(),
    };
    let message = world.message(vec![item]);
    let state = super::prove(world, &message).unwrap();
    let proof = match action {
        OrderAction::Configure => {
            let (record, _) = device(&state, &id("lamp-1"), &id("gw")).unwrap();
            OrderProof::of_documents(&message.proofs, &record.unwrap())
        }
        _ => {
            let VerifiedDeployment::Open(assignment) =
                deployment(&state, &id("r1"), &id("lamp-1"), &id("gw"), NOW_MS).unwrap()
            else {
                panic!("it is open")
            };
            let vendor = &assignment.manifest.vendor;
            OrderProof::of_deployment(&message.proofs, &assignment.deployment, vendor)
        }
    };
    assert_eq!(proof.height, world.height);
    OrderMessage::from_bytes(&OrderMessage::encode_with(&action, &proof.proofs)).unwrap()
}

/// An order with whatever a lying gateway can prove.
fn lie(world: &World, action: OrderAction) -> OrderMessage {
    let proofs = world.message(vec![work(), documents()]).proofs;
    OrderMessage { action, proofs }
}

fn check(pin: &LedgerPin, order: &OrderMessage) -> Result<(ProvenOrder, LedgerPin), OrderRefusal> {
    pin.check(order, &id("lamp-1"), CLOCK)
}

/// The code and the name of a refusal.
fn refusal(pin: &LedgerPin, order: &OrderMessage) -> (Code, &'static str) {
    let refusal = check(pin, order).unwrap_err();
    (refusal.code(), refusal.name())
}

#[test]
fn orders_that_the_ledger_proves_are_taken() {
    let mut world = World::new();
    world.set_document(&ConfigTarget::Fleet, r#"{"dim":40}"#);
    let lamp = id("lamp-1");
    world.set_document(&ConfigTarget::Device { device: lamp }, r#"{"night":1}"#);
    let mut pin = pin(&world);
    for action in [offer(), install()] {
        let (proven, next) = check(&pin, &order(&world, action)).unwrap();
        let ProvenOrder::Deployment {
            rollout, release, ..
        } = proven
        else {
            panic!("a deployment")
        };
        assert_eq!(rollout, id("r1"));
        assert_eq!(release.verify().unwrap(), world.manifest);
        assert_eq!(next.taken_height, world.height);
        pin = next;
    }
    let (proven, _) = check(&pin, &order(&world, OrderAction::Configure)).unwrap();
    let document = r#"{"dim":40,"night":1}"#.to_owned();
    let hash = Hash::of(document.as_bytes());
    assert_eq!(proven, ProvenOrder::Configuration { document, hash });
    // A Thing without a clock goes by the heights alone.
    world.time_ms = 1;
    let proofs = world.message(vec![work()]).proofs;
    let action = offer();
    let old = OrderMessage { action, proofs };
    pin.check(&old, &id("lamp-1"), None).unwrap();
    assert_eq!(refusal(&pin, &old).1, "order.stale");
}

/// Changes of the ledger's records, each with the refusal that must follow.
#[test]
fn orders_that_the_ledger_does_not_have_are_refused() {
    type Change = (&'static str, fn(&mut World));
    fn deployment_is(world: &mut World, state: DeploymentState) {
        let key = rollouts::keys::deployment(&id("r1"), &id("lamp-1"));
        world.change(&key, |deployment| deployment.state = state);
    }
    fn release_is(world: &mut World, status: ReleaseStatus) {
        let key = firmware::keys::release(&id("fw-2"));
        world.change(&key, |release| release.status = status);
    }
    let table: [Change; 12] = [
        ("order.not_assigned", |w| {
            w.remove(&rollouts::keys::deployment(&id("r1"), &id("lamp-1")));
        }),
        ("order.not_open", |w| {
            deployment_is(w, DeploymentState::Cancelled)
        }),
        ("order.not_open", |w| {
            deployment_is(w, DeploymentState::Superseded)
        }),
        ("order.not_open", |w| {
            deployment_is(w, DeploymentState::Postponed)
        }),
        ("order.not_open", |w| {
            deployment_is(w, DeploymentState::WaitingConsent)
        }),
        ("order.not_released", |w| {
            release_is(w, ReleaseStatus::Signed)
        }),
        ("order.not_released", |w| {
            release_is(w, ReleaseStatus::Revoked)
        }),
        ("order.not_active", |w| {
            let key = devices::keys::device(&id("lamp-1"));
            w.change(&key, |device| device.status = DeviceStatus::Suspended);
        }),
        ("order.vendor", |w| {
            w.change(&users::keys::account(&id("acme")), |a| a.disabled = true);
        }),
        ("order.vendor", |w| {
            w.change(&users::keys::account(&id("acme")), |a| a.keys.clear());
        }),
        ("order.vendor", |w| {
            let stranger = SecretKey::from_seed([99; 32]);
            w.sign_release(&stranger);
        }),
        ("order.records", |w| {
            let key = firmware::keys::release(&id("fw-2"));
            w.change(&key, |release| release.signed.manifest.0[9] ^= 1);
        }),
    ];
    for (name, change) in table {
        let mut world = World::new();
        change(&mut world);
        for action in [offer(), install()] {
            let got = refusal(&pin(&world), &lie(&world, action));
            assert_eq!(got, (Code::FORBIDDEN, name));
        }
    }
}

#[test]
fn the_order_of_another_device_or_rollout_is_refused() {
    let world = World::new();
    let other = id("lamp-2");
    for action in [offer(), OrderAction::Configure] {
        let refusal = pin(&world).check(&order(&world, action), &other, CLOCK);
        let refusal = refusal.unwrap_err();
        // Its own record is not among what is proven.
        assert_eq!(
            (refusal.code(), refusal.name()),
            (Code::FORBIDDEN, "order.records")
        );
    }
    let rollout = id("r2");
    let unassigned = lie(&world, OrderAction::Install { rollout });
    assert_eq!(refusal(&pin(&world), &unassigned).1, "order.records");
}

#[test]
fn a_part_that_is_left_out_is_not_taken_as_absent() {
    let mut world = World::new();
    world.set_document(&ConfigTarget::Fleet, r#"{"dim":40}"#);
    for (action, item) in [(offer(), work()), (OrderAction::Configure, documents())] {
        let whole = order(&world, action);
        check(&pin(&world), &whole).unwrap();
        for left_out in 0..whole.proofs.records.len() {
            let mut part = whole.clone();
            part.proofs.records.remove(left_out);
            let got = refusal(&pin(&world), &part);
            assert_eq!(
                got,
                (Code::FORBIDDEN, "order.records"),
                "{item:?} {left_out}"
            );
        }
    }
}

#[test]
fn an_older_order_and_one_that_was_used_up_are_refused() {
    let mut world = World::new();
    world.set_document(&ConfigTarget::Fleet, r#"{"dim":40}"#);
    let configure = order(&world, OrderAction::Configure);
    let old_offer = order(&world, offer());
    world.set_document(&ConfigTarget::Fleet, r#"{"dim":90}"#);
    world.height += 1;
    let newer = order(&world, OrderAction::Configure);
    let (_, mut pin) = check(&pin(&world), &newer).unwrap();
    let outdated = (Code::PRECONDITION_FAILED, "order.older");
    assert_eq!(refusal(&pin, &configure), outdated);
    assert_eq!(refusal(&pin, &old_offer), outdated);
    // The same again changes nothing, as long as no deployment has ended.
    check(&pin, &newer).unwrap();
    let offered = order(&world, offer());
    check(&pin, &offered).unwrap();
    pin.deployment_ended();
    assert_eq!(refusal(&pin, &offered), outdated);
    // A newer head does not make an old record newer, and one new record among old ones is none.
    let mut mixed = offered.clone();
    world.height += 1;
    let fresh = order(&world, offer()).proofs;
    let head = mixed.proofs.heads.len() as u32;
    mixed.proofs.heads.extend(fresh.heads.clone());
    let mut record = fresh.records[0].clone();
    record.head = head;
    mixed.proofs.records[0] = record;
    assert_eq!(refusal(&pin, &mixed), SEVERAL_BLOCKS);
    check(&pin, &order(&world, offer())).unwrap();
}

#[test]
fn a_clock_refuses_old_and_future_orders() {
    let mut world = World::new();
    world.time_ms = NOW_MS - 301_000;
    let old = lie(&world, offer());
    let pin = pin(&world);
    let stale = (Code::PRECONDITION_FAILED, "order.stale");
    assert_eq!(refusal(&pin, &old), stale);
    world.time_ms = NOW_MS + 61_000;
    assert_eq!(refusal(&pin, &lie(&world, offer())).1, "order.future");
}

/// A gateway that flips any bit of an order gets nothing done by it.
#[test]
fn no_changed_order_does_anything_else() {
    let world = World::new();
    let good = order(&world, offer());
    let (expected, _) = check(&pin(&world), &good).unwrap();
    let bytes = good.to_bytes();
    let mut refused = 0;
    for at in 0..bytes.len() {
        for bit in [0x01, 0x80] {
            let mut bytes = bytes.clone();
            bytes[at] ^= bit;
            let Ok(changed) = OrderMessage::from_bytes(&bytes) else {
                continue;
            };
            match check(&pin(&world), &changed) {
                // The state from which the first report goes is the gateway's word.
                Ok((proven, _)) => assert_eq!(proven, expected, "at byte {at}"),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > bytes.len(), "{refused} of {}", 2 * bytes.len());
}

fn path(set_changes: Vec<SetChange>) -> SetPath {
    SetPath {
        version: PROOF_VERSION,
        set_changes,
        more: false,
    }
}

#[test]
fn replaced_validators_order_nothing_and_their_change_leads_on() {
    let mut world = World::new();
    let before = order(&world, offer());
    let mut pin = pin(&world);
    let first = world.replace_validators(50);
    let between = order_after(&world, &pin, std::slice::from_ref(&first));
    let second = world.replace_validators(60);
    let now = lie(&world, offer());
    // Without the changes nothing can be told; with them the pin moves, and never back.
    assert_eq!(refusal(&pin, &now), (CONFLICT, "order.validators"));
    pin = pin.follow(&path(vec![first.clone()])).unwrap();
    pin = pin
        .follow(&path(vec![first.clone(), second.clone()]))
        .unwrap();
    check(&pin, &now).unwrap();
    let trusted = pin.trusted.height;
    assert_eq!(
        pin.follow(&path(vec![first])).unwrap().trusted.height,
        trusted
    );
    for stale in [before, between] {
        let got = refusal(&pin, &stale);
        assert_eq!(got, (Code::PRECONDITION_FAILED, "order.proof"));
    }
    // Retired keys that sign a newer header.
    let mut retired = World::new();
    retired.height = world.height + 5;
    let forged = lie(&retired, offer());
    assert_eq!(refusal(&pin, &forged), (CONFLICT, "order.validators"));
    let forged_change = retired.replace_validators(70);
    pin.follow(&path(vec![forged_change])).unwrap_err();
    // An order that brings the changes itself moves the pin too.
    let old = LedgerPin::new((&world.genesis).into());
    let carried = order_after(&world, &old, &[second]);
    assert_eq!(refusal(&old, &carried), (CONFLICT, "order.validators"));
}

/// An order whose heads carry changes of the validators.
fn order_after(world: &World, pin: &LedgerPin, changes: &[SetChange]) -> OrderMessage {
    let mut order = lie(world, offer());
    for head in &mut order.proofs.heads {
        head.set_changes = changes.to_vec();
    }
    if let Ok((_, next)) = check(pin, &order) {
        assert_eq!(
            next.trusted.height,
            changes[changes.len() - 1].certified.header.height
        );
        assert_eq!(next.trusted.set, world.set);
    }
    order
}

#[test]
fn an_order_that_brings_its_changes_moves_the_pin() {
    let mut world = World::new();
    let before = pin(&world);
    let change = world.replace_validators(50);
    let carried = order_after(&world, &before, &[change]);
    let (_, after) = check(&before, &carried).unwrap();
    assert!(after.trusted.height > before.trusted.height);
    assert_eq!(after.trusted.set, world.set);
}

#[test]
fn changes_for_a_thing_fit_one_request() {
    let mut world = World::new();
    let changes: Vec<_> = (0..60).map(|n| world.replace_validators(100 + n)).collect();
    let bytes = encode_changes(path(changes.clone()));
    assert!(bytes.len() <= ORDER_BYTES_MAX);
    let sent: SetPath = codec::decode(&bytes).unwrap();
    assert!(sent.more && !sent.set_changes.is_empty());
    let pin = pin(&World::new()).follow(&sent).unwrap();
    let next: TrustedSet = pin.trusted;
    assert_eq!(
        next.height,
        sent.set_changes.last().unwrap().certified.header.height
    );
    // A whole list is sent as it is.
    let short = encode_changes(path(changes[..2].to_vec()));
    assert!(!codec::decode::<SetPath>(&short).unwrap().more);
}

/// The figures of docs/lwm2m.md: a city of a million devices, with paths as long as its tree has.
#[test]
fn an_order_is_as_long_as_is_documented() {
    let bytes = |validators: u8, action: OrderAction| {
        let mut world = World::with_validators(1, validators);
        for n in 0..4_000u32 {
            let device: Id = id(&format!("other-{n}"));
            world.set_document(&ConfigTarget::Device { device }, r#"{"dim":1}"#);
        }
        world.set_document(&ConfigTarget::Fleet, r#"{"dim":40}"#);
        let records = order(&world, action.clone()).proofs.records.len();
        let length = order(&world, action).to_bytes().len();
        // Eight more levels of the tree, of 32 bytes each, from 4,000 records to a million.
        length + records * 8 * 32
    };
    let figures = [4, 7].map(|validators| {
        [offer(), OrderAction::Configure].map(|action| bytes(validators, action))
    });
    assert_eq!(figures, [[4_338, 5_098], [4_530, 5_290]]);
}

#[test]
fn an_order_beyond_one_request_is_not_made() {
    let mut world = World::new();
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(16_000));
    let district = |name| ConfigTarget::District {
        district: lamplighter_types::Scope::new(name).unwrap(),
    };
    let model = "lamp".to_owned();
    let targets = [
        ConfigTarget::Fleet,
        ConfigTarget::Model { model },
        district("north"),
        district("north/harbour"),
    ];
    for target in &targets[..3] {
        world.set_document(target, &long);
    }
    check(&pin(&world), &order(&world, OrderAction::Configure)).unwrap();
    world.set_document(&targets[3], &long);
    let message = world.message(vec![documents()]);
    let state = super::prove(&world, &message).unwrap();
    let (record, _) = device(&state, &id("lamp-1"), &id("gw")).unwrap();
    let proof = OrderProof::of_documents(&message.proofs, &record.unwrap());
    assert!(proof.proofs.is_empty());
    let none = OrderMessage {
        action: OrderAction::Configure,
        proofs: ProofSet::default(),
    };
    assert_eq!(refusal(&pin(&world), &none).1, "order.records");
    assert!(OrderMessage::from_bytes(&vec![0; ORDER_BYTES_MAX + 1]).is_err());
}

const SEVERAL_BLOCKS: (Code, &str) = (Code::PRECONDITION_FAILED, "order.several_blocks");

/// One block moves a limit from the document of the fleet to that of the device. What each record
/// was before or after it makes up a configuration without a limit, which was never in force.
#[test]
fn documents_of_two_blocks_make_no_order() {
    let mut world = World::new();
    let (fleet, device) = moved_limit(&mut world, true);
    let before = order(&world, OrderAction::Configure);
    world.height += 1;
    moved_limit(&mut world, false);
    let after = order(&world, OrderAction::Configure);
    let (_, taken) = check(&pin(&world), &before).unwrap();
    let (_, newest) = check(&taken, &after).unwrap();
    for (from_before, name) in [(&device, "no limit"), (&fleet, "both limits")] {
        let proofs = mixed(&after.proofs, &before.proofs, from_before);
        let action = OrderAction::Configure;
        let order = OrderMessage { action, proofs };
        for pin in [&pin(&world), &taken, &newest] {
            assert_eq!(refusal(pin, &order), SEVERAL_BLOCKS, "{name}");
            let without_clock = pin.check(&order, &id("lamp-1"), None).unwrap_err();
            assert_eq!(without_clock.name(), SEVERAL_BLOCKS.1, "{name}");
        }
    }
}

#[test]
fn a_release_that_was_revoked_is_not_ordered_by_its_record_from_before() {
    let mut world = World::new();
    let before = order(&world, offer());
    world.height += 1;
    let release = firmware::keys::release(&id("fw-2"));
    world.change(&release, |release| release.status = ReleaseStatus::Revoked);
    let after = lie(&world, offer());
    assert_eq!(refusal(&pin(&world), &after).1, "order.not_released");
    let proofs = mixed(&after.proofs, &before.proofs, release.as_bytes());
    let action = offer();
    let order = OrderMessage { action, proofs };
    assert_eq!(refusal(&pin(&world), &order), SEVERAL_BLOCKS);
}
