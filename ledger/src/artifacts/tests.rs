use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_types::Hash;
use tempfile::TempDir;

use super::{
    ArtifactError, ArtifactLimits, ArtifactPeers, ArtifactRequest, ArtifactScrub, Artifacts,
    PeerFailure, Uploader,
};

const NODE: Uploader = Uploader::Node;

fn image(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 % 253) as u8).collect()
}

async fn open(dir: &TempDir) -> Artifacts {
    Artifacts::open(dir.path().to_owned(), ArtifactLimits::default())
        .await
        .unwrap()
}

async fn upload(artifacts: &Artifacts, bytes: &[u8]) -> Hash {
    let digest = Hash::of(bytes);
    let mut offset = artifacts
        .begin(&NODE, digest, bytes.len() as u64)
        .await
        .unwrap();
    for chunk in bytes.chunks(30_000) {
        let chunk = Bytes::copy_from_slice(chunk);
        offset = artifacts
            .append(&NODE, digest, offset, chunk)
            .await
            .unwrap();
    }
    digest
}

#[tokio::test]
async fn an_upload_continues_at_its_offset_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let bytes = image(100_000);
    let digest = Hash::of(&bytes);
    let first = open(&dir).await;
    first.begin(&NODE, digest, 100_000).await.unwrap();
    first
        .append(&NODE, digest, 0, Bytes::copy_from_slice(&bytes[..40_000]))
        .await
        .unwrap();
    let second = open(&dir).await;
    assert_eq!(second.begin(&NODE, digest, 100_000).await.unwrap(), 40_000);
    let wrong = second
        .append(&NODE, digest, 30_000, Bytes::from_static(b"x"))
        .await
        .unwrap_err();
    assert!(matches!(
        wrong,
        ArtifactError::Offset {
            expected: 40_000,
            got: 30_000
        }
    ));
    second
        .append(
            &NODE,
            digest,
            40_000,
            Bytes::copy_from_slice(&bytes[40_000..]),
        )
        .await
        .unwrap();
    assert_eq!(
        second.read(digest, 39_990, 20).await.unwrap(),
        bytes[39_990..40_010]
    );
    assert_eq!(open(&dir).await.size(&digest), Some(100_000));
}

#[tokio::test]
async fn one_flipped_bit_is_refused_and_no_file_stays() {
    let dir = TempDir::new().unwrap();
    let artifacts = open(&dir).await;
    let mut bytes = image(50_000);
    let digest = Hash::of(&bytes);
    bytes[33_333] ^= 4;
    artifacts.begin(&NODE, digest, 50_000).await.unwrap();
    let refused = artifacts
        .append(&NODE, digest, 0, Bytes::from(bytes))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, ArtifactError::WrongDigest { .. }),
        "{refused}"
    );
    assert_eq!(artifacts.size(&digest), None);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(
        artifacts.begin(&NODE, digest, 50_000).await.unwrap(),
        0,
        "it can be sent again"
    );
}

#[tokio::test]
async fn damage_on_the_disk_is_never_served() {
    let dir = TempDir::new().unwrap();
    let artifacts = open(&dir).await;
    let digest = upload(&artifacts, &image(80_000)).await;
    let path = dir.path().join(digest.to_string());
    let mut stored = std::fs::read(&path).unwrap();
    stored[70_000] ^= 1;
    std::fs::write(&path, stored).unwrap();
    assert_eq!(artifacts.read(digest, 0, 100).await.unwrap().len(), 100);
    let error = artifacts.read(digest, 69_999, 2).await.unwrap_err();
    assert!(
        matches!(error, ArtifactError::Damaged { group: 4, .. }),
        "{error}"
    );
    assert!(matches!(
        artifacts.read(digest, 0, 1).await,
        Err(ArtifactError::Missing(_))
    ));
}

/// Peers that answer from another store; the liars flip a bit.
struct FakePeers<'a> {
    source: &'a Artifacts,
    liars: Vec<u64>,
    requests: Mutex<BTreeMap<u64, usize>>,
    /// Answers after which the honest peer becomes unreachable.
    answers_max: usize,
}

#[async_trait]
impl ArtifactPeers for FakePeers<'_> {
    fn peers(&self) -> Vec<u64> {
        vec![1, 2]
    }

    async fn fetch(&self, peer: u64, request: ArtifactRequest) -> Result<Bytes, PeerFailure> {
        let count = {
            let mut requests = self.requests.lock().unwrap();
            *requests.entry(peer).or_default() += 1;
            requests[&peer]
        };
        if count > self.answers_max {
            return Err(PeerFailure::Unreachable("gone".into()));
        }
        let is_range = matches!(request, ArtifactRequest::Range { .. });
        let bytes = self
            .source
            .serve(request)
            .await
            .map_err(|_| PeerFailure::Missing)?;
        if is_range && self.liars.contains(&peer) {
            let mut bytes = bytes.to_vec();
            bytes[20_000] ^= 1;
            return Ok(bytes.into());
        }
        Ok(bytes)
    }
}

#[tokio::test]
async fn a_missing_artifact_is_fetched_around_a_liar_and_in_pieces() {
    let (source_dir, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let source = open(&source_dir).await;
    let bytes = image(3_000_000);
    let digest = upload(&source, &bytes).await;
    let artifacts = open(&dir).await;
    let short = FakePeers {
        source: &source,
        liars: vec![1],
        requests: Mutex::default(),
        answers_max: 2,
    };
    let failed = artifacts.fetch_missing(digest, 3_000_000, &short).await;
    assert!(matches!(failed, Err(ArtifactError::NoPeer(_))));
    assert_eq!(
        artifacts.offset(&NODE, digest).await.unwrap(),
        1 << 20,
        "one good piece stays"
    );
    let peers = FakePeers {
        source: &source,
        liars: vec![1],
        requests: Mutex::default(),
        answers_max: 9,
    };
    artifacts
        .fetch_missing(digest, 3_000_000, &peers)
        .await
        .unwrap();
    assert_eq!(
        peers.requests.lock().unwrap()[&2],
        3,
        "the groups and the two missing pieces"
    );
    let read = artifacts.read(digest, 2_999_000, 1_000).await.unwrap();
    assert_eq!(read, bytes[2_999_000..]);
}

/// Any byte of an artifact or of its groups is flipped or cut off: the scrubber moves the artifact
/// aside and reports it, and it can be stored again.
#[tokio::test]
async fn a_scrubber_moves_damaged_artifacts_aside() {
    let dir = TempDir::new().unwrap();
    let bytes = image(70_000);
    let whole = Hash::of(&image(40_000));
    let artifacts = open(&dir).await;
    upload(&artifacts, &image(40_000)).await;
    for ending in ["", ".groups"] {
        for harm in 0..4 {
            let digest = upload(&artifacts, &bytes).await;
            let path = dir.path().join(format!("{digest}{ending}"));
            let mut stored = std::fs::read(&path).unwrap();
            let last = stored.len() - 1;
            match harm {
                0 => stored[0] ^= 1,
                1 => stored[last / 2] ^= 1,
                2 => stored[last] ^= 1,
                _ => stored.truncate(last),
            }
            std::fs::write(&path, stored).unwrap();
            let before = artifacts.damaged().borrow().0;
            let mut at = ArtifactScrub::default();
            // Small steps: no more than a round.
            for _ in 0..5 {
                artifacts.scrub(&mut at, 30_000).await;
            }
            assert_eq!(*artifacts.damaged().borrow(), (before + 1, Some(digest)));
            assert_eq!(artifacts.size(&digest), None);
            assert!(dir.path().join(format!("{digest}.damaged")).exists());
        }
    }
    assert_eq!(
        artifacts.size(&whole),
        Some(40_000),
        "the other one is whole"
    );
}
