//! The program inside the virtual machine of `make mesh`: one validator, one gateway and Things
//! behind a radio. It rolls an image out, compares it byte by byte with what the Things run,
//! proves a deployment, and reports the time and the bytes on air.

mod air;

use std::net::SocketAddrV6;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use air::{Air, AirError};
use clap::{Parser, ValueEnum};
use lamplighter_devnet::{Devnet, DevnetError, Journal, Link, Plan, Radio, scenario};
use lamplighter_system::error_chain;
use serde::Serialize;

/// A rollout over a simulated 802.15.4 radio.
#[derive(Clone, Debug, Parser)]
#[command(name = "mesh")]
struct Arguments {
    /// The folder of everything.
    #[arg(long)]
    dir: PathBuf,
    /// The image to roll out.
    #[arg(long)]
    firmware: PathBuf,
    /// The program `lamplighter`.
    #[arg(long)]
    program: PathBuf,
    #[arg(long, default_value_t = 1)]
    things: usize,
    /// The gateway's address as the Things reach it.
    #[arg(long)]
    gateway: SocketAddrV6,
    /// The network namespace of the Things.
    #[arg(long)]
    namespace: String,
    /// The gateway's radio.
    #[arg(long)]
    radio: String,
    /// The radio of the Things.
    #[arg(long)]
    things_radio: String,
    /// Blocks begin with 2^(4 + SZX) bytes.
    #[arg(long)]
    szx: u8,
    /// How CoAP is protected.
    #[arg(long)]
    security: Security,
    /// Seconds for the rollout.
    #[arg(long)]
    within_s: u64,
    /// File or terminal for the report in JSON.
    #[arg(long)]
    report: PathBuf,
}

/// The protection of CoAP on the radio.
#[derive(Clone, Copy, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Security {
    /// Plain CoAP: neighbours can read and send everything; what the Thing runs is safe by the
    /// vendor's signature alone.
    None,
    /// DTLS 1.2 with a pre-shared key for each Thing; the gateway takes nothing else.
    Dtls,
}

/// The figures of a rollout.
#[derive(Debug, Serialize)]
struct MeshReport {
    image_bytes: u64,
    things: u64,
    block_bytes: u64,
    security: Security,
    /// From the approval of the rollout to the last confirmation on the ledger.
    seconds: f64,
    from_gateway: Air,
    from_things: Air,
    /// The time in which one of the radios sends.
    air_seconds: f64,
    /// Bytes on air, both directions, for each byte of the image in each Thing.
    bytes_per_image_byte: f64,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
enum MeshError {
    #[error("the rollout")]
    Rollout(#[from] DevnetError),
    #[error("the counters of the radios")]
    Air(#[from] AirError),
    #[error("the journal has no time of the rollout")]
    Time,
    #[error("writing the report to {}", .0.display())]
    Report(PathBuf, #[source] std::io::Error),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh: {}", error_chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), MeshError> {
    let plan = Plan {
        validators: 1,
        gateways: 1,
        things: arguments.things,
        firmware: Some(arguments.firmware.clone()),
        dir: arguments.dir.clone(),
        program: arguments.program.clone(),
        rate_bytes_per_s: None,
    };
    let mut devnet = Devnet::create(plan)?;
    devnet.link = Link::Radio(Radio {
        namespace: arguments.namespace.clone(),
        gateway: arguments.gateway,
        szx: arguments.szx,
        dtls: matches!(arguments.security, Security::Dtls),
        rollout_within: Duration::from_secs(arguments.within_s),
    });
    let rolled_out = roll_out(&mut devnet, arguments).await;
    let stopped = devnet.stop().await;
    let report = rolled_out?;
    stopped?;
    let line = serde_json::to_string(&report).expect("reports have JSON forms");
    std::fs::write(&arguments.report, format!("{line}\n"))
        .map_err(|error| MeshError::Report(arguments.report.clone(), error))
}

/// Takes the image from its vendor into the Things; each step fails when it is not as it should be
/// within its time.
async fn roll_out(devnet: &mut Devnet, arguments: &Arguments) -> Result<MeshReport, MeshError> {
    let mut journal = Journal::new(true);
    let feed = scenario::bring_up(devnet, &mut journal).await?;
    scenario::release(devnet, &feed, &mut journal).await?;
    let (gateway, things) = read_radios(arguments).await?;
    scenario::roll_out(devnet, &feed, &mut journal).await?;
    let (gateway_after, things_after) = read_radios(arguments).await?;
    let passed = "a proof of a deployment holds, and does not with one bit changed";
    let work = scenario::deployment_proof(devnet);
    journal.step("proof", passed, work).await?;
    let step = journal.steps.iter().find(|step| step.step == "rollout");
    let seconds = step
        .and_then(|step| step.figure["seconds_from_approval_to_last_confirmation"].as_f64())
        .ok_or(MeshError::Time)?;
    let (from_gateway, from_things) = (gateway_after - gateway, things_after - things);
    let image_bytes = devnet.firmware.1.len() as u64;
    let delivered = image_bytes * arguments.things as u64;
    Ok(MeshReport {
        image_bytes,
        things: arguments.things as u64,
        block_bytes: 16 << arguments.szx,
        security: arguments.security,
        seconds,
        from_gateway,
        from_things,
        air_seconds: from_gateway.seconds() + from_things.seconds(),
        bytes_per_image_byte: (from_gateway.bytes + from_things.bytes) as f64 / delivered as f64,
    })
}

/// Reads the counters of the gateway's radio and of that of the Things.
async fn read_radios(arguments: &Arguments) -> Result<(Air, Air), AirError> {
    let gateway = Air::read(&arguments.radio, None).await?;
    let things = Air::read(&arguments.things_radio, Some(&arguments.namespace)).await?;
    Ok((gateway, things))
}
