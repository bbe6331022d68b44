use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use lamplighter_types::{Hash, Id};
use tempfile::TempDir;

use crate::artifacts::{ArtifactError, ArtifactLimits, Artifacts, Charge, Uploader};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn account(name: &str) -> Uploader {
    member("city", name)
}

fn member(organization: &str, account: &str) -> Uploader {
    Uploader::Account {
        account: Id::new(account).unwrap(),
        organization: Id::new(organization).unwrap(),
    }
}

fn image(len: usize) -> Bytes {
    (0..len).map(|n| (n * 7 % 253) as u8).collect()
}

async fn open(dir: &TempDir) -> Artifacts {
    open_with(dir, ArtifactLimits::default()).await
}

async fn open_with(dir: &TempDir, limits: ArtifactLimits) -> Artifacts {
    Artifacts::open(dir.path().to_owned(), limits)
        .await
        .unwrap()
}

fn files(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[tokio::test]
async fn uploads_and_bytes_are_bounded() {
    let dir = TempDir::new().unwrap();
    let limits = ArtifactLimits {
        uploads_max: 3,
        uploads_per_account_max: 2,
        bytes_max: 1_000,
        ..ArtifactLimits::default()
    };
    let artifacts = open_with(&dir, limits).await;
    let (ada, ben) = (account("ada"), account("ben"));
    let digest = |n: u8| Hash([n; 32]);
    let begin = |by: &Uploader, n: u8, size: u64| {
        let (artifacts, by) = (artifacts.clone(), by.clone());
        async move { artifacts.begin(&by, digest(n), size).await }
    };
    let quota = begin(&ada, 1, 1_001).await;
    assert!(matches!(
        quota,
        Err(ArtifactError::Quota { bytes_max: 1_000 })
    ));
    begin(&ada, 1, 600).await.unwrap();
    begin(&ada, 2, 10).await.unwrap();
    let third = begin(&ada, 3, 10).await;
    assert!(matches!(
        third,
        Err(ArtifactError::TooManyAccountUploads(2))
    ));
    begin(&ben, 1, 10).await.unwrap();
    let all = begin(&ben, 2, 10).await;
    assert!(matches!(all, Err(ArtifactError::TooManyUploads(3))));
    // A fetch of the node waits for no client's upload.
    let fetch = artifacts.begin_fetch(digest(1), 10, &Charge::City);
    fetch.await.unwrap();
    begin(&ada, 1, 600).await.unwrap();
    let long = Bytes::from(vec![0; 601]);
    let long = artifacts.append(&ada, digest(1), 0, long).await;
    assert!(matches!(long, Err(ArtifactError::Range { .. })));
    assert!(begin(&ben, 2, u64::MAX).await.is_err());
    assert!(artifacts.read(digest(1), u64::MAX, u64::MAX).await.is_err());

    artifacts.drop_upload(&ada, digest(2)).await.unwrap();
    begin(&ben, 2, 10).await.unwrap();
}

/// The accounts of one organization take only its share, however many they are.
#[tokio::test]
async fn an_organization_has_a_share_of_slots_and_bytes() {
    let dir = TempDir::new().unwrap();
    let limits = ArtifactLimits {
        uploads_per_organization_max: 3,
        bytes_per_organization_max: 1_000,
        ..ArtifactLimits::default()
    };
    let artifacts = open_with(&dir, limits.clone()).await;
    for n in 0..3 {
        let by = member("crowd", &format!("puppet-{n}"));
        let digest = Hash([n; 32]);
        artifacts.begin(&by, digest, 300).await.unwrap();
    }
    let fourth = member("crowd", "puppet-3");
    let slots = artifacts.begin(&fourth, Hash([9; 32]), 1).await;
    assert!(matches!(
        slots,
        Err(ArtifactError::TooManyOrganizationUploads(3))
    ));
    artifacts
        .drop_upload(&member("crowd", "puppet-0"), Hash([0; 32]))
        .await
        .unwrap();
    let bytes = artifacts.begin(&fourth, Hash([9; 32]), 500).await;
    assert!(matches!(
        bytes,
        Err(ArtifactError::OrganizationQuota { bytes_max: 1_000 })
    ));
    artifacts
        .begin(&member("acme", "ada"), Hash([8; 32]), 1_000)
        .await
        .unwrap();
    // It is the same after a restart.
    let (again, bytes) = (open_with(&dir, limits).await, image(10));
    again.begin(&fourth, Hash::of(&bytes), 10).await.unwrap();
    let end = again.append(&fourth, Hash::of(&bytes), 0, bytes);
    assert_eq!(end.await.unwrap(), 10);
}

/// Complete bytes count to who uploaded them until an approver has released them, across restarts.
#[tokio::test]
async fn complete_bytes_count_to_their_organization_until_they_are_released() {
    let dir = TempDir::new().unwrap();
    let limits = ArtifactLimits {
        bytes_per_organization_max: 1_000,
        ..ArtifactLimits::default()
    };
    let first = open_with(&dir, limits.clone()).await;
    let (ada, bytes) = (account("ada"), image(900));
    let digest = Hash::of(&bytes);
    first.begin(&ada, digest, 900).await.unwrap();
    first.append(&ada, digest, 0, bytes).await.unwrap();
    let ben = account("ben");
    for artifacts in [first, open_with(&dir, limits.clone()).await] {
        let more = artifacts.begin(&ben, Hash([1; 32]), 200).await;
        assert!(matches!(more, Err(ArtifactError::OrganizationQuota { .. })));
        let other = artifacts.begin(&member("rival", "eve"), digest, 900).await;
        assert_eq!(other.unwrap(), 900, "it is here already");
        artifacts.set_charge(&digest, Charge::City);
        let more = artifacts.begin(&ben, Hash([1; 32]), 200).await;
        assert_eq!(more.unwrap(), 0);
        artifacts.drop_upload(&ben, Hash([1; 32])).await.unwrap();
    }
}

/// A wrong size or wrong bytes of one uploader do not affect another.
#[tokio::test]
async fn uploads_of_different_accounts_are_independent() {
    let dir = TempDir::new().unwrap();
    let artifacts = open(&dir).await;
    let (ada, eve) = (account("ada"), account("eve"));
    let bytes = image(50_000);
    let digest = Hash::of(&bytes);
    artifacts.begin(&eve, digest, 7).await.unwrap();
    artifacts.begin(&ada, digest, 50_000).await.unwrap();
    let half = bytes.slice(..20_000);
    artifacts.append(&ada, digest, 0, half).await.unwrap();
    let wrong = Bytes::from_static(b"garbage");
    let refused = artifacts.append(&eve, digest, 0, wrong).await;
    assert!(matches!(refused, Err(ArtifactError::WrongDigest { .. })));
    let dropped = artifacts.drop_upload(&eve, digest).await;
    assert!(matches!(dropped, Err(ArtifactError::Missing(_))));
    assert_eq!(artifacts.offset(&ada, digest).await.unwrap(), 20_000);

    // A wrong announcement is corrected by its author, before and after some bytes.
    for (size, sent) in [(9, 0), (60_000, 500), (50_000, 50_000)] {
        assert_eq!(artifacts.begin(&eve, digest, size).await.unwrap(), 0);
        let piece = bytes.slice(..sent);
        let end = artifacts.append(&eve, digest, 0, piece).await.unwrap();
        assert_eq!(end, sent as u64);
    }
    assert_eq!(artifacts.size(&digest), Some(50_000));
    // Another uploader completed it: no upload of it stays.
    assert!(artifacts.uploads(&ada).await.unwrap().is_empty());
    let end = artifacts.append(&ada, digest, 20_000, bytes.slice(20_000..));
    assert_eq!(end.await.unwrap(), 50_000);
    artifacts.expire(SystemTime::now()).await;
    assert_eq!(
        files(dir.path()),
        [
            digest.to_string(),
            format!("{digest}.groups"),
            format!("{digest}.owner")
        ]
    );
}

#[tokio::test]
async fn an_abandoned_upload_expires_even_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let (ada, digest) = (account("ada.b-c_1"), Hash::of(&image(100)));
    let first = open(&dir).await;
    for uploader in [&ada, &Uploader::Anyone, &Uploader::Node] {
        match uploader {
            Uploader::Node => first.begin_fetch(digest, 100, &Charge::City).await,
            client => first.begin(client, digest, 100).await,
        }
        .unwrap();
        let piece = image(100).slice(..40);
        first.append(uploader, digest, 0, piece).await.unwrap();
    }
    let before = SystemTime::now();
    let second = open(&dir).await;
    for uploader in [&ada, &Uploader::Anyone, &Uploader::Node] {
        let listed = second.uploads(uploader).await.unwrap();
        assert_eq!(listed.len(), 1, "each uploader has one");
        let upload = &listed[0];
        assert_eq!(
            (upload.digest, upload.size_bytes, upload.offset),
            (digest, 100, 40)
        );
        assert!(upload.expires <= before + DAY);
        assert!(upload.expires > before + DAY - Duration::from_secs(60));
    }
    second.expire(before + DAY / 2).await;
    assert_eq!(files(dir.path()).len(), 3);
    // A clock that was set back expires nothing.
    second.expire(before - DAY).await;
    assert_eq!(files(dir.path()).len(), 3);
    second.expire(before + DAY + Duration::from_secs(60)).await;
    assert_eq!(files(dir.path()), [""; 0]);
    assert!(second.uploads(&ada).await.unwrap().is_empty());
    assert_eq!(second.begin(&ada, digest, 100).await.unwrap(), 0);
}

#[tokio::test]
async fn an_expired_upload_frees_the_limit_for_others() {
    let dir = TempDir::new().unwrap();
    let limits = ArtifactLimits {
        uploads_max: 1,
        idle_max: Duration::ZERO,
        ..ArtifactLimits::default()
    };
    let artifacts = open_with(&dir, limits).await;
    artifacts
        .begin(&account("ada"), Hash([1; 32]), 10)
        .await
        .unwrap();
    artifacts
        .begin(&account("ben"), Hash([2; 32]), 10)
        .await
        .unwrap();
}

/// The node stopped after the last byte and before the whole was checked.
#[tokio::test]
async fn an_upload_that_has_all_its_bytes_is_completed_when_it_is_continued() {
    let dir = TempDir::new().unwrap();
    let bytes = image(20_000);
    let digest = Hash::of(&bytes);
    let part = dir.path().join(format!("{digest}.20000.ada@city.part"));
    std::fs::write(part, &bytes).unwrap();
    let artifacts = open(&dir).await;
    let offset = artifacts.begin(&account("ada"), digest, 20_000).await;
    assert_eq!(offset.unwrap(), 20_000);
    assert_eq!(artifacts.size(&digest), Some(20_000));
}

#[tokio::test]
async fn two_uploads_of_one_artifact_may_end_at_once() {
    let dir = TempDir::new().unwrap();
    let artifacts = open(&dir).await;
    let bytes = image(400_000);
    let digest = Hash::of(&bytes);
    let uploads = (0..6).map(|n| {
        let (artifacts, bytes) = (artifacts.clone(), bytes.clone());
        tokio::spawn(async move {
            let by = account(&format!("vendor-{n}"));
            artifacts.begin(&by, digest, 400_000).await.unwrap();
            artifacts.append(&by, digest, 0, bytes).await.unwrap()
        })
    });
    for upload in uploads.collect::<Vec<_>>() {
        assert_eq!(upload.await.unwrap(), 400_000);
    }
    assert_eq!(
        artifacts.read(digest, 0, 1_000).await.unwrap(),
        bytes[..1_000]
    );
    artifacts.expire(SystemTime::now()).await;
    assert_eq!(files(dir.path()).len(), 3);
}

/// The other upload was completed when the last byte of this one had been written.
#[tokio::test]
async fn an_upload_of_another_size_does_not_change_the_size_of_the_artifact() {
    let dir = TempDir::new().unwrap();
    let artifacts = open(&dir).await;
    let (ada, eve) = (account("ada"), account("eve"));
    let bytes = image(50_000);
    let digest = Hash::of(&bytes);
    artifacts.begin(&eve, digest, 1).await.unwrap();
    artifacts.begin(&ada, digest, 50_000).await.unwrap();
    artifacts.append(&ada, digest, 0, bytes).await.unwrap();
    let part = dir.path().join(format!("{digest}.1.eve@city.part"));
    std::fs::write(&part, b"x").unwrap();
    artifacts.complete(&(digest, eve), 1, part).await.unwrap();
    assert_eq!(artifacts.size(&digest), Some(50_000));
    assert_eq!(files(dir.path()).len(), 3);
}

#[tokio::test]
async fn a_part_that_can_t_be_removed_blocks_no_upload() {
    let dir = TempDir::new().unwrap();
    let part = |n: u8, size| {
        dir.path()
            .join(format!("{}.{size}.ada@city.part", Hash([n; 32])))
    };
    // Not a file, so it can't be removed as one.
    std::fs::create_dir(part(1, 10)).unwrap();
    std::fs::write(part(2, 10), b"x").unwrap();
    let limits = ArtifactLimits {
        idle_max: Duration::ZERO,
        ..ArtifactLimits::default()
    };
    let artifacts = open_with(&dir, limits).await;
    let offset = artifacts.begin(&account("ben"), Hash([3; 32]), 10).await;
    assert_eq!(offset.unwrap(), 0);
    assert!(part(1, 10).exists());
    assert!(!part(2, 10).exists(), "the others are dropped");
}

/// A server drops the request of a client that disconnects.
#[tokio::test]
async fn a_dropped_append_is_completed_under_its_lock() {
    let dir = TempDir::new().unwrap();
    let artifacts = open(&dir).await;
    let ada = account("ada");
    let bytes = image(50_000);
    let digest = Hash::of(&bytes);
    artifacts.begin(&ada, digest, 50_000).await.unwrap();
    let completing = artifacts.0.completing.lock().await;
    let request = tokio::spawn({
        let (artifacts, ada) = (artifacts.clone(), ada.clone());
        async move { artifacts.append(&ada, digest, 0, bytes).await }
    });
    until(async || artifacts.offset(&ada, digest).await.unwrap() == 50_000).await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    let writer = artifacts.writer(&(digest, ada)).unwrap();
    assert!(writer.try_lock().is_err(), "it is still being written");
    drop(completing);
    until(async || artifacts.size(&digest).is_some()).await;
    artifacts.read(digest, 0, 1_000).await.unwrap();
}

async fn until(is_so: impl AsyncFn() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    let within = Duration::from_secs(20);
    tokio::time::timeout(within, wait).await.expect("it comes");
}
