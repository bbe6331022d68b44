//! Sessions: an account sees who is logged in in its name, and ends it.

use std::time::{Duration, Instant};

use lamplighter_types::login::{Audience, LoginSession, LoginSessions};
use lamplighter_types::{Action, Role, Scope, SecretKey, UsersAction};
use reqwest::Method;

use crate::node::{Answer, Node, STEP_TIMEOUT, id};
use crate::tokens::{closed, connect, ends, follow, register, secret};
use crate::websocket;

const PATH: &str = "/v1/auth/sessions";
/// A stream or connection is closed within this time after its session has ended.
const END_TIME: Duration = Duration::from_secs(1);

async fn ask(node: &Node, method: Method, path: &str, token: &str) -> Answer {
    let request = node.open(method, path).bearer_auth(token);
    Answer::of(request.send().await.unwrap()).await
}

async fn listed(node: &Node, path: &str, token: &str) -> Vec<LoginSession> {
    let answer = ask(node, Method::GET, path, token).await.ok();
    serde_json::from_value::<LoginSessions>(answer)
        .unwrap()
        .items
}

/// Waits until the sessions have so many streams and connections open.
async fn open_connections(node: &Node, token: &str, expected: &[u64]) {
    let opened = async {
        loop {
            let all = listed(node, PATH, token).await;
            let open: Vec<_> = all.iter().map(|session| session.connections).collect();
            if open == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let opened = tokio::time::timeout(STEP_TIMEOUT, opened).await;
    opened.unwrap_or_else(|_| panic!("never {expected:?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_its_stream_and_its_mqtt_connection() {
    let node = Node::start().await;
    register(&node).await;
    let reading = node.login(&id("gw"), &secret()).await;
    let mqtt = node.token_for(Audience::Mqtt, &id("gw"), &secret()).await;
    let all = listed(&node, PATH, &reading).await;
    let seen = all.iter().map(|s| (s.audience, s.current, s.connections));
    let expected = [(Audience::HttpRead, true, 0), (Audience::Mqtt, false, 0)];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
    for session in &all {
        assert_eq!(session.address.as_deref(), Some("127.0.0.1"));
        assert_eq!(session.key, secret().public());
        assert_eq!(session.expires_ms - session.issued_ms, 15 * 60 * 1000);
    }
    let stream = follow(&node, &reading).await;
    let request = websocket::browser(&node.edges.http, "", Some(&reading));
    let (mut socket, _) = websocket::connect(&node, request).await;
    websocket::next_json(&mut socket).await;
    let (_client, mut events) = connect(&node, &mqtt).await.unwrap();
    open_connections(&node, &reading, &[2, 1]).await;

    let end = |session: &LoginSession| format!("{PATH}/{}", session.session);
    let answer = ask(&node, Method::DELETE, &end(&all[1]), &reading).await;
    assert_eq!(answer.status, 204);
    let begun = Instant::now();
    closed(&mut events).await;
    assert!(begun.elapsed() < END_TIME, "{:?}", begun.elapsed());
    assert!(connect(&node, &mqtt).await.is_err(), "it is over");
    let again = ask(&node, Method::DELETE, &end(&all[1]), &reading).await;
    again.assert_problem(404, "not_found");
    // The other one goes on.
    open_connections(&node, &reading, &[2]).await;

    let answer = ask(&node, Method::DELETE, &end(&all[0]), &reading).await;
    assert_eq!(answer.status, 204);
    let begun = Instant::now();
    ends(stream).await;
    websocket::closed_by_policy(&mut socket).await;
    assert!(begun.elapsed() < END_TIME, "{:?}", begun.elapsed());
    let refused = ask(&node, Method::GET, PATH, &reading).await;
    refused.assert_problem(401, "auth.refused");
    // The key is as good as before.
    let reading = node.login(&id("gw"), &secret()).await;
    assert_eq!(listed(&node, PATH, &reading).await.len(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_sessions_end_but_the_one_that_asks() {
    let node = Node::start().await;
    register(&node).await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(node.login(&id("gw"), &secret()).await);
    }
    let ended = ask(&node, Method::DELETE, PATH, &tokens[1]).await.ok();
    assert_eq!(ended["ended"], 2);
    for (number, status) in [(0, 401), (1, 200), (2, 401)] {
        let answer = ask(&node, Method::GET, PATH, &tokens[number]).await;
        assert_eq!(answer.status, status, "{number}");
    }
    assert_eq!(node.get("/v1/devices").await.status, 200, "another account");
    node.stop().await;
}

/// Everybody sees and ends their own; those who read everything see all, and administrators of the
/// whole city end all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_others_are_for_administrators() {
    let node = Node::start().await;
    register(&node).await;
    let auditor = SecretKey::from_seed([8; 32]);
    let (account, role, scope) = (id("auditor"), Role::Auditor, Scope::city());
    for action in [
        UsersAction::RegisterUser {
            account: account.clone(),
            organization: id("city"),
            name: "Auditor".into(),
            key: auditor.public(),
            proof: node.proof(&auditor, &account),
        },
        UsersAction::Grant {
            account: account.clone(),
            role,
            scope,
        },
    ] {
        node.act(Action::Users(action)).await;
    }
    let auditor = node.login(&account, &auditor).await;
    let gateway = node.login(&id("gw"), &secret()).await;
    let (of_admin, of_gateway) = (
        format!("{PATH}?account=admin"),
        format!("{PATH}?account=gw"),
    );
    let answer = ask(&node, Method::GET, &of_admin, &gateway).await;
    answer.assert_problem(403, "read.scope");
    let session = listed(&node, &of_gateway, &auditor).await[0].session;
    for (token, account) in [(&gateway, "admin"), (&auditor, "gw")] {
        for path in [PATH.to_owned(), format!("{PATH}/{session}")] {
            let path = format!("{path}?account={account}");
            let answer = ask(&node, Method::DELETE, &path, token).await;
            answer.assert_problem(403, "forbidden");
        }
    }
    // Its id alone is not enough: it is of another account.
    let path = format!("{PATH}/{session}");
    let answer = ask(&node, Method::DELETE, &path, &node.token).await;
    answer.assert_problem(404, "not_found");
    for method in [Method::GET, Method::DELETE] {
        let path = format!("{PATH}?account=nobody");
        let answer = ask(&node, method, &path, &node.token).await;
        answer.assert_problem(404, "not_found");
    }
    assert_eq!(
        listed(&node, PATH, &gateway).await.len(),
        1,
        "nothing ended"
    );
    let ended = ask(&node, Method::DELETE, &of_gateway, &node.token).await;
    assert_eq!(ended.ok()["ended"], 1);
    let refused = ask(&node, Method::GET, PATH, &gateway).await;
    refused.assert_problem(401, "auth.refused");

    // Nor are there sessions of a key that was revoked: its tokens are refused.
    node.login(&id("gw"), &secret()).await;
    assert_eq!(listed(&node, &of_gateway, &node.token).await.len(), 1);
    let (account, key) = (id("gw"), secret().public());
    node.act(Action::Users(UsersAction::RevokeKey { account, key }))
        .await;
    assert!(listed(&node, &of_gateway, &node.token).await.is_empty());
    node.stop().await;
}
