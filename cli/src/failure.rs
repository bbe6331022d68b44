use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// Exit code when a node or the ledger said no; other failures have 1, wrong arguments 2.
const REFUSED: u8 = 3;

/// Why a command failed: what was being tried, and the causes, printed once.
#[derive(Debug)]
pub struct Failure {
    doing: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    refused: bool,
}

impl Failure {
    pub fn new(doing: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Self {
        Self {
            doing: doing.into(),
            source: Some(Box::new(source)),
            refused: false,
        }
    }

    pub fn plain(text: impl Into<String>) -> Self {
        Self {
            doing: text.into(),
            source: None,
            refused: false,
        }
    }

    /// A node or the ledger said no.
    pub fn refused(text: impl Into<String>) -> Self {
        Self {
            doing: text.into(),
            source: None,
            refused: true,
        }
    }

    /// For `map_err`.
    pub fn doing<E: Error + Send + Sync + 'static>(
        text: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let text = text.into();
        move |source| Self::new(text, source)
    }

    pub fn exit_code(&self) -> ExitCode {
        if self.refused {
            ExitCode::from(REFUSED)
        } else {
            ExitCode::FAILURE
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)?;
        let mut cause: Option<&(dyn Error + 'static)> = match &self.source {
            Some(source) => Some(source.as_ref()),
            None => None,
        };
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
