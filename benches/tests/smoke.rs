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
