//! The measurement `soak`: an hour at half load, to find resources that grow, and to compare the
//! growth of the disk with the prediction.

mod assessment;
pub mod pace;
mod predict;
#[cfg(test)]
mod tests;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use crate::cluster::Cluster;
use crate::error::BenchError;
use crate::fleet::Fleet;
use crate::load::{self, LoadPhase, MachineLimits, Workload};
use crate::machine::{self, Machine};
use crate::options::SoakOptions;
use crate::{report, table};

use assessment::SoakAssessment;
use pace::Pace;
use predict::Prediction;
use watch::Sample;

/// Length of the calibration.
const CALIBRATION_S: u64 = 20;
/// Clients of the calibration and of the soak: the same number, so that half the rate is half the
/// load.
pub const CLIENTS: usize = 64;
/// Part of the time that is not assessed: caches fill, and the first snapshot and flushes happen.
const WARM_UP_PART: f64 = 0.2;

/// The report of a soak: `soak-report.json`.
#[derive(Debug, Serialize)]
pub struct SoakReport {
    pub machine: Machine,
    pub validators: usize,
    pub minutes: f64,
    pub warm_up_minutes: f64,
    /// Transactions a second that the calibration reached, if there was one.
    pub calibrated_per_second: Option<f64>,
    pub rate_per_second: f64,
    pub committed: u64,
    pub failed: u64,
    pub first_failure: Option<String>,
    pub busy: u64,
    /// Largest delay of a transaction against the schedule.
    pub late_ms_max: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    pub prediction: Prediction,
    pub verdict: SoakAssessment,
    pub samples: Vec<Sample>,
}

/// Runs the soak and writes the report.
///
/// # Errors
/// A node ends, a transaction fails, or something is not flat or not as predicted.
pub async fn run(options: &SoakOptions, dir: &Path, program: &Path) -> Result<(), BenchError> {
    let machine = machine::describe(dir)?;
    table::machine(&machine, program);
    let mut cluster = Cluster::start(program, dir, options.validators).await?;
    let outcome = soak(&mut cluster, options, dir).await;
    let stopped = cluster.stop().await;
    let report = outcome?.report(machine, options);
    stopped?;
    assessment::print(&report);
    report::write(options.report.as_deref(), "soak-report.json", &report)?;
    if report.failed > 0 {
        let first = report.first_failure.unwrap_or_default();
        return Err(BenchError::Failures(report.failed, "the soak", first));
    }
    report.verdict.check()
}

/// The samples and counts of a soak.
struct SoakRun {
    calibrated: Option<f64>,
    rate: f64,
    warm_up: Duration,
    tally: pace::PaceTally,
    prediction: Prediction,
    samples: Vec<Sample>,
}

impl SoakRun {
    fn report(self, machine: Machine, options: &SoakOptions) -> SoakReport {
        let assessed_from_s = self.warm_up.as_secs_f64();
        let verdict = assessment::assess(&self.samples, assessed_from_s, &self.prediction);
        let ms = |percent| self.tally.percentile_ms(percent);
        SoakReport {
            machine,
            validators: options.validators,
            minutes: options.minutes,
            warm_up_minutes: assessed_from_s / 60.0,
            calibrated_per_second: self.calibrated,
            rate_per_second: self.rate,
            committed: self.tally.committed,
            failed: self.tally.failed,
            first_failure: self.tally.first_failure.clone(),
            busy: self.tally.busy,
            late_ms_max: self.tally.late_ms_max,
            p50_ms: ms(50.0),
            p99_ms: ms(99.0),
            max_ms: ms(100.0),
            prediction: self.prediction,
            verdict,
            samples: self.samples,
        }
    }
}

async fn soak(
    cluster: &mut Cluster,
    options: &SoakOptions,
    dir: &Path,
) -> Result<SoakRun, BenchError> {
    cluster.ready().await?;
    let fleet = Arc::new(Fleet::new(cluster.chain_id));
    load::register(cluster, &fleet).await?;
    let (calibrated, rate) = match options.rate {
        Some(rate) => (None, rate),
        None => {
            let reached = calibrate(cluster, &fleet).await?;
            println!("calibration: {reached:.0} transactions/s with {CLIENTS} clients");
            (Some(reached), reached / 2.0)
        }
    };
    let length = Duration::from_secs_f64(options.minutes * 60.0);
    let warm_up = length.mul_f64(WARM_UP_PART);
    println!(
        "{rate:.0} transactions/s for {:.1} minutes, the first {:.1} are not judged",
        options.minutes,
        warm_up.as_secs_f64() / 60.0
    );
    let pace = Arc::new(Pace::new(fleet, rate, length));
    let clients = pace::start(&pace, cluster);
    let samples = sample(cluster, &pace, options, length).await?;
    let tally = clients.join(cluster).await?;
    let prediction = predict::predict(pace.sent(), dir, cluster)?;
    Ok(SoakRun {
        calibrated,
        rate,
        warm_up,
        tally,
        prediction,
        samples,
    })
}

async fn calibrate(cluster: &mut Cluster, fleet: &Arc<Fleet>) -> Result<f64, BenchError> {
    let phase = LoadPhase {
        workload: Workload::Transactions,
        clients: CLIENTS,
        seconds: CALIBRATION_S,
        limits: MachineLimits {
            signs_per_second: 1.0,
            verifications_per_second: 1.0,
            fdatasync_ms: 0.0,
        },
    };
    let row = load::run(cluster, fleet, phase).await?;
    match row.first_failure {
        Some(first) => Err(BenchError::Failures(row.failed, "the calibration", first)),
        None => Ok(row.per_second),
    }
}

/// Samples the nodes until the time is over.
async fn sample(
    cluster: &mut Cluster,
    pace: &Pace,
    options: &SoakOptions,
    length: Duration,
) -> Result<Vec<Sample>, BenchError> {
    let begun = Instant::now();
    let every = Duration::from_secs(options.sample_seconds);
    let mut samples = Vec::new();
    watch::head(options.validators);
    for number in 1.. {
        let at = begun + every * number;
        if at > begun + length {
            break;
        }
        sleep_until(at).await;
        cluster.check()?;
        let sample = watch::sample(cluster, begun.elapsed(), pace.committed()).await?;
        watch::row(&sample);
        samples.push(sample);
    }
    sleep_until(begun + length).await;
    Ok(samples)
}
