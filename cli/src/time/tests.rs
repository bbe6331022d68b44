use jiff::Zoned;
use jiff::tz::TimeZone;

use super::{duration, local_in, parse_at, utc};

/// A Sunday in winter, 22:30 in Berlin.
const NOW_MS: u64 = 1_796_074_200_000;
const HOUR_MS: u64 = 3_600_000;

fn berlin() -> TimeZone {
    // Without the system's database: CET and CEST by the rule of the EU.
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

fn now() -> Zoned {
    let now = jiff::Timestamp::from_millisecond(NOW_MS as i64).unwrap();
    now.to_zoned(berlin())
}

#[track_caller]
fn assert_time(text: &str, read: &str) {
    let time_ms = parse_at(text, &now()).unwrap();
    assert_eq!(local_in(time_ms, berlin()), read, "{text}");
}

#[test]
fn a_time_is_read_in_the_zone_of_its_reader() {
    assert_eq!(local_in(NOW_MS, berlin()), "2026-11-30T22:30:00+01:00");
    assert_eq!(local_in(NOW_MS, TimeZone::UTC), "2026-11-30T21:30:00+00:00");
    assert_eq!(
        local_in(1_783_000_000_999, berlin()),
        "2026-07-02T15:46:40+02:00"
    );
    assert_eq!(local_in(u64::MAX, berlin()), "18446744073709551615 ms");
}

#[test]
fn a_time_is_written_as_people_do() {
    assert_time("2026-12-01T06:00", "2026-12-01T06:00:00+01:00");
    assert_time("2026-12-01 06:00:30", "2026-12-01T06:00:30+01:00");
    assert_time("2026-12-01", "2026-12-01T00:00:00+01:00");
    assert_time("2026-12-01T06:00Z", "2026-12-01T07:00:00+01:00");
    assert_time("2026-12-01T06:00:00+05:00", "2026-12-01T02:00:00+01:00");
    assert_time("2026-07-01T06:00", "2026-07-01T06:00:00+02:00");
    assert_time("tomorrow", "2026-12-01T00:00:00+01:00");
    assert_time("now", "2026-11-30T22:30:00+01:00");
    assert_time("+90m", "2026-12-01T00:00:00+01:00");
    assert_time("+2d", "2026-12-02T22:30:00+01:00");
    assert_time("+1w", "2026-12-07T22:30:00+01:00");
    assert_time("1796074200000", "2026-11-30T22:30:00+01:00");
    assert_eq!(parse_at("0", &now()).unwrap(), 0);
    // Over the change to summer time a day has 23 hours, 24 hours have 24.
    let march = jiff::Timestamp::from_millisecond(1_774_700_000_000).unwrap();
    let march = march.to_zoned(berlin());
    let ahead = |text| parse_at(text, &march).unwrap() - 1_774_700_000_000;
    assert_eq!((ahead("+1d"), ahead("+24h")), (23 * HOUR_MS, 24 * HOUR_MS));
}

#[test]
fn what_is_no_time_is_refused() {
    for text in [
        "",
        "+",
        "+d",
        "+2",
        "+2y",
        "-2d",
        "+-2d",
        "later",
        "2026-13-01",
        "1969-01-01",
        "ö",
        "+2ö",
    ] {
        assert!(parse_at(text, &now()).is_err(), "{text}");
    }
}

#[test]
fn a_duration_has_the_largest_unit_that_divides_it() {
    let cases = [
        (0, "0 ms"),
        (1_500, "1500 ms"),
        (90_000, "90 s"),
        (36 * HOUR_MS, "36 h"),
        (48 * HOUR_MS, "2 d"),
    ];
    for (ms, read) in cases {
        assert_eq!(duration(ms), read);
    }
}

#[test]
fn an_auditor_reads_utc_to_the_millisecond() {
    assert_eq!(utc(951_868_799_999), "2000-02-29T23:59:59.999Z");
    assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
    // What no calendar has is shown all the same.
    assert_eq!(utc(u64::MAX), "18446744073709551615 ms");
}
