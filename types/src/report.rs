//! Signatures of Things on reports and events, and the vendor's signature on releases that Things
//! check.
//!
//! Each signature covers the value's binary encoding with `signature` set to `None`, after the
//! domain prefix; reports also carry the chain, so that one city's report means nothing in another.

use serde::Serialize;

use crate::codec::{self, CodecError};
use crate::crypto::{BadSignature, Domain, SecretKey};
use crate::limits::TRANSACTION_BYTES_MAX;
use crate::{
    ConfigReport, DeploymentReport, DeviceEvent, Hash, HexBytes, InventoryReport, KeyRotation,
    PublicKey, ReleaseManifest, Signature, SignedRelease,
};

/// A value that a Thing may sign.
pub trait DeviceSigned: Clone + Serialize {
    const DOMAIN: Domain;
    /// The name of the type, part of what is signed.
    const NAME: &'static str;

    fn signature(&self) -> Option<&Signature>;
    fn set_signature(&mut self, signature: Option<Signature>);

    /// The bytes that the Thing signs.
    fn message(&self, chain_id: &Hash) -> Vec<u8> {
        let mut unsigned = self.clone();
        unsigned.set_signature(None);
        let name = [Self::NAME.as_bytes(), b"\0"].concat();
        Self::DOMAIN.message(&[&chain_id.0, &name, &codec::encode(&unsigned)])
    }

    fn sign(&mut self, chain_id: &Hash, secret: &SecretKey) {
        let signature = secret.sign(&self.message(chain_id));
        self.set_signature(Some(signature));
    }

    /// Tells whether the Thing signed: `Ok(false)` if there is no signature, an error if it is
    /// wrong.
    fn verify_device(
        &self,
        chain_id: &Hash,
        key: Option<&PublicKey>,
    ) -> Result<bool, BadSignature> {
        match (self.signature(), key) {
            (None, _) => Ok(false),
            (Some(_), None) => Err(BadSignature {
                key: PublicKey([0; 32]),
            }),
            (Some(signature), Some(key)) => {
                key.verify(&self.message(chain_id), signature)?;
                Ok(true)
            }
        }
    }
}

macro_rules! device_signed {
    ($type:ident, $domain:ident) => {
        impl DeviceSigned for $type {
            const DOMAIN: Domain = Domain::$domain;
            const NAME: &'static str = stringify!($type);

            fn signature(&self) -> Option<&Signature> {
                self.signature.as_ref()
            }

            fn set_signature(&mut self, signature: Option<Signature>) {
                self.signature = signature;
            }
        }
    };
}

device_signed!(InventoryReport, DeviceReport);
device_signed!(DeploymentReport, DeviceReport);
device_signed!(ConfigReport, DeviceReport);
device_signed!(KeyRotation, DeviceReport);
device_signed!(DeviceEvent, DeviceEvent);

/// Why a signed release is not valid.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    #[error("the manifest has {0} bytes, too many for a transaction")]
    TooLong(usize),
    #[error("the manifest does not decode")]
    Manifest(#[source] CodecError),
    #[error("the manifest is not signed by its key")]
    Signature(#[source] BadSignature),
}

impl SignedRelease {
    /// Signs a manifest with the vendor's key.
    pub fn sign(manifest: &ReleaseManifest, secret: &SecretKey) -> Self {
        let bytes = codec::encode(manifest);
        let signature = secret.sign(&Domain::Release.message(&[&bytes]));
        Self {
            manifest: HexBytes(bytes),
            key: secret.public(),
            signature,
        }
    }

    /// The digest by which approvers name the manifest.
    pub fn manifest_digest(&self) -> Hash {
        Hash::of(&self.manifest.0)
    }

    /// Checks the signature and decodes the manifest. The caller checks whose key it is.
    pub fn verify(&self) -> Result<ReleaseManifest, ReleaseError> {
        if self.manifest.0.len() > TRANSACTION_BYTES_MAX {
            return Err(ReleaseError::TooLong(self.manifest.0.len()));
        }
        self.key
            .verify(
                &Domain::Release.message(&[&self.manifest.0]),
                &self.signature,
            )
            .map_err(ReleaseError::Signature)?;
        codec::decode(&self.manifest.0).map_err(ReleaseError::Manifest)
    }
}
