//! Handshakes in memory: accepted keys, and hostile certificates that are only refused.
#![allow(clippy::unwrap_used)] // A test fails where something is not as it should be.

use std::sync::Arc;

use lamplighter_tls::{Identity, client, key_of, server};
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
