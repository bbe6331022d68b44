//! What the accounts of each role may read, over HTTP, the feed and proofs.

use lamplighter_types::login::Audience;
use lamplighter_types::{
    Action, AlarmChange, DeviceEvent, DevicesAction, EventsAction, Role, Severity, UsersAction,
};
use reqwest::Response;
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS, SubscribeReasonCode};
use serde_json::Value;

use crate::city::{City, secret};
use crate::history::hold_long_reads;
use crate::node::{Answer, STEP_TIMEOUT, id, now_ms};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_account_reads_the_devices_of_its_scope() {
    let city = City::start().await;
    let (both, north, south) = (vec!["lamp-1", "lamp-2"], vec!["lamp-1"], vec!["lamp-2"]);
    for (account, expected) in [
        ("auditor", both),
        ("north-auditor", north.clone()),
        ("north", north.clone()),
        ("south", south),
        ("gw", north),
        ("gw-south", vec!["lamp-2"]),
        ("vendor", vec![]),
        ("nobody", vec![]),
    ] {
        for query in ["", "?owner=city", "?limit=1000"] {
            let path = format!("/v1/devices{query}");
            assert_eq!(
                city.names(account, &path, &["device"]).await,
                expected,
                "{account} {path}"
            );
        }
        for device in ["lamp-1", "lamp-2"] {
            for part in [
                "",
                "/state",
                "/history",
                "/events",
                "/alarms",
                "/deployments",
                "/config",
            ] {
                let path = format!("/v1/devices/{device}{part}");
                let answer = city.get(account, &path).await;
                if expected.contains(&device) {
                    assert_eq!(answer.status, 200, "{account} {path}");
                } else {
                    answer.assert_problem(403, "read.scope");
                }
            }
            let path = format!("/v1/devices/{device}?proof=true");
            let status = if expected.contains(&device) { 200 } else { 403 };
            assert_eq!(
                city.get(account, &path).await.status,
                status,
                "{account} {path}"
            );
        }
        // What does not exist is no question of rights.
        let missing = city.get(account, "/v1/devices/lamp-9").await;
        missing.assert_problem(404, "not_found");
    }
    city.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_are_for_their_sender_and_auditors_and_blocks_for_auditors() {
    let city = City::start().await;
    let answer = city.node.act(city.node.devices(&["lamp-3"], "north")).await;
    let hash = answer["transaction"].as_str().unwrap().to_owned();
    let (height, path) = (&answer["height"], format!("/v1/transactions/{hash}"));
    for (account, status) in [
        ("auditor", 200),
        ("north", 403),
        ("gw", 403),
        ("nobody", 403),
    ] {
        for path in [
            path.clone(),
            format!("/v1/transactions/{height}.{}", answer["index"]),
            format!("/v1/blocks/{height}"),
            format!("/v1/archive/{height}"),
            format!("/v1/proofs/transactions/{hash}"),
            format!("/v1/proofs/transactions/{hash}?receipt=true"),
        ] {
            assert_eq!(
                city.get(account, &path).await.status,
                status,
                "{account} {path}"
            );
        }
        for path in [
            "/v1/headers/latest",
            "/v1/certificates/latest",
            "/v1/policies",
        ] {
            assert_eq!(
                city.get(account, path).await.status,
                200,
                "{account} {path}"
            );
        }
    }
    // Its own: a transaction that fails is in a block, too.
    let transaction = lamplighter_types::Transaction {
        sender: id("nobody"),
        sequence: 1,
        expires_ms: crate::node::now_ms() + 60_000,
        action: city.node.organization("mine"),
    };
    let signed = lamplighter_types::SignedTransaction::sign(
        &transaction,
        lamplighter_types::Encoding::Json,
        &city.node.genesis.chain_id(),
        &secret("nobody"),
    );
    let sent = city.node.submit(&signed, "?wait=certified").await.ok();
    let hash = sent["transaction"].as_str().unwrap().to_owned();
    for path in ["transactions", "proofs/transactions"] {
        let path = format!("/v1/{path}/{hash}");
        assert_eq!(city.get("nobody", &path).await.status, 200, "{path}");
        assert_eq!(city.get("gw", &path).await.status, 403, "{path}");
    }
    // By its place as well, which tables show.
    let place = format!("/v1/transactions/{}.{}", sent["height"], sent["index"]);
    let found = city.get("nobody", &place).await.ok();
    assert_eq!(found["transaction"], sent["transaction"]);
    city.get("gw", &place)
        .await
        .assert_problem(403, "read.scope");
    for (path, status, code) in [
        (format!("{place}9"), 404, "not_found"),
        ("/v1/transactions/1.".to_owned(), 400, "parameter"),
        ("/v1/transactions/mine".to_owned(), 400, "parameter"),
    ] {
        city.get("nobody", &path).await.assert_problem(status, code);
    }
    assert_eq!(city.get("nobody", "/v1/users/nobody").await.status, 200);
    city.get("nobody", "/v1/users/admin")
        .await
        .assert_problem(403, "read.scope");
    assert_eq!(city.get("north", "/v1/users/gw").await.status, 200);
    assert_eq!(city.get("south", "/v1/users/gw").await.status, 403);
    city.node.stop().await;
}

/// No route is forgotten: of records that exist an account without roles gets nothing that is not
/// for everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_asks_for_rights() {
    let city = City::start().await;
    let samples = city.furnish().await;
    let guarded = city.roll_out_with_consent().await;
    let document = city.node.get("/openapi.json").await.ok();
    let common = [
        "headers",
        "certificates",
        "organizations",
        "policies",
        "iotregistry",
        "uploads",
        // Each account has sessions of its own; sessions.rs tests them.
        "auth",
        // No lamp runs a release yet; reports.rs tests them.
        "reports/exposure",
    ];
    let (mut asked, mut wrong) = (0, Vec::new());
    for (path, item) in document["paths"].as_object().unwrap() {
        let open = item["get"]["security"].as_array().is_none_or(Vec::is_empty);
        let is_common = common
            .iter()
            .any(|name| path.starts_with(&format!("/v1/{name}")));
        if open || is_common || path.starts_with("/v1/feed") {
            continue;
        }
        asked += 1;
        assert!(item["get"]["responses"].get("403").is_some(), "{path}");
        let text = item["get"]["description"].as_str().unwrap_or_default();
        assert!(text.contains("Who reads it: "), "{path}: {text}");
        let filled = match path.as_str() {
            "/v1/rollouts/{rollout}/plan"
            | "/v1/rollouts/{rollout}/groups"
            | "/v1/rollouts/{rollout}/rules"
            | "/v1/deployments/{rollout}/{device}/consent" => {
                samples.fill(&path.replace("{rollout}", guarded.as_str()))
            }
            _ => samples.fill(path),
        };
        let all = city.get("auditor", &filled).await;
        let none = city.get("nobody", &filled).await;
        assert_eq!(all.status, 200, "{filled}: {}", all.json);
        let items = |answer: &Answer| answer.json["items"].as_array().cloned();
        let is_empty = items(&all).is_some_and(|all| all.is_empty());
        assert!(!is_empty, "{filled} has no sample");
        if none.status == 403 {
            none.assert_problem(403, "read.scope");
            continue;
        }
        // A list has the records that the account may read, and there are others.
        let is_refused = match (path.as_str(), items(&all), items(&none)) {
            ("/v1/users", Some(_), Some(read)) => read.iter().all(|a| a["account"] == "nobody"),
            (_, Some(_), Some(read)) => read.is_empty(),
            _ => false,
        };
        if !is_refused {
            wrong.push(format!("{} {filled}", none.status));
        }
    }
    assert!(wrong.is_empty(), "not refused: {wrong:#?}");
    assert!(asked >= 25, "{asked}");
    city.node.stop().await;
}

/// An account, and the numbers of the lamps, releases and rollouts that it reads.
type Readable = (&'static str, &'static [u8], &'static [u8], &'static [u8]);

/// What each account reads of those that there are.
const READABLE: [Readable; 8] = [
    ("auditor", &[1, 2], &[1, 2], &[1, 2]),
    ("north-auditor", &[1], &[1, 2], &[1]),
    ("north", &[1], &[1, 2], &[1]),
    ("south", &[2], &[1, 2], &[2]),
    ("vendor", &[], &[1], &[1]),
    ("maker", &[], &[2], &[2]),
    ("gw", &[1], &[1], &[1]),
    ("gw-south", &[2], &[2], &[2]),
];

async fn assert_reads(city: &City, account: &str, path: &str, readable: bool) {
    let answer = city.get(account, path).await;
    if readable {
        assert_eq!(answer.status, 200, "{account} {path}: {}", answer.json);
    } else {
        assert_eq!(answer.status, 403, "{account} {path}: {}", answer.json);
        answer.assert_problem(403, "read.scope");
    }
}

/// A vendor reads its releases and the counts of their rollouts and nothing of the devices; an
/// operator and an approver what touches their district; a gateway what concerns its devices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releases_rollouts_and_documents_are_for_accounts_that_they_concern() {
    let city = City::start().await;
    city.furnish().await;
    for (account, lamps, releases, rollouts) in READABLE {
        let names = |prefix: &str, numbers: &[u8]| -> Vec<String> {
            numbers.iter().map(|n| format!("{prefix}-{n}")).collect()
        };
        let listed = city
            .names(account, "/v1/firmware", &["manifest", "release"])
            .await;
        assert_eq!(listed, names("r", releases), "{account}");
        let listed = city
            .names(account, "/v1/rollouts", &["plan", "rollout"])
            .await;
        assert_eq!(listed, names("ro", rollouts), "{account}");
        let listed = city
            .names(account, "/v1/alarms", &["alarm", "device"])
            .await;
        assert_eq!(listed, names("lamp", lamps), "{account}");
        for (n, district) in [(1, "north"), (2, "south")] {
            for end in ["", "/history", "?proof=true"] {
                let path = format!("/v1/firmware/r-{n}{end}");
                assert_reads(&city, account, &path, releases.contains(&n)).await;
                let path = format!("/v1/rollouts/ro-{n}{end}");
                assert_reads(&city, account, &path, rollouts.contains(&n)).await;
            }
            let readable = lamps.contains(&n);
            for path in [
                format!("/v1/deployments/ro-{n}/lamp-{n}"),
                format!("/v1/deployments/ro-{n}/lamp-{n}?proof=true"),
                format!("/v1/devices/lamp-{n}/deployments"),
                format!("/v1/devices/lamp-{n}/config"),
                format!("/v1/alarms/lamp-{n}/1"),
                format!("/v1/alarms/lamp-{n}/1/history"),
                format!("/v1/config?device=lamp-{n}"),
                format!("/v1/config/history?device=lamp-{n}"),
                format!("/v1/config?district={district}"),
                format!("/v1/config?district={district}&proof=true"),
                format!("/v1/config/history?district={district}"),
            ] {
                assert_reads(&city, account, &path, readable).await;
            }
            let path = format!("/v1/rollouts/ro-{n}/deployments");
            let of_rollout = city.names(account, &path, &["device"]).await;
            let expected = if readable {
                vec![format!("lamp-{n}")]
            } else {
                vec![]
            };
            assert_eq!(of_rollout, expected, "{account}");
        }
        // The whole fleet concerns everybody who has devices.
        assert_reads(&city, account, "/v1/config", !lamps.is_empty()).await;
    }
    let rollout = city.get("vendor", "/v1/rollouts/ro-1").await.ok();
    assert_eq!(rollout["record"]["counts"]["assigned"], 1, "{rollout}");
    city.node.stop().await;
}

/// A record whose kind decides quickly about its readers does not wait for the turn of long reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_reads_its_devices_while_long_reads_are_under_way() {
    let city = City::start().await;
    city.furnish().await;
    let held = hold_long_reads(&city.node, Some(&id("gw"))).await;
    let mut rollout = Box::pin(city.get("gw", "/v1/rollouts/ro-1"));
    let others = async {
        for path in [
            "/v1/devices/lamp-1",
            "/v1/devices/lamp-1/state",
            "/v1/deployments/ro-1/lamp-1",
            "/v1/alarms/lamp-1/1",
            "/v1/users/gw",
            "/v1/organizations/city",
        ] {
            city.get("gw", path).await.ok();
        }
    };
    tokio::select! {
        biased;
        _ = &mut rollout => panic!("all devices of the gateway are looked at in a long turn"),
        () = others => {}
    }
    held.end().await;
    rollout.await.ok();
    city.node.stop().await;
}

/// Neither `next` nor the number of pages says anything of rows that an account may not read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_of_others_show_in_no_page() {
    const ROWS: usize = 1_100;
    let city = City::start().await;
    for number in 0..ROWS {
        let name = format!("a-{number:04}");
        let register = UsersAction::RegisterGateway {
            account: id(&name),
            organization: id("city"),
            district: "south".parse().unwrap(),
            key: secret(&name).public(),
            proof: city.node.proof(&secret(&name), &id(&name)),
        };
        city.node.act(Action::Users(register)).await;
    }
    // What the operator of the north reads comes after all of them.
    for limit in ["", "&limit=1000", "&limit=300", "&limit=1"] {
        let listed = pages(
            &city,
            "north",
            "/v1/users?linearizable=true",
            limit,
            "account",
        )
        .await;
        let expected = match limit {
            "&limit=1" => vec![vec!["gw"], vec!["north"], vec![]],
            _ => vec![vec!["gw", "north"]],
        };
        assert_eq!(listed, expected, "{limit}");
    }
    city.node.stop().await;
}

/// The names in each page of a list. Each `next` names the last item of its page.
async fn pages(
    city: &City,
    account: &str,
    path: &str,
    limit: &str,
    name: &str,
) -> Vec<Vec<String>> {
    let (mut pages, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("{path}{limit}{after}");
        let page = city.get(account, &path).await.ok();
        let items = page["items"].as_array().unwrap();
        let named = |item: &Value| {
            let places = ["/alarm/device", "/plan/rollout", "/manifest/release"];
            let inner = places
                .iter()
                .find_map(|place| item.pointer(place)?.as_str());
            inner.or(item[name].as_str()).unwrap().to_owned()
        };
        let names: Vec<String> = items.iter().map(named).collect();
        let next = page["next"].as_str().map(str::to_owned);
        let last = names.last().cloned();
        pages.push(names);
        let Some(next) = next else {
            return pages;
        };
        let place = next.split(':').next().map(str::to_owned);
        assert_eq!(place, last, "{account} {path}");
        after = format!("&after={}", next.replace(':', "%3A"));
    }
}

/// Pages of one item have what the lists have, and lead over nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_list_leads_on_from_what_the_account_reads() {
    let city = City::start().await;
    city.furnish().await;
    for (account, lamps, releases, rollouts) in READABLE {
        let all = |prefix: &str, numbers: &[u8]| -> Vec<String> {
            numbers.iter().map(|n| format!("{prefix}-{n}")).collect()
        };
        let deployed = |n: u8| all("lamp", &[n][..usize::from(lamps.contains(&n))]);
        for (path, name, expected) in [
            ("/v1/devices?", "device", all("lamp", lamps)),
            ("/v1/devices?owner=city", "device", all("lamp", lamps)),
            (
                "/v1/devices?filter=model!%3Dx",
                "device",
                all("lamp", lamps),
            ),
            ("/v1/reports/devices?", "device", all("lamp", lamps)),
            ("/v1/alarms?", "device", all("lamp", lamps)),
            ("/v1/firmware?", "release", all("r", releases)),
            ("/v1/rollouts?", "rollout", all("ro", rollouts)),
            ("/v1/rollouts/ro-1/deployments?", "device", deployed(1)),
            ("/v1/rollouts/ro-2/deployments?", "device", deployed(2)),
        ] {
            for limit in ["&limit=1", "&limit=1000"] {
                let listed = pages(&city, account, path, limit, name).await;
                assert_eq!(listed.concat(), expected, "{account} {path}{limit}");
            }
        }
    }
    city.node.stop().await;
}

/// Devices of other districts, of which there are far more, cost a reader no page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployments_and_alarms_of_others_show_in_no_page() {
    let city = City::start().await;
    city.furnish().await;
    // A second alarm of the lamp, and a lamp of the same gateway with two.
    city.node.act(city.node.devices(&["lamp-3"], "north")).await;
    let (device, gateway) = (id("lamp-3"), Some(id("gw")));
    let assign = DevicesAction::AssignGateway { device, gateway };
    city.node.act(Action::Devices(assign)).await;
    // The last two end the alarms of that lamp, which stay open until somebody acknowledges them.
    let events = [
        ("lamp-1", 2),
        ("lamp-3", 1),
        ("lamp-3", 2),
        ("lamp-3", 3),
        ("lamp-3", 4),
    ];
    for (sequence, (lamp, number)) in (2..).zip(events) {
        let event = DeviceEvent {
            device: id(lamp),
            sequence: number,
            time_ms: now_ms(),
            kind: ["lampFailure", "lampPowerTooLow"][(number as usize - 1) % 2].to_owned(),
            severity: Severity::Major,
            alarm: match number {
                1 | 2 => AlarmChange::Raise,
                _ => AlarmChange::Clear,
            },
            data: String::new(),
            signature: None,
        };
        let events = vec![event];
        let append = Action::Events(EventsAction::Append { events });
        city.must_act("gw", sequence, append).await;
    }
    let names = ["lamp-1", "lamp-1", "lamp-3", "lamp-3"];
    for account in ["north", "gw", "north-auditor"] {
        for (limit, sizes) in [("&limit=1", &[1, 1, 1, 1, 0][..]), ("&limit=3", &[3, 1])] {
            let listed = pages(&city, account, "/v1/alarms?", limit, "device").await;
            assert_eq!(listed.concat(), names, "{account} {limit}");
            let found: Vec<_> = listed.iter().map(Vec::len).collect();
            assert_eq!(found, sizes, "{account} {limit}");
        }
    }
    // A place may be anywhere: nothing of others follows it, and nothing shows whether it exists.
    for after in ["lamp-2:0", "lamp-2:7", "lamp-1a:1"] {
        let path = format!("/v1/alarms?after={}", after.replace(':', "%3A"));
        let page = city.get("north", &path).await.ok();
        let devices: Vec<_> = page["items"].as_array().unwrap().iter().collect();
        assert_eq!(devices.len(), 2, "{page}");
        assert_eq!(page["next"], Value::Null);
    }
    city.node.stop().await;
}

/// The rows of other districts are not looked at for an operator of one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_of_other_districts_cost_a_reader_no_page() {
    let city = City::start().await;
    let names: Vec<String> = (0..1_100).map(|n| format!("a-{n:04}")).collect();
    for some in names.chunks(100) {
        let some: Vec<&str> = some.iter().map(String::as_str).collect();
        city.node.act(city.node.devices(&some, "south")).await;
    }
    for path in [
        "/v1/devices",
        "/v1/devices?owner=city",
        "/v1/devices?limit=1",
    ] {
        let page = city.get("north", path).await.ok();
        assert_eq!(page["items"][0]["device"], "lamp-1", "{path}");
    }
    city.node.stop().await;
}

/// The code of the SUBACK for a filter: the QoS, or 0x80.
async fn subscribed(city: &City, account: &'static str, filter: &str) -> u8 {
    let (name, secret) = (id(account), secret(account));
    let token = city.node.token_for(Audience::Mqtt, &name, &secret).await;
    let address = city.node.edges.mqtt[0];
    let mut options = MqttOptions::new(account, address.ip().to_string(), address.port());
    options.set_credentials(account, token);
    let (client, mut events) = AsyncClient::new(options, 10);
    client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
    let code = async {
        loop {
            if let Event::Incoming(Incoming::SubAck(ack)) = events.poll().await.unwrap() {
                return match ack.return_codes[..] {
                    [SubscribeReasonCode::Success(qos)] => qos as u8,
                    _ => 0x80,
                };
            }
        }
    };
    tokio::time::timeout(STEP_TIMEOUT, code).await.unwrap()
}

/// The topics of MQTT are for the accounts that read the same over HTTP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_scoped_as_reads_are() {
    let city = City::start().await;
    for (account, any, north, south) in [
        ("auditor", true, true, true),
        ("north-auditor", true, true, false),
        ("north", true, true, false),
        ("south", true, false, true),
        ("vendor", false, false, false),
        ("nobody", false, false, false),
        ("gw", false, false, false),
    ] {
        for (filter, allowed) in [
            ("lamplighter/1/notify/+/+/+", any),
            ("lamplighter/1/notify/+/north/+", north),
            ("lamplighter/1/notify/device_tagged/north/lamp-1", north),
            ("lamplighter/1/notify/+/south/+", south),
            ("lamplighter/1/head", true),
            ("lamplighter/1/gw/gw/work", account == "gw"),
            ("lamplighter/1/gw/gw/receipt", account == "gw"),
            ("lamplighter/1/gw/gw-south/work", false),
        ] {
            let code = subscribed(&city, account, filter).await;
            assert_eq!(code, if allowed { 1 } else { 0x80 }, "{account} {filter}");
        }
    }
    city.node.stop().await;
}

/// The devices in the events of a stream until one of the last device comes.
async fn followed(city: &City, account: &str, last: &str) -> Vec<String> {
    let mut stream = open(city, account, "?after=0.0&kind=device_registered").await;
    let (mut text, mut found) = (String::new(), Vec::new());
    let read = async {
        while !found.iter().any(|device| device == last) {
            let chunk = stream.chunk().await.unwrap().expect("the stream goes on");
            text += std::str::from_utf8(&chunk).unwrap();
            let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
            let events = data.filter_map(|data| serde_json::from_str::<Value>(data).ok());
            found = events
                .map(|e| {
                    e["notification"]["place"]["device"]
                        .as_str()
                        .unwrap()
                        .to_owned()
                })
                .collect();
        }
    };
    tokio::time::timeout(STEP_TIMEOUT, read).await.unwrap();
    found
}

async fn open(city: &City, account: &str, query: &str) -> Response {
    let url = format!("{}/v1/feed{query}", city.node.base());
    let request = city.node.http.get(url).bearer_auth(&city.tokens[account]);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_is_scoped_and_ends_with_the_role() {
    let city = City::start().await;
    city.node.act(city.node.devices(&["lamp-3"], "north")).await;
    city.node.act(city.node.devices(&["lamp-4"], "south")).await;
    assert_eq!(
        followed(&city, "north", "lamp-3").await,
        ["lamp-1", "lamp-3"]
    );
    assert_eq!(
        followed(&city, "south", "lamp-4").await,
        ["lamp-2", "lamp-4"]
    );
    let all = ["lamp-1", "lamp-2", "lamp-3", "lamp-4"];
    assert_eq!(followed(&city, "auditor", "lamp-4").await, all);

    let mut stream = open(&city, "north", "").await;
    let revoke = UsersAction::Revoke {
        account: id("north"),
        role: Role::Operator,
        scope: "north".parse().unwrap(),
    };
    city.node.act(Action::Users(revoke)).await;
    let rest = async { while let Ok(Some(_)) = stream.chunk().await {} };
    let ended = tokio::time::timeout(STEP_TIMEOUT, rest).await;
    ended.expect("the stream ends with the role");
    let now = city.get("north", "/v1/devices/lamp-1").await;
    now.assert_problem(403, "read.scope");
    city.node.stop().await;
}
