use lamplighter_types::GovernanceChange;

use super::Day;

impl Day {
    /// Rollouts in groups, which the second version of the protocol has.
    pub(super) async fn groups(&mut self) {
        let status = self.city.client("auditor").status().await.unwrap();
        let (version, from_height) = (2, status.height + 3);
        let change = GovernanceChange::SetProtocol {
            version,
            from_height,
        };
        let set = format!("set-protocol --version {version} --from-height {from_height}");
        self.govern(&set, change).await;
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
        self.writes("operator", "rollout cancel second enough")
            .await;
    }
}
