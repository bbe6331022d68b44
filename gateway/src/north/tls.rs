//! TLS 1.3 without a certificate authority: the gateway shows a self-signed certificate of its
//! registered key, and takes the node whose certificate has a key that it knows.

use std::collections::BTreeSet;
use std::sync::Arc;

use lamplighter_types::{PublicKey, SecretKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, SignatureScheme,
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// DER around a 32-byte Ed25519 seed in PKCS#8 (RFC 8410, section 7).
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// DER around a 32-byte Ed25519 public key (RFC 8410, section 4).
const SPKI_HEAD: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Why TLS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    #[error("making the self-signed certificate")]
    Certificate(#[source] rcgen::Error),
    #[error("setting up TLS")]
    Setup(#[source] Error),
}

/// The client's side: 1.3 only, with the certificate of `secret`, to nodes that have one of
/// `nodes`.
pub(super) fn client(
    secret: &SecretKey,
    nodes: BTreeSet<PublicKey>,
) -> Result<ClientConfig, TlsSetupError> {
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let (certificate, key) = identity(secret)?;
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsSetupError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { nodes, algorithms }))
        .with_client_auth_cert(vec![certificate], key)
        .map_err(TlsSetupError::Setup)
}

fn identity(
    secret: &SecretKey,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), TlsSetupError> {
    let pkcs8 = PrivatePkcs8KeyDer::from([&PKCS8_HEAD[..], &secret.seed()[..]].concat());
    let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519)
        .map_err(TlsSetupError::Certificate)?;
    let parameters = rcgen::CertificateParams::new(vec!["gateway.invalid".to_owned()])
        .map_err(TlsSetupError::Certificate)?;
    let certificate = parameters
        .self_signed(&pair)
        .map_err(TlsSetupError::Certificate)?;
    Ok((certificate.der().clone(), pkcs8.into()))
}

/// The Ed25519 key of a certificate.
fn key_of(certificate: &CertificateDer<'_>) -> Result<PublicKey, Error> {
    let wrong = || Error::from(CertificateError::BadEncoding);
    let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|_| wrong())?;
    let key = parsed
        .public_key()
        .raw
        .strip_prefix(&SPKI_HEAD[..])
        .ok_or_else(wrong)?;
    match rest.is_empty() {
        true => key.try_into().map(PublicKey).map_err(|_| wrong()),
        false => Err(wrong()),
    }
}

/// Takes certificates whose key is pinned. Names, dates and the self-signature mean nothing here.
#[derive(Debug)]
struct Pinned {
    nodes: BTreeSet<PublicKey>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.nodes.contains(&key_of(end_entity)?) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = key_of(cert)?;
        let spki = SubjectPublicKeyInfoDer::from([&SPKI_HEAD[..], &key.0[..]].concat());
        verify_tls13_signature_with_raw_key(message, &spki, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
