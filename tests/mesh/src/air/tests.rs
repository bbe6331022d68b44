use super::{Air, AirError};

/// As iproute2 6.1 prints it.
const PRINTED: &str = r#"[{"kind":"netem","handle":"8001:","root":true,"refcnt":2,"options":
    {"limit":1000,"delay":{"delay":0.03,"jitter":0,"correlation":0},"loss-random":{"loss":0.05,
    "correlation":0},"ecn":false,"gap":0},"bytes":2646,"packets":28,"drops":2,"overlimits":0,
    "requeues":0,"backlog":0,"qlen":0},{"kind":"clsact","handle":"ffff:","parent":"ffff:fff1",
    "options":{},"bytes":2844,"packets":30,"drops":0,"overlimits":0,"requeues":0,"backlog":0,
    "qlen":0}]"#;

/// Lost frames count as sent, and the check sequences are added.
#[test]
fn counters_are_those_before_the_loss() {
    let air = Air::parse("wpan0", PRINTED.as_bytes()).unwrap();
    let counted = Air {
        frames: 30,
        bytes: 2844 + 2 * 30,
        lost_frames: 2,
    };
    assert_eq!(air, counted);
    assert!(
        (air.seconds() - 0.098_688).abs() < 1e-9,
        "{}",
        air.seconds()
    );
}

#[test]
fn a_radio_without_loss_or_counters_is_refused() {
    let bare = br#"[{"kind":"noqueue","bytes":0,"packets":0,"drops":0}]"#;
    let refused = Air::parse("wpan0", bare);
    assert!(matches!(
        refused,
        Err(AirError::Missing { kind: "clsact", .. })
    ));
    assert!(matches!(
        Air::parse("wpan0", b""),
        Err(AirError::Malformed(..))
    ));
}
