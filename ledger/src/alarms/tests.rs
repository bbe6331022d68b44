use std::sync::Arc;
use std::time::Duration;

use lamplighter_types::{Attestation, Hash, SecretKey};

use super::{Alarms, DIVERGENCE_AFTER, DiskFull, KEPT_MAX, NodeAlarm};
use crate::clock::SystemClock;

fn alarms() -> Alarms {
    Alarms::new(Arc::new(SystemClock))
}

fn kinds(alarms: &Alarms) -> Vec<NodeAlarm> {
    alarms
        .list()
        .into_iter()
        .map(|raised| raised.alarm)
        .collect()
}

fn divergence(key: u8, height: u64) -> NodeAlarm {
    let secret = SecretKey::from_seed([key; 32]);
    NodeAlarm::Divergence(Attestation::sign(height, Hash([height as u8; 32]), &secret))
}

#[tokio::test]
async fn an_alarm_of_a_block_ends_with_the_certificate_of_this_node() {
    let alarms = alarms();
    alarms.raise_until_certified(NodeAlarm::VoidBatch { log_index: 9 }, 6);
    alarms.on_certified(5);
    assert_eq!(kinds(&alarms), [NodeAlarm::VoidBatch { log_index: 9 }]);
    assert!(kinds(&alarms)[0].is_unready());
    alarms.raise_until_certified(NodeAlarm::VoidBatch { log_index: 10 }, 6);
    assert_eq!(kinds(&alarms), [NodeAlarm::VoidBatch { log_index: 10 }]);
    alarms.on_certified(6);
    assert_eq!(kinds(&alarms), []);
    let offset = NodeAlarm::ClockOffset {
        height: 3,
        offset_ms: 40_000,
    };
    alarms.raise(offset.clone());
    assert_eq!(kinds(&alarms), [offset]);
    alarms.clear_clock_offset();
    assert_eq!(kinds(&alarms), []);
}

/// A liar signs another header at each height: it is no alarm as long as this node's own are
/// certified.
#[tokio::test(start_paused = true)]
async fn a_difference_is_an_alarm_only_if_it_lasts() {
    let alarms = alarms();
    alarms.raise_until_certified(divergence(1, 7), 7);
    assert_eq!(kinds(&alarms), []);
    alarms.on_certified(7);
    tokio::time::advance(DIVERGENCE_AFTER).await;
    assert_eq!(kinds(&alarms), []);
    alarms.raise_until_certified(divergence(1, 8), 8);
    tokio::time::advance(DIVERGENCE_AFTER - Duration::from_millis(1)).await;
    alarms.raise_until_certified(divergence(1, 9), 9);
    assert_eq!(kinds(&alarms), []);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(kinds(&alarms), [divergence(1, 9)], "since the first");
    alarms.on_certified(9);
    assert_eq!(kinds(&alarms), []);
}

#[tokio::test]
async fn alarms_are_bounded() {
    let alarms = alarms();
    for n in 0..3 * KEPT_MAX {
        let digest = Hash::of(&n.to_le_bytes());
        alarms.raise(NodeAlarm::DamagedArtifact(digest));
        alarms.raise_until_certified(NodeAlarm::VoidBatch { log_index: 1 }, u64::MAX);
    }
    assert_eq!(alarms.list().len(), KEPT_MAX);
}

#[tokio::test]
async fn a_lasting_fault_keeps_its_time_and_ends() {
    let alarms = alarms();
    let differs = |offset_ms| NodeAlarm::ClockDiffers { offset_ms };
    alarms.set_lasting(vec![differs(40_000)]);
    let since = alarms.list()[0].time_ms;
    alarms.set_lasting(vec![differs(41_000)]);
    assert_eq!(alarms.list()[0].time_ms, since);
    assert_eq!(kinds(&alarms), [differs(41_000)]);
    alarms.set_lasting(Vec::new());
    assert_eq!(kinds(&alarms), []);
    let full = DiskFull {
        free_bytes: 1,
        reserve_bytes: 2,
    };
    alarms.set_disk_full(Some(full));
    assert_eq!(kinds(&alarms), [NodeAlarm::DiskFull(full)]);
}
