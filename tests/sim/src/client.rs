//! Clients: sign, submit anywhere, submit the same bytes elsewhere when no answer comes, and
//! remember what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lamplighter_contracts::admission::AdmissionError;
use lamplighter_ledger::{Commitment, SubmitError, Verdict};
use lamplighter_types::{
    Action, Encoding, Hash, Id, Outcome, SecretKey, SequenceError, SignedTransaction, Transaction,
    UsersAction, codec,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::dice::Dice;
use crate::truth::{Answer, broken};
use crate::world::{EPOCH_MS, World};

/// How long most transactions may be on their way: longer than any run.
const LONG_MS: u64 = 600_000;
/// Transactions that a client keeps, to send them again.
const REMEMBERED_MAX: usize = 20;

pub fn secret(client: u64) -> SecretKey {
    SecretKey::from_seed([200 + client as u8; 32])
}

pub fn account(client: u64) -> Id {
    Id::new(format!("client-{client}")).expect("a plain name")
}

/// One client; its lanes share the sequence numbers.
pub struct Client {
    world: Arc<World>,
    client: u64,
    sequence: AtomicU64,
}

/// How a transaction ended for its client.
enum Told {
    Committed(Outcome),
    /// It can be in no block any more.
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

    /// Submits one transaction after the other, until `over`; then the last one is still brought
    /// to its end.
    pub async fn lane(self: Arc<Self>, lane: u64, over: CancellationToken) {
        let name = format!("client {} {lane}", self.client);
        let mut dice = Dice::new(self.world.seed, &name);
        let mut sent: Vec<SignedTransaction> = Vec::new();
        while !over.is_cancelled() {
            let signed = self.sign(&mut dice);
            self.world.count("submitted");
            match self.submit(&mut dice, &signed).await {
                Told::Committed(_) => self.world.count("acknowledged"),
                Told::Refused => self.world.count("refused"),
            }
            sent.push(signed);
            if sent.len() > REMEMBERED_MAX {
                sent.remove(0);
            }
            if dice.chance(100) {
                let again = dice.pick(&sent).clone();
                self.submit(&mut dice, &again).await;
            }
            if dice.chance(250) {
                self.read(&mut dice).await;
            }
            sleep(dice.millis(10, 500)).await;
        }
    }

    /// Something new, or what fails since it is there.
    fn sign(&self, dice: &mut Dice) -> SignedTransaction {
        let name = format!("{}-{}", self.client, dice.below(400));
        let id = |text: String| Id::new(text).expect("a plain name");
        let action = match dice.below(3) {
            0 => UsersAction::RegisterUser {
                account: id(format!("user-{name}")),
                organization: id("city".to_owned()),
                // Not the key of a node or a client.
                key: SecretKey::from_seed([dice.between(20, 190) as u8; 32]).public(),
                name,
            },
            _ => UsersAction::RegisterOrganization {
                organization: id(format!("o-{name}")),
                name,
            },
        };
        let lasts_ms = *dice.pick(&[LONG_MS, LONG_MS, LONG_MS, 4_000]);
        self.sign_action(dice, Action::Users(action), lasts_ms)
    }

    fn sign_action(&self, dice: &mut Dice, action: Action, lasts_ms: u64) -> SignedTransaction {
        let sequence = self.sequence.fetch_add(1, Ordering::SeqCst) + 1;
        let transaction = Transaction {
            sender: account(self.client),
            sequence,
            expires_ms: EPOCH_MS + self.world.elapsed().as_millis() as u64 + lasts_ms,
            action,
        };
        let encoding = *dice.pick(&[Encoding::Json, Encoding::Bincode]);
        let chain_id = self.world.genesis.chain_id();
        SignedTransaction::sign(&transaction, encoding, &chain_id, &secret(self.client))
    }

    /// One action, brought to its end; none if it can be in no block any more.
    pub async fn insist(&self, dice: &mut Dice, action: Action) -> Option<Outcome> {
        let signed = self.sign_action(dice, action, LONG_MS);
        match self.submit(dice, &signed).await {
            Told::Committed(outcome) => Some(outcome),
            Told::Refused => None,
        }
    }

    /// Sends the same bytes to one node after the other until one of them says what became of it.
    async fn submit(&self, dice: &mut Dice, signed: &SignedTransaction) -> Told {
        let hash = signed.hash(&self.world.genesis.chain_id());
        loop {
            let node = *dice.pick(&self.world.nodes());
            let patience = dice.millis(300, 6_000);
            if let Some(told) = self.ask(node, signed, hash, patience).await {
                return told;
            }
            sleep(dice.millis(10, 300)).await;
        }
    }

    /// One transaction through this node, which has to take it.
    pub async fn once(&self, node: u64) {
        let mut dice = Dice::new(self.world.seed, "once");
        let patience = Duration::from_secs(5);
        loop {
            let signed = self.sign(&mut dice);
            let hash = signed.hash(&self.world.genesis.chain_id());
            let told = loop {
                match self.ask(node, &signed, hash, patience).await {
                    Some(told) => break told,
                    None => sleep(Duration::from_millis(50)).await,
                }
            };
            if matches!(told, Told::Committed(_)) {
                return;
            }
        }
    }

    async fn ask(
        &self,
        node: u64,
        signed: &SignedTransaction,
        hash: Hash,
        patience: Duration,
    ) -> Option<Told> {
        let up = self.world.up(node)?;
        let verdict = timeout(patience, async {
            match up.handle.submit(signed.clone()).await {
                Ok(ticket) => ticket.verdict().await,
                Err(SubmitError::Refused(error)) => Verdict::Refused(error),
                Err(_) => Verdict::Unknown,
            }
        });
        let verdict = verdict.await.ok()?;
        if !self.world.lives(node, up.life) {
            // The answer did not get out any more.
            return None;
        }
        match verdict {
            Verdict::Committed(commitment) => {
                self.acknowledged(node, hash, &commitment);
                Some(Told::Committed(commitment.receipt.outcome.clone()))
            }
            Verdict::Refused(error) => self.refused(node, hash, &error),
            Verdict::Unknown => None,
        }
    }

    fn acknowledged(&self, node: u64, hash: Hash, commitment: &Commitment) {
        let Commitment {
            height,
            index,
            receipt,
        } = commitment;
        let answer = Answer {
            height: *height,
            index: *index,
            receipt: codec::digest(&**receipt),
        };
        let short = crate::machine::short(&hash);
        self.world
            .note(format!("node {node} answers {short}: {height}.{index}"));
        let check = self.world.truth().answer(hash, answer);
        self.world.check(check);
    }

    fn refused(&self, node: u64, hash: Hash, error: &AdmissionError) -> Option<Told> {
        self.world.note(format!(
            "node {node} refuses {}: {error}",
            crate::machine::short(&hash)
        ));
        match error {
            AdmissionError::Expired { .. } => Some(Told::Refused),
            AdmissionError::Sequence(SequenceError::Used { .. }) => {
                self.world.check(broken(
                    "the same bytes get the same receipt",
                    format!("node {node} says that the number of {hash} was used: {error}"),
                ));
                None
            }
            _ => None,
        }
    }

    /// A linearizable read sees everything that was acknowledged before it began.
    async fn read(&self, dice: &mut Dice) {
        let node = *dice.pick(&self.world.nodes());
        let Some(up) = self.world.up(node) else {
            return;
        };
        let floor = self.world.truth().highest_answer();
        let read = up.consensus.read_index(Duration::from_secs(3)).await;
        let height = up.handle.head().height;
        if read.is_err() || !self.world.lives(node, up.life) {
            return;
        }
        self.world.count("linearizable reads");
        if height < floor {
            self.world.check(broken(
                "a linearizable read sees what was acknowledged",
                format!("node {node} reads at {height}, {floor} was acknowledged"),
            ));
        }
    }
}
