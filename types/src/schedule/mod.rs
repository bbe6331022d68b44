//! Schedules of maintenance windows: when a window opens, by the calendar and clock of its zone.
//!
//! The text has the five fields of cron, with one blank between them:
//!
//! | field | numbers |
//! |---|---|
//! | minute | 0 to 59 |
//! | hour | 0 to 23 |
//! | day of the month | 1 to 31 |
//! | month | 1 to 12 |
//! | day of the week | 0 to 7, Sunday is 0 and 7 |
//!
//! A field is `*`, or a list of parts with commas between them; a part is a number, a range `a-b`,
//! or one of `*` and a range with a step, as in `*/15` and `8-18/2`. There are no names, and no
//! other signs. As in cron, if both fields of days are other than `*`, a day need match only one.
//!
//! Contracts decide by this file alone whether a schedule is good, so it has no calendar of any
//! year and no zone: their tables change with the programs, and two nodes would disagree.

#[cfg(test)]
mod tests;

use std::str::FromStr;

/// Longest text of a schedule: lists of many minutes and days.
pub const SCHEDULE_BYTES_MAX: usize = 128;
/// Longest name of a zone; those of IANA have up to 32.
pub const ZONE_BYTES_MAX: usize = 64;

/// The days of each month, in a leap year.
const MONTH_DAYS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
const MINUTES: FieldRange = FieldRange { first: 0, last: 59 };
const HOURS: FieldRange = FieldRange { first: 0, last: 23 };
const DAYS: FieldRange = FieldRange { first: 1, last: 31 };
const MONTHS: FieldRange = FieldRange { first: 1, last: 12 };
const WEEKDAYS: FieldRange = FieldRange { first: 0, last: 7 };

/// Why a text is no schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("the schedule has more than 128 bytes")]
    TooLong,
    #[error("a schedule has five fields, with one blank between them")]
    Fields,
    #[error("the minute is not understood: *, or 0 to 59 as in 0,30 or */15")]
    Minute,
    #[error("the hour is not understood: *, or 0 to 23 as in 1-4")]
    Hour,
    #[error("the day of the month is not understood: *, or 1 to 31")]
    Day,
    #[error("the month is not understood: *, or 1 to 12")]
    Month,
    #[error("the day of the week is not understood: *, or 0 to 7, where Sunday is 0 and 7")]
    Weekday,
    #[error("no month of the schedule has such a day: it never fires")]
    Never,
}

impl ScheduleError {
    /// The reason as it stands in the refusal of a contract.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "the schedule has more than 128 bytes",
            Self::Fields => "a schedule has five fields, with one blank between them",
            Self::Minute => "the minute is not understood: *, or 0 to 59 as in 0,30 or */15",
            Self::Hour => "the hour is not understood: *, or 0 to 23 as in 1-4",
            Self::Day => "the day of the month is not understood: *, or 1 to 31",
            Self::Month => "the month is not understood: *, or 1 to 12",
            Self::Weekday => {
                "the day of the week is not understood: *, or 0 to 7, where Sunday is 0 and 7"
            }
            Self::Never => "no month of the schedule has such a day: it never fires",
        }
    }
}

/// The numbers that a field may have.
#[derive(Clone, Copy)]
struct FieldRange {
    first: u32,
    last: u32,
}

/// A schedule that fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// A bit for each number.
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Sunday is 0 alone.
    weekdays: u64,
    /// The field of the days of the month is `*`.
    is_any_day: bool,
    is_any_weekday: bool,
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        if text.len() > SCHEDULE_BYTES_MAX {
            return Err(ScheduleError::TooLong);
        }
        let fields: Vec<&str> = text.split(' ').collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(ScheduleError::Fields);
        };
        let weekdays = WEEKDAYS.parse(weekday).ok_or(ScheduleError::Weekday)?;
        let sunday_of_seven = (weekdays >> 7) & 1;
        let schedule = Self {
            minutes: MINUTES.parse(minute).ok_or(ScheduleError::Minute)?,
            hours: HOURS.parse(hour).ok_or(ScheduleError::Hour)?,
            days: DAYS.parse(day).ok_or(ScheduleError::Day)?,
            months: MONTHS.parse(month).ok_or(ScheduleError::Month)?,
            weekdays: (weekdays & 0x7f) | sunday_of_seven,
            is_any_day: day == "*",
            is_any_weekday: weekday == "*",
        };
        match schedule.fires() {
            true => Ok(schedule),
            false => Err(ScheduleError::Never),
        }
    }
}

impl FieldRange {
    /// The numbers of a field as bits; `None` if it is malformed.
    fn parse(self, field: &str) -> Option<u64> {
        let mut bits = 0;
        for part in field.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(number(step)?)),
                None => (part, None),
            };
            let (first, last) = match (range, range.split_once('-')) {
                ("*", _) => (self.first, self.last),
                (_, Some((first, last))) => (number(first)?, number(last)?),
                // A step needs a range: what cron makes of `5/10` differs from one to another.
                (_, None) if step.is_some() => return None,
                (_, None) => (number(range)?, number(range)?),
            };
            let step = step.unwrap_or(1);
            let is_inside = self.first <= first && first <= last && last <= self.last;
            if !is_inside || step == 0 || step > self.last {
                return None;
            }
            let numbers = (first..=last).step_by(step as usize);
            bits |= numbers.fold(0, |bits, number| bits | 1 << number);
        }
        Some(bits)
    }
}

/// One or two digits.
fn number(text: &str) -> Option<u32> {
    let is_number = matches!(text.len(), 1 | 2) && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn has(bits: u64, number: u32) -> bool {
    number < u64::BITS && (bits >> number) & 1 == 1
}

impl Schedule {
    /// True if some day of some year matches. A week has every day of it in every month.
    fn fires(&self) -> bool {
        let occurs = |(month, last): (usize, &u32)| {
            has(self.months, month as u32 + 1) && (1..=*last).any(|day| has(self.days, day))
        };
        let restricted_to_days = !self.is_any_day && self.is_any_weekday;
        !restricted_to_days || MONTH_DAYS.iter().enumerate().any(occurs)
    }

    /// True if windows open on this day. Sunday is 0.
    pub fn has_day(&self, month: u32, day: u32, weekday: u32) -> bool {
        let (by_day, by_weekday) = (has(self.days, day), has(self.weekdays, weekday));
        let is_day = match (self.is_any_day, self.is_any_weekday) {
            (false, false) => by_day || by_weekday,
            (_, _) => by_day && by_weekday,
        };
        is_day && has(self.months, month)
    }

    /// The hours and minutes at which windows open on such a day, the first one first.
    pub fn times(&self) -> impl Iterator<Item = (u32, u32)> {
        let hours = (0..24).filter(|hour| has(self.hours, *hour));
        hours.flat_map(|hour| {
            let minutes = (0..60).filter(|minute| has(self.minutes, *minute));
            minutes.map(move |minute| (hour, minute))
        })
    }
}

/// True if a text can be the name of a zone of IANA, such as `Europe/Berlin` or `UTC`. Whether
/// there is such a zone only its reader knows.
pub fn is_zone_name(text: &str) -> bool {
    let is_part = |part: &str| {
        let signs = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+');
        part.bytes().all(signs) && part.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
    };
    text.len() <= ZONE_BYTES_MAX && text.split('/').all(is_part)
}
