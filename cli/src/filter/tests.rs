use super::{SilentFor, WrittenFilter};

#[test]
fn the_first_wrong_sign_is_marked() {
    let text = "model==lamp;colour==red";
    let refused = text.parse::<WrittenFilter>().unwrap_err().to_string();
    let lines: Vec<_> = refused.lines().collect();
    assert!(lines[0].starts_with("column 13: there is no field \"colour\""));
    assert!(lines[0].contains("hardware_class"), "{refused}");
    assert_eq!(lines[1], "  model==lamp;colour==red");
    assert_eq!(lines[2], format!("  {}^", " ".repeat(12)));
    for (text, column, wanted) in [
        ("model=lamp", 6, "=lt="),
        ("model==", 8, "a value is missing"),
        ("drifted==maybe", 10, "true"),
        ("(model==a", 10, "a closing bracket is missing"),
        ("model==a b", 10, "`;`, `,` or the end was expected"),
    ] {
        let refused = text.parse::<WrittenFilter>().unwrap_err().to_string();
        let place = format!("column {column}: ");
        assert!(refused.starts_with(&place), "{text}: {refused}");
        assert!(refused.contains(wanted), "{text}: {refused}");
        let mark = format!("\n  {}^", " ".repeat(column - 1));
        assert!(refused.ends_with(&mark), "{text}: {refused}");
    }
}

#[test]
fn a_time_of_silence_is_a_number_with_its_unit() {
    for time in ["24h", "30m", "7d"] {
        let read = time.parse::<SilentFor>().unwrap();
        assert_eq!(read.0, format!("last_seen=lt=-{time}"));
    }
    for time in [
        "",
        "h",
        "90s",
        "24",
        "-24h",
        "1 h",
        "24h;model==a",
        "7y",
        "1h2m",
    ] {
        assert!(time.parse::<SilentFor>().is_err(), "{time}");
    }
}
