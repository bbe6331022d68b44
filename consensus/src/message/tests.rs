use std::collections::BTreeSet;

use openraft::CommittedLeaderId;

use super::*;
use crate::codec::frame;
use crate::election::SignedVote;
use crate::log::LogDigest;
use crate::snapshot::message::{FileInfo, Manifest, SnapshotRequest, SnapshotResponse};
use crate::types::{Marker, SnapshotMeta, StoredMembership};

fn log_id(term: u64, node: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, node), index)
}

fn entries() -> Vec<RaftLogEntry> {
    let voters = BTreeSet::from([1, 2, 3]);
    vec![
        RaftLogEntry {
            log_id: log_id(1, 2, 4),
            payload: EntryPayload::Blank,
        },
        RaftLogEntry {
            log_id: log_id(1, 2, 5),
            payload: EntryPayload::Normal(ProposedBatch(Bytes::from_static(b"batch"))),
        },
        RaftLogEntry {
            log_id: log_id(3, 1, 6),
            payload: EntryPayload::Membership(Membership::new(vec![voters], ())),
        },
    ]
}

fn request() -> AppendRequest {
    AppendRequest {
        vote: Vote::new_committed(3, 1),
        prev_log_id: Some(log_id(1, 2, 3)),
        entries: entries(),
        leader_commit: Some(log_id(1, 2, 3)),
    }
}

fn proof() -> ElectionProof {
    ElectionProof {
        term: 3,
        candidate: 1,
        last_log_id: Some(log_id(1, 2, 3)),
        votes: vec![SignedVote {
            voter: 2,
            signature: SignatureBytes([5; 64]),
        }],
    }
}

fn vote_request() -> ControlRequest {
    ControlRequest::Vote {
        request: openraft::raft::VoteRequest::new(Vote::new(3, 1), Some(log_id(1, 2, 3))),
        log_proof: Some(proof()),
    }
}

fn granted() -> ControlResponse {
    ControlResponse::Vote {
        response: openraft::raft::VoteResponse::new(Vote::new(3, 1), None, true),
        signature: Some(SignatureBytes([5; 64])),
    }
}

/// The formats on disk and on the wire; a change of them needs a new version of the protocol.
fn binding() -> AppendBinding {
    AppendBinding {
        prev_digest: LogDigest([6; 32]),
        signature: SignatureBytes([8; 64]),
        authors: vec![SignatureBytes([9; 64]); 2],
    }
}

#[test]
fn frozen_bytes() {
    let mut entry = Vec::new();
    put_entry(&entries()[1], &mut entry);
    let expected = "01".to_owned()
        + "0100000000000000"
        + "0200000000000000"
        + "0500000000000000"
        + "6261746368";
    assert_eq!(hex::encode(&entry), expected);

    let vote = encode(&Vote::new_committed(3, 1));
    assert_eq!(hex::encode(vote), "0300000000000000010000000000000001");

    let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex()[..16].to_owned();
    let marker = Marker {
        log_id: log_id(3, 1, 6),
        membership: StoredMembership::default(),
        digest: LogDigest([7; 32]),
    };
    let manifest = Manifest {
        meta: SnapshotMeta::default(),
        files: vec![FileInfo {
            name: "file".to_owned(),
            bytes: 7,
            hash: [1; 32],
        }],
    };
    let vote = Vote::new_committed(3, 1);
    let samples = [
        (
            "append",
            hash(&encode_append(&request(), Some(&proof()), Some(binding()))),
        ),
        ("vote request", hash(&encode(&vote_request()))),
        ("vote", hash(&encode(&granted()))),
        ("heartbeat answer", hash(&encode(&AppendAnswer::Unproven))),
        ("marker", hash(&encode(&marker))),
        ("manifest", hash(&encode(&manifest))),
        (
            "offer",
            hash(&encode(&SnapshotRequest::Offer {
                vote,
                manifest,
                proof: Some(proof()),
            })),
        ),
        (
            "chunk",
            hash(&frame(
                &SnapshotRequest::Chunk {
                    vote,
                    manifest: [2; 32],
                    file: 1,
                    offset: 2,
                },
                b"bytes",
            )),
        ),
        (
            "next",
            hash(&encode(&SnapshotResponse::Next { file: 1, offset: 2 })),
        ),
        ("done", hash(&encode(&SnapshotResponse::Done { vote }))),
        (
            "read index",
            hash(&encode(&ControlResponse::ReadIndex(Some(9)))),
        ),
    ];
    let text: String = samples
        .iter()
        .map(|(name, hash)| format!("{name} {hash}\n"))
        .collect();
    assert_eq!(text, include_str!("frozen.txt"));
}

#[test]
fn entries_come_back() {
    for entry in entries() {
        let mut bytes = Vec::new();
        put_entry(&entry, &mut bytes);
        assert_eq!(bytes.len(), entry_bytes(&entry));
        assert_eq!(get_entry(bytes.into()).unwrap(), entry);
    }
    let bytes = encode_append(&request(), Some(&proof()), Some(binding()));
    let back = decode_append(bytes).unwrap();
    assert_eq!(back.proof, Some(proof()));
    assert_eq!(back.binding, Some(binding()));
    let back = back.request;
    assert_eq!(back.entries, request().entries);
    assert_eq!(back.vote, request().vote);
    assert_eq!(back.prev_log_id, request().prev_log_id);
    assert_eq!(back.leader_commit, request().leader_commit);
}

/// Every cut and every changed byte is an error or another request, never a panic.
#[test]
fn malformed_bytes_are_errors() {
    let whole = encode_append(&request(), None, Some(binding()));
    for len in 0..whole.len() {
        assert!(decode_append(whole.slice(..len)).is_err(), "{len}");
    }
    assert!(decode_append([&whole[..], b"x"].concat().into()).is_err());
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = whole.to_vec();
            bytes[at] ^= flip;
            if let Ok(request) = decode_append(bytes.into()) {
                assert!(request.request.entries.len() <= 3);
            }
        }
    }
    let huge = [&u32::MAX.to_le_bytes()[..], &[0xff; 64]].concat();
    assert!(decode_append(huge.clone().into()).is_err());
    assert!(decode::<SnapshotRequest>("request", &[0xff; 200]).is_err());
    assert!(decode::<Manifest>("manifest", &huge).is_err());
    assert!(get_entry(Bytes::from_static(&[9; 40])).is_err());
    assert!(
        get_entry(Bytes::from_static(&[0; 26])).is_err(),
        "a blank entry has no bytes"
    );
}
