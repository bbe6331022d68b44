use std::collections::BTreeSet;
use std::sync::Arc;

use lamplighter_contracts::{config, devices, events};
use lamplighter_state::{Overlay, tables};
use lamplighter_store::{Durability, Kv, MemoryKv, WriteBatch};
use lamplighter_types::record::{AlarmKind, ReportedConfig};
use lamplighter_types::{
    Account, AccountKind, DeviceAlarms, DeviceState, DeviceStatus, Fact, Grant, Hash, Header,
    Notification, Outcome, Receipt, Role, Scope, Tag, ValidatorSet,
};

use super::plan::Plan;
use super::*;
use crate::rights::Rights;

const HOUR: u64 = 3_600_000;
const NOW: u64 = 1_000_000 * HOUR;

fn id(text: impl AsRef<str>) -> Id {
    Id::new(text).unwrap()
}

/// The next number of a sequence that looks like chance.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    *seed >> 33
}

fn of<'a>(seed: &mut u64, all: &[&'a str]) -> &'a str {
    all[next(seed) as usize % all.len()]
}

const DISTRICTS: [&str; 4] = ["north", "north/harbour", "north/har", "south"];
const MODELS: [&str; 3] = ["Lamp", "Lamp X", "Meter"];

/// A store of devices that is written block by block, as a node does it.
struct Fleet {
    kv: Arc<MemoryKv>,
    height: u64,
    seed: u64,
}

impl Fleet {
    fn new() -> Self {
        Self {
            kv: Arc::new(MemoryKv::new()),
            height: 0,
            seed: 11,
        }
    }

    fn view(&self) -> View {
        View::new(self.kv.clone())
    }

    /// Writes a block that makes changes, and sees these devices.
    fn block(&mut self, time_ms: u64, seen: &[(Device, Fact)], change: impl FnOnce(&mut Overlay)) {
        let mut overlay = Overlay::new(self.view());
        change(&mut overlay);
        overlay.commit();
        let changes = overlay.into_changes();
        let notifications = seen
            .iter()
            .map(|(device, fact)| Notification::about_device(device, fact.clone()));
        let receipt = Receipt {
            transaction: Hash([1; 32]),
            outcome: Outcome::Succeeded,
            notifications: notifications.collect(),
        };
        let header = Header {
            version: 2,
            chain_id: Hash::ZERO,
            height: self.height,
            parent: Hash::ZERO,
            timestamp_ms: time_ms,
            tx_root: Hash::ZERO,
            receipt_root: Hash::ZERO,
            event_root: Hash::ZERO,
            state_root: Hash::ZERO,
            history_root: Hash::ZERO,
            validators_hash: ValidatorSet {
                validators: Vec::new(),
            }
            .hash(),
            batch: Hash::ZERO,
            position: Hash::ZERO,
        };
        let mut batch = WriteBatch::new();
        tables::put_device_terms(&mut batch, &*self.kv, &changes).unwrap();
        tables::put_changes(&mut batch, &changes);
        tables::put_block(&mut batch, &header, &[], &[Arc::new(receipt)], &[]);
        self.kv.write(batch, Durability::Unsynced).unwrap();
        self.height += 1;
    }

    fn device(&mut self, number: u64) -> Device {
        let seed = &mut self.seed;
        let gateway = of(seed, &["gw-1", "gw-2", ""]);
        let tag = Tag {
            name: "pole".to_owned(),
            value: of(seed, &["1", "2"]).to_owned(),
        };
        Device {
            device: id(format!("d-{number}")),
            owner: id(of(seed, &["city", "harbour"])),
            offered_to: None,
            model: of(seed, &MODELS).to_owned(),
            hardware_class: "class".to_owned(),
            district: of(seed, &DISTRICTS).parse().unwrap(),
            gateway: (!gateway.is_empty()).then(|| id(gateway)),
            key: None,
            tags: if next(seed).is_multiple_of(2) {
                vec![tag]
            } else {
                Vec::new()
            },
            status: match next(seed) % 4 {
                0 => DeviceStatus::Suspended,
                _ => DeviceStatus::Active,
            },
            registered_height: self.height,
        }
    }

    /// Registers devices, then changes some of them and sees some.
    fn fill(&mut self, count: u64) {
        for number in 0..count {
            let device = self.device(number);
            let seen = [(device.clone(), Fact::DeviceRegistered)];
            self.block(NOW - 50 * HOUR, &seen, |overlay| {
                put_device(overlay, &device)
            });
        }
        for _ in 0..3 * count {
            let number = next(&mut self.seed) % count;
            let mut device = devices::device(&self.view(), &id(format!("d-{number}")))
                .unwrap()
                .unwrap();
            let (time_ms, choice) = (NOW - next(&mut self.seed) % 40 * HOUR, next(&mut self.seed));
            let (release, kind) = (choice % 3, choice % 5);
            let name = device.device.clone();
            let fact = Fact::InventoryReported { digest: Hash::ZERO };
            match choice % 7 {
                0 | 1 => self.block(time_ms, &[(device, fact)], |overlay| {
                    overlay.put(&devices::keys::state(&name), &state(release));
                }),
                2 | 3 => self.block(time_ms, &[], |overlay| {
                    overlay.put(&events::keys::device_alarms(&name), &alarms(kind));
                }),
                4 => self.block(time_ms, &[(device, fact)], |overlay| {
                    let reported = reported(&name, release as u8);
                    overlay.put(&config::keys::reported(&name), &reported);
                }),
                // What an operator does comes not from the device.
                5 => self.block(
                    time_ms,
                    &[(device.clone(), Fact::DeviceTagged)],
                    |overlay| {
                        device.tags.clear();
                        overlay.put(&devices::keys::device(&name), &device);
                    },
                ),
                _ => self.block(time_ms, &[], |overlay| {
                    device.status = DeviceStatus::Decommissioned;
                    if let Some(gateway) = device.gateway.take() {
                        overlay.delete(&devices::keys::by_gateway(&gateway, &name));
                    }
                    overlay.put(&devices::keys::device(&name), &device);
                }),
            }
        }
    }
}

fn put_device(overlay: &mut Overlay, device: &Device) {
    let name = &device.device;
    overlay.put(&devices::keys::device(name), device);
    overlay.put(&devices::keys::by_owner(&device.owner, name), name);
    if let Some(gateway) = &device.gateway {
        overlay.put(&devices::keys::by_gateway(gateway, name), name);
    }
}

fn state(release: u64) -> DeviceState {
    DeviceState {
        version: Some(format!("1.{release}.0").parse().unwrap()),
        release: (release > 0).then(|| id(format!("r-{release}"))),
        digest: None,
        security_counter: 0,
        report_counter: 0,
        drifted: release == 2,
        active_rollout: None,
        confirmed: Vec::new(),
        key_rotations: 0,
    }
}

fn alarms(kind: u64) -> DeviceAlarms {
    let alarm = |active: bool| AlarmKind {
        kind: format!("alarm{kind}"),
        changed: 1,
        active: active.then_some(1),
    };
    DeviceAlarms {
        // The last kind was cleared.
        kinds: vec![alarm(kind != 4)],
        unacknowledged: Vec::new(),
    }
}

fn reported(device: &Id, document: u8) -> ReportedConfig {
    ReportedConfig {
        device: device.clone(),
        document: Hash([document; 32]),
        applied: document > 0,
        detail: String::new(),
        attested: false,
        height: 1,
    }
}

fn comparison(seed: &mut u64) -> String {
    let hash = Hash([1; 32]).to_string();
    let all = [
        "model==Lamp",
        "model=='Lamp X'",
        "model==Lamp*",
        "model!=Meter",
        "district==north",
        "district==north/harbour",
        "tag.pole==1",
        "tag.pole==none",
        "owner==harbour",
        "owner=in=(city,nobody)",
        "gateway==gw-1",
        "gateway==none",
        "gateway==NoId",
        "status==suspended",
        "status!=active",
        "status==active",
        "release==r-1",
        "release=out=(r-1,r-2)",
        "version==1.2.0",
        "version=gt=1.0.0",
        "drifted==true",
        "drifted==false",
        &format!("config=={hash}"),
        "config_applied==true",
        "alarm==alarm1",
        "alarm==*",
        "alarm==none",
        "last_seen=lt=-24h",
        "last_seen=ge=-3h",
        "device==d-17",
        "device==d-1*",
    ];
    of(seed, &all).to_owned()
}

fn filter(seed: &mut u64) -> String {
    let mut text = comparison(seed);
    for _ in 0..next(seed) % 4 {
        let part = comparison(seed);
        text = match next(seed) % 4 {
            0 => format!("{text},{part}"),
            1 => format!("({text}),({part})"),
            2 => format!("({text});{part}"),
            _ => format!("{text};{part}"),
        };
    }
    text
}

fn user(grants: &[&str], kind: AccountKind) -> Rights {
    let grant = |scope: &&str| Grant::founding(Role::Operator, scope.parse().unwrap());
    Rights::of(&Account {
        account: id("gw-1"),
        kind,
        organization: id("city"),
        name: String::new(),
        district: Scope::city(),
        keys: Vec::new(),
        grants: grants.iter().map(grant).collect(),
        disabled: false,
        registered_height: 0,
    })
}

/// All pages of a search, and the number of pages.
fn all(view: &View, rights: &Rights, filter: Option<&Filter>, limit: usize) -> Vec<Id> {
    let rights = rights.at(view);
    let search = Search {
        view,
        rights: &rights,
        filter,
        needs: Needs::default(),
        now_ms: NOW,
    };
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = search.page(after.as_ref(), limit).unwrap();
        assert!(page.items.len() <= limit);
        found.extend(page.items.into_iter().map(|found| found.device.device));
        match page.next {
            Some(next) => {
                assert!(
                    after.as_ref().is_none_or(|after| next > *after),
                    "it goes on"
                );
                after = Some(next);
            }
            None => return found,
        }
    }
}

/// What the filter and the rights choose, device by device, without any index.
fn one_by_one(view: &View, rights: &Rights, filter: Option<&Filter>) -> Vec<Id> {
    let rights = rights.at(view);
    let search = Search {
        view,
        rights: &rights,
        filter: None,
        needs: Needs::ALL,
        now_ms: NOW,
    };
    let ids = devices::devices(view, None, 10_000).unwrap();
    let ids: Vec<_> = ids.into_iter().map(|device| device.device).collect();
    let read = facts::read(&search, &ids).unwrap();
    let chosen = read.into_iter().filter(|found| {
        let matches = filter.is_none_or(|filter| filter.matches(&found.facts(NOW)));
        matches && rights.allows(&Record::Device(&found.device)).unwrap()
    });
    chosen.map(|found| found.device.device).collect()
}

#[test]
fn a_search_finds_what_looking_at_each_device_finds() {
    let mut fleet = Fleet::new();
    fleet.fill(120);
    let view = fleet.view();
    let everything = Rights::everything();
    let readers = [
        everything.clone(),
        user(&["north/harbour"], AccountKind::User),
        user(&["north", "south"], AccountKind::User),
        user(&[""], AccountKind::User),
        user(&[], AccountKind::User),
        user(&[], AccountKind::Gateway),
        user(&["south"], AccountKind::Gateway),
    ];
    let (mut sizes, mut seed) = (BTreeSet::new(), 3);
    for round in 0..400 {
        let text = filter(&mut seed);
        let parsed: Filter = text.parse().unwrap();
        let rights = &readers[round % readers.len()];
        let expected = one_by_one(&view, rights, Some(&parsed));
        for limit in [1, 7, 1_000] {
            let found = all(&view, rights, Some(&parsed), limit);
            assert_eq!(found, expected, "{text}, limit {limit}, reader {round}");
        }
        sizes.insert(expected.len());
    }
    assert!(sizes.len() > 20, "filters that differ: {sizes:?}");
    for rights in &readers {
        assert_eq!(all(&view, rights, None, 9), one_by_one(&view, rights, None));
    }
}

#[test]
fn a_page_that_finds_nothing_leads_on() {
    let mut fleet = Fleet::new();
    let mut last = None;
    let count = 2 * DEVICES_READ_MAX as u64 + 10;
    for number in 0..count {
        let mut device = fleet.device(number);
        device.device = id(format!("d-{number:05}"));
        device.model = "Lamp".to_owned();
        device.owner = id(if number + 1 == count {
            "harbour"
        } else {
            "city"
        });
        last = Some(device);
        let device = last.clone().unwrap();
        let seen = [(device.clone(), Fact::DeviceRegistered)];
        fleet.block(NOW, &seen, |overlay| put_device(overlay, &device));
    }
    let view = fleet.view();
    let rights = Rights::everything();
    let rights = rights.at(&view);
    // No index has it, so that all lamps are looked at.
    let filter: Filter = "model==Lamp;owner==har*".parse().unwrap();
    let search = Search {
        view: &view,
        rights: &rights,
        filter: Some(&filter),
        needs: Needs::default(),
        now_ms: NOW,
    };
    let first = search.page(None, 10).unwrap();
    assert!(first.items.is_empty(), "the only match is the last device");
    let (mut after, mut pages, mut found) = (first.next, 1, Vec::new());
    while let Some(next) = after {
        let page = search.page(Some(&next), 10).unwrap();
        found.extend(page.items.into_iter().map(|found| found.device));
        (after, pages) = (page.next, pages + 1);
    }
    assert_eq!(found, [last.unwrap()]);
    assert!((3..10).contains(&pages), "{pages} pages");
}

/// A fleet whose devices in the north and of the gateway are the same, whatever else there is.
fn fleet_with_others(others: bool) -> Fleet {
    let mut fleet = Fleet::new();
    // So many that pages end before they are full.
    let numbers: Vec<u64> = (0..DEVICES_READ_MAX as u64 + 700).collect();
    for numbers in numbers.chunks(500) {
        let mut seen = Vec::new();
        for number in numbers {
            let mut device = fleet.device(*number);
            device.device = id(format!("d-{number:05}"));
            device.district = of(&mut fleet.seed, &DISTRICTS[..3]).parse().unwrap();
            let mut other = device.clone();
            other.device = id(format!("d-{number:05}-other"));
            other.district = "south".parse().unwrap();
            other.gateway = Some(id("gw-2"));
            seen.push((device, Fact::DeviceRegistered));
            if others {
                seen.push((other, Fact::DeviceRegistered));
            }
        }
        fleet.block(NOW, &seen, |overlay| {
            seen.iter()
                .for_each(|(device, _)| put_device(overlay, device));
        });
    }
    fleet
}

/// The devices of each page with its `next`.
type Pages = Vec<(Vec<Id>, Option<Id>)>;

fn pages(mut page: impl FnMut(Option<&Id>) -> Found<Id>) -> Pages {
    let mut pages: Pages = Vec::new();
    loop {
        let after = pages.last().and_then(|(_, next)| next.clone());
        let Found { items, next } = page(after.as_ref());
        pages.push((items, next.clone()));
        if next.is_none() {
            return pages;
        }
    }
}

/// Neither what a page has, nor where it ends, nor how many pages there are depends on devices that
/// the reader may not read.
#[test]
fn devices_outside_of_a_readers_part_change_no_page() {
    let [alone, among_others] = [false, true].map(|others| fleet_with_others(others).view());
    let mut longest = 0;
    for rights in [
        user(&["north"], AccountKind::User),
        user(&["north/har"], AccountKind::User),
        user(&["north/harbour"], AccountKind::Gateway),
        user(&[], AccountKind::Gateway),
        user(&[], AccountKind::User),
    ] {
        for text in [
            "",
            "model==Lamp",
            "model==Lamp,model==Meter",
            "tag.pole==1;model==Meter;status!=active",
            "owner==none*",
            "last_seen=lt=-1h",
            "district==south",
            "district==south,owner==harbour",
            "gateway==gw-2",
            "device==d-00017-other",
            "device=in=(d-00017,d-00017-other);model!=x",
            "device==d-000*",
        ] {
            let filter: Option<Filter> = (!text.is_empty()).then(|| text.parse().unwrap());
            let [expected, found] = [&alone, &among_others].map(|view| {
                let rights = rights.at(view);
                let search = Search {
                    filter: filter.as_ref(),
                    ..Search::for_all(view, &rights, NOW)
                };
                let found = |Found { items, next }: Found<SearchedDevice>| Found {
                    items: items.into_iter().map(|found| found.device.device).collect(),
                    next,
                };
                let listed = pages(|after| found(search.page(after, 300).unwrap()));
                let records = pages(|after| {
                    let read = |ids: &[Id]| {
                        let some = |id: &Id| id.as_str().contains("7").then(|| id.clone());
                        Ok(ids.iter().map(some).map(Vec::from_iter).collect())
                    };
                    search.records(after, 300, read).unwrap()
                });
                [listed, records]
            });
            assert_eq!(found, expected, "{text}");
            longest = longest.max(found[0].len());
        }
    }
    assert!(longest > 2, "{longest} pages");
    // Terms that no device of the part has need no records, so that one page looks at all rows.
    let rights = user(&["north"], AccountKind::User);
    for (text, count) in [
        ("model==None", 1),
        ("owner!=x;model==None", 1),
        ("model==None*", 2),
        ("model==None,model==None2", 2),
    ] {
        let filter: Filter = text.parse().unwrap();
        let rights = rights.at(&among_others);
        let search = Search {
            filter: Some(&filter),
            ..Search::for_all(&among_others, &rights, NOW)
        };
        let pages = pages(|after| Found {
            next: search.page(after, 300).unwrap().next,
            items: Vec::new(),
        });
        assert_eq!(pages.len(), count, "{text}");
    }
}

/// Rows that the index alone decides about are small, and not without bound.
#[test]
fn a_page_looks_at_so_many_rows() {
    const ROWS: usize = 20_000;
    let mut fleet = Fleet::new();
    let numbers: Vec<usize> = (0..2 * ROWS + 10).collect();
    for numbers in numbers.chunks(5_000) {
        let device = fleet.device(0);
        let seen = numbers.iter().map(|number| {
            let mut device = device.clone();
            device.device = id(format!("d-{number:06}"));
            (device, Fact::DeviceRegistered)
        });
        let seen: Vec<_> = seen.collect();
        fleet.block(NOW, &seen, |_| ());
    }
    let view = fleet.view();
    let rights = Rights::everything();
    let rights = rights.at(&view);
    let filter: Filter = "last_seen=lt=-1h".parse().unwrap();
    let search = Search {
        filter: Some(&filter),
        ..Search::for_all(&view, &rights, NOW)
    };
    let mut after = None;
    for end in [ROWS, 2 * ROWS] {
        let page = search.page(after.as_ref(), 1_000).unwrap();
        assert_eq!(page.next, Some(id(format!("d-{:06}", end - 1))));
        after = page.next;
    }
    assert_eq!(search.page(after.as_ref(), 1_000).unwrap().next, None);
}

#[test]
fn the_term_with_the_fewest_devices_is_looked_at() {
    let mut fleet = Fleet::new();
    for number in 0..30 {
        let mut device = fleet.device(number);
        device.model = "Lamp".to_owned();
        device.status = DeviceStatus::Active;
        device.tags = vec![Tag {
            name: "pole".to_owned(),
            value: (number / 10).to_string(),
        }];
        let seen = [(device.clone(), Fact::DeviceRegistered)];
        fleet.block(NOW, &seen, |overlay| put_device(overlay, &device));
    }
    let view = fleet.view();
    let (rights, north) = (
        Rights::everything(),
        user(&["north/harbour"], AccountKind::User),
    );
    let plan = |rights: &Rights, text: &str| {
        let filter: Filter = text.parse().unwrap();
        let rights = rights.at(&view);
        let search = Search {
            view: &view,
            rights: &rights,
            filter: Some(&filter),
            needs: Needs::default(),
            now_ms: NOW,
        };
        Plan::of(&search, rights.device_filter().as_ref(), None).unwrap()
    };
    let tag = |value: &str| Plan::Term(tables::DeviceTerm::Tag("pole".into(), value.into()));
    assert_eq!(plan(&rights, "model==Lamp;tag.pole==1"), tag("1"));
    assert_eq!(plan(&rights, "tag.pole==1;model==Lamp"), tag("1"));
    assert_eq!(
        plan(&rights, "model==Lamp;tag.pole==9;tag.pole==1"),
        tag("9")
    );
    let both = Plan::Union(vec![tag("1"), tag("2")]);
    assert_eq!(plan(&rights, "model==Lamp;tag.pole=in=(1,2)"), both);
    // One side of an `or` has no index: all devices have to be looked at.
    assert_eq!(plan(&rights, "tag.pole==1,owner!=city"), Plan::All);
    assert!(matches!(plan(&rights, "last_seen=lt=-1h"), Plan::Seen(_)));
    assert_eq!(plan(&rights, "last_seen=lt=-1h;tag.pole==1"), tag("1"));
    let district = tables::DeviceTerm::District("north/harbour".parse().unwrap());
    let of_reader = Plan::Union(vec![Plan::Term(district)]);
    assert_eq!(plan(&north, "last_seen=lt=-1h"), of_reader);
    // However few devices of the city have the tag.
    assert_eq!(plan(&north, "tag.pole==9"), of_reader);
    // A device that is named is found at once, if it is one of the reader's.
    assert_eq!(
        plan(&north, "model==Lamp;device==d-1"),
        Plan::One(id("d-1"))
    );
    let named = Plan::Union(vec![Plan::One(id("d-1")), Plan::One(id("d-2"))]);
    assert_eq!(plan(&north, "device=in=(d-1,d-2)"), named);
    assert_eq!(plan(&north, "device==d-1,model==Lamp"), of_reader);
    // An operator of the whole city has the quickest way.
    let city = user(&[""], AccountKind::User);
    assert_eq!(plan(&city, "model==Lamp;tag.pole==1"), tag("1"));
}
