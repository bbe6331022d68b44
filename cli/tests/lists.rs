//! Lists are complete, however many pages a node returns.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use axum::Router;
use axum::extract::{Query, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lamplighter_types::*;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

/// The number of items of each kind.
const MANY: usize = 251;
/// The items of one page, as the real node limits them.
const PAGE: usize = 100;

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

fn alarm(number: usize) -> Value {
    json!(Alarm {
        alarm: AlarmId {
            device: id("lamp-1"),
            sequence: number as u64,
        },
        kind: "x-test".into(),
        severity: Severity::Major,
        raised_ms: 1,
        cleared_ms: None,
        cleared_by: None,
        acknowledged: None,
    })
}

fn event(number: usize) -> Value {
    let event = DeviceEvent {
        device: id("lamp-1"),
        sequence: number as u64,
        time_ms: 1,
        kind: "x-test".into(),
        severity: Severity::Major,
        alarm: AlarmChange::None,
        data: String::new(),
        signature: None,
    };
    let record = EventRecord {
        event,
        gateway: id("gw-1"),
        attested: false,
        received_ms: 1,
    };
    json!({ "height": 1, "index": number, "record": record })
}

fn rollout(number: usize) -> Value {
    let plan = RolloutPlan {
        rollout: id(&format!("rollout-{number}")),
        release: id("r-2"),
        selection: Selection::List {
            devices: Vec::new(),
        },
        error_percent_max: 10,
        error_sample_min: 5,
        deferral: DeferralPolicy {
            count_max: 1,
            total_ms_max: 1,
        },
        timers: StepTimers {
            offer_ms: 1,
            download_ms: 1,
            install_ms: 1,
            trial_ms: 1,
        },
        retries_max: 1,
    };
    json!(Rollout {
        plan_digest: codec::digest(&plan),
        plan,
        status: RolloutStatus::Paused,
        author: id("olga"),
        organization: id("city"),
        approvals: Vec::new(),
        reason: String::new(),
        counts: RolloutCounts::default(),
        counts_at_resume: RolloutCounts::default(),
        districts: Vec::new(),
        cursor: None,
        expanded: true,
        sweep: None,
        swept: false,
        planned_height: 1,
        planned_ms: 1,
        started_ms: None,
        status_height: 2,
    })
}

fn deployment(number: usize) -> Value {
    json!(Deployment {
        rollout: id("rollout-1"),
        device: id(&format!("lamp-{number}")),
        release: id("r-2"),
        state: DeploymentState::Assigned,
        assigned_height: 1,
        steps: Vec::new(),
        retries: 0,
        postponed_count: 0,
        postponed_until_ms: None,
        postponed_from: None,
        first_offered_ms: None,
        deadline_ms: None,
    })
}

fn release(number: usize) -> Value {
    let manifest = ReleaseManifest {
        release: id(&format!("r-{number}")),
        vendor: id("acme"),
        version: "2.0.0".parse().unwrap(),
        artifact: Hash::ZERO,
        size_bytes: 1,
        hardware_classes: vec!["lamp-v1".into()],
        security_counter: 1,
        replaces_from: None,
        depends_on: Vec::new(),
        expires_ms: None,
        critical: false,
        provenance: None,
    };
    let signed = SignedRelease::sign(&manifest, &SecretKey::from_seed([7; 32]));
    json!(Release {
        manifest,
        manifest_digest: signed.manifest_digest(),
        signed,
        status: ReleaseStatus::Revoked,
        author: id("acme"),
        organization: id("city"),
        approvals: Vec::new(),
        reason: String::new(),
        published_height: 1,
        published_ms: 1,
        released_ms: None,
        ended_ms: Some(2),
    })
}

#[derive(Deserialize)]
struct Asked {
    after: Option<usize>,
}

async fn node(Query(Asked { after }): Query<Asked>, request: Request) -> Response {
    let of: fn(usize) -> Value = match request.uri().path() {
        "/v1/alarms" => alarm,
        "/v1/devices/lamp-1/events" => event,
        "/v1/rollouts" => rollout,
        "/v1/rollouts/rollout-1" => {
            return json!({ "record": rollout(1) }).to_string().into_response();
        }
        "/v1/rollouts/rollout-1/plan" | "/v1/rollouts/rollout-1/rules" => {
            let problem = json!({
                "type": "about:blank", "title": "Not Found", "status": 404,
                "code": "not_found", "detail": "it has none",
            });
            return (StatusCode::NOT_FOUND, problem.to_string()).into_response();
        }
        "/v1/rollouts/rollout-1/history" => {
            return json!({ "items": [] }).to_string().into_response();
        }
        "/v1/rollouts/rollout-1/deployments" => deployment,
        "/v1/firmware" => release,
        path => panic!("{path}"),
    };
    let first = after.unwrap_or(0);
    let last = MANY.min(first + PAGE);
    let items: Vec<_> = (first + 1..=last).map(of).collect();
    let next = (items.len() == PAGE).then(|| last.to_string());
    let cursor = json!({ "highest": MANY, "count": MANY, "gaps": [] });
    let mut page = json!({ "items": items, "next": next });
    if request.uri().path().ends_with("/events") {
        page["cursor"] = cursor;
    }
    page.to_string().into_response()
}

async fn lamplighter(node: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lamplighter"));
    command.args(["--node-url", node]).args(arguments);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_has_all_pages() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(node);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let all: [(&[&str], &str, usize); 7] = [
        (&["alarm", "list"], "x-test", MANY),
        (&["event", "list", "lamp-1"], "x-test", MANY),
        (
            &["event", "list", "lamp-1", "--limit", "150"],
            "x-test",
            150,
        ),
        (&["rollout", "list"], "rollout-", MANY),
        (&["rollout", "show", "rollout-1"], "assigned", MANY),
        (
            &["rollout", "show", "rollout-1", "--limit", "7"],
            "assigned",
            7,
        ),
        (&["firmware", "list"], "acme", MANY),
    ];
    for (command, part, expected) in all {
        let text = lamplighter(&address, command).await;
        let found = text.lines().filter(|line| line.contains(part)).count();
        assert_eq!(found, expected, "{command:?}: {text}");
        let json = lamplighter(&address, &[command, &["--json"]].concat()).await;
        let json: Value = serde_json::from_str(&json).unwrap();
        let list = json.get("deployments").unwrap_or(&json);
        assert_eq!(list.as_array().unwrap().len(), expected, "{command:?}");
    }
}
