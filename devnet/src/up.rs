//! `lamplighter devnet up`.

use std::path::PathBuf;

use lamplighter_types::Hash;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::journal::Journal;
use crate::network::{Devnet, Plan};
use crate::{DevnetError, attacks, scenario};

/// How `devnet up` is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    pub plan: Plan,
    /// Ends when everything was shown.
    pub once: bool,
    /// Where the JSON report goes.
    pub report: Option<PathBuf>,
}

/// Brings the city up, takes a release through it and tries what must be refused; prints what
/// happens and a table at the end. Gives true if every step held.
///
/// # Errors
/// It could not be set up or ended; a step that did not hold is in the report.
pub async fn up(options: Options, stop: CancellationToken) -> Result<bool, DevnetError> {
    let mut journal = Journal::new(true);
    let mut devnet = Devnet::found(options.plan.clone())?;
    journal.say(&format!("files in {}", devnet.files.root.display()));
    let ended = tokio::select! {
        ended = run(&mut devnet, &mut journal) => ended,
        () = stop.cancelled() => Err(DevnetError::Found("interrupted".to_owned())),
    };
    let held = ended.is_ok() && journal.held();
    if let Some(path) = &options.report {
        let report = serde_json::to_vec_pretty(&journal.report()).expect("reports have JSON forms");
        std::fs::write(path, report).map_err(DevnetError::file("writing", path))?;
    }
    table(&devnet, &journal);
    if let Err(error) = &ended {
        println!("stopped: {}", crate::causes(error));
    }
    if held && !options.once {
        println!("\nup until Ctrl-C");
        stop.cancelled().await;
    }
    devnet.stop().await?;
    Ok(held)
}

/// Every step and every attack.
pub async fn run(devnet: &mut Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let observer = scenario::bring_up(devnet, journal).await?;
    scenario::run(devnet, &observer, journal).await?;
    attacks::run(devnet, &observer, journal).await
}

fn table(devnet: &Devnet, journal: &Journal) {
    println!("\n{:-^100}", " what happened ");
    for step in &journal.steps {
        let mark = if step.held { "held" } else { "FAILED" };
        println!(
            "{mark:6} {:16} {:7.1} s  {}",
            step.step,
            step.seconds,
            short(&step.figure)
        );
    }
    if !journal.attacks.is_empty() {
        println!("\n{:-^100}", " what was refused ");
        for attack in &journal.attacks {
            let mark = if attack.refused {
                "refused"
            } else {
                "NOT REFUSED"
            };
            let words: String = attack.refusal.chars().take(72).collect();
            println!("{mark:11} {:38} {words}", attack.attack);
        }
    }
    println!("\n{:-^100}", " where ");
    for node in &devnet.nodes {
        println!(
            "{}  {}/docs  metrics http://{}/metrics  mqtt {}",
            node.process.name,
            node.url(),
            node.config.admin_listen,
            node.config.mqtt_listen
        );
    }
    for gateway in &devnet.gateways {
        println!(
            "{}  coap://{}",
            gateway.account, gateway.config.south_listen
        );
    }
    let root = devnet.files.root.display();
    println!("commands  lamplighter --profile {root}/client.toml --as operator device list");
    println!(
        "keys {}  logs {}",
        devnet.files.keys().display(),
        devnet.files.logs().display()
    );
}

/// A figure on one line; long lists are counted.
fn short(figure: &Value) -> String {
    let Value::Object(map) = figure else {
        return figure.to_string();
    };
    let parts = map.iter().map(|(name, value)| match value {
        Value::Object(inner) if inner.len() > 6 => format!("{name}: {} entries", inner.len()),
        Value::String(text) if text.parse::<Hash>().is_ok() => format!("{name}: {}..", &text[..12]),
        Value::String(text) => format!("{name}: {}", text.chars().take(60).collect::<String>()),
        other => format!("{name}: {other}"),
    });
    parts.collect::<Vec<_>>().join(", ")
}
