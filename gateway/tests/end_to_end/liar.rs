//! A node that lies: a broker and an HTTP server that send invented messages.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use lamplighter_gateway::NodeAddress;
use lamplighter_types::wire::topics::{self, GatewayTopic};
use lamplighter_types::{Hash, Id, SignedTransaction, Transaction, codec};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The message on the receipt topic about a transaction.
type Message = fn(Hash) -> Value;

/// A receipt of a transaction that is in no block.
pub fn lie(hash: Hash) -> Value {
    json!({"transaction": hash, "height": 9, "index": 0, "certified": true, "receipt": {
        "transaction": hash, "outcome": "succeeded", "notifications": [],
    }})
}

/// The node, and what it was asked for.
pub struct Liar {
    pub address: NodeAddress,
    log: Arc<RequestLog>,
}

#[derive(Default)]
struct RequestLog {
    transactions: Mutex<Vec<(Instant, Transaction)>>,
    proofs: Mutex<Vec<Instant>>,
    submissions: Mutex<usize>,
}

impl Liar {
    /// Starts a node that answers each transaction with this message.
    pub async fn start(chain_id: Hash, message: Message) -> Self {
        let log = Arc::new(RequestLog::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mqtt = listener.local_addr().unwrap();
        let received = log.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(broker(stream, chain_id, message, received.clone()));
            }
        });
        let http = http(chain_id, log.clone()).await;
        let address = NodeAddress {
            http: format!("http://{http}"),
            mqtt: mqtt.to_string(),
            tls: false,
            key: None,
        };
        Self { address, log }
    }

    /// The transactions that it answered, with the time; one that is sent again is there again.
    pub fn transactions(&self) -> Vec<(Instant, Transaction)> {
        self.log.transactions.lock().unwrap().clone()
    }

    /// The number of transactions that it got over HTTP.
    pub fn submissions(&self) -> usize {
        *self.log.submissions.lock().unwrap()
    }

    /// When it was asked to prove a message.
    pub fn proofs(&self) -> Vec<Instant> {
        self.log.proofs.lock().unwrap().clone()
    }
}

fn gateway() -> Id {
    Id::new("gw").unwrap()
}

async fn http(chain_id: Hash, log: Arc<RequestLog>) -> SocketAddr {
    let challenge =
        async || json!({"challenge": Hash::ZERO, "node": 1, "expires_ms": 1}).to_string();
    let token = async || json!({"token": "t", "expires_ms": 1}).to_string();
    let key = async || json!({"account": "gw", "highest_sequence": 0}).to_string();
    let (proofs, submissions) = (log.clone(), log);
    let proof = async move || {
        proofs.proofs.lock().unwrap().push(Instant::now());
        (
            StatusCode::OK,
            json!({"version": 1, "set_changes": []}).to_string(),
        )
    };
    // A receipt of a transaction that it tells nobody of.
    let submit = async move |body: Bytes| {
        *submissions.submissions.lock().unwrap() += 1;
        let signed: Result<SignedTransaction, _> = codec::decode(&body);
        signed.map_or_else(
            |_| StatusCode::BAD_REQUEST.into_response(),
            |signed| lie(signed.hash(&chain_id)).to_string().into_response(),
        )
    };
    let router = Router::new()
        .route("/v1/transactions", post(submit))
        .route("/v1/auth/challenge", post(challenge))
        .route("/v1/auth/token", post(token))
        .route("/v1/keys/{key}", get(key))
        .route("/v1/proofs/transactions/{hash}", get(proof));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// A broker with the parts of MQTT 3.1.1 that a gateway needs. It ends with the connection.
async fn broker(
    mut stream: TcpStream,
    chain_id: Hash,
    message: Message,
    log: Arc<RequestLog>,
) -> Option<()> {
    loop {
        let first = stream.read_u8().await.ok()?;
        let mut length = 0usize;
        for shift in [0, 7, 14, 21] {
            let byte = stream.read_u8().await.ok()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        match first >> 4 {
            1 => stream.write_all(&[0x20, 2, 0, 0]).await.ok()?,
            8 => {
                stream
                    .write_all(&[0x90, 3, body[0], body[1], 1])
                    .await
                    .ok()?;
                // Nonsense on every topic.
                for topic in [GatewayTopic::Work.of(&gateway()).as_str(), topics::HEAD] {
                    for text in ["", "{}", "[[[[", "{\"version\":1}"] {
                        publish(&mut stream, topic, text).await?;
                    }
                }
            }
            3 => {
                let end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                stream
                    .write_all(&[0x40, 2, body[end], body[end + 1]])
                    .await
                    .ok()?;
                let Ok(signed) = serde_json::from_slice::<SignedTransaction>(&body[end + 2..])
                else {
                    continue;
                };
                let text = message(signed.hash(&chain_id)).to_string();
                let topic = GatewayTopic::Receipt.of(&gateway());
                publish(&mut stream, &topic, &text).await?;
                let transaction = signed.decode_payload().unwrap();
                let answered = (Instant::now(), transaction);
                log.transactions.lock().unwrap().push(answered);
            }
            12 => stream.write_all(&[0xd0, 0]).await.ok()?,
            _ => {}
        }
    }
}

async fn publish(stream: &mut TcpStream, topic: &str, text: &str) -> Option<()> {
    let mut length = 2 + topic.len() + text.len();
    let mut packet = vec![0x30];
    while length >= 0x80 {
        packet.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    packet.push(length as u8);
    packet.extend((topic.len() as u16).to_be_bytes());
    packet.extend(topic.as_bytes());
    packet.extend(text.as_bytes());
    stream.write_all(&packet).await.ok()
}
