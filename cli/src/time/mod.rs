//! Times as people read and write them, in their time zone, which the system or `TZ` names.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

#[cfg(test)]
mod tests;

/// A text that is no time.
#[derive(Debug, thiserror::Error)]
#[error(
    "give a time as 2026-12-01T06:00 (your time zone unless it ends with one), 2026-12-01, +90m, \
     +6h, +2d, +1w, tomorrow, now, or Unix time in ms"
)]
pub struct NotATime;

/// A time in RFC 3339 with the offset of the reader's zone.
pub fn local(time_ms: u64) -> String {
    local_in(time_ms, TimeZone::system())
}

fn local_in(time_ms: u64, zone: TimeZone) -> String {
    let time = i64::try_from(time_ms).ok();
    let time = time.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    match time {
        Some(time) => time
            .to_zoned(zone)
            .strftime("%Y-%m-%dT%H:%M:%S%:z")
            .to_string(),
        // Beyond the year 9999 there are no dates.
        None => format!("{time_ms} ms"),
    }
}

/// A time in RFC 3339 in UTC with milliseconds: an auditor far away reads the same.
pub fn utc(time_ms: u64) -> String {
    let time = i64::try_from(time_ms).ok();
    match time.and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
        Some(time) => time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        None => format!("{time_ms} ms"),
    }
}

/// A length of time in the largest unit that divides it, e.g. `36 h`.
pub fn duration(ms: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (24 * 3_600_000, "d"),
        (3_600_000, "h"),
        (60_000, "min"),
        (1_000, "s"),
    ];
    let whole = UNITS
        .iter()
        .find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit));
    match whole {
        Some((unit, name)) => format!("{} {name}", ms / unit),
        None => format!("{ms} ms"),
    }
}

/// Unix time in ms of a time that a person wrote.
pub fn parse(text: &str) -> Result<u64, NotATime> {
    parse_at(text, &Zoned::now())
}

fn parse_at(text: &str, now: &Zoned) -> Result<u64, NotATime> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| NotATime);
    }
    let zone = now.time_zone().clone();
    let time = if text == "now" {
        now.timestamp()
    } else if text == "tomorrow" {
        let next = now.tomorrow().and_then(|next| next.start_of_day());
        next.map_err(|_| NotATime)?.timestamp()
    } else if let Some(ahead) = text.strip_prefix('+') {
        let instant = now.checked_add(span(ahead)?);
        instant.map_err(|_| NotATime)?.timestamp()
    } else if let Ok(time) = text.parse::<Timestamp>() {
        time
    } else {
        let civil: DateTime = text.parse().map_err(|_| NotATime)?;
        civil.to_zoned(zone).map_err(|_| NotATime)?.timestamp()
    };
    u64::try_from(time.as_millisecond()).map_err(|_| NotATime)
}

/// A number with its unit, e.g. `2d`. Days and weeks are those of the calendar.
fn span(text: &str) -> Result<Span, NotATime> {
    let unit = text.chars().next_back().ok_or(NotATime)?;
    let number = text.strip_suffix(unit).ok_or(NotATime)?;
    let number: u32 = number.parse().map_err(|_| NotATime)?;
    let (number, span) = (i64::from(number), Span::new());
    let span = match unit {
        's' => span.try_seconds(number),
        'm' => span.try_minutes(number),
        'h' => span.try_hours(number),
        'd' => span.try_days(number),
        'w' => span.try_weeks(number),
        _ => return Err(NotATime),
    };
    span.map_err(|_| NotATime)
}
