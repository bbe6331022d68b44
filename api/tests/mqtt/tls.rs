//! TLS 1.3 with the account's own key.

use std::sync::Arc;

use lamplighter_api::mqtt::{Edge, Listen, MqttConfig};
use lamplighter_types::{Action, UsersAction};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::raw::*;
use super::support::*;

/// Pins the node's key, as gateways do.
pub fn client_config(account: Option<&str>) -> ClientConfig {
    let identity = account.map(identity);
    let node = public_key("node");
    lamplighter_tls::client(identity.as_ref(), [node].into()).unwrap()
}

pub async fn dial(world: &World, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(world.tls).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

fn bare(id: &str) -> ConnectPacket<'_> {
    ConnectPacket {
        user: "",
        password: String::new(),
        ..ConnectPacket::new(true, id)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_the_certificate_is_the_account() {
    let world = world().await;
    let stream = dial(&world, client_config(Some("gw-1"))).await.unwrap();
    let mut raw = Raw::over(stream, true);
    raw.send(&bare("gw-1").bytes()).await;
    assert_eq!(raw.expect(CONNACK).await.body[1], 0);
    assert_eq!(
        raw.publish_acked("lamplighter/1/gw/gw-1/tx", 1, &world.tx("gw-1"))
            .await,
        0
    );
    assert_eq!(
        raw.publish_acked("lamplighter/1/gw/gw-2/tx", 2, b"tx")
            .await,
        0x87
    );
    // The key is revoked: the connection ends, and TLS does not begin again.
    let mut other = Raw::connect(world.plain, ConnectPacket::new(true, "gw-2")).await;
    let (account, key) = (id("gw-1"), public_key("gw-1"));
    let revoke = UsersAction::RevokeKey { account, key };
    world.act(Action::Users(revoke)).await;
    assert_eq!(raw.expect_closed().await, Some(0x87));
    assert_eq!(world.count("revoked"), 1);
    other.ping().await;
    let refused = dial(&world, client_config(Some("gw-1"))).await;
    if let Ok(stream) = refused {
        // In TLS 1.3 the client learns of a refused certificate with its first read.
        let mut raw = Raw::over(stream, true);
        raw.send(&bare("gw-1").bytes()).await;
        assert_eq!(raw.next().await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_no_other_account_and_no_stranger() {
    let world = world().await;
    for connect in [
        bare("gw-2"),
        ConnectPacket {
            id: "gw-1",
            ..ConnectPacket::new(true, "gw-2")
        },
    ] {
        let mut raw = Raw::over(
            dial(&world, client_config(Some("gw-1"))).await.unwrap(),
            true,
        );
        raw.send(&connect.bytes()).await;
        assert!([0x85, 0x86].contains(&raw.expect(CONNACK).await.body[1]));
    }
    if let Ok(stream) = dial(&world, client_config(Some("stranger"))).await {
        let mut raw = Raw::over(stream, true);
        raw.send(&bare("gw-1").bytes()).await;
        assert_eq!(raw.next().await, None);
    }
    assert!(world.count("refused_connect") >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_enough_inside_tls() {
    let world = world().await;
    let mut raw = Raw::over(dial(&world, client_config(None)).await.unwrap(), false);
    raw.send(&ConnectPacket::new(false, "gw-2").bytes()).await;
    assert_eq!(raw.expect(CONNACK).await.body, [0, 0]);
    let mut raw = Raw::over(dial(&world, client_config(None)).await.unwrap(), true);
    raw.send(
        &ConnectPacket {
            password: "x".to_owned(),
            ..ConnectPacket::new(true, "gw-2")
        }
        .bytes(),
    )
    .await;
    assert_eq!(raw.expect(CONNACK).await.body[1], 0x86);
}

/// A gateway with a certificate has no use for tokens: one that comes in its name was stolen.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_a_certificate_is_not_let_in_by_a_token() {
    let world = world().await;
    let stream = dial(&world, client_config(Some("gw-1"))).await.unwrap();
    let mut owner = Raw::over(stream, true);
    owner.send(&bare("gw-1").bytes()).await;
    assert_eq!(owner.expect(CONNACK).await.body[1], 0);
    for (v5, code) in [(false, 5), (true, 0x87)] {
        let mut thief = Raw::over(dial(&world, client_config(None)).await.unwrap(), v5);
        thief.send(&ConnectPacket::new(v5, "gw-1").bytes()).await;
        assert_eq!(thief.expect(CONNACK).await.body[1], code);
        let (_, plain, _) = Raw::try_connect(world.plain, ConnectPacket::new(v5, "gw-1")).await;
        assert_eq!(plain, code);
    }
    owner.ping().await;
    // A gateway without a certificate, and people, who have several programs.
    Raw::connect(world.plain, ConnectPacket::new(true, "gw-2")).await;
    let ann = dial(&world, client_config(Some("ann"))).await.unwrap();
    let mut ann = Raw::over(ann, true);
    ann.send(&bare("ann").bytes()).await;
    assert_eq!(ann.expect(CONNACK).await.body[1], 0);
    Raw::connect(world.plain, ConnectPacket::new(true, "ann")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_a_certificate_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("certified-gateways");
    let mut world = world_with(|config| config.certified_gateways = Some(file.clone())).await;
    let mut owner = Raw::over(
        dial(&world, client_config(Some("gw-1"))).await.unwrap(),
        true,
    );
    owner.send(&bare("gw-1").bytes()).await;
    assert_eq!(owner.expect(CONNACK).await.body[1], 0);
    world.stop_edge().await;
    let config = MqttConfig {
        listen: vec![Listen {
            address: ([127, 0, 0, 1], 0).into(),
            tls: false,
        }],
        certified_gateways: Some(file),
        ..MqttConfig::default()
    };
    // Tokens that are good, as those are that were given after the restart.
    let edge = Edge::start(config, world.handle.clone(), tokens()).unwrap();
    for (gateway, code) in [("gw-1", 0x87), ("gw-2", 0)] {
        let packet = ConnectPacket::new(true, gateway);
        let (_, answer, _) = Raw::try_connect(edge.addresses()[0], packet).await;
        assert_eq!(answer, code, "{gateway}");
    }
    edge.stop().await;
}

/// Whatever was stolen before a restart is worth nothing after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_ends_all_tokens() {
    let world = world().await;
    let listen = vec![Listen {
        address: ([127, 0, 0, 1], 0).into(),
        tls: false,
    }];
    let config = MqttConfig {
        listen,
        ..MqttConfig::default()
    };
    let edge = Edge::start(config, world.handle.clone(), tokens_after_restart()).unwrap();
    for (v5, code) in [(false, 4), (true, 0x86)] {
        let packet = || ConnectPacket::new(v5, "gw-2");
        let (_, refused, _) = Raw::try_connect(edge.addresses()[0], packet()).await;
        assert_eq!(refused, code);
        Raw::connect(world.plain, packet()).await;
    }
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_tls_and_plain_bytes_on_the_tls_port_are_refused() {
    let world = world().await;
    let mut raw = Raw::open(world.tls, true).await;
    raw.send(&ConnectPacket::new(true, "gw-1").bytes()).await;
    // What comes back is a TLS alert at most, and the end.
    raw.next().await;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let refused = dial(&world, config).await.unwrap_err().to_string();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
    world
        .until_count("refused_connect", |count| count == 2)
        .await;
}
