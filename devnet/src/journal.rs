//! What was done and found, step by step: told while it happens, kept for the report.

use std::future::Future;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use crate::{DevnetError, causes};

/// One step of the demonstration.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    pub step: String,
    pub held: bool,
    pub seconds: f64,
    /// What it found, or why it did not hold.
    pub figure: Value,
}

/// Something that must be refused, and how it was.
#[derive(Clone, Debug, Serialize)]
pub struct Attack {
    pub attack: String,
    pub refused: bool,
    /// Who refused it, with the stable code and the words for people.
    pub refusal: String,
}

/// The JSON report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub held: bool,
    pub seconds: f64,
    pub steps: Vec<Step>,
    pub attacks: Vec<Attack>,
}

/// Speaks on standard output, or is silent.
#[derive(Clone, Copy, Debug)]
pub struct Voice(bool);

impl Voice {
    pub fn say(&self, text: &str) {
        if self.0 {
            println!("          {text}");
        }
    }
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
    /// A loud one tells each step on standard output.
    pub fn new(loud: bool) -> Self {
        Self {
            loud,
            begun: Instant::now(),
            steps: Vec::new(),
            attacks: Vec::new(),
        }
    }

    /// For telling something about the step under way.
    pub fn voice(&self) -> Voice {
        Voice(self.loud)
    }

    /// Says something about the step under way.
    pub fn say(&self, text: &str) {
        self.voice().say(text);
    }

    /// Does a step and notes what it found.
    ///
    /// # Errors
    /// That of the step.
    pub async fn step<T: Serialize>(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<T, DevnetError>>,
    ) -> Result<T, DevnetError> {
        let begun = Instant::now();
        self.begin(name);
        let result = work.await;
        self.note(name, begun, &result);
        result
    }

    /// Tells that a step begins.
    pub fn begin(&self, name: &str) {
        if self.loud {
            println!("[{:6.1} s] {name}", self.begun.elapsed().as_secs_f64());
        }
    }

    /// Notes what a step found that began at this time.
    pub fn note<T: Serialize>(
        &mut self,
        name: &str,
        begun: Instant,
        result: &Result<T, DevnetError>,
    ) {
        let figure = match result {
            Ok(found) => json!(found),
            Err(error) => json!({ "error": causes(error) }),
        };
        let seconds = begun.elapsed().as_secs_f64();
        let text = figure.to_string();
        self.say(text.chars().take(160).collect::<String>().as_str());
        let (step, held) = (name.to_owned(), result.is_ok());
        self.steps.push(Step {
            step,
            held,
            seconds,
            figure,
        });
    }

    /// Notes how an attack ended: refused with some words, or not.
    pub fn attack(&mut self, name: &str, result: Result<String, DevnetError>) {
        let (refused, refusal) = match result {
            Ok(refusal) => (true, refusal),
            Err(error) => (false, causes(&error)),
        };
        if self.loud {
            let verdict = if refused { "refused" } else { "NOT REFUSED" };
            let short: String = refusal.chars().take(110).collect();
            println!("          {verdict:11} {name}: {short}");
        }
        self.attacks.push(Attack {
            attack: name.to_owned(),
            refused,
            refusal,
        });
    }

    /// Whether every step held and every attack was refused.
    pub fn held(&self) -> bool {
        self.steps.iter().all(|step| step.held) && self.attacks.iter().all(|a| a.refused)
    }

    /// The figure of a step that was done.
    pub fn figure(&self, name: &str) -> Option<&Value> {
        self.steps
            .iter()
            .find(|step| step.step == name)
            .map(|step| &step.figure)
    }

    pub fn report(&self) -> Report {
        Report {
            held: self.held(),
            seconds: self.begun.elapsed().as_secs_f64(),
            steps: self.steps.clone(),
            attacks: self.attacks.clone(),
        }
    }
}
