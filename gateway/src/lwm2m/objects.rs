//! The list of objects of a registration.

use super::link_format::{self, WebLink};
use super::registration::{
    OBSERVABLE_MAX, OBSERVABLE_OBJECTS, Objects, ROOT_BYTES_MAX, ROOT_SEGMENTS_MAX,
    RegistrationError,
};
use super::resource::InstancePath;
use super::{agent, inventory, order};
use crate::cast;

/// Reads the list of objects. They are below the root, which is the link with the resource type
/// `oma.lwm2m` (LwM2M 1.1 core, section 6.2.1.2).
pub(super) fn objects(payload: &[u8]) -> Result<Objects, RegistrationError> {
    let links = link_format::parse(payload).map_err(RegistrationError::Links)?;
    let is_root = |link: &&WebLink| {
        let mut types = link.attributes.iter().filter(|(name, _)| name == "rt");
        types.any(|(_, value)| value.split(' ').any(|word| word == "oma.lwm2m"))
    };
    let root = links.iter().find(is_root).map(|link| &link.target);
    let root = segments(root.map_or("", String::as_str));
    let bytes: usize = root.iter().map(|segment| segment.len()).sum();
    if root.len() > ROOT_SEGMENTS_MAX || bytes > ROOT_BYTES_MAX {
        return Err(RegistrationError::Root);
    }
    let has = |object: u16| {
        let object = object.to_string();
        let wanted = |link: &WebLink| {
            let path = segments(&link.target);
            let below = path.strip_prefix(root.as_slice());
            below.and_then(<[&str]>::first) == Some(&object.as_str())
        };
        links.iter().any(wanted)
    };
    let agent_has = |wanted: (&str, &str)| {
        links.iter().any(|link| {
            let path = segments(&link.target);
            let below = path.strip_prefix(root.as_slice());
            let object = below.and_then(<[&str]>::first).map(|id| id.parse::<u16>());
            let is_wanted = |(name, value): &(String, String)| (&**name, &**value) == wanted;
            object == Some(Ok(agent::OBJECT)) && link.attributes.iter().any(is_wanted)
        })
    };
    Ok(Objects {
        agent: has(agent::OBJECT),
        checks_orders: agent_has(("ver", order::VERSION)),
        takes_casts: agent_has(cast::ATTRIBUTE),
        updatable: has(5),
        observable: observable(&links, &root),
        inventory: inventory(&links, &root),
        root: root.into_iter().map(str::to_owned).collect(),
    })
}

/// The listed instances of objects whose values are worth observing.
fn observable(links: &[WebLink], root: &[&str]) -> Vec<String> {
    let all = instances(links, root);
    let observable = all.filter(|path| OBSERVABLE_OBJECTS.contains(&path.object));
    let observable = observable.map(|path| path.to_string());
    observable.take(OBSERVABLE_MAX).collect()
}

/// The listed instances of objects in which a device says what it is.
fn inventory(links: &[WebLink], root: &[&str]) -> Vec<InstancePath> {
    let all = instances(links, root);
    let wanted = all.filter(|path| inventory::OBJECTS.contains(&path.object));
    wanted.take(inventory::INSTANCES_MAX).collect()
}

fn instances(links: &[WebLink], root: &[&str]) -> impl Iterator<Item = InstancePath> {
    links.iter().filter_map(|link| {
        let path = segments(&link.target);
        let [object, instance] = path.strip_prefix(root)? else {
            return None;
        };
        let (object, instance) = (object.parse().ok()?, instance.parse().ok()?);
        Some(InstancePath { object, instance })
    })
}

fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).collect()
}
