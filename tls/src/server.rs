use std::fmt;
use std::sync::Arc;

use lamplighter_types::PublicKey;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};

use crate::proof::{Proof, demand_key};
use crate::{Identity, SetupError};

/// The server's configuration: TLS 1.3 only, no tickets (they would keep memory and outlive a
/// revoked key). A client certificate is requested but not required, since others authenticate by a
/// token; one with an unregistered key is refused.
///
/// # Errors
/// rustls does not take the identity.
pub fn server(
    identity: &Identity,
    is_registered: impl Fn(&PublicKey) -> bool + Send + Sync + 'static,
) -> Result<ServerConfig, SetupError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Registered {
        is_registered,
        proof: Proof(provider.signature_verification_algorithms),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(SetupError::Rustls)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())
        .map_err(SetupError::Rustls)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// Accepts certificates with a registered key.
struct Registered<F> {
    is_registered: F,
    proof: Proof,
}

impl<F> fmt::Debug for Registered<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registered")
    }
}

impl<F: Fn(&PublicKey) -> bool + Send + Sync> ClientCertVerifier for Registered<F> {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if (self.is_registered)(&demand_key(certificate)?) {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(CertificateError::UnknownIssuer.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Proof::refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.proof.verify(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Proof::schemes()
    }
}
