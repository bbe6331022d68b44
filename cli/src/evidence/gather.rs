//! Records, changes and events from the nodes, each with its proof.

use std::collections::BTreeSet;

use lamplighter_client::{ClientError, Cursor, HistoryOf, Subject, TimelineEntry};
use lamplighter_types::proof::{ProofFile, Statement, TrustedSet};
use lamplighter_types::{Genesis, Hash, Id};
use serde_json::Value;

use super::FILE_BYTES_MAX;
use super::file::EvidenceOf;
use crate::failure::Failure;
use crate::output::Progress;
use crate::session::{Session, asking};

/// Gathers the items of a file.
pub struct Gatherer<'a> {
    session: &'a Session,
    trusted: TrustedSet,
    chain_id: Hash,
    /// Changes and events that still fit.
    rest: usize,
    items: Vec<Value>,
    bytes: usize,
    /// What is in the file: one transaction may change several things.
    proven: BTreeSet<Subject>,
    progress: Progress,
    all: usize,
}

impl<'a> Gatherer<'a> {
    pub fn new(session: &'a Session, genesis: &Genesis, changes: usize) -> Self {
        Self {
            session,
            trusted: genesis.into(),
            chain_id: genesis.chain_id(),
            rest: changes,
            items: Vec::new(),
            bytes: 0,
            proven: BTreeSet::new(),
            progress: Progress::of_proofs(session.output, "proven"),
            all: changes,
        }
    }

    pub fn into_items(self) -> Vec<Value> {
        self.items
    }

    /// Gathers everything, or what fits, and returns where the rest begins.
    pub async fn all(
        &mut self,
        of: &EvidenceOf,
        after: Option<String>,
    ) -> Result<Option<String>, Failure> {
        if after.is_none() {
            self.records(of).await?;
        }
        match of {
            EvidenceOf::Device(device) => self.timeline(device, after).await,
            EvidenceOf::Release(release) => {
                self.history(HistoryOf::Release(release.clone()), after)
                    .await
            }
            EvidenceOf::Rollout(rollout) => {
                self.history(HistoryOf::Rollout(rollout.clone()), after)
                    .await
            }
            EvidenceOf::Account(account) => {
                self.history(HistoryOf::User(account.clone()), after).await
            }
            EvidenceOf::Period { from_ms, until_ms } => {
                self.period(*from_ms, *until_ms, after).await
            }
        }
    }

    /// The records as they are now.
    async fn records(&mut self, of: &EvidenceOf) -> Result<(), Failure> {
        let subjects = match of {
            EvidenceOf::Device(device) => {
                let deployments = self.session.client.deployments_of(device).await;
                let deployments = deployments.map_err(asking)?.value.items.into_iter();
                let deployments = deployments.map(|deployment| Subject::Deployment {
                    rollout: deployment.rollout,
                    device: deployment.device,
                });
                [Subject::Device, Subject::DeviceState]
                    .into_iter()
                    .map(|subject| subject(device.clone()))
                    .chain(deployments)
                    .collect()
            }
            EvidenceOf::Release(release) => vec![Subject::Release(release.clone())],
            EvidenceOf::Rollout(rollout) => {
                let record = self.session.client.rollout(rollout).await;
                let release = record.map_err(asking)?.value.plan.release;
                vec![Subject::Rollout(rollout.clone()), Subject::Release(release)]
            }
            EvidenceOf::Account(account) => vec![Subject::User(account.clone())],
            EvidenceOf::Period { .. } => Vec::new(),
        };
        for subject in subjects {
            self.prove(&subject).await?;
        }
        Ok(())
    }

    async fn timeline(
        &mut self,
        device: &Id,
        mut after: Option<String>,
    ) -> Result<Option<String>, Failure> {
        loop {
            let client = &self.session.client;
            let limit = self.rest.min(PAGE);
            let page = client.device_timeline(device, after.as_deref(), limit as u32);
            let page = page.await.map_err(asking)?.value;
            for entry in page.items {
                self.timeline_entry(&entry).await?;
                self.rest = self.rest.saturating_sub(1);
            }
            after = page.next;
            if after.is_none() || self.is_full() {
                return Ok(after);
            }
        }
    }

    async fn timeline_entry(&mut self, entry: &TimelineEntry) -> Result<(), Failure> {
        if let Some(transaction) = entry.transaction {
            return self.transaction(transaction).await;
        }
        let place = |path: &str, prefix: &str| -> Option<(u64, u32)> {
            let (height, index) = path.strip_prefix(prefix)?.split_once('/')?;
            Some((height.parse().ok()?, index.parse().ok()?))
        };
        let path = entry.proof.as_deref().unwrap_or_default();
        if let Some((height, index)) = place(path, "/v1/proofs/events/") {
            return self.prove(&Subject::Event { height, index }).await;
        }
        if let Some((height, index)) = place(path, "/v1/proofs/receipts/") {
            return self.prove(&Subject::ReceiptAt { height, index }).await;
        }
        Err(Failure::plain(
            "the node has no proof of what time alone caused: it is of an older version",
        ))
    }

    async fn history(
        &mut self,
        of: HistoryOf,
        mut after: Option<String>,
    ) -> Result<Option<String>, Failure> {
        loop {
            let page = self.session.client.history(&of, after.as_deref()).await;
            let page = page.map_err(asking)?.value;
            let next = page.next;
            for entry in page.items {
                if self.is_full() {
                    return Ok(after);
                }
                self.change(entry.transaction, entry.cursor).await?;
                after = Some(entry.cursor.to_string());
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(None),
            }
        }
    }

    /// The transactions of the blocks of a time, from the archive of a node.
    async fn period(
        &mut self,
        from_ms: u64,
        until_ms: u64,
        after: Option<String>,
    ) -> Result<Option<String>, Failure> {
        let start = match &after {
            Some(after) => after
                .parse::<Cursor>()
                .map_err(Failure::during("the place after --after"))?,
            None => Cursor {
                height: self.first_from(from_ms).await?,
                index: 0,
            },
        };
        let (mut height, mut index) = (start.height, start.index);
        loop {
            let answer = self.session.client.archive_page(height).await;
            let blocks = answer.map_err(asking)?.blocks;
            if blocks.is_empty() {
                return Ok(None);
            }
            for block in blocks {
                if block.header.timestamp_ms >= until_ms {
                    return Ok(None);
                }
                height = block.header.height;
                for number in (0u32..).take(block.receipts.len()).skip(index as usize) {
                    if self.is_full() {
                        let index = number;
                        return Ok(Some(Cursor { height, index }.to_string()));
                    }
                    let signed = block.transactions.get(number as usize);
                    let hash = signed.map_or(Hash::ZERO, |signed| signed.hash(&self.chain_id));
                    let index = number;
                    self.change(hash, Cursor { height, index }).await?;
                }
                index = 0;
            }
            height += 1;
        }
    }

    /// The first certified block that was made at a time or after it.
    async fn first_from(&self, from_ms: u64) -> Result<u64, Failure> {
        let client = &self.session.client;
        let newest = client.certificate(None).await.map_err(asking)?.height;
        let (mut below, mut at) = (0, newest + 1);
        while at - below > 1 {
            let middle = below + (at - below) / 2;
            let header = client.header(Some(middle)).await.map_err(asking)?;
            match header.timestamp_ms < from_ms {
                true => below = middle,
                false => at = middle,
            }
        }
        Ok(at)
    }

    async fn change(&mut self, transaction: Hash, place: Cursor) -> Result<(), Failure> {
        match transaction {
            Hash::ZERO => {
                let Cursor { height, index } = place;
                self.prove(&Subject::ReceiptAt { height, index }).await?;
            }
            transaction => self.transaction(transaction).await?,
        }
        self.rest = self.rest.saturating_sub(1);
        Ok(())
    }

    /// A transaction as it was signed, and what came of it.
    async fn transaction(&mut self, hash: Hash) -> Result<(), Failure> {
        self.prove(&Subject::Transaction(hash)).await?;
        self.prove(&Subject::Receipt(hash)).await
    }

    fn is_full(&self) -> bool {
        // The largest proof still fits, and what leads to a change is not cut in two.
        self.rest == 0 || self.bytes >= FILE_BYTES_MAX / 2
    }

    async fn prove(&mut self, subject: &Subject) -> Result<(), Failure> {
        if !self.proven.insert(subject.clone()) {
            return Ok(());
        }
        let fetched = self.session.client.proof_from_genesis(subject).await;
        let (bundle, proven) = fetched.map_err(proving)?;
        let statement = Statement::of(&bundle, &proven, self.trusted.height)
            .map_err(Failure::during("the proof holds and can't be read"))?;
        let file = ProofFile::new(bundle, &statement);
        let item = serde_json::to_value(&file).expect("our types have JSON forms");
        self.bytes += file.to_json().len();
        self.items.push(item);
        let done = self.all.saturating_sub(self.rest);
        self.progress.report(done as u64, self.all as u64);
        Ok(())
    }
}

/// Entries of a page of a timeline: so few that the largest of them fit behind a file that is half
/// full.
const PAGE: usize = 20;

fn proving(error: ClientError) -> Failure {
    match error.is_outside_rights() {
        true => Failure::refused(
            "this account may read the record and not its transactions: evidence is for auditors",
        ),
        false => asking(error),
    }
}
