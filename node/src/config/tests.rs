use std::fs;

use tempfile::TempDir;

use super::*;

/// A configuration file with this address and this text behind the other keys.
fn read(http_listen: &str, rest: &str) -> Result<NodeConfig, ConfigError> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("node.toml");
    let text = format!(
        "node = 1\ngenesis = \"genesis.json\"\nkey = \"node.key\"\ndata_dir = \"data\"\n\
         peer_listen = \"127.0.0.1:1\"\nhttp_listen = \"{http_listen}\"\n\
         admin_listen = \"127.0.0.1:3\"\nmqtt_listen = \"127.0.0.1:4\"\n{rest}"
    );
    fs::write(&path, text).unwrap();
    NodeConfig::read(&path)
}

#[test]
fn http_is_encrypted_unless_it_is_switched_off_in_so_many_words() {
    let config = read("0.0.0.0:8080", "").unwrap();
    assert_eq!(config.url(), "https://0.0.0.0:8080");
    let off = "[http]\ntls = \"off\"\n";
    assert_eq!(
        read("127.0.0.1:2", off).unwrap().url(),
        "http://127.0.0.1:2"
    );
    let refused = read("10.0.0.1:8080", off).unwrap_err();
    assert!(matches!(refused, ConfigError::PlainHttp(_)), "{refused}");
    let allowed = format!("{off}plain_text_beyond_loopback = true\n");
    read("10.0.0.1:8080", &allowed).unwrap();
}

#[test]
fn certificate_files_are_found_beside_the_configuration() {
    let files = "[http]\ntls = { certificate = \"web.pem\", key = \"/web.key\" }\n";
    let config = read("0.0.0.0:8080", files).unwrap();
    let HttpTls::Files(CertificateFiles { certificate, key }) = config.http.tls else {
        panic!("files");
    };
    assert!(certificate.is_absolute() && certificate.ends_with("web.pem"));
    assert_eq!(key, PathBuf::from("/web.key"));
}

#[test]
fn a_wrong_word_is_explained() {
    let source = match read("127.0.0.1:2", "[http]\ntls = \"on\"\n").unwrap_err() {
        ConfigError::Malformed { source, .. } => source.to_string(),
        other => panic!("{other}"),
    };
    assert!(source.contains("\"ledger\", \"off\""), "{source}");
    for seconds in [0, 301] {
        let limit = read("127.0.0.1:2", &format!("[http]\nhandshake_s = {seconds}\n"));
        assert!(matches!(limit, Err(ConfigError::Handshake)));
    }
}
