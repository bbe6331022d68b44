//! Tests of the CoAP endpoint: codec, rules of exchange, faulty networks, libcoap.

mod codec;
mod echo;
mod interop;
mod network;
mod protocol;
mod qblock;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::*;

/// A service that stores bodies by PUT and returns them by GET; POST to `/slow` takes a while. It
/// counts the requests.
#[derive(Default)]
struct MemoryService {
    bodies: Mutex<HashMap<String, Vec<u8>>>,
    handled: AtomicUsize,
}

impl MemoryService {
    fn get(&self, path: &str) -> Option<Vec<u8>> {
        self.bodies.lock().unwrap().get(path).cloned()
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        self.bodies
            .lock()
            .unwrap()
            .insert(path.to_owned(), bytes.to_vec());
    }

    fn handled(&self) -> usize {
        self.handled.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl CoapService for MemoryService {
    async fn handle(&self, _peer: Peer, request: Request) -> Response {
        self.handled.fetch_add(1, Ordering::Relaxed);
        let path = request.path_text();
        match request.method {
            Code::GET if path == "/.well-known/core" => {
                Response::content(format::LINK_FORMAT, b"</5/0>;ver=1.1,</ev>".to_vec())
            }
            Code::GET => match self.get(&path) {
                Some(bytes) => Response::content(format::OCTETS, bytes),
                None => Response::error(Code::NOT_FOUND, "nothing there"),
            },
            Code::PUT => {
                self.put(&path, &request.payload);
                Response::new(Code::CHANGED)
            }
            Code::POST if path == "/slow" => {
                tokio::time::sleep(Duration::from_secs(5)).await;
                Response::content(format::TEXT, b"done".to_vec())
            }
            _ => Response::new(Code::METHOD_NOT_ALLOWED),
        }
    }
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn peer(port: u16) -> Peer {
    addr(port).into()
}

/// Bytes without a pattern that a lost block could hide in.
fn body(bytes: usize) -> Vec<u8> {
    let mut body = vec![0; bytes];
    blake3::Hasher::new()
        .update(b"body")
        .finalize_xof()
        .fill(&mut body);
    body
}

fn memory_service() -> Arc<MemoryService> {
    Arc::new(MemoryService::default())
}
