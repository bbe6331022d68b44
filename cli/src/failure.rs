use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use lamplighter_client::TrustAnchorError;
use lamplighter_system::error_chain;

/// Exit code when a node or the ledger refused; other failures have 1, wrong arguments 2.
const REFUSED: u8 = 3;
/// Exit code when a transaction was sent and it is not known whether it happens.
const PENDING: u8 = 4;
/// Exit code when the ledger is not what an audit makes of it.
const DIFFERENT: u8 = 5;

/// Why a command failed: what was being tried, and the causes, printed once.
#[derive(Debug)]
pub struct Failure {
    operation: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    /// More explanation for people, on separate lines.
    note: Vec<String>,
    exit_code: u8,
}

impl Failure {
    pub fn new(operation: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Self {
        Self {
            operation: operation.into(),
            source: Some(Box::new(source)),
            ..Self::plain("")
        }
    }

    pub fn plain(text: impl Into<String>) -> Self {
        Self {
            operation: text.into(),
            source: None,
            note: Vec::new(),
            exit_code: 1,
        }
    }

    /// A refusal by a node or by the ledger.
    pub fn refused(text: impl Into<String>) -> Self {
        Self {
            exit_code: REFUSED,
            ..Self::plain(text)
        }
    }

    /// The transaction was sent and may still be executed.
    pub fn pending(text: impl Into<String>) -> Self {
        Self {
            exit_code: PENDING,
            ..Self::plain(text)
        }
    }

    /// The first difference that an audit found.
    pub fn different(difference: impl Error + Send + Sync + 'static) -> Self {
        Self {
            exit_code: DIFFERENT,
            ..Self::new("the audit found a difference", difference)
        }
    }

    /// True if an audit found a difference.
    pub fn is_difference(&self) -> bool {
        self.exit_code == DIFFERENT
    }

    /// Adds lines of text after those that it has.
    pub fn with_note(self, text: impl AsRef<str>) -> Self {
        let lines = text.as_ref().lines().map(str::to_owned);
        self.with_lines(lines)
    }

    /// Adds lines that hold texts of others, like [`with_note`](Self::with_note): each stays one
    /// line.
    pub fn with_lines(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.note.extend(lines);
        self
    }

    /// For `map_err`.
    pub fn during<E: Error + Send + Sync + 'static>(
        text: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let text = text.into();
        move |source| Self::new(text, source)
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit_code)
    }
}

impl Failure {
    /// The message, line by line: the operation with its causes, then the note. Texts of nodes and
    /// of the ledger are part of it, so a line may hold anything, also line breaks.
    pub fn lines(&self) -> Vec<String> {
        let mut first = self.operation.clone();
        if let Some(source) = &self.source {
            first += &format!(": {}", error_chain(source.as_ref()));
        }
        [first].into_iter().chain(self.note.clone()).collect()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

impl From<TrustAnchorError> for Failure {
    fn from(error: TrustAnchorError) -> Self {
        Self::new("the trusted validators", error)
    }
}
