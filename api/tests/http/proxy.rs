//! The feed behind nginx, configured as docs/operations.md has it: the events with nothing but the
//! address and certificate of the node, the WebSocket with two headers more.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::feed::Reader;
use crate::node::{Node, STEP_TIMEOUT};
use crate::websocket;

/// Longest delay of an event before operators see alarms too late.
const AT_ONCE: Duration = Duration::from_secs(10);

/// nginx as Debian has it.
struct Nginx {
    child: Child,
    address: SocketAddr,
    _dir: TempDir,
}

impl Nginx {
    async fn start(node: &Node) -> Self {
        let dir = TempDir::new().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let at = dir.path().display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|kind| format!("{kind}_temp_path {at}/{kind};"));
        let text = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\n\
             events {{}}\n\
             http {{ access_log off; {}\n\
             proxy_ssl_trusted_certificate {at}/node.pem; proxy_ssl_verify on;\n\
             proxy_ssl_name localhost; proxy_ssl_protocols TLSv1.3;\n\
             server {{ listen {address}; location / {{ proxy_pass https://{http}; }}\n\
             location /v1/feed/ws {{ proxy_pass https://{http}; proxy_http_version 1.1;\n\
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;\n\
             proxy_set_header Host $http_host; }} }} }}\n",
            temporary.join(" "),
            http = node.edges.http
        );
        std::fs::write(dir.path().join("node.pem"), &node.certificate).unwrap();
        let configuration = dir.path().join("nginx.conf");
        std::fs::write(&configuration, text).unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.nginx");
        let mut command = Command::new(program);
        command
            .arg("-c")
            .arg(configuration)
            .arg("-p")
            .arg(dir.path());
        let child = command.spawn();
        let started = Self {
            child: child.expect("nginx: scripts/setup --test brings it"),
            address,
            _dir: dir,
        };
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(STEP_TIMEOUT, listens).await.unwrap();
        started
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_at_once_through_nginx() {
    let node = Node::start().await;
    let nginx = Nginx::start(&node).await;
    let base = format!("http://{}", nginx.address);
    let query = "?kind=device_registered";
    let open = Reader::open_at(&base, &node, query, None);
    let opened = tokio::time::timeout(AT_ONCE, open).await;
    let mut reader = opened.expect("the stream begins at once");
    reader.cursor_alone().await;
    node.act(node.devices(&["a1"], "north")).await;
    let devices = tokio::time::timeout(AT_ONCE, reader.devices(1)).await;
    assert_eq!(devices.expect("the event comes at once").0, ["a1"]);
    drop(nginx);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_opens_through_nginx() {
    let node = Node::start().await;
    let nginx = Nginx::start(&node).await;
    let query = "?kind=device_registered";
    let request = websocket::browser(&nginx.address, query, Some(&node.token));
    let (mut socket, _) = websocket::connect_plain(&nginx.address, request).await;
    websocket::next_json(&mut socket).await;
    node.act(node.devices(&["a1"], "north")).await;
    let next = websocket::next_data(&mut socket);
    let event = tokio::time::timeout(AT_ONCE, next).await;
    let event = event.expect("the event comes at once");
    assert_eq!(event["data"]["notification"]["place"]["device"], "a1");
    // A page that nginx serves is of the same origin as the node behind it.
    let mut request = websocket::browser(&nginx.address, query, Some(&node.token));
    let origin = format!("http://{}", nginx.address).parse().unwrap();
    request.headers_mut().insert("origin", origin);
    websocket::connect_plain(&nginx.address, request).await;
    drop(nginx);
    node.stop().await;
}
