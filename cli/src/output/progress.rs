//! The progress of something long: a bar where standard error is a terminal, a line for each tenth
//! elsewhere, nothing beside JSON.

use indicatif::{ProgressBar, ProgressStyle};

use super::Output;

/// Percent between two lines.
const STEP_PERCENT: u64 = 10;

/// The progress of one operation; the bar is removed when it is dropped.
pub struct Progress {
    output: Output,
    /// The past participle for people, e.g. `uploaded`.
    done_word: &'static str,
    bar: ProgressBar,
    reported_percent: u64,
}

impl Progress {
    /// Begins an operation on bytes.
    pub fn of_bytes(output: Output, done_word: &'static str) -> Self {
        let form = "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        Self::new(output, done_word, form)
    }

    /// Begins an operation on blocks of the chain.
    pub fn of_blocks(output: Output, done_word: &'static str) -> Self {
        Self::new(
            output,
            done_word,
            "{wide_bar} block {pos} of {len}, {per_sec}, {eta} left",
        )
    }

    /// Begins an operation on proofs.
    pub fn of_proofs(output: Output, done_word: &'static str) -> Self {
        Self::new(output, done_word, "{wide_bar} {pos} of up to {len}")
    }

    fn new(output: Output, done_word: &'static str, form: &str) -> Self {
        let bar = if output.json {
            ProgressBar::hidden()
        } else {
            // Hidden by itself where standard error is no terminal.
            ProgressBar::new(0)
        };
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        Self {
            output,
            done_word,
            bar,
            reported_percent: 0,
        }
    }

    /// Reports so many of all bytes.
    pub fn report(&mut self, done: u64, all: u64) {
        if !self.bar.is_hidden() {
            self.bar.set_length(all);
            return self.bar.set_position(done);
        }
        let percent = done.saturating_mul(100) / all.max(1);
        if percent >= self.reported_percent + STEP_PERCENT {
            self.reported_percent = percent;
            let done_word = self.done_word;
            self.output.print_text(&format!("{done_word} {percent} %"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
