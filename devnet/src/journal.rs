//! What was done and found, step by step: printed while it happens, kept for the report.

use std::future::Future;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use crate::{DevnetError, causes};

/// Between two lines about how far a long step is.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// One step of the demonstration.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    pub step: String,
    pub passed: bool,
    pub seconds: f64,
    /// What it found, or why it did not pass.
    pub figure: Value,
}

/// How an attack ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Refused,
    NotRefused,
    /// A devnet of this size can't be attacked in this way.
    NotApplicable,
}

/// Something that must be refused, and how it was.
#[derive(Clone, Debug, Serialize)]
pub struct Attack {
    pub attack: String,
    pub verdict: Verdict,
    /// Who refused it, with the stable code and the words for people; or why it was not tried.
    pub detail: String,
}

/// The JSON report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub passed: bool,
    pub seconds: f64,
    pub steps: Vec<Step>,
    pub attacks: Vec<Attack>,
}

/// Prints how far a long step is, not more often than a person reads.
#[derive(Debug)]
pub struct Progress {
    loud: bool,
    begun: Instant,
    printed: Instant,
    last: String,
}

impl Progress {
    pub fn say(&mut self, text: String) {
        if self.loud && text != self.last && self.printed.elapsed() >= PROGRESS_EVERY {
            print(self.begun, &format!("  {text}"));
            (self.last, self.printed) = (text, Instant::now());
        }
    }
}

/// A line on standard output, with the seconds since the beginning.
fn print(begun: Instant, text: &str) {
    println!("[{:6.1} s] {text}", begun.elapsed().as_secs_f64());
}

/// Collects steps and attacks.
#[derive(Debug)]
pub struct Journal {
    loud: bool,
    begun: Instant,
    pub steps: Vec<Step>,
    pub attacks: Vec<Attack>,
}

impl Journal {
    /// A loud one prints each step on standard output.
    pub fn new(loud: bool) -> Self {
        Self {
            loud,
            begun: Instant::now(),
            steps: Vec::new(),
            attacks: Vec::new(),
        }
    }

    /// For the step under way.
    pub fn progress(&self) -> Progress {
        Progress {
            loud: self.loud,
            begun: self.begun,
            printed: Instant::now(),
            last: String::new(),
        }
    }

    /// Prints a line.
    pub fn say(&self, text: &str) {
        if self.loud {
            print(self.begun, text);
        }
    }

    /// Does a step and notes what it found. `passed` is what a person reads when it has passed.
    ///
    /// # Errors
    /// That of the step.
    pub async fn step<T: Serialize>(
        &mut self,
        name: &str,
        passed: &str,
        work: impl Future<Output = Result<T, DevnetError>>,
    ) -> Result<T, DevnetError> {
        let begun = Instant::now();
        let result = work.await;
        self.note(name, passed, begun, &result);
        result
    }

    /// Notes what a step found that began at this time.
    pub fn note<T: Serialize>(
        &mut self,
        name: &str,
        passed: &str,
        begun: Instant,
        result: &Result<T, DevnetError>,
    ) {
        let figure = match result {
            Ok(found) => json!(found),
            Err(error) => json!({ "error": causes(error) }),
        };
        match result {
            Ok(_) => self.say(passed),
            Err(error) => self.say(&format!("FAILED: {name}: {}", causes(error))),
        }
        self.steps.push(Step {
            step: name.to_owned(),
            passed: result.is_ok(),
            seconds: begun.elapsed().as_secs_f64(),
            figure,
        });
    }

    /// Notes how an attack ended: refused with some words, or not.
    pub fn attack(&mut self, name: &str, result: Result<String, DevnetError>) {
        let (verdict, detail) = match result {
            Ok(refusal) => (Verdict::Refused, refusal),
            Err(error) => (Verdict::NotRefused, causes(&error)),
        };
        self.judge(name, verdict, detail);
    }

    /// Notes that a devnet like this, e.g. "1 validator", can't be attacked in this way.
    pub fn not_applicable(&mut self, name: &str, size: &str) {
        let detail = format!("not applicable with {size}");
        self.judge(name, Verdict::NotApplicable, detail);
    }

    fn judge(&mut self, name: &str, verdict: Verdict, detail: String) {
        let word = match verdict {
            Verdict::Refused => "refused",
            Verdict::NotRefused => "NOT REFUSED",
            Verdict::NotApplicable => "not tried",
        };
        self.say(&format!("  {word}: {name}: {detail}"));
        self.attacks.push(Attack {
            attack: name.to_owned(),
            verdict,
            detail,
        });
    }

    /// How many attacks ended like this.
    pub fn count(&self, verdict: Verdict) -> usize {
        let attacks = self.attacks.iter();
        attacks.filter(|attack| attack.verdict == verdict).count()
    }

    /// Whether every step passed and no attack got through.
    pub fn passed(&self) -> bool {
        self.steps.iter().all(|step| step.passed) && self.count(Verdict::NotRefused) == 0
    }

    pub fn report(&self) -> Report {
        Report {
            passed: self.passed(),
            seconds: self.begun.elapsed().as_secs_f64(),
            steps: self.steps.clone(),
            attacks: self.attacks.clone(),
        }
    }
}
