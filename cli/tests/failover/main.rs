//! Four nodes: one is cut off from the others, one lies, and beside them something accepts
//! connections and never answers. The SDK, the program and a gateway still get their transactions
//! into blocks, proven, within seconds.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod city;
#[path = "../../../gateway/tests/end_to_end/liar.rs"]
mod liar;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lamplighter_client::{Client, ClientConfig, Feed, FeedEvent, FeedFilter, Wait};
use lamplighter_devnet::thing::NewEvent;
use lamplighter_gateway::NodeAddress;
use lamplighter_types::{Action, AlarmChange, Fact, Hash, Receipt, Severity, UsersAction};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use city::{City, id, secret, until};
use liar::{Liar, lie};

/// Time for one transaction, with each of the bad nodes called first: it is about 2.4 s, because
/// the one that is cut off is awaited for so long. One silence waited for to its end is 4 s.
const WITHIN: Duration = Duration::from_secs(4);
/// The same for a gateway, which also connects and asks for its sequence number: about 4 s.
const GATEWAY_WITHIN: Duration = Duration::from_secs(9);
/// The same when the client knows the nodes.
const AGAIN_WITHIN: Duration = Duration::from_secs(4);

fn organization(name: &str) -> Action {
    Action::Users(UsersAction::RegisterOrganization {
        organization: id(name),
        name: name.to_owned(),
    })
}

/// The receipt at an honest node, proven.
async fn proven(city: &City, hash: &Hash) -> Receipt {
    let client = city.client("admin", vec![city.url(4)]);
    client.proven_receipt(hash).await.unwrap().0
}

/// An address that accepts connections and never answers.
async fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    address
}

async fn sdk(city: &City, urls: &[String]) {
    let client: Client = city.client("admin", urls.to_vec());
    for (name, within) in [("first", WITHIN), ("second", AGAIN_WITHIN)] {
        let start = Instant::now();
        let submitted = client.submit(organization(name), Wait::Certified).await;
        let submitted = submitted.unwrap();
        println!("the SDK: {name} after {:?}", start.elapsed());
        assert!(start.elapsed() < within, "{:?}", start.elapsed());
        let receipt = proven(city, &submitted.transaction).await;
        assert_eq!(submitted.receipt, Some(receipt));
    }
}

/// A follower whose stream comes from the node that is cut off.
async fn follower(mut feed: Feed) {
    let start = Instant::now();
    let wanted = |event: &FeedEvent| {
        matches!(&event.notification.fact, Fact::OrganizationRegistered { organization, .. }
            if *organization == id("second"))
    };
    until("the follower's event", async || {
        let event = feed.next().await.unwrap();
        wanted(&event).then_some(())
    })
    .await;
    println!("the follower: after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(60));
}

async fn program(city: &City, urls: &[String]) {
    // The second run knows from the first which nodes served.
    for (name, within) in [("third", WITHIN), ("fifth", AGAIN_WITHIN)] {
        let start = Instant::now();
        let mut arguments = vec!["--as", "admin", "--key", "admin.key", "--json"];
        arguments.extend(["--genesis", "genesis.json"]);
        arguments.extend(urls.iter().flat_map(|url| ["--node-url", url.as_str()]));
        arguments.extend(["user", "organization", name, "Named"]);
        let output = city.run(&arguments).await;
        println!("the program: {name} after {:?}", start.elapsed());
        assert!(output.status.success(), "{output:?}");
        assert!(start.elapsed() < within, "{name}: {:?}", start.elapsed());
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let hash = printed["transaction"].as_str().unwrap().parse().unwrap();
        assert!(proven(city, &hash).await.succeeded());
    }
}

async fn gateway(city: &City, nodes: Vec<NodeAddress>) {
    let (gateway, stop) = city.gateway(nodes).await;
    let thing = city.thing(gateway.south_address()).await;
    let client = city.client("operator", vec![city.url(4)]);
    // While the first event is in flight the second one waits: it shows that the first is proven.
    for (count, within) in [(1, GATEWAY_WITHIN), (2, AGAIN_WITHIN)] {
        let start = Instant::now();
        let event = NewEvent {
            kind: "x-door".to_owned(),
            severity: Severity::Major,
            alarm: AlarmChange::None,
            data: "open".to_owned(),
        };
        thing.raise(event).await.unwrap();
        until("the event", async || {
            let read = client.device_events(&id("lamp-1"), None).await.unwrap();
            (read.value.items.len() == count).then_some(())
        })
        .await;
        println!("the gateway: event {count} after {:?}", start.elapsed());
        assert!(start.elapsed() < within, "{:?}", start.elapsed());
    }
    stop.cancel();
    gateway.wait().await.unwrap();
}

/// The status and the body of `/readyz`.
async fn ready(admin: SocketAddr) -> (u16, Value) {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let request = "GET /readyz HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

/// The node that is cut off says so.
async fn cut_off(city: &City) {
    until("the node to know that it is cut off", async || {
        let (status, body) = ready(city.admin(1)).await;
        let reasons = body["reasons"].to_string();
        (status == 503 && reasons.contains("no leader")).then_some(())
    })
    .await;
    let mut config = ClientConfig::new(vec![city.url(1)]).with_genesis(city.genesis.clone());
    config.deadline = Duration::from_secs(2);
    let client = Client::new(config.with_key(id("admin"), secret("admin"))).unwrap();
    let refused = client.submit(organization("fourth"), Wait::Committed).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.problem().unwrap().code, "no_leader", "{refused:?}");
    let (status, body) = ready(city.admin(3)).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_decides_and_not_the_socket() {
    let city = City::build().await;
    let liar = Liar::start(city.genesis.chain_id(), lie).await;
    let silent = silent().await;
    let before = city.client("admin", vec![city.url(1), city.url(3)]);
    let mut feed = before.feed(&FeedFilter::default(), None);
    feed.connect().await.unwrap();
    city.cut_first();
    let nodes = vec![
        city.address(1),
        liar.address.clone(),
        NodeAddress {
            http: format!("http://{silent}"),
            mqtt: silent.to_string(),
            tls: false,
            key: None,
        },
        city.address(3),
        city.address(4),
    ];
    let urls: Vec<_> = nodes.iter().map(|node| node.http.clone()).collect();
    let sdk = sdk(&city, &urls);
    let program = program(&city, &urls);
    let gateway = gateway(&city, nodes);
    tokio::join!(sdk, program, gateway, follower(feed));
    assert!(!liar.proofs().is_empty(), "it was asked");
    let (submissions, published) = (liar.submissions(), liar.transactions().len());
    println!("the liar had {submissions} transactions over HTTP, {published} over MQTT");
    assert!(submissions >= 3, "it had one of each: {submissions}");
    cut_off(&city).await;
    city.stop().await;
}
