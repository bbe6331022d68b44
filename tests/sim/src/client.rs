//! Clients: they sign, submit to any node, submit the same bytes to another one when no answer
//! comes, and record the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lamplighter_contracts::admission::AdmissionError;
use lamplighter_ledger::{Commitment, SubmitError, Verdict};
use lamplighter_types::{
    Action, Encoding, Hash, Id, KeyPurpose, Outcome, SecretKey, SignedTransaction, Transaction,
    UsersAction, codec,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::oracle::{Answer, violation};
use crate::rng::SimRng;
use crate::world::{EPOCH_MS, World};

/// The lifetime of most transactions: longer than any run.
const LONG_MS: u64 = 600_000;
/// Transactions that a client keeps, to send them again.
const KEPT_MAX: usize = 20;

pub fn secret(client: u64) -> SecretKey {
    SecretKey::from_seed([200 + client as u8; 32])
}

pub fn account(client: u64) -> Id {
    Id::new(format!("client-{client}")).expect("a plain name")
}

/// A transaction that only its hash and its sender's key can be wrong of.
pub fn unsigned(salt: u64) -> Transaction {
    let organization = Id::new(format!("forged-{salt}")).expect("a plain name");
    Transaction {
        sender: account(1),
        sequence: salt,
        expires_ms: u64::MAX,
        action: Action::Users(UsersAction::RegisterOrganization {
            organization,
            name: "Forged".to_owned(),
        }),
    }
}

/// One client; its streams share the sequence numbers.
pub struct Client {
    world: Arc<World>,
    client: u64,
    sequence: AtomicU64,
}

/// The final result of a submission.
enum SubmitOutcome {
    Committed(Outcome),
    /// The transaction cannot be in a block any more.
    Refused,
}

impl Client {
    pub fn new(world: &Arc<World>, client: u64) -> Arc<Self> {
        Arc::new(Self {
            world: world.clone(),
            client,
            sequence: AtomicU64::new(0),
        })
    }

    /// The same account after other streams of it, with the numbers after this one.
    pub fn numbered(world: &Arc<World>, client: u64, after: u64) -> Arc<Self> {
        Arc::new(Self {
            world: world.clone(),
            client,
            sequence: AtomicU64::new(after),
        })
    }

    /// Submits one transaction after the other until `over`; the last one is still completed.
    pub async fn stream(self: Arc<Self>, stream: u64, over: CancellationToken) {
        let name = format!("client {} {stream}", self.client);
        let mut rng = SimRng::new(self.world.seed, &name);
        let mut sent: Vec<SignedTransaction> = Vec::new();
        while !over.is_cancelled() {
            let signed = self.sign(&mut rng);
            self.world.count("submitted");
            match self.submit(&mut rng, &signed).await {
                SubmitOutcome::Committed(_) => self.world.count("acknowledged"),
                SubmitOutcome::Refused => self.world.count("refused"),
            }
            sent.push(signed);
            if sent.len() > KEPT_MAX {
                sent.remove(0);
            }
            if rng.chance(100) {
                let again = rng.pick(&sent).clone();
                self.submit(&mut rng, &again).await;
            }
            if rng.chance(250) {
                self.read(&mut rng).await;
            }
            sleep(rng.millis(10, 500)).await;
        }
    }

    /// A new record, or one that exists already and fails.
    fn sign(&self, rng: &mut SimRng) -> SignedTransaction {
        let name = format!("{}-{}", self.client, rng.below(400));
        let id = |text: String| Id::new(text).expect("a plain name");
        let action = match rng.below(3) {
            0 => {
                let account = id(format!("user-{name}"));
                // Not the key of a node or a client.
                let secret = SecretKey::from_seed([rng.between(20, 190) as u8; 32]);
                let chain_id = self.world.genesis.chain_id();
                UsersAction::RegisterUser {
                    proof: secret.prove(KeyPurpose::Account, &chain_id, &account),
                    account,
                    organization: id("city".to_owned()),
                    key: secret.public(),
                    name,
                }
            }
            _ => UsersAction::RegisterOrganization {
                organization: id(format!("o-{name}")),
                name,
            },
        };
        let lasts_ms = *rng.pick(&[LONG_MS, LONG_MS, LONG_MS, 4_000]);
        self.sign_action(rng, Action::Users(action), lasts_ms)
    }

    fn sign_action(&self, rng: &mut SimRng, action: Action, lasts_ms: u64) -> SignedTransaction {
        let sequence = self.sequence.fetch_add(1, Ordering::SeqCst) + 1;
        let transaction = Transaction {
            sender: account(self.client),
            sequence,
            expires_ms: EPOCH_MS + self.world.elapsed().as_millis() as u64 + lasts_ms,
            action,
        };
        let encoding = *rng.pick(&[Encoding::Json, Encoding::Bincode]);
        let chain_id = self.world.genesis.chain_id();
        SignedTransaction::sign(&transaction, encoding, &chain_id, &secret(self.client))
    }

    /// Submits an action until it is final; none if it cannot be in a block any more.
    pub async fn complete(&self, rng: &mut SimRng, action: Action) -> Option<Outcome> {
        let signed = self.sign_action(rng, action, LONG_MS);
        match self.submit(rng, &signed).await {
            SubmitOutcome::Committed(outcome) => Some(outcome),
            SubmitOutcome::Refused => None,
        }
    }

    /// Sends the same bytes to one node after the other until one of them returns a final result.
    async fn submit(&self, rng: &mut SimRng, signed: &SignedTransaction) -> SubmitOutcome {
        let hash = signed.hash(&self.world.genesis.chain_id());
        loop {
            let node = *rng.pick(&self.world.honest());
            let time_limit = rng.millis(300, 6_000);
            if let Some(outcome) = self.try_submit(node, signed, hash, time_limit).await {
                return outcome;
            }
            sleep(rng.millis(10, 300)).await;
        }
    }

    /// Submits transactions through this node until one is committed.
    pub async fn submit_through(&self, node: u64) {
        let mut rng = SimRng::new(self.world.seed, "once");
        let time_limit = Duration::from_secs(5);
        loop {
            let signed = self.sign(&mut rng);
            let hash = signed.hash(&self.world.genesis.chain_id());
            let outcome = loop {
                match self.try_submit(node, &signed, hash, time_limit).await {
                    Some(outcome) => break outcome,
                    None => sleep(Duration::from_millis(50)).await,
                }
            };
            if matches!(outcome, SubmitOutcome::Committed(_)) {
                return;
            }
        }
    }

    async fn try_submit(
        &self,
        node: u64,
        signed: &SignedTransaction,
        hash: Hash,
        time_limit: Duration,
    ) -> Option<SubmitOutcome> {
        let up = self.world.up(node)?;
        let verdict = timeout(time_limit, async {
            match up.handle.submit(signed.clone()).await {
                Ok(ticket) => ticket.verdict().await,
                Err(SubmitError::Refused(error)) => Verdict::Refused(error),
                Err(_) => Verdict::Unknown,
            }
        });
        let verdict = verdict.await.ok()?;
        if !self.world.lives(node, up.life) {
            // The node ended before it sent the answer.
            return None;
        }
        match verdict {
            Verdict::Committed(commitment) => {
                self.record_commitment(node, hash, &commitment);
                Some(SubmitOutcome::Committed(commitment.receipt.outcome.clone()))
            }
            Verdict::Refused(error) => self.record_refusal(node, hash, &error),
            Verdict::Unknown => None,
        }
    }

    fn record_commitment(&self, node: u64, hash: Hash, commitment: &Commitment) {
        let Commitment {
            height,
            index,
            receipt,
        } = commitment;
        if self.world.liars.exist() && !self.is_promised(node, *height) {
            self.world.count("acknowledged under a liar");
            return;
        }
        let answer = Answer {
            height: *height,
            index: *index,
            receipt: codec::digest(&**receipt),
        };
        let short = crate::state_machine::short(&hash);
        self.world
            .log_event(format!("node {node} answers {short}: {height}.{index}"));
        let check = self.world.oracle().answer(hash, answer);
        self.world.check(check);
    }

    /// True if the block was ordered by an honest leader; what a lying one ordered counts only when
    /// it is certified.
    fn is_promised(&self, node: u64, height: u64) -> bool {
        let header = self
            .world
            .up(node)
            .and_then(|up| up.handle.header(height).ok()?);
        header.is_some_and(|header| self.world.oracle().is_honest_block(&header.hash()))
    }

    fn record_refusal(
        &self,
        node: u64,
        hash: Hash,
        error: &AdmissionError,
    ) -> Option<SubmitOutcome> {
        self.world.log_event(format!(
            "node {node} refuses {}: {error}",
            crate::state_machine::short(&hash)
        ));
        match error {
            AdmissionError::Expired { .. } => Some(SubmitOutcome::Refused),
            AdmissionError::SequenceUsed { .. } => {
                self.world.check(violation(
                    "the same bytes get the same receipt",
                    format!("node {node} says that the number of {hash} was used: {error}"),
                ));
                None
            }
            _ => None,
        }
    }

    /// Checks that a linearizable read sees everything that was acknowledged before it began.
    async fn read(&self, rng: &mut SimRng) {
        let node = *rng.pick(&self.world.honest());
        let Some(up) = self.world.up(node) else {
            return;
        };
        let floor = self.world.oracle().highest_answer();
        let read = up.consensus.read_index(Duration::from_secs(3)).await;
        let height = up.handle.head().height;
        // A lying leader may confirm what it likes.
        let leader = up.consensus.metrics().leader;
        if leader.is_none_or(|leader| self.world.liars.is_liar(leader)) && self.world.liars.exist()
        {
            return;
        }
        if read.is_err() || !self.world.lives(node, up.life) {
            return;
        }
        self.world.count("linearizable reads");
        if height < floor {
            self.world.check(violation(
                "a linearizable read sees what was acknowledged",
                format!("node {node} reads at {height}, {floor} was acknowledged"),
            ));
        }
    }
}
