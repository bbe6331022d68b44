use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use lamplighter_types::PublicKey;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::pem;
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
    pinned_client(identity, move |key| keys.contains(key), None)
}

/// The client's configuration: TLS 1.3 only, to servers with a key that `is_pinned` accepts when
/// the connection is made. With `authorities` (PEM) a server may also have a certificate that they
/// issued for its name. No session is resumed, since a key that was accepted once may have retired
/// since.
///
/// # Errors
/// rustls does not take the identity, or the authorities are not usable.
pub fn pinned_client(
    identity: Option<&Identity>,
    is_pinned: impl Fn(&PublicKey) -> bool + Send + Sync + 'static,
    authorities: Option<&[u8]>,
) -> Result<ClientConfig, SetupError> {
    let provider = Arc::new(ring::default_provider());
    let issued = match authorities {
        Some(pem) => Some(issued_verifier(pem, &provider)?),
        None => None,
    };
    let verifier = Pinned {
        is_pinned,
        issued,
        proof: Proof(provider.signature_verification_algorithms),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(SetupError::Rustls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(Identity { certificate, key }) => config
            .with_client_auth_cert(vec![certificate.clone()], key.clone_key())
            .map_err(SetupError::Rustls)?,
    };
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn issued_verifier(
    authorities: &[u8],
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, SetupError> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(authorities)? {
        roots.add(certificate).map_err(SetupError::Rustls)?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(SetupError::Authorities)
}

/// Accepts certificates with a pinned key, and those of the authorities, if there are any.
struct Pinned<F> {
    is_pinned: F,
    issued: Option<Arc<WebPkiServerVerifier>>,
    proof: Proof,
}

impl<F> fmt::Debug for Pinned<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pinned")
    }
}

impl<F: Fn(&PublicKey) -> bool + Send + Sync> ServerCertVerifier for Pinned<F> {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = demand_key(certificate);
        if key.as_ref().is_ok_and(|key| (self.is_pinned)(key)) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.issued {
            Some(issued) => issued.verify_server_cert(
                certificate,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Err(key
                .err()
                .unwrap_or_else(|| CertificateError::UnknownIssuer.into())),
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
        match &self.issued {
            // An Ed25519 key is proven in the same way, whoever issued the certificate.
            Some(issued) if demand_key(certificate).is_err() => {
                issued.verify_tls13_signature(message, certificate, signed)
            }
            _ => self.proof.verify(message, certificate, signed),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        match &self.issued {
            Some(issued) => issued.supported_verify_schemes(),
            None => Proof::schemes(),
        }
    }
}
