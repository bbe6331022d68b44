use super::*;
use crate::election::SignatureBytes;
use crate::message::ENTRY_HEADER_BYTES;

const CHAIN: [u8; 32] = [1; 32];

fn link(byte: u8) -> ChainLink {
    ChainLink {
        header: [byte; ENTRY_HEADER_BYTES],
        payload: [byte; 32],
    }
}

/// Signs as a node of this test does: with the hash of node and message.
fn signature(node: NodeId, message: &[u8]) -> [u8; 64] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&node.to_le_bytes()).update(message);
    let mut bytes = [0; 64];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

fn statement(term: u64, leader: NodeId, index: u64, digest: LogDigest) -> LeaderStatement {
    let mut statement = LeaderStatement {
        term,
        leader,
        index,
        digest,
        signature: SignatureBytes([0; 64]),
    };
    let message = statement.message(&CHAIN);
    statement.signature = SignatureBytes(signature(leader, &message));
    statement
}

fn check(evidence: &LeaderEvidence) -> Result<(), EvidenceError> {
    let leader = evidence.leader();
    evidence.check(&CHAIN, |message, bytes| {
        signature(leader, message) == *bytes
    })
}

fn grow(digest: LogDigest, bytes: &[u8]) -> LogDigest {
    let links = bytes.iter().map(|byte| link(*byte));
    links.fold(digest, |digest, link| digest.after_link(&link))
}

/// A leader that signed entry 5 as `a`, and entry 7 of a log in which entry 5 is `b`.
fn evidence() -> LeaderEvidence {
    let (a, b) = (grow(LogDigest::EMPTY, b"a"), grow(LogDigest::EMPTY, b"b"));
    LeaderEvidence {
        first: statement(3, 2, 5, a),
        second: statement(3, 2, 7, grow(b, b"xy")),
        base: b,
        links: vec![link(b'x'), link(b'y')],
    }
}

#[test]
fn two_logs_of_one_term_are_evidence() {
    assert_eq!(check(&evidence()), Ok(()));
    assert_eq!((evidence().leader(), evidence().index()), (2, 5));
    let base = grow(LogDigest::EMPTY, b"b");
    let same_index = LeaderEvidence {
        second: statement(3, 2, 5, base),
        links: Vec::new(),
        ..evidence()
    };
    assert_eq!(check(&same_index), Ok(()));
}

#[test]
fn what_an_honest_leader_signs_is_no_evidence() {
    let log = grow(LogDigest::EMPTY, b"abcde");
    let first = statement(3, 2, 5, log);
    // The same append sent again, and a replay of it.
    let again = LeaderEvidence {
        first,
        second: first,
        base: log,
        links: Vec::new(),
    };
    assert_eq!(check(&again), Err(EvidenceError::SameLog));
    // A later statement about the same log.
    let extended = LeaderEvidence {
        second: statement(3, 2, 6, grow(log, b"f")),
        links: vec![link(b'f')],
        ..again.clone()
    };
    assert_eq!(check(&extended), Err(EvidenceError::SameLog));
    // Another entry after a crash and a second election: of another term.
    let replaced = LeaderEvidence {
        second: statement(4, 2, 5, grow(LogDigest::EMPTY, b"b")),
        base: grow(LogDigest::EMPTY, b"b"),
        ..again.clone()
    };
    assert_eq!(check(&replaced), Err(EvidenceError::Unrelated));
    // Another leader.
    let other = LeaderEvidence {
        second: statement(3, 1, 5, grow(LogDigest::EMPTY, b"b")),
        base: grow(LogDigest::EMPTY, b"b"),
        ..again
    };
    assert_eq!(check(&other), Err(EvidenceError::Unrelated));
}

#[test]
fn invented_links_and_signatures_are_no_evidence() {
    // The accuser invents what the log was before.
    let mut invented = evidence();
    invented.base = LogDigest([9; 32]);
    assert_eq!(check(&invented), Err(EvidenceError::Links));
    // Fewer or more links: another index would be compared.
    for links in [vec![link(b'y')], vec![link(b'x'), link(b'y'), link(b'z')]] {
        let cut = LeaderEvidence {
            links,
            ..evidence()
        };
        assert_eq!(check(&cut), Err(EvidenceError::Links));
    }
    for changed in [0, 1] {
        let mut forged = evidence();
        let statements = [&mut forged.first, &mut forged.second];
        statements.into_iter().nth(changed).unwrap().signature.0[0] ^= 1;
        assert_eq!(check(&forged), Err(EvidenceError::Signature));
    }
    let of_another_chain = evidence();
    let leader = of_another_chain.leader();
    let checked = of_another_chain.check(&[2; 32], |message, bytes| {
        signature(leader, message) == *bytes
    });
    assert_eq!(checked, Err(EvidenceError::Signature));
}
