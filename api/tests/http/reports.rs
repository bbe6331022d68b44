//! Filters of devices, reports over many records, and the timeline of a device.

use lamplighter_types::{
    Action, ConfigAction, ConfigReport, ConfigTarget, DeploymentReport, DeploymentState, Hash,
    RolloutsAction,
};
use serde_json::Value;

use crate::city::City;
use crate::node::id;

fn names(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap().iter();
    let name = |item: &Value| item["device"].as_str().unwrap().to_owned();
    items.map(name).collect()
}

/// A filter as a part of a query.
fn escaped(filter: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let all = filter.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    all.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_are_found_by_a_filter_within_the_rights_of_the_reader() {
    let city = City::start().await;
    city.furnish().await;
    let more = ["lamp-3", "lamp-4", "lamp-5"];
    city.node.act(city.node.devices(&more, "north/quay")).await;
    let (all, none) = (["lamp-1", "lamp-2", "lamp-3", "lamp-4", "lamp-5"], [""; 0]);
    for (account, filter, expected) in [
        ("auditor", "model==lamp", &all[..]),
        ("auditor", "alarm==lampFailure", &all[..2]),
        ("auditor", "alarm==none", &all[2..]),
        ("auditor", "gateway==gw-south,rollout==ro-1", &all[..2]),
        (
            "auditor",
            "gateway=in=(gw,gw-south);district==south",
            &all[1..2],
        ),
        (
            "auditor",
            "district==north/quay;device!=lamp-4",
            &["lamp-3", "lamp-5"],
        ),
        ("auditor", "last_seen=gt=-1h", &all),
        ("auditor", "last_seen=lt=-1h", &none),
        ("auditor", "release==r-1", &none),
        (
            "north",
            "model==lamp",
            &["lamp-1", "lamp-3", "lamp-4", "lamp-5"],
        ),
        ("north", "gateway==gw-south", &none),
        ("gw-south", "model==l*", &["lamp-2"]),
        ("vendor", "model==lamp", &none),
    ] {
        let path = format!("/v1/devices?filter={}", escaped(filter));
        let found = names(&city.get(account, &path).await.ok());
        assert_eq!(found, expected, "{account}: {filter}");
        let path = path.replace("/v1/devices", "/v1/reports/devices");
        let found = names(&city.get(account, &path).await.ok());
        assert_eq!(found, expected, "{account}: the report of {filter}");
    }
    // Filters narrow each other, and pages lead on.
    let filter = escaped("model==lamp;gateway==none");
    let mut path = format!("/v1/devices?filter={filter}&district=north&owner=city&limit=2");
    let mut pages = Vec::new();
    loop {
        let page = city.get("auditor", &path).await.ok();
        pages.push(names(&page));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/v1/devices?filter={filter}&district=north&limit=2&after={next}");
    }
    assert_eq!(pages, [vec!["lamp-3", "lamp-4"], vec!["lamp-5"]]);
    city.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_is_not_understood_is_refused_with_its_place() {
    let city = City::start().await;
    let deep = format!("{}owner==a{}", "(".repeat(9), ")".repeat(9));
    let long = format!("model=={}", "x".repeat(3_000));
    for (filter, place) in [
        ("model==lamp;colour==red", "at sign 13 of the filter"),
        (&deep, "at sign 10 of the filter"),
        (&long, "more than 2048"),
        ("owner=like=a", "at sign 6 of the filter"),
        ("", "at sign 1 of the filter"),
    ] {
        for route in [
            "devices?",
            "reports/devices?",
            "reports/exposure/release/r-1?",
        ] {
            let path = format!("/v1/{route}filter={}", escaped(filter));
            let answer = city.get("auditor", &path).await;
            answer.assert_problem(400, "filter");
            let detail = answer.json.to_string();
            assert!(detail.contains(place), "{filter}: {detail}");
        }
    }
    city.node.stop().await;
}

/// Brings the release of a furnished rollout to its lamp.
async fn confirm(city: &City, number: u8, gateway: &str) {
    let (device, rollout) = (id(&format!("lamp-{number}")), id(&format!("ro-{number}")));
    let path = format!("/v1/firmware/r-{number}");
    let release = city.node.get(&path).await.ok()["record"].clone();
    let digest: Hash = release["manifest"]["artifact"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    use DeploymentState::*;
    let steps = [Assigned, Offered, Downloaded, Installing, Trial, Confirmed];
    let reports = steps.windows(2).zip(1..).map(|(step, counter)| {
        let is_installed = matches!(step[1], Downloaded | Trial | Confirmed);
        DeploymentReport {
            rollout: rollout.clone(),
            device: device.clone(),
            from: step[0],
            to: step[1],
            code: 0,
            digest: is_installed.then_some(digest),
            seen_height: 1,
            counter,
            detail: String::new(),
            signature: None,
        }
    });
    let reports = reports.collect();
    let report = Action::Rollouts(RolloutsAction::Report { reports });
    city.must_act(gateway, 2, report).await;
}

/// The accounts of which an exposure shows the lamps of a number.
const EXPOSED_TO: [(&str, &[u8]); 9] = [
    ("auditor", &[1, 2]),
    ("pia", &[1, 2]),
    ("north-auditor", &[1]),
    ("north", &[1]),
    ("south", &[2]),
    ("gw", &[1]),
    ("gw-south", &[2]),
    // They read the counts of the rollouts of their releases.
    ("vendor", &[]),
    ("maker", &[]),
];

/// An exposure is for those who read its devices; a vendor reads the counts of its rollouts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exposure_is_for_readers_of_the_devices() {
    let city = City::start().await;
    city.furnish().await;
    confirm(&city, 1, "gw").await;
    confirm(&city, 2, "gw-south").await;
    // Both have the document of the fleet and one of their district and one of their own.
    let mut documents = Vec::new();
    for (number, gateway) in [(1, "gw"), (2, "gw-south")] {
        let path = format!("/v1/devices/lamp-{number}/config");
        let config = city.node.get(&path).await.ok();
        let document: Hash = config["hash"].as_str().unwrap().parse().unwrap();
        let reports = vec![ConfigReport {
            device: id(&format!("lamp-{number}")),
            document,
            applied: true,
            detail: String::new(),
            counter: 6,
            signature: None,
        }];
        let report = Action::Config(ConfigAction::Report { reports });
        city.must_act(gateway, 3, report).await;
        documents.push(document);
    }
    for (account, lamps) in EXPOSED_TO {
        for number in [1, 2] {
            let readable = lamps.contains(&number);
            let lamp = format!("lamp-{number}");
            let expected: Vec<&str> = readable.then_some(lamp.as_str()).into_iter().collect();
            let release = format!("/v1/reports/exposure/release/r-{number}");
            let by_filter = format!("/v1/reports/devices?filter=release%3D%3Dr-{number}");
            for path in [
                release.clone(),
                format!("{release}?limit=1&filter=device%3D%3D{lamp}"),
                format!("{release}?filter=status!%3Dsuspended"),
                by_filter.clone(),
                by_filter.replace("/reports", ""),
            ] {
                let page = city.get(account, &path).await.ok();
                assert_eq!(names(&page), expected, "{account} {path}");
                let is_full = path.contains("limit=1") && readable;
                let next = is_full.then_some(lamp.as_str());
                assert_eq!(page["next"].as_str(), next, "{account} {path}");
            }
            let exposed = city.get(account, &release).await.ok();
            for row in exposed["items"].as_array().unwrap() {
                assert_eq!(row["rollout"], format!("ro-{number}"));
                assert_eq!(row["decisions"].as_array().unwrap().len(), 4, "{row}");
                // Each path leads to something that this account may read.
                for proof in row["proofs"].as_array().unwrap() {
                    city.get(account, proof.as_str().unwrap()).await.ok();
                }
            }
            let timeline = format!("/v1/devices/{lamp}/timeline");
            let status = city.get(account, &timeline).await.status;
            assert_eq!(
                status,
                if readable { 200 } else { 403 },
                "{account} {timeline}"
            );
        }
        for (document, number) in documents.iter().zip([1, 2]) {
            let path = format!("/v1/reports/exposure/config/{document}");
            let page = city.get(account, &path).await.ok();
            // Their documents are equal.
            let expected: Vec<_> = lamps.iter().map(|n| format!("lamp-{n}")).collect();
            assert_eq!(names(&page), expected, "{account} {number}");
            for row in page["items"].as_array().unwrap() {
                assert_eq!(row["decisions"].as_array().unwrap().len(), 3, "{row}");
            }
        }
    }
    for (account, number, other) in [("vendor", 1, 2), ("maker", 2, 1)] {
        let rollout = format!("/v1/rollouts/ro-{number}");
        let rollout = city.get(account, &rollout).await.ok();
        assert_eq!(rollout["record"]["counts"]["confirmed"], 1, "{rollout}");
        let rollout = city.get(account, &format!("/v1/rollouts/ro-{other}")).await;
        rollout.assert_problem(403, "read.scope");
        let state = format!("/v1/devices/lamp-{number}/state");
        city.get(account, &state)
            .await
            .assert_problem(403, "read.scope");
    }
    city.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exposure_names_since_when_and_by_which_decisions() {
    let city = City::start().await;
    city.furnish().await;
    confirm(&city, 1, "gw").await;
    let path = "/v1/reports/exposure/release/r-1";
    let page = city.get("auditor", path).await.ok();
    assert_eq!(names(&page), ["lamp-1"]);
    let row = &page["items"][0];
    let deployment = city.node.get("/v1/deployments/ro-1/lamp-1").await.ok();
    let last = deployment["record"]["steps"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone();
    assert_eq!(last["to"], "confirmed");
    assert_eq!(row["since_ms"], last["time_ms"]);
    assert_eq!(row["since_height"], last["height"]);
    assert_eq!(
        (&row["rollout"], &row["attested"]),
        (&"ro-1".into(), &false.into())
    );
    let decided: Vec<_> = row["decisions"].as_array().unwrap().iter().collect();
    let by = |kind: &str| {
        let found = decided.iter().find_map(|decision| decision.get(kind));
        found.unwrap_or_else(|| panic!("{kind}: {row}"))["by"].clone()
    };
    assert_eq!(by("release_published"), "vendor");
    assert_eq!(by("release_approved"), "pia");
    assert_eq!(by("rollout_planned"), "admin");
    assert_eq!(by("rollout_approved"), "pia");
    for proof in row["proofs"].as_array().unwrap() {
        let answer = city.get("auditor", proof.as_str().unwrap()).await.ok();
        assert!(answer["proof"].is_object(), "{proof}");
    }
    // The other lamp runs nothing yet; its reader sees nothing of this one.
    assert_eq!(names(&city.get("south", path).await.ok()), [""; 0]);
    assert_eq!(names(&city.get("north", path).await.ok()), ["lamp-1"]);
    let summary = city
        .get("auditor", "/v1/reports/devices?filter=release%3D%3Dr-1")
        .await;
    let summary = summary.ok()["items"][0].clone();
    assert_eq!(
        (&summary["version"], &summary["rollout"]),
        (&"2.0.0".into(), &Value::Null)
    );
    assert_eq!(summary["last_seen_ms"], last["time_ms"]);
    // What is decided afterwards is not what brought the device there.
    let withdraw = RolloutsAction::WithdrawApproval {
        rollout: id("ro-1"),
    };
    city.must_act("pia", 3_000, Action::Rollouts(withdraw))
        .await;
    let now = city.get("auditor", path).await.ok();
    assert_eq!(now["items"][0]["decisions"], row["decisions"]);
    of_configuration(&city).await;
    city.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_nothing_is_not_found() {
    let city = City::start().await;
    for account in ["auditor", "north", "vendor", "gw"] {
        let release = city.get(account, "/v1/reports/exposure/release/r-9").await;
        release.assert_problem(404, "not_found");
    }
    for path in ["/v1/devices/lamp-9/timeline", "/v1/devices/lamp-9/events"] {
        let all = city.get("auditor", path).await;
        all.assert_problem(404, "not_found");
        // To the others it may as well be a device of another district.
        for account in ["north", "vendor", "gw"] {
            let part = city.get(account, path).await;
            part.assert_problem(403, "read.scope");
        }
    }
    let detail = city.get("north", "/v1/reports/exposure/release/r-9").await;
    assert_eq!(detail.json["detail"], "there is no release r-9");
    city.node.stop().await;
}

async fn of_configuration(city: &City) {
    let config = city.node.get("/v1/devices/lamp-1/config").await.ok();
    let document = config["hash"].as_str().unwrap();
    let path = format!("/v1/reports/exposure/config/{document}");
    assert_eq!(names(&city.get("auditor", &path).await.ok()), [""; 0]);
    let report = ConfigReport {
        device: id("lamp-1"),
        document: document.parse().unwrap(),
        applied: true,
        detail: String::new(),
        counter: 6,
        signature: None,
    };
    let reports = vec![report];
    let report = Action::Config(ConfigAction::Report { reports });
    let done = city.must_act("gw", 3, report).await;
    let page = city.get("auditor", &path).await.ok();
    assert_eq!(names(&page), ["lamp-1"]);
    let row = &page["items"][0];
    assert_eq!(row["since_height"], done["height"]);
    let targets: Vec<_> = row["decisions"].as_array().unwrap().iter().collect();
    assert_eq!(targets.len(), 3, "fleet, district, device: {row}");
    assert!(targets.iter().all(|set| set["config_set"]["by"] == "admin"));
    for proof in row["proofs"].as_array().unwrap() {
        let answer = city.get("auditor", proof.as_str().unwrap()).await.ok();
        assert!(answer["proof"].is_object(), "{proof}");
    }
    // A document that is set afterwards did not bring it there.
    let set = ConfigAction::SetDesired {
        target: ConfigTarget::Device {
            device: id("lamp-1"),
        },
        document: r#"{"dim":90}"#.to_owned(),
        replaces_version: 1,
    };
    city.must_act("north", 1, Action::Config(set)).await;
    let again = city.get("auditor", &path).await.ok();
    let row = &again["items"][0];
    let now: Vec<_> = row["decisions"].as_array().unwrap().iter().collect();
    assert_eq!(now, targets);
    let proof = row["proofs"].as_array().unwrap().last().unwrap();
    let answer = city.get("auditor", proof.as_str().unwrap()).await.ok();
    assert!(answer["ancestor"].is_object(), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_timeline_of_a_device_has_changes_and_events_with_their_proofs() {
    let city = City::start().await;
    let samples = city.furnish().await;
    let path = samples.fill("/v1/devices/{device}/timeline");
    let all = city.get("auditor", &path).await.ok();
    let items = all["items"].as_array().unwrap().clone();
    let heights: Vec<_> = items
        .iter()
        .map(|item| item["height"].as_u64().unwrap())
        .collect();
    assert!(
        heights.is_sorted_by(|a, b| a >= b),
        "newest first: {heights:?}"
    );
    let events: Vec<_> = items
        .iter()
        .filter(|item| !item["event"].is_null())
        .collect();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["author"], "gw");
    let oldest = items.last().unwrap();
    assert_eq!(oldest["notifications"][0]["fact"], "device_registered");
    assert_eq!(oldest["author"], "admin");
    let mut proven = 0;
    for item in &items {
        let header = city
            .get("auditor", &format!("/v1/headers/{}", item["height"]))
            .await;
        assert_eq!(item["time_ms"], header.ok()["timestamp_ms"], "{item}");
        // What the block's time has caused is proven, too.
        let proof = item["proof"].as_str().unwrap();
        let proof = city.get("auditor", proof).await;
        assert_eq!(proof.status, 200, "{item}");
        proven += 1;
    }
    assert!(proven >= 3, "registered, assigned, an event: {all}");
    // Small pages have the same entries in the same order.
    for limit in [1, 2, 3] {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = format!("{path}?limit={limit}{after}");
            let page = city.get("auditor", &page).await.ok();
            found.extend(page["items"].as_array().unwrap().clone());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={}", escaped(next)),
                None => break,
            }
        }
        assert_eq!(found, items, "limit {limit}");
    }
    for account in ["south", "vendor"] {
        city.get(account, &path)
            .await
            .assert_problem(403, "read.scope");
    }
    for place in ["1", "x:", ":y", "1.0:7:8"] {
        let page = format!("{path}?after={}", escaped(place));
        city.get("auditor", &page)
            .await
            .assert_problem(400, "parameter");
    }
    city.node.stop().await;
}
