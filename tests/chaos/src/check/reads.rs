//! The rules about reads.

use super::order::Order;
use super::{Chain, Fault, Findings};
use crate::history::{Read, Seen};

pub(super) fn check(reads: &[Read], chain: &Chain, order: &Order, findings: &mut Findings) {
    for read in reads {
        findings.reads += 1;
        findings.linearizable_reads += u64::from(read.linearizable);
        if let Seen::NoOrganization(_) = read.seen {
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

/// What the state of that height is, if the read shows something else.
fn differs(read: &Read, chain: &Chain) -> Option<String> {
    match &read.seen {
        Seen::Register {
            name,
            version,
            document,
        } => {
            let right = chain.model.register(name, read.height);
            let same = right.is_some_and(|r| r.version == *version && r.document == *document);
            (!same).then(|| format!("{right:?}"))
        }
        Seen::Device {
            device,
            count,
            highest,
        } => {
            let right = chain.model.device(device, read.height);
            let same = right.count == *count && right.highest == *highest;
            (!same).then(|| format!("{right:?}"))
        }
        Seen::Organization(name) => {
            let registered = chain.model.organization(name);
            let there = registered.is_some_and(|height| height <= read.height);
            (!there).then(|| format!("registered at {registered:?}"))
        }
        Seen::NoOrganization(_) => None,
    }
}

/// Such an answer has no height. A linearizable one is wrong if the organization was there at a
/// height that somebody had been shown before.
fn absent(read: &Read, chain: &Chain, order: &Order, findings: &mut Findings) {
    let Seen::NoOrganization(name) = &read.seen else {
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
