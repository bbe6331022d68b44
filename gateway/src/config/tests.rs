use super::{ConfigError, GatewayConfig};

fn read(text: &str) -> Result<GatewayConfig, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.toml");
    let begin = r#"
account = "gw"
genesis = "genesis.json"
key = "gw.key"
data_dir = "data"
south_listen = "[::]:5683"
"#;
    let node = "[[nodes]]\nhttp = \"http://10.0.0.1:8080\"\nmqtt = \"10.0.0.1:8883\"\n";
    let (keys, tables) = text.split_once("---").unwrap_or((text, ""));
    std::fs::write(&path, [begin, keys, "\n", node, tables].concat()).unwrap();
    GatewayConfig::read(&path)
}

#[test]
fn the_size_of_the_first_block_is_that_of_all_transfers() {
    assert_eq!(read("").unwrap().south().session.szx, 6);
    let south = read("szx = 2").unwrap().south();
    assert_eq!((south.session.szx, south.coap.szx), (2, 2));
    assert!(matches!(read("szx = 7"), Err(ConfigError::BlockSize)));
}

#[test]
fn endpoint_names_have_one_device_each() {
    let config = read("---[endpoints]\n\"urn:imei:354658090100980\" = \"lamp-101\"\n").unwrap();
    assert_eq!(config.endpoints.len(), 1);
    let twice = "---[endpoints]\n\"A:1\" = \"lamp-1\"\n\"a:1\" = \"lamp-2\"\n";
    assert!(matches!(read(twice), Err(ConfigError::Endpoint(_))));
    let no_id = "---[endpoints]\n\"a\" = \"Lamp 1\"\n";
    assert!(matches!(read(no_id), Err(ConfigError::Malformed { .. })));
}
