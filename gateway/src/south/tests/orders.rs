use tokio::time::Instant;

use super::super::SouthCommand;
use super::super::orders::{Order, OrderQueue};

#[test]
fn a_document_takes_the_place_of_the_one_that_waits() {
    let mut queue = OrderQueue::default();
    let order = |text: &str| Order {
        command: SouthCommand::Configure {
            endpoint: "lamp-1".to_owned(),
            document: text.as_bytes().to_vec(),
        },
        proof: None,
        expires: Instant::now(),
    };
    for text in ["{}", "{}", r#"{"dim":1}"#, r#"{"dim":2}"#] {
        assert!(queue.push(order(text)));
    }
    let next = queue.pop().unwrap();
    assert_eq!(next.command, order(r#"{"dim":2}"#).command);
    assert!(queue.is_empty(), "older ones are not in force any more");
}
