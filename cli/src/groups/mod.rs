//! Rollouts in groups: what people write of a group, and how its progress is printed.

#[cfg(test)]
mod tests;

use std::str::FromStr;

use clap::Args;
use lamplighter_types::{
    Group, GroupGate, GroupMembers, GroupStatus, GroupedPlan, Id, PauseLimits, RetryPolicy,
    RolloutGroups, RolloutPlan, Scope, Selection,
};

use crate::describe::words;
use crate::output::{emit_table, or_dash, yes};
use crate::{plans, time};

const MINUTE_MS: u64 = 60_000;

/// The options of a plan in groups.
#[derive(Debug, Default, Args)]
pub struct Grouping {
    /// A group, in the order of opening: its devices, and after a colon what opens the next one:
    /// `lamp-1,lamp-2: success 100, sample 2, soak 24h, by hand`. Devices are ids, `25 devices`,
    /// `10%`, `tag=street`, `model=L2`, `class=lamp-v2`, `district=north` or `rest`. Success is
    /// 95 %, the sample 1 and the soak 1h where nothing else is written; the last group has none.
    #[arg(long = "group")]
    groups: Vec<WrittenGroup>,
    /// Pauses when more deployments of a group than this failed.
    #[arg(long)]
    error_count_max: Option<u32>,
    /// Pauses when more than this share of a group's ended deployments timed out.
    #[arg(long)]
    silence_percent_max: Option<u8>,
    /// The wait before the first retry; it doubles with each one.
    #[arg(long, default_value_t = 0)]
    retry_minutes: u64,
    /// A result code that is retried, instead of all; may be repeated.
    #[arg(long = "retry-code")]
    retry_codes: Vec<u32>,
    /// Takes devices that begin to match later, too, and goes on until it is cancelled.
    #[arg(long)]
    continuous: bool,
    /// Cancels what is not yet installing at this time: 2026-12-01T06:00, +2d, tomorrow.
    #[arg(long, value_parser = time::parse)]
    stop: Option<u64>,
}

impl Grouping {
    /// Tells whether any of the options was written.
    pub fn is_empty(&self) -> bool {
        let Self {
            groups,
            error_count_max,
            silence_percent_max,
            retry_minutes,
            retry_codes,
            continuous,
            stop,
        } = self;
        groups.is_empty()
            && error_count_max.is_none()
            && silence_percent_max.is_none()
            && *retry_minutes == 0
            && retry_codes.is_empty()
            && !continuous
            && stop.is_none()
    }

    /// The plan in groups; without a written group all devices are one.
    pub fn plan(self, base: RolloutPlan) -> GroupedPlan {
        let count = self.groups.len();
        let groups = self.groups.into_iter().zip(1..);
        let groups = groups.map(|(group, number)| group.group(number == count));
        let mut groups: Vec<Group> = groups.collect();
        if groups.is_empty() {
            groups.push(Group {
                members: GroupMembers::Rest,
                gate: GroupGate {
                    soak_ms: 0,
                    ..DEFAULT_GATE
                },
            });
        }
        GroupedPlan {
            base,
            groups,
            limits: PauseLimits {
                error_count_max: self.error_count_max,
                silence_percent_max: self.silence_percent_max,
            },
            retry: RetryPolicy {
                backoff_ms: self.retry_minutes.saturating_mul(MINUTE_MS),
                codes: self.retry_codes,
            },
            continuous: self.continuous,
            stop_ms: self.stop,
        }
    }
}

const DEFAULT_GATE: GroupGate = GroupGate {
    success_percent_min: 95,
    sample_min: 1,
    soak_ms: 60 * MINUTE_MS,
    next_by_hand: false,
};

/// A group as a person wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct WrittenGroup {
    members: GroupMembers,
    gate: GroupGate,
    is_soak_written: bool,
}

impl WrittenGroup {
    /// The last group opens none, so it waits for nothing but what is written.
    fn group(self, is_last: bool) -> Group {
        let Self {
            members,
            mut gate,
            is_soak_written,
        } = self;
        if is_last && !is_soak_written {
            gate.soak_ms = 0;
        }
        Group { members, gate }
    }
}

/// Why a text is no group.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAGroup {
    #[error(
        "`{0}` names no devices: write `lamp-1,lamp-2`, `25 devices`, `10%`, `tag=street`, \
         `model=L2`, `class=lamp-v2`, `district=north` or `rest`"
    )]
    Devices(String),
    #[error("`{0}`: the options of a group are {OPTIONS}, after a colon, with commas between them")]
    Option(String),
    #[error("`{part}`: {wanted}")]
    Value { part: String, wanted: &'static str },
}

const OPTIONS: &str = "`success 95`, `sample 20`, `soak 24h` and `by hand`";

impl FromStr for WrittenGroup {
    type Err = NotAGroup;

    fn from_str(text: &str) -> Result<Self, NotAGroup> {
        let (devices, rules) = text.split_once(':').unwrap_or((text, ""));
        let mut gate = DEFAULT_GATE;
        let rules = rules.split(',').map(str::trim);
        let mut is_soak_written = false;
        for rule in rules.filter(|rule| !rule.is_empty()) {
            apply(&mut gate, rule)?;
            is_soak_written |= rule.starts_with("soak");
        }
        let devices = devices.trim();
        let members = members(devices).ok_or_else(|| NotAGroup::Devices(devices.to_owned()))?;
        Ok(Self {
            members,
            gate,
            is_soak_written,
        })
    }
}

fn apply(gate: &mut GroupGate, rule: &str) -> Result<(), NotAGroup> {
    if rule == "by hand" {
        gate.next_by_hand = true;
        return Ok(());
    }
    let (name, value) = rule.split_once(' ').unwrap_or((rule, ""));
    let value = value.trim();
    let wanted = |wanted| NotAGroup::Value {
        part: rule.to_owned(),
        wanted,
    };
    match name {
        "success" => {
            let percent = value.trim_end_matches('%').trim().parse().ok();
            let percent = percent.filter(|percent| *percent <= 100);
            gate.success_percent_min =
                percent.ok_or_else(|| wanted("write a percentage, e.g. `success 95`"))?;
        }
        "sample" => {
            let number = value.parse().ok();
            gate.sample_min =
                number.ok_or_else(|| wanted("write a number of devices, e.g. `sample 20`"))?;
        }
        "soak" => {
            let time = duration_ms(value);
            gate.soak_ms =
                time.ok_or_else(|| wanted("write a time as `90s`, `30m`, `24h`, `2d` or `0`"))?;
        }
        _ => return Err(NotAGroup::Option(rule.to_owned())),
    }
    Ok(())
}

/// A length of time such as `90s`, `30m`, `24h`, `2d`, or `0`.
pub fn duration_ms(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let unit = text.chars().next_back()?;
    let number: u64 = text.strip_suffix(unit)?.trim().parse().ok()?;
    let unit_ms = match unit {
        's' => 1_000,
        'm' => MINUTE_MS,
        'h' => 60 * MINUTE_MS,
        'd' => 24 * 60 * MINUTE_MS,
        _ => return None,
    };
    number.checked_mul(unit_ms)
}

fn members(text: &str) -> Option<GroupMembers> {
    if text == "rest" {
        return Some(GroupMembers::Rest);
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent = percent.trim().parse().ok()?;
        return Some(GroupMembers::Percent { percent });
    }
    let counted = text.strip_suffix(" devices");
    if let Some(count) = counted.or_else(|| text.strip_suffix(" device")) {
        let count = count.trim().parse().ok()?;
        return Some(GroupMembers::Count { count });
    }
    let selection = match text.split_once('=') {
        Some((field, value)) => filter(field, value)?,
        None => {
            let ids = text.split(',').map(|id| Id::new(id.trim()).ok());
            let devices: Option<Vec<Id>> = ids.collect();
            Selection::List { devices: devices? }
        }
    };
    Some(GroupMembers::Selected { selection })
}

fn filter(field: &str, value: &str) -> Option<Selection> {
    let (mut district, mut model, mut hardware_class, mut tag) = (Scope::city(), None, None, None);
    match field {
        "district" => district = Scope::new(value).ok()?,
        "model" => model = Some(value.to_owned()),
        "class" => hardware_class = Some(value.to_owned()),
        "tag" => tag = Some(value.to_owned()),
        _ => return None,
    }
    Some(Selection::Filter {
        district,
        model,
        hardware_class,
        tag,
    })
}

/// What a plan in groups has besides its base, in words.
pub fn plan_members(plan: &GroupedPlan) -> Vec<(&'static str, String)> {
    let GroupedPlan {
        base: _,
        groups: _,
        limits,
        retry,
        continuous,
        stop_ms,
    } = plan;
    let count = limits.error_count_max;
    let count = count.map(|max| format!("more than {max} of a group failed"));
    let silence = limits.silence_percent_max;
    let silence = silence.map(|max| format!("more than {max} % of a group were silent"));
    let limits: Vec<_> = [count, silence].into_iter().flatten().collect();
    let limits = or_dash(Some(limits.join(", ")).filter(|limits| !limits.is_empty()));
    let codes: Vec<_> = retry.codes.iter().map(u32::to_string).collect();
    let codes = match codes.as_slice() {
        [] => "any code".to_owned(),
        _ => format!("code {}", codes.join(", ")),
    };
    let retry = match retry.backoff_ms {
        0 => format!("at once, {codes}"),
        ms => format!("after {}, then twice as long, {codes}", time::duration(ms)),
    };
    vec![
        ("pauses also when", limits),
        ("retries", retry),
        ("takes late devices", yes(*continuous)),
        ("stops at", or_dash(stop_ms.map(time::local))),
    ]
}

/// What a gate wants, in words.
pub fn gate(gate: &GroupGate) -> String {
    let GroupGate {
        success_percent_min,
        sample_min,
        soak_ms,
        next_by_hand,
    } = gate;
    let mut text = format!("{success_percent_min} % of {sample_min} or more");
    if *soak_ms > 0 {
        text += &format!(", for {}", time::duration(*soak_ms));
    }
    if *next_by_hand {
        text += ", then by hand";
    }
    text
}

/// The state of a group, and when its soak ends.
fn state(group: &Group, status: GroupStatus, since_ms: Option<u64>) -> String {
    match (status, since_ms) {
        (GroupStatus::Soaking, Some(since_ms)) => {
            let until_ms = since_ms.saturating_add(group.gate.soak_ms);
            format!("soaks until {}", time::local(until_ms))
        }
        (status, _) => words(&status),
    }
}

/// Prints the groups with their progress.
pub fn print(plan: &GroupedPlan, progress: &RolloutGroups) {
    let heads = [
        "group",
        "devices",
        "status",
        "opened",
        "confirmed",
        "failed",
        "silent",
        "at work",
        "left out",
        "gate",
    ];
    let rows = plan.groups.iter().zip(&progress.groups).zip(1..);
    let rows = rows.map(|((group, record), number)| {
        let counts = &record.counts.deployments;
        vec![
            number.to_string(),
            plans::of_group(&group.members),
            state(group, record.status, record.soaking_since_ms),
            or_dash(record.opened_ms.map(time::local)),
            counts.confirmed.to_string(),
            counts.failed.to_string(),
            record.counts.timed_out.to_string(),
            (counts.assigned + counts.active).to_string(),
            counts.skipped.to_string(),
            gate(&group.gate),
        ]
    });
    emit_table(&heads, rows.collect());
}
