use std::collections::BTreeSet;
use std::sync::Arc;

use lamplighter_types::PublicKey;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::proof::{Proof, demand_key};
use crate::{Identity, SetupError};

/// The client's configuration: TLS 1.3 only, with an identity if it has one, to servers that have
/// one of `keys`.
///
/// # Errors
/// rustls does not take the identity.
pub fn client(
    identity: Option<&Identity>,
    keys: BTreeSet<PublicKey>,
) -> Result<ClientConfig, SetupError> {
    let provider = Arc::new(ring::default_provider());
    let proof = Proof(provider.signature_verification_algorithms);
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(SetupError::Rustls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { keys, proof }));
    let Some(Identity { certificate, key }) = identity else {
        return Ok(config.with_no_client_auth());
    };
    config
        .with_client_auth_cert(vec![certificate.clone()], key.clone_key())
        .map_err(SetupError::Rustls)
}

/// Accepts certificates with a pinned key.
#[derive(Debug)]
struct Pinned {
    keys: BTreeSet<PublicKey>,
    proof: Proof,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.keys.contains(&demand_key(certificate)?) {
            Ok(ServerCertVerified::assertion())
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
