use super::out_of_place;

#[test]
fn a_page_has_the_blocks_from_the_wanted_one_on_and_leaves_none_out() {
    let found = |heights: &[u64]| out_of_place(heights.iter().copied(), 5);
    assert_eq!(found(&[]), None);
    assert_eq!(found(&[5, 6, 7]), None);
    assert_eq!(found(&[4, 5]), Some((5, 4)));
    assert_eq!(found(&[500]), Some((5, 500)));
    assert_eq!(found(&[5, 7]), Some((6, 7)));
    assert_eq!(found(&[5, 5]), Some((6, 5)));
    assert_eq!(found(&[u64::MAX]), Some((5, u64::MAX)));
}
