//! The rules about reads.

use super::order::KnownOrder;
use super::{Chain, Fault, Findings};
use crate::history::{ReadRecord, ReadResult};

pub(super) fn check(
    reads: &[ReadRecord],
    chain: &Chain,
    order: &KnownOrder,
    findings: &mut Findings,
) {
    for read in reads {
        findings.reads += 1;
        findings.linearizable_reads += u64::from(read.linearizable);
        if let ReadResult::NoOrganization(_) = read.result {
            absent(read, chain, order, findings);
            continue;
        }
        if read.height < read.min_height || read.height > chain.height {
            findings.add(Fault::WrongRead, || format!("no such height: {read:?}"));
        }
        if let Some(wrong) = differs(read, chain) {
            findings.add(Fault::WrongRead, || format!("{read:?}: {wrong}"));
        }
        let known = order.before(read.invoked_us);
        if read.linearizable && read.height < known.0 {
            findings.add(Fault::Stale, || {
                format!("{read:?}, while {known:?} was known")
            });
        }
    }
}

/// The state at that height, if the read shows a different one.
fn differs(read: &ReadRecord, chain: &Chain) -> Option<String> {
    match &read.result {
        ReadResult::Register {
            name,
            version,
            document,
        } => {
            let right = chain.model.register(name, read.height);
            let same = right.is_some_and(|r| r.version == *version && r.document == *document);
            (!same).then(|| format!("{right:?}"))
        }
        ReadResult::Device {
            device,
            count,
            highest,
        } => {
            let right = chain.model.device(device, read.height);
            let same = right.count == *count && right.highest == *highest;
            (!same).then(|| format!("{right:?}"))
        }
        ReadResult::Organization(name) => {
            let registered = chain.model.organization(name);
            let there = registered.is_some_and(|height| height <= read.height);
            (!there).then(|| format!("registered at {registered:?}"))
        }
        ReadResult::NoOrganization(_) => None,
    }
}

/// Checks an answer that an organization does not exist, which has no height. A linearizable one is
/// wrong if the organization existed at a height that an earlier answer had shown.
fn absent(read: &ReadRecord, chain: &Chain, order: &KnownOrder, findings: &mut Findings) {
    let ReadResult::NoOrganization(name) = &read.result else {
        return;
    };
    let known = order.before(read.invoked_us);
    let there = chain.model.organization(name);
    if read.linearizable && there.is_some_and(|height| height <= known.0) {
        findings.add(Fault::Stale, || {
            format!("{read:?}: registered at {there:?}, {known:?} was known")
        });
    }
}
