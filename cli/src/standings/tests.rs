use lamplighter_client::ClientConfig;
use tempfile::TempDir;

use super::*;

fn client(urls: &[&str]) -> Client {
    let urls = urls.iter().map(|url| format!("http://127.0.0.1:{url}"));
    Client::new(ClientConfig::new(urls.collect())).unwrap()
}

#[test]
fn the_next_command_calls_the_node_first_that_served_the_last_one() {
    let state = TempDir::new().unwrap();
    let first = client(&["1", "2", "3"]);
    keep(&first, state.path());
    assert!(
        !state.path().join(FILE).exists(),
        "there is nothing to keep"
    );
    first.prefer(2);
    keep(&first, state.path());
    let next = client(&["3", "1", "2"]);
    next.prefer(1);
    restore(&next, state.path());
    assert_eq!(next.first_node(), 0);
    // Those of another ledger stay.
    let other = client(&["7", "8"]);
    other.prefer(1);
    keep(&other, state.path());
    let known = read(&state.path().join(FILE));
    let urls: Vec<_> = known.iter().map(|node| &node.url[17..]).collect();
    assert_eq!(urls, ["7", "8", "1", "2", "3"]);
}

#[test]
fn the_file_is_bounded_and_a_damaged_one_is_replaced() {
    let state = TempDir::new().unwrap();
    let path = state.path().join(FILE);
    for begin in 0..20 {
        let urls: Vec<_> = (0..5).map(|n| format!("{}", 1 + begin * 5 + n)).collect();
        let urls: Vec<_> = urls.iter().map(String::as_str).collect();
        let client = client(&urls);
        client.prefer(1);
        keep(&client, state.path());
    }
    assert_eq!(read(&path).len(), NODES_MAX);
    for damaged in [&b"[{"[..], &[0xff; 9], &[b' '; 200_000]] {
        fs::write(&path, damaged).unwrap();
        let client = client(&["1", "2"]);
        restore(&client, state.path());
        assert_eq!(client.first_node(), 0);
        client.prefer(1);
        keep(&client, state.path());
        assert_eq!(read(&path).len(), 2);
    }
}
