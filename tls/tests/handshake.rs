//! Handshakes in memory: accepted keys, and hostile certificates that are only refused.
#![allow(clippy::unwrap_used)] // A test fails where something is not as it should be.

use std::sync::Arc;

use lamplighter_tls::{
    Identity, WebCertificates, client, key_of, pinned_client, server, web_server,
};
use lamplighter_types::SecretKey;
use proptest::prelude::*;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, ServerConnection};

fn secret(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

fn identity(number: u8) -> Identity {
    Identity::new(&secret(number), "node.invalid").unwrap()
}

const NODE: u8 = 1;
const GATEWAY: u8 = 2;
const STRANGER: u8 = 3;
/// The most rounds in which both sides send all their messages.
const ROUNDS_MAX: usize = 10;

/// A handshake of a client that pins a key: the result of either side.
fn shake(by: Option<&Identity>, pinned: u8) -> Result<(), rustls::Error> {
    let client = client(by, [secret(pinned).public()].into()).unwrap();
    let shown = shake_as(client)?;
    let has = by.map(|identity| identity.certificate.clone());
    assert_eq!(shown, has, "the node knows who it is");
    Ok(())
}

/// A handshake with the node, to which the gateway is registered; returns what it was shown.
fn shake_as(client: ClientConfig) -> Result<Option<CertificateDer<'static>>, rustls::Error> {
    let registered = secret(GATEWAY).public();
    let node = server(&identity(NODE), move |key| *key == registered).unwrap();
    let name = "anything.invalid".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut node = ServerConnection::new(Arc::new(node))?;
    for _ in 0..ROUNDS_MAX {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        node.read_tls(&mut &wire[..]).unwrap();
        node.process_new_packets()?;
        let mut wire = Vec::new();
        node.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets()?;
        if !client.wants_write() && !node.wants_write() {
            break;
        }
    }
    assert!(!client.is_handshaking() && !node.is_handshaking());
    let shown = node.peer_certificates();
    Ok(shown.map(|chain| chain[0].clone().into_owned()))
}

#[test]
fn keys_decide_who_gets_through() {
    assert_eq!(shake(Some(&identity(GATEWAY)), NODE), Ok(()));
    // Who shows nothing brings a token later.
    assert_eq!(shake(None, NODE), Ok(()));
    assert!(
        shake(Some(&identity(STRANGER)), NODE).is_err(),
        "a stranger"
    );
    assert!(
        shake(Some(&identity(GATEWAY)), STRANGER).is_err(),
        "a node that is not the one"
    );
}

/// rustls does not let an honest client send it.
#[test]
fn a_certificate_without_its_key_is_worth_nothing() {
    for (signer, good) in [(GATEWAY, true), (STRANGER, false)] {
        let key = ring::default_provider().key_provider;
        let key = key.load_private_key(identity(signer).key).unwrap();
        let shown = CertifiedKey::new(vec![identity(GATEWAY).certificate], key);
        let mut config = client(None, [secret(NODE).public()].into()).unwrap();
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(shown));
        assert_eq!(shake_as(config).is_ok(), good, "signed by {signer}");
    }
}

#[test]
fn only_certificates_of_ed25519_keys_have_one() {
    let certificate = identity(GATEWAY).certificate;
    assert_eq!(key_of(&certificate), Some(secret(GATEWAY).public()));
    let longer = [&certificate[..], &[0]].concat();
    assert_eq!(key_of(&CertificateDer::from(longer)), None);
    let other = rcgen::KeyPair::generate().unwrap();
    let of_p256 = rcgen::CertificateParams::new(vec!["node.invalid".to_owned()]);
    let of_p256 = of_p256.unwrap().self_signed(&other).unwrap();
    assert_eq!(key_of(of_p256.der()), None);
}

/// The certificate that a web server shows to a client.
fn shown_by(web: &Arc<WebCertificates>, client: ClientConfig) -> Option<CertificateDer<'static>> {
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut node = ServerConnection::new(Arc::new(web_server(web.clone()).unwrap())).unwrap();
    for _ in 0..ROUNDS_MAX {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        node.read_tls(&mut &wire[..]).unwrap();
        node.process_new_packets().ok()?;
        let mut wire = Vec::new();
        node.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets().ok()?;
    }
    assert!(!client.is_handshaking() && !node.is_handshaking());
    client
        .peer_certificates()
        .map(|chain| chain[0].clone().into_owned())
}

fn web_pair() -> (rcgen::Certificate, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (parameters.self_signed(&key).unwrap(), key)
}

#[test]
fn a_web_server_shows_who_pins_the_ledger_key_and_others_what_was_brought() {
    let node = Identity::of_node(&secret(NODE), 1, &[], &[]).unwrap();
    let web = Arc::new(WebCertificates::new(&node).unwrap());
    let pinning = || client(None, [secret(NODE).public()].into()).unwrap();
    let (certificate, key) = web_pair();
    let trusting = |certificate: &rcgen::Certificate| {
        pinned_client(None, |_| false, Some(certificate.pem().as_bytes())).unwrap()
    };
    assert_eq!(shown_by(&web, trusting(&certificate)), None);
    web.replace(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())
        .unwrap();
    assert_eq!(shown_by(&web, pinning()), Some(node.certificate.clone()));
    let brought = Some(certificate.der().clone());
    assert_eq!(shown_by(&web, trusting(&certificate)), brought);

    // What is broken changes nothing.
    let (other, other_key) = web_pair();
    for (certificate_pem, key_pem) in [
        (other.pem(), key.serialize_pem()),
        (other.pem(), String::new()),
        (String::new(), other_key.serialize_pem()),
        (
            "-----BEGIN CERTIFICATE-----\nAA==\n".to_owned(),
            other_key.serialize_pem(),
        ),
    ] {
        assert!(
            web.replace(certificate_pem.as_bytes(), key_pem.as_bytes())
                .is_err()
        );
        assert_eq!(shown_by(&web, trusting(&certificate)), brought);
    }
}

/// A validator that was removed is refused from then on, by the same client.
#[test]
fn a_pin_that_is_withdrawn_counts_for_the_next_connection() {
    let node = Identity::of_node(&secret(NODE), 1, &[], &[]).unwrap();
    let web = Arc::new(WebCertificates::new(&node).unwrap());
    let trusted = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let seen = trusted.clone();
    let is_pinned = move |_: &_| seen.load(std::sync::atomic::Ordering::SeqCst);
    let config = pinned_client(None, is_pinned, None).unwrap();
    assert!(shown_by(&web, config.clone()).is_some());
    trusted.store(false, std::sync::atomic::Ordering::SeqCst);
    assert!(shown_by(&web, config).is_none());
}

#[test]
fn the_certificate_of_a_node_is_the_same_each_time() {
    let name = ["node.example".to_owned()];
    let address = "10.0.0.1".parse().unwrap();
    let make = || Identity::of_node(&secret(NODE), 7, &[address], &name).unwrap();
    assert_eq!(make().certificate, make().certificate);
}

proptest! {
    /// From a certificate with any bytes changed either the same key comes, another, or none.
    #[test]
    fn hostile_certificates_are_only_refused(
        at in 0usize..400,
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut certificate = identity(GATEWAY).certificate.to_vec();
        let at = at.min(certificate.len());
        let end = (at + bytes.len()).min(certificate.len());
        certificate.splice(at..end, bytes.iter().copied());
        key_of(&CertificateDer::from(certificate));
        key_of(&CertificateDer::from(bytes));
    }
}
