//! A pending transaction that can't be in any block any more is refused at once, not when it
//! expires.

use std::time::Duration;

use lamplighter_contracts::ContractError;
use lamplighter_ledger::{Handle, Ticket, Verdict};
use lamplighter_types::{
    Action, GovernanceChange, KeyPurpose, SecretKey, SignedTransaction, UsersAction,
};

use crate::cluster::{Cluster, admin_secret, id, register};
use crate::committed;

/// Far below the ten minutes after which the transactions of these tests expire.
const WITHIN: Duration = Duration::from_secs(20);

async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(WITHIN, wait).await.expect("it comes");
}

/// Four nodes. A follower has a transaction that the leader loses, however often it is forwarded.
struct Waiting {
    cluster: Cluster,
    leader: Handle,
    follower: Handle,
}

impl Waiting {
    async fn start() -> Self {
        let cluster = Cluster::start_calm(4).await;
        let leads = cluster.leader().await;
        let leader = cluster.handle(leads).clone();
        let follower = cluster.handle(1 + leads % 4).clone();
        Self {
            cluster,
            leader,
            follower,
        }
    }

    /// Submits a transaction that is pending at the follower only.
    async fn lose(&self, signed: SignedTransaction) -> Ticket {
        let before = self.follower.status().pending;
        self.cluster.lose_all(true);
        let ticket = self.follower.submit(signed).await.unwrap();
        until(|| self.cluster.has_lost()).await;
        assert_eq!(self.follower.status().pending, before + 1);
        ticket
    }

    async fn act(&self, signed: SignedTransaction) {
        let commitment = committed(self.leader.submit(signed).await.unwrap()).await;
        assert!(commitment.receipt.succeeded(), "{:?}", commitment.receipt);
    }

    /// The code of the refusal, which comes at once and empties the mempool.
    async fn refusal(&self, ticket: Ticket) -> &'static str {
        let verdict = tokio::time::timeout(WITHIN, ticket.verdict()).await;
        let Verdict::Refused(refusal) = verdict.expect("there is a verdict") else {
            panic!("it is refused");
        };
        assert_eq!(self.follower.status().pending, 0);
        refusal.code()
    }

    /// Waits until the follower has the leader's blocks.
    async fn catch_up(&self) {
        let head = self.leader.head().height;
        self.follower.wait_height(head, WITHIN).await.unwrap();
    }

    /// Registers a user and returns its key.
    async fn register(&self, name: &str) -> SecretKey {
        let secret = SecretKey::from_seed([77; 32]);
        let action = UsersAction::RegisterUser {
            account: id(name),
            organization: id("city"),
            name: name.to_owned(),
            key: secret.public(),
            proof: secret.prove(
                KeyPurpose::Account,
                &self.cluster.genesis.chain_id(),
                &id(name),
            ),
        };
        self.act(self.cluster.sign(Action::Users(action))).await;
        self.catch_up().await;
        secret
    }
}

#[tokio::test]
async fn a_transaction_that_loses_a_race_for_its_number_is_refused_at_once() {
    let test = Waiting::start().await;
    let number = test.cluster.next_number();
    let sign = |name| {
        let action = register(name);
        test.cluster
            .sign_numbered("admin", &admin_secret(), number, action)
    };
    let loses = test.lose(sign("loses")).await;
    test.act(sign("wins")).await;
    assert_eq!(test.refusal(loses).await, "admission.sequence_used");
    test.cluster.stop().await;
}

#[tokio::test]
async fn a_transaction_below_the_replay_window_is_refused_at_once() {
    let test = Waiting::start().await;
    let old = test.lose(test.cluster.organization("old")).await;
    test.cluster.skip_numbers(2_000);
    test.act(test.cluster.organization("new")).await;
    assert_eq!(test.refusal(old).await, "admission.sequence_too_old");
    test.cluster.stop().await;
}

#[tokio::test]
async fn a_transaction_of_a_revoked_key_is_refused_at_once() {
    let test = Waiting::start().await;
    let secret = test.register("eve").await;
    let signed = test.cluster.sign_as("eve", &secret, register("hers"));
    let ticket = test.lose(signed).await;
    let (account, key) = (id("eve"), secret.public());
    let revoke = Action::Users(UsersAction::RevokeKey { account, key });
    test.act(test.cluster.sign(revoke)).await;
    assert_eq!(test.refusal(ticket).await, "admission.key_revoked");
    test.cluster.stop().await;
}

/// The account may be enabled again, and the transaction may be in a block that this node has not
/// applied yet: any verdict now could be wrong.
#[tokio::test]
async fn a_transaction_of_a_disabled_account_waits_until_it_is_enabled_again() {
    let test = Waiting::start().await;
    let secret = test.register("eve").await;
    let signed = test.cluster.sign_as("eve", &secret, register("hers"));
    let ticket = test.lose(signed).await;
    let account = id("eve");
    let disable = UsersAction::Disable { account };
    test.act(test.cluster.sign(Action::Users(disable))).await;
    test.catch_up().await;
    test.cluster.lose_all(false);
    // It is forwarded a second time only if it was kept after the first.
    until(|| test.cluster.refused() >= 2).await;
    assert_eq!(test.follower.status().pending, 1);
    let account = id("eve");
    let enable = GovernanceChange::Enable { account };
    for signed in test.cluster.govern("enable", enable) {
        test.act(signed).await;
    }
    committed(ticket).await;
    test.cluster.stop().await;
}

/// Transactions of others change nothing for one that can still be admitted.
#[tokio::test]
async fn a_transaction_that_can_still_be_admitted_is_not_refused() {
    let test = Waiting::start().await;
    test.register("eve").await;
    let ticket = test.lose(test.cluster.organization("waits")).await;
    test.act(test.cluster.organization("other-number")).await;
    let disable = UsersAction::Disable { account: id("eve") };
    test.act(test.cluster.sign(Action::Users(disable))).await;
    test.catch_up().await;
    assert_eq!(test.follower.status().pending, 1);
    test.cluster.lose_all(false);
    assert!(committed(ticket).await.receipt.succeeded());
    test.cluster.stop().await;
}
