use super::*;

#[test]
fn index_and_protocol_name_lead_back_to_the_lane() {
    for (position, lane) in Lane::ALL.into_iter().enumerate() {
        assert_eq!(lane.index(), position);
        assert_eq!(Lane::from_protocol(lane.protocol()), Some(lane));
    }
    assert_eq!(Lane::from_protocol("/lamplighter/other/1"), None);
}

#[test]
fn one_longest_frame_always_fits_the_byte_limit() {
    for lane in Lane::ALL {
        let limits = lane.limits();
        assert!(limits.frame_bytes_max <= limits.bytes_max, "{lane}");
        assert!(u32::try_from(limits.bytes_max).is_ok(), "{lane}");
    }
}
