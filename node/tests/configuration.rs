//! The documentation of the configuration has every key that a node reads, and its default.

use std::path::{Path, PathBuf};

use lamplighter_node::NodeConfig;

const DOCUMENT: &str = include_str!("../../docs/configuration.md");

/// A file with the keys that must be set.
const LEAST: &str = r#"
node = 1
genesis = "genesis.json"
key = "node-1.key"
data_dir = "data"
peer_listen = "127.0.0.1:0"
http_listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
mqtt_listen = "127.0.0.1:0"
"#;

fn write(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("node.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// The rows of the table, by key.
fn documented(key: &str) -> Option<&'static str> {
    let begins = format!("| `{key}` |");
    DOCUMENT.lines().find(|line| line.starts_with(&begins))
}

fn check(prefix: &str, table: &toml::Table) -> usize {
    let mut keys = 0;
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        if let toml::Value::Table(inner) = value {
            keys += check(&format!("{key}."), inner);
            continue;
        }
        let row = documented(&key).unwrap_or_else(|| panic!("{key} is not documented"));
        keys += 1;
        if let toml::Value::Integer(number) = value
            && ["http.", "quotas.", "mqtt."].contains(&prefix)
        {
            let default = format!("`{number}`");
            assert!(row.contains(&default), "{key}: the default is {default}");
        }
    }
    keys
}

#[test]
fn every_key_of_a_node_is_documented_with_its_default() {
    let dir = tempfile::TempDir::new().unwrap();
    let config = NodeConfig::read(&write(dir.path(), LEAST)).unwrap();
    let table = toml::Table::try_from(&config).unwrap();
    let keys = check("", &table);
    assert!(keys >= 30, "{keys}");
}

#[test]
fn settings_out_of_range_are_refused() {
    let dir = tempfile::TempDir::new().unwrap();
    for bad in [
        "[quotas]\nstreams = 0",
        "[quotas]\nunknown = 1",
        "[mqtt]\npacket_s = 0",
        "[http]\nwrite_timeout_s = 0",
        "[http]\ncors_origins = [\"*\"]",
    ] {
        let text = format!("{LEAST}{bad}\n");
        assert!(
            NodeConfig::read(&write(dir.path(), &text)).is_err(),
            "{bad}"
        );
    }
    let good = format!("{LEAST}[http]\ncors_origins = [\"https://cms.example.org\"]\n");
    let config = NodeConfig::read(&write(dir.path(), &good)).unwrap();
    assert_eq!(
        config.http.settings.cors_origins,
        ["https://cms.example.org"]
    );
}
