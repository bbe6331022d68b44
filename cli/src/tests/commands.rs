//! Every command of the program: what clap knows of it, and in whose name it writes.

mod audits;
mod groups;

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Command, CommandFactory};
use lamplighter_client::{HistoryOf, http_client_of};
use lamplighter_system::unix_ms;
use lamplighter_types::login::{Audience, LoginSession};
use lamplighter_types::{
    Action, AlarmChange, ConfigAction, DeviceEvent, DevicesAction, EventsAction, FirmwareAction,
    GovernanceAction, GovernanceChange, Hash, Policies, Retention, RolloutsAction, Severity,
    UsersAction,
};

use super::city::{City, id};
use crate::Arguments;

/// All options that are meant for every command, with what they are called.
const GLOBAL: [&str; 12] = [
    "profile",
    "node-url",
    "genesis",
    "cacert",
    "plain-http-beyond-loopback",
    "trusted",
    "update-trusted",
    "as",
    "key",
    "state",
    "timeout",
    "json",
];

/// Commands that talk to no ledger, or are nodes, gateways and Things themselves.
const WITHOUT_LEDGER: [&str; 17] = [
    "doctor",
    "reference",
    "node init",
    "node run",
    "node certificate",
    "node join",
    "node restore",
    "gateway run",
    "things run",
    "devnet up",
    "key new",
    "key show",
    "key prove",
    "genesis create",
    "genesis check",
    "audit verify",
    // Signs, and sends nothing.
    "transaction sign",
];

/// The commands that have no commands below them, with their names from the program's on.
fn leaves(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
    let below: Vec<_> = command
        .get_subcommands()
        .filter(|below| below.get_name() != "help")
        .collect();
    if below.is_empty() {
        found.push((path.to_owned(), command.clone()));
    }
    for next in below {
        let path = format!("{path} {}", next.get_name());
        leaves(next, path.trim(), found);
    }
}

fn all_leaves() -> Vec<(String, Command)> {
    let mut program = Arguments::command();
    program.build();
    let mut found = Vec::new();
    leaves(&program, "", &mut found);
    found
}

/// Ids of global options, with their long names, where they are declared; and below that whatever
/// takes their place.
fn hidden(command: &Command, above: &[(String, String)], path: &str, wrong: &mut Vec<String>) {
    for argument in command.get_arguments() {
        let names = (
            argument.get_id().to_string(),
            argument.get_long().unwrap_or_default().to_owned(),
        );
        let taken = |(id, long): &(String, String)| {
            *id == names.0 || (!long.is_empty() && *long == names.1)
        };
        if above.iter().any(taken) {
            wrong.push(format!("{path}: {}", names.0));
        }
    }
    let mut known = above.to_vec();
    let global = command.get_arguments().filter(|a| a.is_global_set());
    known.extend(global.map(|argument| {
        let long = argument.get_long().unwrap_or_default();
        (argument.get_id().to_string(), long.to_owned())
    }));
    for below in command.get_subcommands() {
        hidden(
            below,
            &known,
            &format!("{path} {}", below.get_name()),
            wrong,
        );
    }
}

#[test]
fn every_command_has_a_description_and_every_global_option() {
    Arguments::command().debug_assert();
    // As declared, before clap hands global options down.
    let mut wrong = Vec::new();
    hidden(&Arguments::command(), &[], "lamplighter", &mut wrong);
    assert!(
        wrong.is_empty(),
        "take the place of a global option: {wrong:?}"
    );
    let all = all_leaves();
    assert!(all.len() > 60, "only {} commands", all.len());
    for (path, command) in all {
        let longs: Vec<_> = command
            .get_arguments()
            .filter_map(|a| a.get_long())
            .collect();
        for option in GLOBAL {
            assert!(longs.contains(&option), "{path} has no --{option}");
        }
        assert!(
            command.get_about().is_some(),
            "{path} says nothing of itself"
        );
        let ids: BTreeSet<_> = command.get_arguments().map(|a| a.get_id()).collect();
        assert_eq!(ids.len(), command.get_arguments().count(), "{path}");
    }
    let declared = Arguments::command();
    let declared = declared.get_arguments().filter(|a| a.is_global_set());
    let declared: BTreeSet<_> = declared
        .filter_map(|a| a.get_long().map(str::to_owned))
        .collect();
    assert_eq!(declared, GLOBAL.map(str::to_owned).into());
}

/// The command of an action; none for those that people do not send by a command: what gateways
/// report, what validators state of themselves, and what registrants sign with keys of their own
/// and the HTTP interface relays. Without a wildcard: whoever adds an action decides here.
fn command_of(action: &Action) -> Option<&'static str> {
    use GovernanceChange as Change;
    Some(match action {
        Action::Users(action) => match action {
            UsersAction::RegisterOrganization { .. } => "user organization",
            UsersAction::RegisterUser { .. } => "user register",
            UsersAction::RegisterGateway { .. } => "user gateway",
            UsersAction::Grant { .. } => "user grant",
            UsersAction::Revoke { .. } => "user revoke",
            UsersAction::AddKey { .. } => "user add-key",
            UsersAction::RotateKey { .. } => "user rotate-key",
            UsersAction::RevokeKey { .. } => "user revoke-key",
            UsersAction::Disable { .. } => "user disable",
        },
        Action::Devices(action) => match action {
            DevicesAction::Register { .. } => "device register",
            DevicesAction::AssignGateway { .. } => "device assign",
            DevicesAction::Tag { .. } => "device tag",
            DevicesAction::OfferTransfer { .. } => "device offer-transfer",
            DevicesAction::WithdrawTransfer { .. } => "device withdraw-transfer",
            DevicesAction::AcceptTransfer { .. } => "device accept-transfer",
            DevicesAction::Suspend { .. } => "device suspend",
            DevicesAction::Resume { .. } => "device resume",
            DevicesAction::Decommission { .. } => "device decommission",
            DevicesAction::LinkRegistrant { .. } => "device link-registrant",
            DevicesAction::ReportInventory { .. }
            | DevicesAction::RotateKeys { .. }
            | DevicesAction::IotRegistry { .. } => return None,
        },
        Action::Firmware(action) => match action {
            FirmwareAction::Publish { .. } => "firmware publish",
            FirmwareAction::Approve { .. } => "firmware approve",
            FirmwareAction::Deprecate { .. } => "firmware deprecate",
            FirmwareAction::Revoke { .. } => "firmware revoke",
            FirmwareAction::WithdrawApproval { .. } => "firmware withdraw-approval",
            FirmwareAction::Withdraw { .. } => "firmware withdraw",
            FirmwareAction::HoldArtifact { .. } | FirmwareAction::DropArtifact { .. } => {
                return None;
            }
        },
        Action::Rollouts(action) => match action {
            RolloutsAction::Plan { .. } => "rollout plan",
            RolloutsAction::Approve { .. } => "rollout approve",
            RolloutsAction::WithdrawApproval { .. } => "rollout withdraw-approval",
            RolloutsAction::Start { .. } => "rollout start",
            RolloutsAction::Pause { .. } => "rollout pause",
            RolloutsAction::Resume { .. } => "rollout resume",
            RolloutsAction::Cancel { .. } => "rollout cancel",
            RolloutsAction::Postpone { .. } => "rollout postpone",
            RolloutsAction::PlanGroups { .. } => "rollout plan",
            RolloutsAction::Amend { .. } => "rollout amend",
            RolloutsAction::OpenGroup { .. } => "rollout open",
            RolloutsAction::PlanGuarded { .. } => "rollout plan",
            RolloutsAction::AmendGuarded { .. } => "rollout amend",
            RolloutsAction::Consent(_) => "rollout consent",
            RolloutsAction::Report { .. } => return None,
        },
        Action::Config(action) => match action {
            ConfigAction::SetDesired { .. } => "config set",
            ConfigAction::Report { .. } => return None,
        },
        Action::Events(action) => match action {
            EventsAction::Acknowledge { .. } => "alarm ack",
            EventsAction::Clear { .. } => "alarm clear",
            EventsAction::Append { .. } => return None,
        },
        Action::Governance(action) => match action {
            GovernanceAction::Propose { changes, .. } => match changes.first()? {
                Change::AddValidator { .. } => "governance propose add-validator",
                Change::RemoveValidator { .. } => "governance propose remove-validator",
                Change::AddObserver { .. } => "governance propose add-observer",
                Change::RemoveObserver { .. } => "governance propose remove-observer",
                Change::SetPolicies { .. } => "governance propose set-policies",
                Change::SetProtocol { .. } => "governance propose set-protocol",
                Change::RegisterUser { .. } => "governance propose register",
                Change::Grant { .. } => "governance propose grant",
                Change::Revoke { .. } => "governance propose revoke",
                Change::Disable { .. } => "governance propose disable",
                Change::Enable { .. } => "governance propose enable",
                Change::Recover { .. } => "governance propose recover",
                Change::ResetDevice { .. } => "governance propose reset-device",
                Change::ReplaceDeviceKey { .. } => "governance propose replace-device-key",
                Change::ReuseHardware { .. } => "governance propose reuse-hardware",
            },
            GovernanceAction::Approve { .. } => "governance approve",
            GovernanceAction::Withdraw { .. } => "governance withdraw",
        },
    })
}

/// A day in the city: accounts run commands.
struct Day {
    city: City,
    commands_run: BTreeSet<String>,
    written: BTreeSet<&'static str>,
}

impl Day {
    /// The command, as clap knows it, that begins with these words.
    fn path(&self, command: &str) -> String {
        let all = all_leaves();
        let paths = all.iter().map(|(path, _)| path);
        // In `governance propose NAME add-observer` an argument stands between.
        let words: Vec<_> = command.split_whitespace().collect();
        let is = |path: &&String| {
            let mut rest = words.iter();
            path.split(' ').all(|part| rest.any(|word| *word == part))
                && words[0] == path.split(' ').next().unwrap_or_default()
                && words[1..].first() == path.split(' ').nth(1).as_ref()
        };
        let longest = paths.filter(is).max_by_key(|path| path.len());
        longest
            .unwrap_or_else(|| panic!("{command} is no command"))
            .clone()
    }

    /// Checks that new blocks hold this command's action by this account, and nothing else.
    fn check_blocks(&mut self, command: &str, author: &str) {
        let path = self.path(command);
        let new = self.city.new_transactions();
        assert_eq!(new.len(), 1, "{command}: {new:?}");
        assert_eq!(new[0].sender, id(author), "{command}");
        if path != "transaction send" {
            assert_eq!(command_of(&new[0].action), Some(path.as_str()), "{command}");
        }
        self.written.extend(command_of(&new[0].action));
        self.commands_run.insert(path);
    }

    /// A command that writes and succeeds.
    async fn writes(&mut self, account: &str, command: &str) {
        self.city.done(account, command).await;
        self.check_blocks(command, account);
    }

    /// A command whose transaction the ledger refuses: it is in a block all the same.
    async fn is_refused(&mut self, account: &str, command: &str) {
        let failure = self.city.run(account, command).await.unwrap_err();
        assert_eq!(
            failure.exit_code(),
            std::process::ExitCode::from(3),
            "{failure}"
        );
        let output = failure.to_string();
        let (_, hash) = output.rsplit_once(": ").unwrap();
        let client = self.city.client("auditor");
        let found = client
            .transaction(hash.parse::<Hash>().unwrap())
            .await
            .unwrap();
        let place = format!(
            "), on the record in block {} (transaction {}): {hash}",
            found.height, found.index
        );
        assert!(output.ends_with(&place), "{output}");
        self.check_blocks(command, account);
    }

    /// A command that only reads.
    async fn reads(&mut self, account: &str, command: &str) {
        self.city.done(account, command).await;
        assert!(self.city.new_transactions().is_empty(), "{command} wrote");
        self.commands_run.insert(self.path(command));
    }

    /// Runs a command that reads until it is stopped.
    async fn follows(&mut self, account: &str, command: &str) {
        let some = Duration::from_millis(300);
        let ended = tokio::time::timeout(some, self.city.run(account, command)).await;
        assert!(ended.is_err(), "{command} ended");
        assert!(self.city.new_transactions().is_empty(), "{command} wrote");
        self.commands_run.insert(self.path(command));
    }

    async fn people(&mut self) {
        let bob = self.city.proven_key("bob", "bob");
        let gateway = self.city.proven_key("gateway-1", "gateway-1");
        let all = [
            "user organization lighting Lighting".to_owned(),
            format!("user register bob --organization lighting --name Bob {bob}"),
            format!("user gateway gateway-1 --organization lighting --district north {gateway}"),
            "user grant bob operator@north".to_owned(),
            // Both have a key in the folder of keys, and might act themselves.
            "user grant admin-2 operator".to_owned(),
            "user revoke admin-2 operator".to_owned(),
            "user disable bob".to_owned(),
        ];
        for command in all {
            self.writes("admin-1", &command).await;
        }
        self.govern(
            "enable bob",
            GovernanceChange::Enable { account: id("bob") },
        )
        .await;
        for command in ["user list", "user show admin-2"] {
            self.reads("auditor", command).await;
        }
    }

    /// Sessions are listed and ended by their account and by administrators, nobody else.
    async fn sessions(&mut self) {
        let client = self.city.client("auditor");
        client.users(None).await.unwrap();
        self.reads("auditor", "session list").await;
        let current = |all: Vec<(String, LoginSession)>| {
            let current = all.into_iter().find(|(_, session)| session.current);
            current.expect("that of the client").1.session
        };
        let begun = current(client.sessions(None).await.unwrap());
        let end = format!("session end {begun}");
        let failure = self.city.run("operator", &end).await.unwrap_err();
        assert!(failure.to_string().contains("no node has"), "{failure}");
        let of_auditor = format!("{end} --account auditor");
        let failure = self.city.run("operator", &of_auditor).await.unwrap_err();
        assert!(failure.to_string().contains("(forbidden)"), "{failure}");
        assert_eq!(current(client.sessions(None).await.unwrap()), begun);
        self.reads("auditor", &end).await;
        // The client logs in again by itself.
        let next = current(client.sessions(None).await.unwrap());
        assert_ne!(next, begun);
        self.reads("admin-1", "session end --all --account auditor")
            .await;
        let last = current(client.sessions(None).await.unwrap());
        assert_ne!(last, next);
        assert_eq!(client.sessions(None).await.unwrap().len(), 1);
        self.reads("auditor", "session end --all").await;
        assert_ne!(current(client.sessions(None).await.unwrap()), last);
    }

    /// A proposal of one administrator, which another approves.
    async fn govern(&mut self, command: &str, change: GovernanceChange) {
        let name = command.split(' ').next().unwrap();
        let propose = format!("governance propose {name}-it {command}");
        self.writes("admin-1", &propose).await;
        let digest = GovernanceChange::digest(&[change]);
        let approve = format!("governance approve {name}-it --digest {digest}");
        self.writes("admin-2", &approve).await;
    }

    async fn devices(&mut self) {
        let device = |name: &str| {
            format!(
                r#"{{"device": "{name}", "owner": "city", "model": "lamp",
                "hardware_class": "lamp-v1", "district": "north", "gateway": "gateway-1",
                "tags": []}}"#
            )
        };
        let all = ["lamp-1", "lamp-2", "lamp-3"].map(device);
        self.city
            .write("devices.json", format!("[{}]", all.join(",")));
        for command in [
            "device register {devices.json}",
            "device assign lamp-1 gateway-1",
            "device tag lamp-1 pole=17",
            "device suspend lamp-2 broken",
            "device resume lamp-2",
            "device decommission lamp-3 gone",
            "device offer-transfer lamp-1 lighting",
            "device withdraw-transfer lamp-1",
            "device offer-transfer lamp-1 lighting",
        ] {
            self.writes("operator", command).await;
        }
        self.writes("bob", "device accept-transfer lamp-1").await;
        let link = format!("device link-registrant {} lighting", "02".repeat(33));
        self.is_refused("admin-1", &link).await;
        for command in [
            "device list",
            "device list --district north --filter model==l* --silent 24h",
            "device show lamp-1",
            "device history lamp-1",
            "device report --filter alarm==none",
            "device report --csv",
            "device exposure --csv --config \
             0101010101010101010101010101010101010101010101010101010101010101",
            "device timeline lamp-1",
            "device export",
            "device export --csv --gateway gateway-1",
        ] {
            self.reads("auditor", command).await;
        }
        for command in ["device timeline lamp-9", "event list lamp-9"] {
            let failure = self.city.run("auditor", command).await.unwrap_err();
            assert!(
                failure.to_string().contains("no device lamp-9"),
                "{failure}"
            );
        }
    }

    async fn firmware(&mut self) {
        self.city.write("image.bin", [7; 100_000]);
        let publish = "firmware publish {image.bin} --release lamp-2 --version 2.0.0 \
                       --hardware-class lamp-v1 --security-counter 1";
        self.writes("vendor", publish).await;
        // The release cannot be approved before the node has signed that it holds the image.
        self.city.holds(&Hash::of(&[7; 100_000])).await;
        // The node reports this once, not again for another release of the same image.
        let again = publish
            .replace("lamp-2", "lamp-3")
            .replace("2.0.0", "3.0.0");
        let begun = std::time::Instant::now();
        self.writes("vendor", &again).await;
        assert!(begun.elapsed() < Duration::from_secs(20), "it waited");
        for command in [
            "approve lamp-2",
            "withdraw-approval lamp-2",
            "approve lamp-2",
        ] {
            self.writes("approver", &format!("firmware {command}"))
                .await;
        }
        self.writes("vendor", "firmware withdraw lamp-3").await;
        let plan = "rollout plan first --release lamp-2 --device lamp-1 --device lamp-2";
        self.writes("operator", plan).await;
        for command in ["approve first", "withdraw-approval first", "approve first"] {
            self.writes("approver", &format!("rollout {command}")).await;
        }
        for command in [
            "rollout start first",
            "rollout pause first wait",
            "rollout resume first",
        ] {
            self.writes("operator", command).await;
        }
        // It is assigned and was not offered yet.
        for until in ["+1h", "tomorrow", "2100-01-01T06:00"] {
            let postpone = format!("rollout postpone first lamp-2 {until}");
            self.is_refused("operator", &postpone).await;
        }
        self.writes("operator", "rollout cancel first enough").await;
        self.check_rollout_history().await;
        for command in [
            "firmware list",
            "firmware show lamp-2",
            "rollout list",
            "rollout show first",
            "rollout watch first",
        ] {
            self.reads("auditor", command).await;
        }
        self.groups().await;
        self.unfinished_upload().await;
        self.writes("operator", "firmware deprecate lamp-2 old")
            .await;
        self.writes("security", "firmware revoke lamp-2 flaw").await;
    }

    /// An upload that was begun is listed for its account alone, and dropped by it.
    async fn unfinished_upload(&mut self) {
        let (client, digest) = (self.city.client("vendor"), Hash::of(b"half of an image"));
        let token = client.token(0, Audience::HttpRead).await.unwrap().token;
        let validators = &self.city.genesis.validators.validators;
        let http = http_client_of(validators.iter().map(|v| v.key)).unwrap();
        let begun = http
            .post(format!(
                "https://{}/v1/artifacts",
                self.city.node.edges.http
            ))
            .bearer_auth(token)
            .json(&serde_json::json!({ "digest": digest, "size_bytes": 2 }));
        assert_eq!(begun.send().await.unwrap().status(), 200);
        let found = client.uploads().await.unwrap();
        assert_eq!((found.len(), found[0].1.digest), (1, digest));
        let others = self.city.client("operator").uploads().await.unwrap();
        assert!(others.is_empty());
        self.reads("vendor", "firmware uploads").await;
        let drop = format!("firmware drop-upload {digest}");
        let failure = self.city.run("operator", &drop).await.unwrap_err();
        assert!(failure.to_string().contains("no node has"), "{failure}");
        self.reads("vendor", &drop).await;
        assert!(client.uploads().await.unwrap().is_empty());
    }

    /// Checks the history of the rollout: authors and transactions, in one call.
    async fn check_rollout_history(&self) {
        let client = self.city.client("auditor");
        let history = client.history(&HistoryOf::Rollout(id("first")), None).await;
        let changes = history.unwrap().value.items;
        let mut output = Vec::new();
        for change in changes.iter().rev() {
            let author = change
                .author
                .clone()
                .map_or(String::new(), |id| id.to_string());
            for notification in &change.receipt.notifications {
                output.push(format!("{author} {}", notification.fact.kind()));
            }
            if change.author.is_some() {
                let found = client.transaction(change.transaction).await.unwrap();
                assert_eq!(Some(&found.decoded.sender), change.author.as_ref());
                assert_eq!(found.time_ms, change.time_ms);
            }
        }
        output.truncate(8);
        assert_eq!(
            output,
            [
                "operator rollout_planned",
                "approver rollout_approved",
                "approver rollout_approval_withdrawn",
                "approver rollout_approved",
                "operator rollout_started",
                "operator rollout_paused",
                "operator rollout_resumed",
                "operator rollout_stopping",
            ]
        );
    }

    async fn field(&mut self) {
        self.city.write("dim.json", r#"{"dimming":{"percent":30}}"#);
        self.writes("operator", "config set {dim.json} --district north")
            .await;
        let event = DeviceEvent {
            device: id("lamp-2"),
            sequence: 1,
            time_ms: unix_ms(),
            kind: "x-test".into(),
            severity: Severity::Major,
            alarm: AlarmChange::Raise,
            data: String::new(),
            signature: None,
        };
        let action = Action::Events(EventsAction::Append {
            events: vec![event],
        });
        self.city.write_action("event.json", &action);
        self.reads("gateway-1", "transaction sign {event.json}")
            .await;
        let signed = self.city.client("gateway-1").sign(action).await.unwrap();
        self.city
            .write("signed.json", serde_json::to_vec(&signed).unwrap());
        // The signer is the author, whoever sends it.
        self.city
            .done("auditor", "transaction send {signed.json}")
            .await;
        self.check_blocks("transaction send", "gateway-1");
        self.reads("auditor", "transaction pending").await;
        self.reads("auditor", "transaction resume").await;
        self.writes("operator", "alarm ack lamp-2 1").await;
        // It is acknowledged and open; once it is cleared too, only its history has it.
        let proof = "proof get --out {alarm.json} alarm lamp-2 1";
        self.reads("auditor", proof).await;
        self.writes("operator", "alarm clear lamp-2 1").await;
        let hash = signed.hash(&self.city.genesis.chain_id());
        for command in [
            "status",
            "config show lamp-1",
            "event list lamp-2",
            "alarm list",
            &format!("transaction show {hash}"),
            "history device lamp-1",
            "history release lamp-2",
            "history rollout first",
            "history user bob",
            "history organization lighting",
            "history config --district north",
            "history config --fleet",
            "history alarm lamp-2 1",
            &format!("proof get --out {{receipt.json}} receipt {hash}"),
            "proof get --out {device.json} device lamp-1",
            "proof get --out {release.json} release lamp-2",
            "proof get --out {rollout.json} rollout first",
            "proof get --out {deployment.json} deployment first lamp-2",
            "proof get --out {user.json} user bob",
            &format!("proof get --out {{transaction.json}} transaction {hash}"),
            "proof get --out {device-state.json} device-state lamp-1",
            "proof get --out {organization.json} organization lighting",
            "proof get --out {config.json} config --district north",
            "proof validators",
        ] {
            self.reads("auditor", command).await;
        }
        let place = self.city.client("auditor").transaction(hash).await.unwrap();
        let event = place.height;
        let command = format!("proof get --out {{event-proof.json}} event {event} 0");
        self.reads("auditor", &command).await;
        let before = std::fs::read(self.city.path("user.json")).unwrap();
        Box::pin(self.audits()).await;
        let again = "proof get --out {user.json} device lamp-1";
        let failure = self.city.run("auditor", again).await.unwrap_err();
        assert!(failure.to_string().contains("exists already"), "{failure}");
        assert_eq!(std::fs::read(self.city.path("user.json")).unwrap(), before);
        self.follows("auditor", "event watch").await;
    }

    /// No changes, and no such record, are two answers.
    async fn no_such_record(&mut self) {
        for of in [
            "device nope",
            "release nope",
            "rollout nope",
            "user nope",
            "organization nope",
            "config --device nope",
            "alarm lamp-2 77",
            "proposal nope",
        ] {
            let command = format!("history {of}");
            let failure = self.city.run("auditor", &command).await.unwrap_err();
            let output = failure.to_string();
            assert!(output.ends_with("(not_found)"), "{command}: {output}");
            assert_eq!(failure.exit_code(), std::process::ExitCode::from(3));
        }
        let shown = self.city.run("auditor", "device history nope").await;
        assert!(shown.unwrap_err().to_string().ends_with("(not_found)"));
        self.reads("auditor", "history config --fleet").await;
    }

    async fn propose(&mut self, account: &str, change: &str) {
        let name = change.split(' ').next().unwrap();
        self.writes(account, &format!("governance propose my-{name} {change}"))
            .await;
    }

    async fn governance(&mut self) {
        let node = self.city.node_key("node-5");
        let new = format!("{node} --address 10.0.0.5:7400");
        let (eve, lamp) = (self.city.proven_key("eve", "eve"), self.city.key("lamp-9"));
        let proof = "01".repeat(64);
        for change in [
            format!("add-observer --node 5 {new}"),
            // No account approves it.
            format!("add-validator --node 1 {new}"),
            "remove-observer 5".to_owned(),
            "remove-validator 5".to_owned(),
            "set-policies --rollouts 2 --expires-ms power=86400000 --expires-ms releases=3600000 \
             --open-release-ms 7200000 --open-plan-ms 7300000 --ended-release-ms 7400000"
                .to_owned(),
            "set-protocol --version 1 --from-height 1000000".to_owned(),
        ] {
            self.propose("admin-1", &change).await;
        }
        for change in [
            format!("register eve --organization lighting --name Eve {eve} --role approver"),
            "grant bob vendor@north".to_owned(),
            "revoke approver approver".to_owned(),
            "disable bob".to_owned(),
            "reset-device lamp-1 --report-counter 0".to_owned(),
            format!("replace-device-key lamp-1 --public-key {lamp} --proof {proof}"),
            "reuse-hardware lamp-3".to_owned(),
        ] {
            self.propose("admin-2", &change).await;
        }
        self.writes("admin-2", "governance withdraw my-disable")
            .await;
        let mut policies = Policies::default();
        policies.approvals.releases.approvals = 1;
        policies.approvals.rollouts.approvals = 2;
        policies.approvals.power.expires_ms = 86_400_000;
        policies.approvals.releases.expires_ms = 3_600_000;
        policies.retention = Retention {
            open_release_ms: 7_200_000,
            open_plan_ms: 7_300_000,
            ended_release_ms: 7_400_000,
        };
        let digest = GovernanceChange::digest(&[GovernanceChange::SetPolicies { policies }]);
        self.reads("auditor", "governance show my-set-policies")
            .await;
        self.writes(
            "admin-2",
            &format!("governance approve my-set-policies --digest {digest}"),
        )
        .await;
        for command in [
            "governance nodes",
            "governance list",
            "governance policies",
            "history proposal my-set-policies",
            "history governance",
        ] {
            self.reads("auditor", command).await;
        }
    }

    async fn keys(&mut self) {
        let new = self.city.proven_key("bob-new", "bob");
        let change = self.city.recovery("bob-new", "bob");
        self.govern(&format!("recover bob {new}"), change).await;
        let keys = self.city.path("keys");
        std::fs::rename(keys.join("bob-new.key"), keys.join("bob.key")).unwrap();
        self.city.key("bob-safe");
        self.writes("bob", "user add-key {keys/bob-safe.key} --label safe")
            .await;
        self.city.key("bob-third");
        self.writes("bob", "user rotate-key {keys/bob-third.key}")
            .await;
        self.writes(
            "bob",
            "device tag lamp-1 pole=18 --key {keys/bob-third.key}",
        )
        .await;
        let refused = self.city.run("bob", "device tag lamp-1 pole=19").await;
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("admission.key_revoked")
        );
        let gateway = self.city.key("gateway-1");
        self.writes("security", &format!("user revoke-key gateway-1 {gateway}"))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_writes_in_the_name_of_who_is_named_with_as() {
    let mut day = Day {
        city: City::found().await,
        commands_run: BTreeSet::new(),
        written: BTreeSet::new(),
    };
    day.city.new_transactions();
    day.people().await;
    day.sessions().await;
    day.devices().await;
    day.firmware().await;
    day.field().await;
    day.no_such_record().await;
    day.governance().await;
    day.keys().await;
    let known: BTreeSet<_> = all_leaves().into_iter().map(|(path, _)| path).collect();
    let without = WITHOUT_LEDGER.map(str::to_owned);
    let expected: BTreeSet<_> = day.commands_run.iter().cloned().chain(without).collect();
    assert_eq!(
        known, expected,
        "each command is given once, or needs no ledger"
    );
    let Day { city, written, .. } = day;
    assert!(written.len() > 40, "{written:?}");
    city.stop().await;
}
