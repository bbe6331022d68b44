//! `lamplighter devnet up`.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::journal::Journal;
use crate::network::Devnet;
use crate::plan::Plan;
use crate::{DevnetError, attacks, scenario};

/// How `devnet up` is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    pub plan: Plan,
    /// Tries what must be refused, too.
    pub attacks: bool,
    /// Ends when everything was done.
    pub once: bool,
    /// Where the JSON report goes.
    pub report: Option<PathBuf>,
}

/// Brings the city up, takes a release through it and, if wanted, tries what must be refused.
/// Prints where everything is, and then what happens. Gives true if every step passed.
///
/// # Errors
/// It could not be set up or ended; a step that did not pass is in the report.
pub async fn up(options: Options, stop: CancellationToken) -> Result<bool, DevnetError> {
    let mut journal = Journal::new(true);
    let mut devnet = Devnet::found(options.plan.clone())?;
    print_places(&devnet);
    let ended = tokio::select! {
        ended = run(&mut devnet, &mut journal, options.attacks) => ended,
        () = stop.cancelled() => Err(DevnetError::Found("interrupted".to_owned())),
    };
    let passed = ended.is_ok() && journal.passed();
    if let Some(path) = &options.report {
        let report = serde_json::to_vec_pretty(&journal.report()).expect("reports have JSON forms");
        std::fs::write(path, report).map_err(DevnetError::file("writing", path))?;
    }
    match &ended {
        Ok(()) if passed && options.once => journal.say("done"),
        Ok(()) if passed => {
            journal.say("up until Ctrl-C");
            stop.cancelled().await;
        }
        Ok(()) => journal.say("ending: not everything passed"),
        Err(error) => journal.say(&format!("ending: {}", crate::causes(error))),
    }
    devnet.stop().await?;
    Ok(passed)
}

/// Every step, and every attack if wanted.
async fn run(
    devnet: &mut Devnet,
    journal: &mut Journal,
    attacked: bool,
) -> Result<(), DevnetError> {
    let observer = scenario::bring_up(devnet, journal).await?;
    scenario::run(devnet, &observer, journal).await?;
    if attacked {
        attacks::run(devnet, &observer, journal).await?;
    }
    Ok(())
}

/// Where everything is: known before it runs.
fn print_places(devnet: &Devnet) {
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
    let profile = from_here(&devnet.profile());
    // Without a folder a shell looks for it elsewhere.
    let program = match from_here(&devnet.plan.program) {
        name if name.contains('/') => name,
        name => format!("./{name}"),
    };
    if let Some(node) = devnet.nodes.first() {
        println!("  {:10} {}/docs", "reference", node.url());
    }
    println!("  {:10} {profile}  (nodes, genesis file, keys)", "profile");
    let files = &devnet.files;
    let (keys, logs) = (from_here(&files.keys()), from_here(&files.logs()));
    println!("  {:10} {keys}\n  {:10} {logs}", "keys", "logs");
    println!(
        "\nIn another terminal:\n  \
         export LAMPLIGHTER_PROFILE={profile}\n  \
         {program} device list\n"
    );
}

/// A path as a command in this folder names it.
fn from_here(path: &Path) -> String {
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    let shorter = here.ok().and_then(|here| path.strip_prefix(here).ok());
    shorter.unwrap_or(path).display().to_string()
}
