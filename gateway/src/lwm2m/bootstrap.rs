//! What a bootstrap writes (LwM2M 1.1 core, section 6.1.7 and appendix E; object 21 of transport,
//! appendix A): this gateway as the only server of a Thing, with the key for it.

use super::link_format;
use super::resource::{InstancePath, Resource, ResourcePath, ResourceValue};
use crate::credentials::DeviceKey;

/// Object Security: where a server is, and the key for it.
const SECURITY: u16 = 0;
/// Object Server: how long a registration lasts.
const SERVER: u16 = 1;
/// Object OSCORE: the parameters of a context.
const OSCORE: u16 = 21;
/// The objects whose instances a bootstrap deletes first. A Thing keeps the account of its
/// bootstrap server. Object 2, access control, is for Things with several servers: with one, there
/// are no instances (section 8.2).
pub const DELETED: [u16; 4] = [SECURITY, SERVER, 2, OSCORE];
/// The number by which a Thing's objects name this server.
const SHORT_SERVER_ID: i64 = 1;

/// The account that a Thing gets.
pub struct ServerAccount {
    /// Where the Thing registers.
    pub uri: String,
    /// The lifetime of its registrations.
    pub lifetime_s: u64,
    /// Its key.
    pub key: DeviceKey,
}

/// Numbers of instances that are not those of the bootstrap server's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeInstances {
    security: u16,
    oscore: u16,
}

impl FreeInstances {
    /// Reads a Thing's list of instances, after the deletion. Of an object without any, and without
    /// a list, 0 counts as taken: most Things have the bootstrap server there.
    pub fn of(list: Option<&[u8]>) -> FreeInstances {
        let links = list.and_then(|list| link_format::parse(list).ok());
        let links = links.unwrap_or_default();
        let free = |object: u16| {
            let taken: Vec<u16> = links
                .iter()
                .filter_map(|link| {
                    link.target
                        .strip_prefix(&format!("/{object}/"))?
                        .parse()
                        .ok()
                })
                .collect();
            let mut numbers = u16::from(taken.is_empty())..;
            numbers.find(|number| !taken.contains(number))
        };
        FreeInstances {
            security: free(SECURITY).unwrap_or(1),
            oscore: free(OSCORE).unwrap_or(1),
        }
    }
}

impl ServerAccount {
    /// The instances to write, in this order.
    pub fn instances(&self, free: FreeInstances) -> Vec<(InstancePath, Vec<Resource>)> {
        let context = self.oscore(free.oscore);
        let security = self.security(free.security, free.oscore);
        context
            .into_iter()
            .chain([security, self.server()])
            .collect()
    }

    fn security(&self, instance: u16, oscore: u16) -> (InstancePath, Vec<Resource>) {
        let (identity, secret, mode) = match &self.key {
            DeviceKey::Psk { identity, key } => (identity.clone(), key.to_vec(), 0),
            // The messages themselves are protected: the transport is without security (3).
            DeviceKey::Oscore(_) => (Vec::new(), Vec::new(), 3),
        };
        let mut values = vec![
            (0, ResourceValue::Text(self.uri.clone())),
            (1, ResourceValue::Boolean(false)),
            (2, ResourceValue::Integer(mode)),
            (3, ResourceValue::Opaque(identity)),
            (4, ResourceValue::Opaque(Vec::new())),
            (5, ResourceValue::Opaque(secret)),
            (10, ResourceValue::Integer(SHORT_SERVER_ID)),
        ];
        if let DeviceKey::Oscore(_) = self.key {
            // A link to an instance: two numbers.
            let link = [OSCORE.to_be_bytes(), oscore.to_be_bytes()].concat();
            values.push((17, ResourceValue::Opaque(link)));
        }
        instance_of(SECURITY, instance, values)
    }

    fn server(&self) -> (InstancePath, Vec<Resource>) {
        let lifetime = i64::try_from(self.lifetime_s).unwrap_or(i64::MAX);
        let values = vec![
            (0, ResourceValue::Integer(SHORT_SERVER_ID)),
            (1, ResourceValue::Integer(lifetime)),
            // Notifications are not kept while the Thing is not registered.
            (6, ResourceValue::Boolean(false)),
            (7, ResourceValue::Text("U".to_owned())),
        ];
        instance_of(SERVER, 0, values)
    }

    /// The context as the Thing has it: its sender id is that of the Thing.
    fn oscore(&self, instance: u16) -> Option<(InstancePath, Vec<Resource>)> {
        let DeviceKey::Oscore(keys) = &self.key else {
            return None;
        };
        let mut values = vec![
            (0, ResourceValue::Opaque(keys.secret.to_vec())),
            (1, ResourceValue::Opaque(keys.thing_id.clone())),
            (2, ResourceValue::Opaque(keys.gateway_id.clone())),
            // AES-CCM-16-64-128, and HKDF with HMAC-SHA-256 (COSE -10).
            (3, ResourceValue::Integer(10)),
            (4, ResourceValue::Integer(-10)),
        ];
        if !keys.salt.is_empty() {
            values.push((5, ResourceValue::Opaque(keys.salt.clone())));
        }
        let context = keys.id_context.iter();
        values.extend(context.map(|context| (6, ResourceValue::Opaque(context.clone()))));
        Some(instance_of(OSCORE, instance, values))
    }
}

fn instance_of(
    object: u16,
    instance: u16,
    values: Vec<(u16, ResourceValue)>,
) -> (InstancePath, Vec<Resource>) {
    let of = InstancePath { object, instance };
    let resource = |(resource, value)| Resource {
        path: ResourcePath { of, resource },
        value,
    };
    (of, values.into_iter().map(resource).collect())
}
