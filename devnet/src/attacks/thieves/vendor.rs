//! A thief with the key of a vendor.

use lamplighter_client::Client;
use lamplighter_types::login::Audience;
use lamplighter_types::{Action, FirmwareAction, Hash, Role, SignedRelease, UsersAction};
use reqwest::Method;
use serde_json::{Value, json};

use super::{agree, grant_of};
use crate::DevnetError;
use crate::attacks::{image_of, must_fail, problem_text};
use crate::city::id;
use crate::journal::Journal;
use crate::network::{Devnet, submit_action};
use crate::scenario::{RELEASE, manifest_of};

/// Uploads that the thief begins, and releases that it publishes: more than an organization may
/// have.
const UPLOADS: u32 = 64;
const RELEASES: u32 = 64;
/// A vendor of another organization.
const OTHER: &str = "other-vendor";

pub(super) async fn run(devnet: &mut Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    other_vendor(devnet).await?;
    let verdict = uploads(devnet).await;
    journal.attack("64 uploads of nothing", verdict);
    let verdict = releases(devnet).await;
    journal.attack("64 releases of nothing", verdict);
    let vendor = devnet.client(OTHER)?;
    let recall = Action::Firmware(FirmwareAction::Revoke {
        release: id(RELEASE),
        reason: "a thief".to_owned(),
    });
    let verdict = must_fail(&vendor, recall, &["firmware.not_in_charge"]).await;
    journal.attack("a vendor that recalls another's release", verdict);
    Ok(())
}

/// Registers a vendor of an organization of its own.
async fn other_vendor(devnet: &mut Devnet) -> Result<(), DevnetError> {
    let admin = devnet.client("admin-1")?;
    let organization = UsersAction::RegisterOrganization {
        organization: id("other-maker"),
        name: "Another maker of lamps".to_owned(),
    };
    let what = "registering an organization";
    submit_action(&admin, what, Action::Users(organization)).await?;
    let member = devnet.city.add_key(&devnet.files.keys(), OTHER)?;
    let user = UsersAction::RegisterUser {
        proof: devnet.city.proof(&member),
        account: member.account,
        organization: id("other-maker"),
        name: "Another vendor".to_owned(),
        key: member.secret.public(),
    };
    submit_action(&admin, "registering a user", Action::Users(user)).await?;
    let grants = vec![grant_of(OTHER, Role::Vendor)];
    agree(devnet, "roles-of-other-vendor", grants)
        .await
        .map(drop)
}

/// Status and answer of a request about uploads, with the client's token.
async fn request(
    devnet: &Devnet,
    client: &Client,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<(u16, Value), DevnetError> {
    let token = client.token(0, Audience::HttpRead).await;
    let token = token.map_err(DevnetError::client("getting a token"))?.token;
    let url = format!("{}/v1/artifacts{path}", devnet.nodes[0].url());
    let mut request = devnet.http()?.request(method, url).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let failed = |error: reqwest::Error| DevnetError::Unexpected(format!("uploading: {error}"));
    let answer = request.send().await.map_err(failed)?;
    let status = answer.status().as_u16();
    let text = answer.text().await.map_err(failed)?;
    Ok((status, serde_json::from_str(&text).unwrap_or_default()))
}

/// Begins uploads until no more are taken. Another organization's vendor uploads meanwhile.
async fn uploads(devnet: &Devnet) -> Result<String, DevnetError> {
    let vendor = devnet.client("vendor")?;
    let mut begun = Vec::new();
    let mut refusal = None;
    for number in 0..UPLOADS {
        let digest = Hash::of(format!("nothing {number}").as_bytes());
        let announced = json!({ "digest": digest, "size_bytes": 1 });
        let (status, answer) = request(devnet, &vendor, Method::POST, "", Some(announced)).await?;
        match (status, answer["code"].as_str()) {
            (200..=299, _) => begun.push(digest),
            (409, Some("artifact.uploads")) => {
                refusal = Some(format!("{status} {}", problem_text(&answer)));
                break;
            }
            _ => return Err(DevnetError::Unexpected(format!("{status} {answer}"))),
        }
    }
    let Some(refusal) = refusal else {
        return Err(DevnetError::NotRefused(format!("{UPLOADS} uploads")));
    };
    let (image, _) = image_of("an image of another maker");
    let path = devnet.files.write("other-lamp.bin", &image)?;
    let uploaded = devnet.client(OTHER)?.upload(&path, &mut |_, _| {}).await;
    uploaded.map_err(DevnetError::client("uploading as another organization"))?;
    // Their owner removes them at once; otherwise they expire.
    for digest in &begun {
        let path = format!("/{digest}/upload");
        let (status, answer) = request(devnet, &vendor, Method::DELETE, &path, None).await?;
        if !(200..300).contains(&status) {
            return Err(DevnetError::Unexpected(format!("{status} {answer}")));
        }
    }
    let begun = begun.len();
    Ok(format!("{refusal}, after {begun}; another vendor uploads"))
}

/// Publishes releases whose bytes nobody has, until no more are taken.
async fn releases(devnet: &Devnet) -> Result<String, DevnetError> {
    let vendor = devnet.client("vendor")?;
    let secret = &devnet.city.member("vendor").secret;
    let mut published = Vec::new();
    let mut verdict = Err(DevnetError::NotRefused(format!("{RELEASES} releases")));
    for number in 0..RELEASES {
        let (image, _) = image_of(&format!("nothing {number}"));
        let manifest = manifest_of(&format!("nothing-{number}"), "vendor", &image);
        let release = SignedRelease::sign(&manifest, secret);
        let action = Action::Firmware(FirmwareAction::Publish { release });
        match submit_action(&vendor, "publishing", action).await {
            Ok(_) => published.push(manifest.release),
            Err(DevnetError::Failed { code, message, .. }) if code == "firmware.too_many_open" => {
                let count = published.len();
                verdict = Ok(format!("{code}: {message}, after {count}"));
                break;
            }
            Err(error) => return Err(error),
        }
    }
    for release in published {
        let action = Action::Firmware(FirmwareAction::Withdraw { release });
        submit_action(&vendor, "withdrawing a release", action).await?;
    }
    verdict
}
