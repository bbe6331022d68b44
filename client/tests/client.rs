//! The client against small servers that misbehave.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::{StreamExt, stream};
use lamplighter_client::{
    Client, ClientConfig, ClientError, Cursor, FeedFilter, Pending, Sequences, Signer, Wait,
};
use lamplighter_types::artifact::{GROUP_BYTES, GroupsBuilder};
use lamplighter_types::{
    Action, EventsAction, Hash, Id, SecretKey, SignedTransaction, UsersAction, codec,
};
use serde_json::json;

/// Starts a server on a free port and returns its address.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

/// An address without a listener.
async fn unreachable() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn chain() -> Hash {
    Hash::of(b"chain")
}

fn config(urls: Vec<String>) -> ClientConfig {
    let mut config = ClientConfig::new(urls);
    config.chain_id = Some(chain());
    config.deadline = Duration::from_secs(10);
    let sequences = Sequences::from_ledger();
    sequences.raise_to(7);
    let secret = SecretKey::from_seed([1; 32]);
    let account = Id::new("anna").unwrap();
    config.with_signer(Signer {
        account,
        secret,
        sequences: Arc::new(sequences),
    })
}

fn client(urls: Vec<String>) -> Client {
    Client::new(config(urls)).unwrap()
}

fn action() -> Action {
    Action::Events(EventsAction::Append { events: Vec::new() })
}

fn problem(status: u16, code: &str) -> Response {
    let body = json!({"type": "about:blank", "status": status, "code": code, "detail": "no"});
    (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
}

fn committed(body: &[u8]) -> Response {
    let signed: SignedTransaction = codec::decode(body).unwrap();
    let hash = signed.hash(&chain());
    let receipt = json!({"transaction": hash, "outcome": "succeeded", "notifications": []});
    let body = json!({
        "transaction": hash, "height": 4, "index": 0, "certified": false, "receipt": receipt,
    });
    body.to_string().into_response()
}

#[derive(Clone, Default)]
struct Seen(Arc<std::sync::Mutex<Vec<Bytes>>>);

#[tokio::test]
async fn a_busy_and_a_dead_node_do_not_stop_a_submission() {
    let seen = Seen::default();
    let submit = async |State(seen): State<Seen>, body: Bytes| {
        let mut all = seen.0.lock().unwrap();
        all.push(body.clone());
        match all.len() {
            1 => ([("retry-after", "1")], problem(503, "busy")).into_response(),
            _ => committed(&body),
        }
    };
    let good = Router::new()
        .route("/v1/transactions", post(submit))
        .with_state(seen.clone());
    let client = client(vec![unreachable().await, serve(good).await]);
    let submitted = client.submit(action(), Wait::Committed).await.unwrap();
    assert!(submitted.receipt.unwrap().succeeded());
    let all = seen.0.lock().unwrap().clone();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0], all[1], "the same bytes again");
    let signed: SignedTransaction = codec::decode(&all[0]).unwrap();
    assert_eq!(signed.decode_payload().unwrap().sequence, 8);
}

#[tokio::test]
async fn a_refusal_is_final_and_a_used_number_is_replaced() {
    let seen = Seen::default();
    let submit = async |State(seen): State<Seen>, body: Bytes| {
        let first = {
            let mut all = seen.0.lock().unwrap();
            all.push(body.clone());
            all.len() <= 2
        };
        let sequence: SignedTransaction = codec::decode(&body).unwrap();
        match sequence.decode_payload().unwrap().sequence {
            8 => problem(422, "admission.sequence_used"),
            _ if first => committed(&body),
            _ => problem(422, "admission.expired"),
        }
    };
    let key = async || json!({"account": "anna", "highest_sequence": 40}).to_string();
    let router = Router::new()
        .route("/v1/transactions", post(submit))
        .route("/v1/keys/{key}", get(key))
        .with_state(seen.clone());
    let client = client(vec![serve(router).await]);
    client.submit(action(), Wait::Committed).await.unwrap();
    let refused = client.submit(action(), Wait::Committed).await.unwrap_err();
    assert_eq!(refused.problem().unwrap().code, "admission.expired");
    assert_eq!(seen.0.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_receipt_of_another_transaction_is_not_accepted() {
    let submit = async || {
        let other = Hash::of(b"other");
        let receipt = json!({"transaction": other, "outcome": "succeeded", "notifications": []});
        json!({"transaction": other, "certified": true, "receipt": receipt}).to_string()
    };
    let url = serve(Router::new().route("/v1/transactions", post(submit))).await;
    let pending = pending(vec![url]).await;
    assert!(
        matches!(
            pending.last.as_deref(),
            Some(ClientError::WrongTransaction { .. })
        ),
        "{pending:?}"
    );
}

/// Submits to nodes of which none reports the outcome.
async fn pending(urls: Vec<String>) -> Pending {
    let mut settings = config(urls);
    settings.deadline = Duration::from_secs(1);
    let client = Client::new(settings).unwrap();
    match client.submit(action(), Wait::Committed).await {
        Err(ClientError::Pending(pending)) => *pending,
        other => panic!("{other:?}"),
    }
}

/// A node that records the bodies that it receives, and answers with `answers`.
async fn node_that(seen: &Seen, answers: fn(&[u8]) -> Response) -> String {
    let submit = async move |State(seen): State<Seen>, body: Bytes| {
        seen.0.lock().unwrap().push(body.clone());
        answers(&body)
    };
    let key = async || json!({"account": "anna", "highest_sequence": 40}).to_string();
    let router = Router::new()
        .route("/v1/transactions", post(submit))
        .route("/v1/keys/{key}", get(key))
        .with_state(seen.clone());
    serve(router).await
}

impl Seen {
    /// The number of different transactions that were sent.
    fn different(&self) -> usize {
        let all = self.0.lock().unwrap();
        all.iter().collect::<BTreeSet<_>>().len()
    }
}

fn accepted(body: &[u8]) -> Response {
    let signed: SignedTransaction = codec::decode(body).unwrap();
    let body = json!({"transaction": signed.hash(&chain()), "certified": false});
    (StatusCode::ACCEPTED, body.to_string()).into_response()
}

#[tokio::test]
async fn a_pending_transaction_names_the_nodes_that_accepted_it() {
    let seen = Seen::default();
    let (first, second) = (
        node_that(&seen, accepted).await,
        node_that(&seen, accepted).await,
    );
    let pending = pending(vec![first.clone(), unreachable().await, second.clone()]).await;
    assert_eq!(pending.taken_by, [first.clone(), second]);
    assert!(pending.sent_to.is_empty(), "{pending:?}");
    assert_eq!(seen.different(), 1);
    let sent = seen.0.lock().unwrap()[0].clone();
    assert_eq!(codec::encode(&pending.signed), sent);
    assert_eq!(pending.transaction, pending.signed.hash(&chain()));
    let expires_ms = pending.signed.decode_payload().unwrap().expires_ms;
    assert_eq!(pending.expires_ms, expires_ms);
    let words = ClientError::Pending(Box::new(pending)).to_string();
    for part in ["taken by", first.as_str(), &expires_ms.to_string()] {
        assert!(words.contains(part), "{words}");
    }
    assert!(!words.contains("no node"), "{words}");
}

#[tokio::test]
async fn a_broken_connection_leaves_the_outcome_open() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut some = [0; 1024];
            // A part of the request has come; then it is closed without an answer.
            tokio::io::AsyncReadExt::read(&mut stream, &mut some)
                .await
                .unwrap();
        }
    });
    let pending = pending(vec![url.clone(), unreachable().await]).await;
    assert_eq!((pending.taken_by.len(), pending.sent_to), (0, vec![url]));
}

#[tokio::test]
async fn a_transaction_that_no_node_accepted_is_not_pending() {
    let seen = Seen::default();
    let busy = node_that(&seen, |_| problem(503, "busy")).await;
    let mut settings = config(vec![unreachable().await, busy]);
    settings.deadline = Duration::from_millis(500);
    let client = Client::new(settings).unwrap();
    let error = client.submit(action(), Wait::Committed).await.unwrap_err();
    assert!(matches!(error, ClientError::Deadline { .. }), "{error}");
}

fn number_used(_: &[u8]) -> Response {
    problem(422, "admission.sequence_used")
}

#[tokio::test]
async fn a_node_that_hides_a_transaction_does_not_cause_a_second_one() {
    let seen = Seen::default();
    let liar = node_that(&seen, number_used).await;
    let honest = node_that(&seen, committed).await;
    let client = client(vec![liar.clone(), honest]);
    let submitted = client.submit(action(), Wait::Committed).await.unwrap();
    assert!(submitted.receipt.unwrap().succeeded());
    assert_eq!(seen.different(), 1, "the same bytes went to the other node");

    let seen = Seen::default();
    let liar = node_that(&seen, number_used).await;
    let pending = pending(vec![liar, unreachable().await]).await;
    assert_eq!(seen.different(), 1);
    let code = pending.last.as_deref().and_then(ClientError::problem);
    assert_eq!(code.unwrap().code, "admission.sequence_used");
}

#[tokio::test]
async fn a_number_that_two_nodes_know_as_used_is_replaced() {
    let seen = Seen::default();
    let answers = |body: &[u8]| {
        let signed: SignedTransaction = codec::decode(body).unwrap();
        match signed.decode_payload().unwrap().sequence {
            8 => number_used(body),
            _ => committed(body),
        }
    };
    let urls = vec![
        node_that(&seen, answers).await,
        node_that(&seen, answers).await,
        unreachable().await,
    ];
    client(urls)
        .submit(action(), Wait::Committed)
        .await
        .unwrap();
    assert_eq!((seen.different(), seen.0.lock().unwrap().len()), (2, 3));
}

#[tokio::test]
async fn a_refusal_of_one_node_does_not_count_if_another_accepts() {
    let seen = Seen::default();
    let liar = node_that(&seen, |_| problem(422, "admission.expired")).await;
    let honest = node_that(&seen, committed).await;
    let client = client(vec![liar.clone(), honest]);
    client.submit(action(), Wait::Committed).await.unwrap();
    let refused = self::client(vec![liar.clone()]);
    let refused = refused.submit(action(), Wait::Committed).await.unwrap_err();
    assert_eq!(refused.problem().unwrap().code, "admission.expired");
    // The others can't confirm it.
    let busy = node_that(&seen, |_| problem(503, "busy")).await;
    let pending = pending(vec![liar.clone(), unreachable().await, busy]).await;
    assert_eq!(pending.refused_by, [liar]);
    assert_eq!((pending.taken_by.len(), pending.sent_to.len()), (0, 0));
    let why = pending.last.as_deref().and_then(ClientError::problem);
    assert_eq!(why.unwrap().code, "admission.expired");
}

/// The second refusal may come in a round after the first.
#[tokio::test]
async fn refusals_of_two_nodes_count_whenever_they_come() {
    let (refusing, late) = (Seen::default(), Seen::default());
    let first = node_that(&refusing, |_| problem(422, "admission.expired")).await;
    let submit = async |State(seen): State<Seen>, body: Bytes| {
        let mut all = seen.0.lock().unwrap();
        all.push(body);
        match all.len() {
            1 => problem(503, "busy"),
            _ => problem(422, "admission.expired"),
        }
    };
    let router = Router::new()
        .route("/v1/transactions", post(submit))
        .with_state(late.clone());
    let urls = vec![first, serve(router).await, unreachable().await];
    let refused = client(urls).submit(action(), Wait::Committed).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.problem().unwrap().code, "admission.expired");
    assert!(late.0.lock().unwrap().len() > 1);
}

#[tokio::test]
async fn another_node_is_asked_when_one_fails_inside() {
    let seen = Seen::default();
    let damaged = Router::new().fallback(async || problem(500, "internal"));
    let urls = vec![serve(damaged).await, node_that(&seen, committed).await];
    let client = client(urls);
    client.submit(action(), Wait::Committed).await.unwrap();
    client.prefer(0);
    let key = SecretKey::from_seed([1; 32]).public();
    assert_eq!(client.key(&key).await.unwrap().value.highest_sequence, 40);
}

#[tokio::test]
async fn a_new_key_is_proven_for_its_account_and_this_chain() {
    let new = SecretKey::from_seed([2; 32]);
    let action = client(vec![unreachable().await])
        .rotation(&new)
        .await
        .unwrap();
    let Action::Users(UsersAction::RotateKey { new_key, proof }) = action else {
        panic!("{action:?}")
    };
    let signed = [
        b"lamplighter/key-possession/2\0".as_slice(),
        &chain().0,
        b"account\0",
        b"anna\0",
        &new_key.0,
    ];
    assert_eq!(new_key, new.public());
    new_key.verify(&signed.concat(), &proof).unwrap();
}

#[tokio::test]
async fn the_deadline_ends_a_call_with_its_last_cause() {
    let busy = Router::new().fallback(async || problem(503, "busy"));
    let mut settings = config(vec![serve(busy).await]);
    settings.deadline = Duration::from_millis(300);
    let error = Client::new(settings).unwrap().status().await.unwrap_err();
    assert!(matches!(error, ClientError::Deadline { .. }), "{error}");
    assert_eq!(error.problem().unwrap().code, "busy");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_node_that_wants_a_token_gets_one() {
    let challenge =
        async || json!({"challenge": Hash::of(b"c"), "node": 3, "expires_ms": 1}).to_string();
    use lamplighter_types::login::Audience;
    let token = async |body: String| {
        let answer: lamplighter_types::login::TokenRequest = serde_json::from_str(&body).unwrap();
        answer.verify(&chain(), 3).unwrap();
        assert_eq!(answer.audience, Audience::HttpRead);
        json!({"token": "secret", "expires_ms": 9}).to_string()
    };
    let guarded = async |headers: HeaderMap| match headers.get("authorization") {
        Some(value) if value == "Bearer secret" => {
            json!({"account": "anna", "highest_sequence": 40})
                .to_string()
                .into_response()
        }
        _ => problem(401, "auth.missing"),
    };
    let router = Router::new()
        .route("/v1/auth/challenge", post(challenge))
        .route("/v1/auth/token", post(token))
        .route("/v1/keys/{key}", get(guarded));
    let client = client(vec![serve(router).await]);
    let key = SecretKey::from_seed([1; 32]).public();
    assert_eq!(client.key(&key).await.unwrap().value.highest_sequence, 40);
}

fn notification(height: u64, index: u32) -> String {
    let data = json!({
        "cursor": format!("{height}.{index}"), "time_ms": 5, "transaction": Hash::ZERO,
        "author": "anna",
        "notification": {"place": null, "fact": "policies_set"},
    });
    format!("id: {height}.{index}\nevent: policies_set\ndata: {data}\n\n")
}

#[tokio::test]
async fn the_feed_continues_at_another_node_without_loss_or_repetition() {
    // Breaks off in the middle of the third event.
    let first = async || {
        let third = notification(2, 0);
        let text = [
            notification(1, 0),
            notification(1, 1),
            third[..20].to_owned(),
        ]
        .concat();
        Body::from(text)
    };
    // Begins one too early, as a node may.
    let second = async |headers: HeaderMap| {
        let last = headers
            .get("last-event-id")
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(last, "1.1");
        let pieces = [
            ": comment\n\n".to_owned(),
            notification(1, 1),
            notification(2, 0),
        ];
        let open = stream::iter(pieces.map(Ok::<_, std::convert::Infallible>));
        Body::from_stream(open.chain(stream::pending()))
    };
    let urls = vec![
        serve(Router::new().route("/v1/feed", get(first))).await,
        serve(Router::new().route("/v1/feed", get(second))).await,
    ];
    let mut feed = client(urls).feed(&FeedFilter::default(), None);
    let mut cursors = Vec::new();
    for _ in 0..3 {
        cursors.push(feed.next().await.unwrap().cursor);
    }
    let at = |height, index| Cursor { height, index };
    assert_eq!(cursors, [at(1, 0), at(1, 1), at(2, 0)]);
}

/// The feed of a node that expects this cursor, sends these pieces, and then breaks off or stays
/// silent.
fn feed_node(wants: Option<&'static str>, pieces: Vec<String>, ends: bool) -> Router {
    let feed = move |headers: HeaderMap| {
        let last = headers.get("last-event-id");
        let last = last.map(|value| value.to_str().unwrap().to_owned());
        let pieces = stream::iter(pieces.clone().into_iter().map(std::io::Result::Ok));
        async move {
            match last.as_deref() == wants {
                false => problem(400, "parameter"),
                true if ends => Body::from_stream(pieces).into_response(),
                true => Body::from_stream(pieces.chain(stream::pending())).into_response(),
            }
        }
    };
    Router::new().route("/v1/feed", get(feed))
}

/// Nodes restart before any event matches the filter: events of the meantime are delivered.
#[tokio::test]
async fn a_follower_without_events_continues_where_it_began() {
    let cursor_event = |cursor: &str| format!("id: {cursor}\n\n");
    let (begins, reached) = ("7.4294967295", "9.4294967295");
    let urls = vec![
        serve(feed_node(None, vec![cursor_event(begins)], true)).await,
        serve(feed_node(
            Some(begins),
            vec![cursor_event(begins), cursor_event(reached)],
            true,
        ))
        .await,
        serve(feed_node(
            Some(reached),
            vec![cursor_event(reached), notification(10, 0)],
            false,
        ))
        .await,
    ];
    let mut feed = client(urls).feed(&FeedFilter::default(), None);
    feed.connect().await.unwrap();
    assert_eq!(feed.cursor(), Some(begins.parse().unwrap()));
    let delivery = feed.next().await.unwrap();
    let expected = Cursor {
        height: 10,
        index: 0,
    };
    assert_eq!(delivery.cursor, expected);
    assert_eq!(delivery.author, Some(Id::new("anna").unwrap()));
}

#[tokio::test]
async fn a_cursor_that_is_ahead_of_every_node_is_an_error() {
    let ahead = || Router::new().route("/v1/feed", get(async || problem(409, "feed.ahead")));
    let after = Some(Cursor {
        height: 500,
        index: 0,
    });
    // One node may be behind.
    let good = feed_node(Some("500.0"), vec![notification(501, 0)], false);
    let urls = vec![serve(ahead()).await, serve(good).await];
    let mut feed = client(urls).feed(&FeedFilter::default(), after);
    assert_eq!(feed.next().await.unwrap().cursor.height, 501);
    let urls = vec![serve(ahead()).await, serve(ahead()).await];
    let mut feed = client(urls).feed(&FeedFilter::default(), after);
    let refused = feed.next().await.unwrap_err();
    assert_eq!(refused.problem().unwrap().code, "feed.ahead");
}

fn artifact() -> Vec<u8> {
    (0..40 * GROUP_BYTES + 1_000)
        .map(|n| (n * 31 % 251) as u8)
        .collect()
}

#[derive(Clone)]
struct Node {
    bytes: Arc<Vec<u8>>,
    /// Bytes after which the connection breaks.
    cut: usize,
    flip: Option<usize>,
    asked: Arc<AtomicU32>,
}

/// An error that breaks a connection, some time after the bytes before it.
fn cut(broken: bool) -> impl futures::Stream<Item = std::io::Result<Bytes>> {
    stream::iter(broken.then_some(())).then(|()| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(std::io::Error::other("cut"))
    })
}

fn artifact_node(node: Node) -> Router {
    let groups = async |State(node): State<Node>, Path(_): Path<Hash>| {
        let mut builder = GroupsBuilder::default();
        builder.update(&node.bytes);
        builder.finish().unwrap().to_bytes()
    };
    let read = async |State(node): State<Node>, Path(_): Path<Hash>, headers: HeaderMap| {
        node.asked.fetch_add(1, Ordering::Relaxed);
        let range = headers.get("range").unwrap().to_str().unwrap();
        let (first, last) = range
            .strip_prefix("bytes=")
            .unwrap()
            .split_once('-')
            .unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        let mut bytes = node.bytes[first..=last].to_vec();
        if let Some(at) = node.flip.filter(|at| (first..=last).contains(at)) {
            bytes[at - first] ^= 1;
        }
        let broken = bytes.len() > node.cut;
        bytes.truncate(node.cut);
        let end = cut(broken);
        let body = stream::iter([Ok(Bytes::from(bytes))]).chain(end);
        (StatusCode::PARTIAL_CONTENT, Body::from_stream(body)).into_response()
    };
    Router::new()
        .route("/v1/artifacts/{digest}/groups", get(groups))
        .route("/v1/artifacts/{digest}", get(read))
        .with_state(node)
}

fn node(cut: usize, flip: Option<usize>) -> Node {
    Node {
        bytes: Arc::new(artifact()),
        cut,
        flip,
        asked: Arc::default(),
    }
}

#[tokio::test]
async fn a_download_continues_after_broken_connections() {
    let bad = node(150_000, None);
    let url = serve(artifact_node(bad.clone())).await;
    let dir = tempfile::tempdir().unwrap();
    let part = dir.path().join("part");
    let bytes = artifact();
    // The file of an earlier run: correct at first, then a damaged group.
    let mut partial = bytes[..5 * GROUP_BYTES].to_vec();
    partial[3 * GROUP_BYTES] ^= 1;
    std::fs::write(&part, partial).unwrap();
    let mut steps = Vec::new();
    let mut progress = |done, _| steps.push(done);
    let client = client(vec![url]);
    client
        .download(Hash::of(&bytes), bytes.len() as u64, &part, &mut progress)
        .await
        .unwrap();
    assert_eq!(std::fs::read(&part).unwrap(), bytes);
    assert!(steps[0] > 3 * GROUP_BYTES as u64 && bad.asked.load(Ordering::Relaxed) >= 5);
}

#[tokio::test]
async fn a_flipped_bit_is_refused_and_another_node_asked() {
    let bytes = artifact();
    let (digest, size) = (Hash::of(&bytes), bytes.len() as u64);
    let liar = node(usize::MAX, Some(20 * GROUP_BYTES + 3));
    let honest = node(usize::MAX, None);
    let dir = tempfile::tempdir().unwrap();
    let part = dir.path().join("part");
    let urls = vec![
        serve(artifact_node(liar.clone())).await,
        serve(artifact_node(honest)).await,
    ];
    client(urls)
        .download(digest, size, &part, &mut |_, _| {})
        .await
        .unwrap();
    assert_eq!(std::fs::read(&part).unwrap(), bytes);
    assert_eq!(
        liar.asked.load(Ordering::Relaxed),
        1,
        "a liar is not asked again"
    );
    let alone = client(vec![serve(artifact_node(liar)).await]);
    let other = dir.path().join("other");
    let error = alone
        .download(digest, size, &other, &mut |_, _| {})
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Artifact { .. }), "{error}");
    let held = std::fs::read(&other).unwrap();
    assert!(
        held == bytes[..20 * GROUP_BYTES],
        "what was checked is kept, and nothing else: {} bytes",
        held.len()
    );
    let wrong = alone
        .download(Hash::of(b"x"), size, &other, &mut |_, _| {})
        .await
        .unwrap_err();
    assert!(matches!(wrong, ClientError::Artifact { .. }), "{wrong}");
}

/// Commands of one account that run at once each ask a ledger that knows the number 40.
#[tokio::test]
async fn clients_of_one_account_do_not_all_use_the_next_number() {
    let seen = Seen::default();
    let url = node_that(&seen, committed).await;
    for _ in 0..20 {
        let mut settings = config(vec![url.clone()]);
        settings.signer.as_mut().unwrap().sequences = Arc::new(Sequences::from_ledger());
        let client = Client::new(settings).unwrap();
        client.submit(action(), Wait::Committed).await.unwrap();
    }
    let bodies = seen.0.lock().unwrap().clone();
    let number = |body: &Bytes| {
        let signed: SignedTransaction = codec::decode(body).unwrap();
        signed.decode_payload().unwrap().sequence
    };
    let numbers: BTreeSet<u64> = bodies.iter().map(number).collect();
    assert!(numbers.iter().all(|number| (41..=296).contains(number)));
    // That 20 of 256 numbers meet in more than 10 happens less than once in 10^12 runs.
    assert!(numbers.len() >= 10, "{numbers:?}");
}

#[test]
fn sequence_numbers_are_unique_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sequence");
    let first = Sequences::in_file(&path).unwrap();
    first.raise_to(10);
    let taken: Vec<_> = (0..100).map(|_| first.next().unwrap()).collect();
    assert_eq!(taken, (11..=110).collect::<Vec<_>>());
    drop(first);
    let second = Sequences::in_file(&path).unwrap();
    assert!(second.next().unwrap() > 110);
    std::fs::write(&path, "many").unwrap();
    assert!(matches!(
        Sequences::in_file(&path),
        Err(ClientError::Sequence { .. })
    ));
}

#[test]
fn addresses_are_checked() {
    for wrong in ["", "10.0.0.1:80", "ftp://a", "http://"] {
        let result = Client::new(ClientConfig::new(vec![wrong.to_owned()]));
        assert!(matches!(result, Err(ClientError::Address(_))), "{wrong}");
    }
    assert!(matches!(
        Client::new(ClientConfig::new(vec![])),
        Err(ClientError::NoAddress)
    ));
}
