//! The rules about transactions.

use std::collections::HashSet;

use super::order::KnownOrder;
use super::{Chain, Fault, Findings};
use crate::history::{SubmitAnswer, WriteRecord};

pub(super) fn check(
    writes: &[WriteRecord],
    chain: &Chain,
    order: &KnownOrder,
    findings: &mut Findings,
) {
    let mut signed = HashSet::new();
    for write in writes {
        if !signed.insert(write.transaction) {
            let what = || format!("{} was signed twice by the clients", write.transaction);
            findings.add(Fault::Doubled, what);
        }
        count(write, chain, findings);
        for answer in &write.answers {
            answered(write, &answer.answer, chain, findings);
        }
        if write.answers.is_empty() {
            unanswered(write, chain, findings);
        }
        in_order(write, chain, order, findings);
    }
}

fn count(write: &WriteRecord, chain: &Chain, findings: &mut Findings) {
    let receipts = |answer: &SubmitAnswer| matches!(answer, SubmitAnswer::Receipt(_));
    let receipts = write.answers.iter().filter(|a| receipts(&a.answer)).count() as u64;
    findings.compared_again += receipts.saturating_sub(1);
    match write.acknowledged() {
        Some((_, place)) if place.succeeded => findings.acknowledged += 1,
        Some(_) => findings.acknowledged_failed += 1,
        None if !write.answers.is_empty() => findings.refused += 1,
        None => {
            findings.unknown += 1;
            findings.unknown_there += u64::from(chain.places.contains_key(&write.transaction));
        }
    }
}

fn answered(write: &WriteRecord, answer: &SubmitAnswer, chain: &Chain, findings: &mut Findings) {
    let transaction = write.transaction;
    match (answer, chain.places.get(&transaction)) {
        (SubmitAnswer::Receipt(place), None) => {
            findings.add(Fault::Lost, || format!("{transaction}: {place:?}"));
        }
        (SubmitAnswer::Receipt(place), Some(there)) if place != there => {
            findings.add(Fault::Changed, || {
                format!("{transaction}: {place:?} became {there:?}")
            });
        }
        (SubmitAnswer::Refused(code), Some(there)) => {
            findings.add(Fault::RefusedYetThere, || {
                format!("{transaction}: {code}, yet {there:?}")
            });
        }
        (SubmitAnswer::Receipt(_), Some(_)) | (SubmitAnswer::Refused(_), None) => {}
    }
}

fn unanswered(write: &WriteRecord, chain: &Chain, findings: &mut Findings) {
    if chain.places.contains_key(&write.transaction) || chain.last_ms >= write.expires_ms {
        return;
    }
    findings.add(Fault::Undecided, || {
        let (transaction, expires_ms) = (write.transaction, write.expires_ms);
        format!(
            "{transaction} expires at {expires_ms}, it is {}",
            chain.last_ms
        )
    });
}

fn in_order(write: &WriteRecord, chain: &Chain, order: &KnownOrder, findings: &mut Findings) {
    let Some(place) = chain.places.get(&write.transaction) else {
        return;
    };
    let position = (place.height, u64::from(place.index));
    let known = order.before(write.invoked_us);
    if position <= known {
        findings.add(Fault::OutOfOrder, || {
            let transaction = write.transaction;
            format!("{transaction} stands at {position:?}, {known:?} was known before it was sent")
        });
    }
}
