//! The alerts and the dashboard of `packaging/prometheus` fit what a real node shows, and a real
//! Prometheus takes both.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use lamplighter_tests::repository;

use crate::machine::Machine;
use crate::package::done;

const PREFIX: &str = "lamplighter_";
/// Each of these files names metrics.
const FILES: [&str; 2] = ["alerts.yml", "grafana.json"];
/// What is not yet there is asked for again after this time.
const PAUSE: &str = "sleep 0.2";

fn file(name: &str) -> PathBuf {
    repository().join("packaging/prometheus").join(name)
}

/// The programs that `scripts/setup --test` unpacks.
fn program(name: &str) -> PathBuf {
    let cache = std::env::var_os("LAMPLIGHTER_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| {
        let home = PathBuf::from(std::env::var_os("HOME").expect("a home"));
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        base.unwrap_or_else(|| home.join(".cache"))
            .join("lamplighter")
    });
    cache.join("prometheus/usr/bin").join(name)
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c| !is_part(c));
    words.filter(|word| word.starts_with(PREFIX)).collect()
}

/// Compares with the node of a machine.
pub fn check(machine: &mut Machine) {
    let shown = machine.run("curl -sSf http://127.0.0.1:7402/metrics");
    let shown = names(&shown);
    assert!(shown.len() > 20, "{shown:?}");
    for name in FILES {
        let text = fs::read_to_string(file(name)).unwrap();
        let used = names(&text);
        let missing: Vec<_> = used.difference(&shown).collect();
        assert!(used.len() > 8 && missing.is_empty(), "{name}: {missing:?}");
    }
    scrape(machine);
}

/// Prometheus scrapes the node, and evaluates every rule.
fn scrape(machine: &mut Machine) {
    fs::copy(file("alerts.yml"), machine.home.join("alerts.yml")).unwrap();
    let config = "global: {scrape_interval: 1s, evaluation_interval: 1s}\n\
        rule_files: [alerts.yml]\n\
        scrape_configs:\n\
        - {job_name: lamplighter, static_configs: [{targets: ['127.0.0.1:7402']}]}\n";
    fs::write(machine.home.join("prometheus.yml"), config).unwrap();
    let prometheus = program("prometheus");
    machine.run(&format!(
        "{} --config.file=prometheus.yml --storage.tsdb.path=series \
         --web.listen-address=127.0.0.1:9090 > prometheus.log 2>&1 & echo $! > prometheus.pid",
        prometheus.display()
    ));
    let api = "http://127.0.0.1:9090/api/v1";
    let until = |question: &str, answer: &str| {
        format!(
            "for _ in $(seq 300); do curl -sS '{api}/{question}' > answer 2>&1; \
             ! grep -q '{answer}' answer || break; {PAUSE}; done; cat answer prometheus.log; \
             grep -q '{answer}' answer"
        )
    };
    machine.run(&until("query?query=lamplighter_height", "\"value\":"));
    machine.run(&until("query?query=up", "\"1\""));
    let rules = machine.run(&until("rules", "\"health\":\"ok\""));
    assert!(!rules.contains("\"health\":\"err\""), "{rules}");
    machine.run("kill $(cat prometheus.pid)");
}

#[test]
fn alerts_are_rules_of_prometheus() {
    let alerts = file("alerts.yml");
    done(
        Command::new(program("promtool"))
            .args(["check", "rules"])
            .arg(&alerts),
    );
    let cases = file("alerts.test.yml");
    done(
        Command::new(program("promtool"))
            .args(["test", "rules"])
            .arg(cases),
    );
    let dashboard = fs::read_to_string(file("grafana.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 5);
}
