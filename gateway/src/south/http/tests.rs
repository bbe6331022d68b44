use super::{Range, parse_range};

#[test]
fn ranges_are_read() {
    let table = [
        ("bytes=0-", Range::Bytes(0, 100)),
        ("bytes=40-", Range::Bytes(40, 100)),
        ("bytes=40-49", Range::Bytes(40, 50)),
        ("bytes=90-1000", Range::Bytes(90, 100)),
        ("bytes=-10", Range::Bytes(90, 100)),
        ("bytes=-1000", Range::Bytes(0, 100)),
        ("bytes=99-18446744073709551615", Range::Bytes(99, 100)),
        ("bytes=100-", Range::Beyond),
        ("bytes=-0", Range::Beyond),
        ("bytes=5-4", Range::Ignored),
        ("bytes=1-2,5-6", Range::Ignored),
        ("bytes=a-b", Range::Ignored),
        ("bytes=-", Range::Ignored),
        ("lines=1-2", Range::Ignored),
        ("", Range::Ignored),
    ];
    for (text, range) in table {
        assert_eq!(parse_range(text, 100), range, "{text}");
    }
}
