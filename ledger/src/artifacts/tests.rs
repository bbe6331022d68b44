use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_types::limits::ARTIFACT_BYTES_MAX;
use lamplighter_types::{Hash, Id};
use tempfile::TempDir;

use super::{
    ArtifactError, ArtifactLimits, ArtifactPeers, ArtifactRequest, ArtifactScrub, Artifacts,
    Charge, PeerFailure, Uploader,
};

const CLIENT: Uploader = Uploader::Anyone;

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
        .begin(&CLIENT, digest, bytes.len() as u64)
        .await
        .unwrap();
    for chunk in bytes.chunks(30_000) {
        let chunk = Bytes::copy_from_slice(chunk);
        offset = artifacts
            .append(&CLIENT, digest, offset, chunk)
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
    first.begin(&CLIENT, digest, 100_000).await.unwrap();
    first
        .append(&CLIENT, digest, 0, Bytes::copy_from_slice(&bytes[..40_000]))
        .await
        .unwrap();
    let second = open(&dir).await;
    assert_eq!(
        second.begin(&CLIENT, digest, 100_000).await.unwrap(),
        40_000
    );
    let wrong = second
        .append(&CLIENT, digest, 30_000, Bytes::from_static(b"x"))
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
            &CLIENT,
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
    artifacts.begin(&CLIENT, digest, 50_000).await.unwrap();
    let refused = artifacts
        .append(&CLIENT, digest, 0, Bytes::from(bytes))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, ArtifactError::WrongDigest { .. }),
        "{refused}"
    );
    assert_eq!(artifacts.size(&digest), None);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(
        artifacts.begin(&CLIENT, digest, 50_000).await.unwrap(),
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
    let failed = artifacts
        .fetch_missing(digest, 3_000_000, &Charge::City, &short)
        .await;
    assert!(matches!(failed, Err(ArtifactError::NoPeer(_))));
    assert_eq!(
        artifacts.offset(&Uploader::Node, digest).await.unwrap(),
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
        .fetch_missing(digest, 3_000_000, &Charge::City, &peers)
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

/// Peers that have nothing.
struct EmptyPeers;

#[async_trait]
impl ArtifactPeers for EmptyPeers {
    fn peers(&self) -> Vec<u64> {
        vec![1, 2, 3]
    }

    async fn fetch(&self, _: u64, _: ArtifactRequest) -> Result<Bytes, PeerFailure> {
        Err(PeerFailure::Missing)
    }
}

/// Peers that show group values for whatever is asked, and no bytes.
struct PeersWithoutBytes;

#[async_trait]
impl ArtifactPeers for PeersWithoutBytes {
    fn peers(&self) -> Vec<u64> {
        vec![1]
    }

    async fn fetch(&self, _: u64, request: ArtifactRequest) -> Result<Bytes, PeerFailure> {
        match request {
            // One group: any value fits.
            ArtifactRequest::Groups { .. } => Ok(Bytes::from_static(&[7; 32])),
            ArtifactRequest::Range { length, .. } => Ok(Bytes::from(vec![0; length as usize])),
        }
    }
}

fn organization(name: &str) -> Charge {
    Charge::Organization(Id::new(name).unwrap())
}

/// A vendor publishes manifests of the largest artifacts, of which there are no bytes: more than
/// fit on the disk in all.
#[tokio::test]
async fn manifests_of_nothing_take_no_space() {
    let (source_dir, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let artifacts = open(&dir).await;
    for n in 0..=255 {
        let nothing = Hash([n; 32]);
        let fetched = artifacts
            .fetch_missing(
                nothing,
                ARTIFACT_BYTES_MAX,
                &organization("evil"),
                &EmptyPeers,
            )
            .await;
        assert!(
            matches!(fetched, Err(ArtifactError::NoPeer(_))),
            "{fetched:?}"
        );
        let fetched = artifacts
            .fetch_missing(
                Hash::of(&[n]),
                16_000,
                &organization("evil"),
                &PeersWithoutBytes,
            )
            .await;
        assert!(
            matches!(fetched, Err(ArtifactError::NoPeer(_))),
            "{fetched:?}"
        );
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    // Nobody is kept out: neither an upload, nor a fetch of another vendor's release.
    let begun = artifacts.begin(&CLIENT, Hash([1; 32]), ARTIFACT_BYTES_MAX);
    assert_eq!(begun.await.unwrap(), 0);
    let source = open(&source_dir).await;
    let digest = upload(&source, &image(40_000)).await;
    let peers = FakePeers {
        source: &source,
        liars: Vec::new(),
        requests: Mutex::default(),
        answers_max: 9,
    };
    artifacts
        .fetch_missing(digest, 40_000, &organization("acme"), &peers)
        .await
        .unwrap();
    assert_eq!(artifacts.size(&digest), Some(40_000));
}

/// What is fetched before an approver has released it counts to its organization; what is released
/// always finds space.
#[tokio::test]
async fn unreleased_bytes_leave_space_to_releases() {
    let (source_dir, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let source = open(&source_dir).await;
    let limits = ArtifactLimits {
        bytes_max: 100_000,
        unreleased_bytes_max: 50_000,
        bytes_per_organization_max: 30_000,
        ..ArtifactLimits::default()
    };
    let artifacts = Artifacts::open(dir.path().to_owned(), limits)
        .await
        .unwrap();
    let peers = FakePeers {
        source: &source,
        liars: Vec::new(),
        requests: Mutex::default(),
        answers_max: 99,
    };
    let fetch = async |bytes: &[u8], charge: Charge| {
        let digest = upload(&source, bytes).await;
        let size_bytes = bytes.len() as u64;
        artifacts
            .fetch_missing(digest, size_bytes, &charge, &peers)
            .await
    };
    fetch(&image(29_000), organization("evil")).await.unwrap();
    let more = fetch(&image(2_000), organization("evil")).await;
    assert!(matches!(
        more,
        Err(ArtifactError::OrganizationQuota { bytes_max: 30_000 })
    ));
    fetch(&image(20_000), organization("acme")).await.unwrap();
    let more = fetch(&image(3_000), organization("rival")).await;
    assert!(matches!(
        more,
        Err(ArtifactError::Quota { bytes_max: 50_000 })
    ));
    fetch(&image(45_000), Charge::City).await.unwrap();
}

/// A fetch that a restart has interrupted counts with what is on disk, until a peer shows more.
#[tokio::test]
async fn a_restart_reserves_nothing_again() {
    let dir = TempDir::new().unwrap();
    for n in 0..=255 {
        let part = format!("{}.{ARTIFACT_BYTES_MAX}.part", Hash([n; 32]));
        std::fs::write(dir.path().join(part), b"x").unwrap();
    }
    let artifacts = open(&dir).await;
    let begun = artifacts.begin(&CLIENT, Hash([1; 32]), ARTIFACT_BYTES_MAX);
    assert_eq!(begun.await.unwrap(), 0);
}

#[tokio::test]
async fn a_collected_artifact_leaves_nothing_and_is_not_damaged() {
    let dir = TempDir::new().unwrap();
    let artifacts = open(&dir).await;
    let bytes = image(40_000);
    let digest = upload(&artifacts, &bytes).await;
    std::fs::write(dir.path().join(format!("{digest}.damaged")), b"x").unwrap();
    artifacts.remove_complete(digest).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let read = artifacts.read(digest, 0, 10).await;
    assert!(matches!(read, Err(ArtifactError::Missing(_))));
    // A reader that had begun before finds no file, and that is no damage.
    let late = artifacts.quarantine(digest, 0).await;
    assert!(matches!(late, Err(ArtifactError::Missing(_))));
    assert_eq!(artifacts.damaged().borrow().0, 0);
    upload(&artifacts, &bytes).await;
    assert_eq!(artifacts.size(&digest), Some(40_000));
}

/// The node stops in the middle of a removal: the rest goes at the next start.
#[tokio::test]
async fn a_removal_that_a_crash_interrupted_is_completed() {
    let dir = TempDir::new().unwrap();
    let artifacts = open(&dir).await;
    let digest = upload(&artifacts, &image(40_000)).await;
    let whole = upload(&artifacts, &image(50_000)).await;
    std::fs::remove_file(dir.path().join(digest.to_string())).unwrap();
    let artifacts = open(&dir).await;
    assert_eq!(artifacts.list(), [(whole, 50_000)]);
    assert!(!dir.path().join(format!("{digest}.groups")).exists());
    artifacts.groups(whole).await.unwrap();
}

/// The uploader drops an artifact while no release names it; others don't. It expires by itself.
#[tokio::test]
async fn unpublished_bytes_are_dropped_by_their_owner_or_by_time() {
    let dir = TempDir::new().unwrap();
    let by = |account: &str, organization: &str| Uploader::Account {
        account: Id::new(account).unwrap(),
        organization: Id::new(organization).unwrap(),
    };
    let (ada, eve) = (by("ada", "acme"), by("eve", "evil"));
    let bytes = image(1_000);
    let digest = Hash::of(&bytes);
    let artifacts = open(&dir).await;
    artifacts.begin(&ada, digest, 1_000).await.unwrap();
    let piece = Bytes::from(bytes);
    artifacts.append(&ada, digest, 0, piece).await.unwrap();
    let artifacts = open(&dir).await;
    let refused = artifacts.drop_unpublished(&eve, digest).await;
    assert!(matches!(refused, Err(ArtifactError::Missing(_))));
    let now = SystemTime::now();
    let day = Duration::from_secs(24 * 3600);
    assert!(!artifacts.is_abandoned(&digest, now + 6 * day));
    assert!(artifacts.is_abandoned(&digest, now + 8 * day));
    let colleague = by("ben", "acme");
    artifacts
        .drop_unpublished(&colleague, digest)
        .await
        .unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
