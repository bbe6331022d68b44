//! TLS 1.3 without a certificate authority: a client shows a self-signed certificate, the
//! handshake proves that it holds the key, and the registry says whose key that is.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::verify_tls13_signature_with_raw_key;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    ServerConfig, SignatureScheme,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::backend::Backend;

/// DER around a 32-byte Ed25519 seed in PKCS#8 (RFC 8410, section 7).
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// DER around a 32-byte Ed25519 public key (RFC 8410, section 4).
const SPKI_HEAD: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// What can be wrong with TLS at the start.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A name of the certificate or the seed was not taken.
    #[error("making the self-signed certificate")]
    Certificate(#[source] rcgen::Error),
    /// rustls did not take the certificate or key.
    #[error("setting up TLS")]
    Setup(#[source] Error),
}

/// A self-signed certificate with its key, for a node or a gateway.
#[derive(Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            certificate: self.certificate.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl Identity {
    /// Makes the certificate of an Ed25519 key.
    ///
    /// `seed` is the secret key (32 bytes), `names` the DNS names or addresses of the holder.
    pub fn from_seed(seed: &[u8; 32], names: &[&str]) -> Result<Self, TlsError> {
        let pkcs8 = PrivatePkcs8KeyDer::from([&PKCS8_HEAD[..], &seed[..]].concat());
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519)
            .map_err(TlsError::Certificate)?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let parameters = rcgen::CertificateParams::new(names).map_err(TlsError::Certificate)?;
        let certificate = parameters
            .self_signed(&pair)
            .map_err(TlsError::Certificate)?;
        Ok(Self {
            certificate: certificate.der().clone(),
            key: pkcs8.into(),
        })
    }
}

/// The Ed25519 key of a certificate; `None` for any other certificate.
pub fn ed25519_key(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let (rest, parsed) = X509Certificate::from_der(certificate).ok()?;
    let key = parsed.public_key().raw.strip_prefix(&SPKI_HEAD[..])?;
    if rest.is_empty() {
        key.try_into().ok()
    } else {
        None
    }
}

/// The server's side of TLS: 1.3 only, no tickets (they would keep memory and outlive a revoked
/// key), client certificate wanted but not demanded (the others bring a token).
pub fn server(identity: &Identity, backend: Arc<dyn Backend>) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Registered {
        backend,
        algorithms: algorithms(&provider),
    });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Setup)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())
        .map_err(TlsError::Setup)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn algorithms(provider: &CryptoProvider) -> WebPkiSupportedAlgorithms {
    provider.signature_verification_algorithms
}

/// Takes the certificates whose key is registered. Names, dates and the self-signature mean
/// nothing here: the registry says who may connect and until when.
struct Registered {
    backend: Arc<dyn Backend>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registered")
    }
}

impl ClientCertVerifier for Registered {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let key = ed25519_key(end_entity).ok_or(CertificateError::BadEncoding)?;
        match self.backend.account_of_key(&key) {
            Some(_) => Ok(ClientCertVerified::assertion()),
            None => Err(CertificateError::UnknownIssuer.into()),
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
        let key = ed25519_key(cert).ok_or(CertificateError::BadEncoding)?;
        let spki = SubjectPublicKeyInfoDer::from([&SPKI_HEAD[..], &key[..]].concat());
        verify_tls13_signature_with_raw_key(message, &spki, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
