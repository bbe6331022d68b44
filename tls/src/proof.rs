use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerIncompatible, SignatureScheme};

use lamplighter_types::PublicKey;

use crate::identity::{SPKI_HEAD, key_of};

/// The key in a certificate, or why it can't be taken.
pub(crate) fn demand_key(certificate: &CertificateDer<'_>) -> Result<PublicKey, Error> {
    key_of(certificate).ok_or_else(|| CertificateError::BadEncoding.into())
}

/// Verifies that the other side holds the key: its signature over the handshake (RFC 8446, section
/// 4.4.3).
#[derive(Debug)]
pub(crate) struct Proof(pub WebPkiSupportedAlgorithms);

impl Proof {
    pub(crate) fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = demand_key(certificate)?;
        let spki = SubjectPublicKeyInfoDer::from([&SPKI_HEAD[..], &key.0[..]].concat());
        verify_tls13_signature_with_raw_key(message, &spki, signed, &self.0)
    }

    /// TLS 1.2 is not offered.
    pub(crate) fn refuse_tls12() -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    pub(crate) fn schemes() -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
