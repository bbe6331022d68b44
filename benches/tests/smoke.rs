//! A short run of the program on a small ledger. The figures are not assessed here.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_short_run_reports_every_phase() {
    let dir = tempfile::TempDir::new().unwrap();
    let report = dir.path().join("report.json");
    let program = env!("CARGO_BIN_EXE_lamplighter-benches");
    let output = Command::new(program)
        .args(["--program", program])
        .args([
            "--seconds",
            "1",
            "--validators",
            "1,4",
            "--clients",
            "1,8",
            "--batch-clients",
            "2",
            "--pipelined-clients",
            "2",
        ])
        .arg("--dir")
        .arg(dir.path())
        .arg("--report")
        .arg(&report)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let clusters = report["clusters"].as_array().unwrap();
    assert_eq!(clusters.len(), 2);
    for row in clusters
        .iter()
        .flat_map(|cluster| cluster["rows"].as_array().unwrap())
    {
        assert!(row["committed"].as_u64().unwrap() > 0, "{row}");
        assert_eq!(row["failed"], 0, "{row}");
        assert!(row["nodes_cpu_us"].as_f64().unwrap() > 0.0, "{row}");
    }
    let remaining = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(remaining, 1, "only the report is left");
}

#[test]
fn a_short_soak_samples_and_predicts() {
    let dir = tempfile::TempDir::new().unwrap();
    let report = dir.path().join("report.json");
    let program = env!("CARGO_BIN_EXE_lamplighter-benches");
    let output = Command::new(program)
        .args(["soak", "--program", program, "--validators", "1"])
        .args(["--minutes", "0.1", "--rate", "100", "--sample-seconds", "1"])
        .arg("--dir")
        .arg(dir.path())
        .arg("--report")
        .arg(&report)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert!(report["committed"].as_u64().unwrap() > 500, "{report}");
    assert_eq!(report["failed"], 0);
    let predicted = report["prediction"]["transaction_bytes"].as_f64().unwrap();
    let rows = report["prediction"]["rows"]["all_bytes"].as_f64().unwrap();
    assert!(
        100.0 < predicted && predicted < rows,
        "{predicted} of {rows}"
    );
    assert!(report["samples"].as_array().unwrap().len() >= 4, "{report}");
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "only the report is left"
    );
}

/// Needs the packages that `scripts/setup --bench` unpacks.
#[test]
fn a_short_run_beside_peers_compares_all() {
    let dir = tempfile::TempDir::new().unwrap();
    let report = dir.path().join("report.json");
    let program = env!("CARGO_BIN_EXE_lamplighter-benches");
    let output = Command::new(program)
        .args(["peers", "--program", program, "--seconds", "1"])
        .args(["--validators", "1", "--members", "1,3", "--clients", "20"])
        .args(["--connections", "50"])
        .arg("--dir")
        .arg(dir.path())
        .arg("--report")
        .arg(&report)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let lists = [("writes", 5), ("fan_in", 4), ("fan_out", 2)];
    for (list, count) in lists {
        assert_eq!(report[list].as_array().unwrap().len(), count, "{list}");
    }
    for row in report["writes"].as_array().unwrap() {
        assert!(row["figures"]["done"].as_u64().unwrap() > 0, "{row}");
        assert!(
            row["figures"]["memory_bytes"].as_u64().unwrap() > 1 << 20,
            "{row}"
        );
    }
    for row in report["fan_in"].as_array().unwrap() {
        assert!(row["acknowledged"]["done"].as_u64().unwrap() > 0, "{row}");
    }
    for row in report["fan_out"].as_array().unwrap() {
        let (first, last) = (row["first_ms"].as_f64(), row["last_ms"].as_f64());
        assert!(0.0 < first.unwrap() && first <= last, "{row}");
    }
    let remaining = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(remaining, 1, "only the report is left");
}

#[test]
fn a_small_fleet_is_measured_whole() {
    let dir = tempfile::TempDir::new().unwrap();
    let report = dir.path().join("report.json");
    let program = env!("CARGO_BIN_EXE_lamplighter-benches");
    let output = Command::new(program)
        .args(["fleet", "--program", program, "--devices", "2000"])
        .args(["--rate", "50", "--seconds", "1", "--read-seconds", "0.1"])
        .arg("--dir")
        .arg(dir.path())
        .arg("--report")
        .arg(&report)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let reads = report["reads"].as_array().unwrap();
    assert!(reads.len() > 60, "{}", reads.len());
    let p99 = |row: &Value| row["p99_ms"].as_f64().unwrap();
    assert!(
        reads.is_sorted_by(|a, b| p99(a) >= p99(b)),
        "the slowest come first"
    );
    assert!(
        reads
            .iter()
            .all(|row| row["requests"].as_u64().unwrap() >= 20)
    );
    assert_eq!(report["good_client"].as_array().unwrap().len(), 3);
    assert!(
        report["load_per_second"].as_f64().unwrap() > 10.0,
        "{report}"
    );
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "only the report is left"
    );
}

#[test]
fn without_the_packages_the_command_that_brings_them_is_named() {
    let dir = tempfile::TempDir::new().unwrap();
    let program = env!("CARGO_BIN_EXE_lamplighter-benches");
    let output = Command::new(program)
        .args(["peers", "--packages"])
        .arg(dir.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(stderr.contains("scripts/setup --bench"), "{stderr}");
    assert!(stderr.contains("apt-get install etcd-server"), "{stderr}");
}
