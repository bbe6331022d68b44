use std::net::IpAddr;

use lamplighter_types::{PublicKey, SecretKey};
use rcgen::{CertificateParams, DistinguishedName, DnType};
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
        Self::of(secret, vec![name.to_owned()], DistinguishedName::new())
    }

    /// Makes the certificate of a node, the same with each call. Our own clients compare the key
    /// alone. Others, to whom the certificate is handed as their authority, also compare the names,
    /// so it has those of this machine, the addresses that the node listens on, and `names`. Its
    /// subject has the node's id, since OpenSSL finds an authority in a file by the subject.
    ///
    /// # Errors
    /// One of the names is neither a DNS name nor an address.
    pub fn of_node(
        secret: &SecretKey,
        node: u64,
        addresses: &[IpAddr],
        names: &[String],
    ) -> Result<Self, SetupError> {
        let mut all: Vec<String> = ["localhost", "127.0.0.1", "::1"]
            .map(str::to_owned)
            .to_vec();
        let addresses = addresses.iter().filter(|address| !address.is_unspecified());
        for name in addresses.map(ToString::to_string).chain(names.to_vec()) {
            if !all.contains(&name) {
                all.push(name);
            }
        }
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, format!("lamplighter node {node}"));
        Self::of(secret, all, subject)
    }

    fn of(
        secret: &SecretKey,
        names: Vec<String>,
        subject: DistinguishedName,
    ) -> Result<Self, SetupError> {
        let pkcs8 = PrivatePkcs8KeyDer::from([&PKCS8_HEAD[..], &secret.seed()[..]].concat());
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519)
            .map_err(SetupError::Certificate)?;
        let parameters = CertificateParams::new(names);
        let certificate = parameters
            .and_then(|mut parameters| {
                if subject.iter().next().is_some() {
                    parameters.distinguished_name = subject;
                }
                parameters.self_signed(&pair)
            })
            .map_err(SetupError::Certificate)?;
        Ok(Self {
            certificate: certificate.der().clone(),
            key: pkcs8.into(),
        })
    }

    /// The certificate as PEM text, which has no secret.
    pub fn to_pem(&self) -> String {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(&self.certificate);
        let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
        let lines: String = lines.map(|line| format!("{line}\n")).collect();
        format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
    }
}

/// The Ed25519 key of a certificate; none of any other certificate, and of bytes that are none.
pub fn key_of(certificate: &CertificateDer<'_>) -> Option<PublicKey> {
    let (rest, parsed) = X509Certificate::from_der(certificate).ok()?;
    let key = parsed.public_key().raw.strip_prefix(&SPKI_HEAD[..])?;
    let key = key.try_into().ok()?;
    rest.is_empty().then_some(PublicKey(key))
}
