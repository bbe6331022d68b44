use std::sync::Arc;

use lamplighter_store::MemoryKv;

#[test]
fn openraft_is_content_with_our_log() {
    super::run(|_| Arc::new(MemoryKv::new()));
}
