//! Attacks with headers that are not certified.

use lamplighter_client::Subject;
use lamplighter_types::proof::ProofBundle;
use lamplighter_types::{Attestation, Certificate, CertificateSignature};

use super::unregistered_key;
use crate::DevnetError;
use crate::journal::Journal;
use crate::network::Devnet;
use crate::scenario::{lamp, tampered};

pub(super) async fn run(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let asked = devnet
        .client("auditor")?
        .proof(&Subject::Device(lamp(1)))
        .await;
    let (bundle, _) = asked.map_err(DevnetError::client("fetching a proof"))?;
    let with = |change: &dyn Fn(&mut Certificate)| {
        let mut bundle = bundle.clone();
        change(&mut bundle.head.certificate);
        refused(devnet, &bundle)
    };
    let quorum = devnet.city.genesis.validators.quorum();
    journal.attack(
        "a header with too few signatures",
        with(&|certificate| certificate.signatures.truncate(quorum - 1)),
    );
    journal.attack(
        "a header with a doubled signature",
        with(&|certificate| {
            // With one validator one signature is a quorum, but the same one twice is not.
            certificate.signatures.truncate((quorum - 1).max(1));
            let first = certificate.signatures[0].clone();
            certificate.signatures.insert(0, first);
        }),
    );
    let foreign = unregistered_key()?;
    journal.attack(
        "a header with a foreign signature",
        with(&|certificate| {
            let made = Attestation::sign(certificate.height, certificate.header, &foreign);
            certificate.signatures.truncate(quorum - 1);
            let Attestation { key, signature, .. } = made;
            certificate
                .signatures
                .push(CertificateSignature { key, signature });
            certificate
                .signatures
                .sort_by_key(|signature| signature.key);
        }),
    );
    let mut older = bundle.clone();
    older.head.header.timestamp_ms += 1;
    journal.attack("a header with another time", refused(devnet, &older));
    journal.attack(
        "a proof with one bit of its record changed",
        refused(devnet, &tampered(bundle)),
    );
    Ok(())
}

fn refused(devnet: &Devnet, bundle: &ProofBundle) -> Result<String, DevnetError> {
    match bundle.verify(&devnet.city.genesis) {
        Err(error) => Ok(lamplighter_system::error_chain(&error)),
        Ok(_) => Err(DevnetError::NotRefused("the bundle".to_owned())),
    }
}
