//! Maintenance windows by the calendar and the clock of their zones. The contract has checked that
//! they can open; only gateways know zones, by the files of their machine (`/usr/share/zoneinfo`).
//!
//! A window opens when the clock of its zone shows a time of the schedule, and is open for its
//! minutes of elapsed time. A time that the clock skips (a gap, as on the last Sunday of March in
//! Europe) comes as much later as the clock skips: 02:30 is then 03:30. A time that the clock shows
//! twice (a fold, in October) opens the window twice.

#[cfg(test)]
mod tests;

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};
use lamplighter_types::MaintenanceWindow;
use lamplighter_types::schedule::Schedule;

const MS_PER_MINUTE: u64 = 60_000;
/// Days before today whose windows may still be open: the longest one is open for a week, and a
/// day more for the difference of zones.
const DAYS_BACK: i64 = 8;
/// Days from today on in which the next opening is searched: the 29th of February comes again
/// within eight years.
const DAYS_AHEAD: i64 = 8 * 366 + 1;

/// The state of all windows of a plan at an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowState {
    /// One is open, until then in Unix ms; for ever if the plan has none.
    Open { until_ms: Option<u64> },
    /// None is open; the next one opens then, in Unix ms, if that is known.
    Closed {
        opens_ms: Option<u64>,
        /// For people, where a window can't be evaluated.
        problem: Option<String>,
    },
}

/// The last evaluation, which holds until a window opens or closes: the devices of a rollout have
/// the same windows.
#[derive(Debug, Default)]
pub struct WindowClock {
    last: Option<Evaluation>,
}

#[derive(Debug)]
struct Evaluation {
    windows: Vec<MaintenanceWindow>,
    state: WindowState,
    from_ms: u64,
    /// The first instant at which it no longer holds.
    until_ms: u64,
}

impl WindowClock {
    /// The state of these windows now.
    pub fn state(&mut self, windows: &[MaintenanceWindow], now_ms: u64) -> WindowState {
        let holds = |last: &&Evaluation| {
            last.windows == windows && (last.from_ms..last.until_ms).contains(&now_ms)
        };
        if let Some(last) = self.last.as_ref().filter(holds) {
            return last.state.clone();
        }
        let state = evaluate(windows, now_ms);
        let until_ms = match &state {
            WindowState::Open { until_ms } => until_ms.unwrap_or(u64::MAX),
            // The files of the zones may be installed meanwhile.
            WindowState::Closed {
                problem: Some(_), ..
            } => now_ms.saturating_add(MS_PER_MINUTE),
            WindowState::Closed { opens_ms, .. } => opens_ms.unwrap_or(u64::MAX),
        };
        self.last = Some(Evaluation {
            windows: windows.to_vec(),
            state: state.clone(),
            from_ms: now_ms,
            until_ms,
        });
        state
    }
}

/// Evaluates the windows at an instant in Unix ms.
pub fn evaluate(windows: &[MaintenanceWindow], now_ms: u64) -> WindowState {
    if windows.is_empty() {
        return WindowState::Open { until_ms: None };
    }
    let (mut closes, mut opens, mut problem) = (None, None, None);
    for window in windows {
        match WindowTimes::of(window, now_ms) {
            Ok(WindowTimes { until_ms, next_ms }) => {
                closes = closes.max(until_ms);
                opens = [opens, next_ms].into_iter().flatten().min();
            }
            Err(error) => problem = Some(error),
        }
    }
    match closes {
        Some(_) => WindowState::Open { until_ms: closes },
        None => WindowState::Closed {
            opens_ms: opens,
            problem,
        },
    }
}

/// Times of one window in Unix ms: its end if it is open, and its next opening.
struct WindowTimes {
    until_ms: Option<u64>,
    next_ms: Option<u64>,
}

impl WindowTimes {
    fn of(window: &MaintenanceWindow, now_ms: u64) -> Result<Self, String> {
        let MaintenanceWindow {
            schedule,
            minutes,
            zone,
        } = window;
        let schedule = schedule.parse::<Schedule>();
        let schedule = schedule.map_err(|error| error.to_string())?;
        let zone = TimeZone::get(zone)
            .map_err(|_| format!("this gateway has no file of the time zone {zone}"))?;
        let now = i64::try_from(now_ms).ok();
        let now = now.and_then(|now| Timestamp::from_millisecond(now).ok());
        let today = now.ok_or("the clock is beyond all calendars")?;
        let calendar = WindowCalendar {
            schedule,
            today: zone.to_datetime(today).date(),
            zone,
        };
        let span_ms = u64::from(*minutes) * MS_PER_MINUTE;
        let last_ms = calendar.last_opening(now_ms);
        let closes_ms = last_ms.map(|last_ms| last_ms.saturating_add(span_ms));
        Ok(Self {
            until_ms: closes_ms.filter(|closes_ms| *closes_ms > now_ms),
            next_ms: calendar.next_opening(now_ms),
        })
    }
}

struct WindowCalendar {
    schedule: Schedule,
    today: Date,
    zone: TimeZone,
}

impl WindowCalendar {
    fn last_opening(&self, now_ms: u64) -> Option<u64> {
        // A day whose first opening is still to come has none before.
        let openings = |days: i64| self.openings(-days).filter(|at_ms| *at_ms <= now_ms).max();
        (-1..=DAYS_BACK).find_map(openings)
    }

    fn next_opening(&self, now_ms: u64) -> Option<u64> {
        let openings = |days: i64| self.openings(days).filter(|at_ms| *at_ms > now_ms).min();
        (-1..=DAYS_AHEAD).find_map(openings)
    }

    /// The instants at which windows open on a day, so many days from today.
    fn openings(&self, days: i64) -> impl Iterator<Item = u64> {
        let date = self.today.checked_add(Span::new().days(days)).ok();
        let date = date.filter(|date| {
            let weekday = date.weekday().to_sunday_zero_offset();
            let parts = [date.month(), date.day(), weekday];
            let [month, day, weekday] = parts.map(|part| u32::from(part.unsigned_abs()));
            self.schedule.has_day(month, day, weekday)
        });
        date.into_iter().flat_map(move |date| {
            let times = self.schedule.times();
            times.flat_map(move |(hour, minute)| {
                // Both are small.
                let time = date.at(hour as i8, minute as i8, 0, 0);
                self.instants(time)
            })
        })
    }

    /// The instants at which the clock of the zone shows a time: one, or two in a fold.
    fn instants(&self, time: DateTime) -> impl Iterator<Item = u64> + use<> {
        let at = self.zone.to_ambiguous_timestamp(time);
        let second = match at.offset() {
            AmbiguousOffset::Fold { .. } => at.later().ok(),
            AmbiguousOffset::Gap { .. } | AmbiguousOffset::Unambiguous { .. } => None,
        };
        let all = [at.compatible().ok(), second].into_iter().flatten();
        all.filter_map(|at| u64::try_from(at.as_millisecond()).ok())
    }
}
