//! `audit ledger`: all blocks executed again and compared.
//!
//! Three stages work at once: blocks are fetched, decoded and verified, and executed. Each hands
//! over pages, and waits for the next one when two wait.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use lamplighter_node::audit::{
    AuditError, AuditProgress, Auditor, PreparedBlock, Signatures, open_audit, prepare,
};
use lamplighter_types::wire::ArchivedBlock;
use lamplighter_types::{Genesis, Hash};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::source::{Blocks, Source};
use crate::archive::ArchiveFolder;
use crate::failure::Failure;
use crate::output::{Output, Progress, emit, print};
use crate::session::SessionArguments;
use crate::time::utc;

/// Pages that wait between two stages.
const PAGES_WAITING: usize = 2;

#[derive(Debug, Args)]
pub struct LedgerAudit {
    /// The folder of the audit, with a store of its own. Started again, the audit goes on after the
    /// last block that it compared.
    #[arg(long, default_value = "audit")]
    folder: PathBuf,
    /// Takes the blocks from an archive in this folder, and asks no node.
    #[arg(long)]
    archive: Option<PathBuf>,
    /// Keeps the blocks in an archive in this folder, as they are compared: a backup of the chain.
    #[arg(long, conflicts_with = "archive")]
    keep: Option<PathBuf>,
    /// Leaves out the signatures of transactions; those of certificates are verified. Such an audit
    /// is apart from one with signatures in the same folder.
    #[arg(long)]
    skip_signatures: bool,
}

impl LedgerAudit {
    fn signatures(&self) -> Signatures {
        match self.skip_signatures {
            true => Signatures::LeftOut,
            false => Signatures::Verified,
        }
    }
}

pub async fn carry_out(
    command: LedgerAudit,
    session: &SessionArguments,
) -> Result<ExitCode, Failure> {
    let genesis = session.read_genesis()?;
    let chain_id = genesis.chain_id();
    let (folder, signatures) = (command.folder.clone(), command.signatures());
    let auditor = open(folder, genesis, signatures).await?;
    let begun = auditor.progress();
    let kept = command.keep.as_deref();
    let kept = kept.map(|dir| ArchiveFolder::create(dir, chain_id));
    let kept = kept.transpose()?;
    let source = match &command.archive {
        Some(dir) => Source::Folder(ArchiveFolder::open(dir, chain_id)?),
        None => Source::Nodes(Box::new(session.open()?.client.clone())),
    };
    let source = match kept {
        None => source,
        Some(folder) => Source::kept(source, folder, begun.height)?,
    };
    let time = Instant::now();
    let run = Run {
        signatures,
        chain_id,
        output: session.output(),
    };
    let (auditor, mut source, result) = run.all(auditor, source).await?;
    let progress = auditor.progress();
    let seconds = time.elapsed();
    if let Err(failure) = result {
        if failure.is_difference() {
            source.refuse_above(progress.height)?;
        }
        return Err(failure);
    }
    let header = auditor.header().hash();
    source.set_end(progress.height, header, progress.time_ms)?;
    report(
        begun,
        progress,
        header,
        signatures,
        seconds,
        session.output(),
    );
    Ok(ExitCode::SUCCESS)
}

async fn open(
    folder: PathBuf,
    genesis: Genesis,
    signatures: Signatures,
) -> Result<Auditor, Failure> {
    let operation = format!("the audit in {}", folder.display());
    let open = move || open_audit(&folder, &genesis, signatures);
    let opened = tokio::task::spawn_blocking(open).await;
    opened
        .map_err(Failure::during("opening the audit"))?
        .map_err(Failure::during(operation))
}

/// A page between the stages; without blocks it is the end.
struct Page<T> {
    blocks: Vec<T>,
    certified: u64,
}

type Stage<T> = Result<Page<T>, Failure>;

/// What a run over blocks needs to know.
pub struct Run {
    pub signatures: Signatures,
    pub chain_id: Hash,
    pub output: Output,
}

impl Run {
    /// Compares everything that the source has. What comes back is as far as it was compared.
    pub async fn all(
        &self,
        auditor: Auditor,
        mut source: Source,
    ) -> Result<(Auditor, Source, Result<(), Failure>), Failure> {
        let next = auditor.progress().height + 1;
        let (to_prepare, fetched) = mpsc::channel::<Stage<_>>(PAGES_WAITING);
        let (to_execute, prepared) = mpsc::channel::<Stage<PreparedBlock>>(PAGES_WAITING);
        let (report, reported) = watch::channel((auditor.progress(), 0));
        let fetching = tokio::spawn(async move {
            fetch(&mut source, next, to_prepare).await;
            source
        });
        let (chain_id, signatures) = (self.chain_id, self.signatures);
        let preparing = tokio::task::spawn_blocking(move || {
            prepare_all(fetched, &to_execute, &chain_id, signatures);
        });
        let executing =
            tokio::task::spawn_blocking(move || execute_all(auditor, prepared, &report));
        self.show(reported).await;
        let ended = "a stage of the audit failed";
        let (auditor, result) = executing.await.map_err(Failure::during(ended))?;
        preparing.await.map_err(Failure::during(ended))?;
        let source = fetching.await.map_err(Failure::during(ended))?;
        Ok((auditor, source, result))
    }

    /// Shows the progress until the execution ends.
    async fn show(&self, mut reported: watch::Receiver<(AuditProgress, u64)>) {
        let mut bar = Progress::of_blocks(self.output, "compared");
        while reported.changed().await.is_ok() {
            let (progress, certified) = *reported.borrow_and_update();
            bar.report(progress.height, certified.max(progress.height));
        }
    }
}

/// Fetches page after page, until the end, a failure, or the end of the stage behind.
async fn fetch(source: &mut Source, mut next: u64, pages: mpsc::Sender<Stage<ArchivedBlock>>) {
    loop {
        let stage = source.blocks(next).await.map(|blocks| {
            let Blocks { blocks, certified } = blocks;
            next = blocks
                .last()
                .map_or(next, |last| last.header.height.saturating_add(1));
            Page { blocks, certified }
        });
        let is_last = stage.as_ref().map_or(true, |page| page.blocks.is_empty());
        if pages.send(stage).await.is_err() || is_last {
            return;
        }
    }
}

fn prepare_all(
    mut fetched: mpsc::Receiver<Stage<ArchivedBlock>>,
    prepared: &mpsc::Sender<Stage<PreparedBlock>>,
    chain_id: &Hash,
    signatures: Signatures,
) {
    while let Some(stage) = fetched.blocking_recv() {
        let stage = stage.map(|Page { blocks, certified }| Page {
            blocks: prepare(blocks, chain_id, signatures),
            certified,
        });
        if prepared.blocking_send(stage).is_err() {
            return;
        }
    }
}

fn execute_all(
    mut auditor: Auditor,
    mut prepared: mpsc::Receiver<Stage<PreparedBlock>>,
    report: &watch::Sender<(AuditProgress, u64)>,
) -> (Auditor, Result<(), Failure>) {
    while let Some(stage) = prepared.blocking_recv() {
        let Page { blocks, certified } = match stage {
            Ok(page) => page,
            Err(failure) => return (auditor, Err(failure)),
        };
        if blocks.is_empty() {
            let ended = auditor.check_end(certified).map_err(AuditError::from);
            let ended = ended.and_then(|()| Ok(auditor.sync()?));
            return (auditor, ended.map_err(failure));
        }
        for block in blocks {
            if let Err(error) = auditor.check(block) {
                return (auditor, Err(failure(error)));
            }
            report.send_replace((auditor.progress(), certified));
        }
    }
    (
        auditor,
        Err(Failure::plain("the blocks ended without an end")),
    )
}

fn failure(error: AuditError) -> Failure {
    match error {
        AuditError::Difference(difference) => Failure::different(difference),
        AuditError::State(error) => Failure::new("the audit can't go on", error),
    }
}

/// Prints what was compared.
fn report(
    begun: AuditProgress,
    progress: AuditProgress,
    header: Hash,
    signatures: Signatures,
    time: Duration,
    output: Output,
) {
    let AuditProgress {
        height,
        time_ms,
        certified,
        transactions,
        certificates,
        set_changes,
    } = progress;
    let verified = signatures == Signatures::Verified;
    let rate = transactions as f64 / time.as_secs_f64().max(0.001);
    if output.json {
        return print(
            &json!({ "from_height": begun.height, "height": height, "header": header,
            "time_ms": time_ms, "certified": certified, "transactions": transactions,
            "certificates": certificates, "set_changes": set_changes,
            "signatures_verified": verified }),
        );
    }
    emit(&format!(
        "every block up to {height} of {} is what its transactions make of it",
        utc(time_ms)
    ));
    if begun.height > 0 {
        emit(&format!(
            "compared before: the blocks up to {}",
            begun.height
        ));
    }
    emit(&format!("header of {height}: {header}"));
    emit(&format!(
        "{certificates} certificates hold; that of {certified} covers the blocks below that have \
         none of their own"
    ));
    emit(&format!(
        "{set_changes} changes of the validators were followed"
    ));
    emit(&format!(
        "{transactions} transactions in {:.1} s, {rate:.0} a second",
        time.as_secs_f64()
    ));
    if !verified {
        emit("the signatures of the transactions were left out");
    }
}
