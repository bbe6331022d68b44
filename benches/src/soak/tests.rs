use super::assessment::{TrendLine, assess};
use super::predict::Prediction;
use super::watch::{NodeSample, Sample};
use crate::cluster::BoundedMemory;
use crate::procfs::{DiskUse, OpenFiles};

const MIB: u64 = 1 << 20;

/// Samples of an hour of 100 transactions a second, with the figures of `node`.
fn hour(node: impl Fn(u64) -> NodeSample) -> Vec<Sample> {
    (0..360)
        .map(|n| Sample {
            seconds: (n * 10) as f64,
            committed: n * 1_000,
            height: n * 100,
            nodes: vec![node(n)],
        })
        .collect()
}

fn node(n: u64) -> NodeSample {
    NodeSample {
        // Memory varies a little, like that of allocators.
        memory_bytes: 100 * MIB + n % 7 * MIB + n % 20 * MIB,
        bounded: BoundedMemory {
            memtable_bytes: n % 20 * MIB,
            cache_bytes: 20 * MIB,
        },
        threads: 20 + n % 3,
        files: OpenFiles {
            tables: n / 4,
            others: 50,
        },
        disk: DiskUse {
            tables_bytes: n * MIB,
            logs_bytes: n % 10 * MIB,
            kept_bytes: 0,
        },
    }
}

/// A prediction with half for transactions, half for their blocks of ten.
fn predicted(each: f64) -> Prediction {
    Prediction {
        transaction_bytes: each / 2.0,
        block_bytes: each * 5.0,
        ..Prediction::default()
    }
}

#[test]
fn a_fitted_line_passes_through_its_points() {
    let line = TrendLine::fit(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]).unwrap();
    assert_eq!((line.begin, line.end, line.per_unit), (1.0, 5.0, 2.0));
    assert_eq!(TrendLine::fit(&[(1.0, 1.0)]), None);
    assert_eq!(TrendLine::fit(&[(1.0, 1.0), (1.0, 2.0)]), None);
}

#[test]
fn a_flat_hour_is_good_and_a_leak_is_not() {
    let each = MIB as f64 / 1_000.0;
    assert!(assess(&hour(node), 720.0, &predicted(each)).good);
    let leak = |n| NodeSample {
        memory_bytes: node(n).memory_bytes + n * MIB / 10,
        ..node(n)
    };
    let verdict = assess(&hour(leak), 720.0, &predicted(each));
    assert_eq!(verdict.nodes[0].memory_flat, Some(false));
    assert!(!verdict.good);
    // Memtables may fill, up to their bound.
    for (most, good) in [(32, true), (60, false)] {
        let memtables = |n: u64| (n / 6).min(most) * MIB;
        let fills = |n| NodeSample {
            memory_bytes: 100 * MIB + memtables(n),
            bounded: BoundedMemory {
                memtable_bytes: memtables(n),
                cache_bytes: 20 * MIB,
            },
            ..node(n)
        };
        assert_eq!(assess(&hour(fills), 720.0, &predicted(each)).good, good);
    }
    let files = |n| NodeSample {
        files: OpenFiles {
            tables: 0,
            others: 50 + n / 10,
        },
        ..node(n)
    };
    assert!(!assess(&hour(files), 720.0, &predicted(each)).good);
}

#[test]
fn a_disk_that_grows_differently_from_the_prediction_is_detected() {
    let each = MIB as f64 / 1_000.0;
    for (factor, good) in [(0.94, false), (0.96, true), (1.04, true), (1.07, false)] {
        let verdict = assess(&hour(node), 720.0, &predicted(each * factor));
        assert_eq!(verdict.good, good, "{factor}");
    }
}

#[test]
fn a_short_run_is_not_assessed() {
    let leak = |n| NodeSample {
        memory_bytes: 100 * MIB + n * MIB,
        ..node(n)
    };
    let short: Vec<_> = hour(leak).into_iter().take(30).collect();
    let verdict = assess(&short, 60.0, &predicted(1.0));
    assert_eq!(verdict.nodes[0].memory_flat, None);
    assert_eq!(verdict.nodes[0].tables_as_predicted, None);
    assert!(verdict.good);
}
