//! The reports that the pages show, by the measurement.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::read;
use crate::error::BenchError;
use crate::peers::PeersReport;
use crate::scale::FleetReport;

/// The newest report of each measurement. Those that are only shown are kept as JSON, so that a
/// report with more figures is one too.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stored {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bench: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<PeersReport>,
    /// By the number of devices.
    #[serde(default)]
    pub fleets: Vec<FleetReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soak: Option<Value>,
}

impl Stored {
    /// Reads the stored reports; none if there is no file.
    pub fn read(path: &Path) -> Result<Self, BenchError> {
        if !path.exists() {
            return Ok(Self::default());
        }
        parse(path)
    }

    pub fn write(&self, path: &Path) -> Result<(), BenchError> {
        let mut text = serde_json::to_string_pretty(self).expect("reports have a JSON form");
        text.push('\n');
        fs::write(path, text).map_err(BenchError::io("writing", path))
    }

    /// Takes the reports of a folder, under the names that the measurements give them.
    pub fn take_from(&mut self, folder: &Path) -> Result<(), BenchError> {
        let failed = || BenchError::io("listing", folder);
        for entry in fs::read_dir(folder).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            match name.unwrap_or_default() {
                "bench-report.json" => self.bench = Some(parse(&path)?),
                "peers-report.json" => self.peers = Some(parse(&path)?),
                "catch-up-report.json" => self.catch_up = Some(parse(&path)?),
                "soak-report.json" => self.soak = Some(without_samples(parse(&path)?)),
                name if name.starts_with("fleet-") && name.ends_with("-report.json") => {
                    self.add_fleet(parse(&path)?);
                }
                _ => continue,
            }
            println!("taken: {}", path.display());
        }
        Ok(())
    }

    fn add_fleet(&mut self, report: FleetReport) {
        let place = |report: &FleetReport| (report.validators, report.devices);
        self.fleets.retain(|other| place(other) != place(&report));
        self.fleets.push(report);
        self.fleets.sort_by_key(place);
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, BenchError> {
    let text = read(path)?;
    serde_json::from_str(&text).map_err(|source| BenchError::Report {
        path: path.to_owned(),
        source,
    })
}

/// The pages show the assessment of a long run, not its hundreds of samples.
fn without_samples(mut report: Value) -> Value {
    if let Some(report) = report.as_object_mut() {
        report.remove("samples");
    }
    report
}
