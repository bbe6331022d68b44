use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Identity, SetupError, pem};

/// The certificates of an HTTPS server: that of the node's ledger key, and optionally one that its
/// operator brought along, for browsers and proxies. A client that accepts Ed25519 alone pins
/// ledger keys and gets the first; all others get the second, where there is one.
#[derive(Debug)]
pub struct WebCertificates {
    ledger: Arc<CertifiedKey>,
    brought: RwLock<Option<Arc<CertifiedKey>>>,
}

impl WebCertificates {
    /// Begins with the certificate of the ledger's key alone.
    ///
    /// # Errors
    /// rustls does not take the identity.
    pub fn new(identity: &Identity) -> Result<Self, SetupError> {
        let chain = vec![identity.certificate.clone()];
        let ledger = CertifiedKey::from_der(chain, identity.key.clone_key(), &provider())
            .map_err(SetupError::Rustls)?;
        Ok(Self {
            ledger: Arc::new(ledger),
            brought: RwLock::default(),
        })
    }

    /// Puts a certificate chain with its key (PEM) in place of the one before.
    ///
    /// # Errors
    /// They are malformed or do not belong together; then nothing changes.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), SetupError> {
        let (chain, key) = (pem::certificates(chain)?, pem::private_key(key)?);
        let certified =
            CertifiedKey::from_der(chain, key, &provider()).map_err(SetupError::Rustls)?;
        let mut brought = self.brought.write().unwrap_or_else(PoisonError::into_inner);
        *brought = Some(Arc::new(certified));
        Ok(())
    }
}

impl ResolvesServerCert for WebCertificates {
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let brought = self.brought.read().unwrap_or_else(PoisonError::into_inner);
        let mut schemes = client.signature_schemes().iter();
        let pins = schemes.all(|scheme| *scheme == SignatureScheme::ED25519);
        match &*brought {
            Some(brought) if !pins => Some(Arc::clone(brought)),
            _ => Some(Arc::clone(&self.ledger)),
        }
    }
}

/// The Unix seconds in which the first certificate of a chain (PEM) is valid.
///
/// # Errors
/// Chain and key are malformed, or do not belong together.
pub fn valid_seconds(chain: &[u8], key: &[u8]) -> Result<RangeInclusive<i64>, SetupError> {
    let (chain, key) = (pem::certificates(chain)?, pem::private_key(key)?);
    let certified = CertifiedKey::from_der(chain, key, &provider());
    let certified = certified.map_err(SetupError::Rustls)?;
    let first = certified.end_entity_cert().map_err(SetupError::Rustls)?;
    let (_, first) = X509Certificate::from_der(first).map_err(SetupError::NoX509)?;
    let validity = first.validity();
    Ok(validity.not_before.timestamp()..=validity.not_after.timestamp())
}

fn provider() -> rustls::crypto::CryptoProvider {
    ring::default_provider()
}

/// The configuration of an HTTPS server: TLS 1.3 only, HTTP/1.1, no client certificates and no
/// tickets.
///
/// # Errors
/// rustls does not take its own defaults.
pub fn web_server(certificates: Arc<WebCertificates>) -> Result<ServerConfig, SetupError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(SetupError::Rustls)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}
