use lamplighter_types::{PublicKey, SecretKey};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::SetupError;

/// DER around a 32-byte Ed25519 seed in PKCS#8 (RFC 8410, section 7).
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// DER around a 32-byte Ed25519 public key (RFC 8410, section 4).
pub(crate) const SPKI_HEAD: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// A self-signed certificate with its key, for a node, a gateway or a user.
#[derive(Debug)]
pub struct Identity {
    pub certificate: CertificateDer<'static>,
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
    /// Makes the certificate of a key. `name` is a DNS name or an address: the form requires one.
    ///
    /// # Errors
    /// The name is neither.
    pub fn new(secret: &SecretKey, name: &str) -> Result<Self, SetupError> {
        let pkcs8 = PrivatePkcs8KeyDer::from([&PKCS8_HEAD[..], &secret.seed()[..]].concat());
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519)
            .map_err(SetupError::Certificate)?;
        let parameters = rcgen::CertificateParams::new(vec![name.to_owned()]);
        let certificate = parameters
            .and_then(|parameters| parameters.self_signed(&pair))
            .map_err(SetupError::Certificate)?;
        Ok(Self {
            certificate: certificate.der().clone(),
            key: pkcs8.into(),
        })
    }
}

/// The Ed25519 key of a certificate; none of any other certificate, and of bytes that are none.
pub fn key_of(certificate: &CertificateDer<'_>) -> Option<PublicKey> {
    let (rest, parsed) = X509Certificate::from_der(certificate).ok()?;
    let key = parsed.public_key().raw.strip_prefix(&SPKI_HEAD[..])?;
    let key = key.try_into().ok()?;
    rest.is_empty().then_some(PublicKey(key))
}
