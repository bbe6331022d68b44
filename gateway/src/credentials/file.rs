//! The format of the file of keys. What two entries must not share is refused here.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use lamplighter_types::Id;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    Credential, CredentialError, Credentials, ID_CONTEXT_BYTES_MAX, IDENTITY_BYTES_MAX, KEYS_MAX,
    KeyHolder, OscoreCredential, OscoreKeys, PSK_BYTES_MAX, PSK_BYTES_MIN, Purpose, SALT_BYTES_MAX,
    SENDER_ID_BYTES_MAX,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialFile {
    #[serde(default)]
    psk: Vec<PskEntry>,
    #[serde(default)]
    oscore: Vec<OscoreEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PskEntry {
    identity: String,
    key: String,
    device: Id,
    #[serde(default)]
    purpose: Purpose,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OscoreEntry {
    secret: String,
    #[serde(default)]
    salt: String,
    context: Option<String>,
    thing_id: String,
    gateway_id: String,
    device: Id,
    #[serde(default)]
    purpose: Purpose,
}

/// Reads the text of the file, which `path` names in errors.
pub(super) fn parse(text: &str, path: &Path) -> Result<Credentials, CredentialError> {
    let file: CredentialFile =
        toml::from_str(text).map_err(|error| CredentialError::Malformed {
            path: path.to_owned(),
            at: error.span().map_or(0, |span| span.start),
        })?;
    if file.psk.len() + file.oscore.len() > KEYS_MAX {
        return Err(CredentialError::TooMany);
    }
    let mut credentials = Credentials::default();
    for entry in file.psk {
        credentials.add_psk(entry)?;
    }
    let (mut secrets, mut gateway_ids) = (HashSet::new(), HashSet::new());
    for entry in file.oscore {
        let added = credentials.add_oscore(entry)?;
        if !secrets.insert(blake3::hash(&added.keys.secret)) {
            return Err(CredentialError::SecretTwice(
                added.holder.device.to_string(),
            ));
        }
        // By this id a Thing finds out which of its keys a request is protected with.
        let id = (added.holder.device.clone(), added.keys.gateway_id.clone());
        if !gateway_ids.insert(id) {
            return Err(CredentialError::SenderIdTwice(
                added.holder.device.to_string(),
            ));
        }
    }
    Ok(credentials)
}

impl Credentials {
    fn add_psk(&mut self, entry: PskEntry) -> Result<(), CredentialError> {
        let PskEntry {
            identity,
            key,
            device,
            purpose,
        } = entry;
        let key = Zeroizing::new(key);
        if identity.is_empty() || identity.len() > IDENTITY_BYTES_MAX {
            return Err(CredentialError::Identity(identity));
        }
        let Some(key) = digits(&key, PSK_BYTES_MIN..=PSK_BYTES_MAX) else {
            return Err(CredentialError::Key(identity));
        };
        let holder = holder(&device, purpose);
        let bytes = identity.clone().into_bytes();
        if holder.purpose == Purpose::Registration {
            self.devices.insert(holder.device.clone());
            self.newest_identity
                .insert(holder.device.clone(), bytes.clone());
        }
        let credential = Credential {
            holder,
            identity: bytes.clone(),
            key: Zeroizing::new(key),
        };
        match self.by_identity.insert(bytes, credential) {
            Some(_) => Err(CredentialError::Twice(identity)),
            None => Ok(()),
        }
    }

    fn add_oscore(&mut self, entry: OscoreEntry) -> Result<Arc<OscoreCredential>, CredentialError> {
        let device = entry.device.to_string();
        let Some(secret) = digits(&Zeroizing::new(entry.secret), PSK_BYTES_MIN..=PSK_BYTES_MAX)
        else {
            return Err(CredentialError::Key(device));
        };
        let sender_id = |text| digits(text, 0..=SENDER_ID_BYTES_MAX);
        let ids = (sender_id(&entry.thing_id), sender_id(&entry.gateway_id));
        let (Some(thing_id), Some(gateway_id)) = ids else {
            return Err(CredentialError::SenderId(device));
        };
        if thing_id == gateway_id {
            return Err(CredentialError::SenderId(device));
        }
        let context = |text: &String| digits(text, 0..=ID_CONTEXT_BYTES_MAX).ok_or(());
        let context = entry.context.as_ref().map(context).transpose();
        let (Some(salt), Ok(id_context)) = (digits(&entry.salt, 0..=SALT_BYTES_MAX), context)
        else {
            return Err(CredentialError::Salt(device));
        };
        let holder = holder(&entry.device, entry.purpose);
        if holder.purpose == Purpose::Registration {
            self.devices.insert(holder.device.clone());
            self.newest_sender_id
                .insert(holder.device.clone(), thing_id.clone());
        }
        let keys = OscoreKeys {
            secret: Zeroizing::new(secret),
            salt,
            id_context,
            thing_id: thing_id.clone(),
            gateway_id,
        };
        let credential = Arc::new(OscoreCredential { holder, keys });
        match self.oscore.insert(thing_id, credential.clone()) {
            Some(_) => Err(CredentialError::SenderIdTwice(device)),
            None => Ok(credential),
        }
    }
}

fn holder(device: &Id, purpose: Purpose) -> KeyHolder {
    KeyHolder {
        device: device.as_str().into(),
        purpose,
    }
}

fn digits(text: &str, bytes: RangeInclusive<usize>) -> Option<Vec<u8>> {
    let value = hex::decode(text).ok()?;
    bytes.contains(&value.len()).then_some(value)
}
