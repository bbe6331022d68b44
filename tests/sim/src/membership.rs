//! Changes of the nodes during a run by two administrators: a new node joins, gets a vote, and one
//! of the founders is removed and stopped.

use std::collections::BTreeSet;
use std::sync::Arc;

use lamplighter_types::{
    Action, GovernanceAction, GovernanceChange, Id, KeyPurpose, Observer, Outcome, Signature,
    Validator,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::node;
use crate::oracle::violation;
use crate::rng::SimRng;
use crate::world::World;

struct MembershipDriver {
    world: Arc<World>,
    rng: SimRng,
    author: Arc<Client>,
    approver: Arc<Client>,
    proposals: u32,
}

/// Makes as many changes as there is time for; a change that was begun is completed.
pub async fn run(world: Arc<World>, over: CancellationToken) {
    let clients = world.plan.clients;
    let mut driver = MembershipDriver {
        rng: SimRng::new(world.seed, "governor"),
        author: Client::new(&world, clients + 1),
        approver: Client::new(&world, clients + 2),
        proposals: 0,
        world,
    };
    over.run_until_cancelled(driver.pause(100, 1_500)).await;
    let new = driver.world.plan.nodes + 1;
    if !over.is_cancelled() {
        driver.join(new).await;
        over.run_until_cancelled(driver.pause(0, 2_000)).await;
    }
    // An observer that lies stays one.
    let joined = driver.world.nodes().contains(&new) && driver.world.plan.lies.is_none();
    if joined && !over.is_cancelled() {
        driver.promote(new).await;
        over.run_until_cancelled(driver.pause(0, 2_000)).await;
        if !over.is_cancelled() && driver.rng.chance(800) {
            driver.remove_founder().await;
        }
    }
}

/// Removes nodes that lied. They do not sign the change that removes them.
pub async fn remove_liars(world: &Arc<World>, liars: &BTreeSet<u64>) {
    let clients = world.plan.clients;
    let mut driver = MembershipDriver {
        rng: SimRng::new(world.seed, "removal"),
        author: Client::numbered(world, clients + 1, 500),
        approver: Client::numbered(world, clients + 2, 500),
        proposals: 100,
        world: world.clone(),
    };
    for node in liars {
        driver
            .change(GovernanceChange::RemoveValidator { node: *node })
            .await;
        world.count("removed liars");
    }
}

fn address(node: u64) -> String {
    format!("node-{node}:1")
}

impl MembershipDriver {
    async fn pause(&mut self, from_ms: u64, to_ms: u64) {
        sleep(self.rng.millis(from_ms, to_ms)).await;
    }

    fn switch_on(&self, node: u64) {
        self.world.add(node);
        tokio::spawn(node::live(self.world.clone(), node));
    }

    async fn join(&mut self, node: u64) {
        let observer = Observer {
            node,
            account: node::account(node),
            key: node::secret(node).public(),
            address: address(node),
        };
        // Some start the machine first, others propose first.
        let early = self.rng.chance(500);
        if early {
            self.switch_on(node);
        }
        let proof = self.proof(node);
        self.change(GovernanceChange::AddObserver { observer, proof })
            .await;
        if !early {
            self.pause(0, 1_000).await;
            self.switch_on(node);
        }
        self.world.count("joined nodes");
    }

    async fn promote(&mut self, node: u64) {
        let validator = Validator {
            node,
            account: node::account(node),
            key: node::secret(node).public(),
            address: address(node),
        };
        let proof = self.proof(node);
        self.change(GovernanceChange::AddValidator { validator, proof })
            .await;
        self.world.count("new validators");
    }

    fn proof(&self, node: u64) -> Signature {
        let (chain_id, account) = (self.world.genesis.chain_id(), node::account(node));
        node::secret(node).prove(KeyPurpose::Node, &chain_id, &account)
    }

    async fn remove_founder(&mut self) {
        let node = self.rng.between(1, self.world.plan.nodes);
        self.change(GovernanceChange::RemoveValidator { node })
            .await;
        self.pause(0, 2_000).await;
        self.world.remove(node);
    }

    /// Proposes and approves a change, which executes it.
    async fn change(&mut self, change: GovernanceChange) {
        self.proposals += 1;
        let proposal = Id::new(format!("change-{}", self.proposals)).expect("a plain name");
        let changes = vec![change];
        let digest = GovernanceChange::digest(&changes);
        self.world.log_event(format!("to be changed: {changes:?}"));
        let propose = GovernanceAction::Propose {
            proposal: proposal.clone(),
            changes,
        };
        let approve = GovernanceAction::Approve {
            proposal,
            changes: digest,
        };
        for (client, action) in [(&self.author, propose), (&self.approver, approve)] {
            let outcome = client
                .complete(&mut self.rng, Action::Governance(action))
                .await;
            if outcome != Some(Outcome::Succeeded) {
                self.world.check(violation(
                    "administrators can change the nodes",
                    format!("{outcome:?}"),
                ));
            }
        }
    }
}
