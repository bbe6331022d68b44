use super::*;

fn written(text: &str) -> Result<MaintenanceWindow, NotAWindow> {
    text.parse::<WrittenWindow>().map(|window| window.0)
}

#[test]
fn a_window_is_written_as_it_is_printed() {
    let night = written("0 2 * * 1-5 for 3h in Europe/Berlin").unwrap();
    assert_eq!(
        night,
        MaintenanceWindow {
            schedule: "0 2 * * 1-5".to_owned(),
            minutes: 180,
            zone: "Europe/Berlin".to_owned(),
        }
    );
    let rules = InstallRules {
        windows: vec![night],
        consent: vec![ConsentFrom::Owner, ConsentFrom::Thing],
        wait_ms_max: WAIT_MS,
    };
    let lines = rule_members(&rules);
    let lines: Vec<_> = lines
        .iter()
        .map(|(name, text)| format!("{name}: {text}"))
        .collect();
    assert_eq!(
        lines[..2],
        [
            "installs: from 0 2 * * 1-5 for 3 h in Europe/Berlin",
            "consent from: a person of the owner, or the Thing",
        ]
    );
}

#[test]
fn what_is_no_window_is_explained() {
    for text in ["", "0 2 * * *", "0 2 * * * for 3h", "0 2 * * * in UTC"] {
        assert_eq!(written(text), Err(NotAWindow::Parts), "{text}");
    }
    for length in ["0", "90s", "3", "x"] {
        let text = format!("0 2 * * * for {length} in UTC");
        assert_eq!(written(&text), Err(NotAWindow::Length(length.to_owned())));
    }
    let never = written("0 0 30 2 * for 1h in UTC").unwrap_err();
    assert!(never.to_string().contains("never fires"), "{never}");
    let zone = written("0 2 * * * for 1h in +01:00");
    assert_eq!(zone, Err(NotAWindow::Zone("+01:00".to_owned())));
}

#[test]
fn options_that_are_not_written_leave_a_plan_without_guards() {
    assert_eq!(Guarding::default().rules(), None);
    let consent = Guarding {
        consent: vec![Asked::Operator],
        ..Guarding::default()
    };
    assert_eq!(consent.rules().unwrap().wait_ms_max, WAIT_MS);
}
