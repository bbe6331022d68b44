//! `node restore`: the data directory of a node from an archive.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lamplighter_node::NodeConfig;
use lamplighter_node::audit::Signatures;
use lamplighter_node::restore::Restore;
use serde_json::json;

use super::ledger::Run;
use super::source::Source;
use crate::archive::ArchiveFolder;
use crate::failure::Failure;
use crate::output::Output;
use crate::time::utc;

#[derive(Debug, Args)]
pub struct Restored {
    /// The configuration file of the node (TOML), with a key and an id that the ledger has never
    /// named, and an empty `data_dir`.
    #[arg(long)]
    config: PathBuf,
    /// The folder of the archive.
    #[arg(long)]
    archive: PathBuf,
}

pub async fn restore(command: Restored, output: Output) -> Result<ExitCode, Failure> {
    let Restored { config, archive } = command;
    let config = NodeConfig::read(&config);
    let config = config.map_err(Failure::during("reading the configuration"))?;
    let dir = config.data_dir.clone();
    let begin = move || Restore::begin(&config);
    let begun = tokio::task::spawn_blocking(begin).await;
    let begun = begun.map_err(Failure::during("beginning the restore"))?;
    let (restore, auditor) = begun.map_err(Failure::during("nothing is restored"))?;
    let chain_id = restore.genesis.chain_id();
    let run = Run {
        signatures: Signatures::Verified,
        chain_id,
        output,
    };
    let source = Source::Folder(ArchiveFolder::open(&archive, chain_id)?);
    let (auditor, _, result) = run.all(auditor, source).await?;
    result?;
    let progress = auditor.progress();
    let finish = move || restore.finish(auditor);
    let finished = tokio::task::spawn_blocking(finish).await;
    let finished = finished.map_err(Failure::during("ending the restore"))?;
    finished.map_err(Failure::during("ending the restore"))?;
    output.answer(
        &json!({ "data_dir": dir, "height": progress.height, "time_ms": progress.time_ms }),
        &format!(
            "{} has the ledger up to block {} of {}. Its node reads and proves; what was \
             acknowledged after that block is not in it",
            dir.display(),
            progress.height,
            utc(progress.time_ms)
        ),
    );
    Ok(ExitCode::SUCCESS)
}
