//! Random rollouts in groups, watched by an oracle that knows only the plan, the deployments and
//! what people did: it counts and decides for itself.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_contracts::rollouts::{self, keys};
use lamplighter_contracts::{Reader, devices};
use lamplighter_types::*;
use proptest::prelude::*;

use crate::city::{ActResult, City, HOUR_MS, NORTH, canaries, grouped, id, lamp as new_lamp};

use DeploymentState::{Assigned, Confirmed, Failed, NotNeeded, Rejected, TimedOut};
use RolloutStatus::{
    Approved, Finished, Paused, PausedByErrors, PendingApproval, Running, Stopped, Stopping,
};

/// Devices at the start; as many more are registered in between.
const FLEET: usize = 8;
const MINUTE_MS: u64 = 60_000;

fn lamp(number: usize) -> String {
    format!("lamp-{number}")
}

fn ring(value: usize) -> Selection {
    Selection::Filter {
        district: Scope::city(),
        model: None,
        hardware_class: None,
        tag: Some(format!("ring={value}")),
    }
}

fn members() -> impl Strategy<Value = GroupMembers> {
    prop_oneof![
        3 => prop::collection::btree_set(0..FLEET, 1..4).prop_map(|lamps| {
            let names: Vec<_> = lamps.into_iter().map(lamp).collect();
            canaries(&names.iter().map(String::as_str).collect::<Vec<_>>())
        }),
        1 => (0..2usize).prop_map(|value| GroupMembers::Selected { selection: ring(value) }),
        2 => (1..5u32).prop_map(|count| GroupMembers::Count { count }),
        2 => (5..26u8).prop_map(|percent| GroupMembers::Percent { percent }),
    ]
}

fn group() -> impl Strategy<Value = Group> {
    let percent = prop_oneof![1 => Just(100), 2 => 1..101u8];
    let gate = (percent, 1..3u32, 0..4u64, prop::bool::weighted(0.25));
    (members(), gate).prop_map(|(members, (percent, sample, halves, by_hand))| Group {
        members,
        gate: GroupGate {
            success_percent_min: percent,
            sample_min: sample,
            soak_ms: halves * HOUR_MS / 2,
            next_by_hand: by_hand,
        },
    })
}

fn plan() -> impl Strategy<Value = GroupedPlan> {
    let groups = (
        prop::collection::vec(group(), 1..5),
        any::<bool>(),
        any::<bool>(),
    );
    let percent = || prop_oneof![4 => Just(100), 1 => Just(0), 2 => 20..70u8];
    let limits = (
        prop::option::weighted(0.2, 0..4u32),
        prop::option::weighted(0.2, percent()),
    );
    let errors = (percent(), 1..5u32, 0..2u8);
    let stop = prop::option::weighted(0.3, 1..60u64);
    (groups, limits, errors, any::<bool>(), stop).prop_map(
        |((mut groups, rest, lenient), limits, errors, continuous, stop)| {
            let last = groups.last_mut().expect("there is one at least");
            last.gate.next_by_hand = false;
            if rest {
                last.members = GroupMembers::Rest;
            }
            if lenient {
                (last.gate.success_percent_min, last.gate.sample_min) = (0, 0);
            }
            let mut plan = grouped("x", groups);
            (plan.limits.error_count_max, plan.limits.silence_percent_max) = limits;
            (
                plan.base.error_percent_max,
                plan.base.error_sample_min,
                plan.base.retries_max,
            ) = errors;
            plan.retry.backoff_ms = 10 * MINUTE_MS;
            plan.continuous = continuous;
            // The city begins at the first day of 1970.
            plan.stop_ms = stop.map(|hours| hours * HOUR_MS);
            plan
        },
    )
}

#[derive(Clone, Debug)]
enum Deed {
    /// One of the devices at work goes on until its deployment ends so, or as many steps.
    Report {
        at: usize,
        end: DeploymentState,
        steps: usize,
    },
    Wait {
        minutes: u64,
    },
    Start,
    Pause,
    Resume,
    Cancel,
    Open {
        group: u32,
    },
    Approve {
        who: usize,
    },
    /// Approves the plan as it was before it was replaced.
    ApproveFormer,
    Amend {
        plan: Box<GroupedPlan>,
    },
    Register {
        number: usize,
    },
    Retag {
        lamp: usize,
        ring: usize,
    },
    Suspend {
        lamp: usize,
    },
    Serve {
        lamp: usize,
    },
}

fn deed() -> impl Strategy<Value = Deed> {
    let number = || 0..2 * FLEET;
    let end = prop_oneof![
        12 => Just(Confirmed),
        2 => Just(Failed),
        1 => Just(Rejected),
        1 => Just(NotNeeded),
    ];
    prop_oneof![
        30 => (0..FLEET, end, prop_oneof![3 => Just(9usize), 1 => 1..9usize])
            .prop_map(|(at, end, steps)| Deed::Report { at, end, steps }),
        12 => (0..130u64).prop_map(|minutes| Deed::Wait { minutes }),
        3 => Just(Deed::Start),
        2 => Just(Deed::Pause),
        5 => Just(Deed::Resume),
        3 => (1..4u32).prop_map(|group| Deed::Open { group }),
        6 => (0..2usize).prop_map(|who| Deed::Approve { who }),
        1 => Just(Deed::ApproveFormer),
        1 => plan().prop_map(|plan| Deed::Amend { plan: Box::new(plan) }),
        2 => (FLEET..2 * FLEET).prop_map(|number| Deed::Register { number }),
        1 => (number(), 0..2usize).prop_map(|(lamp, ring)| Deed::Retag { lamp, ring }),
        1 => number().prop_map(|lamp| Deed::Suspend { lamp }),
        1 => number().prop_map(|lamp| Deed::Serve { lamp }),
        1 => prop::bool::weighted(0.2).prop_map(|cancel| match cancel {
            true => Deed::Cancel,
            false => Deed::Wait { minutes: 1 },
        }),
    ]
}

/// Numbers of deployments, counted by their states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    assigned: u64,
    active: u64,
    confirmed: u64,
    failed: u64,
    silent: u64,
    other: u64,
}

impl Tally {
    fn add(&mut self, state: DeploymentState) {
        match state {
            Assigned => self.assigned += 1,
            Confirmed => self.confirmed += 1,
            state if state.is_failure() => self.failed += 1,
            state if state.is_end() => self.other += 1,
            _ => self.active += 1,
        }
        self.silent += u64::from(state == TimedOut);
    }

    fn at_work(&self) -> u64 {
        self.assigned + self.active
    }

    fn ended(&self) -> u64 {
        self.confirmed + self.failed
    }

    fn members(&self) -> u64 {
        self.ended() + self.at_work()
    }

    fn is_above_limits(&self, before: &Self, plan: &GroupedPlan, over: bool) -> bool {
        let failed = self.failed - before.failed;
        let silent = self.silent - before.silent;
        let ended = self.ended() - before.ended();
        let is_above = |part: u64, percent: u8| part * 100 > ended * u64::from(percent);
        let enough = over || ended >= u64::from(plan.base.error_sample_min);
        let limits = &plan.limits;
        let too_many = limits
            .error_count_max
            .is_some_and(|max| failed > max.into());
        let too_silent = limits
            .silence_percent_max
            .is_some_and(|max| is_above(silent, max));
        too_many || enough && (too_silent || is_above(failed, plan.base.error_percent_max))
    }

    fn passes(&self, gate: &GroupGate) -> bool {
        let wanted = self.members() * u64::from(gate.success_percent_min);
        self.ended() >= u64::from(gate.sample_min) && self.confirmed * 100 >= wanted
    }
}

/// What the oracle knows. Nothing in it comes from the counts, statuses of groups or heights that
/// the contract keeps.
struct Oracle {
    city: City,
    plan: GroupedPlan,
    former: GroupedPlan,
    /// The approvers of the plan since it was written, or since errors paused the rollout.
    approvers: BTreeSet<usize>,
    status: RolloutStatus,
    /// Number of groups that have opened.
    opened: usize,
    /// The group of each device that has a deployment.
    group_of: BTreeMap<Id, usize>,
    /// The counts of each group when an error pause was last ended.
    at_resume: Vec<Tally>,
    /// Block time since which the last open group has passed its gate.
    good_since_ms: Option<u64>,
    /// Devices that were changed: which group has them depends on the time.
    changed: BTreeSet<Id>,
    /// Devices that were registered after the plan.
    newer: BTreeSet<Id>,
}

impl Oracle {
    fn new(plan: &GroupedPlan, running_already: &[usize]) -> Self {
        let mut city = City::with_lamps(FLEET);
        for number in running_already {
            city.inventory(&lamp(*number), "r1");
        }
        city.plan_groups("olga", plan).unwrap();
        Self {
            city,
            plan: plan.clone(),
            former: plan.clone(),
            approvers: BTreeSet::new(),
            status: PendingApproval,
            opened: 0,
            group_of: BTreeMap::new(),
            at_resume: vec![Tally::default(); plan.groups.len()],
            good_since_ms: None,
            changed: BTreeSet::new(),
            newer: BTreeSet::new(),
        }
    }

    fn tally(&self, of: Option<usize>) -> Tally {
        let mut tally = Tally::default();
        for (device, group) in &self.group_of {
            if of.is_none_or(|of| of == *group) {
                tally.add(self.city.state_of("x", device.as_str()));
            }
        }
        tally
    }

    fn expanded(&self) -> bool {
        self.city.rollout("x").expanded
    }

    /// Tells whether all devices of a group are known and none is at work.
    fn is_over(&self, group: usize) -> bool {
        (group + 1 < self.opened || self.expanded()) && self.tally(Some(group)).at_work() == 0
    }

    fn is_good(&self, group: usize) -> bool {
        self.expanded()
            && self
                .tally(Some(group))
                .passes(&self.plan.groups[group].gate)
    }

    fn is_above_limits(&self, with_ends: bool) -> bool {
        (0..self.opened).any(|group| {
            let over = with_ends && self.is_over(group);
            let before = &self.at_resume[group];
            self.tally(Some(group))
                .is_above_limits(before, &self.plan, over)
        })
    }

    /// The last open group has ended below its gate.
    fn has_failed(&self) -> bool {
        let current = self.opened.checked_sub(1);
        current.is_some_and(|group| self.is_over(group) && !self.is_good(group))
    }

    fn rollouts(&mut self, who: &str, action: RolloutsAction) -> ActResult {
        self.city.rollouts(who, action)
    }

    fn devices(&mut self, action: DevicesAction) -> ActResult {
        self.city.act("olga", Action::Devices(action))
    }

    /// Does it, and looks at everything after each transaction.
    fn go(&mut self, deed: &Deed) {
        let (rollout, reason) = (id("x"), String::new());
        match deed {
            Deed::Report { at, end, steps } => self.report(*at, *end, *steps),
            Deed::Wait { minutes } => {
                self.city.block(minutes * MINUTE_MS);
                self.inspect(deed, true);
            }
            Deed::Start => {
                let done = self.rollouts("olga", RolloutsAction::Start { rollout });
                self.inspect(deed, done.is_ok());
            }
            Deed::Pause => {
                let done = self.rollouts("olga", RolloutsAction::Pause { rollout, reason });
                self.inspect(deed, done.is_ok());
            }
            Deed::Resume => {
                let done = self.rollouts("olga", RolloutsAction::Resume { rollout });
                self.inspect(deed, done.is_ok());
            }
            Deed::Cancel => {
                let done = self.rollouts("olga", RolloutsAction::Cancel { rollout, reason });
                self.inspect(deed, done.is_ok());
            }
            Deed::Open { group } => {
                let group = *group;
                let done = self.rollouts("olga", RolloutsAction::OpenGroup { rollout, group });
                self.inspect(deed, done.is_ok());
            }
            Deed::Approve { who } => {
                let plan = self.plan.clone();
                let done = self.city.approve_groups(["anna", "ben"][*who], &plan);
                self.inspect(deed, done.is_ok());
            }
            Deed::ApproveFormer => {
                let former = self.former.clone();
                if former != self.plan {
                    let done = self.city.approve_groups("anna", &former);
                    assert!(done.is_err(), "another plan was approved");
                }
            }
            Deed::Amend { plan } => {
                let plan = (**plan).clone();
                let done = self.rollouts("olga", RolloutsAction::Amend { plan });
                self.inspect(deed, done.is_ok());
            }
            Deed::Register { .. }
            | Deed::Retag { .. }
            | Deed::Suspend { .. }
            | Deed::Serve { .. } => self.change_device(deed),
        }
    }

    fn change_device(&mut self, deed: &Deed) {
        let reason = String::new();
        let (number, action) = match *deed {
            Deed::Register { number } => {
                let devices = vec![new_lamp(number, NORTH, true)];
                (number, DevicesAction::Register { devices })
            }
            Deed::Retag { lamp: number, ring } => {
                let (name, value) = ("ring".to_owned(), ring.to_string());
                let (device, tags) = (id(&lamp(number)), vec![Tag { name, value }]);
                (number, DevicesAction::Tag { device, tags })
            }
            Deed::Suspend { lamp: number } => {
                let device = id(&lamp(number));
                (number, DevicesAction::Suspend { device, reason })
            }
            Deed::Serve { lamp: number } => {
                let device = id(&lamp(number));
                (number, DevicesAction::Resume { device })
            }
            _ => return,
        };
        if self.devices(action).is_ok() {
            match deed {
                Deed::Register { .. } => self.newer.insert(id(&lamp(number))),
                _ => self.changed.insert(id(&lamp(number))),
            };
        }
        self.inspect(deed, true);
    }

    fn report(&mut self, at: usize, end: DeploymentState, steps: usize) {
        let all = rollouts::deployments(&self.city.overlay, &id("x"), None, 1_000).unwrap();
        let at_work: Vec<_> = all.iter().filter(|d| !d.state.is_end()).collect();
        let Some(deployment) = at_work.get(at % at_work.len().max(1)) else {
            return;
        };
        let name = deployment.device.as_str();
        for _ in 0..steps {
            let state = self.city.state_of("x", name);
            let to = if end == Confirmed {
                next_to(state)
            } else {
                end
            };
            if state.is_end() || self.city.step("x", name, to).is_err() {
                return;
            }
            self.inspect(&Deed::Report { at, end, steps }, true);
        }
    }

    /// Compares everything with what has to be true after a transaction or a block.
    fn inspect(&mut self, deed: &Deed, done: bool) {
        let before = self.status;
        self.status = self.city.rollout("x").status;
        self.inspect_people(deed, done, before);
        self.find_new_deployments(deed);
        self.inspect_opening(deed, done, before);
        self.inspect_counts();
        self.inspect_status(deed, done, before);
        self.inspect_members();
        let current = self.opened.checked_sub(1);
        if self.status == Running {
            let is_good = current.is_some_and(|group| self.is_good(group));
            let since_ms = self.good_since_ms.unwrap_or(self.city.time_ms);
            self.good_since_ms = is_good.then_some(since_ms);
        }
    }

    /// What begins or goes on was approved, as it is.
    fn inspect_people(&mut self, deed: &Deed, done: bool, before: RolloutStatus) {
        match deed {
            Deed::Approve { who } if done => {
                self.approvers.insert(*who);
            }
            Deed::Amend { plan } if done => {
                assert!(matches!(before, PendingApproval | Approved), "it has begun");
                self.former = std::mem::replace(&mut self.plan, (**plan).clone());
                self.approvers.clear();
                self.at_resume = vec![Tally::default(); plan.groups.len()];
                assert_eq!(self.status, PendingApproval);
            }
            Deed::Start | Deed::Resume if done => {
                assert!(!self.approvers.is_empty(), "nobody approved this plan");
                if before == PausedByErrors {
                    let groups = 0..self.plan.groups.len();
                    self.at_resume = groups.map(|group| self.tally(Some(group))).collect();
                }
                self.good_since_ms = None;
            }
            _ => {}
        }
        let paused_again = matches!(deed, Deed::Resume) && done;
        if self.status == PausedByErrors && (before != PausedByErrors || paused_again) {
            self.approvers.clear();
        }
    }

    /// Only blocks assign, and to the group that was the last open one before the block.
    fn find_new_deployments(&mut self, deed: &Deed) {
        let all = rollouts::deployments(&self.city.overlay, &id("x"), None, 1_000).unwrap();
        for deployment in all {
            if !self.group_of.contains_key(&deployment.device) {
                assert!(matches!(deed, Deed::Wait { .. }));
                self.group_of.insert(deployment.device, self.opened - 1);
            }
        }
    }

    fn inspect_opening(&mut self, deed: &Deed, done: bool, before: RolloutStatus) {
        let opened = self.city.groups("x").opened as usize;
        let now_ms = self.city.time_ms;
        if matches!(deed, Deed::Start) && done {
            assert_eq!((self.opened, opened), (0, 1));
            self.opened = 1;
            return;
        }
        let Some(current) = self.opened.checked_sub(1) else {
            assert_eq!(opened, 0, "it has not begun");
            return;
        };
        let gate = self.plan.groups[current].gate;
        let by_hand = matches!(deed, Deed::Open { .. }) && done;
        let good_for = |since_ms: Option<u64>| since_ms.map(|since_ms| now_ms - since_ms);
        if opened != self.opened {
            assert_eq!(opened, self.opened + 1, "one after the other");
            assert!(before == Running || matches!(deed, Deed::Resume));
            assert_eq!(gate.next_by_hand, by_hand);
            // The flag of the walk is already that of the next group.
            assert!(self.tally(Some(current)).passes(&gate), "below its gate");
            let good_ms = good_for(self.good_since_ms).unwrap_or(0);
            assert!(good_ms >= gate.soak_ms, "{good_ms} ms of soak");
            self.opened = opened;
            self.good_since_ms = None;
        } else if self.status == Running && before == Running {
            assert!(!by_hand);
            let is_last = opened == self.plan.groups.len();
            let is_due = good_for(self.good_since_ms).is_some_and(|ms| ms >= gate.soak_ms);
            let passes = matches!(deed, Deed::Wait { .. }) && is_due && self.is_good(current);
            assert!(!passes || is_last || gate.next_by_hand, "it has to open");
            let is_over = self.tally(None).at_work() == 0 && !self.plan.continuous;
            assert!(!passes || !is_last || !is_over, "it has to finish");
        }
    }

    fn inspect_counts(&self) {
        let of = |tally: Tally, skipped| RolloutCounts {
            assigned: tally.assigned,
            active: tally.active,
            confirmed: tally.confirmed,
            failed: tally.failed,
            other: tally.other,
            skipped,
        };
        let all = self.city.rollout("x").counts;
        assert_eq!(all, of(self.tally(None), all.skipped));
        let groups = self.city.groups("x").groups;
        for (at, record) in groups.iter().enumerate() {
            let (tally, counts) = (self.tally(Some(at)), record.counts);
            assert_eq!(
                counts.deployments,
                of(tally, counts.deployments.skipped),
                "{at}"
            );
            assert_eq!(counts.timed_out, tally.silent, "{at}");
        }
        let skipped = groups
            .iter()
            .map(|record| record.counts.deployments.skipped);
        assert_eq!(skipped.sum::<u64>(), all.skipped);
    }

    fn inspect_status(&self, deed: &Deed, done: bool, before: RolloutStatus) {
        let after = self.status;
        match before {
            Stopped | Finished => assert_eq!(after, before, "an end is an end"),
            Stopping => assert!(matches!(after, Stopping | Stopped)),
            PendingApproval | Approved | Running | Paused | PausedByErrors => {}
        }
        let is_resumed = done && matches!(deed, Deed::Resume);
        let is_block = matches!(deed, Deed::Wait { .. });
        if is_block && matches!(before, PendingApproval | Approved) {
            assert_eq!(after, before, "time begins nothing and stops no plan");
        }
        let has_begun = matches!(after, Running | Paused | PausedByErrors);
        let stop_ms = self.plan.stop_ms.filter(|_| is_block && has_begun);
        assert!(
            stop_ms.is_none_or(|stop_ms| stop_ms > self.city.time_ms),
            "stopped"
        );
        match after {
            Running => {
                assert!(!self.is_above_limits(true), "{deed:?}");
                assert!(!self.has_failed(), "{deed:?}");
                assert!(!matches!(before, Paused | PausedByErrors) || matches!(deed, Deed::Resume));
            }
            Paused => assert!(!self.is_above_limits(false), "{deed:?}"),
            PausedByErrors if before != PausedByErrors || is_resumed => {
                assert!(self.is_above_limits(true) || self.has_failed(), "{deed:?}");
            }
            PendingApproval | Approved | PausedByErrors | Stopping | Stopped | Finished => {}
        }
    }

    fn has(&self, group: usize, device: &Device) -> bool {
        let share_from = |group: usize| {
            let earlier = self.plan.groups[..group].iter();
            let shares = earlier.map(|group| match group.members {
                GroupMembers::Percent { percent } => u64::from(percent) * 100,
                _ => 0,
            });
            shares.sum::<u64>()
        };
        let name = &device.device;
        match &self.plan.groups[group].members {
            GroupMembers::Selected {
                selection: Selection::List { devices },
            } => devices.contains(name),
            GroupMembers::Selected {
                selection: Selection::Filter { tag, .. },
            } => {
                let of = |tag: &Tag| format!("{}={}", tag.name, tag.value);
                device.tags.iter().any(|one| Some(of(one)) == *tag)
            }
            GroupMembers::Percent { percent: _ } => {
                let digest = Hash::of(format!("x\0{name}").as_bytes()).0;
                let place = u64::from_be_bytes(digest[..8].try_into().unwrap()) % 10_000;
                (share_from(group)..share_from(group + 1)).contains(&place)
            }
            GroupMembers::Count { count: _ } | GroupMembers::Rest => true,
        }
    }

    fn is_counted(&self, group: usize) -> bool {
        let members = &self.plan.groups[group].members;
        matches!(members, GroupMembers::Count { count: _ })
    }

    /// Each device is in the first group that has it, and none is left out. Those that were
    /// registered since may follow in the group that opened last, but never in one of named devices
    /// or of a number, unless that has passed.
    fn inspect_members(&self) {
        let reader = &self.city.overlay;
        let records = self.city.groups("x");
        let all_assigned = self.status == Running && self.expanded() && records.late == 0;
        for device in devices::devices(reader, None, 1_000).unwrap() {
            let name = &device.device;
            if self.changed.contains(name) {
                continue;
            }
            let is_new = self.newer.contains(name);
            let first = |until: usize| {
                (0..until).find(|group| !self.is_counted(*group) && self.has(*group, &device))
            };
            let Some(group) = self.group_of.get(name).copied() else {
                let takes_new = self.plan.continuous || !is_new;
                let missed = all_assigned && takes_new && first(self.opened).is_some();
                assert!(!missed, "{name} was left out");
                continue;
            };
            let is_passed = records.groups[group].status == GroupStatus::Passed;
            match first(group) {
                Some(_) => assert!(is_new, "{name} belongs to an earlier group"),
                None => assert!(self.has(group, &device), "{name} is in a group of others"),
            }
            let selection = &self.plan.groups[group].members;
            if let GroupMembers::Selected {
                selection: Selection::List { devices },
            } = selection
            {
                assert!(is_passed || devices.contains(name), "{name} was not named");
            }
            if let GroupMembers::Count { count } = selection {
                let members = self.tally(Some(group)).members();
                assert!(
                    is_passed || members <= u64::from(*count),
                    "{members} are too many"
                );
            }
        }
    }
}

fn next_to(state: DeploymentState) -> DeploymentState {
    use DeploymentState::*;
    match state {
        Assigned => Offered,
        Offered | Downloading => Downloaded,
        Downloaded => Installing,
        Installing | Staged => Trial,
        _ => Confirmed,
    }
}

fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn groups_open_and_pause_as_an_oracle_predicts(
        plan in plan(),
        running_already in prop::collection::vec(0..FLEET, 0..4),
        planning in prop::collection::vec(deed(), 0..6),
        deeds in prop::collection::vec(deed(), 1..100),
    ) {
        let mut oracle = Oracle::new(&plan, &running_already);
        planning.iter().for_each(|deed| oracle.go(deed));
        let beginning = [Deed::Approve { who: 0 }, Deed::Start, Deed::Wait { minutes: 1 }];
        beginning.iter().chain(&deeds).for_each(|deed| oracle.go(deed));
        // Left alone, or cancelled, it ends and leaves no row but its records.
        let end = [Deed::Cancel].into_iter().chain(vec![Deed::Wait { minutes: 90 }; 10]);
        end.for_each(|deed| oracle.go(&deed));
        prop_assert!(matches!(oracle.status, Stopped | Finished));
        let reader = &oracle.city.overlay;
        prop_assert_eq!(reader.page(&keys::continuous(), None, 9).unwrap(), []);
        prop_assert_eq!(reader.page(&keys::rollout_timers(), None, 9).unwrap(), []);
        prop_assert_eq!(reader.page(&keys::late_devices(&id("x")), None, 9).unwrap(), []);
        prop_assert_eq!(reader.page(&keys::timers(), None, 9).unwrap(), []);
    }
}
