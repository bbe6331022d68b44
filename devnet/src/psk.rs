//! The keys of Things that speak DTLS with their gateway.

use std::collections::BTreeMap;

use lamplighter_gateway::DtlsConfig;
use lamplighter_node::key;
use lamplighter_types::Id;

use crate::DevnetError;
use crate::files::Files;

/// Bytes of a key.
const PSK_BYTES: usize = 16;

/// Keys of Things, in hexadecimal digits.
pub(crate) type ThingPsks = BTreeMap<Id, String>;

/// Makes a key for each Thing of a gateway, and its file of them; `dtls` has the address.
pub(crate) fn create(
    files: &Files,
    account: &str,
    devices: Vec<Id>,
    listen: std::net::SocketAddr,
) -> Result<(DtlsConfig, ThingPsks), DevnetError> {
    let (mut psks, mut text) = (ThingPsks::new(), String::new());
    for device in devices {
        let psk = hex::encode(&key::generate()?.seed()[..PSK_BYTES]);
        text +=
            &format!("[[psk]]\nidentity = \"{device}\"\nkey = \"{psk}\"\ndevice = \"{device}\"\n");
        psks.insert(device, psk);
    }
    let credentials = files.write_private(&format!("{account}-things.toml"), text.as_bytes())?;
    let config = DtlsConfig {
        listen,
        credentials,
        uri: None,
    };
    Ok((config, psks))
}
