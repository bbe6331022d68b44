use lamplighter_types::SecretKey;
use tokio::io::{DuplexStream, duplex};
use tokio_rustls::TlsConnector;

use super::*;

const WRITE_TIME: Duration = Duration::from_secs(1);
/// Bytes that are under way at once: the buffers of a system.
const UNDER_WAY: usize = 4 * 1024;

/// Both ends of a TLS connection.
async fn connection() -> (
    TlsStream<WriteDeadline<DuplexStream>>,
    tokio_rustls::client::TlsStream<DuplexStream>,
) {
    let secret = SecretKey::from_seed([1; 32]);
    let identity = Identity::new(&secret, "node.invalid").unwrap();
    let certificates = Arc::new(WebCertificates::new(&identity).unwrap());
    let acceptor = TlsAcceptor::from(Arc::new(web_server(certificates).unwrap()));
    let client = lamplighter_tls::client(None, [secret.public()].into()).unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let (near, far) = duplex(UNDER_WAY);
    let (server, client) = tokio::join!(
        handshake(&acceptor, near, WRITE_TIME),
        connector.connect("node.invalid".try_into().unwrap(), far)
    );
    (server.unwrap(), client.unwrap())
}

/// TLS takes a small answer whole, and only the flush finds that nobody reads it.
#[tokio::test]
async fn a_client_that_leaves_a_small_answer_unread_is_cut() {
    let (mut server, mut client) = connection().await;
    let answer = [7; 4 * UNDER_WAY];
    let sent = async {
        server.write_all(&answer).await?;
        server.flush().await
    };
    let sent = tokio::time::timeout(10 * WRITE_TIME, sent).await;
    let error = sent.expect("it waits no longer than the write time");
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
    drop(server);
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap_err();
    assert!(received.len() < answer.len());
}

#[tokio::test]
async fn a_client_that_reads_gets_a_small_answer_whole() {
    let (mut server, mut client) = connection().await;
    let answer = [7; 4 * UNDER_WAY];
    let sent = async {
        server.write_all(&answer).await.unwrap();
        server.flush().await.unwrap();
        server.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (read, ()) = tokio::join!(client.read_to_end(&mut received), sent);
    read.unwrap();
    assert_eq!(received, answer);
}
