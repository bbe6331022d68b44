//! Guards of a plan: what people write of windows and consent, and how they are printed.

#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use lamplighter_types::schedule::{Schedule, ScheduleError, is_zone_name};
use lamplighter_types::{
    Action, Consent, ConsentChoice, ConsentDecision, ConsentFrom, Id, InstallRecord, InstallRules,
    MaintenanceWindow, RolloutsAction,
};

use crate::failure::Failure;
use crate::groups::duration_ms;
use crate::output::{emit_members, or_dash, print};
use crate::session::{Session, asking};
use crate::time;

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
/// How long a device waits to be installed where nothing is written.
const WAIT_MS: u64 = 7 * DAY_MS;

/// The options of a plan with guards.
#[derive(Debug, Default, Args)]
pub struct Guarding {
    /// A maintenance window, inside of which alone devices install: when it opens, in the five
    /// fields of cron (minute, hour, day of the month, month, day of the week), for how long, and
    /// in which zone: `0 2 * * 1-5 for 3h in Europe/Berlin`. May be repeated. The download waits
    /// for no window.
    #[arg(long = "window")]
    windows: Vec<WrittenWindow>,
    /// A kind of people, or the Thing, that has to consent before a device installs; of several
    /// one is enough.
    #[arg(long = "consent", value_enum)]
    consent: Vec<Asked>,
    /// The longest wait between the download and the installation: `12h`, `7d`.
    #[arg(long, value_parser = span)]
    wait_max: Option<u64>,
}

/// A kind of consent, as a person writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Asked {
    Operator,
    Owner,
    Thing,
}

impl Guarding {
    /// The rules, if any of the options was written.
    pub fn rules(self) -> Option<InstallRules> {
        let Self {
            windows,
            consent,
            wait_max,
        } = self;
        if windows.is_empty() && consent.is_empty() && wait_max.is_none() {
            return None;
        }
        let consent = consent.into_iter().map(|asked| match asked {
            Asked::Operator => ConsentFrom::Operator,
            Asked::Owner => ConsentFrom::Owner,
            Asked::Thing => ConsentFrom::Thing,
        });
        Some(InstallRules {
            windows: windows.into_iter().map(|window| window.0).collect(),
            consent: consent.collect(),
            wait_ms_max: wait_max.unwrap_or(WAIT_MS),
        })
    }
}

/// A window as a person wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct WrittenWindow(MaintenanceWindow);

/// Why a text is no window.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAWindow {
    #[error("write `0 2 * * 1-5 for 3h in Europe/Berlin`: when it opens, how long, in which zone")]
    Parts,
    #[error("`{0}`: write the time for which it is open as `90m`, `3h` or `2d`, up to 7d")]
    Length(String),
    #[error("`{0}` is no name of a zone, such as Europe/Berlin or UTC")]
    Zone(String),
    #[error("`{schedule}`: {error}")]
    Schedule {
        schedule: String,
        error: ScheduleError,
    },
}

impl FromStr for WrittenWindow {
    type Err = NotAWindow;

    fn from_str(text: &str) -> Result<Self, NotAWindow> {
        let (rest, zone) = text.rsplit_once(" in ").ok_or(NotAWindow::Parts)?;
        let (schedule, length) = rest.split_once(" for ").ok_or(NotAWindow::Parts)?;
        let (schedule, length, zone) = (schedule.trim(), length.trim(), zone.trim());
        if let Err(error) = schedule.parse::<Schedule>() {
            let schedule = schedule.to_owned();
            return Err(NotAWindow::Schedule { schedule, error });
        }
        let minutes = duration_ms(length).filter(|ms| ms % MINUTE_MS == 0);
        let minutes = minutes.and_then(|ms| u32::try_from(ms / MINUTE_MS).ok());
        let minutes = minutes.filter(|minutes| *minutes > 0);
        let minutes = minutes.ok_or_else(|| NotAWindow::Length(length.to_owned()))?;
        if !is_zone_name(zone) {
            return Err(NotAWindow::Zone(zone.to_owned()));
        }
        Ok(Self(MaintenanceWindow {
            schedule: schedule.to_owned(),
            minutes,
            zone: zone.to_owned(),
        }))
    }
}

fn span(text: &str) -> Result<u64, String> {
    let span = duration_ms(text).filter(|ms| *ms > 0);
    span.ok_or_else(|| "write a time as `90m`, `12h` or `7d`".to_owned())
}

/// The guards of a plan in words.
pub fn rule_members(rules: &InstallRules) -> Vec<(&'static str, String)> {
    let InstallRules {
        windows,
        consent,
        wait_ms_max,
    } = rules;
    let windows: Vec<_> = windows.iter().map(of_window).collect();
    let windows = match windows.as_slice() {
        [] => "at any time".to_owned(),
        windows => windows.join("; "),
    };
    let consent: Vec<_> = consent.iter().map(|asked| of_asked(*asked)).collect();
    let consent = match consent.as_slice() {
        [] => "nobody".to_owned(),
        consent => consent.join(", or "),
    };
    vec![
        ("installs", windows),
        ("consent from", consent),
        ("waits at most", time::duration(*wait_ms_max)),
    ]
}

fn of_window(window: &MaintenanceWindow) -> String {
    let MaintenanceWindow {
        schedule,
        minutes,
        zone,
    } = window;
    let length = time::duration(u64::from(*minutes) * MINUTE_MS);
    format!("from {schedule} for {length} in {zone}")
}

fn of_asked(asked: ConsentFrom) -> &'static str {
    match asked {
        ConsentFrom::Operator => "an operator of the district",
        ConsentFrom::Owner => "a person of the owner",
        ConsentFrom::Thing => "the Thing",
    }
}

/// A decision in words.
pub fn choice(choice: ConsentChoice) -> String {
    match choice {
        ConsentChoice::Granted { until_ms } => {
            format!("consent to install until {}", time::local(until_ms))
        }
        ConsentChoice::Withdrawn => "consent withdrawn".to_owned(),
        ConsentChoice::Refused => "installation refused".to_owned(),
    }
}

/// The guards of the plan, if it has some.
pub async fn rules(session: &Session, rollout: &Id) -> Result<Option<InstallRules>, Failure> {
    match session.client.install_rules(rollout).await {
        Ok(read) => Ok(Some(read.value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(asking(error)),
    }
}

/// A decision about one installation.
#[derive(Debug, Args)]
pub struct Decide {
    rollout: Id,
    device: Id,
    /// The time until which it may install: 2026-12-01T06:00, +2d, tomorrow, or Unix time in ms.
    #[arg(value_parser = time::parse, required_unless_present_any = ["withdraw", "refuse", "show"])]
    until: Option<u64>,
    /// Takes back a consent.
    #[arg(long, conflicts_with_all = ["until", "refuse"])]
    withdraw: bool,
    /// Refuses the installation, which cancels it.
    #[arg(long, conflicts_with = "until")]
    refuse: bool,
    /// Prints who consented, and how often it was put off, and decides nothing.
    #[arg(long, conflicts_with_all = ["until", "withdraw", "refuse"])]
    show: bool,
    #[arg(long, default_value = "")]
    reason: String,
}

/// Sends a decision, or prints what was decided.
pub async fn decide(session: &Session, decide: Decide) -> Result<ExitCode, Failure> {
    let Decide {
        rollout,
        device,
        until,
        withdraw,
        refuse,
        show,
        reason,
    } = decide;
    let decision = match until {
        _ if show => {
            let read = session.client.install_record(&rollout, &device).await;
            print_record(session, &read.map_err(asking)?.value);
            return Ok(ExitCode::SUCCESS);
        }
        Some(until_ms) => ConsentChoice::Granted { until_ms },
        None if refuse => ConsentChoice::Refused,
        None => {
            debug_assert!(withdraw, "the command line asks for one of them");
            ConsentChoice::Withdrawn
        }
    };
    let action = RolloutsAction::Consent(ConsentDecision {
        rollout,
        device,
        decision,
        reason,
    });
    session.act(Action::Rollouts(action)).await?;
    Ok(ExitCode::SUCCESS)
}

fn print_record(session: &Session, record: &InstallRecord) {
    if session.output.json {
        print(&serde_json::json!(record));
        return;
    }
    let InstallRecord {
        rollout,
        device,
        wait_until_ms,
        consent,
        granted,
        withdrawn,
        refused,
        postponed_by_thing,
    } = record;
    let consent = consent.as_ref().map(|consent| {
        let Consent {
            by,
            by_thing,
            granted_ms,
            until_ms,
        } = consent;
        let by = match by_thing {
            true => format!("the Thing, passed on by {by}"),
            false => by.to_string(),
        };
        let (at, until) = (time::local(*granted_ms), time::local(*until_ms));
        format!("{by}, on {at}, until {until}")
    });
    let counts = format!("{granted} given, {withdrawn} withdrawn, {refused} refused");
    emit_members(&[
        ("rollout", rollout.to_string()),
        ("device", device.to_string()),
        ("consent", or_dash(consent)),
        ("decisions", counts),
        (
            "postponed by the Thing",
            format!("{postponed_by_thing} times"),
        ),
        ("waits until", or_dash(wait_until_ms.map(time::local))),
    ]);
}
