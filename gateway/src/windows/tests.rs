use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

fn window(schedule: &str, minutes: u32, zone: &str) -> MaintenanceWindow {
    MaintenanceWindow {
        schedule: schedule.to_owned(),
        minutes,
        zone: zone.to_owned(),
    }
}

fn ms(text: &str) -> u64 {
    let at: Timestamp = text.parse().unwrap();
    at.as_millisecond() as u64
}

fn open(until: &str) -> WindowState {
    WindowState::Open {
        until_ms: Some(ms(until)),
    }
}

fn closed(opens: &str) -> WindowState {
    WindowState::Closed {
        opens_ms: Some(ms(opens)),
        problem: None,
    }
}

fn at(window: &MaintenanceWindow, time: &str) -> WindowState {
    evaluate(std::slice::from_ref(window), ms(time))
}

#[test]
fn a_window_is_open_for_its_minutes_by_the_clock_of_its_zone() {
    // Berlin is an hour ahead in winter and two in summer.
    let night = window("0 2 * * *", 120, "Europe/Berlin");
    assert_eq!(
        at(&night, "2026-01-10T00:59:59.999Z"),
        closed("2026-01-10T01:00:00Z")
    );
    assert_eq!(
        at(&night, "2026-01-10T01:00:00Z"),
        open("2026-01-10T03:00:00Z")
    );
    assert_eq!(
        at(&night, "2026-01-10T02:59:59.999Z"),
        open("2026-01-10T03:00:00Z")
    );
    assert_eq!(
        at(&night, "2026-01-10T03:00:00Z"),
        closed("2026-01-11T01:00:00Z")
    );
    assert_eq!(
        at(&night, "2026-07-10T00:30:00Z"),
        open("2026-07-10T02:00:00Z")
    );
    let auckland = window("30 1 * * 1", 60, "Pacific/Auckland");
    // 01:30 on Monday the 6th of July is still Sunday in Greenwich.
    assert_eq!(
        at(&auckland, "2026-07-05T13:45:00Z"),
        open("2026-07-05T14:30:00Z")
    );
    let weekend = window("0 22 * * 5", 3 * 24 * 60, "UTC");
    assert_eq!(
        at(&weekend, "2026-07-05T12:00:00Z"),
        open("2026-07-06T22:00:00Z")
    );
    let leap = window("0 0 29 2 *", 60, "UTC");
    assert_eq!(
        at(&leap, "2026-07-05T12:00:00Z"),
        closed("2028-02-29T00:00:00Z")
    );
}

#[test]
fn a_time_that_the_clock_skips_is_not_lost() {
    // On 2026-03-29 the clock of Berlin goes from 02:00 to 03:00, at 01:00 in Greenwich.
    let skipped = window("30 2 * * *", 60, "Europe/Berlin");
    assert_eq!(
        at(&skipped, "2026-03-29T01:15:00Z"),
        closed("2026-03-29T01:30:00Z")
    );
    assert_eq!(
        at(&skipped, "2026-03-29T01:30:00Z"),
        open("2026-03-29T02:30:00Z")
    );
    assert_eq!(
        at(&skipped, "2026-03-29T02:30:00Z"),
        closed("2026-03-30T00:30:00Z")
    );
    // A window that is open when the clock skips is as long as ever.
    let across = window("0 1 * * *", 120, "Europe/Berlin");
    assert_eq!(
        at(&across, "2026-03-29T01:30:00Z"),
        open("2026-03-29T02:00:00Z")
    );
}

#[test]
fn a_time_that_the_clock_shows_twice_opens_twice() {
    // On 2026-10-25 the clock of Berlin goes from 03:00 back to 02:00, at 01:00 in Greenwich.
    let twice = window("30 2 * * *", 20, "Europe/Berlin");
    assert_eq!(
        at(&twice, "2026-10-25T00:40:00Z"),
        open("2026-10-25T00:50:00Z")
    );
    assert_eq!(
        at(&twice, "2026-10-25T00:50:00Z"),
        closed("2026-10-25T01:30:00Z")
    );
    assert_eq!(
        at(&twice, "2026-10-25T01:40:00Z"),
        open("2026-10-25T01:50:00Z")
    );
    assert_eq!(
        at(&twice, "2026-10-25T01:50:00Z"),
        closed("2026-10-26T01:30:00Z")
    );
}

#[test]
fn several_windows_are_one_and_an_unknown_zone_keeps_none_open() {
    let both = [
        window("0 2 * * *", 60, "UTC"),
        window("30 2 * * *", 60, "UTC"),
    ];
    assert_eq!(
        evaluate(&both, ms("2026-01-10T02:45:00Z")),
        open("2026-01-10T03:30:00Z")
    );
    let unknown = window("* * * * *", 60, "Mars/Olympus_Mons");
    let WindowState::Closed { opens_ms, problem } = at(&unknown, "2026-01-10T02:45:00Z") else {
        panic!("it is open")
    };
    assert_eq!(opens_ms, None);
    assert!(problem.unwrap().contains("Mars/Olympus_Mons"));
    let one_known = [unknown, both[0].clone()];
    assert_eq!(
        evaluate(&one_known, ms("2026-01-10T02:45:00Z")),
        open("2026-01-10T03:00:00Z")
    );
    assert_eq!(evaluate(&[], 0), WindowState::Open { until_ms: None });
}

#[test]
fn an_evaluation_holds_until_a_window_opens_or_closes() {
    let night = [window("0 2 * * *", 60, "UTC")];
    let mut clock = WindowClock::default();
    for time in [
        "2026-01-10T01:00:00Z",
        "2026-01-10T01:59:59Z",
        "2026-01-10T02:00:00Z",
        "2026-01-10T02:59:59Z",
        "2026-01-10T03:00:00Z",
        // The clock was set back.
        "2026-01-10T02:30:00Z",
    ] {
        assert_eq!(
            clock.state(&night, ms(time)),
            evaluate(&night, ms(time)),
            "{time}"
        );
    }
    let other = [window("0 5 * * *", 60, "UTC")];
    assert_eq!(
        clock.state(&other, ms("2026-01-10T02:30:00Z")),
        closed("2026-01-10T05:00:00Z")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Minute by minute: a window is open if the clock of the zone has shown a time of the schedule
    /// within its minutes. The days on which clocks are changed are among those that are tried.
    #[test]
    fn windows_are_as_a_clock_shows_them(
        hour in 0..24_u32, minute in 0..60_u32, weekday in 0..7_u32, length in 1..400_u32,
        begin in prop_oneof![
            Just("2026-03-28T12:00:00Z"),
            Just("2026-10-24T12:00:00Z"),
            Just("2026-06-01T00:00:00Z"),
        ],
        zone in prop_oneof![Just("UTC"), Just("Europe/Berlin"), Just("Asia/Kathmandu")],
        offset in 0..3_000_u64,
    ) {
        let weekdays = format!("{weekday},{}", (weekday + 3) % 7);
        let wanted = window(&format!("{minute} {hour} * * {weekdays}"), length, zone);
        let now = ms(begin) + offset * MS_PER_MINUTE;
        let schedule: Schedule = wanted.schedule.parse().unwrap();
        let zone = TimeZone::get(zone).unwrap();
        let shows = |at: u64| {
            let at = zone.to_datetime(Timestamp::from_millisecond(at as i64).unwrap());
            let weekday = at.weekday().to_sunday_zero_offset() as u32;
            schedule.has_day(at.month() as u32, at.day() as u32, weekday)
                && (at.hour() as u32, at.minute() as u32) == (hour, minute)
        };
        let mut before = (0..u64::from(length)).map(|ago| now - ago * MS_PER_MINUTE);
        let opened = before.find(|at| shows(*at));
        let state = evaluate(std::slice::from_ref(&wanted), now);
        let is_skipped = hour == 2 && begin.starts_with("2026-03");
        match (opened, state) {
            (Some(at), WindowState::Open { until_ms }) => {
                prop_assert_eq!(until_ms, Some(at + u64::from(length) * MS_PER_MINUTE));
            }
            (None, WindowState::Closed { opens_ms, .. }) => {
                let mut after = (1..7 * 1_440).map(|ahead| now + ahead * MS_PER_MINUTE);
                let next = after.find(|at| shows(*at));
                // What the clock skips is tested by itself.
                prop_assert!(is_skipped || opens_ms == next, "{opens_ms:?} {next:?}");
            }
            (opened, state) => prop_assert!(is_skipped, "{opened:?} {state:?}"),
        }
    }
}
