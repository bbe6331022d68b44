//! The program measures a small ledger and writes its report. The figures are not judged here.

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
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
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
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 1, "only the report is left");
}
