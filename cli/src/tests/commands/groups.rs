use lamplighter_client::Wait;
use lamplighter_types::protocol::PROTOCOL_VERSION;
use lamplighter_types::{Action, GovernanceAction, GovernanceChange};

use super::Day;
use crate::tests::city::id;

impl Day {
    /// A version that this program does not know is neither proposed nor approved.
    async fn newer_protocol(&mut self) {
        let version = PROTOCOL_VERSION + 1;
        let propose = format!("governance propose newer set-protocol --version {version}");
        let propose = format!("{propose} --from-height +100");
        let changes = vec![GovernanceChange::SetProtocol {
            version,
            from_height: 1_000_000,
        }];
        let proposal = id("newest");
        let action = GovernanceAction::Propose { proposal, changes };
        let client = self.city.client("admin-1");
        client
            .submit(Action::Governance(action), Wait::Committed)
            .await
            .unwrap();
        self.city.new_transactions();
        for (account, command) in [
            ("admin-1", propose.as_str()),
            ("admin-2", "governance approve newest"),
        ] {
            let failure = self.city.run(account, command).await.unwrap_err();
            let words = format!("knows protocol versions up to {PROTOCOL_VERSION}");
            assert!(failure.to_string().contains(&words), "{failure}");
            assert!(self.city.new_transactions().is_empty(), "{command}");
        }
        let withdraw = "governance withdraw newest";
        self.writes("admin-1", withdraw).await;
    }

    /// Rollouts in groups, which the second version of the protocol has.
    pub(super) async fn groups(&mut self) {
        self.newer_protocol().await;
        let early = "rollout plan early --release lamp-2 --group rest";
        let failure = self.city.run("operator", early).await.unwrap_err();
        assert!(failure.to_string().contains("set-protocol"), "{failure}");
        let newest = self.city.client("auditor").status().await.unwrap().height;
        let set = "governance propose second set-protocol --version 2 --from-height +3";
        self.writes("admin-1", set).await;
        let found = self.city.client("admin-1").proposal(&id("second")).await;
        let changes = found.unwrap().value.proposal.changes;
        let [GovernanceChange::SetProtocol { from_height, .. }] = changes[..] else {
            panic!("{changes:?}");
        };
        assert!(from_height >= newest + 3, "{from_height}, {newest}");
        // Without a digest it approves what it has printed.
        self.writes("admin-2", "governance approve second").await;
        // The version is in force from the next block on.
        let third = "rollout plan third --release lamp-2 --device lamp-1";
        self.writes("operator", third).await;
        let devices = "--release lamp-2 --device lamp-1 --device lamp-2";
        let [first, rest] = ["lamp-1:~soak~0,~by~hand", "rest:~success~50"];
        let plan = format!("second {devices} --group {first} --group {rest}");
        for (sender, command) in [
            (
                "operator",
                format!("rollout plan {plan} --silence-percent-max 20"),
            ),
            ("operator", format!("rollout amend {plan} --stop +2d")),
            ("approver", "rollout approve second".to_owned()),
            ("operator", "rollout start second".to_owned()),
        ] {
            self.writes(sender, &command).await;
        }
        self.is_refused("operator", "rollout open second 2").await;
        self.reads("auditor", "rollout show second").await;
        self.reads("auditor", "device exposure --release lamp-2")
            .await;
        let failure = self.city.run("auditor", "device exposure --release none");
        let failure = failure.await.unwrap_err().to_string();
        assert!(failure.contains("there is no release none"), "{failure}");
        self.writes("operator", "rollout cancel second enough")
            .await;
        self.guards().await;
    }

    /// Windows and consent, which the third version of the protocol has.
    async fn guards(&mut self) {
        let set = "governance propose third set-protocol --version 3 --from-height +9";
        self.writes("admin-1", set).await;
        self.writes("admin-2", "governance approve third").await;
        // Each makes a block, until the version is in force.
        for days in 1..10 {
            let amend = "rollout amend third --release lamp-2 --device lamp-1";
            self.writes("operator", &format!("{amend} --stop +{days}d"))
                .await;
        }
        let window = "--window 0~2~*~*~1-5~for~3h~in~Europe/Berlin --consent operator";
        let plan = format!("guarded --release lamp-2 --device lamp-1 {window}");
        for (sender, command) in [
            ("operator", format!("rollout plan {plan}")),
            ("operator", format!("rollout amend {plan} --consent owner")),
            ("approver", "rollout approve guarded".to_owned()),
            ("operator", "rollout start guarded".to_owned()),
        ] {
            self.writes(sender, &command).await;
        }
        self.reads("auditor", "rollout show guarded").await;
        let consent = "rollout consent guarded lamp-1 +2d --reason asked";
        self.is_refused("operator", consent).await;
        self.writes("operator", "rollout cancel guarded enough")
            .await;
    }
}
