//! `lamplighter devnet up`.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::journal::Journal;
use crate::network::Devnet;
use crate::plan::Plan;
use crate::{DevnetError, attacks, scenario};

/// Options of `devnet up`.
#[derive(Clone, Debug)]
pub struct Options {
    pub plan: Plan,
    /// Also run the attacks.
    pub attacks: bool,
    /// End after the last step.
    pub once: bool,
    /// Path of the JSON report.
    pub report: Option<PathBuf>,
}

/// Brings the city up, takes a release through it and optionally runs the attacks. Prints addresses
/// and paths, and then each step. Returns true if every step passed.
///
/// # Errors
/// The devnet could not be set up or stopped; a step that failed is in the report.
pub async fn up(options: Options, stop: CancellationToken) -> Result<bool, DevnetError> {
    let mut journal = Journal::new(true);
    let mut devnet = Devnet::create(options.plan.clone())?;
    print_addresses(&devnet);
    let ended = tokio::select! {
        ended = run(&mut devnet, &mut journal, options.attacks) => ended,
        () = stop.cancelled() => Err(DevnetError::Unexpected("interrupted".to_owned())),
    };
    let passed = ended.is_ok() && journal.passed();
    if let Some(path) = &options.report {
        let report = serde_json::to_vec_pretty(&journal.report()).expect("reports have JSON forms");
        std::fs::write(path, report).map_err(DevnetError::file("writing", path))?;
    }
    match &ended {
        Ok(()) if passed && options.once => journal.print("done"),
        Ok(()) if passed => {
            journal.print("up until Ctrl-C");
            stop.cancelled().await;
        }
        Ok(()) => journal.print("ending: not everything passed"),
        Err(error) => journal.print(&format!(
            "ending: {}",
            lamplighter_system::error_chain(error)
        )),
    }
    devnet.stop().await?;
    Ok(passed)
}

/// Runs every step, and optionally every attack.
async fn run(
    devnet: &mut Devnet,
    journal: &mut Journal,
    attacked: bool,
) -> Result<(), DevnetError> {
    let feed = scenario::bring_up(devnet, journal).await?;
    scenario::run(devnet, &feed, journal).await?;
    if attacked {
        attacks::run(devnet, &feed, journal).await?;
    }
    Ok(())
}

/// Prints addresses and paths, which are known before anything runs.
fn print_addresses(devnet: &Devnet) {
    let Plan {
        validators,
        gateways,
        things,
        ..
    } = devnet.plan;
    println!("{validators} validators, {gateways} gateways, {things} Things\n");
    for node in &devnet.nodes {
        println!(
            "  {:10} {}  MQTT {}  metrics http://{}/metrics",
            node.process.name,
            node.url(),
            node.config.mqtt_listen,
            node.config.admin_listen
        );
    }
    for (gateway, address) in devnet.south() {
        println!("  {gateway:10} coap://{address}");
    }
    let profile = relative_to_cwd(&devnet.profile());
    // A shell looks for a name without a folder elsewhere.
    let program = match relative_to_cwd(&devnet.plan.program) {
        name if name.contains('/') => name,
        name => format!("./{name}"),
    };
    if let Some(node) = devnet.nodes.first() {
        println!("  {:10} {}/docs", "reference", node.url());
    }
    println!("  {:10} {profile}  (nodes, genesis file, keys)", "profile");
    let certificates = relative_to_cwd(&devnet.certificates());
    println!("  {:10} {certificates}  (for curl --cacert)", "TLS");
    let files = &devnet.files;
    let (keys, logs) = (
        relative_to_cwd(&files.keys()),
        relative_to_cwd(&files.logs()),
    );
    println!("  {:10} {keys}\n  {:10} {logs}", "keys", "logs");
    println!(
        "\nIn another terminal:\n  \
         export LAMPLIGHTER_PROFILE={profile}\n  \
         {program} device list\n"
    );
}

/// The path relative to the working directory, if it is below.
fn relative_to_cwd(path: &Path) -> String {
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    let shorter = here.ok().and_then(|here| path.strip_prefix(here).ok());
    shorter.unwrap_or(path).display().to_string()
}
