use std::sync::Arc;

use lamplighter_store::MemoryKv;

#[test]
fn the_suite_of_openraft_passes() {
    super::run(|_| Arc::new(MemoryKv::new()));
}
