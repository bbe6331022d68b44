//! Settings of the HTTP interface that an operator chooses.

use serde::{Deserialize, Serialize};

/// Settings of the HTTP interface: the table `[http]` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Origins of browsers' pages that may read answers and open the feed, e.g.
    /// `https://cms.example.org`; none by default.
    pub cors_origins: Vec<String>,
}

/// The reason why settings can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("http.cors_origins: {0:?} is no origin, e.g. https://cms.example.org")]
    Origin(String),
}

impl HttpSettings {
    /// Checks the values.
    ///
    /// # Errors
    /// A value that is out of range or has another form.
    pub fn check(&self) -> Result<(), SettingsError> {
        match self.cors_origins.iter().find(|origin| !is_origin(origin)) {
            Some(origin) => Err(SettingsError::Origin(origin.clone())),
            None => Ok(()),
        }
    }
}

/// Tells whether a text has the form in which browsers send an origin: scheme, host and port, with
/// nothing after them.
fn is_origin(text: &str) -> bool {
    let host = ["https://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    host.is_some_and(|host| {
        let is_allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:[]".contains(c);
        !host.is_empty() && host.chars().all(is_allowed)
    })
}
