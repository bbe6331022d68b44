//! `firmware`: artifacts and releases.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_types::{
    Action, FirmwareAction, Hash, Id, ReleaseManifest, SignedRelease, Version, codec,
};
use serde_json::json;

use crate::approved;
use crate::failure::Failure;
use crate::image;
use crate::output::name;
use crate::session::{Session, asking};

#[derive(Debug, Subcommand)]
pub enum FirmwareCommand {
    /// All releases.
    List,
    /// One release, with the digest that approvers name.
    Show { release: Id },
    /// Uploads an image, signs the release as its vendor, and publishes it.
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
    /// The firmware image, at most 256 MiB: the bytes that devices write to their flash.
    image: PathBuf,
    /// The form of the image, where it is meant to be another than a plain binary.
    #[arg(long)]
    format: Option<image::Format>,
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
        FirmwareCommand::Publish(given) => publish(session, *given).await?,
        FirmwareCommand::Approve { release, manifest } => {
            return approve(session, release, manifest).await;
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

/// Approves a release, and says what was approved when it is: whoever may not approve it is told
/// that, and nothing else.
async fn approve(
    session: &Session,
    release: Id,
    manifest: Option<Hash>,
) -> Result<ExitCode, Failure> {
    let (looked_at, manifest) = match manifest {
        Some(manifest) => (None, manifest),
        None => {
            let read = session.client.release(&release).await;
            // What the vendor signed counts, not what the node says of it.
            let signed = read.map_err(asking)?.value.signed.verify();
            let signed = signed.map_err(Failure::doing("the release is not signed"))?;
            let digest = codec::digest(&signed);
            (Some(signed), digest)
        }
    };
    let action = FirmwareAction::Approve { release, manifest };
    session.act(Action::Firmware(action)).await?;
    if let Some(signed) = looked_at {
        approved::say(session.output, &signed);
    }
    Ok(ExitCode::SUCCESS)
}

/// Uploads and signs; gives the action that publishes.
async fn publish(session: &Session, given: Publish) -> Result<FirmwareAction, Failure> {
    let (vendor, secret) = session.account()?;
    image::check(&given.image, given.format)?;
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
    Ok(FirmwareAction::Publish {
        release: SignedRelease::sign(&manifest, secret),
    })
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
