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

#[test]
fn plain_coap_is_restricted_only_beside_dtls() {
    let dtls = "\n---[dtls]\nlisten = \"[::]:5684\"\ncredentials = \"things.toml\"\n";
    for plain in ["everybody", "without_credentials", "never"] {
        let config = read(&format!("plain_coap = \"{plain}\"{dtls}")).unwrap();
        let dtls = config.dtls.unwrap();
        assert!(dtls.credentials.is_absolute(), "beside the configuration");
        let alone = read(&format!("plain_coap = \"{plain}\""));
        assert_eq!(alone.is_ok(), plain == "everybody");
    }
    assert_eq!(read("").unwrap().plain_coap, super::PlainCoap::Everybody);
}

#[test]
fn the_limits_of_a_mesh_are_those_of_its_transfers() {
    let south = read("").unwrap().south();
    assert!(south.session.q_block && south.session.battery_min_percent == 0);
    assert_eq!(south.pacing.transfers_max, 16);
    let mesh = "---[mesh]\nq_block = false\ntransfers_max = 2\nbattery_min_percent = 30\n";
    let parents = "[mesh.parents]\n\"lamp-2\" = \"lamp-1\"\n\"lamp-3\" = \"lamp-2\"\n";
    let south = read(&[mesh, parents].concat()).unwrap().south();
    assert!(!south.session.q_block);
    assert_eq!(south.session.battery_min_percent, 30);
    assert_eq!(south.pacing.transfers_max, 2);
    assert_eq!(south.pacing.parents["lamp-3"], "lamp-2");
    let circle = "\"lamp-1\" = \"lamp-3\"\n";
    let refused = read(&[mesh, parents, circle].concat());
    assert!(matches!(refused, Err(ConfigError::Circle(_))));
    let read = |text: &str| read(&format!("---[mesh]\n{text}\n"));
    assert!(matches!(
        read("transfers_max = 0"),
        Err(ConfigError::Zero(_))
    ));
    assert!(matches!(
        read("battery_min_percent = 101"),
        Err(ConfigError::Battery)
    ));
}

#[test]
fn oscore_has_the_keys_of_dtls() {
    let oscore = "\n---[oscore]\ncredentials = \"things.toml\"\n";
    let config = read(&format!("plain_coap = \"never\"{oscore}")).unwrap();
    let credentials = config.oscore.as_ref().unwrap().credentials.clone();
    assert!(credentials.is_absolute(), "beside the configuration");
    assert_eq!(config.credentials(), Some(&*credentials));
    let dtls =
        |file: &str| format!("{oscore}[dtls]\nlisten = \"[::]:5684\"\ncredentials = \"{file}\"\n");
    assert!(read(&dtls("things.toml")).is_ok());
    let refused = read(&dtls("others.toml"));
    assert!(matches!(refused, Err(ConfigError::Credentials)));
}

#[test]
fn casts_have_a_multicast_address_and_an_interface_of_its_kind() {
    let read = |text: &str| read(&format!("---[mesh.casts]\n{text}\n"));
    let config = read("address = \"239.255.77.80:5690\"").unwrap();
    let casts = config.mesh.casts.unwrap();
    assert_eq!((casts.rate_bytes_per_s, casts.gather_s), (4_000, 30));
    assert!(read("address = \"[ff12::4c50]:5690\"\ninterface = \"wpan0\"").is_ok());
    for wrong in [
        "address = \"10.0.0.1:5690\"",
        "address = \"[fe80::1]:5690\"\ninterface = \"wpan0\"",
        "address = \"239.255.77.80:0\"",
        "address = \"239.255.77.80:5690\"\ninterface = \"wpan0\"",
        "address = \"[ff12::4c50]:5690\"",
        "address = \"[ff12::4c50]:5690\"\ninterface = \"../x\"",
        "address = \"239.255.77.80:5690\"\nrate_bytes_per_s = 0",
        "address = \"239.255.77.80:5690\"\ngather_s = 3601",
    ] {
        assert!(matches!(read(wrong), Err(ConfigError::Cast(_))), "{wrong}");
    }
}

#[tokio::test]
async fn the_socket_of_casts_is_that_of_the_interface() {
    let open = |text: &str, listen: &str| {
        let config = read(&format!("---[mesh.casts]\n{text}\n")).unwrap();
        let casts = config.mesh.casts.unwrap();
        casts.open(listen.parse().unwrap())
    };
    let v4 = "address = \"239.255.77.80:5690\"";
    let opened = open(v4, "127.0.0.1:5683").unwrap();
    let local = opened.socket.0.local_addr().unwrap();
    assert_eq!(local.ip(), std::net::Ipv4Addr::LOCALHOST);
    assert!(open(v4, "[::1]:5683").is_err());
    let v6 = |name: &str| format!("address = \"[ff12::4c50]:5690\"\ninterface = \"{name}\"");
    assert!(open(&v6("no-such-name"), "[::]:5683").is_err());
    let index = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
    let opened = open(&v6("lo"), "[::]:5683").unwrap();
    let std::net::SocketAddr::V6(address) = opened.address else {
        panic!("{}", opened.address);
    };
    assert_eq!(address.scope_id(), index.trim().parse::<u32>().unwrap());
}
