//! `firmware`: artifacts and releases.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_client::{Cursor, Feed, FeedFilter, HistoryOf};
use lamplighter_types::{
    Action, Fact, FirmwareAction, Hash, Id, ReleaseManifest, SignedRelease, Validator,
    ValidatorSet, Version, codec,
};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Duration, timeout};

use crate::describe::words;
use crate::failure::Failure;
use crate::governance::approvers;
use crate::history::{changes, emit_changes};
use crate::image;
use crate::output::{Progress, emit, emit_members, joined, or_dash, print, yes};
use crate::paging;
use crate::session::{Session, asking};
use crate::time;

/// The time for a quorum of validators to fetch an image from each other; a large one may take
/// longer.
const STORED_WITHIN: Duration = Duration::from_secs(30);

/// The answer of a node to a question for the nodes.
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
    /// Your unfinished uploads, at each node that answers.
    Uploads,
    /// Drops an unfinished upload with its bytes, and makes room for others.
    DropUpload { digest: Hash },
    /// Approves a release after a look at its manifest, named by its digest on the ledger.
    Approve {
        release: Id,
        /// The digest of the manifest that you looked at; by default the one on the ledger.
        #[arg(long)]
        manifest: Option<Hash>,
    },
    /// Takes back your approval of a release.
    WithdrawApproval { release: Id },
    /// Takes back a release that nobody has released, as its author or vendor.
    Withdraw { release: Id },
    /// Deprecates a release: no new rollout may use it.
    Deprecate { release: Id, reason: String },
    /// Revokes a release and recalls every deployment that is not yet installing.
    Revoke { release: Id, reason: String },
}

#[derive(Debug, Args)]
pub struct Publish {
    /// The firmware image, at most 256 MiB: the bytes that devices write to their flash.
    image: PathBuf,
    /// The format of the image, if it is not a plain binary.
    #[arg(long)]
    format: Option<image::Format>,
    #[arg(long)]
    release: Id,
    /// major.minor.patch
    #[arg(long)]
    version: Version,
    /// A hardware class that may install it; may be repeated.
    #[arg(long = "hardware-class", required = true)]
    hardware_classes: Vec<String>,
    /// The anti-rollback counter: a device with a higher one does not install the release.
    #[arg(long)]
    security_counter: u64,
    /// The lowest running version that it may replace.
    #[arg(long)]
    replaces_from: Option<Version>,
    /// A release that must be confirmed on the device before; if repeated, one of them must be.
    #[arg(long = "depends-on")]
    depends_on: Vec<Id>,
    /// The time from which on it is not installed: 2026-12-01T06:00, +90d, or Unix time in ms.
    #[arg(long, alias = "expires-ms", value_parser = time::parse)]
    expires: Option<u64>,
    /// The release cannot be postponed.
    #[arg(long)]
    critical: bool,
}

pub async fn carry_out(session: &Session, command: FirmwareCommand) -> Result<ExitCode, Failure> {
    let action = match command {
        FirmwareCommand::List => return list(session).await,
        FirmwareCommand::Show { release } => return show(session, &release).await,
        FirmwareCommand::Uploads => return uploads(session).await,
        FirmwareCommand::DropUpload { digest } => return drop_upload(session, &digest).await,
        FirmwareCommand::Publish(arguments) => return publish(session, *arguments).await,
        FirmwareCommand::Approve { release, manifest } => {
            return approve(session, release, manifest).await;
        }
        FirmwareCommand::WithdrawApproval { release } => {
            FirmwareAction::WithdrawApproval { release }
        }
        FirmwareCommand::Withdraw { release } => FirmwareAction::Withdraw { release },
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

async fn uploads(session: &Session) -> Result<ExitCode, Failure> {
    let all = session.client.uploads().await.map_err(asking)?;
    if session.output.json {
        let items = all.iter().map(|(node, upload)| {
            let mut item = json!(upload);
            item["node"] = json!(node);
            item
        });
        print(&items.collect());
        return Ok(ExitCode::SUCCESS);
    }
    let heads = ["digest", "at", "bytes", "of", "expires"];
    session
        .output
        .list("unfinished uploads", &all, &heads, |(node, upload)| {
            vec![
                upload.digest.to_string(),
                node.clone(),
                upload.offset.to_string(),
                upload.size_bytes.to_string(),
                time::local(upload.expires_ms),
            ]
        });
    Ok(ExitCode::SUCCESS)
}

async fn drop_upload(session: &Session, digest: &Hash) -> Result<ExitCode, Failure> {
    session.account()?;
    match session.client.drop_upload(digest).await.map_err(asking)? {
        0 => Err(Failure::refused(format!(
            "refused: no node has an unfinished upload {digest} of yours (not_found); \
             `lamplighter firmware uploads` lists them"
        ))),
        nodes => {
            let text = format!("dropped at {nodes} nodes");
            session.output.answer(&json!({ "nodes": nodes }), &text);
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn show(session: &Session, release: &Id) -> Result<ExitCode, Failure> {
    let read = session.client.release(release).await;
    let read = read.map_err(asking)?.value;
    let changes = changes(session, &HistoryOf::Release(release.clone())).await?;
    if session.output.json {
        let mut shown = json!(read.manifest);
        shown["status"] = json!(read.status);
        shown["author"] = json!(read.author);
        shown["approvals"] = json!(read.approvals);
        shown["manifest_digest"] = json!(read.manifest_digest);
        shown["history"] = json!(changes.items);
        print(&shown);
        return Ok(ExitCode::SUCCESS);
    }
    let mut members = manifest_members(&read.manifest);
    let status = match read.reason.as_str() {
        "" => words(&read.status),
        reason => format!("{}: {reason}", words(&read.status)),
    };
    members.extend([
        ("manifest", read.manifest_digest.to_string()),
        ("author", read.author.to_string()),
        ("approved by", joined(&approvers(&read.approvals))),
        ("status", status),
    ]);
    emit_members(&members);
    emit("");
    emit_changes(&changes);
    Ok(ExitCode::SUCCESS)
}

fn manifest_members(manifest: &ReleaseManifest) -> Vec<(&'static str, String)> {
    let ReleaseManifest {
        release,
        vendor,
        version,
        artifact,
        size_bytes,
        hardware_classes,
        security_counter,
        replaces_from,
        depends_on,
        expires_ms,
        critical,
        provenance,
    } = manifest;
    vec![
        ("release", release.to_string()),
        ("version", version.to_string()),
        ("vendor", vendor.to_string()),
        ("image", artifact.to_string()),
        ("size", format!("{size_bytes} bytes")),
        ("for hardware", joined(hardware_classes)),
        ("security counter", security_counter.to_string()),
        ("replaces from", or_dash(replaces_from.as_ref())),
        ("depends on", joined(depends_on)),
        ("expires", or_dash(expires_ms.map(time::local))),
        ("critical", yes(*critical)),
        ("provenance", or_dash(provenance.as_ref())),
    ]
}

/// Approves a release. What the vendor signed is printed before the approval is sent.
async fn approve(
    session: &Session,
    release: Id,
    manifest: Option<Hash>,
) -> Result<ExitCode, Failure> {
    let manifest = match manifest {
        Some(manifest) => manifest,
        None => {
            let read = session.client.release(&release).await;
            // The manifest that the vendor signed counts, not the node's copy of it.
            let signed = read.map_err(asking)?.value.signed.verify();
            let signed = signed.map_err(Failure::during("the release is not signed"))?;
            let digest = codec::digest(&signed);
            if !session.output.json {
                let mut members = manifest_members(&signed);
                members.push(("manifest", digest.to_string()));
                emit_members(&members);
                emit("");
            }
            digest
        }
    };
    let action = FirmwareAction::Approve { release, manifest };
    session.act(Action::Firmware(action)).await?;
    Ok(ExitCode::SUCCESS)
}

/// Uploads, signs and publishes, and waits until the release can be approved.
async fn publish(session: &Session, arguments: Publish) -> Result<ExitCode, Failure> {
    let (vendor, secret) = session.account()?;
    image::check(&arguments.image, arguments.format)?;
    let output = session.output;
    let mut progress = Progress::of_bytes(output, "uploaded");
    let mut report = |done: u64, all: u64| progress.report(done, all);
    let uploaded = session.client.upload(&arguments.image, &mut report).await;
    drop(progress);
    let (artifact, size_bytes) = uploaded.map_err(asking)?;
    let manifest = ReleaseManifest {
        release: arguments.release,
        vendor: vendor.clone(),
        version: arguments.version,
        artifact,
        size_bytes,
        hardware_classes: arguments.hardware_classes,
        security_counter: arguments.security_counter,
        replaces_from: arguments.replaces_from,
        depends_on: arguments.depends_on,
        expires_ms: arguments.expires,
        critical: arguments.critical,
        provenance: None,
    };
    let action = FirmwareAction::Publish {
        release: SignedRelease::sign(&manifest, secret),
    };
    let mut feed = holders(session, &artifact).await?;
    session.act(Action::Firmware(action)).await?;
    let quorum = quorum(session).await?;
    let words = match timeout(STORED_WITHIN, until_stored(&mut feed, artifact, quorum)).await {
        Ok(stored) => stored.map(|()| "a quorum of validators stores the image: approve it")?,
        Err(_) => {
            "not yet known to be stored by a quorum of validators: it can't be approved before it \
             is"
        }
    };
    session.output.print_text(words);
    Ok(ExitCode::SUCCESS)
}

/// The feed of stored images, from the first release of this one on: a validator reports once that
/// it stores an image, not again for another release of it.
async fn holders(session: &Session, image: &Hash) -> Result<Feed, Failure> {
    let client = &session.client;
    let releases = paging::all(async |after: Option<&str>| client.releases(after).await).await?;
    let same = releases
        .iter()
        .filter(|release| release.manifest.artifact == *image);
    let since = same.map(|release| release.published_height).min();
    let since = since.map(|height| Cursor { height, index: 0 });
    let stored = FeedFilter {
        kind: Some("artifact_held".to_owned()),
        ..FeedFilter::default()
    };
    let mut feed = session.feed(&stored, since);
    // The stream is open before the validators learn of a new image: nothing is missed.
    feed.connect().await.map_err(asking)?;
    Ok(feed)
}

/// The number of validators that must store an image before a release of it can be approved.
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
    let client = &session.client;
    let releases = paging::all(async |after: Option<&str>| client.releases(after).await).await?;
    let heads = [
        "release",
        "version",
        "status",
        "vendor",
        "counter",
        "bytes",
        "approved by",
    ];
    session
        .output
        .list("releases", &releases, &heads, |release| {
            let manifest = &release.manifest;
            vec![
                manifest.release.to_string(),
                manifest.version.to_string(),
                words(&release.status),
                manifest.vendor.to_string(),
                manifest.security_counter.to_string(),
                manifest.size_bytes.to_string(),
                joined(&approvers(&release.approvals)),
            ]
        });
    Ok(ExitCode::SUCCESS)
}
