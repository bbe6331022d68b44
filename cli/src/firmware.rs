//! `firmware`: artifacts and releases.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_client::{Feed, FeedFilter};
use lamplighter_types::{
    Action, Fact, FirmwareAction, Hash, Id, ReleaseManifest, SignedRelease, Validator,
    ValidatorSet, Version, codec,
};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Duration, timeout};

use crate::failure::Failure;
use crate::output::name;
use crate::session::{Session, asking};

/// For a quorum of validators to fetch an image from each other: a large one may take longer.
const STORED_WITHIN: Duration = Duration::from_secs(30);

/// What a node tells of the nodes.
#[derive(Deserialize)]
struct Nodes {
    validators: Vec<Validator>,
}

#[derive(Debug, Subcommand)]
pub enum FirmwareCommand {
    /// All releases.
    List,
    /// One release, with the digest that approvers name.
    Show { release: Id },
    /// Uploads an image, signs the release as its vendor, publishes it, and waits until a quorum of
    /// validators stores the image: then it can be approved.
    Publish(Box<Publish>),
    /// Approves a release, after a look at its manifest: as its digest stands on the ledger.
    Approve {
        release: Id,
        /// Digest of the manifest that you looked at; without it that of the ledger is taken.
        #[arg(long)]
        manifest: Option<Hash>,
    },
    /// No new rollout.
    Deprecate { release: Id, reason: String },
    /// Recalls every deployment that is not yet installing.
    Revoke { release: Id, reason: String },
}

#[derive(Debug, Args)]
pub struct Publish {
    /// The firmware image.
    image: PathBuf,
    #[arg(long)]
    release: Id,
    /// major.minor.patch
    #[arg(long)]
    version: Version,
    /// Hardware that may install it; may be given several times.
    #[arg(long = "hardware-class", required = true)]
    hardware_classes: Vec<String>,
    /// Anti-rollback: not installed where the device is above it.
    #[arg(long)]
    security_counter: u64,
    /// The lowest running version that it may replace.
    #[arg(long)]
    replaces_from: Option<Version>,
    /// A release one of which must be confirmed on the device before; may be given several times.
    #[arg(long = "depends-on")]
    depends_on: Vec<Id>,
    /// Unix time in ms from which on it is not installed.
    #[arg(long)]
    expires_ms: Option<u64>,
    /// Can't be postponed.
    #[arg(long)]
    critical: bool,
}

pub async fn carry_out(session: &Session, command: FirmwareCommand) -> Result<ExitCode, Failure> {
    let action = match command {
        FirmwareCommand::List => return list(session).await,
        FirmwareCommand::Show { release } => {
            let read = session
                .client
                .release(&release)
                .await
                .map_err(asking)?
                .value;
            let mut told = json!(read.manifest);
            told["status"] = json!(read.status);
            told["author"] = json!(read.author);
            told["approvals"] = json!(read.approvals);
            told["manifest_digest"] = json!(read.manifest_digest);
            session.output.record(&told);
            return Ok(ExitCode::SUCCESS);
        }
        FirmwareCommand::Publish(given) => return publish(session, *given).await,
        FirmwareCommand::Approve { release, manifest } => {
            let manifest = match manifest {
                Some(manifest) => manifest,
                None => {
                    let read = session
                        .client
                        .release(&release)
                        .await
                        .map_err(asking)?
                        .value;
                    // What the vendor signed counts, not what the node says of it.
                    let signed = read.signed.verify();
                    let signed = signed.map_err(Failure::doing("the release is not signed"))?;
                    session.output.say(&format!("approving {signed:?}"));
                    codec::digest(&signed)
                }
            };
            FirmwareAction::Approve { release, manifest }
        }
        FirmwareCommand::Deprecate { release, reason } => {
            FirmwareAction::Deprecate { release, reason }
        }
        FirmwareCommand::Revoke { release, reason } => FirmwareAction::Revoke { release, reason },
    };
    session
        .act(Action::Firmware(action))
        .await
        .map(|()| ExitCode::SUCCESS)
}

/// Uploads, signs and publishes, and waits until the release can be approved.
async fn publish(session: &Session, given: Publish) -> Result<ExitCode, Failure> {
    let (vendor, secret) = session.account()?;
    let output = session.output;
    let mut told = 0;
    let mut progress = |done: u64, all: u64| {
        let percent = done * 100 / all.max(1);
        if percent >= told + 10 {
            told = percent;
            output.say(&format!("uploaded {percent} %"));
        }
    };
    let uploaded = session.client.upload(&given.image, &mut progress).await;
    let (artifact, size_bytes) = uploaded.map_err(asking)?;
    let manifest = ReleaseManifest {
        release: given.release,
        vendor: vendor.clone(),
        version: given.version,
        artifact,
        size_bytes,
        hardware_classes: given.hardware_classes,
        security_counter: given.security_counter,
        replaces_from: given.replaces_from,
        depends_on: given.depends_on,
        expires_ms: given.expires_ms,
        critical: given.critical,
        provenance: None,
    };
    let action = FirmwareAction::Publish {
        release: SignedRelease::sign(&manifest, secret),
    };
    let stored = FeedFilter {
        kind: Some("artifact_held".to_owned()),
        ..FeedFilter::default()
    };
    let mut feed = session.client.feed(&stored, None);
    // The stream is open before the validators learn of the image: nothing is missed.
    feed.connect().await.map_err(asking)?;
    session.act(Action::Firmware(action)).await?;
    let quorum = quorum(session).await?;
    let words = match timeout(STORED_WITHIN, until_stored(&mut feed, artifact, quorum)).await {
        Ok(stored) => stored.map(|()| "a quorum of validators stores the image: approve it")?,
        Err(_) => "not yet stored by a quorum of validators: it can't be approved before",
    };
    session.output.say(words);
    Ok(ExitCode::SUCCESS)
}

/// How many validators must store an image before a release of it can be approved.
async fn quorum(session: &Session) -> Result<usize, Failure> {
    let nodes = session.client.get::<Nodes>("/v1/nodes").await;
    let validators = nodes.map_err(asking)?.value.validators;
    Ok(ValidatorSet { validators }.quorum())
}

/// Follows the feed until so many validators have signed that they store an image.
async fn until_stored(feed: &mut Feed, image: Hash, quorum: usize) -> Result<(), Failure> {
    loop {
        let delivery = feed.next().await.map_err(asking)?;
        if let Fact::ArtifactHeld {
            artifact,
            node: _,
            holders,
        } = delivery.notification.fact
            && artifact == image
            && holders as usize >= quorum
        {
            return Ok(());
        }
    }
}

async fn list(session: &Session) -> Result<ExitCode, Failure> {
    let page = session.client.releases(None).await.map_err(asking)?.value;
    let heads = [
        "release",
        "version",
        "status",
        "vendor",
        "counter",
        "bytes",
        "approved by",
    ];
    session.output.list(&page.items, &heads, |release| {
        let manifest = &release.manifest;
        let by: Vec<_> = release.approvals.iter().map(Id::to_string).collect();
        vec![
            manifest.release.to_string(),
            manifest.version.to_string(),
            name(&release.status),
            manifest.vendor.to_string(),
            manifest.security_counter.to_string(),
            manifest.size_bytes.to_string(),
            by.join(" "),
        ]
    });
    Ok(ExitCode::SUCCESS)
}
