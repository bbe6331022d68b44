//! Two administrators who change the nodes while everything else goes on: a new node joins, gets a
//! vote, and one of the founders is removed and ended.

use std::sync::Arc;

use lamplighter_types::{
    Action, GovernanceAction, GovernanceChange, Id, Observer, Outcome, Validator, codec,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::dice::Dice;
use crate::node;
use crate::truth::broken;
use crate::world::World;

struct Governor {
    world: Arc<World>,
    dice: Dice,
    author: Arc<Client>,
    approver: Arc<Client>,
    proposals: u32,
}

/// Goes as far as there is time; a change that was begun is brought to its end.
pub async fn run(world: Arc<World>, over: CancellationToken) {
    let clients = world.plan.clients;
    let mut governor = Governor {
        dice: Dice::new(world.seed, "governor"),
        author: Client::new(&world, clients + 1),
        approver: Client::new(&world, clients + 2),
        proposals: 0,
        world,
    };
    over.run_until_cancelled(governor.pause(100, 1_500)).await;
    let new = governor.world.plan.nodes + 1;
    if !over.is_cancelled() {
        governor.join(new).await;
        over.run_until_cancelled(governor.pause(0, 2_000)).await;
    }
    let joined = governor.world.nodes().contains(&new);
    if joined && !over.is_cancelled() {
        governor.promote(new).await;
        over.run_until_cancelled(governor.pause(0, 2_000)).await;
        if !over.is_cancelled() && governor.dice.chance(800) {
            governor.remove_founder().await;
        }
    }
}

fn address(node: u64) -> String {
    format!("node-{node}:1")
}

impl Governor {
    async fn pause(&mut self, from_ms: u64, to_ms: u64) {
        sleep(self.dice.millis(from_ms, to_ms)).await;
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
        // Some switch the machine on first, others propose first.
        let early = self.dice.chance(500);
        if early {
            self.switch_on(node);
        }
        self.change(GovernanceChange::AddObserver { observer })
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
        self.change(GovernanceChange::AddValidator { validator })
            .await;
        self.world.count("new validators");
    }

    async fn remove_founder(&mut self) {
        let node = self.dice.between(1, self.world.plan.nodes);
        self.change(GovernanceChange::RemoveValidator { node })
            .await;
        self.pause(0, 2_000).await;
        self.world.remove(node);
    }

    /// Proposes and approves, which carries the change out.
    async fn change(&mut self, change: GovernanceChange) {
        self.proposals += 1;
        let proposal = Id::new(format!("change-{}", self.proposals)).expect("a plain name");
        let digest = codec::digest(&change);
        self.world.note(format!("to be changed: {change:?}"));
        let propose = GovernanceAction::Propose {
            proposal: proposal.clone(),
            change,
        };
        let approve = GovernanceAction::Approve {
            proposal,
            change: digest,
        };
        for (who, action) in [(&self.author, propose), (&self.approver, approve)] {
            let outcome = who.insist(&mut self.dice, Action::Governance(action)).await;
            if outcome != Some(Outcome::Succeeded) {
                self.world.check(broken(
                    "administrators can change the nodes",
                    format!("{outcome:?}"),
                ));
            }
        }
    }
}
