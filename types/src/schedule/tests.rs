use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Result<Schedule, ScheduleError> {
    text.parse()
}

#[test]
fn fields_are_numbers_lists_ranges_and_steps() {
    let nightly = parsed("30 2 * * *").unwrap();
    assert_eq!(nightly.times().collect::<Vec<_>>(), [(2, 30)]);
    let often = parsed("0,45 1-4/2 * * *").unwrap();
    let times: Vec<_> = often.times().collect();
    assert_eq!(times, [(1, 0), (1, 45), (3, 0), (3, 45)]);
    let quarters = parsed("*/15 8 * * *").unwrap();
    assert_eq!(quarters.times().count(), 4);
    let sundays = [parsed("0 0 * * 0").unwrap(), parsed("0 0 * * 7").unwrap()];
    assert_eq!(sundays[0], sundays[1]);
    let weekend = parsed("0 0 * * 6-7").unwrap();
    assert!(weekend.has_day(1, 1, 0) && weekend.has_day(1, 1, 6));
    assert!(!weekend.has_day(1, 1, 5));
}

#[test]
fn a_day_need_match_one_of_two_fields_that_are_both_written() {
    let either = parsed("0 0 13 * 5").unwrap();
    assert!(either.has_day(3, 13, 1), "the 13th, a Monday");
    assert!(either.has_day(3, 14, 5), "a Friday");
    assert!(!either.has_day(3, 14, 1));
    let by_day = parsed("0 0 13 * *").unwrap();
    assert!(!by_day.has_day(3, 14, 5));
}

#[test]
fn a_schedule_that_never_fires_is_refused() {
    for never in [
        "0 0 30 2 *",
        "0 0 31 2,4,6,9,11 *",
        "* * 30-31 2 *",
        "0 0 31 4 *",
    ] {
        assert_eq!(parsed(never), Err(ScheduleError::Never), "{never}");
    }
    for rare in ["0 0 29 2 *", "0 0 31 1,2 *", "0 0 30 2 1", "59 23 31 12 *"] {
        assert!(parsed(rare).is_ok(), "{rare}");
    }
}

#[test]
fn what_is_no_schedule_is_refused_with_its_field() {
    use ScheduleError::*;
    let cases = [
        ("", Fields),
        ("* * * *", Fields),
        ("* * * * * *", Fields),
        ("*  * * *", Hour),
        (" * * * *", Minute),
        ("@daily", Fields),
        ("60 * * * *", Minute),
        ("5/10 * * * *", Minute),
        ("*/0 * * * *", Minute),
        ("*/60 * * * *", Minute),
        ("5-1 * * * *", Minute),
        ("001 * * * *", Minute),
        ("+1 * * * *", Minute),
        ("1, * * * *", Minute),
        ("0 24 * * *", Hour),
        ("0 0 0 * *", Day),
        ("0 0 32 * *", Day),
        ("0 0 L * *", Day),
        ("0 0 * 13 *", Month),
        ("0 0 * JAN *", Month),
        ("0 0 * * 8", Weekday),
        ("0 0 * * MON", Weekday),
    ];
    for (text, error) in cases {
        assert_eq!(parsed(text), Err(error), "{text}");
        assert_eq!(error.to_string(), error.reason());
    }
    let long = format!("{} * * * *", vec!["1"; 70].join(","));
    assert_eq!(parsed(&long), Err(TooLong));
}

#[test]
fn names_of_zones_are_checked_by_form_alone() {
    for good in [
        "UTC",
        "Europe/Berlin",
        "America/Argentina/Buenos_Aires",
        "Etc/GMT+5",
        "No/Such",
    ] {
        assert!(is_zone_name(good), "{good}");
    }
    let long = "A".repeat(ZONE_BYTES_MAX + 1);
    for bad in [
        "",
        "/",
        "Europe/",
        "/Berlin",
        "../etc/passwd",
        "A//B",
        "+01:00",
        "A B",
        &long,
    ] {
        assert!(!is_zone_name(bad), "{bad}");
    }
}

/// A field with the numbers that it stands for.
fn field(first: u32, last: u32) -> impl Strategy<Value = (String, Vec<u32>)> {
    let part =
        (first..=last, first..=last, 1..=last, 0..4u8).prop_map(move |(a, b, step, form)| {
            let (low, high) = (a.min(b), a.max(b));
            let stepped = |from, to| (from..=to).step_by(step as usize).collect::<Vec<u32>>();
            match form {
                0 => (low.to_string(), vec![low]),
                1 => (format!("{low}-{high}"), (low..=high).collect()),
                2 => (format!("{low}-{high}/{step}"), stepped(low, high)),
                _ => (format!("*/{step}"), stepped(first, last)),
            }
        });
    prop_oneof![
        1 => Just(("*".to_owned(), (first..=last).collect())),
        3 => proptest::collection::vec(part, 1..3).prop_map(|parts| {
            let text: Vec<_> = parts.iter().map(|(text, _)| text.clone()).collect();
            (text.join(","), parts.into_iter().flat_map(|(_, numbers)| numbers).collect())
        }),
    ]
}

proptest! {
    /// The numbers are those that the fields stand for, found by counting up from the text's parts.
    #[test]
    fn a_schedule_is_what_its_fields_stand_for(
        minute in field(0, 59), hour in field(0, 23), day in field(1, 31), month in field(1, 12),
        weekday in field(0, 7),
    ) {
        let text = [&minute.0, &hour.0, &day.0, &month.0, &weekday.0].map(String::as_str).join(" ");
        let days = |month: u32| MONTH_DAYS[month as usize - 1];
        let exists = |m: &u32| day.1.iter().any(|d| *d <= days(*m));
        let fires = day.0 == "*" || weekday.0 != "*" || month.1.iter().any(exists);
        prop_assert_eq!(parsed(&text).is_ok(), fires, "{}", &text);
        let Ok(schedule) = parsed(&text) else { return Ok(()) };
        let times: Vec<_> = schedule.times().collect();
        let wanted = (0..24 * 60).map(|at| (at / 60, at % 60));
        let is_wanted = |(h, m): &(u32, u32)| hour.1.contains(h) && minute.1.contains(m);
        let wanted: Vec<_> = wanted.filter(is_wanted).collect();
        prop_assert_eq!(times, wanted);
        for (m, d, w) in (1..=12).flat_map(|m| (1..=31).map(move |d| (m, d, (m + d) % 7))) {
            let by_weekday = weekday.1.iter().any(|number| number % 7 == w);
            let by_day = day.1.contains(&d);
            let is_day = match (day.0.as_str(), weekday.0.as_str()) {
                ("*", _) | (_, "*") => by_day && by_weekday,
                _ => by_day || by_weekday,
            };
            prop_assert_eq!(schedule.has_day(m, d, w), is_day && month.1.contains(&m));
        }
    }

    #[test]
    fn no_text_panics(text in "[0-9*,/ -]{0,40}|.{0,40}") {
        let _ = parsed(&text);
    }
}
