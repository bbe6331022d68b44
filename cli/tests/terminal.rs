//! Texts of the ledger or of a node cannot command the reader's terminal.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Output;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lamplighter_types::wire::{ApprovalCounts, ApprovalStanding, Candidate, ProposalStanding};
use lamplighter_types::*;
use serde_json::{Value, json};
use tokio::process::Command;

/// Clears the screen, hides, turns around, forges a line.
const HOSTILE: &str = "door\u{1b}[2J\u{9b}8m\u{7f}\u{202e}\u{2066}\u{200b}\u{2028}\u{feff}\nforged";

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

fn hostile() -> String {
    HOSTILE.to_owned()
}

fn key() -> PublicKey {
    SecretKey::from_seed([7; 32]).public()
}

fn device() -> Device {
    Device {
        device: id("lamp-1"),
        owner: id("city"),
        offered_to: None,
        model: hostile(),
        hardware_class: hostile(),
        district: Scope::city(),
        gateway: None,
        key: None,
        tags: vec![Tag {
            name: hostile(),
            value: hostile(),
        }],
        status: DeviceStatus::Active,
        registered_height: 1,
    }
}

fn device_state() -> DeviceState {
    DeviceState {
        version: None,
        release: None,
        digest: Some(Hash::ZERO),
        security_counter: 0,
        report_counter: 0,
        drifted: false,
        active_rollout: None,
        confirmed: Vec::new(),
        key_rotations: 0,
    }
}

fn event() -> EventRecord {
    EventRecord {
        event: DeviceEvent {
            device: id("lamp-1"),
            sequence: 1,
            time_ms: 1_796_074_200_000,
            kind: hostile(),
            severity: Severity::Major,
            alarm: AlarmChange::None,
            data: hostile(),
            signature: None,
        },
        gateway: id("gw-1"),
        attested: false,
        received_ms: 1,
    }
}

fn alarm() -> Alarm {
    Alarm {
        alarm: AlarmId {
            device: id("lamp-1"),
            sequence: 1,
        },
        kind: hostile(),
        severity: Severity::Major,
        raised_ms: 1,
        cleared_ms: Some(2),
        cleared_by: Some(id("anna")),
        acknowledged: Some(Acknowledgement {
            by: id("anna"),
            comment: hostile(),
            time_ms: 2,
        }),
    }
}

fn rollout() -> Rollout {
    let plan = RolloutPlan {
        rollout: id("spring"),
        release: id("r-2"),
        selection: Selection::Filter {
            district: Scope::city(),
            model: Some(hostile()),
            hardware_class: Some(hostile()),
            tag: Some(hostile()),
        },
        error_percent_max: 10,
        error_sample_min: 5,
        deferral: DeferralPolicy {
            count_max: 1,
            total_ms_max: 3_600_000,
        },
        timers: StepTimers {
            offer_ms: 1,
            download_ms: 1,
            install_ms: 1,
            trial_ms: 1,
        },
        retries_max: 1,
    };
    Rollout {
        plan,
        plan_digest: Hash::ZERO,
        status: RolloutStatus::Paused,
        author: id("olga"),
        organization: id("city"),
        approvals: vec![Approval {
            account: id("paul"),
            key: key(),
            at_ms: 1,
        }],
        reason: hostile(),
        counts: RolloutCounts::default(),
        counts_at_resume: RolloutCounts::default(),
        districts: Vec::new(),
        cursor: Some(id("probe")),
        expanded: true,
        sweep: None,
        swept: false,
        planned_height: 1,
        planned_ms: 1,
        started_ms: None,
        status_height: 2,
    }
}

fn grouped_plan() -> GroupedPlan {
    let base = rollout().plan;
    let gate = GroupGate {
        success_percent_min: 95,
        sample_min: 1,
        soak_ms: 3_600_000,
        next_by_hand: false,
    };
    let selection = base.selection.clone();
    let members = GroupMembers::Selected { selection };
    GroupedPlan {
        base,
        groups: vec![Group { members, gate }],
        limits: PauseLimits {
            error_count_max: Some(3),
            silence_percent_max: Some(5),
        },
        retry: RetryPolicy {
            backoff_ms: 60_000,
            codes: vec![8],
        },
        continuous: true,
        stop_ms: Some(1_796_074_200_000),
    }
}

fn install_rules() -> InstallRules {
    InstallRules {
        windows: vec![MaintenanceWindow {
            schedule: hostile(),
            minutes: 60,
            zone: hostile(),
        }],
        consent: vec![ConsentFrom::Operator],
        wait_ms_max: 60_000,
    }
}

fn groups() -> RolloutGroups {
    let record = GroupRecord {
        status: GroupStatus::Soaking,
        counts: GroupCounts::default(),
        counts_at_resume: GroupCounts::default(),
        opened_height: Some(1),
        opened_ms: Some(1_796_074_200_000),
        soaking_since_ms: Some(1_796_074_200_000),
    };
    RolloutGroups {
        rollout: id("spring"),
        groups: vec![record],
        opened: 1,
        late: 0,
        too_late: 2,
        due_ms: None,
    }
}

fn deployment() -> Deployment {
    Deployment {
        rollout: id("spring"),
        device: id("lamp-1"),
        release: id("r-2"),
        state: DeploymentState::TimedOut,
        assigned_height: 1,
        steps: vec![DeploymentStep {
            to: DeploymentState::TimedOut,
            height: 1,
            time_ms: 1_796_074_200_000,
            by: None,
            attested: false,
            code: 0,
            detail: hostile(),
        }],
        retries: 0,
        postponed_count: 0,
        postponed_until_ms: None,
        postponed_from: None,
        first_offered_ms: None,
        deadline_ms: None,
    }
}

fn release() -> Release {
    let manifest = ReleaseManifest {
        release: id("r-2"),
        vendor: id("acme"),
        version: "2.0.0".parse().unwrap(),
        artifact: Hash::ZERO,
        size_bytes: 1,
        hardware_classes: vec![hostile()],
        security_counter: 1,
        replaces_from: None,
        depends_on: Vec::new(),
        expires_ms: Some(1_796_074_200_000),
        critical: false,
        provenance: None,
    };
    let signed = SignedRelease::sign(&manifest, &SecretKey::from_seed([7; 32]));
    Release {
        manifest,
        manifest_digest: signed.manifest_digest(),
        signed,
        status: ReleaseStatus::Revoked,
        author: id("acme"),
        organization: id("city"),
        approvals: Vec::new(),
        reason: hostile(),
        published_height: 1,
        published_ms: 1,
        released_ms: None,
        ended_ms: Some(2),
    }
}

fn account() -> Account {
    Account {
        account: id("anna"),
        kind: AccountKind::User,
        organization: id("city"),
        name: hostile(),
        district: Scope::city(),
        keys: vec![AccountKey {
            key: key(),
            label: hostile(),
        }],
        grants: Vec::new(),
        disabled: false,
        registered_height: 1,
    }
}

fn validator() -> Validator {
    Validator {
        node: 5,
        account: id("node-5"),
        key: key(),
        address: hostile(),
    }
}

fn proposal() -> Proposal {
    let changes = vec![GovernanceChange::AddValidator {
        validator: validator(),
        proof: Signature([1; 64]),
    }];
    Proposal {
        proposal: id("join-5"),
        digest: GovernanceChange::digest(&changes),
        changes,
        author: id("anna"),
        approvals: Vec::new(),
        proposed_height: 1,
        expires_ms: 1,
    }
}

/// A proposal with one of three approvals that it needs: one counts, others not, or not yet.
fn standing() -> ProposalStanding {
    let (at_ms, expires_ms) = (1_796_074_200_000, 1_796_160_600_000);
    let approval = |account, counts| ApprovalStanding {
        account: id(account),
        counts,
        at_ms,
        expires_ms,
    };
    let candidate = |account, from_ms| Candidate {
        account: id(account),
        from_ms,
    };
    ProposalStanding {
        proposal: proposal(),
        needed: 3,
        counted: 1,
        approvals: vec![
            approval("anna", ApprovalCounts::Counts),
            approval(
                "bert",
                ApprovalCounts::From {
                    time_ms: expires_ms,
                },
            ),
            approval("carl", ApprovalCounts::KeyRevoked),
        ],
        scopes: vec![Scope::city()],
        // One may at once, the other from the year 2100 on.
        candidates: vec![candidate("dora", 0), candidate("emil", 4_102_444_800_000)],
    }
}

fn receipt() -> Receipt {
    let facts = [
        Fact::RolloutPaused {
            rollout: id("spring"),
            reason: hostile(),
        },
        Fact::EventAppended {
            kind: hostile(),
            severity: Severity::Major,
            sequence: 1,
            attested: false,
        },
        Fact::SpecRegistered { spec: hostile() },
        Fact::ValidatorAdded {
            validator: validator(),
        },
    ];
    Receipt {
        transaction: Hash([1; 32]),
        outcome: Outcome::Succeeded,
        notifications: facts.map(|fact| Notification { place: None, fact }).into(),
    }
}

fn history() -> Value {
    let entry = |outcome: Outcome| {
        json!({ "cursor": "3.0", "height": 3, "time_ms": 1_796_074_200_000_u64, "author": "anna",
            "key": key(), "transaction": Hash([1; 32]),
            "receipt": Receipt { outcome, ..receipt() } })
    };
    let failed = Outcome::Failed {
        code: hostile(),
        fields: [(hostile(), hostile())].into(),
    };
    json!({ "items": [entry(Outcome::Succeeded), entry(failed)] })
}

fn transaction() -> Value {
    let action = Action::Events(EventsAction::Acknowledge {
        alarm: alarm().alarm,
        comment: hostile(),
    });
    json!({ "transaction": Hash([1; 32]), "sender": "anna", "key": key(), "sequence": 1,
        "expires_ms": 1_796_074_200_000_u64, "action": action, "time_ms": 1, "height": 3,
        "index": 0, "certified": true, "receipt": receipt() })
}

fn status() -> Value {
    json!({ "chain_id": Hash::ZERO, "name": HOSTILE, "version": HOSTILE, "node": 1, "height": 3,
        "head": Hash::ZERO, "head_time_ms": 1, "certified_height": 3, "leader": null,
        "pending": 0, "connected": [2], "halted": HOSTILE,
        "alarms": [{ "kind": "disk_full", "time_ms": 1, "message": HOSTILE }],
        "progress": { "phase": HOSTILE, "per_second": 0 } })
}

/// The answer of the node at a path.
fn answer(path: &str) -> Option<Value> {
    let page = |item: Value| json!({ "items": [item] });
    Some(match path {
        path if path.ends_with("/history") => history(),
        "/v1/status" => status(),
        "/v1/devices" => page(json!(device())),
        "/v1/devices/lamp-1" => json!({ "record": device() }),
        "/v1/devices/lamp-1/state" => json!({ "record": device_state() }),
        "/v1/devices/lamp-1/config" => {
            let reported = ReportedConfig {
                device: id("lamp-1"),
                document: Hash::ZERO,
                applied: false,
                detail: hostile(),
                attested: false,
                height: 1,
            };
            json!({ "effective": HOSTILE, "hash": Hash::ZERO, "reported": reported,
                "in_sync": false })
        }
        "/v1/devices/lamp-1/events" => {
            let cursor = EventCursor {
                highest: 1,
                count: 1,
                gaps: Vec::new(),
            };
            json!({ "cursor": cursor, "items": [{ "height": 3, "index": 0, "record": event() }] })
        }
        "/v1/devices/lamp-1/timeline" => page(json!({ "time_ms": 1, "height": 3,
            "author": "anna", "key": null, "transaction": null, "notifications": [],
            "event": event(), "proof": HOSTILE })),
        "/v1/reports/devices" => page(json!({ "device": "lamp-1", "model": HOSTILE,
            "hardware_class": HOSTILE, "district": "", "gateway": null, "owner": "city",
            "status": "active", "tags": [], "version": null, "release": null, "drifted": false,
            "rollout": null, "config": null, "config_applied": false, "alarms": [HOSTILE],
            "last_seen_ms": 1, "registered_height": 1 })),
        "/v1/reports/exposure/release/r-2" => page(json!({ "device": "lamp-1", "model": HOSTILE,
            "district": "", "gateway": null, "owner": "city", "status": "active",
            "version": null, "drifted": false, "since_ms": 1, "since_height": 3,
            "attested": true, "rollout": "spring", "decisions": [], "decisions_cut": true,
            "proofs": [HOSTILE] })),
        "/v1/alarms" => page(json!(alarm())),
        "/v1/rollouts" => page(json!(rollout())),
        "/v1/rollouts/spring" => json!({ "record": rollout() }),
        "/v1/rollouts/spring/plan" => json!({ "record": grouped_plan() }),
        "/v1/rollouts/spring/groups" => json!({ "record": groups() }),
        "/v1/rollouts/spring/rules" => json!({ "record": install_rules() }),
        "/v1/rollouts/spring/deployments" => page(json!(deployment())),
        "/v1/firmware" => page(json!(release())),
        "/v1/firmware/r-2" => json!({ "record": release() }),
        "/v1/users" => page(json!(account())),
        "/v1/users/anna" => json!({ "record": account() }),
        "/v1/auth/sessions" => page(json!({ "session": SessionId([1; 16]), "key": key(),
            "audience": "mqtt", "issued_ms": 1, "expires_ms": 2, "address": HOSTILE,
            "connections": 1, "current": false })),
        "/v1/proposals" => page(json!(proposal())),
        "/v1/proposals/join-5" => json!(standing()),
        "/v1/nodes" => json!({ "validators": [validator()], "observers": [], "quorum": 1,
            "next_node": 6 }),
        path if path.starts_with("/v1/transactions/") => transaction(),
        _ => return None,
    })
}

async fn node(request: Request) -> Response {
    match answer(request.uri().path()) {
        Some(value) => value.to_string().into_response(),
        None => {
            let problem = json!({ "status": 404, "code": HOSTILE, "detail": HOSTILE });
            (StatusCode::NOT_FOUND, problem.to_string()).into_response()
        }
    }
}

async fn serve() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(node);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

async fn lamplighter(node: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lamplighter"));
    command.args(["--node-url", node]).args(arguments);
    command
        .env("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        .output()
        .await
        .unwrap()
}

/// The text, which commands no terminal; line ends are those of the program.
#[track_caller]
fn harmless(bytes: &[u8], of: &[&str]) -> String {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let is_harmless = |c: char| {
        let code = u32::from(c);
        c == '\n'
            || !(code < 0x20
                || (0x7f..0xa0).contains(&code)
                || (0x200b..=0x200f).contains(&code)
                || (0x2028..=0x202e).contains(&code)
                || (0x2066..=0x2069).contains(&code)
                || code == 0xfeff)
    };
    let bad = text.chars().find(|c| !is_harmless(*c));
    assert_eq!(bad, None, "{of:?}: {text:?}");
    let forged = text.lines().any(|line| line.starts_with("forged"));
    assert!(!forged, "{of:?}: {text}");
    text
}

/// Every command that prints a table or a record.
const READS: [&[&str]; 24] = [
    &["status"],
    &["device", "list"],
    &["device", "show", "lamp-1"],
    &["device", "history", "lamp-1"],
    &["device", "report"],
    &["device", "exposure", "--release", "r-2"],
    &["device", "timeline", "lamp-1"],
    &["event", "list", "lamp-1"],
    &["alarm", "list"],
    &["rollout", "list"],
    &["rollout", "show", "spring"],
    &["config", "show", "lamp-1"],
    &["firmware", "list"],
    &["firmware", "show", "r-2"],
    &["user", "list"],
    &["user", "show", "anna"],
    &["session", "list"],
    &["governance", "nodes"],
    &["governance", "list"],
    &["governance", "show", "join-5"],
    &["history", "governance"],
    &["history", "alarm", "lamp-1", "1"],
    &[
        "transaction",
        "show",
        "0101010101010101010101010101010101010101010101010101010101010101",
    ],
    &["device", "show", "none"],
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_text_from_the_ledger_commands_the_terminal() {
    let node = serve().await;
    for read in READS {
        let output = lamplighter(&node, read).await;
        let shown = harmless(&output.stdout, read);
        let complaint = harmless(&output.stderr, read);
        let all = format!("{shown}{complaint}");
        // These lists have no texts that people or Things write.
        let has_texts = !matches!(read, ["rollout" | "firmware", "list"]);
        assert_eq!(all.contains("door\\u{1b}[2J"), has_texts, "{read:?}: {all}");
        let exit = if read.contains(&"none") { 3 } else { 0 };
        assert_eq!(output.status.code(), Some(exit), "{read:?}: {all}");
        if exit != 0 {
            continue;
        }
        let json = lamplighter(&node, &[read, ["--json"].as_slice()].concat()).await;
        let text = harmless(&json.stdout, read);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(
            holds(&value, HOSTILE),
            "{read:?} in JSON is what it was: {text}"
        );
    }
}

fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => found == text,
        Value::Array(items) => items.iter().any(|item| holds(item, text)),
        Value::Object(members) => members.values().any(|member| holds(member, text)),
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_did_what_and_when_is_read_in_words() {
    let node = serve().await;
    let shown = lamplighter(&node, &["rollout", "show", "spring"]).await;
    let shown = String::from_utf8(shown.stdout).unwrap();
    for part in [
        "author              olga",
        "approved by         paul",
        "2026-11-30T22:30:00+01:00  anna    3.0          rollout spring paused: door",
        "timed out  2026-11-30T22:30:00+01:00  the ledger",
        "1 times, 1 h in all",
        "more than 3 of a group failed, more than 5 % of a group were silent",
        "after 1 min, then twice as long, code 8",
        "soaks until 2026-11-30T23:30:00+01:00",
        "95 % of 1 or more, for 1 h",
        "2 were installing when it stopped: too late to recall",
    ] {
        assert!(shown.contains(part), "{part:?} in\n{shown}");
    }
    for part in ["cursor", "sweep", "probe", "{\""] {
        assert!(!shown.contains(part), "{part:?} in\n{shown}");
    }
    let output = lamplighter(&node, &["transaction", "show", &Hash([1; 32]).to_string()]).await;
    let output = String::from_utf8(output.stdout).unwrap();
    for part in [
        "author              anna",
        "place               block 3, number 0, certified",
        "asks to             acknowledge alarm 1 of lamp-1: door",
        "  rollout spring paused: door",
    ] {
        assert!(output.contains(part), "{part:?} in\n{output}");
    }
    let events = lamplighter(&node, &["event", "list", "lamp-1"]).await;
    let events = String::from_utf8(events.stdout).unwrap();
    assert!(events.contains("2026-11-30T22:30:00+01:00  1"), "{events}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_read_in_words_before_it_is_approved() {
    let node = serve().await;
    let approve = ["rollout", "approve", "spring"];
    let output = lamplighter(&node, &approve).await;
    assert_eq!(output.status.code(), Some(1), "no account, nothing is sent");
    let shown = harmless(&output.stdout, &approve);
    let guarded = GuardedPlan {
        plan: grouped_plan(),
        rules: install_rules(),
    };
    let plan = codec::digest(&guarded).to_string();
    for part in [
        "release             r-2",
        "which is            version 2.0.0 by acme, for ",
        "devices             every active device of the whole city, model ",
        "pauses when         more than 10 % of 5 or more failed",
        "pauses also when    more than 3 of a group failed, more than 5 % of a group were silent",
        "retries             after 1 min, then twice as long, code 8",
        "stops at            2026-11-30T22:30:00+01:00",
        "95 % of 1 or more, for 1 h",
        "consent from        an operator of the district",
        &plan,
    ] {
        assert!(shown.contains(part), "{part:?} in\n{shown}");
    }
    assert!(!shown.contains("{\""), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_shows_what_it_lacks_and_who_may_approve() {
    let node = serve().await;
    let shown = lamplighter(&node, &["governance", "show", "join-5"]).await;
    let shown = String::from_utf8(shown.stdout).unwrap();
    for part in [
        "2 approvals: 1 of 3 count",
        "anna, counts until 2026-12-01T22:30:00+01:00",
        "bert, does not count before 2026-12-01T22:30:00+01:00: the role is too new",
        "carl, does not count: its key is revoked",
        "dora emil from 2100-01-01T01:00:00+01:00",
    ] {
        assert!(shown.contains(part), "{part:?} in\n{shown}");
    }
    let list = lamplighter(&node, &["governance", "list"]).await;
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(list.contains("2 of 3  dora emil from 2100-01-01"), "{list}");
    let json = lamplighter(&node, &["governance", "show", "join-5", "--json"]).await;
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["proposal"], "join-5");
    assert_eq!(json["standing"]["needed"], 3);
    assert_eq!(
        json["standing"]["approvals"][1]["counts"]["from"]["time_ms"],
        1_796_160_600_000_u64
    );
}
