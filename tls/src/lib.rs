//! TLS 1.3 (RFC 8446) without a certificate authority. Each side shows a self-signed certificate of
//! its Ed25519 key. The handshake proves that it holds the key, and the ledger knows the account of
//! the key. Names, dates and the certificate's own signature mean nothing here, unless a client is
//! configured with authorities of its own, for servers that show other certificates.

mod client;
mod identity;
mod pem;
mod proof;
mod server;
mod web;

pub use client::{client, pinned_client};
pub use identity::{Identity, key_of};
pub use server::server;
pub use web::{WebCertificates, valid_seconds, web_server};

/// Errors when TLS is set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A name of the certificate or the seed was not taken.
    #[error("making the self-signed certificate")]
    Certificate(#[source] rcgen::Error),
    /// rustls did not take the certificate or key.
    #[error("setting up TLS")]
    Rustls(#[source] rustls::Error),
    /// A file of certificates or of a key is not PEM.
    #[error("reading PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("there is no certificate in it")]
    NoCertificate,
    #[error("its first certificate is no X.509")]
    NoX509(#[source] x509_parser::asn1_rs::Err<x509_parser::error::X509Error>),
    #[error("the certificates of the authorities are not usable")]
    Authorities(#[source] rustls::client::VerifierBuilderError),
}
