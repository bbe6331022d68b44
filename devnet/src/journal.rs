//! The journal of steps and attacks: printed while they happen, kept for the report.

use std::future::Future;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use lamplighter_system::error_chain;

use crate::DevnetError;

/// Pause between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// One step of the demonstration.
#[derive(Clone, Debug, Serialize)]
pub struct JournalStep {
    pub step: String,
    pub passed: bool,
    pub seconds: f64,
    /// The findings, or the error.
    pub figure: Value,
}

/// The outcome of an attack.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AttackOutcome {
    Refused,
    NotRefused,
    /// The attack is impossible on a devnet of this size.
    NotApplicable,
}

/// An attack that must be refused, with its outcome.
#[derive(Clone, Debug, Serialize)]
pub struct JournalAttack {
    pub attack: String,
    pub verdict: AttackOutcome,
    /// The stable code and the text of the refusal, or the reason for not trying it.
    pub detail: String,
}

/// The JSON report.
#[derive(Clone, Debug, Serialize)]
pub struct JournalReport {
    pub passed: bool,
    pub seconds: f64,
    pub steps: Vec<JournalStep>,
    pub attacks: Vec<JournalAttack>,
}

/// Prints the progress of a long step, at a readable pace.
#[derive(Debug)]
pub struct Progress {
    printing: bool,
    begun: Instant,
    printed: Instant,
    last: String,
}

impl Progress {
    pub fn print(&mut self, text: String) {
        if self.printing && text != self.last && self.printed.elapsed() >= PROGRESS_EVERY {
            print_line(self.begun, &format!("  {text}"));
            (self.last, self.printed) = (text, Instant::now());
        }
    }
}

/// Prints a line on standard output, with the seconds since the beginning.
fn print_line(begun: Instant, text: &str) {
    println!("[{:6.1} s] {text}", begun.elapsed().as_secs_f64());
}

/// Collects steps and attacks.
#[derive(Debug)]
pub struct Journal {
    printing: bool,
    begun: Instant,
    pub steps: Vec<JournalStep>,
    pub attacks: Vec<JournalAttack>,
}

impl Journal {
    /// A journal; with `printing` it prints each step on standard output.
    pub fn new(printing: bool) -> Self {
        Self {
            printing,
            begun: Instant::now(),
            steps: Vec::new(),
            attacks: Vec::new(),
        }
    }

    /// Progress of the step under way.
    pub fn progress(&self) -> Progress {
        Progress {
            printing: self.printing,
            begun: self.begun,
            printed: Instant::now(),
            last: String::new(),
        }
    }

    /// Prints a line.
    pub fn print(&self, text: &str) {
        if self.printing {
            print_line(self.begun, text);
        }
    }

    /// Prints a line over the attacks that follow.
    pub fn heading(&self, text: &str) {
        self.print(&format!("attacks by {text}"));
    }

    /// Runs a step and records its findings. `passed` is the line printed when it has passed.
    ///
    /// # Errors
    /// The error of the step.
    pub async fn step<T: Serialize>(
        &mut self,
        name: &str,
        passed: &str,
        work: impl Future<Output = Result<T, DevnetError>>,
    ) -> Result<T, DevnetError> {
        let begun = Instant::now();
        let result = work.await;
        self.record(name, passed, begun, &result);
        result
    }

    /// Records the findings of a step that began at this time.
    pub fn record<T: Serialize>(
        &mut self,
        name: &str,
        passed: &str,
        begun: Instant,
        result: &Result<T, DevnetError>,
    ) {
        let figure = match result {
            Ok(found) => json!(found),
            Err(error) => json!({ "error": error_chain(error) }),
        };
        match result {
            Ok(_) => self.print(passed),
            Err(error) => self.print(&format!("FAILED: {name}: {}", error_chain(error))),
        }
        self.steps.push(JournalStep {
            step: name.to_owned(),
            passed: result.is_ok(),
            seconds: begun.elapsed().as_secs_f64(),
            figure,
        });
    }

    /// Records the outcome of an attack: the text of the refusal, or an error.
    pub fn attack(&mut self, name: &str, result: Result<String, DevnetError>) {
        let (verdict, detail) = match result {
            Ok(refusal) => (AttackOutcome::Refused, refusal),
            Err(error) => (AttackOutcome::NotRefused, error_chain(&error)),
        };
        self.record_attack(name, verdict, detail);
    }

    /// Records that the attack is impossible on a devnet of this size, e.g. "1 validator".
    pub fn not_applicable(&mut self, name: &str, size: &str) {
        let detail = format!("not applicable with {size}");
        self.record_attack(name, AttackOutcome::NotApplicable, detail);
    }

    fn record_attack(&mut self, name: &str, verdict: AttackOutcome, detail: String) {
        let word = match verdict {
            AttackOutcome::Refused => "refused",
            AttackOutcome::NotRefused => "NOT REFUSED",
            AttackOutcome::NotApplicable => "not tried",
        };
        self.print(&format!("  {word}: {name}: {detail}"));
        self.attacks.push(JournalAttack {
            attack: name.to_owned(),
            verdict,
            detail,
        });
    }

    /// The number of attacks with this outcome.
    pub fn count(&self, verdict: AttackOutcome) -> usize {
        let attacks = self.attacks.iter();
        attacks.filter(|attack| attack.verdict == verdict).count()
    }

    /// True if every step passed and no attack succeeded.
    pub fn passed(&self) -> bool {
        self.steps.iter().all(|step| step.passed) && self.count(AttackOutcome::NotRefused) == 0
    }

    pub fn report(&self) -> JournalReport {
        JournalReport {
            passed: self.passed(),
            seconds: self.begun.elapsed().as_secs_f64(),
            steps: self.steps.clone(),
            attacks: self.attacks.clone(),
        }
    }
}
