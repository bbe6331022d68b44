//! A sync that fails. The node must not try again as if nothing had been: it ends at the first one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::city::City;

/// The node that is hit.
const HIT: usize = 3;

/// The content of the disk after the failed sync.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// Nothing of the sync: the power is cut and the pages are lost.
    Lost,
    /// All of it.
    Persisted,
}

/// The library that fails syncs, compiled here.
struct Shim {
    library: PathBuf,
    trigger: PathBuf,
    lost: PathBuf,
    persist: PathBuf,
}

impl Shim {
    fn build(folder: &Path, outcome: Outcome) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim/fsync.c");
        let library = folder.join("fsync.so");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .status();
        assert!(built.unwrap().success());
        let persist = if outcome == Outcome::Persisted {
            "1"
        } else {
            "0"
        };
        Self {
            library,
            trigger: folder.join("trigger"),
            lost: folder.join("lost"),
            persist: persist.into(),
        }
    }

    fn dress(&self, city: &mut City) {
        let under = city.data_dir(HIT);
        let variables: [(&str, &Path); 5] = [
            ("LD_PRELOAD", &self.library),
            ("FSYNC_SHIM_UNDER", &under),
            ("FSYNC_SHIM_TRIGGER", &self.trigger),
            ("FSYNC_SHIM_LOST", &self.lost),
            ("FSYNC_SHIM_PERSIST", &self.persist),
        ];
        city.dress(HIT, &variables);
    }

    /// From now on syncs of files whose path contains this fail.
    fn pull(&self, part: &str) {
        let new = self.trigger.with_extension("new");
        fs::write(&new, part).unwrap();
        fs::rename(new, &self.trigger).unwrap();
    }

    fn release(&self) {
        fs::remove_file(&self.trigger).unwrap();
    }

    /// Cuts the files to their synced length, as a power cut does; returns how many were cut.
    fn cut_power(&self) -> usize {
        let lines = fs::read_to_string(&self.lost).unwrap();
        for line in lines.lines() {
            let (bytes, path) = line.split_once(' ').unwrap();
            let file = fs::OpenOptions::new().write(true).open(path);
            // A deleted file is missing already.
            if let Ok(file) = file {
                file.set_len(bytes.parse().unwrap()).unwrap();
            }
        }
        fs::remove_file(&self.lost).unwrap();
        lines.lines().count()
    }
}

async fn a_failing_log_ends_the_node(outcome: Outcome) {
    let folder = tempfile::tempdir().unwrap();
    let shim = Shim::build(folder.path(), outcome);
    let mut city = City::found().await;
    shim.dress(&mut city);
    city.start().await;
    city.work(20).await;
    let logged = city.logged(HIT);
    shim.pull(".log");
    city.work(20).await;
    let log = city.ended(HIT, logged).await;
    assert!(log.contains("this node ends its service"), "{log}");
    let last = log.trim_end().lines().last().unwrap_or_default();
    assert!(
        last.contains("fdatasync") || last.contains("fsync"),
        "{log}"
    );
    assert!(
        last.contains(".log") && last.contains("Input/output error"),
        "{log}"
    );

    // While the disk is so, it ends again, and the others go on.
    let logged = city.logged(HIT);
    city.node(HIT).process.start().unwrap();
    city.ended(HIT, logged).await;
    city.work(20).await;

    shim.release();
    match outcome {
        Outcome::Lost => assert!(shim.cut_power() > 0, "no sync failed"),
        Outcome::Persisted => assert!(shim.lost.exists(), "no sync failed"),
    }
    city.start_again(HIT).await;
    city.work(5).await;
    city.nothing_is_lost().await;
    city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_of_the_log_fails_and_what_it_had_to_sync_is_lost() {
    a_failing_log_ends_the_node(Outcome::Lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_of_the_log_fails_though_all_is_on_the_disk() {
    a_failing_log_ends_the_node(Outcome::Persisted).await;
}

/// Files whose syncs fail while the node starts: it writes a new manifest and tables of what the
/// log has.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_start_over_syncs_that_fail() {
    let folder = tempfile::tempdir().unwrap();
    let shim = Shim::build(folder.path(), Outcome::Lost);
    let mut city = City::found().await;
    shim.dress(&mut city);
    city.start().await;
    city.work(10).await;
    for part in ["MANIFEST", ".sst", "/db", "/snapshots", "/artifacts"] {
        city.node(HIT).process.kill().await.unwrap();
        let logged = city.logged(HIT);
        shim.pull(part);
        city.node(HIT).process.start().unwrap();
        let wrong = if part.starts_with("/s") || part.starts_with("/a") {
            // None of these is synced at a start, so the start succeeds.
            city.devnet.ready(HIT).await.unwrap();
            None
        } else {
            Some(city.ended(HIT, logged).await)
        };
        shim.release();
        if let Some(log) = wrong {
            assert!(log.contains("Input/output error"), "{part}: {log}");
            assert!(
                log.contains(city.data_dir(HIT).to_str().unwrap()),
                "{part}: {log}"
            );
            if shim.lost.exists() {
                shim.cut_power();
            }
            city.start_again(HIT).await;
        }
        city.work(3).await;
    }
    city.nothing_is_lost().await;
    city.stop().await;
}

/// A table that a flush writes cannot be synced. No caller waits for a flush: the node finds out.
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_fails_ends_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let shim = Shim::build(folder.path(), Outcome::Lost);
    let mut city = City::found().await;
    shim.dress(&mut city);
    city.start().await;
    let logged = city.logged(HIT);
    shim.pull(".sst");
    // Enough to fill a memtable.
    city.work_until_ended(HIT, 2_000).await;
    let log = city.ended(HIT, logged).await;
    let last = log.trim_end().lines().last().unwrap_or_default();
    assert!(
        last.contains(".sst") && last.contains("Input/output error"),
        "{log}"
    );
    city.work(5).await;
    shim.release();
    shim.cut_power();
    city.start_again(HIT).await;
    city.work(5).await;
    city.nothing_is_lost().await;
    city.stop().await;
}

/// A sync of an uploaded image fails: the node stops before it reports a wrong offset to the
/// client.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_of_an_artifact_that_fails_ends_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let shim = Shim::build(folder.path(), Outcome::Lost);
    let mut city = City::found().await;
    shim.dress(&mut city);
    city.start().await;
    city.work(5).await;
    let logged = city.logged(HIT);
    let bytes: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let image = folder.path().join("image");
    fs::write(&image, bytes).unwrap();
    let client = city.client_of(HIT, Duration::from_secs(5));
    shim.pull("/artifacts");
    assert!(client.upload(&image, &mut |_, _| ()).await.is_err());
    let log = city.ended(HIT, logged).await;
    assert!(
        log.contains("/artifacts/") && log.contains("Input/output error"),
        "{log}"
    );
    shim.release();
    shim.cut_power();
    city.start_again(HIT).await;
    client.upload(&image, &mut |_, _| ()).await.unwrap();
    city.work(5).await;
    city.nothing_is_lost().await;
    city.stop().await;
}
