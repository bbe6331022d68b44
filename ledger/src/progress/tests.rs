use super::{Phase, believed};

#[test]
fn a_node_that_knows_its_leader_is_connecting_no_longer() {
    assert_eq!(believed(Phase::Following, false).name(), "comparing");
    assert_eq!(believed(Phase::Following, true), Phase::Following);
    assert_eq!(believed(Phase::Connecting, false).name(), "connecting");
    let behind = Phase::CatchingUp { blocks_behind: 9 };
    assert_eq!(believed(behind, false), behind);
}
