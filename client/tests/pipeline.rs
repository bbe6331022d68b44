//! Many transactions on their way at once, against small servers that misbehave.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::{StreamExt, stream};
use lamplighter_client::{Client, ClientConfig, ClientError, Pending, Pipeline};
use lamplighter_types::{
    Action, Encoding, EventsAction, Hash, Id, SecretKey, SignedTransaction, Transaction, codec,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// What a server answers to the nth transaction that it ever gets; `None` cuts the connection.
type Script = fn(usize, Hash) -> Option<Value>;

/// A node that follows a script.
struct ScriptedNode {
    script: Script,
    counted: AtomicUsize,
    /// So many requests, the first ones, are not answered before the node gets permits for them.
    held: usize,
    permits: Semaphore,
    requests: AtomicUsize,
    /// Requests with one transaction.
    singles: AtomicUsize,
    /// The bytes of each transaction, by hash, and how often they came.
    received: Mutex<BTreeMap<Hash, Vec<Bytes>>>,
    largest: AtomicUsize,
}

fn chain() -> Hash {
    Hash::of(b"chain")
}

async fn serve(script: Script) -> (String, Arc<ScriptedNode>) {
    serve_held(script, 0).await
}

async fn serve_held(script: Script, held: usize) -> (String, Arc<ScriptedNode>) {
    let node = Arc::new(ScriptedNode {
        script,
        counted: AtomicUsize::new(0),
        held,
        permits: Semaphore::new(0),
        requests: AtomicUsize::new(0),
        singles: AtomicUsize::new(0),
        received: Mutex::default(),
        largest: AtomicUsize::new(0),
    });
    let router = Router::new()
        .route("/v1/submissions", post(many))
        .route("/v1/transactions", post(one))
        .with_state(node.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (format!("http://{address}"), node)
}

impl ScriptedNode {
    fn answer(&self, bytes: Bytes) -> Option<Value> {
        let signed: SignedTransaction = codec::decode(&bytes).unwrap();
        let hash = signed.hash(&chain());
        let mut received = self.received.lock().unwrap();
        received.entry(hash).or_default().push(bytes);
        (self.script)(self.counted.fetch_add(1, Ordering::SeqCst), hash)
    }

    async fn hold(&self) {
        if self.requests.fetch_add(1, Ordering::SeqCst) < self.held {
            self.permits.acquire().await.unwrap().forget();
        }
    }

    fn received(&self) -> BTreeMap<Hash, Vec<Bytes>> {
        self.received.lock().unwrap().clone()
    }
}

async fn many(
    State(node): State<Arc<ScriptedNode>>,
    Query(query): Query<BTreeMap<String, String>>,
    mut body: Bytes,
) -> Response {
    assert_eq!(query["wait"], "committed");
    let mut lines = Vec::new();
    while !body.is_empty() {
        let length = u32::from_le_bytes(body.split_to(4)[..].try_into().unwrap());
        let answer = node.answer(body.split_to(length as usize));
        lines.push(answer.map(|answer| answer.to_string() + "\n"));
    }
    node.largest.fetch_max(lines.len(), Ordering::SeqCst);
    node.hold().await;
    // What is behind a cut is not sent.
    let cut = std::io::Error::other("cut");
    let until_cut = lines.iter().position(Option::is_none);
    let whole = lines.into_iter().map_while(|line| line.map(Ok));
    let end = until_cut.map(|_| Err(cut));
    Body::from_stream(stream::iter(whole.chain(end)).then(|line| async {
        tokio::task::yield_now().await;
        line
    }))
    .into_response()
}

async fn one(State(node): State<Arc<ScriptedNode>>, body: Bytes) -> Response {
    node.singles.fetch_add(1, Ordering::SeqCst);
    node.hold().await;
    let Some(line) = node.answer(body) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let status = StatusCode::from_u16(line["status"].as_u64().unwrap() as u16).unwrap();
    let body = line.get("submitted").or(line.get("problem")).unwrap();
    (status, body.to_string()).into_response()
}

fn committed(hash: Hash) -> Option<Value> {
    let receipt = json!({"transaction": hash, "outcome": "succeeded", "notifications": []});
    let submitted = json!({"transaction": hash, "height": 5, "index": 0, "certified": false,
        "receipt": receipt});
    Some(json!({"status": 200, "submitted": submitted}))
}

fn accepted(hash: Hash) -> Option<Value> {
    Some(json!({"status": 202, "submitted": {"transaction": hash, "certified": false}}))
}

fn problem(status: u16, code: &str) -> Option<Value> {
    let problem = json!({"type": "about:blank", "title": "No", "status": status, "code": code,
        "detail": "it is so"});
    Some(json!({"status": status, "problem": problem}))
}

fn client(urls: Vec<String>) -> Client {
    client_within(Duration::from_secs(20), urls)
}

fn client_within(deadline: Duration, urls: Vec<String>) -> Client {
    let mut config = ClientConfig::new(urls);
    config.chain_id = Some(chain());
    config.deadline = deadline;
    config.silence_max = config.silence_max.min(deadline / 4);
    let account = Id::new("anna").unwrap();
    Client::new(config.with_key(account, SecretKey::from_seed([1; 32]))).unwrap()
}

fn transactions(count: u64) -> Vec<SignedTransaction> {
    let sign = |sequence| {
        let transaction = Transaction {
            sender: Id::new("anna").unwrap(),
            sequence,
            expires_ms: 1_900_000_000_000,
            action: Action::Events(EventsAction::Append { events: Vec::new() }),
        };
        let secret = SecretKey::from_seed([1; 32]);
        SignedTransaction::sign(&transaction, Encoding::Bincode, &chain(), &secret)
    };
    (1..=count).map(sign).collect()
}

/// Submits all and waits for all outcomes.
async fn submit_all(
    client: &Client,
    window: usize,
    count: u64,
) -> Vec<(Hash, Result<Hash, ClientError>)> {
    let pipeline = Pipeline::start(client, window);
    let mut waiting = Vec::new();
    for signed in transactions(count) {
        let submitted = pipeline.submit(signed).await.unwrap();
        waiting.push(tokio::spawn(async move {
            let hash = submitted.hash;
            let outcome = submitted.outcome().await;
            (hash, outcome.map(|submitted| submitted.transaction))
        }));
    }
    let mut outcomes = Vec::new();
    for waiting in waiting {
        outcomes.push(waiting.await.unwrap());
    }
    outcomes
}

fn assert_all_done(outcomes: &[(Hash, Result<Hash, ClientError>)], count: usize) {
    assert_eq!(outcomes.len(), count);
    for (hash, outcome) in outcomes {
        assert_eq!(outcome.as_ref().unwrap(), hash);
    }
    let distinct: BTreeSet<_> = outcomes.iter().map(|(hash, _)| *hash).collect();
    assert_eq!(distinct.len(), count);
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_leaves_nothing_out_and_repeats_no_answer() {
    let (cut, first) = serve(|n, hash| if n < 7 { committed(hash) } else { None }).await;
    let (good, second) = serve(|_, hash| committed(hash)).await;
    let outcomes = submit_all(&client(vec![cut, good]), 64, 64).await;
    assert_all_done(&outcomes, 64);
    let (first, second) = (first.received(), second.received());
    // What the first node had answered is not sent again, the rest is, as the same bytes.
    let repeated = first.keys().filter(|hash| second.contains_key(*hash));
    assert_eq!(first.len() - repeated.count(), 7);
    for (hash, copies) in &second {
        let others = first.get(hash).into_iter().flatten();
        assert!(others.chain(copies).all(|bytes| bytes == &copies[0]));
    }
}

#[tokio::test]
async fn transactions_share_requests_within_the_window() {
    let (url, node) = serve(|_, hash| committed(hash)).await;
    let outcomes = submit_all(&client(vec![url]), 16, 200).await;
    assert_all_done(&outcomes, 200);
    let largest = node.largest.load(Ordering::SeqCst);
    assert!((2..=16).contains(&largest), "{largest} in one request");
    assert!(node.received().values().all(|copies| copies.len() == 1));
}

#[tokio::test]
async fn a_busy_node_gets_the_same_bytes_again() {
    let script: Script = |n, hash| match n {
        0..40 => problem(503, "busy"),
        _ => committed(hash),
    };
    let (url, node) = serve(script).await;
    let outcomes = submit_all(&client(vec![url]), 8, 32).await;
    assert_all_done(&outcomes, 32);
    let received = node.received();
    assert_eq!(received.len(), 32);
    assert!(received.values().any(|copies| copies.len() > 1));
}

#[tokio::test]
async fn the_refusal_of_one_node_is_not_believed() {
    let (liar, _) = serve(|_, _| problem(422, "transaction.expired")).await;
    let (good, _) = serve(|_, hash| committed(hash)).await;
    let outcomes = submit_all(&client(vec![liar.clone(), good]), 8, 4).await;
    assert_all_done(&outcomes, 4);
    // Two that refuse are.
    let (other, _) = serve(|_, _| problem(422, "transaction.expired")).await;
    let outcomes = submit_all(&client(vec![liar, other]), 8, 4).await;
    for (_, outcome) in outcomes {
        let error = outcome.unwrap_err();
        assert_eq!(error.problem().unwrap().code, "transaction.expired");
    }
}

#[tokio::test]
async fn a_refusal_that_no_other_node_confirms_leaves_the_transaction_open() {
    let (liar, _) = serve(|_, _| problem(422, "transaction.expired")).await;
    // The others are busy for a while only.
    let recovering: Script = |n, hash| match n {
        0..16 => problem(503, "busy"),
        _ => committed(hash),
    };
    let (first, _) = serve(recovering).await;
    let (second, _) = serve(recovering).await;
    let outcomes = submit_all(&client(vec![liar.clone(), first, second]), 8, 4).await;
    assert_all_done(&outcomes, 4);
    // And for ever: whoever submitted it gets its bytes, and knows who refused it and why.
    let (busy, _) = serve(|_, _| problem(503, "busy")).await;
    let urls = vec![liar.clone(), busy, "http://127.0.0.1:1".to_owned()];
    let client = client_within(Duration::from_secs(2), urls);
    let signed = transactions(4);
    for ((hash, outcome), signed) in submit_all(&client, 4, 4).await.into_iter().zip(signed) {
        let pending = pending(outcome);
        assert_eq!((pending.transaction, &pending.signed), (hash, &signed));
        assert_eq!(pending.refused_by, [liar.as_str()]);
        assert_eq!((pending.taken_by.len(), pending.sent_to.len()), (0, 0));
        let why = pending.last.as_deref().and_then(ClientError::problem);
        assert_eq!(why.unwrap().code, "transaction.expired");
        let words = pending.to_string();
        assert!(words.contains("refused by"), "{words}");
        assert!(words.contains("it may still happen"), "{words}");
    }
    // There is nobody else to ask.
    for (_, outcome) in submit_all(&self::client(vec![liar]), 4, 4).await {
        let error = outcome.unwrap_err();
        assert_eq!(error.problem().unwrap().code, "transaction.expired");
    }
}

#[tokio::test]
async fn a_receipt_of_another_transaction_is_not_taken() {
    let (wrong, _) = serve(|_, _| committed(Hash::of(b"another"))).await;
    let (good, _) = serve(|_, hash| committed(hash)).await;
    let outcomes = submit_all(&client(vec![wrong, good]), 8, 8).await;
    assert_all_done(&outcomes, 8);
}

/// The addresses of the nodes that are called last, for a while.
fn called_last(client: &Client) -> Vec<String> {
    let standings = client.standings().into_iter();
    let faulty = standings.filter(|standing| standing.faults > 0);
    faulty.map(|standing| standing.url).collect()
}

#[tokio::test]
async fn a_node_that_leaves_transactions_open_is_called_last() {
    let (cut_off, first) = serve(|_, hash| accepted(hash)).await;
    let (good, _) = serve(|_, hash| committed(hash)).await;
    let client = client(vec![cut_off.clone(), good.clone()]);
    assert_all_done(&submit_all(&client, 8, 8).await, 8);
    assert_eq!(called_last(&client), [cut_off]);
    let before = first.received();
    assert_all_done(&submit_all(&client, 8, 16).await, 16);
    assert_eq!(first.received(), before);
    // One that decides only a part has a fault too.
    let half: Script = |n, hash| match n % 2 {
        0 => committed(hash),
        _ => problem(503, "busy"),
    };
    let (half, _) = serve(half).await;
    let client = self::client(vec![half.clone(), good]);
    assert_all_done(&submit_all(&client, 8, 8).await, 8);
    assert_eq!(called_last(&client), [half]);
}

#[tokio::test]
async fn refused_transactions_are_sent_to_the_next_node_together() {
    let (liar, first) = serve(|_, _| problem(400, "transaction.invalid")).await;
    let (good, second) = serve(|_, hash| committed(hash)).await;
    let client = client(vec![liar.clone(), good]);
    assert_all_done(&submit_all(&client, 256, 600).await, 600);
    let singles = |node: &ScriptedNode| node.singles.load(Ordering::SeqCst);
    assert_eq!((singles(&first), singles(&second)), (0, 0));
    assert!(second.received().values().all(|copies| copies.len() == 1));
    assert!(second.largest.load(Ordering::SeqCst) > 1);
    // The refusal was not true.
    assert_eq!(called_last(&client), [liar]);
}

fn pending(outcome: Result<Hash, ClientError>) -> Box<Pending> {
    match outcome {
        Err(ClientError::Pending(pending)) => pending,
        outcome => panic!("{outcome:?}"),
    }
}

#[tokio::test]
async fn refusals_beside_a_silent_node_are_reported_within_the_deadline() {
    let (refusing, _) = serve(|_, _| problem(422, "transaction.expired")).await;
    let (silent, _) = serve_held(|_, hash| committed(hash), usize::MAX).await;
    let deadline = Duration::from_secs(2);
    let client = client_within(deadline, vec![refusing, silent.clone()]);
    let begun = Instant::now();
    for (_, outcome) in submit_all(&client, 8, 8).await {
        assert_eq!(pending(outcome).sent_to, [silent.as_str()]);
    }
    assert!(begun.elapsed() < 3 * deadline, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn pending_transactions_name_the_nodes_that_have_them_and_the_last_error() {
    let (taking, _) = serve(|_, hash| accepted(hash)).await;
    let (silent, _) = serve_held(|_, hash| committed(hash), usize::MAX).await;
    let (busy, _) = serve(|_, _| problem(503, "busy")).await;
    let unreachable = "http://127.0.0.1:1".to_owned();
    let urls = vec![
        taking.clone(),
        silent.clone(),
        busy.clone(),
        unreachable.clone(),
    ];
    let client = client_within(Duration::from_secs(3), urls);
    let signed = transactions(4);
    for ((hash, outcome), signed) in submit_all(&client, 4, 4).await.into_iter().zip(signed) {
        let pending = pending(outcome);
        assert_eq!((pending.transaction, &pending.signed), (hash, &signed));
        assert_eq!(pending.taken_by, [taking.as_str()]);
        assert_eq!(pending.sent_to, [silent.as_str()]);
        assert!(pending.last.is_some());
    }
    // Nobody has what no node took.
    let client = client_within(Duration::from_secs(1), vec![busy, unreachable]);
    for (_, outcome) in submit_all(&client, 4, 4).await {
        let error = outcome.unwrap_err();
        assert!(matches!(error, ClientError::Deadline { .. }), "{error:?}");
    }
}

#[test]
fn a_pipeline_that_ends_leaves_the_signed_bytes() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (nodes, sending, waiting) = (runtime(), runtime(), runtime());
    let (silent, _) = nodes.block_on(serve_held(|_, hash| committed(hash), usize::MAX));
    let client = client(vec![silent.clone()]);
    let [signed] = transactions(1).try_into().unwrap();
    let submitted = sending.block_on(async {
        let pipeline = Pipeline::start(&client, 4);
        pipeline.submit(signed.clone()).await.unwrap()
    });
    let hash = submitted.hash;
    // Its tasks end in the middle.
    sending.shutdown_background();
    let outcome = waiting.block_on(submitted.outcome());
    let pending = pending(outcome.map(|submitted| submitted.transaction));
    assert_eq!((pending.transaction, &pending.signed), (hash, &signed));
    assert_eq!(
        (pending.expires_ms, &pending.sent_to),
        (1_900_000_000_000, &vec![silent])
    );
}

/// The numbers of a key count up to 1,024 below its highest one.
#[tokio::test]
async fn a_delayed_transaction_is_not_left_behind_by_newer_ones() {
    let (url, node) = serve_held(|_, hash| committed(hash), 1).await;
    let client = client(vec![url]);
    let submitting = tokio::spawn(async move { submit_all(&client, 256, 2_400).await });
    let many = async {
        while node.received().len() < 2_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(3), many).await;
    assert!(in_time.is_err(), "the first request is not answered yet");
    let received = node.received().len();
    assert!((500..1_024).contains(&received), "{received}");
    node.permits.add_permits(1);
    assert_all_done(&submitting.await.unwrap(), 2_400);
}
