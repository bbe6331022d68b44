use super::{Phase, confirmed};

#[test]
fn a_node_compares_until_its_peers_have_reported() {
    assert_eq!(confirmed(Phase::Following, false).name(), "comparing");
    assert_eq!(confirmed(Phase::Following, true), Phase::Following);
    assert_eq!(confirmed(Phase::Connecting, false).name(), "connecting");
    let behind = Phase::CatchingUp { blocks_behind: 9 };
    assert_eq!(confirmed(behind, false), behind);
}
