use lamplighter_store::{Durability, Kv, MemoryKv, WriteBatch};
use lamplighter_types::merkle::StateProof;
use lamplighter_types::{Attestation, Certificate, Hash};

use super::*;
use crate::tests::{genesis, secret};

/// Far more changes than one proof lists: at each height the nodes 1 to 4, or those without the
/// first.
fn changes(kv: &MemoryKv, last: u64) -> [ValidatorSet; 2] {
    let all = genesis(4).validators;
    let mut three = all.clone();
    three.validators.remove(0);
    let sets = [all, three];
    let path = StateProof {
        siblings: Vec::new(),
        other: None,
    };
    let mut batch = WriteBatch::new();
    for height in 0..=last {
        tables::put_validators(&mut batch, height, &sets[height as usize % 2], &path);
        let attestation = Attestation::sign(height, Hash::ZERO, &secret(2));
        let certificate = Certificate::from_attestations(height, Hash::ZERO, &[attestation]);
        if height < last {
            tables::put_certificate(&mut batch, &certificate);
        }
    }
    kv.write(batch, Durability::Synced).unwrap();
    sets
}

#[test]
fn who_departs_is_read_from_the_last_change() {
    let kv = MemoryKv::new();
    let [all, three] = changes(&kv, 3_001);
    assert_eq!(set_before_last_change(&kv).unwrap(), Some(all));
    let kv = MemoryKv::new();
    changes(&kv, 3_000);
    assert_eq!(set_before_last_change(&kv).unwrap(), Some(three));
}

#[test]
fn the_first_change_without_a_certificate_is_found_after_thousands() {
    let kv = MemoryKv::new();
    changes(&kv, 3_001);
    assert_eq!(tables::newest_certified(&kv, 0).unwrap(), Some(3_000));
    assert_eq!(first_uncertified_change(&kv, 0).unwrap(), Some(3_001));
    let certifying = certifying_set(&kv, 3_000).unwrap().unwrap();
    assert_eq!(certifying.validators.len(), 4);
}
